"""How near the pipeline comes to the bare network, and how far it is ahead of the usual way.

Needs the real data; the weights do not matter for speed. The pipeline is what the notebook runs,
the limit the same network on one batch that never changes, the usual way torchvision's dataset with
PIL images and a DataLoader, in the pipeline's precision and layout and in float32 and the default.
"""

import os
import time
from collections.abc import Iterable
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
from tests.bench.table import Comparison, compare

SIZE = 128
BATCH = 128  # the finetuning recipe's
PIPELINE, LIMIT = "pipeline", "the bare network on a resident batch"
WORKERS = max(0, (os.cpu_count() or 1) - 2)  # on the cores that the network leaves
SAME, DEFAULT = (
    f"dataset, PIL and DataLoader, {WORKERS} workers, {precision}"
    for precision in ("same precision", "float32")
)
HEAD_EPOCHS, HEAD_IMAGES = 20, 640


def network(same: bool = True) -> nn.Module:
    """Return a ResNet18 for ten classes, laid out as the pipeline does it, or as it comes."""
    torch.manual_seed(0)
    made = models.resnet18(num_classes=10)
    return resnet.to_device(made, settings.device()) if same else made.to(settings.device())


def some(split: Split, count: int) -> Split:
    """Return the first images on the device."""
    return Split(split.images[:count], split.labels[:count]).to(settings.device())


def batches(form: str) -> Iterable[tuple[Tensor, Tensor]]:
    """Repeat one batch of noise, or load, transform and collate the way most tutorials do."""
    if form == LIMIT:
        on = settings.device()
        images = resnet.match_layout(torch.randn(BATCH, 3, SIZE, SIZE, device=on), on)
        return repeat((images, torch.randint(0, 10, (BATCH,), device=on)))
    steps = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.Resize(SIZE)]
    as_tensors = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    transform = v2.Compose([*steps, *as_tensors, v2.Normalize(*pixels.IMAGENET)])
    dataset = datasets.CIFAR10(settings.data_folder(), train=True, transform=transform)
    return DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=WORKERS)


def pace(form: str, data: Cifar10, count: int) -> float:
    """Return images per second of finetuning, over some batches after one that sets things up."""
    if form == PIPELINE:
        recipe, shown = Recipe(epochs=1, batch=BATCH), some(data.train, count * BATCH)
        transform = Plan(recipe, (SIZE,)).transform
        return training.train(network(), shown, some(shown, 1), recipe, transform).throughput
    on, same = settings.device(), form != DEFAULT
    model = network(same).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    began = 0.0
    for images, labels in islice(batches(form), count + 1):
        inputs = resnet.match_layout(images.to(on), on) if same else images.to(on)
        with resnet.autocast(on) if same else nullcontext():
            loss = nn.functional.cross_entropy(model(inputs).float(), labels.to(on))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()  # waits for the device
        began = began or time.perf_counter()
    return count * BATCH / (time.perf_counter() - began)


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
    data, what = cifar10.load(), f"finetuning, {SIZE} px"
    paced = partial(pace, data=data, count=count)
    pace(PIPELINE, data, 1)
    made = [
        compare(what, form, "images/s", rounds, paced, PIPELINE, form)
        for form in (LIMIT, SAME, DEFAULT)
    ]
    timed, against = partial(head_seconds, data=data), "the frozen network run in every epoch"
    what = f"a linear head, {HEAD_EPOCHS} epochs over {HEAD_IMAGES} images of {SIZE} px"
    made.append(compare(what, against, "s", rounds, timed, True, False))
    return made
