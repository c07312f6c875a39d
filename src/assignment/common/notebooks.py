"""Executing a notebook from top to bottom: into build/ for a reader, for good by `make render`."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from assignment.common import settings
from assignment.common.files import AnyPath
from assignment.common.settings import AssignmentError, report


def execute(path: AnyPath, target: AnyPath, environment: Mapping[str, str]) -> None:
    """Run a notebook on a fresh kernel, in a changed environment; write it with its outputs."""
    import nbformat  # these two come with the extra "notebooks"
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    path, target = Path(path), Path(target)
    started = time.monotonic()
    report(f"{path.stem}: running ({environment.get('ASSIGNMENT_MODE', settings.mode())} mode)")
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # it warns of its own local transport
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute(env=os.environ | dict(environment))
    except CellExecutionError as error:
        raise AssignmentError(
            f"{path.stem} stopped: {error.ename}: {error.evalue}\nThe cell was:\n{error.traceback}"
        ) from None
    # The version of Python changes with the machine and tells a reader nothing.
    notebook.metadata.language_info = {"name": "python"}
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
    report(f"{path.stem}: done in {time.monotonic() - started:.0f} s")
