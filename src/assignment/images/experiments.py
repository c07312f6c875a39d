"""The two ways from ImageNet to CIFAR-10: a linear layer on frozen features, and finetuning.

Both are trained by the same loop and leave the same kind of result, so that the notebook can
compare them line by line. Every function takes its choices as small configs.
"""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assignment.common import runs, settings
from assignment.common.files import Source
from assignment.common.runs import Outcome, Record
from assignment.common.settings import Mode
from assignment.images import features, pixels, resnet, training
from assignment.images.cifar10 import Cifar10, Split, validation_mask
from assignment.images.features import Preprocessing, size_for_mode
from assignment.images.linear import FeatureSet, OptimalityGap, SoftmaxRegression, optimality_gap
from assignment.images.predictions import Predictions
from assignment.images.resnet import Backbone
from assignment.images.training import Recipe

HELD_OUT = ("validation", "test")
HEADLINE = "cifar_frozen"  # the record whose weights a page names first


@dataclass(frozen=True)
class Result:
    """A trained model's record, and what it predicts for the images that it did not learn from.

    Attributes
    ----------
    record : Record
    predictions : mapping of str to Predictions
        ``"validation"`` and, where the test set was asked, ``"test"``; with ``" mirrored"``
        behind, the mean of the logits for an image and its mirror image.
    """

    record: Record
    predictions: Mapping[str, Predictions]

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the record says in words and single numbers."""
        return self.record.facts

    @property
    def history(self) -> np.ndarray:
        """One row per epoch, with the fields of `training.EpochMetrics`, float64 [epochs, 4]."""
        return self.record.arrays["history"]


def weights() -> Source:
    """Say which pretrained weights the results that are shown came from."""
    kept = runs.read_record(runs.RECORDS, HEADLINE) if settings.mode() is Mode.RECORDED else None
    return Source(**kept.facts["weights"]) if kept else resnet.expected_weights()


def splits_for(data: Cifar10, first: int | None, final: bool) -> dict[str, Split]:
    """Return what a run may see, on the device: the test images only when the recipe is final."""
    train = Split(data.train.images[:first], data.train.labels[:first])
    splits = {"train": train, "validation": data.validation}
    if final:
        splits["test"] = data.test
    return {name: split.to(settings.device()) for name, split in splits.items()}


def train_and_evaluate(
    model: nn.Module,
    splits: Mapping[str, Split],
    recipe: Recipe,
    look: training.Transform,
    backbone: Backbone,
    final: bool,
    checkpoint: Path | None = None,
) -> Outcome:
    """Train, then ask once: the outcome of either way."""
    fit = training.train(model, splits["train"], splits["validation"], recipe, look, checkpoint)
    arrays = {"history": np.array([list(asdict(epoch).values()) for epoch in fit.history])}
    learned = [p for p in model.parameters() if p.requires_grad]
    facts: dict[str, Any] = {
        "best epoch": fit.best + 1,
        "training seconds": round(fit.seconds, 1),
        "inputs per second": round(fit.throughput, 1),
        "trainable parameters": sum(parameter.numel() for parameter in learned),
        "test evaluations": int(final),
        "precision": str(settings.precision(settings.device())).removeprefix("torch."),
        "weights": asdict(backbone.source),
    }
    for name, split in splits.items():
        if name == "train" and not final:
            continue
        logits = training.predict_logits(fit.model, split.images, look)
        predictions = Predictions(logits, split.labels.cpu())
        facts[name] = {"accuracy": predictions.accuracy, "loss": predictions.loss}
        if name in HELD_OUT and final:
            arrays[f"{name} logits"] = logits.numpy()
            if split.images.ndim == 4:
                turned = training.predict_logits(fit.model, split.images.flip(3), look)
                arrays[f"{name} mirrored logits"] = ((logits + turned) / 2).numpy()
    if final and isinstance(fit.model, SoftmaxRegression):
        arrays |= {n: value.cpu().numpy() for n, value in fit.model.state_dict().items()}
    return Outcome(arrays, facts)


def read_result(record: Record, data: Cifar10) -> Result:
    """Put what a record says about images beside what they are."""
    labels = {"validation": data.validation.labels.cpu(), "test": data.test.labels.cpu()}
    predictions = {
        key.removesuffix(" logits"): Predictions(torch.from_numpy(logits), labels[key.split()[0]])
        for key, logits in record.arrays.items()
        if key.endswith(" logits")
    }
    return Result(record, predictions)


def data_key(data: Cifar10, first: int | None, final: bool) -> dict[str, Any]:
    """Name the images of a run: the part of its config that every run has."""
    held_back = hashlib.sha256(data.validation.images.cpu().numpy().tobytes()).hexdigest()
    return {"data": data.source.sha256, "validation": held_back, "first": first, "final": final}


def shorten_for_sample(recipe: Recipe, most: int = 3) -> Recipe:
    """Return the recipe asked for; in sample mode one of few epochs, for a thousand images."""
    if settings.mode() is not Mode.SAMPLE:
        return recipe
    return replace(recipe, epochs=min(recipe.epochs, most), batch=min(recipe.batch, 64))


def linear_probe(
    name: str,
    data: Cifar10,
    reading: FeatureSet,
    recipe: Recipe,
    first: int | None = None,
    final: bool = False,
) -> Result:
    """Train a linear layer on frozen features, or load the run that did.

    Parameters
    ----------
    name : str
        Of the record.
    data : Cifar10
    reading : Reading
    recipe : Recipe
    first : int, optional
        Learn from the first so many training images alone.
    final : bool
        Whether the recipe is finished: only then it is evaluated on the test set, once,
        and the logits of every image are kept.
    """
    recipe = shorten_for_sample(recipe)

    def run() -> Outcome:
        backbone = resnet.load_pretrained()
        splits = _read(backbone, reading, splits_for(data, first, final))
        model = SoftmaxRegression(splits["train"].images).to(settings.device())
        outcome = train_and_evaluate(model, splits, recipe, _as_they_are, backbone, final)
        # The features may have come from the cache: what they cost is measured anew.
        pace = (
            sum(features.seconds_per_image(backbone, view) for view in reading.all_views())
            if final
            else 0.0
        )
        extraction = pace * (len(splits["train"]) + len(splits["validation"]))
        cost = {"extraction seconds": round(extraction, 1)}
        return Outcome(outcome.arrays, {**outcome.facts, **cost})

    config = data_key(data, first, final) | {"reading": asdict(reading), "recipe": asdict(recipe)}
    wait = partial(_waiting, reading, data, recipe, first, final)
    return read_result(runs.run_or_load(name, config, run, wait, quiet=True), data)


def weight_decay_sweep(
    name: str, data: Cifar10, reading: FeatureSet, recipes: Sequence[Recipe]
) -> list[float]:
    """Return the validation accuracy of a linear layer for each of several recipes."""
    recipes = [shorten_for_sample(recipe) for recipe in recipes]

    def run() -> Outcome:
        backbone = resnet.load_pretrained()
        splits = _read(backbone, reading, splits_for(data, None, False))
        accuracies = [_head(splits, recipe)[1] for recipe in recipes]
        return Outcome({"accuracy": np.array(accuracies)}, {"weights": asdict(backbone.source)})

    config = data_key(data, None, False)
    config |= {"reading": asdict(reading), "recipes": [asdict(recipe) for recipe in recipes]}
    wait = partial(_waiting, reading, data, recipes[0], layers=len(recipes))
    found = runs.run_or_load(name, config, run, wait, quiet=True)
    return [float(accuracy) for accuracy in found.arrays["accuracy"]]


def accuracy_over_splits(
    name: str, data: Cifar10, reading: FeatureSet, recipe: Recipe, count: int = 5
) -> list[float]:
    """Return the validation accuracy on each of several ways to split the training images."""
    recipe = shorten_for_sample(recipe)

    def run() -> Outcome:
        backbone = resnet.load_pretrained()
        read = _read(backbone, reading, splits_for(data, None, False))
        images = torch.cat([read["train"].images, read["validation"].images])
        labels = torch.cat([read["train"].labels, read["validation"].labels])
        accuracies = []
        for seed in range(1, count + 1):
            held = validation_mask(labels.cpu(), seed).to(labels.device)
            resplit = {
                "train": Split(images[~held], labels[~held]),
                "validation": Split(images[held], labels[held]),
            }
            accuracies.append(_head(resplit, recipe)[1])
        return Outcome({"accuracy": np.array(accuracies)}, {"weights": asdict(backbone.source)})

    config = data_key(data, None, False)
    config |= {"reading": asdict(reading), "recipe": asdict(recipe), "splits": count}
    wait = partial(_waiting, reading, data, recipe, layers=count)
    found = runs.run_or_load(name, config, run, wait, quiet=True)
    return [float(accuracy) for accuracy in found.arrays["accuracy"]]


def check_optimality(
    name: str, data: Cifar10, reading: FeatureSet, recipe: Recipe
) -> OptimalityGap:
    """Hold the layer that a recipe ends with against scikit-learn's optimum; see `certificate`."""
    recipe = shorten_for_sample(recipe)

    def run() -> Outcome:
        backbone = resnet.load_pretrained()
        splits = _read(backbone, reading, splits_for(data, None, False))
        layer, _ = _head(splits, recipe)
        found = optimality_gap(layer, splits["train"], splits["validation"], recipe.weight_decay)
        numbers = {name: np.array(value) for name, value in asdict(found).items()}
        return Outcome(numbers, {"weights": asdict(backbone.source)})

    config = data_key(data, None, False)
    config |= {"reading": asdict(reading), "recipe": asdict(recipe), "certificate": True}
    wait = partial(_waiting, reading, data, recipe)
    found = runs.run_or_load(name, config, run, wait, quiet=True)
    return OptimalityGap(**{name: value.item() for name, value in found.arrays.items()})


def _read(
    backbone: resnet.Backbone, reading: FeatureSet, splits: Mapping[str, Split]
) -> dict[str, Split]:
    """Put the features of images in their place."""
    return {
        name: Split(reading.read(backbone, split.images), split.labels).to(settings.device())
        for name, split in splits.items()
    }


def _head(splits: Mapping[str, Split], recipe: Recipe) -> tuple[SoftmaxRegression, float]:
    """Train a linear layer; return it as the recipe keeps it, and its validation accuracy."""
    layer = SoftmaxRegression(splits["train"].images).to(settings.device())
    fit = training.train(layer, splits["train"], splits["validation"], recipe, _as_they_are)
    return layer, fit.history[fit.best].validation_accuracy


def _waiting(
    reading: FeatureSet,
    data: Cifar10,
    recipe: Recipe,
    first: int | None = None,
    final: bool = False,
    layers: int = 1,
) -> float:
    """Estimate the time for features that are not cached yet, and for linear layers on them."""
    backbone, splits = resnet.load_pretrained(), splits_for(data, first, final)
    images = [split.images for split in splits.values()]
    extraction = sum(
        features.estimate_seconds(backbone, images, view) for view in reading.all_views()
    )
    one = features.extract_features(backbone.network, images[0][:1], Preprocessing(32))
    blank = torch.zeros(
        1, sum(one[stage].shape[1] for stage in reading.stages) * len(reading.sizes)
    )
    layer = SoftmaxRegression(torch.cat([blank, blank])).to(settings.device())
    labels = splits["train"].labels
    train = Split(blank.to(labels.device).expand(len(labels), -1), labels)
    return extraction + layers * training.estimate_seconds(layer, train, recipe, _as_they_are)


def _as_they_are(inputs: Tensor, _: training.Moment | None) -> Tensor:
    return inputs


def batchnorm_mistake(
    name: str,
    data: Cifar10,
    size: int,
    recipe: Recipe,
    first: int | None = None,
    batch: int = 128,
) -> Result:
    """Make the mistake of leaving BatchNorm in train mode while the features are read.

    No weight changes, but each image is normalised by the batch that it happens to be in, and the
    running statistics drift meanwhile; validation then uses what they have become.
    """
    recipe = shorten_for_sample(recipe)

    def run() -> Outcome:
        backbone = resnet.load_pretrained()
        network, view = copy.deepcopy(backbone.network), Preprocessing(size_for_mode(size))
        splits = {}
        for split, shown in splits_for(data, first, False).items():
            network.train(split == "train")
            found = features.extract_features(network, shown.images, view, batch)
            splits[split] = Split(found["layer4"], shown.labels.cpu()).to(settings.device())
        model = SoftmaxRegression(splits["train"].images).to(settings.device())
        return train_and_evaluate(model, splits, recipe, _as_they_are, backbone, False)

    config = data_key(data, first, False)
    config |= {"train mode": [size, batch], "recipe": asdict(recipe)}

    def wait() -> float:
        images = sum(map(len, splits_for(data, first, False).values()))
        return images * features.seconds_per_image(
            resnet.load_pretrained(), Preprocessing(size_for_mode(size))
        )

    return read_result(runs.run_or_load(name, config, run, wait, quiet=True), data)


@dataclass(frozen=True)
class Plan:
    """How a network is trained on the images themselves.

    Attributes
    ----------
    recipe : Recipe
    sizes : tuple of int
        Pixels a side, epoch by epoch; the last one stays for the epochs that are left.
    judged : int, optional
        Pixels a side whenever the network is judged; the last of `sizes` where not given.
    trained : str
        The first part that learns, see `resnet.build_classifier`.
    pretrained : bool
    shift : int
        How far, in stored pixels, an image is moved at most before it is enlarged.
    """

    recipe: Recipe
    sizes: tuple[int, ...] = (64,)
    judged: int | None = None
    trained: str = "all"
    pretrained: bool = True
    shift: int = 4

    def look(self, images: Tensor, moment: training.Moment | None) -> Tensor:
        """uint8 [N, 3, 32, 32] to network input, mirrored and shifted while training."""
        small, size = pixels.to_float(images), self.judged or self.sizes[-1]
        if moment is not None:
            small = pixels.augment(small, moment.generator, self.shift)
            size = self.sizes[min(moment.epoch, len(self.sizes) - 1)]
        shown = pixels.resize(pixels.normalise(small), size_for_mode(size))
        return resnet.match_layout(shown, shown.device)


# For the impatient: about ten minutes on two cores of a laptop without bfloat16.
IMPATIENT = Plan(Recipe(epochs=2, lr=0.01, smoothing=0.1), sizes=(48,))


def finetune(
    name: str, data: Cifar10, plan: Plan, first: int | None = None, final: bool = False
) -> Result:
    """Train the network on images, or load the run that did; parameters as in `frozen.head`."""
    plan = replace(plan, recipe=shorten_for_sample(plan.recipe, most=3 if final else 1))
    config = data_key(data, first, final) | {"plan": asdict(plan)}

    def network(backbone: resnet.Backbone) -> nn.Module:
        made = resnet.build_classifier(
            backbone, len(data.classes), plan.trained, plan.pretrained, plan.recipe.seed
        )
        return resnet.to_device(made, settings.device())

    def run() -> Outcome:
        backbone = resnet.load_pretrained()
        splits = splits_for(data, first, final)
        checkpoint = None
        if settings.mode() is not Mode.SAMPLE:
            known = json.dumps([config, backbone.source.sha256], sort_keys=True).encode()
            checkpoint = runs.runs_folder() / f"{name}-{hashlib.sha256(known).hexdigest()[:16]}.pt"
        return train_and_evaluate(
            network(backbone), splits, plan.recipe, plan.look, backbone, final, checkpoint
        )

    def estimate() -> float:
        train = splits_for(data, first, final)["train"]
        return training.estimate_seconds(
            network(resnet.load_pretrained()), train, plan.recipe, plan.look
        )

    return read_result(runs.run_or_load(name, config, run, estimate, quiet=True), data)
