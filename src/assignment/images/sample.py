"""A small synthetic stand-in for CIFAR-10 and for the pretrained network.

Written in the official files' own layout and read by the same loader as the real ones, so a
notebook runs with no network and no data; everything drawn from a seed, in a second or two.
Nothing here is a result, and whatever is made from it is labelled SAMPLE.
"""

import pickle
import struct
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

IMAGES_PER_BATCH = 400
SHAPES = (
    "disk",
    "ring",
    "square",
    "frame",
    "triangle",
    "cross",
    "bars",
    "pillars",
    "slope",
    "dots",
)
HARD = 0.25  # share of images that are half another class: errors to look at


def write_cifar10(folder: Path, seed: int = 0) -> None:
    """Write seven files in the layout of cifar-10-batches-py, ten easily told shapes in them."""
    generator = np.random.default_rng(seed)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for name in names:
        labels = generator.permutation(np.arange(IMAGES_PER_BATCH) % len(SHAPES))
        pixels = draw_shapes(labels, generator)
        title = (
            "testing batch 1 of 1" if name == "test_batch" else f"training batch {name[-1]} of 5"
        )
        files = [f"{SHAPES[label]}_{i:04d}.png".encode() for i, label in enumerate(labels)]
        content: dict[bytes, object] = {
            b"batch_label": title.encode(),
            b"labels": labels.tolist(),
            b"data": pixels.reshape(len(labels), -1),
            b"filenames": files,
        }
        (folder / name).write_bytes(python2_pickle(content))
    meta = {b"num_cases_per_batch": IMAGES_PER_BATCH, b"num_vis": 3072}
    meta_names = {b"label_names": [name.encode() for name in SHAPES]}
    (folder / "batches.meta").write_bytes(python2_pickle(meta | meta_names))


def draw_shapes(labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one noisy 32 x 32 image per label; a share of them is half another class.

    Returns
    -------
    array, uint8 [N, 3, 32, 32]
    """
    count = len(labels)
    other = (labels + generator.integers(1, len(SHAPES), count)) % len(SHAPES)
    hard = generator.random(count) < HARD
    weight = np.where(hard, generator.uniform(0.4, 0.75, count), 1.0)[:, None, None]
    mask = weight * _masks(labels, generator) + (1 - weight) * _masks(other, generator)
    ground = generator.uniform(0.0, 0.35, (count, 3, 1, 1))
    ink = generator.uniform(0.5, 1.0, (count, 3, 1, 1))
    image = ground + (ink - ground) * mask[:, None]
    image += generator.normal(0, 0.08, image.shape)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def _masks(labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.float64]:
    """Where the ink goes, [N, 32, 32]: the shape at a random place and size."""
    count = len(labels)
    centre = generator.uniform(-4, 4, (2, count, 1, 1)) + 15.5
    size = generator.uniform(7, 11, (count, 1, 1))
    y, x = (
        np.arange(32).reshape(shape) - c
        for shape, c in zip(((32, 1), (1, 32)), centre, strict=True)
    )
    period = size / 1.6
    radius, span = np.hypot(x, y), np.maximum(abs(x), abs(y))
    inside = span < size
    drawn = (
        radius < size,
        (radius < size) & (radius > 0.6 * size),
        span < 0.85 * size,
        (span < 0.9 * size) & (span > 0.55 * size),
        (abs(x) < (y + size) / 2) & (y < size),
        inside & (np.minimum(abs(x), abs(y)) < 0.28 * size),
        inside & (np.mod(y, period) < period / 2),
        inside & (np.mod(x, period) < period / 2),
        inside & (np.mod(x + y, 1.4 * period) < 0.7 * period),
        inside
        & (np.hypot(np.mod(x, period) - period / 2, np.mod(y, period) - period / 2) < 0.3 * period),
    )
    asked = [labels[:, None, None] == k for k in range(len(SHAPES))]
    return np.asarray(np.select(asked, drawn), dtype=np.float64)


def python2_pickle(content: object) -> bytes:
    """Pickle bytes, numbers, lists, dicts and uint8 arrays as Python 2 wrote the official files."""
    return b"\x80\x02" + _opcodes(content) + b"."


def _opcodes(value: object) -> bytes:
    if isinstance(value, bytes):
        return pickle.SHORT_BINSTRING + struct.pack("<B", len(value)) + value
    if isinstance(value, int):
        return pickle.BININT + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_opcodes, value)) + pickle.APPENDS
    if isinstance(value, dict):
        pairs = b"".join(_opcodes(key) + _opcodes(item) for key, item in value.items())
        return b"}(" + pairs + pickle.SETITEMS
    assert isinstance(value, np.ndarray), "only what a batch contains"
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    code = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
    kind = code + b"(K\x03U\x01|NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb"
    shape = b"".join(map(_opcodes, value.shape)) + pickle.TUPLE2
    raw = pickle.BINSTRING + struct.pack("<i", value.size) + value.tobytes()
    return made + b"(K\x01" + shape + kind + pickle.NEWFALSE + raw + b"tb"


class SmallBackbone(nn.Module):
    """A narrow convolutional network with ResNet's names, seeded and untrained.

    Its frozen features are random projections: good enough to tell simple shapes apart.
    """

    def __init__(self, seed: int = 0, width: int = 16) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.relu = nn.ReLU()
            self.layer1 = _stage(width, width)
            self.layer2 = _stage(width, 2 * width)
            self.layer3 = _stage(2 * width, 4 * width)
            self.layer4 = _stage(4 * width, 8 * width)
            self.fc = nn.Linear(8 * width, 1000)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] to what `fc` makes of the pooled features."""
        x = self.relu(self.bn1(self.conv1(images)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


def _stage(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
