"""A fingerprint follows the code that takes part in a run, and nothing else."""

import importlib
import sys
from pathlib import Path

import pytest

from assignment.common import code

HELPER = """
def step(x):
    return x + 1


def unused(x):
    return x
"""
EXPERIMENT = """
from made_up import helper


class Model:
    def forward(self, x):
        return helper.step(x)


def run(x):
    \"\"\"Words.\"\"\"
    return Model().forward(x)  # as it is
"""


def fingerprint(folder: Path, experiment: str, helper: str) -> str:
    room = folder / "made_up"
    room.mkdir(parents=True)
    for name, text in {"__init__": "", "helper": helper, "experiment": experiment}.items():
        (room / f"{name}.py").write_text(text)
    for name in [name for name in sys.modules if name.startswith("made_up")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        return code.fingerprint(importlib.import_module("made_up.experiment").run)


@pytest.mark.parametrize(("old", "new", "same"), [
    ("Words.", "Other words,\n\n    and more.", True),
    ("def run", "# A comment\n\ndef run", True),
    ("return x\n", "return 2 * x\n", True),
    ("Model().", "(Model()).", False),
    ("helper.step(x)", "helper.step(2 * x)", False),
    ("x + 1", "x + 2", False),
])  # fmt: skip
def test_it_changes_with_what_takes_part(old: str, new: str, same: bool, tmp_path: Path) -> None:
    before = fingerprint(tmp_path / "before", EXPERIMENT, HELPER)
    after = [text.replace(old, new) for text in (EXPERIMENT, HELPER)]
    assert after != [EXPERIMENT, HELPER]
    assert (fingerprint(tmp_path / "after", *after) == before) == same


def test_what_was_typed_in_has_a_fingerprint_and_no_git_no_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    typed: dict[str, object] = {"__name__": __name__}
    exec("def run(x): return x", typed)
    assert len(code.fingerprint(typed["run"])) == 16
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert code.commit() == "unknown"
