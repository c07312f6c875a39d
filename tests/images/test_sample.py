"""The synthetic images: the same every time, and neither too easy nor too hard for a network."""

import pytest
import torch

from assignment.images import cifar10
from assignment.images.cifar10 import Dataset
from assignment.images.experiments import Plan, finetune, linear_probe
from assignment.images.linear import FeatureSet
from assignment.images.sample import SHAPES
from assignment.images.training import Recipe


@pytest.fixture
def data(sample_mode: None) -> Dataset:
    return cifar10.load()


def test_ten_classes_in_equal_parts_no_image_twice_and_the_same_again(data: Dataset) -> None:
    splits = (data.train, data.validation, data.test)
    assert data.classes == SHAPES
    assert [torch.bincount(s.labels).tolist() for s in splits] == [[90] * 10, [10] * 10, [20] * 10]
    images = torch.cat([split.images for split in splits])
    assert (images.dtype, images.shape) == (torch.uint8, (1200, 3, 32, 32))
    assert len({image.numpy().tobytes() for image in images}) == 1200
    assert (data.source.what, data.source.origin) == ("CIFAR-10 layout", "SAMPLE")
    assert cifar10.load().fingerprint == data.fingerprint


def test_classes_are_told_apart_but_not_all(data: Dataset) -> None:
    features = FeatureSet(stages=("layer2", "layer3", "layer4 2x2"))
    plan = Plan(Recipe(epochs=3, batch=32, lr=0.05), sizes=(32,))
    both = linear_probe(data, features, plan.recipe, final=True), finetune(data, plan, final=True)
    for found in (result.predictions["test"] for result in both):
        assert 0.6 < found.accuracy < 0.95
        assert len(found.labels[~found.correct].unique()) >= 6, "the grids of errors are not empty"
