"""Both ways from ImageNet to CIFAR-10: what they see, leave behind, and answer for."""

import functools
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor

from assignment.common import runs, settings
from assignment.common.files import Source, sha256
from assignment.common.settings import AssignmentError
from assignment.images import cifar10, experiments, labels, predictions, resnet, sample, training
from assignment.images.answers import answers
from assignment.images.cifar10 import Dataset, Split
from assignment.images.experiments import Plan, Result
from assignment.images.features import Preprocessing
from assignment.images.labels import LabelEvidence
from assignment.images.linear import FeatureSet
from assignment.images.resnet import Backbone
from assignment.images.sample import SmallBackbone
from assignment.images.training import Recipe
from tests.common.variations import assert_every_value_counts
from tests.images.test_resnet import STATES

DATA, PRECISION = settings.data_folder(), settings.precision
RECIPE = Recipe(epochs=2, batch=32, lr=0.1)
SMALL = FeatureSet((32,))
WEIGHTS = Source("small", "other", "made by hand", "checksum of made up weights")
Patch = pytest.MonkeyPatch
Way = Callable[..., Result]


def probe(data: Dataset, recipe: Recipe = RECIPE, **more: Any) -> Result:
    return experiments.linear_probe(data, SMALL, recipe, **more)


def mistake(data: Dataset, recipe: Recipe = RECIPE, **more: Any) -> Result:
    return experiments.batchnorm_mistake(data, 32, recipe, **more)


def finetune(data: Dataset, recipe: Recipe = RECIPE, **more: Any) -> Result:
    return experiments.finetune(data, Plan(recipe, sizes=(32,)), **more)


WAYS: dict[str, Way] = {"probe": probe, "mistake": mistake, "finetune": finetune}


def drawn(count: int, seed: int) -> Split:
    labels = np.arange(count) % 10
    images = sample.draw_shapes(labels, np.random.default_rng(seed))
    return Split(torch.from_numpy(images), torch.from_numpy(labels))


@functools.cache
def tiny() -> Dataset:
    """A dozen images per class to learn from, and a few that are held out."""
    source = Source("tiny", "other", "drawn by hand", "checksum of drawn images")
    return Dataset(drawn(120, 1), drawn(40, 2), drawn(50, 3), sample.SHAPES, source)


class Sealed(Split):
    """Images that no experiment may use."""

    def to(self, device: torch.device) -> NoReturn:
        raise AssertionError("the test images were used")


def sealed() -> Dataset:
    return replace(tiny(), test=Sealed(tiny().test.images, tiny().test.labels))


pytestmark = pytest.mark.usefixtures("sample_mode", "float32_on_the_cpu")


@pytest.fixture
def recorded(records: Path, sample_mode: None, monkeypatch: Patch) -> Path:
    """Recorded mode, with weights made up and no record yet; returns where fresh runs go."""
    small = Backbone(SmallBackbone(width=8).eval(), WEIGHTS)
    monkeypatch.setenv("ASSIGNMENT_MODE", "recorded")
    monkeypatch.setattr(resnet, "load_pretrained", lambda *_: small)
    return runs.runs_folder()


def same_numbers(one: Result, other: Result) -> bool:
    arrays, others = one.run.arrays, other.run.arrays
    return arrays.keys() == others.keys() and all(
        np.array_equal(arrays[name], others[name]) for name in arrays
    )


# --- what a result holds --------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_is_not_final_uses_no_test_image(way: str) -> None:
    result = WAYS[way](sealed())
    # In sample mode a network that is only tried is trained for one epoch.
    assert result.history.shape == (1 if way == "finetune" else 2, 4)
    assert result.facts["test evaluations"] == 0
    assert "test" not in result.facts
    assert not result.predictions
    best = result.history[:, 3].argmax()
    assert (result.accuracy(), result.facts["best epoch"]) == (result.history[best, 3], best + 1)
    assert result.loss() == pytest.approx(result.history[best, 2], rel=1e-5)
    assert f"validation accuracy {result.accuracy():.2%}" in repr(result)


@pytest.mark.parametrize("way", ["probe", "finetune"])
def test_a_final_run_evaluates_every_image_once(way: str) -> None:
    with pytest.raises(AssertionError, match="the test images were used"):
        WAYS[way](sealed(), final=True)
    data, result = tiny(), WAYS[way](tiny(), final=True)
    assert result.facts["test evaluations"] == 1
    for name, split in {"validation": data.validation, "test": data.test}.items():
        found = result.predictions[name]
        assert torch.equal(found.labels, split.labels)
        assert result.accuracy(name) == found.accuracy == result.facts[name]["accuracy"]
        assert result.loss(name) == found.loss == pytest.approx(result.facts[name]["loss"])
    assert 0 <= result.accuracy("train") <= 1
    mirrored = {"validation mirrored", "test mirrored"} if way == "finetune" else set()
    assert result.predictions.keys() == {"validation", "test"} | mirrored


def test_mirror_averaging_is_the_mean_of_both_logits() -> None:
    data = tiny()
    mirrored = replace(data, test=Split(data.test.images.flip(3), data.test.labels))
    one, other = (finetune(shown, final=True).predictions for shown in (data, mirrored))
    mean = (one["test"].logits + other["test"].logits) / 2
    assert not torch.allclose(one["test"].logits, other["test"].logits, atol=1e-3)
    for each in (one, other):
        assert torch.allclose(each["test mirrored"].logits, mean, atol=1e-5)


@pytest.mark.parametrize(("way", "final"), [
    ("probe", False), ("probe", True), ("mistake", False), ("finetune", False), ("finetune", True)
])  # fmt: skip
def test_a_result_tells_of_every_class(way: str, final: bool) -> None:
    result = WAYS[way](tiny(), **({"final": True} if final else {}))
    splits = ["train", "validation", "test"] if final else ["validation"]
    for name in splits:
        confusion = result.confusion(name)
        recall = confusion.diagonal() / confusion.sum(1)
        assert confusion.sum() == len(getattr(tiny(), name))
        assert result.accuracy(name) == confusion.trace() / confusion.sum()
        assert result.balanced_accuracy(name) == pytest.approx(recall.mean())
        table = result.by_class(name).frame
        assert table["class"].tolist() == list(sample.SHAPES)
        assert table["recall"].tolist() == [f"{share:.1%}" for share in recall]
        assert table[f"taken for {sample.SHAPES[3]}"].tolist() == confusion[:, 3].tolist()
    assert "\n" not in repr(result)
    assert "[SAMPLE" in repr(result)
    assert len(repr(result)) < 150
    assert re.findall(r"<td>(\w+)</td>", result._repr_html_()) == splits
    without = "This model was not evaluated on 'test'; where `final=True` it is"
    for ask in () if final else (result.accuracy, result.confusion, result.by_class):
        with pytest.raises(AssignmentError, match=without):
            ask("test")


def test_a_class_without_images_has_no_recall_and_many_classes_keep_their_labels() -> None:
    few = Split(tiny().validation.images, tiny().validation.labels % 3)
    table = probe(replace(tiny(), validation=few)).by_class().frame
    assert table["recall"].tolist()[3:] == ["-"] * 7
    labels = torch.arange(120) * 3
    many = Split(tiny().train.images, labels)
    names = tuple(map(str, range(360)))
    data = Dataset(many, many, many, names, tiny().source)
    assert torch.equal(probe(data, final=True).predictions["test"].labels, labels)


def layer_of(run: runs.Run, read: Tensor) -> Tensor:
    """The logits of a kept linear layer, worked out here."""
    part = {name: torch.from_numpy(values) for name, values in run.arrays.items()}
    standardised = (read - part["mean"]) / part["deviation"]
    return standardised @ part["linear.weight"].T + part["linear.bias"]


def test_a_kept_layer_gives_the_same_logits_again() -> None:
    data, chosen = tiny(), FeatureSet((32, 64), ("layer3", "layer4"), mirror=True)
    run = experiments.linear_probe(data, chosen, RECIPE, final=True).run
    read = chosen.compute(resnet.load_pretrained(), data.test.images)
    expected = torch.from_numpy(run["test logits"])
    assert torch.allclose(layer_of(run, read), expected, atol=1e-4)


def test_the_other_experiments_on_the_sample() -> None:
    data, long = sealed(), replace(RECIPE, epochs=50)
    assert probe(data, long).history.shape == (3, 4), "the sample shortens a recipe"
    gap = experiments.optimality_check(data, SMALL, replace(RECIPE, weight_decay=0.1))
    assert gap.gap > -1e-6
    assert 0 < gap.agreement <= 1


# --- what a run may see ---------------------------------------------------------------------------


def test_other_validation_images_are_taken_from_the_training_images_alone() -> None:
    data = tiny()
    labels = torch.cat([data.train.labels, data.validation.labels])
    found = [probe(data, split=seed, final=True) for seed in (0, 1, 2)]
    for result, seed in zip(found[1:], (1, 2), strict=True):
        held = cifar10.validation_mask(labels, seed)
        assert torch.equal(result.predictions["validation"].labels, labels[held])
        assert torch.equal(result.predictions["test"].labels, data.test.labels)
    assert len({result.loss() for result in found}) == 3


@pytest.mark.parametrize("way", WAYS)
def test_only_the_first_images_are_learned_from(way: str) -> None:
    data = sealed()
    few = replace(data, train=Split(data.train.images[:64], data.train.labels[:64]))
    first = WAYS[way](data, first=64)
    assert same_numbers(first, WAYS[way](few))
    assert not same_numbers(first, WAYS[way](data))


def test_the_batchnorm_mistake_is_another_model_and_spares_the_network(monkeypatch: Patch) -> None:
    backbone, untouched = resnet.load_pretrained(), resnet.load_pretrained().network.state_dict()
    monkeypatch.setattr(resnet, "load_pretrained", lambda *_: backbone)
    assert not np.allclose(mistake(sealed()).history, probe(sealed()).history, rtol=0.01)
    after = backbone.network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in untouched.items())
    assert not any(module.training for module in backbone.network.modules())


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.usefixtures("recorded")
def test_training_inputs_are_augmented_and_grow_and_the_others_do_not() -> None:
    images, plan = tiny().train.images[:64], Plan(RECIPE, sizes=(40,))
    plain = plan.transform(images, None, 0)
    assert torch.allclose(plain, Preprocessing(40).prepare(images), atol=1e-5)
    once, again, other = (plan.transform(images, generator(seed), 0) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert torch.equal(replace(plan, augmented=False).transform(images, generator(), 0), plain)
    flipped_only = replace(plan, max_shift=0).transform(images, generator(), 0)
    for shown, one, mirrored in zip(flipped_only, plain, plain.flip(3), strict=True):
        assert any(torch.allclose(shown, each, atol=1e-5) for each in (one, mirrored))
    plan = replace(plan, sizes=(32, 40, 40, 48))
    sizes = [plan.transform(images, generator(), epoch).shape[-1] for epoch in range(6)]
    assert sizes == [32, 40, 40, 48, 48, 48]
    assert plan.transform(images, None, 0).shape[-1] == 48
    assert replace(plan, eval_size=56).transform(images, None, 0).shape[-1] == 56
    assert plan.vary(lr=0.5) == replace(plan, recipe=replace(RECIPE, lr=0.5))


def test_only_what_learns_is_counted_and_other_sizes_are_evaluated_too() -> None:
    plan = Plan(RECIPE, sizes=(64,), trainable="layer4", also_at=(64, 128))
    result = experiments.finetune(sealed(), plan)
    assert result.facts["trainable parameters"] == 10 * 128 + 10 + 128 * 64 * 9 + 256
    assert result.facts["validation at 64 px"]["accuracy"] == result.accuracy()
    assert result.loss("validation at 128 px") != result.loss()


def uneven(seed: int, common: int, rare: int) -> Split:
    labels = torch.arange(common + rare) >= common
    labels = labels[torch.randperm(len(labels), generator=generator(seed))].long()
    shapes = np.array([sample.SHAPES.index(name) for name in ("bars", "pillars")])[labels]
    images = sample.draw_shapes(shapes, np.random.default_rng(seed))
    return Split(torch.from_numpy(images), labels)


@pytest.mark.parametrize("way", ["probe", "finetune"])
def test_balanced_training_finds_more_of_a_rare_class(way: str) -> None:
    splits = uneven(1, 150, 12), uneven(2, 40, 4), uneven(3, 300, 24)
    data = Dataset(*splits, ("bars", "pillars"), tiny().source)
    usual = WAYS[way](data, final=True)
    balanced = WAYS[way](data, class_weight="balanced", final=True)
    assert not same_numbers(usual, balanced)
    recalls = [found.predictions["test"].class_accuracy[1] for found in (usual, balanced)]
    assert way == "finetune" or recalls[1] > recalls[0] + 0.2


def test_classes_of_the_sample_are_told_apart_but_not_all() -> None:
    data, stages = cifar10.load(), ("layer2", "layer3", "layer4 2x2")
    plan = Plan(Recipe(epochs=3, batch=32, lr=0.05), sizes=(32,))
    layer = experiments.linear_probe(data, FeatureSet(stages=stages), plan.recipe, final=True)
    for result in (layer, experiments.finetune(data, plan, final=True)):
        found = result.predictions["test"]
        assert 0.6 < found.accuracy < 0.95
        assert len(found.labels[~found.correct].unique()) >= 6, "the grids of errors are not empty"


# --- a run answers only what was asked ------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("recorded")
def test_a_recorded_run_needs_no_network_and_names_weights(monkeypatch: Patch, way: str) -> None:
    final = {} if way == "mistake" else {"final": True}
    first = WAYS[way](tiny(), **final)
    monkeypatch.setattr(resnet, "load_pretrained", None)
    again = WAYS[way](tiny(), **final)
    assert same_numbers(again, first)
    assert again.facts == first.facts
    assert again.facts["weights"] == asdict(WEIGHTS)
    for name, found in again.predictions.items():
        assert torch.equal(found.logits, first.predictions[name].logits)


def test_the_answers_start_no_run_and_then_say_what_came_out(
    recorded: Path, monkeypatch: Patch
) -> None:
    data, plan, seeds = tiny(), Plan(RECIPE, sizes=(32,)), (0, 1)
    before = answers(data, SMALL, RECIPE, plan, plan, seeds).text
    assert before.count("not run yet, see 1.") == 11
    assert not list(recorded.glob("*.json"))
    one, two = torch.tensor([0]), torch.tensor([1])
    evidence = LabelEvidence(one, two, torch.tensor([[1, 4, 0, 0]]), two)
    monkeypatch.setattr(labels, "load", lambda: evidence)
    layer = probe(data, final=True)
    tuned = [finetune(data, replace(RECIPE, seed=seed), final=True) for seed in seeds]
    experiments.label_audit(data, [layer, tuned[0]])
    after = answers(data, SMALL, RECIPE, plan, plan, seeds).text
    assert [word for word in after.split() if word.startswith("1.")] == ["1.4", "1.5"], "not run"
    fifties = [set(predictions.surest_errors(result.predictions["test"])) for result in tuned]
    assert f"{len(fifties[0] & fifties[1])} of the {len(fifties[0])} surest errors" in after
    mean = np.mean([result.accuracy("test") for result in tuned])
    for text in (f"**{layer.accuracy('test'):.2%}**", f"**{mean:.2%}** ± ", "(2 seeds)"):
        assert text in after
    table = experiments.comparison_table({"a": [layer], "b": tuned}, "caption").frame
    assert table["with mirror averaging"].tolist()[0] == "-"
    assert table["test accuracy"].tolist()[1].startswith(f"{mean:.2%} ± ")


@pytest.mark.parametrize("config", [
    experiments.LinearProbe(data="d", features=SMALL, recipe=RECIPE),
    experiments.BatchNormMistake(data="d", size=32, recipe=RECIPE),
    experiments.Finetune(data="d", plan=Plan(RECIPE)),
    experiments.LabelAudit(data="d", runs=("a", "b")),
], ids=lambda config: type(config).__name__)  # fmt: skip
def test_every_value_of_a_config_makes_another_run(config: Any) -> None:
    assert_every_value_counts(config)


@pytest.mark.parametrize(("way", "asked", "words"), [
    *((way, {"network": "resnet19"}, r"one of resnet18, resnet34, resnet50\.$") for way in WAYS),
    *((way, {"class_weight": "even"}, "is 'even'; choose") for way in ("probe", "finetune")),
])  # fmt: skip
def test_what_there_is_not_is_refused_in_a_sentence(
    way: str, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(AssignmentError, match=words):
        WAYS[way](tiny(), **asked)


@pytest.mark.parametrize(("network", "width"), [("resnet34", 512), ("resnet50", 2048)])
def test_other_networks_are_read_and_finetuned(
    network: str, width: int, data_folder: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("ASSIGNMENT_MODE", "recorded")
    monkeypatch.setenv("ASSIGNMENT_WEIGHTS", str(data_folder / "weights.pth"))
    torch.save(STATES[network], data_folder / "weights.pth")
    few = replace(tiny(), train=drawn(20, 1), validation=drawn(10, 2), test=sealed().test)
    layer = probe(few, network=network)
    assert layer.facts["trainable parameters"] == (width + 1) * 10
    assert layer.facts["weights"]["what"] == f"ResNet{network[-2:]} weights"
    tuned = finetune(few, Recipe(epochs=1, batch=20), network=network)
    parameters = resnet.build_resnet(network).parameters()
    every = sum(parameter.numel() for parameter in parameters)
    assert tuned.facts["trainable parameters"] == every - (width + 1) * 990
    assert layer.run.config["network"] == tuned.run.config["network"] == network


def test_other_images_or_labels_have_another_fingerprint() -> None:
    found = {tiny().fingerprint, replace(tiny()).fingerprint}
    for name in ("train", "validation", "test"):
        images, truth = getattr(tiny(), name).images, getattr(tiny(), name).labels
        for other in (Split(images.flip(0), truth), Split(images, truth.flip(0))):
            changes: Any = {name: other}
            found.add(replace(tiny(), **changes).fingerprint)
    assert len(found) == 7


@pytest.mark.usefixtures("recorded")
def test_only_weights_that_are_not_official_are_named(monkeypatch: Patch, tmp_path: Path) -> None:
    first = probe(tiny())
    path = tmp_path / "weights.pth"
    path.write_bytes(b"made up")
    monkeypatch.setenv("ASSIGNMENT_WEIGHTS", str(path))
    other = probe(tiny())
    assert other.run.config["weights"] == sha256(path)
    assert other.run.name != first.run.name
    official = replace(resnet.CHECKPOINTS["resnet18"], sha256=sha256(path)[:8])
    monkeypatch.setitem(resnet.CHECKPOINTS, "resnet18", official)
    assert probe(tiny()).run.name == first.run.name


@pytest.mark.usefixtures("recorded")
def test_who_has_the_official_weights_sees_no_word_of_a_stand_in(monkeypatch: Patch) -> None:
    committed = probe(tiny(), final=True).run
    runs.write_run(committed, runs.RECORDS)
    monkeypatch.setattr(resnet, "STAND_INS", {WEIGHTS.sha256: WEIGHTS.detail})
    assert experiments.weights_shown() == WEIGHTS
    assert "A limitation" in experiments.weights_notice().text
    official = replace(WEIGHTS, origin="official", sha256=resnet.CHECKPOINTS["resnet18"].sha256)
    downloaded = Backbone(SmallBackbone(1, 8).eval(), official)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(resnet, "load_pretrained", lambda *_: downloaded)
        probe(replace(tiny(), validation=tiny().test), final=True)
        probe(tiny(), network="resnet50", final=True)
    assert experiments.weights_shown() == WEIGHTS, "own pictures, another network are not shown"
    with monkeypatch.context() as train:
        train.setenv("ASSIGNMENT_MODE", "train")
        train.setattr(resnet, "load_pretrained", lambda *_: downloaded)
        fresh = probe(tiny(), final=True)
    again = probe(tiny(), final=True)
    assert again.run.name == committed.name
    assert same_numbers(again, fresh)
    assert experiments.weights_shown() == official
    assert experiments.weights_notice().text == ""


# --- a finetuning run that is stopped -------------------------------------------------------------


@pytest.fixture
def stopped(recorded: Path, monkeypatch: Patch) -> Path:
    """A finetuning run was stopped after its fifth step of six; its checkpoint."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    transform, steps = Plan.transform, iter(range(5))

    def stopping(plan: Plan, images: Tensor, chance: torch.Generator | None, epoch: int) -> Tensor:
        if chance is not None and next(steps, None) is None:
            raise KeyboardInterrupt
        return transform(plan, images, chance, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Plan, "transform", stopping)
        with pytest.raises(AssignmentError, match="finetune was interrupted; run it again"):
            finetune(tiny(), final=True)
    (path,) = recorded.glob("*.pt")
    return path


def test_a_stopped_run_goes_on_and_its_checkpoint_stays(stopped: Path, monkeypatch: Patch) -> None:
    before = stopped.read_bytes()
    finetune(tiny(), first=64, final=True)
    assert stopped.read_bytes() == before, "another run does not go on from it"
    with monkeypatch.context() as full:
        full.setattr(runs, "write_whole", Mock(side_effect=OSError(28, "No space left")))
        first = finetune(tiny(), final=True)
        assert first.run.checksum == ""
        assert stopped.exists()
    assert same_numbers(finetune(tiny(), final=True), first)
    assert not stopped.exists()
    monkeypatch.setenv("ASSIGNMENT_MODE", "train")
    assert same_numbers(finetune(tiny(), final=True), first), "as one that was not stopped"


@pytest.mark.needs("cuda")
def test_cpu_and_cuda_give_the_same_logits(monkeypatch: Patch) -> None:
    monkeypatch.setattr(settings, "precision", PRECISION)
    plan, images = Plan(RECIPE, sizes=(64,)), tiny().test.images
    found = []
    for on in (torch.device("cpu"), torch.device("cuda")):
        network = resnet.to_device(SmallBackbone().eval(), on)
        found.append(training.predict_logits(network, images.to(on), plan.transform))
    assert torch.allclose(found[0], found[1], atol=0.1)
    assert found[0].std() > 0.1


def test_models_that_are_compared_in_time_ran_on_one_processor_and_precision() -> None:
    places: dict[str, set[str]] = {}
    for run in [*runs.read_all("linear_probe"), *runs.read_all("finetune")]:
        places.setdefault(run.facts["device"], set()).add(experiments.computed_on(Result(run, {})))
    assert {len(each) for each in places.values()} == {1}, places


@pytest.mark.needs("real_data", "weights")
def test_a_recorded_layer_gives_its_logits_again(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASSIGNMENT_MODE", "recorded")
    monkeypatch.setenv("ASSIGNMENT_WEIGHTS", str(DATA / "weights" / "resnet18-reconstructed.pt"))
    final = [run for run in runs.read_all("linear_probe") if "test logits" in run.arrays]
    (run,) = (run for run in final if run["mean"].shape == (512,))
    backbone = resnet.load_pretrained()
    assert run.facts["weights"]["sha256"] == backbone.source.sha256
    images = cifar10.load().test.images[:100]
    monkeypatch.setenv("ASSIGNMENT_DATA", str(tmp_path))
    found = layer_of(run, FeatureSet().compute(backbone, images))
    kept = torch.from_numpy(run["test logits"])[:100]  # from features computed in bfloat16
    assert torch.allclose(found, kept, rtol=0.05, atol=0.2)
    assert (found.argmax(1) == kept.argmax(1)).sum() >= 98
