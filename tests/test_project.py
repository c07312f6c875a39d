"""The house itself: its rooms, its lists of packages, and that using it changes nothing in it."""

import ast
import graphlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from assignment.common import settings
from tests.bench.start import modules

ROOT = settings.PROJECT
PACKAGE = ROOT / "src" / "assignment"
# What the modules of a room may import beside each other; whatever is not in a room may import all.
MAY_IMPORT = {"common": set(), "images": {"common"}, "movies": {"common"}, "publish": {"*"}}
MODULES = {".".join(p.relative_to(PACKAGE).with_suffix("").parts): p for p in PACKAGE.rglob("*.py")}


def imports(path: Path) -> set[str]:
    """The package's own modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("assignment"):
            base = (node.module or "").removeprefix("assignment").removeprefix(".")
            names = {f"{base}.{alias.name}".removeprefix(".") for alias in node.names}
            found |= names & MODULES.keys() or {base}
        elif isinstance(node, ast.Import):
            found |= {
                a.name.removeprefix("assignment.") for a in node.names if "assignment." in a.name
            }
    return found


def breaches(importing: Mapping[str, set[str]]) -> list[str]:
    """Name every import from one room into another that the law does not allow, and every cycle."""
    found = []
    for module, imported in importing.items():
        room = module.partition(".")[0]
        for other in sorted(imported):
            there = other.partition(".")[0]
            allowed = MAY_IMPORT.get(room, {"*"}) | {room}
            if there not in allowed and "*" not in allowed:
                found.append(f"{module} imports {other}")
            if there == "publish" and room not in ("publish", "__main__"):
                found.append(f"{module} imports {other}: nobody imports publish")
    try:
        graphlib.TopologicalSorter(importing).prepare()
    except graphlib.CycleError as error:
        found.append(f"cycle: {' -> '.join(error.args[1])}")
    return found


def test_four_rooms_and_no_way_back_up() -> None:
    rooms = {module.partition(".")[0] for module in MODULES} - {"__init__", "__main__"}
    assert rooms == MAY_IMPORT.keys()
    assert breaches({module: imports(path) for module, path in MODULES.items()}) == []


@pytest.mark.parametrize(
    ("importing", "breach"),
    [
        ({"images.a": {"movies.b"}}, "images.a imports movies.b"),
        ({"common.a": {"images.b"}}, "common.a imports images.b"),
        ({"movies.a": {"publish.b"}}, "movies.a imports publish.b"),
        ({"images.a": {"images.b"}, "images.b": {"images.a"}}, "cycle: images.a"),
    ],
)
def test_a_breach_of_the_law_is_noticed(importing: dict[str, set[str]], breach: str) -> None:
    assert any(found.startswith(breach) for found in breaches(importing))


def test_no_module_is_large() -> None:
    lengths = {name: len(p.read_text("utf-8").splitlines()) for name, p in MODULES.items()}
    assert {name: n for name, n in lengths.items() if n > 450} == {}


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
    found = subprocess.run(
        [sys.executable, "-c", f"import sys, {', '.join(modules(drawing))}; print(*sys.modules)"],
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
