"""A run is found by what was asked, counts only when it is whole, and is never half there."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from assignment.common import code, runs
from assignment.common.runs import Outcome, Run, obtain, read_run, write_run
from assignment.common.settings import PROJECT, AssignmentError


@dataclass(frozen=True)
class Part:
    lr: float
    momentum: float = 0.9


@dataclass(frozen=True)
class Config:
    part: Part
    sizes: tuple[int, ...] = (1, 2)
    weights: str = "official"
    parts: tuple[Part, ...] = ()
    data: str = "official"


CONFIG = Config(Part(0.1))
done: list[Config] = []


def experiment(config: Config) -> Outcome:
    """Count how often it was done."""
    done.append(config)
    return Outcome({"loss": np.array([3.0, 2.0]), "count": len(done)}, {"weights": "a.pt"})


@pytest.fixture(autouse=True)
def nothing_done(records: Path) -> None:
    done.clear()
    runs._told.clear()


def kept(folder: Path, config: Config = CONFIG, **facts: object) -> Run:
    """A committed run of the experiment."""
    about = {"seconds": 240.0, "device": "cpu", "machine": "Linux", "code": "abc"} | facts
    asked = runs.request(experiment, config)
    return write_run(replace(asked, arrays={"loss": np.ones(2)}, facts=about), folder)


def test_a_run_comes_back_as_it_was_and_is_not_done_again(
    capsys: pytest.CaptureFixture[str], records: Path
) -> None:
    records.mkdir()
    first, again = obtain(experiment, CONFIG), obtain(experiment, CONFIG)
    assert len(done) == 1
    assert (again.name, again.config, again.facts) == (first.name, first.config, first.facts)
    assert again.checksum == first.checksum != ""
    assert again["loss"].tolist() == [3.0, 2.0]
    assert again["count"] == 1
    assert {"device", "machine", "processor", "threads", "torch", "code"} <= again.facts.keys()
    assert repr(again) == f"{again.name}: 0 s on {again.facts['device']}"
    assert capsys.readouterr().out == "experiment has no record on these data. Running it now.\n"
    assert not list(records.iterdir()), "a run never writes a committed record"


@pytest.mark.parametrize(("other", "difference"), [
    (replace(CONFIG, part=Part(0.2)), "part.lr is 0.2, recorded 0.1"),
    (replace(CONFIG, sizes=(1, 3)), "sizes[0] is 1, recorded the default"),
    (replace(CONFIG, parts=(Part(1.0),)), "parts[0].lr is 1.0, recorded the default"),
    (replace(CONFIG, weights="official" + 20 * "x"), 'weights is "officialxxxxxxxx..."'),
    (Config(Part(0.2, 0.8), tuple(range(9)), "x" * 64), "and 9 more. Running it now"),
])  # fmt: skip
def test_another_config_is_another_run_and_the_difference_is_told(
    other: Config, difference: str, records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(records)
    assert obtain(experiment, other)["count"] == 1
    told = capsys.readouterr().out
    assert difference in told
    assert told.endswith("the recorded run took 4 min on cpu (Linux).\n")
    assert len(told) < 300


def test_of_many_runs_that_differ_alike_one_is_told(
    records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in (Part(0.1), Part(0.2)):
        kept(records, replace(CONFIG, part=part))
        obtain(experiment, replace(CONFIG, part=part, sizes=(7, 2)))
    assert len(done) == 2
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(("folder", "rendered", "told"), [
    ("records", "", True),
    ("records", "now", False),  # a maintainer looked at the notebooks since
    ("records", "before", True),
    ("runs", "now", True),
])  # fmt: skip
def test_a_run_of_other_code_says_so_in_one_line(
    records: Path, capsys: pytest.CaptureFixture[str], folder: str, rendered: str, told: bool
) -> None:
    now = code.fingerprint(experiment)
    place = records if folder == "records" else runs.runs_folder()
    obtain(experiment, replace(CONFIG, sizes=(9,)))
    kept(place, source=now)
    obtain(experiment, CONFIG)
    assert "code" not in capsys.readouterr().out
    name = kept(place, source="of other code").name
    if rendered:
        records.mkdir(exist_ok=True)
        sources = {"experiment": now if rendered == "now" else "of yet another"}
        (records / runs.SOURCES).write_text(json.dumps(sources), "utf-8")
    done.clear()
    obtain(experiment, CONFIG), obtain(experiment, CONFIG)
    assert capsys.readouterr().out == told * (
        f"The code has changed since some of these runs (the first: {name}, commit abc); "
        "ASSIGNMENT_MODE=train runs them again.\n"
    )
    assert not done


def test_the_key_is_of_what_was_asked_and_a_new_fields_default_leaves_it_alone() -> None:
    longer = make_dataclass("Longer", [("added", int, 0)], bases=(Config,), frozen=True)
    newer = make_dataclass("Newer", [], bases=(Config,), namespace={"VERSION": 2}, frozen=True)
    key = runs.request(experiment, CONFIG).key
    assert runs.request(experiment, longer(Part(0.1))).key == key
    added = runs.request(experiment, longer(Part(0.1), added=1))
    others = {added.key, runs.request(experiment, newer(Part(0.1))).key}
    assert len({key, runs.request(kept, CONFIG).key} | others) == 4


@pytest.mark.parametrize(("mode", "files_left"), [("train", 1), ("sample", 0)])
def test_in_other_modes_it_always_runs(
    mode: str, files_left: int, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(records)
    monkeypatch.setenv("ASSIGNMENT_MODE", mode)
    obtain(experiment, CONFIG), obtain(experiment, CONFIG)
    assert len(done) == 2
    assert len(list(runs.runs_folder().glob("*.json"))) == files_left


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def harm(path: Path) -> None:
        about = json.loads(path.read_text())
        change(about)
        path.write_text(json.dumps(about))

    return harm


def forge(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Change a run's words, and give it the checksum that fits them."""

    def harm(about: dict[str, Any]) -> None:
        change(about)
        del about["checksum"]
        numbers = next(runs.RECORDS.glob("*.npz")).read_bytes()
        about["checksum"] = runs._checksum(about, numbers)

    return edit(harm)


def claim_70_terabytes(path: Path) -> None:
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**13,)}
    with zipfile.ZipFile(path.with_suffix(".npz"), "w") as whole, whole.open("a.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, header)
    forge(lambda about: None)(path)


@pytest.mark.parametrize("harm", [
    claim_70_terabytes,
    lambda path: path.with_suffix(".npz").unlink(),
    lambda path: path.with_suffix(".npz").write_bytes(b"PK"),
    lambda path: path.write_text("{"),
    lambda path: path.write_text("[" * 100_000),
    edit(lambda about: about["facts"].update(seconds=1.0)),
    edit(lambda about: about.pop("checksum")),
    forge(lambda about: about["facts"].pop("seconds")),
    forge(lambda about: about.update(config=None)),
    forge(lambda about: about.update(config={"part": {"lr": 0.2}})),
])  # fmt: skip
def test_a_damaged_record_is_refused_in_one_sentence(
    records: Path, harm: Callable[[Path], object]
) -> None:
    harm(records / f"{kept(records).name}.json")
    with pytest.raises(AssignmentError, match=r"\.json is damaged \(.*`git checkout` it\.$"):
        obtain(experiment, CONFIG)
    assert not done


def test_a_run_that_cannot_be_locked_or_kept_is_returned_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = Mock(side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr(runs, "write_whole", full)
    monkeypatch.setattr("filelock.FileLock.acquire", full)
    run = obtain(experiment, CONFIG)
    assert (run["count"], run.checksum) == (1, "")
    said = capsys.readouterr().out
    assert said.count("No space left on device") == 1
    assert said.startswith(
        "experiment finds no records here: ASSIGNMENT_REPOSITORY can name a clone that has them. "
        "Running it now.\n"
    )


TWICE = """
import time
from dataclasses import dataclass
from assignment.common.runs import Outcome, obtain

@dataclass(frozen=True)
class Config:
    lr: float

def slow(config):
    print("running", flush=True)
    time.sleep(1)
    return Outcome({"loss": 1.0})

print(obtain(slow, Config(0.1))["loss"])
"""


def test_of_two_processes_one_runs_and_the_other_loads() -> None:
    command = [sys.executable, "-c", TWICE]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = "".join(one.communicate(timeout=60)[0] for one in both)
    assert (told.count("running\n"), told.count("1.0\n")) == (1, 2)


def test_promoted_runs_become_records_and_a_stand_in_answers_the_request(records: Path) -> None:
    kept(runs.runs_folder(), replace(CONFIG, weights="12ab"))
    kept(runs.runs_folder(), replace(CONFIG, weights="other"))
    names = runs.promote({"12ab": "official"})
    assert sorted(names) == sorted(path.stem for path in records.glob("*.json"))
    assert runs.request(experiment, CONFIG).name in names
    assert {run.name for run in runs.read_all("experiment")} == set(names)
    assert not list(runs.runs_folder().glob("*.json"))


@pytest.mark.parametrize(("origin", "replaced"), [("official", False), ("other", True)])
def test_a_stand_ins_run_never_replaces_that_of_the_official_weights(
    records: Path, origin: str, replaced: bool
) -> None:
    kept(records, weights={"origin": origin})
    other = replace(CONFIG, weights="12ab")
    kept(runs.runs_folder(), other, weights={"origin": "other"}, code="new")
    assert len(runs.promote({"12ab"})) == replaced
    assert (obtain(experiment, CONFIG).facts["code"] == "new") == replaced


@pytest.mark.parametrize("made_by", ["abc-changed", "unknown"])
def test_what_other_code_made_is_not_promoted(records: Path, made_by: str) -> None:
    kept(runs.runs_folder())
    kept(runs.runs_folder(), Config(Part(0.3)), code=made_by)
    with pytest.raises(AssignmentError, match="was made by code that is not committed"):
        runs.promote({})
    assert not records.exists(), "all or nothing"


def test_a_run_on_other_data_than_the_records_is_not_promoted(
    records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(records)
    own = kept(runs.runs_folder(), replace(CONFIG, data="own pictures")).name
    assert runs.promote({}) == []
    told = f"{own} is on other data than the records; it stays in data/runs/.\n"
    assert capsys.readouterr().out == told
    assert (runs.runs_folder() / f"{own}.json").is_file()


def test_every_committed_record_is_whole_and_small() -> None:
    folder = PROJECT / "data" / "records"
    for path in folder.glob("*-*.json"):
        read_run(path)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6
