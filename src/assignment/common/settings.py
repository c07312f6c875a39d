"""Where and how this runs: mode, device, precision, seeds, folders, and the tables that say so.

Everything a reader may choose is one environment variable (``ASSIGNMENT_MODE``, ``_DEVICE``,
``_DATA``, ``_WEIGHTS``, ``_MIRROR``), read when it is needed and never cached, so that no import
order and no earlier cell can change what a cell does.
"""

import os
import random
import sys
from enum import StrEnum
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

PROJECT = Path(__file__).resolve().parents[3]
SAMPLE_WARNING = "SAMPLE: synthetic stand-in data, not a result"


class AssignmentError(Exception):
    """Something a reader can mend; its message says what was expected, found, and what to do.

    In a notebook only the message is shown: a stack trace would bury the sentence.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class Mode(StrEnum):
    """How results come about; chosen by ``ASSIGNMENT_MODE``."""

    RECORDED = "recorded"
    TRAIN = "train"
    SAMPLE = "sample"


def mode() -> Mode:
    """Read the mode that ``ASSIGNMENT_MODE`` names, ``recorded`` where it names none."""
    asked = os.environ.get("ASSIGNMENT_MODE", "").strip().lower() or Mode.RECORDED
    try:
        return Mode(asked)
    except ValueError:
        raise AssignmentError(
            f"ASSIGNMENT_MODE is {asked!r}; it must be one of {', '.join(Mode)}. "
            "Unset it for the default, recorded."
        ) from None


def report(line: str) -> None:
    """Say something to whoever runs this: the one place where the package prints."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def data_folder() -> Path:
    """Return the one folder that datasets and weights live in: ``ASSIGNMENT_DATA`` or ``data/``."""
    return named_path("ASSIGNMENT_DATA") or PROJECT / "data"


def figures_folder() -> Path:
    """Return where figures are saved: git-ignored, unless ``make render`` says otherwise."""
    return named_path("ASSIGNMENT_FIGURES") or PROJECT / "build" / "figures"


def named_path(variable: str) -> Path | None:
    """Return the path that an environment variable names, from the project's root if relative.

    Not from the working directory: a notebook's kernel starts in ``notebooks/``, ``make`` does not.
    """
    named = os.environ.get(variable, "").strip()
    return (PROJECT / Path(named).expanduser()).resolve() if named else None


def device() -> torch.device:
    """Choose CUDA, then Apple's MPS, then the CPU; ``ASSIGNMENT_DEVICE`` overrides."""
    asked = os.environ.get("ASSIGNMENT_DEVICE", "").strip().lower()
    here = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if not asked:
        return torch.device(next(kind for kind, present in here.items() if present))
    kind, _, index = asked.partition(":")
    usable = here.get(kind, False) and (
        not index
        or (index.isdigit() and int(index) < (torch.cuda.device_count() if kind == "cuda" else 1))
    )
    if not usable:
        present = ", ".join(kind for kind, is_here in here.items() if is_here)
        raise AssignmentError(
            f"ASSIGNMENT_DEVICE is {asked!r}, which is not on this machine. "
            f"Here there is: {present}. Unset it to choose the fastest of these."
        )
    return torch.device(asked)


def precision(on: torch.device) -> torch.dtype:
    """Choose the type for the network's products: bfloat16 where the device gains from it."""
    if on.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if on.type == "cpu" and cpu_has_bfloat16():
        return torch.bfloat16
    return torch.float32


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AMX or AVX512-BF16).

    Without such units bfloat16 is emulated, and slower than float32.
    """
    return any(
        getattr(torch.cpu, probe, lambda: False)()
        for probe in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    )


def seed_everything(seed: int = 0) -> None:
    """Seed Python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries called from here still draw from it
    torch.manual_seed(seed)


def version_of(package: str) -> str:
    """Return the installed version of a package, in words where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
