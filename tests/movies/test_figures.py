"""Figures of the movie notebook show the numbers, name what they show, and hide no name."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.text import Text
from scipy import sparse

from assignment.common.files import Source
from assignment.common.runs import Run
from assignment.movies import figures
from assignment.movies.evaluation import Evaluation
from assignment.movies.movielens import LIKED, Likes, MovieLens

FILM = "$5 a Day and $9.99"  # between two dollars stands no mathematics
RANDOM = np.random.default_rng(0)
TITLES = pd.DataFrame({"title": [f"{FILM} (1990)", "x (1990)", "y"]})
DATA = MovieLens(pd.DataFrame({"rating": [4.5, 1.0]}), TITLES, TITLES, Source("", "", ""))
LIKES = Likes(sparse.csr_array([[1, 1, 1], [1, 0, 0]]), np.arange(2), np.arange(3), LIKED)
LOSSES = {"Adam": np.geomspace(100, 1.01, 50), "momentum": np.array([100.0, 300.0])}
DESCENTS = {
    name: Run("descent", {}, {"losses": losses, "diverged": np.array(name == "momentum")}, {})
    for name, losses in LOSSES.items()
}
ROWS = [(film, name, 10.0**-k, 9 - k) for film in (FILM, "x") for name in LOSSES for k in range(3)]
POINTS = pd.DataFrame(ROWS, columns=["query", "run", "above", "overlap"])
SHARE = pd.Series({10: 0.07, 100: 0.01})
NDCG = pd.DataFrame([[0.1, 0.2, 0.3], [0.2, 0.3, 0.3]], [1, 5], [10, 50, 100])
SCORES = {
    name: Evaluation(10, np.arange(2), np.array([mean, mean + 0.2]), np.array([mean, mean]))
    for name, mean in {"high": 0.3, "low": 0.1}.items()
}
PLACES = np.r_[RANDOM.normal(size=(300, 2)), RANDOM.normal(0, 0.3, (15, 2)), [[4, 0]]]
GENRES = ["Drama", "Comedy", *"abcdefgh"] * 31 + ["Drama|x"] * 6
NAMES = {300 + k: f"A film with a name, {k}" for k in range(15)} | {315: FILM}
MAPPED = pd.DataFrame({"title": "x (1990)", "genres": GENRES, "year": 1990.0}, 10 + np.arange(316))
MAPPED.loc[[10 + row for row in NAMES], "title"] = list(NAMES.values())
NAMED = [10 + row for row in NAMES]
AROUND = {325: np.array([0, 1, 2, 315]), 11: np.array([1, 5])}
FIGURES = {
    "likes": lambda: figures.ratings_and_likes(DATA, LIKES, [f"{FILM} (1990)"]),
    "losses": lambda: figures.loss_curves(DESCENTS, 1.0, "finding"),
    "points": lambda: figures.overlap_against_loss(POINTS, "finding"),
    "dimensions": lambda: figures.more_dimensions(SHARE, NDCG, "finding"),
    "scores": lambda: figures.held_out_scores(SCORES, "finding"),
    "map": lambda: figures.film_map(PLACES, MAPPED, [*NAMED, 7], AROUND, "finding"),
}
WORDS = {name: "finding" for name in FIGURES} | {
    "likes": "50% are at least 4.0. Right: likes per film fall off steeply; 1 of 3 films",
}


def points(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_xydata())


@pytest.mark.usefixtures("sample_mode")
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_its_words_and_the_stamp_of_the_sample(name: str) -> None:
    figure = FIGURES[name]()
    assert WORDS[name] in figure.alt
    assert figure.texts[-1].get_text() == "SAMPLE"
    with_dollars = [text for text in figure.findobj(Text) if FILM in text.get_text()]
    assert len(with_dollars) == {"likes": 1, "points": 1, "map": 2}.get(name, 0)
    assert not any(text.get_parse_math() for text in with_dollars)


def test_no_name_on_the_map_hides_another_or_leaves_it_and_rings_hold_their_films() -> None:
    figure = FIGURES["map"]()
    figure.draw_without_rendering()
    axes, *_ = figure.axes
    assert {text.get_text() for text in axes.texts} == set(NAMES.values())
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without its line
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    dots = axes.transData.transform(PLACES[list(NAMES)])
    assert not any(box.padded(4).contains(*dot) for box in boxes for dot in dots)
    assert all(axes.bbox.x0 <= box.x0 <= box.x1 <= axes.bbox.x1 for box in boxes)
    assert [len(points(line)) for line in axes.lines[:9]] == [2 * 31, 31 + 6, *[31] * 7]
    for axes in figure.axes[:2]:
        for ring, (film, rows) in zip(axes.patches, AROUND.items(), strict=True):
            away = np.linalg.norm(PLACES[rows] - PLACES[film - 10], axis=1)
            assert isinstance(ring, Circle)
            assert ring.get_radius() == pytest.approx(away.max()), "it holds the films around"


def test_a_loss_that_oscillates_becomes_a_band_and_noise_does_not() -> None:
    falling = np.geomspace(100, 1, 60)
    noise = 1 + 1e-5 * np.tile([1, -1], 30)
    low, high = figures.envelope(np.concatenate([falling, noise, np.tile([1.0, 2.0], 60)]))
    assert (low[:100] == high[:100]).all()
    assert low[-50:] == pytest.approx(1)
    assert high[-50:] == pytest.approx(2)


def test_an_optimiser_has_one_colour_and_curves_of_one_colour_differ_in_grey() -> None:
    for name, panel in (("losses", 0), ("points", 1)):
        line = FIGURES[name]().axes[panel].lines[0]
        assert (line.get_label(), line.get_color()) == ("Adam", figures.COLOURS["Adam"])
    some = pd.concat([POINTS, POINTS.replace({"run": {"Adam": "Adam, 0.1 x"}})])
    full, other, hollow, *_ = figures.overlap_against_loss(some, "finding").axes[0].lines
    assert len({full.get_marker(), other.get_marker(), hollow.get_marker()}) == 3
    assert (hollow.get_color(), hollow.get_fillstyle()) == (full.get_color(), "none")
    many = dict.fromkeys(["Nesterov", *(f"run {k}" for k in range(9))], DESCENTS["Adam"])
    lines = figures.loss_curves(many, 1.0, "finding").axes[0].lines
    assert [line.get_linestyle() for line in lines[:10]] == ["--", *["-"] * 7, "--", "--"]


def test_the_numbers_stand_where_they_belong_and_what_diverged_ends_in_a_cross() -> None:
    assert FIGURES["likes"]().axes[1].texts[0].get_text() == f"{FILM}: 2"
    scores = FIGURES["scores"]().axes[0]
    assert [label.get_text() for label in scores.get_yticklabels()] == ["high", "low"]
    assert points(scores.lines[0]) == pytest.approx(np.array([[0.4, 1], [0.2, 0]]))
    for axes in FIGURES["points"]().axes:
        assert axes.xaxis_inverted(), "converged runs are on the right"
        for line in axes.lines:
            assert points(line)[:, 0].tolist() == [1, 0.1, 0.01]
            assert points(line)[:, 1] == pytest.approx([9, 8, 7], abs=0.2)
    share, *_, ndcg = (line for axes in FIGURES["dimensions"]().axes for line in axes.lines)
    assert points(share).tolist() == [[10, 0.07], [100, 0.01]]
    assert points(ndcg).tolist() == [[10, 0.2], [50, 0.3], [100, 0.3]]
    losses = FIGURES["losses"]().axes
    assert losses[0].texts[0].get_text() == "the floor"
    for first, axes in enumerate(losses):
        (cross,) = [line for line in axes.lines if line.get_marker() == "x"]
        assert (points(cross)[0, 0], cross.get_color()) == (first + 2, figures.COLOURS["momentum"])
        assert points(axes.lines[0])[:, 1] == pytest.approx(LOSSES["Adam"] - first)
