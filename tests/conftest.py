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
PREREQUISITES: dict[str, Callable[[], bool]] = {
    "real_data": lambda: (
        (DATA / "cifar-10-batches-py" / "test_batch").is_file()
        and (DATA / "ml-latest-small" / "ratings.csv").is_file()
    ),
    "weights": lambda: (DATA / "weights" / "resnet18-reconstructed.pt").is_file(),
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
    "proc": lambda: Path("/proc/self/task").is_dir(),
    "posix": lambda: os.name == "posix",
    "git": lambda: shutil.which("git") is not None and (settings.PROJECT / ".git").exists(),
    "browser": lambda: pages.browser() is not None and shutil.which("chromedriver") is not None,
    "make": lambda: shutil.which("make") is not None,
}
STRICT = bool(os.environ.get("ASSIGNMENT_STRICT_SKIPS"))
skips: dict[str, str] = {}
before: list[str] = []


def absent(*what: str) -> list[str]:
    return [name for name in what if not PREREQUISITES[name]()]


def tracked_changes() -> list[str]:
    """What git would show, or nothing where there is no repository."""
    if absent("git"):
        return []
    command = ["git", "status", "--porcelain"]
    run = subprocess.run(command, cwd=settings.PROJECT, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


def pytest_sessionstart(session: pytest.Session) -> None:
    before.extend(tracked_changes())


def pytest_runtest_setup(item: pytest.Item) -> None:
    needed = [name for mark in item.iter_markers("needs") for name in mark.args]
    if missing := absent(*needed):
        pytest.skip(f"needs {', '.join(missing)}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        skips[report.nodeid] = reason.removeprefix("Skipped: ")


def unjustified(reason: str) -> bool:
    """Whether nothing is absent that would explain a skip."""
    if not reason.startswith("needs "):
        return True
    named = reason.removeprefix("needs ").split(", ")
    return any(name not in PREREQUISITES or PREREQUISITES[name]() for name in named)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    changed = sorted(set(tracked_changes()) - set(before))
    session.config.stash[problems_key] = [f"the tests changed the tree: {line}" for line in changed]
    if STRICT:
        session.config.stash[problems_key] += [
            f"skipped although nothing it needs is absent: {test} ({reason})"
            for test, reason in skips.items()
            if unjustified(reason)
        ]
    if session.config.stash[problems_key] and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


problems_key = pytest.StashKey[list[str]]()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    terminalreporter.write_line(f"{len(skips)} tests skipped for want of what they need")
    for problem in config.stash.get(problems_key, []):
        terminalreporter.write_line(f"FAILED: {problem}", red=True)


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
    """An empty data folder of the test's own."""
    monkeypatch.setenv("ASSIGNMENT_DATA", str(tmp_path))
    return tmp_path
