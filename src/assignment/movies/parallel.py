"""The movie embeddings trained by several processes at once, under PyTorch's own launcher.

    torchrun --standalone --nproc-per-node 2 -m assignment.movies.parallel

The cost is a sum over users, plus terms that need the vectors alone. Every process holds all
vectors and a share of the users. In a step the shares' parts of the gradient and of the cost are
added up, one number for every number of the vectors; the rest each process computes for itself. All
begin at the same vectors and take the same steps, so the vectors themselves are never sent.
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # optimisers import it; behind the group's beginning it would hold the group
import torch.distributed as dist
from torch import Tensor

from assignment.common import settings
from assignment.common.settings import AssignmentError, report
from assignment.movies import embedding, movielens
from assignment.movies.cost import FastCost, RowSums
from assignment.movies.movielens import Likes

BLOCK = 256  # films by films, at a time, whose co-likes are added up


@dataclass(frozen=True, eq=False)
class DistributedCost(FastCost):
    """The cost of all users, to a process that holds some of them."""

    def together(self, of_users: Tensor) -> Tensor:
        """Add up over all processes."""
        dist.all_reduce(of_users)
        return of_users


def users_of_rank(likes: Likes, rank: int, ranks: int) -> Likes:
    """Return the users of one process, one in so many; all films stay."""
    mine = slice(rank, None, ranks)
    return replace(likes, matrix=likes.matrix[mine], users=likes.users[mine])


def build_distributed_cost(mine: Likes, on: torch.device) -> DistributedCost:
    """Build the cost of all users from what each process holds; all must call it together."""
    A, count = mine.matrix, torch.from_numpy(mine.count.astype(np.float64)).to(on)
    dist.all_reduce(count)
    squares = torch.zeros((), dtype=torch.float64, device=on)
    for start in range(0, A.shape[1], BLOCK):
        block = (A[:, start : start + BLOCK].T @ A).toarray().astype(np.float32)
        colikes = torch.from_numpy(block).to(on)
        dist.all_reduce(colikes)  # whole numbers: exact
        squares += colikes.square().sum(dtype=torch.float64)
    constant = (squares - count.square().sum()).item()
    return DistributedCost(
        RowSums(A, on), RowSums(A.T, on), count[:, None].float(), constant, torch.float64
    )


def train(
    mine: Likes, optimiser: str, dim: int, iterations: int, on: torch.device, dtype: torch.dtype
) -> tuple[np.ndarray, Tensor]:
    """Descend as `embedding.fit` does from seed 0; return the losses and the vectors."""
    cost = build_distributed_cost(mine, on)
    vectors = embedding.random_start(len(mine.movies), dim).to(on, dtype).requires_grad_()
    steps = embedding.OPTIMISERS[optimiser]([vectors])
    losses = np.array(list(embedding.descend(cost, vectors, steps, iterations)))
    theirs = vectors.detach().clone()
    dist.broadcast(theirs, 0)
    apart = (theirs != vectors).any().float()
    dist.all_reduce(apart)
    if apart.item():
        raise AssignmentError(
            "The processes ended at different vectors: they must run the same code on devices that "
            "round alike. Start them all on one kind of device."
        )
    return losses, theirs


def main(arguments: Sequence[str] | None = None) -> None:
    """Train in as many processes as torchrun has started."""
    parser = argparse.ArgumentParser(prog="torchrun ... -m assignment.movies.parallel")
    parser.add_argument("--optimiser", choices=embedding.OPTIMISERS, default="nesterov")
    parser.add_argument("--dim", type=int, default=50)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--double", action="store_true", help="compute in float64")
    parser.add_argument("--keep", type=Path, help="where to write losses and vectors (.npz)")
    chosen = parser.parse_args(arguments)
    if "RANK" not in os.environ:
        raise SystemExit(
            "This is started by torchrun, which says how many processes there are:\n"
            "torchrun --standalone --nproc-per-node 2 -m assignment.movies.parallel"
        )
    gpus = settings.device().type == "cuda"
    on = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if gpus else "cpu")
    dist.init_process_group("nccl" if gpus else "gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    if rank == 0:
        movielens.load()  # once: it may have to be downloaded
    dist.barrier()
    mine = users_of_rank(movielens.build_likes(movielens.load()), rank, ranks)
    dtype = torch.float64 if chosen.double else torch.float32
    began = time.perf_counter()
    losses, vectors = train(mine, chosen.optimiser, chosen.dim, chosen.iterations, on, dtype)
    if rank == 0:
        passed = 1e3 * (time.perf_counter() - began) / chosen.iterations
        report(
            f"{ranks} processes, {len(mine.movies):,} films: loss {losses[0]:,.0f} to "
            f"{losses[-1]:,.0f} in {chosen.iterations} steps of {passed:.1f} ms"
        )
        if chosen.keep:
            np.savez(chosen.keep, losses=losses, vectors=vectors.cpu().numpy())
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
