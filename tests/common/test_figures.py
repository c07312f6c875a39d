"""A figure carries its words and its runs into its file; the committed ones are up to date."""

import io
import re
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from assignment.common import settings
from assignment.common.figures import Figure, new_figure, save_figure, styled
from assignment.common.runs import RECORDS, Run

COMMITTED = sorted((settings.PROJECT / "figures").glob("*.png"))
RECORDED = {path.stem: path.read_text(encoding="utf-8") for path in RECORDS.glob("*.json")}


@styled
def draw() -> Figure:
    return new_figure(3, 2, "what it shows")


def pixels(figure: Figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(figure.png())).convert("RGB"))


def words(path: Path) -> tuple[str, str]:
    with Image.open(path) as picture:
        return picture.info["Description"], picture.info["Records"]


@pytest.mark.parametrize("mode", list(settings.Mode))
def test_only_what_shows_the_sample_is_stamped(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = draw()
    monkeypatch.setenv("ASSIGNMENT_MODE", mode)
    drawn = draw()
    assert drawn.alt.endswith("what it shows")
    assert drawn.alt.startswith(settings.SAMPLE_WARNING) == (mode == "sample")
    assert (pixels(drawn) != pixels(plain)).any() == (mode == "sample")


def test_a_notebook_gets_a_sharp_picture_with_its_words_and_a_numbered_caption(
    monkeypatch: pytest.MonkeyPatch, data_folder: Path
) -> None:
    display = Mock()
    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setenv("ASSIGNMENT_FIGURES", str(data_folder))
    figure = save_figure(draw(), "name")
    assert pixels(figure).shape == (400, 600, 3)
    figure.alt = "what $ it shows"
    figure._ipython_display_()
    save_figure(figure, "name", number=3)._ipython_display_()
    shown = [call.args[0] for call in display.call_args_list]
    assert ["image/png" in data for data in shown] == [True, True, False]
    assert shown[0]["text/plain"] == "Figure: what $ it shows"
    assert shown[2]["text/markdown"] == r"**Figure 3.** what \$ it shows"
    size = {"width": 300, "height": 200, "alt": "what $ it shows"}
    assert display.call_args_list[0].kwargs["metadata"] == {"image/png": size}
    assert pixels(draw()).shape == (400, 600, 3)


def test_a_saved_figure_has_its_words_and_its_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASSIGNMENT_FIGURES", str(tmp_path / "new"))
    one, two = Run("one", {}, {}, {}, "12" * 32), Run("two", {}, {}, {}, "ab" * 32)
    figure = draw()
    assert save_figure(figure, "name", [two, one, two]) is figure
    saved = tmp_path / "new" / "name.png"
    assert words(saved) == ("what it shows", f"{one.name} {'12' * 8}, {two.name} {'ab' * 8}")
    monkeypatch.setenv("ASSIGNMENT_FIGURES", str(saved))  # not a folder
    assert save_figure(figure, "other") is figure
    assert "other.png could not be kept" in capsys.readouterr().out


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_figure_is_drawn_from_the_records_as_they_are(path: Path) -> None:
    for entry in filter(None, words(path)[1].split(", ")):
        name, checksum = entry.split()
        assert f'"{checksum}' in RECORDED.get(name, ""), f"{name} is not the same: `make render`"


def test_every_figure_of_the_notebooks_is_committed_and_no_other() -> None:
    notebooks = (settings.PROJECT / "notebooks").glob("*.ipynb")
    source = " ".join(path.read_text(encoding="utf-8") for path in notebooks)
    drawn = set(re.findall(r'\\"(0\d_[a-z_]+)\\"', source))
    assert {path.stem for path in COMMITTED} == drawn | {"bench_growth", "readme"}
