"""The tasks behind make that a reader runs: what they report, and in which mode notebooks run."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from assignment import __main__ as command
from assignment.common import settings
from assignment.movies import movielens, sample


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSIGNMENT_MIRROR", "http://127.0.0.1:9")
    monkeypatch.setattr("assignment.common.download.BACKOFF_SECONDS", 0.0)


def test_an_unknown_task_shows_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["fly"], ["data", "now"]):
        assert command.main(arguments) == 2
    assert capsys.readouterr().out.count("python -m assignment notebooks") == 3


def test_data_reports_what_it_got_and_why_it_could_not_get_the_rest(
    data_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (data_folder / "ml-latest-small").mkdir()
    sample.write_movielens(data_folder / "ml-latest-small")
    (data_folder / "mine.pt").write_bytes(b"not weights")
    monkeypatch.setenv("ASSIGNMENT_WEIGHTS", str(data_folder / "mine.pt"))
    assert command.main(["data"]) == 1
    output = capsys.readouterr().out
    assert "CIFAR-10: cifar-10-python.tar.gz (170.5 MB) is needed" in output
    assert "MovieLens latest-small: other (readable, but not the official content" in output
    assert "mine.pt is no" in output
    assert "Could not get CIFAR-10, ResNet18 IMAGENET1K_V1" in output


@pytest.mark.needs("real_data", "weights")
def test_data_is_content_with_what_is_in_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    named = settings.data_folder() / "weights" / "resnet18-reconstructed.pt"
    monkeypatch.setenv("ASSIGNMENT_WEIGHTS", str(named))
    assert command.main(["data"]) == 0
    output = capsys.readouterr().out
    assert output.count(": official (") == 2
    assert "a reconstruction of IMAGENET1K_V1" in output


@pytest.mark.parametrize(("task", "asked", "has_data", "used"), [
    ("notebooks", "recorded", True, ["recorded"]),
    ("notebooks", "recorded", False, ["sample"]),
    ("notebooks", "sample", False, ["sample"]),
    ("train", "recorded", True, ["train"]),
    ("train", "recorded", False, []),  # training needs the data, and ends without them
])  # fmt: skip
def test_a_notebook_runs_in_the_mode_that_its_data_allow(
    task: str, asked: str, has_data: bool, used: list[str], data_folder: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    ran = []
    monkeypatch.setattr(command, "execute", lambda *call: ran.append(call[-1]["ASSIGNMENT_MODE"]))
    monkeypatch.setattr(command, "NOTEBOOKS", {"one": movielens.ARCHIVE})
    monkeypatch.setenv("ASSIGNMENT_MODE", asked)
    if has_data:
        (data_folder / "ml-latest-small").mkdir()
        sample.write_movielens(data_folder / "ml-latest-small")
    assert command.main([task]) == (0 if used else 1)
    output = capsys.readouterr().out
    assert (ran, "jupyter lab" in output) == (used, bool(used))
    assert ("not on this machine (1.0 MB to" in output) == (used == ["sample"] != [asked])


@pytest.mark.parametrize("task", ["notebooks", "train", "render", "html"])
def test_where_there_are_no_notebooks_a_task_says_so(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "PROJECT", tmp_path)
    assert command.main([task]) == 1
    assert f"{tmp_path} holds no notebooks: name a clone" in capsys.readouterr().out


def test_what_comes_with_an_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = Mock(side_effect=ModuleNotFoundError(name="nbformat"))
    monkeypatch.setattr(command, "notebooks", absent)
    assert command.main(["notebooks"]) == 1
    line = "notebooks needs nbformat, which comes with: pip install '.[notebooks]'\n"
    assert capsys.readouterr().out == line
