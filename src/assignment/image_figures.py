"""The figures of the CIFAR-10 notebook, drawn from data and returned, never shown."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from assignment.cifar10 import Split
from assignment.drawing import Drawing, drawn, empty


@drawn
def class_examples(
    split: Split, classes: Sequence[str], augment: Callable[[Tensor], Tensor], columns: int = 6
) -> Drawing:
    """Draw the first images of every class, and beside them the same images augmented.

    Parameters
    ----------
    split : Split
    classes : sequence of str
    augment : callable
        uint8 [N, 3, 32, 32] to float images of the same shape in [0, 1].
    columns : int
        Images per class.
    """
    chosen = torch.stack([(split.labels == k).nonzero()[:columns, 0] for k in range(len(classes))])
    originals = split.images[chosen.flatten()].cpu()
    augmented = augment(split.images[chosen.flatten()]).cpu()
    drawing = empty(
        7, 5.6, f"{columns} training images of each of the {len(classes)} classes; on the right "
        "the same images mirrored and shifted at random, still easy to recognise.",
    )  # fmt: skip
    left, right = drawing.subplots(1, 2)
    for axes, images, title in (
        (left, originals / 255.0, "as stored (32 x 32 pixels)"),
        (right, augmented, "the same, as a training step sees them"),
    ):
        axes.imshow(_mosaic(images, len(classes), columns))
        axes.set(title=title, xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    left.set_yticks([34 * (k + 0.5) - 1 for k in range(len(classes))], classes)
    left.tick_params(length=0)
    return drawing


def _mosaic(images: Tensor, rows: int, columns: int, gap: int = 2) -> np.ndarray:
    """Float images [rows * columns, 3, H, W] to one picture [., ., 3] with white gaps."""
    padded = torch.nn.functional.pad(images, (0, gap, 0, gap), value=1.0)
    _, _, height, width = padded.shape
    grid = padded.view(rows, columns, 3, height, width).permute(0, 3, 1, 4, 2)
    return grid.reshape(rows * height, columns * width, 3)[:-gap, :-gap].numpy()
