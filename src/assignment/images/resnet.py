"""A pretrained ResNet: where its weights come from, checked before a single one is used.

torchvision's official checkpoint, or the file that ``ASSIGNMENT_WEIGHTS`` names.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

from assignment.common import settings
from assignment.common.download import RemoteFile, fetch
from assignment.common.files import Source, sha256
from assignment.common.settings import AssignmentError, Mode, version_of
from assignment.images.sample import SmallBackbone

WEIGHTS = "IMAGENET1K_V1"
DEFAULT = "resnet18"
HOST = "https://download.pytorch.org/models"
PINNED = {  # checksum and size; torchvision's file names tell the first digits alone
    "resnet18": ("f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec", 46_830_571),
    "resnet34": ("b627a593", 0),
    "resnet50": ("0676ba61", 0),
}
CHECKPOINTS = {
    network: RemoteFile(file := f"{network}-{digits[:8]}.pth", (f"{HOST}/{file}",), digits, size)
    for network, (digits, size) in PINNED.items()
}
STAND_INS = {  # known files that are not the official checkpoint, by SHA-256
    "12228d1c5034b608b971054abed2d34b4b3093ec8c9818dbc1bae1cf0424f30c": (
        "a reconstruction of IMAGENET1K_V1 (the 3x3 convolutions of layer4 are estimated), not "
        "distributed; training again uses the official checkpoint"
    )
}
LAYOUTS = {"cuda": torch.channels_last, "cpu": torch.channels_last, "mps": torch.contiguous_format}


class WeightsError(AssignmentError):
    """A file of weights does not fit the network; says what was expected and found."""

    def __init__(self, problem: str) -> None:
        advice = "in ASSIGNMENT_WEIGHTS, or unset it for torchvision's official checkpoint"
        super().__init__(f"{problem}. Name a state dict of the network, saved alone, {advice}.")


@dataclass(frozen=True)
class Backbone:
    """A network in eval mode, images [N, 3, H, W] to logits, and where its weights came from."""

    network: nn.Module = field(repr=False)
    source: Source
    name: str = DEFAULT  # of the architecture


def checkpoint(network: str) -> RemoteFile:
    """Return torchvision's official checkpoint of a network; other names are refused."""
    if network not in CHECKPOINTS:
        raise AssignmentError(f"No network {network!r}; choose one of {', '.join(CHECKPOINTS)}.")
    return CHECKPOINTS[network]


def load_pretrained(network: str = DEFAULT) -> Backbone:
    """Load a pretrained network: small and synthetic in sample mode, else a ResNet."""
    checkpoint(network)  # the sample refuses other names, too
    if settings.mode() is Mode.SAMPLE:
        source = Source("small backbone", "SAMPLE", "seeded random weights, nothing pretrained")
        return Backbone(SmallBackbone().eval(), source, network)
    return load_resnet(network)


def load_resnet(named: str = DEFAULT) -> Backbone:
    """Load torchvision's checkpoint, or the file named, whose every tensor must fit the network."""
    title, official = named.replace("resnet", "ResNet"), checkpoint(named)
    path = weights_from_environment() or fetch(official, settings.data_folder() / "weights")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file can raise nearly anything
        raise WeightsError(f"{path} is no file of tensors; no code in it was run") from None
    network = build_resnet(named)
    try:
        network.load_state_dict(state)
    except Exception as error:  # of several kinds, some with a line for each kind of fault
        faults = " ".join(shorten(line, 200) for line in str(error).splitlines()[:4])
        raise WeightsError(f"{path} does not fit {title}: {faults.rstrip('. ')}") from None
    for name, tensor in network.state_dict().items():
        found = state.get(name, tensor)  # the official file, an old one, lacks BatchNorm's counters
        if found.is_floating_point() != tensor.is_floating_point():  # float16 may become float32
            raise WeightsError(f"{path}: {name} is {found.dtype}, expected {tensor.dtype}")
        if not tensor.isfinite().all() or (name.endswith("running_var") and (tensor < 0).any()):
            raise WeightsError(f"{path}: {name} holds numbers not finite, or negative variances")
    digest, how = sha256(path), "torchvision's checkpoint, by its SHA-256"
    source = Source(f"{title} {WEIGHTS}", "official", how, digest)
    if not digest.startswith(official.sha256):
        unknown = f"{path.name}, named in ASSIGNMENT_WEIGHTS: not the official checkpoint"
        source = Source(f"{title} weights", "other", STAND_INS.get(digest, unknown), digest)
    return Backbone(network.eval(), source, named)


def build_resnet(network: str = DEFAULT) -> nn.Module:
    """Return torchvision's network with random weights."""
    return import_torchvision().models.get_model(network)  # type: ignore[no-any-return]


def import_torchvision() -> Any:
    """Import torchvision, which takes a second, only now; it must fit the torch that is here."""
    try:
        import torchvision
    except (ImportError, RuntimeError, AttributeError, OSError) as error:  # two that do not match
        raise AssignmentError(
            f"torch {version_of('torch')} and torchvision {version_of('torchvision')} do not fit "
            f"together ({type(error).__name__}). Install the two versions in requirements.lock."
        ) from None
    return torchvision


def build_classifier(
    backbone: Backbone, classes: int, trained: str, pretrained: bool = True, seed: int = 0
) -> nn.Module:
    """Return a copy of the network, or a random one, with a new head; frozen before `trained`."""
    network = copy.deepcopy(backbone.network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if not pretrained:
            small = type(network) is SmallBackbone
            network = SmallBackbone(seed) if small else build_resnet(backbone.name)
        network.fc = nn.Linear(network.fc.in_features, classes)  # type: ignore[union-attr, arg-type]
    learns = trained == "all"
    for name, part in network.named_children():
        learns = learns or name == trained
        part.requires_grad_(learns)
    if not learns:
        raise ValueError(f"trained is {trained!r}; choose 'all', 'fc' or a stage such as 'layer4'")
    return network


def to_device(network: nn.Module, on: torch.device) -> nn.Module:
    """Move a network to a device, in the memory layout that is faster there."""
    return network.to(on, memory_format=LAYOUTS[on.type])  # type: ignore[call-overload, no-any-return]


def match_layout(images: Tensor, on: torch.device) -> Tensor:
    """Lay a batch of images out in memory as `to_device` lays out the network."""
    return images.contiguous(memory_format=LAYOUTS[on.type])


def forward_cost(shape: Sequence[int]) -> float:
    """Estimate what a forward pass takes, in images of 224 pixels; features [N, D] take little."""
    return shape[0] * ((shape[-1] / 224) ** 2 if len(shape) == 4 else 1e-3)


def autocast(on: torch.device, images: bool = True) -> torch.autocast:
    """Compute products in bfloat16 where the device gains from it, see `settings.precision`.

    A linear layer on features would gain nothing, and its logits would be rounded.
    """
    lower = settings.precision(on)
    return torch.autocast(on.type, lower, enabled=images and lower is not torch.float32)


def weights_from_environment() -> Path | None:
    """Return the file that ``ASSIGNMENT_WEIGHTS`` names, if it names one."""
    if (path := settings.named_path("ASSIGNMENT_WEIGHTS")) and not path.is_file():
        raise WeightsError(f"ASSIGNMENT_WEIGHTS names {path}, where there is no file")
    return path
