"""The first way: the network stays as it is, and a linear layer learns from its features.

Every function takes its choices as small configs and asks `records` for a run that made the same.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial

import numpy as np
import torch
from torch import Tensor

from assignment.common import records, runtime
from assignment.common.records import Outcome
from assignment.images import features, resnet, training
from assignment.images.cifar10 import Cifar10, Split, validation_mask
from assignment.images.features import View, size_here
from assignment.images.linear import Certificate, Reading, SoftmaxRegression, certificate
from assignment.images.recipe import Recipe
from assignment.images.transfer import Answer, answered, identity, learned, quick, seen


def head(
    name: str,
    data: Cifar10,
    reading: Reading,
    recipe: Recipe,
    first: int | None = None,
    final: bool = False,
) -> Answer:
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
        Whether the recipe is finished: only then the test set is asked, once, and what was said
        about every image is kept.
    """
    recipe = quick(recipe)

    def run() -> Outcome:
        backbone = resnet.load()
        splits = _read(backbone, reading, seen(data, first, final))
        model = SoftmaxRegression(splits["train"].images).to(runtime.device())
        outcome = learned(model, splits, recipe, _as_they_are, backbone, final)
        # The features may have come from the cache: what they cost is measured anew.
        pace = sum(features.pace(backbone, view) for view in reading.all_views()) if final else 0.0
        extraction = pace * (len(splits["train"]) + len(splits["validation"]))
        cost = {"extraction seconds": round(extraction, 1)}
        return Outcome(outcome.arrays, {**outcome.facts, **cost})

    config = identity(data, first, final) | {"reading": asdict(reading), "recipe": asdict(recipe)}
    wait = partial(_waiting, reading, data, recipe, first, final)
    return answered(records.run_or_load(name, config, run, wait, quiet=True), data)


def sweep(name: str, data: Cifar10, reading: Reading, recipes: Sequence[Recipe]) -> list[float]:
    """Return the validation accuracy of a linear layer for each of several recipes."""
    recipes = [quick(recipe) for recipe in recipes]

    def run() -> Outcome:
        backbone = resnet.load()
        splits = _read(backbone, reading, seen(data, None, False))
        accuracies = [_head(splits, recipe)[1] for recipe in recipes]
        return Outcome({"accuracy": np.array(accuracies)}, {"weights": asdict(backbone.source)})

    config = identity(data, None, False)
    config |= {"reading": asdict(reading), "recipes": [asdict(recipe) for recipe in recipes]}
    wait = partial(_waiting, reading, data, recipes[0], layers=len(recipes))
    found = records.run_or_load(name, config, run, wait, quiet=True)
    return [float(accuracy) for accuracy in found.arrays["accuracy"]]


def over_splits(
    name: str, data: Cifar10, reading: Reading, recipe: Recipe, count: int = 5
) -> list[float]:
    """Return the validation accuracy on each of several ways to split the training images."""
    recipe = quick(recipe)

    def run() -> Outcome:
        backbone = resnet.load()
        read = _read(backbone, reading, seen(data, None, False))
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

    config = identity(data, None, False)
    config |= {"reading": asdict(reading), "recipe": asdict(recipe), "splits": count}
    wait = partial(_waiting, reading, data, recipe, layers=count)
    found = records.run_or_load(name, config, run, wait, quiet=True)
    return [float(accuracy) for accuracy in found.arrays["accuracy"]]


def certified(name: str, data: Cifar10, reading: Reading, recipe: Recipe) -> Certificate:
    """Hold the layer that a recipe ends with against scikit-learn's optimum; see `certificate`."""
    recipe = quick(recipe)

    def run() -> Outcome:
        backbone = resnet.load()
        splits = _read(backbone, reading, seen(data, None, False))
        layer, _ = _head(splits, recipe)
        found = certificate(layer, splits["train"], splits["validation"], recipe.weight_decay)
        numbers = {name: np.array(value) for name, value in asdict(found).items()}
        return Outcome(numbers, {"weights": asdict(backbone.source)})

    config = identity(data, None, False)
    config |= {"reading": asdict(reading), "recipe": asdict(recipe), "certificate": True}
    wait = partial(_waiting, reading, data, recipe)
    found = records.run_or_load(name, config, run, wait, quiet=True)
    return Certificate(**{name: value.item() for name, value in found.arrays.items()})


def _read(
    backbone: resnet.Backbone, reading: Reading, splits: Mapping[str, Split]
) -> dict[str, Split]:
    """Put the features of images in their place."""
    return {
        name: Split(reading.read(backbone, split.images), split.labels).to(runtime.device())
        for name, split in splits.items()
    }


def _head(splits: Mapping[str, Split], recipe: Recipe) -> tuple[SoftmaxRegression, float]:
    """Train a linear layer; return it as the recipe keeps it, and its validation accuracy."""
    layer = SoftmaxRegression(splits["train"].images).to(runtime.device())
    fit = training.fit(layer, splits["train"], splits["validation"], recipe, _as_they_are)
    return layer, fit.history[fit.best].validation_accuracy


def _waiting(
    reading: Reading,
    data: Cifar10,
    recipe: Recipe,
    first: int | None = None,
    final: bool = False,
    layers: int = 1,
) -> float:
    """Estimate the time for features that are not cached yet, and for linear layers on them."""
    backbone, splits = resnet.load(), seen(data, first, final)
    images = [split.images for split in splits.values()]
    extraction = sum(features.seconds(backbone, images, view) for view in reading.all_views())
    one = features.extract(backbone.network, images[0][:1], View(32))
    blank = torch.zeros(
        1, sum(one[stage].shape[1] for stage in reading.stages) * len(reading.sizes)
    )
    layer = SoftmaxRegression(torch.cat([blank, blank])).to(runtime.device())
    labels = splits["train"].labels
    train = Split(blank.to(labels.device).expand(len(labels), -1), labels)
    return extraction + layers * training.seconds(layer, train, recipe, _as_they_are)


def _as_they_are(inputs: Tensor, _: training.Moment | None) -> Tensor:
    return inputs


def in_name_only(
    name: str,
    data: Cifar10,
    size: int,
    recipe: Recipe,
    first: int | None = None,
    batch: int = 128,
) -> Answer:
    """Make the mistake of leaving BatchNorm in train mode while the features are read.

    No weight changes, but each image is normalised by the batch that it happens to be in, and the
    running statistics drift meanwhile; validation then uses what they have become.
    """
    recipe = quick(recipe)

    def run() -> Outcome:
        backbone = resnet.load()
        network, view = copy.deepcopy(backbone.network), View(size_here(size))
        splits = {}
        for split, shown in seen(data, first, False).items():
            network.train(split == "train")
            found = features.extract(network, shown.images, view, batch)
            splits[split] = Split(found["layer4"], shown.labels.cpu()).to(runtime.device())
        model = SoftmaxRegression(splits["train"].images).to(runtime.device())
        return learned(model, splits, recipe, _as_they_are, backbone, False)

    config = identity(data, first, False)
    config |= {"train mode": [size, batch], "recipe": asdict(recipe)}

    def wait() -> float:
        images = sum(map(len, seen(data, first, False).values()))
        return images * features.pace(resnet.load(), View(size_here(size)))

    return answered(records.run_or_load(name, config, run, wait, quiet=True), data)
