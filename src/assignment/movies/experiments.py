"""The experiments of the MovieLens notebook: descents, floors, a map, and tests on other likes.

Each is a function of one frozen dataclass; a `Study` holds what they all depend on, the likes and
the films that are asked about, and asks for them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from assignment.common import progress, settings
from assignment.common.runs import Outcome, Run, obtain
from assignment.common.settings import Mode
from assignment.common.tables import Table
from assignment.movies import embedding, evaluation
from assignment.movies.embedding import Floor
from assignment.movies.evaluation import Evaluation, Rows, Scores, Values, score_films
from assignment.movies.movielens import Likes, MovieLens, count_colikes
from assignment.movies.recommend import by_cosine

CHOSEN = "embeddings, chosen"  # which films and how many dimensions
STOPPED = "embeddings, chosen, stopped early"


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
    keep_vectors: bool = False


@dataclass(frozen=True)
class FloorSearch:
    """The lowest cost of films with enough likes; with a `seed` from random vectors."""

    likes: str  # fingerprint
    films: tuple[int, ...]
    dim: int = 50
    seed: int | None = None
    keep_vectors: bool = False
    fewest: int = 1


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
    """Every method on likes that were held out, and the values that each is chosen from."""

    VERSION: ClassVar[int] = 2  # 1 had no values to choose from but EASE's

    likes: str  # fingerprint
    share: float = 0.2
    seed: int = 0
    dim: int = 50
    fewest: tuple[int, ...] = (1, 5, 10, 20)
    dims: tuple[int, ...] = (10, 25, 50, 100, 200)
    steps: tuple[int, ...] = (20, 40, 80, 160)  # of a descent that is stopped early
    shrinkages: tuple[float, ...] = (0.0, 10.0, 30.0)
    neighbours: tuple[int, ...] = (100, 200, 400)
    ials_dims: tuple[int, ...] = (25, 50)
    alphas: tuple[float, ...] = (5.0, 10.0)
    regularisations: tuple[float, ...] = (30.0, 60.0)
    lambdas: tuple[float, ...] = (50.0, 100.0, 200.0, 500.0, 1000.0)
    target_fewest: int = 10
    target_dim: int = 100


@dataclass(frozen=True, eq=False)
class Study:
    """The data, the likes, and the films asked about; its methods run experiments or load them."""

    data: MovieLens
    liked: Likes
    films: tuple[int, ...]  # movieIds

    @property
    def titles(self) -> list[str]:
        """The titles of the films asked about."""
        return [str(self.data.movies["title"][movie]) for movie in self.films]

    def descend(self, optimiser: str, lr: float, iterations: int = 1000, **more: Any) -> Run:
        """Train from random vectors; `more` are the other fields of `Descent`.

        The run holds losses [iterations + 1], final, diverged, seconds; the steps at which lists
        were kept, and the lists [steps, films, 10].
        """
        if settings.mode() is Mode.SAMPLE:  # which is to take seconds
            iterations = min(iterations, 200)
        asked = (self.liked.fingerprint, self.films, optimiser, lr)
        config = Descent(*asked, iterations=iterations, **more)
        return obtain(_descent, config, self.data, self.liked)

    def floor(self, dim: int = 50, seed: int | None = None, **more: Any) -> Run:
        """Find the lowest cost: its value, the lists of its vectors [films, 10], seconds."""
        config = FloorSearch(self.liked.fingerprint, self.films, dim, seed, **more)
        return obtain(_floor, config, self.data, self.liked)

    def film_map(self, perplexity: float = 30, fewest: int = 5) -> Run:
        """Lay films out in the plane: the places, in the order of the liked films."""
        config = FilmMap(self.liked.fingerprint, perplexity, fewest)
        return obtain(_film_map, config, self.liked, self.floor(keep_vectors=True)["vectors"])

    def overshoot(self, lr: float, dim: int = 50) -> Run:
        """Measure the sizes, direction by direction, of a step that overshoots."""
        return obtain(_overshoot, Overshoot(self.liked.fingerprint, lr, dim), self.liked)

    def halves(self, dim: int = 50) -> Run:
        """Find the ten nearest of every film with either half of the users."""
        return obtain(_halves, Halves(self.liked.fingerprint, dim), self.data, self.liked)

    def held_out(self, seed: int = 0, **more: Any) -> Run:
        """Judge every method on held-out likes; `more` are the other fields of `HeldOutLikes`.

        The run holds methods, their recall and ndcg [methods, users], and what was chosen for each
        of the tuned ones; `tried`, the NDCG by which films and dimension were chosen [fewest,
        dims]; of other targets in the place of X their recall, and what `_other_targets` says.
        """
        config = HeldOutLikes(self.liked.fingerprint, seed=seed, **more)
        if settings.mode() is Mode.SAMPLE:
            config = replace(config, fewest=config.fewest[:2], dims=config.dims[:3])
        return obtain(_held_out, config, self.liked)


def _descent(config: Descent, data: MovieLens, liked: Likes) -> Outcome:
    how = (config.dim, config.optimiser, config.lr, config.iterations, config.seed, config.scale)
    with progress.bar("descent", 1):
        fit = embedding.fit(liked, *how, snapshots=config.checkpoints)
    lists = [by_cosine(data, liked, v).top(config.films) for v in fit.snapshots.values()]
    kept = {"vectors": fit.vectors.astype(np.float16)} if config.keep_vectors else {}
    return Outcome({
        "losses": fit.losses,
        "final": fit.final,
        "diverged": fit.diverged,
        "steps": list(fit.snapshots),
        "lists": lists,
        "seconds": fit.seconds,
        **kept,
    })  # fmt: skip


def _floor(config: FloorSearch, data: MovieLens, liked: Likes) -> Outcome:
    with progress.bar("floor", 1):
        best = _floor_of(liked, config.dim, config.fewest, config.seed)
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
    with progress.bar("overshoot", 1):
        fit = embedding.fit(liked, config.dim, "sgd", config.lr, config.iterations, snapshots=last)
    step = fit.snapshots[last[1]] - fit.snapshots[last[0]]
    return Outcome({"sizes": np.linalg.svd(step, compute_uv=False)})


def _halves(config: Halves, data: MovieLens, liked: Likes) -> Outcome:
    order = np.random.default_rng(config.seed).permutation(len(liked.users))
    halves = [
        replace(liked, matrix=liked.matrix[rows], users=liked.users[rows])
        for rows in map(np.sort, np.array_split(order, 2))
    ]
    with progress.bar("halves", len(halves)):
        vectors = [_floor_of(half, config.dim).vectors for half in halves]
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
    # A method's scores, and what each of its parameters is chosen from.
    grids: dict[str, tuple[Callable[..., Scores], list[Values]]] = {
        "ItemKNN": (evaluation.score_by_item_knn, [config.shrinkages, config.neighbours]),
        "iALS": (
            evaluation.score_by_ials, [config.ials_dims, config.alphas, config.regularisations]
        ),
        "EASE": (evaluation.score_by_ease, [config.lambdas]),
        CHOSEN: (_score_by_floor, [config.fewest, config.dims]),
        STOPPED: (_score_by_descent, [config.steps]),
    }  # fmt: skip
    fits = sum(prod(map(len, values)) + 1 for _, values in grids.values())
    chosen: dict[str, Values] = {}
    tried: dict[str, dict[Values, float]] = {}

    def judge(scores: Scores) -> Evaluation:
        return evaluation.evaluate(scores, train, held_out)

    def judge_rows(rows: Rows, cosine: bool) -> Evaluation:
        return judge(score_films(rows, train.matrix, cosine))

    with progress.bar("held-out likes", fits + 5):  # the baseline and four other targets
        # Inner products of its rows are X; the diagonal concerns only films that are not ranked.
        colikes, baseline = train.matrix.T.tocsr(), _floor_of(train, config.dim).vectors
        results = {
            "popularity": judge(np.tile(train.count.astype(np.float64), (len(train.users), 1))),
            "raw co-likes": judge_rows(colikes, cosine=False),
            "cosine co-likes": judge_rows(colikes, cosine=True),
            "embeddings, inner product": judge_rows(baseline, cosine=False),
            "embeddings, cosine": judge_rows(baseline, cosine=True),
        }
        for name, (score, values) in grids.items():
            if name == STOPPED:  # on the films and at the dimension chosen before
                values = [*((value,) for value in chosen[CHOSEN]), *values]
            tried[name] = evaluation.try_values(score, product(*values), train)
            chosen[name] = max(tried[name], key=tried[name].__getitem__)
            results[name] = judge(score(train, *chosen[name]))
        names, fitted, unexplained, strong = zip(
            *_other_targets(train, config.target_fewest, config.target_dim), strict=True
        )
    return Outcome({
        "methods": list(results),
        "recall": [result.recall for result in results.values()],
        "ndcg": [result.ndcg for result in results.values()],
        "users": results["popularity"].users,
        **{f"chosen {name}": values for name, values in chosen.items()},
        "tried": np.reshape([*tried[CHOSEN].values()], (len(config.fewest), len(config.dims))),
        "targets": names,
        "targets_recall": [judge_rows(vectors, cosine=True).recall for vectors in fitted],
        "unexplained": unexplained,
        "in_strong_pairs": strong,
    })  # fmt: skip


def _score_by_floor(train: Likes, fewest: int, dim: int) -> Scores:
    return score_films(_floor_of(train, dim, fewest).vectors, train.matrix, cosine=True)


def _score_by_descent(train: Likes, fewest: int, dim: int, steps: int) -> Scores:
    known, some = _with_likes(train, fewest)
    vectors = np.zeros((len(known), dim))
    vectors[known] = embedding.fit(some, dim, iterations=steps).vectors
    return score_films(vectors, train.matrix, cosine=True)


def _with_likes(liked: Likes, fewest: int) -> tuple[np.ndarray, Likes]:
    """Return which films have at least so many likes [movies], and the likes of these."""
    known = liked.count >= fewest
    return known, replace(liked, matrix=liked.matrix[:, known], movies=liked.movies[known])


def _floor_of(liked: Likes, dim: int, fewest: int = 1, seed: int | None = None) -> Floor:
    """Fit the films with at least so many likes; the others get a row of zeros."""
    known, some = _with_likes(liked, fewest)
    found, vectors = embedding.find_floor(some, dim, seed), np.zeros((len(known), dim))
    vectors[known] = found.vectors
    return replace(found, vectors=vectors)


def _other_targets(
    liked: Likes, fewest: int, dim: int
) -> Iterator[tuple[str, np.ndarray, float, float]]:
    """Fit X and what others put in its place, on the films with at least so many likes.

    Of each the name, the vectors, the share of its squares that the fit leaves, and the share of
    its squares that lies in pairs which at least ten users liked.
    """
    known, some = _with_likes(liked, fewest)
    X = count_colikes(some).toarray().astype(np.float64)
    by_chance = np.outer(X.sum(axis=0), X.sum(axis=0)) / X.sum()
    lift = np.divide(X, by_chance, out=np.zeros_like(X), where=by_chance > 0)
    targets = {
        "X": X,
        "square root of X": np.sqrt(X),
        "log(1 + X)": np.log1p(X),
        "PPMI": np.log(np.maximum(lift, 1)),
    }
    for name, target in targets.items():
        best, squares = embedding.find_floor_of(target, dim), np.square(target)
        vectors = np.zeros((len(known), best.vectors.shape[1]))  # fewer where films are fewer
        vectors[known] = best.vectors
        in_strong = squares[X >= 10].sum() / squares.sum()
        yield name, vectors, best.value / squares.sum(), in_strong


# --- tables ---------------------------------------------------------------------------------------


def pool_splits(splits: Sequence[Run]) -> dict[str, Evaluation]:
    """Return recall and NDCG of each method and user, the mean over splits, best recall first.

    The splits share their users and differ in which likes are hidden, so three splits of a user are
    not three samples. The unit is the user: an interval from a bootstrap over these means says how
    much they would change with other users, and the mean over splits makes the luck of one smaller.
    """
    recall, ndcg = (np.mean([run[name] for run in splits], axis=0) for name in ("recall", "ndcg"))
    return {
        str(splits[0]["methods"][k]): Evaluation(10, splits[0]["users"], recall[k], ndcg[k])
        for k in np.argsort(-recall.mean(axis=1), kind="stable")
    }


def choices_table(splits: Sequence[Run], caption: str) -> Table:
    """Tabulate what was chosen for each tuned method: of each parameter a value for each split."""
    films = "fewest likes of a film"
    parameters = {
        "EASE": ["lambda"],
        "iALS": ["dimension", "weight of a like", "regularisation"],
        "ItemKNN": ["shrinkage", "neighbours"],
        STOPPED: [films, "dimension", "steps"],
        CHOSEN: [films, "dimension"],
    }
    rows = []
    for method, names in parameters.items():
        chosen = np.transpose([split[f"chosen {method}"] for split in splits])
        values = (", ".join(f"{value:g}" for value in some) for some in chosen)
        rows.append([method, "; ".join(map(" ".join, zip(names, values, strict=True)))])
    return Table(pd.DataFrame(rows, columns=["method", "chosen"]), caption)


def above_floor(run: Run, floor: float) -> float:
    """Return how far above the floor a run ends: the median of 50 steps, the last may be luck."""
    return float(np.median(run["losses"][-50:]) / floor - 1)


def seconds_within(run: Run, loss: float) -> float | None:
    """Return after how many seconds a run's loss first fell below a value, if it did."""
    below = np.flatnonzero(run["losses"] < loss)
    return run["seconds"] / (len(run["losses"]) - 1) * below[0] if len(below) else None


def convergence_table(found: Mapping[str, Run], floor: float, caption: str) -> Table:
    """Tabulate how close runs come to the floor and how soon, one row per run."""
    rows = []
    for label, run in found.items():
        lost, steps = run["diverged"], len(run["losses"]) - 1
        within, seconds = run["losses"] < 1.01 * floor, seconds_within(run, 1.01 * floor)
        rows.append({
            "run": label,
            "learning rate": f"{run.config['lr']:.3g}",
            "iterations": f"{steps}, then infinite" if lost else steps,
            "above the floor at the end": "-" if lost else percent(above_floor(run, floor)),
            "iterations to 1 %": "-" if seconds is None else str(within.argmax()),
            "seconds to 1 %": "-" if seconds is None else f"{seconds:.2f}",
        })  # fmt: skip
    return Table(pd.DataFrame(rows), caption)


def percent(share: float) -> str:
    """Write a share, however small or large, with two digits that tell."""
    return f"{100 * share:,.0f} %" if share > 0.1 else f"{100 * share:.2g} %"


def soonest(found: Mapping[str, Run], floor: float) -> str:
    """Name the two runs that are first within one percent of the floor, by the clock."""
    seconds = {label: seconds_within(run, 1.01 * floor) for label, run in found.items()}
    reached = {label: when for label, when in seconds.items() if when is not None}
    return ", then ".join(sorted(reached, key=reached.__getitem__)[:2]) or "none"


def share_alike(
    places: np.ndarray, same: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[float, float]:
    """Return how many of the pairs near on a map, and of random ones, are alike by `same(i, j)`."""
    near = np.argsort(cdist(places, places), axis=1, kind="stable")[:, 1:11]
    random = np.random.default_rng(0).integers(len(places), size=(2, 20_000))
    each = np.repeat(np.arange(len(places)), near.shape[1])
    return float(same(each, near.ravel()).mean()), float(same(*random).mean())


def mean_by_ratings(data: MovieLens, values: pd.Series) -> pd.DataFrame:
    """Tabulate how many films have so many ratings, and the mean of their values, by movieId."""
    ratings = data.ratings["movieId"].value_counts().reindex(values.index)
    names = ["1 to 4", "5 to 9", "10 to 19", "20 to 49", "50 to 99", "100 or more"]
    bins = pd.cut(ratings, [0, 4, 9, 19, 49, 99, np.inf], labels=names).rename("ratings")
    return values.groupby(bins, observed=False).agg(["count", "mean"])


def stability(halves: Run) -> pd.Series:
    """Return, by movieId, how many of ten neighbours both halves of the users agree on."""
    same = halves["first"][:, :, None] == halves["second"][:, None]
    return pd.Series(same.any(axis=2).sum(axis=1), index=halves["movies"])


def with_interval(values: np.ndarray) -> str:
    """Write the mean of what is not NaN, with its 95 % bootstrap interval."""
    known = values[~np.isnan(values)]
    return "{:.3f} ({:.3f} to {:.3f})".format(known.mean(), *evaluation.bootstrap_interval(known))
