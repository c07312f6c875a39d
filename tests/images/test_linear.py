"""Feature sets join columns in order; the softmax regression is one, and its gap is earned."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from assignment.common import settings
from assignment.common.settings import AssignmentError
from assignment.images import features, pixels, resnet
from assignment.images.cifar10 import Split
from assignment.images.features import Preprocessing
from assignment.images.linear import FeatureSet, SoftmaxRegression, optimality_gap

CLASSES, DECAY = 4, 0.02
DRAW = torch.Generator().manual_seed(8)
IMAGES = torch.rand(3, 3, 32, 32, generator=DRAW).mul(256).byte()

# Features of different scale, and labels that they tell in part; class 0 is the commonest.
X = torch.randn(500, 6, generator=DRAW).double()
Y = (X[:, :CLASSES] + torch.randn(500, CLASSES, generator=DRAW) + torch.eye(CLASSES)[0]).argmax(1)
X = (5 + X) * torch.tensor([1.0, 10, 0.1, 3, 100, 0.5])
TRAIN, OTHERS = Split(X[:200], Y[:200]), Split(X[200:], Y[200:])


def objective(layer: SoftmaxRegression, decay: float) -> Tensor:
    penalty = decay / 2 * layer.linear.weight.square().sum()
    return functional.cross_entropy(layer(TRAIN.images), TRAIN.labels) + penalty


def trained(decay: float) -> SoftmaxRegression:
    """At the optimum: every image in every step, until nothing moves."""
    layer = SoftmaxRegression(TRAIN.images, CLASSES).double()
    optimiser = torch.optim.LBFGS(
        layer.parameters(), max_iter=1000, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimiser.zero_grad()
        loss = objective(layer, decay)
        loss.backward()
        return loss.item()

    optimiser.step(closure)
    return layer


def test_softmax_regression_is_the_one_written_by_hand() -> None:
    layer = SoftmaxRegression(TRAIN.images, CLASSES).double()
    assert (layer(TRAIN.images) == 0).all(), "it starts undecided"
    assert set(layer.state_dict()) == {"mean", "deviation", "linear.weight", "linear.bias"}
    assert {name for name, _ in layer.named_parameters()} == {"linear.weight", "linear.bias"}
    W, b = np.random.default_rng(0).normal(size=(CLASSES, 6)), np.arange(CLASSES) / 7
    layer.linear.weight.data, layer.linear.bias.data = torch.from_numpy(W), torch.from_numpy(b)
    seen, new = TRAIN.images.numpy(), OTHERS.images.numpy()
    by_hand = (new - seen.mean(0)) / seen.std(0, ddof=1) @ W.T + b
    assert layer(OTHERS.images).detach().numpy() == pytest.approx(by_hand)


@pytest.mark.parametrize("value", [0.0, 0.1, 3.0])
def test_a_constant_feature_is_zero_once_standardised(value: float) -> None:
    constant = torch.full((999, 1), value)
    layer = SoftmaxRegression(constant)
    assert ((constant - layer.mean) / layer.deviation == 0).all()


@pytest.mark.parametrize("decay", [DECAY, 2 * DECAY, DECAY / 2, 0.0])
def test_only_the_optimum_of_the_same_penalty_has_no_gap(decay: float) -> None:
    layer = trained(decay)
    found = optimality_gap(layer, TRAIN, OTHERS, DECAY)
    assert found.reached == pytest.approx(objective(layer, DECAY).item(), abs=1e-12)
    assert found.gap == found.reached - found.optimum
    assert found.gap > 1e-4 if decay != DECAY else abs(found.gap) < 1e-6
    assert decay != DECAY or found.agreement == 1


def test_an_untrained_layer_has_a_gap_and_is_left_as_it_was() -> None:
    train, others = (Split(split.images.float(), split.labels) for split in (TRAIN, OTHERS))
    layer = SoftmaxRegression(train.images, CLASSES)
    found = optimality_gap(layer, train, others, DECAY)
    assert found.reached == pytest.approx(np.log(CLASSES))
    assert found.gap > 0.1
    assert found.agreement < 0.9
    assert layer.linear.weight.dtype == torch.float32
    assert (layer.linear.weight == 0).all()


@pytest.mark.parametrize(("call", "reason"), [
    (lambda: FeatureSet(stages=("layer4", "layer5")), "No features {'layer5'}; choose from"),
    (lambda: optimality_gap(SoftmaxRegression(TRAIN.images), TRAIN, OTHERS, 0), "weight_decay > 0"),
    (lambda: optimality_gap(SoftmaxRegression(TRAIN.images, 2), TRAIN, OTHERS, 1), "3\\+ classes"),
])  # fmt: skip
def test_what_has_no_answer_is_refused(call: Callable[[], object], reason: str) -> None:
    with pytest.raises((ValueError, AssignmentError), match=reason):
        call()


def test_images_are_given_once_or_with_their_mirror_image() -> None:
    own = FeatureSet((128, 224), mirror=True, statistics=pixels.CIFAR)
    once = [Preprocessing(size, statistics=pixels.CIFAR) for size in (128, 224)]
    twice = [replace(plain, mirrored=mirrored) for plain in once for mirrored in (False, True)]
    assert own.all_inputs() == twice
    assert replace(own, mirror=False).all_inputs() == once


@pytest.mark.usefixtures("sample_mode")
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("statistics", [pixels.IMAGENET, pixels.CIFAR], ids=["imagenet", "own"])
def test_columns_stand_by_size_then_stage_and_mirror_images_are_averaged(
    monkeypatch: pytest.MonkeyPatch, mirror: bool, statistics: pixels.Statistics
) -> None:
    monkeypatch.setenv("ASSIGNMENT_DEVICE", "cpu")
    monkeypatch.setattr(settings, "precision", lambda on: torch.float32)
    sizes, stages, backbone = (224, 64), ("layer4 2x2", "layer2"), resnet.load_pretrained()
    expected = []
    for size in map(features.size_for_mode, sizes):
        both = [pixels.prepare(images, size, statistics) for images in (IMAGES, IMAGES.flip(3))]
        with torch.no_grad():
            found = [features.pooled_features(backbone.network, x) for x in both[: 1 + mirror]]
        expected += [torch.stack([f[stage] for f in found]).mean(0) for stage in stages]
    computed = FeatureSet(sizes, stages, mirror, statistics).compute(backbone, IMAGES)
    assert computed.shape == (3, 2 * (4 * 128 + 32))
    assert torch.allclose(computed, torch.cat(expected, dim=1), atol=1e-4)
