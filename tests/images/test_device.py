"""The code that runs on the device uses nothing that Apple's MPS lacks.

MPS has no float64, no sparse CSR and no antialiased resize. No such machine is needed to see that:
every operation passes through a dispatcher, and here it is watched.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from assignment.images import cifar10, pixels, resnet


class LikeMps(TorchDispatchMode):
    """Fails on the first operation that MPS does not have."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if "_aa" in str(func):
            raise AssertionError(f"{func} is an antialiased resize")
        for value in tree_leaves((args, kwargs, result)):
            if isinstance(value, torch.Tensor):
                if value.dtype in (torch.float64, torch.complex128):
                    raise AssertionError(f"{func} works on {value.dtype}")
                if value.layout not in (torch.strided, torch.sparse_coo):
                    raise AssertionError(f"{func} works on {value.layout}")
        return result


@pytest.mark.parametrize(
    "lacking",
    [
        lambda: torch.ones(2).double(),
        lambda: torch.zeros(2, dtype=torch.float64),
        lambda: torch.eye(2).to_sparse_csr(),
        lambda: nn.functional.interpolate(
            torch.ones(1, 3, 8, 8), size=4, mode="bilinear", antialias=True
        ),
        lambda: nn.functional.interpolate(
            torch.ones(1, 3, 8, 8), size=4, mode="bicubic", antialias=True
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse")
def test_the_watch_notices_what_mps_lacks(lacking: Callable[[], object]) -> None:
    with pytest.raises(AssertionError), LikeMps():
        lacking()


def prepare(images: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    moved = pixels.augment(pixels.to_float(images), generator)
    return pixels.normalise(pixels.resize(moved, 64), pixels.IMAGENET)


@pytest.mark.usefixtures("sample_mode")
def test_images_and_network_run_on_what_mps_has() -> None:
    data = cifar10.load()
    network = resnet.load_pretrained().network.train()
    with LikeMps():
        logits = network(prepare(data.train.to(torch.device("cpu")).images[:8]))
        nn.functional.cross_entropy(logits, data.train.labels[:8]).backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.usefixtures("sample_mode")
@pytest.mark.needs("cuda")
def test_cuda_prepares_the_same_images_as_the_cpu() -> None:
    images = cifar10.load().train.images[:64]
    torch.testing.assert_close(prepare(images.cuda()).cpu(), prepare(images), rtol=1e-4, atol=1e-5)
