"""Pixels: the same numbers as torchvision's transforms, and augmentation that loses nothing."""

import pytest
import torch
from torch import Tensor
from torchvision.models import ResNet18_Weights
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from assignment.images import pixels


def images(count: int = 16, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [32, 33, 64, 128, 224])
@pytest.mark.parametrize("antialias", [True, False])
def test_resize_is_torchvisions(size: int, antialias: bool) -> None:
    scaled = images(4).float() / 255
    expected = functional.resize(
        scaled, [size, size], v2.InterpolationMode.BILINEAR, antialias=antialias
    )
    assert torch.allclose(pixels.resize(scaled, size), expected, atol=1e-5)


def test_resize_only_enlarges() -> None:
    with pytest.raises(ValueError, match="cannot resize 32 px down to 31 px"):
        pixels.resize(images(1).float(), 31)


@pytest.mark.parametrize("statistics", [pixels.IMAGENET, pixels.CIFAR])
def test_scale_and_normalise_are_torchvisions(statistics: pixels.Statistics) -> None:
    mean, std = statistics
    expected = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])(
        images()
    )
    result = pixels.normalise(pixels.to_float(images()), statistics)
    assert result.dtype == torch.float32
    assert torch.allclose(result, expected, atol=1e-6)


def test_normalise_uses_imagenet_unless_told_otherwise() -> None:
    recipe = ResNet18_Weights.IMAGENET1K_V1.transforms()
    assert (tuple(recipe.mean), tuple(recipe.std)) == pixels.IMAGENET
    scaled = pixels.to_float(images())
    assert torch.equal(pixels.normalise(scaled), pixels.normalise(scaled, pixels.IMAGENET))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_flip_mirrors_about_half_and_changes_nothing_else(dtype: torch.dtype) -> None:
    original = images(2000, 4).to(dtype)
    flipped = pixels.random_flip(original, seeded())
    mirror = functional.horizontal_flip(original)
    same = (flipped == original).flatten(1).all(1)
    mirrored = (flipped == mirror).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 900 < int(mirrored.sum()) < 1100  # 4.5 standard deviations


def reflected(image: Tensor, most: int) -> Tensor:
    padded: Tensor = functional.pad(image, [most] * 4, padding_mode="reflect")
    return padded


@pytest.mark.parametrize(("most", "size"), [(1, 4), (4, 32), (2, 7)])
def test_shift_is_a_window_of_the_reflected_image(most: int, size: int) -> None:
    original = images(300, size).float()
    shifted = pixels.random_crop(original, most, seeded())
    top, left = torch.randint(0, 2 * most + 1, (2, 300), generator=seeded()).tolist()
    for i in range(300):
        window = functional.crop(reflected(original[i], most), top[i], left[i], size, size)
        assert torch.equal(shifted[i], window)
    assert set(top) == set(left) == set(range(2 * most + 1)), "every offset occurs"


def test_every_shifted_image_is_some_window_whatever_the_generator_draws() -> None:
    original = images(40, 8).float()
    shifted = pixels.random_crop(original, 2, seeded(9))
    offsets = []
    for image, moved in zip(original, shifted, strict=True):
        windows = reflected(image, 2).unfold(1, 8, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4)
        hits = (windows == moved).flatten(2).all(2).nonzero().tolist()
        assert len(hits) == 1
        offsets.append(tuple(hits[0]))
    assert len({top for top, _ in offsets}) == len({left for _, left in offsets}) == 5
    assert any(top != left for top, left in offsets), "down and across are drawn apart"


def test_shift_by_nothing_changes_nothing() -> None:
    original = images().float()
    assert torch.equal(pixels.random_crop(original, 0, seeded()), original)


def test_augmentation_repeats_with_its_seed_and_spares_its_input() -> None:
    original = images().float()
    kept = original.clone()
    first, again, other = (pixels.augment(original, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(original, kept)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == original.shape
    generator = seeded(1)
    assert torch.equal(first, pixels.augment(original, generator))
    assert not torch.equal(first, pixels.augment(original, generator)), "each step draws afresh"


def test_augmentation_mirrors_as_well_as_shifts() -> None:
    original = images(64, 8).float()
    done = pixels.augment(original, seeded(), most=1)
    plain = mirrored = 0
    for image, result in zip(original, done, strict=True):
        for candidate in (image, functional.horizontal_flip(image)):
            windows = reflected(candidate, 1).unfold(1, 8, 1).unfold(2, 8, 1)
            hit = bool((windows.permute(1, 2, 0, 3, 4) == result).flatten(2).all(2).any())
            plain += hit and candidate is image
            mirrored += hit and candidate is not image
    assert plain + mirrored == 64
    assert min(plain, mirrored) > 16
