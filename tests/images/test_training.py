"""The loop: what is frozen stays, what is interrupted goes on, and every number can be counted."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from assignment.common import settings
from assignment.common.files import Source
from assignment.common.settings import AssignmentError
from assignment.images import pixels, resnet, training
from assignment.images.cifar10 import Split
from assignment.images.resnet import Backbone
from assignment.images.sample import SmallBackbone
from assignment.images.training import (
    EpochMetrics,
    Moment,
    Recipe,
    TrainedModel,
    Transform,
    parameter_groups,
)

RECIPE = Recipe(epochs=3, batch=16, lr=0.05)
PER_EPOCH = 4
State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def exact(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, in float32, wherever the tests run."""
    monkeypatch.setenv("ASSIGNMENT_DEVICE", "cpu")
    monkeypatch.setattr(settings, "precision", lambda on: torch.float32)


def rows(count: int = 70, seed: int = 0) -> Split:
    """Rows of numbers whose class can be told from their first columns."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, 6, generator=generator)
    return Split(values, values[:, :3].argmax(1))


def images(count: int = 70, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    shown = torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
    return Split(shown, torch.randint(0, 10, (count,), generator=generator))


def layer(seed: int = 0) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(6, 3)


def network(trained: str = "all") -> nn.Module:
    """A small network with a new head, whose BatchNorms have already seen something."""
    pretrained = SmallBackbone(width=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        pretrained.train()(torch.rand(8, 3, 16, 16))
    source = Source("small", "other", "made by hand", "made up")
    return resnet.build_classifier(Backbone(pretrained.eval(), source), trained=trained)


def as_they_are(inputs: Tensor, moment: Moment | None) -> Tensor:
    return inputs


def augmented(inputs: Tensor, moment: Moment | None) -> Tensor:
    shown = pixels.to_float(inputs)
    return shown if moment is None else pixels.augment(shown, moment.generator, most=2)


def state_of(model: nn.Module) -> State:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(one: State, other: State) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


class Witness:
    """Shows inputs as they are, and notes the weights before each step and after each epoch."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.batches: list[Tensor] = []
        self.before_steps: list[State] = []
        self.after_epochs: list[State] = []

    def __call__(self, inputs: Tensor, moment: Moment | None) -> Tensor:
        if moment is None:
            self.after_epochs.append(state_of(self.model))
        else:
            self.batches.append(inputs)
            self.before_steps.append(state_of(self.model))
        return inputs


# --- frozen means frozen --------------------------------------------------------------------------


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize(
    ("trained", "learns"), [("fc", ("fc.",)), ("layer4", ("fc.", "layer4.")), ("all", ("",))]
)
@pytest.mark.usefixtures("sample_mode")
def test_what_is_frozen_does_not_change_by_one_bit(
    trained: str, learns: tuple[str, ...], average: float
) -> None:
    model = network(trained)
    before = state_of(model)
    expected = {name for name in before if name.startswith(learns)}
    found = training.train(
        model, images(), images(20, 1), replace(RECIPE, average=average), augmented
    )
    assert changed(before, state_of(model)) == expected
    judged = changed(before, state_of(found.model))
    assert judged == expected


def test_frozen_parts_are_in_eval_mode_during_a_step_and_the_others_are_not() -> None:
    model, modes = network("layer4"), []
    norms = {n: m for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for norm in norms.values():
        norm.register_forward_hook(lambda module, given, out: modes.append(module.training))
    training.train(model, images(16), images(10), replace(RECIPE, epochs=1), augmented)
    assert list(norms)[-1] == "layer4.1"
    assert modes == [False] * 4 + [True] + [False] * 5


def test_the_returned_model_is_in_eval_mode() -> None:
    found = training.train(network(), images(), images(20, 1), RECIPE, augmented)
    assert not any(module.training for module in found.model.modules())


# --- what was interrupted goes on -----------------------------------------------------------------

Problem = tuple[Callable[[], nn.Module], Split, Split, Recipe, Transform]
PROBLEMS: dict[str, Problem] = {
    "rows": (layer, rows(), rows(30, 1), RECIPE, as_they_are),
    "rows, averaged": (layer, rows(), rows(30, 1), replace(RECIPE, average=0.9), as_they_are),
    "images": (network, images(), images(30, 1), RECIPE, augmented),
    "images, averaged": (
        lambda: network("layer4"), images(), images(30, 1), replace(RECIPE, average=0.9), augmented,
    ),
}  # fmt: skip


def interrupting(look: Transform, steps: int, looks: int = 1_000) -> Transform:
    """Stop after so many training steps, or so many looks at validation images."""
    trained, judged = itertools.count(1), itertools.count(1)

    def shown(inputs: Tensor, moment: Moment | None) -> Tensor:
        if next(judged) > looks if moment is None else next(trained) > steps:
            raise KeyboardInterrupt
        return look(inputs, moment)

    return shown


def same_end(one: TrainedModel, other: TrainedModel) -> None:
    assert one.history == other.history
    assert one.best == other.best
    assert not changed(state_of(one.model), state_of(other.model))


@pytest.fixture
def checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where a run keeps its state, after every step."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    return tmp_path / "runs" / "one.pt"


STOPS = ((0,), (1,), (3,), (4,), (5,), (8,), (11,), (2, 1, 6), (4, 3, 3))


@pytest.mark.parametrize(
    ("problem", "stops"),
    [(name, stops) for name in ("rows", "rows, averaged") for stops in STOPS]
    + [(name, stops) for name in ("images", "images, averaged") for stops in ((4,), (6, 3))],
)
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], problem: str, stops: tuple[int, ...]
) -> None:
    make, train, validation, recipe, look = PROBLEMS[problem]
    whole = training.train(make(), train, validation, recipe, look)
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            training.train(make(), train, validation, recipe, interrupting(look, stop), checkpoint)
    assert checkpoint.is_file() == (stops != (0,))
    assert ("Interrupted." in capsys.readouterr().out) == (stops != (0,))
    same_end(training.train(make(), train, validation, recipe, look, checkpoint), whole)
    assert not list(checkpoint.parent.glob("*"))
    went_on = "Going on after step" in capsys.readouterr().out
    assert went_on == (stops != (0,))


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_interruption_while_an_epoch_is_judged_loses_nothing(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], epoch: int
) -> None:
    make, train, validation, recipe, look = PROBLEMS["images, averaged"]
    whole = training.train(make(), train, validation, recipe, look)
    with pytest.raises(KeyboardInterrupt):
        training.train(
            make(), train, validation, recipe, interrupting(look, 99, epoch - 1), checkpoint
        )
    same_end(training.train(make(), train, validation, recipe, look, checkpoint), whole)
    said = capsys.readouterr().out
    assert f"Going on after step {epoch * PER_EPOCH - 1}, where" in said


def test_the_time_of_the_earlier_part_is_counted(checkpoint: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        training.train(layer(), rows(), rows(), RECIPE, interrupting(as_they_are, 7), checkpoint)
    state = torch.load(checkpoint, weights_only=True)
    assert state["seconds"] > 0
    torch.save({**state, "seconds": 1000.0}, checkpoint)
    found = training.train(layer(), rows(), rows(), RECIPE, as_they_are, checkpoint)
    assert 1000 < found.seconds < 1100
    assert found.throughput == pytest.approx(12 * 16 / found.seconds)


def test_a_checkpoint_is_not_written_before_its_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 1_000.0)
    path = tmp_path / "one.pt"
    with pytest.raises(KeyboardInterrupt):
        training.train(layer(), rows(), rows(), RECIPE, interrupting(as_they_are, 7), path)
    assert not path.exists()


def test_without_a_checkpoint_nothing_is_promised(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        training.train(layer(), rows(), rows(), RECIPE, interrupting(as_they_are, 2))
    assert capsys.readouterr().out == ""


def without(name: str) -> Callable[[Path], object]:
    def harm(path: Path) -> None:
        state = torch.load(path, weights_only=True)
        torch.save({key: value for key, value in state.items() if key != name}, path)

    return harm


HARMS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("<html>404: not found</html>"),
    "zeros": lambda path: path.write_bytes(bytes(3000)),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-600]),
    "its first bytes": lambda path: path.write_bytes(path.read_bytes()[:300]),
    "another network's": lambda path: torch.save(
        {"model": nn.Linear(6, 4).state_dict(), "optimiser": {}}, path
    ),
    "a list": lambda path: torch.save([1, 2], path),
    "without the model": without("model"),
    "without the optimiser": without("optimiser"),
    "without the step": without("step"),
    "without the best weights": without("best"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_checkpoint_is_one_sentence(checkpoint: Path, harm: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        training.train(layer(), rows(), rows(), RECIPE, interrupting(as_they_are, 7), checkpoint)
    HARMS[harm](checkpoint)
    with pytest.raises(AssignmentError) as error:
        training.train(layer(), rows(), rows(), RECIPE, as_they_are, checkpoint)
    assert str(error.value) == "The checkpoint one.pt is damaged. Delete it to start over."
    checkpoint.unlink()
    training.train(layer(), rows(), rows(), RECIPE, as_they_are, checkpoint)


# --- rates and groups -----------------------------------------------------------------------------


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.2, 0.5, 0.9])
def test_the_rate_rises_to_one_at_the_end_of_the_warmup_and_falls_to_nothing(
    warmup: float,
) -> None:
    recipe = replace(RECIPE, warmup=warmup)
    rising = [recipe.rate(warmup * share / 50) for share in range(51)]
    falling = [recipe.rate(warmup + (1 - warmup) * share / 50) for share in range(51)]
    if warmup:
        assert rising == pytest.approx([share / 50 for share in range(51)])
    assert recipe.rate(warmup) == 1
    assert all(a > b for a, b in itertools.pairwise(falling))
    assert recipe.rate((1 + warmup) / 2) == pytest.approx(0.5)
    assert recipe.rate(1.0) == pytest.approx(0, abs=1e-12)


def test_each_step_is_taken_at_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, step = list[list[float]](), training.training_step

    def noted(model: nn.Module, optimiser: torch.optim.Optimizer, *rest: object) -> Tensor:
        taken.append(sorted(group["lr"] for group in optimiser.param_groups))
        return step(model, optimiser, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "training_step", noted)
    recipe = replace(RECIPE, lr=0.01, head_lr=0.1, weight_decay=0.0)
    training.train(network(), images(), images(10), recipe, augmented)
    assert len(taken) == 12
    for number, rates in enumerate(taken, 1):
        rate = recipe.rate(number / 12)
        assert rates == pytest.approx([0.01 * rate, 0.1 * rate])


def named_groups(model: nn.Module, recipe: Recipe) -> dict[str, tuple[float, float]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [
        (names[id(parameter)], (group["highest"], group["weight_decay"]))
        for group in parameter_groups(model, recipe)
        for parameter in group["params"]
    ]
    assert len(found) == len(dict(found)), "each learns once"
    return dict(found)


def test_only_the_head_has_the_heads_rate_and_only_matrices_decay() -> None:
    model = network()
    found = named_groups(model, replace(RECIPE, lr=0.01, head_lr=0.1, weight_decay=0.3))
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        lr = 0.1 if name in ("fc.weight", "fc.bias") else 0.01
        assert found[name] == (lr, 0.3 if parameter.ndim > 1 else 0.0)


def test_without_a_rate_of_its_own_the_head_has_that_of_the_rest() -> None:
    found = named_groups(network(), replace(RECIPE, lr=0.01, weight_decay=0.3))
    assert set(found.values()) == {(0.01, 0.3), (0.01, 0.0)}


def test_a_heads_rate_of_nothing_is_a_rate() -> None:
    found = named_groups(network("fc"), replace(RECIPE, head_lr=0.0))
    assert {lr for lr, _ in found.values()} == {0.0}


def test_what_is_frozen_is_in_no_group() -> None:
    assert named_groups(network("fc"), RECIPE).keys() == {"fc.weight", "fc.bias"}


def test_nothing_to_learn_is_refused() -> None:
    with pytest.raises(AssignmentError, match="Nothing in this model requires a gradient"):
        training.train(layer().requires_grad_(False), rows(), rows(), RECIPE, as_they_are)


# --- a step, by hand ------------------------------------------------------------------------------


@pytest.mark.parametrize(("momentum", "decay"), [(0.9, 0.1), (0.0, 0.0), (0.5, 0.0), (0.9, 0.0)])
def test_steps_are_nesterovs_by_hand(momentum: float, decay: float) -> None:
    train, model = rows(16), layer()
    recipe = Recipe(epochs=4, batch=16, lr=0.7, warmup=0.5, momentum=momentum, weight_decay=decay)
    look, expected = Witness(model), state_of(model)
    training.train(model, train, rows(5), recipe, look)
    targets = functional.one_hot(train.labels, 3).float()
    velocity = {name: torch.zeros_like(value) for name, value in expected.items()}
    for done, found in enumerate(look.after_epochs, 1):
        logits = train.images @ expected["weight"].T + expected["bias"]
        error = (logits.softmax(1) - targets) / 16
        gradient = {
            "weight": error.T @ train.images + decay * expected["weight"],
            "bias": error.sum(0),
        }
        for name in expected:
            velocity[name] = momentum * velocity[name] + gradient[name]
            ahead = gradient[name] + momentum * velocity[name]
            expected[name] = expected[name] - 0.7 * recipe.rate(done / 4) * ahead
            assert torch.allclose(found[name], expected[name], atol=1e-5)
    assert done == 4


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothing_spreads_its_share_over_all_classes(smoothing: float) -> None:
    split, model = rows(16), layer()
    says = model(split.images).detach().log_softmax(1)
    share = torch.full((16, 3), smoothing / 3)
    share[torch.arange(16), split.labels] += 1 - smoothing
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    loss, hits = training.training_step(model, optimiser, split.images, split.labels, smoothing)
    assert loss.item() == pytest.approx(-(share * says).sum().item(), rel=1e-5)
    assert hits == (says.argmax(1) == split.labels).sum()


def test_the_loop_smooths_in_training_and_never_in_judging() -> None:
    held = rows(30, 1)
    found = training.train(
        layer(), rows(), held, replace(RECIPE, lr=0.0, smoothing=0.3), as_they_are
    )
    plain = training.train(layer(), rows(), held, replace(RECIPE, lr=0.0), as_they_are)
    says = layer()(held.images).detach()
    expected = functional.cross_entropy(says, held.labels).item()
    for smoothed, line in zip(found.history, plain.history, strict=True):
        assert abs(smoothed.train_loss - line.train_loss) > 0.001
        assert smoothed.validation_loss == line.validation_loss == pytest.approx(expected)


def test_the_train_columns_are_what_the_steps_said() -> None:
    model = layer()
    look = Witness(model)
    found = training.train(model, rows(), rows(30, 1), RECIPE, look)
    for epoch, line in enumerate(found.history):
        losses, hits = [], []
        for number in range(epoch * PER_EPOCH, (epoch + 1) * PER_EPOCH):
            shown, state = look.batches[number], look.before_steps[number]
            labels = shown[:, :3].argmax(1)
            says = functional.linear(shown, state["weight"], state["bias"])
            losses.append(functional.cross_entropy(says, labels).item())
            hits += (says.argmax(1) == labels).tolist()
        assert line.train_loss == pytest.approx(sum(losses) / PER_EPOCH, rel=1e-5)
        assert len(hits) == 64
        assert line.train_accuracy == pytest.approx(sum(hits) / 64)


def test_an_epoch_shows_each_input_at_most_once_and_another_epoch_others() -> None:
    model, train = layer(), rows()
    look = Witness(model)
    training.train(model, train, rows(30, 1), RECIPE, look)
    where = {tuple(row): place for place, row in enumerate(train.images.tolist())}
    assert {len(batch) for batch in look.batches} == {16}
    order = [where[tuple(row)] for batch in look.batches for row in batch.tolist()]
    epochs = [order[start : start + 64] for start in range(0, 192, 64)]
    assert all(len(set(epoch)) == 64 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert len({frozenset(epoch) for epoch in epochs}) > 1, "the left over ones take turns"
    assert epochs[0] != sorted(epochs[0])


def test_fewer_inputs_than_a_batch_are_one_batch() -> None:
    model = layer()
    look = Witness(model)
    found = training.train(model, rows(10), rows(30, 1), RECIPE, look)
    assert [len(batch) for batch in look.batches] == [10] * 3
    says = functional.linear(look.batches[0], *look.before_steps[0].values())
    loss = functional.cross_entropy(says, look.batches[0][:, :3].argmax(1)).item()
    assert found.history[0].train_loss == pytest.approx(loss)


# --- which weights are kept -----------------------------------------------------------------------

SWITCH = Recipe(epochs=20, batch=8, lr=0.5, warmup=0.0, momentum=0.0)


def switching() -> tuple[nn.Module, Split, Split]:
    """A layer that goes from saying 0, over telling -1 from 1, to saying 1 whatever it sees."""
    model = nn.Linear(1, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-0.5], [0.5]]))
        model.bias.copy_(torch.tensor([1.5, -1.5]))
    train = Split(torch.zeros(8, 1), torch.ones(8, dtype=torch.long))
    return model, train, Split(torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1]))


def test_the_first_of_the_best_epochs_is_kept() -> None:
    model, train, validation = switching()
    look = Witness(model)
    found = training.train(model, train, validation, replace(SWITCH, weight_decay=0.0), look)
    accuracies = [line.validation_accuracy for line in found.history]
    assert accuracies[0] == accuracies[-1] == 0.5
    assert accuracies.count(1.0) > 1
    assert found.best == accuracies.index(1.0)
    assert not changed(state_of(found.model), look.after_epochs[found.best])
    assert changed(state_of(found.model), look.after_epochs[found.best + 1])


def test_the_last_epoch_is_kept_where_the_recipe_says_so() -> None:
    model, train, validation = switching()
    look = Witness(model)
    recipe = replace(SWITCH, weight_decay=0.0, choose_best=False)
    found = training.train(model, train, validation, recipe, look)
    assert found.history[-1].validation_accuracy < max(
        line.validation_accuracy for line in found.history
    )
    assert found.best == 19
    assert not changed(state_of(found.model), look.after_epochs[-1])


def test_a_run_that_only_gets_worse_returns_its_first_epoch(checkpoint: Path) -> None:
    model, train, _ = switching()
    held = Split(torch.zeros(2, 1), torch.zeros(2, dtype=torch.long))
    look = Witness(model)
    found = training.train(model, train, held, replace(SWITCH, weight_decay=0.0), look, checkpoint)
    accuracies = [line.validation_accuracy for line in found.history]
    assert accuracies[:2] == [1.0, 1.0]
    assert accuracies[-1] == 0.0
    assert found.best == 0
    assert not changed(state_of(found.model), look.after_epochs[0])


def test_the_moving_average_is_the_one_by_hand_and_is_what_is_judged() -> None:
    model, held = layer(), rows(30, 1)
    look = Witness(model)
    recipe = replace(RECIPE, epochs=1, average=0.7)
    found = training.train(model, rows(), held, recipe, look)
    after_steps = [*look.before_steps[1:], look.after_epochs[0]]
    assert len(after_steps) == PER_EPOCH
    for name, value in found.model.state_dict().items():
        expected = after_steps[0][name]
        for state in after_steps[1:]:
            expected = 0.7 * expected + 0.3 * state[name]
        assert torch.allclose(value, expected, atol=1e-6)
        assert not torch.allclose(value, after_steps[-1][name], atol=1e-4)
    says = found.model(held.images).detach()
    line = found.history[0]
    assert line.validation_loss == pytest.approx(
        functional.cross_entropy(says, held.labels).item(), rel=1e-5
    )
    assert line.validation_accuracy == (says.argmax(1) == held.labels).double().mean()


def test_averaging_does_not_change_what_is_learned() -> None:
    plain, averaged = layer(), layer()
    one, other = Witness(plain), Witness(averaged)
    training.train(plain, rows(), rows(30, 1), RECIPE, one)
    training.train(averaged, rows(), rows(30, 1), replace(RECIPE, average=0.9), other)
    for a, b in zip(one.after_epochs, other.after_epochs, strict=True):
        assert not changed(a, b)


def test_the_average_holds_batchnorms_statistics_too() -> None:
    model = network()
    before = state_of(model)["bn1.running_mean"]
    found = training.train(
        model, images(), images(20, 1), replace(RECIPE, epochs=1, average=0.9), augmented
    )
    judged = state_of(found.model)["bn1.running_mean"]
    last = state_of(model)["bn1.running_mean"]
    assert not torch.equal(judged, before)
    assert not torch.equal(judged, last)


# --- divergence, seeds, estimates -----------------------------------------------------------------


def test_a_rate_far_too_high_is_one_sentence() -> None:
    with pytest.raises(AssignmentError) as error:
        training.train(network(), images(), images(20, 1), replace(RECIPE, lr=1e6), augmented)
    assert str(error.value).startswith(
        "The loss is no longer a number after 12 steps with lr 1e+06"
    )
    assert "\n" not in str(error.value)


def test_inputs_that_are_not_numbers_are_noticed(checkpoint: Path) -> None:
    train = rows()
    train.images[7] = torch.nan
    with pytest.raises(AssignmentError, match="no longer a number"):
        training.train(layer(), train, rows(30, 1), RECIPE, as_they_are)


def test_a_long_run_is_stopped_soon_after_it_diverges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "LOOK_EVERY", 5)
    train = rows()
    train.images[:] = torch.nan
    with pytest.raises(AssignmentError, match="after 5 steps"):
        training.train(layer(), train, rows(30, 1), replace(RECIPE, epochs=100), as_they_are)


def test_a_seed_repeats_a_run_and_another_does_not() -> None:
    def run(seed: int) -> TrainedModel:
        return training.train(
            network(), images(), images(20, 1), replace(RECIPE, seed=seed), augmented
        )

    first = run(1)
    torch.rand(5)  # the global generator has no say
    same_end(run(1), first)
    other = run(2)
    assert other.history[0] != first.history[0]
    assert changed(state_of(other.model), state_of(first.model))


def test_a_run_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    training.train(layer(), rows(), rows(30, 1), RECIPE, as_they_are)
    assert torch.equal(torch.rand(3), expected)


def test_what_is_learned_can_be_learned() -> None:
    found = training.train(layer(), rows(400), rows(100, 1), Recipe(epochs=20, lr=0.5), as_they_are)
    assert found.history[found.best].validation_accuracy > 0.95
    assert found.history[-1].train_loss < found.history[0].train_loss / 2
    assert isinstance(found.history[0], EpochMetrics)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_an_estimate_changes_nothing(average: float) -> None:
    model = network("layer4")
    before, modes = state_of(model), [module.training for module in model.modules()]
    recipe = replace(RECIPE, average=average)
    assert training.estimate_seconds(model, images(), recipe, augmented) > 0
    assert not changed(before, state_of(model))
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_estimate_is_a_steps_time_by_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(perf_counter=itertools.count(100).__next__)
    monkeypatch.setattr(training, "time", clock)
    estimate = training.estimate_seconds(layer(), rows(), replace(RECIPE, epochs=6), as_they_are)
    assert estimate == 6 * PER_EPOCH  # the clock ticks once in a step


def test_an_estimate_times_every_shape_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, clock = list[int](), SimpleNamespace(perf_counter=lambda: 0.0)

    def growing(inputs: Tensor, moment: Moment | None) -> Tensor:
        assert moment is not None
        return functional.pad(as_they_are(inputs, moment), (0, 0, 0, 2 if moment.epoch > 3 else 0))

    class Slower(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            shown.append(len(inputs))
            clock.perf_counter = lambda: float(sum(shown))
            return super().forward(inputs)[:16]

    monkeypatch.setattr(training, "time", clock)
    estimate = training.estimate_seconds(Slower(6, 3), rows(), replace(RECIPE, epochs=6), growing)
    assert shown == [16] * 4 + [18] * 4
    assert estimate == PER_EPOCH * (4 * 16 + 2 * 18)


@pytest.mark.parametrize("count", [10, 16, 40])
def test_a_few_inputs_are_enough_for_an_estimate(count: int) -> None:
    assert training.estimate_seconds(layer(), rows(count), RECIPE, as_they_are) > 0


@pytest.mark.parametrize("batch", [1, 7, 250])
def test_logits_do_not_depend_on_the_batch(batch: int) -> None:
    model, split = network().train(), images()
    found = training.predict_logits(model, split.images, augmented, batch)
    expected = model.eval()(pixels.to_float(split.images)).detach()
    assert torch.allclose(found, expected, atol=1e-5)
    assert found.dtype == torch.float32
