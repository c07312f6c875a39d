"""The figures of the MovieLens notebook, drawn from data and returned, never shown."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np

from assignment.drawing import BLUE, ORANGE, Drawing, drawn, empty
from assignment.movielens import Likes, MovieLens


@drawn
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
    drawing = empty(
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
