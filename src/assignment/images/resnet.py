"""The pretrained ResNet18: where its weights come from, checked before a single one is used.

torchvision's official checkpoint is the default. Another file is taken only where
``ASSIGNMENT_WEIGHTS`` names it, and its name and checksum are shown with every result.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from assignment.common import download, files, settings
from assignment.common.download import PATIENT, Effort, RemoteFile
from assignment.common.files import Source
from assignment.common.settings import AssignmentError, Mode, version_of
from assignment.images import sample

WEIGHTS = "ResNet18 IMAGENET1K_V1"
CHECKPOINT = RemoteFile(
    name="resnet18-f37072fd.pth",
    urls=("https://download.pytorch.org/models/resnet18-f37072fd.pth",),
    sha256="f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    size=46_830_571,
    https_only=True,
)
STAND_INS = {  # files that are not the official checkpoint, but known: SHA-256 to what they are
    "12228d1c5034b608b971054abed2d34b4b3093ec8c9818dbc1bae1cf0424f30c": (
        "a reconstruction of IMAGENET1K_V1 (the 3x3 convolutions of layer4 are estimated), not "
        "distributed; training again uses the official checkpoint"
    )
}


class WeightsError(AssignmentError):
    """A file of weights does not fit ResNet18; says what was expected and found."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"{problem}. Name a ResNet18 state dict in ASSIGNMENT_WEIGHTS, or unset it for "
            "torchvision's official checkpoint."
        )


@dataclass(frozen=True)
class Backbone:
    """A network in eval mode, images [N, 3, H, W] to logits, and where its weights came from."""

    network: nn.Module
    source: Source


def load_pretrained(effort: Effort = PATIENT) -> Backbone:
    """Load the pretrained network: small and synthetic in sample mode, else ResNet18."""
    if settings.mode() is Mode.SAMPLE:
        source = Source("small backbone", "SAMPLE", "seeded random weights, nothing pretrained")
        return Backbone(sample.SmallBackbone().eval(), source)
    path = weights_from_environment() or download.fetch(CHECKPOINT, weights_folder(), effort)
    network = build_resnet18()
    network.load_state_dict(read_checkpoint(path, network))
    return Backbone(network.eval(), weights_source(path))


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
    backbone: Backbone,
    classes: int = 10,
    trained: str = "all",
    pretrained: bool = True,
    seed: int = 0,
) -> nn.Module:
    """Return a copy of the network with a new head; `trained` is the first part that is trained.

    ``"fc"`` trains the head alone, ``"layer4"`` the last stage too, ``"all"`` everything; what
    comes before is frozen. Without `pretrained` the network starts from random weights.
    """
    network = copy.deepcopy(backbone.network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if not pretrained:
            small = isinstance(network, sample.SmallBackbone)
            network = sample.SmallBackbone(seed) if small else build_resnet18()
        fc = network.get_submodule("fc")
        assert isinstance(fc, nn.Linear), "the head of a ResNet"
        network.add_module("fc", nn.Linear(fc.in_features, classes))
    learns = trained == "all"
    for name, part in network.named_children():
        learns = learns or name == trained
        part.requires_grad_(learns)
    if not learns:
        raise ValueError(f"trained is {trained!r}; choose 'all', 'fc' or a stage such as 'layer4'")
    return network


def to_device(network: nn.Module, on: torch.device) -> nn.Module:
    """Move a network to a device, in the memory layout that is faster there."""
    return network.to(on, memory_format=_layout(on))  # type: ignore[call-overload, no-any-return]


def match_layout(images: Tensor, on: torch.device) -> Tensor:
    """Lay a batch of images out in memory as `to_device` lays out the network."""
    return images.contiguous(memory_format=_layout(on))


def _layout(on: torch.device) -> torch.memory_format:
    return torch.contiguous_format if on.type == "mps" else torch.channels_last


def autocast(on: torch.device) -> torch.autocast:
    """Compute products in bfloat16 where the device gains from it, see `settings.precision`."""
    lower = settings.precision(on)
    return torch.autocast(on.type, lower, enabled=lower is not torch.float32)


def weights_folder() -> Path:
    """Return where checkpoints live."""
    return settings.data_folder() / "weights"


def weights_from_environment() -> Path | None:
    """Return the file that ``ASSIGNMENT_WEIGHTS`` names, if it names one."""
    path = settings.named_path("ASSIGNMENT_WEIGHTS")
    if path is not None and not path.is_file():
        raise WeightsError(f"ASSIGNMENT_WEIGHTS names {path}, where there is no file")
    return path


def weights_source(path: Path) -> Source:
    """Say whether a file of weights is the official checkpoint."""
    digest = files.sha256(path)
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
    read_checkpoint(path, build_resnet18())
    return weights_source(path)


def read_checkpoint(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """Read a state dict and check that it fits the network: names, shapes, types and values.

    Half precision is taken, since loading it loses nothing: float32 holds every float16 number.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file can raise nearly anything
        raise WeightsError(f"{path} is no file of tensors; no code in it was run") from None
    if not isinstance(state, dict):
        raise WeightsError(f"{path} holds a {type(state).__name__}, expected a state dict")
    if wrapped := [key for key, value in state.items() if isinstance(value, dict)]:
        raise WeightsError(f"{path} holds dicts under {wrapped}; save the state dict alone")
    wanted = network.state_dict()
    # Old checkpoints, the official one among them, lack these counters, which nothing here uses.
    state = {n: v for n, v in wanted.items() if n.endswith("num_batches_tracked")} | state
    faults = {name: "is not part of ResNet18" for name in state.keys() - wanted.keys()}
    faults |= {name: _fault(name, state.get(name), tensor) for name, tensor in wanted.items()}
    if found := sorted(f"{name} {fault}" for name, fault in faults.items() if fault):
        raise WeightsError(f"{path} does not fit ({len(found)} faults): {'; '.join(found[:3])}")
    return state


def _fault(name: str, found: object, wanted: Tensor) -> str:
    if found is None:
        return "is missing"
    if not isinstance(found, Tensor) or found.is_meta or found.layout is not torch.strided:
        return "is not a plain tensor"
    if found.shape != wanted.shape or found.is_floating_point() != wanted.is_floating_point():
        return f"is {found.dtype} {[*found.shape]}, expected {wanted.dtype} {[*wanted.shape]}"
    values = found.to(wanted.dtype)
    if not values.isfinite().all():
        return "holds values that are not finite"
    if name.endswith("running_var") and (values < 0).any():
        return "holds negative variances"
    return ""
