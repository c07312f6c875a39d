"""Small synthetic stand-ins for both datasets and for the pretrained network.

They are written in the official files' own layout and read by the same loaders as the real ones,
so a notebook runs with no network and no data; everything drawn from a seed, in a second or two.
Nothing here is a result, and whatever is made from it is labelled SAMPLE.
"""

import csv
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
USERS, FILMS, COLD = 500, 320, 12
# Well-known films by taste group, so that a reader can judge the neighbours of the three queries.
KNOWN = {
    "Adventure|Drama|Thriller": (
        "Apollo 13 (1995)", "Fugitive, The (1993)", "Braveheart (1995)", "Titanic (1997)",
        "Saving Private Ryan (1998)", "Gladiator (2000)", "Speed (1994)", "True Lies (1994)",
        "Crimson Tide (1995)", "Clear and Present Danger (1994)", "Top Gun (1986)",
    ),
    "Animation|Children|Comedy": (
        "Toy Story (1995)", "Toy Story 2 (1999)", "Finding Nemo (2003)", "Shrek (2001)",
        "Monsters, Inc. (2001)", "Lion King, The (1994)", "Aladdin (1992)", "Up (2009)",
        "Incredibles, The (2004)", "WALL·E (2008)", "Babe (1995)", "Bug's Life, A (1998)",
    ),
    "Children|Comedy": (
        "Home Alone (1990)", "Mrs. Doubtfire (1993)", "Big (1988)", "Jumanji (1995)",
        "Liar Liar (1997)", "Santa Clause, The (1994)", "Matilda (1996)", "Parent Trap, The (1998)",
        "Honey, I Shrunk the Kids (1989)", "Beethoven (1992)", "Home Alone 2 (1992)",
    ),
    "Action|Sci-Fi": (
        "Star Wars: Episode IV - A New Hope (1977)", "Matrix, The (1999)", "Alien (1979)",
        "Terminator 2: Judgment Day (1991)", "Blade Runner (1982)", "Aliens (1986)",
        "Jurassic Park (1993)", "Total Recall (1990)", "Predator (1987)", "Gattaca (1997)",
    ),
    "Horror": (),
    "Romance|Drama": (),
    "Western": (),
}  # fmt: skip


# --- images ---------------------------------------------------------------------------------------


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


# --- ratings --------------------------------------------------------------------------------------


def write_movielens(folder: Path, seed: int = 0) -> None:
    """Write movies.csv and ratings.csv in MovieLens' layout.

    Planted: taste groups of users, popularity that falls off steeply, the three query titles among
    films of their own group, and a few films with hardly any ratings.
    """
    generator = np.random.default_rng(seed)
    groups = tuple(KNOWN)
    films = [(title, group) for group, titles in KNOWN.items() for title in titles]
    known = len(films)
    for i in range(FILMS - known):
        group = groups[i % len(groups)]
        year = generator.integers(1960, 2016)
        films.append((f"{group.split('|')[0]} Feature No. {i + 1} ({year})", group))
    popularity = np.concatenate([
        generator.uniform(0.35, 0.9, known), 1.2 / (2 + np.arange(FILMS - known)) ** 0.5
    ])  # fmt: skip
    popularity[-COLD:] = 0.005
    taste = generator.integers(0, len(groups), (USERS, 1))
    fond = taste == np.array([groups.index(group) for _, group in films])
    activity = generator.gamma(4.0, 0.25, (USERS, 1))
    seen = generator.random((USERS, FILMS)) < activity * popularity * np.where(fond, 1.0, 0.3)
    stars = generator.normal(np.where(fond, 4.2, 3.1), 0.8)
    rating = np.clip(np.round(stars * 2) / 2, 0.5, 5.0)
    with (folder / "movies.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["movieId", "title", "genres"])
        writer.writerows((i + 1, title, genres) for i, (title, genres) in enumerate(films))
    with (folder / "ratings.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["userId", "movieId", "rating", "timestamp"])
        when = 1_000_000_000
        for user, film in zip(*seen.nonzero(), strict=True):
            when += 60
            writer.writerow([user + 1, film + 1, rating[user, film], when])
