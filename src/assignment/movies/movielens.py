"""MovieLens: ratings become likes, and likes become co-likes.

A regular expression says what a line may be; the first that differs is reported with its reason.
Files go through pandas block by block, so that archives of 32 million ratings fit into memory.
"""

import hashlib
import io
import re
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from assignment.common.download import Archive, RemoteFile
from assignment.common.files import Source
from assignment.common.settings import AssignmentError, Mode, mode
from assignment.movies import sample

URL = "files.grouplens.org/datasets/movielens/ml-latest-small.zip"
SHA256 = "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436"
ARCHIVE = Archive(
    name="MovieLens latest-small",
    remote=RemoteFile("ml-latest-small.zip", (f"https://{URL}", f"http://{URL}"), SHA256, 978_202),
    folder="ml-latest-small",
    files={
        "movies.csv": "5a5f32dd9bb3797b8e728a1b98958789d2b13f294a69fdfbc5727f8a9611aa07",
        "ratings.csv": "aa289ca83157595d0df6aea1be6a4ded676ddc4385472e8313a8ed9805352646",
        "tags.csv": "92a9f8bb7916dceef6151209845788c3643f794dfa79d1feaec7121b5960399d",
    },
)
LIKED = 4.0
BLOCK = 2**24  # characters of a file that are checked and parsed together


class RatingsError(AssignmentError):
    """A file of ratings or movies is not what it should be."""

    def __init__(self, path: Path, line: int, reason: str) -> None:
        super().__init__(
            f"{path}, line {line}: {reason}. If the file should be the official one, delete it and "
            "run `make data` to get it again."
        )


@dataclass(frozen=True)
class MovieLens:
    """Three tables and where they came from."""

    ratings: pd.DataFrame  # userId, movieId, rating (0.5 to 5.0) and timestamp (seconds)
    movies: pd.DataFrame  # by movieId: title, year (missing where it has none), genres ("A|B")
    tags: pd.DataFrame  # userId, movieId, tag (free words, lower case) and timestamp
    source: Source


@dataclass(frozen=True)
class Likes:
    """Who liked what."""

    matrix: sparse.csr_array  # [users, movies], 1 for each like
    users: np.ndarray  # the userId of each row, ascending
    movies: np.ndarray  # the movieId of each column, ascending
    threshold: float  # the lowest rating that counts as a like

    @property
    def count(self) -> np.ndarray:
        """How many users liked each film, [movies]."""
        return np.asarray(self.matrix.sum(axis=0)).ravel()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of who liked what: a run on other likes is another run."""
        digest = hashlib.sha256(f"liked from {self.threshold}".encode())
        for part in (self.users, self.movies, *self.matrix.sorted_indices().nonzero()):
            digest.update(part.astype("<i8").tobytes())
        return digest.hexdigest()


def load() -> MovieLens:
    """Load MovieLens: synthetic in sample mode, else local files, else downloaded ones."""
    if mode() is Mode.SAMPLE:
        with tempfile.TemporaryDirectory() as folder:
            sample.write_movielens(Path(folder))
            return read(Path(folder))
    return read(ARCHIVE.obtain())


def read(folder: Path) -> MovieLens:
    """Read the three files strictly, of the small archive or of a larger one."""
    source, movies = ARCHIVE.source(folder), _movies(folder / "movies.csv")
    tags = _read(folder / "tags.csv", TAGS)
    tags["tag"] = tags["tag"].str.strip().str.lower()
    return MovieLens(_ratings(folder / "ratings.csv", movies), movies, tags, source)


def build_likes(data: MovieLens, threshold: float = LIKED) -> Likes:
    """Turn the ratings of at least `threshold` stars into a matrix of users by films."""
    liked = data.ratings[data.ratings["rating"] >= threshold]
    if liked.empty:
        best = data.ratings["rating"].max()
        raise AssignmentError(f"No rating reaches {threshold} stars; choose up to {best}.")
    users, rows = np.unique(liked["userId"], return_inverse=True)
    movies, columns = np.unique(liked["movieId"], return_inverse=True)
    matrix = sparse.csr_array((np.ones(len(liked), dtype=np.int64), (rows, columns)))
    return Likes(matrix, users, movies, threshold)


def count_colikes(liked: Likes) -> sparse.csr_array:
    """Count for each pair of films the users who liked both: A'A without its diagonal."""
    product = (liked.matrix.T @ liked.matrix).tocsr()
    product.setdiag(0)
    product.eliminate_zeros()
    return product


# What a field may be: a regular expression, its type in the table, and the same in words.
WHOLE = ("[0-9]{1,18}", "int64", "a whole number")
STARS = (r"[1-5]|(?:0\.5|[1-4]\.[05]|5\.0)0*", "float64", "0.5 to 5.0 in halves")
UNFIT = r"\r\n\0\ufffd"  # U+FFFD stands where the bytes are not UTF-8
QUOTED, PLAIN = rf'"(?:[^"{UNFIT}]|"")*"', rf'(?!")[^,{UNFIT}]*'
TEXT = (f"{QUOTED}|{PLAIN}", "str", "UTF-8 text, quoted as a whole or not at all")
Columns = dict[str, tuple[str, str, str]]
MOVIES = {"movieId": WHOLE, "title": TEXT, "genres": TEXT}
RATINGS = {"userId": WHOLE, "movieId": WHOLE, "rating": STARS, "timestamp": WHOLE}
TAGS = {"userId": WHOLE, "movieId": WHOLE, "tag": TEXT, "timestamp": WHOLE}


def _read(path: Path, columns: Columns) -> pd.DataFrame:
    row = ",".join(f"(?:{pattern})" for pattern, _, _ in columns.values())
    wrong = re.compile(rf"^(?!{row}\r?$).*", re.MULTILINE)
    types = {name: dtype for name, (_, dtype, _) in columns.items()}
    blocks: list[pd.DataFrame] = []
    with path.open("rb") as file:
        header = file.readline().decode("utf-8-sig", "replace").rstrip("\r\n")
        if header.replace('"', "") != ",".join(columns):
            found = f"the columns are {header[:80]!r}" if header else "the file is empty"
            raise RatingsError(path, 1, f"{found}, expected {','.join(columns)!r}")
        while block := file.read(BLOCK) + file.readline():
            text = block.decode("utf-8", "replace").removesuffix("\n")
            if fault := wrong.search(text):
                line = 2 + sum(map(len, blocks)) + text.count("\n", 0, fault.start())
                raise RatingsError(path, line, _reason(fault[0].rstrip("\r"), columns))
            rows = io.BytesIO(block)
            blocks.append(pd.read_csv(rows, names=list(columns), dtype=types, na_filter=False))
    if not blocks:
        raise RatingsError(path, 1, "there is a header but not one row")
    return pd.concat(blocks, ignore_index=True)


def _reason(line: str, columns: Columns) -> str:
    fields = re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', line)  # at the commas outside of quotes
    if len(fields) != len(columns):
        return f"expected {len(columns)} fields, found {len(fields)} in {line[:80]!r}"
    return next(
        f"{name} is {field[:80]!r}, expected {expected}"
        for field, (name, (pattern, _, expected)) in zip(fields, columns.items(), strict=True)
        if not re.fullmatch(pattern, field)
    )


def _movies(path: Path) -> pd.DataFrame:
    found = _read(path, MOVIES)
    movie, title = found["movieId"], found["title"].str.strip()
    if (wrong := movie.duplicated() | (title == "")).any():
        row = int(wrong.argmax())
        reason = "was already listed" if title[row] else "has no title"
        raise RatingsError(path, row + 2, f"movieId {movie[row]} {reason}")
    year = pd.to_numeric(title.str.extract(r"\(([0-9]{4})\)$", expand=False)).astype("Int64")
    return found.assign(title=title, year=year).set_index("movieId")[["title", "year", "genres"]]


def _ratings(path: Path, movies: pd.DataFrame) -> pd.DataFrame:
    found = _read(path, RATINGS)
    user, movie = found["userId"], found["movieId"]
    if len(unlisted := movie[~movie.isin(movies.index)]):
        line, film = unlisted.index[0] + 2, unlisted.iloc[0]
        if movies.index.max() < unlisted.min() < unlisted.max():  # the list was cut short
            reason = f"the list ends without movieId {film}, rated on line {line} of {path}"
            raise RatingsError(path.with_name("movies.csv"), len(movies) + 1, reason)
        raise RatingsError(path, line, f"movieId {film} is not listed in movies.csv")
    pair = pd.Series(pd.factorize(user)[0] * len(movies) + pd.factorize(movie)[0])
    if (again := pair.duplicated()).any():
        row = int(again.argmax())
        line = int((pair == pair[row]).argmax()) + 2
        reason = f"user {user[row]} already rated movie {movie[row]} on line {line}"
        raise RatingsError(path, row + 2, reason)
    return found
