"""The movie embeddings trained by several processes at once, under PyTorch's own launcher.

    torchrun --standalone --nproc-per-node 2 -m assignment.movies.parallel

The cost is a sum over users, plus terms of the vectors alone: every process holds a share of the
users and all vectors, and a step adds up cost and gradient, so the vectors are never sent.
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # optimisers import it; imported after the group begins, it holds the group
import torch.distributed as dist

from assignment.common.settings import AssignmentError, device, report
from assignment.movies.cost import FastCost, RowSums
from assignment.movies.embedding import OPTIMISERS, descend, random_start
from assignment.movies.movielens import Likes, build_likes, load

BLOCK = 256  # rows of co-likes that are added up at a time
COMMAND = "torchrun --standalone --nproc-per-node 2 -m assignment.movies.parallel"


def all_reduce(part: torch.Tensor) -> torch.Tensor:
    """Add up over all processes."""
    dist.all_reduce(part)
    return part


def users_of_rank(likes: Likes, rank: int, ranks: int) -> Likes:
    """Return the users of one process, one in so many; all films stay."""
    own = slice(rank, None, ranks)
    return replace(likes, matrix=likes.matrix[own], users=likes.users[own])


def build_distributed_cost(own: Likes, on: torch.device) -> FastCost:
    """Build the cost of all users from what each process holds; all must call it together."""
    A = own.matrix
    n = all_reduce(torch.from_numpy(own.count[:, None].astype(np.float64)).to(on))
    constant = -n.square().sum().item()
    for start in range(0, A.shape[1], BLOCK):
        block = (A[:, start : start + BLOCK].T @ A).toarray().astype(np.float64)
        constant += all_reduce(torch.from_numpy(block).to(on)).square().sum().item()
    rows, columns = RowSums(A, on), RowSums(A.T, on)
    return FastCost(rows, columns, n.float(), constant, torch.float64, all_reduce)


def train(
    own: Likes, optimiser: str, dim: int, iterations: int, on: torch.device
) -> tuple[np.ndarray, torch.Tensor]:
    """Descend as `embedding.fit` does from seed 0; return the losses and the vectors."""
    cost = build_distributed_cost(own, on)
    dtype = cost.sum_dtype if optimiser == "lbfgs" else torch.float32
    vectors = random_start(len(own.movies), dim).to(on, dtype).requires_grad_()
    losses = np.array(list(descend(cost, vectors, OPTIMISERS[optimiser]([vectors]), iterations)))
    of_first = vectors.detach().clone()
    dist.broadcast(of_first, 0)
    if all_reduce((of_first != vectors).any().float()).item():
        raise AssignmentError("The processes ended at different vectors: use one kind of device.")
    return losses, of_first


def main() -> None:
    """Train in as many processes as torchrun has started."""
    parser = argparse.ArgumentParser(prog="torchrun ... -m assignment.movies.parallel")
    parser.add_argument("--optimiser", choices=OPTIMISERS, default="nesterov")
    parser.add_argument("--dim", type=int, default=50)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--output", type=Path, help="where to write losses and vectors (.npz)")
    options = parser.parse_args()
    if "RANK" not in os.environ:
        parser.error(f"start it with\n{COMMAND}")
    gpus = device().type == "cuda"
    on = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if gpus else "cpu")
    dist.init_process_group("nccl" if gpus else "gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    if rank == 0:
        load()  # once: it may have to be downloaded
    dist.barrier()
    own = users_of_rank(build_likes(load()), rank, ranks)
    began = time.perf_counter()
    losses, vectors = train(own, options.optimiser, options.dim, options.iterations, on)
    if rank == 0:
        milliseconds = 1e3 * (time.perf_counter() - began) / options.iterations
        report(
            f"{ranks} processes, {len(own.movies):,} films: loss {losses[0]:,.0f} to "
            f"{losses[-1]:,.0f} in {options.iterations} steps of {milliseconds:.1f} ms"
        )
        if options.output:
            np.savez(options.output, losses=losses, vectors=vectors.cpu().numpy())
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
