"""Feature sets join columns in order; the softmax regression is one, and its gap is earned."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from assignment.common.settings import AssignmentError
from assignment.images import pixels, resnet
from assignment.images.cifar10 import Split
from assignment.images.features import Preprocessing, pooled_features
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
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        loss = objective(layer, decay)
        loss.backward()
        return loss.item()

    optimiser.step(closure)
    return layer


def test_softmax_regression_is_the_one_written_by_hand() -> None:
    layer = SoftmaxRegression(TRAIN.images, CLASSES)
    assert set(layer.state_dict()) == {"mean", "deviation", "linear.weight", "linear.bias"}
    assert len(list(layer.parameters())) == 2, "mean and deviation are not trained"
    assert (layer.linear(TRAIN.images.float()) == 0).all(), "it starts undecided"
    W, b = np.random.default_rng(0).normal(size=(CLASSES, 6)), np.arange(CLASSES) / 7
    layer.linear.weight.data, layer.linear.bias.data = torch.from_numpy(W), torch.from_numpy(b)
    seen, new = TRAIN.images.numpy(), OTHERS.images.numpy()
    by_hand = (new - seen.mean(0)) / seen.std(0, ddof=1) @ W.T + b
    assert layer(OTHERS.images).detach().numpy() == pytest.approx(by_hand)
    constant = SoftmaxRegression(torch.full((999, 1), 0.1))
    assert constant.mean.item() == torch.tensor(0.1), "standardised, a constant feature is zero"


@pytest.mark.parametrize("decay", [DECAY, 2 * DECAY, 0.0, 100.0])
def test_only_the_optimum_of_the_same_penalty_has_no_gap(decay: float) -> None:
    layer = trained(decay)
    found = optimality_gap(layer, TRAIN, OTHERS, DECAY)
    assert found.reached == pytest.approx(objective(layer, DECAY).item(), abs=1e-12)
    assert found.gap > 1e-4 if decay != DECAY else abs(found.gap) < 1e-6
    assert decay != DECAY or found.agreement == 1
    assert decay < 1 or found.agreement < 0.9


@pytest.mark.parametrize(("call", "reason"), [
    (lambda: FeatureSet(stages=("layer4", "layer5")), "No features {'layer5'}; choose from"),
    (lambda: optimality_gap(SoftmaxRegression(TRAIN.images), TRAIN, OTHERS, 0), "weight_decay > 0"),
    (lambda: optimality_gap(SoftmaxRegression(TRAIN.images, 2), TRAIN, OTHERS, 1), "3\\+ classes"),
])  # fmt: skip
def test_what_has_no_answer_is_refused(call: Callable[[], object], reason: str) -> None:
    with pytest.raises((ValueError, AssignmentError), match=reason):
        call()


@pytest.mark.usefixtures("sample_mode", "float32_on_the_cpu")
@pytest.mark.parametrize("sides", [(False,), (False, True)])
def test_columns_go_by_size_then_stage(sides: tuple[bool]) -> None:
    stages, backbone = ("layer4 2x2", "layer2"), resnet.load_pretrained()
    expected, inputs = [], []
    for size in (46, 36):
        ways = [Preprocessing(size, mirrored, pixels.CIFAR) for mirrored in sides]
        inputs += ways
        with torch.no_grad():
            found = [pooled_features(backbone.network, way.prepare(IMAGES)) for way in ways]
        expected += [torch.stack([f[stage] for f in found]).mean(0) for stage in stages]
    chosen = FeatureSet((224, 64), stages, True in sides, pixels.CIFAR)
    assert chosen.all_inputs() == inputs
    assert torch.allclose(chosen.compute(backbone, IMAGES), torch.cat(expected, 1), atol=1e-4)
