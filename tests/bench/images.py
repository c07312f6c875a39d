"""How near the pipeline comes to the bare network, and how far it is ahead of the usual way.

Needs the real data; the weights do not matter for speed. A training step and the reading of
features are each done in several ways, in turn:

limit      the same network, precision and batch size, on one batch that never changes
pipeline   what the notebook runs: `training.train` and `features.extract_features`
usual      torchvision's dataset, its transforms on PIL images, a DataLoader with 0 or 2 workers; in
           the pipeline's precision and layout, and in float32 and the default layout

And a linear head is trained for 20 epochs: on features that are read once, and with the frozen
network run in every epoch.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from itertools import islice, repeat

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

SIZE = 128
TRAIN_BATCH, READ_BATCH = 128, 50  # the finetuning recipe's, and that of `extract_features`
PIPELINE, LIMIT = "pipeline", "the bare network on a resident batch"
USUAL = {  # to whether it runs in the pipeline's precision and layout, and how many workers load
    f"dataset, PIL and DataLoader, {workers} workers, {precision}": (same, workers)
    for precision, same in (("same precision", True), ("float32", False))
    for workers in (0, 2)
}
EXPECTED = {LIMIT: 0.9} | {form: 3.0 for form, (same, _) in USUAL.items() if not same}
HEAD_EPOCHS, HEAD_IMAGES = 20, 640


def network(same: bool = True) -> nn.Module:
    """Return a ResNet18 for ten classes, laid out as the pipeline does it, or as it comes."""
    torch.manual_seed(0)
    made = models.resnet18(num_classes=10)
    return resnet.to_device(made, settings.device()) if same else made.to(settings.device())


def resident(batch: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Return one batch of noise again and again."""
    on = settings.device()
    images = resnet.match_layout(torch.randn(batch, 3, SIZE, SIZE, device=on), on)
    return repeat((images, torch.randint(0, 10, (batch,), device=on)))


def usual(train: bool, batch: int, workers: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Load, transform and collate images the way most tutorials do."""
    chance = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()] if train else []
    steps = [*chance, v2.Resize(SIZE), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    transform = v2.Compose([*steps, v2.Normalize(*pixels.IMAGENET)])
    dataset = datasets.CIFAR10(settings.data_folder(), train=True, transform=transform)
    return DataLoader(dataset, batch_size=batch, shuffle=train, num_workers=workers)


def some(split: Split, count: int) -> Split:
    """Return the first images on the device."""
    return Split(split.images[:count], split.labels[:count]).to(settings.device())


def training_pace(form: str, data: Cifar10, count: int) -> float:
    """Return images per second of finetuning the whole network."""
    if form == PIPELINE:
        recipe = Recipe(epochs=1, batch=TRAIN_BATCH)
        train, validation = some(data.train, count * TRAIN_BATCH), some(data.validation, 1)
        transform = Plan(recipe, (SIZE,)).transform
        return training.train(network(), train, validation, recipe, transform).throughput
    return pace(form, True, TRAIN_BATCH, count)


def reading_pace(form: str, data: Cifar10, count: int) -> float:
    """Return images per second of reading what a frozen network sees."""
    if form == PIPELINE:
        images, model = some(data.train, count * READ_BATCH).images, network().eval()
        folded = features.fold_batchnorm(model)
        began = time.perf_counter()
        features.extract_features(folded, images, Preprocessing(SIZE), READ_BATCH)
        return len(images) / (time.perf_counter() - began)
    return pace(form, False, READ_BATCH, count)


def pace(form: str, train: bool, batch: int, count: int) -> float:
    """Return images per second over a number of batches, behind one that sets things up."""
    same, workers = USUAL.get(form, (True, 0))
    on, model = settings.device(), network(same).train(train)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    batches = resident(batch) if form == LIMIT else usual(train, batch, workers)
    done, began = 0, 0.0
    for number, (images, labels) in enumerate(islice(batches, count + 1)):
        shown, labels = images.to(on), labels.to(on)
        shown = resnet.match_layout(shown, on) if same else shown
        with torch.inference_mode(not train), resnet.autocast(on) if same else nullcontext():
            logits = model(shown).float()
        if train:
            optimiser.zero_grad()
            nn.functional.cross_entropy(logits, labels).backward()
            optimiser.step()
        logits.sum().item()  # waits for the device
        if number == 0:
            began = time.perf_counter()
        else:
            done += len(labels)
    return done / (time.perf_counter() - began)


def head_seconds(cached: bool, data: Cifar10) -> float:
    """Return the seconds to a linear head, its features read once or the network always run."""
    recipe = Recipe(epochs=HEAD_EPOCHS, lr=0.05, choose_best=False)
    train, whole = some(data.train, HEAD_IMAGES), network()
    began = time.perf_counter()
    if cached:
        folded = features.fold_batchnorm(whole.eval())
        read = features.extract_features(folded, train.images, Preprocessing(SIZE))["layer4"]
        train = Split(read, train.labels).to(settings.device())
        model: nn.Module = SoftmaxRegression(train.images).to(settings.device())
        training.train(model, train, some(train, 1), recipe, lambda inputs, *_: inputs)
    else:
        whole.requires_grad_(False)
        whole.get_submodule("fc").requires_grad_(True)
        training.train(whole, train, some(train, 1), recipe, Plan(recipe, (SIZE,)).transform)
    return time.perf_counter() - began


def with_peak(measure: Callable[[], float]) -> tuple[float, float]:
    """Return what was measured, and the GPU's peak memory meanwhile in MiB (or zero)."""
    if settings.device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    return measure(), gpu_mebibytes(settings.device())


def comparisons(rounds: int, batches: int) -> list[Comparison]:
    """Compare the pipeline with the limit, the usual way, and the head's two ways."""
    data = cifar10.load()
    made = []
    for kind, measure, count in (
        ("finetuning", training_pace, batches),
        ("reading features", reading_pace, 6 * batches),
    ):
        what = f"{kind}, {SIZE} px"
        forms = (PIPELINE, LIMIT, *USUAL)
        measure(PIPELINE, data, 1)
        found = [
            {form: with_peak(partial(measure, form, data, count)) for form in forms}
            for _ in range(rounds)
        ]
        paces, peaks = ({f: [one[f][n] for one in found] for f in forms} for n in (0, 1))
        for form in forms[1:]:
            expected = EXPECTED.get(form, 0.0)
            made.append(Comparison(what, form, "images/s", paces[PIPELINE], paces[form], expected))
            if any(peaks[PIPELINE]):
                peak = f"{what}: peak GPU memory"
                made.append(Comparison(peak, form, "MiB", peaks[PIPELINE], peaks[form]))
    times = [(head_seconds(True, data), head_seconds(False, data)) for _ in range(rounds)]
    ours, theirs = zip(*times, strict=True)
    what = f"a linear head, {HEAD_EPOCHS} epochs over {HEAD_IMAGES} images of {SIZE} px"
    made.append(Comparison(what, "the frozen network run in every epoch", "s", ours, theirs, 15))
    return made
