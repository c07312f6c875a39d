"""A finished run, kept: what it was asked, what came out, and where that happened.

A record is two files: ``NAME.json`` to be read by people (config, facts, the checksum of the other)
and ``NAME.npz`` with the numbers. Records in ``data/records/`` are committed and never written by a
run; fresh runs go to ``data/runs/``, and `promote` promotes them.
"""

import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assignment.common import files, settings
from assignment.common.settings import PROJECT, AssignmentError, Mode, report

RECORDS = PROJECT / "data" / "records"


@dataclass(frozen=True)
class Record:
    """One finished run.

    Attributes
    ----------
    name : str
        Of its files; letters, digits, "-" and "_".
    config : mapping
        Everything that was asked for. Equal configs mean the same run.
    arrays : mapping of str to array
        What came out, in numbers.
    facts : mapping
        Where and how it ran: seconds, device, versions, the commit of the code.
    sha256 : str
        Of its file of numbers; empty until it has one.
    """

    name: str
    config: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]
    sha256: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a run gives back, where numbers alone do not say it all.

    Attributes
    ----------
    arrays : mapping of str to array
    facts : mapping
        Plain values to be read by people: accuracies, checksums, throughput.
    """

    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]


def runs_folder() -> Path:
    """Return where fresh runs go: git-ignored, beside the data."""
    return settings.data_folder() / "runs"


def run_or_load(
    name: str,
    config: Mapping[str, Any],
    run: Callable[[], Mapping[str, np.ndarray] | Outcome],
    estimate: Callable[[], float] | None = None,
    quiet: bool = False,
) -> Record:
    """Load the run that matches a config exactly; otherwise say what differs, and run.

    In train mode it always runs, in sample mode it runs and keeps nothing.

    Parameters
    ----------
    name : str
        Of the record.
    config : mapping
        Of plain values; a record counts only if its own is equal.
    run : callable
        Does the work and returns what to keep: arrays, or an `Outcome` with facts beside them.
    estimate : callable, optional
        Seconds that the run will take on this device, from a short measurement.
    quiet : bool
        Do not say that a record was found, for a cell that loads many and says so once.
    """
    wanted = _plain(config)
    if settings.mode() is Mode.RECORDED:
        kept = read_record(RECORDS, name)
        for record in (kept, read_record(runs_folder(), name)):
            if record is not None and record.config == wanted:
                if not quiet:
                    report(summary([record]))
                return record
        report(f"{name}: {_difference(kept, wanted)}{_announced(estimate)}")
    started = time.monotonic()
    made = run()
    outcome = made if isinstance(made, Outcome) else Outcome(made, {})
    arrays = {key: np.asarray(value) for key, value in outcome.arrays.items()}
    about = describe_run(time.monotonic() - started) | _plain(outcome.facts)
    record = Record(name, wanted, arrays, about)
    return record if settings.mode() is Mode.SAMPLE else write_record(record, runs_folder())


def summary(found: Sequence[Record]) -> str:
    """Say in one line which runs are shown, where they ran and how long they took."""
    seconds = sum(record.facts["seconds"] for record in found)
    devices = ", ".join(sorted({record.facts["device"] for record in found}))
    what = found[0].name if len(found) == 1 else f"{len(found)} runs"
    return f"{what}: {seconds:,.0f} s of computing on {devices}, kept as recorded."


def write_record(record: Record, folder: Path) -> Record:
    """Write a record, the numbers first: a record is whole once its .json is there."""
    folder.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **record.arrays)
    digest = hashlib.sha256(stream.getvalue()).hexdigest()
    about = {"config": record.config, "facts": record.facts, "sha256": digest}
    text = json.dumps(about, indent=1, sort_keys=True, allow_nan=False) + "\n"
    for ending, content in ((".npz", stream.getvalue()), (".json", text.encode())):
        part = folder / f"{record.name}{ending}.part"
        part.write_bytes(content)
        part.replace(folder / f"{record.name}{ending}")
    return replace(record, sha256=digest)


def read_record(folder: Path, name: str) -> Record | None:
    """Read a record; None where there is none, an error where it is damaged."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return None
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        numbers = (folder / f"{name}.npz").read_bytes()
        if hashlib.sha256(numbers).hexdigest() != about["sha256"]:
            raise ValueError("its numbers do not have the checksum it names")
        with np.load(io.BytesIO(numbers), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        return Record(name, about["config"], arrays, about["facts"], about["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        mend = "`git checkout` it" if folder == RECORDS else "Delete it; it is made again"
        raise AssignmentError(f"{files.display_path(path)} is damaged ({error}). {mend}.") from None


def describe_run(seconds: float) -> dict[str, Any]:
    """Describe where a run took place, and how long it took."""
    on = settings.device()
    return {
        "seconds": round(seconds, 2),
        "device": torch.cuda.get_device_name(on) if on.type == "cuda" else on.type,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "numpy": np.__version__,
        "code": commit(),
    }


def commit() -> str:
    """Name the commit of the code that runs, marked when it was changed since."""
    command = ["git", "describe", "--always", "--dirty=-changed", "--abbrev=12"]
    try:
        run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    return run.stdout.strip() or "unknown"


def promote() -> list[str]:
    """Promote fresh runs to records; returns their names. Only committed code makes records."""
    fresh = sorted(path.stem for path in runs_folder().glob("*.json"))
    for name in fresh:
        record = read_record(runs_folder(), name)
        assert record is not None, "just listed"
        made_by = record.facts["code"]
        if made_by == "unknown" or made_by.endswith("-changed"):
            raise AssignmentError(
                f"The run {name} was made by code that is not committed ({made_by}). Commit, run "
                "`make train` again, then `make keep`."
            )
    RECORDS.mkdir(parents=True, exist_ok=True)
    for name in fresh:
        for ending in (".npz", ".json"):
            shutil.move(runs_folder() / f"{name}{ending}", RECORDS / f"{name}{ending}")
    return fresh


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config as JSON gives it back, so that comparing is comparing values."""
    return dict(json.loads(json.dumps(config, allow_nan=False)))


def _difference(record: Record | None, wanted: Mapping[str, Any]) -> str:
    if record is None:
        return "there is no record of it; "
    keys = sorted(record.config.keys() | wanted.keys())
    asked, kept = (
        {key: repr(c.get(key, "not set")) for key in keys} for c in (wanted, record.config)
    )
    different = [f"{k} is {asked[k]}, recorded {kept[k]}" for k in keys if asked[k] != kept[k]]
    return f"{'; '.join(different)}; "


def _announced(estimate: Callable[[], float] | None) -> str:
    if estimate is None:
        return "running it now."
    seconds = estimate()
    length = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    return f"running it takes about {length} on this device."
