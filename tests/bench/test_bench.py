"""The benchmark: its arithmetic, the data it makes up, and that what it kept is what is shown."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from assignment.common import runs, settings
from assignment.movies import movielens
from assignment.publish import explore, pages, readme
from tests.bench import embedding, growth, live, start
from tests.bench.table import Comparison, in_a_child


def test_a_ratio_says_how_many_times_better_round_by_round() -> None:
    more = Comparison("a", "b", "images/s", [30.0, 50.0], [10.0, 25.0])
    less = Comparison("a", "b", "ms", [2.0, 4.0], [6.0, 20.0])
    assert (more.ratios, less.ratios) == ([3.0, 2.0], [3.0, 5.0])
    expected = {"what": "a", "against": "b", "unit": "ms", "rounds": 2, "hoped": None}
    numbers = {"ours": 3.0, "theirs": 13.0, "ratio": 4.0, "lowest": 3.0, "highest": 5.0}
    assert less.row() == expected | numbers


@pytest.mark.parametrize("scale", [0.2, 3])
def test_made_up_likes_are_as_many_as_asked_and_skewed(scale: float) -> None:
    likes = growth.skewed_likes(scale)
    assert likes.matrix.nnz == round(growth.LIKES * scale)
    assert (likes.matrix.has_canonical_format, {*likes.matrix.data.tolist()}) == (True, {1})
    assert likes.matrix.shape == (len(likes.users), len(likes.movies))
    most = np.sort(likes.count)[::-1]
    assert most[: len(most) // 10].sum() > likes.matrix.nnz / 3  # MovieLens: two thirds
    assert (growth.skewed_likes(scale).matrix != likes.matrix).nnz == 0


@pytest.mark.parametrize("dim", [0, 50])
def test_the_slope_is_that_of_a_power(dim: int) -> None:
    found = [{"likes": n, "films": 9 * n, "seconds per step": n**1.25} for n in (10, 100, 2000)]
    assert growth.slope(found, dim) == pytest.approx(1.25)


@pytest.mark.needs("posix")
def test_a_size_is_measured_in_a_process_of_its_own() -> None:
    size = in_a_child("growth", "measure(0.1)")
    assert size["likes"] == round(growth.LIKES * 0.1)
    assert 0 < size["seconds per step"] < 60
    assert size["process at most MiB"] > size["memory grows by MiB"]


@pytest.mark.usefixtures("sample_mode")
def test_every_form_of_the_cost_takes_a_step() -> None:
    for form in ("fast", "literal"):
        embedding.build_form(form, movielens.build_likes(movielens.load()))()


def test_starting_is_compared_with_everything_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "seconds", lambda code: 1.0 + code.startswith(start.EAGER))
    assert [one.ratios for one in start.comparisons(2)] == 3 * [[2.0, 2.0]]
    for notebook in ("01", "02"):
        code = start.to_first_figure(notebook)
        compile(code, notebook, "exec")
        assert code.count("save_figure(") == 1


def test_without_a_browser_its_steps_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "BROWSERS", ())
    assert live.steps_per_second() == {}
    (kept,) = runs.read_all("bench")
    for speeds, said in ({}, None), ({"5": 400.4, "10": 200}, ": 400 at d = 5, 200 at d = 10."):
        facts = {**kept.facts, "steps per second in a browser": speeds}
        table = readme.speed_table(replace(kept, facts=facts))
        assert said in table if said else "browser" not in table


@pytest.mark.long
@pytest.mark.needs("browser")
@pytest.mark.usefixtures("sample_mode")
def test_the_page_of_the_films_is_measured_in_each_dimension() -> None:
    speeds = live.steps_per_second()
    assert [*speeds] == [*explore.DIMENSIONS]
    assert min(speeds.values()) > 1


def test_what_was_kept_follows_from_its_numbers_and_the_figure_from_it() -> None:
    (kept,) = runs.read_all("bench")
    assert not kept.config["quick"]
    for number, row in enumerate(kept.facts["rows"]):
        ours, theirs = (kept.arrays[f"{number} {who}"].tolist() for who in ("ours", "theirs"))
        found = Comparison(
            row["what"], row["against"], row["unit"], ours, theirs, row["hoped"]
        ).row()
        assert {name: row[name] for name in found} == pytest.approx(found)
    sizes = kept.facts["growth"]
    assert kept.facts["slope"] == pytest.approx(growth.slope(sizes))
    assert [size["scale"] for size in sizes] == list(growth.SCALES)
    with Image.open(settings.PROJECT / "figures" / "bench_growth.png") as committed:
        assert committed.info["Records"] == f"{kept.name} {kept.checksum[:16]}"
        assert committed.info["Description"] == growth.figure(sizes).alt
