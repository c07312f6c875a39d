"""The code that runs on the device uses nothing that Apple's MPS lacks.

MPS has no float64 and no antialiased resize; here every operation is watched for them.
"""

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from assignment.images import cifar10, pixels, resnet


class LikeMps(TorchDispatchMode):
    """Fails on the first operation that MPS does not have."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        assert "_aa" not in str(func), f"{func} is an antialiased resize"
        for value in tree_leaves((args, kwargs, result)):
            dtype = getattr(value, "dtype", None)
            assert dtype not in (torch.float64, torch.complex128), f"{func}: {dtype}"
        return result


def prepare(images: torch.Tensor) -> torch.Tensor:
    augmented = pixels.augment(pixels.to_float(images), torch.Generator().manual_seed(0))
    return pixels.normalise(pixels.resize(augmented, 64), pixels.IMAGENET)


@pytest.mark.usefixtures("sample_mode")
def test_images_and_network_run_on_what_mps_has() -> None:
    train = cifar10.load().train
    network = resnet.load_pretrained().network.train()
    with LikeMps():  # type: ignore[no-untyped-call]
        cross_entropy(network(prepare(train.images[:8])), train.labels[:8]).backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.needs("cuda")
def test_cuda_prepares_the_same_images_as_the_cpu() -> None:
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(prepare(images.cuda()).cpu(), prepare(images), rtol=1e-4, atol=1e-5)
