"""The README's results are those of the records, and a README that says otherwise is noticed."""

import shutil
from pathlib import Path

import pytest

from assignment.common import runs, settings
from assignment.common.runs import Record
from assignment.common.settings import AssignmentError
from assignment.images import predictions
from assignment.publish import readme

OPENING, CLOSING = readme.marks("results")
README = (settings.PROJECT / "README.md").read_text(encoding="utf-8")


def test_the_readme_says_what_the_records_say() -> None:
    for name in readme.PLACES:
        assert [README.count(mark) for mark in readme.marks(name)] == [1, 1]
    assert readme.with_tables(README) == README, "run `make render`"


def test_a_changed_number_is_noticed() -> None:
    record = runs.read_record(runs.RECORDS, "cifar_frozen")
    assert record is not None
    number = f"**{record.facts['test']['accuracy']:.2%}**"
    assert README.count(number) == 1
    forged = README.replace(number, "**99.99%**")
    assert readme.with_tables(forged) == README


def test_a_changed_ratio_is_noticed() -> None:
    record = runs.read_record(runs.RECORDS, "bench")
    assert record is not None
    said = readme.speed_table().splitlines()[2]
    assert README.count(said) == 1
    assert readme.with_tables(README.replace(said, said.replace("**", "**9"))) == README


def test_a_changed_record_changes_the_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "records"
    shutil.copytree(runs.RECORDS, folder)
    monkeypatch.setattr(runs, "RECORDS", folder)
    record = runs.read_record(folder, "cifar_frozen")
    assert record is not None
    facts = dict(record.facts) | {"test": {"accuracy": 0.5, "loss": 1.0}}
    runs.write_record(Record(record.name, record.config, record.arrays, facts), folder)
    low, high = predictions.wilson_interval(0.5, 10_000)
    assert f"**50.00%** of the test images (95 % interval {low:.2%} to {high:.2%})" in (
        readme.results_table()
    )


def test_a_missing_record_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runs, "RECORDS", tmp_path)
    with pytest.raises(AssignmentError, match=r"no record cifar_frozen; `make train`"):
        readme.results_table()


def test_only_the_place_between_the_marks_changes(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    text = f"before\n{OPENING}\nold \\1 table\n{CLOSING}\nafter\n"
    page.write_text(text, encoding="utf-8")
    readme.update(page)
    lines = page.read_text(encoding="utf-8").splitlines()
    assert (lines[0], lines[1], lines[-2], lines[-1]) == (
        "before",
        OPENING,
        CLOSING,
        "after",
    )
    assert readme.results_table().splitlines() == lines[2:-2]
