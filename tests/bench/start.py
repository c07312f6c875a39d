"""How long a reader waits: for the package, and for the first figure of each notebook.

The alternative imports at once whatever the project uses somewhere. Every measurement is a process
of its own, which has read all files once before.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import nbformat

from assignment.common.settings import PROJECT
from tests.bench.table import Comparison

EAGER = "import torchvision, matplotlib.pyplot, seaborn, sklearn.linear_model, sklearn.manifold"
SOURCE = PROJECT / "src"


def modules(drawing: bool) -> list[str]:
    """Name the package's modules: all, or those that do not draw."""
    paths = sorted((SOURCE / "assignment").rglob("[a-z]*.py"))
    names = [".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in paths]
    return [name for name in names if drawing or not name.endswith(".figures")]


def to_first_figure(notebook: str) -> str:
    """Return the code of a notebook as far as its first figure."""
    path = next((PROJECT / "notebooks").glob(f"{notebook}*.ipynb"))
    cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    last = next(number for number, source in enumerate(cells) if "save_figure(" in source)
    return "\n".join(cells[: last + 1])


def seconds(code: str) -> float:
    """Time some code in a fresh Python process, its start included."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"ASSIGNMENT_FIGURES": folder, "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-c", code]
        began = time.perf_counter()
        subprocess.run(command, env=environment, cwd=folder, capture_output=True, check=True)
        return time.perf_counter() - began


def comparisons(rounds: int, timed: Callable[[str], float] = seconds) -> list[Comparison]:
    """Compare with the same behind all imports."""
    kinds = {
        "importing the package": f"import {', '.join(modules(drawing=False))}",
        "notebook 1 to its first figure": to_first_figure("01"),
        "notebook 2 to its first figure": to_first_figure("02"),
    }
    made = []
    for what, code in kinds.items():
        timed(code), timed(EAGER)
        times = [(timed(code), timed(f"{EAGER}\n{code}")) for _ in range(rounds)]
        ours, theirs = zip(*times, strict=True)
        made.append(Comparison(what, "everything imported at once", "s", ours, theirs))
    return made
