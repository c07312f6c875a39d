"""What all tests share: a clean environment, and skips that have to be true.

A test that cannot run everywhere says what it needs: ``@pytest.mark.needs("real_data")``. Only such
a mark may skip a test, and only while the thing is really absent. Under ``.ci/run`` any other skip
fails the run, so that a test cannot go missing unnoticed.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

# One thread for each process: several fight over the cores, and a test waits for the slowest.
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import pytest
import torch

from assignment.common import settings
from assignment.publish import pages

DATA = settings.data_folder()
FILES = ("cifar-10-batches-py/test_batch", "ml-latest-small/ratings.csv")
PREREQUISITES: dict[str, Callable[[], bool]] = {
    "real_data": lambda: all((DATA / name).is_file() for name in FILES),
    "weights": lambda: (DATA / "weights" / "resnet18-reconstructed.pt").is_file(),
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
    "proc": lambda: Path("/proc/self/task").is_dir(),
    "posix": lambda: os.name == "posix",
    "git": lambda: shutil.which("git") is not None and (settings.PROJECT / ".git").exists(),
    "browser": lambda: pages.browser() is not None and shutil.which("chromedriver") is not None,
    "make": lambda: shutil.which("make") is not None,
}


def absent(*names: str) -> list[str]:
    return [name for name in names if not PREREQUISITES[name]()]


def pytest_runtest_setup(item: pytest.Item) -> None:
    needed = [name for mark in item.iter_markers("needs") for name in mark.args]
    if missing := absent(*needed):
        pytest.skip(f"needs {', '.join(missing)}")


def tracked_changes() -> set[str]:
    """What git would show, or nothing where there is no repository."""
    if absent("git"):
        return set()
    command = ["git", "status", "--porcelain"]
    run = subprocess.run(command, cwd=settings.PROJECT, capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines())


class Watch:
    """Notices in the one process that all reports reach what no test may do."""

    def __init__(self) -> None:
        self.before = tracked_changes()
        self.skips: dict[str, str] = {}
        self.faults: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "another reason"
            self.skips[report.nodeid] = reason.removeprefix("Skipped: ")

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        changes = sorted(tracked_changes() - self.before)
        self.faults = [f"the tests changed the tree: {line}" for line in changes]
        good_reasons = set(absent(*PREREQUISITES))
        for test, reason in self.skips.items():
            justified = good_reasons.issuperset(reason.removeprefix("needs ").split(", "))
            if os.environ.get("ASSIGNMENT_STRICT_SKIPS") and not justified:
                self.faults.append(f"skipped although it could run: {test} ({reason})")
        if self.faults and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"{len(self.skips)} tests skipped for want of what they need")
        for fault in self.faults:
            terminalreporter.write_line(f"FAILED: {fault}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # which pytest-xdist gives to the processes it starts
        config.pluginmanager.register(Watch())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """As many as there are cores for this process, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches a test, but for where their data are."""
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
