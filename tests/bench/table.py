"""What all benchmarks share: a comparison with a named alternative, and how peaks are read."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from assignment.common.settings import PROJECT

STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Comparison:
    """One thing done in this project's way and in another, in the same rounds."""

    what: str
    against: str
    unit: str  # "images/s", of which more is better; of any other less is
    ours: list[float]  # round by round
    theirs: list[float]
    hoped: float | None = None  # the ratio that was hoped for before anything was measured

    @property
    def ratios(self) -> list[float]:
        """How many times better, within a round."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return [us / them if self.unit == "images/s" else them / us for us, them in pairs]

    def row(self) -> dict[str, Any]:
        """Return what a table says."""
        return asdict(self) | {
            "ours": statistics.median(self.ours),
            "theirs": statistics.median(self.theirs),
            "ratio": statistics.median(self.ratios),
            "lowest": min(self.ratios),
            "highest": max(self.ratios),
            "rounds": len(self.ratios),
        }


def compare(
    what: str, against: str, unit: str, rounds: int,
    measure: Callable[[Any], float], ours: Any, theirs: Any, hoped: float | None = None,
) -> Comparison:  # fmt: skip
    """Measure both in turn, round by round: a busy machine slows both alike."""
    pairs = [(measure(ours), measure(theirs)) for _ in range(rounds)]
    us, them = map(list, zip(*pairs, strict=True))
    return Comparison(what, against, unit, us, them, hoped)


def forget_peak() -> float:
    """Let the peak of this process's memory begin anew, where that can be done; return it."""
    (torch.ones(64, 64) @ torch.ones(64, 64)).sum().item()  # behind the libraries' own buffers
    if STATUS.is_file():
        Path("/proc/self/clear_refs").write_text("5")
    return peak_mebibytes()


def peak_mebibytes() -> float:
    """Read this process's peak memory (since it was last forgotten, where Linux can do that)."""
    if STATUS.is_file():
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**10
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def in_a_child(module: str, call: str) -> Any:
    """Call a function of a benchmark in a process of its own."""
    code = f"import json; from tests.bench import {module}; print(json.dumps({module}.{call}))"
    return json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=PROJECT))
