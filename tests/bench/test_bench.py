"""The benchmark: its arithmetic, the data it makes up, and that what it kept is what is shown."""

import io
import statistics
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from assignment.common import runs, settings
from assignment.common.runs import Run
from assignment.movies import movielens
from assignment.publish import readme
from tests.bench import embedding, growth, start
from tests.bench.table import Comparison


def test_a_ratio_says_how_many_times_better_round_by_round() -> None:
    more = Comparison("a", "b", "images/s", [30.0, 50.0], [10.0, 25.0])
    less = Comparison("a", "b", "ms", [2.0, 4.0], [6.0, 20.0], 2.5)
    assert more.ratios == [3.0, 2.0]
    assert less.ratios == [3.0, 5.0]
    expected = {"what": "a", "against": "b", "unit": "ms", "expected": 2.5, "rounds": 2}
    numbers = {"ours": 3.0, "theirs": 13.0, "ratio": 4.0, "lowest": 3.0, "highest": 5.0}
    assert less.row() == expected | numbers


@pytest.mark.parametrize("scale", [0.2, 1, 3])
def test_made_up_likes_are_as_many_as_asked_and_skewed(scale: float) -> None:
    likes = growth.skewed_likes(scale)
    assert likes.matrix.nnz == round(growth.LIKES * scale)
    assert likes.matrix.has_canonical_format
    assert set(likes.matrix.data.tolist()) == {1}
    assert likes.matrix.shape == (len(likes.users), len(likes.movies))
    most = np.sort(likes.count)[::-1]
    assert most[: len(most) // 10].sum() > likes.matrix.nnz / 3  # MovieLens: two thirds
    assert (growth.skewed_likes(scale).matrix != likes.matrix).nnz == 0


def test_the_slope_is_that_of_a_power() -> None:
    found = [
        {"likes": likes, "films": 10 * likes, "seconds per step": 3e-9 * likes**1.25}
        for likes in (100, 1_000, 20_000)
    ]
    assert growth.slope(found) == pytest.approx(1.25)
    assert growth.slope(found, dim=50) == pytest.approx(1.25)


@pytest.mark.needs("posix")
def test_a_size_is_measured_in_a_process_of_its_own() -> None:
    (size,) = growth.sizes([0.1])
    assert size["likes"] == round(growth.LIKES * 0.1)
    assert 0 < size["seconds per step"] < 60
    assert size["process at most MiB"] > size["memory grows by MiB"]


@pytest.mark.usefixtures("sample_mode")
def test_every_form_of_the_cost_takes_a_step() -> None:
    for form in embedding.FORMS:
        step, films = embedding.build_form(form, movielens.build_likes(movielens.load()))
        assert films > 0
        step()


def test_starting_is_compared_with_everything_imported() -> None:
    timed_code: list[str] = []

    def timed(code: str) -> float:
        timed_code.append(code)
        compile(code, "timed", "exec")
        return 2.0 if code.startswith(start.EAGER) else 1.0

    found = start.comparisons(3, timed)
    assert [one.ratios for one in found] == 3 * [[2.0, 2.0, 2.0]]
    assert {code.count("save_figure(") for code in timed_code} == {0, 1}


def test_code_that_fails_has_no_time() -> None:
    with pytest.raises(Exception, match="non-zero exit status"):
        start.seconds("raise AssertionError")


@pytest.fixture(scope="module")
def kept() -> Run:
    (run,) = runs.read_all("bench")
    return run


def test_what_was_kept_follows_from_its_numbers(kept: Run) -> None:
    assert not kept.config["quick"]
    for number, row in enumerate(kept.facts["rows"]):
        ours, theirs = (kept.arrays[f"{number} {who}"].tolist() for who in ("ours", "theirs"))
        assert row["ours"] == statistics.median(ours)
        found = Comparison(row["what"], row["against"], row["unit"], ours, theirs, row["expected"])
        assert row == pytest.approx(found.row())
    sizes = kept.facts["growth"]
    assert kept.facts["slope"] == pytest.approx(growth.slope(sizes))
    assert [size["scale"] for size in sizes] == list(growth.SCALES)


def test_the_kept_figure_is_drawn_from_the_kept_record(kept: Run) -> None:
    drawn = io.BytesIO(growth.figure(kept.facts["growth"]).png())
    path = settings.PROJECT / "figures" / "bench_growth.png"
    with Image.open(path) as committed, Image.open(drawn) as again:
        assert committed.info["Records"] == f"{kept.name} {kept.checksum[:16]}"
        assert committed.info["Description"] == again.info["Description"]


@pytest.mark.parametrize(
    ("ratio", "lowest", "highest", "shown"),
    [(123.4, 99.6, 150.2, "**123** (100 to 150)"), (0.987, 0.9, 1.0, "**0.99** (0.90 to 1.00)")],
)
def test_a_large_ratio_is_told_without_decimals(
    ratio: float, lowest: float, highest: float, shown: str, kept: Run
) -> None:
    row = {**kept.facts["rows"][0], "ratio": ratio, "lowest": lowest, "highest": highest}
    assert shown in readme.speed_table(replace(kept, facts={**kept.facts, "rows": [row]}))
