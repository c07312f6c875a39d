"""MovieLens: every fault is reported with file, line and reason; everything else is read right."""

import csv
import io
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, event, given
from hypothesis import strategies as st

from assignment.common import files, settings
from assignment.movies import movielens
from assignment.movies.movielens import MovieLens, RatingsError

MOVIES = (
    "movieId,title,genres\n"
    "1,Toy Story (1995),Adventure|Animation\n"
    "2,Jumanji (1995),Adventure\n"
    '3,"American President, The (1995)",Comedy\n'
)
RATINGS = (
    "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,2,0.5,964981247\n7,1,5.0,964982224\n"
)


def write(folder: Path, movies: str | bytes = MOVIES, ratings: str | bytes = RATINGS) -> Path:
    for name, content in (("movies.csv", movies), ("ratings.csv", ratings)):
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def swap(old: str, new: str) -> Callable[[str], bytes]:
    def change(text: str) -> bytes:
        assert text.count(old) == 1, "the table below must change exactly one place"
        return text.replace(old, new).encode()

    return change


def whole(content: str | bytes) -> Callable[[str], bytes]:
    return lambda _: content.encode() if isinstance(content, str) else content


NO_STARS = ["4.2", "nan", "inf", "-inf", "0", "0.0", "5.5", "-1.0", "", "four", " 4.0", "4.0 "]
NO_STARS += ["0_4.0", "٤", "4e0", "0x4", "1000", "4.0000001"]
M, R = "movies.csv", "ratings.csv"
FAULTS: dict[str, tuple[str, Callable[[str], bytes], int, str]] = {
    # the file as a whole
    "empty movies": (M, whole(""), 1, "the file is empty, expected the columns movieId,title"),
    "empty ratings": (R, whole(""), 1, "the file is empty, expected the columns userId,movieId"),
    "only a byte order mark": (R, whole(b"\xef\xbb\xbf"), 1, "the file is empty"),
    "movies of header only": (M, whole("movieId,title,genres\n"), 1, "not one row"),
    "ratings of header only": (R, whole("userId,movieId,rating,timestamp"), 1, "not one row"),
    "an error page": (R, whole("<!DOCTYPE html>\n<p>404</p>\n"), 1, "columns are <!DOCTYPE html>"),
    "the other file": (R, whole(MOVIES), 1, "columns are movieId,title,genres, expected userId"),
    # columns
    "column renamed": (R, swap("rating,", "stars,"), 1, "userId,movieId,stars,timestamp, expected"),
    "column missing": (R, swap(",timestamp", ""), 1, "are userId,movieId,rating, expected"),
    "column added": (M, swap("genres", "genres,year"), 1, "movieId,title,genres,year, expected"),
    "columns reordered": (
        R, swap("userId,movieId", "movieId,userId"), 1, "movieId,userId,rating,timestamp, expected",
    ),
    "column of another case": (M, swap("movieId", "movieid"), 1, "are movieid,title,genres"),
    "semicolons": (
        M, lambda text: text.replace(",", ";").encode(), 1, "columns are movieId;title;genres",
    ),
    "no header": (R, swap("userId,movieId,rating,timestamp\n", ""), 1, "are 1,1,4.0,964982703"),
    # rows
    "a field too few": (R, swap("1,2,0.5,964981247", "1,2,0.5"), 3, "3 fields, expected 4"),
    "a field too many": (R, swap("964982224", "964982224,x"), 4, "5 fields, expected 4"),
    "a comma without quotes": (M, swap("Jumanji", "Jumanji, The"), 3, "4 fields, expected 3"),
    "a blank line": (R, swap("1,2,0.5", "\n1,2,0.5"), 3, "0 fields, expected 4"),
    "a row cut off": (R, whole(RATINGS[:-12]), 4, "fields, expected 4"),
    # whole numbers
    "user not a number": (R, swap("7,1,5.0", "x,1,5.0"), 4, "userId is 'x', expected a whole"),
    "user missing": (R, swap("7,1,5.0", ",1,5.0"), 4, "userId is '', expected a whole"),
    "user negative": (R, swap("7,1,5.0", "-7,1,5.0"), 4, "userId is '-7'"),
    "user a fraction": (R, swap("7,1,5.0", "7.0,1,5.0"), 4, "userId is '7.0'"),
    "user with underscore": (R, swap("7,1,5.0", "1_000,1,5.0"), 4, "userId is '1_000'"),
    "user with a space": (R, swap("7,1,5.0", " 7,1,5.0"), 4, "userId is ' 7'"),
    "user with a line end": (R, swap("7,1,5.0", '"7\n",1,5.0'), 4, r"userId is '7\\n'"),
    "user in other digits": (R, swap("7,1,5.0", "٧,1,5.0"), 4, "userId is '٧'"),
    "user superscript": (R, swap("7,1,5.0", "7²,1,5.0"), 4, "userId is '7²'"),
    "user of twenty digits": (R, swap("7,1,5.0", "9" * 20 + ",1,5.0"), 4, "userId is '9{20}'"),
    "rated movie not a number": (R, swap("7,1,5.0", "7,one,5.0"), 4, "movieId is 'one'"),
    "rated movie negative": (R, swap("7,1,5.0", "7,-1,5.0"), 4, "movieId is '-1'"),
    "movie not a number": (M, swap("2,Jumanji", "two,Jumanji"), 3, "movieId is 'two'"),
    "movie with underscore": (M, swap("2,Jumanji", "1_000,Jumanji"), 3, "movieId is '1_000'"),
    "timestamp a date": (R, swap("964981247", "2000-07-30"), 3, "timestamp is '2000-07-30'"),
    "timestamp missing": (R, swap("964981247", ""), 3, "timestamp is ''"),
    "timestamp a fraction": (R, swap("964981247", "1e9"), 3, "timestamp is '1e9'"),
    # ratings
    **{
        f"rating {stars!r}": (
            R, swap("1,2,0.5", f"1,2,{stars}"), 3, f"rating is '{stars}', expected 0.5 to 5.0",
        )
        for stars in NO_STARS
    },
    # between rows, and between files
    "rated twice": (
        R, swap("7,1,5.0", "1,2,5.0"), 4, "user 1 already rated movie 2 on line 3",
    ),
    "rated twice the same": (
        R, whole(RATINGS + "7,1,5.0,964982224\n"), 5, "user 7 already rated movie 1 on line 4",
    ),
    "listed twice": (
        M, swap("3,", "1,"), 4, r"movieId 1 was already listed \('Toy Story \(1995\)'\)",
    ),
    "unknown movie": (R, swap("7,1,5.0", "7,4,5.0"), 4, "movieId 4 is not in movies.csv"),
    "no title": (M, swap("Jumanji (1995)", ""), 3, "movieId 2 has no title"),
    "a title of spaces": (M, swap("Jumanji (1995)", "  "), 3, "movieId 2 has no title"),
    # text
    "latin-1": (
        M, lambda text: text.replace("Jumanji", "Jumanjí").encode("latin-1"), 3,
        "byte 0xed is not UTF-8",
    ),
    "latin-1 after a byte order mark": (
        M, lambda text: b"\xef\xbb\xbf" + text.replace("2,J", "í2,J").encode("latin-1"), 3,
        "byte 0xed is not UTF-8",
    ),
    "latin-1 with CRLF": (
        M, lambda text: text.replace("\n", "\r\n").replace("Am", "Äm").encode("latin-1"), 4,
        "byte 0xc4 is not UTF-8",
    ),
    "latin-1 with CR": (
        M, lambda text: text.replace("\n", "\r").replace("Am", "Äm").encode("latin-1"), 4,
        "byte 0xc4 is not UTF-8",
    ),
    "UTF-16": (M, lambda text: text.encode("utf-16"), 1, "byte 0xf[ef] is not UTF-8"),
    "cut inside a letter": (M, whole(MOVIES.encode() + b"4,\xc3"), 5, "0xc3 is not UTF-8"),
    "a NUL byte in a title": (M, swap("Jumanji", "Juma\0nji"), 3, "NUL"),
    "NUL bytes for a row": (R, swap("7,1,5.0,964982224", "\0" * 17), 4, "NUL"),
    "an unterminated quote": (M, swap("Jumanji", '"Jumanji'), 3, "not well-formed CSV"),
    "an unterminated quote at the end": (M, swap(', The (1995)"', ""), 4, "not well-formed CSV"),
    "text after a quote": (M, swap('(1995)"', '(1995)" x'), 4, "not well-formed CSV"),
    "a fault after a title of two lines": (
        M, whole('movieId,title,genres\n1,"Toy\nStory",A\nx,Jumanji,B\n'), 4, "movieId is 'x'",
    ),
    "a fault in a title of two lines": (
        M, whole('movieId,title,genres\n1,"Toy\nStory",A,B\n2,Jumanji,B\n'), 2, "4 fields",
    ),
    "a fault after unusual separators": (
        M, swap("Toy Story (1995),Adventure|Animation\n2", "T\u2028o\x0cy\x1c\x85,\nx"), 3,
        "movieId is 'x'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_refused_with_file_line_and_reason(tmp_path: Path, fault: str) -> None:
    name, change, line, reason = FAULTS[fault]
    movies, ratings = (change(t) if name == n else t for n, t in ((M, MOVIES), (R, RATINGS)))
    write(tmp_path, movies, ratings)
    with pytest.raises(RatingsError, match=rf"{name}, line {line}: .*{reason}") as caught:
        movielens.read(tmp_path)
    assert "make data" in str(caught.value)


@pytest.mark.parametrize("name", [M, R])
def test_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write(tmp_path) / name).unlink()
    with pytest.raises(settings.AssignmentError, match=rf"{name} missing in .*make data"):
        movielens.read(tmp_path)


# --- read right -----------------------------------------------------------------------------------


PLAIN = ["Toy Story (1995)", "Jumanji (1995)", "American President, The (1995)"]


def test_plain_files_are_read_right(tmp_path: Path) -> None:
    data = movielens.read(write(tmp_path))
    assert data.ratings.columns.tolist() == ["userId", "movieId", "rating", "timestamp"]
    assert data.ratings.to_numpy().tolist() == [
        [1, 1, 4.0, 964982703],
        [1, 2, 0.5, 964981247],
        [7, 1, 5.0, 964982224],
    ]
    assert [str(kind) for kind in data.ratings.dtypes] == ["int64", "int64", "float64", "int64"]
    assert data.movies.index.tolist() == [1, 2, 3]
    assert data.movies.index.name == "movieId"
    assert data.movies["title"].tolist() == PLAIN
    assert data.movies["year"].tolist() == [1995] * 3
    assert data.movies["genres"].tolist() == ["Adventure|Animation", "Adventure", "Comedy"]
    assert data.source.origin == "other"


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("last", [True, False], ids=["closed", "open"])
def test_line_ends_and_byte_order_mark_make_no_difference(
    tmp_path: Path, ending: str, mark: bytes, last: bool
) -> None:
    movies, ratings = (
        mark + text[: None if last else -1].replace("\n", ending).encode()
        for text in (MOVIES, RATINGS)
    )
    (tmp_path / "plain").mkdir()
    expected = movielens.read(write(tmp_path / "plain"))
    data = movielens.read(write(tmp_path, movies, ratings))
    pd.testing.assert_frame_equal(data.ratings, expected.ratings)
    pd.testing.assert_frame_equal(data.movies, expected.movies)


TITLES = {
    "comma": ('"Matrix, The (1999)"', "Matrix, The (1999)", 1999),
    "quotes": ('"""Great"" Performances (1971)"', '"Great" Performances (1971)', 1971),
    "quotes and commas": ('"a ""b, c"", d"', 'a "b, c", d', None),
    "two lines": ('"Toy\nStory (1995)"', "Toy\nStory (1995)", 1995),
    "a comma on the second line": ('"Toy\n1,Story"', "Toy\n1,Story", None),
    "letters": ("Amélie – 天空の城 🎬 (2001)", "Amélie – 天空の城 🎬 (2001)", 2001),
    "no year": ("Ready Player One", "Ready Player One", None),
    "year inside": ("Movie (1999) again", "Movie (1999) again", None),
    "two years": ("2001 (1968) (2001)", "2001 (1968) (2001)", 2001),
    "range of years": ("Series (2006–2007)", "Series (2006–2007)", None),
    "years of other digits": ("Film (١٩٩٥)", "Film (١٩٩٥)", None),
    "spaces around": (" Big (1988) ", "Big (1988)", 1988),
    "line separator": ("a\u2028b\u2029c", "a\u2028b\u2029c", None),
    "next line": ("a\x85b", "a\x85b", None),
    "form feed": ("a\x0cb\x0bc", "a\x0cb\x0bc", None),
    "file separators": ("a\x1cb\x1dc\x1ed", "a\x1cb\x1dc\x1ed", None),
}  # fmt: skip


@pytest.mark.parametrize(("field", "title", "year"), TITLES.values(), ids=TITLES)
def test_title_is_read_right(tmp_path: Path, field: str, title: str, year: int | None) -> None:
    movies = MOVIES.replace("Toy Story (1995)", field)
    data = movielens.read(write(tmp_path, movies))
    assert data.movies["title"].tolist() == [title, *PLAIN[1:]]
    found = data.movies["year"].iloc[0]
    assert (None if pd.isna(found) else int(found)) == year


PLAIN_ROWS = st.tuples(
    st.integers(0, 9), st.sampled_from([1, 2]), st.sampled_from(["0.5", "3", "4.50", "5.0"]),
    st.integers(0, 10**17),
)  # fmt: skip
ODD_LINES = st.sampled_from(
    ["", "1,1,4", '1,1,"4.0",7', "1,1,4.0,7\r1,2,4.0,7", "1,9,4.0,7", "1,1,5.5,7", " 1,1,4.0,7",
     "1,1,4.0,7,8", "1,1,4.0,-7", "1,1,nan,7", "1,1,4e0,7", "1_0,1,4.0,7", "\u0661,1,4.0,7"]
)  # fmt: skip


@hypothesis.settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    plain=st.lists(PLAIN_ROWS, min_size=1, max_size=20),
    odd=st.lists(st.tuples(st.integers(0, 20), ODD_LINES), max_size=1),
    ending=st.sampled_from(["\n", "\r\n"]),
    block=st.sampled_from([1, 30, 1000]),
    last=st.booleans(),
)
def test_blocks_are_read_as_lines_are(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plain: list[tuple[int, int, str, int]],
    odd: list[tuple[int, str]],
    ending: str,
    block: int,
    last: bool,
) -> None:
    monkeypatch.setattr(movielens, "BLOCK", block)
    lines = [",".join(map(str, row)) for row in plain]
    for place, line in odd:
        lines.insert(place, line)
    text = ending.join([RATINGS.splitlines()[0], *lines]) + ending * last
    (path := tmp_path / "ratings.csv").write_bytes(text.encode())
    fast = movielens._plain_ratings(path, {1, 2})
    try:
        strict = movielens._any_ratings(path, {1, 2})
    except movielens.RatingsError:
        assert fast is None
        return
    event("plain" if fast is not None else "odd but right")
    if not odd:
        assert fast is not None
    if fast is not None:
        pd.testing.assert_frame_equal(fast, strict)


@pytest.mark.needs("real_data")
def test_the_official_ratings_are_plain() -> None:
    path = settings.data_folder() / movielens.ARCHIVE.folder / "ratings.csv"
    found = movielens._plain_ratings(path, set(movielens.load().movies.index))
    assert found is not None
    pd.testing.assert_frame_equal(found, movielens.load().ratings)


@pytest.mark.parametrize("stars", [half / 2 for half in range(1, 11)])
def test_every_half_star_is_taken(tmp_path: Path, stars: float) -> None:
    data = movielens.read(write(tmp_path, ratings=RATINGS.replace("0.5", str(stars))))
    assert data.ratings["rating"].iloc[1] == stars


def test_whole_stars_may_do_without_their_decimals(tmp_path: Path) -> None:
    data = movielens.read(write(tmp_path, ratings=RATINGS.replace("4.0", "4")))
    assert data.ratings["rating"].tolist() == [4.0, 0.5, 5.0]


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@hypothesis.settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(st.tuples(texts.filter(str.strip), texts), min_size=1, max_size=8),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_any_title_survives_the_round_trip(
    tmp_path: Path, rows: list[tuple[str, str]], end: str
) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator=end, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(["movieId", "title", "genres"])
    writer.writerows((i + 1, title, genres) for i, (title, genres) in enumerate(rows))
    one = "userId,movieId,rating,timestamp\n1,1,4.0,0\n"
    data = movielens.read(write(tmp_path, file.getvalue(), one))
    assert data.movies["title"].tolist() == [title.strip() for title, _ in rows]
    assert data.movies["genres"].tolist() == [genres for _, genres in rows]


# --- likes and co-likes ---------------------------------------------------------------------------

opinions = st.dictionaries(
    st.tuples(st.integers(1, 8), st.integers(1, 9)),
    st.sampled_from([half / 2 for half in range(1, 11)]),
    min_size=1,
    max_size=40,
)


def from_opinions(rated: dict[tuple[int, int], float]) -> MovieLens:
    rows = [(user, movie, stars, 0) for (user, movie), stars in rated.items()]
    ratings = pd.DataFrame(rows, columns=["userId", "movieId", "rating", "timestamp"])
    return MovieLens(ratings, pd.DataFrame(), files.Source("made up", "other", ""))


@hypothesis.settings(deadline=None)
@given(rated=opinions, threshold=st.sampled_from([1.0, 3.5, 4.0, 5.0]))
def test_likes_and_colikes_equal_a_count_over_sets(
    rated: dict[tuple[int, int], float], threshold: float
) -> None:
    fans: dict[int, set[int]] = {}
    for (user, movie), stars in rated.items():
        if stars >= threshold:
            fans.setdefault(movie, set()).add(user)
    if not fans:
        with pytest.raises(settings.AssignmentError, match="No rating reaches"):
            movielens.build_likes(from_opinions(rated), threshold)
        return
    liked = movielens.build_likes(from_opinions(rated), threshold)
    assert liked.movies.tolist() == sorted(fans)
    assert liked.users.tolist() == sorted(set().union(*fans.values()))
    assert liked.count.tolist() == [len(fans[movie]) for movie in sorted(fans)]
    assert liked.threshold == threshold
    matrix = liked.matrix.toarray()
    for row, user in enumerate(liked.users):
        assert matrix[row].tolist() == [int(user in fans[movie]) for movie in liked.movies]
    counted = movielens.count_colikes(liked)
    dense = counted.toarray()
    assert dense.diagonal().tolist() == [0] * len(fans)
    for (i, one), (j, other) in permutations(enumerate(sorted(fans)), 2):
        assert dense[i, j] == len(fans[one] & fans[other])
    assert counted.nnz == np.count_nonzero(dense), "no zero is stored"
    assert counted.dtype == np.int64


def test_threshold_that_nobody_reaches_is_one_sentence(tmp_path: Path) -> None:
    data = movielens.read(write(tmp_path, ratings=RATINGS.replace("5.0", "4.5")))
    with pytest.raises(settings.AssignmentError, match=r"No rating reaches 5.0 stars.*up to 4.5"):
        movielens.build_likes(data, 5.0)


# --- the official files ---------------------------------------------------------------------------


@pytest.mark.needs("real_data")
def test_facts_of_the_official_files() -> None:
    data = movielens.read(settings.data_folder() / "ml-latest-small")
    assert data.source.origin == "official"
    assert data.ratings["userId"].nunique() == 610
    assert (len(data.ratings), len(data.movies)) == (100_836, 9_742)
    assert data.ratings["movieId"].nunique() == 9_724
    liked = movielens.build_likes(data)
    assert len(liked.movies) == 6_298
    assert liked.matrix.sum() == liked.matrix.nnz == 48_580
    together = movielens.count_colikes(liked)
    assert together.nnz == 6_000_360
    assert together.max() == 168
    assert int((together.data.astype(np.int64) ** 2).sum()) == 63_482_944
    count = dict(zip(data.movies.loc[liked.movies, "title"], liked.count, strict=True))
    assert count["Apollo 13 (1995)"] == 127
    assert count["Toy Story (1995)"] == 147
    assert count["Home Alone (1990)"] == 28


@pytest.mark.needs("real_data")
def test_official_files_are_read_as_pandas_reads_them() -> None:
    folder = settings.data_folder() / "ml-latest-small"
    data = movielens.read(folder)
    pd.testing.assert_frame_equal(data.ratings, pd.read_csv(folder / "ratings.csv"))
    movies = pd.read_csv(folder / "movies.csv", index_col="movieId")
    assert data.movies.index.equals(movies.index)
    assert data.movies["title"].tolist() == movies["title"].str.strip().tolist()
    assert data.movies["genres"].tolist() == movies["genres"].tolist()


@pytest.mark.usefixtures("sample_mode")
def test_sample_comes_through_the_same_reader() -> None:
    data = movielens.load()
    assert data.source.origin == "SAMPLE"
    assert movielens.build_likes(data).matrix.nnz > 1000
