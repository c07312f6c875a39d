"""CIFAR-10 as tensors: found or downloaded, checked, and split.

The official files are pickles, which could run anything. They are read by an unpickler that admits
only what an official batch contains, and every batch is checked before a tensor is made of it.
"""

import io
import pickle
import pickletools
import reprlib
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from assignment.common import files, settings
from assignment.common.download import MEND, PATIENT, Archive, Effort, RemoteFile
from assignment.common.files import Source
from assignment.common.settings import AssignmentError, Mode
from assignment.images import sample

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
TRAIN_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
TITLES = {b: f"training batch {b[-1]} of 5" for b in TRAIN_BATCHES} | {
    "test_batch": "testing batch 1 of 1"
}
PIXELS = 3 * 32 * 32
VALIDATION_SHARE = 0.1
# What the official pickles are made of: a file of 31 MB in 40,000 steps of these kinds.
STEPS = frozenset(
    {"MARK", "APPENDS", "BINPUT", "LONG_BINPUT", "BININT", "BININT1", "BININT2", "SHORT_BINSTRING"}
)
RARE_STEPS = frozenset(
    {"PROTO", "GLOBAL", "EMPTY_DICT", "EMPTY_LIST", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
    | {"REDUCE", "BUILD", "NONE", "NEWFALSE", "BINSTRING", "SETITEMS", "STOP"}
)
MOST_RARE, MOST_STEPS, MOST_BYTES = 4, 1_000_000, 40_000_000


class BatchError(AssignmentError):
    """A batch file is not what it should be; names the file and the fault."""


@dataclass(frozen=True)
class Split:
    """Some images and their labels.

    Attributes
    ----------
    images : Tensor, uint8 [N, 3, 32, 32]
    labels : Tensor, int64 [N]
    """

    images: Tensor
    labels: Tensor

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


def first_per_class(data: Cifar10, each: int) -> Cifar10:
    """Keep only the first few training images of every class; the other splits stay."""
    labels = data.train.labels
    kept = [(labels == label).nonzero()[:each, 0] for label in range(len(data.classes))]
    chosen = torch.cat(kept).sort().values
    part = {"whole": data.source.sha256, "training images of each class": str(each)}
    source = replace(
        data.source,
        detail=f"{data.source.detail}; {each} training images of each class",
        sha256=files.fingerprint(part),
    )
    return replace(data, train=Split(data.train.images[chosen], labels[chosen]), source=source)


def load(split: int = 0, effort: Effort = PATIENT) -> Cifar10:
    """Load CIFAR-10: synthetic in sample mode, else local files, else downloaded ones.

    Parameters
    ----------
    split : int
        Which of the stratified train / validation splits; 0 is the one all results use.
    effort : Effort
        How hard to try when the data must be downloaded.
    """
    if settings.mode() is Mode.SAMPLE:
        with tempfile.TemporaryDirectory() as folder:
            sample.write_cifar10(Path(folder))
            return read(Path(folder), split)
    return read(ARCHIVE.obtain(effort), split)


def read(folder: Path, split: int = 0) -> Cifar10:
    """Read the seven batch files, check them and split the training images."""
    source = ARCHIVE.source(folder)
    meta = unpickle(folder / "batches.meta")
    count, classes = _checked_meta(folder / "batches.meta", meta)
    batches = {name: _checked_batch(folder / name, count, len(classes)) for name in TITLES}
    images = torch.cat([batches[name].images for name in TRAIN_BATCHES])
    labels = torch.cat([batches[name].labels for name in TRAIN_BATCHES])
    validation = validation_mask(labels, split)
    return Cifar10(
        train=Split(images[~validation], labels[~validation]),
        validation=Split(images[validation], labels[validation]),
        test=batches["test_batch"],
        classes=classes,
        source=source,
    )


def validation_mask(labels: Tensor, split: int = 0) -> Tensor:
    """Choose a tenth of every class for validation, the same on every machine.

    Parameters
    ----------
    labels : Tensor, int64 [N]
    split : int
        Seed of the choice.

    Returns
    -------
    Tensor, bool [N]
        True where an image belongs to the validation split.
    """
    # The legacy generator, because its stream is frozen: the split outlives numpy's versions.
    generator = np.random.RandomState(split)
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for label in sorted(set(labels.tolist())):
        members = (labels == label).nonzero().squeeze(1)
        chosen = generator.permutation(len(members))[: round(len(members) * VALIDATION_SHARE)]
        mask[members[torch.from_numpy(chosen)]] = True
    return mask


# --- files ----------------------------------------------------------------------------------------


class _Array:
    """Stands in for numpy's array while a batch is unpickled, and takes bytes of pixels only."""

    def __setstate__(self, state: tuple[object, ...]) -> None:
        _, shape, dtype, by_column, raw = state
        if not isinstance(dtype, _Type) or dtype.code != "u1" or by_column:
            raise pickle.UnpicklingError("its pixels are not an array of unsigned bytes")
        self.pixels = np.frombuffer(raw, np.uint8).reshape(shape)  # type: ignore[call-overload]


class _Type:
    """Stands in for numpy's dtype."""

    def __init__(self, code: bytes | str, *_: object) -> None:
        self.code = code.decode() if isinstance(code, bytes) else code

    def __setstate__(self, state: tuple[object, ...]) -> None:
        """Byte order and padding: of no meaning for single bytes."""


class _Unpickler(pickle.Unpickler):
    """Admits the three names that occur in an official batch, and runs none of numpy's code."""

    ADMITTED = {  # noqa: RUF012 - never changed
        ("numpy.core.multiarray", "_reconstruct"): lambda kind, shape, code: _Array(),
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Type,
    }

    def find_class(self, module: str, name: str) -> object:
        try:
            return self.ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module[:40]}.{name[:40]}, which no batch needs: "
                "refused, nothing was run"
            ) from None


def _screen(raw: bytes) -> None:
    """Refuse, before any of it takes effect, what no official batch is written with.

    Even without a single name a pickle can exhaust memory (a memo entry numbered 2^32) or the
    stack (tuples in tuples); a few damaged bytes are enough.
    """
    seen: Counter[str] = Counter()
    for count, (step, argument, _) in enumerate(pickletools.genops(raw)):
        seen[step.name] += 1
        if step.name not in STEPS and (step.name not in RARE_STEPS or seen[step.name] > MOST_RARE):
            raise pickle.UnpicklingError(f"it holds a step {step.name} that no batch needs")
        memo = int(argument or 0) if step.name == "LONG_BINPUT" else 0
        if max(count, memo) > MOST_STEPS:
            raise pickle.UnpicklingError(f"it has, or numbers, more than {MOST_STEPS:,} steps")


def unpickle(path: Path) -> dict[bytes, object]:
    """Read a pickle that may hold nothing but what an official batch holds."""
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise pickle.UnpicklingError(f"it has {size:,} bytes, expected {MOST_BYTES:,} at most")
        raw = path.read_bytes()
        _screen(raw)
        content = _Unpickler(io.BytesIO(raw), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = str(error) or type(error).__name__
        raise BatchError(f"{path} cannot be read: {reason}. {MEND}") from None
    if not isinstance(content, dict):
        raise BatchError(f"{path} holds a {type(content).__name__}, expected a dict. {MEND}")
    return content


def _checked_meta(path: Path, meta: dict[bytes, object]) -> tuple[int, tuple[str, ...]]:
    count, names = meta.get(b"num_cases_per_batch"), meta.get(b"label_names")
    if not isinstance(count, int) or count < 1:
        raise BatchError(f"{path}: num_cases_per_batch is {count!r}, expected a count. {MEND}")
    if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
        raise BatchError(f"{path}: label_names is not a list of names. {MEND}")
    if len(names) != 10 or len(set(names)) != 10:
        raise BatchError(
            f"{path}: {len(names)} label names, {len(set(names))} of them different, expected 10. "
            f"{MEND}"
        )
    return count, tuple(name.decode("ascii", "replace") for name in names)


def _checked_batch(path: Path, count: int, classes: int) -> Split:
    batch = unpickle(path)
    title, labels, data = (batch.get(key) for key in (b"batch_label", b"labels", b"data"))
    fault = ""
    if title != TITLES[path.name].encode():
        fault = f"its title is {reprlib.repr(title)}, expected {TITLES[path.name]!r}"
    elif not isinstance(data, _Array) or not hasattr(data, "pixels"):
        fault = "it holds no pixels"
    elif data.pixels.shape != (count, PIXELS):
        fault = (
            f"its pixels have the shape {data.pixels.shape}, expected {(count, PIXELS)} "
            "(batches.meta says how many)"
        )
    elif not isinstance(labels, list) or len(labels) != count:
        fault = f"it does not hold {count:,} labels"
    elif not all(type(label) is int and 0 <= label < classes for label in labels):
        fault = f"a label is not a whole number from 0 to {classes - 1}"
    if fault:
        raise BatchError(f"{path}: {fault}. {MEND}")
    assert isinstance(data, _Array), "checked above"
    pixels = torch.from_numpy(data.pixels.reshape(count, 3, 32, 32).copy())
    return Split(pixels, torch.tensor(labels, dtype=torch.int64))
