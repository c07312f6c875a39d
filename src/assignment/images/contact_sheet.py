"""Many small images in one figure, each with what it was taken for and what it is.

A thumbnail's pixel is exactly four by four of the stored picture's, so it stays as sharp as 32
pixels can be. Errors are marked by a frame and a cross, which survive a grey printer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from assignment.common.drawing import PAGE_DPI, PALETTE, Drawing, drawn, empty
from assignment.images import predictions
from assignment.images.cifar10 import Split
from assignment.images.predictions import Predictions

# In pixels of the stored picture, which is 1,400 wide.
THUMB, PITCH, ROW, HEADING, MARGIN, MIDDLE = 128, 132, 174, 44, 40, 36
HALF = 5  # images on each side of the middle
POINTS = 6.5
SHORT = {"airplane": "plane", "automobile": "auto"}  # so that a label is no wider than its image


@dataclass(frozen=True)
class Half:
    """A title and the images behind it, five at most; fewer leave clean blanks."""

    title: str
    images: Sequence[int]


@drawn
def sheet(
    split: Split,
    said: Predictions,
    classes: Sequence[str],
    rows: Sequence[tuple[Half, Half]],
    headings: tuple[str, str],
    alt: str,
) -> Drawing:
    """Draw rows of two halves, every image labelled with prediction, confidence and truth.

    Parameters
    ----------
    split : Split
    said : Predictions
        About the images of the split.
    classes : sequence of str
    rows : sequence of pairs of Half
    headings : pair of str
        Over the left and the right half.
    alt : str
    """
    width, height = 14 * PAGE_DPI, HEADING + ROW * len(rows)
    drawing = empty(7, height / (2 * PAGE_DPI), alt)
    drawing.set_layout_engine("none")
    axes = drawing.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), frameon=False)
    axes.set_axis_off()
    axes.set_autoscale_on(False)
    lefts = (MARGIN, MARGIN + HALF * PITCH + MIDDLE)
    for left, heading in zip(lefts, headings, strict=True):
        axes.text(left + HALF * PITCH / 2, HEADING / 2, heading, ha="center", va="center")
    for number, halves in enumerate(rows):
        top = HEADING + number * ROW
        for left, half in zip(lefts, halves, strict=True):
            axes.text(
                left - 8, top + THUMB / 2, half.title, rotation=90, ha="right", va="center",
                fontsize=8,
            )  # fmt: skip
            for column, image in enumerate(half.images[:HALF]):
                _thumbnail(axes, left + column * PITCH, top, split, said, classes, image)
    return drawing


def _thumbnail(
    axes: Axes,
    left: float,
    top: float,
    split: Split,
    said: Predictions,
    classes: Sequence[str],
    image: int,
) -> None:
    picture = split.images[image].permute(1, 2, 0).cpu().numpy()
    place = (left, left + THUMB, top + THUMB, top)
    axes.imshow(picture, extent=place, interpolation="nearest", aspect="auto")
    guess, truth = (
        SHORT.get(classes[k], classes[k])
        for k in (int(said.predicted[image]), int(said.labels[image]))
    )
    sure = said.log_confidence[image].exp().item()
    wrong = not bool(said.correct[image])
    label = f"{guess} {sure:.0%}\nis {truth}"
    axes.text(
        left + THUMB / 2, top + THUMB + 4, label, ha="center", va="top",
        fontsize=POINTS, linespacing=1.05, weight="bold" if wrong else "normal",
    )  # fmt: skip
    if wrong:
        axes.add_patch(
            Rectangle((left + 2, top + 2), THUMB - 4, THUMB - 4, fill=False, lw=2, ec=PALETTE[4])
        )
        axes.text(
            left + 14, top + 14, "×", ha="center", va="center", color="white", fontsize=9,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "black", "edgecolor": "none"},
        )  # fmt: skip


def most_confident(split: Split, said: Predictions, classes: Sequence[str], model: str) -> Drawing:
    """Draw the five most confident correct and incorrect predictions of every true class."""
    rows = [
        (
            Half(name, predictions.top_correct(said, k)),
            Half("", predictions.top_incorrect(said, k)),
        )
        for k, name in enumerate(classes)
    ]
    errors = [image for _, half in rows for image in half.images]
    sure = [said.log_confidence[image].exp().item() for image in errors] or [0.0]
    alt = (
        f"{model}: for each of the {len(classes)} classes the five most confident correct "
        "predictions and the five most confident errors on its test images. The "
        f"{len(errors)} errors were made with confidences from {min(sure):.0%} to "
        f"{max(sure):.0%}; {HALF * len(classes) - len(errors)} places are empty for want of one."
    )
    return sheet(
        split, said, classes, rows, ("most confident, correct", "most confident, wrong"), alt
    )


def named_wrongly(split: Split, said: Predictions, classes: Sequence[str], model: str) -> Drawing:
    """Draw the five most confident errors that name each class, two classes to a row."""
    halves = [
        Half(f"not {SHORT.get(name, name)}", predictions.top_incorrect(said, k, by_predicted=True))
        for k, name in enumerate(classes)
    ]
    rows = list(zip(halves[::2], halves[1::2], strict=True))
    alt = (
        f"{model}: for each class the five test images that were taken for it with the highest "
        "confidence and are something else."
    )
    return sheet(
        split, said, classes, rows, ("taken for it, wrongly", "taken for it, wrongly"), alt
    )
