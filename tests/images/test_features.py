"""Features: what the network's own head reads, and a cache that is never trusted unchecked."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from assignment.common import files, settings
from assignment.common.files import Source
from assignment.common.settings import AssignmentError
from assignment.images import features, pixels
from assignment.images.features import Features, Preprocessing, extract_features
from assignment.images.resnet import Backbone
from assignment.images.sample import SmallBackbone

NAMES = ("layer4 2x2", "layer2")
SMALL, MIRRORED = Preprocessing(32), Preprocessing(45, mirrored=True)
IMAGES = torch.rand(10, 3, 32, 32, generator=torch.Generator().manual_seed(5)).mul(256).byte()
STAGES = ["layer1", "layer2", "layer3", "layer4"]
MAKE = [SmallBackbone, torchvision.models.resnet18, torchvision.models.resnet50]
NETWORKS = pytest.mark.parametrize("make", MAKE)


@pytest.fixture(autouse=True)
def folder(data_folder: Path, float32_on_the_cpu: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where features are cached, in pieces of four."""
    monkeypatch.setattr(features, "PIECE", 4)
    return data_folder / "features"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Mock:
    counted = Mock(wraps=extract_features)
    monkeypatch.setattr(features, "extract_features", counted)
    return counted


def cached_features(backbone: Backbone, images: Tensor, preprocessing: Preprocessing) -> Tensor:
    return features.cached_features(backbone, images, preprocessing, NAMES)


def side_by_side(found: Features) -> Tensor:
    return torch.cat([found[name] for name in NAMES], 1)


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
    network, inputs = trained(make), Preprocessing(64).prepare(IMAGES)
    expected = {}
    for name, maps in create_feature_extractor(network, STAGES)(inputs).items():
        expected[name] = maps.flatten(2).mean(2)
        expected[f"{name} max"] = maps.flatten(2).max(2).values
        expected[f"{name} rms"] = maps.flatten(2).norm(dim=2) / maps[0, 0].numel() ** 0.5
        quarters = [part for rows in maps.chunk(2, 2) for part in rows.chunk(2, 3)]
        expected[f"{name} 2x2"] = torch.stack([q.mean((2, 3)) for q in quarters], 2).flatten(1)
    found = features.pooled_features(network, inputs)
    assert found.keys() == features.FEATURE_NAMES
    assert close(found, expected)
    assert torch.allclose(network.get_submodule("fc")(found["layer4"]), network(inputs), atol=1e-4)


@NETWORKS
@torch.no_grad()
def test_folding_changes_nothing_and_nor_does_eval_mode(make: Callable[[], nn.Module]) -> None:
    network, inputs = trained(make), SMALL.prepare(IMAGES)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = features.fold_batchnorm(network)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    expected = network(inputs)
    assert torch.allclose(folded(inputs), expected, rtol=1e-3, atol=2e-5 * expected.abs().max())
    assert expected.std() > 1e-2
    for training in (False, True):
        extract_features(network.train(training), IMAGES, SMALL)
        changed = {n for n, value in network.state_dict().items() if not value.equal(before[n])}
        assert changed == {n for n in before if training and ("running" in n or "batches" in n)}


@pytest.mark.parametrize("way", [SMALL, MIRRORED, Preprocessing(40, True, pixels.CIFAR)], ids=str)
@torch.no_grad()
def test_images_are_mirrored_resized_and_normalised(way: Preprocessing) -> None:
    resized = pixels.resize(pixels.to_float(IMAGES.flip(3) if way.mirrored else IMAGES), way.size)
    expected = features.pooled_features(trained(), pixels.normalise(resized, way.statistics))
    assert close(extract_features(trained(), IMAGES, way, batch=3), expected)


@pytest.mark.parametrize("images", [IMAGES / 255, IMAGES.int(), IMAGES[0], IMAGES[:, :1]])
def test_other_images_are_refused_in_one_sentence(images: Tensor) -> None:
    with pytest.raises(AssignmentError, match=r"^Images are torch.* expected torch.uint8 \[N, 3"):
        extract_features(trained(), images, SMALL)


def test_features_are_computed_once_and_cached_in_half_precision(computed: Mock) -> None:
    cached_features(BACKBONE, IMAGES[:8], SMALL)
    first = cached_features(BACKBONE, IMAGES, SMALL)
    assert computed.call_count == 3, "what was finished before is not computed again"
    expected = side_by_side(extract_features(BACKBONE.network, IMAGES, SMALL))
    assert torch.allclose(first, expected, 2e-3, 1e-4)
    assert torch.equal(first, first.half().float())
    assert torch.equal(cached_features(BACKBONE, IMAGES, SMALL), first)
    moved = cached_features(BACKBONE, IMAGES.roll(1, 0), SMALL)
    assert computed.call_count == 6, "other pieces"
    assert torch.allclose(moved.roll(-1, 0), first, 2e-3, 1e-4)


HARMS: dict[str, Callable[[Path, Path], object]] = {
    "gone": lambda path, other: path.unlink(),
    "truncated": lambda path, other: path.write_bytes(path.read_bytes()[:-9]),
    "a flipped bit": lambda path, other: path.write_bytes(path.read_bytes()[:-1] + b"\1"),
    "other images": lambda path, other: shutil.copy(other, path),
    "a folder": lambda path, other: path.rename(f"{path}.old").with_name(path.name).mkdir(),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_harmed_piece_is_made_again(folder: Path, computed: Mock, harm: str) -> None:
    first = cached_features(BACKBONE, IMAGES[:8], SMALL)
    HARMS[harm](*sorted(folder.glob("*/*")))
    for _ in range(2):
        assert torch.equal(cached_features(BACKBONE, IMAGES[:8], SMALL), first)
    assert computed.call_count == (4 if harm == "a folder" else 3)


def test_a_cache_that_cannot_be_written_costs_one_line(folder: Path, capsys: Any) -> None:
    folder.write_bytes(b"a file where the folder should be")
    found = cached_features(BACKBONE, IMAGES, SMALL)
    expected = side_by_side(extract_features(BACKBONE.network, IMAGES, SMALL))
    assert torch.allclose(found, expected, 2e-3, 1e-4)
    assert capsys.readouterr().out.count("\n") == 1


def test_three_writers_at_once_leave_one_whole_piece(folder: Path, monkeypatch: Any) -> None:
    together, write = Barrier(3, timeout=60), files.write_whole
    monkeypatch.setattr(files, "write_whole", lambda *of: (together.wait(), write(*of)))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: cached_features(BACKBONE, IMAGES[:4], SMALL), range(3)))
    (path,) = folder.glob("*/*")
    assert files.load_tensors(path) is not None


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
    assert features.seconds_per_image(BACKBONE, SMALL) > 0
    assert not folder.exists()
    assert [features.size_for_mode(size) for size in (32, 64, 128, 224)] == [34, 36, 40, 46]
