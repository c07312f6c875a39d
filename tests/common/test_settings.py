"""Mode, device, seeds and the tables every notebook opens with."""

import random
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from nbclient import NotebookClient

from assignment.common import files, settings, tables
from assignment.common.files import Source
from assignment.common.settings import AssignmentError, Mode
from assignment.common.tables import Table


def test_the_mode_is_recorded_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.mode() is Mode.RECORDED
    monkeypatch.setenv("ASSIGNMENT_MODE", " Sample ")
    assert settings.mode() is Mode.SAMPLE


def test_an_unknown_mode_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSIGNMENT_MODE", "quick")
    with pytest.raises(AssignmentError, match=r"'quick'.*recorded, train, sample"):
        settings.mode()


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_the_fastest_device_is_chosen(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert settings.device().type == expected


def test_a_named_device_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("ASSIGNMENT_DEVICE", "cpu")
    assert settings.device() == torch.device("cpu")


@pytest.mark.parametrize("asked", ["cuda", "cuda:1", "mps", "tpu", "cpu:7", "cuda:x"])
def test_an_absent_device_is_one_sentence(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setenv("ASSIGNMENT_DEVICE", asked)
    with pytest.raises(AssignmentError, match=f"'{asked}'.*not on this machine.*there is: cpu"):
        settings.device()


def test_a_gpu_that_is_not_the_last_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("ASSIGNMENT_DEVICE", "cuda:1")
    assert settings.device() == torch.device("cuda:1")
    monkeypatch.setenv("ASSIGNMENT_DEVICE", "cuda:2")
    with pytest.raises(AssignmentError, match="cuda:2"):
        settings.device()


def test_precision_follows_what_the_device_gains_from(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast in (True, False):
        monkeypatch.setattr(settings, "cpu_has_bfloat16", lambda fast=fast: fast)
        expected = torch.bfloat16 if fast else torch.float32
        assert settings.precision(torch.device("cpu")) == expected
    assert settings.precision(torch.device("mps")) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert settings.precision(torch.device("cuda")) == torch.bfloat16


def test_seeds_cover_python_numpy_and_torch() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    settings.seed_everything(3)
    first = draw()
    settings.seed_everything(3)
    assert draw() == first
    settings.seed_everything(4)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_folders_are_relative_to_the_project_not_to_the_working_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ASSIGNMENT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert settings.data_folder() == settings.PROJECT / "data"
    monkeypatch.setenv("ASSIGNMENT_DATA", "elsewhere")
    assert settings.data_folder() == (settings.PROJECT / "elsewhere").resolve()
    monkeypatch.setenv("ASSIGNMENT_DATA", str(tmp_path))
    assert settings.data_folder() == tmp_path.resolve()
    assert settings.figures_folder() == settings.PROJECT / "build" / "figures"


def test_a_page_never_shows_a_path_outside_the_project(tmp_path: Path) -> None:
    assert files.display_path(settings.PROJECT / "build" / "x.txt") == "build/x.txt"
    assert files.display_path(tmp_path / "x.txt") == "x.txt"


def test_the_fingerprint_names_every_file_and_no_order() -> None:
    assert files.fingerprint({"a": "1", "b": "2"}) == files.fingerprint({"b": "2", "a": "1"})
    assert files.fingerprint({"a": "1", "b": "2"}) != files.fingerprint({"a": "2", "b": "1"})


def test_the_description_says_of_each_source_whether_it_is_official() -> None:
    here = tables.describe_setup(Source("things", "official", "checked", "ab" * 32), seed=7)
    row = here.sources.frame.iloc[0].to_dict()
    assert row["what"] == "things"
    assert row["origin"] == "official"
    assert row["SHA-256 begins"] == "ab" * 8
    machine = dict(here.machine.frame.itertuples(index=False))
    assert machine["mode"] == "recorded"
    assert machine["torch"] == torch.__version__.split("+")[0]
    assert machine["seed (Python, numpy, torch)"] == "7"
    assert {"device", "precision", "threads", "torchvision", "Python"} <= machine.keys()


def test_a_table_reads_the_same_as_text_and_as_html() -> None:
    table = Table(
        pd.DataFrame({"film": ["<b>Alien & Co</b>"], "likes": [1234567]}), "Films & likes"
    )
    page = BeautifulSoup(table._repr_html_(), "html.parser")
    assert [cell.text for cell in page.find_all("td")] == ["<b>Alien & Co</b>", "1234567"]
    assert "<caption>Films &amp; likes</caption>" in table._repr_html_()
    assert "<style" not in table._repr_html_()
    assert repr(table).splitlines()[0] == "Films & likes"
    assert "1234567" in repr(table)


def test_long_cells_are_not_cut() -> None:
    title = "A very long title of a film " * 10
    table = Table(pd.DataFrame({"film": [title]}), "Films")
    assert title.strip() in table._repr_html_()
    assert title.strip() in repr(table)


@pytest.mark.usefixtures("sample_mode")
def test_every_table_and_the_banner_carry_the_word_sample() -> None:
    table = Table(pd.DataFrame({"a": [1]}), "Numbers")
    assert "SAMPLE" in repr(table)
    assert "SAMPLE" in table._repr_html_()
    assert "SAMPLE" in tables.banner()._repr_html_()
    assert "<h2>" in tables.banner()._repr_html_()


def test_outside_the_sample_nothing_is_marked() -> None:
    assert "SAMPLE" not in repr(Table(pd.DataFrame({"a": [1]}), "Numbers"))
    assert "SAMPLE" not in tables.banner()._repr_html_()


def test_shown_source_is_the_source() -> None:
    code = tables.show_code(files.display_path, settings.mode)
    assert code._repr_markdown_() == f"```python\n{code!r}```"
    for line in ("def shown(path: Path) -> str:", "def mode() -> Mode:"):
        assert line in repr(code).splitlines()


def test_a_package_that_is_not_there_is_said_to_be_missing() -> None:
    assert settings.version_of("no-such-package-anywhere") == "not installed"


def test_a_reader_of_a_notebook_sees_the_sentence_and_no_stack_trace() -> None:
    cell = (
        "from assignment.common.settings import AssignmentError\nraise AssignmentError('Do this.')"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    NotebookClient(notebook, kernel_name="python3", allow_errors=True).execute()
    (output,) = notebook.cells[0].outputs
    assert output.traceback == ["AssignmentError: Do this."]
