"""The code that runs on the device uses nothing that Apple's MPS lacks.

MPS has no float64 and no antialiased resize; here every operation is watched for them.
"""

import pytest
import torch
from torch.nn.functional import cross_entropy

from assignment.images import cifar10, pixels, resnet
from tests.conftest import Recorder


def prepare(images: torch.Tensor) -> torch.Tensor:
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
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(prepare(images.cuda()).cpu(), prepare(images), rtol=1e-4, atol=1e-5)
