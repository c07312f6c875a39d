"""One bar tells how much of a run is done and how long the rest will take."""

from functools import partial

import pytest
from tqdm import tqdm

from assignment.common import progress


def test_stages_share_one_bar_and_show_nothing_without_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    progress.done(1.0, "alone")
    progress.skip(1.0)
    assert capsys.readouterr().err == ""
    with progress.bar("finetuning", 8.0):
        shown = progress._bar.get()
        assert shown is not None
        progress.skip(share=0.5)
        progress.skip(1.0)
        progress.done(2.0, "validation 90 %")
        assert (shown.n, shown.initial, shown.total) == (7.0, 5.0, 8.0)
        shown.refresh()
    assert "finetuning:  88 %|" in (told := capsys.readouterr().err)
    assert " left, validation 90 %" in told
    progress.done(1.0)
    assert shown.n == 7.0
    monkeypatch.setattr(progress, "tqdm", partial(tqdm, disable=True))
    with progress.bar("finetuning", 8.0):
        progress.skip(1.0)
        progress.done(1.0)
    assert capsys.readouterr().err == ""
