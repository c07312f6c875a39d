"""Splits, scores and metrics, against sets, loops, and the direct inverse."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from assignment.common.settings import AssignmentError
from assignment.movies import evaluation
from assignment.movies.evaluation import evaluate, hold_out, score_by_ease, score_films
from assignment.movies.movielens import Likes
from tests.movies.test_cost import likes_of, random_likes

seeds = st.integers(0, 10_000)
quick = settings(deadline=None, max_examples=40)


def liked_sets(likes: Likes) -> list[set[int]]:
    return [set(np.flatnonzero(row)) for row in likes.matrix.toarray()]


@given(seed=seeds, share=st.floats(0.05, 0.95))
@quick
def test_a_split_divides_each_users_likes(seed: int, share: float) -> None:
    whole = random_likes(12, 20, 0.4, seed)
    parts = hold_out(whole, share, seed)
    assert sum(part.matrix.nnz for part in parts) == whole.matrix.nnz
    for liked, train, held_out in zip(*map(liked_sets, (whole, *parts)), strict=True):
        assert train | held_out == liked
        assert not train & held_out
        assert bool(held_out) == (len(liked) >= evaluation.FEWEST)
        assert not held_out or (train and abs(len(held_out) - share * len(liked)) <= 1)


def test_a_split_depends_on_the_seed_and_not_on_other_users_or_the_order_in_memory() -> None:
    whole = random_likes(12, 20, 0.4)
    some = Likes(whole.matrix[4:], whole.users[4:], whole.movies, 4.0)
    unsorted = replace(whole, matrix=sparse.csr_array(whole.matrix.toarray()[:, ::-1])[:, ::-1])

    def held_out(likes: Likes, seed: int = 3) -> np.ndarray:
        return np.asarray(hold_out(likes, seed=seed)[1].matrix.toarray())

    assert (held_out(whole, 4) != held_out(whole)).any()
    assert (held_out(some) == held_out(whole)[4:]).all()
    assert (held_out(unsorted) == held_out(whole)).all()


@given(seed=seeds, n=st.integers(1, 20), levels=st.integers(1, 9))
@quick
def test_the_metrics_are_those_of_sorted_lists(seed: int, n: int, levels: int) -> None:
    train, held_out = hold_out(random_likes(6, 20, 0.4, seed), share=0.4, seed=seed)
    generator = np.random.default_rng(seed)
    scores = generator.integers(-levels, levels, (6, 20)).astype(float) * 10.0 ** (seed % 30)
    count = train.matrix.toarray().sum(axis=0)
    expected = []
    rows = zip(train.users, liked_sets(train), liked_sets(held_out), scores, strict=True)
    for user, known, wanted, score in rows:
        films = [film for film in range(20) if film not in known]
        # By score, likes and place; films without training likes come last.
        films.sort(key=lambda j: (count[j] == 0, -score[j] * (count[j] > 0), -count[j], j))
        ranks = [rank for rank, film in enumerate(films[:n], start=1) if film in wanted]
        possible = range(1, min(n, len(wanted)) + 1)
        if wanted:
            dcg, ideal = (sum(1 / math.log2(1 + r) for r in of) for of in (ranks, possible))
            expected.append([user, len(ranks) / len(possible), dcg / ideal])
    found = evaluate(scores, train, held_out, n)
    np.testing.assert_allclose(np.stack([found.users, found.recall, found.ndcg], axis=1), expected)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_scores_that_differ_by_rounding_are_tied(scale: float) -> None:
    train = likes_of([[0, 1, 1, 1], [0, 1, 0, 1], [1, 1, 1, 1]])
    scores = scale * np.array([1 + 1e-12 * np.arange(4), 1 + 1e-6 * np.arange(4)])
    assert evaluation.top_columns(scores, train, 4).tolist() == [[1, 3, 2, 0], [3, 2, 1, 0]]


@given(seed=seeds, cosine=st.booleans(), colikes=st.booleans())
@quick
def test_scores_are_those_of_loops_over_films(seed: int, cosine: bool, colikes: bool) -> None:
    train, _ = hold_out(random_likes(12, 20, 0.4, seed), seed=seed)
    rows = np.random.default_rng(seed).normal(size=(20, 4))
    if colikes:
        rows = train.matrix.toarray().T.astype(float)
    scores = score_films(sparse.csr_array(rows) if colikes else rows, train.matrix, cosine)
    if cosine:
        rows = np.array([row / max(np.linalg.norm(row), 1e-9) for row in rows])
    for user, films in enumerate(liked_sets(train)):
        mean = rows[list(films)].sum(axis=0) / max(len(films), 1)
        size = max(float(np.linalg.norm(mean)), 1e-9) if cosine else 1
        for film, row in enumerate(rows):
            assert scores[user, film] == pytest.approx(mean @ row / size, abs=1e-12)


@pytest.mark.parametrize("regularisation", [0.3, 20.0, 500.0])
@pytest.mark.parametrize(("users", "films"), [(10, 40), (30, 9)])
def test_ease_is_that_of_the_direct_inverse(users: int, films: int, regularisation: float) -> None:
    train = random_likes(users, films, 0.4)
    A = train.matrix.toarray().astype(float)
    P = np.linalg.inv(A.T @ A + regularisation * np.eye(films))
    B = np.eye(films) - P / np.diag(P)
    np.testing.assert_allclose(score_by_ease(train, regularisation), A @ B, atol=1e-10)


@pytest.mark.parametrize(("shrinkage", "neighbours"), [(0.0, 2), (5.0, 2), (5.0, 3), (5.0, 99)])
def test_item_knn_sums_the_most_alike_of_the_users_films(shrinkage: float, neighbours: int) -> None:
    train = random_likes(30, 9, 0.4)
    fans = liked_sets(replace(train, matrix=train.matrix.T.tocsr()))
    alike = {
        (i, j): len(fans[i] & fans[j]) / (math.sqrt(len(fans[i]) * len(fans[j])) + shrinkage)
        for i in range(9) for j in range(9) if i != j
    }  # fmt: skip
    found = evaluation.score_by_item_knn(train, shrinkage, neighbours)
    for user, films in enumerate(liked_sets(train)):
        for j in range(9):
            near = sorted({*range(9)} - {j}, key=lambda i: (-alike[i, j], i))[:neighbours]
            expected = sum(alike[i, j] for i in films & {*near})
            assert found[user, j] == pytest.approx(expected, abs=1e-12)


def test_ials_solves_its_normal_equations_and_ends_where_its_objective_is_flat() -> None:
    A = random_likes(12, 9, 0.4).matrix
    V, dense = np.random.default_rng(0).normal(size=(9, 3)), A.toarray()
    for row, found in zip(dense, evaluation._least_squares(A, V, 5.0, 2.0), strict=True):
        C = np.diag(1 + 5.0 * row)
        expected = np.linalg.solve(V.T @ C @ V + 2.0 * np.eye(3), V.T @ C @ row)
        np.testing.assert_allclose(found, expected, atol=1e-12)
    train = likes_of(dense)
    scores = torch.from_numpy(evaluation.score_by_ials(train, 3, 5.0, 0.5, sweeps=500))
    # At a minimum ||U||^2 + ||V||^2 is twice the sum of singular values of UV', the scores.
    left, sizes, right = torch.linalg.svd(scores)
    U, V_ = (left[:, :3] * sizes[:3].sqrt()), (right[:3].T * sizes[:3].sqrt())
    factors = [U.clone().requires_grad_(), V_.clone().requires_grad_()]
    a = torch.from_numpy(dense)
    objective = ((1 + 5.0 * a) * (a - factors[0] @ factors[1].T) ** 2).sum()
    objective = objective + 0.5 * sum((factor**2).sum() for factor in factors)
    for gradient in torch.autograd.grad(objective, factors):
        assert gradient.abs().max() < 1e-6


def test_values_are_tried_on_likes_held_out_from_the_training_likes() -> None:
    train = random_likes(40, 50, 0.4)
    inner, held_out = hold_out(train)
    found = evaluation.try_values(score_by_ease, [(1.0,), (100.0,)], train)
    assert [*found] == [(1.0,), (100.0,)]
    assert found[1.0,] == evaluate(score_by_ease(inner, 1.0), inner, held_out).ndcg.mean()


TRAIN, SCORES = random_likes(3, 6, 0.9), np.zeros((3, 6))
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: hold_out(TRAIN, share=0.0), "share is 0.0; expected a share between 0 and 1"),
    (lambda: hold_out(TRAIN, share=1.0), "share is 1.0; expected a share between 0 and 1"),
    (lambda: evaluate(np.full((3, 6), np.nan), TRAIN, TRAIN, 3), "18 of them NaN"),
    (lambda: evaluate(SCORES[:, :5], TRAIN, TRAIN, 3), r"shape \(3, 5\).*\(3, 6\)"),
    (lambda: evaluate(SCORES, TRAIN, TRAIN, 7), "n is 7; .* from 1 to 6, the number of films"),
    (lambda: evaluate(SCORES, TRAIN, likes_of(SCORES), 3), "No user has held-out likes"),
    (lambda: score_by_ease(TRAIN, 0.0), "lambda is 0.0; expected a number above 0"),
    (lambda: score_by_ease(TRAIN, math.nan), "lambda is nan; expected a number above 0"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_misfits_are_refused_in_a_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(AssignmentError, match=message):
        call()


def test_an_interval_is_the_normal_one_for_many_users() -> None:
    values = np.random.default_rng(0).normal(0.3, 0.2, 2000)
    low, high = evaluation.bootstrap_interval(values)
    half = 1.96 * values.std() / math.sqrt(2000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.001)
