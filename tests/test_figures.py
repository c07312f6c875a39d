"""Figures are returned, carry their words, and are stamped where they show the sample."""

import io
import re
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from PIL import Image
from torch.nn import functional

from assignment.common import figures as common_figures
from assignment.common import runs, settings
from assignment.common.figures import Figure
from assignment.common.runs import Record
from assignment.images import cifar10, pixels, predictions
from assignment.images import figures as image_figures
from assignment.images.cifar10 import Split
from assignment.images.figures import HALF, HEADING, MARGIN, MIDDLE, PITCH, ROW, THUMB, GridHalf
from assignment.images.predictions import Predictions
from assignment.movies import figures as movie_figures
from assignment.movies import movielens

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def picture(figure: Figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(figure.png())).convert("RGB"))


def examples() -> Figure:
    data = cifar10.load()
    return image_figures.class_examples(data.train, data.classes, pixels.to_float)


def overview() -> Figure:
    data = movielens.load()
    return movie_figures.ratings_and_likes(data, movielens.build_likes(data), ["Toy Story (1995)"])


def colikes() -> Figure:
    data = movielens.load()
    return movie_figures.colikes_picture(data, movielens.build_likes(data), films=80)


def descent() -> Figure:
    histories = {"one": np.geomspace(100, 1.01, 50), "two": np.array([100.0, 300.0])}
    return movie_figures.loss_curves(histories, ["two"], 1.0, "one settles")


def overlap() -> Figure:
    frame = pd.DataFrame([[10, 3], [3, 10]], index=["a", "b"], columns=["a", "b"])
    return movie_figures.overlap_matrix(frame, "they share three")


def overlap_and_loss() -> Figure:
    rows = [(q, o, 10.0**-k, 9 - k) for q in "xy" for o in "st" for k in range(3)]
    points = pd.DataFrame(rows, columns=["query", "optimiser", "above", "overlap"])
    return movie_figures.overlap_against_loss(points, "the closer, the more")


def norms() -> Figure:
    return movie_figures.norms_and_likes(np.arange(1, 9.0), np.arange(1, 9.0) ** 2)


def dimensions() -> Figure:
    rows = [(10, 5.0, 4.0, 1.0), (20, 3.0, 2.0, 2.5)]
    return movie_figures.dimension_curves(
        pd.DataFrame(rows, columns=["dimension", "loss", "floor", "seconds"])
    )


def held_out() -> Figure:
    rows = [(m, k, v, v - 0.1, v + 0.1) for k in "rn" for m, v in (("low", 0.2), ("high", 0.4))]
    frame = pd.DataFrame(rows, columns=["method", "measure", "mean", "low", "high"])
    return movie_figures.held_out_scores(frame, "high, then low")


def mapped() -> Figure:
    places = np.random.default_rng(0).normal(size=(300, 2))
    return movie_figures.film_map(
        places, ["Drama", "Comedy", "Action"] * 100, {3: "A film"}, "a map"
    )


def answers(classes: int = 10) -> tuple[Split, Predictions]:
    """Six right and six wrong answers per class; two wrong ones of the first, none of the second.

    What is wrong is taken for the next class. Images are noise, so no two are the same.
    """
    generator = torch.Generator().manual_seed(4)
    labels = torch.arange(12 * classes) % classes
    turn = torch.arange(12 * classes) // classes
    wrong = (turn >= 6) & (labels != 1) & ((labels != 0) | (turn >= 10))
    guess = torch.where(wrong, (labels + 1) % classes, labels)
    sure = 1 + 7 * torch.rand(12 * classes, 1, generator=generator)
    images = torch.randint(0, 256, (12 * classes, 3, 32, 32), generator=generator)
    said = Predictions(functional.one_hot(guess, classes) * sure, labels)
    return Split(images.to(torch.uint8), labels), said


def surest() -> Figure:
    return image_figures.most_confident_grid(*answers(4), CLASSES[:4], "A model")


def named_wrongly() -> Figure:
    return image_figures.errors_by_predicted_class(*answers(4), CLASSES[:4], "A model")


def sheet() -> Figure:
    rows = [(GridHalf("first", [0, 1]), GridHalf("", [47]))]
    return image_figures.image_grid(
        *answers(4), CLASSES[:4], rows, ("left", "right"), "three images"
    )


def curves() -> Figure:
    histories = {name: np.linspace(1, 0.5, 12).reshape(3, 4) for name in ("one", "two")}
    return image_figures.learning_curves(histories, {"one": 3, "two": 2}, "it falls")


WAYS = {"right": {32: 0.5, 2240: 0.9}, "not normalised": {32: 0.4, 64: 0.6, 2240: 0.8}}


def lines_by_ratio() -> Figure:
    return image_figures.accuracy_lines(WAYS, "pixels", "normalise", doubling=True)


def lines_by_number() -> Figure:
    return image_figures.accuracy_lines(WAYS, "epoch", "normalise")


def reliability() -> Figure:
    said = answers()[1]
    variants = {"as trained": said, "tempered": predictions.apply_temperature(said, 2.0)}
    return image_figures.reliability_diagram({"A model": variants, "Another": variants}, "too sure")


def confusions() -> Figure:
    said = answers()[1]
    tempered = predictions.apply_temperature(said, 2.0)
    return image_figures.confusion_matrices(
        {"A model": said, "Another": tempered}, CLASSES, "the next"
    )


def class_accuracies() -> Figure:
    return image_figures.class_accuracies({"A model": answers()[1]}, CLASSES, "automobiles")


FIGURES = [
    *(examples, overview, colikes, descent, overlap, overlap_and_loss),
    *(norms, dimensions, held_out, mapped),
    *(surest, named_wrongly, sheet),
    *(curves, lines_by_ratio, lines_by_number, reliability, confusions, class_accuracies),
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
    assert common_figures.save_figure(figure, "likes") is figure
    assert (tmp_path / "figures" / "likes.png").read_bytes() == figure.png()


@pytest.mark.usefixtures("sample_mode")
def test_the_alternative_text_counts_right() -> None:
    data = movielens.load()
    liked = movielens.build_likes(data)
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
    figure = common_figures.new_figure(7, 6, "a crowd")
    axes = figure.subplots()
    axes.set(xlim=(-3, 3), ylim=(-3, 3))
    figure.draw_without_rendering()
    boxes = movie_figures._write_names(axes, names)
    assert len(boxes) == len(names)
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


# --- contact sheets -------------------------------------------------------------------------------


@cache
def ten_classes() -> tuple[Figure, np.ndarray]:
    """The contact sheet of ten classes and its stored picture; no test changes either."""
    drawn = image_figures.most_confident_grid(*answers(), CLASSES, "A model")
    return drawn, picture(drawn)


def chosen() -> dict[tuple[int, int, int], int]:
    """Which image belongs at a row, half and column of it."""
    said = answers()[1]
    return {
        (k, half, column): image
        for k in range(10)
        for half, top in enumerate((predictions.top_correct, predictions.top_incorrect))
        for column, image in enumerate(top(said, k))
    }


def corner(row: int, half: int, column: int) -> tuple[int, int]:
    return HEADING + row * ROW, MARGIN + half * (HALF * PITCH + MIDDLE) + column * PITCH


def thumbnail(stored: np.ndarray, row: int, half: int, column: int) -> np.ndarray:
    top, left = corner(row, half, column)
    return stored[top : top + THUMB, left : left + THUMB]


def enlarged(image: int, classes: int = 10) -> np.ndarray:
    """Every pixel of an image as four by four."""
    split, _ = answers(classes)
    return np.kron(split.images[image].permute(1, 2, 0).numpy(), np.ones((4, 4, 1), dtype=np.uint8))


def inside(block: np.ndarray) -> np.ndarray:
    """What neither frame nor cross covers of a thumbnail."""
    return block[32:-8, 32:-8]


def labels(figure: Figure) -> list[str]:
    """The text under the thumbnails, in the order in which they were drawn."""
    texts = [text.get_text() for text in figure.axes[0].texts]
    return [text for text in texts if "\n" in text]


def test_a_sheet_of_ten_classes_is_about_seven_by_nine_inches() -> None:
    figure, stored = ten_classes()
    assert figure.get_size_inches() == pytest.approx((7, 9), abs=0.1)
    assert stored.shape[:2] == pytest.approx((1784, 1400), abs=1)


def test_a_thumbnails_pixel_is_exactly_four_by_four() -> None:
    _, stored = ten_classes()
    right = {place: image for place, image in chosen().items() if place[1] == 0}
    assert len(right) == 50
    for place, image in right.items():
        assert (thumbnail(stored, *place) == enlarged(image)).all()


def test_an_error_carries_a_frame_and_a_cross_and_shows_its_image_inside() -> None:
    figure, stored = ten_classes()
    wrong = {place: image for place, image in chosen().items() if place[1] == 1}
    assert len(wrong) == 2 + 0 + 8 * 5
    frame = np.round(255 * np.array(to_rgb(common_figures.PALETTE[4]))).astype(int)
    for place, image in wrong.items():
        block = thumbnail(stored, *place)
        assert (inside(block) == inside(enlarged(image))).all()
        sides = (block[2, 64], block[-3, 64], block[64, 2], block[64, -3])
        assert all((side == frame).all() for side in sides)
        cross = block[6:22, 6:22].max(2)
        assert cross.max() > 200, "white"
        assert cross.min() == 0, "on black"
    axes = figure.axes[0]
    assert len([patch for patch in axes.patches if isinstance(patch, Rectangle)]) == len(wrong)
    assert [text.get_text() for text in axes.texts].count("×") == len(wrong)


def test_fewer_than_five_errors_leave_white_blanks() -> None:
    _, stored = ten_classes()
    for row, errors in ((0, 2), (1, 0)):
        top, left = corner(row, 1, errors)
        assert (stored[top : top + ROW - 2, left:] == 255).all()
        assert errors == 0 or (thumbnail(stored, row, 1, errors - 1) != 255).any()


def test_nothing_is_drawn_twice() -> None:
    figure, _ = ten_classes()
    shown = [np.asarray(image.get_array()).tobytes() for image in figure.axes[0].images]
    places = [tuple(image.get_extent()) for image in figure.axes[0].images]
    assert len(shown) == len(set(shown)) == len(set(places)) == len(chosen())


def test_every_label_says_prediction_confidence_and_truth_in_readable_type() -> None:
    figure, _ = ten_classes()
    said = answers()[1]
    sure = said.logits.double().softmax(1).amax(1)
    short = [{"airplane": "plane", "automobile": "auto"}.get(name, name) for name in CLASSES]
    assert labels(figure) == [
        f"{short[said.logits[i].argmax()]} {sure[i]:.0%}\nis {short[said.labels[i]]}"
        for i in chosen().values()
    ]
    assert min(float(text.get_fontsize()) for text in figure.axes[0].texts) >= 6.5


def test_no_text_of_a_sheet_leaves_the_page_or_runs_into_an_image() -> None:
    figure, _ = ten_classes()
    figure.draw_without_rendering()
    page = figure.bbox
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text() != "×"]
    images = [image.get_window_extent() for image in figure.axes[0].images]
    for box in boxes:
        assert page.x0 <= box.x0 <= box.x1 <= page.x1
        assert page.y0 <= box.y0 <= box.y1 <= page.y1
        assert not any(box.overlaps(image) for image in images)


def test_the_words_of_a_sheet_count_errors_and_blanks() -> None:
    figure, _ = ten_classes()
    said = answers()[1]
    errors = [image for (_, half, _), image in chosen().items() if half == 1]
    sure = said.logits.double().softmax(1).amax(1)[errors]
    words = f"The 42 errors were made with confidences from {sure.min():.0%} to {sure.max():.0%}"
    assert words in figure.alt
    assert "; 8 places are empty" in figure.alt


def test_what_was_taken_for_a_class_stands_two_classes_to_a_row() -> None:
    stored = picture(named_wrongly())
    said = answers(4)[1]
    for k in range(4):
        wrong = predictions.top_incorrect(said, k, by_predicted=True)
        assert len(wrong) == (5, 2, 0, 5)[k]
        for column, image in enumerate(wrong):
            block = thumbnail(stored, k // 2, k % 2, column)
            assert (inside(block) == inside(enlarged(image, 4))).all()


def test_a_sheet_shows_five_images_at_most_in_the_order_given() -> None:
    order = [9, 3, 5, 1, 11, 7]
    split, said = answers(4)
    halves = (GridHalf("six", order), GridHalf("none", []))
    stored = picture(image_figures.image_grid(split, said, CLASSES[:4], [halves], ("", ""), "odd"))
    for column, image in enumerate(order[:5]):
        assert (thumbnail(stored, 0, 0, column) == enlarged(image, 4)).all()
    assert (stored[:, corner(0, 1, 0)[1] :] == 255).all()


# --- what the notebook on images shows ------------------------------------------------------------


def test_curves_mark_the_epoch_that_was_kept() -> None:
    figure = curves()
    assert len(figure.axes) == 4
    for axes, epoch, title in zip(
        figure.axes, (3, 3, 2, 2), ("one", "one", "two", "two"), strict=True
    ):
        train, validation, kept = axes.lines
        assert list(np.asarray(kept.get_xdata())) == [epoch, epoch]
        assert list(np.asarray(train.get_xdata())) == [1, 2, 3]
        assert axes.get_title() == title
        history = np.linspace(1, 0.5, 12).reshape(3, 4)
        column = 0 if "loss" in axes.get_ylabel() else 1
        assert (np.asarray(train.get_ydata()) == history[:, column]).all()
        assert (np.asarray(validation.get_ydata()) == history[:, column + 2]).all()


@pytest.mark.parametrize(("draw", "scale"), [(lines_by_ratio, "log"), (lines_by_number, "linear")])
def test_lines_are_marked_at_every_number_that_was_tried(
    draw: Callable[[], Figure], scale: str
) -> None:
    (axes,) = draw().axes
    assert axes.get_xscale() == scale
    assert [label.get_text() for label in axes.get_xticklabels()] == ["32", "64", "2,240"]
    for line, found in zip(axes.lines, WAYS.values(), strict=True):
        x, y = (np.asarray(values).tolist() for values in (line.get_xdata(), line.get_ydata()))
        assert dict(zip(x, y, strict=True)) == found


def test_reliability_states_the_error_of_each_variant() -> None:
    said = answers()[1]
    found = [predictions.calibration(predictions.apply_temperature(said, by)) for by in (1.0, 2.0)]
    for axes in reliability().axes:
        legend = axes.get_legend()
        assert legend is not None
        words = [text.get_text() for text in legend.get_texts()]
        assert words[1] == f"as trained (ECE {found[0].error:.1%})"
        assert words[2] == f"tempered (ECE {found[1].error:.1%})"
        for line, expected in zip(axes.lines[1:], found, strict=True):
            told = expected.count >= image_figures.FEWEST
            assert 0 < told.sum() < len(told)
            assert np.asarray(line.get_xdata()) == pytest.approx(expected.confidence[told])
            assert np.asarray(line.get_ydata()) == pytest.approx(expected.accuracy[told])


def test_confusions_count_errors_alone() -> None:
    for axes in confusions().axes:
        assert axes.get_title().endswith(": 50 errors")
        numbers = [text.get_text() for text in axes.texts]
        assert len(numbers) == 10 * 9, "no number on the diagonal"
        assert sum(map(int, numbers)) == 50
        assert numbers[0] == "2", "two airplanes were taken for automobiles"


def test_the_hardest_class_is_at_the_bottom() -> None:
    (axes,) = class_accuracies().axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[-2:] == ["airplane", "automobile"]
    (line,) = axes.lines
    values = np.asarray(line.get_xdata())
    assert (np.diff(values) >= 0).all()
    assert values[[0, -2, -1]] == pytest.approx([6 / 12, 10 / 12, 1.0])


def named_records(path: Path) -> str:
    with Image.open(path) as picture:
        return str(picture.info["Records"])


@pytest.mark.parametrize(
    "path", sorted((settings.PROJECT / "figures").glob("*.png")), ids=lambda path: path.stem
)
def test_a_committed_figure_is_drawn_from_the_records_as_they_are(path: Path) -> None:
    named = named_records(path)
    for name, begins in (entry.split() for entry in named.split(", ") if entry):
        record = runs.read_record(runs.RECORDS, name)
        assert record is not None, f"{name} is gone: run `make render`"
        assert record.sha256.startswith(begins), f"{name} has changed: run `make render`"


def test_every_figure_of_the_notebooks_is_committed_and_no_other() -> None:
    drawn = {
        name
        for path in (settings.PROJECT / "notebooks").glob("*.ipynb")
        for name in re.findall(r'\\"(0\d_[a-z_]+)\\"', path.read_text(encoding="utf-8"))
    }
    committed = {path.stem for path in (settings.PROJECT / "figures").glob("*.png")}
    assert committed == drawn | {"bench_growth"}


@pytest.mark.usefixtures("data_folder")
def test_a_kept_figure_names_its_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASSIGNMENT_FIGURES", str(tmp_path))
    made = runs.write_record(Record("one", {}, {"x": np.zeros(3)}, {}), tmp_path)
    common_figures.save_figure(descent(), "figure", [made, made])
    assert named_records(tmp_path / "figure.png") == f"one {made.sha256[:16]}"


def test_labels_of_neighbours_do_not_run_into_each_other() -> None:
    figure, _ = ten_classes()
    boxes = [
        text.get_window_extent(dpi=200)
        for text in figure.axes[0].texts
        if text.get_text().count("\n") == 1
    ]
    rows: dict[int, list[tuple[float, float]]] = {}
    for box in boxes:
        rows.setdefault(round(box.y1), []).append((box.x0, box.x1))
    for spans in rows.values():
        ordered = sorted(spans)
        for (_, right), (left, _) in pairwise(ordered):
            assert right <= left


def test_a_model_without_errors_has_its_sheet() -> None:
    perfect = Predictions(torch.eye(10) * 9, torch.arange(10))
    split = Split(torch.zeros(10, 3, 32, 32, dtype=torch.uint8), torch.arange(10))
    assert (
        "50 places are empty" in image_figures.most_confident_grid(split, perfect, CLASSES, "m").alt
    )
