"""Ratings, MovieLens' or others, become likes, and likes become co-likes.

A regular expression says what a line may be; the first that differs is reported with its reason.
Files go through pandas block by block, so that archives of 32 million ratings fit into memory.
"""

import csv
import hashlib
import io
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from assignment.common.download import Archive, RemoteFile
from assignment.common.files import AnyPath, Source, find_path, fingerprint, sha256
from assignment.common.settings import AssignmentError, Mode, mode
from assignment.common.tables import Summary
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
        official = path.parent.name == ARCHIVE.folder and path.name in ARCHIVE.files
        again = "delete it and run `make data`" if official else "get it again from where it came"
        super().__init__(
            f"{path}, line {line}: {reason}. Mend the line; if the file was damaged, {again}."
        )


@dataclass(frozen=True, repr=False)
class MovieLens(Summary):
    """Three tables and where they came from."""

    ratings: pd.DataFrame  # userId, movieId, rating (0.5 to 5.0) and timestamp (seconds)
    movies: pd.DataFrame  # by movieId: title, year (missing where it has none), genres ("A|B")
    tags: pd.DataFrame  # userId, movieId, tag (free words, lower case) and timestamp
    source: Source

    def summary(self) -> Mapping[str, object]:
        """Return how much there is, and of what."""
        size = {"ratings": len(self.ratings), "users": self.ratings["userId"].nunique()}
        source = f"{self.source.what} ({self.source.origin})"
        return {**size, "films": len(self.movies), "source": source}


@dataclass(frozen=True, repr=False)
class Likes(Summary):
    """Who liked what."""

    matrix: sparse.csr_array  # [users, movies], 1 for each like
    users: np.ndarray  # the userId of each row, ascending
    movies: np.ndarray  # the movieId of each column, ascending
    threshold: float  # the lowest rating that counts as a like

    def summary(self) -> Mapping[str, object]:
        """Return how many there are, and what counts as one."""
        (users, films), likes = self.matrix.shape, int(self.matrix.sum())
        return {"likes": likes, "users": users, "films": films, "stars from": self.threshold}

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


def load(folder: AnyPath | None = None) -> MovieLens:
    """Load a folder of ratings, in any of the `LAYOUTS`; without one, MovieLens latest-small.

    In sample mode the data are synthetic; latest-small is downloaded where it is not there yet.
    """
    if mode() is Mode.SAMPLE:
        with tempfile.TemporaryDirectory() as temporary:
            sample.write_movielens(temporary)
            return _read_folder(Path(temporary))
    folder = ARCHIVE.obtain() if folder is None else find_path(folder)
    try:
        return _read_folder(folder)
    except OSError as error:
        where = error.filename or folder
        raise AssignmentError(f"{where} cannot be read ({error.strerror}); {KNOWN}.") from None


def load_csv(
    path: AnyPath,
    user: str = "user",
    item: str = "item",
    rating: str = "rating",
    title: str | None = None,  # the items' names, where `item` holds none
) -> MovieLens:
    """Load a comma-separated file of ratings on any scale, from the columns that are named.

    Users and items that are whole numbers keep them; others are numbered, in their order, from 1.
    """
    if mode() is Mode.SAMPLE:
        return load()
    path = find_path(path)
    try:
        with path.open("rb") as file:
            columns = _header(file.readline()).split(",")
        wanted = {title or item: TEXT, user: TEXT, item: TEXT, rating: NUMBER}
        if any(columns.count(name) != 1 for name in wanted) or len({user, item, rating}) < 3:
            raise AssignmentError(
                f"{path}, line 1: the columns are {','.join(columns)[:80]!r}, expected one each of "
                f"{', '.join(map(str, wanted))}. Name yours, as in load_csv(path, user='who', "
                "item='what', rating='stars')."
            )
        found = _read(path, {name: wanted.get(name, TEXT) for name in columns})
    except OSError as error:
        why = f"({error.strerror}); expected a file with a header, a folder is read by `load`"
        raise AssignmentError(f"{path} cannot be read {why}.") from None
    for name in (user, item):
        found[name] = found[name].str.strip()
        if (blank := found[name] == "").any():
            raise RatingsError(path, int(blank.idxmax()), f"{name} is empty, expected text")
    ids = {"userId": _ids(found[user]), "movieId": _ids(found[item])}
    ratings = pd.DataFrame({**ids, "rating": found[rating], "timestamp": 0})
    _refuse_second_ratings(path, found[[user, item]].set_axis(["userId", "movieId"], axis=1))
    names = found[title or item].str.strip()
    movies = pd.DataFrame({"movieId": ids["movieId"], "title": names, "genres": ""})
    movies = _with_years(movies.drop_duplicates("movieId").sort_values("movieId"))
    detail = f"a file of your own, by its columns {user}, {item} and {rating}"
    source = Source(path.name, "other", detail, fingerprint({path.name: sha256(path)}))
    return MovieLens(ratings.reset_index(drop=True), movies, NO_TAGS, source)


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
NUMBER = (r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?", "float64", "a number")
HALVES = (r"[1-5]|(?:0\.5|[1-4]\.[05]|5\.0)0*", "float64", "0.5 to 5.0 in halves")
STARS = ("[1-5]", "float64", "1 to 5 in whole stars")
UNFIT = r"\r\n\0\ufffd"  # U+FFFD stands where the bytes are not UTF-8
QUOTED, PLAIN = rf'"(?:[^"{UNFIT}]|"")*"', rf'(?!")[^,{UNFIT}]*'
TEXT = (f"{QUOTED}|{PLAIN}", "str", "UTF-8 text, quoted as a whole or not at all")
WORDS = (rf"(?:[^:\x1f{UNFIT}]|:(?!:))*", "str", "text in which no :: stands")
Columns = dict[str, tuple[str, str, str]]
RATINGS = {"userId": WHOLE, "movieId": WHOLE, "rating": HALVES, "timestamp": WHOLE}
FILES: dict[str, Columns] = {
    "movies.csv": {"movieId": WHOLE, "title": TEXT, "genres": TEXT},
    "ratings.csv": RATINGS,
    "tags.csv": {"userId": WHOLE, "movieId": WHOLE, "tag": TEXT, "timestamp": WHOLE},
    "movies.dat": {"movieId": WHOLE, "title": WORDS, "genres": WORDS},
    "ratings.dat": RATINGS | {"rating": STARS},
}
LAYOUTS = {  # MovieLens' archives, and which of their files are read
    "latest-small, 25M or 32M": ("movies.csv", "ratings.csv", "tags.csv"),
    "1M": ("movies.dat", "ratings.dat"),
}
KNOWN = "expected a folder with the files of MovieLens {}; `load_csv` reads others".format(
    " or of ".join(f"{archives} ({', '.join(names)})" for archives, names in LAYOUTS.items())
)
NO_TAGS = pd.DataFrame({name: pd.Series(dtype=d) for name, (_, d, _) in FILES["tags.csv"].items()})


def _read_folder(folder: Path) -> MovieLens:
    here = sorted(path.name for path in folder.iterdir())
    archives = next((each for each, names in LAYOUTS.items() if {*names} <= {*here}), None)
    if archives is None:
        found = ", ".join(here[:5] + ["..."] * (len(here) > 5)) or "nothing"
        raise AssignmentError(f"{folder} holds {found}; {KNOWN}.")
    paths = {Path(name).stem: folder / name for name in LAYOUTS[archives]}
    if folder.name == ARCHIVE.folder or mode() is Mode.SAMPLE:
        source = ARCHIVE.source(folder)
    else:
        whole = fingerprint({path.name: sha256(path) for path in paths.values()})
        detail = f"the layout of MovieLens {archives}; no checksum is pinned for it"
        source = Source(folder.name, "other", detail, whole)
    movies, tags = _movies(paths["movies"]), NO_TAGS
    if "tags" in paths:
        tags = _read(paths["tags"], FILES["tags.csv"]).reset_index(drop=True)
        tags["tag"] = tags["tag"].str.strip().str.lower()
    return MovieLens(_ratings(paths["ratings"], movies), movies, tags, source)


def _read(path: Path, columns: Columns, headed: bool = True) -> pd.DataFrame:
    """Read a file whose every line is as the columns say; the index holds the lines' numbers.

    One that is not headed is as those of MovieLens 1M: :: for commas, no quotes, Latin-1.
    """
    row = ("," if headed else "::").join(f"(?:{pattern})" for pattern, _, _ in columns.values())
    wrong = re.compile(rf"^(?!{row}\r?$).*", re.MULTILINE)
    types = {name: dtype for name, (_, dtype, _) in columns.items()}
    options: dict[str, Any] = {"names": list(columns), "dtype": types, "na_filter": False}
    blocks: list[pd.DataFrame] = []
    with path.open("rb") as file:
        if headed and (header := _header(file.readline())) != ",".join(columns):
            found = f"the columns are {header[:80]!r}" if header else "the file is empty"
            raise RatingsError(path, 1, f"{found}, expected {','.join(columns)!r}")
        while block := file.read(BLOCK) + file.readline():
            text = block.decode("utf-8" if headed else "latin-1", "replace").removesuffix("\n")
            if fault := wrong.search(text):
                line = 1 + headed + sum(map(len, blocks)) + text.count("\n", 0, fault.start())
                raise RatingsError(path, line, _reason(fault[0].rstrip("\r"), columns, headed))
            if not headed:
                block = text.replace("::", "\x1f").encode()
                options |= {"sep": "\x1f", "quoting": csv.QUOTE_NONE}
            blocks.append(pd.read_csv(io.BytesIO(block), **options))
    if not blocks:
        raise RatingsError(path, 1, f"there is {'a header but ' * headed}not one row")
    found = pd.concat(blocks, ignore_index=True)
    return found.set_index(found.index + 1 + headed)


def _header(line: bytes) -> str:
    return line.decode("utf-8-sig", "replace").rstrip("\r\n").replace('"', "")


def _reason(line: str, columns: Columns, headed: bool) -> str:
    # A comma within quotes separates nothing.
    fields = re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)' if headed else "::", line)
    if len(fields) != len(columns):
        return f"expected {len(columns)} fields, found {len(fields)} in {line[:80]!r}"
    return next(
        f"{name} is {field[:80]!r}, expected {expected}"
        for field, (name, (pattern, _, expected)) in zip(fields, columns.items(), strict=True)
        if not re.fullmatch(pattern, field)
    )


def _movies(path: Path) -> pd.DataFrame:
    found = _read(path, FILES[path.name], path.suffix == ".csv")
    movie, title = found["movieId"], found["title"].str.strip()
    if (wrong := movie.duplicated() | (title == "")).any():
        line = int(wrong.idxmax())
        reason = "was already listed" if title[line] else "has no title"
        raise RatingsError(path, line, f"movieId {movie[line]} {reason}")
    return _with_years(found.assign(title=title))


def _with_years(movies: pd.DataFrame) -> pd.DataFrame:
    year = movies["title"].str.extract(r"\(([0-9]{4})\)$", expand=False)
    found = movies.assign(year=pd.to_numeric(year).astype("Int64"))
    return found.set_index("movieId")[["title", "year", "genres"]]


def _ratings(path: Path, movies: pd.DataFrame) -> pd.DataFrame:
    found = _read(path, FILES[path.name], path.suffix == ".csv")
    movie, listed = found["movieId"], path.with_stem("movies")
    if len(unlisted := movie[~movie.isin(movies.index)]):
        line, film = unlisted.index[0], unlisted.iloc[0]
        if movies.index.max() < unlisted.min() < unlisted.max():  # the list was cut short
            reason = f"the list ends without movieId {film}, rated on line {line} of {path}"
            raise RatingsError(listed, len(movies) + found.index[0] - 1, reason)
        raise RatingsError(path, line, f"movieId {film} is not listed in {listed.name}")
    _refuse_second_ratings(path, found)
    return found.reset_index(drop=True)


def _refuse_second_ratings(path: Path, found: pd.DataFrame) -> None:
    pair = found[["userId", "movieId"]]
    if (again := pair.duplicated()).any():
        line = int(again.idxmax())
        (user, movie), first = pair.loc[line], (pair == pair.loc[line]).all(axis=1).idxmax()
        raise RatingsError(path, line, f"user {user} already rated movie {movie} on line {first}")


def _ids(names: pd.Series) -> pd.Series:
    if names.str.fullmatch("0|[1-9][0-9]{0,17}").all():
        return names.astype("int64")
    return pd.Series(1 + pd.factorize(names, sort=True)[0], names.index)
