"""CIFAR-10 as tensors: found or downloaded, verified, and split into train, validation and test.

The official files are pickles, and a pickle can run anything. So the checksum decides first: only
a file with the official SHA-256 is opened, and such a file may be read by plain `pickle`.
"""

import hashlib
import pickle
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assignment.common.download import MEND, Archive, RemoteFile
from assignment.common.files import Source, fingerprint
from assignment.common.settings import AssignmentError, Mode, mode
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
VALIDATION_SHARE = 0.1


class BatchError(AssignmentError):
    """A batch file is not the official one; names the file."""


@dataclass(frozen=True)
class Split:
    """Some images and their labels."""

    images: Tensor  # uint8 [N, 3, 32, 32]
    labels: Tensor  # int64 [N]

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Split":
        """Return the same images on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Cifar10:
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
            for part in (split.images, split.labels):
                digest.update(part.cpu().numpy().tobytes())
        return digest.hexdigest()


def load(split: int = 0) -> Cifar10:
    """Load CIFAR-10: synthetic in sample mode, else local files, else downloaded ones.

    `split` seeds the choice of the validation images; all results use 0.
    """
    if mode() is not Mode.SAMPLE:
        return read(ARCHIVE.obtain(), split)
    images, labels = draw_cifar10()
    sha256 = hashlib.sha256(images.numpy().tobytes()).hexdigest()
    source = Source("CIFAR-10 layout", "SAMPLE", "synthetic, drawn from a seed", sha256)
    return _divide(Split(images, labels), SHAPES, source, split)


def read(folder: Path, split: int = 0) -> Cifar10:
    """Read the official files (by name: the classes, five training batches, the test batch)."""
    source = ARCHIVE.source(folder)
    meta, *batches = (_read_official(folder / name) for name in sorted(ARCHIVE.files))
    pixels = torch.cat([torch.from_numpy(batch[b"data"]) for batch in batches])
    labels = torch.cat([torch.tensor(batch[b"labels"]) for batch in batches])
    classes = tuple(name.decode() for name in meta[b"label_names"])
    return _divide(Split(pixels.view(-1, 3, 32, 32), labels), classes, source, split)


def _read_official(path: Path) -> dict[bytes, Any]:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != ARCHIVE.files[path.name]:
        raise BatchError(
            f"{path} was not opened: its checksum is not that of the official file. {MEND} "
            "Pictures of your own go into a `Cifar10` made of tensors."
        )
    # Safe: these very bytes have the SHA-256 of the official file, which runs nothing.
    return pickle.loads(content, encoding="bytes")  # type: ignore[no-any-return]


def _divide(batches: Split, classes: tuple[str, ...], source: Source, split: int) -> Cifar10:
    """Hold a tenth of five batches out for validation; the sixth is the test set."""
    count = len(batches) * 5 // 6
    held_out = validation_mask(batches.labels[:count], split)
    positions = torch.arange(len(batches))
    parts = positions[:count][~held_out], positions[:count][held_out], positions[count:]
    train, validation, test = (Split(batches.images[p], batches.labels[p]) for p in parts)
    return Cifar10(train, validation, test, classes, source)


def validation_mask(labels: Tensor, split: int = 0) -> Tensor:
    """Mark a tenth of every class for validation, the same on every machine: bool [N]."""
    # The legacy generator, because its stream is frozen: the split outlives numpy's versions.
    generator = np.random.RandomState(split)
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        chosen = generator.permutation(len(members))[: round(len(members) * VALIDATION_SHARE)]
        mask[members[torch.from_numpy(chosen)]] = True
    return mask


def first_per_class(data: Cifar10, each: int) -> Cifar10:
    """Take only the first few training images of every class; the other splits stay."""
    labels = data.train.labels
    members = [(labels == label).nonzero()[:each, 0] for label in range(len(data.classes))]
    chosen = torch.cat(members).sort().values
    source = replace(
        data.source,
        detail=f"{data.source.detail}; {each} training images of each class",
        sha256=fingerprint({"whole": data.source.sha256, "training images of each class": str(each)}),
    )
    return replace(data, train=Split(data.train.images[chosen], labels[chosen]), source=source)
