"""From stored pixels to what the network sees: scale, resize, normalise, flip, crop.

A split is one uint8 tensor on the device, and every step here works on a whole batch of it. There
are no loader processes, so the same lines run on CUDA, MPS and CPU, and under Windows.
"""

import torch
from torch import Tensor
from torch.nn import functional

# Channel means and standard deviations of pixels scaled to [0, 1].
Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]
IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR: Statistics = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


def to_float(images: Tensor) -> Tensor:
    """uint8 [N, 3, H, W] to float32 in [0, 1]."""
    return images.to(torch.float32) / 255


def resize(images: Tensor, size: int) -> Tensor:
    """Enlarge or shrink float images [N, 3, S, S] to [N, 3, size, size], bilinearly."""
    before = images.shape[-1]
    if size == before:
        return images
    shrinks = size < before  # antialiased, which would change nothing when images grow
    return functional.interpolate(images, (size, size), mode="bilinear", antialias=shrinks)


def normalise(images: Tensor, statistics: Statistics = IMAGENET) -> Tensor:
    """Subtract the channel means and divide by the channel standard deviations."""
    values = torch.tensor(statistics, dtype=images.dtype, device=images.device)
    mean, std = values.view(2, 1, 3, 1, 1).unbind()
    return (images - mean) / std


def prepare(images: Tensor, size: int, statistics: Statistics = IMAGENET) -> Tensor:
    """uint8 [N, 3, S, S] to network input: normalised first, while there are few pixels."""
    return resize(normalise(to_float(images), statistics), size)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability one half."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored.to(images.device).view(-1, 1, 1, 1), images.flip(3), images)


def random_crop(images: Tensor, max_shift: int, generator: torch.Generator) -> Tensor:
    """Shift each image by up to `max_shift` pixels each way, the border reflected: a crop."""
    padded = functional.pad(images, [max_shift] * 4, mode="reflect")
    # Drawn on the CPU, so that a seed draws the same crops on every device.
    shifts = torch.randint(0, 2 * max_shift + 1, (2, len(images)), generator=generator)
    top, left = shifts.to(images.device).view(2, -1, 1, 1, 1)
    image, channel, row, column = (torch.arange(n, device=images.device) for n in images.shape)
    rows, columns = top + row.view(-1, 1), left + column
    return padded[image.view(-1, 1, 1, 1), channel.view(-1, 1, 1), rows, columns]


def augment(images: Tensor, generator: torch.Generator, max_shift: int = 4) -> Tensor:
    """Flip and crop at random: what a training step sees of float images [N, 3, H, W]."""
    return random_crop(random_flip(images, generator), max_shift, generator)
