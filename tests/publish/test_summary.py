"""The README's results are those of the records, and a README that says otherwise is noticed."""

import shutil
from pathlib import Path

import pytest

from assignment.common import records, runtime
from assignment.common.records import Record
from assignment.common.runtime import AssignmentError
from assignment.images import predictions
from assignment.publish import summary

OPENING, CLOSING = summary.marks("results")
README = (runtime.PROJECT / "README.md").read_text(encoding="utf-8")


def test_the_readme_says_what_the_records_say() -> None:
    for name in summary.PLACES:
        assert [README.count(mark) for mark in summary.marks(name)] == [1, 1]
    assert summary.inserted(README) == README, "run `make render`"


def test_a_changed_number_is_noticed() -> None:
    record = records.load(records.KEPT, "cifar_frozen")
    assert record is not None
    number = f"**{record.facts['test']['accuracy']:.2%}**"
    assert README.count(number) == 1
    forged = README.replace(number, "**99.99%**")
    assert summary.inserted(forged) == README


def test_a_changed_ratio_is_noticed() -> None:
    record = records.load(records.KEPT, "bench")
    assert record is not None
    said = summary.speed().splitlines()[2]
    assert README.count(said) == 1
    assert summary.inserted(README.replace(said, said.replace("**", "**9"))) == README


def test_a_changed_record_changes_the_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "records"
    shutil.copytree(records.KEPT, folder)
    monkeypatch.setattr(records, "KEPT", folder)
    record = records.load(folder, "cifar_frozen")
    assert record is not None
    facts = dict(record.facts) | {"test": {"accuracy": 0.5, "loss": 1.0}}
    records.save(Record(record.name, record.config, record.arrays, facts), folder)
    low, high = predictions.wilson(0.5, 10_000)
    assert f"**50.00%** of the test images (95 % interval {low:.2%} to {high:.2%})" in (
        summary.table()
    )


def test_a_missing_record_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(records, "KEPT", tmp_path)
    with pytest.raises(AssignmentError, match=r"no record cifar_frozen; `make train`"):
        summary.table()


def test_only_the_place_between_the_marks_changes(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    text = f"before\n{OPENING}\nold \\1 table\n{CLOSING}\nafter\n"
    readme.write_text(text, encoding="utf-8")
    summary.update(readme)
    lines = readme.read_text(encoding="utf-8").splitlines()
    assert (lines[0], lines[1], lines[-2], lines[-1]) == (
        "before",
        OPENING,
        CLOSING,
        "after",
    )
    assert summary.table().splitlines() == lines[2:-2]
