"""The sample: the same every time, read by the loaders of the real data, and worth looking at."""

import io
import pickle
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional

from assignment.images import cifar10, pixels, resnet
from assignment.images import sample as image_sample
from assignment.movies import movielens, sample

QUERIES = ("Apollo 13 (1995)", "Toy Story (1995)", "Home Alone (1990)")
WRITERS = {"cifar10": image_sample.write_cifar10, "movielens": sample.write_movielens}


def written(write: Callable[..., None], folder: Path, **seed: int) -> dict[str, bytes]:
    folder.mkdir()
    write(folder, **seed)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", WRITERS)
def test_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path, name: str) -> None:
    write = WRITERS[name]
    first = written(write, tmp_path / "first")
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - the sample must not depend on it
    assert written(write, tmp_path / "again", seed=0) == first
    other = written(write, tmp_path / "other", seed=1)
    assert other.keys() == first.keys()
    fixed = {"batches.meta"}  # the names of the classes
    assert {name for name in first if other[name] == first[name]} == fixed & first.keys()


@pytest.mark.usefixtures("sample_mode")
def test_sample_takes_seconds() -> None:
    """The promise is two seconds; a slow machine gets five."""
    start = time.process_time()
    cifar10.load()
    movielens.load()
    resnet.load_pretrained()
    assert time.process_time() - start < 5


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> cifar10.Cifar10:
    """Through the very reader that the real files go through."""
    folder = tmp_path_factory.mktemp("images")
    image_sample.write_cifar10(folder)
    assert {path.name for path in folder.iterdir()} == set(cifar10.ARCHIVE.files)
    return cifar10.read(folder)


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> movielens.MovieLens:
    folder = tmp_path_factory.mktemp("ratings")
    sample.write_movielens(folder)
    assert {path.name for path in folder.iterdir()} == set(movielens.ARCHIVE.files)
    return movielens.read(folder)


# --- images ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sample_mode")
def test_sample_mode_loads_just_these_images(images: cifar10.Cifar10) -> None:
    data = cifar10.load()
    assert data.source.origin == "SAMPLE"
    assert data.source.sha256 == images.source.sha256
    assert torch.equal(data.train.images, images.train.images)


def test_ten_classes_in_equal_parts(images: cifar10.Cifar10) -> None:
    assert len(set(images.classes)) == 10
    counts = [
        torch.bincount(part.labels, minlength=10).tolist()
        for part in (images.train, images.validation, images.test)
    ]
    assert counts == [[180] * 10, [20] * 10, [40] * 10]
    every = torch.cat([images.train.images, images.validation.images, images.test.images])
    assert len({image.numpy().tobytes() for image in every}) == len(every)


def seen(split: cifar10.Split) -> Tensor:
    images = pixels.normalise(pixels.to_float(split.images))
    return images.contiguous(memory_format=torch.channels_last)  # several times faster on a CPU


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On a busy machine the threads of so small a network wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def wrong_by_class(guess: Tensor, truth: Tensor) -> list[int]:
    return torch.bincount(truth[guess != truth], minlength=10).tolist()


@pytest.mark.usefixtures("one_thread")
def test_frozen_features_tell_the_classes_apart_but_not_all(images: cifar10.Cifar10) -> None:
    network = image_sample.SmallBackbone().eval()
    network.fc = nn.Identity()  # type: ignore[assignment]
    with torch.no_grad():
        train, test = (network(seen(part)).numpy() for part in (images.train, images.test))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    model.fit(train, images.train.labels.numpy())
    guess = torch.from_numpy(model.predict(test))
    accuracy = (guess == images.test.labels).double().mean()
    assert 0.60 < accuracy < 0.95
    wrong = wrong_by_class(guess, images.test.labels)
    assert sum(count > 0 for count in wrong) >= 6, "the grids of errors are not empty"


@pytest.mark.usefixtures("one_thread")
def test_finetuning_tells_the_classes_apart_but_not_all(images: cifar10.Cifar10) -> None:
    torch.manual_seed(0)
    network = image_sample.SmallBackbone()
    network.fc = nn.Linear(network.fc.in_features, 10)
    network.to(memory_format=torch.channels_last)
    inputs, labels = seen(images.train), images.train.labels
    epochs, batch = 3, 60
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    steps = epochs * len(labels) // batch
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels)).split(batch):
            optimiser.zero_grad()
            functional.cross_entropy(network(inputs[chosen]), labels[chosen]).backward()
            optimiser.step()
            decay.step()
    network.eval()
    with torch.no_grad():
        guess = network(seen(images.test)).argmax(1)
    accuracy = (guess == images.test.labels).double().mean()
    assert 0.60 < accuracy < 0.95
    assert sum(count > 0 for count in wrong_by_class(guess, images.test.labels)) >= 6


def python2(raw: bytes) -> object:
    """As torchvision reads the official files."""
    with warnings.catch_warnings():  # numpy's, about how the official pickles spell a dtype
        warnings.simplefilter("ignore")
        return pickle.load(io.BytesIO(raw), encoding="latin1")


def test_written_batch_is_what_torchvision_would_read(tmp_path: Path) -> None:
    image_sample.write_cifar10(tmp_path)
    batch = python2((tmp_path / "data_batch_2").read_bytes())
    assert isinstance(batch, dict)
    assert batch["batch_label"] == "training batch 2 of 5"
    assert batch["data"].shape == (image_sample.IMAGES_PER_BATCH, 3072)
    assert batch["data"].dtype == np.uint8
    assert len(batch["labels"]) == len(batch["filenames"]) == image_sample.IMAGES_PER_BATCH
    meta = python2((tmp_path / "batches.meta").read_bytes())
    assert isinstance(meta, dict)
    assert meta["label_names"] == list(image_sample.SHAPES)
    test = python2((tmp_path / "test_batch").read_bytes())
    assert isinstance(test, dict)
    assert torch.equal(
        cifar10.read(tmp_path).test.images,
        torch.from_numpy(test["data"].copy()).reshape(-1, 3, 32, 32),
    )


plain = st.recursive(
    st.binary(max_size=255) | st.integers(-(2**31), 2**31 - 1),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=9), inner, max_size=4)
    ),
)


@hypothesis.settings(deadline=None)
@given(content=plain)
def test_python2_pickle_is_read_back_the_same(content: object) -> None:
    assert pickle.loads(image_sample.python2_pickle(content), encoding="bytes") == content


@hypothesis.settings(deadline=None)
@given(shape=st.tuples(st.integers(0, 5), st.integers(0, 5)), seed=st.integers(0, 99))
def test_python2_pickle_of_pixels_is_read_back_the_same(shape: tuple[int, int], seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    result = python2(image_sample.python2_pickle(array))
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.uint8
    assert np.array_equal(result, array)


# --- ratings --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sample_mode")
def test_sample_mode_loads_just_these_ratings(ratings: movielens.MovieLens) -> None:
    data = movielens.load()
    assert data.source.origin == "SAMPLE"
    assert data.ratings.equals(ratings.ratings)
    assert data.movies.equals(ratings.movies)


@pytest.mark.parametrize("query", QUERIES)
def test_query_has_neighbours_of_its_own_kind(ratings: movielens.MovieLens, query: str) -> None:
    liked = movielens.build_likes(ratings)
    together = movielens.count_colikes(liked).toarray().astype(float)
    length = np.maximum(np.linalg.norm(together, axis=1, keepdims=True), 1e-9)
    films = ratings.movies.loc[liked.movies]
    (row,) = np.flatnonzero(films["title"] == query)
    cosine = (together / length) @ (together[row] / length[row])
    cosine[row] = -1
    nearest = films.iloc[np.argsort(-cosine)[:10]]
    assert query not in nearest["title"].tolist()
    assert (nearest["genres"] == films["genres"].iloc[row]).sum() >= 5


def test_popularity_is_skewed_with_cold_and_with_warm_films(ratings: movielens.MovieLens) -> None:
    counts = ratings.ratings["movieId"].value_counts()
    counts = counts.reindex(ratings.movies.index, fill_value=0).sort_values(ascending=False)
    assert (counts < 10).sum() >= 5
    assert (counts > 100).sum() >= 5
    top_fifth = counts.iloc[: len(counts) // 5].sum() / counts.sum()
    assert top_fifth > 0.35, "with equal popularity it would be a fifth"
    assert counts.mean() > counts.median()


def test_ratings_use_the_whole_scale_and_every_film_has_a_year(
    ratings: movielens.MovieLens,
) -> None:
    assert set(ratings.ratings["rating"]) == {half / 2 for half in range(1, 11)}
    assert ratings.movies["year"].between(1900, 2020).all()
    assert ratings.movies["title"].is_unique
    assert set(QUERIES) <= set(ratings.movies["title"])
    share = (ratings.ratings["rating"] >= movielens.LIKED).mean()
    assert 0.25 < share < 0.75
