"""Mode, device, folders, seeds, and the tables every notebook opens with."""

import errno
import io
import os
import random
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch

from assignment.common import files, settings, tables
from assignment.common.download import Archive, RemoteFile, fetch
from assignment.common.files import Source
from assignment.common.settings import AssignmentError, Mode
from assignment.common.tables import Table

Patch = pytest.MonkeyPatch
TABLE = Table(pd.DataFrame({"film": ["<b>A & B</b>", "long " * 99], "likes": [12345, 6]}), "A & B")


def test_the_mode_is_recorded_unless_named(monkeypatch: Patch) -> None:
    assert settings.mode() is Mode.RECORDED
    monkeypatch.setenv("ASSIGNMENT_MODE", " Sample ")
    assert settings.mode() is Mode.SAMPLE
    monkeypatch.setenv("ASSIGNMENT_MODE", "quick")
    with pytest.raises(AssignmentError, match=r"'quick'.*recorded, train, sample") as error:
        settings.mode()
    assert error.value._render_traceback_() == [f"AssignmentError: {error.value}"]


@pytest.mark.parametrize(("gpus", "mps", "asked", "expected"), [
    (2, 1, "", "cuda"), (0, 1, "", "mps"), (0, 0, "", "cpu"), (1, 0, "cpu", "cpu"),
    (2, 0, "cuda:1", "cuda:1"), (2, 0, "cuda:2", ""), (0, 0, "cuda", ""), (-1, 0, "cuda:0", ""),
    (0, 1, "mps:0", "mps:0"), (0, 0, "mps", ""), (0, 0, "cpu:", ""), (0, 0, "cpu:²", ""),
])  # fmt: skip
def test_the_device(monkeypatch: Patch, gpus: int, mps: int, asked: str, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: abs(gpus))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps > 0)
    monkeypatch.setenv("ASSIGNMENT_DEVICE", asked)
    if expected:
        assert settings.device() == torch.device(expected)
    else:
        with pytest.raises(AssignmentError, match=f"'{asked}', which is not on.*there is: .*cpu"):
            settings.device()


def test_precision_follows_what_the_device_gains_from(monkeypatch: Patch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")  # which is not in every torch
    for fast, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda fast=fast: fast)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda fast=fast: fast)
        found = [settings.precision(torch.device(kind)) for kind in ("cpu", "cuda", "mps")]
        assert found == [expected, expected, torch.float32]


def test_seeds_cover_all_libraries_and_the_sample_takes_one_thread(monkeypatch: Patch) -> None:
    def draw(seed: int) -> tuple[float, float, float]:
        settings.seed_everything(seed)
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    monkeypatch.setattr(torch, "set_num_threads", threads := Mock())
    assert draw(3) == draw(3)
    assert not set(draw(3)) & set(draw(4))
    monkeypatch.setenv("ASSIGNMENT_MODE", "sample")
    settings.seed_everything()
    threads.assert_called_once_with(1)


def test_folders_are_relative_to_the_project(monkeypatch: Patch) -> None:
    monkeypatch.chdir("/")
    assert settings.figures_folder() == settings.PROJECT / "build" / "figures"
    for named, expected in (("", "data"), ("here/not", "here/not"), ("/not/here", "/not/here")):
        monkeypatch.setenv("ASSIGNMENT_DATA", named)
        assert settings.data_folder() == (settings.PROJECT / expected).resolve()


@pytest.mark.parametrize(("named", "here", "project"), [
    ("", "empty", "empty"), ("clone", "empty", "clone"), ("", "clone/notebooks", "clone"),
    ("other", "clone", "clone"), ("~nobody-of-this-name", "empty", "empty"),
    ("https://example.org/a/b", "empty", "empty"),
])  # fmt: skip
def test_outside_of_a_repository_it_is_the_one_that_is_named_or_worked_in(
    monkeypatch: Patch, tmp_path: Path, named: str, here: str, project: str
) -> None:
    for folder in ("clone/src/assignment", "clone/notebooks", "empty", "other"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / here)
    path = str(tmp_path / named) if named in ("clone", "other") else named
    monkeypatch.setenv("ASSIGNMENT_REPOSITORY", path)
    assert settings._find_project() == settings.PROJECT, "the one that the code stands in"
    monkeypatch.setattr(settings, "__file__", str(tmp_path / "site/assignment/common/settings.py"))
    assert settings._find_project() == (tmp_path / project).resolve()


@pytest.mark.parametrize(("named", "words"), [
    ("~nobody-of-this-name/x", "ASSIGNMENT_DATA is '~nobody.*', which leads nowhere .*in full"),
    ("src/assignment/__main__.py", "The data folder .*py is a file. Mend that, or name anoth"),
    ("src", r"The data folder .*src cannot be read \(Permission denied\). Mend that, or name"),
])  # fmt: skip
def test_an_unusable_data_folder_is_a_sentence(monkeypatch: Patch, named: str, words: str) -> None:
    monkeypatch.setenv("ASSIGNMENT_DATA", named)
    monkeypatch.setattr(os, "listdir", Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(AssignmentError, match=words):
        settings.data_folder()


def test_a_report_fits_any_console(monkeypatch: Patch) -> None:
    for encoding, expected in (("ascii", b"Am?lie ?\n"), ("utf-8", "Amélie ?\n".encode())):
        console = io.TextIOWrapper(io.BytesIO(), encoding, newline="")
        monkeypatch.setattr(sys, "stdout", console)
        settings.report("Amélie \udcff")
        assert console.buffer.getvalue() == expected


def test_a_path_may_be_text_and_lead_from_the_project(monkeypatch: Patch, tmp_path: Path) -> None:
    name = str(tmp_path / "new" / "file")
    assert files.write_if_possible(name, b"")
    remote = RemoteFile("file", (), files.sha256(name), 0)
    assert fetch(remote, str(tmp_path / "new")) == Path(name)
    archive = Archive("one", remote, "new", {"file": remote.sha256})
    assert archive.source(str(tmp_path / "new")).origin == "official"
    monkeypatch.chdir(tmp_path)
    assert files.find_path("src") == settings.PROJECT / "src"
    (tmp_path / "src").mkdir()
    assert files.find_path("src").resolve() == (tmp_path / "src").resolve()
    assert files.find_path("no/such") == Path("no/such")
    assert files.find_path(tmp_path) == tmp_path
    assert files.find_path("~") == Path.home()
    for path in (7, None, "~nobody-of-this-name"):
        with pytest.raises(AssignmentError, match=f"The path is {path!r}, which leads nowhere"):
            files.find_path(path)  # type: ignore[arg-type]


def test_files_are_named_and_fingerprinted_the_same_everywhere(tmp_path: Path) -> None:
    assert files.display_path(settings.PROJECT / "build" / "x.txt") == "build/x.txt"
    assert files.display_path(str(tmp_path / "x.txt")) == "x.txt"
    assert files.fingerprint({"a": "1", "b": "2"}) == files.fingerprint({"b": "2", "a": "1"})
    assert files.fingerprint({"a": "1", "b": "2"}) != files.fingerprint({"a": "2", "b": "1"})


def test_a_file_is_whole_or_not_there(monkeypatch: Patch, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "new" / "record"
    assert files.write_if_possible(path, b"old")
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "No space left")))
    assert not files.write_if_possible(path, b"half")
    assert capsys.readouterr().out == "record could not be kept (No space left); going on.\n"
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == {"record": b"old"}


def test_the_tables_say_of_each_source_whether_it_is_official() -> None:
    settings.seed_everything(7)
    found = tables.sources_table(Source("things", "official", "checked", "ab" * 32)).frame
    assert found.iloc[0].tolist() == ["things", "official", "checked", "ab" * 8]
    machine = dict(tables.machine_table().frame.itertuples(index=False))
    assert (machine["mode"], machine["seed (Python, numpy, torch)"]) == ("recorded", "7")
    assert machine["torch"] == torch.__version__.split("+")[0]
    assert settings.version_of("no-such-package-anywhere") == "not installed"


def test_a_table_reads_the_same_as_text_and_as_html() -> None:
    text, markup = repr(TABLE), TABLE._repr_html_()
    assert text.startswith("A & B\n")
    assert "<caption>A &amp; B</caption>" in markup
    assert "<td>&lt;b&gt;A &amp; B&lt;/b&gt;</td>" in markup
    cells = ("film", "likes", "12345", ("long " * 99).strip())
    assert all(cell in text and cell in markup for cell in cells), "nothing is cut"
    assert "<style" not in markup


def test_only_what_the_sample_shows_carries_its_name(monkeypatch: Patch) -> None:
    for mode, opening in (("recorded", "<p><em>"), ("sample", "<h2>")):
        monkeypatch.setenv("ASSIGNMENT_MODE", mode)
        banner = tables.banner()._repr_mimebundle_()["text/html"]
        assert banner.startswith(f"{opening}Mode: {mode} (")
        for text in (repr(TABLE), TABLE._repr_html_(), repr(tables.banner()), banner):
            assert ("SAMPLE" in text) == (mode == "sample")


def test_shown_source_is_the_source() -> None:
    code = tables.show_code(files.display_path, settings.mode)
    assert code._repr_mimebundle_() == {"text/markdown": f"```python\n{code!r}```"}
    assert "\n\ndef mode() -> Mode:\n" in repr(code)
