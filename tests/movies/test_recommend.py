"""Titles as people write them, and lists of neighbours against brute force."""

import re
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assignment.common.files import Source
from assignment.common.settings import AssignmentError
from assignment.movies import embedding, evaluation, movielens, recommend
from assignment.movies.movielens import Likes, MovieLens
from assignment.movies.recommend import Neighbours, by_colikes, by_cosine

QUERIES = {
    "Fugitive, The (1993)": ["The Fugitive", "the fugitive (1993)", "  FUGITIVE, the "],
    "Seven (a.k.a. Se7en) (1995)": ["Seven", "se7en (1995)", "Seven (a.k.a. Se7en)"],
    "Misérables, Les (1998)": ["Les Miserables", "MISÉRABLES", "Mise\u0301rables, Les"],
    "Avventura, L' (Adventure, The) (1960)": ["L'Avventura", "L’avventura", "The Adventure"],
    "WALL·E (2008)": ["Wall-E"],
    "Bug's Life, A (1998)": ["A Bugs Life"],
    "L.A. Confidential (1997)": ["LA confidential"],
    "Tin Drum, The (Blechtrommel, Die) (1979)": ["Die Blechtrommel"],
    "Die Hard (1988)": ["die hard"],
    "Mask (1985)": [],
    "Mask, The (1994)": ["The Mask (1994)"],
    "Cosmos": [],
    "Cosmos (2015)": ["cosmos (2015)"],
    "$ (Dollars) (1971)": ["$"],
    "(500) Days of Summer (2009)": ["500 Days of Summer"],
    "Good, the Bad and the Ugly, The (1966)": ["The Good, the Bad and the Ugly"],
    "Léon: The Professional (a.k.a. The Professional) (Léon) (1994)": ["Leon", "The Professional"],
    "Love & Bread (Kjærlighet & brød) (2003)": ["love and bread", "kjaerlighet and brod"],
    "Star Wars: Episode IV - A New Hope (1977)": [],
    "Star Wars: Episode I (1999)": [],
}  # fmt: skip
UNLIKED = ["Mask, The (1961)", "Unloved One (2000)"]
TITLES = [*QUERIES, "Emma (1996)", "Emma (2009)", "Emma (1996)", *UNLIKED]  # two of 1996


def films(titles: list[str], fans: np.ndarray) -> tuple[MovieLens, Likes]:
    """Films numbered 10, 20, ... with `fans` [users, films] as their likes."""
    ids = 10 * np.arange(1, len(titles) + 1)
    movies = pd.DataFrame({"title": titles, "year": 2000, "genres": "Drama"}, ids)
    users, columns = np.nonzero(fans)
    ratings = pd.DataFrame({"userId": users + 1, "movieId": ids[columns]})
    source = Source("test", "SAMPLE", "")
    data = MovieLens(ratings.assign(rating=5.0, timestamp=0), movies, pd.DataFrame(), source)
    return data, movielens.build_likes(data)


def random_films(seed: int, users: int = 9, count: int = 14) -> tuple[MovieLens, Likes]:
    """Films 0 to 13 with random likes, of which every film has one at least."""
    fans = (np.random.default_rng(seed).random((users, count)) < 0.35).astype(np.int64)
    fans[0] = 1
    return films([f"Film {i} (2000)" for i in range(count)], fans)


def rankings(seed: int, vectors: Any = None) -> dict[str, Neighbours]:
    data, likes = random_films(seed)
    V = np.random.default_rng(seed).normal(size=(14, 3)) if vectors is None else vectors
    found = [by_cosine(data, likes, V), recommend.by_inner_product(data, likes, V)]
    found += [by_colikes(data, likes), recommend.by_cosine_colikes(data, likes)]
    return {each.score: each for each in found}


@pytest.fixture(scope="module")
def shelf() -> Neighbours:
    fans = np.array([[title not in UNLIKED for title in TITLES]] * 2, dtype=np.int64)
    return by_colikes(*films(TITLES, fans))


@pytest.mark.parametrize(
    ("query", "title"),
    [(query, title) for title, queries in QUERIES.items() for query in (title, *queries)],
)
def test_a_film_is_found_as_people_write_it(shelf: Neighbours, query: str, title: str) -> None:
    assert shelf.find(query) == 10 * TITLES.index(title) + 10


REFUSALS = {
    "Emma": r"names 3 films: Emma \(1996\), movieId 210; Emma \(2009\), movieId 220; .* 230\.",
    "Emma (1996)": r"names 2 films: Emma \(1996\), movieId 210; Emma \(1996\), movieId 230\.",
    "Mask": r"names 2 films: Mask \(1985\), movieId 100; Mask, The \(1994\)",  # 1961: no likes
    "Unloved One (2000)": r"Nobody gave Unloved One \(2000\) at least 4 stars",
    "The Fugative": r"Near spellings: Fugitive, The \(1993\)",
    "Fugitive (1994)": r"Near spellings: Fugitive, The \(1993\)",
    "Star Wars": r"Near spellings: Star Wars: Episode IV .*; Star Wars: Episode I \(",
    "SWE": r"Near spellings: .*Star Wars: Episode IV .*; Star Wars: Episode I \(",  # initials
    "Hard": "Near spellings",  # "Die" is no article of Die Hard
    "qqqqqqq": "Nothing is spelled like it",
    501: "No film is called 501; expected a title or a movieId",
    (): "No film was asked for",
}


@pytest.mark.parametrize(("film", "sentence"), REFUSALS.items())
def test_what_names_no_one_film_is_refused(shelf: Neighbours, film: Any, sentence: str) -> None:
    with pytest.raises(AssignmentError, match=sentence):
        shelf.similar(film)


@pytest.mark.needs("real_data")
def test_real_titles_find_their_films_and_the_most_liked_is_suggested_first() -> None:
    data = movielens.load()
    neighbours, titles = by_colikes(data, movielens.build_likes(data)), data.movies["title"]
    unique = titles[neighbours.liked.movies].drop_duplicates(keep=False)
    assert all(neighbours.find(title) == movie for movie, title in unique[::5].items())
    for query, first in {
        "LOTR": "Lord of the Rings: The Fellowship of the Ring, The",
        "Star Wars": "Star Wars: Episode IV - A New Hope",
        "Harry Potter": "Harry Potter and the Prisoner of Azkaban",
        "Toy Stroy": "Toy Story",
    }.items():
        with pytest.raises(AssignmentError, match=rf"Near spellings: {re.escape(first)} \("):
            neighbours.find(query)


def test_films_are_found_by_what_is_typed_and_where_they_need_not_be_others_are_left_out() -> None:
    data, likes = films(TITLES, np.array([[title not in UNLIKED for title in TITLES]]))
    cosmos = 10 * TITLES.index("Cosmos") + 10
    asked: list[Any] = ["wall-e", cosmos, "Unloved One", "Emma", "Die Hard"]
    found = [data.movies["title"][film] for film in recommend.find_films(data, likes, asked, False)]
    assert found == ["WALL·E (2008)", "Cosmos", "Die Hard (1988)"]
    with pytest.raises(AssignmentError, match="Nobody gave Unloved One"):
        recommend.find_films(data, likes, asked)


def test_titles_are_shortened_and_what_sets_have_in_common_is_a_mean_of_the_known() -> None:
    assert recommend.short_title("Fugitive, The (1993)") == "The Fugitive"
    assert recommend.short_title("Good, the Bad and the Ugly, The (1966)", 12) == "The Good, t…"
    sets = {1: {"a", "b"}, 2: {"b"}, 3: {"b", "c"}}
    assert recommend.in_common(sets, 1, [2, 3, 4]) == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert np.isnan(recommend.in_common(sets, 1, [4]))
    assert np.isnan(recommend.in_common(sets, 4, [1]))


def listed(query: int, scores: list[Fraction], likes: Likes, n: int) -> list[int]:
    """The ids of the n best by exact scores; ties by likes, then by movieId."""
    others = [i for i in range(len(scores)) if i != query]
    others.sort(key=lambda i: (-scores[i], -likes.count[i], likes.movies[i]))
    return [int(likes.movies[i]) for i in others[:n]]


@given(seed=st.integers(0, 10_000), n=st.integers(1, 13))
@settings(deadline=None, max_examples=10)
def test_lists_are_those_of_exact_arithmetic(seed: int, n: int) -> None:
    V = np.random.default_rng(seed).integers(-2, 3, (14, 2))
    V[(V == 0).all(axis=1)] = 1
    cosine, inner, colikes, cosine_colikes = rankings(seed, V * 1.0).values()
    likes, A = cosine.liked, cosine.liked.matrix.toarray().T
    for rows, product, angle in ((A, colikes, cosine_colikes), (V, inner, cosine)):
        by_product, by_angle = (found.top(likes.movies, n).tolist() for found in (product, angle))
        for query in range(14):
            products = [Fraction(int(rows[query] @ row)) for row in rows]
            cosines = [p * abs(p) / int(v @ v) for p, v in zip(products, rows, strict=True)]
            assert by_product[query] == listed(query, products, likes, n)
            assert by_angle[query] == listed(query, cosines, likes, n)  # their signed squares


@pytest.mark.parametrize("score", ["cosine", "inner product", "co-likes", "cosine co-likes"])
def test_a_table_is_a_row_of_top(score: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recommend, "BATCH", 4)
    neighbours = rankings(1)[score]
    movies = neighbours.liked.movies
    for movie, ids in zip(movies, neighbours.top(movies, 13), strict=True):
        table = neighbours.similar(movie, 13)
        assert table.index.tolist() == ids.tolist()
        assert table.columns.tolist() == ["rank", "title", "year", "genres", score, "likes"]
        assert table["rank"].tolist() == list(range(1, 14))
        assert table[score].is_monotonic_decreasing
        assert (table["likes"] == neighbours.liked.count[table.index // 10 - 1]).all()
    pd.testing.assert_frame_equal(neighbours.similar("film 13"), table.head(10))
    assert table.columns.name.startswith("near Film 13 ("), "a name may have found another film"


def test_several_films_are_asked_for_by_the_mean_of_their_unit_vectors() -> None:
    V = np.asarray(rankings(3)["cosine"].rows)
    unit = V / np.linalg.norm(V, axis=1, keepdims=True)
    mean = unit[[1, 5, 6]].sum(axis=0)
    expected = {"cosine": unit @ mean / np.linalg.norm(mean)}
    expected["inner product"] = (V @ V[[1, 5, 6]].T).mean(axis=1)
    for score, values in expected.items():
        table = rankings(3)[score].similar(["Film 1", "Film 5", 70, "Film 1"], 11)
        assert not {20, 60, 70} & set(table.index)
        np.testing.assert_allclose(table[score], values[table.index // 10 - 1])


VECTORS = np.random.default_rng(5).normal(size=(14, 3))
VECTORS[8], VECTORS[1] = 0, -3 * VECTORS[0]
REFUSED: list[tuple[Callable[[Neighbours], Any], str]] = [
    *((lambda some, n=n: some.similar("Film 1", n), f"n is {n!r}; expected a whole .* from 1 to 12")
      for n in (0, 13, "ten", 2.5, True, None)),
    (lambda some: some.similar(["Film 1", "Film 2"], 12), "11, the number of other films"),
    (lambda some: some.top([10, 90]), r"vectors of Film 8 \(2000\) are zero"),
    (lambda some: some.similar(["Film 0", "Film 1"]), r"of Film 0 \(2000\); Film 1 .*cancel out"),
    (lambda some: by_cosine(some.data, some.liked, VECTORS[:13]).top([10]), "13 vectors for 14 li"),
    (lambda some: by_cosine(some.data, some.liked, VECTORS + np.inf).top([10]), "0 of them finite"),
]  # fmt: skip


@pytest.mark.parametrize(("ask", "sentence"), REFUSED)
def test_what_cannot_be_ranked_is_refused(ask: Callable[[Neighbours], Any], sentence: str) -> None:
    cosine = rankings(5, VECTORS)["cosine"]
    with pytest.raises(AssignmentError, match=sentence):
        ask(cosine)
    assert 90 not in cosine.similar("Film 3", 12).index, "a vector of zeros is near nothing"


def test_no_matrix_of_films_by_films_is_made() -> None:
    data, likes = random_films(0, users=2, count=20_000)
    V = np.random.default_rng(0).normal(size=(20_000, 8))
    for neighbours in (by_cosine(data, likes, V), recommend.by_cosine_colikes(data, likes)):
        tracemalloc.start()
        neighbours.similar(10)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 40e6  # of 3,200e6


@given(st.permutations(range(12)), st.permutations(range(6, 18)))
def test_overlap_is_the_mean_size_of_the_common_sets(first: list[int], second: list[int]) -> None:
    assert recommend.mean_overlap([first, first], [second, first[::-1]]) == (6 + 12) / 2
    common = [i for i in first[:5] if i in second[:5]]
    assert recommend.mean_overlap([first[:5]], [np.array(second[:5])]) == len(common)


def test_a_change_names_what_comes_in_and_what_goes_unless_most_is_new() -> None:
    titles = pd.Series({film: f"Film, The {film} (1990)" for film in range(9)})
    change = recommend.describe_change([1, 2, 5], np.array([3, 2, 1]), titles.map("x{}".format))
    assert change.replace("\u00a0", " ") == "2: + xFilm, The 5; \u2212 xFilm, The 3"
    assert recommend.describe_change([1, 2], [2, 1], titles) == "the same 2"
    assert recommend.describe_change([1, 2], [3, 1], titles) == "1 of 2"


@pytest.mark.usefixtures("sample_mode")
def test_every_result_is_one_line_and_a_small_table() -> None:
    data = movielens.load()
    likes = movielens.build_likes(data)
    found = embedding.fit(likes, dim=5, iterations=20)
    train, held_out = evaluation.hold_out(likes)
    judged = evaluation.evaluate(train.matrix.toarray() * 1.0, train, held_out)
    near = recommend.by_cosine(data, likes, found.vectors)
    for result in (data, likes, found, embedding.find_floor(likes, 5), judged, near):
        line = repr(result)
        assert line.startswith(f"{type(result).__name__} [SAMPLE")
        assert len(line.splitlines()) == 1
        assert len(line) < 200
        markup = result._repr_html_()
        assert "[SAMPLE" in markup
        assert len(markup) < 1500
