"""The benchmark: the data it makes up, and that what it kept follows from its numbers."""

from dataclasses import replace

import pytest
from PIL import Image

from assignment.common import runs, settings
from assignment.movies import movielens
from assignment.publish import explore, pages, readme
from tests.bench import embedding, growth, live
from tests.bench.table import Comparison, in_a_child


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
        about = (row["what"], row["against"], row["unit"])
        found = Comparison(*about, ours, theirs, row["hoped"]).row()
        assert {name: row[name] for name in found} == pytest.approx(found)
    sizes = kept.facts["growth"]
    assert kept.facts["slope"] == pytest.approx(growth.slope(sizes))
    by_numbers = growth.slope(sizes, embedding.DIM)
    assert kept.facts["slope by likes and numbers"] == pytest.approx(by_numbers)
    assert [size["scale"] for size in sizes] == list(growth.SCALES)
    with Image.open(settings.PROJECT / "figures" / "bench_growth.png") as committed:
        assert committed.info["Records"] == f"{kept.name} {kept.checksum[:16]}"
        assert committed.info["Description"] == growth.figure(sizes).alt
