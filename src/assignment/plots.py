"""Every figure, drawn from data and returned, never shown.

A figure carries its own alternative text, so that a notebook, a code host and a screen reader get
the finding along with the picture; in sample mode every figure is stamped.
"""

import functools
import io
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import torch
from cycler import cycler
from matplotlib.figure import Figure
from torch import Tensor

from assignment import runtime
from assignment.cifar10 import Split
from assignment.movielens import Likes, MovieLens
from assignment.runtime import Mode

PAGE_DPI = 100  # figures are as wide as the page at this density, and stored at twice it
# Okabe and Ito's colours: told apart with every kind of colour vision, and in greyscale.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#777777"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "image.interpolation": "nearest",
    "legend.frameon": False,
    "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, PURPLE, GREY]),
}
Arguments = ParamSpec("Arguments")


class Drawing(Figure):
    """A figure with alternative text that states its finding."""

    alt: str = ""

    def png(self) -> bytes:
        """Return the picture at twice the page's resolution."""
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=2 * PAGE_DPI, metadata={"Description": self.alt})
        return stream.getvalue()

    def __repr__(self) -> str:
        """Return what the figure shows, in words."""
        return f"Figure: {self.alt}"

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, object], dict[str, object]]:
        width, height = (round(inches * PAGE_DPI) for inches in self.get_size_inches())
        size = {"width": width, "height": height, "alt": self.alt}
        return {"image/png": self.png(), "text/plain": repr(self)}, {"image/png": size}


def keep(drawing: Drawing, name: str) -> Drawing:
    """Save a figure under a stable name in the figures folder, and return it to be looked at."""
    folder = runtime.figures_folder()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.png").write_bytes(drawing.png())
    return drawing


def _drawn(function: Callable[Arguments, Drawing]) -> Callable[Arguments, Drawing]:
    """Draw in the one style, and stamp what was drawn from the sample."""

    @functools.wraps(function)
    def styled(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Drawing:
        with mpl.rc_context(STYLE):
            drawing = function(*args, **kwargs)
            if runtime.mode() is Mode.SAMPLE:
                drawing.alt = f"{runtime.SAMPLE_WARNING}. {drawing.alt}"
                drawing.text(
                    0.5, 0.5, "SAMPLE", ha="center", va="center", rotation=30, fontsize=60,
                    color="black", alpha=0.12, weight="bold", zorder=100,
                )  # fmt: skip
            return drawing

    return styled


def _empty(width: float, height: float, alt: str) -> Drawing:
    drawing = Drawing(figsize=(width, height), layout="constrained")
    drawing.alt = alt
    return drawing


@_drawn
def class_examples(
    split: Split, classes: Sequence[str], augment: Callable[[Tensor], Tensor], columns: int = 6
) -> Drawing:
    """Draw the first images of every class, and beside them the same images augmented.

    Parameters
    ----------
    split : Split
    classes : sequence of str
    augment : callable
        uint8 [N, 3, 32, 32] to float images of the same shape in [0, 1].
    columns : int
        Images per class.
    """
    chosen = torch.stack([(split.labels == k).nonzero()[:columns, 0] for k in range(len(classes))])
    originals = split.images[chosen.flatten()].cpu()
    augmented = augment(split.images[chosen.flatten()]).cpu()
    drawing = _empty(
        7, 5.6, f"{columns} training images of each of the {len(classes)} classes; on the right "
        "the same images mirrored and shifted at random, still easy to recognise.",
    )  # fmt: skip
    left, right = drawing.subplots(1, 2)
    for axes, images, title in (
        (left, originals / 255.0, "as stored (32 x 32 pixels)"),
        (right, augmented, "the same, as a training step sees them"),
    ):
        axes.imshow(_mosaic(images, len(classes), columns))
        axes.set(title=title, xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    left.set_yticks([34 * (k + 0.5) - 1 for k in range(len(classes))], classes)
    left.tick_params(length=0)
    return drawing


def _mosaic(images: Tensor, rows: int, columns: int, gap: int = 2) -> np.ndarray:
    """Float images [rows * columns, 3, H, W] to one picture [., ., 3] with white gaps."""
    padded = torch.nn.functional.pad(images, (0, gap, 0, gap), value=1.0)
    _, _, height, width = padded.shape
    grid = padded.view(rows, columns, 3, height, width).permute(0, 3, 1, 4, 2)
    return grid.reshape(rows * height, columns * width, 3)[:-gap, :-gap].numpy()


@_drawn
def ratings_and_likes(data: MovieLens, liked: Likes, named: Sequence[str]) -> Drawing:
    """Draw how stars are given, and how unevenly likes fall on films.

    Parameters
    ----------
    data : MovieLens
    liked : Likes
    named : sequence of str
        Titles to point out among the films.
    """
    stars = data.ratings["rating"].value_counts().sort_index()
    share = (data.ratings["rating"] >= liked.threshold).mean()
    ranked = np.sort(liked.count)[::-1]
    half = int(np.searchsorted(np.cumsum(ranked), ranked.sum() / 2)) + 1
    drawing = _empty(
        7, 2.9, f"Left: ratings by stars; {share:.0%} are at least {liked.threshold}. Right: likes "
        f"per film fall off steeply; {half} of {len(ranked)} films hold half of all likes.",
    )  # fmt: skip
    left, right = drawing.subplots(1, 2)
    colours = [BLUE if star >= liked.threshold else "#bbbbbb" for star in stars.index]
    left.bar(stars.index, stars.to_numpy(), width=0.4, color=colours)
    left.set(
        xlabel="stars", ylabel="ratings", title=f"liked: {liked.threshold} stars or more (blue)"
    )
    right.loglog(np.arange(1, len(ranked) + 1), ranked, color=BLUE)
    offsets = [(6, 5, "left", "bottom"), (-6, -5, "right", "top")]
    for title, (dx, dy, across, along) in zip(named, cycle(offsets), strict=False):
        movie = data.movies.index[data.movies["title"] == title]
        count = int(liked.count[np.isin(liked.movies, movie)].sum())
        rank = int((ranked > count).sum()) + 1
        right.plot(rank, count, "o", color=ORANGE, markersize=5)
        right.annotate(
            f"{title.rsplit(' (', 1)[0]}: {count}", (rank, count), (dx, dy),
            textcoords="offset points", ha=across, va=along,
        )  # fmt: skip
    right.set(xlabel="film, by likes", ylabel="likes", title="likes per film")
    return drawing
