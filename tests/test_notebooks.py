"""The notebooks run anywhere on the sample, and say on real data what is committed.

nbval does the comparing; here it is run the way a reader would run it, and one test shows that its
strict form can fail.
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

NOTEBOOKS = sorted((settings.PROJECT / "notebooks").glob("*.ipynb"))
SECTIONS = {
    "01_cifar10_transfer": ["1.1", "1.2a", "1.2b", "1.3a", "1.3b", "1.3c", "1.4", "1.5", "1.6"],
    "02_movie_embeddings": ["2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7"],
}


def nbval(path: Path, *options: str, mode: str) -> subprocess.CompletedProcess[str]:
    """Run nbval over one notebook in a process of its own."""
    environment = {"ASSIGNMENT_MODE": mode, "TQDM_DISABLE": "1"}
    plain = ["-o", "addopts=", "-o", "filterwarnings=default", "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plain, *options, "--nbval-cell-timeout=600", str(path)],
        env=os.environ | environment,
        cwd=settings.PROJECT,
        capture_output=True,
        text=True,
    )


def ids(path: Path) -> str:
    return path.stem


def test_both_notebooks_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == list(SECTIONS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_every_question_has_its_heading_in_order(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert re.findall(r"^## (\d\.\d[a-c]?) ", text, re.MULTILINE) == SECTIONS[path.stem]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_the_committed_notebook_ran_top_to_bottom_without_a_fault(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert "SAMPLE" not in str(outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_it_runs_on_the_sample(path: Path, data_folder: Path) -> None:
    run = nbval(path, "--nbval-lax", mode="sample")
    assert run.returncode == 0, run.stdout
    assert "passed" in run.stdout
    assert not list(data_folder.iterdir()), "the sample needs nothing and leaves nothing"


@pytest.mark.needs("real_data")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_it_still_says_what_is_committed(path: Path) -> None:
    run = nbval(path, "--nbval", mode="recorded")
    assert run.returncode == 0, run.stdout


def text_of(output: Any) -> str:
    """What a reader sees of an output: its text, or its table."""
    data = output.get("data", {})
    return str(output.get("text") or data.get("text/html") or data.get("text/plain") or "")


@pytest.mark.needs("real_data")
@pytest.mark.parametrize(
    ("notebook", "found_in", "number"),
    [
        (0, "Images per class and split", "45000"),  # a table
        (0, "Images: (3, 32, 32)", "4500"),  # a printed line
        (0, "Figure: 6 training images", "10 classes"),  # the words of a figure
        (1, "Likes and co-likes", "610"),
    ],
)
def test_a_changed_number_is_noticed(
    notebook: int, found_in: str, number: str, tmp_path: Path
) -> None:
    forged = nbformat.read(NOTEBOOKS[notebook], as_version=4)
    place, output = next(
        (place, output)
        for place, cell in enumerate(forged.cells)
        for output in cell.get("outputs", [])
        if found_in in text_of(output)
    )
    other = number.replace(number[0], "7", 1)
    for holder in (output, output.get("data", {})):
        for kind, text in holder.items():
            if isinstance(text, str) and kind != "image/png":
                holder[kind] = text.replace(number, other)
    assert other in text_of(output)
    forged.cells = forged.cells[: place + 1]
    path = tmp_path / NOTEBOOKS[notebook].name
    nbformat.write(forged, path)
    run = nbval(path, "--nbval", mode="recorded")
    assert run.returncode == 1
    assert other in run.stdout
