"""What the two ways from ImageNet to CIFAR-10 have in common: what a run may see, is, and leaves.

A linear layer on frozen features and a finetuned network are trained by the same loop and leave the
same kind of answer, so that the notebook can compare the two line by line.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from assignment.common import records, runtime
from assignment.common.records import Outcome, Record
from assignment.common.runtime import Mode, Source
from assignment.images import resnet, training
from assignment.images.cifar10 import Cifar10, Split
from assignment.images.linear import SoftmaxRegression
from assignment.images.predictions import Predictions
from assignment.images.recipe import Recipe
from assignment.images.resnet import Backbone

HELD_OUT = ("validation", "test")
HEADLINE = "cifar_frozen"  # the record whose weights a page names first


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
    def facts(self) -> Mapping[str, Any]:
        """What the record says in words and single numbers."""
        return self.record.facts

    @property
    def history(self) -> np.ndarray:
        """One row per epoch, with the fields of `training.Epoch`, float64 [epochs, 4]."""
        return self.record.arrays["history"]


def weights() -> Source:
    """Say which pretrained weights the results that are shown came from."""
    kept = records.load(records.KEPT, HEADLINE) if runtime.mode() is Mode.RECORDED else None
    return Source(**kept.facts["weights"]) if kept else resnet.expected_source()


def seen(data: Cifar10, first: int | None, final: bool) -> dict[str, Split]:
    """Return what a run may see, on the device: the test images only when the recipe is final."""
    train = Split(data.train.images[:first], data.train.labels[:first])
    splits = {"train": train, "validation": data.validation}
    if final:
        splits["test"] = data.test
    return {name: split.to(runtime.device()) for name, split in splits.items()}


def learned(
    model: nn.Module,
    splits: Mapping[str, Split],
    recipe: Recipe,
    look: training.Look,
    backbone: Backbone,
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
        "precision": str(runtime.precision(runtime.device())).removeprefix("torch."),
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


def answered(record: Record, data: Cifar10) -> Answer:
    """Put what a record says about images beside what they are."""
    labels = {"validation": data.validation.labels.cpu(), "test": data.test.labels.cpu()}
    said = {
        key.removesuffix(" logits"): Predictions(torch.from_numpy(logits), labels[key.split()[0]])
        for key, logits in record.arrays.items()
        if key.endswith(" logits")
    }
    return Answer(record, said)


def identity(data: Cifar10, first: int | None, final: bool) -> dict[str, Any]:
    """Name the images of a run: the part of its config that every run has."""
    held_back = hashlib.sha256(data.validation.images.cpu().numpy().tobytes()).hexdigest()
    return {"data": data.source.sha256, "validation": held_back, "first": first, "final": final}


def quick(recipe: Recipe, most: int = 3) -> Recipe:
    """Return the recipe asked for; in sample mode one of few epochs, for a thousand images."""
    if runtime.mode() is not Mode.SAMPLE:
        return recipe
    return replace(recipe, epochs=min(recipe.epochs, most), batch=min(recipe.batch, 64))
