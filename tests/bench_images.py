"""How near the pipeline comes to the bare network, and how far it is ahead of the usual way.

Run as ``python tests/bench_images.py`` (needs the real data; the weights do not matter for speed).
Two kinds of work, a training step and the reading of features, are each done in several ways, in
turn, in one run on this machine:

limit      the same network, precision and batch size, on one batch that never changes
pipeline   what the notebook runs: `training.fit` and `features.extract`
usual      torchvision's dataset, its transforms on PIL images, a DataLoader with 0 or 2 workers; in
           the pipeline's precision and layout, and in float32 and the default layout

Ratios are taken within each round, so that a busy machine slows both sides of one alike.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from itertools import islice

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, models
from torchvision.transforms import v2

from assignment import cifar10, features, pixels, resnet, runtime, training
from assignment.cifar10 import Cifar10, Split
from assignment.features import View
from assignment.finetuning import Plan
from assignment.recipe import Recipe

Batches = Iterable[tuple[Tensor, Tensor]]
SIZE = 128
TRAIN_BATCH, READ_BATCH = 128, 50  # the finetuning recipe's, and that of `features.extract`
USUAL = {
    f"usual, {precision}, {workers} workers": (precision == "same precision", workers)
    for precision in ("same precision", "float32")
    for workers in (0, 2)
}
FORMS = ("limit", "pipeline", *USUAL)


def report(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def network(lower: bool = True) -> nn.Module:
    """Return a ResNet18 for ten classes, laid out as the pipeline does it, or as it comes."""
    torch.manual_seed(0)
    made = models.resnet18(num_classes=10)
    return resnet.placed(made, runtime.device()) if lower else made.to(runtime.device())


def resident(batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one batch of noise again and again."""
    on = runtime.device()
    images = resnet.laid_out(torch.randn(batch, 3, SIZE, SIZE, device=on), on)
    labels = torch.randint(0, 10, (batch,), device=on)
    while True:
        yield images, labels


def usual(train: bool, batch: int, workers: int) -> Batches:
    """Load, transform and collate images the way most tutorials do."""
    chance = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()] if train else []
    steps = [*chance, v2.Resize(SIZE), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    look = v2.Compose([*steps, v2.Normalize(*pixels.IMAGENET)])
    dataset = datasets.CIFAR10(runtime.data_folder(), train=True, transform=look)
    return DataLoader(dataset, batch_size=batch, shuffle=train, num_workers=workers)


def pace(batches: Batches, work: Callable[[Tensor, Tensor], Tensor], count: int) -> float:
    """Return images per second over a number of batches, behind one that sets things up."""
    on, done, began = runtime.device(), 0, 0.0
    for number, (images, labels) in enumerate(islice(batches, count + 1)):
        work(images.to(on), labels.to(on)).sum().item()  # waits for the device
        if number == 0:
            began = time.perf_counter()
        else:
            done += len(labels)
    return done / (time.perf_counter() - began)


def training_pace(form: str, data: Cifar10, count: int) -> float:
    """Return images per second of finetuning the whole network."""
    recipe = Recipe(epochs=1, batch=TRAIN_BATCH)
    lower, workers = USUAL.get(form, (True, 0))
    model = network(lower)
    if form == "pipeline":
        some = slice(0, count * TRAIN_BATCH)
        train = Split(data.train.images[some], data.train.labels[some]).to(runtime.device())
        held = Split(data.validation.images[:1], data.validation.labels[:1]).to(runtime.device())
        return training.fit(model, train, held, recipe, Plan(recipe, (SIZE,)).look).throughput
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model.train()

    def work(images: Tensor, labels: Tensor) -> Tensor:
        with resnet.mixed(images.device) if lower else nullcontext():
            logits = model(resnet.laid_out(images, images.device) if lower else images).float()
        loss = nn.functional.cross_entropy(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.detach()

    limit = form == "limit"
    return pace(resident(TRAIN_BATCH) if limit else usual(True, TRAIN_BATCH, workers), work, count)


def reading_pace(form: str, data: Cifar10, count: int) -> float:
    """Return images per second of reading what a frozen network sees."""
    lower, workers = USUAL.get(form, (True, 0))
    model = network(lower).eval()
    if form == "pipeline":
        model = features.folded(model)
        images = data.train.images[: count * READ_BATCH].to(runtime.device())
        began = time.perf_counter()
        features.extract(model, images, View(SIZE), READ_BATCH)
        return len(images) / (time.perf_counter() - began)

    def work(images: Tensor, _: Tensor) -> Tensor:
        with torch.inference_mode(), resnet.mixed(images.device) if lower else nullcontext():
            found: Tensor = model(resnet.laid_out(images, images.device) if lower else images)
        return found

    limit = form == "limit"
    return pace(resident(READ_BATCH) if limit else usual(False, READ_BATCH, workers), work, count)


def compare(rounds: int, batches: int) -> None:
    data = cifar10.load()
    kinds = {"training": (training_pace, batches), "reading features": (reading_pace, 6 * batches)}
    report(f"{SIZE} px, {runtime.device()}, {torch.get_num_threads()} threads")
    for kind, (measure, count) in kinds.items():
        measure("pipeline", data, 1)
        paces = [{form: measure(form, data, count) for form in FORMS} for _ in range(rounds)]
        report(f"{kind}, images per second over {rounds} rounds, and the pipeline's ratio to it")
        for form in FORMS:
            middle = statistics.median(found[form] for found in paces)
            ratios = sorted(found["pipeline"] / found[form] for found in paces)
            spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
            report(f"  {form:34s} {middle:8.0f}   {statistics.median(ratios):6.2f} ({spread})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=4)
    chosen = parser.parse_args()
    compare(chosen.rounds, chosen.batches)
