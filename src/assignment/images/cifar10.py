"""CIFAR-10 as tensors: found or downloaded, verified, and split into train, validation and test.

The official files are pickles, and a pickle can run anything. So the checksum decides first: only
a file with the official SHA-256 is opened, and such a file may be read by plain `pickle`.
"""

import hashlib
import pickle
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from assignment.common.download import MEND, Archive, RemoteFile
from assignment.common.files import Source
from assignment.common.settings import AssignmentError, Mode, mode
from assignment.common.tables import Table
from assignment.images.sample import SHAPES, draw_cifar10

ARCHIVE = Archive(
    name="CIFAR-10",
    remote=RemoteFile(
        name="cifar-10-python.tar.gz",
        urls=(
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "http://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        ),
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        size=170_498_071,
    ),
    folder="cifar-10-batches-py",
    files={
        "batches.meta": "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
        "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
        "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
        "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
        "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
        "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
        "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    },
)


@dataclass(frozen=True)
class Split:
    """Some images and their labels."""

    images: Tensor  # uint8 [N, 3, S, S]; of CIFAR-10 S is 32
    labels: Tensor  # int64 [N]

    def __repr__(self) -> str:
        return f"Split({len(self):,} x {list(self.images.shape[1:])})"

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Split":
        """Return the same images on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """The three splits, the names of the classes, and where they came from."""

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    source: Source

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all images and labels: a run on other data is another run."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for tensor in (split.images, split.labels):
                digest.update(tensor.cpu().contiguous().numpy().data)  # no copy of gigabytes
        return digest.hexdigest()

    def __repr__(self) -> str:
        counts = [f"{len(split):,}" for split in (self.train, self.validation, self.test)]
        return f"{self.source.what}: {' + '.join(counts)} images of {len(self.classes)} classes"

    def _repr_html_(self) -> str:
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        counts = {
            name: split.labels.bincount(minlength=len(self.classes)).tolist()
            for name, split in splits.items()
        }
        return Table(pd.DataFrame({"class": self.classes, **counts}), repr(self))._repr_html_()


def load() -> Dataset:
    """Load CIFAR-10, downloaded if need be; in sample mode, what stands in for it."""
    if mode() is not Mode.SAMPLE:
        return read(ARCHIVE.obtain())
    images, labels = draw_cifar10()
    sha256 = hashlib.sha256(images.numpy().tobytes()).hexdigest()
    source = Source("CIFAR-10 layout", "SAMPLE", "synthetic, drawn from a seed", sha256)
    return Dataset(*_divide(images, labels), SHAPES, source)


def read(folder: str | Path) -> Dataset:
    """Read the official files, by name: the classes, five training batches, the test batch."""
    source = ARCHIVE.source(folder := Path(folder))
    contents = []
    for name, official in sorted(ARCHIVE.files.items()):
        content = (folder / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != official:
            raise AssignmentError(
                f"{folder / name} was not opened: its checksum is not that of the official file. "
                f"{MEND} Pictures of your own are read by `pictures.load`."
            )
        # Safe: these very bytes have the SHA-256 of the official file, which runs nothing.
        contents.append(pickle.loads(content, encoding="latin1"))
    meta, *batches = contents
    images = torch.cat([torch.from_numpy(batch["data"]) for batch in batches]).view(-1, 3, 32, 32)
    labels = torch.cat([torch.tensor(batch["labels"]) for batch in batches])
    return Dataset(*_divide(images, labels), tuple(meta["label_names"]), source)


def _divide(images: Tensor, labels: Tensor) -> tuple[Split, Split, Split]:
    count = len(labels) * 5 // 6  # the last of the six batches is the test set
    held_out = validation_mask(labels[:count])
    train = Split(images[:count][~held_out], labels[:count][~held_out])
    validation = Split(images[:count][held_out], labels[:count][held_out])
    return train, validation, Split(images[count:].clone(), labels[count:])  # a view would keep all


def validation_mask(labels: Tensor, split: int = 0) -> Tensor:
    """Mark a tenth of every class for validation, the same on every machine: bool [N]."""
    generator = np.random.RandomState(split)  # legacy: the same stream in every version of numpy
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = generator.permutation((labels == label).nonzero().squeeze(1).numpy())
        mask[members[: round(len(members) * 0.1)]] = True
    return mask


def first_per_class(data: Dataset, each: int) -> Dataset:
    """Take only the first few training images of every class; the other splits stay."""
    labels = data.train.labels
    members = [(labels == label).nonzero()[:each, 0] for label in range(len(data.classes))]
    chosen, _ = torch.cat(members).sort()
    train = Split(data.train.images[chosen], labels[chosen])
    detail = f"{data.source.detail}; {each} training images of each class"
    return replace(data, train=train, source=replace(data.source, detail=detail))
