"""Figures are returned, carry their words, and are stamped where they show the sample."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assignment import cifar10, drawing, image_figures, movie_figures, movielens, pixels
from assignment.drawing import Drawing


def picture(figure: Drawing) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(figure.png())).convert("RGB"))


def examples() -> Drawing:
    data = cifar10.load()
    return image_figures.class_examples(data.train, data.classes, pixels.scale)


def overview() -> Drawing:
    data = movielens.load()
    return movie_figures.ratings_and_likes(data, movielens.likes(data), ["Toy Story (1995)"])


@pytest.mark.usefixtures("sample_mode")
@pytest.mark.parametrize("draw", [examples, overview])
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
