"""CIFAR-10: what is read, what is refused unopened, and how it is split."""

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from assignment.common import settings
from assignment.common.files import sha256
from assignment.images import cifar10, pixels
from assignment.images.sample import SHAPES

NAMES = sorted(cifar10.ARCHIVE.files)


def batch(name: str) -> dict[str, object]:
    data = np.random.default_rng(NAMES.index(name)).integers(0, 256, (20, 3072), dtype=np.uint8)
    return {"data": data, "labels": [*range(10)] * 2}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / NAMES[0]).write_bytes(pickle.dumps({"label_names": ["a", "b"] * 5}))
    for name in NAMES[1:]:
        (tmp_path / name).write_bytes(pickle.dumps(batch(name)))
    digests = {name: sha256(tmp_path / name) for name in NAMES}
    official = replace(cifar10.ARCHIVE, folder=str(tmp_path), files=digests)  # so they are declared
    monkeypatch.setattr(cifar10, "ARCHIVE", official)
    return tmp_path


@pytest.mark.needs("real_data")
def test_real_data_are_what_torchvision_reads() -> None:
    data = cifar10.read(settings.data_folder() / cifar10.ARCHIVE.folder)
    folder = str(settings.data_folder())
    train, test = (torchvision.datasets.CIFAR10(folder, train) for train in (True, False))
    mask = cifar10.validation_mask(torch.tensor(train.targets)).numpy()
    rows = ((data.train, train, ~mask), (data.validation, train, mask), (data.test, test, ...))
    for split, theirs, chosen in rows:
        assert (split.images.permute(0, 2, 3, 1).numpy() == theirs.data[chosen]).all()
        assert (split.labels.numpy() == np.array(theirs.targets)[chosen]).all()
    assert list(data.classes) == train.classes
    assert (data.source.origin, data.source.sha256[:16]) == ("official", "3971f136da7c6f97")
    assert train.url in cifar10.ARCHIVE.remote.urls
    for channel, mean, std in zip(range(3), *pixels.CIFAR, strict=True):
        assert mean == pytest.approx(train.data[..., channel].mean() / 255, abs=5e-5)
        assert std == pytest.approx(train.data[..., channel].std() / 255, abs=1e-4)


def test_split_is_pinned_stratified_and_moves_with_its_seed() -> None:
    labels = torch.arange(50_000) % 10
    first, second = cifar10.validation_mask(labels), cifar10.validation_mask(labels, split=1)
    members = np.flatnonzero(first.numpy()).astype("<i8")
    assert hashlib.sha256(members.tobytes()).hexdigest().startswith("39010c31f7e19609d4c8edff")
    assert [torch.bincount(labels[mask]).tolist() for mask in (first, second)] == [[500] * 10] * 2
    assert 400 < int((first & second).sum()) < 600, "two tenths share a hundredth of 50,000"


def test_every_image_lands_in_one_split_and_the_first_per_class_are_the_first(folder: Path) -> None:
    data = cifar10.load()
    written = [image.tobytes() for name in NAMES[1:] for image in np.asarray(batch(name)["data"])]
    splits = (data.train, data.validation, data.test)
    assert [len(split) for split in splits] == [90, 10, 20]
    read = [image.numpy().tobytes() for split in splits for image in split.images]
    assert sorted(read) == sorted(written)
    assert read[100:] == written[100:], "the last batch is the test set"
    assert data.classes == ("a", "b") * 5
    few, labels = cifar10.first_per_class(data, 3), data.train.labels.tolist()
    first = [i for i, label in enumerate(labels) if labels[:i].count(label) < 3]
    assert few.train.labels.tolist() == [labels[i] for i in first]
    assert torch.equal(few.train.images, data.train.images[first])
    assert (few.validation, few.test) == (data.validation, data.test)
    others = (cifar10.read(folder), few, cifar10.first_per_class(data, 4))
    assert len({each.fingerprint for each in (data, *others)}) == 3
    assert "3 training images of each class" in few.source.detail


CODE = b"cos\nmkdir\n(Vran\ntR."  # makes a folder when it is unpickled


@pytest.mark.parametrize("name", ["batches.meta", "data_batch_3", "test_batch"])
@pytest.mark.parametrize("content", [CODE, b"", None])
def test_file_that_is_not_official_is_refused_unopened(
    folder: Path, name: str, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    reason = "missing in" if content is None else "was not opened: its checksum"
    with pytest.raises(settings.AssignmentError, match=rf"{name} {reason} .*`make data`"):
        cifar10.read(folder)
    assert not Path("ran").exists()


@pytest.mark.usefixtures("sample_mode")
def test_the_sample_has_ten_classes_in_equal_parts_no_image_twice_and_the_same_again() -> None:
    data = cifar10.load()
    splits = (data.train, data.validation, data.test)
    assert data.classes == SHAPES
    assert [torch.bincount(s.labels).tolist() for s in splits] == [[90] * 10, [10] * 10, [20] * 10]
    images = torch.cat([split.images for split in splits])
    assert (images.dtype, images.shape) == (torch.uint8, (1200, 3, 32, 32))
    assert len({image.numpy().tobytes() for image in images}) == 1200
    assert (data.source.what, data.source.origin) == ("CIFAR-10 layout", "SAMPLE")
    assert cifar10.load().fingerprint == data.fingerprint
