"""The cost of the movie embeddings: as the assignment writes it, and the same number faster.

As written it compares all pairs of films; from the likes alone a step takes about a millisecond.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn.functional import embedding_bag

from assignment.movies.movielens import Likes

Cost = Callable[[Tensor], Tensor]
BLOCK = 1024  # rows of A'A at a time


def literal_cost(vectors: Tensor, colikes: Tensor) -> Tensor:
    """Sum (v_i . v_j - X_ij)^2 over all i != j; vectors [movies, dim], colikes [movies, movies]."""
    errors = vectors @ vectors.T - colikes
    return errors.fill_diagonal_(0).square().sum()


class RowSums:
    """A matrix of zeros and ones; times V it sums rows of V, the fastest way in float32."""

    def __init__(self, matrix: sparse.sparray, device: torch.device) -> None:
        rows = matrix.tocsr()
        self.indices = torch.from_numpy(rows.indices.astype(np.int64)).to(device)
        self.starts = torch.from_numpy(rows.indptr[:-1].astype(np.int64)).to(device)

    def __matmul__(self, V: Tensor) -> Tensor:
        return embedding_bag(self.indices, V, self.starts, mode="sum")


@dataclass(frozen=True, eq=False, repr=False)
class FastCost:
    """The same cost from the likes, never with a matrix of films by films; called like any loss.

    With the likes A (users x films), A'A holds the co-likes X and, on its diagonal, the likes n_i
    of each film. One pass of O((likes + films dim) dim) gives cost and gradient:

        squared  = sum (v_i . v_j)^2    = ||V'V||^2 - sum ||v_i||^4        over i != j
        mixed    = sum (v_i . v_j) X_ij = ||A V||^2 - sum n_i ||v_i||^2    over i != j
        cost     = squared - 2 mixed + ||X||^2
        gradient = 4 (V (V'V) - A'(A V) + (n_i - ||v_i||^2) v_i)
    """

    A: RowSums | Tensor  # [users, movies]
    A_transposed: RowSums | Tensor  # [movies, users]
    n: Tensor  # float32 [movies, 1]
    constant: float  # ||X||^2, the cost of V = 0
    sum_dtype: torch.dtype  # the sums that make up the cost: float64 where the device has it
    all_reduce: Callable[[Tensor], Tensor] = lambda part: part  # adds up processes' parts of A

    def __call__(self, vectors: Tensor) -> Any:
        """Return the cost of vectors [movies, dim]; its gradient is computed along with it."""
        return _CostWithGradient.apply(vectors, self)

    def cost_and_gradient(self, V: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cost, a scalar, and its gradient [movies, dim]."""
        # V'V in 16 slabs: one float32 sum over all films would lose a digit or two.
        most = len(V) // 16 * 16
        slabs, rest = V[:most].reshape(16, most // 16, V.shape[1]), V[most:]
        gram = (slabs.mT @ slabs).sum(0, dtype=self.sum_dtype) + rest.T @ rest
        AV = self.A @ V
        squares = torch.linalg.vecdot(V, V)[:, None]  # ||v_i||^2
        gradient = (V @ gram.to(V.dtype)).sub_(self.all_reduce(self.A_transposed @ AV))
        gradient.addcmul_(V, self.n - squares)  # adds (n_i - ||v_i||^2) v_i
        squared = self._squared_norm(gram) - self._squared_norm(squares)
        mixed = self.all_reduce(self._squared_norm(AV))
        mixed -= (self.n * squares).sum(dtype=self.sum_dtype)
        return squared - 2 * mixed + self.constant, gradient.mul_(4)

    def _squared_norm(self, numbers: Tensor) -> Any:
        return torch.linalg.vector_norm(numbers, dtype=self.sum_dtype) ** 2


class _CostWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, fast: FastCost) -> Tensor:
        cost, gradient = fast.cost_and_gradient(vectors)
        ctx.save_for_backward(gradient)
        return cost

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0] * upstream, None


def build_cost(likes: Likes, device: torch.device | str = "cpu") -> FastCost:
    """Put the likes on a device; on MPS they are dense and float32 only."""
    device, A = torch.device(device), likes.matrix
    n = torch.from_numpy(likes.count[:, None].astype(np.float32)).to(device)
    # ||X||^2 in blocks, from A'A or from AA', whichever is smaller.
    rows = (A if A.shape[0] <= A.shape[1] else A.T).tocsr()
    total = -int((likes.count**2).sum())
    for start in range(0, rows.shape[0], BLOCK):
        block, later = rows[start : start + BLOCK], rows[start + BLOCK :]
        total += int(((block @ block.T).data ** 2).sum())
        total += 2 * int(((block @ later.T).data ** 2).sum())
    if device.type == "mps":
        dense = torch.from_numpy(A.toarray().astype(np.float32)).to(device)
        return FastCost(dense, dense.T, n, float(total), torch.float32)
    return FastCost(RowSums(A, device), RowSums(A.T, device), n, float(total), torch.float64)
