"""How much faster, and in how much less memory, the fast form is than two literal ones.

One step is cost and gradient at d = 50 in float32 over all liked films (needs the real data):

(a) the literal dense cost through autograd, as the notebook prints it;
(b) a factor matrix of films by films, as seen in other solutions, on fewer films (named below).
    Its step costs in proportion to films^3, and is extrapolated to all films by that power.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from assignment.common import settings
from assignment.movies import movielens
from assignment.movies.cost import build_cost, literal_cost
from assignment.movies.movielens import Likes
from tests.bench.table import Comparison, finish, forget_peak, peak_mebibytes, report

DIM = 50
FEWER = 1500
FORMS = ("fast", "literal", "square")


def build(form: str, likes: Likes) -> tuple[Callable[[], object], int]:
    """Prepare one step of a form; return it, and over how many films it goes."""
    films = min(FEWER, len(likes.movies)) if form == "square" else len(likes.movies)
    on = settings.device()
    width = films if form == "square" else DIM
    vectors = torch.nn.Parameter(0.1 * torch.randn(films, width, device=on))
    cost: Callable[[Tensor], Tensor]
    if form == "fast":
        cost = build_cost(likes, on)
    else:
        most_liked = (-likes.count).argsort(kind="stable")[:films]
        table = torch.from_numpy(likes.matrix.toarray()[:, most_liked]).float().to(on)
        cost = partial(literal_cost, colikes=(table.T @ table).fill_diagonal_(0))

    def step() -> None:
        vectors.grad = None
        cost(vectors).backward()
        finish(on)

    return step, films


def seconds(step: Callable[[], object], repeats: int) -> float:
    """Time a step: the median over repeats, which one interruption does not move."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def growth(form: str) -> float:
    """Measure what a form, its data included, adds to the peak memory of this process."""
    likes = movielens.build_likes(movielens.load())
    (torch.ones(64, 64) @ torch.ones(64, 64)).sum().item()  # the libraries' own buffers
    forget_peak()
    before = peak_mebibytes()
    step, _ = build(form, likes)
    for _ in range(3):
        step()
    return peak_mebibytes() - before


def growth_in_a_child(form: str) -> float:
    command = [sys.executable, "-m", "tests.bench.embedding", form]
    found = subprocess.run(
        command, cwd=settings.PROJECT, capture_output=True, text=True, check=True
    )
    return float(found.stdout)


def comparisons(rounds: int) -> list[Comparison]:
    """Compare a step of the fast form with one of each literal form."""
    likes = movielens.build_likes(movielens.load())
    steps = {form: build(form, likes) for form in FORMS}
    scale = (len(likes.movies) / steps["square"][1]) ** 3
    repeats = {"fast": 200, "literal": 1, "square": 1}
    for step, _ in steps.values():
        step()
    times = [{f: 1e3 * seconds(steps[f][0], repeats[f]) for f in FORMS} for _ in range(rounds)]
    fast = [time["fast"] for time in times]
    what = f"a step of the embeddings, d = {DIM}"
    square = f"a factor of films x films (timed on {FEWER:,}, scaled by films^3)"
    grown = [{f: growth_in_a_child(f) for f in ("fast", "literal")} for _ in range(min(rounds, 2))]
    return [
        Comparison(what, "the literal dense cost", "ms", fast, [t["literal"] for t in times], 150),
        Comparison(what, square, "ms", fast, [scale * t["square"] for t in times]),
        Comparison(
            f"{what}: growth of peak memory",
            "the literal dense cost",
            "MiB",
            [memory["fast"] for memory in grown],
            [memory["literal"] for memory in grown],
        ),
    ]


if __name__ == "__main__":
    report(growth(sys.argv[1]))
