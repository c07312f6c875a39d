"""MovieLens: every fault is reported with file, line and reason; everything else is read right."""

import csv
import io
import re
from pathlib import Path

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from assignment.common import files, settings
from assignment.common.settings import AssignmentError
from assignment.movies import movielens, recommend, sample
from assignment.movies.movielens import MovieLens, RatingsError

M, R, T = "movies.csv", "ratings.csv", "tags.csv"
MOVIES = (
    "movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n2,Jumanji (1995),Adventure\n"
    '3,"American President, The (1995)",Comedy\n'
)
HEADER = "userId,movieId,rating,timestamp"
RATINGS = f"{HEADER}\n1,1,4,964982703\n1,2,0.5,964981247\n7,1,5.00,964982224\n"
TAGS = 'userId,movieId,tag,timestamp\n7,1," Pixar, of course",964982224\n'
M1, R1 = "movies.dat", "ratings.dat"  # MovieLens 1M
MOVIES_1M = '1::Toy Story (1995)::Animation|Comedy\n7::Misérables, Les: "One" (1995)::Drama\n'
RATINGS_1M = "1::7::5::978300760\n1::1::3::978302109\n6040::7::4::956715569\n"


def write(folder: Path, movies: str | bytes = MOVIES, ratings: str | bytes = RATINGS) -> Path:
    for name, content in ((M, movies), (R, ratings), (T, TAGS)):
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def write_1m(folder: Path, end: str = "\n") -> Path:
    for name, content in ((M1, MOVIES_1M), (R1, RATINGS_1M), ("users.dat", "1::F::1::10::48067\n")):
        (folder / name).write_bytes(content.replace("\n", end).encode("latin-1"))
    return folder


NO_NUMBERS = ["x", "", "-7", "+7", "7.0", "1e9", "1_000", " 7", "7 ", "٧", "7²", '"7"', "9" * 20]
NO_STARS = ["4.2", "nan", "inf", "-inf", "0", "0.0", "5.5", "-1.0", "", "four", " 4.0", "4.0 "]
NO_STARS += ["0_4.0", "٤", "4e0", "0x4", "1000", "4.0000001", ".5", "4."]
Fault = tuple[str, str, str | bytes, int, str]
FAULTS: list[Fault] = [  # a file, what stands there once, what instead, the line, the reason
    (M, MOVIES, "", 1, "the file is empty, expected 'movieId,title,genres'"),
    (R, RATINGS, HEADER, 1, "there is a header but not one row"),
    (R, RATINGS, "<!DOCTYPE html>\n<p>404</p>\n", 1, "columns are '<!DOCTYPE html>', expected"),
    (M, MOVIES, MOVIES.encode("utf-16"), 1, "the columns are"),
    (R, "0.5,964981247", "0.5", 3, "expected 4 fields, found 3 in '1,2,0.5'"),
    (R, "964981247\n", "x\r\n", 3, "timestamp is 'x', expected a whole number"),
    (M, "Jumanji", "Jumanji, The", 3, "expected 3 fields, found 4"),
    (R, "964982224\n", "964982224\n\n", 5, "expected 4 fields, found 1 in ''"),
    *((R, "7,1,5.0", f"{n},1,5.0", 4, f"userId is {n!r}, expected a whole") for n in NO_NUMBERS),
    *((M, "2,Jum", f"{n},Jum", 3, f"movieId is {n!r}, expected a whole n") for n in NO_NUMBERS),
    *((R, "1,2,0.5", f"1,2,{n}", 3, f"rating is {n!r}, expected 0.5 to 5") for n in NO_STARS),
    (R, "7,1,5.0", "1,2,5.0", 4, "user 1 already rated movie 2 on line 3"),
    (M, "3,", "1,", 4, "movieId 1 was already listed"),
    (M, MOVIES, "movieId,title,genres\n0,A,B\n", 2, "the list ends without movieId 1, rated on"),
    (R, "1,2,0.5", "1,99,0.5", 3, "movieId 99 is not listed in movies.csv"),
    (R, "1,1,4,964982703\n1,2", "1,0,4,1\n1,99", 2, "movieId 0 is not listed in movies.csv"),
    (M, "Jumanji (1995)", "  ", 3, "movieId 2 has no title"),
    (M, "Jumanji", b"Jumanj\xed", 3, "title is 'Jumanj\ufffd (1995)', expected UTF-8 text"),
    (M, "Jumanji", "Juma\0nji", 3, r"title is 'Juma\x00nji (1995)', expected UTF-8 text"),
    (M, "Jumanji", '"Jumanji', 3, "expected 3 fields, found 2"),
    (M, '(1995)"', '(1995)" x', 4, "title is '\"American President, The (1995)\" x', expected"),
    (M, "Toy Story (1995)", '"Toy\nStory"', 2, "expected 3 fields, found 1"),
    (T, "964982224", "soon", 2, "timestamp is 'soon', expected a whole number"),
    (M, "Jumanji", "Jum\ranji", 3, r"title is 'Jum\ranji (1995)', expected UTF-8 text"),
    (R1, RATINGS_1M, "", 1, "there is not one row"),
    (R1, "1::1::3", "1::1::3.5", 2, "rating is '3.5', expected 1 to 5 in whole stars"),
    (R1, "1::1::3", "1::1::0", 2, "rating is '0', expected 1 to 5 in whole stars"),
    (R1, "1::1::3", "1,1,3", 2, "expected 4 fields, found 2 in '1,1,3::978302109'"),
    (R1, "1::1::3", "1::7::3", 2, "user 1 already rated movie 7 on line 1"),
    (R1, "1::1::3", "1::2::3", 2, "movieId 2 is not listed in movies.dat"),
    (R1, "978302109", " 978302109", 2, "timestamp is ' 978302109', expected a whole number"),
    (M1, "7::M", "movieId::M", 2, "movieId is 'movieId', expected a whole number"),
    (M1, "(1995)::D", "::(1995)::D", 2, "expected 3 fields, found 4"),
    (M1, "::Drama\n", "\n", 2, "expected 3 fields, found 2"),
    (M1, "7::M", "1::M", 2, "movieId 1 was already listed"),
    (M1, "Toy Story (1995)", "", 1, "movieId 1 has no title"),
    (M1, MOVIES_1M, "0::A::B\n", 1, "the list ends without movieId 7, rated on line 1"),
    (M1, "Story", "Sto\x1fry", 1, r"title is 'Toy Sto\x1fry (1995)', expected text in which no ::"),
]


@pytest.mark.parametrize("block", [1, 2**24])
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_refused_with_file_line_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, block: int
) -> None:
    name, old, new, line, reason = fault
    monkeypatch.setattr(movielens, "BLOCK", block)
    is_1m = name.endswith(".dat")
    path = (write_1m if is_1m else write)(tmp_path) / name
    encoding = "latin-1" if is_1m else "utf-8"
    content, instead = path.read_bytes(), new if isinstance(new, bytes) else new.encode(encoding)
    assert content.count(old.encode(encoding)) == 1, "the table must change exactly one place"
    path.write_bytes(content.replace(old.encode(encoding), instead))
    expected = re.escape(f"{path}, line {line}: ") + ".*" + re.escape(reason) + ".*Mend the line"
    with pytest.raises(RatingsError, match=expected):
        movielens.load(tmp_path)


def test_an_official_file_that_is_damaged_can_be_had_again(data_folder: Path) -> None:
    (data_folder / "ml-latest-small").mkdir()
    write(data_folder / "ml-latest-small", ratings="404")
    with pytest.raises(RatingsError, match=r"line 1: .*delete it and run `make data`"):
        movielens.load()


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("block", [1, 30, 2**24])
def test_right_files_are_read_whatever_their_line_ends_and_byte_order_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, mark: bytes, cut: bool, block: int
) -> None:
    monkeypatch.setattr(movielens, "BLOCK", block)
    contents = (mark + text.replace("\n", end).encode() for text in (MOVIES, RATINGS))
    data = movielens.load(write(tmp_path, *(c.removesuffix(b"\n") if cut else c for c in contents)))
    rows = [[1, 1, 4.0, 964982703], [1, 2, 0.5, 964981247], [7, 1, 5.0, 964982224]]
    pd.testing.assert_frame_equal(data.ratings, pd.DataFrame(rows, columns=HEADER.split(",")))
    films = {
        "title": ["Toy Story (1995)", "Jumanji (1995)", "American President, The (1995)"],
        "year": pd.array([1995] * 3, dtype="Int64"),
        "genres": ["Adventure|Animation", "Adventure", "Comedy"],
    }
    expected = pd.DataFrame(films, pd.Index([1, 2, 3], name="movieId"))
    pd.testing.assert_frame_equal(data.movies, expected)
    assert data.tags.loc[0].tolist() == [7, 1, "pixar, of course", 964982224]
    assert data.source.origin == "other"


def test_the_year_is_read_from_the_end_of_the_title(tmp_path: Path) -> None:
    years = {
        "2001 (1968) (2001)": 2001, " Big (1988) ": 1988, 'The "Big" One (1997)': 1997, "NA": 0,
        "Movie (1999) again": 0, "Series (2006–2007)": 0, "Film (١٩٩٥)": 0,
    }  # fmt: skip
    rows = "".join(f"{i + 1},{title},A\n" for i, title in enumerate(years))
    films = movielens.load(write(tmp_path, f"movieId,title,genres\n{rows}")).movies
    assert films["title"].tolist() == [title.strip() for title in years]
    assert films["year"].fillna(0).tolist() == list(years.values())


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("block", [1, 30, 2**24])
def test_the_archive_of_a_million_is_read_as_the_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, block: int
) -> None:
    monkeypatch.setattr(movielens, "BLOCK", block)
    data = movielens.load(str(write_1m(tmp_path, end)))
    rows = [[1, 7, 5.0, 978300760], [1, 1, 3.0, 978302109], [6040, 7, 4.0, 956715569]]
    pd.testing.assert_frame_equal(data.ratings, pd.DataFrame(rows, columns=HEADER.split(",")))
    assert data.movies["title"].tolist() == ["Toy Story (1995)", 'Misérables, Les: "One" (1995)']
    assert data.movies.loc[7, ["year", "genres"]].tolist() == [1995, "Drama"]
    assert data.tags.columns.tolist() == ["userId", "movieId", "tag", "timestamp"]
    assert data.source.detail == "the layout of MovieLens 1M; no checksum is pinned for it"
    assert repr(data).endswith(f"ratings 3; users 2; films 2; source {tmp_path.name} (other)")


@pytest.mark.needs("posix")
@pytest.mark.parametrize(("names", "path", "sentence"), [
    ("", "", "holds nothing; expected a folder with the files of MovieLens latest-small, 25M or"),
    ("u.data", "", r"holds u.data; .* of 1M \(movies.dat, ratings.dat\); `load_csv` reads others"),
    ("movies.csv ratings.csv", "", "holds movies.csv, ratings.csv; expected .*, tags.csv"),
    ("movies.csv ratings.dat tags.csv", "", "expected a folder with the files"),
    ("a b c d e f", "", r"holds a, b, c, d, e, \.\.\.; expected"),
    ("", "no/such/folder", r"such/folder cannot be read \(No such file.*\); expected a f"),
    ("a.csv", "a.csv", r"a.csv cannot be read \(Not a directory\); expected a f"),
])  # fmt: skip
def test_an_unknown_layout_is_told_the_known_ones(
    tmp_path: Path, names: str, path: str, sentence: str
) -> None:
    for name in names.split():
        (tmp_path / name).touch()
    with pytest.raises(AssignmentError, match=sentence):
        movielens.load(tmp_path / path)


def test_in_sample_mode_every_folder_is_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSIGNMENT_MODE", "sample")
    found = [movielens.load(), movielens.load("not/here"), movielens.load_csv("not/here")]
    assert [data.source.origin for data in found] == ["SAMPLE"] * 3
    assert repr(found[0]).startswith("MovieLens [SAMPLE: synthetic stand-in data, not a result]: r")


OWN = 'who,when,what,stars\n7,May,Emma (1996),10\n7,June,"Heat, or so",-2.5\n9,May,Emma (1996),1\n'
NAMED = {"user": "who", "item": "what", "rating": "stars"}


def test_a_file_of_ones_own_is_read_by_the_columns_that_are_named(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text(OWN)  # whatever it is called
    data = movielens.load_csv(str(tmp_path / "ratings.dat"), **NAMED)
    rows = [[7, 1, 10.0, 0], [7, 2, -2.5, 0], [9, 1, 1.0, 0]]
    pd.testing.assert_frame_equal(data.ratings, pd.DataFrame(rows, columns=HEADER.split(",")))
    assert data.movies["title"].to_dict() == {1: "Emma (1996)", 2: "Heat, or so"}
    assert data.movies["year"].fillna(0).tolist() == [1996, 0]
    assert (data.source.what, data.source.origin) == ("ratings.dat", "other")
    liked = movielens.build_likes(data, threshold=1)
    assert repr(liked) == "Likes: likes 2; users 2; films 1; stars from 1"
    assert "<td>films</td>\n      <td>1</td>" in liked._repr_html_()


def test_whole_numbers_stay_and_titles_may_have_a_column(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("user,item,rating,name\n40,30,1,B\n40,20,2,A\nx,30,3,C\n")
    data = movielens.load_csv(tmp_path / "own.csv", title="name")
    assert data.ratings[["userId", "movieId"]].to_numpy().tolist() == [[1, 30], [1, 20], [2, 30]]
    assert data.movies["title"].to_dict() == {20: "A", 30: "B"}, "the first name counts"


OWN_FAULTS: list[tuple[str, str, dict[str, str], str]] = [
    (OWN, OWN, {}, "line 1: the columns are 'who,when,what,stars', expected one each of item, us"),
    (OWN, OWN, NAMED | {"user": "what"}, "line 1: .*each of what, stars[.] Name yours, as in l"),
    (OWN, OWN, NAMED | {"title": "name"}, "line 1: .*each of name, who, what, stars[.]"),
    ("when", "who", NAMED, "line 1: the columns are 'who,who,what,stars'"),
    ("who,when", "who;when", NAMED, "line 1: the columns are 'who;when,what,stars'"),
    (OWN, "", NAMED, "line 1: the columns are ''"),
    (OWN, "who,when,what,stars\n", NAMED, "line 1: there is a header but not one row"),
    ("-2.5", "good", NAMED, "line 3: stars is 'good', expected a number"),
    ("-2.5", "nan", NAMED, "line 3: stars is 'nan', expected a number"),
    ("-2.5", "1e400", NAMED, "line 3: stars is '1e400', expected a number"),
    ("-2.5", "", NAMED, "line 3: stars is '', expected a number"),
    ("9,May", " ,May", NAMED, "line 4: who is empty, expected text"),
    ('"Heat, or so"', '""', NAMED, "line 3: what is empty, expected text"),
    ('"Heat, or so"', "Heat, or so", NAMED, "line 3: expected 4 fields, found 5"),
    ('"Heat, or so"', "Emma (1996)", NAMED, "line 3: user 7 already rated movie Emma "),
    ("June", "J\0une", NAMED, "line 3: when is .*expected UTF-8 text"),
]


@pytest.mark.parametrize(("old", "new", "named", "sentence"), OWN_FAULTS)
def test_a_fault_of_ones_own_file_is_named(
    tmp_path: Path, old: str, new: str, named: dict[str, str], sentence: str
) -> None:
    assert OWN.count(old) == 1
    (tmp_path / "own.csv").write_text(OWN.replace(old, new))
    with pytest.raises(AssignmentError, match=f"own.csv, {sentence}"):
        movielens.load_csv(tmp_path / "own.csv", **named)


@pytest.mark.needs("posix")
@pytest.mark.parametrize(("name", "reason"), [("no.csv", "No such"), ("", "Is a directory")])
def test_a_file_that_is_none_gets_a_sentence(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(AssignmentError, match=rf"cannot be read \({reason}.* is read by `load`"):
        movielens.load_csv(tmp_path / name)
    for read in (movielens.load, movielens.load_csv):
        with pytest.raises(AssignmentError, match="The path is 7, which leads nowhere"):
            read(7)  # type: ignore[arg-type]


texts = st.text(st.characters(exclude_characters="\0\r\n\ufffd", codec="utf-8"))


@hypothesis.settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.tuples(texts.filter(str.strip), texts), min_size=1), quote=st.booleans())
def test_any_title_of_one_line_survives_the_round_trip(
    tmp_path: Path, rows: list[tuple[str, str]], quote: bool
) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC if quote else csv.QUOTE_MINIMAL)
    writer.writerow(["movieId", "title", "genres"])
    writer.writerows((i + 1, title, genres) for i, (title, genres) in enumerate(rows))
    data = movielens.load(write(tmp_path, file.getvalue(), f"{HEADER}\n1,1,4.0,0\n"))
    assert data.movies["title"].tolist() == [title.strip() for title, _ in rows]
    assert data.movies["genres"].tolist() == [genres for _, genres in rows]


pairs = st.tuples(st.integers(1, 8), st.integers(1, 9))
opinions = st.dictionaries(pairs, st.integers(1, 10), max_size=40)


@hypothesis.settings(deadline=None)
@given(rated=opinions, threshold=st.sampled_from([1.0, 3.5, 4.0, 5.0]))
def test_likes_and_colikes_equal_a_count_over_sets(
    rated: dict[tuple[int, int], int], threshold: float
) -> None:
    rated |= {(1, 1): 10}
    rows = [(user, movie, halves / 2, 0) for (user, movie), halves in rated.items()]
    ratings = pd.DataFrame(rows, columns=HEADER.split(","))
    data = MovieLens(ratings, pd.DataFrame(), pd.DataFrame(), files.Source("made up", "other", ""))
    with pytest.raises(AssignmentError, match=r"No rating reaches 5\.5 stars; choose up to 5\.0"):
        movielens.build_likes(data, 5.5)
    likes = {pair for pair, halves in rated.items() if halves / 2 >= threshold}
    liked = movielens.build_likes(data, threshold)
    users, films = (sorted(set(ids)) for ids in zip(*likes, strict=True))
    A = np.array([[int((user, film) in likes) for film in films] for user in users])
    X = A.T @ A * (1 - np.eye(len(films), dtype=int))
    assert (liked.users.tolist(), liked.movies.tolist()) == (users, films)
    assert liked.matrix.toarray().tolist() == A.tolist()
    assert liked.count.tolist() == A.sum(axis=0).tolist()
    found = movielens.count_colikes(liked)
    assert found.toarray().tolist() == X.tolist()
    assert (found.nnz, found.dtype) == (np.count_nonzero(X), np.int64), "no zero is stored"


@pytest.mark.needs("real_data")
def test_facts_of_the_official_files() -> None:
    folder = settings.data_folder() / "ml-latest-small"
    data = movielens.load(folder)
    assert data.source.origin == "official"
    pd.testing.assert_frame_equal(data.ratings, pd.read_csv(folder / R))
    movies = pd.read_csv(folder / M, index_col="movieId")
    assert data.movies[["title", "genres"]].equals(movies.assign(title=movies["title"].str.strip()))
    assert (len(data.ratings), len(data.movies)) == (100_836, 9_742)
    liked = movielens.build_likes(data)
    assert len(liked.movies) == 6_298
    assert liked.matrix.sum() == liked.matrix.nnz == 48_580


def test_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    written: list[list[bytes]] = []
    for seed in (0, 0, 1):
        np.random.seed(len(written))  # noqa: NPY002 - the sample must not depend on it
        sample.write_movielens(tmp_path, seed)
        written.append([(tmp_path / name).read_bytes() for name in movielens.ARCHIVE.files])
    first, again, other = written
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


@pytest.mark.usefixtures("sample_mode")
def test_the_sample_has_tastes_skewed_popularity_and_ratings_of_the_whole_scale() -> None:
    data = movielens.load()
    assert data.source.origin == "SAMPLE"
    counts = data.ratings["movieId"].value_counts().reindex(data.movies.index, fill_value=0)
    assert min((counts < 10).sum(), (counts > 100).sum()) >= 5
    assert counts.nlargest(len(counts) // 5).sum() > 0.35 * counts.sum()  # a fifth if alike
    assert set(data.ratings["rating"]) == {half / 2 for half in range(1, 11)}
    assert 0.25 < (data.ratings["rating"] >= movielens.LIKED).mean() < 0.75
    assert data.movies["title"].is_unique
    genres = data.movies.set_index("title")["genres"]
    near = recommend.by_cosine_colikes(data, movielens.build_likes(data))
    for query in ("Apollo 13 (1995)", "Toy Story (1995)", "Home Alone (1990)"):
        assert (near.similar(query)["genres"] == genres[query]).sum() >= 5, "of its own genres"
