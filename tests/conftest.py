"""What all tests share: a clean environment, and skips that have to be true.

A test that cannot run everywhere says what it needs: ``@pytest.mark.needs("real_data")``. Under
``.ci/run`` any other skip fails the run, so that a test cannot go missing unnoticed.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One thread for each process: several fight over the cores, and a test waits for the slowest.
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from assignment.common import runs, settings
from assignment.images import labels
from assignment.publish import pages

DATA = settings.data_folder()
FILES = ("cifar-10-batches-py/test_batch", "ml-latest-small/ratings.csv")
PREREQUISITES: dict[str, Callable[[], bool]] = {
    "real_data": lambda: all((DATA / name).is_file() for name in FILES),
    "label_lists": lambda: all((DATA / f.name).is_file() for f in (labels.RATINGS, labels.COPIES)),
    "weights": lambda: (DATA / "weights" / "resnet18-reconstructed.pt").is_file(),
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
    "posix": lambda: os.name == "posix",
    "git": lambda: shutil.which("git") is not None and (settings.PROJECT / ".git").exists(),
    "browser": lambda: pages.browser() is not None and shutil.which("chromedriver") is not None,
    "make": lambda: shutil.which("make") is not None,
}


class Recorder(TorchDispatchMode):
    """Notes each operation with every tensor that it takes or makes, autograd's included."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[tuple[str, int, torch.dtype, torch.layout]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, out)):
            if isinstance(leaf, torch.Tensor):
                self.seen.append((str(func), leaf.numel(), leaf.dtype, leaf.layout))
        return out


def absent(*names: str) -> list[str]:
    return [name for name in names if not PREREQUISITES[name]()]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if missing := absent(*(name for mark in item.iter_markers("needs") for name in mark.args)):
        pytest.skip(f"needs {', '.join(missing)}")


def tracked_changes() -> set[str]:
    command = ["git", "status", "--porcelain"]
    out = "" if absent("git") else subprocess.check_output(command, cwd=settings.PROJECT, text=True)
    return set(out.splitlines())


class Watch:
    """Notices in the one process that all reports reach what no test may do."""

    def __init__(self) -> None:
        self.before, self.skips, self.faults = tracked_changes(), 0, list[str]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.skips += report.skipped
        without_need = report.skipped and "Skipped: needs " not in str(report.longrepr)
        if without_need and os.environ.get("ASSIGNMENT_STRICT_SKIPS"):
            self.faults.append(f"skipped although it could run: {report.nodeid}")

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        changes = sorted(tracked_changes() - self.before)
        self.faults += [f"the tests changed the tree: {line}" for line in changes]
        if self.faults and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"{self.skips} tests skipped for want of what they need")
        for fault in self.faults:
            terminalreporter.write_line(f"FAILED: {fault}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # which pytest-xdist gives to the processes it starts
        config.pluginmanager.register(Watch())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:  # this process may have fewer cores than the machine
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ASSIGNMENT_") and name != "ASSIGNMENT_DATA":
            monkeypatch.delenv(name)


@pytest.fixture
def sample_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSIGNMENT_MODE", "sample")


@pytest.fixture
def data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ASSIGNMENT_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch, data_folder: Path) -> Path:
    """A place for committed records, with none in it; beside it is one for fresh runs."""
    monkeypatch.setattr(runs, "RECORDS", data_folder / "records")
    return runs.RECORDS


@pytest.fixture
def float32_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests run."""
    monkeypatch.setenv("ASSIGNMENT_DEVICE", "cpu")
    monkeypatch.setattr(settings, "precision", lambda on: torch.float32)
