"""The two ways from ImageNet to CIFAR-10: a linear layer on frozen features, or finetuning.

Each takes its choices as a small config, asks `records` for a run that made the same choices, and
hands back the same kind of answer, so that the notebook can compare the two line by line.
"""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assignment import features, pixels, records, resnet, runtime, training
from assignment.cifar10 import Cifar10, Split
from assignment.features import View, size_here
from assignment.linear import Reading, SoftmaxRegression
from assignment.predictions import Predictions
from assignment.recipe import Recipe
from assignment.records import Outcome, Record
from assignment.runtime import Mode

HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Answer:
    """A trained model's record, and what it said about the images that it did not learn from.

    Attributes
    ----------
    record : Record
    said : mapping of str to Predictions
        ``"validation"`` and, where the test set was asked, ``"test"``; with ``" mirrored"``
        behind, the mean of what was said about an image and its mirror image.
    """

    record: Record
    said: Mapping[str, Predictions]

    @property
    def history(self) -> np.ndarray:
        """One row per epoch, with the fields of `training.Epoch`, float64 [epochs, 4]."""
        return self.record.arrays["history"]


# --- frozen features ------------------------------------------------------------------------------


def frozen_head(
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
    recipe = _quick(recipe)

    def run() -> Outcome:
        backbone = resnet.load()
        splits = {
            split: Split(reading.read(backbone, shown.images), shown.labels).to(runtime.device())
            for split, shown in _splits(data, first, final).items()
        }
        model = SoftmaxRegression(splits["train"].images).to(runtime.device())
        return _learned(model, splits, recipe, _as_they_are, backbone, final)

    def estimate() -> float:
        backbone, splits = resnet.load(), _splits(data, first, final).values()
        return sum(
            features.seconds(backbone, [split.images for split in splits], view)
            for size in reading.sizes
            for view in reading.views(size)
        )

    config = _config(data, first, final) | {"reading": asdict(reading), "recipe": asdict(recipe)}
    return _answer(records.run_or_load(name, config, run, estimate, quiet=True), data)


def _as_they_are(inputs: Tensor, _: torch.Generator | None) -> Tensor:
    return inputs


def frozen_in_name_only(
    name: str, data: Cifar10, size: int, recipe: Recipe, first: int | None = None
) -> Answer:
    """Make the mistake of leaving BatchNorm in train mode while the features are read.

    No weight changes, but each image is normalised by the batch that it happens to be in, and the
    running statistics drift meanwhile; validation then uses what they have become.
    """
    recipe = _quick(recipe)

    def run() -> Outcome:
        backbone = resnet.load()
        network, view = copy.deepcopy(backbone.network), View(size_here(size))
        splits = {}
        for split, shown in _splits(data, first, False).items():
            network.train(split == "train")
            found = features.extract(network, shown.images, view, batch=recipe.batch)
            splits[split] = Split(found["layer4"], shown.labels.cpu()).to(runtime.device())
        model = SoftmaxRegression(splits["train"].images).to(runtime.device())
        return _learned(model, splits, recipe, _as_they_are, backbone, False)

    config = _config(data, first, False) | {"train mode": size, "recipe": asdict(recipe)}
    return _answer(records.run_or_load(name, config, run, quiet=True), data)


# --- finetuning -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How a network is trained on the images themselves.

    Attributes
    ----------
    recipe : Recipe
    size : int
        Pixels a side.
    trained : str
        The first part that learns, see `resnet.classifier`.
    pretrained : bool
    shift : int
        How far, in stored pixels, an image is moved at most before it is enlarged.
    """

    recipe: Recipe
    size: int = 64
    trained: str = "all"
    pretrained: bool = True
    shift: int = 4

    def look(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """uint8 [N, 3, 32, 32] to network input, mirrored and shifted while training."""
        small = pixels.scale(images)
        if generator is not None:
            small = pixels.augment(small, generator, self.shift)
        shown = pixels.resize(pixels.normalise(small), size_here(self.size))
        return resnet.laid_out(shown, shown.device)


def finetune(
    name: str, data: Cifar10, plan: Plan, first: int | None = None, final: bool = False
) -> Answer:
    """Train the network on images, or load the run that did; parameters as in `frozen_head`."""
    plan = replace(plan, recipe=_quick(plan.recipe))
    config = _config(data, first, final) | {"plan": asdict(plan)}

    def network(backbone: resnet.Backbone) -> nn.Module:
        made = resnet.classifier(
            backbone, len(data.classes), plan.trained, plan.pretrained, plan.recipe.seed
        )
        return resnet.placed(made, runtime.device())

    def run() -> Outcome:
        backbone = resnet.load()
        splits = _splits(data, first, final)
        checkpoint = None
        if runtime.mode() is not Mode.SAMPLE:
            known = json.dumps([config, backbone.source.sha256], sort_keys=True).encode()
            checkpoint = (
                records.runs_folder() / f"{name}-{hashlib.sha256(known).hexdigest()[:16]}.pt"
            )
        return _learned(
            network(backbone), splits, plan.recipe, plan.look, backbone, final, checkpoint
        )

    def estimate() -> float:
        train = _splits(data, first, final)["train"]
        return training.seconds(network(resnet.load()), train, plan.recipe, plan.look)

    return _answer(records.run_or_load(name, config, run, estimate, quiet=True), data)


# --- what both do ---------------------------------------------------------------------------------


def _splits(data: Cifar10, first: int | None, final: bool) -> dict[str, Split]:
    """Return what a run may see, on the device: the test images only when the recipe is final."""
    train = Split(data.train.images[:first], data.train.labels[:first])
    splits = {"train": train, "validation": data.validation}
    if final:
        splits["test"] = data.test
    return {name: split.to(runtime.device()) for name, split in splits.items()}


def _learned(
    model: nn.Module,
    splits: Mapping[str, Split],
    recipe: Recipe,
    look: training.Look,
    backbone: resnet.Backbone,
    final: bool,
    checkpoint: Path | None = None,
) -> Outcome:
    """Train, then ask once: the outcome of either way."""
    fit = training.fit(model, splits["train"], splits["validation"], recipe, look, checkpoint)
    arrays = {"history": np.array([list(asdict(epoch).values()) for epoch in fit.history])}
    learned = [p for p in model.parameters() if p.requires_grad]
    facts: dict[str, Any] = {
        "best epoch": fit.best + 1,
        "training seconds": round(fit.seconds, 1),
        "inputs per second": round(fit.throughput, 1),
        "trainable parameters": sum(parameter.numel() for parameter in learned),
        "test evaluations": int(final),
        "weights": asdict(backbone.source),
    }
    for name, split in splits.items():
        if name == "train" and not final:
            continue
        logits = training.logits(fit.model, split.images, look)
        said = Predictions(logits, split.labels.cpu())
        facts[name] = {"accuracy": said.accuracy, "loss": said.loss}
        if name in HELD_OUT and final:
            arrays[f"{name} logits"] = logits.numpy()
            if split.images.ndim == 4:
                turned = training.logits(fit.model, split.images.flip(3), look)
                arrays[f"{name} mirrored logits"] = ((logits + turned) / 2).numpy()
    if final and isinstance(fit.model, SoftmaxRegression):
        arrays |= {n: value.cpu().numpy() for n, value in fit.model.state_dict().items()}
    return Outcome(arrays, facts)


def _answer(record: Record, data: Cifar10) -> Answer:
    labels = {"validation": data.validation.labels, "test": data.test.labels}
    said = {
        key.removesuffix(" logits"): Predictions(torch.from_numpy(logits), labels[key.split()[0]])
        for key, logits in record.arrays.items()
        if key.endswith(" logits")
    }
    return Answer(record, said)


def _config(data: Cifar10, first: int | None, final: bool) -> dict[str, Any]:
    held_back = hashlib.sha256(data.validation.images.cpu().numpy().tobytes()).hexdigest()
    return {"data": data.source.sha256, "validation": held_back, "first": first, "final": final}


def _quick(recipe: Recipe) -> Recipe:
    """Return the recipe asked for; in sample mode a short one, for a thousand images."""
    if runtime.mode() is not Mode.SAMPLE:
        return recipe
    return replace(recipe, epochs=min(recipe.epochs, 3), batch=min(recipe.batch, 64))
