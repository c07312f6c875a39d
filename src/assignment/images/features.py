"""Features of the frozen network: extracted once, in eval mode, and cached.

Nothing in the network changes, so an image has the same features in every epoch. A piece of the
cache is named by all that it depends on, and made again where its checksum does not match.
"""

import copy
import hashlib
import inspect
import io
import json
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm import tqdm

from assignment.common import settings
from assignment.common.files import write_if_possible
from assignment.common.settings import AssignmentError, Mode
from assignment.images import pixels, resnet
from assignment.images.resnet import Backbone

PIECE = 2_500  # images in one file of the cache: a minute of work on a laptop
Features = dict[str, Tensor]
FEATURE_NAMES = {"layer2", "layer3", "layer4", "layer4 max", "layer4 2x2"}


@dataclass(frozen=True)
class Preprocessing:
    """From stored images to network input: normalised, enlarged to `size` pixels, mirrored."""

    size: int = 224
    mirrored: bool = False
    statistics: pixels.Statistics = pixels.IMAGENET

    def __str__(self) -> str:
        own = "" if self.statistics == pixels.IMAGENET else " own statistics"
        return f"{self.size} px{' mirrored' * self.mirrored}{own}"

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 [N, 3, 32, 32] to float32 [N, 3, size, size]."""
        inputs = pixels.prepare(images, self.size, self.statistics)
        return inputs.flip(3) if self.mirrored else inputs


def pooled_features(network: nn.Module, x: Tensor) -> Features:
    """Run a ResNet stage by stage on images [N, 3, H, W] and pool its feature maps.

    Returns
    -------
    dict of str to Tensor [N, D]
        ``layer2``, ``layer3`` and ``layer4`` by global average pooling, as the network's own head
        does after ``layer4``; ``layer4 max`` by global max pooling; ``layer4 2x2`` by 2 x 2
        average pooling.
    """
    features: Features = {}
    for name, stage in network.named_children():
        if name in ("avgpool", "fc"):
            break
        x = stage(x)
        if name in ("layer2", "layer3", "layer4"):
            features[name] = x.mean((2, 3))
    features["layer4 max"] = x.amax((2, 3))
    features["layer4 2x2"] = functional.adaptive_avg_pool2d(x, 2).flatten(1)
    return features


def extract_features(
    network: nn.Module, images: Tensor, preprocessing: Preprocessing, batch: int = 50
) -> Features:
    """Run a network, in the mode it is in, on images uint8 [N, 3, 32, 32]; nothing is cached."""
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
            batches.append({name: values.float().cpu() for name, values in features.items()})
    return _concatenate(batches)


def cached_features(backbone: Backbone, images: Tensor, preprocessing: Preprocessing) -> Features:
    """Return the features of images, float32 [N, D] each, from the cache as far as it goes."""
    network = fold_batchnorm(backbone.network)
    if settings.mode() is Mode.SAMPLE:
        return extract_features(network, images, preprocessing)
    folder = settings.data_folder() / "features" / cache_key(backbone, preprocessing)
    pieces: list[Features] = []
    writable = True  # until a write fails: one line about it is enough
    for piece in tqdm(images.split(PIECE), f"features, {preprocessing}", leave=False):
        path = folder / (hashlib.sha256(piece.cpu().numpy().tobytes()).hexdigest()[:32] + ".pt")
        if (stored := _load(path)) is None:
            extracted = extract_features(network, piece, preprocessing)
            # Half precision keeps three digits, and halves a cache of about a gigabyte.
            stored = {name: values.half() for name, values in extracted.items()}
            writable = writable and _save(path, stored)
        pieces.append({name: values.float() for name, values in stored.items()})
    return _concatenate(pieces)


def seconds_per_image(backbone: Backbone, preprocessing: Preprocessing) -> float:
    """Measure the seconds that the features of one image take on this device."""
    network, few = fold_batchnorm(backbone.network), torch.zeros(100, 3, 32, 32, dtype=torch.uint8)
    extract_features(network, few[:50], preprocessing)  # the first time includes setting up
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


def _sealed(path: Path, content: bytes) -> bytes:
    return hashlib.sha256(f"{path.parent.name}/{path.name}".encode() + content).digest() + content


def _save(path: Path, features: Features) -> bool:
    buffer = io.BytesIO()
    torch.save(features, buffer)
    return write_if_possible(path, lambda file: file.write(_sealed(path, buffer.getvalue())))


def _load(path: Path) -> Features | None:
    stored = path.read_bytes() if path.is_file() else b""
    if stored != _sealed(path, stored[32:]):
        return None
    return torch.load(io.BytesIO(stored[32:]), weights_only=True)  # type: ignore[no-any-return]


def _concatenate(parts: list[Features]) -> Features:
    return {name: torch.cat([features[name] for features in parts]) for name in parts[0]}


PARTS = pixels, Preprocessing, pooled_features, extract_features, fold_batchnorm
CODE = [inspect.getsource(part) for part in PARTS]  # at import: later the file may say otherwise
