"""The pretrained network: which weights are taken, and what is refused before one is used."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from assignment.common import files
from assignment.common.settings import AssignmentError
from assignment.images import resnet
from assignment.images.resnet import CHECKPOINTS, WeightsError

VAR = "layer4.1.bn2.running_var"
UNREADABLE = "is no file of tensors; no code in it was run"
State = dict[str, Tensor]


def light(make: Callable[[], nn.Module]) -> State:
    """All names and shapes of a network; each tensor one number that is stored once."""
    with torch.device("meta"):
        state = make().state_dict()
    return {n: torch.zeros((), dtype=value.dtype).expand(value.shape) for n, value in state.items()}


class Attack:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("ran"),)


STATES = {name: light(getattr(torchvision.models, name)) for name in CHECKPOINTS}
STATE = STATES["resnet18"]
each_network = pytest.mark.parametrize("network", CHECKPOINTS)


def without(end: str) -> State:
    return {name: value for name, value in STATE.items() if not name.endswith(end)}


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "my-weights.pt"
    monkeypatch.setenv("ASSIGNMENT_WEIGHTS", str(path))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.parametrize(("state", "bias"), [
    (without("num_batches_tracked"), 0.0),
    (STATE | {"fc.bias": torch.full((1000,), 0.1).half()}, 0.0999755859375),
], ids=["as old as torchvision's own", "float16"])  # fmt: skip
def test_weights_that_fit_are_taken(named: Path, state: State, bias: float) -> None:
    torch.save(state, named)
    backbone = resnet.load_pretrained()
    values = backbone.network.get_parameter("fc.bias")
    assert values.dtype == torch.float32
    assert (values == bias).all()
    assert not any(module.training for module in backbone.network.modules())
    assert (backbone.source.origin, backbone.source.sha256) == ("other", files.sha256(named))
    assert backbone.source.detail.startswith("my-weights.pt, named in ASSIGNMENT_WEIGHTS")


FAULTS: dict[str, tuple[object, str]] = {
    "missing": (without(VAR), f'Missing key.* "{VAR}"'),
    "not a tensor": ({**STATE, "fc.bias": 3}, '"fc.bias", expected torch.Tensor'),
    "no values": (STATE | {"fc.bias": torch.zeros(1000, device="meta")}, '"fc.bias"'),
    "ten classes": (STATE | {"fc.bias": torch.zeros(10)}, r"for fc.bias: .*\[10\].*\[1000\]"),
    "whole numbers": (STATE | {"bn1.bias": torch.zeros(64).int()}, "bn1.bias is torch.int32"),
    "NaN": (STATE | {"fc.bias": torch.tensor([0.0] * 999 + [torch.nan])}, "not finite"),
    "over float32": (STATE | {"bn1.bias": torch.ones(64).double() * 1e300}, "not finite"),
    "a negative variance": (STATE | {VAR: torch.linspace(1, -1e-6, 512)}, f"{VAR} .*negative"),
    "wrapped": ({"epoch": 3, "state_dict": STATE}, 'Unexpected key.* "epoch", "state_dict"'),
    "a list": (list(STATE.values()), "Expected state_dict to be dict-like"),
    "resnet34": (STATES["resnet34"], 'Unexpected key.* "layer1.2.conv1.weight"'),
    "a whole network": (nn.Linear(2, 2), UNREADABLE),
    "text": (b"<html>404:\nnot found</html>", UNREADABLE),
    "code": ({**STATE, "fc.bias": Attack()}, UNREADABLE),
    "no file": (None, "where there is no file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_weights_that_do_not_fit_are_refused_in_one_sentence(named: Path, fault: str) -> None:
    content, reason = FAULTS[fault]
    if content is not None:
        named.write_bytes(content) if isinstance(content, bytes) else torch.save(content, named)
    advice = "Name a state dict of the network, saved alone, in ASSIGNMENT_WEIGHTS"
    with pytest.raises(WeightsError, match=rf"{named}.* {reason}.*\. {advice}"):
        resnet.load_pretrained()
    assert not Path("ran").exists()


@each_network
def test_the_official_address_is_torchvisions_with_the_pinned_prefix(network: str) -> None:
    theirs = torchvision.models.get_model_weights(network)["IMAGENET1K_V1"]
    assert CHECKPOINTS[network].urls == (theirs.url,)
    assert theirs.url.endswith(f"/{network}-{CHECKPOINTS[network].sha256[:8]}.pth")


@each_network
def test_a_checkpoint_in_place_is_used_if_it_is_the_official_one(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    monkeypatch.setenv("ASSIGNMENT_MODE", "train")
    monkeypatch.setenv("ASSIGNMENT_MIRROR", "http://127.0.0.1:9/")
    monkeypatch.setattr("assignment.common.download.BACKOFF_SECONDS", 0.0)
    path = data_folder / "weights" / CHECKPOINTS[network].name
    path.parent.mkdir()
    torch.save(STATES[network], path)
    with pytest.raises(AssignmentError, match="damaged file"):
        resnet.load_pretrained(network)
    whole, given = files.sha256(path), CHECKPOINTS[network].sha256
    pinned = replace(CHECKPOINTS[network], sha256=whole[: len(given)], size=path.stat().st_size)
    monkeypatch.setitem(CHECKPOINTS, network, pinned)
    backbone = resnet.load_pretrained(network)
    assert (backbone.source.origin, backbone.source.sha256) == ("official", whole)
    assert backbone.source.what == f"ResNet{network[-2:]} IMAGENET1K_V1"
    scratch = resnet.build_classifier(backbone, 3, "all", pretrained=False)
    assert len(scratch.state_dict()) == len(backbone.network.state_dict())


@pytest.mark.usefixtures("sample_mode")
@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize(("trained", "first"), [("fc", 15), ("layer4", 12), ("all", 0)])
def test_a_classifier_learns_from_one_part_on(trained: str, first: int, pretrained: bool) -> None:
    before = torch.random.get_rng_state()
    backbone = resnet.load_pretrained()
    made = [resnet.build_classifier(backbone, 7, trained, pretrained, seed) for seed in (2, 2, 3)]
    assert torch.equal(torch.random.get_rng_state(), before), "the global generator is spared"
    one, same, other = (list(network.parameters()) for network in made)
    assert [parameter.requires_grad for parameter in one] == [k >= first for k in range(len(one))]
    assert all(map(torch.equal, one, same))
    assert not torch.equal(one[-1], other[-1])
    assert torch.equal(one[0], other[0]) == pretrained
    assert made[0](torch.rand(2, 3, 32, 32)).shape == (2, 7)
    with pytest.raises(ValueError, match="trained is 'layer5'; choose"):
        resnet.build_classifier(backbone, 7, "layer5")
    with pytest.raises(AssignmentError, match=r"'resnet19'; choose one of .*resnet50\.$"):
        resnet.load_pretrained("resnet19")


@pytest.mark.parametrize("error", ["RuntimeError('no nms')", "AttributeError()", "OSError('so')"])
def test_torch_and_torchvision_that_do_not_match_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    (tmp_path / "torchvision.py").write_text(f"raise {error}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision")
    reason = r"^torch \d.* and torchvision \d.* do not fit together .* in requirements.lock\.$"
    with pytest.raises(AssignmentError, match=reason):
        resnet.build_resnet()
