"""The commands behind make: what they say, and that nothing good is lost when they fail."""

import os
import subprocess
from pathlib import Path

import nbformat
import numpy as np
import pytest

from assignment import __main__ as command
from assignment.common import download, files, runs
from assignment.common.settings import AssignmentError, Mode
from assignment.images import resnet
from assignment.movies import movielens, sample
from assignment.publish import readme


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network: the one mirror refuses every connection at once."""
    monkeypatch.setenv("ASSIGNMENT_MIRROR", "http://127.0.0.1:9")
    monkeypatch.setattr("assignment.common.download.BACKOFF_SECONDS", 0.0)


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A small project of its own: one notebook, committed."""
    root = tmp_path / "project"
    (root / "notebooks").mkdir(parents=True)
    (root / "figures").mkdir()
    write(root, "6 * 7")
    (root / "figures" / "old.png").write_bytes(b"old")
    (root / "figures" / "bench_growth.png").write_bytes(b"measured")
    (root / ".gitignore").write_text("/build/\n")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        subprocess.run(["git", *identity, *arguments], cwd=root, check=True)
    monkeypatch.setattr(command, "PROJECT", root)
    monkeypatch.setattr(command, "BUILD", root / "build")
    monkeypatch.setattr(command, "NOTEBOOKS", {"one": movielens.ARCHIVE})
    return root


def write(root: Path, *cells: str) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, root / "notebooks" / "one.ipynb")


def commit(root: Path) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, "commit", "-qam", "next"], cwd=root, check=True)


def official_stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put synthetic ratings in place and declare them official."""
    target = folder / movielens.ARCHIVE.folder
    target.mkdir()
    sample.write_movielens(target)
    digests = {name: files.sha256(target / name) for name in movielens.ARCHIVE.files}
    monkeypatch.setattr(
        command,
        "NOTEBOOKS",
        {"one": download.Archive("ratings", movielens.ARCHIVE.remote, target.name, digests)},
    )


@pytest.mark.parametrize("arguments", [[], ["fly"], ["data", "now"]])
def test_an_unknown_command_shows_the_known_ones(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(arguments) == 2
    assert "python -m assignment notebooks" in capsys.readouterr().out


@pytest.mark.usefixtures("nowhere")
def test_data_says_of_each_thing_why_it_cannot_be_had(
    data_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (data_folder / movielens.ARCHIVE.folder).mkdir()
    sample.write_movielens(data_folder / movielens.ARCHIVE.folder)
    assert command.main(["data"]) == 1
    said = capsys.readouterr().out
    assert "CIFAR-10: cifar-10-python.tar.gz (170.5 MB) is needed" in said
    assert "MovieLens latest-small: other (readable, but not the official content" in said
    assert "resnet18-f37072fd.pth" in said
    assert "https only" in said
    assert "Could not get CIFAR-10, ResNet18 IMAGENET1K_V1" in said


@pytest.mark.needs("real_data", "weights")
def test_data_is_content_with_what_is_in_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    named = resnet.weights_folder() / "resnet18-reconstructed.pt"
    monkeypatch.setenv("ASSIGNMENT_WEIGHTS", str(named))
    assert command.main(["data"]) == 0
    said = capsys.readouterr().out
    assert said.count(": official (") == 2
    assert "a reconstruction of IMAGENET1K_V1" in said


@pytest.mark.usefixtures("nowhere", "data_folder")
def test_without_data_the_sample_is_used_and_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.usable_mode(movielens.ARCHIVE) is Mode.SAMPLE
    said = capsys.readouterr().out
    assert "MovieLens latest-small is not on this machine (1.0 MB to download)" in said
    assert "make data" in said


def test_with_data_the_mode_asked_for_stands(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data_folder / movielens.ARCHIVE.folder).mkdir()
    sample.write_movielens(data_folder / movielens.ARCHIVE.folder)
    assert command.usable_mode(movielens.ARCHIVE) is Mode.RECORDED
    monkeypatch.setenv("ASSIGNMENT_MODE", "train")
    assert command.usable_mode(movielens.ARCHIVE) is Mode.TRAIN


@pytest.mark.usefixtures("sample_mode")
def test_notebooks_are_executed_into_build(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, "6 * 7", "import os; os.environ['ASSIGNMENT_MODE']")
    assert command.main(["notebooks"]) == 0
    cells = nbformat.read(project / "build" / "notebooks" / "one.ipynb", as_version=4).cells
    assert [cell.outputs[0].data["text/plain"] for cell in cells] == ["42", "'sample'"]
    assert "jupyter lab" in capsys.readouterr().out
    source = nbformat.read(project / "notebooks" / "one.ipynb", as_version=4)
    assert not source.cells[0].outputs, "what is committed is untouched"


@pytest.mark.usefixtures("sample_mode")
def test_a_failing_cell_is_shown_and_leaves_no_notebook(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, "1 / 0")
    assert command.main(["notebooks"]) == 1
    assert "one stopped: ZeroDivisionError" in capsys.readouterr().out
    assert not (project / "build" / "notebooks" / "one.ipynb").exists()


def test_train_runs_everything_again_and_keep_promotes_it(
    project: Path,
    data_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    official_stand_in(data_folder, monkeypatch)
    monkeypatch.setattr(runs, "RECORDS", project / "records")
    monkeypatch.setenv("ASSIGNMENT_MODE", "recorded")
    write(project, "import os; os.environ['ASSIGNMENT_MODE']")
    assert command.main(["keep"]) == 0
    assert "no fresh runs" in capsys.readouterr().out
    assert command.main(["train"]) == 0
    cells = nbformat.read(project / "build" / "notebooks" / "one.ipynb", as_version=4).cells
    assert cells[0].outputs[0].data["text/plain"] == "'train'"
    fresh = runs.Record("one", {}, {"loss": np.zeros(2)}, {"seconds": 1.0, "code": "abc"})
    runs.write_record(fresh, runs.runs_folder())
    assert command.main(["keep"]) == 0
    assert "Kept: one" in capsys.readouterr().out
    assert (project / "records" / "one.json").is_file()


@pytest.mark.needs("git")
def test_render_writes_outputs_and_replaces_figures(
    project: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    official_stand_in(data_folder, monkeypatch)
    monkeypatch.setattr(readme, "update", lambda readme: None)
    draw = "import os, pathlib; folder = pathlib.Path(os.environ['ASSIGNMENT_FIGURES'])"
    write(project, draw, "folder.mkdir(parents=True); (folder / 'new.png').write_bytes(b'new')")
    commit(project)
    assert command.main(["render"]) == 0
    cells = nbformat.read(project / "notebooks" / "one.ipynb", as_version=4).cells
    assert cells[1].outputs[0].data["text/plain"] == "3"
    names = {path.name for path in (project / "figures").iterdir()}
    assert names == {"new.png", "bench_growth.png"}
    assert cells[1].metadata == {}, "no timing, which would change with every run"


@pytest.mark.needs("git")
def test_render_refuses_a_tree_with_changes(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "notes.txt").write_text("unsaved")
    assert command.main(["render"]) == 1
    assert "needs a clean tree" in capsys.readouterr().out


@pytest.mark.needs("git")
@pytest.mark.usefixtures("project", "sample_mode")
def test_render_refuses_the_sample(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["render"]) == 1
    assert "recorded mode, this is sample" in capsys.readouterr().out


@pytest.mark.needs("git")
@pytest.mark.usefixtures("project")
def test_render_refuses_data_that_are_not_official(
    data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data_folder / movielens.ARCHIVE.folder).mkdir()
    sample.write_movielens(data_folder / movielens.ARCHIVE.folder)
    assert command.main(["render"]) == 1
    assert "needs official data" in capsys.readouterr().out


@pytest.mark.needs("git")
def test_a_failed_render_changes_nothing(
    project: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    official_stand_in(data_folder, monkeypatch)
    write(project, "6 * 7", "1 / 0")
    commit(project)
    before = (project / "notebooks" / "one.ipynb").read_bytes()
    assert command.main(["render"]) == 1
    assert (project / "notebooks" / "one.ipynb").read_bytes() == before
    assert (project / "figures" / "old.png").read_bytes() == b"old"


@pytest.mark.needs("git")
def test_git_outside_a_repository_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "PROJECT", tmp_path)
    monkeypatch.setitem(os.environ, "GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(AssignmentError, match="git status failed"):
        command.git("status")
