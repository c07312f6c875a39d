"""MovieLens: ratings become likes, and likes become co-likes.

A file has one row on each line, and a regular expression says what a row may be. Block by block,
the first line that differs is reported with file, line and reason; all others go through pandas. So
the archives of 25 and 32 million ratings are checked as strictly, and fit into memory, too.
"""

import hashlib
import io
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, NoReturn

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
LIKED = 4.0
BLOCK = 2**24  # characters of a file that are checked and parsed together


class RatingsError(AssignmentError):
    """A file of ratings or movies is not what it should be; names the file, line and reason."""


@dataclass(frozen=True)
class MovieLens:
    """Two tables and where they came from.

    `ratings` has userId, movieId, rating (0.5 to 5.0) and timestamp (seconds); `movies`, indexed by
    movieId, has title, year (missing where the title has none) and genres ("A|B").
    """

    ratings: pd.DataFrame
    movies: pd.DataFrame
    source: Source


@dataclass(frozen=True)
class Likes:
    """Who liked what, a 1 in `matrix` [users, movies] for each like.

    `users` holds the userId of each row, `movies` the movieId of each column, both ascending;
    `threshold` is the lowest rating that counts as a like.
    """

    matrix: sparse.csr_array
    users: np.ndarray
    movies: np.ndarray
    threshold: float

    @property
    def count(self) -> np.ndarray:
        """How many users liked each film, [movies]."""
        return np.asarray(self.matrix.sum(axis=0)).ravel()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of who liked what: a run on other likes is another run."""
        rows, columns = self.matrix.sorted_indices().nonzero()
        parts = (self.users, self.movies, rows, columns)
        digest = hashlib.sha256(f"liked from {self.threshold}".encode())
        for part in parts:
            digest.update(part.astype("<i8").tobytes())
        return digest.hexdigest()


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
    return MovieLens(_ratings(folder / "ratings.csv", movies), movies, source)


def build_likes(data: MovieLens, threshold: float = LIKED) -> Likes:
    """Turn the ratings of at least `threshold` stars into a matrix of users by films."""
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
    """Count for each pair of films the users who liked both: A'A without its diagonal."""
    product = (liked.matrix.T @ liked.matrix).tocsr()
    product.setdiag(0)
    product.eliminate_zeros()
    return product


class _Kind(NamedTuple):
    pattern: str
    dtype: str
    expected: str


WHOLE = _Kind("[0-9]{1,18}", "int64", "a whole number")
STARS = _Kind(r"[1-5]|(?:0\.5|[1-4]\.[05]|5\.0)0*", "float64", "0.5 to 5.0 in halves")
UNFIT = r"\r\n\0\ufffd"  # U+FFFD stands where the bytes are not UTF-8
QUOTED, PLAIN = rf'"(?:[^"{UNFIT}]|"")*"', rf'(?!")[^,{UNFIT}]*'
TEXT = _Kind(f"{QUOTED}|{PLAIN}", "str", "UTF-8 text, quoted as a whole or not at all")
MOVIES = {"movieId": WHOLE, "title": TEXT, "genres": TEXT}
RATINGS = {"userId": WHOLE, "movieId": WHOLE, "rating": STARS, "timestamp": WHOLE}


def _refuse(path: Path, line: int, reason: str) -> NoReturn:
    raise RatingsError(
        f"{path}, line {line}: {reason}. If the file should be the official one, delete it and run "
        "`make data` to get it again."
    )


def _read(path: Path, columns: Mapping[str, _Kind]) -> pd.DataFrame:
    row = ",".join(f"(?:{kind.pattern})" for kind in columns.values())
    wrong = re.compile(rf"^(?!{row}\r?$).*", re.MULTILINE)
    types = {name: kind.dtype for name, kind in columns.items()}
    blocks: list[pd.DataFrame] = []
    with path.open("rb") as file:
        header = file.readline().decode("utf-8-sig", "replace").rstrip("\r\n")
        if header.replace('"', "") != ",".join(columns):
            found = f"the columns are {header[:80]!r}" if header else "the file is empty"
            _refuse(path, 1, f"{found}, expected {','.join(columns)!r}")
        while block := file.read(BLOCK) + file.readline():
            text = block.decode("utf-8", "replace").removesuffix("\n")
            if fault := wrong.search(text):
                line = 2 + sum(map(len, blocks)) + text.count("\n", 0, fault.start())
                _refuse(path, line, _reason(fault[0].rstrip("\r"), columns))
            stream = io.BytesIO(block)
            blocks.append(pd.read_csv(stream, names=list(columns), dtype=types, na_filter=False))
    if not blocks:
        _refuse(path, 1, "there is a header but not one row")
    return pd.concat(blocks, ignore_index=True)


def _reason(line: str, columns: Mapping[str, _Kind]) -> str:
    fields = re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', line)  # at the commas outside of quotes
    if len(fields) != len(columns):
        return f"expected {len(columns)} fields, found {len(fields)} in {line[:80]!r}"
    return next(
        f"{name} is {field[:80]!r}, expected {kind.expected}"
        for field, (name, kind) in zip(fields, columns.items(), strict=True)
        if not re.fullmatch(kind.pattern, field)
    )


def _movies(path: Path) -> pd.DataFrame:
    found = _read(path, MOVIES)
    movie, title = found["movieId"], found["title"].str.strip()
    wrong = movie.duplicated() | (title == "")
    if wrong.any():
        row = int(wrong.argmax())
        reason = "was already listed" if title[row] else "has no title"
        _refuse(path, row + 2, f"movieId {movie[row]} {reason}")
    year = pd.to_numeric(title.str.extract(r"\(([0-9]{4})\)$", expand=False)).astype("Int64")
    return found.assign(title=title, year=year).set_index("movieId")[["title", "year", "genres"]]


def _ratings(path: Path, movies: pd.DataFrame) -> pd.DataFrame:
    found = _read(path, RATINGS)
    user, movie = found["userId"], found["movieId"]
    unlisted = movie[~movie.isin(movies.index)].drop_duplicates()
    if len(unlisted) > 1:
        reason = f"{len(unlisted)} films of {path.name} are not listed; movies.csv may be cut short"
        _refuse(path.with_name("movies.csv"), len(movies) + 1, reason)
    if len(unlisted):
        _refuse(path, unlisted.index[0] + 2, f"movieId {unlisted.iloc[0]} is not in movies.csv")
    pair = pd.Series(pd.factorize(user)[0] * len(movies) + pd.factorize(movie)[0])
    if (again := pair.duplicated()).any():
        row = int(again.argmax())
        line = int((pair == pair[row]).argmax()) + 2
        _refuse(path, row + 2, f"user {user[row]} already rated movie {movie[row]} on line {line}")
    return found
