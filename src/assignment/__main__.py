"""What ``make`` does that is not just calling a tool; the last four are for a maintainer.

python -m assignment data         get both datasets and the pretrained weights
python -m assignment notebooks    execute both notebooks into build/
python -m assignment train        execute them with every long run done again, into data/runs/
python -m assignment render       execute both notebooks for good: committed outputs and figures
python -m assignment keep         promote fresh runs to data/records/
python -m assignment html         web pages from the committed notebooks, and two to try things on
python -m assignment pdf          the notebooks as PDF, into build/pdf/ (needs Chromium)
"""

import os
import sys
from collections.abc import Callable

from assignment.common import runs, settings
from assignment.common.download import BRIEF, megabytes
from assignment.common.files import Source, display_path
from assignment.common.notebooks import execute
from assignment.common.settings import PROJECT, AssignmentError, Mode, report
from assignment.images import cifar10, resnet
from assignment.movies import movielens

NOTEBOOKS = {"01_cifar10_transfer": cifar10.ARCHIVE, "02_movie_embeddings": movielens.ARCHIVE}


def data() -> None:
    """Get everything, however long it takes, and check it as the notebooks do."""
    wanted: dict[str, Callable[[], Source]] = {
        cifar10.ARCHIVE.name: lambda: cifar10.read(cifar10.ARCHIVE.obtain()).source,
        movielens.ARCHIVE.name: lambda: movielens.load(movielens.ARCHIVE.obtain()).source,
        "ResNet18 IMAGENET1K_V1": lambda: resnet.load_resnet().source,
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
    folder = PROJECT / "build" / "notebooks"
    for name, archive in NOTEBOOKS.items():
        mode = settings.mode()
        try:
            if mode is not Mode.SAMPLE:
                archive.obtain(BRIEF)
        except AssignmentError as error:
            mode = Mode.SAMPLE
            report(
                f"\n{archive.name} is not on this machine ({megabytes(archive.remote.size)} to "
                f"download), and it cannot be had soon:\n{error}\n"
                f"\n*** Going on with the {settings.SAMPLE_WARNING}. ***\n*** `make data` gets the "
                "real data, however long it takes, and continues where it stopped. ***\n"
            )
        path = PROJECT / "notebooks" / f"{name}.ipynb"
        execute(path, folder / path.name, {"ASSIGNMENT_MODE": mode})
    report(f"\nExecuted notebooks: {display_path(folder)}/")
    report(f"Their figures:      {display_path(settings.figures_folder())}/")
    report(f"To read them:       {sys.executable} -m jupyter lab {display_path(folder)}")


def train() -> None:
    """Execute both notebooks with every long run done again; fresh runs go to data/runs/."""
    for archive in NOTEBOOKS.values():
        archive.obtain()
    os.environ["ASSIGNMENT_MODE"] = Mode.TRAIN
    notebooks()
    report(f"Fresh runs: {display_path(runs.runs_folder())}/ (`make keep` promotes them)")


def main(arguments: list[str]) -> int:
    """Run one task; what a reader can mend ends in its sentence, not in a stack trace."""
    task = arguments[0] if len(arguments) == 1 else ""
    tasks = {"data": data, "notebooks": notebooks, "train": train}
    try:
        if task and task not in tasks:
            from assignment.publish import rendering  # only now: a reader's tasks need none of it

            tasks = rendering.TASKS
        if task not in tasks:
            report(__doc__ or "")
            return 2
        if task != "data" and not (PROJECT / "notebooks").is_dir():
            here = f"{PROJECT} holds no notebooks"
            raise AssignmentError(f"{here}: name a clone of the project in ASSIGNMENT_REPOSITORY.")
        tasks[task]()
    except AssignmentError as error:
        report(f"\n{error}")
        return 1
    except ModuleNotFoundError as error:
        report(f"{task} needs {error.name}, which comes with: pip install '.[notebooks]'")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
