"""How something is trained, in numbers: what a reader changes, and what a record is known by."""

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from assignment.common.runtime import AssignmentError


@dataclass(frozen=True)
class Recipe:
    """How something is trained: gradient descent with momentum, one cycle of the learning rate.

    Attributes
    ----------
    epochs, batch : int
        The inputs left over when an epoch is cut into batches wait for the next epoch.
    lr : float
        Highest learning rate.
    head_lr : float, optional
        The same for the layer ``fc``, which starts from nothing; `lr` where it is not given.
    warmup : float
        Share of the steps in which the rates rise in a straight line; then half a cosine to zero.
    momentum : float
        Nesterov's.
    weight_decay : float
        On matrices and filters; offsets and BatchNorm's factors are left alone.
    smoothing : float
        Share of the target that is spread evenly over all classes while training.
    average : float
        Keep a moving average of the weights, this share of it staying at every step, and judge
        that; zero for none.
    choose_best : bool
        Whether to keep the epoch with the highest validation accuracy, or the last.
    seed : int
    """

    epochs: int
    batch: int = 128
    lr: float = 0.02
    head_lr: float | None = None
    warmup: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    smoothing: float = 0.0
    average: float = 0.0
    choose_best: bool = True
    seed: int = 0

    def rate(self, done: float) -> float:
        """Learning rate, as a share of the highest, after a share of the steps."""
        if done < self.warmup or self.warmup >= 1:
            return done / self.warmup
        return 0.5 + 0.5 * math.cos(math.pi * (done - self.warmup) / (1 - self.warmup))


def groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Sort what learns by its learning rate and by whether it decays."""
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            own = recipe.head_lr if name.startswith("fc.") else None
            decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
            found.setdefault((recipe.lr if own is None else own, decay), []).append(parameter)
    if not found:
        raise AssignmentError("Nothing in this model requires a gradient: there is nothing to do.")
    return [
        {"params": parameters, "highest": lr, "lr": lr, "weight_decay": decay}
        for (lr, decay), parameters in found.items()
    ]
