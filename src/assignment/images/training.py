"""One loop for everything that learns: a linear layer on features, a network on images.

All chance in a step is drawn from the seed and the number of the step, and the learning rate is a
function of that number, so the whole state of a run is what its checkpoint holds: a run that was
interrupted ends where an uninterrupted one would have.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from assignment.common import files
from assignment.common.settings import AssignmentError, report
from assignment.images import resnet
from assignment.images.cifar10 import Split


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


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
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


CHECKPOINT_SECONDS = 60.0
TIMED = 4  # steps behind an estimate
LOOK_EVERY = 50  # steps between looks at whether the loss is still a number


@dataclass(frozen=True)
class Moment:
    """What belongs to a training step beside its inputs: chance of its own, and its epoch."""

    generator: torch.Generator
    epoch: int


# Stored inputs to what the model sees: at a moment of the training, or (None) when it is judged.
Transform = Callable[[Tensor, Moment | None], Tensor]


@dataclass(frozen=True)
class EpochMetrics:
    """One line of a run's history; the train columns were measured while the weights moved."""

    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True)
class TrainedModel:
    """A finished run.

    Attributes
    ----------
    history : tuple of Epoch
    best : int
        The epoch (from 0) that was kept: the first of highest validation accuracy, or the last.
    model : Module
        With the weights of that epoch, in eval mode.
    seconds : float
        Of training alone, without validation.
    throughput : float
        Training inputs per second.
    """

    history: tuple[EpochMetrics, ...]
    best: int
    model: nn.Module
    seconds: float
    throughput: float


def training_step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    shown: Tensor,
    labels: Tensor,
    smoothing: float = 0.0,
) -> Tensor:
    """Take one training step; return its summed loss and its number of hits, on the device."""
    with resnet.autocast(shown.device):
        logits = model(shown).float()
    loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    hits = (logits.argmax(1) == labels).sum()
    return torch.stack([loss.detach() * len(labels), hits])


def predict_logits(model: nn.Module, inputs: Tensor, look: Transform, batch: int = 250) -> Tensor:
    """Return what a model in eval mode says, float32 [N, classes], on the CPU."""
    model.eval()
    with torch.inference_mode(), resnet.autocast(inputs.device):
        return torch.cat([model(look(some, None)).float().cpu() for some in inputs.split(batch)])


def train(
    model: nn.Module,
    train: Split,
    validation: Split,
    recipe: Recipe,
    look: Transform,
    checkpoint: Path | None = None,
) -> TrainedModel:
    """Train a model, and return it as it was after the epoch that the recipe keeps.

    Parameters
    ----------
    model : Module
        On the device of the data. Only parameters that require gradients change; a part without
        any stays in eval mode, its BatchNorm statistics with it.
    train, validation : Split
        Images or features, with labels.
    recipe : Recipe
    look : callable
    checkpoint : path, optional
        Where to keep the state every minute. A run finds its own there and goes on; once it is
        finished the file is gone. The caller gives different runs different files.
    """
    run = _Run(model, recipe)
    if checkpoint and checkpoint.is_file():
        run.resume(checkpoint)
    per_epoch = max(1, len(train) // recipe.batch)
    steps = per_epoch * recipe.epochs
    began = saved = time.perf_counter()
    bar = tqdm(total=steps, initial=run.step, desc="training", leave=False)
    with bar, _continues(checkpoint):
        for batch, moment in _batches(train, recipe, run.step, per_epoch):
            run.learn(look(batch.images, moment), batch.labels, (run.step + 1) / steps)
            bar.update()
            if run.step % LOOK_EVERY == 0 or run.step == steps:
                run.check()
            if run.step % per_epoch == 0:
                train_loss, hits = (run.sums / (per_epoch * min(recipe.batch, len(train)))).tolist()
                run.seconds += time.perf_counter() - began
                run.judge(validation, look, train_loss, hits)
                bar.set_postfix_str(f"validation {run.history[-1]['validation_accuracy']:.2%}")
                began = time.perf_counter()
            if checkpoint and time.perf_counter() - saved > CHECKPOINT_SECONDS:
                run.seconds += time.perf_counter() - began
                run.save(checkpoint)
                began = saved = time.perf_counter()
    accuracies = [line["validation_accuracy"] for line in run.history]
    run.judged.load_state_dict(run.best)
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    return TrainedModel(
        history=tuple(EpochMetrics(**line) for line in run.history),
        best=accuracies.index(max(accuracies)) if recipe.choose_best else recipe.epochs - 1,
        model=run.judged.eval(),
        seconds=run.seconds,
        throughput=steps * min(recipe.batch, len(train)) / run.seconds,
    )


def estimate_seconds(model: nn.Module, train: Split, recipe: Recipe, look: Transform) -> float:
    """Estimate how long a run takes on this device, from a few steps with every shape of input."""
    run = _Run(copy.deepcopy(model), recipe)
    batch, moment = next(_batches(train, recipe, 0, 1))
    known: dict[torch.Size, float] = {}
    total = 0.0
    for epoch in range(recipe.epochs):
        now = replace(moment, epoch=epoch)
        shape = look(batch.images, now).shape
        if shape not in known:
            ends = []
            for _ in range(TIMED):
                run.learn(look(batch.images, now), batch.labels, 0.0)
                run.check()  # waits for the device
                ends.append(time.perf_counter())
            known[shape] = (ends[-1] - ends[0]) / (TIMED - 1)  # the first includes setting up
        total += known[shape] * max(1, len(train) // recipe.batch)
    return total


@contextmanager
def _continues(checkpoint: Path | None) -> Iterator[None]:
    """Tell whoever interrupts a run what is kept of it."""
    try:
        yield
    except KeyboardInterrupt:
        if checkpoint and checkpoint.is_file():
            report("Interrupted. Run it again, and it goes on from its last checkpoint.")
        raise


@dataclass
class _Run:
    """A run under way: what its checkpoint holds."""

    model: nn.Module
    recipe: Recipe
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.optimiser = torch.optim.SGD(
            parameter_groups(self.model, recipe),
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
        )
        self.average = None
        if recipe.average:
            average = get_ema_multi_avg_fn(recipe.average)
            self.average = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)
        self.judged = self.average.module if self.average else self.model
        # Summed loss and hits of this epoch, on the device: reading them would wait for it.
        self.sums = torch.zeros(2, device=next(self.model.parameters()).device)

    def learn(self, shown: Tensor, labels: Tensor, done: float) -> None:
        """Take a step at the learning rates that belong to a share of the run."""
        for module in self.model.modules():
            own = list(module.parameters(recurse=False))
            # What is frozen stays in eval mode: in train mode BatchNorm would go on learning.
            module.training = not own or any(parameter.requires_grad for parameter in own)
        for group in self.optimiser.param_groups:
            group["lr"] = group["highest"] * self.recipe.rate(done)
        self.sums += training_step(self.model, self.optimiser, shown, labels, self.recipe.smoothing)
        if self.average:
            self.average.update_parameters(self.model)
        self.step += 1

    def check(self) -> None:
        """Stop a run whose loss has left the numbers."""
        if not self.sums.isfinite().all():
            raise AssignmentError(
                f"The loss is no longer a number after {self.step} steps with lr "
                f"{self.recipe.lr:g}. Choose a smaller one."
            )

    def judge(self, validation: Split, look: Transform, loss: float, accuracy: float) -> None:
        """Close an epoch: write its line, and remember the weights if they are the best so far."""
        logits, labels = (
            predict_logits(self.judged, validation.images, look),
            validation.labels.cpu(),
        )
        line = EpochMetrics(
            train_loss=loss,
            train_accuracy=accuracy,
            validation_loss=functional.cross_entropy(logits, labels).item(),
            validation_accuracy=(logits.argmax(1) == labels).double().mean().item(),
        )
        better = all(line.validation_accuracy > e["validation_accuracy"] for e in self.history)
        if better or not self.recipe.choose_best:
            state = self.judged.state_dict()
            self.best = {name: value.detach().cpu().clone() for name, value in state.items()}
        self.history.append(asdict(line))
        self.sums.zero_()

    def save(self, path: Path) -> None:
        """Keep the state; a whole file replaces the one before."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        state = {name: getattr(self, name) for name in _PROGRESS}
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state | parts, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint; a damaged one is refused."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            progress = {name: state[name] for name in _PROGRESS}
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
        except Exception:  # a damaged file can raise nearly anything
            raise AssignmentError(
                f"The checkpoint {files.display_path(path)} is damaged. Delete it to start over."
            ) from None
        for name, value in progress.items():
            setattr(self, name, value)
        self.sums = self.sums.to(next(self.model.parameters()).device)
        report(f"Going on after step {self.step:,}, where an earlier run was interrupted.")

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimiser": self.optimiser, "average": self.average}
        return {name: part for name, part in parts.items() if part is not None}


_PROGRESS = ("step", "seconds", "history", "best", "sums")


def _batches(
    train: Split, recipe: Recipe, start: int, per_epoch: int
) -> Iterator[tuple[Split, Moment]]:
    """Yield the batches from a step on, each with its moment."""
    order = torch.empty(0, dtype=torch.long)
    for number in range(start, per_epoch * recipe.epochs):
        epoch, within = divmod(number, per_epoch)
        if within == 0 or number == start:
            shuffle = torch.Generator().manual_seed(1_000_003 * recipe.seed + epoch)
            order = torch.randperm(len(train), generator=shuffle).to(train.labels.device)
        chosen = order[within * recipe.batch : (within + 1) * recipe.batch]
        generator = torch.Generator().manual_seed(1_000_003 * (recipe.seed + 1) + number)
        yield Split(train.images[chosen], train.labels[chosen]), Moment(generator, epoch)
