"""Features: what the network's own head would see, cached only under what they depend on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from assignment.common import settings
from assignment.common.files import Source
from assignment.images import features, pixels
from assignment.images.features import Features, Preprocessing
from assignment.images.resnet import Backbone
from assignment.images.sample import SmallBackbone

VIEW = Preprocessing(32)
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "small": SmallBackbone,
    "resnet18": torchvision.models.resnet18,
}


@pytest.fixture(autouse=True)
def exact(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, in float32, wherever the tests run."""
    monkeypatch.setenv("ASSIGNMENT_DEVICE", "cpu")
    monkeypatch.setattr(settings, "precision", lambda on: torch.float32)


def images(count: int = 10, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)


def settled(make: Callable[[], nn.Module] = SmallBackbone) -> nn.Module:
    """A network in eval mode whose BatchNorms have statistics and factors of their own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = make()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.2, 0.2)
    return network.eval()


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one: Features, other: Features) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def close(one: Features, other: Features, atol: float = 1e-5) -> bool:
    return one.keys() == other.keys() and all(
        torch.allclose(one[n], other[n], atol=atol) for n in one
    )


# --- what is computed -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 45, 224])
@pytest.mark.parametrize("statistics", [pixels.IMAGENET, pixels.CIFAR])
def test_normalising_before_enlarging_changes_nothing(
    size: int, statistics: pixels.Statistics
) -> None:
    expected = pixels.normalise(pixels.resize(pixels.to_float(images(3)), size), statistics)
    assert torch.allclose(pixels.prepare(images(3), size, statistics), expected, atol=1e-5)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@torch.no_grad()
def test_the_head_makes_of_layer4_what_the_network_says(make: Callable[[], nn.Module]) -> None:
    network, shown = settled(make), VIEW.prepare(images())
    head = network.get_submodule("fc")
    pooled = features.pooled_features(network, shown)["layer4"]
    assert torch.allclose(head(pooled), network(shown), atol=1e-5)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@torch.no_grad()
def test_summaries_are_of_what_each_stage_puts_out(make: Callable[[], nn.Module]) -> None:
    network, maps = settled(make), dict[str, Tensor]()
    for name in ("layer2", "layer3", "layer4"):
        network.get_submodule(name).register_forward_hook(
            lambda module, given, found, name=name: maps.update({name: found})
        )
    shown = Preprocessing(64).prepare(images(3))
    network(shown)
    last = maps["layer4"]
    half = last.shape[-1] // 2
    assert last.shape[-1] == 2 * half
    quarters = [last[:, :, y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
    expected = {name: found.flatten(2).mean(2) for name, found in maps.items()}
    expected["layer4 peaks"] = last.flatten(2).max(2).values
    expected["layer4 quarters"] = torch.stack([q.mean((2, 3)) for q in quarters], 2).flatten(1)
    assert close(features.pooled_features(network, shown), expected)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@torch.no_grad()
def test_folding_is_the_same_function_and_spares_the_original(
    make: Callable[[], nn.Module],
) -> None:
    network = settled(make).train()
    before = state_of(network)
    folded = features.fold_batchnorm(network)
    assert same(state_of(network), before)
    assert all(module.training for module in network.modules())
    parts = [part for part in folded.modules() if not isinstance(part, nn.Identity)]
    assert not any(isinstance(part, nn.BatchNorm2d) for part in parts), "every one is folded"
    assert not any(part.training for part in parts)
    shown = VIEW.prepare(images())
    found = folded(shown)
    assert torch.allclose(found, network.eval()(shown), atol=1e-4)
    assert found.std() > 1e-2


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_reading_in_eval_mode_changes_not_one_bit(make: Callable[[], nn.Module]) -> None:
    network = settled(make)
    before = state_of(network)
    first = features.extract_features(network, images(), VIEW)
    assert same(features.extract_features(network, images(), VIEW), first)
    assert same(state_of(network), before)
    assert not any(module.training for module in network.modules())


def test_reading_in_train_mode_does_change_the_statistics() -> None:
    network = settled().train()
    before = state_of(network)
    features.extract_features(network, images(), VIEW)
    changed = {name for name, value in state_of(network).items() if not value.equal(before[name])}
    assert changed == {name for name in before if "running" in name or "num_batches" in name}


def test_features_do_not_depend_on_the_batch() -> None:
    network = settled()
    whole = features.extract_features(network, images(), VIEW, batch=10)
    for batch in (1, 3, 50):
        assert close(features.extract_features(network, images(), VIEW, batch), whole)
    assert {len(found) for found in whole.values()} == {10}


@pytest.mark.parametrize("size", [32, 45])
def test_the_mirrored_view_shows_mirrored_images(size: int) -> None:
    network, plain = settled(), Preprocessing(size)
    mirrored = features.extract_features(network, images(), replace(plain, mirrored=True))
    assert close(mirrored, features.extract_features(network, images().flip(3), plain), atol=1e-4)
    assert not close(mirrored, features.extract_features(network, images(), plain), atol=1e-2)


@pytest.mark.parametrize(
    ("view", "name"),
    [
        (Preprocessing(), "224 px"),
        (Preprocessing(32, mirrored=True), "32 px mirrored"),
        (Preprocessing(64, True, pixels.CIFAR), "64 px mirrored own statistics"),
    ],
)
def test_a_view_has_a_short_name(view: Preprocessing, name: str) -> None:
    assert str(view) == name


@pytest.mark.usefixtures("sample_mode")
def test_sample_mode_shows_small_images_and_keeps_the_order_of_sizes() -> None:
    sizes = [features.size_for_mode(size) for size in (32, 64, 128, 224)]
    assert sizes == sorted(set(sizes))
    assert max(sizes) < 64


def test_elsewhere_the_size_is_the_one_asked_for() -> None:
    assert features.size_for_mode(224) == 224


# --- the cache ------------------------------------------------------------------------------------


class Watched:
    """A backbone that notes how many images its network was shown, and stops where it is told."""

    def __init__(self, sha256: str = "made up") -> None:
        network = settled()
        network.get_submodule("relu").register_forward_hook(self._note)
        self.backbone = Backbone(network, Source("small", "other", "made by hand", sha256))
        self.shown = 0
        self.most: int | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> "Watched":
        return self  # the hook of a copied network notes here too

    def _note(self, module: nn.Module, given: object, found: Tensor) -> None:
        if self.most is not None and self.shown + len(found) > self.most:
            raise KeyboardInterrupt
        self.shown += len(found)


@pytest.fixture
def folder(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where features are cached, in pieces of four images."""
    monkeypatch.setattr(features, "PIECE", 4)
    return data_folder / "features"


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_was_read_once_comes_from_the_files(folder: Path) -> None:
    network = Watched()
    first = features.cached_features(network.backbone, images(), VIEW)
    assert network.shown == 10
    assert [path.suffix for path in files(folder)] == [".npz"] * 3
    network.most = 0
    assert same(features.cached_features(network.backbone, images(), VIEW), first)


def test_the_cache_loses_no_more_than_half_precision_does(folder: Path) -> None:
    network = Watched().backbone
    cached = features.cached_features(network, images(), VIEW)
    exact = features.extract_features(network.network, images(), VIEW)
    assert cached.keys() == exact.keys()
    for name, found in cached.items():
        assert found.dtype == torch.float32
        assert torch.allclose(found, exact[name], rtol=2e-3, atol=1e-5)


def test_each_image_has_its_own_features_however_they_are_cut(folder: Path) -> None:
    network = Watched()
    features.cached_features(network.backbone, images(), VIEW)
    moved = features.cached_features(network.backbone, images().roll(1, 0), VIEW)
    assert network.shown == 20, "other pieces"
    whole = features.cached_features(network.backbone, images(), VIEW)
    assert close({n: found.roll(1, 0) for n, found in whole.items()}, moved, atol=2e-3)


def wrote(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def cut(share: float) -> Callable[[Path], object]:
    def harm(path: Path) -> None:
        raw = path.read_bytes()
        path.write_bytes(raw[: int(len(raw) * share)])

    return harm


def flipped(share: float) -> Callable[[Path], object]:
    """One bit differs."""

    def harm(path: Path) -> None:
        raw = bytearray(path.read_bytes())
        raw[int(len(raw) * share)] ^= 1
        path.write_bytes(raw)

    return harm


def in_directory(place: int, bit: int) -> Callable[[Path], object]:
    """One bit differs in the first entry of the zip's directory."""

    def harm(path: Path) -> None:
        raw = bytearray(path.read_bytes())
        raw[raw.index(b"PK\1\2") + place] ^= 1 << bit
        path.write_bytes(raw)

    return harm


def kept(rows: int, count: int | None = None) -> Callable[[Path], object]:
    """A whole file, but only so many rows of the first so many kinds of features are in it."""

    def harm(path: Path) -> None:
        with np.load(path) as file:
            arrays = {name: file[name][:rows] for name in file.files[:count]}
        with path.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)

    return harm


HARMS: dict[str, Callable[[Path], object]] = {
    "truncated": cut(0.5),
    "without its end": cut(0.99),
    "a flipped bit in the middle": flipped(0.5),
    "a flipped bit in the numbers": flipped(0.2),
    "seemingly of a later zip": in_directory(6, 6),
    "seemingly encrypted": in_directory(8, 0),
    "seemingly compressed": in_directory(10, 3),
    "with a shorter directory": in_directory(30, 0),
    "empty": wrote(b""),
    "text": wrote(b"<html>404: not found</html>"),
    "zeros": wrote(bytes(5000)),
    "too few images": kept(3),
    "no images": kept(0),
    "nothing in it": kept(4, 0),
    "some features missing": kept(4, 2),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_piece_is_made_again_and_only_that(folder: Path, harm: str) -> None:
    network = Watched()
    first = features.cached_features(network.backbone, images(8), VIEW)
    contents = [path.read_bytes() for path in files(folder)]
    HARMS[harm](files(folder)[0])
    network.shown = 0
    assert same(features.cached_features(network.backbone, images(8), VIEW), first)
    assert network.shown == 4
    assert [path.read_bytes() for path in files(folder)] == contents


def test_a_flipped_bit_anywhere_in_the_numbers_is_noticed(folder: Path) -> None:
    network = Watched().backbone
    first = features.cached_features(network, images(4), VIEW)
    (path,) = files(folder)
    raw = path.read_bytes()
    for place in range(1000, len(raw) // 2, 997):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 64]) + raw[place + 1 :])
        assert same(features.cached_features(network, images(4), VIEW), first)
        assert path.read_bytes() == raw


def test_other_weights_or_views_do_not_share_a_file(folder: Path) -> None:
    network, other = Watched("one"), Watched("another")
    features.cached_features(network.backbone, images(4), VIEW)
    features.cached_features(network.backbone, images(4), replace(VIEW, mirrored=True))
    features.cached_features(other.backbone, images(4), VIEW)
    assert (network.shown, other.shown) == (8, 4)
    assert len(files(folder)) == 3


CHANGES: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "precision": lambda m: m.setattr(settings, "precision", lambda on: torch.bfloat16),
    "code": lambda m: m.setattr(features, "CODE", [*features.CODE[:-1], "def fold_batchnorm(): ..."]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_key_changes_with_precision_and_code(
    monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    backbone = Watched().backbone
    before = features.cache_key(backbone, VIEW)
    assert features.cache_key(Watched().backbone, VIEW) == before
    CHANGES[change](monkeypatch)
    assert features.cache_key(backbone, VIEW) != before


@pytest.mark.parametrize(
    "part", ["class Preprocessing:", "def pooled_features(", "def extract_features(", "def fold_batchnorm(", "def resize("]
)
def test_what_computes_features_is_part_of_the_code(part: str) -> None:
    assert part in "\n".join(features.CODE)


def test_the_key_changes_with_the_view_and_the_weights() -> None:
    near = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.2250001))
    views = [
        Preprocessing(size, mirrored, statistics)
        for size in (32, 33, 224)
        for mirrored in (False, True)
        for statistics in (pixels.IMAGENET, pixels.CIFAR, near)
    ]
    backbones = [Watched(sha256).backbone for sha256 in ("one", "another")]
    keys = [features.cache_key(backbone, view) for backbone in backbones for view in views]
    assert len(set(keys)) == len(keys)
    assert all(" " not in key and key.startswith(f"{key.split('-')[0]}-px") for key in keys)


def test_an_interruption_keeps_the_finished_pieces(folder: Path) -> None:
    network = Watched()
    network.most = 8
    with pytest.raises(KeyboardInterrupt):
        features.cached_features(network.backbone, images(18), VIEW)
    assert [path.suffix for path in files(folder)] == [".npz"] * 2
    network.shown, network.most = 0, None
    found = features.cached_features(network.backbone, images(18), VIEW)
    assert network.shown == 10
    assert close(
        found, features.extract_features(network.backbone.network, images(18), VIEW), atol=2e-3
    )


@pytest.mark.usefixtures("sample_mode")
def test_sample_mode_reads_and_writes_no_file(data_folder: Path) -> None:
    network = Watched()
    for _ in range(2):
        features.cached_features(network.backbone, images(), VIEW)
    assert network.shown == 20
    assert not list(data_folder.iterdir())


def test_no_time_is_expected_where_all_is_there(folder: Path) -> None:
    network, more = Watched(), images(8, seed=6)
    assert features.estimate_seconds(network.backbone, [images()], VIEW) > 0
    assert not files(folder), "an estimate leaves nothing behind"
    features.cached_features(network.backbone, images(), VIEW)
    network.shown = 0
    assert features.estimate_seconds(network.backbone, [images()], VIEW) == 0.0
    assert network.shown == 0
    assert features.estimate_seconds(network.backbone, [images(), more], VIEW) > 0
    assert features.estimate_seconds(network.backbone, [images()], replace(VIEW, mirrored=True)) > 0


def test_time_is_expected_for_what_is_missing_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = Watched().backbone
    features.cached_features(backbone, images(6), VIEW)
    monkeypatch.setattr(features, "seconds_per_image", lambda backbone, view: 0.5)
    wanted = [images(6), images(70, seed=6), images(5, seed=7)]
    assert features.estimate_seconds(backbone, wanted, VIEW) == pytest.approx(75 / 2)
