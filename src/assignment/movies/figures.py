"""The figures of the MovieLens notebook, drawn from data and returned, never shown."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import cycle, pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from assignment.common.figures import (
    BLUE,
    GREY,
    ORANGE,
    PALETTE,
    Figure,
    heatmap,
    new_figure,
    styled,
)
from assignment.movies.movielens import Likes, MovieLens


@styled
def ratings_and_likes(data: MovieLens, liked: Likes, named: Sequence[str]) -> Figure:
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
    figure = new_figure(
        7, 2.9, f"Left: ratings by stars; {share:.0%} are at least {liked.threshold}. Right: likes "
        f"per film fall off steeply; {half} of {len(ranked)} films hold half of all likes.",
    )  # fmt: skip
    left, right = figure.subplots(1, 2)
    colours = [BLUE if star >= liked.threshold else "#bbbbbb" for star in stars.index]
    left.bar(stars.index, stars.to_numpy(), width=0.4, color=colours)
    left.set(
        xlabel="stars", ylabel="ratings", title=f"liked: {liked.threshold} stars or more (blue)"
    )
    right.loglog(np.arange(1, len(ranked) + 1), ranked, color=BLUE)
    offsets = [(-6, -5, "right", "top"), (6, 5, "left", "bottom")]
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
    return figure


@styled
def colikes_picture(data: MovieLens, liked: Likes, films: int = 250, groups: int = 6) -> Figure:
    """Draw X for the most liked films: as it is, and with popularity divided out and films grouped.

    Parameters
    ----------
    data : MovieLens
    liked : Likes
    films : int
        How many of the most liked films to show.
    groups : int
        Into how many groups their tree is cut; each is labelled with its median year.
    """
    top = np.argsort(-liked.count, kind="stable")[:films]
    both = (liked.matrix[:, top].T @ liked.matrix[:, top]).toarray().astype(float)
    cosine = both / np.sqrt(np.outer(np.diag(both), np.diag(both)))
    # How many times more often than by chance two films are liked together.
    lift = np.log(both / np.outer(np.diag(both), np.diag(both)) * len(liked.users) + 0.1)
    np.fill_diagonal(lift, 0)
    tree = hierarchy.ward(pdist(lift))
    order = hierarchy.leaves_list(hierarchy.optimal_leaf_ordering(tree, pdist(lift)))
    group = hierarchy.fcluster(tree, groups, "maxclust")[order]
    years = data.movies["year"].loc[liked.movies[top[order]]].to_numpy(dtype=float)
    for picture in (both, cosine):
        np.fill_diagonal(picture, np.nan)
    edges = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
    medians = [f"{np.nanmedian(years[i:j]):.0f}" for i, j in pairwise(edges)]
    figure = new_figure(
        7, 4.4, f"X for the {len(top)} most liked films. By likes it only fades from the popular "
        "corner. Divided by popularity and grouped by similarity it falls into blocks along the "
        f"diagonal, whose films come, in the median, from {', '.join(medians)}.",
    )  # fmt: skip
    left, right = figure.subplots(1, 2)
    grouped = cosine[np.ix_(order, order)]
    for axes, picture, gamma, title, what in (
        (left, both, 0.5, "X, ordered by likes", "users who liked both"),
        (right, grouped, 1, "X / sqrt(likes x likes), grouped", "cosine of likes"),
    ):
        highest = float(np.nanquantile(picture, 0.999))
        image = axes.imshow(picture, cmap="viridis", norm=PowerNorm(gamma, 0, highest))
        axes.set(title=title, xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.set_xlabel("film")
        figure.colorbar(image, ax=axes, label=what, location="bottom", shrink=0.8)
    middles = [(i + j - 1) / 2 for i, j in pairwise(edges)]
    right.set_yticks(middles, medians)
    right.tick_params(length=0)
    left.set_ylabel("film, the most liked first")
    right.set_ylabel("film, by group; its median year")
    for edge in edges[1:-1]:
        right.axhline(edge - 0.5, color="white", lw=0.8)
        right.axvline(edge - 0.5, color="white", lw=0.8)
    return figure


# One colour per optimiser in every figure.
_NAMES = ("gradient descent", "momentum", "Nesterov", "RMSprop", "Adagrad", "Adam", "Adam, slow")
COLOURS = dict(zip((*_NAMES, "L-BFGS"), PALETTE, strict=True))
DASHED = {"Nesterov", "Adam, slow"}  # would hide momentum and RMSprop


@styled
def loss_curves(
    histories: Mapping[str, np.ndarray], diverged: Collection[str], floor: float, finding: str
) -> Figure:
    """Draw loss against iteration, raw and above the floor.

    Parameters
    ----------
    histories : mapping
        Label to losses [iterations + 1].
    diverged : collection of str
        Labels of the runs that left for infinity; they end in a cross.
    floor : float
        The lowest loss there is.
    finding : str
        What the figure shows, for its alternative text.
    """
    figure = new_figure(7, 3.6, finding)
    left, right = figure.subplots(1, 2)
    styles = zip(cycle(PALETTE), _lines(), strict=False)
    for (label, losses), (colour, line) in zip(histories.items(), styles, strict=False):
        steps, colour = np.arange(len(losses)), COLOURS.get(label, colour)
        line = "--" if label in DASHED else line
        for axes, height in ((left, losses), (right, losses / floor - 1)):
            x = steps + (axes is right)  # a log axis has no zero
            axes.plot(x, height.clip(1e-7), line, color=colour, label=label, lw=1.4)
            if label in diverged:  # up and away: off the top, one step after the last finite loss
                axes.plot(
                    [x[-1], x[-1] + 1], [height[-1], 1e3 * height[-1]], line, color=colour, lw=1.4
                )
                axes.plot(
                    x[-1] + 1, 1, "x", color=colour, markersize=8, mew=2,
                    transform=axes.get_xaxis_transform(), clip_on=False,
                )  # fmt: skip
    left.axhline(floor, color=GREY, lw=0.8, ls=":")
    left.set(xlabel="iteration", ylabel="loss", title="loss", yscale="log")
    right.set(
        xlabel="iteration + 1", ylabel="loss / floor - 1", title="how far above the floor",
        xscale="log", yscale="log",
    )  # fmt: skip
    lowest = min(float(losses.min()) for losses in histories.values()) / floor - 1
    highest = max(float(losses.max()) for losses in histories.values())
    left.set_ylim(floor / 1.2, 1.5 * highest)
    right.set_ylim(max(lowest / 2, 1e-6), 1.5 * highest / floor)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _lines() -> Iterator[str]:
    """Line styles that change when the colours begin again."""
    return cycle(["-"] * len(PALETTE) + ["--"] * len(PALETTE))


@styled
def overlap_matrix(overlaps: pd.DataFrame, finding: str) -> Figure:
    """Draw how many of ten films two configurations have in common.

    Parameters
    ----------
    overlaps : DataFrame
        Square, 0 to 10, rows and columns named by configuration.
    finding : str
        For the alternative text.
    """
    side = 1.7 + 0.27 * len(overlaps)
    figure = new_figure(7, min(side, 6.4), finding)
    axes = figure.subplots()
    told = overlaps.iloc[1:, :-1]  # the rest says the same again, or compares a run with itself
    heatmap(
        axes, told, mask=~np.tri(len(told), dtype=bool), cmap="cividis", vmin=0, vmax=10,
        fmt=".1f", annot_kws={"fontsize": 7},
        cbar_kws={"label": "films in common, of 10", "shrink": 0.7},
    )  # fmt: skip
    return figure


@styled
def overlap_against_loss(points: pd.DataFrame, finding: str) -> Figure:
    """Draw the overlap with the converged list against how far a run has come.

    Parameters
    ----------
    points : DataFrame
        Columns query, optimiser, above (loss / floor - 1), overlap (0 to 10), one row per run,
        moment and query.
    finding : str
        For the alternative text.
    """
    queries = list(points["query"].unique())
    figure = new_figure(7, 2.9, finding)
    panels = np.atleast_1d(figure.subplots(1, len(queries), sharey=True))
    optimisers = list(points["optimiser"].unique())
    generator = np.random.default_rng(0)
    for axes, query in zip(panels, queries, strict=True):
        for optimiser, other in zip(optimisers, cycle(PALETTE), strict=False):
            colour = COLOURS.get(optimiser, other)
            some = points[(points["query"] == query) & (points["optimiser"] == optimiser)]
            # Overlaps are whole numbers: a little jitter keeps dots from hiding each other.
            jitter = generator.uniform(-0.2, 0.2, len(some))
            axes.plot(
                some["above"].clip(lower=1e-6), some["overlap"] + jitter, "o", color=colour,
                markersize=3, alpha=0.7, label=optimiser,
            )  # fmt: skip
        axes.set(title=query, xscale="log", xlabel="loss / floor - 1 (to the right: converged)")
        axes.xaxis.label.set_fontsize(7.5)
        axes.invert_xaxis()
    panels[0].set(ylabel="of the converged ten", ylim=(-0.5, 10.5))
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8
    )
    return figure


@styled
def norms_and_likes(norms: np.ndarray, likes: np.ndarray) -> Figure:
    """Draw the length of each film's vector against its likes."""
    rank = spearmanr(norms, likes).statistic
    figure = new_figure(
        4.2,
        2.9,
        f"The length of a film's vector grows with its likes, rank correlation {rank:.2f}.",
    )
    axes = figure.subplots()
    axes.loglog(likes, norms, ".", color=BLUE, markersize=2.5, alpha=0.4)
    axes.set(xlabel="likes", ylabel="length of the vector", title=f"rank correlation {rank:.2f}")
    return figure


@styled
def dimension_curves(table: pd.DataFrame) -> Figure:
    """Draw what more dimensions bring: the floor, where the run ended, and its time.

    Parameters
    ----------
    table : DataFrame
        Columns dimension, loss, floor, seconds.
    """
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
    right.plot(table["dimension"], table["seconds"], "o-", color=ORANGE)
    right.set(ylabel="seconds", title="time of the run", ylim=(0, None))
    for axes in (left, middle, right):
        axes.set(xlabel="dimension", xscale="log")
        axes.set_xticks(table["dimension"], table["dimension"])
        axes.minorticks_off()
    return figure


@styled
def held_out_scores(scores: pd.DataFrame, finding: str) -> Figure:
    """Draw recall and NDCG with their intervals, best method on top.

    Parameters
    ----------
    scores : DataFrame
        Columns method, measure, mean, low, high.
    finding : str
        For the alternative text.
    """
    figure = new_figure(7, 2.6, finding)
    measures = list(scores["measure"].unique())
    panels = figure.subplots(1, len(measures), sharey=True)
    for axes, measure in zip(panels, measures, strict=True):
        some = scores[scores["measure"] == measure].set_index("method")
        some = some.loc[scores[scores["measure"] == measures[0]].sort_values("mean")["method"]]
        rows = np.arange(len(some))
        axes.hlines(rows, some["low"], some["high"], color=BLUE, lw=2)
        axes.plot(some["mean"], rows, "o", color=BLUE)
        axes.set_yticks(rows, some.index)
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
    figure = new_figure(7, 6.4, finding)
    axes = figure.subplots()
    for genre, colour in [("other", "#bbbbbb"), *zip(frequent, PALETTE, strict=False)]:
        chosen = ~first.isin(frequent) if genre == "other" else first == genre
        axes.plot(*places[chosen].T, ".", color=colour, markersize=3, alpha=0.75, label=genre)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside lower center", ncols=5, fontsize=8, markerscale=3, handletextpad=0.1)
    figure.draw_without_rendering()
    _write_names(axes, {name: places[row] for row, name in named.items()})
    return figure


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
