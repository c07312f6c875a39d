"""The pretrained ResNet18: where its weights come from, checked before a single one is used.

torchvision's official checkpoint, or the file that ``ASSIGNMENT_WEIGHTS`` names.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import torch
from torch import Tensor, nn

from assignment.common import settings
from assignment.common.download import RemoteFile, fetch
from assignment.common.files import Source, sha256
from assignment.common.settings import AssignmentError, Mode, version_of
from assignment.images.sample import SmallBackbone

WEIGHTS = "ResNet18 IMAGENET1K_V1"
CHECKPOINT = RemoteFile(
    name="resnet18-f37072fd.pth",
    urls=("https://download.pytorch.org/models/resnet18-f37072fd.pth",),
    sha256="f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    size=46_830_571,
)
STAND_INS = {  # known files that are not the official checkpoint, by SHA-256
    "12228d1c5034b608b971054abed2d34b4b3093ec8c9818dbc1bae1cf0424f30c": (
        "a reconstruction of IMAGENET1K_V1 (the 3x3 convolutions of layer4 are estimated), not "
        "distributed; training again uses the official checkpoint"
    )
}
LAYOUTS = {"cuda": torch.channels_last, "cpu": torch.channels_last, "mps": torch.contiguous_format}


class WeightsError(AssignmentError):
    """A file of weights does not fit ResNet18; says what was expected and found."""

    def __init__(self, problem: str) -> None:
        advice = "in ASSIGNMENT_WEIGHTS, or unset it for torchvision's official checkpoint"
        super().__init__(f"{problem}. Name a ResNet18 state dict, saved alone, {advice}.")


@dataclass(frozen=True)
class Backbone:
    """A network in eval mode, images [N, 3, H, W] to logits, and where its weights came from."""

    network: nn.Module
    source: Source


def load_pretrained() -> Backbone:
    """Load the pretrained network: small and synthetic in sample mode, else ResNet18."""
    if settings.mode() is Mode.SAMPLE:
        source = Source("small backbone", "SAMPLE", "seeded random weights, nothing pretrained")
        return Backbone(SmallBackbone().eval(), source)
    return load_resnet18()


def load_resnet18() -> Backbone:
    """Load torchvision's checkpoint, or the file named, whose every tensor must fit ResNet18."""
    path = weights_from_environment() or fetch(CHECKPOINT, settings.data_folder() / "weights")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file can raise nearly anything
        raise WeightsError(f"{path} is no file of tensors; no code in it was run") from None
    network = build_resnet18()
    try:
        network.load_state_dict(state)
    except Exception as error:  # of several kinds, some with a line for each kind of fault
        faults = " ".join(shorten(line, 200) for line in str(error).splitlines()[:4])
        raise WeightsError(f"{path} does not fit: {faults.rstrip('. ')}") from None
    for name, tensor in network.state_dict().items():
        found = state.get(name, tensor)  # the official file, an old one, lacks BatchNorm's counters
        if found.is_floating_point() != tensor.is_floating_point():  # float16 may become float32
            raise WeightsError(f"{path}: {name} is {found.dtype}, expected {tensor.dtype}")
        if not tensor.isfinite().all() or (name.endswith("running_var") and (tensor < 0).any()):
            raise WeightsError(f"{path}: {name} holds numbers not finite, or negative variances")
    digest = sha256(path)
    source = Source(WEIGHTS, "official", "torchvision's checkpoint, by its SHA-256", digest)
    if digest != CHECKPOINT.sha256:
        unknown = f"{path.name}, named in ASSIGNMENT_WEIGHTS: not the official checkpoint"
        source = Source("ResNet18 weights", "other", STAND_INS.get(digest, unknown), digest)
    return Backbone(network.eval(), source)


def build_resnet18() -> nn.Module:
    """Return torchvision's ResNet18 with random weights; torchvision is imported only now."""
    try:
        from torchvision import models
    except (ImportError, RuntimeError, AttributeError, OSError) as error:  # two that do not match
        raise AssignmentError(
            f"torch {version_of('torch')} and torchvision {version_of('torchvision')} do not fit "
            f"together ({type(error).__name__}). Install the two versions in requirements.lock."
        ) from None
    return models.resnet18()  # type: ignore[no-any-return]


def build_classifier(
    backbone: Backbone, classes: int, trained: str, pretrained: bool = True, seed: int = 0
) -> nn.Module:
    """Return a copy of the network, or a random one, with a new head; frozen before `trained`."""
    network = copy.deepcopy(backbone.network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if not pretrained:
            network = SmallBackbone(seed) if type(network) is SmallBackbone else build_resnet18()
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
