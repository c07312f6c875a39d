"""A title in, ten titles out; and how far two such lists agree.

Titles are compared by their names, without case, accents, punctuation, articles or the year, so
that a film is found the way it is remembered; a name that fits several films is never guessed at.
"""

import difflib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from assignment.common.settings import AssignmentError
from assignment.movies.evaluation import Rows, row_norms, score_films, top_columns
from assignment.movies.movielens import Likes, MovieLens

Film = str | int | np.integer  # a title, or a movieId
Ids = Sequence[int] | NDArray[np.int64]
BATCH = 512  # queries scored at once: 25 MB at MovieLens latest-small
YEAR = re.compile(r"\s*\(([0-9]{4})\)\s*$")
ALTERNATIVE = re.compile(r"\s+\((?:a\.?k\.?a\.?\s+)?([^()]*)\)", re.IGNORECASE)
ARTICLES = "the|a|an|la|le|les|il|el|der|das|los|las|un|une|una"
LEADING = re.compile(rf"^(?:(?:{ARTICLES})\s+|l['’]\s*)(?=\w)")
# Some are an article only where a catalogue put them last: "Die Hard", "I, Robot" begin with none.
TRAILING = re.compile(rf"^(.*),\s+({ARTICLES}|die|lo|i|gli|de|det|den|en|l['’])$")
UNACCENTED = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "&": " and "})


class FilmError(AssignmentError):
    """A film cannot be found or asked for; says why, and what could be asked instead."""


def spellings(name: str) -> tuple[str, str]:
    """Write a name as names are compared: with its article in front, and without.

    Examples
    --------
    >>> spellings("Misérables, Les")
    ('les miserables', 'miserables')
    """
    letters = unicodedata.normalize("NFKD", name.casefold()).translate(UNACCENTED)
    plain = "".join(c for c in letters if not unicodedata.combining(c)).strip()
    whole = TRAILING.sub(r"\2 \1", plain)
    return _words(whole), _words(LEADING.sub("", whole))


def _words(text: str) -> str:
    joined = re.sub(r"['’.]", "", text)  # "L.A." is "LA", "Bug's" is "Bugs"
    return " ".join(re.findall(r"\w+", joined)) or text  # "$" has no words


def alternative_titles(title: str) -> list[str]:
    """List the names in a title without its year: all of it, the first, the ones in parentheses.

    Examples
    --------
    >>> names("Seven (a.k.a. Se7en) (1995)")
    ['Seven (a.k.a. Se7en)', 'Seven', 'Se7en']
    """
    whole = YEAR.sub("", title)
    return list(dict.fromkeys([whole, ALTERNATIVE.sub("", whole), *ALTERNATIVE.findall(whole)]))


@dataclass(frozen=True)
class Neighbours:
    """The films nearest to a film, under one score.

    Attributes
    ----------
    data : MovieLens
    liked : Likes
    score : str
        What the score is: the name of its column.
    rows : array or csr_array [movies, any]
        One row per film, in the order of ``liked.movies``.
    cosine : bool
        Whether the score is the cosine or the inner product of rows.
    """

    data: MovieLens
    liked: Likes
    score: str
    rows: Rows
    cosine: bool

    def __post_init__(self) -> None:
        """Refuse the vectors of other films than these."""
        if (found := self.rows.shape[0]) != (expected := len(self.liked.movies)):
            raise AssignmentError(
                f"There are {found} vectors for {expected} liked films: take the vectors that were "
                "fitted to these likes."
            )

    def similar(self, films: Film | Sequence[Film], n: int = 10) -> pd.DataFrame:
        """Return the n films nearest to a film, or to several together; never one of these.

        Parameters
        ----------
        films : str, int or a sequence of these
            Titles, as `find` takes them, or movieIds. Several are asked for by the mean of their
            unit vectors (a cosine) or by their mean score (an inner product).
        n : int

        Returns
        -------
        DataFrame
            Indexed by movieId: rank, title, year, genres, the score under its name, likes.
        """
        asked = [films] if isinstance(films, str | int | np.integer) else films
        together = [list(dict.fromkeys(self.find(film) for film in asked))]
        scores, best = self._best(together, n)
        table = self.data.movies.loc[self.liked.movies[best[0]], ["title", "year", "genres"]]
        table.insert(0, "rank", range(1, n + 1))
        return table.assign(**{self.score: scores[0, best[0]], "likes": self.liked.count[best[0]]})

    def top(self, movies: Ids, n: int = 10) -> NDArray[np.int64]:
        """Return the movieIds of the n films nearest to each of many movieIds, [queries, n]."""
        queries = [[self.find(int(movie))] for movie in movies]
        starts = range(0, max(len(queries), 1), BATCH)
        lists = [self._best(queries[start : start + BATCH], n)[1] for start in starts]
        return np.asarray(self.liked.movies[np.concatenate(lists)])

    def find(self, film: Film) -> int:
        """Return the movieId of a film that somebody liked.

        An exact title goes first. Otherwise case, accents, punctuation and the article's place do
        not matter, and the year may be left out. Among namesakes only the liked ones are meant.
        """
        titles, likes = self.data.movies["title"], self._likes
        if isinstance(film, str):
            exact = titles.index[titles == film.strip()].tolist()
            matches = exact or self._namesakes(film)
        else:
            matches = [int(film)] if film in titles.index else []
        if not matches:
            hint = self._suggestion(film) if isinstance(film, str) else "Ask by title instead."
            raise FilmError(f"No film is called {film!r}. {hint}")
        matches = [movie for movie in matches if movie in likes] or matches
        if len(matches) > 1:
            listed = "; ".join(f"{titles[movie]}, movieId {movie}" for movie in matches)
            raise FilmError(
                f"{film!r} names {len(matches)} films: {listed}. Ask with the year, or by movieId."
            )
        if matches[0] not in likes:
            raise FilmError(
                f"Nobody gave {titles[matches[0]]} at least {self.liked.threshold:g} stars, so it "
                "has no likes to compare. Ask for another film, or lower the threshold."
            )
        return int(matches[0])

    @cached_property
    def _likes(self) -> dict[int, int]:
        return dict(zip(self.liked.movies.tolist(), self.liked.count.tolist(), strict=True))

    @cached_property
    def _by_spelling(self) -> dict[str, list[int]]:
        index: dict[str, list[int]] = {}
        for movie, title in self.data.movies["title"].items():
            for spelling in {s for name in alternative_titles(title) for s in spellings(name)}:
                index.setdefault(spelling, []).append(movie)
        return index

    def _namesakes(self, query: str) -> list[int]:
        year = YEAR.search(query)
        found = {m for s in spellings(YEAR.sub("", query)) for m in self._by_spelling.get(s, ())}
        own = {movie: YEAR.search(self.data.movies["title"][movie]) for movie in sorted(found)}
        return [m for m, its in own.items() if not year or (its and its[1] == year[1])]

    def _suggestion(self, query: str) -> str:
        asked = spellings(YEAR.sub("", query))[0]
        near = difflib.get_close_matches(asked, self._by_spelling, n=3)
        # "Star Wars" is spelled like no title, but begins several.
        longer = {m for s, ms in self._by_spelling.items() if s.startswith(f"{asked} ") for m in ms}
        popular = sorted(longer, key=lambda movie: (-self._likes.get(movie, 0), movie))[:3]
        movies = [m for s in near for m in self._by_spelling[s]] + popular
        titles = dict.fromkeys(self.data.movies["title"][movie] for movie in movies)
        return f"Near spellings: {'; '.join(titles)}." if titles else "Nothing is spelled like it."

    def _best(
        self, queries: list[list[int]], n: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Score all films for each query, [queries, movies], and pick n columns, [queries, n]."""
        if not queries or not all(queries):
            raise FilmError("No film was asked for: name at least one.")
        rows = np.repeat(np.arange(len(queries)), [len(query) for query in queries])
        columns = np.searchsorted(self.liked.movies, np.concatenate(queries))
        shape = (len(queries), len(self.liked.movies))
        chosen = sparse.csr_array((np.ones(len(columns)), (rows, columns)), shape)
        scores = score_films(self.rows, chosen, self.cosine)
        known = row_norms(self.rows) > 0
        if not known[columns].all():
            title = self.data.movies["title"][self.liked.movies[columns[~known[columns]][0]]]
            raise FilmError(f"The vector of {title} is zero, so no film is near it. Ask another.")
        if not scores.any(axis=1).all():
            raise FilmError("The vectors of these films cancel out: ask for fewer of them at once.")
        others = int(known.sum()) - max(len(query) for query in queries)
        if not 1 <= n <= others:
            raise AssignmentError(f"n is {n}, but there are {others} other films: 1 to {others}.")
        scores[:, ~known] = -np.inf  # a film without a direction is near nothing
        scores[rows, columns] = -np.inf  # the query is not its own neighbour
        return scores, top_columns(scores, self.liked, n)


def by_cosine(data: MovieLens, liked: Likes, vectors: NDArray[np.floating]) -> Neighbours:
    """Rank by the cosine of embedding vectors, [movies, dim]."""
    return Neighbours(data, liked, "cosine", vectors, cosine=True)


def by_inner_product(data: MovieLens, liked: Likes, vectors: NDArray[np.floating]) -> Neighbours:
    """Rank by the inner product of embedding vectors, [movies, dim]."""
    return Neighbours(data, liked, "inner product", vectors, cosine=False)


def by_colikes(data: MovieLens, liked: Likes) -> Neighbours:
    """Rank by how many users liked both: X_ij, an inner product of columns of the likes."""
    return Neighbours(data, liked, "co-likes", liked.matrix.T.tocsr(), cosine=False)


def by_cosine_colikes(data: MovieLens, liked: Likes) -> Neighbours:
    """Rank by X_ij / sqrt(n_i n_j), which is the cosine of columns of the likes."""
    return Neighbours(data, liked, "cosine co-likes", liked.matrix.T.tocsr(), cosine=True)


def overlap_at(first: Ids, second: Ids, n: int = 10) -> float:
    """Return the share of the first n ids that two lists have in common, in any order.

    Examples
    --------
    >>> overlap_at([1, 2, 3, 4], [9, 2, 1, 4], n=2)
    0.5
    """
    shorter = min(len(first), len(second))
    if not 1 <= n <= shorter:
        raise AssignmentError(f"n is {n}, but the shorter list has {shorter} ids: 1 to {shorter}.")
    return len(set(map(int, first[:n])) & set(map(int, second[:n]))) / n
