"""Both ways from ImageNet to CIFAR-10: what they leave, what they may see, and that they learn."""

import functools
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assignment.common import runs, settings
from assignment.common.files import Source
from assignment.images import cifar10, experiments, resnet, sample, training
from assignment.images.cifar10 import Cifar10, Split
from assignment.images.experiments import Plan, Result
from assignment.images.features import Preprocessing
from assignment.images.linear import FeatureSet
from assignment.images.resnet import Backbone
from assignment.images.sample import SmallBackbone
from assignment.images.training import Moment, Recipe

DATA, PRECISION = settings.data_folder(), settings.precision
RECIPE = Recipe(epochs=2, batch=32, lr=0.1)
WEIGHTS = Source("small", "other", "made by hand", "checksum of made up weights")
Way = Callable[..., Result]


def head(name: str, data: Cifar10, recipe: Recipe = RECIPE, **more: Any) -> Result:
    return experiments.linear_probe(name, data, FeatureSet((32,)), recipe, **more)


def in_name_only(name: str, data: Cifar10, recipe: Recipe = RECIPE, **more: Any) -> Result:
    return experiments.batchnorm_mistake(name, data, 32, recipe, **more)


def finetune(name: str, data: Cifar10, recipe: Recipe = RECIPE, **more: Any) -> Result:
    return experiments.finetune(name, data, Plan(recipe, sizes=(32,)), **more)


WAYS: dict[str, Way] = {"head": head, "in name only": in_name_only, "finetune": finetune}
FINAL: dict[str, Way] = {"head": head, "finetune": finetune}


@functools.cache
def synthetic() -> Cifar10:
    """The whole sample: 1,800 images to learn from, 200 and 400 held out."""
    with tempfile.TemporaryDirectory() as folder:
        sample.write_cifar10(Path(folder))
        return cifar10.read(Path(folder))


def drawn(count: int, seed: int) -> Split:
    labels = np.arange(count) % 10
    images = sample.draw_shapes(labels, np.random.default_rng(seed))
    return Split(torch.from_numpy(images), torch.from_numpy(labels))


@functools.cache
def tiny() -> Cifar10:
    """A dozen images per class to learn from, and a few that are held out."""
    source = Source("tiny", "other", "drawn by hand", "checksum of drawn images")
    return Cifar10(drawn(120, 1), drawn(40, 2), drawn(50, 3), sample.SHAPES, source)


class Sealed(Split):
    """Images that nobody may look at."""

    def to(self, device: torch.device) -> NoReturn:
        raise AssertionError("the test images were asked for")


def sealed(data: Cifar10) -> Cifar10:
    return replace(data, test=Sealed(torch.empty(50, 3, 32, 32, device="meta"), data.test.labels))


@pytest.fixture(autouse=True)
def exact(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, in float32, wherever the tests run."""
    monkeypatch.setenv("ASSIGNMENT_DEVICE", "cpu")
    monkeypatch.setattr(settings, "precision", lambda on: torch.float32)


def no_weights() -> NoReturn:
    raise AssertionError("the weights were asked for")


@pytest.fixture
def recorded(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Recorded mode, with weights made up and no record yet; returns where fresh runs go."""
    monkeypatch.setattr(runs, "RECORDS", data_folder / "records")
    monkeypatch.setattr(resnet, "load_pretrained", lambda: Backbone(SmallBackbone(width=8).eval(), WEIGHTS))
    return data_folder / "runs"


def same_numbers(one: Result, other: Result) -> bool:
    arrays, others = one.record.arrays, other.record.arrays
    return arrays.keys() == others.keys() and all(
        np.array_equal(arrays[name], others[name]) for name in arrays
    )


# --- what an answer holds -------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("sample_mode")
def test_a_run_that_is_not_final_asks_no_test_image(way: str) -> None:
    answer = WAYS[way]("one", sealed(tiny()))
    # In sample mode a network that is only tried is trained for one epoch.
    assert answer.history.shape == (1 if way == "finetune" else 2, 4)
    assert answer.history.dtype == np.float64
    facts = answer.record.facts
    assert facts["test evaluations"] == 0
    assert "test" not in facts
    assert not answer.predictions
    assert facts["validation"]["accuracy"] == answer.history[:, 3].max()
    assert facts["best epoch"] == answer.history[:, 3].argmax() + 1
    assert facts["validation"]["loss"] == pytest.approx(
        answer.history[facts["best epoch"] - 1, 2], rel=1e-5
    )


@pytest.mark.parametrize("way", FINAL)
@pytest.mark.usefixtures("sample_mode")
def test_a_final_run_is_the_one_that_asks(way: str) -> None:
    with pytest.raises(AssertionError, match="the test images were asked for"):
        FINAL[way]("one", sealed(tiny()), final=True)


@pytest.mark.parametrize("way", FINAL)
@pytest.mark.usefixtures("sample_mode")
def test_a_final_run_says_something_about_every_image(way: str) -> None:
    data = tiny()
    answer = FINAL[way]("one", data, final=True)
    assert answer.history.shape == (2, 4)
    facts = answer.record.facts
    assert facts["test evaluations"] == 1
    plain = {"validation": data.validation, "test": data.test}
    for name, split in plain.items():
        said = answer.predictions[name]
        assert said.logits.shape == (len(split), 10)
        assert torch.equal(said.labels, split.labels)
        assert said.accuracy == facts[name]["accuracy"]
        assert said.loss == pytest.approx(facts[name]["loss"])
    assert facts["validation"]["accuracy"] == answer.history[:, 3].max()
    assert 0 <= facts["train"]["accuracy"] <= 1
    mirrored = {"validation mirrored", "test mirrored"} if way == "finetune" else set()
    assert answer.predictions.keys() == plain.keys() | mirrored


@pytest.mark.usefixtures("sample_mode")
def test_the_mirrored_answer_is_the_mean_of_both() -> None:
    data = tiny()
    turned = replace(data, test=Split(data.test.images.flip(3), data.test.labels))
    answer, other = (finetune("one", shown, final=True) for shown in (data, turned))
    assert not torch.allclose(
        answer.predictions["test"].logits, other.predictions["test"].logits, atol=1e-3
    )
    mean = (answer.predictions["test"].logits + other.predictions["test"].logits) / 2
    for each in (answer, other):
        assert torch.allclose(each.predictions["test mirrored"].logits, mean, atol=1e-5)


def layer_of(record: runs.Record, read: Tensor) -> Tensor:
    """What a recorded linear layer says about features, worked out here."""
    part = {name: torch.from_numpy(values) for name, values in record.arrays.items()}
    standardised = (read - part["mean"]) / part["deviation"]
    return standardised @ part["linear.weight"].T + part["linear.bias"]


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.usefixtures("sample_mode")
def test_a_recorded_layer_says_it_again(mirror: bool) -> None:
    data, reading = tiny(), FeatureSet((32, 64), ("layer3", "layer4"), mirror)
    record = experiments.linear_probe("one", data, reading, RECIPE, final=True).record
    read = reading.read(resnet.load_pretrained(), data.test.images)
    assert record.arrays["linear.weight"].shape == (10, read.shape[1])
    expected = torch.from_numpy(record.arrays["test logits"])
    assert torch.allclose(layer_of(record, read), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("trained", "parameters"),
    [("fc", 10 * 128 + 10), ("layer4", 10 * 128 + 10 + 128 * 64 * 9 + 256)],
)
@pytest.mark.usefixtures("sample_mode")
def test_only_the_named_parts_are_counted_as_trained(trained: str, parameters: int) -> None:
    plan = Plan(RECIPE, sizes=(32,), trained=trained)
    answer = experiments.finetune("one", sealed(tiny()), plan)
    assert answer.record.facts["trainable parameters"] == parameters


@pytest.mark.usefixtures("sample_mode")
def test_sample_mode_shortens_a_recipe_and_says_so() -> None:
    long = replace(RECIPE, epochs=50, batch=1000)
    answer = head("one", sealed(tiny()), long)
    assert answer.history.shape == (3, 4)
    assert answer.record.config["recipe"] == asdict(replace(long, epochs=3, batch=64))


# --- what a run may see ---------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("sample_mode")
def test_only_the_first_images_are_learned_from(way: str) -> None:
    data = sealed(tiny())
    few = replace(data, train=Split(data.train.images[:64], data.train.labels[:64]))
    first = WAYS[way]("one", data, first=64)
    assert same_numbers(first, WAYS[way]("one", few))
    assert not same_numbers(first, WAYS[way]("one", data))
    assert first.record.config["first"] == 64


@pytest.mark.usefixtures("sample_mode")
def test_frozen_in_name_only_is_another_model_and_spares_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = resnet.load_pretrained()
    before = {name: value.clone() for name, value in backbone.network.state_dict().items()}
    monkeypatch.setattr(resnet, "load_pretrained", lambda: backbone)
    data = sealed(tiny())
    wrong, right = in_name_only("one", data), head("one", data)
    assert not np.allclose(wrong.history[:, 2], right.history[:, 2], rtol=0.01)
    after = backbone.network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(module.training for module in backbone.network.modules())


def test_training_looks_are_augmented_and_the_others_are_not() -> None:
    images = tiny().train.images[:64]
    plan = Plan(RECIPE, sizes=(40,))
    plain = plan.look(images, None)
    assert torch.allclose(plain, Preprocessing(40).prepare(images), atol=1e-5)
    once, again, other = (
        plan.look(images, Moment(torch.Generator().manual_seed(seed), 0)) for seed in (1, 1, 2)
    )
    assert once.shape == plain.shape == (64, 3, 40, 40)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    moment = Moment(torch.Generator().manual_seed(1), 0)
    mirrored_only = replace(plan, shift=0).look(images, moment)
    turned = plain.flip(3)
    for shown, one, two in zip(mirrored_only, plain, turned, strict=True):
        assert torch.allclose(shown, one, atol=1e-5) or torch.allclose(shown, two, atol=1e-5)


def test_images_grow_from_epoch_to_epoch_and_are_judged_at_one_size() -> None:
    images = tiny().train.images[:8]
    plan = Plan(RECIPE, sizes=(32, 40, 40, 48))

    def seen(plan: Plan, epoch: int | None) -> int:
        moment = None if epoch is None else Moment(torch.Generator().manual_seed(1), epoch)
        return plan.look(images, moment).shape[-1]

    assert [seen(plan, epoch) for epoch in range(6)] == [32, 40, 40, 48, 48, 48]
    assert seen(plan, None) == 48
    larger = replace(plan, judged=56)
    assert [seen(larger, epoch) for epoch in (None, 0, 3)] == [56, 32, 48]


# --- it learns ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sample_mode")
def test_a_layer_on_frozen_features_learns() -> None:
    answer = experiments.linear_probe(
        "one", synthetic(), FeatureSet((32,)), Recipe(epochs=3, lr=0.1), first=800, final=True
    )
    assert answer.predictions["validation"].accuracy > 0.45
    assert answer.predictions["test"].accuracy > 0.45


@pytest.mark.usefixtures("sample_mode")
def test_a_finetuned_network_learns() -> None:
    plan = Plan(Recipe(epochs=3, batch=32, lr=0.05), sizes=(32,), shift=2)
    answer = experiments.finetune("one", synthetic(), plan, first=640, final=True)
    assert answer.record.facts["validation"]["accuracy"] > 0.7
    assert answer.history[-1, 0] < answer.history[0, 0]


# --- records --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_recorded_run_needs_no_network_the_next_time(
    recorded: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    way: str,
) -> None:
    final = {"final": True} if way in FINAL else {}
    first = WAYS[way]("one", tiny(), **final)
    assert "there is no record of it" in capsys.readouterr().out
    assert sorted(path.name for path in recorded.iterdir()) == ["one.json", "one.npz"]
    monkeypatch.setattr(resnet, "load_pretrained", no_weights)
    again = WAYS[way]("one", tiny(), **final)
    assert capsys.readouterr().out == ""
    assert same_numbers(again, first)
    assert again.record.facts == first.record.facts
    assert again.predictions.keys() == first.predictions.keys()
    for name, said in again.predictions.items():
        assert torch.equal(said.logits, first.predictions[name].logits)
        assert said.accuracy == first.predictions[name].accuracy


@pytest.mark.parametrize("way", WAYS)
def test_a_record_names_the_weights_that_it_was_made_with(recorded: Path, way: str) -> None:
    record = WAYS[way]("one", tiny()).record
    assert record.facts["weights"] == asdict(WEIGHTS)
    kept = runs.read_record(recorded, "one")
    assert kept is not None
    assert kept.facts["weights"]["sha256"] == "checksum of made up weights"


@pytest.mark.parametrize("way", WAYS)
def test_another_recipe_trains_again_and_says_what_differs(
    recorded: Path, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    first = WAYS[way]("one", tiny())
    runs.write_record(first.record, runs.RECORDS)
    capsys.readouterr()
    other = WAYS[way]("one", tiny(), replace(RECIPE, lr=0.02))
    said = capsys.readouterr().out
    assert "'lr': 0.02" in said
    assert "recorded {" in said
    assert "'lr': 0.1" in said
    assert not np.array_equal(other.history, first.history)
    kept = runs.read_record(runs.RECORDS, "one")
    assert kept is not None
    assert np.array_equal(kept.arrays["history"], first.history), "a kept record stays"


CHANGES: dict[str, Callable[[Cifar10], Cifar10]] = {
    "data": lambda data: replace(data, source=replace(data.source, sha256="other")),
    "validation": lambda data: replace(
        data, validation=Split(data.validation.images.flip(0), data.validation.labels)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_data_are_another_run(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    head("one", tiny())
    monkeypatch.setattr(resnet, "load_pretrained", no_weights)
    head("one", tiny())
    with pytest.raises(AssertionError, match="the weights were asked for"):
        head("one", CHANGES[change](tiny()))


def test_what_is_final_or_learned_from_fewer_images_is_another_run(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head("one", tiny())
    monkeypatch.setattr(resnet, "load_pretrained", no_weights)
    for other in ({"final": True}, {"first": 64}, {"recipe": replace(RECIPE, seed=1)}):
        with pytest.raises(AssertionError, match="the weights were asked for"):
            head("one", tiny(), **other)


class Unasked(nn.Module):
    def forward(self, images: Tensor) -> NoReturn:
        raise AssertionError("the network was run")


def test_cached_features_train_the_same_layer(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = head("one", tiny())
    network = SmallBackbone(width=8).eval()
    network.add_module("conv1", Unasked())
    monkeypatch.setattr(resnet, "load_pretrained", lambda: Backbone(network, WEIGHTS))
    monkeypatch.setattr(experiments, "_waiting", lambda *_, **__: 0.0)  # it would show it one image
    assert same_numbers(head("two", tiny()), first)
    with pytest.raises(AssertionError, match="the network was run"):
        experiments.linear_probe("three", tiny(), FeatureSet((33,)), RECIPE)


# --- a finetuning run that is stopped -------------------------------------------------------------


@pytest.fixture
def stopped(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finetuning run was stopped after its fifth step of six; its checkpoint."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(training, "estimate_seconds", lambda *_: 1.0)
    look, steps = Plan.look, list[int]()

    def stopping(plan: Plan, images: Tensor, moment: Moment | None) -> Tensor:
        steps.extend([1] if moment is not None else [])
        if len(steps) > 5:
            raise KeyboardInterrupt
        return look(plan, images, moment)

    with monkeypatch.context() as patch:
        patch.setattr(Plan, "look", stopping)
        with pytest.raises(KeyboardInterrupt):
            finetune("one", tiny(), final=True)
    (path,) = recorded.iterdir()
    assert path.name.startswith("one-")
    assert path.suffix == ".pt"
    return path


def test_a_stopped_finetuning_run_goes_on(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = finetune("one", tiny(), final=True)
    assert "Going on after step 5," in capsys.readouterr().out
    assert not stopped.exists()
    whole = finetune("whole", tiny(), final=True)
    assert "Going on" not in capsys.readouterr().out
    assert same_numbers(ended, whole)
    assert sorted(path.name for path in stopped.parent.iterdir()) == [
        "one.json", "one.npz", "whole.json", "whole.npz",
    ]  # fmt: skip


@pytest.mark.parametrize("other", ["recipe", "data", "weights"])
def test_another_run_does_not_go_on_from_the_stopped_one(
    stopped: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    other: str,
) -> None:
    data, recipe = tiny(), RECIPE
    if other == "recipe":
        recipe = replace(recipe, lr=0.02)
    if other == "data":
        data = CHANGES["data"](data)
    if other == "weights":
        changed = Backbone(SmallBackbone(1, 8).eval(), replace(WEIGHTS, sha256="other"))
        monkeypatch.setattr(resnet, "load_pretrained", lambda: changed)
    finetune("one", data, recipe, final=True)
    assert "Going on" not in capsys.readouterr().out
    assert stopped.exists()


# --- machines and weights that are not everywhere -------------------------------------------------


@pytest.mark.needs("cuda")
@pytest.mark.usefixtures("sample_mode")
def test_cpu_and_cuda_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "precision", PRECISION)
    plan, images = Plan(RECIPE, sizes=(64,)), tiny().test.images
    said = []
    for on in (torch.device("cpu"), torch.device("cuda")):
        network = resnet.to_device(SmallBackbone().eval(), on)
        said.append(training.predict_logits(network, images.to(on), plan.look))
    assert torch.allclose(said[0], said[1], atol=0.1)
    assert said[0].std() > 0.1


def tuples(value: Any) -> Any:
    return tuple(map(tuples, value)) if isinstance(value, list) else value


@pytest.mark.needs("real_data", "weights")
def test_the_recorded_layer_says_it_again_of_real_images(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record = runs.read_record(runs.RECORDS, "cifar_frozen")
    assert record is not None
    monkeypatch.setenv("ASSIGNMENT_WEIGHTS", str(DATA / "weights" / "resnet18-reconstructed.pt"))
    backbone = resnet.load_pretrained()
    assert record.facts["weights"]["sha256"] == backbone.source.sha256
    reading = FeatureSet(
        **{name: tuples(value) for name, value in record.config["reading"].items()}
    )
    images = cifar10.load().test.images[: 100 if 224 in reading.sizes else 500]
    monkeypatch.setenv("ASSIGNMENT_DATA", str(tmp_path))
    expected = torch.from_numpy(record.arrays["test logits"])[: len(images)]
    said = layer_of(record, reading.read(backbone, images))
    assert torch.allclose(said, expected, atol=0.05)
