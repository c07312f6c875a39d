"""MovieLens: ratings, checked line by line, become likes, and likes become co-likes.

Python's own csv reader knows the line it is on: whatever is wrong with a file is reported with its
name, its line and the reason. Ratings without any oddity, the usual case, are read block by block
and as strictly, so that the archives of 25 and 32 million fit into memory, too.
"""

import csv
import io
import math
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
from scipy import sparse

from assignment.common import settings
from assignment.common.download import PATIENT, Archive, Effort, RemoteFile
from assignment.common.files import Source
from assignment.common.settings import AssignmentError, Mode
from assignment.movies import sample

ARCHIVE = Archive(
    name="MovieLens latest-small",
    remote=RemoteFile(
        name="ml-latest-small.zip",
        urls=(
            "https://files.grouplens.org/datasets/movielens/ml-latest-small.zip",
            "http://files.grouplens.org/datasets/movielens/ml-latest-small.zip",
        ),
        sha256="696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
        size=978_202,
    ),
    folder="ml-latest-small",
    files={
        "movies.csv": "5a5f32dd9bb3797b8e728a1b98958789d2b13f294a69fdfbc5727f8a9611aa07",
        "ratings.csv": "aa289ca83157595d0df6aea1be6a4ded676ddc4385472e8313a8ed9805352646",
    },
)
MOVIE_COLUMNS = ["movieId", "title", "genres"]
RATING_COLUMNS = ["userId", "movieId", "rating", "timestamp"]
STARS = frozenset(half / 2 for half in range(1, 11))
LIKED = 4.0
BLOCK = 2**24  # bytes of a large file that are looked at together
ODD_RATING = re.compile(
    rb"^(?![0-9]{1,18},[0-9]{1,18},[0-9](?:\.[0-9]{1,9})?,[0-9]{1,18}\r?$)", re.MULTILINE
)


class RatingsError(AssignmentError):
    """A file of ratings or movies is not what it should be; names the file, line and reason."""


@dataclass(frozen=True)
class MovieLens:
    """The two tables and where they came from.

    Attributes
    ----------
    ratings : DataFrame
        Columns userId, movieId, rating (0.5 to 5.0), timestamp (seconds).
    movies : DataFrame
        Indexed by movieId: title (as in the file, but for spaces around it), year (missing where
        the title has none), genres (joined by "|").
    source : Source
    """

    ratings: pd.DataFrame
    movies: pd.DataFrame
    source: Source


@dataclass(frozen=True)
class Likes:
    """Who liked what, without the films that nobody liked and the users who liked nothing.

    Attributes
    ----------
    matrix : csr_array, int64 [users, movies]
        1 where the user liked the film.
    users, movies : array of int
        The userId of each row and the movieId of each column, ascending.
    threshold : float
        The lowest rating that counts as a like.
    """

    matrix: sparse.csr_array
    users: np.ndarray
    movies: np.ndarray
    threshold: float

    @property
    def count(self) -> np.ndarray:
        """How many users liked each film, [movies]."""
        return np.asarray(self.matrix.sum(axis=0)).ravel()


def load(effort: Effort = PATIENT) -> MovieLens:
    """Load MovieLens: synthetic in sample mode, else local files, else downloaded ones."""
    if settings.mode() is Mode.SAMPLE:
        with tempfile.TemporaryDirectory() as folder:
            sample.write_movielens(Path(folder))
            return read(Path(folder))
    return read(ARCHIVE.obtain(effort))


def read(folder: Path) -> MovieLens:
    """Read movies.csv and ratings.csv strictly, of the small archive or of a larger one."""
    source = ARCHIVE.source(folder)
    movies = _movies(folder / "movies.csv")
    ratings = _ratings(folder / "ratings.csv", set(movies.index))
    return MovieLens(ratings, movies, source)


def build_likes(data: MovieLens, threshold: float = LIKED) -> Likes:
    """Keep the ratings of at least `threshold` stars, as a matrix of users by films."""
    liked = data.ratings[data.ratings["rating"] >= threshold]
    if liked.empty:
        raise AssignmentError(
            f"No rating reaches {threshold} stars, so nothing is liked. Ratings go up to "
            f"{data.ratings['rating'].max()}: choose a lower threshold."
        )
    users, rows = np.unique(liked["userId"], return_inverse=True)
    movies, columns = np.unique(liked["movieId"], return_inverse=True)
    ones = np.ones(len(liked), dtype=np.int64)
    matrix = sparse.csr_array((ones, (rows, columns)), shape=(len(users), len(movies)))
    return Likes(matrix, users, movies, threshold)


def count_colikes(liked: Likes) -> sparse.csr_array:
    """Count for each pair of films the users who liked both: A'A with an empty diagonal.

    Returns
    -------
    csr_array, int64 [movies, movies]
        Holds 10^6 to 10^7 numbers at MovieLens latest-small: for description, not for training.
    """
    product = (liked.matrix.T @ liked.matrix).tocsr()
    product.setdiag(0)
    product.eliminate_zeros()
    return product


# --- files ----------------------------------------------------------------------------------------


def _refuse(path: Path, line: int, reason: str) -> NoReturn:
    raise RatingsError(
        f"{path}, line {line}: {reason}. If the file should be the official one, delete it and run "
        "`make data` to get it again."
    )


def _rows(path: Path, columns: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the line it starts on; a byte order mark and CRLF line ends are fine."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before, wrong = error.object[: error.start].decode(), error.object[error.start]
        reason = f"byte {wrong:#04x} is not UTF-8, which the file should be"
        _refuse(path, _lines(before), reason)
    if "\0" in text:
        _refuse(path, _lines(text[: text.index("\0")]), "a NUL byte, which no text holds")
    # Not str.splitlines: it would also break a title at U+2028 and its like.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        header = next(reader, None)
        if header is None:
            _refuse(path, 1, f"the file is empty, expected the columns {','.join(columns)}")
        if header != columns:
            _refuse(path, 1, f"the columns are {','.join(header)}, expected {','.join(columns)}")
        first = line = reader.line_num + 1
        for row in reader:
            if len(row) != len(columns):
                _refuse(path, line, f"{len(row)} fields, expected {len(columns)}")
            yield line, row
            line = reader.line_num + 1
        if line == first:
            _refuse(path, 1, "there is a header but not one row")
    except csv.Error as error:
        _refuse(path, line, f"not well-formed CSV from here on ({error})")


def _lines(before: str) -> int:
    """Count the lines up to and including the one that follows this text."""
    return len(re.findall("\r\n|\r|\n", before)) + 1


def _whole(path: Path, line: int, column: str, text: str) -> int:
    # int() would also take "1_000", " 7" and other scripts' digits, which no such file holds.
    if not re.fullmatch(r"[0-9]{1,18}", text):
        _refuse(path, line, f"{column} is {text!r}, expected a whole number")
    return int(text)


def _movies(path: Path) -> pd.DataFrame:
    titles: dict[int, tuple[str, float, str]] = {}
    for line, (number, title, genres) in _rows(path, MOVIE_COLUMNS):
        movie = _whole(path, line, "movieId", number)
        if movie in titles:
            _refuse(path, line, f"movieId {movie} was already listed ({titles[movie][0]!r})")
        if not title.strip():
            _refuse(path, line, f"movieId {movie} has no title")
        year = re.search(r"\(([0-9]{4})\)\s*$", title)
        titles[movie] = (title.strip(), float(year[1]) if year else math.nan, genres)
    frame = pd.DataFrame.from_dict(titles, orient="index", columns=["title", "year", "genres"])
    return frame.rename_axis("movieId").astype({"year": "Int64"})


def _ratings(path: Path, movies: set[int]) -> pd.DataFrame:
    found = _plain_ratings(path, movies)
    return _any_ratings(path, movies) if found is None else found


def _plain_ratings(path: Path, movies: set[int]) -> pd.DataFrame | None:
    """Read ratings of which every line is plain and right; None where any is not."""
    types = {"userId": "int64", "movieId": "int64", "rating": "float64", "timestamp": "int64"}
    blocks = []
    with path.open("rb") as file:
        if file.readline().rstrip(b"\r\n") != ",".join(RATING_COLUMNS).encode():
            return None
        while block := file.read(BLOCK) + file.readline():
            if ODD_RATING.search(block.removesuffix(b"\n")):
                return None
            stream = io.BytesIO(block)
            some = pd.read_csv(stream, header=None, names=RATING_COLUMNS, dtype=types)
            if not (some["rating"].isin(STARS) & some["movieId"].isin(movies)).all():
                return None
            blocks.append(some)
    found = pd.concat(blocks, ignore_index=True) if blocks else None
    if found is None or found.duplicated(["userId", "movieId"]).any():
        return None
    return found


def _any_ratings(path: Path, movies: set[int]) -> pd.DataFrame:
    rows: list[tuple[int, int, float, int]] = []
    first_seen: dict[tuple[int, int], int] = {}
    for line, (user_text, movie_text, stars_text, when) in _rows(path, RATING_COLUMNS):
        user = _whole(path, line, "userId", user_text)
        movie = _whole(path, line, "movieId", movie_text)
        stars = float(stars_text) if re.fullmatch(r"[0-9](\.[0-9]+)?", stars_text) else math.nan
        if stars not in STARS:
            _refuse(path, line, f"rating is {stars_text!r}, expected 0.5 to 5.0 in halves")
        if movie not in movies:
            _refuse(path, line, f"movieId {movie} is not in movies.csv")
        if (seen := first_seen.setdefault((user, movie), line)) != line:
            _refuse(path, line, f"user {user} already rated movie {movie} on line {seen}")
        rows.append((user, movie, stars, _whole(path, line, "timestamp", when)))
    return pd.DataFrame(rows, columns=RATING_COLUMNS)
