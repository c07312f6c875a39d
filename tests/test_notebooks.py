"""The notebooks run anywhere on the sample, and say on real data what is committed.

nbval does the comparing, in a process of its own; one test shows that its strict form can fail.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from assignment.common import settings
from tests.claims import Claim, broken, images, movies

NOTEBOOKS = sorted((settings.PROJECT / "notebooks").glob("*.ipynb"))
SECTIONS = {
    "01_cifar10_transfer": ["1.1", "1.2a", "1.2b", "1.3a", "1.3b", "1.3c", "1.4", "1.5", "1.6"],
    "02_movie_embeddings": ["2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7"],
}
PLACES = (str(settings.PROJECT), str(settings.PROJECT / "src"))  # of the tests, of this package
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def nbval(path: Path, option: str, mode: str) -> subprocess.CompletedProcess[str]:
    plain = ["-o", "addopts=", "-o", "filterwarnings=default", "-p", "no:cacheprovider"]
    options = ["-p", "nbval.plugin", option, "--nbval-cell-timeout=600"]
    command = [sys.executable, "-m", "pytest", *plain, *options, str(path)]
    environment = os.environ | {"ASSIGNMENT_MODE": mode, "TQDM_DISABLE": "1"}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.pathsep.join(PLACES)}
    return subprocess.run(
        command, env=environment, cwd=settings.PROJECT, capture_output=True, text=True
    )


@each_notebook
def test_every_question_has_its_heading_in_order(path: Path) -> None:
    assert [path.stem for path in NOTEBOOKS] == list(SECTIONS)
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert re.findall(r"^## (\d\.\d[a-c]?) ", text, re.MULTILINE) == SECTIONS[path.stem]


def code_by_section(path: Path) -> dict[str, str]:
    """The code of each section, after that of the cell which holds what a reader changes."""
    cells, first, number = nbformat.read(path, as_version=4).cells, "", ""
    code: dict[str, str] = {}
    for cell in cells:
        if cell.cell_type == "markdown":
            number = next(iter(re.findall(r"^## (\S+)", cell.source, re.MULTILINE)), number)
        elif "ASSIGNMENT_REPOSITORY" in cell.source:
            continue  # the very first cell: it only finds the package
        elif not first:
            first = cell.source
        else:
            code[number] = code.get(number, first) + f"\n{cell.source}"
    return code


@each_notebook
def test_each_section_reads_only_the_first_cell_and_itself(path: Path) -> None:
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select=F821", "-"]
    for number, code in code_by_section(path).items():
        run = subprocess.run(ruff, input=code, capture_output=True, text=True)
        assert run.returncode == 0, f"{number}: {run.stdout}"


@each_notebook
def test_it_ran_top_to_bottom_on_real_data_and_its_figures_are_numbered(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if "outputs" in cell]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    lines = [len(cell.source.splitlines()) for cell in cells]
    assert max(lines) <= 25
    assert sum(lines) <= 420
    shown = " ".join(str(cell.outputs) for cell in cells)
    assert "SAMPLE" not in shown
    for pattern in (r"\*\*Figure (\d+)\.\*\* ", r"<caption>Table (\d+)\. "):
        numbers = {int(number) for number in re.findall(pattern, shown)}
        assert numbers == {*range(1, len(numbers) + 1)}


@each_notebook
def test_it_runs_on_the_sample(path: Path, data_folder: Path) -> None:
    run = nbval(path, "--nbval-lax", mode="sample")
    assert run.returncode == 0, run.stdout
    assert "passed" in run.stdout
    assert not list(data_folder.iterdir()), "the sample needs nothing and leaves nothing"


CLAIMS = {"01_cifar10_transfer": images.CLAIMS, "02_movie_embeddings": movies.CLAIMS}
CHECK = """from tests.claims import broken
from tests.claims.{} import CLAIMS
print("broken claims:", broken(CLAIMS, globals()))"""


@each_notebook
def test_every_claim_stands_in_the_prose(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    prose = " ".join(" ".join(cell.source.split()) for cell in cells if "outputs" not in cell)
    assert [words for words, _ in CLAIMS[path.stem] if words not in prose] == []


@pytest.mark.needs("real_data")
@each_notebook
def test_it_still_says_what_is_committed_and_every_claim_holds(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = CHECK.format(CLAIMS[path.stem][0][1].__module__[13:])
    check = nbformat.v4.new_code_cell(code, execution_count=1)
    check.outputs = [nbformat.v4.new_output("stream", name="stdout", text="broken claims: []\n")]
    notebook.cells.append(check)
    nbformat.write(notebook, tmp_path / path.name)
    run = nbval(tmp_path / path.name, "--nbval", mode="recorded")
    assert run.returncode == 0, run.stdout


def test_a_claim_that_does_not_hold_is_named() -> None:
    claims: list[Claim] = [("grows", lambda n: n.last > n.first), ("falls", lambda n: n.last < 0)]
    assert broken(claims, {"first": 1, "last": 2}) == ["falls"]


def test_a_changed_number_is_noticed(tmp_path: Path) -> None:
    table = "from IPython.display import HTML; HTML('<td>45000</td>')"
    words = "<IPython.core.display.HTML object>"
    cells: dict[str, tuple[str, dict[str, Any]]] = {
        "print('45000 images')": ("stream", {"name": "stdout", "text": "45000 images\n"}),
        "print('4500 images')": ("stream", {"name": "stdout", "text": "4700 images\n"}),
        table: ("display_data", {"data": {"text/html": "<td>47000</td>", "text/plain": words}}),
    }
    notebook = nbformat.v4.new_notebook()
    for source, (kind, output) in cells.items():
        notebook.cells.append(nbformat.v4.new_code_cell(source, execution_count=1))
        notebook.cells[-1].outputs = [nbformat.v4.new_output(kind, **output)]
    nbformat.write(notebook, tmp_path / "forged.ipynb")
    run = nbval(tmp_path / "forged.ipynb", "--nbval", mode="sample")
    assert "2 failed, 1 passed" in run.stdout
    assert "4700 images" in run.stdout
    assert "<td>47000</td>" in run.stdout
