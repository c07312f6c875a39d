"""Rendering: committed files change all together or not at all; what the other tasks report."""

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest

from assignment.common import code, runs
from assignment.common.figures import Figure
from assignment.common.settings import AssignmentError
from assignment.images import experiments
from assignment.movies import movielens
from assignment.publish import explore, figures, pages, readme, rendering

DRAW = "import os, pathlib; folder = pathlib.Path(os.environ['ASSIGNMENT_FIGURES'])"
SAVE = "folder.mkdir(parents=True); (folder / '01_new.png').write_bytes(b'new')"


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch, data_folder: Path) -> Path:
    """A clean project of one notebook, two figures and official data: one empty file."""
    root = data_folder / "project"
    for name in ("notebooks/one.ipynb", "figures/01_old.png", "figures/bench_growth.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    cells = [nbformat.v4.new_code_cell(source) for source in (DRAW, SAVE)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "notebooks" / "one.ipynb")
    (root / ".gitignore").write_text("*\n!notes.txt\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    (data_folder / "empty.csv").touch()
    files = {"empty.csv": hashlib.sha256().hexdigest()}
    monkeypatch.setattr(rendering, "PROJECT", root)
    monkeypatch.setattr(runs, "RECORDS", root / "records")
    (root / "records").mkdir()
    for name in ("finetune-1.json", "descent-1.json", "bench-1.json"):
        (root / "records" / name).touch()
    monkeypatch.setattr(rendering, "ARCHIVES", [replace(movielens.ARCHIVE, folder="", files=files)])
    monkeypatch.setattr(readme, "update", lambda path: (path / "README.md").write_text("tables"))
    monkeypatch.setattr(figures, "readme_picture", Figure)
    return root


@pytest.mark.needs("git")
def test_render_writes_outputs_and_replaces_figures(project: Path) -> None:
    rendering.render()
    _, cell = nbformat.read(project / "notebooks" / "one.ipynb", as_version=4).cells
    assert (cell.outputs[0].data["text/plain"], cell.metadata) == ("3", {}), "and no timing"
    names = sorted(path.name for path in project.glob("figures/*"))
    assert names == ["01_new.png", "bench_growth.png", "readme.png"]
    assert (project / "README.md").read_text() == "tables"
    sources = runs.rendered_with()
    assert sources.keys() == {"finetune", "descent"}
    assert sources["finetune"] == code.fingerprint(experiments._finetune)


def spoil_notebook(path: Path) -> None:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")]), path)


@pytest.mark.needs("git")
@pytest.mark.parametrize(("mode", "spoil", "reason"), [
    ("", lambda root: (root / "notes.txt").write_text("unsaved"), "clean git tree.*:\n.*notes"),
    ("train", lambda root: None, "needs the recorded mode, this is train"),
    ("", lambda root: (root.parent / "empty.csv").write_text("1"), "official data"),
    ("", lambda root: (root / ".git").rename(root / "moved"), "clean git tree.*:\nfatal: not"),
    ("", lambda root: spoil_notebook(root / "notebooks" / "one.ipynb"), "one stopped: ZeroDiv"),
])  # fmt: skip
def test_a_refused_or_failed_render_changes_nothing(
    mode: str, spoil: Any, reason: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSIGNMENT_MODE", mode)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    spoil(project)
    before = (project / "notebooks" / "one.ipynb").read_bytes()
    with pytest.raises(AssignmentError, match=reason):
        rendering.render()
    assert (project / "notebooks" / "one.ipynb").read_bytes() == before
    assert (project / "figures" / "01_old.png").exists()
    assert runs.rendered_with() == {}


def test_the_other_tasks_report_what_they_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    promoted = iter([["one", "two"], []])
    monkeypatch.setattr(runs, "promote", lambda _: next(promoted))
    for function in ("build", "build_pdf"):
        monkeypatch.setattr(pages, function, lambda folder: [folder / "one"])
    monkeypatch.setattr(explore, "build", lambda folder: [folder / "two"])
    for task in ("keep", "keep", "html", "pdf"):
        rendering.TASKS[task]()
    assert capsys.readouterr().out.splitlines() == [
        "Kept: one, two", "There are no fresh runs; see `make train`.",
        "Pages, to be opened from disk: build/site/one, build/site/two", "Printed: build/pdf/one",
        "Pages, to be opened from disk: build/site/one, build/site/two",
    ]  # fmt: skip
