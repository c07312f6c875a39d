"""How near the pipeline comes to the bare network, and how far it is ahead of the usual way.

Needs the real data; the weights do not matter for speed. The pipeline is what the notebook runs,
the limit the same network on one batch that never changes, the usual way torchvision's dataset with
PIL images and a DataLoader, in the pipeline's precision and layout and in float32 and the default.
"""

import time
from collections.abc import Iterable
from contextlib import nullcontext
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
from tests.bench.table import Comparison, forget_peak, gpu_mebibytes

SIZE = 128
TRAIN_BATCH, READ_BATCH = 128, 50  # the finetuning recipe's, and that of `extract_features`
PIPELINE, LIMIT = "pipeline", "the bare network on a resident batch"
USUAL = {  # to whether it runs in the pipeline's precision and layout, and how many workers load
    f"dataset, PIL and DataLoader, {workers} workers, {precision}": (same, workers)
    for precision, same in (("same precision", True), ("float32", False))
    for workers in (0, 2)
}
FORMS = (PIPELINE, LIMIT, *USUAL)
EXPECTED = {LIMIT: 0.9} | {form: 3.0 for form, (same, _) in USUAL.items() if not same}
HEAD_EPOCHS, HEAD_IMAGES = 20, 640


def network(same: bool = True) -> nn.Module:
    """Return a ResNet18 for ten classes, laid out as the pipeline does it, or as it comes."""
    torch.manual_seed(0)
    made = models.resnet18(num_classes=10)
    return resnet.to_device(made, settings.device()) if same else made.to(settings.device())


def some(split: Split, count: int) -> Split:
    """Return the first images on the device."""
    return Split(split.images[:count], split.labels[:count]).to(settings.device())


def batches(form: str, train: bool, batch: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Repeat one batch of noise, or load, transform and collate the way most tutorials do."""
    if form == LIMIT:
        on = settings.device()
        images = resnet.match_layout(torch.randn(batch, 3, SIZE, SIZE, device=on), on)
        return repeat((images, torch.randint(0, 10, (batch,), device=on)))
    chance = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()] if train else []
    steps = [*chance, v2.Resize(SIZE), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    transform = v2.Compose([*steps, v2.Normalize(*pixels.IMAGENET)])
    dataset = datasets.CIFAR10(settings.data_folder(), train=True, transform=transform)
    return DataLoader(dataset, batch_size=batch, shuffle=train, num_workers=USUAL[form][1])


def pipeline_pace(train: bool, data: Cifar10, count: int) -> float:
    """Return images per second of finetuning the whole network, or of reading features."""
    if train:
        recipe, shown = Recipe(epochs=1, batch=TRAIN_BATCH), some(data.train, count * TRAIN_BATCH)
        transform = Plan(recipe, (SIZE,)).transform
        return training.train(network(), shown, some(shown, 1), recipe, transform).throughput
    images = some(data.train, count * READ_BATCH).images
    folded = features.fold_batchnorm(network().eval())
    began = time.perf_counter()
    features.extract_features(folded, images, Preprocessing(SIZE), READ_BATCH)
    return len(images) / (time.perf_counter() - began)


def pace(form: str, train: bool, data: Cifar10, count: int) -> float:
    """Return images per second over a number of batches, behind one that sets things up."""
    if form == PIPELINE:
        return pipeline_pace(train, data, count)
    same, batch = USUAL.get(form, (True, 0))[0], TRAIN_BATCH if train else READ_BATCH
    on, model = settings.device(), network(same).train(train)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    began = 0.0
    for images, labels in islice(batches(form, train, batch), count + 1):
        shown = resnet.match_layout(images.to(on), on) if same else images.to(on)
        with torch.inference_mode(not train), resnet.autocast(on) if same else nullcontext():
            logits = model(shown).float()
        if train:
            optimiser.zero_grad()
            nn.functional.cross_entropy(logits, labels.to(on)).backward()
            optimiser.step()
        logits.sum().item()  # waits for the device
        began = began or time.perf_counter()
    return count * batch / (time.perf_counter() - began)


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


def comparisons(rounds: int, count: int) -> list[Comparison]:
    """Compare the pipeline with the limit, the usual way, and the head's two ways."""
    data, made = cifar10.load(), []
    for kind, train in (("finetuning", True), ("reading features", False)):
        what = f"{kind}, {SIZE} px"
        paces, peaks = ({form: list[float]() for form in FORMS} for _ in range(2))
        pipeline_pace(train, data, 1)
        for form in FORMS * rounds:
            forget_peak()
            paces[form].append(pace(form, train, data, count if train else 6 * count))
            peaks[form].append(gpu_mebibytes(settings.device()))
        ours, most = paces.pop(PIPELINE), peaks.pop(PIPELINE)
        for form, theirs in paces.items():
            made.append(Comparison(what, form, "images/s", ours, theirs, EXPECTED.get(form, 0.0)))
            if any(most):
                made.append(Comparison(f"{what}: peak GPU memory", form, "MiB", most, peaks[form]))
    times = [(head_seconds(True, data), head_seconds(False, data)) for _ in range(rounds)]
    ours, theirs = map(list, zip(*times, strict=True))
    what = f"a linear head, {HEAD_EPOCHS} epochs over {HEAD_IMAGES} images of {SIZE} px"
    made.append(Comparison(what, "the frozen network run in every epoch", "s", ours, theirs, 15))
    return made
