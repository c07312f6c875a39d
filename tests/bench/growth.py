"""How time and memory of the embeddings grow with the data, up to the size of MovieLens 32M.

The likes are synthetic, with MovieLens-like skew: what a user gives and what a film gets are both
log-normal. One step is cost and gradient at d = 50 in float32; X itself is never built, the
constant of the cost is added up in blocks. Every size is measured in a process of its own.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse

from assignment.common import settings
from assignment.common.figures import BLUE, GREY, ORANGE, Figure, new_figure, styled
from assignment.movies.cost import build_cost
from assignment.movies.movielens import Likes
from tests.bench.embedding import DIM, seconds
from tests.bench.table import finish, forget_peak, gpu_mebibytes, peak_mebibytes, report

SCALES = (1, 10, 100, 330)  # times MovieLens latest-small; the last is about MovieLens 32M
USERS, FILMS, LIKES = 609, 6_298, 48_580  # of latest-small
FILM_GROWTH = 0.4526  # MovieLens 32M has 330 times the likes, and 14 times the films


def skewed_likes(scale: float, seed: int = 0) -> Likes:
    """Draw likes of as many users and films as there would be; both are given very unevenly."""
    rng = np.random.default_rng(seed)
    users, films = round(USERS * scale), round(FILMS * scale**FILM_GROWTH)
    wanted = round(LIKES * scale)
    pairs = np.empty(0, dtype=np.int64)
    activity, popularity = (
        np.cumsum(rng.lognormal(0, width, size)) for width, size in ((1.2, users), (1.5, films))
    )
    while len(pairs) < wanted:  # who likes a film twice likes it once
        rows, columns = (
            np.searchsorted(heights, rng.random(wanted - len(pairs) + 1000) * heights[-1])
            for heights in (activity, popularity)
        )
        pairs = np.unique(np.concatenate([pairs, rows * films + columns]))
    pairs = np.sort(rng.permutation(pairs)[:wanted])
    ones = np.ones(wanted, dtype=np.int64)
    matrix = sparse.csr_array((ones, divmod(pairs, films)), shape=(users, films))
    return Likes(matrix, np.arange(users), np.arange(films), 4.0)


def measure(scale: float) -> dict[str, float]:
    """Time a step at one size, in this process."""
    made = skewed_likes(scale)
    on = settings.device()
    vectors = torch.nn.Parameter(0.1 * torch.randn(len(made.movies), DIM, device=on))
    (torch.ones(64, 64) @ torch.ones(64, 64)).sum().item()  # the libraries' own buffers
    forget_peak()
    before, began = peak_mebibytes(), time.perf_counter()
    cost = build_cost(made, on)
    built = time.perf_counter() - began

    def step() -> None:
        vectors.grad = None
        cost(vectors).backward()
        finish(on)

    step()
    repeats = 5 if scale > 20 else 50
    return {
        "scale": scale,
        "users": len(made.users),
        "films": len(made.movies),
        "likes": int(made.matrix.nnz),
        "seconds per step": seconds(step, repeats),
        "seconds to begin": built,
        "memory grows by MiB": peak_mebibytes() - before,
        "process at most MiB": peak_mebibytes(),
        "GPU at most MiB": gpu_mebibytes(on),
    }


def sizes(scales: Sequence[float] = SCALES) -> list[dict[str, float]]:
    """Measure every size, each in a child."""
    found = []
    for scale in scales:
        command = [sys.executable, "-m", "tests.bench.growth", str(scale)]
        run = subprocess.run(
            command, cwd=settings.PROJECT, capture_output=True, text=True, check=True
        )
        found.append(json.loads(run.stdout))
    return found


def likes(size: dict[str, float]) -> float:
    """Count what a step gathers, row by row: where nearly all of its time goes."""
    return size["likes"]


def likes_and_numbers(size: dict[str, float]) -> float:
    """Count likes and the numbers of the vectors: its arithmetic, divided by d."""
    return size["likes"] + DIM * size["films"]


def slope(found: Sequence[dict[str, float]], of: Callable[[dict[str, float]], float]) -> float:
    """Fit the power by which the time of a step grows with something; 1 is in proportion."""
    logs = np.log([[of(size), size["seconds per step"]] for size in found])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


@styled
def figure(found: Sequence[dict[str, float]]) -> Figure:
    """Draw time per step and memory against the number of likes."""
    power, largest = slope(found, likes), found[-1]
    drawing = new_figure(
        7, 3, f"From {found[0]['likes']:,} to {largest['likes']:,} likes the time of a step grows "
        f"with the power {power:.2f} of their number, to {largest['seconds per step']:.2g} s; "
        f"the process then holds {largest['process at most MiB'] / 1024:.1f} GiB at most.",
    )  # fmt: skip
    x = np.array([likes(size) for size in found])
    left, right = drawing.subplots(1, 2)
    times = np.array([size["seconds per step"] for size in found])
    left.plot(x, times, "o-", color=BLUE, label=f"measured, slope {power:.2f}")
    left.plot(x, times[0] * x / x[0], ":", color=GREY, label="in proportion, slope 1")
    left.set(ylabel="seconds per step", xscale="log", yscale="log")
    memory: dict[str, Any] = {"process at most MiB": BLUE, "memory grows by MiB": ORANGE}
    for (key, colour), marker in zip(memory.items(), "os", strict=True):
        words = key.removesuffix(" MiB")
        right.plot(x, [size[key] for size in found], f"{marker}-", color=colour, label=words)
    right.axhline(4096, color=GREY, lw=0.8, ls=":")
    right.annotate("4 GiB", (x[0], 4096), xytext=(0, -10), textcoords="offset points", fontsize=8)
    right.set(ylabel="MiB", xscale="log", yscale="log")
    for axes in (left, right):
        axes.set_xlabel("likes")
        axes.legend(fontsize=8)
    return drawing


if __name__ == "__main__":
    report(json.dumps(measure(float(sys.argv[1]))))
