"""Features of the frozen network: extracted once, in eval mode, and cached.

Nothing in the network changes, so an image has the same features in every epoch. A piece of the
cache is named by all that it depends on, and made again where its checksum does not match.
"""

import copy
import hashlib
import inspect
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from assignment.common import progress, settings
from assignment.common.files import load_tensors, save_tensors
from assignment.common.settings import AssignmentError, Mode
from assignment.images import pixels, resnet
from assignment.images.resnet import Backbone

PIECE = 2_500  # images in one file of the cache: a minute of work on a laptop
Features = dict[str, Tensor]
POOLINGS = ("", " 2x2", " max", " rms")
FEATURE_NAMES = {f"layer{stage}{pooling}" for stage in (1, 2, 3, 4) for pooling in POOLINGS}


@dataclass(frozen=True)
class Preprocessing:
    """From stored images to network input: normalised, resized to `size` pixels, mirrored."""

    size: int = 224
    mirrored: bool = False
    statistics: pixels.Statistics = pixels.IMAGENET

    def __str__(self) -> str:
        own = "" if self.statistics == pixels.IMAGENET else " own statistics"
        return f"{self.size} px{' mirrored' * self.mirrored}{own}"

    def cost(self, images: int) -> float:
        """Estimate what so many images take, see `resnet.forward_cost`."""
        return resnet.forward_cost((images, 3, self.size, self.size))

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 [N, 3, S, S] to float32 [N, 3, size, size]."""
        inputs = pixels.prepare(images, self.size, self.statistics)
        return inputs.flip(3) if self.mirrored else inputs


def pooled_features(network: nn.Module, x: Tensor) -> Features:
    """Run a ResNet stage by stage on images [N, 3, H, W] and pool its feature maps.

    Returns
    -------
    dict of str to float32 Tensor [N, D]
        For each of the four stages, such as ``layer4``: global average pooling, as the network's
        own head does; ``layer4 2x2``, 2 x 2 average pooling; ``layer4 max``, global max pooling;
        ``layer4 rms``, the root mean square of each map.
    """
    features: Features = {}
    for name, stage in network.named_children():
        if name in ("avgpool", "fc"):
            break
        x = stage(x)
        if name.startswith("layer"):
            maps = x.float()
            features[name] = maps.mean((2, 3))
            features[f"{name} 2x2"] = functional.adaptive_avg_pool2d(maps, 2).flatten(1)
            features[f"{name} max"] = maps.amax((2, 3))
            features[f"{name} rms"] = maps.square().mean((2, 3)).sqrt()
    return features


def extract_features(
    network: nn.Module, images: Tensor, preprocessing: Preprocessing, batch: int = 50
) -> Features:
    """Run a network, in the mode it is in, on images uint8 [N, 3, S, S]; nothing is cached."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise AssignmentError(
            f"Images are {images.dtype} {list(images.shape)}, expected torch.uint8 [N, 3, H, W]: "
            "pass them as they are stored, from 0 to 255."
        )
    on = settings.device()
    network = resnet.to_device(network, on)
    batches: list[Features] = []
    with torch.inference_mode(), resnet.autocast(on):
        for some in images.split(batch):  # few enough to stay in a CPU's cache
            inputs = resnet.match_layout(preprocessing.prepare(some.to(on)), on)
            features = pooled_features(network, inputs)
            batches.append({name: values.cpu() for name, values in features.items()})
            progress.done(resnet.forward_cost(inputs.shape))
    return _concatenate(batches)


def cached_features(
    backbone: Backbone, images: Tensor, preprocessing: Preprocessing, names: Sequence[str]
) -> Tensor:
    """Return features of images side by side, float32 [N, D], from the cache as far as it goes."""
    network = fold_batchnorm(backbone.network)
    if settings.mode() is Mode.SAMPLE:
        return _join(extract_features(network, images, preprocessing), names)
    folder = settings.data_folder() / "features" / cache_key(backbone, preprocessing)
    pieces: list[Tensor] = []
    writable = True  # until a write fails: one line about it is enough
    for piece in images.split(PIECE):
        path = folder / (hashlib.sha256(piece.cpu().numpy().data).hexdigest()[:32] + ".pt")
        if (stored := load_tensors(path)) is None:  # or damaged: it is made again
            extracted = extract_features(network, piece, preprocessing)
            # Half precision keeps three digits, and halves a cache of about a gigabyte.
            stored = {name: values.half() for name, values in extracted.items()}
            writable = writable and save_tensors(path, stored)
        else:
            progress.skip(preprocessing.cost(len(piece)))
        pieces.append(_join(stored, names))
    return torch.cat(pieces)


def seconds_per_image(backbone: Backbone, preprocessing: Preprocessing, most: int = 500) -> float:
    """Measure, on `most` images, the seconds that the features of one take on this device."""
    network = fold_batchnorm(backbone.network)
    few = torch.zeros(min(most, 500), 3, 32, 32, dtype=torch.uint8)
    extract_features(network, few[:100], preprocessing)  # the first time includes setting up
    started = time.perf_counter()
    extract_features(network, few, preprocessing)
    return (time.perf_counter() - started) / len(few)


def size_for_mode(size: int) -> int:
    """Return the size given; in sample mode a small one, larger where more is asked for."""
    return 32 + size // 16 if settings.mode() is Mode.SAMPLE else size


def fold_batchnorm(network: nn.Module) -> nn.Module:
    """Return a copy in eval mode, faster, with BatchNorm folded into the convolution before it."""
    folded = copy.deepcopy(network).eval()
    for parent in folded.modules():
        for (before, convolution), (after, norm) in pairwise(list(parent.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, before, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, after, nn.Identity())
    return folded


def cache_key(backbone: Backbone, preprocessing: Preprocessing) -> str:
    """Name everything that features depend on besides the images: a short name and a checksum."""
    precision = str(settings.precision(settings.device()))
    digest = hashlib.sha256(json.dumps([asdict(preprocessing), precision, CODE]).encode())
    for name, tensor in backbone.network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy())
    return f"{preprocessing} {digest.hexdigest()[:16]}".replace(" ", "-")


def _join(features: Features, names: Sequence[str]) -> Tensor:
    return torch.cat([features[name].float() for name in names], dim=1)


def _concatenate(parts: list[Features]) -> Features:
    return {name: torch.cat([features[name] for features in parts]) for name in parts[0]}


PARTS = pixels, Preprocessing, pooled_features, extract_features, fold_batchnorm
CODE = [inspect.getsource(part) for part in PARTS]  # at import: later the file may say otherwise
