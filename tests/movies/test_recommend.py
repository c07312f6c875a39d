"""Titles as people write them, and lists of neighbours against brute force."""

import math
import re
import tracemalloc
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse

from assignment.common.files import Source
from assignment.common.settings import AssignmentError
from assignment.movies import movielens, recommend
from assignment.movies.movielens import Likes, MovieLens
from assignment.movies.recommend import (
    FilmError,
    Neighbours,
    by_colikes,
    by_cosine,
    by_cosine_colikes,
    by_inner_product,
    overlap_at,
)

TITLES = (
    "Fugitive, The (1993)", "Seven (a.k.a. Se7en) (1995)", "Misérables, Les (1998)",
    "Boot, Das (Boat, The) (1981)", "Emma (1996)", "Emma (2009)", "Emma (1996)",
    "Avventura, L' (Adventure, The) (1960)", "WALL·E (2008)", "Bug's Life, A (1998)",
    "L.A. Confidential (1997)", "Tin Drum, The (Blechtrommel, Die) (1979)", "Die Hard (1988)",
    "Mask (1985)", "Mask, The (1994)", "Mask, The (1961)", "Crash (1996)", "Crash (2004)",
    "Cosmos", "Cosmos (2015)", "$ (Dollars) (1971)", "(500) Days of Summer (2009)",
    "Good, the Bad and the Ugly, The (Buono, il brutto, il cattivo, Il) (1966)",
    "Star Wars: Episode IV - A New Hope (1977)", "Star Wars: Episode I (1999)",
    "Unloved One (2000)", "Léon: The Professional (a.k.a. The Professional) (Léon) (1994)",
    "Andalusian Dog, An (Chien andalou, Un) (1929)", "Show Me Love (Fucking Åmål) (1998)",
)  # fmt: skip
AMELIE = "Amelie (Fabuleux destin d'Amélie Poulain, Le) (2001)"
UNLIKED = {"Mask, The (1961)", "Unloved One (2000)", "Crash (1996)", "Crash (2004)"}


def films(titles: tuple[str, ...], fans: NDArray[np.int64]) -> tuple[MovieLens, Likes]:
    """Films numbered 10, 20, ... with `fans` [users, films] as their likes."""
    movies = pd.DataFrame({"title": titles}, index=pd.RangeIndex(10, 10 * len(titles) + 10, 10))
    movies["year"] = movies["title"].str.extract(r"\((\d{4})\)$")[0].astype("Int64")
    movies["genres"] = "Drama"
    users, columns = np.nonzero(fans)
    ratings = pd.DataFrame({"userId": users + 1, "movieId": movies.index[columns]})
    data = MovieLens(ratings.assign(rating=5.0, timestamp=0), movies, Source("test", "SAMPLE", ""))
    return data, movielens.build_likes(data)


def numbered(count: int) -> tuple[str, ...]:
    return tuple(f"Film {i} (2000)" for i in range(count))


def random_fans(seed: int, users: int = 9, count: int = 14) -> NDArray[np.int64]:
    """Random likes, of which every film has one at least."""
    fans = (np.random.default_rng(seed).random((users, count)) < 0.35).astype(np.int64)
    fans[0] = 1
    return fans


@pytest.fixture(scope="module")
def shelf() -> Neighbours:
    fans = np.array([[title not in UNLIKED for title in TITLES]] * 2, dtype=np.int64)
    return by_colikes(*films(TITLES, fans))


# --- titles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("Fugitive, The (1993)", "Fugitive, The (1993)"),
        ("The Fugitive", "Fugitive, The (1993)"),
        ("the fugitive (1993)", "Fugitive, The (1993)"),
        ("FUGITIVE", "Fugitive, The (1993)"),
        ("  Fugitive, the  ", "Fugitive, The (1993)"),
        ("Seven", "Seven (a.k.a. Se7en) (1995)"),
        ("se7en (1995)", "Seven (a.k.a. Se7en) (1995)"),
        ("Seven (a.k.a. Se7en)", "Seven (a.k.a. Se7en) (1995)"),
        ("Les Miserables", "Misérables, Les (1998)"),
        ("MISÉRABLES", "Misérables, Les (1998)"),
        ("Mise\u0301rables, Les", "Misérables, Les (1998)"),
        ("Das Boot", "Boot, Das (Boat, The) (1981)"),
        ("the boat", "Boot, Das (Boat, The) (1981)"),
        ("L'Avventura", "Avventura, L' (Adventure, The) (1960)"),
        ("L’avventura", "Avventura, L' (Adventure, The) (1960)"),
        ("The Adventure", "Avventura, L' (Adventure, The) (1960)"),
        ("Wall-E", "WALL·E (2008)"),
        ("A Bugs Life", "Bug's Life, A (1998)"),
        ("LA confidential", "L.A. Confidential (1997)"),
        ("Die Blechtrommel", "Tin Drum, The (Blechtrommel, Die) (1979)"),
        ("die hard", "Die Hard (1988)"),
        ("Mask (1985)", "Mask (1985)"),
        ("The Mask (1994)", "Mask, The (1994)"),
        ("Cosmos", "Cosmos"),
        ("cosmos (2015)", "Cosmos (2015)"),
        ("$", "$ (Dollars) (1971)"),
        ("500 Days of Summer", "(500) Days of Summer (2009)"),
        ("The Good, the Bad and the Ugly", TITLES[22]),
        ("Il buono, il brutto, il cattivo", TITLES[22]),
        ("Leon", "Léon: The Professional (a.k.a. The Professional) (Léon) (1994)"),
        ("The Professional", "Léon: The Professional (a.k.a. The Professional) (Léon) (1994)"),
        ("Un chien andalou", "Andalusian Dog, An (Chien andalou, Un) (1929)"),
        ("fucking amal", "Show Me Love (Fucking Åmål) (1998)"),
    ],
)
def test_a_film_is_found_as_people_write_its_title(
    shelf: Neighbours, query: str, title: str
) -> None:
    assert shelf.data.movies["title"][shelf.find(query)] == title


def test_every_title_finds_itself_or_says_why_not(shelf: Neighbours) -> None:
    for movie, title in shelf.data.movies["title"].items():
        if title in UNLIKED:
            with pytest.raises(FilmError, match=r"Nobody gave .* at least 4 stars"):
                shelf.find(title)
        elif title != "Emma (1996)":  # two films
            assert shelf.find(title) == movie
    assert shelf.find(70) == shelf.find(np.int64(70)) == 70


@pytest.mark.parametrize(
    ("query", "candidates"),
    [
        ("Emma", ["Emma (1996), movieId 50", "Emma (2009), movieId 60", "movieId 70"]),
        ("Emma (1996)", ["Emma (1996), movieId 50", "Emma (1996), movieId 70"]),
        ("Mask", ["names 2 films", "Mask (1985), movieId 140", "Mask, The (1994), movieId 150"]),
        ("crash", ["Crash (1996), movieId 170", "Crash (2004), movieId 180"]),
    ],
)
def test_a_name_of_several_films_lists_them(
    shelf: Neighbours, query: str, candidates: list[str]
) -> None:
    with pytest.raises(FilmError) as error:
        shelf.find(query)
    for candidate in candidates:
        assert candidate in str(error.value)
    assert "1961" not in str(error.value)  # nobody liked that Mask, so it cannot be meant


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("The Fugative", r"Near spellings: Fugitive, The \(1993\)"),
        ("Fugitive (1994)", r"Near spellings: Fugitive, The \(1993\)"),
        ("Star Wars", r"Near spellings: .*Episode I .*Episode IV "),
        ("Hard", "Near spellings"),  # "Die" is no article of Die Hard
        ("qqqqqqq", "Nothing is spelled like it"),
        ("", "Nothing is spelled like it"),
        (11, "No film is called 11. Ask by title"),
    ],
)
def test_an_unknown_name_gets_near_spellings(
    shelf: Neighbours, query: str | int, expected: str
) -> None:
    with pytest.raises(FilmError, match=expected):
        shelf.similar(query)


@given(st.sampled_from(TITLES), st.sampled_from([str.upper, str.lower, str.swapcase, str.title]))
def test_case_never_matters(title: str, change: Callable[[str], str]) -> None:
    for name in recommend.alternative_titles(title):
        assert set(recommend.spellings(change(name))) & set(recommend.spellings(name))


@given(st.text(max_size=30))
@settings(deadline=None)
def test_any_text_at_all_is_found_or_refused_in_a_sentence(shelf: Neighbours, query: str) -> None:
    try:
        assert shelf.find(query) in shelf.data.movies.index
    except FilmError as refusal:
        said = str(refusal)
        assert said.endswith(".")


@pytest.mark.needs("real_data")
@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("apollo 13", "Apollo 13 (1995)"),
        ("Toy Story", "Toy Story (1995)"),
        ("Home Alone", "Home Alone (1990)"),
        ("The Fugitive", "Fugitive, The (1993)"),  # that of 1947 has no likes
        ("Emma (1996)", "Emma (1996)"),
        ("Seven", "Seven (a.k.a. Se7en) (1995)"),
        ("Se7en", "Seven (a.k.a. Se7en) (1995)"),
        ("Amélie", AMELIE),
        ("le fabuleux destin d'amelie poulain", AMELIE),
        ("Alien 3", "Alien³ (a.k.a. Alien 3) (1992)"),
        ("monsters inc", "Monsters, Inc. (2001)"),
        ("La vita e bella", "Life Is Beautiful (La Vita è bella) (1997)"),
        ("The Blind Side", "Blind Side, The  (2009)"),
        ("L.A. Confidential", "L.A. Confidential (1997)"),
        ("Sunset Boulevard", "Sunset Blvd. (a.k.a. Sunset Boulevard) (1950)"),
    ],
)
def test_real_titles_are_found(real: tuple[MovieLens, Likes], query: str, title: str) -> None:
    assert real[0].movies["title"][by_colikes(*real).find(query)] == title


@pytest.fixture(scope="module")
def real() -> tuple[MovieLens, Likes]:
    data = movielens.load()
    return data, movielens.build_likes(data)


@pytest.mark.needs("real_data")
def test_real_titles_that_need_more_words(real: tuple[MovieLens, Likes]) -> None:
    neighbours = by_colikes(*real)
    for query, expected in {
        "Titanic": r"Titanic \(1997\), movieId 1721; Titanic \(1953\), movieId 3404",
        "Fugitive, The (1947)": "Nobody gave Fugitive",
        "Toy Stroy": r"Near spellings: Toy Story \(1995\)",
        "Star Wars": "Star Wars: Episode IV - A New Hope",
    }.items():
        with pytest.raises(FilmError, match=expected):
            neighbours.similar(query)


@pytest.mark.needs("real_data")
def test_every_real_title_finds_its_film_or_a_namesake(real: tuple[MovieLens, Likes]) -> None:
    neighbours, titles = by_colikes(*real), real[0].movies["title"]
    for movie in real[1].movies:
        try:
            answer = str(neighbours.find(titles[movie]))
        except FilmError as refusal:
            answer = str(refusal)
        assert re.search(rf"\b{movie}\b", answer)


# --- rankings -------------------------------------------------------------------------------------


def listed(query: int, scores: list[Fraction], likes: Likes, n: int) -> list[int]:
    """The ids of the n best by exact scores; ties by likes, then by movieId."""
    others = [i for i in range(len(scores)) if i != query]
    others.sort(key=lambda i: (-scores[i], -likes.count[i], likes.movies[i]))
    return [int(likes.movies[i]) for i in others[:n]]


def signed_square(top: int, below: int) -> Fraction:
    return Fraction(int(math.copysign(top * top, top)), below)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 13))
@settings(deadline=None, max_examples=20)
def test_lists_of_colikes_are_those_of_sets(seed: int, n: int) -> None:
    fans = random_fans(seed)
    data, likes = films(numbered(14), fans)
    sets = [set(np.flatnonzero(column)) for column in fans.T]
    for query, own in enumerate(sets):
        common = [len(own & other) for other in sets]
        raw = listed(query, [Fraction(k) for k in common], likes, n)
        shares = [signed_square(k, len(own) * len(s)) for k, s in zip(common, sets, strict=True)]
        cosine = listed(query, shares, likes, n)
        movie = int(likes.movies[query])
        table = by_colikes(data, likes).similar(movie, n)
        assert table.index.tolist() == raw
        assert table["co-likes"].tolist() == [common[i // 10 - 1] for i in raw]
        table = by_cosine_colikes(data, likes).similar(movie, n)
        assert table.index.tolist() == cosine
        expected = [math.sqrt(shares[i // 10 - 1]) for i in cosine]
        assert table["cosine co-likes"].tolist() == pytest.approx(expected)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 13))
@settings(deadline=None, max_examples=20)
def test_lists_of_vectors_are_those_of_exact_arithmetic(seed: int, n: int) -> None:
    data, likes = films(numbered(14), random_fans(seed))
    V = np.random.default_rng(seed).integers(-2, 3, (14, 2))
    V[(V == 0).all(axis=1)] = 1
    for query in range(14):
        movie = int(likes.movies[query])
        products = [int(V[query] @ v) for v in V]
        squares = [signed_square(p, int(v @ v)) for p, v in zip(products, V, strict=True)]
        inner = by_inner_product(data, likes, V.astype(float)).similar(movie, n)
        assert inner.index.tolist() == listed(query, list(map(Fraction, products)), likes, n)
        cosine = by_cosine(data, likes, V.astype(np.float32)).similar(movie, n)
        assert cosine.index.tolist() == listed(query, squares, likes, n)


def test_colike_scores_are_a_row_of_the_colikes() -> None:
    data, likes = films(numbered(40), random_fans(3, users=60, count=40))
    X = movielens.count_colikes(likes).toarray()
    table = by_colikes(data, likes).similar("Film 7", 39)
    assert table["co-likes"].tolist() == sorted(np.delete(X[7], 7), reverse=True)


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_a_rotation_of_the_embedding_changes_no_list(seed: int) -> None:
    generator = np.random.default_rng(seed)
    data, likes = films(numbered(14), random_fans(seed))
    V = generator.normal(size=(14, 5))
    V[3], V[4] = V[2], 2 * V[2]  # ties, which rounding must not decide
    rotation = np.linalg.qr(generator.normal(size=(5, 5)))[0]
    for ranking in (by_cosine, by_inner_product):
        before = ranking(data, likes, V).top(likes.movies, 13)
        after = ranking(data, likes, V @ rotation).top(likes.movies, 13)
        np.testing.assert_array_equal(before, after)


def all_rankings(seed: int, count: int = 14) -> list[Neighbours]:
    data, likes = films(numbered(count), random_fans(seed, count=count))
    V = np.random.default_rng(seed).normal(size=(count, 3))
    vectors = [ranking(data, likes, V) for ranking in (by_cosine, by_inner_product)]
    return vectors + [ranking(data, likes) for ranking in (by_colikes, by_cosine_colikes)]


@pytest.mark.parametrize("which", range(4))
def test_a_table_is_complete_ordered_and_the_same_again(which: int) -> None:
    neighbours = all_rankings(1)[which]
    table = neighbours.similar("film 4", 13)
    name = ("cosine", "inner product", "co-likes", "cosine co-likes")[which]
    assert table.columns.tolist() == ["rank", "title", "year", "genres", name, "likes"]
    assert table["rank"].tolist() == list(range(1, 14))
    assert sorted([*table.index, 50]) == neighbours.liked.movies.tolist()
    assert table[name].is_monotonic_decreasing
    assert not table.isna().to_numpy().any()
    pd.testing.assert_frame_equal(table, neighbours.similar(50, 13))
    pd.testing.assert_frame_equal(table.head(5), neighbours.similar("Film 4 (2000)", 5))
    counted = dict(zip(neighbours.liked.movies, neighbours.liked.count, strict=True))
    assert table["likes"].tolist() == [counted[movie] for movie in table.index]
    assert len(neighbours.similar("film 4")) == 10


@pytest.mark.parametrize("which", range(4))
def test_many_queries_at_once_are_the_tables_one_by_one(
    which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recommend, "BATCH", 4)
    neighbours = all_rankings(2)[which]
    lists = neighbours.top(neighbours.liked.movies, 6)
    assert lists.shape == (14, 6)
    for movie, ids in zip(neighbours.liked.movies, lists, strict=True):
        assert neighbours.similar(int(movie), 6).index.tolist() == ids.tolist()


def test_several_films_are_asked_for_by_the_mean_of_their_unit_vectors() -> None:
    cosine, inner, *_ = all_rankings(3)
    V, asked = np.asarray(cosine.rows), [1, 5, 6]
    titles = [f"Film {i}" for i in asked]
    mean = sum(V[i] / np.linalg.norm(V[i]) for i in asked)
    expected = {i: mean @ v / np.linalg.norm(mean) / np.linalg.norm(v) for i, v in enumerate(V)}
    order = sorted(set(range(14)) - set(asked), key=lambda i: -expected[i])
    table = cosine.similar(titles, 11)
    assert table.index.tolist() == [10 * i + 10 for i in order]
    np.testing.assert_allclose(table["cosine"], [expected[i] for i in order])
    mean_scores = np.mean([V @ V[i] for i in asked], axis=0)
    found = inner.similar(titles, 11)
    np.testing.assert_allclose(found["inner product"], mean_scores[found.index // 10 - 1])
    pd.testing.assert_frame_equal(cosine.similar([*titles[::-1], titles[0]], 11), table)
    pd.testing.assert_frame_equal(cosine.similar(["film 1"]), cosine.similar("film 1"))


@pytest.mark.parametrize("which", range(4))
def test_too_many_too_few_or_no_films_get_a_sentence(which: int) -> None:
    neighbours = all_rankings(4)[which]
    for n in (0, -3, 14):
        with pytest.raises(AssignmentError, match=f"n is {n}, but there are 13 other"):
            neighbours.similar("Film 1", n)
        with pytest.raises(AssignmentError, match=f"n is {n}, but there are 13 other"):
            neighbours.top([20], n)
    with pytest.raises(AssignmentError, match="there are 12 other"):
        neighbours.similar(["Film 1", "Film 2"], 13)
    with pytest.raises(FilmError, match="No film was asked for"):
        neighbours.similar([])
    with pytest.raises(FilmError, match="No film was asked for"):
        neighbours.top([])


def test_a_zero_vector_is_neither_asked_for_nor_returned() -> None:
    data, likes = films(numbered(14), random_fans(5))
    V = np.random.default_rng(5).normal(size=(14, 3))
    V[8] = 0
    for ranking in (by_cosine, by_inner_product):
        neighbours = ranking(data, likes, V)
        with pytest.raises(FilmError, match=r"The vector of Film 8 \(2000\) is zero"):
            neighbours.similar("Film 8")
        with pytest.raises(FilmError, match="is zero"):
            neighbours.top([10, 90])
        table = neighbours.similar("Film 3", 12)
        assert 90 not in table.index
        assert np.isfinite(table[neighbours.score]).all()
        with pytest.raises(AssignmentError, match="there are 12 other"):
            neighbours.similar("Film 3", 13)


def test_vectors_that_cancel_diverged_or_belong_elsewhere_are_refused() -> None:
    data, likes = films(numbered(14), random_fans(6))
    V = np.random.default_rng(6).normal(size=(14, 3))
    V[1] = -3 * V[0]
    with pytest.raises(FilmError, match="cancel out"):
        by_cosine(data, likes, V).similar(["Film 0", "Film 1"])
    with pytest.raises(AssignmentError, match="13 vectors for 14 liked films"):
        by_cosine(data, likes, V[:13])
    for bad in (np.nan, np.inf):
        V[9, 1] = bad
        for ranking in (by_cosine, by_inner_product):
            with pytest.raises(AssignmentError, match="diverged"):
                ranking(data, likes, V).similar("Film 0")


def test_a_film_that_only_loners_like_still_gets_numbers() -> None:
    fans = np.eye(3, 14, dtype=np.int64)
    fans[2, 2:] = 1
    data, likes = films(numbered(14), fans)
    table = by_cosine_colikes(data, likes).similar("Film 0", 3)
    assert table["cosine co-likes"].tolist() == [0, 0, 0]
    assert table.index.tolist() == [20, 30, 40]


def test_no_matrix_of_films_by_films_is_made() -> None:
    count, users = 20_000, 50
    generator = np.random.default_rng(0)
    rows, columns = np.tile(np.arange(users), count // 50), np.arange(count)
    matrix = sparse.csr_array((np.ones(count, dtype=np.int64), (rows, columns)), (users, count))
    data, _ = films(numbered(count), np.eye(1, count, dtype=np.int64))
    likes = Likes(matrix, np.arange(users), 10 * columns + 10, 4.0)
    V = generator.normal(size=(count, 8))
    for neighbours in (by_cosine(data, likes, V), by_cosine_colikes(data, likes)):
        tracemalloc.start()
        neighbours.similar(10)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 40e6  # of 3,200e6


# --- agreement ------------------------------------------------------------------------------------


@given(st.permutations(range(12)), st.permutations(range(6, 18)), st.integers(1, 12))
def test_overlap_is_the_share_of_a_common_set(first: list[int], second: list[int], n: int) -> None:
    expected = len([i for i in first[:n] if i in second[:n]]) / n
    assert overlap_at(first, second, n) == overlap_at(np.array(second), first, n) == expected
    assert overlap_at(first, first[::-1], 12) == 1


def test_overlap_of_lists_too_short_for_it_is_refused() -> None:
    for n in (0, 3):
        with pytest.raises(AssignmentError, match=f"n is {n}, but the shorter list has 2 ids"):
            overlap_at([1, 2], [1, 2, 3], n)


@pytest.mark.needs("real_data")
def test_the_real_lists_know_their_query(real: tuple[MovieLens, Likes]) -> None:
    X = movielens.count_colikes(real[1])
    neighbours = by_colikes(*real)
    column = int(np.searchsorted(real[1].movies, neighbours.find("Apollo 13")))
    table = neighbours.similar("Apollo 13")
    assert table["co-likes"].tolist() == sorted(X[[column]].toarray()[0], reverse=True)[:10]
    assert "Home Alone 2: Lost in New York (1992)" in set(
        by_cosine_colikes(*real).similar("Home Alone")["title"]
    )


@pytest.mark.usefixtures("sample_mode")
def test_on_the_sample_neighbours_share_a_genre() -> None:
    data = movielens.load()
    table = by_cosine_colikes(data, movielens.build_likes(data)).similar("Toy Story")
    assert (table["genres"] == "Animation|Children|Comedy").sum() >= 8
