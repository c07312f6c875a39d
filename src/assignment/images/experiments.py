"""The experiments of the CIFAR-10 notebook: a linear layer on frozen features, and finetuning.

Each is a function of one frozen dataclass. Both ways are trained by the same loop and leave the
same kind of result, so that the notebook can compare them line by line.
"""

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from assignment.common import progress, runs, settings
from assignment.common.files import Source, sha256
from assignment.common.runs import Outcome, Run, obtain
from assignment.common.settings import AssignmentError, Mode
from assignment.common.tables import Notice, Table
from assignment.images import labels, resnet, training
from assignment.images.cifar10 import Dataset, Split, validation_mask
from assignment.images.features import (
    Preprocessing,
    extract_features,
    seconds_per_image,
    size_for_mode,
)
from assignment.images.linear import FeatureSet, OptimalityGap, SoftmaxRegression, optimality_gap
from assignment.images.pixels import augment, normalise, resize, to_float
from assignment.images.predictions import Predictions, wilson_interval
from assignment.images.resnet import Backbone
from assignment.images.training import Recipe

STAND_IN = """\
**A limitation to keep in mind.** The table "Data and weights" in 1.1 says which were used. The
official file could not be had where these results were computed; what was used instead is a
reconstruction in which the 3x3 filters of the last stage, three quarters of the network's
parameters, are estimated. Whatever rests on that stage alone holds for these weights: the rows of
1.2a with the last stage alone, the distance between frozen and finetuned, what moving the last
stage gains in 1.4, and 1.5. With the official weights the frozen results may be better and the
distances smaller. Training again uses the official file."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What every experiment here depends on."""

    data: str  # fingerprint of the images and labels
    weights: str = resnet.WEIGHTS  # torchvision's name, or the checksum of a named file
    network: str = resnet.DEFAULT  # torchvision's name of the architecture
    class_weight: str | None = None  # "balanced": in training every class counts alike
    first: int | None = None  # learn from the first so many training images alone


@dataclass(frozen=True, kw_only=True)
class LinearProbe(Experiment):
    """A linear layer on frozen features.

    Only where the recipe is final it is evaluated on the test set, once, and its logits are kept.
    """

    features: FeatureSet
    recipe: Recipe
    final: bool = False
    split: int = 0  # seed of the validation images, another one than the data's own


@dataclass(frozen=True, kw_only=True)
class BatchNormMistake(Experiment):
    """Features of `size` pixels, read in batches with BatchNorm left in train mode."""

    size: int
    recipe: Recipe
    batch: int = 128


@dataclass(frozen=True)
class Plan:
    """How a network is trained on the images themselves."""

    recipe: Recipe
    sizes: tuple[int, ...] = (64,)  # pixels a side, epoch by epoch; the last one stays
    eval_size: int | None = None  # pixels a side in evaluation; None: the last of `sizes`
    trainable: str = "all"  # the first part that learns, see `resnet.build_classifier`
    pretrained: bool = True
    augmented: bool = True  # mirrored and shifted at random while it is trained on
    max_shift: int = 4  # of an image, in stored pixels, before it is resized
    also_at: tuple[int, ...] = ()  # other sizes at which the finished network is evaluated, too

    def transform(self, images: Tensor, generator: torch.Generator | None, epoch: int) -> Tensor:
        """uint8 [N, 3, S, S] to network input; with a generator, as in training."""
        stored, size = to_float(images), self.eval_size or self.sizes[-1]
        if generator is not None:
            stored = augment(stored, generator, self.max_shift) if self.augmented else stored
            size = self.sizes[min(epoch, len(self.sizes) - 1)]
        resized = resize(normalise(stored), size_for_mode(size))
        return resnet.match_layout(resized, resized.device)

    def cost(self, train: int, validation: int, test: int = 0) -> float:
        """Estimate what training and evaluating take, see `resnet.forward_cost`."""
        sizes = [self.sizes[min(e, len(self.sizes) - 1)] for e in range(self.recipe.epochs)]
        evaluated = (len(sizes) + 2) * validation + (train + 2 * test if test else 0)
        shown = [*((3 * train, size) for size in sizes), (evaluated, self.eval_size or sizes[-1])]
        return sum(Preprocessing(size_for_mode(size)).cost(images) for images, size in shown)

    def vary(self, **changes: Any) -> "Plan":
        """Return the same plan with another recipe."""
        return replace(self, recipe=replace(self.recipe, **changes))


@dataclass(frozen=True, kw_only=True)
class Finetune(Experiment):
    """The network trained on images; `final` as in `LinearProbe`."""

    plan: Plan
    final: bool = False


@dataclass(frozen=True, kw_only=True)
class LabelAudit:
    """Test predictions of finished models beside what human raters and a list of copies say."""

    data: str
    runs: tuple[str, ...]  # the models, by the names and checksums of their runs
    lists: tuple[str, ...] = (labels.RATINGS.sha256, labels.COPIES.sha256)


SPLITS = ("train", "validation", "test")
MEASURES = ("accuracy", "loss", "balanced_accuracy")
SAMPLE_TRIAL = 300  # images of the sample that a network learns from where something is tried
# For the impatient: about ten minutes on two cores of a laptop without bfloat16.
IMPATIENT = Plan(Recipe(epochs=2, lr=0.01, smoothing=0.1), sizes=(48,))


@dataclass(frozen=True, repr=False)
class Result:
    """A trained model's run, and its predictions for ``"validation"`` and ``"test"`` images.

    ``"test mirrored"`` are those by the mean of the logits for an image and its mirror image.
    """

    run: Run
    predictions: Mapping[str, Predictions]
    classes: tuple[str, ...] = ()  # their names, where known

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the run tells in words and single numbers."""
        return self.run.facts

    @property
    def history(self) -> np.ndarray:
        """One row per epoch, as in `training.TrainedModel`, float64 [epochs, 4]."""
        return self.run.arrays["history"]

    def accuracy(self, split: str = "validation") -> float:
        """Return the accuracy on a split."""
        return float(self._measure(split, "accuracy"))

    def loss(self, split: str = "validation") -> float:
        """Return the mean cross-entropy on a split."""
        return float(self._measure(split, "loss"))

    def balanced_accuracy(self, split: str = "validation") -> float:
        """Return the mean recall of the classes on a split."""
        return float(self._measure(split, "balanced_accuracy"))

    def confusion(self, split: str = "validation") -> np.ndarray:
        """Return counts by true class (rows) and predicted class, int64 [C, C]."""
        return np.asarray(self._measure(split, "confusion"))

    def by_class(self, split: str = "validation") -> Table:
        """Tabulate every class: its images, their recall, and what they were taken for."""
        confusion = self.confusion(split)
        names = self.classes or tuple(map(str, range(len(confusion))))
        rows = [
            (name, sum(row), f"{row[k] / sum(row):.1%}" if any(row) else "-", *row)
            for k, (name, row) in enumerate(zip(names, confusion.tolist(), strict=True))
        ]
        columns = ["class", "images", "recall", *(f"taken for {name}" for name in names)]
        caption = f"Recall and confusions on the {split} images"
        return Table(pd.DataFrame(rows, columns=columns), caption)

    def _measure(self, split: str, name: str) -> Any:
        if split in self.predictions:  # from the logits, where these are kept
            return getattr(self.predictions[split], name)
        if split not in self.facts:
            raise AssignmentError(
                f"This model was not evaluated on {split!r}; where `final=True` it is, on train, "
                "validation and test."
            )
        if name == "confusion":
            return self.run.arrays[f"{split} confusion"]
        return self.facts[split].get(name, np.nan)  # a record may be older than a measure

    def __repr__(self) -> str:
        shown = [f"{s} accuracy {self.accuracy(s):.2%}" for s in SPLITS[1:] if s in self.facts]
        return ", ".join([repr(self.run), *shown])

    def _repr_html_(self) -> str:
        shown = [split for split in SPLITS if split in self.facts]
        frame = pd.DataFrame({"images": shown})
        frame["accuracy"] = [f"{self.accuracy(split):.2%}" for split in shown]
        frame["balanced accuracy"] = [f"{self.balanced_accuracy(split):.2%}" for split in shown]
        frame["loss"] = [f"{self.loss(split):.3f}" for split in shown]
        return Table(frame, repr(self.run))._repr_html_()


def weights_shown() -> Source:
    """Say which pretrained weights the results that are shown came from."""
    if settings.mode() is Mode.RECORDED:
        both = (runs.runs_folder(), runs.RECORDS)
        kept = [run for folder in both for run in runs.read_all("linear_probe", folder)]
        final = [run for run in kept if run.config.get("final") and "network" not in run.config]
        for run in final:  # not one on pictures of the reader's own, of which there is no record
            if run.config["data"] == final[-1].config["data"]:
                return Source(**run.facts["weights"])
    return resnet.load_pretrained().source


def weights_notice() -> Notice:
    """Say what a stand-in means for the results; nothing where the weights are official."""
    text = STAND_IN if weights_shown().sha256 in resnet.STAND_INS else ""
    return Notice(text, {"text/markdown": text})


# --- what a notebook calls ------------------------------------------------------------------------


def linear_probe(
    data: Dataset,
    features: FeatureSet | None = None,
    recipe: Recipe | None = None,
    network: str = resnet.DEFAULT,
    class_weight: str | None = None,
    **more: Any,
) -> Result:
    """Train a linear layer on frozen features, or load the run that did.

    Without a recipe it is `default_recipe`; `more` are the other fields of `LinearProbe`.
    """
    features, recipe = features or FeatureSet(), _shorten(recipe or default_recipe(data))
    inputs = _inputs(data, network, class_weight, **more)
    config = LinearProbe(**inputs, features=features, recipe=recipe)
    return read_result(obtain(_linear_probe, config, data), data.classes)


def optimality_check(
    data: Dataset, features: FeatureSet, recipe: Recipe, **more: Any
) -> OptimalityGap:
    """Compare the layer that a recipe ends with to scikit-learn's optimum; see `optimality_gap`."""
    config = LinearProbe(**_inputs(data, **more), features=features, recipe=_shorten(recipe))
    run = obtain(_optimality_check, config, data)
    return OptimalityGap(run["reached"], run["optimum"], run["agreement"])


def batchnorm_mistake(
    data: Dataset, size: int, recipe: Recipe, first: int | None = None, **more: Any
) -> Result:
    """Read features with BatchNorm left in train mode, or load the run that did."""
    inputs = _inputs(data, first=first, **more)
    config = BatchNormMistake(**inputs, size=size, recipe=_shorten(recipe))
    return read_result(obtain(_batchnorm_mistake, config, data), data.classes)


def label_audit(data: Dataset, results: Sequence[Result]) -> Run:
    """Count what the evidence about test labels says of some models; see `labels.audit`.

    The run holds for each model the counts in the order of `labels.AUDITED`, int64 [models, 5, 2],
    and the images whose label is rejected: images [R], others [R], votes [R, 4].
    """
    made_from = tuple(f"{result.run.name} {result.run.checksum[:16]}" for result in results)
    config = LabelAudit(data=data.fingerprint, runs=made_from)
    return obtain(_label_audit, config, [result.predictions["test"] for result in results])


def finetune(
    data: Dataset,
    plan: Plan | None = None,
    first: int | None = None,
    final: bool = False,
    network: str = resnet.DEFAULT,
    class_weight: str | None = None,
) -> Result:
    """Train the network on images, or load the run that did; see `Finetune`.

    Without a plan it is `default_plan`.
    """
    plan = plan or default_plan(data)
    plan = replace(plan, recipe=_shorten(plan.recipe, most=3 if final else 1))
    if settings.mode() is Mode.SAMPLE and not final:
        first = min(first or SAMPLE_TRIAL, SAMPLE_TRIAL)
    inputs = _inputs(data, network, class_weight, first=first)
    config = Finetune(**inputs, plan=plan, final=final)
    run = obtain(_finetune, config, data)
    if run.checksum:  # now that the run is kept its checkpoint is no longer needed
        _checkpoint(config).unlink(missing_ok=True)
    return read_result(run, data.classes)


def default_recipe(data: Dataset) -> Recipe:
    """Return a recipe for a linear layer on the features of any images."""
    batch = _batch(data, most=500)
    return Recipe(60, batch, lr=0.05, warmup=0.1, weight_decay=0.008, choose_best=False)


def default_plan(data: Dataset) -> Plan:
    """Return a plan for any images: few take smaller batches, smaller steps and more epochs."""
    batch, stored = _batch(data, most=128), data.train.images.shape[-1]
    epochs = min(40, max(10, 300 * batch // len(data.train)))
    lr = 0.01 * batch / 128
    recipe = Recipe(epochs, batch, lr, head_lr=0.02, smoothing=0.1, choose_best=False)
    return Plan(recipe, sizes=(max(128, min(stored, 224)),), max_shift=stored // 8)


def _batch(data: Dataset, most: int) -> int:
    return min(most, max(16, len(data.train) // 20))  # of few images an epoch has some steps, too


def _inputs(
    data: Dataset, network: str = resnet.DEFAULT, class_weight: str | None = None, **more: Any
) -> dict[str, Any]:
    """Name what goes in; the official weights are asked for without being there."""
    if class_weight not in (None, "balanced"):
        raise AssignmentError(f'class_weight is {class_weight!r}; choose "balanced" or None.')
    official = resnet.checkpoint(network)
    named = resnet.weights_from_environment()
    checksum = official.sha256 if named is None else sha256(named)
    return {
        "data": data.fingerprint,
        "weights": resnet.WEIGHTS if checksum.startswith(official.sha256) else checksum,
        "network": network,
        "class_weight": class_weight,
        **more,
    }


def _shorten(recipe: Recipe, most: int = 3) -> Recipe:
    """Return the recipe asked for; in sample mode one of few epochs, for a thousand images."""
    if settings.mode() is not Mode.SAMPLE:
        return recipe
    return replace(recipe, epochs=min(recipe.epochs, most), batch=min(recipe.batch, 64))


# --- the experiments ------------------------------------------------------------------------------


def _linear_probe(config: LinearProbe, data: Dataset) -> Outcome:
    backbone = resnet.load_pretrained(config.network)
    with _probe_bar(config, data):
        splits = _features(config, data, backbone)
        layer = SoftmaxRegression(splits["train"].images, len(data.classes))
        outcome = train_and_evaluate(
            config, data, backbone, layer, splits, config.recipe, _unchanged
        )
    if not config.final:
        return outcome
    # The features may have come from the cache: what they cost is measured anew.
    learned_from = len(splits["train"]) + len(splits["validation"])
    ways = config.features.all_inputs()
    each = sum(seconds_per_image(backbone, way, learned_from) for way in ways)
    seconds = each * learned_from
    cost = {"extraction seconds": round(seconds, 1), "inputs per second": round(1 / each, 1)}
    learned = {name: value.cpu().numpy() for name, value in layer.state_dict().items()}
    return Outcome({**outcome.arrays, **learned}, {**outcome.facts, **cost})


def _optimality_check(config: LinearProbe, data: Dataset) -> Outcome:
    backbone = resnet.load_pretrained(config.network)
    with _probe_bar(config, data):
        train, validation = _features(config, data, backbone).values()
        layer = SoftmaxRegression(train.images, len(data.classes))
        training.train(layer, train, validation, config.recipe, _unchanged)
    gap = optimality_gap(layer, train, validation, config.recipe.weight_decay)
    return Outcome(asdict(gap), {"weights": asdict(backbone.source)})


def _batchnorm_mistake(config: BatchNormMistake, data: Dataset) -> Outcome:
    # No weight changes, but each image is normalised by the batch that it happens to be in, and the
    # running statistics drift meanwhile; validation then uses what they have become.
    backbone = resnet.load_pretrained(config.network)
    network = copy.deepcopy(backbone.network)
    inputs = Preprocessing(size_for_mode(config.size))
    splits = {}
    for name, split in splits_for(data, config.first).items():
        network.train(name == "train")
        found = extract_features(network, split.images, inputs, config.batch)
        splits[name] = Split(found["layer4"], split.labels).to(settings.device())
    layer = SoftmaxRegression(splits["train"].images, len(data.classes))
    return train_and_evaluate(config, data, backbone, layer, splits, config.recipe, _unchanged)


def _finetune(config: Finetune, data: Dataset) -> Outcome:
    plan, backbone = config.plan, resnet.load_pretrained(config.network)
    network = resnet.build_classifier(
        backbone, len(data.classes), plan.trainable, plan.pretrained, plan.recipe.seed
    )
    network = resnet.to_device(network, settings.device())
    splits = splits_for(data, config.first, config.final)
    checkpoint = None if settings.mode() is Mode.SAMPLE else _checkpoint(config)
    others = {size: replace(plan, eval_size=size).transform for size in plan.also_at}
    with progress.bar("finetuning", plan.cost(*map(len, splits.values()))):
        return train_and_evaluate(
            config, data, backbone, network, splits, plan.recipe, plan.transform, checkpoint, others
        )


def _label_audit(config: LabelAudit, models: Sequence[Predictions]) -> Outcome:
    evidence = labels.load()
    rejected = torch.isin(evidence.images, evidence.rejected)
    counts = [list(labels.audit(found, evidence).values()) for found in models]
    told = {name: getattr(evidence, name)[rejected] for name in ("images", "others", "votes")}
    return Outcome({"counts": counts, **told})


def splits_for(data: Dataset, first: int | None = None, final: bool = False) -> dict[str, Split]:
    """Return what a run may see, on the device: the test images only when the recipe is final."""
    train = Split(data.train.images[:first], data.train.labels[:first])
    splits = {"train": train, "validation": data.validation}
    if final:
        splits["test"] = data.test
    return {name: split.to(settings.device()) for name, split in splits.items()}


def train_and_evaluate(
    config: Experiment,
    data: Dataset,
    backbone: Backbone,
    model: nn.Module,
    splits: Mapping[str, Split],
    recipe: Recipe,
    transform: training.Transform,
    checkpoint: Path | None = None,
    others: Mapping[int, training.Transform] | None = None,
) -> Outcome:
    """Train, then evaluate once: the outcome of either way.

    With `others` the validation images are also evaluated as these transforms prepare them.
    """
    train, final, balance = splits["train"], "test" in splits, None
    if config.class_weight:
        balance = training.balanced_weights(train.labels, len(data.classes))
    trained = training.train(
        model, train, splits["validation"], recipe, transform, checkpoint, balance
    )
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    arrays: dict[str, Any] = {"history": np.array(trained.history)}
    facts: dict[str, Any] = {
        "best epoch": trained.best + 1,
        "training seconds": round(trained.seconds[-1], 1),
        "seconds by epoch": [round(seconds, 1) for seconds in trained.seconds],
        "inputs per second": round(trained.throughput, 1),
        "trainable parameters": sum(parameter.numel() for parameter in learned),
        "test evaluations": int(final),
        "precision": str(settings.precision(settings.device())).removeprefix("torch."),
        "weights": asdict(backbone.source),
    }
    ways = dict.fromkeys(splits if final else ["validation"], transform)
    ways |= {f"validation at {size} px": other for size, other in (others or {}).items()}
    for name, way in ways.items():
        split = splits[name.split()[0]]
        logits = training.predict_logits(model, split.images, way)
        found = Predictions(logits, split.labels.cpu())
        facts[name] = {each: getattr(found, each) for each in MEASURES}
        arrays[f"{name} confusion"] = found.confusion
        if final and name in ("validation", "test"):
            arrays[f"{name} logits"] = logits.numpy()
            smallest = np.min_scalar_type(logits.shape[1] - 1)  # uint8 up to 256 classes
            arrays[f"{name} labels"] = found.labels.numpy().astype(smallest)
            if split.images.ndim == 4:
                mirrored = training.predict_logits(model, split.images.flip(3), way)
                arrays[f"{name} mirrored logits"] = ((logits + mirrored) / 2).numpy()
    return Outcome(arrays, facts)


def read_result(run: Run, classes: tuple[str, ...] = ()) -> Result:
    """Put a run's logits beside the labels of the images."""
    arrays = run.arrays
    predictions = {
        key.removesuffix(" logits"): Predictions(
            torch.from_numpy(logits), torch.from_numpy(arrays[f"{key.split()[0]} labels"]).long()
        )
        for key, logits in arrays.items()
        if key.endswith(" logits")
    }
    return Result(run, predictions, classes)


def _probe_bar(config: LinearProbe, data: Dataset) -> AbstractContextManager[None]:
    images = sum(map(len, splits_for(data, config.first, config.final).values()))
    layer = resnet.forward_cost((3 * config.recipe.epochs * images, 1))
    return progress.bar("linear probe", config.features.cost(images) + layer)


def _features(config: LinearProbe, data: Dataset, backbone: Backbone) -> dict[str, Split]:
    found = {
        name: Split(config.features.compute(backbone, split.images), split.labels.cpu())
        for name, split in splits_for(data, config.first, config.final).items()
    }
    if config.split:  # the features of all training images, divided anew
        both = found["train"], found["validation"]
        features = torch.cat([split.images for split in both])
        truth = torch.cat([split.labels for split in both])
        held = validation_mask(truth, config.split)
        found["train"] = Split(features[~held], truth[~held])
        found["validation"] = Split(features[held], truth[held])
    return {name: split.to(settings.device()) for name, split in found.items()}


def _unchanged(inputs: Tensor, generator: torch.Generator | None, epoch: int) -> Tensor:
    return inputs


def _checkpoint(config: Finetune) -> Path:
    return runs.runs_folder() / f"{runs.request(_finetune, config).name}.pt"


# --- tables ---------------------------------------------------------------------------------------


def accuracy_table(results: Mapping[str, Sequence[Result]], caption: str) -> Table:
    """Tabulate accuracy and loss on all three splits, the mean of each model's seeds."""
    rows = []
    for name, seeds in results.items():
        accuracies = [f"{mean_accuracy(seeds, s):.2%}{_deviation(seeds, s)}" for s in SPLITS]
        losses = [[result.loss(split) for result in seeds] for split in SPLITS]
        apart = [f" ± {np.std(each, ddof=1):.3f}" if len(each) > 1 else "" for each in losses]
        told = zip(accuracies, losses, apart, strict=True)
        rows.append((name, *(f"{a} ({np.mean(each):.3f}{sd})" for a, each, sd in told)))
    return Table(pd.DataFrame(rows, columns=["model", *SPLITS]), caption)


def comparison_table(results: Mapping[str, Sequence[Result]], caption: str) -> Table:
    """Tabulate what finished models reach on the test set and what they cost, means over seeds."""
    rows = []
    for name, seeds in results.items():
        facts = seeds[0].facts
        low, high = wilson_interval(mean_accuracy(seeds), len(seeds[0].predictions["test"].labels))
        throughput = [each.facts["inputs per second"] for each in seeds]
        minutes = np.mean([total_seconds(each) for each in seeds]) / 60
        mirrored = [m.accuracy("test mirrored") for m in seeds if "test mirrored" in m.predictions]
        rows.append({
            "model": name,
            "test accuracy": f"{mean_accuracy(seeds):.2%}{spread(seeds)}",
            "95 % interval": f"{low:.2%} to {high:.2%}",
            "with mirror averaging": f"{np.mean(mirrored):.2%}" if mirrored else "-",
            "training time, features included": f"{minutes:.0f} min",
            "trainable parameters": f"{facts['trainable parameters']:,}",
            "images per second, read or trained on": f"{np.mean(throughput):.0f}",
            "computed on": "; ".join(dict.fromkeys(map(computed_on, seeds))),
        })  # fmt: skip
    return Table(pd.DataFrame(rows), caption)


def trials_table(trials: Mapping[str, Sequence[Result]], what: str, caption: str) -> Table:
    """Tabulate what was tried with what came out on the validation images, means over seeds."""
    rows = [
        {
            what: name,
            "validation accuracy": f"{mean_accuracy(seeds, 'validation'):.2%}",
            "of each seed": ", ".join(f"{result.accuracy():.2%}" for result in seeds),
            "validation loss": f"{np.mean([result.loss() for result in seeds]):.3f}",
            "accuracy after epoch 1": f"{np.mean([result.history[0, 3] for result in seeds]):.1%}",
            "parameters": f"{seeds[0].facts['trainable parameters']:,}",
        }
        for name, seeds in trials.items()
    ]
    frame = pd.DataFrame(rows)
    if all(len(seeds) == 1 for seeds in trials.values()):
        frame = frame.drop(columns="of each seed")
    if len(set(frame["parameters"])) == 1:
        frame = frame.drop(columns="parameters")
    return Table(frame, caption)


def computed_on(result: Result) -> str:
    """Write on what a model was trained."""
    return ", ".join(result.facts[key] for key in ("device", "processor", "precision"))


def mean_accuracy(seeds: Sequence[Result], split: str = "test") -> float:
    """Return the mean accuracy of the same recipe with several seeds."""
    return float(np.mean([result.accuracy(split) for result in seeds]))


def total_seconds(result: Result) -> float:
    """Return what a finished model took: the extraction of its features counts."""
    return float(result.facts["training seconds"] + result.facts.get("extraction seconds", 0.0))


def spread(seeds: Sequence[Result]) -> str:
    """Write the standard deviation over seeds, in points; nothing where there is one seed."""
    return f"{_deviation(seeds, 'test')} ({len(seeds)} seeds)" if len(seeds) > 1 else ""


def _deviation(seeds: Sequence[Result], split: str) -> str:
    accuracies = [result.accuracy(split) for result in seeds]
    return f" ± {100 * np.std(accuracies, ddof=1):.2f}" if len(seeds) > 1 else ""


def minutes_to(accuracy: float, seeds: Sequence[Result]) -> str:
    """Write after how many minutes of training seeds reach a validation accuracy, the mean."""
    reached = [
        result.facts["seconds by epoch"][epochs[0]] / 60
        for result in seeds
        if len(epochs := np.flatnonzero(result.history[:, 3] >= accuracy))
    ]
    took = f"after {np.mean(reached):.0f} min" if reached else "never"
    some = "" if len(reached) in (0, len(seeds)) else f" (in {len(reached)} of {len(seeds)} seeds)"
    return f"{accuracy:.0%} {took}{some}"
