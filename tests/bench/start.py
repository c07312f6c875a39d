"""How long a reader waits: for the package, and for the first figure of each notebook.

The alternative imports at once whatever the project uses somewhere.
"""

import os
import subprocess
import sys
import tempfile
import time

import nbformat

from assignment.common.settings import PROJECT
from tests.bench.table import Comparison, compare

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


def comparisons(rounds: int) -> list[Comparison]:
    """Compare with the same behind all imports; all files have been read once before."""
    kinds = {"importing the package": f"import {', '.join(modules(drawing=False))}"}
    for n in (1, 2):
        kinds[f"notebook {n} to its first figure"] = to_first_figure(f"0{n}")
    made = []
    for what, code in kinds.items():
        eager, against = f"{EAGER}\n{code}", "everything imported at once"
        seconds(eager)
        made.append(compare(what, against, "s", rounds, seconds, code, eager))
    return made
