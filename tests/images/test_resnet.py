"""The pretrained network: which weights are taken, and what is refused before one is used."""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from assignment.common import files, settings
from assignment.common.download import DownloadError, Effort
from assignment.common.settings import AssignmentError
from assignment.images import resnet
from assignment.images.resnet import CHECKPOINT, WeightsError

ONCE = Effort(attempts=1, timeout=1.0)
VAR = "layer4.1.bn2.running_var"
UNREADABLE = "is no file of tensors; no code in it was run"
State = dict[str, Tensor]


def light(make: Callable[[], nn.Module]) -> State:
    """All names and shapes of a network; each tensor one number that is stored once."""
    with torch.device("meta"):
        state = make().state_dict()
    return {n: torch.zeros((), dtype=value.dtype).expand(value.shape) for n, value in state.items()}


STATE = light(torchvision.models.resnet18)


def last(name: str, value: float) -> State:
    """One number differs, and it is the last."""
    return STATE | {name: torch.cat([torch.zeros(len(STATE[name]) - 1), torch.tensor([value])])}


def without(end: str) -> State:
    return {name: value for name, value in STATE.items() if not name.endswith(end)}


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path, of a file still to be written, that ASSIGNMENT_WEIGHTS names."""
    path = tmp_path / "my-weights.pt"
    monkeypatch.setenv("ASSIGNMENT_WEIGHTS", str(path))
    return path


@pytest.mark.parametrize(("state", "bias"), [
    (without("num_batches_tracked"), 0.0),
    (STATE | {"fc.bias": torch.full((1000,), 0.1).half()}, 0.0999755859375),
    (STATE | {"fc.bias": torch.full((1000,), 0.5).double()}, 0.5),
], ids=["as old as torchvision's own", "float16", "float64"])  # fmt: skip
def test_weights_that_fit_are_taken(named: Path, state: State, bias: float) -> None:
    torch.save(state, named)
    backbone = resnet.load_pretrained()
    values = backbone.network.get_parameter("fc.bias")
    assert values.dtype == torch.float32
    assert (values == bias).all()
    assert not any(module.training for module in backbone.network.modules())
    assert backbone.source == resnet.check_weights(named)
    assert (backbone.source.origin, backbone.source.sha256) == ("other", files.sha256(named))
    assert backbone.source.detail.startswith("my-weights.pt, named in ASSIGNMENT_WEIGHTS")


@pytest.mark.needs("weights")
def test_stand_in_weights_are_loaded_and_called_other(monkeypatch: pytest.MonkeyPatch) -> None:
    path = settings.data_folder() / "weights" / "resnet18-reconstructed.pt"
    monkeypatch.setenv("ASSIGNMENT_WEIGHTS", str(path))
    backbone, reference = resnet.load_pretrained(), torchvision.models.resnet18().eval()
    assert backbone.source.origin == "other"
    assert "a reconstruction of IMAGENET1K_V1" in backbone.source.detail
    reference.load_state_dict(torch.load(path, weights_only=True))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(backbone.network(images), reference(images))


FAULTS: dict[str, tuple[object, str]] = {
    "missing": (without(VAR), rf"does not fit \(1 faults\): {VAR} is missing\."),
    "additional": (STATE | {"fc2": torch.zeros(2)}, "fc2 is not part of ResNet18"),
    "not a tensor": ({**STATE, "fc.bias": 3}, "fc.bias is not a plain tensor"),
    "no values": (STATE | {"fc.bias": torch.zeros(1, device="meta")}, "is not a plain tensor"),
    "ten classes": (STATE | {"fc.bias": torch.zeros(10)}, r"\[10\], expected .* \[1000\]"),
    "whole numbers": (STATE | {"bn1.bias": torch.zeros(64).int()}, r"is torch.int32 \[64\]"),
    "NaN": (last("bn1.bias", torch.nan), "bn1.bias holds values that are not finite"),
    "infinity": (last("fc.bias", -torch.inf), "fc.bias holds values that are not finite"),
    "over float32": (STATE | {"bn1.bias": torch.ones(64).double() * 1e300}, "are not finite"),
    "a negative variance": (last(VAR, -1e-6), f"{VAR} holds negative variances"),
    "wrapped": ({"epoch": 3, "state_dict": STATE}, r"holds dicts under \['state_dict'\]"),
    "wrapped as model": ({"model": STATE}, r"\['model'\]; save the state dict alone"),
    "a list": (list(STATE.values()), "holds a list, expected a state dict"),
    "empty": ({}, r"\(102 faults\): bn1.bias is missing; .* is missing; "),
    "resnet34": (light(torchvision.models.resnet34), r"layer1.2.bn1.bias is not part of ResNet18"),
    "a whole network": (nn.Linear(2, 2), UNREADABLE),
    "the start of a zip file": (b"PK\3\4" + bytes(999), UNREADABLE),
    "an empty file": (b"", UNREADABLE),
    "text": (b"<html>404:\nnot found</html>", UNREADABLE),
    "zeros": (bytes(5000), UNREADABLE),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_weights_that_do_not_fit_are_refused_in_one_sentence(named: Path, fault: str) -> None:
    content, reason = FAULTS[fault]
    named.write_bytes(content) if isinstance(content, bytes) else torch.save(content, named)
    for read in (resnet.load_pretrained, lambda: resnet.check_weights(named)):
        with pytest.raises(WeightsError, match=rf"^{named} .*{reason}.* Name a ResNet18 state"):
            read()


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir], ids=["nothing", "a folder"])
def test_a_name_without_a_file_is_refused(named: Path, make: Callable[[Path], None]) -> None:
    make(named)
    with pytest.raises(WeightsError, match=r"ASSIGNMENT_WEIGHTS names .*, where there is no file"):
        resnet.load_pretrained()
    with pytest.raises(WeightsError, match=UNREADABLE):
        resnet.check_weights(named)


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(named: Path, tmp_path: Path, zipped: bool) -> None:
    marker = tmp_path / "marker"
    content = {**STATE, "fc.bias": Attack(marker)}
    torch.save(content, named, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=UNREADABLE):
        resnet.load_pretrained()
    assert not marker.exists()
    torch.load(named, weights_only=False)
    assert marker.exists(), "the attack must work on an unguarded reader"


def test_the_official_address_is_torchvisions_over_https_with_the_pinned_prefix() -> None:
    assert CHECKPOINT.urls == (torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url,)
    assert CHECKPOINT.urls[0].endswith(f"/{CHECKPOINT.name}")
    assert CHECKPOINT.name == f"resnet18-{CHECKPOINT.sha256[:8]}.pth"
    assert CHECKPOINT.https_only


def test_a_checkpoint_in_place_is_used_if_it_is_the_official_one(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSIGNMENT_MODE", "train")
    monkeypatch.setenv("ASSIGNMENT_MIRROR", "http://127.0.0.1:9/")
    path = data_folder / "weights" / CHECKPOINT.name
    path.parent.mkdir()
    torch.save(STATE, path)
    with pytest.raises(DownloadError, match=r"(?s)damaged file.*this file is taken over https"):
        resnet.load_pretrained(ONCE)
    pinned = replace(CHECKPOINT, sha256=files.sha256(path), size=path.stat().st_size)
    monkeypatch.setattr(resnet, "CHECKPOINT", pinned)
    source = resnet.load_pretrained(ONCE).source
    assert (source.origin, source.sha256) == ("official", pinned.sha256)
    assert resnet.expected_weights() == source


@pytest.mark.usefixtures("data_folder")
@pytest.mark.parametrize(("mode", "origin"), [
    ("recorded", "not read"), ("train", "official"), ("sample", "SAMPLE"),
])  # fmt: skip
def test_expected_weights_need_no_file(
    monkeypatch: pytest.MonkeyPatch, mode: str, origin: str
) -> None:
    monkeypatch.setenv("ASSIGNMENT_MODE", mode)
    assert resnet.expected_weights().origin == origin


@pytest.mark.usefixtures("sample_mode")
@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize(("trained", "first"), [("fc", 15), ("layer4", 12), ("all", 0)])
def test_a_classifier_has_a_new_head_and_is_trained_from_one_part_on(
    trained: str, first: int, pretrained: bool
) -> None:
    before = torch.random.get_rng_state()
    backbone = resnet.load_pretrained()
    networks = [
        resnet.build_classifier(backbone, 7, trained, pretrained, seed) for seed in (2, 2, 3)
    ]
    assert torch.equal(torch.random.get_rng_state(), before), "the global generator is spared"
    one, same, other = (list(network.parameters()) for network in networks)
    assert [parameter.requires_grad for parameter in one] == [k >= first for k in range(len(one))]
    assert all(map(torch.equal, one, same))
    assert not torch.equal(one[-1], other[-1])
    assert torch.equal(one[0], other[0]) == pretrained
    assert networks[0](torch.rand(2, 3, 32, 32)).shape == (2, 7)
    with pytest.raises(ValueError, match="trained is 'layer5'; choose"):
        resnet.build_classifier(backbone, trained="layer5")


@pytest.mark.parametrize("error", ["RuntimeError('no nms')", "AttributeError()", "OSError('so')"])
def test_torch_and_torchvision_that_do_not_match_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    (tmp_path / "torchvision.py").write_text(f"raise {error}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision")
    here = re.escape(f"torchvision {metadata.version('torchvision')} do not fit together")
    with pytest.raises(AssignmentError, match=rf"{here}.* versions in requirements.lock\.$"):
        resnet.build_resnet18()
