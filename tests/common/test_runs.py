"""A record comes back as it was kept, counts only on an exact match, and is never half there."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from assignment.common import runs
from assignment.common.runs import Record
from assignment.common.settings import AssignmentError

CONFIG = {"lr": 0.1, "layers": [1, 2], "name": "adam"}


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data_folder: Path) -> Path:
    """A folder of committed records, and beside it one of fresh runs."""
    monkeypatch.setattr(runs, "RECORDS", tmp_path / "records")
    return tmp_path / "records"


def record(**changes: object) -> Record:
    arrays = {"loss": np.array([3.0, 2.0]), "titles": np.array(["ä", "b"])}
    facts = {"seconds": 1.5, "code": "abc"}
    parts = {"name": "one", "config": CONFIG, "arrays": arrays, "facts": facts} | changes
    return Record(**parts)  # type: ignore[arg-type]


class Work:
    """A run that counts how often it was done."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self) -> Mapping[str, np.ndarray]:
        self.done += 1
        return {"loss": np.array([float(self.done)])}


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    runs.write_record(record(), tmp_path)
    back = runs.read_record(tmp_path, "one")
    assert back is not None
    assert (back.name, back.config, back.facts) == ("one", CONFIG, record().facts)
    assert back.arrays.keys() == record().arrays.keys()
    for key, values in record().arrays.items():
        assert (back.arrays[key] == values).all()
        assert back.arrays[key].dtype == values.dtype


def test_the_same_record_is_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        runs.write_record(record(), tmp_path / folder)
    for ending in ("one.json", "one.npz"):
        assert (tmp_path / "a" / ending).read_bytes() == (tmp_path / "b" / ending).read_bytes()


def test_what_was_run_is_loaded_the_next_time(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Work()
    first = runs.run_or_load("one", CONFIG, work, estimate=lambda: 240.0)
    again = runs.run_or_load("one", dict(reversed(CONFIG.items())), work)
    assert work.done == 1
    assert (again.arrays["loss"] == first.arrays["loss"]).all()
    said = capsys.readouterr().out
    assert said == (
        "one: there is no record of it; running it takes about 4 min on this device.\n"
        "one: 0 s of computing on cpu, kept as recorded.\n"
    )
    assert not kept.exists(), "a run never writes a committed record"


def test_another_config_runs_and_says_what_differs(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.write_record(record(), kept)
    work = Work()
    runs.run_or_load("one", CONFIG | {"lr": 0.2}, work, estimate=lambda: 7.0)
    assert work.done == 1
    assert "lr is 0.2, recorded 0.1; running it takes about 7 s" in capsys.readouterr().out


def test_a_config_with_one_more_entry_is_another(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.write_record(record(), kept)
    work = Work()
    runs.run_or_load("one", CONFIG | {"start": None}, work)
    assert work.done == 1
    assert "start is None, recorded 'not set'" in capsys.readouterr().out


def test_train_mode_runs_although_there_is_a_record(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.write_record(record(), kept)
    monkeypatch.setenv("ASSIGNMENT_MODE", "train")
    work = Work()
    runs.run_or_load("one", CONFIG, work)
    assert work.done == 1


@pytest.mark.usefixtures("sample_mode")
def test_sample_mode_runs_and_keeps_nothing(kept: Path, data_folder: Path) -> None:
    work = Work()
    runs.run_or_load("one", CONFIG, work)
    runs.run_or_load("one", CONFIG, work)
    assert work.done == 2
    assert not list(data_folder.rglob("*.json"))


def swap_numbers(folder: Path) -> None:
    runs.write_record(record(name="other", arrays={"loss": np.array([9.0])}), folder)
    (folder / "other.npz").replace(folder / "one.npz")


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "one.npz").unlink(),
        lambda folder: (folder / "one.npz").write_bytes(b"PK"),
        lambda folder: (folder / "one.json").write_text("{"),
        lambda folder: (folder / "one.json").write_text(json.dumps({"config": {}})),
        swap_numbers,
    ],
)
def test_a_damaged_record_is_never_trusted(kept: Path, harm: Callable[[Path], None]) -> None:
    runs.write_record(record(), kept)
    harm(kept)
    with pytest.raises(AssignmentError, match=r"one\.json is damaged.*git checkout"):
        runs.run_or_load("one", CONFIG, Work())


def test_a_record_holds_no_pickle(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Object arrays"):
        runs.write_record(record(arrays={"bad": np.array([{}], dtype=object)}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_keep_promotes_what_committed_code_made(kept: Path) -> None:
    runs.write_record(record(), runs.runs_folder())
    assert runs.promote() == ["one"]
    assert runs.read_record(kept, "one") is not None
    assert runs.read_record(runs.runs_folder(), "one") is None


@pytest.mark.parametrize("code", ["abc-changed", "unknown"])
def test_keep_refuses_what_other_code_made(kept: Path, code: str) -> None:
    runs.write_record(record(), runs.runs_folder())
    runs.write_record(record(name="two", facts={"code": code}), runs.runs_folder())
    with pytest.raises(AssignmentError, match=r"two was made by code that is not committed"):
        runs.promote()
    assert not kept.exists(), "all or nothing"


def test_facts_say_where_it_ran() -> None:
    facts = runs.describe_run(1.234)
    assert facts["seconds"] == 1.23
    assert facts["device"] == "cpu" or facts["device"]
    assert {"machine", "torch", "numpy", "code"} <= facts.keys()
