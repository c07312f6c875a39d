"""The figures of the CIFAR-10 notebook, drawn from data and returned, never shown.

What a figure shows is its `alt`, a sentence of the caller where the data alone do not tell it.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, zip_longest
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter
from torch import Tensor

from assignment.common.figures import GREY, PAGE_DPI, PALETTE, Figure, new_figure, styled
from assignment.common.settings import AssignmentError
from assignment.images.cifar10 import Split
from assignment.images.predictions import (
    BINS,
    Predictions,
    calibration,
    top_correct,
    top_incorrect,
)

EACH = 6  # images of a class among the examples
FEWEST = 10  # images in a bin whose accuracy is worth a dot
MARKERS = "os^Dv"  # lines differ in grey, too
ByModel = Mapping[str, Predictions]


@styled
def class_examples(
    split: Split, classes: Sequence[str], augment: Callable[[Tensor], Tensor]
) -> Figure:
    """Draw six images of every class, and beside them the same images augmented.

    `augment` turns uint8 [N, 3, S, S] into float images of the same shape in [0, 1]. Where a class
    has fewer than six, so many of each are drawn.
    """
    from torchvision.utils import make_grid  # a second that no other figure needs

    members = [(split.labels == k).nonzero()[:EACH, 0] for k in range(len(classes))]
    each = min(map(len, members))
    originals = split.images[torch.cat([some[:each] for some in members])]
    side = originals.shape[-1]
    gap = side // 16
    figure = new_figure(
        7, 5.6 * max(len(classes), 3) / 10,
        f"{each} training images of each of the {len(classes)} classes; on the right "
        "the same images mirrored and shifted at random.",
    )  # fmt: skip
    left, right = figure.subplots(1, 2)
    left.set_title(f"as stored ({side} x {side} pixels)")
    right.set_title("the same, as a training step sees them")
    for axes, images in ((left, originals / 255), (right, augment(originals))):
        grid = make_grid(images.cpu(), each, gap, pad_value=1.0)[:, gap:-gap, gap:-gap]
        axes.imshow(grid.permute(1, 2, 0).numpy())
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    left.set_yticks([(side + gap) * (k + 0.5) - gap / 2 for k in range(len(classes))], classes)
    left.tick_params(length=0)
    left.grid(visible=False)
    return figure


@styled
def learning_curves(
    histories: Mapping[str, np.ndarray], best: Mapping[str, int], alt: str, first: int = 1
) -> Figure:
    """Draw loss and accuracy by epoch, one row per run, and mark the best epoch, counted from 1.

    A history is an array [epochs, 4] with the columns of `training.TrainedModel`; what is before
    the epoch `first` is not drawn, where it would hide the rest.
    """
    figure = new_figure(7, 2.5 * len(histories) + 0.3, alt)
    panels = figure.subplots(len(histories), 2, squeeze=False)
    for (name, history), (losses, accuracies) in zip(histories.items(), panels, strict=True):
        epochs, history = np.arange(first, len(history) + 1), history[first - 1 :]
        for axes, column, label in ((losses, 0, "loss (nats)"), (accuracies, 1, "accuracy")):
            axes.plot(epochs, history[:, column], "o--", ms=3, label="training, while it learned")
            axes.plot(epochs, history[:, column + 2], "o-", ms=3, label="validation")
            axes.axvline(best[name], color=GREY, lw=0.8, ls=":", label="epoch that is kept")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set(xlabel="epoch", ylabel=label, title=name)
        accuracies.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


@styled
def accuracy_lines(
    accuracies: Mapping[str, Mapping[int, float]], label: str, alt: str, doubling: bool = False
) -> Figure:
    """Draw validation accuracy against a number that `label` names, one line per method."""
    figure = new_figure(7, 3, alt)
    axes = figure.subplots()
    for (method, points), marker in zip(accuracies.items(), cycle(MARKERS), strict=False):
        axes.plot(list(points), list(points.values()), marker=marker, label=method)
    if doubling:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_minor_locator(NullLocator())
    numbers = sorted({number for points in accuracies.values() for number in points})
    axes.set_xticks(numbers, [f"{number:,}" for number in numbers])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(xlabel=label, ylabel="validation accuracy")
    axes.legend()
    return figure


@styled
def reliability_diagram(predictions: Mapping[str, ByModel], alt: str) -> Figure:
    """Draw accuracy against confidence, a panel per model and a line per variant of it.

    A bin of fewer than ten images tells nothing and is not drawn; it counts in the error. Below,
    how many images are in each bin.
    """
    figure = new_figure(7, 4.7, alt)
    shape: dict[str, Any] = {"sharex": True, "sharey": "row", "height_ratios": (3, 1)}
    panels, counts = figure.subplots(2, len(predictions), squeeze=False, **shape)
    for axes, below, (model, variants) in zip(panels, counts, predictions.items(), strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=":", label="perfect calibration")
        styles = zip(MARKERS, PALETTE, ("-", "--"), strict=False)
        for (variant, predicted), (marker, colour, style) in zip(
            variants.items(), styles, strict=False
        ):
            bins = calibration(predicted)
            enough = bins.count >= FEWEST
            points = bins.confidence[enough], bins.accuracy[enough]
            label = f"{variant} (ECE {bins.error:.1%})"
            axes.plot(*points, style, marker=marker, color=colour, ms=4, label=label)
            confidence = predicted.log_confidence.exp()
            below.hist(confidence, BINS, range=(0, 1), histtype="step", ls=style, color=colour)
        axes.set(title=model, xlim=(0, 1.02), ylim=(0, 1.02))
        axes.legend(loc="lower right", fontsize=8)
        below.set(xlabel="confidence", yscale="log")
    panels[0].set_ylabel("accuracy")
    counts[0].set_ylabel("images")
    return figure


@styled
def confusion_matrices(predictions: ByModel, classes: Sequence[str], alt: str) -> Figure:
    """Draw the errors of each model by true and predicted class; the diagonal is left out."""
    from seaborn import heatmap  # a second that only this figure needs

    figure = new_figure(7, 4.4, alt)
    panels = figure.subplots(1, len(predictions), sharey=True, squeeze=False)[0]
    diagonal = np.eye(len(classes), dtype=bool)
    errors = [np.where(diagonal, 0, predicted.confusion) for predicted in predictions.values()]
    for axes, model, counts in zip(panels, predictions, errors, strict=True):
        heatmap(
            counts, ax=axes, mask=diagonal, square=True, cmap="Blues", vmin=0, vmax=np.max(errors),
            annot=True, fmt="d", annot_kws={"size": 6.5}, cbar=False, linewidths=0.3,
            xticklabels=classes, yticklabels=classes,
        )  # fmt: skip
        axes.tick_params(length=0, labelsize=7.5)
        axes.grid(visible=False)
        axes.set(title=f"{model}: {counts.sum():,} errors", xlabel="predicted")
    panels[0].set_ylabel("true")
    return figure


@styled
def class_accuracies(predictions: ByModel, classes: Sequence[str], alt: str) -> Figure:
    """Draw the accuracy of every class under each model, the hardest class at the bottom."""
    figure = new_figure(7, 3.2, alt)
    axes = figure.subplots()
    found = {model: predicted.class_accuracy for model, predicted in predictions.items()}
    shares = pd.DataFrame(found, classes).sort_values(next(iter(found)))
    axes.hlines(shares.index, shares.min(axis=1), shares.max(axis=1), color="#bbbbbb", lw=2)
    for model, marker in zip(shares, cycle(MARKERS), strict=False):
        axes.plot(shares[model], shares.index, marker, label=model)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(xlabel="accuracy on the test images of the class")
    figure.legend(loc="outside upper center", ncols=len(predictions))
    return figure


# In pixels of the stored picture, which is 1,400 wide.
THUMB, PITCH, ROW, HEADING, MARGIN, MIDDLE = 128, 132, 174, 44, 40, 36
HALF = 5  # images on each side of the middle
LEFTS = (MARGIN, MARGIN + HALF * PITCH + MIDDLE)
SHORT = {"airplane": "plane", "automobile": "auto"}  # so that a label is no wider than its image


def _cut(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


class GridHalf(NamedTuple):
    """A title and the images behind it, five at most; fewer leave white blanks."""

    title: str
    images: Sequence[int]


@styled
def image_grid(
    split: Split,
    predictions: Predictions,
    classes: Sequence[str],
    rows: Sequence[tuple[GridHalf, GridHalf]],
    headings: tuple[str, str],
    alt: str,
) -> Figure:
    """Draw rows of two halves, every image labelled with prediction and confidence.

    An error has a frame and a cross, and its label says what the image is.
    """
    if not torch.equal(split.labels.cpu(), predictions.labels):
        raise AssignmentError("These predictions are of other images; expected those of the split.")
    width, height = 14 * PAGE_DPI, HEADING + ROW * len(rows)
    figure = new_figure(7, height / (2 * PAGE_DPI), alt)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), frameon=False)
    axes.set_axis_off()
    names = [_cut(SHORT.get(name, name), 7) for name in classes]
    for left, heading in zip(LEFTS, headings, strict=True):
        axes.text(left + HALF * PITCH / 2, HEADING / 2, heading, ha="center", va="center")
    for row, halves in enumerate(rows):
        top = HEADING + row * ROW
        for left, half in zip(LEFTS, halves, strict=True):
            place = left - 8, top + THUMB / 2
            title = _cut(half.title, 12)
            axes.text(
                *place, title, rotation=90, ha="right", va="center", fontsize=8, parse_math=False
            )
            for column, image in enumerate(half.images[:HALF]):
                x = left + column * PITCH
                pixels = split.images[image].permute(1, 2, 0).cpu().numpy()
                axes.imshow(pixels, extent=(x, x + THUMB, top + THUMB, top), aspect="auto")
                confidence = predictions.log_confidence[image].exp().item()
                label, weight = f"{names[predictions.predicted[image]]} {confidence:.0%}", "normal"
                if not predictions.correct[image]:
                    label, weight = f"{label}\nis {names[predictions.labels[image]]}", "bold"
                    _mark_as_wrong(axes, x, top)
                axes.text(
                    x + THUMB / 2, top + THUMB + 4, label, weight=weight, ha="center", va="top",
                    fontsize=6.5, linespacing=1.05, parse_math=False,
                )  # fmt: skip
    return figure


def _mark_as_wrong(axes: Axes, left: float, top: float) -> None:
    frame = (left + 2, top + 2), THUMB - 4, THUMB - 4
    axes.add_patch(Rectangle(*frame, fill=False, lw=2, ec=PALETTE[4]))
    axes.text(
        left + 14, top + 14, "×", ha="center", va="center", color="white", fontsize=9,
        bbox={"boxstyle": "square,pad=0.1", "facecolor": "black", "edgecolor": "none"},
    )  # fmt: skip


@styled
def compared_images(
    split: Split,
    classes: Sequence[str],
    titles: Mapping[int, str],
    models: ByModel,
    alt: str,
) -> Figure:
    """Draw images, five to a row: above each its title, below what each model says of it."""
    rows = -(-len(titles) // 5)
    figure = new_figure(7, 2.0 * rows, alt)
    panels = figure.subplots(rows, 5, squeeze=False).flat
    for axes, (image, title) in zip(panels, titles.items(), strict=False):
        axes.imshow(split.images[image].permute(1, 2, 0).cpu().numpy())
        axes.set_title(title, fontsize=7)
        said = []
        for model, found in models.items():
            confidence = found.log_confidence[image].exp().item()
            said.append(f"{model}: {classes[int(found.predicted[image])]} {confidence:.0%}")
        axes.set_xlabel("\n".join(said), fontsize=7)
    for axes in figure.axes:
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    return figure


def most_confident_grid(
    split: Split, predictions: Predictions, classes: Sequence[str], model: str
) -> Figure:
    """Draw the five most confident correct and incorrect predictions of every true class."""
    rows = [
        (GridHalf(name, top_correct(predictions, k)), GridHalf("", top_incorrect(predictions, k)))
        for k, name in enumerate(classes)
    ]
    errors = [image for _, half in rows for image in half.images]
    confidence = predictions.log_confidence[errors].exp().tolist() or [0.0]
    alt = (
        f"{model}: for each of the {len(classes)} classes the five most confident correct "
        f"predictions and the five most confident errors. The {len(errors)} errors were made with "
        f"confidences from {min(confidence):.0%} to {max(confidence):.0%}."
    )
    headings = ("most confident, correct", "most confident, wrong")
    return image_grid(split, predictions, classes, rows, headings, alt)


def errors_by_predicted_class(
    split: Split, predictions: Predictions, classes: Sequence[str], model: str
) -> Figure:
    """Draw the five most confident errors that name each class, two classes to a row."""
    halves = [
        GridHalf(f"not {SHORT.get(name, name)}", top_incorrect(predictions, k, by_predicted=True))
        for k, name in enumerate(classes)
    ]
    rows = list(zip_longest(halves[::2], halves[1::2], fillvalue=GridHalf("", [])))
    alt = (
        f"{model}: for each class the five images that were taken for it with the highest "
        "confidence and are something else."
    )
    return image_grid(split, predictions, classes, rows, ("taken for it, wrongly",) * 2, alt)
