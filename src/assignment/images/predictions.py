"""Logits in, answers out: how often, how sure, which ones, and is the difference real.

Confidence is ranked by log-probability: probabilities that all print as 1.0000 still have an order
there.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import optimize, stats
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model predicts for some images, and what they are.

    Attributes
    ----------
    logits : Tensor, float [N, C]
    labels : Tensor, int64 [N]

    Examples
    --------
    >>> predictions = Predictions(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
    >>> predictions.accuracy, predictions.confusion.tolist()
    (0.5, [[1, 0], [1, 0]])
    """

    logits: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        rows, classes = self.logits.shape if self.logits.ndim == 2 else (0, 0)
        if not rows or not classes or self.labels.shape != (rows,):
            raise ValueError(
                f"logits {list(self.logits.shape)} do not fit labels {list(self.labels.shape)}: "
                "expected one row of logits per label, and at least one"
            )
        if (
            self.labels.dtype != torch.int64
            or not 0 <= self.labels.min() <= self.labels.max() < classes
        ):
            raise ValueError(f"labels must be whole numbers (int64) from 0 to {classes - 1}")
        if not self.logits.isfinite().all():
            raise ValueError("some logits are not finite: the model has diverged")

    @cached_property
    def log_probabilities(self) -> Tensor:
        """float64 [N, C]."""
        return self.logits.double().log_softmax(1)

    @cached_property
    def predicted(self) -> Tensor:
        """The most probable class, int64 [N]; the first where several are."""
        return self.logits.argmax(1)

    @cached_property
    def correct(self) -> Tensor:
        """One truth value per image, bool [N]."""
        return self.predicted == self.labels

    @cached_property
    def log_confidence(self) -> Tensor:
        """Log-probability of the predicted class, float64 [N].

        From what is left for the other classes: 1 - p keeps its digits where p has none to show.
        """
        gaps = self.logits.double() - self.logits.double().gather(1, self.predicted[:, None])
        others = gaps.exp().scatter(1, self.predicted[:, None], 0.0).sum(1)
        return -others.log1p()

    @property
    def accuracy(self) -> float:
        """Share of the images that are predicted right."""
        return self.correct.double().mean().item()

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in nats."""
        return functional.nll_loss(self.log_probabilities, self.labels).item()

    @cached_property
    def confusion(self) -> np.ndarray:
        """Counts by true class (rows) and predicted class, int64 [C, C]."""
        classes = self.logits.shape[1]
        cells = torch.bincount(self.labels * classes + self.predicted, minlength=classes**2)
        return cells.view(classes, classes).numpy()

    @property
    def class_accuracy(self) -> np.ndarray:
        """Share of each true class that is predicted right, float64 [C]."""
        return np.asarray(self.confusion.diagonal() / self.confusion.sum(1))


def most_confident(predictions: Predictions, among: Tensor, count: int = 5) -> list[int]:
    """Return the images, of those marked, whose predicted class is the most probable.

    Parameters
    ----------
    predictions : Predictions
    among : Tensor, bool [N]
    count : int
        Fewer come back where fewer are marked. Equal ones come in the order of the data.
    """
    marked = among.nonzero().squeeze(1)
    order = predictions.log_confidence[marked].sort(descending=True, stable=True).indices
    return [int(image) for image in marked[order[:count]]]


def top_correct(predictions: Predictions, label: int, count: int = 5) -> list[int]:
    """Return the most confident correct predictions of a class."""
    return most_confident(predictions, predictions.correct & (predictions.labels == label), count)


def top_incorrect(
    predictions: Predictions, label: int, count: int = 5, by_predicted: bool = False
) -> list[int]:
    """Return the most confident errors on images of a class, or those that name the class."""
    of_class = predictions.predicted if by_predicted else predictions.labels
    return most_confident(predictions, ~predictions.correct & (of_class == label), count)


def wilson_interval(share: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """Return the Wilson interval of a share that was counted on so many images.

    Examples
    --------
    >>> [round(end, 3) for end in wilson(0.9, 1000)]
    [0.88, 0.917]
    """
    found = stats.binomtest(round(share * count), count).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


@dataclass(frozen=True)
class Comparison:
    """Which images one model gets right and another wrong.

    Attributes
    ----------
    corrected, lost : Tensor, int64
        Images that only the second, or only the first, gets right.
    p : float
        McNemar's exact test: how probable is a split as uneven, if both were equally good?
    """

    corrected: Tensor
    lost: Tensor
    p: float


def compare(first: Predictions, second: Predictions) -> Comparison:
    """Compare two models on the same images."""
    if not torch.equal(first.labels, second.labels):
        raise ValueError("the two models were asked about different images")
    corrected = (~first.correct & second.correct).nonzero().squeeze(1)
    lost = (first.correct & ~second.correct).nonzero().squeeze(1)
    changed = len(corrected) + len(lost)
    p = stats.binomtest(len(corrected), changed).pvalue if changed else 1.0
    return Comparison(corrected, lost, float(p))


@dataclass(frozen=True, eq=False)
class Calibration:
    """How often predictions of similar confidence are right; bins without images are left out.

    Attributes
    ----------
    confidence, accuracy, count : array [bins]
        Mean confidence, share that is right, number of images.
    error : float
        Expected calibration error: the mean distance of the two, weighted by images.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray
    error: float


def calibration(predictions: Predictions, bins: int = 15) -> Calibration:
    """Sort predictions into bins of equal width by confidence, and compare with what was right."""
    confidence = predictions.log_confidence.exp().clamp(max=1.0)
    # A bin is open below and closed above: (0, 1/15], (1/15, 2/15], ...
    place = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    count = torch.bincount(place, minlength=bins).double()
    there = count > 0
    sums = [
        torch.bincount(place, values.double(), minlength=bins)[there] / count[there]
        for values in (confidence, predictions.correct)
    ]
    error = ((sums[0] - sums[1]).abs() * count[there]).sum() / len(confidence)
    return Calibration(sums[0].numpy(), sums[1].numpy(), count[there].numpy(), error.item())


def fit_temperature(predictions: Predictions) -> float:
    """Return the number to divide logits by so that the loss on these images is lowest."""
    found = optimize.minimize_scalar(
        lambda log_t: apply_temperature(predictions, float(np.exp(log_t))).loss,
        bounds=(-3, 3),
        method="bounded",
    )
    return float(np.exp(found.x))


def apply_temperature(predictions: Predictions, by: float) -> Predictions:
    """Divide all logits by a positive number: the classes keep their order, confidence changes."""
    if by <= 0:
        raise ValueError(f"the temperature is {by}, it must be positive")
    return Predictions(predictions.logits.double() / by, predictions.labels)
