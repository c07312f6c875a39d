"""How much faster, and in how much less memory, the fast form is than two literal ones.

One step is cost and gradient at d = 50 in float32 over all liked films (needs the real data):

(a) the literal dense cost through autograd, as the notebook prints it;
(b) a factor matrix of films by films, as seen in other solutions, on fewer films (named below).
    Its step costs in proportion to films^3, and is extrapolated to all films by that power.
"""

import statistics
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
from tests.bench.table import Comparison, finish, forget_peak, in_a_child, peak_mebibytes

DIM = 50
FEWER = 1500
FORMS = ("fast", "literal", "square")
Step = Callable[[], None]


def random_vectors(films: int, dim: int = DIM) -> Tensor:
    return torch.nn.Parameter(0.1 * torch.randn(films, dim, device=settings.device()))


def build_step(cost: Callable[[Tensor], Tensor], vectors: Tensor) -> Step:
    """Return a step: cost and gradient, until the device has done it."""

    def step() -> None:
        vectors.grad = None
        cost(vectors).backward()
        finish(vectors.device)

    return step


def build_form(form: str, likes: Likes) -> tuple[Step, int]:
    """Prepare one step of a form; return it, and over how many films it goes."""
    on = settings.device()
    films = min(FEWER, len(likes.movies)) if form == "square" else len(likes.movies)
    vectors = random_vectors(films, films if form == "square" else DIM)
    if form == "fast":
        return build_step(build_cost(likes, on), vectors), films
    most_liked = (-likes.count).argsort(kind="stable")[:films]
    table = torch.from_numpy(likes.matrix.toarray()[:, most_liked]).float().to(on)
    colikes = (table.T @ table).fill_diagonal_(0)
    return build_step(partial(literal_cost, colikes=colikes), vectors), films


def seconds(step: Step, repeats: int) -> float:
    """Time a step: the median over repeats, which one interruption does not move."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def memory_growth(form: str) -> float:
    """Measure what a form, its data included, adds to the peak memory of this process."""
    likes = movielens.build_likes(movielens.load())
    forget_peak()
    before = peak_mebibytes()
    step, _ = build_form(form, likes)
    for _ in range(3):
        step()
    return peak_mebibytes() - before


def comparisons(rounds: int) -> list[Comparison]:
    """Compare a step of the fast form with one of each literal form."""
    likes = movielens.build_likes(movielens.load())
    steps = {form: build_form(form, likes) for form in FORMS}
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    for step, _ in steps.values():
        step()
    for _ in range(rounds):
        for form, (step, films) in steps.items():
            scale = (len(likes.movies) / films) ** 3
            times[form].append(1e3 * scale * seconds(step, 200 if form == "fast" else 1))
    memory: dict[str, list[float]] = {"fast": [], "literal": []}
    for _ in range(min(rounds, 2)):
        for form, grown in memory.items():
            grown.append(in_a_child("embedding", form))
    what, dense = f"a step of the embeddings, d = {DIM}", "the literal dense cost"
    square = f"a factor of films x films (timed on {FEWER:,}, scaled by films^3)"
    peak = f"{what}: growth of peak memory"
    return [
        Comparison(what, dense, "ms", times["fast"], times["literal"], 150),
        Comparison(what, square, "ms", times["fast"], times["square"]),
        Comparison(peak, dense, "MiB", memory["fast"], memory["literal"]),
    ]


if __name__ == "__main__":
    settings.report(str(memory_growth(sys.argv[1])))
