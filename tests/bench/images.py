"""How near the pipeline comes to the bare network, and how far it is ahead of the usual way.

Needs the real data; the weights do not matter for speed. A training step and the reading of
features are each done in several ways, in turn:

limit      the same network, precision and batch size, on one batch that never changes
pipeline   what the notebook runs: `training.fit` and `features.extract`
usual      torchvision's dataset, its transforms on PIL images, a DataLoader with 0 or 2 workers; in
           the pipeline's precision and layout, and in float32 and the default layout

And a linear head is trained for 20 epochs: on features that are read once, and with the frozen
network run in every epoch.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, models
from torchvision.transforms import v2

from assignment.common import settings
from assignment.images import cifar10, features, pixels, resnet, training
from assignment.images.cifar10 import Cifar10, Split
from assignment.images.experiments import Plan
from assignment.images.features import Preprocessing
from assignment.images.linear import SoftmaxRegression
from assignment.images.training import Recipe
from tests.bench.table import Comparison, gpu_mebibytes

Batches = Iterable[tuple[Tensor, Tensor]]
SIZE = 128
TRAIN_BATCH, READ_BATCH = 128, 50  # the finetuning recipe's, and that of `features.extract`
USUAL = {
    f"dataset, PIL and DataLoader, {workers} workers, {precision}": (
        precision == "same precision",
        workers,
    )
    for precision in ("same precision", "float32")
    for workers in (0, 2)
}
LIMIT = "the bare network on a resident batch"
EXPECTED = {LIMIT: 0.9} | {form: 3.0 for form, (lower, _) in USUAL.items() if not lower}
HEAD_EPOCHS, HEAD_IMAGES = 20, 640


def network(lower: bool = True) -> nn.Module:
    """Return a ResNet18 for ten classes, laid out as the pipeline does it, or as it comes."""
    torch.manual_seed(0)
    made = models.resnet18(num_classes=10)
    return resnet.to_device(made, settings.device()) if lower else made.to(settings.device())


def resident(batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one batch of noise again and again."""
    on = settings.device()
    images = resnet.match_layout(torch.randn(batch, 3, SIZE, SIZE, device=on), on)
    labels = torch.randint(0, 10, (batch,), device=on)
    while True:
        yield images, labels


def usual(train: bool, batch: int, workers: int) -> Batches:
    """Load, transform and collate images the way most tutorials do."""
    chance = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()] if train else []
    steps = [*chance, v2.Resize(SIZE), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    look = v2.Compose([*steps, v2.Normalize(*pixels.IMAGENET)])
    dataset = datasets.CIFAR10(settings.data_folder(), train=True, transform=look)
    return DataLoader(dataset, batch_size=batch, shuffle=train, num_workers=workers)


def pace(batches: Batches, work: Callable[[Tensor, Tensor], Tensor], count: int) -> float:
    """Return images per second over a number of batches, behind one that sets things up."""
    on, done, began = settings.device(), 0, 0.0
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
        train = Split(data.train.images[some], data.train.labels[some]).to(settings.device())
        held = Split(data.validation.images[:1], data.validation.labels[:1]).to(settings.device())
        return training.train(model, train, held, recipe, Plan(recipe, (SIZE,)).look).throughput
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model.train()

    def work(images: Tensor, labels: Tensor) -> Tensor:
        with resnet.autocast(images.device) if lower else nullcontext():
            logits = model(resnet.match_layout(images, images.device) if lower else images).float()
        loss = nn.functional.cross_entropy(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.detach()

    limit = form == LIMIT
    return pace(resident(TRAIN_BATCH) if limit else usual(True, TRAIN_BATCH, workers), work, count)


def reading_pace(form: str, data: Cifar10, count: int) -> float:
    """Return images per second of reading what a frozen network sees."""
    lower, workers = USUAL.get(form, (True, 0))
    model = network(lower).eval()
    if form == "pipeline":
        model = features.fold_batchnorm(model)
        images = data.train.images[: count * READ_BATCH].to(settings.device())
        began = time.perf_counter()
        features.extract_features(model, images, Preprocessing(SIZE), READ_BATCH)
        return len(images) / (time.perf_counter() - began)

    def work(images: Tensor, _: Tensor) -> Tensor:
        with torch.inference_mode(), resnet.autocast(images.device) if lower else nullcontext():
            found: Tensor = model(resnet.match_layout(images, images.device) if lower else images)
        return found

    limit = form == LIMIT
    return pace(resident(READ_BATCH) if limit else usual(False, READ_BATCH, workers), work, count)


def head_seconds(cached: bool, data: Cifar10) -> float:
    """Return the seconds to a linear head, its features read once or the network always run."""
    on, recipe = settings.device(), Recipe(epochs=HEAD_EPOCHS, lr=0.05, choose_best=False)
    few = slice(0, HEAD_IMAGES)
    train = Split(data.train.images[few], data.train.labels[few]).to(on)
    held = Split(train.images[:1], train.labels[:1])
    whole = network()
    began = time.perf_counter()
    if cached:
        read = features.extract_features(
            features.fold_batchnorm(whole.eval()), train.images, Preprocessing(SIZE)
        )["layer4"]
        train = Split(read.to(on), train.labels)
        model = SoftmaxRegression(train.images).to(on)
        training.train(model, train, Split(train.images[:1], held.labels), recipe, lambda x, _: x)
    else:
        whole.requires_grad_(False)
        whole.get_submodule("fc").requires_grad_(True)
        training.train(whole, train, held, recipe, Plan(recipe, (SIZE,)).look)
    return time.perf_counter() - began


def at_most(measure: Callable[[], float]) -> tuple[float, float]:
    """Return what was measured, and the GPU's peak memory meanwhile in MiB (or zero)."""
    if settings.device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    return measure(), gpu_mebibytes(settings.device())


def comparisons(rounds: int, batches: int) -> list[Comparison]:
    """Compare the pipeline with the limit, the usual way, and the head's two ways."""
    data = cifar10.load()
    kinds = {
        "finetuning": (training_pace, batches),
        "reading features": (reading_pace, 6 * batches),
    }
    made = []
    for kind, (measure, count) in kinds.items():
        what = f"{kind}, {SIZE} px"
        forms = ("pipeline", LIMIT, *USUAL)
        measure("pipeline", data, 1)
        found = [
            {f: at_most(partial(measure, f, data, count)) for f in forms} for _ in range(rounds)
        ]
        for form in forms[1:]:
            (ours, our_peaks), (theirs, their_peaks) = (
                zip(*(one[which] for one in found), strict=True) for which in ("pipeline", form)
            )
            expected = EXPECTED.get(form, 0.0)
            made.append(Comparison(what, form, "images/s", ours, theirs, expected))
            if any(our_peaks):
                peak = f"{what}: peak GPU memory"
                made.append(Comparison(peak, form, "MiB", our_peaks, their_peaks))
    times = [(head_seconds(True, data), head_seconds(False, data)) for _ in range(rounds)]
    what = f"a linear head, {HEAD_EPOCHS} epochs over {HEAD_IMAGES} images of {SIZE} px"
    ours, theirs = zip(*times, strict=True)
    made.append(Comparison(what, "the frozen network run in every epoch", "s", ours, theirs, 15))
    return made
