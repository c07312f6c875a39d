"""The pretrained network: which weights are taken, and what is refused before one is used."""

import dataclasses
import hashlib
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from assignment.common import files, settings
from assignment.common.download import DownloadError, Effort
from assignment.images import resnet
from assignment.images.resnet import WeightsError

State = dict[str, Tensor]
ONCE = Effort(attempts=1, timeout=1.0)


def light_state() -> State:
    """All names and shapes of ResNet18; each tensor one number that is stored once."""
    with torch.device("meta"):
        shapes = torchvision.models.resnet18().state_dict()
    return {
        name: torch.zeros((), dtype=value.dtype).expand(value.shape)
        for name, value in shapes.items()
    }


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path, of a file still to be written, that ASSIGNMENT_WEIGHTS names."""
    path = tmp_path / "my-weights.pt"
    monkeypatch.setenv("ASSIGNMENT_WEIGHTS", str(path))
    return path


# --- files that fit -------------------------------------------------------------------------------


def test_good_state_dict_is_loaded_whole_and_called_other(named: Path) -> None:
    torch.manual_seed(3)
    network = torchvision.models.resnet18()
    save(named, network.state_dict())
    backbone = resnet.load_pretrained()
    loaded = backbone.network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())
    assert not any(module.training for module in backbone.network.modules())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(backbone.network(images), network.eval()(images))
    source = backbone.source
    assert source.origin == "other"
    assert "my-weights.pt" in source.detail
    assert str(named.parent) not in source.detail
    assert source.sha256 == hashlib.sha256(named.read_bytes()).hexdigest()
    named.unlink()  # 45 MB


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_precision_is_taken_and_converted(named: Path, dtype: torch.dtype) -> None:
    state = light_state()
    state["fc.bias"] = torch.full((1000,), 0.5, dtype=dtype)
    save(named, state)
    bias = resnet.load_pretrained().network.state_dict()["fc.bias"]
    assert bias.dtype == torch.float32
    assert (bias == 0.5).all()


def test_checkpoint_without_batch_counters_is_taken(named: Path) -> None:
    """As old as torchvision's own, whose layers did not count batches yet."""
    state = {n: v for n, v in light_state().items() if not n.endswith("num_batches_tracked")}
    assert len(state) == 102
    save(named, state)
    assert resnet.load_pretrained().source.origin == "other"


@pytest.mark.needs("weights")
def test_stand_in_weights_are_loaded_and_called_other(monkeypatch: pytest.MonkeyPatch) -> None:
    path = settings.data_folder() / "weights" / "resnet18-reconstructed.pt"
    monkeypatch.setenv("ASSIGNMENT_WEIGHTS", str(path))
    backbone = resnet.load_pretrained()
    assert backbone.source.origin == "other"
    assert "a reconstruction of IMAGENET1K_V1" in backbone.source.detail
    assert backbone.source.sha256.startswith("12228d1c5034b608b971054abed2d34b")
    reference = torchvision.models.resnet18()
    reference.load_state_dict(torch.load(path, weights_only=True))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(backbone.network(images), reference.eval()(images))


# --- files that do not ----------------------------------------------------------------------------


def without(name: str) -> Callable[[State], object]:
    return lambda state: {key: value for key, value in state.items() if key != name}


def renamed(old: str, new: str) -> Callable[[State], object]:
    return lambda state: {new if key == old else key: value for key, value in state.items()}


def put(name: str, value: object) -> Callable[[State], object]:
    return lambda state: {**state, name: value}


def holding(name: str, shape: tuple[int, ...], value: float) -> Callable[[State], object]:
    """One element differs, and it is the last."""
    tensor = torch.zeros(shape)
    tensor.view(-1)[-1] = value
    return put(name, tensor)


FAULTS: dict[str, tuple[Callable[[State], object], str]] = {
    "wrong name": (
        renamed("fc.weight", "fc.weights"),
        r"does not fit ResNet18: fc.weight is missing; fc.weights is not part of ResNet18\.",
    ),
    "missing": (without("layer4.1.bn2.running_var"), r": layer4.1.bn2.running_var is missing\."),
    "additional": (put("fc2.weight", torch.zeros(2)), ": fc2.weight is not part of ResNet18"),
    "another number of classes": (
        lambda s: {**s, "fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)},
        r"fc.bias is \[10\], expected \[1000\]; fc.weight is \[10, 512\], expected \[1000, 512\]",
    ),
    "transposed": (
        put("fc.weight", torch.zeros(512, 1000)), r"fc.weight is \[512, 1000\], expected \[1000,",
    ),
    "one number for a tensor": (
        put("bn1.weight", torch.tensor(1.0)), r"bn1.weight is \[\], expected \[64\]",
    ),
    "NaN": (holding("bn1.bias", (64,), torch.nan), "bn1.bias holds values that are not finite"),
    "infinity": (holding("fc.bias", (1000,), torch.inf), "fc.bias holds values that are not"),
    "minus infinity": (
        holding("bn1.running_var", (64,), -torch.inf), "bn1.running_var holds values that are not",
    ),
    "infinite once it is float32": (
        put("bn1.bias", torch.full((64,), 1e300, dtype=torch.double)), "bn1.bias holds values that",
    ),
    "whole numbers": (
        put("bn1.bias", torch.zeros(64, dtype=torch.int32)),
        "bn1.bias is torch.int32, expected torch.float32",
    ),
    "a fraction for a counter": (
        put("bn1.num_batches_tracked", torch.tensor(1.5)),
        "bn1.num_batches_tracked is torch.float32, expected torch.int64",
    ),
    "complex numbers": (
        put("bn1.bias", torch.zeros(64, dtype=torch.complex64)), "bn1.bias is torch.complex64",
    ),
    "sparse": (put("bn1.bias", torch.zeros(64).to_sparse()), "bn1.bias is not a plain tensor"),
    "without values": (
        put("bn1.bias", torch.zeros(64, device="meta")), "bn1.bias is not a plain tensor",
    ),
    "nested": (lambda s: {"state_dict": s, "epoch": 3}, "is not a state dict"),
    "nested alone": (lambda s: {"state_dict": s}, "is not a state dict"),
    "a number among the tensors": (put("epoch", 3), "is not a state dict"),
    "a list": (lambda s: list(s.values()), "is not a state dict"),
    "a tensor": (lambda s: s["fc.bias"], "is not a state dict"),
    "empty dict": (lambda s: {}, "bn1.bias is missing; .* and 99 more"),
    "numbers for names": (lambda s: dict(enumerate(s.values())), "0 is not part of ResNet18; "),
    "another network": (
        lambda s: torchvision.models.squeezenet1_1().state_dict(), "is missing; .*, and .* more",
    ),
    "a whole network": (lambda s: nn.Linear(2, 2), "is not a readable file of tensors"),
}  # fmt: skip


def one_sentence(error: pytest.ExceptionInfo[WeightsError], path: Path) -> None:
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 500
    assert message.endswith(
        "Name a ResNet18 state dict in ASSIGNMENT_WEIGHTS, or unset it for torchvision's "
        "official checkpoint."
    )


@pytest.mark.filterwarnings("ignore:Validating sparse", "ignore:Sparse")
@pytest.mark.parametrize("fault", FAULTS)
def test_weights_that_do_not_fit_are_one_sentence(named: Path, fault: str) -> None:
    change, reason = FAULTS[fault]
    save(named, change(light_state()))
    with pytest.raises(WeightsError, match=reason) as error:
        resnet.load_pretrained()
    one_sentence(error, named)


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return eval, (f"__import__('pathlib').Path({str(self.marker)!r}).touch()",)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "old format"])
def test_pickle_that_would_run_something_is_refused(
    named: Path, tmp_path: Path, new_format: bool
) -> None:
    control, marker = tmp_path / "control", tmp_path / "marker"
    for path in (control, marker):
        content = {**light_state(), "fc.bias": Attack(path)}
        torch.save(content, named, _use_new_zipfile_serialization=new_format)
        if path is control:
            torch.load(named, weights_only=False)
            assert control.exists(), "the attack must work on an unguarded reader"
    with pytest.raises(WeightsError, match="is not a readable file of tensors") as error:
        resnet.load_pretrained()
    one_sentence(error, named)
    assert not marker.exists()


def wrote(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def cut(share: float, new_format: bool = True) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        torch.save(light_state(), path, _use_new_zipfile_serialization=new_format)
        raw = path.read_bytes()
        path.write_bytes(raw[: int(len(raw) * share)])

    return write


BROKEN: dict[str, Callable[[Path], None]] = {
    "truncated": cut(0.5),
    "without its end": cut(0.999),
    "its first bytes": cut(0.001),
    "old format, truncated": cut(0.5, new_format=False),
    "old format, without its end": cut(0.999, new_format=False),
    "text": wrote(b"<html>404: not found</html>"),
    "several lines of text": wrote(b"no\nweights\nhere\n"),
    "empty": wrote(b""),
    "random bytes": wrote(bytes(range(256)) * 9),
    "zeros": wrote(bytes(5000)),
    "a pickle of something else": wrote(pickle.dumps({1, 2})),
    "a zip of something else": wrote(b"PK\5\6" + bytes(18)),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_broken_file_is_one_sentence(named: Path, damage: str) -> None:
    BROKEN[damage](named)
    with pytest.raises(WeightsError, match=r"not a readable file of tensors|not a state") as error:
        resnet.load_pretrained()
    one_sentence(error, named)


def test_missing_file_is_one_sentence(named: Path) -> None:
    with pytest.raises(WeightsError, match=r"my-weights.pt, and there is no such file") as error:
        resnet.load_pretrained()
    assert "\n" not in str(error.value)


# --- the official checkpoint ----------------------------------------------------------------------


def test_official_address_is_torchvisions_over_https_with_the_pinned_prefix() -> None:
    (url,) = resnet.CHECKPOINT.urls
    assert url == torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    assert url.startswith("https://download.pytorch.org/")
    assert resnet.CHECKPOINT.https_only
    prefix = re.fullmatch(r".*-([0-9a-f]{8})\.pth", url)
    assert prefix is not None
    assert resnet.CHECKPOINT.sha256.startswith(prefix[1])
    assert url.endswith("/" + resnet.CHECKPOINT.name)


def test_checkpoint_in_the_data_folder_is_used_without_a_download(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = data_folder / "weights" / resnet.CHECKPOINT.name
    path.parent.mkdir()
    save(path, light_state())
    pinned = dataclasses.replace(resnet.CHECKPOINT, sha256=files.sha256(path))
    monkeypatch.setattr(resnet, "CHECKPOINT", pinned)
    source = resnet.load_pretrained(ONCE).source
    assert (source.origin, source.sha256) == ("official", pinned.sha256)
    monkeypatch.setenv("ASSIGNMENT_MODE", "train")
    assert resnet.expected_weights() == source


def test_plain_http_mirror_is_refused_and_the_checkpoint_named(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSIGNMENT_MIRROR", "http://127.0.0.1:9/")
    with pytest.raises(DownloadError) as error:
        resnet.load_pretrained(ONCE)
    message = str(error.value)
    assert message.startswith("resnet18-f37072fd.pth (46.8 MB) is needed")
    assert (
        "http://127.0.0.1:9/resnet18-f37072fd.pth: refused: this file is taken over https"
        in message
    )
    assert str(data_folder / "weights" / "resnet18-f37072fd.pth") in message


def test_damaged_checkpoint_in_place_is_not_used(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSIGNMENT_MIRROR", "http://127.0.0.1:9/")
    path = data_folder / "weights" / resnet.CHECKPOINT.name
    path.parent.mkdir()
    save(path, light_state())
    with pytest.raises(DownloadError, match="damaged file"):
        resnet.load_pretrained(ONCE)


@pytest.mark.parametrize(
    ("mode", "origin", "words"),
    [
        ("recorded", "not read", "records"),
        ("train", "official", "not here yet"),
        ("sample", "SAMPLE", "nothing pretrained"),
    ],
)
@pytest.mark.usefixtures("data_folder")
def test_expected_weights_are_known_before_they_are_there(
    monkeypatch: pytest.MonkeyPatch, mode: str, origin: str, words: str
) -> None:
    monkeypatch.setenv("ASSIGNMENT_MODE", mode)
    source = resnet.expected_weights()
    assert source.origin == origin
    assert words in source.detail


def test_expected_weights_are_the_named_ones(named: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named.write_bytes(b"any")
    monkeypatch.setenv("ASSIGNMENT_MODE", "train")
    source = resnet.expected_weights()
    assert (source.origin, source.sha256) == ("other", hashlib.sha256(b"any").hexdigest())


# --- the sample's network -------------------------------------------------------------------------


@pytest.mark.usefixtures("sample_mode")
def test_sample_network_is_seeded_and_spares_the_global_generator() -> None:
    torch.manual_seed(1)
    first = resnet.load_pretrained()
    after = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(3))
    second = resnet.load_pretrained()
    states = first.network.state_dict(), second.network.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert first.network.conv1.weight.std() > 0  # type: ignore[union-attr, operator]
    assert not any(module.training for module in first.network.modules())
    assert first.source.origin == "SAMPLE"
    assert first.network(torch.rand(2, 3, 32, 32)).shape == (2, 1000)


# --- torch and torchvision that do not fit --------------------------------------------------------

BROKEN_PAIR = {
    "first import": 'raise RuntimeError("operator torchvision::nms does not exist")',
    "second import": (
        "raise AttributeError(\"partially initialized module 'torchvision' has no attribute "
        "'extension' (most likely due to a circular import)\")"
    ),
    "missing symbol": 'raise ImportError("libtorch_cuda.so: undefined symbol\\nmore lines")',
    "missing library": 'raise OSError("libcudart.so.13: cannot open shared object file")',
}


@pytest.mark.parametrize("failure", BROKEN_PAIR)
def test_unfitting_torchvision_is_one_sentence(tmp_path: Path, failure: str) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(BROKEN_PAIR[failure])
    code = (
        "from assignment.images import resnet\n"
        "from assignment.common.settings import AssignmentError\n"
        "try:\n    resnet.build_resnet18()\n"
        "except AssignmentError as error:\n    print(error)\n"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (run.returncode, run.stderr) == (0, "")
    (line,) = run.stdout.splitlines()
    lock = (settings.PROJECT / "requirements.lock").read_text()
    pair = [
        re.findall(rf"^{name}==[^\s;]+", lock, re.MULTILINE) for name in ("torch", "torchvision")
    ]
    assert [len(found) for found in pair] == [1, 1]
    here = [metadata.version(name) for name in ("torch", "torchvision")]
    assert f"torch {here[0]} and torchvision {here[1]} are installed and do not fit" in line
    assert line.endswith(f"python -m pip install --force-reinstall {pair[0][0]} {pair[1][0]}")
