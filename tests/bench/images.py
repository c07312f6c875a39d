"""How near the pipeline comes to the bare network, and how far it is ahead of the usual way.

Needs the real data; the weights do not matter for speed. The pipeline is what the notebook runs,
the limit the same network on one batch that never changes, the usual way torchvision's dataset with
PIL images and a DataLoader, in float32 and the default layout. On a GPU also at 224 pixels.
"""

import os
import time
import warnings
from collections.abc import Iterable
from functools import partial
from itertools import islice, repeat

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, models
from torchvision.transforms import v2

from assignment.common import settings
from assignment.images import cifar10, features, pixels, resnet, training
from assignment.images.cifar10 import Dataset, Split
from assignment.images.experiments import Plan
from assignment.images.features import Preprocessing
from assignment.images.linear import SoftmaxRegression
from assignment.images.training import Recipe
from tests.bench.table import Comparison, compare

SIZES = (128, 224) if settings.device().type == "cuda" else (128,)
BATCH = 128  # the finetuning recipe's
PIPELINE, LIMIT = "pipeline", "the bare network on a resident batch"
WORKERS = max(0, (os.cpu_count() or 1) - 2)  # on the cores that the network leaves
USUAL = f"dataset, PIL and DataLoader, {WORKERS} workers, float32"
HEAD_EPOCHS, HEAD_IMAGES, HEAD_SIZE = 20, 640, 128
LAYER_IMAGES = 5_000
warnings.simplefilter("ignore", ConvergenceWarning)  # the solver is stopped on purpose


def network(same: bool = True) -> nn.Module:
    """Return a ResNet18 for ten classes, laid out as the pipeline does it, or as it comes."""
    torch.manual_seed(0)
    made = models.resnet18(num_classes=10)
    return resnet.to_device(made, settings.device()) if same else made.to(settings.device())


def some(split: Split, count: int) -> Split:
    """Return the first images on the device."""
    return Split(split.images[:count], split.labels[:count]).to(settings.device())


def resident_batch(size: int) -> Tensor:
    """Return a batch of noise, where and as the network reads it."""
    on = settings.device()
    return resnet.match_layout(torch.randn(BATCH, 3, size, size, device=on), on)


def batches(form: str, size: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Repeat one batch, or load, transform and collate the way most tutorials do."""
    if form == LIMIT:
        images = resident_batch(size)
        return repeat((images, torch.randint(0, 10, (BATCH,), device=images.device)))
    steps = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.Resize(size)]
    as_tensors = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    transform = v2.Compose([*steps, *as_tensors, v2.Normalize(*pixels.IMAGENET)])
    dataset = datasets.CIFAR10(settings.data_folder(), train=True, transform=transform)
    return DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=WORKERS)


def pace(form: str, data: Dataset, count: int, size: int) -> float:
    """Return images per second of finetuning, over some batches after one that sets things up."""
    if form == PIPELINE:
        recipe, shown = Recipe(epochs=1, batch=BATCH), some(data.train, count * BATCH)
        transform = Plan(recipe, (size,)).transform
        return training.train(network(), shown, some(shown, 1), recipe, transform).throughput
    on, same = settings.device(), form == LIMIT
    model = network(same).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    began = 0.0
    for images, labels in islice(batches(form, size), count + 1):
        with resnet.autocast(on, same):
            loss = nn.functional.cross_entropy(model(images.to(on)).float(), labels.to(on))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()  # waits for the device
        began = began or time.perf_counter()
    return count * BATCH / (time.perf_counter() - began)


def reading_pace(form: str, data: Dataset, count: int, size: int) -> float:
    """Return images per second of reading features, or of the network alone on one batch."""
    folded, on = features.fold_batchnorm(network().eval()), settings.device()
    images, batch = data.train.images[: count * BATCH], resident_batch(size)[:50]

    def read() -> None:
        if form == PIPELINE:
            features.extract_features(folded, images, Preprocessing(size))
            return
        with torch.inference_mode(), resnet.autocast(on):
            for _ in range(len(images) // len(batch)):
                features.pooled_features(folded, batch)["layer4"].cpu()  # waits for the device

    read()
    began = time.perf_counter()
    read()
    return len(images) / (time.perf_counter() - began)


def head_seconds(cached: bool, data: Dataset) -> float:
    """Return the seconds to a linear head, its features read once or the network always run."""
    recipe = Recipe(epochs=HEAD_EPOCHS, lr=0.05, choose_best=False)
    train, whole = some(data.train, HEAD_IMAGES), network()
    began = time.perf_counter()
    if cached:
        folded = features.fold_batchnorm(whole.eval())
        read = features.extract_features(folded, train.images, Preprocessing(HEAD_SIZE))["layer4"]
        train = Split(read, train.labels).to(settings.device())
        model: nn.Module = SoftmaxRegression(train.images).to(settings.device())
        training.train(model, train, some(train, 1), recipe, unchanged)
    else:
        whole.requires_grad_(False)
        whole.get_submodule("fc").requires_grad_(True)
        training.train(whole, train, some(train, 1), recipe, Plan(recipe, (HEAD_SIZE,)).transform)
    return time.perf_counter() - began


def unchanged(inputs: Tensor, *_: object) -> Tensor:
    """Give features to a layer as they are."""
    return inputs


class LayerRace:
    """The linear layer and scikit-learn's solver on coarse pixels, to the same objective."""

    recipe = Recipe(
        epochs=60, batch=500, lr=0.05, warmup=0.1, weight_decay=0.008, choose_best=False
    )

    def __init__(self, data: Dataset) -> None:
        small = nn.functional.avg_pool2d(pixels.to_float(data.train.images[:LAYER_IMAGES]), 2)
        self.train = Split(small.flatten(1), data.train.labels[:LAYER_IMAGES])
        self.layer = SoftmaxRegression(self.train.images)
        self.standardised = (self.train.images - self.layer.mean) / self.layer.deviation
        self.steps = 10  # of the solver, until it is as low as the layer
        self.seconds(True)
        goal = self.objective()
        while self.seconds(False) and self.objective() > goal:
            self.steps += 10

    def objective(self) -> float:
        loss = nn.functional.cross_entropy(self.layer(self.train.images), self.train.labels)
        decay = self.recipe.weight_decay / 2 * self.layer.linear.weight.square().sum()
        return (loss + decay).item()

    def seconds(self, descent: bool) -> float:
        began = time.perf_counter()
        if descent:
            nn.init.zeros_(self.layer.linear.weight)
            nn.init.zeros_(self.layer.linear.bias)
            on = settings.device()
            train = self.train.to(on)
            training.train(self.layer.to(on), train, some(train, 1), self.recipe, unchanged)
            self.layer.cpu()
            return time.perf_counter() - began
        penalty = 1 / (self.recipe.weight_decay * LAYER_IMAGES)
        solver = LogisticRegression(C=penalty, tol=0, max_iter=self.steps)
        solver.fit(self.standardised.numpy(), self.train.labels.numpy())
        took = time.perf_counter() - began
        self.layer.linear.weight.data.copy_(torch.from_numpy(solver.coef_))
        self.layer.linear.bias.data.copy_(torch.from_numpy(solver.intercept_))
        return took


def comparisons(rounds: int, count: int) -> list[Comparison]:
    """Compare the pipeline with the limit and the usual way, and what a linear layer costs."""
    data, made = cifar10.load(), []
    for size in SIZES:
        paced = partial(pace, data=data, count=count, size=size)
        what = f"finetuning, {size} px"
        pace(PIPELINE, data, 1, size)
        made.append(compare(what, LIMIT, "images/s", rounds, paced, PIPELINE, LIMIT, 0.9))
        made.append(compare(what, USUAL, "images/s", rounds, paced, PIPELINE, USUAL, 3))
        read = partial(reading_pace, data=data, count=count, size=size)
        what = f"reading features, {size} px"
        made.append(compare(what, LIMIT, "images/s", rounds, read, PIPELINE, LIMIT, 0.9))
    timed, against = partial(head_seconds, data=data), "the frozen network run in every epoch"
    what = f"a linear head, {HEAD_EPOCHS} epochs over {HEAD_IMAGES} images of {HEAD_SIZE} px"
    made.append(compare(what, against, "s", rounds, timed, True, False, 20))
    race = LayerRace(data)
    what = f"a linear layer, {LAYER_IMAGES:,} images of {race.train.images.shape[1]} numbers"
    against = "scikit-learn's solver, to the same objective"
    made.append(compare(what, against, "s", rounds, race.seconds, True, False))
    return made
