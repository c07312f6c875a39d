"""The figures of the MovieLens notebook, drawn from data and returned, never shown.

What a figure shows is its `finding`, a sentence of the caller for the alternative text.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from assignment.common.figures import BLUE, GREY, PALETTE, Figure, new_figure, styled
from assignment.common.runs import Run
from assignment.movies.movielens import Likes, MovieLens


@styled
def ratings_and_likes(data: MovieLens, liked: Likes, named: Sequence[str]) -> Figure:
    """Draw how stars are given, and how unevenly likes fall on films; some films are named."""
    stars = data.ratings["rating"].value_counts().sort_index()
    share = (data.ratings["rating"] >= liked.threshold).mean()
    ranked = np.sort(liked.count)[::-1]
    half = int(np.searchsorted(np.cumsum(ranked), ranked.sum() / 2)) + 1
    figure = new_figure(
        7, 2.9, f"Left: ratings by stars; {share:.0%} are at least {liked.threshold}. Right: likes "
        f"per film fall off steeply; {half} of {len(ranked)} films hold half of all likes.",
    )  # fmt: skip
    left, right = figure.subplots(1, 2)
    colours = [BLUE if star >= liked.threshold else "#bbbbbb" for star in stars.index]
    left.bar(stars.index, stars, width=0.4, color=colours)
    left.set(xlabel="stars", ylabel="ratings")
    left.set_title(f"liked: {liked.threshold} stars or more (blue)")
    right.loglog(np.arange(1, len(ranked) + 1), ranked, color=BLUE)
    offsets = [(-6, -5, "right", "top"), (6, 5, "left", "bottom")]
    for title, (dx, dy, across, along) in zip(named, cycle(offsets), strict=False):
        movie = data.movies.index[data.movies["title"] == title]
        count = liked.count[np.isin(liked.movies, movie)].sum()
        rank = (ranked > count).sum() + 1
        right.plot(rank, count, "o", color=PALETTE[1], markersize=5)
        right.annotate(
            f"{title.rsplit(' (', 1)[0]}: {count}", (rank, count), (dx, dy),
            textcoords="offset points", ha=across, va=along, parse_math=False,
        )  # fmt: skip
    right.set(xlabel="film, by likes", ylabel="likes", title="likes per film")
    return figure


# One colour per optimiser in every figure.
_NAMES = ("gradient descent", "momentum", "Nesterov", "RMSprop", "Adagrad", "Adam", "Adam, slow")
COLOURS = dict(zip((*_NAMES, "L-BFGS"), PALETTE, strict=True))
DASHED = {"Nesterov", "Adam, slow"}  # would hide momentum and RMSprop


@styled
def loss_curves(found: Mapping[str, Run], floor: float, finding: str) -> Figure:
    """Draw the loss of descents, raw and above the floor; a run that diverged ends in a cross."""
    figure = new_figure(7, 3.6, finding)
    left, right = figure.subplots(1, 2)
    styles = cycle([(colour, line) for line in ("-", "--") for colour in PALETTE])
    for (label, run), (colour, line) in zip(found.items(), styles, strict=False):
        losses: np.ndarray = run["losses"]
        colour = COLOURS.get(label, colour)
        line = "--" if label in DASHED else line
        for axes, first, heights in ((left, 0, losses), (right, 1, losses / floor - 1)):
            steps = first + np.arange(len(losses))  # a log axis has no zero
            axes.plot(steps, heights.clip(1e-7), line, color=colour, label=label, lw=1.4)
            if run["diverged"]:  # off the top, one step after the last finite loss
                last, end = heights[-1], steps[-1]
                axes.plot([end, end + 1], [last, 1e3 * last], line, color=colour, lw=1.4)
                axes.plot(
                    end + 1, 1, "x", color=colour, markersize=8, mew=2,
                    transform=axes.get_xaxis_transform(), clip_on=False,
                )  # fmt: skip
    every = np.concatenate([run["losses"] for run in found.values()])
    top, nearest = 1.5 * every.max(), max((every.min() / floor - 1) / 2, 1e-6)
    left.axhline(floor, color=GREY, lw=0.8, ls=":")
    left.set(xlabel="iteration", ylabel="loss", title="loss", yscale="log", ylim=(floor / 1.2, top))
    right.set(xlabel="iteration + 1", ylabel="loss / floor - 1", title="how far above the floor")
    right.set(xscale="log", yscale="log", ylim=(nearest, top / floor))
    handles = left.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, fontsize=8)
    return figure


@styled
def overlap_against_loss(points: pd.DataFrame, finding: str) -> Figure:
    """Draw the overlap with the converged list against how far a run has come.

    Columns: query, optimiser, above (loss / floor - 1) and overlap (0 to 10).
    """
    queries = points["query"].unique()
    figure = new_figure(7, 2.9, finding)
    panels = figure.subplots(1, len(queries), sharey=True, squeeze=False)[0]
    generator = np.random.default_rng(0)
    for axes, query in zip(panels, queries, strict=True):
        for optimiser, other in zip(points["optimiser"].unique(), cycle(PALETTE), strict=False):
            some = points[(points["query"] == query) & (points["optimiser"] == optimiser)]
            # Overlaps are whole numbers: a little jitter keeps dots from hiding each other.
            jitter = generator.uniform(-0.2, 0.2, len(some))
            axes.semilogx(
                some["above"].clip(lower=1e-6), some["overlap"] + jitter, "o", markersize=3,
                color=COLOURS.get(optimiser, other), alpha=0.7, label=optimiser,
            )  # fmt: skip
        axes.set_title(query, parse_math=False)
        axes.set_xlabel("loss / floor - 1 (to the right: converged)", fontsize=7.5)
        axes.invert_xaxis()
    panels[0].set(ylabel="of the converged ten", ylim=(-0.5, 10.5))
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, fontsize=8)
    return figure


@styled
def dimension_curves(table: pd.DataFrame) -> Figure:
    """Draw what more dimensions bring, from columns dimension, loss, floor and seconds."""
    first, last = table.iloc[0], table.iloc[-1]
    figure = new_figure(
        7, 2.6, f"From {first['dimension']:.0f} to {last['dimension']:.0f} dimensions the floor "
        f"falls from {first['floor']:.3g} to {last['floor']:.3g}, and the run takes "
        f"{last['seconds'] / first['seconds']:.1f} times as long.",
    )  # fmt: skip
    left, middle, right = figure.subplots(1, 3)
    left.plot(table["dimension"], table["floor"] / 1e6, "o-", color=GREY)
    left.set(ylabel="floor, in millions", ylim=(0, None), title="the floor")
    above = (table["loss"] / table["floor"] - 1).clip(lower=1e-7)
    middle.plot(table["dimension"], above, "s-", color=BLUE)
    middle.set(ylabel="loss / floor - 1", yscale="log", title="how far above it")
    right.plot(table["dimension"], table["seconds"], "o-", color=PALETTE[1])
    right.set(ylabel="seconds", title="time of the run", ylim=(0, None))
    for axes in (left, middle, right):
        axes.set(xlabel="dimension", xscale="log")
        axes.set_xticks(table["dimension"], table["dimension"])
        axes.minorticks_off()
    return figure


@styled
def held_out_scores(scores: pd.DataFrame, finding: str) -> Figure:
    """Draw scores (columns method, measure, mean, low, high), best by the first measure on top."""
    figure = new_figure(7, 2.6, finding)
    measures = scores["measure"].unique()
    order = scores[scores["measure"] == measures[0]].sort_values("mean")["method"]
    panels = figure.subplots(1, len(measures), sharey=True)
    for axes, measure in zip(panels, measures, strict=True):
        some = scores[scores["measure"] == measure].set_index("method").loc[order]
        axes.hlines(range(len(some)), some["low"], some["high"], color=BLUE, lw=2)
        axes.plot(some["mean"], range(len(some)), "o", color=BLUE)
        axes.set_yticks(range(len(some)), some.index)
        axes.set(xlabel=measure, xlim=(0, None))
    return figure


# Where a name may stand, in points from its film: all around, then farther and farther off.
PLACES = [
    (reach * math.cos(turn), reach * math.sin(turn))
    for reach in (8, 14, 22, 32, 44, 58, 74, 92, 112, 134, 158)
    for turn in np.linspace(0, 2 * math.pi, 12, endpoint=False)
]


@styled
def film_map(
    places: np.ndarray, genres: Sequence[str], named: Mapping[int, str], finding: str
) -> Figure:
    """Draw films at places [films, 2], coloured by first genre; names, by row, stand beside some.

    The 8 most frequent genres get a colour.
    """
    first = pd.Series(genres)
    frequent = first.value_counts().index[:8]
    figure = new_figure(7, 6.4, finding)
    axes = figure.subplots()
    for genre, colour in [("other", "#bbbbbb"), *zip(frequent, PALETTE, strict=False)]:
        chosen = ~first.isin(frequent) if genre == "other" else first == genre
        axes.plot(*places[chosen].T, ".", color=colour, markersize=3, alpha=0.75, label=genre)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside lower center", ncols=5, fontsize=8, markerscale=3, handletextpad=0.1)
    figure.draw_without_rendering()
    _write_names(axes, [(name, *places[row]) for row, name in named.items()])
    return figure


def _write_names(axes: Axes, films: Sequence[tuple[str, float, float]]) -> None:
    """Write names beside their points, each at the nearest place that is still free."""
    dots = axes.transData.transform([place for _, *place in films])
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in dots]  # no name hides a dot
    for name, x, y in sorted(films, key=lambda film: -film[2]):
        axes.plot(x, y, "o", color="black", mfc="none", markersize=6, mew=1.2, zorder=5)
        for dx, dy in PLACES:
            label = axes.annotate(
                name, (x, y), (dx, dy), textcoords="offset points", fontsize=7.5,
                ha="left" if dx > 1 else "right" if dx < -1 else "center", va="center",
                arrowprops={"arrowstyle": "-", "lw": 0.5}, parse_math=False,
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
            )  # fmt: skip
            label.get_window_extent()  # places it
            box = Text.get_window_extent(label).padded(1)  # the name without its line
            inside = axes.bbox.containsx(box.x0) and axes.bbox.containsx(box.x1)
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            label.remove()
