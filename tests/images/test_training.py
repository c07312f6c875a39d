"""The training loop: its arithmetic, what stays frozen, and what is interrupted and resumed."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.nn import functional

from assignment.common import files, settings
from assignment.common.files import Source
from assignment.common.settings import AssignmentError
from assignment.images import pixels, resnet, training
from assignment.images.cifar10 import Split
from assignment.images.resnet import Backbone
from assignment.images.sample import SmallBackbone
from assignment.images.training import Recipe, TrainedModel

RECIPE = Recipe(epochs=3, batch=16, lr=0.05)  # of 70 inputs, an epoch of four steps leaves six over
State = dict[str, Tensor]
Output = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def exact(float32_on_the_cpu: None, monkeypatch: Patch) -> None:
    """With a checkpoint after every step."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)


def images(count: int = 70, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    stored = torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
    return Split(stored, torch.randint(0, 10, (count,), generator=generator))


def rows(count: int = 70, seed: int = 0) -> Split:
    split = images(count, seed)
    return Split(split.images[:, 0, 0, :6] / 255, split.labels % 3)


def layer() -> nn.Linear:
    model = nn.Linear(6, 3)
    nn.init.zeros_(model.bias)
    nn.init.eye_(model.weight)
    return model


def network(trained: str = "all") -> nn.Module:
    """A small network with a new head, whose BatchNorms have already seen something."""
    pretrained = SmallBackbone(width=4)
    pretrained.train()(pixels.to_float(images(8).images))
    source = Source("small", "other", "made by hand", "made up")
    return resnet.build_classifier(Backbone(pretrained.eval(), source), 10, trained)


def augmented(inputs: Tensor, generator: torch.Generator | None, epoch: int) -> Tensor:
    small = pixels.to_float(inputs)
    return small if generator is None else pixels.augment(small, generator, 2)


def fit(
    recipe: Recipe = RECIPE,
    path: Path | None = None,
    stop: Callable[[torch.Generator | None], object] = lambda generator: None,
    model: nn.Module | None = None,
    count: int = 70,
) -> TrainedModel:
    """Train a linear layer on rows, or a network on images; `stop` is called by each transform."""

    def transform(inputs: Tensor, generator: torch.Generator | None, epoch: int) -> Tensor:
        stop(generator)
        return augmented(inputs, generator, epoch) if model else inputs

    splits = (images(), images(9, 1)) if model else (rows(count), rows(9, 1))
    return training.train(model or layer(), *splits, recipe, transform, path)


def state_of(model: nn.Module) -> State:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(one: State, other: State) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


def assert_same(one: TrainedModel, other: TrainedModel) -> None:
    assert (one.history, one.best, one.model.training) == (other.history, other.best, False)
    assert not changed(state_of(one.model), state_of(other.model))


def by_hand(
    split: Split, held: Split, recipe: Recipe, weights: Tensor | None = None
) -> tuple[list[list[float]], list[State]]:
    """Train a layer with torch's own SGD; return metrics and weights of each epoch."""
    model, history, states = layer(), list[list[float]](), list[State]()
    decay, momentum = {"weight_decay": recipe.weight_decay}, recipe.momentum
    groups: Any = [{"params": model.weight, **decay}, {"params": model.bias}]
    optimizer = torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0)
    batch = min(recipe.batch, len(split))
    for epoch in range(recipe.epochs):
        shuffle = torch.Generator().manual_seed(1_000_003 * recipe.seed + epoch)
        order = torch.randperm(len(split), generator=shuffle)
        whole = [chosen for chosen in order.split(batch) if len(chosen) == batch]
        means = torch.zeros(2)
        for step, chosen in enumerate(whole, epoch * len(whole) + 1):
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * recipe.lr_factor(step / (recipe.epochs * len(whole)))
            logits, labels = model(split.images[chosen]), split.labels[chosen]
            loss = functional.cross_entropy(logits, labels, label_smoothing=recipe.smoothing)
            if weights is not None:
                losses = functional.cross_entropy(logits, labels, reduction="none")
                loss = losses @ weights[labels] / weights[labels].sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            correct = (logits.argmax(1) == labels).float().mean()
            means += torch.stack([loss.detach(), correct]) / len(whole)
        states.append(state_of(model))
        logits = model(held.images).detach()
        loss = functional.cross_entropy(logits, held.labels)
        correct = (logits.argmax(1) == held.labels).float().mean()
        history.append([*means.tolist(), loss.item(), correct.item()])
    return history, states


@pytest.mark.parametrize("count", [70, 64, 10])
@pytest.mark.parametrize("change", [
    {}, {"momentum": 0.0, "weight_decay": 0.0}, {"weight_decay": 0.3}, {"smoothing": 0.3},
    {"warmup": 0.0, "lr": 2.0}, {"warmup": 1.0}, {"seed": 3},
    {"choose_best": False, "lr": 1.0},
])  # fmt: skip
def test_training_is_torchs_own_sgd_with_the_recipes_rates(
    count: int, change: dict[str, Any]
) -> None:
    recipe = replace(RECIPE, **{"epochs": 8, "lr": 0.2} | change)
    given = list[torch.Generator | None]()
    fitted = fit(recipe, stop=given.append, count=count)
    seeds = [generator.initial_seed() for generator in given if generator]
    first = 1_000_003 * (recipe.seed + 1)
    assert seeds == list(range(first, first + 8 * max(1, count // 16)))
    history, states = by_hand(rows(count), rows(9, 1), recipe)
    found = torch.tensor(fitted.history)
    assert torch.allclose(found, torch.tensor(history), atol=1e-5)
    accuracies = [row[3] for row in history]
    assert fitted.best == (accuracies.index(max(accuracies)) if recipe.choose_best else 7)
    for name, value in fitted.model.state_dict().items():
        assert torch.allclose(value, states[fitted.best][name], atol=1e-5)


def test_class_weights_count_in_the_loss_and_in_the_choice() -> None:
    split, held, recipe = rows(), rows(9, 1), replace(RECIPE, epochs=8, lr=0.5)
    rare = split.labels != 0
    rare[:9] = True
    split = Split(split.images[rare], split.labels[rare])
    counts = torch.bincount(split.labels)
    weights = training.balanced_weights(split.labels, 3)
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=split.labels.numpy())
    assert weights.numpy() == pytest.approx(theirs)
    assert counts[0] < 9 < min(counts[1:])
    assert training.balanced_weights(split.labels, 4)[3] == len(split) / 4, "none of a class"
    fitted = training.train(layer(), split, held, recipe, lambda x, *_: x, class_weights=weights)
    history, states = by_hand(split, held, recipe, weights)
    found = torch.tensor(fitted.history)
    assert torch.allclose(found, torch.tensor(history), atol=1e-5)
    counted = weights[held.labels] / weights[held.labels].sum()
    guesses = [functional.linear(held.images, *state.values()).argmax(1) for state in states]
    scores = [float((guess == held.labels).float() @ counted) for guess in guesses]
    assert fitted.best == scores.index(max(scores))
    assert fitted.best != torch.tensor(history)[:, 3].argmax(), "plain accuracy chooses another"


@pytest.mark.parametrize(("warmup", "progress", "factor"), [
    (0.2, 0.05, 0.25), (0.2, 0.2, 1.0), (0.2, 0.4, 0.853553), (0.2, 1.0, 0.0),
    (0.0, 0.5, 0.5), (1.0, 0.5, 0.5), (1.0, 1.0, 1.0),
])  # fmt: skip
def test_linear_warmup_then_cosine_annealing(warmup: float, progress: float, factor: float) -> None:
    assert replace(RECIPE, warmup=warmup).lr_factor(progress) == pytest.approx(factor, abs=1e-6)


@pytest.mark.parametrize(("trained", "head_lr", "expected"), [
    ("fc", None, {(0.01, 0.3): 1, (0.01, 0.0): 1}),
    ("fc", 0.0, {(0.0, 0.3): 1, (0.0, 0.0): 1}),
    ("all", None, {(0.01, 0.3): 6, (0.01, 0.0): 11}),
    ("all", 0.1, {(0.01, 0.3): 5, (0.01, 0.0): 10, (0.1, 0.3): 1, (0.1, 0.0): 1}),
])  # fmt: skip
def test_the_head_has_its_own_learning_rate_and_only_matrices_decay(
    trained: str, head_lr: float | None, expected: dict[tuple[float, float], int]
) -> None:
    recipe = replace(RECIPE, lr=0.01, head_lr=head_lr, weight_decay=0.3)
    groups = training.parameter_groups(network(trained), recipe)
    assert {(g["max_lr"], g["weight_decay"]): len(g["params"]) for g in groups} == expected


@pytest.mark.parametrize("learns", [("fc",), ("layer4", "fc"), ("",)])
def test_frozen_parts_do_not_change_and_their_batchnorm_stays_in_eval_mode(
    learns: tuple[str, ...],
) -> None:
    model, modes = network(learns[0] or "all"), dict[str, set[bool]]()
    before = state_of(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            modes[name] = set()
            module.register_forward_hook(lambda m, *_, n=name: modes[n].add(m.training))
    fitted = fit(model=model)
    expected = {name for name in before if name.startswith(learns)}
    assert changed(before, state_of(fitted.model)) == expected
    assert modes == {name: {False, name.startswith(learns)} for name in modes}


@pytest.mark.parametrize("change", [{"epochs": 0}, {"batch": 0}, {"lr": 0.0}, {"lr": math.nan}])
def test_a_recipe_that_trains_nothing_is_refused(change: Any) -> None:
    with pytest.raises(AssignmentError, match=r"^Expected epochs, a batch and an lr above zero"):
        replace(RECIPE, **change)


def test_a_loss_that_is_not_finite_is_one_sentence() -> None:
    spoilt = Split(rows().images * torch.nan, rows().labels)
    with pytest.raises(AssignmentError, match="no longer finite after 1 steps with lr 20; choose"):
        training.train(layer(), spoilt, rows(), replace(RECIPE, lr=20.0), lambda inputs, *_: inputs)


def stop_after(calls: int) -> Callable[..., None]:
    """Interrupt after so many calls: an epoch calls four times for its steps, then to evaluate."""
    count = itertools.count()

    def stop(generator: torch.Generator | None) -> None:
        if next(count) == calls:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("recipe", [RECIPE, replace(RECIPE, choose_best=False)])
@pytest.mark.parametrize(("make", "seconds", "stops"), [
    *[(None, 0.0, {calls: calls - calls // 5}) for calls in range(1, 15)],
    (None, 0.0, {3: 3, 2: 4, 5: 8}),
    (network, 0.0, {4: 4, 6: 8}),
    (network, 0.0, {7: 6}),
])  # fmt: skip
def test_a_run_that_goes_on_ends_like_an_uninterrupted_one(
    make: Any, seconds: float, stops: dict[int, int], recipe: Recipe,
    tmp_path: Path, monkeypatch: Patch, capsys: Output,
) -> None:  # fmt: skip
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", seconds)
    model, path = make or (lambda: None), tmp_path / "runs" / "one.pt"
    for calls, step in stops.items():
        with pytest.raises(KeyboardInterrupt):
            fit(recipe, path, stop_after(calls), model())
        message = f"Interrupted. Run it again, and it goes on after step {step}.\n"
        assert message in capsys.readouterr().out
    ended = fit(recipe, path, model=model())
    assert capsys.readouterr().out == f"Going on after step {step} of 12.\n"
    assert_same(ended, fit(recipe, model=model()))
    again = fit(recipe, path, stop_after(0), model())
    assert_same(again, ended)
    assert (again.seconds, again.throughput) == (ended.seconds, ended.throughput), "nothing was run"


def test_a_checkpoint_that_cannot_be_written_is_one_warning(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "one.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(path=path, stop=stop_after(9))
    assert capsys.readouterr().out.count("\n") == 1, "and no promise to go on"
    assert_same(fit(path=path), fit())


def test_the_seconds_of_training_add_up_without_those_of_validation(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    now, stop = [0.0], stop_after(7)

    def tick(generator: torch.Generator | None) -> None:
        now[0] += 1 if generator else 100
        stop(generator)

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 60.0)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    with pytest.raises(KeyboardInterrupt):
        fit(path=tmp_path / "one.pt", stop=tick)
    fitted = fit(path=tmp_path / "one.pt", stop=tick)
    assert (fitted.seconds, fitted.throughput) == ([4, 8, 12], 16), "steps done twice count once"


@pytest.mark.parametrize("harm", [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes()[:-1]),
    lambda path: files.save_tensors(path, files.load_tensors(path) | {"momentum": 0.9}),
    *[
        lambda path, step=step: files.save_tensors(path, files.load_tensors(path) | {"step": step})
        for step in (-1, 3, 9, 13)
    ],
])  # fmt: skip
def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path, harm: Any) -> None:
    path = tmp_path / "one.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(path=path, stop=stop_after(7))  # after the sixth step, in the second epoch
    harm(path)
    with pytest.raises(AssignmentError) as error:
        fit(path=path)
    assert str(error.value) == (
        "The checkpoint one.pt is damaged, or another version of this code wrote it. Delete it to "
        "start over."
    )


def test_logits_are_float32_whatever_the_batch_and_a_layer_is_not_rounded(
    monkeypatch: Patch,
) -> None:
    model, split = network().train(), images()
    logits = training.predict_logits(model, split.images, augmented, batch=7)
    expected = model.eval()(pixels.to_float(split.images)).detach()
    assert torch.allclose(logits, expected, atol=1e-5)
    monkeypatch.setattr(settings, "precision", lambda on: torch.bfloat16)
    logits = training.predict_logits(layer(), rows().images, lambda inputs, *_: inputs)
    assert torch.equal(logits, layer()(rows().images).detach())
    rounded = training.predict_logits(model, split.images, augmented)
    assert torch.equal(rounded, rounded.bfloat16().float())
    assert rounded.dtype == torch.float32
