"""The synthetic ratings: the same every time, with neighbours to find and films hardly rated."""

from pathlib import Path

import numpy as np
import pytest

from assignment.movies import movielens, sample

QUERIES = ("Apollo 13 (1995)", "Toy Story (1995)", "Home Alone (1990)")


@pytest.fixture
def data(sample_mode: None) -> movielens.MovieLens:
    return movielens.load()


def test_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    written: list[list[bytes]] = []
    for seed in (0, 0, 1):
        np.random.seed(len(written))  # noqa: NPY002 - the sample must not depend on it
        sample.write_movielens(tmp_path, seed)
        written.append([(tmp_path / name).read_bytes() for name in movielens.ARCHIVE.files])
    first, again, other = written
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("query", QUERIES)
def test_query_has_neighbours_of_its_own_genres(data: movielens.MovieLens, query: str) -> None:
    likes = movielens.build_likes(data)
    together = movielens.count_colikes(likes).toarray().astype(float)
    films = data.movies.loc[likes.movies]
    (row,) = np.flatnonzero(films["title"] == query)
    cosine = together @ together[row] / np.maximum(np.linalg.norm(together, axis=1), 1e-9)
    cosine[row] = -1
    nearest = films.iloc[np.argsort(-cosine)[:10]]
    assert (nearest["genres"] == films["genres"].iloc[row]).sum() >= 5


def test_popularity_is_skewed_and_ratings_use_the_whole_scale(data: movielens.MovieLens) -> None:
    assert data.source.origin == "SAMPLE"
    counts = data.ratings["movieId"].value_counts().reindex(data.movies.index, fill_value=0)
    assert (counts < 10).sum() >= 5
    assert (counts > 100).sum() >= 5
    top_fifth = counts.nlargest(len(counts) // 5).sum() / counts.sum()
    assert top_fifth > 0.35, "with equal popularity it would be a fifth"
    assert set(data.ratings["rating"]) == {half / 2 for half in range(1, 11)}
    assert 0.25 < (data.ratings["rating"] >= movielens.LIKED).mean() < 0.75
    assert data.movies["year"].between(1900, 2020).all()
    assert data.movies["title"].is_unique
