"""The pretrained ResNet18: where its weights come from, checked before a single one is used.

torchvision's official checkpoint, or the file that ``ASSIGNMENT_WEIGHTS`` names.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

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
    https_only=True,
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
        advice = "dict in ASSIGNMENT_WEIGHTS, or unset it for torchvision's official checkpoint"
        super().__init__(f"{problem}. Name a ResNet18 state {advice}.")


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
    return read_checkpoint(weights_from_environment() or fetch(CHECKPOINT, weights_folder()))


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


def autocast(on: torch.device) -> torch.autocast:
    """Compute products in bfloat16 where the device gains from it, see `settings.precision`."""
    lower = settings.precision(on)
    return torch.autocast(on.type, lower, enabled=lower is not torch.float32)


def weights_folder() -> Path:
    """Return where checkpoints live."""
    return settings.data_folder() / "weights"


def weights_from_environment() -> Path | None:
    """Return the file that ``ASSIGNMENT_WEIGHTS`` names, if it names one."""
    if (path := settings.named_path("ASSIGNMENT_WEIGHTS")) and not path.is_file():
        raise WeightsError(f"ASSIGNMENT_WEIGHTS names {path}, where there is no file")
    return path


def weights_source(path: Path) -> Source:
    """Say whether a file of weights is the official checkpoint."""
    digest = sha256(path)
    if digest == CHECKPOINT.sha256:
        return Source(WEIGHTS, "official", "torchvision's checkpoint, by its SHA-256", digest)
    unknown = f"{path.name}, named in ASSIGNMENT_WEIGHTS: not the official checkpoint"
    return Source("ResNet18 weights", "other", STAND_INS.get(digest, unknown), digest)


def expected_weights() -> Source:
    """Say which weights this mode would use, without needing them."""
    if settings.mode() is Mode.SAMPLE:
        return load_pretrained().source
    if settings.mode() is Mode.RECORDED:
        return Source("ResNet18 weights", "not read", "the records name theirs")
    path = weights_from_environment() or weights_folder() / CHECKPOINT.name
    if path.is_file():
        return weights_source(path)
    return Source(WEIGHTS, "official", "not here yet; checked on arrival", CHECKPOINT.sha256)


def check_weights(path: Path) -> Source:
    """Hold a checkpoint against ResNet18, as `load_pretrained` does, and say what it is."""
    return read_checkpoint(path).source


def read_checkpoint(path: Path) -> Backbone:
    """Load a state dict that fits ResNet18 in names, shapes, types and values."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file can raise nearly anything
        raise WeightsError(f"{path} is no file of tensors; no code in it was run") from None
    if not isinstance(state, dict):
        raise WeightsError(f"{path} holds a {type(state).__name__}, expected a state dict")
    if wrapped := [key for key, value in state.items() if isinstance(value, dict)]:
        raise WeightsError(f"{path} holds dicts under {wrapped}; save the state dict alone")
    network = build_resnet18()
    wanted = network.state_dict()
    # Old checkpoints, the official one among them, lack these counters, which nothing here uses.
    state = {n: v for n, v in wanted.items() if n.endswith("num_batches_tracked")} | state
    faults = [f"{name} is not part of ResNet18" for name in state.keys() - wanted.keys()]
    for name, tensor in wanted.items():
        found = state.get(name)
        if not isinstance(found, Tensor) or found.is_meta or found.layout is not torch.strided:
            faults.append(f"{name} is {'not a plain tensor' if name in state else 'missing'}")
        elif found.shape != tensor.shape or found.is_floating_point() != tensor.is_floating_point():
            expected = f"{tensor.dtype} {[*tensor.shape]}"  # float16 may be read as float32
            faults.append(f"{name} is {found.dtype} {[*found.shape]}, expected {expected}")
        elif not found.to(tensor.dtype).isfinite().all():
            faults.append(f"{name} holds values that are not finite")
        elif name.endswith("running_var") and (found < 0).any():
            faults.append(f"{name} holds negative variances")
    if faults:
        some = "; ".join(sorted(faults)[:3])
        raise WeightsError(f"{path} does not fit ({len(faults)} faults): {some}")
    network.load_state_dict(state)
    return Backbone(network.eval(), weights_source(path))
