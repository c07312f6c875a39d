"""The synthetic ratings: the same every time, with films hardly rated."""

from pathlib import Path

import numpy as np
import pytest

from assignment.movies import movielens, sample


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
def test_popularity_is_skewed_and_ratings_use_the_whole_scale() -> None:
    data = movielens.load()
    assert data.source.origin == "SAMPLE"
    counts = data.ratings["movieId"].value_counts().reindex(data.movies.index, fill_value=0)
    assert min((counts < 10).sum(), (counts > 100).sum()) >= 5
    assert counts.nlargest(len(counts) // 5).sum() > 0.35 * counts.sum()  # a fifth if alike
    assert set(data.ratings["rating"]) == {half / 2 for half in range(1, 11)}
    assert 0.25 < (data.ratings["rating"] >= movielens.LIKED).mean() < 0.75
    assert data.movies["title"].is_unique
