"""The house itself: its rooms, its lists of packages, and that using it changes nothing in it."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from bench_start import DRAWING
from packaging.requirements import Requirement
from packaging.version import Version

from assignment import runtime

ROOT = runtime.PROJECT
PACKAGE = ROOT / "src" / "assignment"
# A module imports only those above it.
ROOMS = [
    *("runtime", "download", "archive", "sample", "pixels", "cifar10", "resnet", "features"),
    *("recipe", "linear", "training", "records", "predictions", "transfer", "frozen"),
    *("finetuning", "movielens", "objective", "embedding", "parallel", "evaluation"),
    *("recommend", "drawing", "contact_sheet", "image_figures", "movie_figures", "film_map"),
    *("summary", "pages", "__main__"),
]
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def imports(path: Path) -> set[str]:
    """The package's own modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "assignment":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("assignment."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("assignment.")}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_those_above_it(module: str) -> None:
    above = ROOMS[: ROOMS.index(module)]
    assert imports(PACKAGE / f"{module}.py") <= set(above)


def code_lines(path: Path) -> int:
    """Lines that do something: without blank lines, comments and docstrings."""
    text = path.read_text(encoding="utf-8")
    documentation: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documentation |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in documentation
        for number, line in enumerate(text.splitlines(), start=1)
    )


def test_no_room_is_large() -> None:
    lengths = {m: len((PACKAGE / f"{m}.py").read_text("utf-8").splitlines()) for m in MODULES}
    assert {module: n for module, n in lengths.items() if n > 300} == {}


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_stands_on_what_one_reader_can_hold(path: Path, tmp_path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    script = tmp_path / "cells.py"
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    script.write_text(code, encoding="utf-8")
    needed, found = set[str](), imports(script)
    while found - needed:
        needed |= found
        found = {module for name in needed for module in imports(PACKAGE / f"{name}.py")}
    # About 2,000 lines of code; the care that the loaders take is in it.
    assert 1000 < sum(code_lines(PACKAGE / f"{module}.py") for module in needed) <= 2200


# --- one list of packages, told three times ---------------------------------------------------


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = project["dependencies"] + project["optional-dependencies"]["test"]
    return {r.name: r for r in map(Requirement, listed)}


def locked() -> dict[str, list[Requirement]]:
    lock: dict[str, list[Requirement]] = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            lock.setdefault(requirement.name, []).append(requirement)
    return lock


def in_conda() -> dict[str, str]:
    """Package to version range; every line must also say what it is for."""
    text = (ROOT / "environment.yml").read_text(encoding="utf-8").split("dependencies:\n")[1]
    lines = re.findall(r"^ +- ([\w-]+) ?(\S*)  # (\w.*)$", text, re.MULTILINE)
    entries = re.findall(r"^ +- (?!pip:|--no-deps)", text, re.MULTILINE)
    assert len(lines) == len(entries), "every line says what it is for"
    return {name: bounds for name, bounds, _ in lines}


@pytest.mark.parametrize("drawing", [False, True])
def test_a_large_package_is_imported_when_it_is_needed(drawing: bool) -> None:
    # torchvision with the first network, seaborn and scikit-learn in the function that asks them;
    # matplotlib by what draws, and by nothing else.
    modules = ", ".join(f"assignment.{m}" for m in MODULES if drawing or m not in DRAWING)
    found = subprocess.run(
        [sys.executable, "-c", f"import sys, {modules}; print(*sys.modules)"],
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(found.stdout.split()) & {"torchvision", "sklearn", "seaborn", "matplotlib"}
    assert loaded == ({"matplotlib"} if drawing else set())


def test_dependencies_have_lower_bounds_only() -> None:
    for requirement in declared().values():
        assert [clause.operator for clause in requirement.specifier] == [">="], requirement
    assert Version("2.11") in declared()["torch"].specifier
    assert Version("2.10") not in declared()["torch"].specifier


def test_the_lock_pins_everything_exactly_and_satisfies_the_list() -> None:
    lock = locked()
    for requirements in lock.values():
        for requirement in requirements:
            assert [clause.operator for clause in requirement.specifier] == ["=="], requirement
    for name, wanted in declared().items():
        assert name in lock, f"{name} is not locked: run `make lock`"
        for requirement in lock[name]:
            (clause,) = requirement.specifier
            assert Version(clause.version) in wanted.specifier


def test_conda_asks_for_the_same() -> None:
    names = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    conda = {names.get(name, name): bounds for name, bounds in in_conda().items()}
    for tool in ("python", "pip", "setuptools"):
        conda.pop(tool)
    assert conda == {name: str(r.specifier) for name, r in declared().items()}


def test_the_three_tell_the_same_range_of_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"
    assert in_conda()["python"] == ">=3.11,<3.14"


def test_torch_and_torchvision_are_one_pair_and_import() -> None:
    # torchvision's own operators register only with the torch they were built for.
    run = subprocess.run(
        [sys.executable, "-c", "import torchvision; torchvision.ops.nms"], capture_output=True
    )
    assert run.returncode == 0, run.stderr
    pair = {
        name: next(iter(locked()[name][0].specifier)).version for name in ("torch", "torchvision")
    }
    major, minor, _ = map(int, pair["torch"].split("."))
    # Since 2.0 / 0.15 the two have been released side by side.
    assert pair["torchvision"].split(".")[:2] == ["0", str(15 + 10 * (major - 2) + minor)]


# --- the project speaks of itself alone --------------------------------------------------------


def files() -> list[Path]:
    """What is or would be tracked."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in run.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.needs("git")
def test_no_dataset_and_no_weights_are_tracked() -> None:
    endings = (".pt", ".pth", ".zip", ".gz", ".tar", ".csv", ".webp")
    assert [p.name for p in files() if p.name.endswith(endings) or p.stat().st_size > 5e6] == []


@pytest.mark.needs("git")
def test_no_absolute_path_of_a_machine_is_written_down() -> None:
    path = re.compile(r"(?<![\w.$}/])/(?:home|Users|root|work)/\w")
    texts = {p: p.read_bytes().decode("utf-8", "replace") for p in files() if p.suffix != ".png"}
    assert [p.name for p, text in texts.items() if path.search(text)] == []


# --- using it changes nothing in it ------------------------------------------------------------


def copy_of_the_project(target: Path) -> dict[str, str]:
    """Commit what is here into a fresh repository; returns an environment that runs it there."""
    for path in files():
        (target / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target / path.relative_to(ROOT))
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "copy"]):
        subprocess.run(["git", *command], cwd=target, check=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ASSIGNMENT_")}
    # No network: whatever asks for it must be able to do without.
    nowhere = {"ASSIGNMENT_MIRROR": "http://127.0.0.1:9", "PYTHONPATH": str(target / "src")}
    return environment | nowhere


@pytest.mark.needs("git", "make")
def test_make_works_without_data_and_leaves_the_tree_clean(tmp_path: Path) -> None:
    environment = copy_of_the_project(tmp_path)
    venv = Path(sys.prefix)
    installed = tmp_path / "installed"
    # The environment at hand stands in for the clone's own: both stamps say it is up to date.
    command = ["make", f"VENV={venv.as_posix()}", f"INSTALLED={installed.as_posix()}"]
    installed.touch()
    (tmp_path / ".git" / "info" / "exclude").write_text("/installed\n")
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    said = run.stdout
    assert "CIFAR-10 is not on this machine (170.5 MB to download)" in said
    assert "MovieLens latest-small is not on this machine (1.0 MB to download)" in said
    assert "Going on with the SAMPLE" in said
    assert "make data" in said
    for name in ("01_cifar10_transfer", "02_movie_embeddings"):
        assert (tmp_path / "build" / "notebooks" / f"{name}.ipynb").is_file()
    status = ["git", "status", "--porcelain"]
    clean = subprocess.run(status, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert clean.stdout == ""


@pytest.mark.needs("make")
def test_nothing_is_installed_again_unless_the_lock_changes(tmp_path: Path) -> None:
    def plan() -> str:
        command = ["make", "--dry-run", f"INSTALLED={stamp.as_posix()}"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    stamp = tmp_path / "installed"
    assert "pip install" in plan()
    stamp.touch()
    assert "pip install" not in plan()
    long_ago = (ROOT / "requirements.lock").stat().st_mtime - 1
    os.utime(stamp, (long_ago, long_ago))
    assert "pip install" in plan()


@pytest.mark.needs("make")
def test_make_help_lists_every_task() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    run = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = re.findall(r"^  make (\w+)", run.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(phony[1].split())
