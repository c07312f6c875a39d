"""Several processes train the same embeddings as one."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import run
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from assignment.common.settings import AssignmentError
from assignment.movies import embedding, movielens, parallel
from assignment.movies.cost import build_cost
from tests.movies.test_cost import random_likes

# A thread that outlived the group could still hold a tensor when Python ends, and would abort it.
PROGRAM = """
from pathlib import Path
from assignment.movies import parallel
parallel.main()
assert not any("gloo" in path.read_text() for path in Path("/proc/self/task").glob("*/comm"))
"""
OPTIONS = ["--optimiser", "lbfgs", "--dim", "4", "--iterations", "30", "--output", "run.npz"]


@pytest.fixture(autouse=True)
def as_if_launched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    launched = "RANK=0 LOCAL_RANK=0 WORLD_SIZE=1 MASTER_ADDR=localhost MASTER_PORT=0"
    for pair in f"{launched} ASSIGNMENT_DEVICE=cpu ASSIGNMENT_MODE=sample".split():
        monkeypatch.setenv(*pair.split("="))
    monkeypatch.setattr(sys, "argv", ["parallel", *OPTIONS])
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("ranks", "optimiser"), [(1, "sgd"), (2, "nesterov"), (3, "lbfgs")])
def test_shares_lose_alike(ranks: int, optimiser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    likes, tensors = random_likes(20, 300), {}
    lr = embedding.choose_lr(likes, optimiser)
    barrier, thread = threading.Barrier(ranks), threading.local()

    def exchange(tensor: torch.Tensor) -> list[torch.Tensor]:
        tensors[thread.rank] = tensor.clone()
        barrier.wait(30)
        found = [tensors[rank] for rank in range(ranks)]
        barrier.wait(30)
        return found

    def train_share(rank: int) -> np.ndarray:
        thread.rank = rank
        share = parallel.build_share(likes, rank, ranks, torch.device("cpu"))
        return parallel.train(share, optimiser, lr, 4, 30)[0]

    monkeypatch.setattr(dist, "all_reduce", lambda t: t.copy_(torch.stack(exchange(t)).sum(0)))
    monkeypatch.setattr(dist, "broadcast", lambda t, source: t.copy_(exchange(t)[source]))
    alone = embedding.fit(likes, 4, optimiser, iterations=30).losses
    with ThreadPoolExecutor(ranks) as pool:  # threads exchange tensors as processes would
        found = list(pool.map(train_share, range(ranks)))
    np.testing.assert_allclose(found, [alone] * ranks, rtol=1e-5)


def test_processes_that_end_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: tensor)
    monkeypatch.setattr(dist, "broadcast", lambda tensor, source: tensor.add_(1))
    with pytest.raises(AssignmentError, match="ended at different vectors"):
        parallel.train(build_cost(random_likes(9, 9)), "sgd", 1e-3, 4, 30)


def test_alone_it_says_how_to_start(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.delenv("RANK")
    with pytest.raises(SystemExit):
        parallel.main()
    assert "torchrun --standalone" in capsys.readouterr().err


@pytest.mark.parametrize("several", [False, pytest.param(True, marks=pytest.mark.long)])
def test_processes_started_together_lose_what_one_alone_does(several: bool) -> None:
    if several:
        launch = ["-m", "torch.distributed.run", *parallel.COMMAND.split()[1:4], "--no-python"]
        run([sys.executable, *launch, sys.executable, "-c", PROGRAM, *OPTIONS], check=True)
    else:
        parallel.main()
    alone = embedding.fit(movielens.build_likes(movielens.load()), 4, "lbfgs", iterations=30)
    assert np.load("run.npz")["losses"] == pytest.approx(alone.losses, rel=1e-9)
