"""What the frozen network sees in an image: extracted once, in eval mode, and cached.

"Frozen" means that nothing changes, BatchNorm's running statistics included, so every image has
the same features in every epoch and the network need not run again. They are cached in pieces under
a key of everything they depend on; a piece that does not belong or is damaged is made again.
"""

import copy
import hashlib
import inspect
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm import tqdm

from assignment.common import settings
from assignment.common.settings import Mode
from assignment.images import pixels, resnet
from assignment.images.pixels import IMAGENET, Statistics
from assignment.images.resnet import Backbone

PIECE = 2_500  # images in one file of the cache: a minute of work on a laptop
Features = dict[str, Tensor]
FEATURE_NAMES = {"layer2", "layer3", "layer4", "layer4 peaks", "layer4 quarters"}


@dataclass(frozen=True)
class Preprocessing:
    """One way of showing images to the network.

    Attributes
    ----------
    size : int
        Pixels a side after enlarging.
    mirrored : bool
        Whether each image is shown left to right.
    statistics : pair of triples
        Channel means and standard deviations that the pixels are normalised with.
    """

    size: int = 224
    mirrored: bool = False
    statistics: Statistics = IMAGENET

    def __str__(self) -> str:
        """Return a short name."""
        mirrored = " mirrored" if self.mirrored else ""
        own = "" if self.statistics == IMAGENET else " own statistics"
        return f"{self.size} px{mirrored}{own}"

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 [N, 3, 32, 32] to what the network is shown."""
        shown = pixels.prepare(images, self.size, self.statistics)
        return shown.flip(3) if self.mirrored else shown


def pooled_features(network: nn.Module, shown: Tensor) -> Features:
    """Run the network stage by stage and summarise what the last three stages see.

    Parameters
    ----------
    network : Module
        With ResNet's names: parts before ``layer1``, ``layer1`` to ``layer4``, then the head.
    shown : Tensor, float [N, 3, H, W]

    Returns
    -------
    dict of str to Tensor
        ``layer2``, ``layer3``, ``layer4``: the mean over all places, ``layer4`` being what the
        network's own head sees; ``layer4 peaks``: the maximum over all places; ``layer4 quarters``:
        the mean over each quarter of the image.
    """
    features: Features = {}
    for name, part in network.named_children():
        if name in ("avgpool", "fc"):
            break
        shown = part(shown)
        if name in ("layer2", "layer3", "layer4"):
            features[name] = shown.mean((2, 3))
    features["layer4 peaks"] = shown.amax((2, 3))
    features["layer4 quarters"] = nn.functional.adaptive_avg_pool2d(shown, 2).flatten(1)
    return features


def extract_features(
    network: nn.Module, images: Tensor, view: Preprocessing, batch: int = 50
) -> Features:
    """Show images to a network as it is, in whatever mode it is in; nothing is cached.

    Parameters
    ----------
    network : Module
    images : Tensor, uint8 [N, 3, 32, 32]
    view : View
    batch : int
        Images at a time. Small enough to stay in a CPU's cache.
    """
    on = settings.device()
    network = resnet.to_device(network, on)
    found: list[Features] = []
    with torch.inference_mode(), resnet.autocast(on):
        for some in images.split(batch):
            shown = resnet.match_layout(view.prepare(some.to(on)), on)
            found.append(
                {name: f.float().cpu() for name, f in pooled_features(network, shown).items()}
            )
    return {name: torch.cat([features[name] for features in found]) for name in found[0]}


def cached_features(backbone: Backbone, images: Tensor, view: Preprocessing) -> Features:
    """Return the features of images, from the cache as far as it goes.

    Parameters
    ----------
    backbone : Backbone
    images : Tensor, uint8 [N, 3, 32, 32]
    view : View

    Returns
    -------
    dict of str to Tensor, float32 [N, D]
        See `pooled_features`.
    """
    network = fold_batchnorm(backbone.network)
    if settings.mode() is Mode.SAMPLE:
        return extract_features(network, images, view)
    folder = cache_folder() / cache_key(backbone, view)
    pieces = images.split(PIECE)
    found = [
        _piece(folder, network, piece, view)
        for piece in tqdm(pieces, f"features, {view}", unit_scale=PIECE, leave=False)
    ]
    return {name: torch.cat([features[name] for features in found]) for name in found[0]}


def estimate_seconds(backbone: Backbone, images: Sequence[Tensor], view: Preprocessing) -> float:
    """Estimate how long it takes until all these images have features, by showing a few."""
    folder = cache_folder() / cache_key(backbone, view)
    pieces = [piece for some in images for piece in some.split(PIECE)]
    missing = sum(len(piece) for piece in pieces if not _path(folder, piece).is_file())
    return missing * seconds_per_image(backbone, view) if missing else 0.0


def seconds_per_image(backbone: Backbone, view: Preprocessing) -> float:
    """Measure the seconds that the features of one image take on this device."""
    network, few = fold_batchnorm(backbone.network), torch.zeros(100, 3, 32, 32, dtype=torch.uint8)
    extract_features(network, few[:50], view)  # the first time includes setting up
    started = time.perf_counter()
    extract_features(network, few, view)
    return (time.perf_counter() - started) / len(few)


def size_for_mode(size: int) -> int:
    """Return the size asked for; in sample mode a small one, larger where more is asked for."""
    return 32 + size // 16 if settings.mode() is Mode.SAMPLE else size


def fold_batchnorm(network: nn.Module) -> nn.Module:
    """Return a copy in eval mode with every BatchNorm folded into the convolution before it.

    The same function up to rounding, with a fifth less time on a CPU at 224 pixels.
    """
    folded = copy.deepcopy(network).eval()
    for parent in folded.modules():
        children = list(parent.named_children())
        for (before, convolution), (after, norm) in itertools.pairwise(children):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, before, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, after, nn.Identity())
    return folded


def cache_folder() -> Path:
    """Return where features are cached: git-ignored, beside the data."""
    return settings.data_folder() / "features"


def cache_key(backbone: Backbone, view: Preprocessing) -> str:
    """Name everything that features depend on besides the images: a short name and a checksum."""
    depends_on = {
        "view": asdict(view),
        "weights": backbone.source.sha256,
        "precision": str(settings.precision(settings.device())),
        "code": CODE,
    }
    digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
    return f"{view} {digest[:16]}".replace(" ", "-")


def _piece(folder: Path, network: nn.Module, images: Tensor, view: Preprocessing) -> Features:
    """Return the features of one piece, cached under the checksum of its images."""
    path = _path(folder, images)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            cached = {name: torch.from_numpy(file[name]).float() for name in file.files}
        if cached.keys() == FEATURE_NAMES and all(len(f) == len(images) for f in cached.values()):
            return cached
    except Exception:  # not there, or damaged, which can raise nearly anything: made again
        pass
    made = extract_features(network, images, view)
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        # Half precision keeps three digits, and halves a cache of about a gigabyte.
        np.savez(file, allow_pickle=False, **{n: f.half().numpy() for n, f in made.items()})
    part.replace(path)
    return {name: features.half().float() for name, features in made.items()}


def _path(folder: Path, images: Tensor) -> Path:
    return folder / f"{hashlib.sha256(images.cpu().numpy().tobytes()).hexdigest()[:32]}.npz"


# Read at import: later the file may say something else than what runs.
CODE = [
    inspect.getsource(part)
    for part in (pixels, Preprocessing, pooled_features, extract_features, fold_batchnorm)
]
