"""The cost of the movie embeddings: as the assignment writes it, and the same number faster.

The cost as it is written compares all pairs of films; the same number follows from the likes alone,
and that makes a step cost about a millisecond.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
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
    """A matrix of zeros and ones, times V: sums of rows of V, the fastest product in float32."""

    def __init__(self, matrix: Any, on: torch.device) -> None:
        rows = matrix.tocsr()
        self.places = torch.from_numpy(rows.indices.astype(np.int64)).to(on)
        self.starts = torch.from_numpy(rows.indptr[:-1].astype(np.int64)).to(on)

    def __matmul__(self, vectors: Tensor) -> Tensor:
        return embedding_bag(self.places, vectors, self.starts, mode="sum")


@dataclass(frozen=True, eq=False)
class FastCost:
    """The same cost from the likes, never with a matrix of films by films; called like any loss.

    With the likes A (users x films), A'A holds the co-likes X and, on its diagonal, the likes n_i
    of each film. Opening the square, once with and once without the pairs i = j:

        sum (v_i . v_j)^2    = ||V'V||^2 - sum ||v_i||^4
        sum (v_i . v_j) X_ij = ||A V||^2 - sum n_i ||v_i||^2
        c(V)     = ||V'V||^2 - sum ||v_i||^4 - 2 (||A V||^2 - sum n_i ||v_i||^2) + ||X||^2
        gradient = 4 (V (V'V) - A'(A V) + (n_i - ||v_i||^2) v_i)

    V'V and A V serve both, so one pass of O((likes + films dim) dim) gives cost and gradient.
    """

    likes: RowSums | Tensor  # A [users, movies]
    liked_by: RowSums | Tensor  # A' [movies, users]
    count: Tensor  # n, float32 [movies, 1]
    constant: float  # ||X||^2, the cost of V = 0
    wide: torch.dtype  # of the last sums: float64 where the device has it

    def __call__(self, vectors: Tensor) -> Any:
        """Return the cost of vectors [movies, dim], a Tensor to be differentiated once."""
        return _OnePass.apply(vectors, self)

    def cost_and_gradient(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cost, a scalar, and its gradient [movies, dim]."""
        gram = self._gram(vectors)
        by_user = self.likes @ vectors
        squares = torch.linalg.vecdot(vectors, vectors)[:, None]
        gradient = vectors @ gram.to(vectors.dtype)
        gradient -= self.together(self.liked_by @ by_user)
        gradient.addcmul_(vectors, self.count - squares).mul_(4)
        pairs = self._square_sum(gram) - self._square_sum(squares)
        liked = self.together(self._square_sum(by_user))
        liked -= (self.count * squares).sum(dtype=self.wide)
        return pairs - 2 * liked + self.constant, gradient

    def together(self, of_users: Tensor) -> Tensor:
        """Add up over everyone who holds a share of the users: here there is only one."""
        return of_users

    def _gram(self, vectors: Tensor) -> Tensor:
        # V'V from 16 slabs: one float32 sum over all films would lose a digit or two.
        most = len(vectors) // 16 * 16
        slabs, rest = vectors[:most].reshape(16, most // 16, vectors.shape[1]), vectors[most:]
        return (slabs.mT @ slabs).sum(0, dtype=self.wide) + rest.T @ rest

    def _square_sum(self, numbers: Tensor) -> Any:
        return torch.linalg.vector_norm(numbers, dtype=self.wide) ** 2


class _OnePass(torch.autograd.Function):
    """Hands autograd the gradient that came with the cost."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, objective: FastCost) -> Tensor:
        cost, gradient = objective.cost_and_gradient(vectors)
        ctx.save_for_backward(gradient)
        return cost

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0] * upstream, None


def build_cost(
    likes: Likes, device: torch.device | str = "cpu", portable: bool | None = None
) -> FastCost:
    """Put the likes on a device; `portable`, the default on MPS, is dense and float32 only."""
    on = torch.device(device)
    portable = on.type == "mps" if portable is None else portable
    count = torch.from_numpy(likes.count[:, None].astype(np.float32)).to(on)
    A = likes.matrix
    if portable:
        dense = torch.from_numpy(A.toarray().astype(np.float32)).to(on)
        return FastCost(dense, dense.T, count, squared_colikes(likes), torch.float32)
    return FastCost(RowSums(A, on), RowSums(A.T, on), count, squared_colikes(likes), torch.float64)


def squared_colikes(likes: Likes) -> float:
    """Sum X_ij^2 over i != j, a block of films (or of users, if they are fewer) at a time.

    A'A and AA' have the same length, so the smaller may be taken; neither is ever held whole. Both
    are symmetric: a block with all that follow it counts twice, but for the block with itself.
    """
    A = likes.matrix
    rows = (A if A.shape[0] <= A.shape[1] else A.T).tocsr()
    squares = -int((likes.count**2).sum())
    for start in range(0, rows.shape[0], BLOCK):
        block = rows[start : start + BLOCK]
        onwards, itself = ((block @ B.T).data ** 2 for B in (rows[start:], block))
        squares += 2 * int(onwards.sum()) - int(itself.sum())
    return float(squares)
