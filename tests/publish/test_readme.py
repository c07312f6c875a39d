"""The README's results are those of the records, and a README that says otherwise is noticed."""

from dataclasses import replace
from pathlib import Path

import pytest

from assignment.common import runs, settings
from assignment.common.settings import AssignmentError
from assignment.images import predictions
from assignment.publish import readme

README = (settings.PROJECT / "README.md").read_text(encoding="utf-8")


def test_the_readme_says_what_the_records_say() -> None:
    assert readme.with_tables(README) == README, "run `make render`"


@pytest.mark.parametrize("name", readme.TABLES)
def test_a_changed_number_is_written_anew_and_nothing_else(name: str, tmp_path: Path) -> None:
    table = readme.TABLES[name]()
    assert README.count(table) == 1
    page = tmp_path / "README.md"
    page.write_text(README.replace(table, table.replace("**", "**9", 1)), encoding="utf-8")
    assert page.read_text(encoding="utf-8") != README
    readme.update(page)
    assert page.read_text(encoding="utf-8") == README


def test_a_changed_record_changes_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = readme._kept

    def forged(experiment: str, **wanted: object) -> runs.Run:
        run = kept(experiment, **wanted)
        return replace(run, facts={**run.facts, "test": {"accuracy": 0.5}})

    monkeypatch.setattr(readme, "_kept", forged)
    low, high = predictions.wilson_interval(0.5, 10_000)
    interval = f"(95 % interval {low:.2%} to {high:.2%})"
    assert readme.results_table().count(f"**50.00%** of the test images {interval}") == 2


def test_a_missing_record_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runs, "RECORDS", tmp_path)
    with pytest.raises(AssignmentError, match=r"no record of linear_probe; `make train`"):
        readme.results_table()
