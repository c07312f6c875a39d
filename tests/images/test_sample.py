"""The synthetic images: the same every time, and neither too easy nor too hard for a network."""

from collections.abc import Callable

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional

from assignment.images import cifar10, pixels
from assignment.images.cifar10 import Cifar10, Split
from assignment.images.sample import SHAPES, SmallBackbone, draw_cifar10


@pytest.fixture
def data(sample_mode: None) -> Cifar10:
    return cifar10.load()


def test_same_seed_draws_the_same_images_and_another_seed_others() -> None:
    first, again, other = draw_cifar10(), draw_cifar10(seed=0), draw_cifar10(seed=1)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])


def test_ten_classes_in_equal_parts_and_no_image_twice(data: Cifar10) -> None:
    splits = (data.train, data.validation, data.test)
    assert data.classes == SHAPES
    assert [torch.bincount(s.labels).tolist() for s in splits] == [[90] * 10, [10] * 10, [20] * 10]
    images = torch.cat([split.images for split in splits])
    assert (images.dtype, images.shape) == (torch.uint8, (1200, 3, 32, 32))
    assert len({image.numpy().tobytes() for image in images}) == 1200
    assert (data.source.what, data.source.origin) == ("CIFAR-10 layout", "SAMPLE")


def prepared(split: Split) -> Tensor:
    images = pixels.normalise(pixels.to_float(split.images))
    return images.contiguous(memory_format=torch.channels_last)  # several times faster on a CPU


def linear_probe(data: Cifar10) -> Tensor:
    network = SmallBackbone().eval()
    network.fc = nn.Identity()  # type: ignore[assignment]
    with torch.no_grad():
        train, test = (network(prepared(split)).numpy() for split in (data.train, data.test))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    return torch.from_numpy(model.fit(train, data.train.labels.numpy()).predict(test))


def finetuning(data: Cifar10) -> Tensor:
    torch.manual_seed(0)
    network = SmallBackbone().to(memory_format=torch.channels_last)
    inputs, labels = prepared(data.train), data.train.labels
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(3):
        for batch in torch.randperm(len(labels)).split(60):
            optimiser.zero_grad()
            functional.cross_entropy(network(inputs[batch])[:, :10], labels[batch]).backward()
            optimiser.step()
    return network.eval()(prepared(data.test))[:, :10].argmax(1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("method", [linear_probe, finetuning])
def test_classes_are_told_apart_but_not_all(data: Cifar10, method: Callable[..., Tensor]) -> None:
    wrong = method(data) != data.test.labels
    assert 0.05 < wrong.float().mean() < 0.4
    assert len(data.test.labels[wrong].unique()) >= 6, "the grids of errors are not empty"
