"""How time and memory of the embeddings grow with the data, up to the size of MovieLens 32M.

The likes are synthetic, with MovieLens-like skew: what a user gives and what a film gets are both
log-normal. One step is cost and gradient at d = 50 in float32.
"""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from assignment.common import settings
from assignment.common.figures import BLUE, GREY, ORANGE, Figure, new_figure, styled
from assignment.movies.cost import build_cost
from assignment.movies.movielens import Likes
from tests.bench.embedding import build_step, seconds
from tests.bench.table import forget_peak, peak_mebibytes

SCALES = (1, 10, 100, 330)  # times MovieLens latest-small; the last is about MovieLens 32M
USERS, FILMS, LIKES = 609, 6_298, 48_580  # of latest-small
FILM_GROWTH = 0.4526  # MovieLens 32M has 330 times the likes, and 14 times the films
Size = dict[str, float]


def skewed_likes(scale: float) -> Likes:
    """Draw likes of as many users and films as there would be; both are given very unevenly."""
    rng = np.random.default_rng(0)
    users, films = round(USERS * scale), round(FILMS * scale**FILM_GROWTH)
    wanted = round(LIKES * scale)
    activity = np.cumsum(rng.lognormal(0, 1.2, users))
    popularity = np.cumsum(rng.lognormal(0, 1.5, films))
    pairs = np.empty(0, dtype=np.int64)
    while len(pairs) < wanted:  # who likes a film twice likes it once
        more = wanted - len(pairs) + 1000
        rows = np.searchsorted(activity, rng.random(more) * activity[-1])
        columns = np.searchsorted(popularity, rng.random(more) * popularity[-1])
        pairs = np.unique(np.concatenate([pairs, rows * films + columns]))
    pairs = np.sort(rng.permutation(pairs)[:wanted])
    ones = np.ones(wanted, dtype=np.int64)
    matrix = sparse.csr_array((ones, divmod(pairs, films)), shape=(users, films))
    return Likes(matrix, np.arange(users), np.arange(films), 4.0)


def measure(scale: float) -> Size:
    """Time a step at one size; a process of its own for each size tells their memory apart."""
    made = skewed_likes(scale)
    before = forget_peak()
    step = build_step(build_cost(made, settings.device()), len(made.movies))
    step()
    return {
        "scale": scale,
        "users": len(made.users),
        "films": len(made.movies),
        "likes": int(made.matrix.nnz),
        "seconds per step": seconds(step, 5 if scale > 20 else 50),
        "memory grows by MiB": peak_mebibytes() - before,
        "process at most MiB": peak_mebibytes(),
    }


def slope(found: Sequence[Size], dim: int = 0) -> float:
    """Fit the power by which a step's time grows with likes + dim x films; 1 is in proportion."""
    amounts = [size["likes"] + dim * size["films"] for size in found]
    times = [size["seconds per step"] for size in found]
    return float(np.polyfit(np.log(amounts), np.log(times), 1)[0])


@styled
def figure(found: Sequence[Size]) -> Figure:
    """Draw time per step and memory against the number of likes."""
    power, largest = slope(found), found[-1]
    drawing = new_figure(
        7, 3, f"From {found[0]['likes']:,} to {largest['likes']:,} likes the time of a step grows "
        f"with the power {power:.2f} of their number, to {largest['seconds per step']:.2g} s; "
        f"the process then holds {largest['process at most MiB'] / 1024:.1f} GiB at most.",
    )  # fmt: skip
    x, times = np.array([(size["likes"], size["seconds per step"]) for size in found]).T
    left, right = drawing.subplots(1, 2)
    left.plot(x, times, "o-", color=BLUE, label=f"measured, slope {power:.2f}")
    left.plot(x, times[0] * x / x[0], ":", color=GREY, label="in proportion, slope 1")
    for name, style, colour in (("process at most", "o-", BLUE), ("memory grows by", "s-", ORANGE)):
        right.plot(x, [size[f"{name} MiB"] for size in found], style, color=colour, label=name)
    right.axhline(4096, color=GREY, lw=0.8, ls=":")
    right.annotate("4 GiB", (x[0], 4096), xytext=(0, -10), textcoords="offset points", fontsize=8)
    for axes, label in ((left, "seconds per step"), (right, "MiB")):
        axes.set(xlabel="likes", ylabel=label, xscale="log", yscale="log")
        axes.legend(fontsize=8)
    return drawing
