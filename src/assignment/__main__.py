"""What ``make`` does that is not just calling a tool: get the data, run the notebooks.

python -m assignment data         get both datasets and the pretrained weights
python -m assignment notebooks    execute both notebooks into build/
python -m assignment render       execute them for good: the committed outputs and figures
python -m assignment train        execute them with every long run done again, into data/runs/
python -m assignment keep         promote fresh runs to data/records/
python -m assignment html         web pages from the committed notebooks, into build/site/
python -m assignment pdf          the notebooks as PDF, into build/pdf/ (needs Chromium)
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from assignment.common import runs, settings
from assignment.common.download import BRIEF, Archive, fetch, megabytes
from assignment.common.files import Source, display_path
from assignment.common.settings import PROJECT, AssignmentError, Mode, report
from assignment.images import cifar10, resnet
from assignment.movies import movielens
from assignment.publish import pages, readme

BUILD = PROJECT / "build"
NOTEBOOKS = {"01_cifar10_transfer": cifar10.ARCHIVE, "02_movie_embeddings": movielens.ARCHIVE}
CELL_SECONDS = 6 * 3600  # in train mode one cell may train for hours on a CPU


def data() -> None:
    """Get everything, however long it takes, and check it by reading it."""
    wanted: dict[str, Callable[[], Source]] = {
        cifar10.ARCHIVE.name: lambda: cifar10.read(cifar10.ARCHIVE.obtain()).source,
        movielens.ARCHIVE.name: lambda: movielens.read(movielens.ARCHIVE.obtain()).source,
        resnet.WEIGHTS: lambda: resnet.weights_source(
            resnet.weights_from_environment() or fetch(resnet.CHECKPOINT, resnet.weights_folder())
        ),
    }
    failed = []
    for name, get in wanted.items():
        try:
            source = get()
            report(f"{name}: {source.origin} ({source.detail})")
        except AssignmentError as error:
            failed.append(name)
            report(f"{name}: {error}")
    if failed:
        raise AssignmentError(f"Could not get {', '.join(failed)}; everything else is in place.")


def notebooks() -> None:
    """Execute both notebooks into build/, on the sample where the real data cannot be had soon."""
    for name, archive in NOTEBOOKS.items():
        path = BUILD / "notebooks" / f"{name}.ipynb"
        execute(name, path, {"ASSIGNMENT_MODE": usable_mode(archive)})
    folder = display_path(BUILD / "notebooks")
    report(f"\nExecuted notebooks: {folder}/")
    report(f"Their figures:      {display_path(settings.figures_folder())}/")
    report(f"To read them:       {sys.executable} -m jupyter lab {folder}")


def usable_mode(archive: Archive) -> Mode:
    """Return the mode asked for, or sample where its data are missing and do not come soon."""
    asked = settings.mode()
    if asked is Mode.SAMPLE:
        return asked
    try:
        archive.obtain(BRIEF)
    except AssignmentError as error:
        remote = archive.remote
        report(
            f"\n{archive.name} is not on this machine ({megabytes(remote.size)} to download), and "
            f"it cannot be had soon:\n{error}\n"
            f"\n*** Going on with the {settings.SAMPLE_WARNING}. ***\n"
            "*** `make data` gets the real data, however long it takes, and continues where it "
            "stopped. ***\n"
        )
        return Mode.SAMPLE
    return asked


def render() -> None:
    """Execute both notebooks for good; what is committed changes only if both succeed."""
    changed = git("status", "--porcelain")
    if changed:
        raise AssignmentError(f"Rendering needs a clean tree; commit or undo first:\n{changed}")
    if settings.mode() is not Mode.RECORDED:
        raise AssignmentError(f"Rendering needs the recorded mode, this is {settings.mode()}.")
    for archive in NOTEBOOKS.values():
        source = archive.source(archive.obtain())
        if source.origin != "official":
            raise AssignmentError(f"Rendering needs official data; {archive.name}: {source.detail}")
    fresh = BUILD / "rendered"
    shutil.rmtree(fresh, ignore_errors=True)
    environment = {"TQDM_DISABLE": "1", "ASSIGNMENT_FIGURES": str(fresh / "figures")}
    for name in NOTEBOOKS:
        execute(name, fresh / "notebooks" / f"{name}.ipynb", environment)
    for folder in ("notebooks", "figures"):
        for path in (PROJECT / folder).glob("*.png"):
            if not path.name.startswith("bench_"):  # the benchmark draws its own
                path.unlink()
        shutil.copytree(fresh / folder, PROJECT / folder, dirs_exist_ok=True)
    readme.update(PROJECT / "README.md")
    report("Rendered. `git diff --stat` shows what changed.")


def train() -> None:
    """Execute both notebooks with every long run done again; fresh runs go to data/runs/."""
    for archive in NOTEBOOKS.values():
        archive.obtain()
    os.environ["ASSIGNMENT_MODE"] = Mode.TRAIN
    notebooks()
    report(f"Fresh runs: {display_path(runs.runs_folder())}/ (`make keep` promotes them)")


def keep() -> None:
    """Promote fresh runs to records."""
    names = runs.promote()
    report(f"Kept: {', '.join(names)}" if names else "There are no fresh runs; see `make train`.")


def html() -> None:
    """Write the pages."""
    made = pages.build(BUILD / "site")
    report(f"Pages, to be opened from disk: {', '.join(map(display_path, made))}")


def pdf() -> None:
    """Print the notebooks."""
    made = pages.build_pdf(BUILD / "pdf")
    report(f"Printed: {', '.join(map(display_path, made))}")


def execute(name: str, target: Path, environment: dict[str, str]) -> None:
    """Run one notebook top to bottom on a fresh kernel and write it with its outputs.

    Parameters
    ----------
    name : str
        Of the notebook, without its suffix.
    target : Path
        Where the executed notebook goes.
    environment : dict
        Environment variables for its kernel.
    """
    started = time.monotonic()
    report(f"{name}: running ({environment.get('ASSIGNMENT_MODE', settings.mode())} mode)")
    notebook = nbformat.read(PROJECT / "notebooks" / f"{name}.ipynb", as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # it warns of its own local transport
        resources={"metadata": {"path": str(PROJECT / "notebooks")}},
    )
    try:
        client.execute(env=os.environ | environment)
    except CellExecutionError as error:
        raise AssignmentError(
            f"{name} stopped: {error.ename}: {error.evalue}\nThe cell was:\n{error.traceback}"
        ) from None
    # What depends on the machine and says nothing to a reader.
    notebook.metadata.language_info = {"name": "python"}
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
    report(f"{name}: done in {time.monotonic() - started:.0f} s")


def git(*arguments: str) -> str:
    """Run git in the project and return what it printed."""
    run = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True)
    if run.returncode:
        raise AssignmentError(f"git {' '.join(arguments)} failed: {run.stderr.strip()}")
    return run.stdout.strip()


def main(arguments: list[str]) -> int:
    """Run one command; what a reader can mend ends in its sentence, not in a stack trace."""
    commands = {
        "data": data,
        "notebooks": notebooks,
        "render": render,
        "train": train,
        "keep": keep,
        "html": html,
        "pdf": pdf,
    }
    if len(arguments) != 1 or arguments[0] not in commands:
        report(__doc__ or "")
        return 2
    try:
        commands[arguments[0]]()
    except AssignmentError as error:
        report(f"\n{error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
