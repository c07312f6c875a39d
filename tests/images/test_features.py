"""Features: what the network's own head reads, and a cache that is never trusted unchecked."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch
import torchvision
from torch import Tensor, nn

from assignment.common import files, settings
from assignment.common.files import Source
from assignment.common.settings import AssignmentError
from assignment.images import features, pixels
from assignment.images.features import Features, Preprocessing, cached_features, extract_features
from assignment.images.resnet import Backbone
from assignment.images.sample import SmallBackbone

SMALL, MIRRORED = Preprocessing(32), Preprocessing(45, mirrored=True)
IMAGES = torch.rand(10, 3, 32, 32, generator=torch.Generator().manual_seed(5)).mul(256).byte()
NETWORKS = pytest.mark.parametrize("make", [SmallBackbone, torchvision.models.resnet18])
Harm = Callable[[Path, Path], object]


@pytest.fixture(autouse=True)
def folder(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where features are cached, in pieces of four; on the CPU, in float32, wherever tests run."""
    monkeypatch.setenv("ASSIGNMENT_DEVICE", "cpu")
    monkeypatch.setattr(settings, "precision", lambda on: torch.float32)
    monkeypatch.setattr(features, "PIECE", 4)
    return data_folder / "features"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images were run through the network, call by call."""
    calls: list[int] = []

    def counted(network: nn.Module, images: Tensor, way: Preprocessing) -> Features:
        calls.append(len(images))
        return extract_features(network, images, way)

    monkeypatch.setattr(features, "extract_features", counted)
    return calls


def trained(make: Callable[[], nn.Module] = SmallBackbone, seed: int = 0) -> nn.Module:
    """A network in eval mode whose BatchNorms have statistics, scales and shifts of their own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make()
        norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
        for tensor in [tensor for norm in norms for tensor in norm.state_dict().values()]:
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return network.eval()


BACKBONE = Backbone(trained(), Source("small", "other", "made by hand"))


def close(one: Features, other: Features, atol: float = 1e-4) -> bool:
    same = (torch.allclose(one[name], other[name], 2e-3, atol) for name in one)
    return one.keys() == other.keys() and all(same)


@NETWORKS
@torch.no_grad()
def test_features_are_the_pooled_maps_of_the_stages(make: Callable[[], nn.Module]) -> None:
    network, inputs, maps = trained(make), Preprocessing(64).prepare(IMAGES), dict[str, Tensor]()
    for name in ("layer2", "layer3", "layer4"):
        network.get_submodule(name).register_forward_hook(
            lambda module, given, found, name=name: maps.update({name: found})
        )
    logits, last = network(inputs), maps["layer4"]
    half = last.shape[-1] // 2
    quarters = [last[:, :, y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
    expected = {name: found.flatten(2).mean(2) for name, found in maps.items()}
    expected["layer4 max"] = last.flatten(2).max(2).values
    expected["layer4 2x2"] = torch.stack([q.mean((2, 3)) for q in quarters], 2).flatten(1)
    found = features.pooled_features(network, inputs)
    assert found.keys() == features.FEATURE_NAMES
    assert close(found, expected)
    assert torch.allclose(network.get_submodule("fc")(found["layer4"]), logits, atol=1e-4)


@NETWORKS
@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_folding_and_eval_mode_change_nothing(
    make: Callable[[], nn.Module], training: bool
) -> None:
    network, inputs = trained(make).train(training), SMALL.prepare(IMAGES)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = features.fold_batchnorm(network)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    extract_features(network, IMAGES, SMALL)
    changed = {n for n, value in network.state_dict().items() if not value.equal(before[n])}
    assert changed == {n for n in before if training and ("running" in n or "batches" in n)}
    network.load_state_dict(before)
    assert torch.allclose(folded(inputs), network.eval()(inputs), rtol=1e-3, atol=1e-4)
    assert folded(inputs).std() > 1e-2


@pytest.mark.parametrize("batch", [1, 3, 50])
@pytest.mark.parametrize("way", [SMALL, MIRRORED, Preprocessing(40, True, pixels.CIFAR)], ids=str)
@torch.no_grad()
def test_images_are_mirrored_resized_and_normalised(way: Preprocessing, batch: int) -> None:
    resized = pixels.resize(pixels.to_float(IMAGES.flip(3) if way.mirrored else IMAGES), way.size)
    expected = features.pooled_features(trained(), pixels.normalise(resized, way.statistics))
    assert close(extract_features(trained(), IMAGES, way, batch), expected)


@pytest.mark.parametrize(
    "images", [IMAGES / 255, IMAGES.int(), IMAGES[0], IMAGES[:, :1], IMAGES.permute(0, 2, 3, 1)]
)
def test_other_images_are_refused_in_one_sentence(images: Tensor) -> None:
    with pytest.raises(AssignmentError, match=r"^Images are torch.* expected torch.uint8 \[N, 3"):
        extract_features(trained(), images, SMALL)


def test_features_are_computed_once_and_cached_in_half_precision(computed: list[int]) -> None:
    cached_features(BACKBONE, IMAGES[:8], SMALL)
    first = cached_features(BACKBONE, IMAGES, SMALL)
    assert computed == [4, 4, 2], "what was finished before is not computed again"
    assert close(first, extract_features(BACKBONE.network, IMAGES, SMALL))
    assert all(torch.equal(found, found.half().float()) for found in first.values())
    assert close(cached_features(BACKBONE, IMAGES, SMALL), first, 0)
    moved = cached_features(BACKBONE, IMAGES.roll(1, 0), SMALL)
    assert computed == [4, 4, 2, 4, 4, 2], "other pieces"
    assert close({name: found.roll(-1, 0) for name, found in moved.items()}, first)


def rewritten(change: Callable[[Tensor], Tensor]) -> Harm:
    """A readable piece under its old checksum, with other numbers in it."""

    def harm(path: Path, other: Path) -> None:
        stored, checksum = features._load(path), path.read_bytes()[:32]
        assert stored is not None
        features._save(path, {name: change(values) for name, values in stored.items()})
        path.write_bytes(checksum + path.read_bytes()[32:])

    return harm


HARMS: dict[str, Harm] = {
    "gone": lambda path, other: path.unlink(),
    "empty": lambda path, other: path.write_bytes(b""),
    "text": lambda path, other: path.write_text("<html>404: not found</html>"),
    "truncated": lambda path, other: path.write_bytes(path.read_bytes()[:-9]),
    "a flipped bit": lambda path, other: path.write_bytes(path.read_bytes()[:-1] + b"\1"),
    "other images": lambda path, other: shutil.copy(other, path),
    "zero rows": rewritten(lambda values: values * torch.tensor([[1], [0], [1], [1]])),
    "not a number": rewritten(lambda values: values * torch.nan),
    "another width": rewritten(lambda values: values[:, 1:]),
    "too few images": rewritten(lambda values: values[1:]),
    "a folder": lambda path, other: path.rename(f"{path}.old").with_name(path.name).mkdir(),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_piece_that_is_not_its_own_is_made_again(
    folder: Path, computed: list[int], harm: str
) -> None:
    first = cached_features(BACKBONE, IMAGES[:8], SMALL)
    HARMS[harm](*sorted(folder.glob("*/*")))
    for _ in range(2):
        assert close(cached_features(BACKBONE, IMAGES[:8], SMALL), first, 0)
    assert computed == ([4, 4, 4, 4] if harm == "a folder" else [4, 4, 4])


def test_a_cache_that_cannot_be_written_costs_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write_bytes(b"a file where the folder should be")
    found = cached_features(BACKBONE, IMAGES, SMALL)
    assert close(found, extract_features(BACKBONE.network, IMAGES, SMALL))
    assert capsys.readouterr().out.count("\n") == 1


def test_three_writers_at_once_leave_one_whole_piece(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, write = Barrier(3, timeout=60), files.write_whole
    monkeypatch.setattr(files, "write_whole", lambda *of: (together.wait(), write(*of)))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: cached_features(BACKBONE, IMAGES[:4], SMALL), range(3)))
    (path,) = folder.glob("*/*")
    assert features._load(path) is not None


def test_the_key_tells_what_features_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = [trained(), trained(seed=1), trained(torchvision.models.resnet18)]
    own = (pixels.CIFAR, (pixels.CIFAR[0], (0.2470, 0.2435, 0.2617)))
    ways = [SMALL, MIRRORED, Preprocessing(45), *(Preprocessing(32, statistics=s) for s in own)]
    backbones = [Backbone(network, BACKBONE.source) for network in networks]
    keys = [features.cache_key(backbone, way) for backbone in backbones for way in ways]
    other = Backbone(trained(), Source("a", "b", "c", "a checksum"))
    assert features.cache_key(other, SMALL) == keys[0], "the weights count, not their source"
    monkeypatch.setattr(settings, "precision", lambda on: torch.bfloat16)
    keys.append(features.cache_key(other, SMALL))
    monkeypatch.setattr(features, "CODE", [*features.CODE, "another function"])
    keys.append(features.cache_key(other, SMALL))
    assert len(set(keys)) == len(keys)


@pytest.mark.usefixtures("sample_mode")
def test_sample_mode_caches_nothing_and_keeps_images_small(folder: Path) -> None:
    cached_features(BACKBONE, IMAGES, SMALL)
    assert not folder.exists()
    sizes = [features.size_for_mode(size) for size in (32, 64, 128, 224)]
    assert sizes == sorted(set(sizes))
    assert max(sizes) < 64


def test_time_is_expected_for_what_is_missing_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert features.estimate_seconds(BACKBONE, [IMAGES[:1]], SMALL) > 0
    assert not folder.exists(), "an estimate leaves nothing behind"
    cached_features(BACKBONE, IMAGES, SMALL)
    monkeypatch.setattr(features, "seconds_per_image", lambda *_: 0.5)
    more, mirrored = [IMAGES, IMAGES.flip(0), IMAGES.flip(2)], Preprocessing(32, mirrored=True)
    for expected, images, way in ((0, [IMAGES], SMALL), (5, [IMAGES], mirrored), (10, more, SMALL)):
        assert features.estimate_seconds(BACKBONE, images, way) == expected
