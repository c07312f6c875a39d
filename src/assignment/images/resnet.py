"""The pretrained ResNet18: where its weights come from, checked before a single one is used.

torchvision's official checkpoint is the default. Another file is taken only where
``ASSIGNMENT_WEIGHTS`` names it, after a strict check, and its name and checksum then go wherever
results are shown.
"""

import copy
import os
import re
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


# Files that are not the official checkpoint and of which more is known than that.
STAND_INS = {
    "12228d1c5034b608b971054abed2d34b4b3093ec8c9818dbc1bae1cf0424f30c": (
        "a reconstruction of IMAGENET1K_V1 (the 3x3 convolutions of layer4 are estimated), not "
        "distributed; training again uses the official checkpoint"
    )
}


class WeightsError(AssignmentError):
    """A file of weights does not fit ResNet18; says what was expected and found."""


@dataclass(frozen=True)
class Backbone:
    """A network and where its weights came from.

    Attributes
    ----------
    network : Module
        In eval mode; images float32 [N, 3, H, W] to logits [N, 1000].
    source : Source
    """

    network: nn.Module
    source: Source


def load_pretrained(effort: Effort = PATIENT) -> Backbone:
    """Load the pretrained network: small and synthetic in sample mode, else ResNet18.

    Examples
    --------
    >>> import os; os.environ["ASSIGNMENT_MODE"] = "sample"
    >>> load().source.origin
    'SAMPLE'
    """
    if settings.mode() is Mode.SAMPLE:
        source = Source("small backbone", "SAMPLE", "seeded random weights, nothing pretrained")
        return Backbone(sample.SmallBackbone().eval(), source)
    path = weights_from_environment() or download.fetch(CHECKPOINT, weights_folder(), effort)
    network = build_resnet18()
    network.load_state_dict(read_checkpoint(path, network), strict=True)
    return Backbone(network.eval(), weights_source(path))


def build_resnet18() -> nn.Module:
    """Return torchvision's ResNet18 with random weights; torchvision is imported only now."""
    try:
        from torchvision import models
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        # "operator torchvision::nms does not exist"; asked again, "partially initialized module".
        lock = (settings.PROJECT / "requirements.lock").read_text(encoding="utf-8").split()
        pair = " ".join(line for line in lock if line.startswith(("torch==", "torchvision==")))
        raise AssignmentError(
            f"torch {version_of('torch')} and torchvision {version_of('torchvision')} are "
            f"installed and do not fit together ({str(error).partition(chr(10))[0]}). Mend it: "
            f"python -m pip install --force-reinstall {pair}"
        ) from None
    return models.resnet18()  # type: ignore[no-any-return]


def build_classifier(
    backbone: Backbone,
    classes: int = 10,
    trained: str = "all",
    pretrained: bool = True,
    seed: int = 0,
) -> nn.Module:
    """Return a copy of the network with a new head, ready to be trained.

    Parameters
    ----------
    backbone : Backbone
    classes : int
    trained : str
        The first part that learns: ``"fc"`` the head alone, ``"layer4"`` the last stage too, or
        ``"all"``. What comes before it is frozen.
    pretrained : bool
        Whether to keep the weights; otherwise the network starts at random.
    seed : int
        Of the new weights.
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


def autocast(on: torch.device) -> torch.autocast:
    """Compute products in bfloat16 where the device gains from it, see `runtime.precision`."""
    lower = settings.precision(on)
    return torch.autocast(on.type, lower, enabled=lower is not torch.float32)


def _layout(on: torch.device) -> torch.memory_format:
    return torch.contiguous_format if on.type == "mps" else torch.channels_last


def weights_folder() -> Path:
    """Return where checkpoints live."""
    return settings.data_folder() / "weights"


def weights_from_environment() -> Path | None:
    """Return the file that ``ASSIGNMENT_WEIGHTS`` names, if it names one."""
    path = settings.named_path("ASSIGNMENT_WEIGHTS")
    if path is not None and not path.is_file():
        raise WeightsError(
            f"ASSIGNMENT_WEIGHTS names {os.environ['ASSIGNMENT_WEIGHTS']}, and there is no such "
            "file. Name a ResNet18 state dict, or unset it for torchvision's official checkpoint."
        )
    return path


def weights_source(path: Path) -> Source:
    """Say whether a file of weights is the official checkpoint."""
    digest = files.sha256(path)
    if digest == CHECKPOINT.sha256:
        return Source(
            WEIGHTS, "official", "torchvision's checkpoint, by its pinned SHA-256", digest
        )
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


def read_checkpoint(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """Read a state dict and hold it against the network: names, shapes, types, finite values."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise nearly anything
        first = re.split(r"[\n.] ?", str(error).strip() or type(error).__name__)[0]
        raise WeightsError(f"{path} is not a readable file of tensors ({first}). {_MEND}") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path} is not a state dict (names to tensors). {_MEND}")
    wanted = network.state_dict()
    # Checkpoints older than these counters, the official one among them, hold none; nothing that
    # is computed here depends on them.
    counters = {n: v for n, v in wanted.items() if n.endswith("num_batches_tracked")}
    state = {**counters, **state}
    faults = [f"{name} is missing" for name in wanted.keys() - state.keys()]
    faults += [f"{name} is not part of ResNet18" for name in state.keys() - wanted.keys()]
    for name in wanted.keys() & state.keys():
        there, here = state[name], wanted[name]
        if there.is_nested or there.is_meta or there.layout is not torch.strided:
            faults.append(f"{name} is not a plain tensor")
        elif there.shape != here.shape:
            faults.append(f"{name} is {list(there.shape)}, expected {list(here.shape)}")
        elif there.is_floating_point() != here.is_floating_point():
            faults.append(f"{name} is {there.dtype}, expected {here.dtype}")
        elif not there.to(here.dtype).isfinite().all():
            faults.append(f"{name} holds values that are not finite")
    if faults:
        more = f", and {len(faults) - 3} more" if len(faults) > 3 else ""
        listed = "; ".join(sorted(faults)[:3])
        raise WeightsError(f"{path} does not fit ResNet18: {listed}{more}. {_MEND}")
    return state


_MEND = (
    "Name a ResNet18 state dict in ASSIGNMENT_WEIGHTS, or unset it for torchvision's official "
    "checkpoint."
)
