"""Splits, scores and metrics, against sets, loops, sums by hand and the direct inverse."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from assignment.common.settings import AssignmentError
from assignment.movies import evaluation, movielens
from assignment.movies.evaluation import bootstrap_interval, evaluate, hold_out, score_by_ease
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
    assert parts.train.matrix.nnz + parts.held_out.matrix.nnz == whole.matrix.nnz
    sets = zip(*map(liked_sets, (whole, parts.train, parts.held_out)), strict=True)
    for liked, train, held_out in sets:
        assert train | held_out == liked
        assert not train & held_out
        assert bool(held_out) == (len(liked) >= evaluation.FEWEST)
        assert not held_out or (train and abs(len(held_out) - share * len(liked)) <= 1)


def test_a_split_depends_on_the_seed_and_not_on_other_users_or_the_order_in_memory() -> None:
    whole = random_likes(12, 20, 0.4)
    held_out = hold_out(whole, seed=3).held_out.matrix.toarray()
    assert (hold_out(whole, seed=4).held_out.matrix.toarray() != held_out).any()
    some = Likes(whole.matrix[4:], whole.users[4:], whole.movies, 4.0)
    assert (hold_out(some, seed=3).held_out.matrix.toarray() == held_out[4:]).all()
    unsorted = replace(whole, matrix=sparse.csr_array(whole.matrix.toarray()[:, ::-1])[:, ::-1])
    assert (hold_out(unsorted, seed=3).held_out.matrix.toarray() == held_out).all()


TRAIN = likes_of([[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1]])
HELD_OUT = likes_of([[0, 1, 0, 1, 0, 0], [1, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]])
SCORES = np.array([
    [9.0, 5.0, 4.0, 3.0, 2.0, 1.0],  # film 0 is known; ranked 1, 2, 3: hit, miss, hit
    [1.0, 9.0, 2.0, 3.0, 4.0, 5.0],  # film 1 is known; ranked 5, 4, 3: miss, hit, hit
    [6.0, 5.0, 4.0, 3.0, 2.0, 1.0],  # nothing held out
])  # fmt: skip


def test_recall_and_ndcg_of_a_case_worked_by_hand() -> None:
    found = evaluate(SCORES, TRAIN, HELD_OUT, n=3)
    assert found.users.tolist() == [0, 1]
    np.testing.assert_allclose(found.recall, [2 / 2, 2 / 3])
    np.testing.assert_allclose(found.ndcg, [0.9197207891, 0.5307212739], atol=1e-10)


@given(seed=seeds, n=st.integers(1, 20), levels=st.integers(1, 9))
@quick
def test_the_metrics_are_those_of_sorted_lists(seed: int, n: int, levels: int) -> None:
    parts = hold_out(random_likes(6, 20, 0.4, seed), share=0.4, seed=seed)
    generator = np.random.default_rng(seed)
    scores = generator.integers(-levels, levels, (6, 20)).astype(float) * 10.0 ** (seed % 30)
    count = parts.train.matrix.toarray().sum(axis=0)
    expected = []
    sets = zip(parts.train.users, liked_sets(parts.train), liked_sets(parts.held_out), strict=True)
    for (user, known, wanted), score in zip(sets, scores, strict=True):
        films = [film for film in range(20) if film not in known]
        # By score, likes and place; films without training likes come last.
        films.sort(key=lambda j: (count[j] == 0, -score[j] * (count[j] > 0), -count[j], j))
        ranks = [rank for rank, film in enumerate(films[:n], start=1) if film in wanted]
        possible = range(1, min(n, len(wanted)) + 1)
        if wanted:
            dcg, ideal = (sum(1 / math.log2(1 + r) for r in of) for of in (ranks, possible))
            expected.append([user, len(ranks) / len(possible), dcg / ideal])
    found = evaluate(scores, parts.train, parts.held_out, n)
    np.testing.assert_allclose(np.stack([found.users, found.recall, found.ndcg], axis=1), expected)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_scores_that_differ_by_rounding_are_tied(scale: float) -> None:
    train = likes_of([[0, 1, 1, 1], [0, 1, 0, 1], [1, 1, 1, 1]])
    scores = scale * np.array([1 + 1e-12 * np.arange(4), 1 + 1e-6 * np.arange(4)])
    assert evaluation.top_columns(scores, train, 4).tolist() == [[1, 3, 2, 0], [3, 2, 1, 0]]


@given(seed=seeds, cosine=st.booleans(), colikes=st.booleans())
@quick
def test_scores_are_those_of_loops_over_films(seed: int, cosine: bool, colikes: bool) -> None:
    train = hold_out(random_likes(12, 20, 0.4, seed), seed=seed).train
    if colikes:
        rows = train.matrix.toarray().T.astype(float)
        scores = evaluation.score_by_colikes(train, cosine)
    else:
        rows = np.random.default_rng(seed).normal(size=(20, 4))
        scores = evaluation.score_by_vectors(train, rows, cosine)
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


def test_lambda_is_the_best_on_likes_held_out_from_the_training_likes() -> None:
    train = random_likes(40, 50, 0.4)
    tried, inner = evaluation.choose_lambda(train), hold_out(train)
    for value, ndcg in tried.items():
        scores = score_by_ease(inner.train, value)
        assert evaluate(scores, inner.train, inner.held_out).ndcg.mean() == ndcg
    assert list(tried.values()) == sorted(tried.values(), reverse=True)
    assert set(tried) == set(evaluation.LAMBDAS)


def test_vectors_are_fitted_to_films_with_training_likes_and_stay_in_line() -> None:
    train = likes_of([[1, 0, 1, 0, 1], [1, 0, 0, 0, 1]])
    vectors = evaluation.fit_known_films(train, lambda t: np.stack([t.movies, t.count], axis=1))
    assert vectors.tolist() == [[0, 2], [0, 0], [2, 1], [0, 0], [4, 2]]


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: hold_out(TRAIN, share=0.0), "share is 0.0; expected a share between 0 and 1"),
    (lambda: hold_out(TRAIN, share=1.0), "share is 1.0; expected a share between 0 and 1"),
    (lambda: evaluate(np.full((3, 6), np.nan), TRAIN, HELD_OUT), "18 of them NaN"),
    (lambda: evaluate(SCORES[:, :5], TRAIN, HELD_OUT), r"shape \(3, 5\).*\(3, 6\)"),
    (lambda: evaluate(SCORES, TRAIN, HELD_OUT, 7), "n is 7; .* n from 1 to 6"),
    (lambda: evaluate(SCORES, TRAIN, likes_of(np.zeros((3, 6))), 3), "0 users with held-out likes"),
    (lambda: evaluation.score_by_vectors(TRAIN, np.full((6, 2), 1e200), False), "0 of them finite"),
    (lambda: score_by_ease(TRAIN, 0.0), "lambda is 0.0; expected a number above 0"),
    (lambda: score_by_ease(TRAIN, math.nan), "lambda is nan; expected a number above 0"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_misfits_are_refused_in_a_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(AssignmentError, match=message):
        call()


def test_an_interval_is_the_normal_one_for_many_users_and_the_table_states_it() -> None:
    values = np.random.default_rng(0).normal(0.3, 0.2, 2000)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / math.sqrt(2000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.001)
    found = evaluation.Evaluation(3, np.arange(2000), values, values + 1)
    row = evaluation.summary_table({"some": found}).iloc[0]
    assert row.tolist()[:4] == ["some", values.mean(), low, high]
    assert row["NDCG@3 from"] == pytest.approx(low + 1)


@pytest.mark.needs("real_data")
def test_recalls_on_the_official_ratings() -> None:
    parts = hold_out(movielens.build_likes(movielens.load()))
    scores = [
        evaluation.score_by_popularity(parts.train),
        evaluation.score_by_colikes(parts.train, cosine=True),
        score_by_ease(parts.train, 200.0),
    ]
    recalls = [evaluate(some, parts.train, parts.held_out).recall.mean() for some in scores]
    assert recalls == pytest.approx([0.136, 0.224, 0.269], abs=0.0006)
