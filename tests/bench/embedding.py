"""How much faster, and in how much less memory, the fast form is than two literal ones.

One step is cost and gradient at d = 50 in float32 over all liked films (needs the real data). The
literal forms are the dense cost through autograd, as the notebook prints it, and a factor matrix of
films by films, as seen in other solutions: timed on fewer films, and extrapolated by films^3.
"""

import statistics
import timeit
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from assignment.common import settings
from assignment.movies import movielens
from assignment.movies.cost import build_cost, literal_cost
from assignment.movies.movielens import Likes
from tests.bench.table import Comparison, forget_peak, in_a_child, peak_mebibytes

DIM, FEWER = 50, 1500
FORMS = ("fast", "literal", "square")
Step = Callable[[], None]


def build_step(cost: Callable[[Tensor], Tensor], films: int, dim: int = DIM) -> Step:
    """Return a step: cost and gradient at random vectors, until the device has done it."""
    vectors = torch.nn.Parameter(0.1 * torch.randn(films, dim, device=settings.device()))

    def step() -> None:
        vectors.grad = None
        cost(vectors).backward()
        if vectors.device.type != "cpu":
            torch.accelerator.synchronize()

    return step


def build_form(form: str, likes: Likes) -> tuple[Step, int]:
    """Prepare one step of a form; return it, and over how many films it goes."""
    on = settings.device()
    films = min(FEWER, len(likes.movies)) if form == "square" else len(likes.movies)
    if form == "fast":
        return build_step(build_cost(likes, on), films), films
    most_liked = (-likes.count).argsort(kind="stable")[:films]
    table = torch.from_numpy(likes.matrix.toarray()[:, most_liked]).float().to(on)
    colikes = (table.T @ table).fill_diagonal_(0)
    dim = films if form == "square" else DIM
    return build_step(partial(literal_cost, colikes=colikes), films, dim), films


def seconds(step: Step, repeats: int) -> float:
    """Time a step: the median over repeats, which one interruption does not move."""
    return statistics.median(timeit.repeat(step, number=1, repeat=repeats))


def memory_growth(form: str) -> float:
    """Measure what a form, its data included, adds to the peak memory of this process."""
    likes = movielens.build_likes(movielens.load())
    before = forget_peak()
    step, _ = build_form(form, likes)
    seconds(step, 3)
    return peak_mebibytes() - before


def comparisons(rounds: int) -> list[Comparison]:
    """Compare a step of the fast form with one of each literal form."""
    likes = movielens.build_likes(movielens.load())
    steps = {form: build_form(form, likes) for form in FORMS}
    times = {form: list[float]() for form in FORMS}
    for step, _ in steps.values():
        step()
    for form in FORMS * rounds:
        step, films = steps[form]
        scale = (len(likes.movies) / films) ** 3
        times[form].append(1e3 * scale * seconds(step, 200 if form == "fast" else 1))
    calls = [f"memory_growth({form!r})" for form in ("fast", "literal")]
    grown = [[in_a_child("embedding", call) for call in calls] for _ in range(2)]
    lean, full = map(list, zip(*grown, strict=True))
    what, dense = f"a step of the embeddings, d = {DIM}", "the literal dense cost"
    factor = f"a factor of films x films (timed on {FEWER:,}, scaled by films^3)"
    peak = f"{what}: growth of peak memory"
    return [
        Comparison(what, dense, "ms", times["fast"], times["literal"], 150),
        Comparison(what, factor, "ms", times["fast"], times["square"]),
        Comparison(peak, dense, "MiB", lean, full),
    ]
