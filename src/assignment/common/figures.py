"""What all figures share: one style, alternative text, and the sample's stamp."""

import io
from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure as MatplotlibFigure

from assignment.common import settings
from assignment.common.files import write_if_possible
from assignment.common.runs import Run

PAGE_DPI = 100  # figures are as wide as the page at this density, and stored at twice it
# Okabe and Ito's colours, told apart with every kind of colour vision; wine for their pale yellow.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#777777"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, "#D55E00", "#56B4E9", "#000000", "#882255")
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
    "axes.prop_cycle": cycler(color=PALETTE),
}
styled = mpl.rc_context(STYLE)  # above a function that draws: in the one style


class Figure(MatplotlibFigure):
    """A figure whose finding stands below it, and reaches screen readers as alternative text."""

    alt: str = ""
    number: int = 0  # in its notebook
    records: str = ""  # the runs it was drawn from, with the beginning of their checksums

    def png(self) -> bytes:
        """Return the picture at twice the page's resolution."""
        stream = io.BytesIO()
        words = {"Description": self.alt, "Records": self.records}
        self.savefig(stream, format="png", dpi=2 * PAGE_DPI, metadata=words)
        return stream.getvalue()

    def _ipython_display_(self) -> None:
        from IPython.display import display  # there where it is called

        width, height = (round(inches * PAGE_DPI) for inches in self.get_size_inches())
        size = {"image/png": {"width": width, "height": height, "alt": self.alt}}
        picture = {"image/png": self.png(), "text/plain": f"Figure: {self.alt}"}
        display(picture, metadata=size, raw=True)  # type: ignore[no-untyped-call]
        if self.number:
            caption = f"**Figure {self.number}.** {self.alt}".replace("$", r"\$")
            shown = {"text/markdown": caption, "text/plain": caption}
            display(shown, raw=True)  # type: ignore[no-untyped-call]


def save_figure(
    figure: Figure, name: str, made_from: Iterable[Run] = (), number: int = 0
) -> Figure:
    """Save a figure in the figures folder, with the runs it was drawn from, and return it.

    With a `number` its alternative text stands below it as its caption.
    """
    figure.number = number
    figure.records = ", ".join(sorted({f"{run.name} {run.checksum[:16]}" for run in made_from}))
    write_if_possible(settings.figures_folder() / f"{name}.png", figure.png())
    return figure


def new_figure(width: float, height: float, alt: str) -> Figure:
    """Begin a figure, `width` inches of the page's 7, with its alternative text; stamp a sample."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.alt = alt
    if settings.mode() is settings.Mode.SAMPLE:
        figure.alt = f"{settings.SAMPLE_WARNING}. {alt}"
        figure.text(
            0.5, 0.5, "SAMPLE", ha="center", va="center", rotation=30, fontsize=60,
            color="black", alpha=0.12, weight="bold", zorder=100,
        )  # fmt: skip
    return figure
