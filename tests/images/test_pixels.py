"""Pixels: the same numbers as torchvision's transforms, and augmentation that loses nothing."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchvision.models import ResNet18_Weights
from torchvision.transforms.v2 import functional

from assignment.images import cifar10, pixels, resnet
from tests.conftest import Recorder


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 16, size: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), generator=seeded(5), dtype=torch.uint8)


@pytest.mark.parametrize("given", [(), (pixels.CIFAR,)], ids=["ImageNet's", "own"])
@pytest.mark.parametrize("size", [9, 16, 31, 32, 33, 64, 224])
def test_every_step_gives_torchvisions_numbers(given: tuple[Any, ...], size: int) -> None:
    weights = ResNet18_Weights.IMAGENET1K_V1.transforms()
    mean, std = given[0] if given else (weights.mean, weights.std)
    scaled = functional.to_dtype(images(4), torch.float32, scale=True)
    resized = functional.resize(scaled, [size, size], antialias=True)
    expected = functional.normalize(resized, [*mean], [*std])
    ours = pixels.resize(pixels.to_float(images(4)), size)
    assert torch.allclose(ours, resized, rtol=0, atol=1e-5)
    for prepared in (pixels.normalise(ours, *given), pixels.prepare(images(4), size, *given)):
        assert torch.allclose(prepared, expected, rtol=0, atol=5e-5)


def test_flip_mirrors_about_half_and_changes_nothing_else() -> None:
    original = images(2000, 4)
    flipped = pixels.random_flip(original, seeded())
    mirrored = (flipped == functional.horizontal_flip(original)).flatten(1).all(1)
    same = (flipped == original).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 900 < int(mirrored.sum()) < 1100  # 4.5 standard deviations


@pytest.mark.parametrize(("max_shift", "size"), [(0, 4), (1, 4), (4, 32), (2, 7)])
def test_crop_is_a_window_of_the_reflected_image(max_shift: int, size: int) -> None:
    original = images(300, size).float()
    cropped = pixels.random_crop(original, max_shift, seeded())
    padded = functional.pad(original, [max_shift] * 4, padding_mode="reflect")
    windows = padded.unfold(2, size, 1).unfold(3, size, 1).permute(0, 2, 3, 1, 4, 5)
    matches = (windows == cropped[:, None, None]).flatten(3).all(3).nonzero()
    image, top, left = matches.T.tolist()
    assert image == list(range(300)), "each is exactly one window"
    assert set(top) == set(left) == set(range(2 * max_shift + 1)), "every shift occurs"
    assert max_shift == 0 or top != left, "down and across are drawn apart"


def test_augmentation_flips_then_crops_and_repeats_with_its_seed() -> None:
    original = images().float()
    before, generator, again = original.clone(), seeded(1), seeded(1)
    first = pixels.augment(original, generator, max_shift=3)
    assert torch.equal(original, before), "the input is left alone"
    assert torch.equal(first, pixels.random_crop(pixels.random_flip(original, again), 3, again))
    assert not torch.equal(first, pixels.augment(original, generator, max_shift=3))


# --- on a device: Apple's MPS has no float64 and no antialiased resize ----------------------------


def prepare(images: Tensor) -> Tensor:
    augmented = pixels.augment(pixels.to_float(images), torch.Generator().manual_seed(0))
    return pixels.normalise(pixels.resize(augmented, 64), pixels.IMAGENET)


@pytest.mark.usefixtures("sample_mode")
def test_images_and_network_run_on_what_mps_has() -> None:
    train = cifar10.load().train
    network = resnet.load_pretrained().network.train()
    with Recorder() as recorder:
        cross_entropy(network(prepare(train.images[:8])), train.labels[:8]).backward()
    assert all(p.grad is not None for p in network.parameters())
    operations, _, dtypes, _ = map(set, zip(*recorder.seen, strict=True))
    assert not [each for each in operations if "_aa" in str(each)], "an antialiased resize"
    assert not {torch.float64, torch.complex128} & dtypes


@pytest.mark.needs("cuda")
def test_cuda_prepares_the_same_images_as_the_cpu() -> None:
    here, there = prepare(images(64)), prepare(images(64).cuda()).cpu()
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-5)
