"""A title in, ten titles out; and how far two such lists agree.

Titles are compared without case, accents, punctuation and articles, and the year may be left out.
"""

import difflib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from assignment.common.settings import AssignmentError
from assignment.common.tables import Summary
from assignment.movies.evaluation import Rows, Scores, check_n, row_norms, score_films, top_columns
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


def spellings(name: str) -> list[str]:
    """Write a name as names are compared: with its article in front, and without any."""
    letters = unicodedata.normalize("NFKD", name.casefold()).translate(UNACCENTED)
    plain = "".join(c for c in letters if not unicodedata.combining(c)).strip()
    whole = TRAILING.sub(r"\2 \1", plain)
    found = []
    for text in (whole, LEADING.sub("", whole)):
        joined = re.sub(r"['’.]", "", text)  # "L.A." is "LA", "Bug's" is "Bugs"
        found.append(" ".join(re.findall(r"\w+", joined)) or text)  # "$" has no words
    return found


@dataclass(frozen=True, repr=False)
class Neighbours(Summary):
    """The films nearest to a film, under one score."""

    data: MovieLens
    liked: Likes
    score: str  # what the score is: the name of its column
    rows: Rows  # [movies, any], in the order of `liked.movies`
    cosine: bool  # whether the score is the cosine or the inner product of rows

    def summary(self) -> Mapping[str, object]:
        """Return what is compared, and how."""
        return {"films": len(self.liked.movies), "score": self.score}

    def similar(self, films: Film | Sequence[Film], n: int = 10) -> pd.DataFrame:
        """Tabulate by movieId the n films nearest to a film, or to several together.

        Several ask by the mean of their unit vectors (a cosine) or by their mean inner product.
        """
        query = np.unique(self._find_all(films))
        (scores,), (best,) = self._best(query[None, :], n)
        table = self.data.movies.loc[self.liked.movies[best], ["title", "year", "genres"]]
        table.insert(0, "rank", range(1, n + 1))
        table = table.assign(**{self.score: scores[best], "likes": self.liked.count[best]})
        return table.rename_axis(columns="near " + " and ".join(self.data.movies["title"][query]))

    def top(self, films: Sequence[Film] | NDArray[np.int64], n: int = 10) -> NDArray[np.int64]:
        """Return the movieIds of the n films nearest to each of many films, [films, n]."""
        queries = self._find_all(films)[:, None]
        batches = np.split(queries, range(BATCH, len(queries), BATCH))
        columns = np.concatenate([self._best(batch, n)[1] for batch in batches])
        return np.asarray(self.liked.movies[columns])

    def find(self, film: Film) -> int:
        """Return the movieId of a film that somebody liked; an exact title goes first."""
        titles, liked = self.data.movies["title"], self.liked.movies
        by_id = [film] if film in titles else []
        matches = self._namesakes(film) if isinstance(film, str) else by_id
        if not matches:
            raise AssignmentError(
                f"No film is called {film!r}; expected a title or a movieId. "
                f"{self._suggestion(str(film))}"
            )
        matches = [movie for movie in matches if movie in liked] or matches
        if len(matches) > 1:
            listed = "; ".join(f"{titles[movie]}, movieId {movie}" for movie in matches)
            raise AssignmentError(
                f"{film!r} names {len(matches)} films: {listed}. Ask with the year, or by movieId."
            )
        if matches[0] not in liked:
            raise AssignmentError(
                f"Nobody gave {titles[matches[0]]} at least {self.liked.threshold:g} stars, "
                "so it has no likes to compare. Ask for another film, or lower the threshold."
            )
        return int(matches[0])

    def _find_all(self, films: Film | Sequence[Film] | NDArray[np.int64]) -> NDArray[np.int64]:
        found = [self.find(film) for film in np.atleast_1d(np.array(films, dtype=object))]
        if not found:
            raise AssignmentError("No film was asked for: name at least one.")
        return np.array(found)

    @cached_property
    def _spelled(self) -> dict[int, set[str]]:
        """The spellings of every film, the most liked first."""
        titles = self.data.movies["title"].sort_index()
        likes = pd.Series(self.liked.count, self.liked.movies).reindex(titles.index, fill_value=0)
        found = {}
        for movie, title in titles.iloc[np.argsort(-likes, kind="stable")].items():
            whole = YEAR.sub("", title)  # then what comes first, then what is in parentheses
            names = (whole, ALTERNATIVE.sub("", whole), *ALTERNATIVE.findall(whole))
            found[movie] = {spelling for name in names for spelling in spellings(name)}
        return found

    def _namesakes(self, query: str) -> list[int]:
        titles, year = self.data.movies["title"], YEAR.search(query)
        ending, asked = year[0].strip() if year else "", {*spellings(YEAR.sub("", query))}
        spelled_so = sorted(movie for movie, known in self._spelled.items() if asked & known)
        namesakes = [movie for movie in spelled_so if titles[movie].endswith(ending)]
        return [movie for movie in namesakes if titles[movie] == query.strip()] or namesakes

    def _suggestion(self, query: str) -> str:
        asked, films = spellings(YEAR.sub("", query))[0], self._spelled
        alike = {*difflib.get_close_matches(asked, set[str]().union(*films.values()))}

        def begins(name: str) -> bool:
            # "Star Wars" is spelled like no title, but begins several; "LOTR" are their initials.
            initials = "".join(word[0] for word in name.split())
            return name.startswith(f"{asked} ") or initials.startswith(asked)

        popular = [movie for movie, known in films.items() if any(map(begins, known))][:3]
        movies = [movie for movie, known in films.items() if known & alike or movie in popular]
        titles = self.data.movies["title"][movies].unique()
        return f"Near spellings: {'; '.join(titles)}." if movies else "Nothing is spelled like it."

    def _best(self, queries: NDArray[np.int64], n: int) -> tuple[Scores, NDArray[np.int64]]:
        """Score all films for each row of movieIds, and pick n columns, [queries, n]."""
        columns = np.searchsorted(self.liked.movies, queries)
        chosen = np.zeros((len(queries), len(self.liked.movies)))
        np.put_along_axis(chosen, columns, 1, axis=1)
        scores = score_films(self.rows, sparse.csr_array(chosen), self.cosine)
        if not (directed := scores.any(axis=1)).all():
            titles = "; ".join(self.data.movies["title"][queries[~directed][0]])
            raise AssignmentError(
                f"The vectors of {titles} are zero or cancel out: ask for others."
            )
        known = row_norms(self.rows) > 0
        check_n(n, known.sum() - columns.shape[1], "other films")
        scores[:, ~known] = -np.inf  # a film without a direction is near nothing
        np.put_along_axis(scores, columns, -np.inf, axis=1)  # nor is a film its own neighbour
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


def find_films(
    data: MovieLens, liked: Likes, names: Sequence[Film], must: bool = True
) -> tuple[int, ...]:
    """Return the movieIds of films; without `must`, of those among them that can be found."""
    catalogue, found = by_colikes(data, liked), []
    for name in names:
        with nullcontext() if must else suppress(AssignmentError):
            found.append(catalogue.find(name))
    return tuple(found)


def mean_overlap(first: Sequence[Ids], second: Sequence[Ids]) -> float:
    """Return how many ids two lists have in common, the mean over pairs of lists."""
    return float(np.mean([np.isin(a, b).sum() for a, b in zip(first, second, strict=True)]))


def describe_change(ten: Ids, best: Ids, titles: pd.Series) -> str:
    """Write how many of the best films a list has and, if most, what it has besides and lacks."""
    new = [f"+\u00a0{short_title(titles[film])}" for film in ten if film not in best]
    gone = [f"\u2212\u00a0{short_title(titles[film])}" for film in best if film not in ten]
    if not new:
        return f"the same {len(best)}"
    kept = len(ten) - len(new)
    return f"{kept}: {'; '.join(new + gone)}" if 2 * kept > len(ten) else f"{kept} of {len(best)}"


def in_common(sets: Mapping[int, set[str]], film: int, others: Ids) -> float:
    """Return how alike the sets (of genres, of tags) of a film and others are: the mean Jaccard.

    Films without a set are left out; where none is left it is NaN.
    """
    pairs = [(sets[film], sets[other]) for other in others if film in sets and other in sets]
    return float(np.mean([len(a & b) / len(a | b) for a, b in pairs])) if pairs else np.nan


def short_title(title: str, longest: int = 36) -> str:
    """Shorten a title for a table: "Good, the Bad and the Ugly, The (...) (1966)" begins "The"."""
    name = re.sub(r"^(.*), (The|A|An)$", r"\2 \1", title.split(" (")[0])
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
