"""The experiments of the MovieLens notebook: descents, floors, a map, and tests on other likes.

Each is a function of one frozen dataclass; a `Study` holds what they all depend on, the likes and
the films that are asked about, and asks for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from assignment.common import settings
from assignment.common.runs import Outcome, Run, obtain
from assignment.common.settings import Mode
from assignment.movies import embedding, evaluation
from assignment.movies.evaluation import Evaluation, Rows, evaluate, score_films
from assignment.movies.movielens import Likes, MovieLens
from assignment.movies.recommend import by_cosine

DIMENSIONS = (10, 25, 50, 100, 200)


@dataclass(frozen=True)
class Descent:
    """An optimiser from random vectors; the ten nearest of some films are kept on its way."""

    likes: str  # fingerprint
    films: tuple[int, ...]
    optimiser: str
    lr: float
    dim: int = 50
    iterations: int = 1000
    seed: int = 0
    scale: float = 0.1
    checkpoints: tuple[int, ...] = (10, 20, 50, 100, 200, 300, 500, 700, 1000)


@dataclass(frozen=True)
class FloorSearch:
    """The lowest cost; with a `seed` the search starts from random vectors."""

    likes: str  # fingerprint
    films: tuple[int, ...]
    dim: int = 50
    seed: int | None = None
    keep_vectors: bool = False


@dataclass(frozen=True)
class FilmMap:
    """t-SNE of the floor's unit vectors, for the films with at least so many likes."""

    likes: str  # fingerprint
    perplexity: float = 30
    fewest: int = 5


@dataclass(frozen=True)
class Overshoot:
    """The last of so many steps of gradient descent at a rate that is too large."""

    likes: str  # fingerprint
    lr: float
    dim: int = 50
    iterations: int = 401


@dataclass(frozen=True)
class Halves:
    """Neighbours found by either half of the users."""

    likes: str  # fingerprint
    dim: int = 50
    seed: int = 0


@dataclass(frozen=True)
class HeldOutLikes:
    """Every method on likes that were held out."""

    likes: str  # fingerprint
    share: float = 0.2
    seed: int = 0
    dim: int = 50
    dims: tuple[int, ...] = DIMENSIONS


@dataclass(frozen=True, eq=False)
class Study:
    """The data, the likes, and the films asked about; its methods run experiments or load them."""

    data: MovieLens
    liked: Likes
    films: tuple[int, ...]  # movieIds

    def descend(self, optimiser: str, lr: float, **more: Any) -> Run:
        """Train from random vectors; `more` are the other fields of `Descent`.

        The run holds losses [iterations + 1], final, diverged, seconds; the steps at which lists
        were kept, and the lists [steps, films, 10].
        """
        config = Descent(self.liked.fingerprint, self.films, optimiser, lr, **more)
        if settings.mode() is Mode.SAMPLE:  # which is to take seconds
            config = replace(config, iterations=min(config.iterations, 200))
        return obtain(_descent, config, self.data, self.liked)

    def floor(self, dim: int = 50, seed: int | None = None, keep_vectors: bool = False) -> Run:
        """Find the lowest cost: its value, the lists of its vectors [films, 10], seconds."""
        config = FloorSearch(self.liked.fingerprint, self.films, dim, seed, keep_vectors)
        return obtain(_floor, config, self.data, self.liked)

    def film_map(self, perplexity: float = 30, fewest: int = 5) -> Run:
        """Lay films out in the plane: the places, in the order of the liked films."""
        config = FilmMap(self.liked.fingerprint, perplexity, fewest)
        return obtain(_film_map, config, self.liked, self.floor(keep_vectors=True)["vectors"])

    def overshoot(self, lr: float) -> Run:
        """Measure the sizes, direction by direction, of a step that overshoots."""
        return obtain(_overshoot, Overshoot(self.liked.fingerprint, lr), self.liked)

    def halves(self) -> Run:
        """Find the ten nearest of every film with either half of the users."""
        return obtain(_halves, Halves(self.liked.fingerprint), self.data, self.liked)

    def held_out(self, share: float = 0.2, dims: tuple[int, ...] = DIMENSIONS) -> Run:
        """Judge every method, and the embeddings at several dimensions, on held-out likes."""
        config = HeldOutLikes(self.liked.fingerprint, share, dims=dims)
        return obtain(_held_out, config, self.liked)


def _descent(config: Descent, data: MovieLens, liked: Likes) -> Outcome:
    how = (config.dim, config.optimiser, config.lr, config.iterations, config.seed, config.scale)
    fit = embedding.fit(liked, *how, snapshots=config.checkpoints)
    lists = [by_cosine(data, liked, v).top(config.films) for v in fit.snapshots.values()]
    return Outcome({
        "losses": fit.losses,
        "final": fit.final,
        "diverged": fit.diverged,
        "steps": list(fit.snapshots),
        "lists": lists,
        "seconds": fit.seconds,
    })  # fmt: skip


def _floor(config: FloorSearch, data: MovieLens, liked: Likes) -> Outcome:
    best = embedding.find_floor(liked, config.dim, config.seed)
    lists = by_cosine(data, liked, best.vectors).top(config.films)
    kept = {"vectors": best.vectors.astype(np.float16)} if config.keep_vectors else {}
    return Outcome({"value": best.value, "lists": lists, "seconds": best.seconds, **kept})


def _film_map(config: FilmMap, liked: Likes, vectors: np.ndarray) -> Outcome:
    from sklearn.manifold import TSNE  # half a second that few readers need

    shown = vectors[liked.count >= config.fewest].astype(np.float64)
    unit = shown / np.linalg.norm(shown, axis=1, keepdims=True)
    tsne = TSNE(perplexity=config.perplexity, metric="cosine", init="pca", random_state=0)
    return Outcome({"places": tsne.fit_transform(unit.astype(np.float32))})


def _overshoot(config: Overshoot, liked: Likes) -> Outcome:
    last = (config.iterations - 1, config.iterations)
    fit = embedding.fit(liked, config.dim, "sgd", config.lr, config.iterations, snapshots=last)
    step = fit.snapshots[last[1]] - fit.snapshots[last[0]]
    return Outcome({"sizes": np.linalg.svd(step, compute_uv=False)})


def _halves(config: Halves, data: MovieLens, liked: Likes) -> Outcome:
    order = np.random.default_rng(config.seed).permutation(len(liked.users))
    halves = [
        replace(liked, matrix=liked.matrix[rows], users=liked.users[rows])
        for rows in map(np.sort, np.array_split(order, 2))
    ]
    vectors = [_floor_vectors(half, config.dim) for half in halves]
    # A film without co-likes in a half has no direction there, and so no neighbours.
    both = np.all([found.any(axis=1) for found in vectors], axis=0)
    ids = liked.movies[both]
    first, second = (
        by_cosine(data, half, found * both[:, None]).top(ids)
        for half, found in zip(halves, vectors, strict=True)
    )
    return Outcome({"movies": ids, "first": first, "second": second})


def _held_out(config: HeldOutLikes, liked: Likes) -> Outcome:
    train, held_out = evaluation.hold_out(liked, config.share, config.seed)
    vectors = {dim: _floor_vectors(train, dim) for dim in dict.fromkeys((config.dim, *config.dims))}
    best = evaluation.choose_lambda(train)
    popularity = np.tile(train.count.astype(np.float64), (len(train.users), 1))
    # Inner products of its rows are X; the diagonal concerns only films that are not ranked.
    colikes = train.matrix.T.tocsr()

    def judge(rows: Rows, cosine: bool) -> Evaluation:
        return evaluate(score_films(rows, train.matrix, cosine), train, held_out)

    results = {
        "popularity": evaluate(popularity, train, held_out),
        "raw co-likes": judge(colikes, cosine=False),
        "cosine co-likes": judge(colikes, cosine=True),
        "EASE": evaluate(evaluation.score_by_ease(train, best), train, held_out),
        "embeddings, cosine": judge(vectors[config.dim], cosine=True),
        "embeddings, inner product": judge(vectors[config.dim], cosine=False),
    }
    return Outcome({
        "by_dim": [judge(vectors[dim], cosine=True).recall for dim in config.dims],
        "methods": list(results),
        "recall": [result.recall for result in results.values()],
        "ndcg": [result.ndcg for result in results.values()],
        "users": results["popularity"].users,
        "lambda": best,
    })  # fmt: skip


def _floor_vectors(liked: Likes, dim: int) -> np.ndarray:
    """Fit the films that have likes; the others get a row of zeros, [movies, dim]."""
    known, vectors = liked.count > 0, np.zeros((len(liked.movies), dim))
    some = replace(liked, matrix=liked.matrix[:, known], movies=liked.movies[known])
    vectors[known] = embedding.find_floor(some, dim).vectors
    return vectors


# --- tables ---------------------------------------------------------------------------------------


def convergence_table(found: Mapping[str, Run], floor: float) -> pd.DataFrame:
    """Tabulate how close runs come to the floor and how soon, one row per run."""
    rows = []
    for label, run in found.items():
        above = run["losses"] / floor - 1
        lost, steps = run["diverged"], len(above) - 1
        within = np.flatnonzero(above < 0.01)
        rows.append({
            "run": label,
            "learning rate": f"{run.config['lr']:.3g}",
            "iterations": f"{steps}, then infinite" if lost else steps,
            "above the floor at the end": "-" if lost else f"{100 * above[-1]:.3g} %",
            "median of the last 50": "-" if lost else f"{100 * np.median(above[-50:]):.3g} %",
            "iterations to 1 %": str(within[0]) if len(within) else "-",
            "seconds to 1 %": f"{run['seconds'] / steps * within[0]:.2f}" if len(within) else "-",
            "device": run.facts["device"],
        })  # fmt: skip
    return pd.DataFrame(rows)


def seconds_within(run: Run, loss: float) -> float | None:
    """Return after how many seconds a run's loss first fell below a value, if it did."""
    below = np.flatnonzero(run["losses"] < loss)
    return run["seconds"] / (len(run["losses"]) - 1) * below[0] if len(below) else None
