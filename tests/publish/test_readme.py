"""What the READMEs say is what the records say, and a README that says otherwise is noticed."""

import re
from dataclasses import replace
from itertools import chain
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from assignment.common import runs, settings
from assignment.common.settings import AssignmentError
from assignment.common.tables import anchor
from assignment.images import predictions
from assignment.images.answers import accuracy
from assignment.images.experiments import read_result
from assignment.movies import movielens
from assignment.publish import figures, readme
from tests.test_notebooks import NOTEBOOKS, SECTIONS

PAGES = {page: (settings.PROJECT / page).read_text(encoding="utf-8") for page in readme.PAGES}


@pytest.mark.parametrize("page", PAGES)
def test_a_readme_says_what_the_records_say(page: str) -> None:
    assert readme.with_records(PAGES[page]) == PAGES[page], "run `make render`"


@pytest.mark.parametrize("name", readme.WRITTEN)
def test_a_changed_number_is_written_anew_and_nothing_else(name: str, tmp_path: Path) -> None:
    written = readme.WRITTEN[name]()
    ((page, text),) = [(page, text) for page, text in PAGES.items() if f"\n{written}\n" in text]
    for folder in ("tests", "data"):
        (tmp_path / folder).mkdir()
    for other, content in PAGES.items():
        (tmp_path / other).write_text(content, encoding="utf-8")
    (tmp_path / page).write_text(text.replace(written, written.replace("**", "**9", 1)), "utf-8")
    readme.update(tmp_path)
    assert {p: (tmp_path / p).read_text(encoding="utf-8") for p in PAGES} == PAGES


BADGES = {
    "https://github.com/someone/something": 4,
    "https://github.com/someone/something.git/ ": 4,
    "https://example.org/someone/something": 0,  # which no such host can open
    "git@github.com:someone/something": 0,
    "../clone": 0,
    "": 0,
}


@pytest.mark.parametrize(("repository", "count"), BADGES.items())
def test_badges_are_written_where_a_repository_is_named_that_hosts_can_open(
    repository: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSIGNMENT_REPOSITORY", repository)
    between = r"(?<=<!-- badges: written by make render -->)\n.*?(?=<!-- end of badges -->)"
    text = readme.with_records(re.sub(between, "\n", PAGES["README.md"], flags=re.DOTALL))
    links = re.findall(r"^\[!\[\w+ at [\w.]+\]\(https://\S+\)\]\((\S+)\)$", text, re.MULTILINE)
    place = "someone/something/blob/main/notebooks/01_cifar10_transfer.ipynb"
    colab = f"https://colab.research.google.com/github/{place}"
    kaggle = f"https://kaggle.com/kernels/welcome?src=https://github.com/{place}"
    assert (len(links), links[:2]) == (count, [colab, kaggle][:count])
    monkeypatch.delenv("ASSIGNMENT_REPOSITORY")
    assert readme.with_records(text) == text, "they stay until another is named"


def test_every_number_of_the_assignment_leads_to_its_heading() -> None:
    row = r"^\| ([\d.abc]+) \| [^|]* \| \[([^]]+)\]\(notebooks/(\w+)\.ipynb#([^)]+)\) \|$"
    rows = re.findall(row, PAGES["README.md"], re.MULTILINE)
    assert [number for number, *_ in rows] == [*chain.from_iterable(SECTIONS.values())]
    text = {path.stem: str(nbformat.read(path, as_version=4)) for path in NOTEBOOKS}
    for number, heading, notebook, place in rows:
        assert f"## {number} {heading}" in text[notebook]
        assert place == anchor(f"{number} {heading}")


def test_links_between_the_readmes_lead_to_what_is_there() -> None:
    for page in (*PAGES, "data/README.md", "src/assignment/README.md"):
        text = (settings.PROJECT / page).read_text("utf-8")
        for path, place in re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#([^)]+))?\)", text):
            target = (settings.PROJECT / page).parent / path
            assert target.exists(), f"{page}: {path}"
            if place and path.endswith(".md"):
                titles = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
                assert place in [anchor(title).lower() for title in titles], f"{page}: {place}"


def test_a_ratio_is_that_of_the_two_numbers_beside_it() -> None:
    number = r"([\d,.]+)"
    row = rf"\| {number} (\S+) \| [^|]+ \| {number} \S+ \| \*\*{number}\*\* "
    rows = re.findall(row, readme.speed_that_matters())
    assert len(rows) == 6
    for here, unit, there, ratio in rows:
        ours, theirs, shown = (float(text.replace(",", "")) for text in (here, there, ratio))
        assert shown == pytest.approx(ours / theirs if unit == "images/s" else theirs / ours, 0.01)


def test_seeds_are_averaged_and_the_latest_version_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    first = readme.kept("finetune", final=True)[0]
    plan = first.config["plan"]
    seeded = {**plan, "recipe": {**plan["recipe"], "seed": 1}}
    guess = np.tile(np.eye(10, dtype=np.float32)[0], (10_000, 1))  # right for a tenth
    second = replace(first, arrays={**first.arrays, "test logits": guess})
    second = replace(second, config={**first.config, "plan": seeded})
    other = replace(first, config={**first.config, "plan": {**plan, "max_shift": 0}})
    monkeypatch.setattr(runs, "read_all", lambda _: [other, second, first])
    assert readme.kept("finetune", final=True) == [first, second]
    mean = (first.facts["test"]["accuracy"] + 0.1) / 2
    low, high = predictions.wilson_interval(mean, 10_000)
    said = accuracy([*map(read_result, readme.kept("finetune"))])
    assert re.match(rf"\*\*{mean:.2%}\*\* ± [\d.]+ \(2 seeds\) of", said)
    assert said.endswith(f"(95 % interval over images {low:.2%} to {high:.2%})")
    newer = replace(first, config={**first.config, "version": 2})
    monkeypatch.setattr(runs, "read_all", lambda _: [first, second, other, newer])
    assert readme.kept("finetune") == [newer]


@pytest.mark.usefixtures("records")
def test_a_missing_record_is_one_sentence() -> None:
    with pytest.raises(AssignmentError, match=r"no record of linear_probe; `make train`"):
        readme.results_table()


@pytest.mark.needs("real_data")
def test_the_picture_is_drawn_from_the_records() -> None:
    drawn = figures.readme_picture()
    with Image.open(settings.PROJECT / "figures" / "readme.png") as committed:
        assert committed.info["Records"] == drawn.records, "run `make render`"
        assert committed.info["Description"] == drawn.alt


@pytest.mark.usefixtures("sample_mode")
def test_five_lines_print_ten_films(capsys: pytest.CaptureFixture[str]) -> None:
    text = (settings.PROJECT / "src" / "assignment" / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (script,) = (block for block in blocks if "movielens" in block)
    assert len([line for line in script.splitlines() if line]) == 5
    exec(script, {})
    films = capsys.readouterr().out.splitlines()
    assert len(films) == 10
    genres = movielens.load().movies.set_index("title")["genres"][films]
    assert genres.str.startswith("Animation").mean() > 0.5
