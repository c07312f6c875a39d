"""What follows from logits: accuracy, confidence, rankings, significance and calibration.

Confidence is ranked by log-probability: probabilities that all print as 1.0000 have an order there.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import optimize, stats
from torch import Tensor
from torch.nn import functional

BINS = 15  # of equal width, by confidence


@dataclass(frozen=True, eq=False)
class Predictions:
    """Some images' logits and labels."""

    logits: Tensor  # float [N, C]
    labels: Tensor  # int64 [N]

    def __repr__(self) -> str:
        return f"Predictions({len(self.labels):,} images, accuracy {self.accuracy:.2%})"

    def __post_init__(self) -> None:
        rows, classes = self.logits.shape if self.logits.ndim == 2 else (0, 0)
        if not rows * classes or self.labels.shape != (rows,):
            raise ValueError(
                f"logits {list(self.logits.shape)} do not fit labels {list(self.labels.shape)}: "
                "expected one row of logits per label, and at least one"
            )
        labels = self.labels
        if labels.dtype != torch.int64 or not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(f"labels must be whole numbers (int64) from 0 to {classes - 1}")
        if not self.logits.isfinite().all():
            raise ValueError("some logits are not finite: the model has diverged")

    @cached_property
    def predicted(self) -> Tensor:
        """The most probable class, int64 [N]; of equals the first."""
        return self.logits.argmax(1)

    @cached_property
    def correct(self) -> Tensor:
        """Whether the predicted class is the label, bool [N]."""
        return self.predicted == self.labels

    @cached_property
    def log_confidence(self) -> Tensor:
        """Log-probability of the predicted class, float64 [N].

        Computed from the other classes: 1 - p keeps its digits where p has none to show.
        """
        gaps = self.logits.double() - self.logits.double().gather(1, self.predicted[:, None])
        others = gaps.exp().scatter(1, self.predicted[:, None], 0.0).sum(1)
        return -others.log1p()

    @property
    def accuracy(self) -> float:
        """Share of the images that are predicted correctly."""
        return self.correct.double().mean().item()

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in nats."""
        return functional.cross_entropy(self.logits.double(), self.labels).item()

    @cached_property
    def confusion(self) -> np.ndarray:
        """Counts by true class (rows) and predicted class, int64 [C, C]."""
        classes = self.logits.shape[1]
        cells = torch.bincount(self.labels * classes + self.predicted, minlength=classes**2)
        return cells.view(classes, classes).numpy()

    @property
    def class_accuracy(self) -> np.ndarray:
        """Accuracy on each true class, its recall, float64 [C]; NaN where it has no image."""
        images = self.confusion.sum(1)
        return np.where(images, self.confusion.diagonal() / images.clip(1), np.nan)

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes: the accuracy, were all equally frequent."""
        return float(np.nanmean(self.class_accuracy))


def most_confident(predictions: Predictions, among: Tensor, count: int = 5) -> list[int]:
    """Return the most confident images of some, a mask [N] or numbers; equals in their order."""
    images = among.nonzero().squeeze(1) if among.dtype is torch.bool else among
    order = predictions.log_confidence[images].sort(descending=True, stable=True).indices
    return images[order[:count]].tolist()


def top_correct(predictions: Predictions, label: int) -> list[int]:
    """Return the five most confident correct predictions of a class."""
    return most_confident(predictions, predictions.correct & (predictions.labels == label))


def top_incorrect(predictions: Predictions, label: int, by_predicted: bool = False) -> list[int]:
    """Return the five most confident errors on images of a class, or that predict the class."""
    of_class = predictions.predicted if by_predicted else predictions.labels
    return most_confident(predictions, ~predictions.correct & (of_class == label))


def surest_errors(predictions: Predictions) -> list[int]:
    """Return the five most confident errors on images of each class."""
    classes = range(predictions.logits.shape[1])
    return [image for label in classes for image in top_incorrect(predictions, label)]


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share of `count` images."""
    found = stats.binomtest(round(share * count), count).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


@dataclass(frozen=True)
class Comparison:
    """Images that only the second model gets right, or only the first; p of McNemar's test."""

    corrected: Tensor
    lost: Tensor
    p: float


def compare(first: Predictions, second: Predictions) -> Comparison:
    """Compare two models on the same images."""
    if not torch.equal(first.labels, second.labels):
        raise ValueError("the two models were evaluated on different images")
    corrected = (~first.correct & second.correct).nonzero().squeeze(1)
    lost = (first.correct & ~second.correct).nonzero().squeeze(1)
    changed = len(corrected) + len(lost)
    # McNemar's exact test: how probable is a split as uneven if both models are equally good?
    p = stats.binomtest(len(corrected), changed).pvalue if changed else 1.0
    return Comparison(corrected, lost, float(p))


@dataclass(frozen=True, eq=False)
class Calibration:
    """Of each bin that has images; `error` is the expected calibration error (ECE)."""

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray
    error: float


def calibration(predictions: Predictions, bins: int = BINS) -> Calibration:
    """Sort predictions into bins of equal width by confidence, and compare with the accuracy."""
    confidence = predictions.log_confidence.exp()
    edge = (confidence * bins).ceil()  # closed above: (0, 1/15], (1/15, 2/15], ...
    _, place, count = edge.unique(return_inverse=True, return_counts=True)
    mean = torch.bincount(place, confidence) / count
    accuracy = torch.bincount(place, predictions.correct.double()) / count
    error = ((mean - accuracy).abs() * count).sum() / len(confidence)
    return Calibration(mean.numpy(), accuracy.numpy(), count.numpy(), error.item())


def fit_temperature(predictions: Predictions) -> float:
    """Return the number to divide logits by so that the loss on these images is lowest."""
    found = optimize.minimize_scalar(
        lambda log: apply_temperature(predictions, math.exp(log)).loss, bounds=(-3, 3)
    )
    return math.exp(found.x)


def apply_temperature(predictions: Predictions, temperature: float) -> Predictions:
    """Divide all logits by the temperature: the classes stay in order, the confidence changes."""
    if temperature <= 0:
        raise ValueError(f"the temperature is {temperature}, it must be positive")
    return Predictions(predictions.logits.double() / temperature, predictions.labels)
