"""The benchmark: its arithmetic, the data it makes up, and that what it kept is what is shown."""

import io
import statistics

import numpy as np
import pytest
from PIL import Image

from assignment.common import runs, settings
from assignment.common.runs import Record
from assignment.movies import movielens
from assignment.publish import readme
from tests.bench import embedding as bench_embedding
from tests.bench import growth as bench_growth
from tests.bench import start as bench_start
from tests.bench.table import Comparison

NOTHING_READ = "raise AssertionError('not run')"


def test_a_ratio_says_how_many_times_better_round_by_round() -> None:
    more = Comparison("a", "b", "images/s", [30.0, 50.0], [10.0, 25.0])
    less = Comparison("a", "b", "ms", [2.0, 4.0], [6.0, 20.0], 2.5)
    assert more.ratios == [3.0, 2.0]
    assert less.ratios == [3.0, 5.0]
    row = less.row()
    assert (row["ours"], row["theirs"], row["ratio"]) == (3.0, 13.0, 4.0)
    assert (row["lowest"], row["highest"], row["rounds"], row["expected"]) == (3.0, 5.0, 2, 2.5)


@pytest.mark.parametrize("scale", [0.2, 1, 3])
def test_made_up_likes_are_as_many_as_asked_and_skewed(scale: float) -> None:
    likes = bench_growth.skewed_likes(scale)
    assert likes.matrix.nnz == round(bench_growth.LIKES * scale)
    assert set(likes.matrix.data.tolist()) == {1}
    assert likes.matrix.shape == (len(likes.users), len(likes.movies))
    assert (np.diff(likes.matrix.indptr).sum(), likes.matrix.has_canonical_format) == (
        likes.matrix.nnz,
        True,
    )
    most = np.sort(likes.count)[::-1]
    assert most[: len(most) // 10].sum() > likes.matrix.nnz / 3  # MovieLens: two thirds
    again = bench_growth.skewed_likes(scale)
    assert (again.matrix != likes.matrix).nnz == 0


def test_the_slope_is_that_of_a_power() -> None:
    found = [
        {"likes": likes, "films": 10 * likes, "seconds per step": 3e-9 * likes**1.25}
        for likes in (100, 1_000, 20_000)
    ]
    assert bench_growth.slope(found, bench_growth.likes) == pytest.approx(1.25)
    assert bench_growth.slope(found, bench_growth.likes_and_numbers) == pytest.approx(1.25)


def test_a_size_is_measured_in_a_process_of_its_own() -> None:
    (size,) = bench_growth.sizes([0.1])
    assert size["likes"] == round(bench_growth.LIKES * 0.1)
    assert 0 < size["seconds per step"] < 60
    assert size["process at most MiB"] > size["memory grows by MiB"]


@pytest.mark.usefixtures("sample_mode")
def test_the_literal_forms_are_the_fast_one() -> None:
    for form in bench_embedding.FORMS:
        step, films = bench_embedding.build(form, movielens.build_likes(movielens.load()))
        assert films > 0
        step()


@pytest.mark.parametrize("notebook", ["01", "02"])
def test_starting_ends_with_the_first_figure(notebook: str) -> None:
    code = bench_start.to_first_figure(notebook)
    assert code.count("save_figure(") == 1
    compile(code, notebook, "exec")


def test_starting_is_compared_with_everything_imported() -> None:
    asked: list[str] = []

    def timed(code: str) -> float:
        asked.append(code)
        return 2.0 if code.startswith(bench_start.EAGER) else 1.0

    for found in bench_start.comparisons(3, timed):
        assert found.ratios == [2.0, 2.0, 2.0]
    assert f"{bench_start.EAGER}\n{bench_start.package()}" in asked


def test_code_that_fails_has_no_time() -> None:
    assert bench_start.seconds("pass") > 0
    with pytest.raises(Exception, match="non-zero exit status"):
        bench_start.seconds(NOTHING_READ)


def kept() -> Record:
    record = runs.read_record(runs.RECORDS, "bench")
    assert record is not None
    return record


def test_what_was_kept_follows_from_its_numbers() -> None:
    record = kept()
    assert not record.config["quick"]
    for number, row in enumerate(record.facts["rows"]):
        ours, theirs = (record.arrays[f"{number} {who}"].tolist() for who in ("ours", "theirs"))
        assert row["ours"] == statistics.median(ours)
        found = Comparison(row["what"], row["against"], row["unit"], ours, theirs, row["expected"])
        assert row == pytest.approx(found.row())
    assert record.facts["slope"] == pytest.approx(
        bench_growth.slope(record.facts["growth"], bench_growth.likes)
    )
    assert [size["scale"] for size in record.facts["growth"]] == list(bench_growth.SCALES)


def test_the_kept_figure_is_drawn_from_the_kept_record() -> None:
    record = kept()
    path = settings.PROJECT / "figures" / "bench_growth.png"
    with Image.open(path) as committed:
        assert committed.info["Records"] == f"bench {record.sha256[:16]}"
        drawn = bench_growth.figure(record.facts["growth"])
        with Image.open(io.BytesIO(drawn.png())) as again:
            assert committed.info["Description"] == again.info["Description"]


def test_a_large_ratio_is_told_without_decimals() -> None:
    record = kept()
    row = {**record.facts["rows"][0], "ratio": 123.4, "lowest": 99.6, "highest": 150.2}
    small = {**row, "ratio": 0.987, "lowest": 0.9, "highest": 1.0}
    facts = {**record.facts, "rows": [row, small]}
    table = readme.speed_table(Record("bench", record.config, record.arrays, facts))
    assert "**123** (100 to 150)" in table
    assert "**0.99** (0.90 to 1.00)" in table
