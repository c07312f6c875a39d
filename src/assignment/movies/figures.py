"""The figures of the MovieLens notebook, drawn from data and returned, never shown.

What a figure shows is its `finding`, a sentence of the caller for the alternative text.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import cycle
from operator import itemgetter

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from assignment.common.figures import BLUE, PALETTE, Figure, new_figure, styled
from assignment.common.runs import Run
from assignment.movies.evaluation import Evaluation, bootstrap_interval
from assignment.movies.movielens import Likes, MovieLens
from assignment.movies.recommend import short_title


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
    left.yaxis.set_major_formatter("{x:,.0f}")
    left.set_title(f"liked: {liked.threshold} stars or more (blue)")
    ranks = np.arange(1, len(ranked) + 1)
    right.loglog(ranks, ranked, color=BLUE)
    right.set(xlabel="film, by likes", ylabel="likes", title="likes per film")
    names = []
    for title in named:
        movie = data.movies.index[data.movies["title"] == title]
        count = liked.count[np.isin(liked.movies, movie)].sum()
        names.append((f"{short_title(title, 22)}: {count}", (ranked > count).sum() + 1, count))
    figure.draw_without_rendering()
    along = np.geomspace(1, len(ranked), 200)  # the curve, densely, so that no name lies on it
    names.sort(key=itemgetter(2))
    _write_names(right, names, np.column_stack([along, np.interp(along, ranks, ranked)]))
    return figure


# One colour per optimiser in every figure.
_NAMES = ("gradient descent", "momentum", "Nesterov", "RMSprop", "Adagrad", "Adam", "slow Adam")
COLOURS = dict(zip((*_NAMES, "L-BFGS"), PALETTE, strict=True))
OTHERS = ("#7f7f7f", "#8c564b", "#b8860b", "#000080")  # of what has no colour of its own
MARKERS = "os^DvP*X"  # with which dots differ in grey, too
DASHED = {"Nesterov", "slow Adam"}  # would hide momentum and RMSprop


def _colours(labels: Collection[str]) -> dict[str, str]:
    """Return a colour for each label: the optimiser's, or one that none of the others has."""
    known = {label: COLOURS[label] for label in labels if label in COLOURS}
    free = cycle(colour for colour in (*PALETTE, *OTHERS) if colour not in known.values())
    return {label: known.get(label) or next(free) for label in labels}


@styled
def loss_curves(found: Mapping[str, Run], floor: float, finding: str) -> Figure:
    """Draw the loss of descents, raw and above the floor; a run that diverged ends in a cross.

    Where a loss oscillates the line is its lower edge, and a band reaches up to its upper one.
    """
    figure = new_figure(7, 3.8, finding)
    left, right = figure.subplots(1, 2)
    for (label, colour), run in zip(_colours(found).items(), found.values(), strict=True):
        line = "--" if label in DASHED or colour in OTHERS else "-"
        edges = envelope(run["losses"])
        for axes, first, (lower, upper) in (
            (left, 0, edges), (right, 1, (edges / floor - 1).clip(1e-7))
        ):  # fmt: skip
            steps = first + np.arange(len(lower))  # a log axis has no zero
            axes.plot(steps, lower, line, color=colour, label=label, lw=1.4)
            axes.fill_between(steps, lower, upper, color=colour, alpha=0.25, lw=0)
            if run["diverged"]:  # off the top, one step after the last finite loss
                last, end = upper[-1], steps[-1]
                axes.plot([end, end + 1], [last, 1e3 * last], line, color=colour, lw=1.4)
                axes.plot(
                    end + 1, 1, "x", color=colour, markersize=8, mew=2,
                    transform=axes.get_xaxis_transform(), clip_on=False,
                )  # fmt: skip
    every = np.concatenate([run["losses"] for run in found.values()])
    top, nearest = 1.5 * every.max(), max((every.min() / floor - 1) / 2, 1e-6)
    left.axhline(floor, color="black", lw=0.8, ls=":")
    left.text(
        1, 0.95 * floor, "the floor", transform=left.get_yaxis_transform(), ha="right", va="top"
    )
    left.set(xlabel="iteration", ylabel="loss", title="loss", yscale="log", ylim=(floor / 1.8, top))
    right.set(xlabel="iteration + 1", ylabel="above the floor", title="how far above the floor")
    right.set(xscale="log", yscale="log", ylim=(nearest, top / floor))
    right.yaxis.set_major_formatter(_percent)
    handles = left.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _percent(share: float, _: int = 0) -> str:
    return f"{100 * share:,.10g} %"


def envelope(losses: np.ndarray) -> np.ndarray:
    """Return a curve's lower and upper edge: itself, but where it rises again around a step."""
    edges = np.stack([losses, losses])
    for step in range(len(losses)):
        near = losses[max(step - step // 12 - 1, 0) : step + step // 12 + 2]
        if (np.diff(near) > 1e-3 * near[:-1]).any():  # more than float32's noise
            edges[:, step] = near.min(), near.max()
    return edges


@styled
def overlap_against_loss(points: pd.DataFrame, finding: str) -> Figure:
    """Draw the overlap with the floor's list against how far a run has come.

    Columns: query, run, above (loss / floor - 1) and overlap (0 to 10). A run is an optimiser, or
    "optimiser, another rate", whose dots have its colour and are hollow.
    """
    queries, runs = points["query"].unique(), points["run"].unique()
    figure = new_figure(7, 3.1, finding)
    panels = figure.subplots(1, len(queries), sharey=True, squeeze=False)[0]
    generator = np.random.default_rng(0)
    colours = _colours(dict.fromkeys(run.split(", ")[0] for run in runs))
    for axes, query in zip(panels, queries, strict=True):
        for run, marker in zip(runs, cycle(MARKERS), strict=False):
            some = points[(points["query"] == query) & (points["run"] == run)]
            optimiser, *other = run.split(", ")
            # Overlaps are whole numbers: a little jitter keeps dots from hiding each other.
            jitter = generator.uniform(-0.2, 0.2, len(some))
            axes.semilogx(
                some["above"].clip(lower=1e-6), some["overlap"] + jitter, marker, markersize=4,
                color=colours[optimiser], alpha=0.8, label=run, ls="none",
                fillstyle="none" if other else "full", mew=0.9 if other else 0,
            )  # fmt: skip
        axes.set_title(short_title(query, 60 // len(queries)), parse_math=False)
        axes.set_xlabel("% above the floor")
        axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:,.10g}")
        axes.invert_xaxis()  # to the right: converged
    panels[0].set(ylabel="of the floor's ten", ylim=(-0.5, 10.5))
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, fontsize=8)
    return figure


@styled
def more_dimensions(share: pd.Series, scores: pd.DataFrame, finding: str) -> Figure:
    """Draw by dimension the floor as a share of what zeros cost, and NDCG on hidden likes.

    The scores have a row for the fewest likes that a film needs to take part.
    """
    figure = new_figure(7, 2.6, finding)
    left, right = figure.subplots(1, 2)
    left.plot(share.index, share, "o-", color=BLUE)
    left.set(title="floor / cost of zeros", ylim=(0, None))
    left.yaxis.set_major_formatter(_percent)
    for (fewest, row), marker in zip(scores.iterrows(), cycle(MARKERS), strict=False):
        right.plot(row.index, row, f"{marker}-", markersize=4, label=fewest)
    right.set(title="NDCG@10 on hidden likes", ylim=(0, None))
    right.legend(title="films with at least so many likes", ncols=4, loc="lower right")
    for axes, dims in ((left, share.index), (right, scores.columns)):
        axes.set(xscale="log", xlabel="dimension")
        axes.set_xticks(dims, map(str, dims))
        axes.minorticks_off()
    return figure


@styled
def held_out_scores(found: Mapping[str, Evaluation], finding: str) -> Figure:
    """Draw mean recall and NDCG over users with their 95 % intervals, the first method on top."""
    figure = new_figure(7, 2.6, finding)
    panels, order = figure.subplots(1, 2, sharey=True), range(len(found))[::-1]
    for axes, name in zip(panels, ("recall", "ndcg"), strict=True):
        values = [getattr(each, name) for each in found.values()]
        axes.hlines(order, *np.transpose([*map(bootstrap_interval, values)]), color=BLUE, lw=2)
        axes.plot([each.mean() for each in values], order, "o", color=BLUE)
        axes.set_yticks(order, found)
        axes.set(xlabel=f"{name.replace('ndcg', 'NDCG')}@10", xlim=(0, None))
    return figure


# Where a name may stand, in points from its film: all around, then farther and farther off.
PLACES = [
    (reach * math.cos(turn), reach * math.sin(turn))
    for reach in (8, 14, 22, 32, 44, 58, 74, 92, 112, 134, 158)
    for turn in np.linspace(0, 2 * math.pi, 12, endpoint=False)
]


@styled
def film_map(
    places: np.ndarray,
    films: pd.DataFrame,
    named: Sequence[int],
    around: Mapping[int, np.ndarray],
    finding: str,
) -> Figure:
    """Draw films at places [films, 2] twice, coloured by first genre and by year.

    `films` by movieId has title, genres and year. Named films have their names on the left. Around
    others a ring holds the films nearest to them, given by row, with their names on the right.
    """
    first, year = films["genres"].str.split("|").str[0], films["year"].to_numpy(dtype=float)
    frequent = first.value_counts().index[:8]
    figure = new_figure(7, 4, finding)
    left, right = figure.subplots(1, 2)
    for genre, colour in [("other", "#bbbbbb"), *zip(frequent, PALETTE, strict=False)]:
        chosen = (~first.isin(frequent) if genre == "other" else first == genre).to_numpy()
        left.plot(*places[chosen].T, ".", color=colour, markersize=3, alpha=0.75, label=genre)
    low, high = np.nanpercentile(year, [5, 95])
    dots = right.scatter(*places.T, c=year, s=4, cmap="viridis", vmin=low, vmax=high)
    place = dict(zip(films.index, places, strict=True))
    for axes, title in ((left, "first genre"), (right, "year of release")):
        axes.set(xticks=[], yticks=[], title=title)
        axes.set_aspect("equal", adjustable="datalim")  # so that a ring is a circle
        axes.spines[:].set_visible(False)
        for film, rows in around.items():
            reach = np.linalg.norm(places[rows] - place[film], axis=1).max()
            axes.add_patch(Circle(place[film], reach, fill=False, lw=1.5, zorder=2.5))
    figure.legend(loc="outside lower center", ncols=9, fontsize=7.5, markerscale=3,
                  handletextpad=0.1, columnspacing=0.8)  # fmt: skip
    figure.colorbar(dots, ax=right, location="bottom", aspect=40, pad=0.02, extend="both")
    figure.draw_without_rendering()
    for axes, some in ((left, named), (right, around)):
        shown = [film for film in some if film in place]
        names = [(short_title(films["title"][m], 24), *place[m]) for m in shown]
        _write_names(axes, sorted(names, key=lambda name: -name[2]))
    return figure


def _write_names(
    axes: Axes, films: Sequence[tuple[str, float, float]], line: np.ndarray | None = None
) -> None:
    """Write names beside their points, off a line, each at the nearest place that is free."""
    dots = axes.transData.transform([place for _, *place in films])
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in dots]  # no name hides a dot
    if line is not None:
        taken += [Bbox.from_bounds(x - 2, y - 2, 4, 4) for x, y in axes.transData.transform(line)]
    for name, x, y in films:
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
            if inside and not box.count_overlaps(taken):
                taken.append(box)
                break
            label.remove()
