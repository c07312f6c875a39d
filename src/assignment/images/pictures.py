"""Pictures of one's own as tensors: a folder of classes, or one that is split already.

Each becomes a square of one size and is stored like an image of CIFAR-10, uint8 in one tensor per
split, so that whatever takes those takes these. PIL has read every file before training begins.
"""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from assignment.common import progress
from assignment.common.files import AnyPath, Source, find_path
from assignment.common.settings import AssignmentError, report
from assignment.images.cifar10 import Dataset, Split
from assignment.images.resnet import import_torchvision

BYTES = 2_500_000_000  # that all pictures may take: 50,000 of 128 pixels a side, 16,000 of 224
SIDES = (224, 192, 160, 128, 96, 64)
NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
Files = list[tuple[Path, int]]  # pictures, each with the number of its class


class PicturesError(AssignmentError):
    """A folder does not hold pictures by class; says what was expected and found."""

    def __init__(self, problem: str) -> None:
        layout = "Expected is, for each of two or more classes, a folder of pictures (.jpg, .png)"
        super().__init__(f"{problem}. {layout}, in it or in its train/, val/ and test/.")


def load(
    folder: AnyPath,
    side: int | None = None,
    share: float = 0.15,
    seed: int = 0,
    skip_broken: bool = False,
) -> Dataset:
    """Read a folder that holds a folder of pictures for each class, like torchvision's ImageFolder.

    One with ``train`` and ``val`` or ``test`` is taken as split. A split that is not there is drawn
    by the seed: a share of every class, one picture at least.

    Parameters
    ----------
    side
        Pixels a side that pictures are stored with: the shorter side is shrunk or enlarged to them,
        of the longer one the middle is kept. None: 224, or as many as keep all pictures together
        below 2.5 GB (50,000 of them: 128).
    skip_broken
        Leave out a file that cannot be read, and say so, instead of refusing the folder.
    """
    if side is not None and side < 32:
        raise AssignmentError(f"side is {side}, expected 32 pixels or more, or None to choose.")
    if not 0 < share <= 1 / 3:
        raise AssignmentError(f"share is {share}, expected a number above 0 and up to a third.")
    folder = find_path(folder)
    try:
        files, classes = _find(folder, share, seed)
    except OSError as error:
        raise PicturesError(f"{folder} cannot be read ({error.strerror or error})") from None
    count = sum(map(len, files.values()))
    side = side or next((s for s in SIDES if count * 3 * s**2 <= BYTES), SIDES[-1])
    broken: dict[Path, str] = {}
    with progress.bar("reading pictures", count):
        splits = {name: _read_all(files[name], side, broken) for name in NAMES}
    if broken:
        reasons = [f"{path.relative_to(folder)} ({broken[path]})" for path in sorted(broken)]
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        found = f"{len(broken)} of {count:,} pictures in {folder} cannot be read: "
        found += ", ".join(reasons[:3]) + more
        if not skip_broken:
            raise AssignmentError(f"{found}. Mend them, or leave them out by skip_broken=True.")
        report(f"{found}. They are left out.")
    learned = splits["train"].labels.bincount(minlength=len(classes))
    if not all(map(len, splits.values())) or not learned.all():
        raise PicturesError(f"{folder}: so few pictures can be read that a class or split is empty")
    detail = f"{count - len(broken):,} pictures, stored with {side} pixels a side, seed {seed}"
    return Dataset(**splits, classes=classes, source=Source(folder.resolve().name, "other", detail))


def _find(folder: Path, share: float, seed: int) -> tuple[dict[str, Files], tuple[str, ...]]:
    """Return the pictures of each split, those to learn from in an order drawn by the seed."""
    found = {name.casefold(): folder / name for name in _folders(folder)}
    parts = {s: found[n] for s, names in NAMES.items() for n in names if n in found}
    if "train" not in parts or len(parts) == 1 < len(found):
        parts = {"train": folder}
    classes = _folders(parts["train"])
    if len(classes) < 2:
        raise PicturesError(f"{parts['train']} holds {len(classes)} folders")
    labels = {name: label for label, name in enumerate(classes)}
    files = {split: _pictures(part, labels) for split, part in parts.items()}
    missing = [split for split in NAMES if split not in parts]
    train = files.pop("train")
    counts = Counter(label for _, label in train)
    for name, label in labels.items():
        if counts[label] <= len(missing):
            few = f"{parts['train'] / name} holds {counts[label]} pictures"
            raise PicturesError(f"{few}, expected {len(missing) + 1} or more")
    files |= {split: [] for split in ("train", *missing)}
    seen = Counter[int]()
    for k in np.random.RandomState(seed).permutation(len(train)):
        path, label = train[k]
        place = seen[label] // max(1, round(share * counts[label]))
        files[[*missing, "train"][min(place, len(missing))]].append((path, label))
        seen[label] += 1
    return files, tuple(classes)


def _folders(part: Path) -> list[str]:
    found = (path.name for path in part.iterdir() if path.is_dir())
    return sorted(name for name in found if not name.startswith((".", "__")))


def _pictures(part: Path, labels: Mapping[str, int]) -> Files:
    if unknown := sorted(set(_folders(part)) - labels.keys()):
        raise PicturesError(f"{part} holds {', '.join(unknown)}: no class of training")
    theirs = import_torchvision().datasets.folder
    found = theirs.make_dataset(part, dict(labels), theirs.IMG_EXTENSIONS, allow_empty=True)
    return [(Path(path), label) for path, label in found if not Path(path).name.startswith(".")]


def _read_all(files: Files, side: int, broken: dict[Path, str]) -> Split:
    """Read pictures into one tensor; of those that cannot be read say why in `broken`."""
    images = torch.empty(len(files), 3, side, side, dtype=torch.uint8)
    labels: list[int] = []
    with ThreadPoolExecutor() as pool:  # PIL lets other threads run while it decodes
        read = pool.map(partial(_read, side=side), (path for path, _ in files))
        for (path, label), found in zip(files, read, strict=True):
            if isinstance(found, str):
                broken[path] = found
            else:
                images[len(labels)] = found
                labels.append(label)
            progress.done(1)
    return Split(images[: len(labels)], torch.tensor(labels, dtype=torch.int64))


def _read(path: Path, side: int) -> Tensor | str:
    """Return a picture, uint8 [3, side, side], or why there is none."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            file.draft(file.mode, (2 * side, 2 * side))  # a large JPEG is quicker decoded smaller
            image = ImageOps.exif_transpose(file)
        if image.mode == "F":
            return "what is white in pixels of type float is not known"
        if image.mode.startswith("I"):  # 16 bits, which PIL would cut off at 255
            image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
        if image.mode == "P":  # what is transparent keeps its colour
            image = image.convert("RGBA")
        square = ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(square)).permute(2, 0, 1)
    except Exception as error:  # a damaged file can raise nearly anything
        return f"{type(error).__name__}: {error}".splitlines()[0][:100]
