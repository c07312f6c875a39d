"""The experiments on movie embeddings: what each answers for, and that it is what was asked."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assignment.common import runs
from assignment.common.runs import Run
from assignment.movies import answers, embedding, experiments, movielens
from assignment.movies.experiments import Study
from assignment.movies.recommend import by_cosine
from tests.common.variations import assert_every_value_counts

pytestmark = pytest.mark.usefixtures("records")


@functools.cache
def study() -> Study:
    """The sample's likes and three of its films."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSIGNMENT_MODE", "sample")
        data = movielens.load()
    liked = movielens.build_likes(data)
    return Study(data, liked, tuple(int(movie) for movie in liked.movies[:3]))


FEW: Any = {  # values to choose from
    "dim": 4, "fewest": (1, 10, 20), "dims": (2, 3, 4), "steps": (20,), "shrinkages": (10.0,),
    "neighbours": (50,), "ials_dims": (4,), "alphas": (5.0,), "lambdas": (50.0, 100.0),
    "target_dim": 4,
}  # fmt: skip


@pytest.mark.parametrize("config", [
    experiments.Descent("likes", (1,), "adam", 0.1), experiments.FloorSearch("likes", (1,)),
    experiments.FilmMap("likes"), experiments.Overshoot("likes", 1e-6),
    experiments.Halves("likes"), experiments.HeldOutLikes("likes"),
])  # fmt: skip
def test_every_value_of_a_config_counts(config: object) -> None:
    assert_every_value_counts(config)


SMALL: dict[str, Callable[[Study], Run]] = {
    "descent": lambda one: one.descend("adam", 0.1, dim=4, iterations=20, checkpoints=(0, 10)),
    "floor": lambda one: one.floor(dim=4),
    "map": lambda one: one.film_map(perplexity=5),
    "overshoot": lambda one: one.overshoot(1e-6),
    "halves": Study.halves,
    "held out": lambda one: one.held_out(**FEW),
}


@pytest.mark.usefixtures("sample_mode")
def test_a_descent_keeps_losses_and_the_lists_on_its_way() -> None:
    one = study()
    run = one.descend("nesterov", 1e-5, dim=4, iterations=20, checkpoints=(0, 10, 20, 30))
    again = embedding.fit(one.liked, 4, "nesterov", 1e-5, 20, snapshots=(10,))
    assert run["losses"].tolist() == again.losses.tolist()
    assert (run["final"], run["diverged"]) == (again.final, False)
    assert run["steps"].tolist() == [0, 10, 20]
    nearest = by_cosine(one.data, one.liked, again.snapshots[10]).top(one.films)
    assert run["lists"].shape == (3, 3, 10)
    assert (run["lists"][1] == nearest).all()
    kept = one.descend("nesterov", 1e-5, dim=4, iterations=20, checkpoints=(), keep_vectors=True)
    assert (kept["vectors"] == again.vectors.astype(np.float16)).all()


@pytest.mark.usefixtures("sample_mode")
def test_a_floor_keeps_its_lists_and_where_asked_its_vectors() -> None:
    one = study()
    plain, whole = one.floor(dim=4), one.floor(dim=4, keep_vectors=True)
    assert "vectors" not in plain.arrays
    assert plain["value"] == whole["value"] == embedding.find_floor(one.liked, 4).value
    nearest = by_cosine(one.data, one.liked, whole["vectors"].astype(float)).top(one.films)
    assert (np.sort(nearest) == np.sort(plain["lists"])).mean() > 0.9  # kept in half precision
    assert one.floor(dim=4, seed=1)["value"] == pytest.approx(plain["value"], rel=1e-4)
    some = one.floor(dim=4, fewest=20, keep_vectors=True)  # films with few likes are left out
    assert (some["vectors"].any(axis=1) == (one.liked.count >= 20)).all()
    assert some["value"] < plain["value"]


@pytest.mark.usefixtures("sample_mode")
def test_the_other_experiments_on_the_sample() -> None:
    one = study()
    assert one.film_map(perplexity=5)["places"].shape == ((one.liked.count >= 5).sum(), 2)
    assert one.overshoot(1e-6)["sizes"].shape == (50,)
    halves = one.halves()
    assert halves["first"].shape == halves["second"].shape == (len(halves["movies"]), 10)
    assert len(halves["movies"]) < len(one.liked.movies), "some have no co-likes in a half"
    assert np.isin(halves["first"], halves["movies"]).all()


@pytest.mark.usefixtures("sample_mode")
def test_methods_and_targets_are_judged_on_the_same_held_out_likes() -> None:
    found = study().held_out(**FEW)
    recall = dict(zip(found["methods"].tolist(), found["recall"], strict=True))
    assert found["recall"].shape == found["ndcg"].shape == (10, len(found["users"]))
    assert recall["EASE"].mean() > recall["popularity"].mean(), "which knows no user"
    tried = found["tried"]  # the sample tries two thresholds of these three
    assert tried.shape == (2, 3)
    best = np.unravel_index(tried.argmax(), tried.shape)
    chosen = (FEW["fewest"][best[0]], FEW["dims"][best[1]])
    assert tuple(found[f"chosen {experiments.CHOSEN}"]) == chosen
    assert tuple(found[f"chosen {experiments.STOPPED}"]) == (*chosen, 20)
    assert found["chosen EASE"].item() in FEW["lambdas"]
    table = experiments.choices_table([found, found], "caption").frame.set_index("method")["chosen"]
    assert table["EASE"] == "lambda {0:g}, {0:g}".format(*found["chosen EASE"])
    assert table[experiments.STOPPED].endswith("; steps 20, 20")
    pooled = experiments.pool_splits([found, found, replace(found, arrays={
        **found.arrays, "recall": found["recall"] + 3, "ndcg": found["ndcg"] - 3,
    })])  # fmt: skip
    np.testing.assert_allclose(pooled["EASE"].recall, recall["EASE"] + 1)
    np.testing.assert_allclose(pooled["EASE"].ndcg.mean() + 1, found["ndcg"][7].mean())
    assert found["methods"][7] == "EASE"
    assert found["targets"].tolist() == ["X", "square root of X", "log(1 + X)", "PPMI"]
    same = study().held_out(**FEW | {"fewest": (10,), "dims": (4,)})["recall"][8].mean()
    assert found["targets_recall"][0].mean() == pytest.approx(same, abs=0.01)
    assert found["unexplained"].shape == found["in_strong_pairs"].shape == (4,)
    assert (found["unexplained"] > 0).all()
    assert (found["unexplained"] < 1).all()


@pytest.mark.parametrize("name", SMALL)
def test_a_recorded_run_answers_for_its_likes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = study()
    first = SMALL[name](one)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_compute", None)
        assert SMALL[name](one).checksum == first.checksum
    other = Study(one.data, movielens.build_likes(one.data, 3.5), one.films)
    assert SMALL[name](other).name != first.name


def test_likes_have_a_fingerprint_of_their_content() -> None:
    liked = study().liked
    changes: list[Any] = [
        {"matrix": liked.matrix[1:], "users": liked.users[1:]}, {"threshold": 4.5},
        {"movies": liked.movies + 1}, {"users": liked.users + 1}, {},
    ]  # fmt: skip
    *others, same = (replace(liked, **change).fingerprint for change in changes)
    assert same == liked.fingerprint
    assert len({same, *others}) == 5


def run_of(losses: list[float], diverged: bool = False) -> Run:
    arrays = {"losses": losses, "diverged": diverged, "seconds": 4.0}
    numbers = {name: np.asarray(value) for name, value in arrays.items()}
    return Run("descent", {"lr": 0.125}, numbers, {"device": "cpu"})


def test_the_table_tells_how_close_and_how_soon() -> None:
    found = {"good": run_of([40.0, 10.05, 10.01]), "bad": run_of([40.0, 90.0], diverged=True)}
    table = experiments.convergence_table(found, 10.0, "caption").frame.set_index("run").T
    assert table["good"].to_list() == ["0.125", 2, "0.5 %", "1", "2.00"]
    assert table["bad"].to_list() == ["0.125", "1, then infinite", "-", "-", "-"]
    assert experiments.soonest(found, 10.0) == "good"
    assert [experiments.seconds_within(run, 10.1) for run in found.values()] == [2.0, None]


def test_what_is_alike_on_a_map_by_hand() -> None:
    places = np.repeat(100.0 * np.arange(4), 11)[:, None] + np.tile(np.arange(11) / 100, 4)[:, None]
    group = np.repeat(np.arange(4), 11)
    near, anywhere = experiments.share_alike(places, lambda i, j: group[i] == group[j])
    assert near == 1
    assert anywhere == pytest.approx(1 / 4, abs=0.02)


def test_means_by_number_of_ratings_and_with_their_interval() -> None:
    ratings = pd.DataFrame({"movieId": np.repeat([1, 2, 3], [4, 5, 150])})
    values = pd.Series([1.0, 2.0, 4.0], [1, 2, 3])
    table = experiments.mean_by_ratings(replace(study().data, ratings=ratings), values)
    assert table["count"].to_list() == [1, 1, 0, 0, 0, 1]
    assert table["mean"].dropna().to_dict() == {"1 to 4": 1, "5 to 9": 2, "100 or more": 4}
    assert experiments.with_interval(np.array([0.5, np.nan, 0.5])) == "0.500 (0.500 to 0.500)"


RECIPE = ("adam", 0.1, 20)


def test_the_answers_start_no_run_and_are_those_of_the_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = study()
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_compute", None)
        text = str(
            answers.answers(one, {"Adam": RECIPE, "gradient descent": RECIPE}, "Adam", 50, (0,))
        )
    assert text.count("not run yet, see") == 7, "the likes are counted without a run"
    assert text.count("not run yet, see 2.3") == 2
    run, held_out = one.descend(*RECIPE), one.held_out(**FEW)
    one.descend(*RECIPE, keep_vectors=True)
    floors = {dim: one.floor(dim, keep_vectors=dim == 50)["value"] for dim in (10, 50, 200)}
    one.film_map(), one.halves()
    monkeypatch.setattr(Study, "held_out", lambda *_, **__: held_out)
    text = str(answers.answers(one, {"Adam": RECIPE, "gradient descent": RECIPE}, "Adam", 50, (0,)))
    assert "not run yet" not in text
    assert f"Adam {experiments.percent(experiments.above_floor(run, floors[50]))}" in text
    shown = [experiments.percent(share) for share in (0.000312, 0.0057, 2.83, 37)]
    assert shown == ["0.031 %", "0.57 %", "283 %", "3,700 %"]
    recall = held_out["recall"][held_out["methods"].tolist().index("EASE")]
    assert f"EASE {np.mean(recall):.3f}" in text
