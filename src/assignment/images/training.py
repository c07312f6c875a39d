"""One training loop, for a linear layer on features and for a network on images.

The order of the inputs, their augmentation and the learning rate depend only on the seed and the
number of the step: a run that is resumed from a checkpoint ends bit for bit like one that was not.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Optimizer

from assignment.common import files, progress
from assignment.common.settings import AssignmentError, report
from assignment.images import resnet
from assignment.images.cifar10 import Split

CHECKPOINT_SECONDS = 60.0

# transform(images, generator, epoch): a training batch, or with None and any epoch, for evaluation.
Transform = Callable[[Tensor, torch.Generator | None, int], Tensor]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: stochastic gradient descent with Nesterov momentum."""

    epochs: int
    batch: int = 128
    lr: float = 0.02  # the highest
    head_lr: float | None = None  # of the layer `fc`; None: lr
    warmup: float = 0.2  # share of the steps with linear warm-up; then cosine annealing
    momentum: float = 0.9
    weight_decay: float = 5e-4  # not on biases, nor on BatchNorm's scale and shift
    smoothing: float = 0.0  # label smoothing
    choose_best: bool = True  # the first epoch of highest validation accuracy; False: the last
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or not 0 < self.lr < math.inf:
            raise AssignmentError(f"Expected epochs, a batch and an lr above zero, found {self}.")

    def lr_factor(self, progress: float) -> float:
        """Learning rate, as a share of the highest, after a share of the steps."""
        if progress < self.warmup or self.warmup >= 1:
            return progress / self.warmup
        return 0.5 + 0.5 * math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))

    def steps_per_epoch(self, inputs: int) -> int:
        """Count whole batches: the inputs left over are others in the next epoch."""
        return max(1, inputs // self.batch)


@dataclass(frozen=True)
class TrainedModel:
    """A finished run.

    Its history has a row for each epoch: training loss, training accuracy, validation loss and
    validation accuracy. Those of training are means over its batches, while the weights change.
    """

    history: list[tuple[float, ...]]
    best: int  # the epoch, from 0, that the recipe chooses
    model: nn.Module  # with the weights of that epoch, in eval mode
    seconds: list[float]  # of training, without validation, until the end of each epoch
    throughput: float  # training inputs per second


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Group the trainable parameters by learning rate and weight decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            head_lr = recipe.head_lr if name.startswith("fc.") else None
            lr = recipe.lr if head_lr is None else head_lr
            decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((lr, decay), []).append(parameter)
    return [
        {"params": parameters, "max_lr": lr, "lr": lr, "weight_decay": decay}
        for (lr, decay), parameters in groups.items()
    ]


def train(
    model: nn.Module,
    train_split: Split,
    validation: Split,
    recipe: Recipe,
    transform: Transform,
    checkpoint: Path | None = None,
    class_weights: Tensor | None = None,
) -> TrainedModel:
    """Train a model in place; return it with the weights of the epoch that the recipe chooses.

    The state is saved in `checkpoint` every minute and at the end; where the file exists, training
    goes on from it. Each config needs a file of its own, which the caller deletes once
    the result is saved. With class weights an image counts by them, in the loss and in what the
    recipe chooses by.
    """
    groups, momentum = parameter_groups(model, recipe), recipe.momentum
    optimizer = SGD(groups, momentum=momentum, nesterov=momentum > 0)
    state = _TrainingState(model, optimizer, recipe, len(train_split), checkpoint)
    try:
        for epoch in range(len(state.history), recipe.epochs):
            set_train_mode(model)
            for images, labels, generator in batches(train_split, recipe, epoch, state.step):
                inputs = transform(images, generator, epoch)
                for group in optimizer.param_groups:
                    group["lr"] = group["max_lr"] * recipe.lr_factor((state.step + 1) / state.steps)
                sums = training_step(
                    model, optimizer, inputs, labels, recipe.smoothing, class_weights
                )
                progress.done(3 * resnet.forward_cost(inputs.shape))  # forward, and twice that back
                state.end_step(sums)
            state.end_epoch(validation, transform, class_weights)
    except KeyboardInterrupt:
        if state.saved:
            report(f"Interrupted. Run it again, and it goes on after step {state.saved}.")
        raise
    return state.result()


def training_step(
    model: nn.Module,
    optimizer: Optimizer,
    images: Tensor,
    labels: Tensor,
    smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Take one training step; return its summed loss and number of correct predictions."""
    with resnet.autocast(images.device, images.ndim == 4):
        logits = model(images).float()
    loss = functional.cross_entropy(logits, labels, class_weights, label_smoothing=smoothing)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    correct = (logits.argmax(1) == labels).sum()
    return torch.stack([loss.detach() * len(labels), correct])


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Return weights float32 [classes] by which every class counts alike, however many it has."""
    counts = labels.cpu().bincount(minlength=classes)
    return (len(labels) / (classes * counts.clamp(min=1))).to(labels.device)


def batches(
    split: Split, recipe: Recipe, epoch: int, first_step: int
) -> Iterator[tuple[Tensor, Tensor, torch.Generator]]:
    """Yield shuffled batches, each with a generator for augmentation, from a step of the run on."""
    shuffle = torch.Generator().manual_seed(1_000_003 * recipe.seed + epoch)
    order = torch.randperm(len(split), generator=shuffle).to(split.labels.device)
    steps = recipe.steps_per_epoch(len(split))
    for step, chosen in enumerate(order.split(recipe.batch)[:steps], epoch * steps):
        if step >= first_step:
            generator = torch.Generator().manual_seed(1_000_003 * (recipe.seed + 1) + step)
            yield split.images[chosen], split.labels[chosen], generator


def set_train_mode(model: nn.Module) -> None:
    """Train mode, but not for frozen parts: there, BatchNorm must not update its statistics."""
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        module.training = not own or any(parameter.requires_grad for parameter in own)


def predict_logits(
    model: nn.Module, inputs: Tensor, transform: Transform, batch: int = 250
) -> Tensor:
    """Return the logits of a model in eval mode, float32 [N, classes], on the CPU."""
    model.eval()
    with torch.inference_mode(), resnet.autocast(inputs.device, inputs.ndim == 4):
        logits = []
        for part in inputs.split(batch):
            prepared = transform(part, None, 0)
            logits.append(model(prepared).float().cpu())
            progress.done(resnet.forward_cost(prepared.shape))
    return torch.cat(logits)


class _TrainingState:
    """Where a run stands: what its checkpoint holds, its clock and its progress bar."""

    numbers = ("step", "seconds", "history", "ends", "best", "highest", "totals")

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        recipe: Recipe,
        inputs: int,
        path: Path | None,
    ) -> None:
        self.model, self.recipe, self.path = model, recipe, path
        self.per_epoch = recipe.steps_per_epoch(inputs)
        self.steps = self.per_epoch * recipe.epochs
        self.inputs_per_epoch = self.per_epoch * min(recipe.batch, inputs)
        self.parts: dict[str, Any] = {"model": model, "optimizer": optimizer}
        self.best_model = self.parts["best_model"] = copy.deepcopy(model)
        self.step, self.saved, self.seconds, self.best, self.highest = 0, 0, 0.0, 0, -1.0
        self.history: list[tuple[float, ...]] = []
        self.ends: list[float] = []  # seconds at the end of each epoch
        # Summed loss and correct predictions of the epoch; reading them waits for the device.
        self.totals = torch.zeros(2, device=next(model.parameters()).device)
        if path and path.is_file():
            self.load(path)
        self.clock = self.written = time.perf_counter()

    def end_step(self, sums: Tensor) -> None:
        self.totals += sums
        self.step += 1
        if time.perf_counter() - self.written > CHECKPOINT_SECONDS:
            self.save()

    def end_epoch(
        self, validation: Split, transform: Transform, class_weights: Tensor | None
    ) -> None:
        self.count_seconds()
        logits = predict_logits(self.model, validation.images, transform)
        labels = validation.labels.cpu()
        loss = functional.cross_entropy(logits, labels).item()
        correct = (logits.argmax(1) == labels).double()
        counts = torch.ones(len(labels)) if class_weights is None else class_weights.cpu()[labels]
        accuracy, counted = correct.mean().item(), (correct @ counts.double() / counts.sum()).item()
        if not self.recipe.choose_best or counted > self.highest:
            self.best_model.load_state_dict(self.model.state_dict())
            self.best, self.highest = len(self.history), counted
        train_metrics = (self.totals / self.inputs_per_epoch).tolist()
        self.totals.zero_()
        self.history.append((*train_metrics, loss, accuracy))
        self.ends.append(self.seconds)
        progress.done(0, f"validation {accuracy:.2%}")
        self.clock = time.perf_counter()
        if self.step == self.steps:
            self.save()

    def count_seconds(self) -> None:
        if not self.totals.isfinite().all():
            raise AssignmentError(
                f"The loss is no longer finite after {self.step} steps with lr "
                f"{self.recipe.lr:g}; choose a smaller one."
            )
        self.seconds += time.perf_counter() - self.clock

    def save(self) -> None:
        self.count_seconds()
        if self.path:
            state = {name: getattr(self, name) for name in self.numbers}
            state |= {name: part.state_dict() for name, part in self.parts.items()}
            if files.save_tensors(self.path, state):
                self.saved = self.step
            else:
                self.path = None  # the next attempts would only repeat the warning
        self.clock = self.written = time.perf_counter()

    def load(self, path: Path) -> None:
        state = files.load_tensors(path, self.totals.device)
        known = state is not None and state.keys() == {*self.numbers, *self.parts}
        first = len(state["history"]) * self.per_epoch if known else 0  # step of the last epoch
        if not known or not first <= state["step"] <= min(first + self.per_epoch, self.steps):
            raise AssignmentError(
                f"The checkpoint {files.display_path(path)} is damaged, or another version of this "
                "code wrote it. Delete it to start over."
            )
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        vars(self).update({name: state[name] for name in self.numbers})
        self.saved = self.step
        progress.skip(share=self.step / self.steps)
        report(f"Going on after step {self.step} of {self.steps}.")

    def result(self) -> TrainedModel:
        self.model.load_state_dict(self.best_model.state_dict())
        throughput = self.recipe.epochs * self.inputs_per_epoch / self.seconds
        return TrainedModel(self.history, self.best, self.model.eval(), self.ends, throughput)
