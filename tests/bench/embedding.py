"""How much faster, and in how much less memory, the fast cost is than the literal one.

One step is cost and gradient at d = 50 in float32 over all liked films (needs the real data); the
literal form is the dense cost through autograd, as the notebook prints it. Where the library
`implicit` is installed, which the project does not need, an epoch of its ALS stands beside both the
step and the notebook's own iALS.
"""

import importlib.util
import statistics
import timeit
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from assignment.common import settings
from assignment.movies import evaluation, movielens
from assignment.movies.cost import build_cost, literal_cost
from assignment.movies.movielens import Likes
from tests.bench.table import Comparison, compare, forget_peak, in_a_child, peak_mebibytes

DIM = 50
Step = Callable[[], None]


def build_step(cost: Callable[[Tensor], Tensor], films: int) -> Step:
    """Return a step: cost and gradient at random vectors, until the device has done it."""
    vectors = torch.nn.Parameter(0.1 * torch.randn(films, DIM, device=settings.device()))

    def step() -> None:
        vectors.grad = None
        cost(vectors).backward()
        if vectors.device.type != "cpu":
            torch.accelerator.synchronize()

    return step


def build_form(form: str, likes: Likes) -> Step:
    """Prepare one step of a form, "fast" or "literal"."""
    on, films = settings.device(), len(likes.movies)
    if form == "fast":
        return build_step(build_cost(likes, on), films)
    table = torch.from_numpy(likes.matrix.toarray()).float().to(on)
    colikes = (table.T @ table).fill_diagonal_(0)
    return build_step(partial(literal_cost, colikes=colikes), films)


def seconds(step: Step, repeats: int) -> float:
    """Time a step: the median over repeats, which one interruption does not move."""
    return statistics.median(timeit.repeat(step, number=1, repeat=repeats))


def memory_growth(form: str) -> float:
    """Measure what a form, its data included, adds to the peak memory of this process."""
    likes = movielens.build_likes(movielens.load())
    before = forget_peak()
    seconds(build_form(form, likes), 3)
    return peak_mebibytes() - before


def als_epochs(likes: Likes) -> dict[str, Step]:
    """Prepare an epoch of iALS, users and films once each, here and in the library `implicit`."""
    alpha, regularisation = 5.0, 30.0
    films = 0.1 * np.random.default_rng(0).normal(size=(len(likes.movies), DIM))

    def here() -> None:
        users = evaluation._least_squares(likes.matrix, films, alpha, regularisation)
        evaluation._least_squares(likes.matrix.T.tocsr(), users, alpha, regularisation)

    if importlib.util.find_spec("implicit") is None:
        return {}
    library = importlib.import_module("implicit.cpu.als").AlternatingLeastSquares(
        DIM, regularisation, alpha, use_cg=False, iterations=1, num_threads=torch.get_num_threads()
    )
    table = sparse.csr_matrix(likes.matrix.astype(np.float32))
    return {"iALS": here, "implicit": lambda: library.fit(table, show_progress=False)}


def comparisons(rounds: int) -> list[Comparison]:
    """Compare a step of the fast form with one of the literal form, and with an epoch of ALS."""
    likes = movielens.build_likes(movielens.load())
    steps = {form: build_form(form, likes) for form in ("fast", "literal")} | als_epochs(likes)
    for step in steps.values():
        step()

    def milliseconds(form: str) -> float:
        return 1e3 * seconds(steps[form], 200 if form == "fast" else 1)

    def mebibytes(form: str) -> float:
        return float(in_a_child("embedding", f"memory_growth({form!r})"))

    what, dense = f"a step of the embeddings, d = {DIM}", "the literal dense cost"
    peak = f"{what}: growth of peak memory"
    made = [
        compare(what, dense, "ms", rounds, milliseconds, "fast", "literal", 150),
        compare(peak, dense, "MiB", 2, mebibytes, "fast", "literal"),
    ]
    if "implicit" in steps:
        epoch, library = f"an epoch of iALS, d = {DIM}", "an epoch of ALS in the library implicit"
        made.append(compare(what, library, "ms", rounds, milliseconds, "fast", "implicit"))
        made.append(compare(epoch, library, "ms", rounds, milliseconds, "iALS", "implicit"))
    return made
