"""The movie embeddings trained by several processes at once, under PyTorch's own launcher.

The cost is a sum over users, plus terms of the vectors alone: every process holds a share of the
users and all vectors, and a step adds up cost and gradient, so the vectors are never sent.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # optimisers import it; imported after the group begins, it holds the group
import torch.distributed as dist
from torch import Tensor

from assignment.common.settings import AssignmentError, device, report
from assignment.movies.cost import FastCost, RowSums, build_cost
from assignment.movies.embedding import OPTIMISERS, choose_lr, descend, random_start
from assignment.movies.movielens import Likes, build_likes, load

COMMAND = "torchrun --standalone --nproc-per-node 2 -m assignment.movies.parallel"


def all_reduce(part: Tensor) -> Tensor:
    """Add up over all processes."""
    dist.all_reduce(part)
    return part


def build_share(likes: Likes, rank: int, ranks: int, on: torch.device) -> FastCost:
    """Build the cost of all likes, of which this process sums up those of one user in so many."""
    whole, own = build_cost(likes), likes.matrix[rank::ranks]
    rows, columns = RowSums(own, on), RowSums(own.T, on)
    return FastCost(rows, columns, whole.n.to(on), whole.constant, whole.sum_dtype, all_reduce)


def train(
    cost: FastCost, optimiser: str, lr: float, dim: int, iterations: int
) -> tuple[np.ndarray, Tensor]:
    """Descend as `embedding.fit` does from seed 0; return the losses and the vectors."""
    dtype = cost.sum_dtype if optimiser == "lbfgs" else torch.float32
    vectors = random_start(len(cost.n), dim).to(cost.n.device, dtype).requires_grad_()
    steps = OPTIMISERS[optimiser]([vectors], lr=lr)
    losses = np.array(list(descend(cost, vectors, steps, iterations)))
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
    likes = build_likes(load())
    cost, lr = build_share(likes, rank, ranks, on), choose_lr(likes, options.optimiser)
    began = time.perf_counter()
    losses, vectors = train(cost, options.optimiser, lr, options.dim, options.iterations)
    if rank == 0:
        milliseconds = 1e3 * (time.perf_counter() - began) / options.iterations
        report(
            f"{ranks} processes, {len(cost.n):,} films: loss {losses[0]:,.0f} to "
            f"{losses[-1]:,.0f} in {options.iterations} steps of {milliseconds:.1f} ms"
        )
        if options.output:
            np.savez(options.output, losses=losses, vectors=vectors.cpu().numpy())
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
