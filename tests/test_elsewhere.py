"""Away from its repository: a notebook gets its package, an installed package its records."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import nbformat
import pytest

from assignment.common import code, settings
from tests.test_notebooks import NOTEBOOKS

CODE = {
    path.stem: [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    for path in NOTEBOOKS
}
FIRST = next(iter(CODE.values()))[0]
BARE = [sys.executable, "-I", "-S", "-c"]  # without what is installed, and so without the package
FOUND = "from importlib import util\nprint(util.find_spec('assignment').origin)"
LINES = "Run !git clone ADDRESS repository and %pip install -e repository first."


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    own = ("ASSIGNMENT_", "PYTHONPATH")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return subprocess.run(
        command, cwd=folder, env=inherited | environment, capture_output=True, text=True
    )


def test_all_notebooks_begin_with_the_same_short_cell_and_at_home_it_does_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert {code[0] for code in CODE.values()} == {FIRST}
    assert "ASSIGNMENT_REPOSITORY" in FIRST
    assert len(FIRST.splitlines()) <= 12
    before = list(sys.path)
    exec(FIRST, {})
    assert sys.path == before
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("folder", ["notebooks", "."])
def test_without_an_installation_the_repository_around_it_is_found(folder: str) -> None:
    found = run([*BARE, f"{FIRST}\n{FOUND}"], settings.PROJECT / folder)
    package = settings.PROJECT / "src" / "assignment" / "__init__.py"
    assert (Path(found.stdout.strip()).resolve(), found.stderr) == (package, "")


@pytest.mark.needs("git")
@pytest.mark.parametrize(("address", "reason"), [("", ""), ("no/such/clone", "no/such/clone")])
def test_where_there_is_no_package_two_lines_are_named(
    address: str, reason: str, tmp_path: Path
) -> None:
    failed = run([*BARE, FIRST], tmp_path, ASSIGNMENT_REPOSITORY=address)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.splitlines()[-1] == LINES
    assert reason in failed.stderr
    assert len(failed.stderr.splitlines()) == 1 + bool(reason)


@pytest.fixture
def python(tmp_path: Path) -> str:
    """A Python with all that is installed here, but the package and the extra "notebooks"."""
    venv.create(tmp_path / "venv")
    (tmp_path / "site").mkdir()
    for each in Path(sysconfig.get_path("purelib")).iterdir():
        if not re.search("assignment|^nb|latex2mathml", each.name):
            (tmp_path / "site" / each.name).symlink_to(each)
    (own,) = tmp_path.glob("venv/lib/python*/site-packages")
    (own / "others.pth").write_text(f"{tmp_path / 'site'}\n")
    return str(tmp_path / "venv" / "bin" / "python")


WHERE = """from assignment.common import code, runs, settings
print(settings.PROJECT, len(runs.read_all("descent")), code.commit())"""
# Nothing is asked of the network: a clone for the address, no packages, setuptools at hand.
OFFLINE = {"PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1"}


@pytest.mark.long
@pytest.mark.needs("git", "posix")
@pytest.mark.parametrize("notebook", CODE)
def test_alone_in_an_empty_folder_it_gets_its_repository(
    notebook: str, python: str, tmp_path: Path
) -> None:
    environment = OFFLINE | {"ASSIGNMENT_REPOSITORY": str(settings.PROJECT)}
    environment |= {"ASSIGNMENT_MODE": "sample", "MPLBACKEND": "agg", "TQDM_DISABLE": "1"}
    (tmp_path / "empty").mkdir()
    first_cells = CODE[notebook][:2]  # all of it where it gets it, these once it is installed
    for folder, cells in ((tmp_path / "empty", CODE[notebook]), (tmp_path, first_cells)):
        script = "\n".join([*cells, WHERE])
        done = run([python, "-c", script], folder, **environment)
        assert (done.returncode, done.stderr) == (0, "")
        project, records, commit = done.stdout.splitlines()[-1].split()
        assert Path(project) == tmp_path / "empty" / "repository"
        assert int(records) > 10
        assert commit == code.commit().removesuffix("-changed")


@pytest.mark.long
@pytest.mark.needs("git", "posix")
def test_an_installed_package_finds_records_in_the_repository_that_is_named(
    python: str, tmp_path: Path
) -> None:
    clone, empty = tmp_path / "clone", tmp_path / "empty"
    empty.mkdir()
    run(["git", "clone", "-q", str(settings.PROJECT), str(clone)], tmp_path).check_returncode()
    run([python, "-m", "pip", "install", str(clone)], tmp_path, **OFFLINE).check_returncode()
    named = {"ASSIGNMENT_REPOSITORY": str(clone)}
    for folder, environment, project in (
        (empty, {}, empty), (empty, named, clone), (clone / "notebooks", {}, clone),
        (empty, {"ASSIGNMENT_REPOSITORY": "https://example.org/a/b"}, empty),
    ):  # fmt: skip
        done = run([python, "-c", WHERE], folder, **environment)
        assert done.stderr == ""
        found, records, commit = done.stdout.split()
        assert (Path(found), int(records) > 10, commit) == (project, project == clone, "unknown")
    for task, environment, sentence in (
        ("notebooks", named, "notebooks needs nbformat, which comes with: pip install '.[noteb"),
        ("html", named, "html needs nbformat, which comes with: pip install '.[notebooks]'"),
        ("notebooks", {}, f"{empty} holds no notebooks: name a clone of the project in"),
    ):
        task_run = [python, "-m", "assignment", task]
        done = run(task_run, empty, ASSIGNMENT_MODE="sample", **environment)
        assert (done.returncode, done.stderr) == (1, "")
        assert done.stdout.strip().splitlines()[-1].startswith(sentence)
