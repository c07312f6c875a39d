"""Splits, scorers and metrics, against sets, sums by hand, scikit-learn and least squares."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse
from sklearn.metrics import ndcg_score

from assignment.common.settings import AssignmentError
from assignment.movies import evaluation, movielens
from assignment.movies.evaluation import (
    bootstrap_interval,
    evaluate,
    hold_out,
    score_by_ease,
    score_films,
)
from assignment.movies.movielens import Likes


def likes_of(matrix: NDArray[np.int64]) -> Likes:
    """Likes with userIds 101, 102, ... and movieIds 11, 22, ..."""
    users, movies = matrix.shape
    ids = 100 + np.arange(1, users + 1), 11 * np.arange(1, movies + 1)
    return Likes(sparse.csr_array(matrix.astype(np.int64)), *ids, 4.0)


def random_likes(seed: int, users: int = 12, movies: int = 20, share: float = 0.4) -> Likes:
    draw = np.random.default_rng(seed).random((users, movies))
    return likes_of((draw < share).astype(np.int64))


def liked_sets(likes: Likes) -> list[set[int]]:
    return [set(np.flatnonzero(row)) for row in likes.matrix.toarray()]


# --- the split ------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), share=st.floats(0.05, 0.95), fewest=st.integers(2, 8))
@settings(deadline=None, max_examples=30)
def test_a_split_divides_each_users_likes(seed: int, share: float, fewest: int) -> None:
    whole = random_likes(seed, share=0.3)
    parts = hold_out(whole, share, seed, fewest)
    for part in (parts.train, parts.held_out):
        assert part.matrix.shape == whole.matrix.shape
        assert part.users is whole.users
        assert part.movies is whole.movies
    sets = zip(*map(liked_sets, (whole, parts.train, parts.held_out)), strict=True)
    for liked, train, held_out in sets:
        assert train | held_out == liked
        assert not train & held_out
        if len(liked) < fewest:
            assert not held_out
        else:
            assert train
            assert held_out
            assert abs(len(held_out) - share * len(liked)) <= 1


def test_a_split_is_the_seeds_and_does_not_depend_on_other_users() -> None:
    whole = random_likes(1)
    first, again, other = (hold_out(whole, seed=seed).held_out.matrix for seed in (3, 3, 4))
    assert (first != again).nnz == 0
    assert (first != other).nnz > 0
    some = Likes(whole.matrix[4:], whole.users[4:], whole.movies, 4.0)
    assert (hold_out(some, seed=3).held_out.matrix != first[4:]).nnz == 0


def test_a_split_leaves_the_likes_alone_whatever_the_order_of_their_columns() -> None:
    whole = random_likes(2)
    before = whole.matrix.copy()
    shuffled = sparse.csr_array(sparse.coo_array(whole.matrix.toarray()[:, ::-1]))[:, ::-1]
    same = Likes(shuffled, whole.users, whole.movies, 4.0)
    assert (hold_out(same).held_out.matrix != hold_out(whole).held_out.matrix).nnz == 0
    assert (whole.matrix != before).nnz == 0


@pytest.mark.parametrize(("share", "fewest"), [(0.0, 5), (1.0, 5), (0.2, 1), (math.nan, 5)])
def test_a_split_that_leaves_nothing_is_refused(share: float, fewest: int) -> None:
    with pytest.raises(AssignmentError, match="expected a share between 0 and 1"):
        hold_out(random_likes(0), share, fewest=fewest)


# --- the metrics ----------------------------------------------------------------------------------

#                       films:  0  1  2  3  4  5
TRAIN = likes_of(np.array([[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1]]))
HELD_OUT = likes_of(np.array([[0, 1, 0, 1, 0, 0], [1, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]]))
SCORES = np.array([
    [9.0, 5.0, 4.0, 3.0, 2.0, 1.0],  # film 0 is known; ranked 1, 2, 3: hit, miss, hit
    [1.0, 9.0, 2.0, 3.0, 4.0, 5.0],  # film 1 is known; ranked 5, 4, 3: miss, hit, hit
    [6.0, 5.0, 4.0, 3.0, 2.0, 1.0],  # nothing held out
])  # fmt: skip


def test_recall_and_ndcg_of_a_case_worked_by_hand() -> None:
    found = evaluate(SCORES, TRAIN, HELD_OUT, n=3)
    assert found.users.tolist() == [101, 102]
    # Two of two; two of min(3, 4).
    np.testing.assert_allclose(found.recall, [2 / 2, 2 / 3])
    third = 1 / math.log2(4)
    second = 1 / math.log2(3)
    expected = [(1 + third) / (1 + second), (second + third) / (1 + second + third)]
    np.testing.assert_allclose(found.ndcg, expected)
    np.testing.assert_allclose(found.ndcg, [0.9197207891, 0.5307212739], atol=1e-10)


def brute_force(
    scores: NDArray[np.float64], train: Likes, held_out: Likes, n: int
) -> dict[int, tuple[float, float]]:
    """Recall and NDCG by sorting lists; by score, likes and place; unknown films last."""
    count = train.matrix.toarray().sum(axis=0)
    found = {}
    for i, (known, wanted) in enumerate(zip(liked_sets(train), liked_sets(held_out), strict=True)):
        films = [film for film in range(len(count)) if film not in known]
        films.sort(key=lambda j: (count[j] == 0, -scores[i, j] * (count[j] > 0), -count[j], j))
        gains = [float(film in wanted) for film in films[:n]]
        if wanted:
            most = min(n, len(wanted))
            dcg = sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))
            ideal = sum(1 / math.log2(place + 2) for place in range(most))
            found[int(train.users[i])] = sum(gains) / most, dcg / ideal
    return found


@given(seed=st.integers(0, 10_000), n=st.integers(1, 20), levels=st.integers(1, 9))
@settings(deadline=None, max_examples=60)
def test_the_metrics_are_those_of_sorted_lists_however_many_ties(
    seed: int, n: int, levels: int
) -> None:
    parts = hold_out(random_likes(seed), share=0.4, seed=seed)
    generator = np.random.default_rng(seed)
    scores = generator.integers(-levels, levels, parts.train.matrix.shape) * 10.0 ** (seed % 30)
    found = evaluate(scores, parts.train, parts.held_out, n)
    expected = brute_force(scores, parts.train, parts.held_out, n)
    assert found.users.tolist() == list(expected)
    np.testing.assert_allclose(found.recall, [recall for recall, _ in expected.values()])
    np.testing.assert_allclose(found.ndcg, [ndcg for _, ndcg in expected.values()])


def test_ndcg_is_scikit_learns_where_every_film_is_a_candidate() -> None:
    wanted = random_likes(5, users=30, movies=40)
    train = likes_of(np.vstack([np.zeros((30, 40)), np.ones((1, 40))]).astype(np.int64))
    held_out = likes_of(np.vstack([wanted.matrix.toarray(), np.zeros((1, 40))]).astype(np.int64))
    scores = np.random.default_rng(5).normal(size=(31, 40))
    for n in (1, 5, 10, 40):
        ours = evaluate(scores, train, held_out, n).ndcg.mean()
        assert ours == pytest.approx(ndcg_score(wanted.matrix.toarray(), scores[:30], k=n))


def test_a_perfect_ranking_scores_one_and_its_reverse_nothing() -> None:
    parts = hold_out(random_likes(7, users=20, movies=60), fewest=3)
    best = np.where(parts.train.count > 0, parts.held_out.matrix.toarray(), 0).astype(float)
    held = parts.held_out.matrix.multiply(parts.train.count > 0).tocsr()
    held_out = Likes(held, parts.train.users, parts.train.movies, 4.0)
    found = evaluate(best, parts.train, held_out)
    np.testing.assert_allclose(found.recall, 1)
    np.testing.assert_allclose(found.ndcg, 1)
    assert not evaluate(-best, parts.train, held_out).recall.any()


def test_training_likes_are_not_ranked_and_unknown_films_come_last() -> None:
    train = likes_of(np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0]]))
    unknown = likes_of(np.array([[0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]))
    scores = np.array([[9.0, 9.0, -5.0, -6.0, 7.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    recalls = [evaluate(scores, train, unknown, n).recall[0] for n in (1, 2, 3, 5)]
    assert recalls == [0, 0, 1, 1]


def test_ties_go_to_the_film_with_more_likes_then_to_the_lower_movie_id() -> None:
    train = likes_of(np.array([[0, 1, 1, 1], [0, 1, 0, 1], [1, 1, 1, 1]]))
    flat = np.zeros((2, 4)) + 1e-12 * np.arange(4)  # rounding, not a difference
    assert evaluation.top_columns(flat + 1, train, 4).tolist() == [[1, 3, 2, 0]] * 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    scores = SCORES.copy()
    scores[1, 2] = bad
    with pytest.raises(AssignmentError, match="expected a finite number for each user and film"):
        evaluate(scores, TRAIN, HELD_OUT)


def test_misfit_scores_lists_and_users_are_refused_in_a_sentence() -> None:
    with pytest.raises(AssignmentError, match=r"shape \(3, 5\).*\(3, 6\)"):
        evaluate(SCORES[:, :5], TRAIN, HELD_OUT)
    for n in (0, -1, 7):
        with pytest.raises(AssignmentError, match=f"n is {n}; .* n from 1 to 6"):
            evaluate(SCORES, TRAIN, HELD_OUT, n)
    with pytest.raises(AssignmentError, match="There are 0 users with held-out likes"):
        evaluate(SCORES, TRAIN, likes_of(np.zeros((3, 6), dtype=np.int64)), 3)


# --- the scorers ----------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_colike_scores_are_means_of_brute_force_counts(seed: int) -> None:
    train = hold_out(random_likes(seed), seed=seed).train
    users = liked_sets(train)
    fans = [{u for u, films in enumerate(users) if j in films} for j in range(len(train.movies))]
    raw, cosine = (evaluation.score_by_colikes(train, cosine=cosine) for cosine in (False, True))
    scale = []
    for u, films in enumerate(users):
        for i in set(range(len(fans))) - films:
            counts = [len(fans[i] & fans[j]) for j in films]
            assert raw[u, i] == pytest.approx(sum(counts) / max(len(films), 1))
            shares = [len(fans[i] & fans[j]) / math.sqrt(len(fans[j])) for j in films]
            expected = sum(shares) / math.sqrt(len(fans[i])) if fans[i] else 0.0
            if expected:
                scale.append((u, cosine[u, i] / expected))
            else:
                assert cosine[u, i] == pytest.approx(0)
    for u in range(len(users)):
        of_user = [factor for who, factor in scale if who == u]
        assert of_user == pytest.approx([of_user[0]] * len(of_user)) if of_user else True


def test_embedding_scores_are_those_of_loops_over_vectors() -> None:
    train = random_likes(3)
    V = np.random.default_rng(3).normal(size=(20, 4))
    cosine, inner = (
        evaluation.score_by_vectors(train, V, cosine=cosine) for cosine in (True, False)
    )
    for u, films in enumerate(map(sorted, liked_sets(train))):
        mean = sum(V[j] / np.linalg.norm(V[j]) for j in films) / len(films)
        for i, v in enumerate(V):
            expected = mean @ v / np.linalg.norm(mean) / np.linalg.norm(v)
            assert cosine[u, i] == pytest.approx(expected)
            assert inner[u, i] == pytest.approx(np.mean([v @ V[j] for j in films]))


def test_zero_vectors_and_users_without_likes_score_zero() -> None:
    chosen = sparse.csr_array(np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]]))
    rows = np.array([[1.0, 2.0], [-3.0, -6.0], [0.0, 0.0]])
    for cosine in (True, False):
        scores = score_films(rows, chosen, cosine)
        assert np.isfinite(scores).all()
        assert not scores[1:].any()
    assert not score_films(rows, chosen, cosine=True).any()  # the first two point opposite ways


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_the_vectors_of_a_diverged_run_are_refused(bad: float) -> None:
    rows = np.ones((20, 2))
    rows[4, 1] = bad
    for cosine in (True, False):
        with pytest.raises(AssignmentError, match="diverged"):
            evaluation.score_by_vectors(random_likes(0), rows, cosine=cosine)


@pytest.mark.parametrize("regularisation", [0.3, 5.0, 200.0])
def test_ease_solves_each_films_least_squares_without_the_film_itself(
    regularisation: float,
) -> None:
    train = random_likes(11, users=15, movies=9)
    A = train.matrix.toarray().astype(float)
    B = np.zeros((9, 9))
    for j in range(9):
        others = np.delete(np.arange(9), j)
        stacked = np.vstack([A[:, others], math.sqrt(regularisation) * np.eye(8)])
        target = np.concatenate([A[:, j], np.zeros(8)])
        B[others, j] = np.linalg.lstsq(stacked, target, rcond=None)[0]
    np.testing.assert_allclose(score_by_ease(train, regularisation), A @ B, atol=1e-10)


def test_ease_is_the_closed_form_also_with_more_films_than_users() -> None:
    train = random_likes(12, users=10, movies=60)
    A = train.matrix.toarray().astype(float)
    P = np.linalg.inv(A.T @ A + 20 * np.eye(60))
    B = np.eye(60) - P / np.diag(P)
    assert np.abs(np.diag(B)).max(initial=0) < 1e-12
    np.testing.assert_allclose(score_by_ease(train, 20.0), A @ B, atol=1e-12)


def test_ease_refuses_a_lambda_that_makes_no_inverse() -> None:
    for regularisation in (0.0, -1.0, math.nan):
        with pytest.raises(AssignmentError, match="expected a number above 0"):
            score_by_ease(random_likes(0), regularisation)


def test_lambda_is_the_best_on_likes_held_out_from_the_training_likes() -> None:
    train = hold_out(random_likes(13, users=40, movies=50)).train
    tried = evaluation.choose_lambda(train, (1.0, 10.0, 100.0), seed=2, n=5)
    inner = hold_out(train, seed=2)
    for value, ndcg in tried.items():
        scores = score_by_ease(inner.train, value)
        assert evaluate(scores, inner.train, inner.held_out, 5).ndcg.mean() == ndcg
    assert list(tried.values()) == sorted(tried.values(), reverse=True)


def test_vectors_are_fitted_to_films_with_training_likes_and_stay_in_line() -> None:
    train = likes_of(np.array([[1, 0, 1, 0, 1], [1, 0, 0, 0, 1]]))

    def fit(films: Likes) -> NDArray[np.floating]:
        assert (films.count > 0).all()
        return np.column_stack([films.movies, films.count]).astype(np.float32)

    vectors = evaluation.fit_known_films(train, fit)
    assert vectors.tolist() == [[11, 2], [0, 0], [33, 1], [0, 0], [55, 2]]


# --- intervals ------------------------------------------------------------------------------------


def test_an_interval_is_the_normal_one_for_many_users_and_its_seeds() -> None:
    values = np.random.default_rng(0).normal(0.3, 0.2, 2000)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / math.sqrt(2000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.001)
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(values, seed=1) != (low, high)
    narrow = bootstrap_interval(values, level=0.5)
    assert low < narrow[0] < values.mean() < narrow[1] < high
    assert bootstrap_interval(np.full(7, 0.25)) == (0.25, 0.25)


def test_the_table_states_each_mean_and_its_interval() -> None:
    found = {"as scored": evaluate(SCORES, TRAIN, HELD_OUT, 3)}
    found["reversed"] = evaluate(-SCORES, TRAIN, HELD_OUT, 3)
    frame = evaluation.summary_table(found)
    assert frame["ranking"].tolist() == ["as scored", "reversed"]
    for metric in ("recall@3", "NDCG@3"):
        assert (frame[f"{metric} from"] <= frame[metric]).all()
        assert (frame[metric] <= frame[f"{metric} to"]).all()
    assert frame["recall@3"][0] == pytest.approx(5 / 6)
    assert not frame.isna().to_numpy().any()


# --- on films -------------------------------------------------------------------------------------

Scorer = Callable[[Likes], NDArray[np.float64]]
SCORERS: dict[str, Scorer] = {
    "popularity": evaluation.score_by_popularity,
    "co-likes": lambda train: evaluation.score_by_colikes(train, cosine=False),
    "cosine co-likes": lambda train: evaluation.score_by_colikes(train, cosine=True),
    "EASE": lambda train: score_by_ease(train, 200.0),
}


def recalls() -> pd.Series:
    parts = hold_out(movielens.build_likes(movielens.load()))
    found = {
        name: evaluate(score(parts.train), parts.train, parts.held_out)
        for name, score in SCORERS.items()
    }
    frame = evaluation.summary_table(found)
    assert not frame.isna().to_numpy().any()
    return frame.set_index("ranking")["recall@10"]


@pytest.mark.usefixtures("sample_mode")
def test_on_the_sample_taste_beats_popularity() -> None:
    found = recalls()
    assert found["popularity"] < min(found["cosine co-likes"], found["EASE"])


@pytest.mark.needs("real_data")
def test_on_real_likes_the_rankings_keep_their_order() -> None:
    found = recalls()
    assert found.sort_values().index.tolist() == list(SCORERS)
    assert found["EASE"] == pytest.approx(0.27, abs=0.02)
