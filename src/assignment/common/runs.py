"""A finished run, kept and found again by what was asked, never by a name.

An experiment is a function of one frozen dataclass, its config, in which every input stands by
value or by fingerprint. The hash of the config is the key under which its run is kept, so that no
change of any input can return an old answer. Committed runs are in ``data/records/`` and never
written by a reader; fresh ones go to ``data/runs/``.
"""

import hashlib
import io
import json
import os
import platform
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from assignment.common import code, settings
from assignment.common.files import AnyPath, display_path, write_whole
from assignment.common.settings import PROJECT, SAMPLE_WARNING, AssignmentError, Mode, report

RECORDS = PROJECT / "data" / "records"
SOURCES = "sources.json"  # beside the records, see `rendered_with`
_only_kept: ContextVar[bool] = ContextVar("only_kept", default=False)
_told: set[str] = set()  # of twenty runs that differ alike from the records one is told


class NotRunError(AssignmentError):
    """A run is not kept, and was not to be started."""


@contextmanager
def only_kept() -> Iterator[None]:
    """Start no run in this block: one that is not kept raises `NotRunError`."""
    before = _only_kept.set(True)
    try:
        yield
    finally:
        _only_kept.reset(before)


@dataclass(frozen=True)
class Outcome:
    """What an experiment returns: numbers, and facts to be read by people."""

    arrays: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Run:
    """One finished run; ``run["name"]`` is an array of it, or a number."""

    experiment: str
    config: Mapping[str, Any]  # what was asked, where it differs from the defaults
    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]  # seconds, device, versions, the commit of the code, ...
    checksum: str = ""  # of all of it; empty until it is kept

    @property
    def key(self) -> str:
        """The hash of what was asked."""
        asked = {"experiment": self.experiment, "config": self.config}
        return hashlib.sha256(_canonical(asked)).hexdigest()

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"{self.experiment}-{self.key[:12]}"

    def __getitem__(self, name: str) -> Any:
        array = self.arrays[name]
        return array if array.ndim else array.item()

    def __repr__(self) -> str:
        sample = f" [{SAMPLE_WARNING}]" if settings.mode() is Mode.SAMPLE else ""
        return f"{self.name}{sample}: {self.facts['seconds']:,.0f} s on {self.facts['device']}"


def changed_fields(config: Any) -> Any:
    """Return a config as plain values, without the fields that have their defaults.

    So a field that is added later, its default being the old behaviour, leaves all keys alone.
    """
    if is_dataclass(config):
        return {
            f.name: changed_fields(getattr(config, f.name))
            for f in fields(config)
            if getattr(config, f.name) != f.default
        }
    if isinstance(config, list | tuple):
        return [changed_fields(value) for value in config]
    return config


def obtain(experiment: Callable[..., Outcome], config: Any, *inputs: Any) -> Run:
    """Return a kept run or a new one; the inputs are in the config by their fingerprints."""
    asked = request(experiment, config)
    if kept := find(asked):
        _tell_of_other_code(kept, code.fingerprint(experiment))
        return kept
    if _only_kept.get():
        raise NotRunError(f"{asked.experiment} has not been run.")
    if settings.mode() is Mode.SAMPLE:
        return _compute(asked, experiment, config, *inputs)
    with ExitStack() as held:
        with suppress(OSError):  # where no lock can be had, it goes on without
            runs_folder().mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(runs_folder() / f"{asked.name}.lock"))
        if kept := find(asked):  # another process has done it meanwhile
            return kept
        if settings.mode() is Mode.RECORDED:
            _announce(asked)
        run = _compute(asked, experiment, config, *inputs)
        try:
            return write_run(run, runs_folder())
        except OSError as error:
            report(f"{run.name} could not be kept ({error.strerror or error}); going on.")
            return run


def request(experiment: Callable[..., object], config: Any) -> Run:
    """Return what is asked for, a run without its outcome."""
    version = getattr(config, "VERSION", 1)  # raised when the same config comes to mean another run
    asked = changed_fields(config) | ({"version": version} if version > 1 else {})
    return Run(experiment.__name__.lstrip("_"), json.loads(_canonical(asked)), {}, {})


def find(asked: Run) -> Run | None:
    """Return the kept run, a fresh one before a committed one; in train mode there is none."""
    if settings.mode() is Mode.RECORDED:
        for folder in (runs_folder(), RECORDS):
            if (folder / f"{asked.name}.json").is_file():
                return read_run(folder / f"{asked.name}.json")
    return None


def _compute(asked: Run, experiment: Callable[..., Outcome], config: Any, *inputs: Any) -> Run:
    started = time.monotonic()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        outcome = experiment(config, *inputs)
    except KeyboardInterrupt:
        raise AssignmentError(f"{asked.experiment} was interrupted; run it again.") from None
    arrays = {name: np.asarray(value) for name, value in outcome.arrays.items()}
    facts = describe_machine(time.monotonic() - started) | dict(outcome.facts)
    facts["source"] = code.fingerprint(experiment)
    return replace(asked, arrays=arrays, facts=json.loads(_canonical(facts)))


# --- files ----------------------------------------------------------------------------------------


def runs_folder() -> Path:
    """Return where fresh runs go: git-ignored, beside the data."""
    return settings.data_folder() / "runs"


def write_run(run: Run, folder: AnyPath) -> Run:
    """Write the numbers, then their description: a run is whole once its .json is there."""
    stream, path = io.BytesIO(), Path(folder) / run.name
    np.savez_compressed(stream, allow_pickle=False, **run.arrays)
    about = {"experiment": run.experiment, "config": run.config, "facts": run.facts}
    checksum = _checksum(about, stream.getvalue())
    text = json.dumps(about | {"checksum": checksum}, indent=1, sort_keys=True, allow_nan=False)
    write_whole(path.with_suffix(".npz"), stream.getvalue())
    write_whole(path.with_suffix(".json"), f"{text}\n".encode())
    return replace(run, checksum=checksum)


def read_run(path: AnyPath) -> Run:
    """Read a run from its .json and .npz; a damaged one is refused."""
    path = Path(path)
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        numbers = path.with_suffix(".npz").read_bytes()
        checksum = about.pop("checksum")
        if checksum != _checksum(about, numbers):
            raise ValueError("its checksum is not that of its content")
        with np.load(io.BytesIO(numbers), allow_pickle=False) as file:
            run = Run(**about, arrays={name: file[name] for name in file.files}, checksum=checksum)
        if run.name != path.stem or run.facts["seconds"] < 0:
            raise ValueError(f"it answers for {run.name}")
    except Exception as error:  # what is damaged can raise nearly anything
        mend = "`git checkout` it" if path.parent == RECORDS else "Delete it; it is made again"
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise AssignmentError(f"{display_path(path)} is damaged ({reason}). {mend}.") from None
    return run


def read_all(experiment: str, folder: AnyPath | None = None) -> list[Run]:
    """Read all runs of an experiment, the committed ones unless another folder is named."""
    paths = sorted(Path(folder or RECORDS).glob(f"{experiment}-*.json"))
    return [read_run(path) for path in paths]


def _checksum(about: Mapping[str, Any], numbers: bytes) -> str:
    digest = hashlib.sha256(numbers).hexdigest()
    return hashlib.sha256(_canonical({**about, "numbers": digest})).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, allow_nan=False).encode()


def promote(stand_ins: Collection[str]) -> list[str]:
    """Move fresh runs to the records; returns their names. Only committed code makes records.

    What was computed on other data than the records stays where it is. Runs with weights of one of
    the checksums `stand_ins` answer the default request, and go on naming the file they used.
    """
    fresh = read_all("*", runs_folder())
    for run in fresh:
        made_by = run.facts["code"]
        if made_by == "unknown" or made_by.endswith("-changed"):
            raise AssignmentError(
                f"The run {run.name} was made by code that is not committed ({made_by}). Commit, "
                "run `make train` again, then `make keep`."
            )
    kept, known = [], {run.config.get("data") for run in read_all("*")}
    for run in fresh:
        config = dict(run.config)
        if known and config.get("data") not in known:
            report(f"{run.name} is on other data than the records; it stays in data/runs/.")
            continue
        if config.get("weights") in stand_ins:
            del config["weights"]
            record = RECORDS / f"{replace(run, config=config).name}.json"
            if record.is_file() and read_run(record).facts["weights"]["origin"] == "official":
                continue  # it stays in data/runs/: nothing goes before the official weights
        kept.append(write_run(replace(run, config=config), RECORDS).name)
        for ending in (".json", ".npz", ".lock"):
            (runs_folder() / f"{run.name}{ending}").unlink(missing_ok=True)
    return kept


# --- for readers ----------------------------------------------------------------------------------


def differences(asked: Mapping[str, Any], kept: Mapping[str, Any]) -> list[str]:
    """Name the single values in which two configs differ: recipe.lr is 0.1, recorded 0.2."""
    wanted, known = dict(_leaves(asked)), dict(_leaves(kept))
    return [
        f"{place} is {_shown(wanted, place)}, recorded {_shown(known, place)}"
        for place in sorted(wanted.keys() | known.keys())
        if wanted.get(place) != known.get(place)
    ]


def _leaves(config: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(config, Mapping) and config:
        for name, value in config.items():
            yield from _leaves(value, f"{place}.{name}" if place else name)
    elif isinstance(config, list) and config:
        for number, value in enumerate(config):
            yield from _leaves(value, f"{place}[{number}]")
    else:
        yield place, json.dumps(config)


def _shown(leaves: Mapping[str, str], place: str) -> str:
    text = leaves.get(place, "the default")
    return text if len(text) <= 20 else f'{text[:17]}..."'


def rendered_with() -> dict[str, str]:
    """Return the fingerprint of each experiment's code when the notebooks were last rendered."""
    path = settings.named_path("ASSIGNMENT_SOURCES") or RECORDS / SOURCES  # `make render` names it
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _tell_of_other_code(kept: Run, now: str) -> None:
    """Say that the code has changed since a run; since the last rendering, if it is committed."""
    fresh = (runs_folder() / f"{kept.name}.json").is_file()
    unchanged = not fresh and rendered_with().get(kept.experiment) == now
    if kept.facts.get("source") not in (None, now) and not unchanged:
        _report_once(
            f"The code has changed since some of these runs (the first: {kept.name}, commit "
            f"{kept.facts['code']}); ASSIGNMENT_MODE=train runs them again.", about="code",
        )  # fmt: skip


def _announce(asked: Run) -> None:
    """Say what differs from the nearest committed run, and how long that one took."""
    asked_about = asked.config.get("data")
    records = [r for r in read_all(asked.experiment) if r.config.get("data") == asked_about]
    if not records:
        elsewhere = "finds no records here: ASSIGNMENT_REPOSITORY can name a clone that has them"
        missing = "has no record on these data" if RECORDS.is_dir() else elsewhere
        return _report_once(f"{asked.experiment} {missing}. Running it now.")
    nearest = min(records, key=lambda run: len(differences(asked.config, run.config)))
    different, facts = differences(asked.config, nearest.config), nearest.facts
    more = f" and {len(different) - 3} more" if len(different) > 3 else ""
    took = f"{duration(facts['seconds'])} on {facts['device']} ({facts['machine']})"
    _report_once(
        f"{asked.experiment}: {'; '.join(different[:3])}{more}. Running it now; the recorded run "
        f"took {took}."
    )


def _report_once(text: str, about: str = "") -> None:
    if (about or text) not in _told:
        _told.add(about or text)
        report(text)


def duration(seconds: float) -> str:
    """Write a length of time for readers, as in 12 s or 10 min."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def describe_machine(seconds: float) -> dict[str, Any]:
    """Describe where a run took place, and how long it took."""
    on = settings.device()
    return {
        "seconds": round(seconds, 2),
        "device": torch.cuda.get_device_name(on) if on.type == "cuda" else on.type,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "code": code.commit(),
    } | ({"GPU MiB": torch.cuda.max_memory_allocated(on) >> 20} if on.type == "cuda" else {})


def processor() -> str:
    """Name the processor's model, as far as the system tells it."""
    with suppress(OSError):
        if found := re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text("utf-8")):
            return found[1].strip()
    return platform.processor() or platform.machine()
