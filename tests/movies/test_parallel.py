"""Several processes train the same embeddings as one."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from assignment.common.settings import AssignmentError
from assignment.movies import movielens, parallel
from assignment.movies.cost import build_cost
from assignment.movies.embedding import OPTIMISERS, descend, random_start
from assignment.movies.movielens import Likes
from tests.movies.test_cost import random_likes

# A thread that outlived the group could still hold a tensor when Python ends, and would abort it.
PROGRAM = """
import pathlib, sys
from assignment.movies import parallel
parallel.main(sys.argv[1:])
names = [path.read_text() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
assert not (left := [name for name in names if "gloo" in name]), left
"""


def train(own: Likes, optimiser: str) -> tuple[np.ndarray, Tensor]:
    return parallel.train(own, optimiser, 4, 30, torch.device("cpu"), torch.float64)


def losses_alone(likes: Likes, optimiser: str) -> np.ndarray:
    vectors = random_start(len(likes.movies), 4).double().requires_grad_()
    steps = descend(build_cost(likes), vectors, OPTIMISERS[optimiser]([vectors]), 30)
    return np.array(list(steps))


@pytest.mark.parametrize(("ranks", "optimiser"), [(1, "sgd"), (2, "nesterov"), (3, "lbfgs")])
def test_shares_of_the_users_lose_what_all_do(
    ranks: int, optimiser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    likes, tensors = random_likes(20, 300), {}
    barrier, thread = threading.Barrier(ranks), threading.local()

    def exchange(tensor: Tensor) -> list[Tensor]:
        tensors[thread.rank] = tensor.clone()
        barrier.wait(30)
        found = [tensors[rank] for rank in range(ranks)]
        barrier.wait(30)
        return found

    def train_share(rank: int) -> np.ndarray:
        thread.rank = rank
        return train(parallel.users_of_rank(likes, rank, ranks), optimiser)[0]

    monkeypatch.setattr(dist, "all_reduce", lambda t: t.copy_(torch.stack(exchange(t)).sum(0)))
    monkeypatch.setattr(dist, "broadcast", lambda t, source: t.copy_(exchange(t)[source]))
    with ThreadPoolExecutor(ranks) as pool:  # threads exchange tensors as processes would
        for losses in pool.map(train_share, range(ranks)):
            assert losses == pytest.approx(losses_alone(likes, optimiser), rel=1e-9)


def test_processes_that_end_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: tensor)
    monkeypatch.setattr(dist, "broadcast", lambda tensor, source: tensor.add_(1))
    with pytest.raises(AssignmentError, match="ended at different vectors"):
        train(random_likes(9, 9), "sgd")


def test_without_the_launcher_it_says_how_to_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SystemExit):
        parallel.main([])
    assert "torchrun --standalone" in capsys.readouterr().err


@pytest.mark.usefixtures("sample_mode")
@pytest.mark.parametrize("processes", [1, pytest.param(3, marks=pytest.mark.long)])
def test_processes_started_together_lose_what_one_alone_does(
    processes: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "ASSIGNMENT_DEVICE": "cpu"}
    given |= {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "0",
    }  # torchrun replaces all but the device
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    output, program = tmp_path / "run.npz", tmp_path / "program.py"
    options = f"--optimiser lbfgs --dim 4 --iterations 30 --double --output {output}".split()
    if processes == 1:
        parallel.main(options)
    else:
        program.write_text(PROGRAM)
        torchrun = f"-m torch.distributed.run --standalone --nproc-per-node {processes}".split()
        subprocess.run([sys.executable, *torchrun, str(program), *options], check=True)
    likes = movielens.build_likes(movielens.load())
    assert np.load(output)["losses"] == pytest.approx(losses_alone(likes, "lbfgs"), rel=1e-9)
