"""What only a maintainer runs: it alone writes what is committed.

`render` executes the notebooks for good, with their figures and what the READMEs say; `keep`
promotes fresh runs to records; `html` and `pdf` write the pages.
"""

import json
import shutil
import subprocess

from assignment.common import code, runs, settings
from assignment.common.files import display_path, write_whole
from assignment.common.notebooks import execute
from assignment.common.settings import PROJECT, AssignmentError, Mode, report
from assignment.images import cifar10, resnet
from assignment.images import experiments as image_experiments
from assignment.movies import experiments as movie_experiments
from assignment.movies import movielens
from assignment.publish import explore, pages, readme

ARCHIVES = (cifar10.ARCHIVE, movielens.ARCHIVE)


def render() -> None:
    """Execute the notebooks for good; what is committed changes only if all of them succeed."""
    status = ["git", "status", "--porcelain"]
    run = subprocess.run(status, cwd=PROJECT, capture_output=True, text=True)
    if found := run.stdout or run.stderr:
        raise AssignmentError(f"Rendering needs a clean git tree; commit or undo first:\n{found}")
    if settings.mode() is not Mode.RECORDED:
        raise AssignmentError(f"Rendering needs the recorded mode, this is {settings.mode()}.")
    for archive in ARCHIVES:
        source = archive.source(archive.obtain())
        if source.origin != "official":
            raise AssignmentError(f"Rendering needs official data; {archive.name}: {source.detail}")
    from assignment.publish import figures  # only now: it imports matplotlib

    fresh = PROJECT / "build" / "rendered"
    shutil.rmtree(fresh, ignore_errors=True)
    sources = fresh / runs.RECORDS.relative_to(PROJECT) / runs.SOURCES
    write_whole(sources, json.dumps(_sources_of_now(), indent=1, sort_keys=True).encode() + b"\n")
    environment = {
        "TQDM_DISABLE": "1",
        "ASSIGNMENT_FIGURES": str(fresh / "figures"),
        "ASSIGNMENT_SOURCES": str(sources),
    }
    for path in sorted((PROJECT / "notebooks").glob("*.ipynb")):
        execute(path, fresh / "notebooks" / path.name, environment)
    (fresh / "figures" / "readme.png").write_bytes(figures.readme_picture().png())
    for figure in (PROJECT / "figures").glob("0*.png"):  # the benchmark draws its own
        figure.unlink()
    shutil.copytree(fresh, PROJECT, dirs_exist_ok=True)
    readme.update(PROJECT)
    report("Rendered. `git diff --stat` shows what changed.")


def _sources_of_now() -> dict[str, str]:
    rooms = vars(image_experiments) | vars(movie_experiments)
    recorded = {run.stem.rpartition("-")[0] for run in runs.RECORDS.glob("*-*.json")}
    return {name: code.fingerprint(rooms[f"_{name}"]) for name in recorded if f"_{name}" in rooms}


def keep() -> None:
    """Promote fresh runs to records."""
    names = runs.promote(resnet.STAND_INS)
    report(f"Kept: {', '.join(names)}" if names else "There are no fresh runs; see `make train`.")


def html() -> None:
    """Write the pages into build/site/."""
    site = PROJECT / "build" / "site"
    made = pages.build(site) + explore.build(site)
    report(f"Pages, to be opened from disk: {', '.join(map(display_path, made))}")


def pdf() -> None:
    """Print the notebooks into build/pdf/."""
    made = pages.build_pdf(PROJECT / "build" / "pdf")
    report(f"Printed: {', '.join(map(display_path, made))}")
    html()  # whose landing page now leads to them


TASKS = {"render": render, "keep": keep, "html": html, "pdf": pdf}
