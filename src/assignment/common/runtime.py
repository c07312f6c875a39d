"""Where and how this runs: mode, device, precision, seeds, folders, and the tables that say so.

Everything a reader may choose is one environment variable (``ASSIGNMENT_MODE``, ``_DEVICE``,
``_DATA``, ``_WEIGHTS``, ``_MIRROR``), read when it is needed and never cached, so that no import
order and no earlier cell can change what a cell does.
"""

import hashlib
import html
import inspect
import os
import platform
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
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


MODE_MEANING = {
    Mode.RECORDED: "real data; long training runs are read from data/records/",
    Mode.TRAIN: "real data; everything is trained again on this machine",
    Mode.SAMPLE: f"{SAMPLE_WARNING}; everything is trained here, in seconds",
}


@dataclass(frozen=True)
class Source:
    """Where something came from, and whether it is the official thing.

    Attributes
    ----------
    what : str
        Name of the dataset or of the weights.
    origin : str
        ``"official"``, ``"other"`` or ``"SAMPLE"``.
    detail : str
        One sentence: how that is known.
    sha256 : str
        Fingerprint, empty where there is nothing to fingerprint.
    """

    what: str
    origin: str
    detail: str
    sha256: str = ""


@dataclass(frozen=True)
class Table:
    """A captioned table that reads well in a notebook, on a code host and as plain text.

    Examples
    --------
    >>> print(Table(pd.DataFrame({"film": ["Toy Story"], "likes": [147]}), "Films"))
    Films
         film  likes
    Toy Story    147
    """

    frame: pd.DataFrame
    caption: str

    @property
    def title(self) -> str:
        """The caption, marked in sample mode."""
        return f"{self.caption} [{SAMPLE_WARNING}]" if mode() is Mode.SAMPLE else self.caption

    def __repr__(self) -> str:
        """Caption and columns, unbroken however wide."""
        return f"{self.title}\n{self.frame.to_string(index=False)}"

    def _repr_html_(self) -> str:
        # pandas' own rendering, without its style block: code hosts strip styles.
        with pd.option_context("display.max_colwidth", None):
            table = self.frame.to_html(index=False, border=0)
        caption = f"<caption>{html.escape(self.title)}</caption>"
        opening, rest = table.split(">", 1)
        return f"{opening}>\n  {caption}{rest}"


@dataclass(frozen=True)
class Description:
    """The two tables every notebook opens with: this machine, and what was read on it."""

    machine: Table
    sources: Table


@dataclass(frozen=True)
class Banner:
    """The first thing a reader sees: how the numbers below came about."""

    mode: Mode

    def __repr__(self) -> str:
        """One line."""
        return f"Mode: {self.mode} ({MODE_MEANING[self.mode]})"

    def _repr_html_(self) -> str:
        line = html.escape(repr(self))
        return f"<h2>{line}</h2>" if self.mode is Mode.SAMPLE else f"<p><em>{line}</em></p>"


@dataclass(frozen=True)
class Code:
    """The source of a function, shown in a notebook so that what is read is what ran."""

    text: str

    def __repr__(self) -> str:
        """Return the source."""
        return self.text

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.text}```"


def source_of(*functions: Callable[..., object]) -> Code:
    """Return the source of functions or classes, highlighted where a page can."""
    return Code("\n\n".join(inspect.getsource(function) for function in functions))


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


def banner() -> Banner:
    """State the mode in words."""
    return Banner(mode())


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


def shown(path: Path) -> str:
    """Write a path the way a page may show it: relative to the project, else its name alone."""
    try:
        return path.resolve().relative_to(PROJECT).as_posix()
    except ValueError:
        return path.name


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
    if on.type == "cpu" and cpu_has_bf16():
        return torch.bfloat16
    return torch.float32


def cpu_has_bf16() -> bool:
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


def fingerprint(files: Mapping[str, str]) -> str:
    """Combine the SHA-256 of several files into one, independent of their order.

    Parameters
    ----------
    files : mapping
        File name to SHA-256.
    """
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def describe(*sources: Source, seed: int = 0) -> Description:
    """Describe this machine, and each dataset and the weights: official or not.

    Parameters
    ----------
    *sources : Source
        What was loaded, in the order of the table.
    seed : int
        The seed that `seed_everything` was given.
    """
    on = device()
    device_name = torch.cuda.get_device_name(on) if on.type == "cuda" else platform.machine()
    rows = {
        "mode": str(mode()),
        "device": f"{on} ({device_name})",
        "precision": str(precision(on)).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
        "system": f"{platform.system()} {platform.release()}",
        "Python": sys.version.split()[0],
        "seed (Python, numpy, torch)": str(seed),
    }
    rows |= {name: version_of(name) for name in ("torch", "torchvision", "numpy", "pandas")}
    machine = pd.DataFrame({"what": rows.keys(), "here": rows.values()})
    listed = pd.DataFrame(
        [(s.what, s.origin, s.detail, s.sha256[:16] or "-") for s in sources],
        columns=["what", "origin", "how we know", "SHA-256 begins"],
    )
    return Description(Table(machine, "This machine"), Table(listed, "Data and weights"))


def version_of(package: str) -> str:
    """Return the installed version of a package, in words where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
