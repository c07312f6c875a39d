"""A small synthetic stand-in for CIFAR-10 and for the pretrained network.

Everything is drawn from a seed in a second or two, so a notebook runs with no network and no data.
Nothing here is a result, and whatever is made from it is labelled SAMPLE.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SHAPES = (
    "disk", "ring", "square", "frame", "triangle", "cross", "bars", "pillars", "slope", "dots",
)  # fmt: skip
HARD = 0.25  # share of images that are half another class, so that there are errors to show


def draw_cifar10() -> tuple[Tensor, Tensor]:
    """Draw images [1200, 3, 32, 32] and labels [1200]: six batches, the last for the test."""
    generator = np.random.default_rng(0)
    batches = [generator.permutation(np.arange(200) % len(SHAPES)) for _ in range(6)]
    labels = np.concatenate(batches)
    return torch.from_numpy(draw_shapes(labels, generator)), torch.from_numpy(labels)


def draw_shapes(labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one noisy image per label, [N, 3, 32, 32]; a share of them is half another class."""
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
    down, across = generator.uniform(-4, 4, (2, count, 1, 1)) + 15.5
    size = generator.uniform(7, 11, (count, 1, 1))
    y, x = np.arange(32)[:, None] - down, np.arange(32) - across
    period = size / 1.6
    row, column = np.mod(y, period), np.mod(x, period)
    radius, span = np.hypot(x, y), np.maximum(abs(x), abs(y))
    inside = span < size
    masks = {
        "disk": radius < size,
        "ring": (radius < size) & (radius > 0.6 * size),
        "square": span < 0.85 * size,
        "frame": (span < 0.9 * size) & (span > 0.55 * size),
        "triangle": (abs(x) < (y + size) / 2) & (y < size),
        "cross": inside & (np.minimum(abs(x), abs(y)) < 0.28 * size),
        "bars": inside & (row < period / 2),
        "pillars": inside & (column < period / 2),
        "slope": inside & (np.mod(x + y, 1.4 * period) < 0.7 * period),
        "dots": inside & (np.hypot(column - period / 2, row - period / 2) < 0.3 * period),
    }
    return np.stack([masks[shape] for shape in SHAPES])[labels, np.arange(count)].astype(float)


class SmallBackbone(nn.Module):
    """A narrow convolutional network with ResNet's names; untrained, yet it tells shapes apart."""

    def __init__(self, seed: int = 0, width: int = 16) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.relu = nn.ReLU()
            for stage, before, after in (1, 1, 1), (2, 1, 2), (3, 2, 4), (4, 4, 8):
                convolution = nn.Conv2d(before * width, after * width, 3, padding=1, bias=False)
                layers = convolution, nn.BatchNorm2d(after * width), nn.ReLU(), nn.MaxPool2d(2)
                self.add_module(f"layer{stage}", nn.Sequential(*layers))
            self.fc = nn.Linear(8 * width, 1000)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] to what `fc` makes of the pooled features."""
        *stages, fc = self.children()
        for stage in stages:
            images = stage(images)
        return fc(images.mean((2, 3)))  # type: ignore[no-any-return]
