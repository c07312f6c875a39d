"""What all benchmarks share: a comparison with a named alternative, and how peaks are read."""

import resource
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def report(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@dataclass(frozen=True)
class Comparison:
    """One thing done in this project's way and in another, in the same rounds.

    Attributes
    ----------
    what, against : str
    unit : str
        "images/s" where more is better; of any other, less is.
    ours, theirs : sequence of float
        Round by round. A ratio is taken within a round, so that a busy machine slows both alike.
    expected : float
        The ratio that was hoped for; zero where nothing was.
    """

    what: str
    against: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float]
    expected: float = 0.0

    @property
    def ratios(self) -> list[float]:
        """How many times better, round by round."""
        pairs = list(zip(self.ours, self.theirs, strict=True))
        return [us / them if self.unit == "images/s" else them / us for us, them in pairs]

    def row(self) -> dict[str, Any]:
        """Return what a table says."""
        ours, theirs, ratio = map(statistics.median, (self.ours, self.theirs, self.ratios))
        return {
            "what": self.what,
            "against": self.against,
            "unit": self.unit,
            "ours": ours,
            "theirs": theirs,
            "ratio": ratio,
            "lowest": min(self.ratios),
            "highest": max(self.ratios),
            "rounds": len(self.ratios),
            "expected": self.expected,
        }


def finish(on: torch.device) -> None:
    """Wait until a device has done all that it was asked."""
    if on.type != "cpu":
        torch.accelerator.synchronize()


def gpu_mebibytes(on: torch.device) -> float:
    """Read the GPU's peak memory, zero where there is none."""
    return torch.cuda.max_memory_allocated(on) / 2**20 if on.type == "cuda" else 0.0


def peak_mebibytes() -> float:
    """Read this process's peak memory (since it was last forgotten, where Linux can do that)."""
    if STATUS.is_file():
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def forget_peak() -> None:
    """Let the peak begin anew, where Linux can do that."""
    if STATUS.is_file():
        FORGET.write_text("5")
