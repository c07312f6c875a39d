"""A map of films in the plane, with names that do not hide each other."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from assignment.common.drawing import PALETTE, Drawing, drawn, empty

# Where a name may stand, in points from its film: all around, then farther and farther off.
PLACES = [
    (reach * math.cos(turn), reach * math.sin(turn))
    for reach in (8, 14, 22, 32, 44, 58, 74, 92, 112, 134, 158)
    for turn in np.linspace(0, 2 * math.pi, 12, endpoint=False)
]


@drawn
def film_map(
    places: np.ndarray, genres: Sequence[str], named: Mapping[int, str], finding: str
) -> Drawing:
    """Draw films in the plane, coloured by first genre, some with their names.

    Parameters
    ----------
    places : array [films, 2]
    genres : sequence of str
        The first genre of each film; the 8 most frequent get a colour.
    named : mapping
        Row to the name that is written beside it.
    finding : str
        What the map shows, for its alternative text.
    """
    first = pd.Series(list(genres))
    frequent = list(first.value_counts().index[:8])
    drawing = empty(7, 6.4, finding)
    axes = drawing.subplots()
    for genre, colour in [("other", "#bbbbbb"), *zip(frequent, PALETTE, strict=False)]:
        chosen = ~first.isin(frequent) if genre == "other" else first == genre
        axes.plot(*places[chosen].T, ".", color=colour, markersize=3, alpha=0.75, label=genre)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    drawing.legend(
        loc="outside lower center", ncols=5, fontsize=8, markerscale=3, handletextpad=0.1
    )
    drawing.draw_without_rendering()
    _write_names(axes, {name: places[row] for row, name in named.items()})
    return drawing


def _write_names(axes: Axes, names: Mapping[str, np.ndarray]) -> list[Bbox]:
    """Write names beside their points, each at the nearest place that is still free."""
    dots = [
        Bbox.from_bounds(x - 6, y - 6, 12, 12)
        for x, y in axes.transData.transform(np.array(list(names.values())))
    ]  # no name hides a dot
    taken: list[Bbox] = []
    for name, (x, y) in sorted(names.items(), key=lambda item: -item[1][1]):
        axes.plot(x, y, "o", color="black", mfc="none", markersize=6, mew=1.2, zorder=5)
        for dx, dy in PLACES:
            label = axes.annotate(
                name, (x, y), (dx, dy), textcoords="offset points", fontsize=7.5,
                ha="left" if dx > 1 else "right" if dx < -1 else "center", va="center",
                arrowprops={"arrowstyle": "-", "lw": 0.5},
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
            )  # fmt: skip
            label.get_window_extent()  # places it
            box = Text.get_window_extent(label).padded(1)  # the name without its line
            inside = axes.bbox.containsx(box.x0) and axes.bbox.containsx(box.x1)
            if inside and not any(box.overlaps(other) for other in taken + dots):
                taken.append(box)
                break
            label.remove()
    return taken
