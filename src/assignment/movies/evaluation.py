"""Held-out likes: how good a ranking of the films is for a user.

Every method gives scores [users, movies]; one function ranks them and compares the first n films
with the likes held out. Most scores are inner products of one row per film (its vector, or its
column of the likes), so no movies x movies matrix is needed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from assignment.common import progress
from assignment.common.settings import AssignmentError
from assignment.common.tables import Summary
from assignment.movies.movielens import Likes, count_colikes

Rows: TypeAlias = NDArray[np.floating] | sparse.csr_array
Scores = NDArray[np.float64]
Values = tuple[Any, ...]  # of a method's parameters
DIGITS = 9  # scores that agree to so many digits of the largest are tied: rounding decides nothing
FEWEST = 5  # likes of a user from whom some are held out


def check_n(n: int, most: int, of: str) -> None:
    """Refuse a length of list that is no whole number from 1 to the number `most` of something."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= most:
        raise AssignmentError(
            f"n is {n!r}; expected a whole number from 1 to {most}, the number of {of}."
        )


def hold_out(liked: Likes, share: float = 0.2, seed: int = 0) -> tuple[Likes, Likes]:
    """Hold out a share of each user's likes, by seed and userId alone: at least one, never all.

    Both parts, training and held-out, keep the rows and columns: here a film may have no likes.
    """
    if not 0 < share < 1:
        raise AssignmentError(f"share is {share}; expected a share between 0 and 1.")
    matrix = liked.matrix.sorted_indices()
    held_out = matrix * 0  # the zeros stay stored until some become ones
    for user, start, end in zip(liked.users, matrix.indptr, matrix.indptr[1:], strict=False):
        if (count := int(end - start)) >= FEWEST:
            size = min(max(int(share * count + 0.5), 1), count - 1)
            order = np.random.default_rng([seed, int(user)]).permutation(count)
            held_out.data[start + order[:size]] = 1
    held_out.eliminate_zeros()
    return replace(liked, matrix=matrix - held_out), replace(liked, matrix=held_out)


def row_norms(rows: Rows) -> NDArray[np.float64]:
    """Euclidean norm of each row."""
    rows = rows.astype(np.float64)
    return np.asarray(np.sqrt((rows * rows).sum(axis=1)))


def score_films(rows: Rows, chosen: sparse.csr_array, cosine: bool) -> Scores:
    """Score every film, a row of `rows`, for every set of films, a row of `chosen`.

    `chosen` [sets, movies] is 1 where a film belongs to a set. A score is the mean inner product
    with the set, or the cosine to the mean of the set's unit vectors (0 for a zero row).
    """
    rows, norms = rows.astype(np.float64), row_norms(rows)
    finite = np.isfinite(norms).sum()
    if not finite == len(norms) == chosen.shape[1]:
        raise AssignmentError(
            f"There are {len(norms)} vectors for {chosen.shape[1]} liked films, {finite} of them "
            "finite: take those of a run on these likes, and of one that has not diverged."
        )
    if cosine:
        rows = sparse.diags_array(1 / np.where(norms > 0, norms, 1)) @ rows
    total = chosen @ rows
    total = total.toarray() if sparse.issparse(total) else total
    scale = row_norms(total) if cosine else np.asarray(chosen.sum(axis=1)).ravel()
    # Unit vectors that cancel, and a set without films, score zero.
    return np.asarray((rows @ total.T).T) / np.where(scale > 1e-12, scale, np.inf)[:, None]


def top_columns(scores: Scores, liked: Likes, n: int) -> NDArray[np.int64]:
    """Columns of the n highest scores, [sets, n]; ties go to more likes, then the lower movieId."""
    order = np.lexsort((liked.movies, -liked.count))
    largest = np.abs(np.where(np.isfinite(scores), scores, 0)).max(axis=1, keepdims=True)
    rounded = np.round(scores / np.where(largest > 0, largest, 1), DIGITS)[:, order]
    return order[np.argsort(-rounded, axis=1, kind="stable")[:, :n]]  # stable: `order` decides ties


def score_by_ease(train: Likes, regularisation: float) -> Scores:
    """Score by EASE (Steck, 2019): ridge regression of the likes on themselves, zero diagonal."""
    if not regularisation > 0:
        raise AssignmentError(f"lambda is {regularisation}; expected a number above 0.")
    # EASE minimises |A - AB|^2 + lambda |B|^2 with diag(B) = 0 by B = I - P / diag(P), where
    # P = (A'A + lambda I)^-1. There are fewer users than films, so neither P nor B is formed:
    # with K = (AA' + lambda I)^-1, AP = KA and diag(P) = (1 - diag(A'KA)) / lambda.
    A = train.matrix.toarray().astype(np.float64)
    KA = linalg.cho_solve(linalg.cho_factor(A @ A.T + regularisation * np.eye(len(A))), A)
    diagonal = (1 - (A * KA).sum(axis=0)) / regularisation
    progress.done(1, f"EASE, {regularisation:g}")
    return np.asarray(A - KA / diagonal)


def score_by_item_knn(train: Likes, shrinkage: float, neighbours: int) -> Scores:
    """Score by ItemKNN: the sum of a film's likeness to the user's films among its neighbours.

    Likeness is X_ij / (sqrt(n_i n_j) + shrinkage), the cosine of the likes made smaller where few
    likes stand behind it; only a film's most alike films count.
    """
    X, n = count_colikes(train), np.maximum(train.count, 1)
    film = np.repeat(np.arange(len(n)), np.diff(X.indptr))
    likeness = X.data / (np.sqrt(n[film] * n[X.indices]) + shrinkage)
    order = np.lexsort((X.indices, -likeness, film))  # within each film the most alike first
    near = order[np.arange(len(order)) - X.indptr[film] < neighbours]
    weights = sparse.csr_array((likeness[near], (X.indices[near], film[near])), X.shape)
    progress.done(1, f"ItemKNN, {neighbours} neighbours")
    return np.asarray((train.matrix @ weights).toarray())


def score_by_ials(
    train: Likes, dim: int, alpha: float, regularisation: float, sweeps: int = 10
) -> Scores:
    """Score by iALS (Hu, Koren and Volinsky, 2008): implicit alternating least squares.

    It minimises sum c_ui (a_ui - u_u . v_i)^2 + regularisation (||U||^2 + ||V||^2) over all pairs
    of user and film, with c = 1 + alpha for a like and 1 for none: U for given V and V for given U
    are small linear systems, one for each row.
    """
    films, U = 0.1 * np.random.default_rng(0).normal(size=(len(train.movies), dim)), np.empty(0)
    for _ in range(sweeps):
        U = _least_squares(train.matrix, films, alpha, regularisation)
        films = _least_squares(train.matrix.T.tocsr(), U, alpha, regularisation)
        progress.done(1 / sweeps, f"iALS, {dim} dimensions")
    return np.asarray(U @ films.T)


def _least_squares(
    A: sparse.csr_array, V: NDArray[np.float64], alpha: float, regularisation: float
) -> NDArray[np.float64]:
    """Solve (V'V + alpha V_s'V_s + regularisation I) u = (1 + alpha) V_s'1 for each row s of A."""
    gram = V.T @ V + regularisation * np.eye(V.shape[1])
    solved = np.zeros((A.shape[0], V.shape[1]))
    for row in np.flatnonzero(np.diff(A.indptr)):
        some = V[A.indices[A.indptr[row] : A.indptr[row + 1]]]
        solved[row] = np.linalg.solve(gram + alpha * some.T @ some, (1 + alpha) * some.sum(axis=0))
    return solved


def try_values(
    score: Callable[..., Scores], grid: Iterable[Values], train: Likes
) -> dict[Values, float]:
    """Return the mean NDCG for all values of a grid, on likes held out from `train`."""
    inner, held_out = hold_out(train)
    return {
        values: float(evaluate(score(inner, *values), inner, held_out).ndcg.mean())
        for values in grid
    }


@dataclass(frozen=True, repr=False)
class Evaluation(Summary):
    """Recall and NDCG at n of each user with held-out likes; `users` holds their userIds."""

    n: int
    users: NDArray[np.int64]
    recall: NDArray[np.float64]
    ndcg: NDArray[np.float64]

    def summary(self) -> Mapping[str, object]:
        """Return the means over users."""
        recall, ndcg = f"{self.recall.mean():.3f}", f"{self.ndcg.mean():.3f}"
        return {"users": len(self.users), f"recall@{self.n}": recall, f"NDCG@{self.n}": ndcg}


def evaluate(scores: Scores, train: Likes, held_out: Likes, n: int = 10) -> Evaluation:
    """Rank each user's films by score and compute recall@n and NDCG@n of the held-out likes.

    Training likes are not ranked; films without training likes come last. With h held-out likes,
    recall is hits / min(n, h), so that 1 can be reached; NDCG is the sum of 1 / log2(1 + rank) over
    the hits, divided by the same sum over the first min(n, h) ranks.
    """
    if scores.shape != train.matrix.shape or not np.isfinite(scores).all():
        raise AssignmentError(
            f"The scores are of shape {scores.shape}, {np.isnan(scores).sum()} of them NaN; "
            f"expected a finite number for each user and film, {train.matrix.shape}."
        )
    relevant = held_out.matrix.toarray() > 0
    users = np.flatnonzero(relevant.any(axis=1))
    check_n(n, len(train.movies), "films")
    if not len(users):
        raise AssignmentError("No user has held-out likes; expected at least one user.")
    relevant, ranked = relevant[users], scores[users]
    lowest = ranked.min(axis=1, keepdims=True) - np.abs(ranked).max(axis=1, keepdims=True) - 1
    ranked = np.where(train.count > 0, ranked, lowest)
    ranked[train.matrix.toarray()[users] > 0] = -np.inf
    hits = np.take_along_axis(relevant, top_columns(ranked, train, n), axis=1)
    possible = np.minimum(n, relevant.sum(axis=1))
    discount = 1 / np.log2(np.arange(2, n + 2))
    ideal = np.cumsum(discount)[possible - 1]
    return Evaluation(n, train.users[users], hits.sum(axis=1) / possible, hits @ discount / ideal)


def bootstrap_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean over users, or of a mean difference."""
    chosen = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
    low, high = np.quantile(values[chosen].mean(axis=1), [1 - 0.975, 0.975])
    return float(low), float(high)
