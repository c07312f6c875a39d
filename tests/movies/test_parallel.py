"""Several processes train the same embeddings as one."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from assignment.movies import embedding, movielens, parallel
from assignment.movies.cost import build_cost
from assignment.movies.movielens import Likes

STEPS = 50


ENDS_ALONE = """
import pathlib, sys
from assignment.movies import parallel
parallel.main(sys.argv[1:])
names = [(task / "comm").read_text() for task in pathlib.Path("/proc/self/task").iterdir()]
assert not (left := [name for name in names if "gloo" in name]), left
"""


def launched(
    folder: Path,
    processes: int,
    *more: str,
    program: Sequence[str] = ("-m", "assignment.movies.parallel"),
) -> subprocess.CompletedProcess[str]:
    """Start as many processes as asked for, each with one thread, under PyTorch's launcher."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), *program, *more]
    command += ["--keep", str(folder / "run.npz")]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "ASSIGNMENT_DEVICE": "cpu"}
    return subprocess.run(command, env=settings, capture_output=True, text=True, check=False)


def alone(likes: Likes, optimiser: str, dim: int) -> tuple[np.ndarray, np.ndarray]:
    vectors = embedding.random_start(len(likes.movies), dim).double().requires_grad_()
    steps = embedding.OPTIMISERS[optimiser]([vectors])
    losses = list(embedding.descend(build_cost(likes), vectors, steps, STEPS))
    return np.array(losses), vectors.detach().numpy()


@pytest.mark.parametrize(("processes", "optimiser"), [(2, "nesterov"), (3, "lbfgs")])
@pytest.mark.usefixtures("sample_mode")
def test_processes_together_lose_what_one_alone_does(
    tmp_path: Path, processes: int, optimiser: str
) -> None:
    likes = movielens.build_likes(movielens.load())
    asked = ("--optimiser", optimiser, "--dim", "8", "--iterations", str(STEPS), "--double")
    done = launched(tmp_path, processes, *asked)
    assert done.returncode == 0, done.stderr
    assert f"{processes} processes, {len(likes.movies):,} films: loss" in done.stdout
    losses, vectors = alone(likes, optimiser, 8)
    assert losses[-1] < losses[0] / 2
    with np.load(tmp_path / "run.npz") as found:
        assert found["losses"] == pytest.approx(losses, rel=1e-9)
        assert found["vectors"] == pytest.approx(vectors, rel=1e-6, abs=1e-9)


@pytest.mark.needs("real_data")
@pytest.mark.usefixtures("clean_environment")
def test_two_processes_lose_what_one_does_on_the_real_likes(tmp_path: Path) -> None:
    done = launched(tmp_path, 2, "--iterations", str(STEPS), "--double")
    assert done.returncode == 0, done.stderr
    losses, _ = alone(movielens.build_likes(movielens.load()), "nesterov", 50)
    with np.load(tmp_path / "run.npz") as found:
        assert found["losses"] == pytest.approx(losses, rel=1e-9)


@pytest.mark.needs("proc")
@pytest.mark.usefixtures("sample_mode")
def test_no_thread_outlives_the_group(tmp_path: Path) -> None:
    # One that did could still hold a tensor when Python ends, and would then abort the process.
    (tmp_path / "ends_alone.py").write_text(ENDS_ALONE)
    asked = ("--dim", "4", "--iterations", "2")
    done = launched(tmp_path, 2, *asked, program=[str(tmp_path / "ends_alone.py")])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_every_user_is_in_one_share(ranks: int) -> None:
    table = np.random.default_rng(0).integers(0, 2, (5, 4))
    likes = Likes(sparse.csr_array(table), np.arange(10, 15), np.arange(4), 4.0)
    shares = [parallel.users_of_rank(likes, rank, ranks) for rank in range(ranks)]
    assert sorted(np.concatenate([one.users for one in shares])) == list(range(10, 15))
    for one in shares:
        assert (one.matrix.toarray() == table[one.users - 10]).all()
        assert (one.movies == likes.movies).all()


def test_without_the_launcher_it_says_how_to_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SystemExit, match="torchrun --standalone"):
        parallel.main([])
