"""Rendering: committed files change all together or not at all; what the other tasks report."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from assignment import __main__ as command
from assignment.common import runs
from assignment.common.download import Archive
from assignment.movies import movielens
from assignment.publish import pages, readme, rendering

DRAW = "import os, pathlib; folder = pathlib.Path(os.environ['ASSIGNMENT_FIGURES'])"
SAVE = "folder.mkdir(parents=True); (folder / 'new.png').write_bytes(b'new')"
NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of an empty file


def commit(root: Path, *cells: str) -> None:
    """Write a notebook and commit everything."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, root / "notebooks" / "one.ipynb")
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for arguments in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "all of it"]):
        subprocess.run(["git", *arguments], cwd=root, check=True)


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch, data_folder: Path) -> Path:
    """A committed project of one notebook, two figures and official data: one empty file."""
    root = data_folder / "project"
    for folder in ("notebooks", "figures", "official"):
        (root / folder).mkdir(parents=True)
    (root / "official" / "empty.csv").touch()
    (root / "figures" / "old.png").write_bytes(b"old")
    (root / "figures" / "bench_growth.png").write_bytes(b"measured")
    (root / ".gitignore").write_text("/build/\n/official/\n")
    commit(root, DRAW, SAVE)
    official = {"empty.csv": NOTHING}
    archive = Archive("ratings", movielens.ARCHIVE.remote, "project/official", official)
    monkeypatch.setattr(rendering, "PROJECT", root)
    monkeypatch.setattr(rendering, "ARCHIVES", [archive])
    monkeypatch.setattr(readme, "update", lambda path: path.write_text("tables"))
    return root


@pytest.mark.needs("git")
def test_render_writes_outputs_and_replaces_figures(project: Path) -> None:
    assert command.main(["render"]) == 0
    cells = nbformat.read(project / "notebooks" / "one.ipynb", as_version=4).cells
    assert cells[1].outputs[0].data["text/plain"] == "3"
    assert cells[1].metadata == {}, "no timing, which would change with every run"
    names = {path.name for path in (project / "figures").iterdir()}
    assert names == {"new.png", "bench_growth.png"}
    assert (project / "README.md").read_text() == "tables"


@pytest.mark.needs("git")
@pytest.mark.parametrize(
    ("mode", "spoil", "reason"),
    [
        ("", lambda root: (root / "notes.txt").write_text("unsaved"), "needs a clean tree"),
        ("train", lambda root: None, "needs the recorded mode, this is train"),
        ("", lambda root: (root / "official" / "empty.csv").write_text("1"), "official data"),
        ("", lambda root: (root / ".git").rename(root / "moved"), "needs a git repository"),
        ("", lambda root: commit(root, "1 / 0"), "one stopped: ZeroDivisionError"),
    ],
)
def test_a_refused_or_failed_render_changes_nothing(
    mode: str, spoil: Callable[[Path], object], reason: str, project: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("ASSIGNMENT_MODE", mode)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    spoil(project)
    before = (project / "notebooks" / "one.ipynb").read_bytes()
    assert command.main(["render"]) == 1
    assert reason in capsys.readouterr().out
    assert (project / "notebooks" / "one.ipynb").read_bytes() == before
    assert (project / "figures" / "old.png").exists()
    assert not (project / "README.md").exists()


@pytest.mark.parametrize(
    ("task", "made", "output"),
    [
        ("keep", ["one", "two"], "Kept: one, two"),
        ("keep", [], "no fresh runs; see `make train`"),
        ("html", [Path("one.html")], "Pages, to be opened from disk: one.html"),
        ("pdf", [Path("one.pdf")], "Printed: one.pdf"),
    ],
)
def test_the_other_tasks_report_what_they_made(
    task: str, made: list[Path], output: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for module, function in ((runs, "promote"), (pages, "build"), (pages, "build_pdf")):
        monkeypatch.setattr(module, function, lambda _: made)
    assert command.main([task]) == 0
    assert output in capsys.readouterr().out
