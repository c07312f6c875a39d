"""How the movie embeddings are fitted, and the floor that no loss can pass: the lowest cost.

The floor is found by another method, and every loss is read against it.
"""

import math
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.optim import LBFGS, SGD, Adagrad, Adam, RMSprop

from assignment.common import progress
from assignment.common.settings import AssignmentError, device
from assignment.common.tables import Summary
from assignment.movies.cost import Cost, build_cost, literal_cost
from assignment.movies.movielens import Likes

DIVERGED = 10.0  # a run ends where its loss is so many times the first
ROUNDS = 20  # of the search for the floor, at most
OPTIMISERS: dict[str, partial[Any]] = {
    "sgd": partial(SGD),
    "momentum": partial(SGD, momentum=0.9),
    "nesterov": partial(SGD, momentum=0.9, nesterov=True),
    "rmsprop": partial(RMSprop, lr=5e-3),
    "adagrad": partial(Adagrad, lr=0.5),
    "adam": partial(Adam, lr=0.2),
    "lbfgs": partial(
        LBFGS, lr=1.0, max_iter=1, max_eval=25, history_size=10, line_search_fn="strong_wolfe"
    ),
}
SHARES = {"sgd": 0.9, "momentum": 0.5, "nesterov": 0.5}  # of the largest stable step, by default


@dataclass(frozen=True, eq=False, repr=False)
class Embedding(Summary):
    """The result of a fit; the vectors of one that diverged are of no use."""

    losses: np.ndarray  # float64 [iterations + 1], fewer if diverged; good to 1e-6 of ||X||^2
    final: float  # the cost of `vectors` in float64, infinite if diverged
    vectors: np.ndarray  # float32 [movies, dim]
    seconds: float
    diverged: bool
    snapshots: dict[int, np.ndarray]  # the vectors after so many steps

    def summary(self) -> Mapping[str, object]:
        """Return its size, and how it ended."""
        films, dim = self.vectors.shape
        ended = {"final loss": f"{self.final:,.0f}", "seconds": f"{self.seconds:.1f}"}
        return {"films": films, "dimensions": dim, "steps": len(self.losses) - 1, **ended}


def random_start(films: int, dim: int, seed: int = 0, scale: float = 0.1) -> Tensor:
    """Draw small random vectors, float32 [films, dim], the same on every device."""
    return scale * torch.randn(films, dim, generator=torch.Generator().manual_seed(seed))


def descend(cost: Cost, vectors: Tensor, optimiser: Any, iterations: int) -> Iterator[float]:
    """Minimise the cost, one step at a time; yield the loss before each step and at the end."""

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = cost(vectors)
        loss.backward()
        return loss

    for _ in range(iterations):
        yield optimiser.step(closure).item()
    yield cost(vectors.detach()).item()


def fit(
    likes: Likes,
    dim: int = 50,
    optimiser: str = "nesterov",
    lr: float | None = None,  # by default `choose_lr`
    iterations: int = 1000,
    seed: int = 0,
    scale: float = 0.1,  # standard deviation at the start; at 0 the gradient is zero
    snapshots: Collection[int] = (),  # steps after which to copy the vectors
) -> Embedding:
    """Train vectors from a seeded random start; a run that diverges ends early."""
    if (build := OPTIMISERS.get(optimiser)) is None:
        raise AssignmentError(f"optimiser is {optimiser!r}; choose one of {', '.join(OPTIMISERS)}.")
    lr = choose_lr(likes, optimiser) if lr is None else lr
    _check("whole", dim=dim, iterations=iterations)
    _check("finite", lr=lr, scale=scale)
    on = device()
    cost = build_cost(likes, on)
    # A line search compares losses so close that float32 cannot tell them apart.
    dtype = cost.sum_dtype if optimiser == "lbfgs" else torch.float32
    vectors = random_start(len(likes.movies), dim, seed, scale).to(on, dtype).requires_grad_()
    losses: list[float] = []
    copies = {0: _numpy(vectors)} if 0 in snapshots else {}
    steps = descend(cost, vectors, build([vectors], lr=lr), iterations)
    began = time.perf_counter()
    for step, loss in enumerate(steps, start=1):
        progress.done(1 / (iterations + 1), f"{optimiser}, lr {lr:g}")
        if not loss <= DIVERGED * (losses[0] if losses else loss) < math.inf:
            break
        losses.append(loss)
        if step in snapshots and step <= iterations:
            copies[step] = _numpy(vectors)
    seconds = time.perf_counter() - began
    diverged = len(losses) <= iterations
    result = _numpy(vectors)
    final = math.inf if diverged else build_cost(likes)(torch.from_numpy(result).double()).item()
    return Embedding(np.array(losses), final, result, seconds, diverged, copies)


def choose_lr(likes: Likes, optimiser: str) -> float:
    """Return an optimiser's learning rate: of plain descent a share of the largest stable step."""
    if share := SHARES.get(optimiser):
        return share * largest_stable_step(likes)
    return float(OPTIMISERS[optimiser].keywords["lr"])


def _check(kind: str, **numbers: Any) -> None:
    for name, value in numbers.items():
        known = isinstance(value, Integral if kind == "whole" else Real)
        if isinstance(value, bool) or not known or not 0 < value < math.inf:
            raise AssignmentError(f"{name} is {value!r}; expected a {kind} number above zero.")


def _numpy(vectors: Tensor) -> np.ndarray:
    return vectors.detach().to("cpu", torch.float32, copy=True).numpy()


@dataclass(frozen=True, eq=False, repr=False)
class Floor(Summary):
    """The lowest cost found, and the vectors that reach it."""

    value: float
    vectors: np.ndarray  # float64 [movies, dim], columns orthogonal, the longest first
    seconds: float

    def summary(self) -> Mapping[str, object]:
        """Return its size and its value."""
        films, dim = self.vectors.shape
        return {"films": films, "dimensions": dim, "lowest loss": f"{self.value:,.0f}"}


def find_floor(likes: Likes, dim: int = 50, seed: int | None = None) -> Floor:
    """Find the lowest cost: L-BFGS in float64 on the CPU, from the top eigenpairs of X.

    With a seed it starts from random vectors, and should find the same.
    """
    _check("whole", dim=dim)
    began = time.perf_counter()
    start = np.zeros((len(likes.movies), dim))
    if seed is None:
        values, directions = leading_eigenpairs(likes, dim)
        start[:, : len(values)] = directions * np.sqrt(np.maximum(values, 1e-3 * values[0]))
    else:
        start = np.random.default_rng(seed).normal(0, 0.1, start.shape)
    return _go_down(build_cost(likes), start, began)


def find_floor_of(matrix: np.ndarray, dim: int) -> Floor:
    """Find the lowest literal cost of another symmetric matrix in the place of X, as `find_floor`.

    It takes films x films numbers and as many steps, so it is for a thousand or two.
    """
    began = time.perf_counter()
    values, directions = np.linalg.eigh(matrix)
    longest = np.sqrt(np.maximum(values[: -dim - 1 : -1], 1e-3 * values[-1]))
    target = torch.from_numpy(matrix)
    start = directions[:, : -dim - 1 : -1] * longest
    return _go_down(lambda vectors: literal_cost(vectors, target), start, began)


def _go_down(cost: Cost, start: np.ndarray, began: float) -> Floor:
    """Take L-BFGS to the bottom, in rounds; the whole counts as one fit's progress.

    A rotation changes no cost, so the columns of V may be made orthogonal. The cost then curves
    along each in proportion to its squared length: scaled by their lengths all curve alike, and a
    third of the steps suffices.
    """
    best = torch.from_numpy(start)
    for left in reversed(range(ROUNDS)):  # four or five are usual
        squares, turn = torch.linalg.eigh(best.T @ best)
        unit = squares.clamp_min(max(1e-4 * float(squares[-1]), 1e-12)).sqrt()
        scaled = (best @ turn * unit).requires_grad_()
        search = OPTIMISERS["lbfgs"](
            [scaled], max_iter=30, max_eval=60, tolerance_grad=0, tolerance_change=0
        )
        before, value = descend(lambda w: cost(w / unit), scaled, search, 1)  # noqa: B023
        best = (scaled / unit).detach()
        settled = before - value <= 1e-9 * before
        progress.done((1 + settled * left) / ROUNDS, f"floor, {start.shape[1]} dimensions")
        if settled:
            break
    best = best @ torch.linalg.eigh(best.T @ best).eigenvectors.flip(1)
    return Floor(value, best.numpy(), time.perf_counter() - began)


def leading_eigenpairs(likes: Likes, how_many: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the largest eigenvalues of X, falling, and their vectors [movies, how_many]."""
    A, n = likes.matrix.astype(np.float64), likes.count
    if A.sum(axis=1).max() < 2:
        raise AssignmentError("No user likes two films: there are no co-likes, nothing to embed.")
    if 2 * how_many >= len(n):  # X is then no larger than the answer
        values, vectors = np.linalg.eigh((A.T @ A).toarray() - np.diag(n))
    else:
        X = LinearOperator((len(n), len(n)), lambda v: A.T @ (A @ v) - n * v, dtype=A.dtype)
        values, vectors = eigsh(X, how_many, which="LA", v0=np.random.default_rng(0).random(len(n)))
    order = np.argsort(-values)[:how_many]
    return values[order], vectors[:, order]


def largest_stable_step(likes: Likes) -> float:
    """Predict the largest learning rate at which plain gradient descent settles: 1 / (4 lambda).

    At the minimum R = VV' - X, its diagonal left out, has R V = 0, and the cost curves along D as
    4 tr(D'R D) + 2 ||DV' + VD'||^2. Most of all along V's longest column s u, with D = u e': there
    R u = 0 and DV' + VD' = 2 s uu', which leaves 8 s^2 (less s^2 sum 8 u_i^4, for the diagonal).
    s^2 is close to lambda, the largest eigenvalue of X, and descent settles below 2 / curvature.
    """
    return float(1 / (4 * leading_eigenpairs(likes, 1)[0][0]))
