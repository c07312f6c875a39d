"""Figures are returned, carry their words, and are stamped where they show the sample."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from assignment import cifar10, drawing, film_map, image_figures, movie_figures, movielens, pixels
from assignment.drawing import Drawing


def picture(figure: Drawing) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(figure.png())).convert("RGB"))


def examples() -> Drawing:
    data = cifar10.load()
    return image_figures.class_examples(data.train, data.classes, pixels.scale)


def overview() -> Drawing:
    data = movielens.load()
    return movie_figures.ratings_and_likes(data, movielens.likes(data), ["Toy Story (1995)"])


def colikes() -> Drawing:
    data = movielens.load()
    return movie_figures.colikes_picture(data, movielens.likes(data), films=80)


def descent() -> Drawing:
    histories = {"one": np.geomspace(100, 1.01, 50), "two": np.array([100.0, 300.0])}
    return movie_figures.descent(histories, ["two"], 1.0, "one settles")


def overlap() -> Drawing:
    frame = pd.DataFrame([[10, 3], [3, 10]], index=["a", "b"], columns=["a", "b"])
    return movie_figures.overlap_matrix(frame, "they share three")


def overlap_and_loss() -> Drawing:
    rows = [(q, o, 10.0**-k, 9 - k) for q in "xy" for o in "st" for k in range(3)]
    points = pd.DataFrame(rows, columns=["query", "optimiser", "above", "overlap"])
    return movie_figures.overlap_against_loss(points, "the closer, the more")


def norms() -> Drawing:
    return movie_figures.norms_and_likes(np.arange(1, 9.0), np.arange(1, 9.0) ** 2)


def dimensions() -> Drawing:
    rows = [(10, 5.0, 4.0, 1.0), (20, 3.0, 2.0, 2.5)]
    return movie_figures.dimensions(
        pd.DataFrame(rows, columns=["dimension", "loss", "floor", "seconds"])
    )


def held_out() -> Drawing:
    rows = [(m, k, v, v - 0.1, v + 0.1) for k in "rn" for m, v in (("low", 0.2), ("high", 0.4))]
    frame = pd.DataFrame(rows, columns=["method", "measure", "mean", "low", "high"])
    return movie_figures.held_out(frame, "high, then low")


def mapped() -> Drawing:
    places = np.random.default_rng(0).normal(size=(300, 2))
    return film_map.film_map(places, ["Drama", "Comedy", "Action"] * 100, {3: "A film"}, "a map")


FIGURES = [
    *(examples, overview, colikes, descent, overlap, overlap_and_loss),
    *(norms, dimensions, held_out, mapped),
]


@pytest.mark.usefixtures("sample_mode")
@pytest.mark.parametrize("draw", FIGURES)
def test_a_figure_of_the_sample_is_stamped(draw: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(draw)
    stamped = draw()
    assert "SAMPLE" in stamped.alt
    assert "SAMPLE" in [text.get_text() for text in stamped.texts]
    marked = picture(stamped)
    for text in stamped.texts:
        text.set_visible(False)
    assert (picture(stamped) != marked).any(), "the stamp must be seen, not only present"


@pytest.mark.needs("real_data")
@pytest.mark.parametrize("draw", [examples, overview])
def test_a_figure_of_real_data_is_not(draw: object) -> None:
    assert callable(draw)
    plain = draw()
    assert "SAMPLE" not in plain.alt
    assert not plain.texts


@pytest.mark.usefixtures("sample_mode")
def test_the_bundle_holds_a_sharp_picture_and_its_alternative_text() -> None:
    figure = overview()
    content, about = figure._repr_mimebundle_()
    assert content["text/plain"] == f"Figure: {figure.alt}"
    size = about["image/png"]
    assert isinstance(size, dict)
    assert size["alt"] == figure.alt
    height, width, _ = picture(figure).shape
    assert (width, height) == (2 * size["width"], 2 * size["height"])


@pytest.mark.usefixtures("sample_mode")
def test_a_kept_figure_is_saved_under_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASSIGNMENT_FIGURES", str(tmp_path / "figures"))
    figure = overview()
    assert drawing.keep(figure, "likes") is figure
    assert (tmp_path / "figures" / "likes.png").read_bytes() == figure.png()


@pytest.mark.usefixtures("sample_mode")
def test_the_alternative_text_counts_right() -> None:
    data = movielens.load()
    liked = movielens.likes(data)
    counts = sorted(liked.count, reverse=True)
    half = next(k for k in range(len(counts)) if 2 * sum(counts[: k + 1]) >= sum(counts)) + 1
    assert f"{half} of {len(counts)} films hold half" in overview().alt


@pytest.mark.usefixtures("sample_mode")
def test_the_mosaic_puts_every_image_in_its_place() -> None:
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 4, 4) / 10
    mosaic = image_figures._mosaic(images, rows=2, columns=3, gap=1)
    assert mosaic.shape == (2 * 5 - 1, 3 * 5 - 1, 3)
    for k in range(6):
        top, left = 5 * (k // 3), 5 * (k % 3)
        assert (mosaic[top : top + 4, left : left + 4] == images[k, 0, 0, 0].item()).all()
    assert (mosaic[4] == 1).all()


def test_the_alternative_texts_state_what_was_drawn() -> None:
    assert "rank correlation 1.00" in norms().alt
    assert "From 10 to 20 dimensions the floor falls from 4 to 2" in dimensions().alt
    assert "2.5 times as long" in dimensions().alt


def test_a_diverged_run_ends_in_a_cross_and_others_do_not() -> None:
    left, right = descent().axes
    for axes in (left, right):
        crosses = [line for line in axes.lines if line.get_marker() == "x"]
        assert [float(np.asarray(line.get_xdata())[0]) for line in crosses] == [
            2 if axes is left else 3
        ]


@pytest.mark.usefixtures("sample_mode")
def test_the_best_method_is_drawn_on_top() -> None:
    labels = [label.get_text() for label in held_out().axes[0].get_yticklabels()]
    assert labels == ["low", "high"]


def test_names_on_the_map_do_not_hide_each_other() -> None:
    generator = np.random.default_rng(1)
    names = {f"A film with a name, part {k}": generator.normal(0, 0.3, 2) for k in range(16)}
    figure = drawing.empty(7, 6, "a crowd")
    axes = figure.subplots()
    axes.set(xlim=(-3, 3), ylim=(-3, 3))
    figure.draw_without_rendering()
    boxes = film_map._write_names(axes, names)
    assert len(boxes) == len(names)
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
