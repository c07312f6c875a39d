"""A reading joins features in order; a softmax regression is one, and its certificate is earned."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from assignment.common import settings
from assignment.images import features, linear, pixels, resnet
from assignment.images.cifar10 import Split
from assignment.images.features import Preprocessing
from assignment.images.linear import FeatureSet, SoftmaxRegression, optimality_gap

CLASSES = 4
DECAY = 0.02


def problem(count: int, seed: int) -> Split:
    """Features of different scale, and labels that they tell in part; class 0 is the commonest."""
    generator = torch.Generator().manual_seed(seed)
    plain = torch.randn(count, 6, generator=generator)
    truth = torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(99))
    noise = torch.randn(count, CLASSES, generator=generator)
    labels = (plain @ truth + noise + torch.tensor([2.0, 0, 0, 0])).argmax(1)
    scale = torch.tensor([1.0, 10, 0.1, 3, 100, 0.5])
    return Split((5 + plain) * scale, labels)


TRAIN, OTHERS = problem(200, 1), problem(300, 2)
TRAIN_64, OTHERS_64 = (Split(s.images.double(), s.labels) for s in (TRAIN, OTHERS))


def objective(layer: SoftmaxRegression, split: Split, decay: float, bias: bool = False) -> Tensor:
    loss = functional.cross_entropy(layer(split.images.double()), split.labels)
    penalised = layer.linear.weight.square().sum()
    if bias:
        penalised = penalised + layer.linear.bias.square().sum()
    return loss + decay / 2 * penalised


def at_optimum(decay: float, bias: bool = False) -> SoftmaxRegression:
    """Train with every image in every step, in float64, until nothing moves."""
    layer = SoftmaxRegression(TRAIN.images, CLASSES).double()
    optimiser = torch.optim.LBFGS(
        layer.parameters(), max_iter=1000, tolerance_grad=1e-10, tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> float:
        optimiser.zero_grad()
        loss = objective(layer, TRAIN, decay, bias)
        loss.backward()
        return loss.item()

    optimiser.step(closure)
    return layer


# --- the layer ------------------------------------------------------------------------------------


def test_features_are_standardised_by_the_training_images() -> None:
    layer = SoftmaxRegression(TRAIN.images, CLASSES)
    seen = TRAIN.images.double().numpy()
    assert layer.mean.numpy() == pytest.approx(seen.mean(0), rel=1e-5)
    assert layer.deviation.numpy() == pytest.approx(seen.std(0, ddof=1), rel=1e-4)
    handed: list[Tensor] = []
    layer.linear.register_forward_pre_hook(lambda _, inputs: handed.append(inputs[0]))
    layer(TRAIN.images)
    layer(OTHERS.images)
    assert handed[0].mean(0).numpy() == pytest.approx(np.zeros(6), abs=1e-4)
    assert handed[0].std(0).numpy() == pytest.approx(np.ones(6), rel=1e-4)
    assert handed[1].mean(0).abs().max() > 1e-3, "other images keep what sets them apart"


def test_it_starts_out_undecided() -> None:
    layer = SoftmaxRegression(TRAIN.images)
    assert layer(TRAIN.images).shape == (200, 10)
    assert (layer(TRAIN.images) == 0).all()


def test_what_it_standardises_by_is_saved_and_never_learned() -> None:
    layer = SoftmaxRegression(TRAIN.images, CLASSES)
    assert set(layer.state_dict()) == {"mean", "deviation", "linear.weight", "linear.bias"}
    assert {name for name, _ in layer.named_parameters()} == {"linear.weight", "linear.bias"}
    torch.nn.init.normal_(layer.linear.weight)
    other = SoftmaxRegression(OTHERS.images, CLASSES)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(OTHERS.images), layer(OTHERS.images))


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_feature_is_harmless(value: float) -> None:
    layers = []
    for seen in (TRAIN.images, torch.cat([TRAIN.images, torch.full((200, 1), value)], dim=1)):
        layer = SoftmaxRegression(seen, CLASSES)
        optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
        for _ in range(20):
            optimiser.zero_grad()
            functional.cross_entropy(layer(seen), TRAIN.labels).backward()
            optimiser.step()
        layers.append(layer.linear.weight.detach())
    plain, more = layers
    assert plain.abs().max() > 0.1
    assert (more[:, 6] == 0).all()
    assert torch.allclose(more[:, :6], plain, atol=1e-5)


def test_it_is_a_softmax_regression_written_by_hand() -> None:
    layer = SoftmaxRegression(TRAIN.images, CLASSES).double()
    generator = np.random.default_rng(0)
    W, b = generator.normal(size=(CLASSES, 6)), generator.normal(size=CLASSES)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.from_numpy(W))
        layer.linear.bias.copy_(torch.from_numpy(b))
    seen, labels = TRAIN.images.double().numpy(), TRAIN.labels.numpy()
    X = (seen - seen.mean(0)) / seen.std(0, ddof=1)
    logits = X @ W.T + b
    assert layer(TRAIN.images.double()).detach().numpy() == pytest.approx(
        logits, rel=1e-4, abs=1e-4
    )
    P = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    objective(layer, TRAIN, DECAY).backward()
    errors = (P - np.eye(CLASSES)[labels]) / len(labels)
    assert layer.linear.weight.grad is not None
    assert layer.linear.bias.grad is not None
    by_hand = errors.T @ X + DECAY * W
    assert layer.linear.weight.grad.numpy() == pytest.approx(by_hand, abs=1e-4)
    assert layer.linear.bias.grad.numpy() == pytest.approx(errors.sum(0), abs=1e-4)


# --- the reading ----------------------------------------------------------------------------------


def test_a_reading_shows_an_image_once_or_with_its_mirror_image() -> None:
    assert FeatureSet().views(128) == [Preprocessing(128)]
    own = FeatureSet(mirror=True, statistics=pixels.CIFAR)
    once = Preprocessing(224, statistics=pixels.CIFAR)
    assert own.views(224) == [once, replace(once, mirrored=True)]


@pytest.mark.usefixtures("sample_mode")
def test_a_reading_of_the_sample_is_small() -> None:
    assert FeatureSet(mirror=True).views(224) == [
        Preprocessing(46),
        Preprocessing(46, mirrored=True),
    ]


def stage(images: Tensor, stage: str, size: int) -> Tensor:
    """What the network sees at a stage, run in one piece and cached nowhere."""
    network = resnet.load_pretrained().network
    with torch.no_grad():
        shown = pixels.prepare(images, features.size_for_mode(size))
        return features.pooled_features(network, shown)[stage]


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch, sample_mode: None) -> None:
    """The sample's network on the CPU, in a precision that can be compared."""
    monkeypatch.setenv("ASSIGNMENT_DEVICE", "cpu")
    monkeypatch.setattr(settings, "precision", lambda on: torch.float32)


IMAGES = torch.randint(
    0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(8), dtype=torch.uint8
)


@pytest.mark.usefixtures("in_float32")
def test_columns_stand_side_by_side_by_size_then_by_stage() -> None:
    sizes, stages = (224, 64), ("layer4 peaks", "layer2")
    found = FeatureSet(sizes, stages).read(resnet.load_pretrained(), IMAGES)
    expected = torch.cat([stage(IMAGES, name, size) for size in sizes for name in stages], dim=1)
    assert found.dtype == torch.float32
    assert found.shape == (3, 2 * (128 + 32))
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.usefixtures("in_float32")
def test_with_its_mirror_image_every_feature_is_the_mean_of_both() -> None:
    stages, backbone = ("layer3", "layer4 quarters"), resnet.load_pretrained()
    plain = FeatureSet(stages=stages).read(backbone, IMAGES)
    turned = FeatureSet(stages=stages).read(backbone, IMAGES.flip(3))
    both = FeatureSet(stages=stages, mirror=True).read(backbone, IMAGES)
    assert not torch.allclose(plain, turned, atol=1e-2)
    assert torch.allclose(both, (plain + turned) / 2, atol=1e-4)


@pytest.mark.usefixtures("in_float32")
def test_a_reading_normalises_by_its_own_statistics() -> None:
    imagenet, own = (
        FeatureSet((32,), statistics=s).read(resnet.load_pretrained(), IMAGES)
        for s in (pixels.IMAGENET, pixels.CIFAR)
    )
    assert not torch.allclose(imagenet, own, atol=1e-3)


# --- the certificate ------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.001, DECAY, 0.5])
def test_a_layer_at_its_optimum_passes(decay: float) -> None:
    layer = at_optimum(decay)
    found = optimality_gap(layer, TRAIN_64, OTHERS_64, decay)
    assert found.reached == pytest.approx(objective(layer, TRAIN, decay).item(), abs=1e-12)
    assert abs(found.reached - found.lowest) < 1e-6
    assert found.agreement == 1.0


def test_an_untrained_layer_does_not_pass() -> None:
    found = optimality_gap(SoftmaxRegression(TRAIN.images, CLASSES), TRAIN, OTHERS, DECAY)
    assert found.reached == pytest.approx(np.log(CLASSES))
    assert found.reached - found.lowest > 0.1
    assert found.agreement < 0.9


@pytest.mark.parametrize(
    ("decay", "bias"), [(2 * DECAY, False), (DECAY / 2, False), (0.0, False), (DECAY, True)]
)
def test_the_optimum_of_another_penalty_does_not_pass(decay: float, bias: bool) -> None:
    found = optimality_gap(at_optimum(decay, bias), TRAIN_64, OTHERS_64, DECAY)
    assert found.reached - found.lowest > 1e-4


def test_at_scikit_learns_solution_the_gradient_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    solvers = []

    def recorded(**settings: float) -> object:
        solvers.append(LogisticRegression(**settings))
        return solvers[-1]

    monkeypatch.setattr("sklearn.linear_model.LogisticRegression", recorded)
    layer = SoftmaxRegression(TRAIN.images, CLASSES)
    found = optimality_gap(layer, TRAIN, OTHERS, DECAY)
    (solver,) = solvers
    solved = SoftmaxRegression(TRAIN.images, CLASSES).double()
    with torch.no_grad():
        solved.linear.weight.copy_(torch.from_numpy(solver.coef_))
        solved.linear.bias.copy_(torch.from_numpy(solver.intercept_))
    lowest = objective(solved, TRAIN, DECAY)
    assert found.lowest == pytest.approx(lowest.item(), abs=1e-6)
    steepest = {
        decay: max(
            slope.abs().max().item()
            for slope in torch.autograd.grad(
                objective(solved, TRAIN, decay), list(solved.parameters())
            )
        )
        for decay in (DECAY, 2 * DECAY)
    }
    assert steepest[DECAY] < 1e-5
    assert steepest[2 * DECAY] > 1e-3, "half of it would be another problem"


def test_the_certificate_leaves_the_layer_as_it_was() -> None:
    layer = SoftmaxRegression(TRAIN.images, CLASSES)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    first = linear.optimality_gap(layer, TRAIN, OTHERS, DECAY)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert layer.linear.weight.dtype == torch.float32
    assert linear.optimality_gap(layer, TRAIN, OTHERS, DECAY) == first
