"""Held-out likes: how good a ranking is for a user.

Whatever scores the films, one function ranks them and compares with the likes held out. Most scores
are inner products between one row per film: its vector, or its column of the likes (which gives the
co-likes). A cosine is the same with rows of unit length, and none needs an M x M matrix.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import linalg, sparse

from assignment.common.settings import AssignmentError
from assignment.movies.movielens import Likes

Rows: TypeAlias = NDArray[np.floating] | sparse.csr_array
Scores = NDArray[np.float64]
DIGITS = 9  # scores that agree to so many digits of the largest are tied: rounding decides nothing
LAMBDAS = (10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)


@dataclass(frozen=True)
class HeldOut:
    """Likes in two parts, with the rows and columns of the whole: here a film may have none."""

    train: Likes
    held_out: Likes


def hold_out(liked: Likes, share: float = 0.2, seed: int = 0, fewest: int = 5) -> HeldOut:
    """Hold out a share of each user's likes, drawn for each user from a seed of their own.

    Parameters
    ----------
    liked : Likes
    share : float
        Between 0 and 1; at least one like of a user is held out, and at least one is not.
    seed : int
        With the userId it decides what is held out, whoever else is in the data.
    fewest : int
        Users with fewer likes keep them all for training. At least 2.
    """
    if not 0 < share < 1 or fewest < 2:
        raise AssignmentError(
            f"share is {share} and fewest is {fewest}; expected a share between 0 and 1, and at "
            "least 2 likes, so that there is one to learn from and one to predict."
        )
    matrix = liked.matrix.sorted_indices()
    held = np.zeros(matrix.nnz, dtype=bool)
    for user, start, end in zip(liked.users, matrix.indptr, matrix.indptr[1:], strict=False):
        if (count := int(end - start)) >= fewest:
            size = min(max(int(share * count + 0.5), 1), count - 1)
            drawn = np.random.default_rng([seed, int(user)]).permutation(count)[:size]
            held[start + drawn] = True
    train, held_out = matrix.copy(), matrix.copy()
    train.data[held] = held_out.data[~held] = 0
    for part in (train, held_out):
        part.eliminate_zeros()
    return HeldOut(replace(liked, matrix=train), replace(liked, matrix=held_out))


# --- scores, [users, movies], from training likes alone -------------------------------------------


def row_norms(rows: Rows) -> NDArray[np.float64]:
    """Return the length of each row; infinite where it exceeds what a float64 can square."""
    rows = rows.astype(np.float64)
    with np.errstate(over="ignore"):
        return np.asarray(np.sqrt((rows * rows).sum(axis=1)))


def score_films(rows: Rows, chosen: sparse.csr_array, cosine: bool) -> NDArray[np.float64]:
    """Score every film for every set of films, [sets, movies].

    Parameters
    ----------
    rows : array or csr_array [movies, any]
        One row per film.
    chosen : csr_array [sets, movies]
        1 where a film belongs to a set: the films of a query, or the films a user liked.
    cosine : bool
        Whether to score by the cosine to the mean of the set's unit vectors, or by the mean of the
        inner products with the set. A zero row has cosine 0 with everything.
    """
    rows = rows.astype(np.float64)
    size = row_norms(rows)
    if not np.isfinite(size).all():
        raise AssignmentError(
            "Some vectors are not finite numbers, as after a run that diverged, so there is "
            "nothing to rank. Take the vectors of a run that ended with a finite loss."
        )
    if cosine:
        rows = sparse.dia_array((1 / np.where(size > 0, size, 1), 0), (len(size),) * 2) @ rows
    # By way of the sum over each set, [sets, any]: small, where movies x movies is not.
    total = chosen @ rows
    total = total.toarray() if sparse.issparse(total) else total
    scale = row_norms(total) if cosine else np.asarray(chosen.sum(axis=1)).ravel()
    # Unit vectors that cancel, and a set without films, score zero.
    return np.asarray((rows @ total.T).T) / np.where(scale > 1e-12, scale, np.inf)[:, None]


def top_columns(scores: NDArray[np.float64], liked: Likes, n: int) -> NDArray[np.int64]:
    """Return the columns of the n highest scores, best first, [sets, n].

    Ties go to the film with more likes, then to the lower movieId. A score of -inf comes last.
    """
    order = np.lexsort((liked.movies, -liked.count))
    size = np.abs(np.where(np.isfinite(scores), scores, 0)).max(axis=1, keepdims=True)
    rounded = np.round(scores / np.where(size > 0, size, 1), DIGITS)[:, order]
    # Only what reaches the n-th best score is sorted; stably, so that `order` decides ties.
    last = -np.partition(-rounded, n - 1, axis=1)[:, n - 1]
    best = np.empty((len(scores), n), dtype=np.int64)
    for i, (row, lowest) in enumerate(zip(rounded, last, strict=True)):
        reaching = np.flatnonzero(row >= lowest)
        best[i] = order[reaching[np.argsort(-row[reaching], kind="stable")[:n]]]
    return best


def score_by_popularity(train: Likes) -> Scores:
    """Score a film by its likes, the same for every user."""
    return np.tile(train.count.astype(np.float64), (len(train.users), 1))


def score_by_colikes(train: Likes, cosine: bool) -> Scores:
    """Score a film by its mean co-likes X_ij with the user's films j, or by X_ij / sqrt(n_i n_j).

    The diagonal that X leaves out concerns only films that the user likes, which are not ranked.
    """
    return score_films(train.matrix.T.tocsr(), train.matrix, cosine)


def score_by_vectors(train: Likes, vectors: NDArray[np.floating], cosine: bool) -> Scores:
    """Score a film by its cosine to the mean unit vector of the user's films, or inner product."""
    return score_films(vectors, train.matrix, cosine)


def fit_known_films(
    train: Likes, fit: Callable[[Likes], NDArray[np.floating]]
) -> NDArray[np.floating]:
    """Fit vectors to the films with training likes; the others get a zero row, [movies, dim]."""
    seen = train.count > 0
    films = Likes(train.matrix[:, seen], train.users, train.movies[seen], train.threshold)
    found = fit(films)
    vectors = np.zeros((len(seen), found.shape[1]), dtype=found.dtype)
    vectors[seen] = found
    return vectors


def score_by_ease(train: Likes, regularisation: float) -> Scores:
    """Score by EASE: the linear map without a diagonal that best reproduces the likes.

    Steck (2019) minimises |A - AB|^2 + lambda |B|^2 with diag(B) = 0 by B = I - P / diag(P), column
    by column, with P = (A'A + lambda I)^-1. There are fewer users than films, so neither P nor B is
    ever formed: with K = (AA' + lambda I)^-1, of size users x users, AP = KA, and
    diag(P) = (1 - diag(A'KA)) / lambda.
    """
    if not regularisation > 0:
        raise AssignmentError(f"lambda is {regularisation}; expected a number above 0.")
    A = train.matrix.toarray().astype(np.float64)
    KA = linalg.cho_solve(linalg.cho_factor(A @ A.T + regularisation * np.eye(len(A))), A)
    diagonal = (1 - (A * KA).sum(axis=0)) / regularisation
    return np.asarray(A - KA / diagonal)


def choose_lambda(
    train: Likes, lambdas: tuple[float, ...] = LAMBDAS, seed: int = 0, n: int = 10
) -> dict[float, float]:
    """Return EASE's mean NDCG for each lambda, best first, on likes held out from `train`."""
    inner = hold_out(train, seed=seed)
    tried = {
        v: evaluate(score_by_ease(inner.train, v), inner.train, inner.held_out, n) for v in lambdas
    }
    ndcg = {v: float(result.ndcg.mean()) for v, result in tried.items()}
    return dict(sorted(ndcg.items(), key=lambda item: -item[1]))


# --- how good -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluation:
    """One ranking against held-out likes: the userIds that have such, recall and NDCG of each."""

    n: int
    users: NDArray[np.int64]
    recall: Scores
    ndcg: Scores


def evaluate(scores: Scores, train: Likes, held_out: Likes, n: int = 10) -> Evaluation:
    """Rank each user's films and look for the held-out likes among the first n.

    Training likes are not ranked. Films without training likes come last: no scorer knows them.
    With h held-out likes, recall is hits / min(n, h), so that 1 can be reached; NDCG is the sum of
    1 / log2(1 + rank) over the hits, divided by the same sum over the first min(n, h) ranks.

    Parameters
    ----------
    scores : array [users, movies]
        In the rows and columns of `train`, higher is better.
    train, held_out : Likes
    n : int
    """
    films = len(train.movies)
    if scores.shape != train.matrix.shape or not np.isfinite(scores).all():
        raise AssignmentError(
            f"The scores are of shape {scores.shape}, {np.isnan(scores).sum()} of them NaN; "
            f"expected a finite number for each user and film, {train.matrix.shape}."
        )
    relevant = held_out.matrix.toarray() > 0
    asked = np.flatnonzero(relevant.any(axis=1))
    if not len(asked) or not 1 <= n <= films:
        raise AssignmentError(
            f"There are {len(asked)} users with held-out likes and n is {n}; expected at least one "
            f"user, and n from 1 to {films}."
        )
    ranked = scores[asked].astype(np.float64)
    lowest = ranked.min(axis=1, keepdims=True) - np.abs(ranked).max(axis=1, keepdims=True) - 1
    ranked = np.where(train.count > 0, ranked, lowest)
    ranked[train.matrix.toarray()[asked] > 0] = -np.inf
    hits = np.take_along_axis(relevant[asked], top_columns(ranked, train, n), axis=1)
    possible = np.minimum(n, relevant[asked].sum(axis=1))
    discount = 1 / np.log2(np.arange(2, n + 2))
    ideal = np.cumsum(discount)[possible - 1]
    return Evaluation(n, train.users[asked], hits.sum(axis=1) / possible, hits @ discount / ideal)


def bootstrap_interval(
    values: Scores, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return a bootstrap interval of the mean over users.

    Two rankings of the same users are compared by the interval of their differences: users differ
    more from each other than rankings do.
    """
    chosen = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[chosen].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def summary_table(found: Mapping[str, Evaluation]) -> pd.DataFrame:
    """One row per ranking: mean recall and NDCG over users, each with its 95 % interval."""
    rows: list[dict[str, object]] = []
    for name, result in found.items():
        rows.append({"ranking": name})
        for metric, values in (("recall", result.recall), ("NDCG", result.ndcg)):
            column, (low, high) = f"{metric}@{result.n}", bootstrap_interval(values)
            rows[-1] |= {column: values.mean(), f"{column} from": low, f"{column} to": high}
    return pd.DataFrame(rows)
