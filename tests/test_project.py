"""The project itself: its rooms, its lists of packages, and that using it changes nothing in it."""

import ast
import graphlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import Specifier

from assignment.common import settings
from tests.bench.start import modules

ROOT = settings.PROJECT
PACKAGE = ROOT / "src" / "assignment"
# What the modules of a room may import beside each other, and which of them may use it in turn.
MAY_IMPORT = {
    "common": {"common"},
    "images": {"common", "images"},
    "movies": {"common", "movies"},
    "publish": {"common", "images", "movies", "publish"},
    "__main__": {"common", "images", "movies", "publish"},
}
MODULES = {".".join(p.relative_to(PACKAGE).with_suffix("").parts): p for p in PACKAGE.rglob("*.py")}


def imported(code: str) -> set[str]:
    """The package's rooms and modules that some code imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    own = {name.removeprefix("assignment.") for name in names if name.startswith("assignment.")}
    parents = {name.rpartition(".")[0] for name in own}
    return {name for name in own | parents if name in MODULES or name in MAY_IMPORT}


def test_a_room_imports_only_what_it_may_and_there_is_no_way_back() -> None:
    graph = {name: imported(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
    assert {name.partition(".")[0] for name in graph} == {*MAY_IMPORT, "__init__"}
    assert {"common.runs", "publish.rendering"} <= graph["__main__"], "the late one, too"
    for name, found in graph.items():
        rooms = {other.partition(".")[0] for other in found}
        assert rooms <= MAY_IMPORT.get(name.partition(".")[0], set()), name
    graphlib.TopologicalSorter(graph).prepare()  # refuses a cycle, and names it


def test_a_large_package_is_imported_only_when_it_is_needed() -> None:
    steps = {  # each imports more than the one before it
        "import assignment.__main__": set(),
        f"import {', '.join(modules(drawing=False))}": {"nbconvert"},
        f"import {', '.join(modules(drawing=True))}": {"nbconvert", "matplotlib"},
    }
    code = "import sys\n" + "".join(f"{step}\nprint(*sys.modules)\n" for step in steps)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    large = {"torchvision", "sklearn", "seaborn", "matplotlib", "nbconvert"}
    assert [large & set(line.split()) for line in run.stdout.splitlines()] == [*steps.values()]


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"
    extras = project["optional-dependencies"]
    assert [*extras] == ["notebooks", "test"]
    listed = project["dependencies"] + extras["notebooks"] + extras["test"]
    assert len(listed) == len({Requirement(each).name for each in listed}), "each stands once"
    return {r.name: r for r in map(Requirement, listed)}


def locked() -> list[tuple[str, Specifier]]:  # a name twice where Pythons need different versions
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return [(pin.name, specifier) for pin in pins for specifier in pin.specifier]


def test_dependencies_have_lower_bounds_and_the_library_needs_what_computes_and_draws() -> None:
    for requirement in declared().values():
        assert [clause.operator for clause in requirement.specifier] == [">="], requirement
    needed = "torch torchvision numpy scipy pandas matplotlib seaborn scikit-learn tqdm filelock"
    assert [*declared()][: len(needed.split())] == needed.split()


def test_the_lock_pins_everything_exactly_and_satisfies_the_list() -> None:
    assert {pin.operator for _, pin in locked()} == {"=="}
    for name, requirement in declared().items():
        versions = [pin.version for other, pin in locked() if other == name]
        assert versions, f"{name} is not locked: run `make lock`"
        assert all(version in requirement.specifier for version in versions), name


def test_conda_asks_for_the_same_and_says_what_for() -> None:
    text = (ROOT / "environment.yml").read_text(encoding="utf-8").split("dependencies:\n")[1]
    lines = re.findall(r"^ +- ([\w-]+) ?(\S*)  # \w.*$", text, re.MULTILINE)
    assert len(lines) == len(re.findall(r"^ +- (?!pip:|--no-deps)", text, re.MULTILINE))
    names = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    conda = {names.get(name, name): bounds for name, bounds in lines}
    assert conda.pop("python") == ">=3.11,<3.14"
    del conda["pip"], conda["setuptools"]
    assert conda == {name: str(r.specifier) for name, r in declared().items()}


def test_torch_and_torchvision_are_one_pair() -> None:
    import torchvision

    assert torchvision.ops.nms, "registered only with the torch that torchvision was built for"
    versions = {name: pin.version for name, pin in locked()}
    major, minor, _ = map(int, versions["torch"].split("."))
    # Since 2.0 / 0.15 the two have been released side by side.
    assert versions["torchvision"].startswith(f"0.{15 + 10 * (major - 2) + minor}.")


def files() -> list[Path]:  # that are or would be tracked
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    names = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


@pytest.mark.needs("git")
def test_no_dataset_no_weights_and_no_absolute_path_of_a_machine_are_tracked() -> None:
    endings, pictures = (".pt", ".pth", ".zip", ".gz", ".tar", ".csv", ".webp"), {".png", ".npz"}
    path = re.compile(rb"(?<![\w.$}/])/(?:home|Users|root|work)/\w")
    for each in files():
        assert not each.name.endswith(endings), each
        assert each.stat().st_size <= 5e6, each
        assert each.suffix in pictures or not path.search(each.read_bytes()), each


@pytest.mark.long
@pytest.mark.needs("git", "make")
def test_make_works_without_data_and_leaves_the_tree_clean(tmp_path: Path) -> None:
    for path in files():
        (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, tmp_path / path.relative_to(ROOT))
    # The environment at hand stands in for the copy's own, and its stamp says it is up to date.
    (tmp_path / "installed").touch()
    command = ["make", f"VENV={Path(sys.prefix).as_posix()}", "INSTALLED=installed"]
    for git in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *git], cwd=tmp_path, check=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ASSIGNMENT_")}
    # No network: whatever asks for it must be able to do without.
    environment |= {"ASSIGNMENT_MIRROR": "http://127.0.0.1:9", "PYTHONPATH": str(tmp_path / "src")}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "CIFAR-10 is not on this machine (170.5 MB to download)" in run.stdout
    assert "MovieLens latest-small is not on this machine (1.0 MB to download)" in run.stdout
    assert "Going on with the SAMPLE" in run.stdout
    made = {path.name for path in (tmp_path / "build" / "notebooks").iterdir()}
    assert made == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    # Neither a change beside what was added nor a new file: `git add` would do nothing.
    assert subprocess.check_output(["git", "add", "-An"], cwd=tmp_path) == b""


def make(*arguments: str) -> str:
    return subprocess.check_output(["make", *arguments], cwd=ROOT, text=True)


@pytest.mark.needs("make")
def test_nothing_is_installed_again_unless_the_lock_changes(tmp_path: Path) -> None:
    plan = ["--dry-run", f"INSTALLED={(tmp_path / 'installed').as_posix()}"]
    assert "pip install" in make(*plan)
    (tmp_path / "installed").touch()
    assert "pip install" not in make(*plan)
    long_ago = (ROOT / "requirements.lock").stat().st_mtime - 1
    os.utime(tmp_path / "installed", (long_ago, long_ago))
    assert "pip install" in make(*plan)


@pytest.mark.needs("make")
def test_make_help_lists_every_task() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    listed = re.findall(r"^  make ([\w-]+)", make("help"), re.MULTILINE)
    assert sorted(listed) == sorted(phony.split())
