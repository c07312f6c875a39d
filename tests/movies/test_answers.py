"""The answers of the movie notebook are read from kept runs, and one that is missing is said."""

import numpy as np
import pytest

from assignment.common import runs
from assignment.movies import answers, experiments
from assignment.movies.experiments import Study
from tests.movies.test_experiments import FEW, study

RECIPE = ("adam", 0.1, 20)


@pytest.mark.usefixtures("records")
def test_the_answers_start_no_run_and_are_those_of_the_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = study()
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_compute", None)
        text = str(answers.answers(one, {"Adam": RECIPE}, RECIPE, 50, (0,)))
    assert text.count("not run yet, see") == 7, "the likes are counted without a run"
    assert text.count("not run yet, see 2.3") == 2
    run, held_out = one.descend(*RECIPE), one.held_out(**FEW)
    one.descend(*RECIPE, keep_vectors=True)
    floors = {dim: one.floor(dim, keep_vectors=dim == 50)["value"] for dim in (10, 50, 200)}
    one.film_map(), one.halves()
    monkeypatch.setattr(Study, "held_out", lambda *_, **__: held_out)
    text = str(answers.answers(one, {"Adam": RECIPE}, RECIPE, 50, (0,)))
    assert "not run yet" not in text
    assert f"Adam {experiments.percent(experiments.above_floor(run, floors[50]))}" in text
    shown = [experiments.percent(share) for share in (0.000312, 0.0057, 2.83, 37)]
    assert shown == ["0.031 %", "0.57 %", "283 %", "3,700 %"]
    recall = held_out["recall"][held_out["methods"].tolist().index("EASE")]
    assert f"EASE {np.mean(recall):.3f}" in text
