"""Where and how this runs: mode, device, precision, seeds and folders.

What a reader may choose is an environment variable, read when it is needed and never cached.
"""

import os
import random
import sys
from enum import StrEnum
from importlib import metadata
from pathlib import Path

import numpy as np
import torch


def _find_project() -> Path:
    """Return the repository that the code stands in, that is named, or that one works in."""
    named = os.path.expanduser(os.environ.get("ASSIGNMENT_REPOSITORY", "").strip())
    here = Path(os.path.realpath(os.curdir))
    own = Path(__file__).resolve().parents[3]
    places = (own, Path(os.path.realpath(named)), here, *here.parents)
    return next((place for place in places if (place / "src" / "assignment").is_dir()), here)


PROJECT = _find_project()  # outside of any repository what is downloaded goes where one works
SAMPLE_WARNING = "SAMPLE: synthetic stand-in data, not a result"


class AssignmentError(Exception):
    """Something a reader can mend; its message says what was expected, found, and what to do."""

    def _render_traceback_(self) -> list[str]:  # in a notebook: no stack trace buries the sentence
        return [f"{type(self).__name__}: {self}"]


class Mode(StrEnum):
    """How results come about; chosen by ``ASSIGNMENT_MODE``."""

    RECORDED = "recorded"
    TRAIN = "train"
    SAMPLE = "sample"


def mode() -> Mode:
    """Read the mode that ``ASSIGNMENT_MODE`` names, ``recorded`` where it names none."""
    asked = os.environ.get("ASSIGNMENT_MODE", "").strip().lower() or Mode.RECORDED
    if asked not in list(Mode):
        raise AssignmentError(
            f"ASSIGNMENT_MODE is {asked!r}; it must be one of {', '.join(Mode)}. "
            "Unset it for the default, recorded."
        )
    return Mode(asked)


def report(line: str) -> None:
    """Print a line, the one way the package does; what the console cannot write becomes "?"."""
    encoding = sys.stdout.encoding or "utf-8"
    print(line.encode(encoding, "replace").decode(encoding), flush=True)  # noqa: T201


def data_folder() -> Path:
    """Return the one folder that datasets and weights live in: ``ASSIGNMENT_DATA`` or ``data/``."""
    folder = named_path("ASSIGNMENT_DATA") or PROJECT / "data"
    try:
        os.listdir(folder)
    except FileNotFoundError:
        pass  # whoever writes there makes it
    except OSError as error:
        found = "is a file" if folder.is_file() else f"cannot be read ({error.strerror})"
        raise AssignmentError(
            f"The data folder {folder} {found}. Mend that, or name another in ASSIGNMENT_DATA."
        ) from None
    return folder


def figures_folder() -> Path:
    """Return where figures are saved: git-ignored, unless ``make render`` says otherwise."""
    return named_path("ASSIGNMENT_FIGURES") or PROJECT / "build" / "figures"


def named_path(variable: str) -> Path | None:
    """Return the path that an environment variable names, from the project's root if relative."""
    # Not from the working directory: a notebook's kernel starts in notebooks/, make does not.
    named = os.environ.get(variable, "").strip()
    try:
        return (PROJECT / Path(named).expanduser()).resolve() if named else None
    except (RuntimeError, OSError) as error:  # nobody's home, or a circle of links
        raise AssignmentError(
            f"{variable} is {named!r}, which leads nowhere ({error}). Write the path out in full."
        ) from None


def device() -> torch.device:
    """Choose CUDA, then Apple's MPS, then the CPU; ``ASSIGNMENT_DEVICE`` overrides."""
    asked = os.environ.get("ASSIGNMENT_DEVICE", "").strip().lower()
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    counts = {"cuda": gpus, "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    kinds = [kind for kind in counts if counts[kind]]
    names = [f"{kind}:{index}" for kind in kinds for index in range(counts[kind])]
    if asked and asked not in kinds + names:
        raise AssignmentError(
            f"ASSIGNMENT_DEVICE is {asked!r}, which is not on this machine. "
            f"Here there is: {', '.join(kinds)}. Unset it to choose the fastest of these."
        )
    return torch.device(asked or kinds[0])


def precision(on: torch.device) -> torch.dtype:
    """Choose the type for the network's products: bfloat16 where the device gains from it."""
    gains = on.type == "cuda" and torch.cuda.is_bf16_supported()
    if on.type == "cpu":  # without such units bfloat16 is emulated, and slower than float32
        probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        gains = any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return torch.bfloat16 if gains else torch.float32


def seed_everything(seed: int = 0) -> None:
    """Seed Python, numpy and torch (all devices); the sample, which is tiny, takes one thread."""
    if mode() is Mode.SAMPLE:
        torch.set_num_threads(1)  # the processes that run it would only fight over the cores
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries called from here still draw from it
    torch.manual_seed(seed)


def version_of(package: str) -> str:
    """Return the installed version of a package, in words where there is none."""
    found = metadata.distributions(name=package)
    return next((each.version for each in found), "not installed")
