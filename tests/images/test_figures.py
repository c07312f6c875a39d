"""Figures of the image notebook show what the predictions say, to the pixel where it matters."""

from itertools import chain, combinations, zip_longest
from typing import Any

import numpy as np
import pytest
import torch

from assignment.common.settings import AssignmentError
from assignment.images import figures
from assignment.images.cifar10 import Split
from assignment.images.figures import HEADING, LEFTS, PITCH, ROW, THUMB
from assignment.images.predictions import Predictions, calibration, top_correct, top_incorrect
from tests.common.test_figures import pixels

CLASSES = ("airplane", "automobile", *"bcdefgh")
NOISE = np.random.default_rng(4).integers(0, 256, (108, 32, 32, 3), dtype=np.uint8)
PLACE, LABELS = torch.arange(108), torch.arange(108) % 9
# Six of twelve images are taken for the next class; two of the first class, none of the second.
WRONG = (PLACE >= 54) & (LABELS != 1) & ((LABELS != 0) | (PLACE >= 90))
GUESS = torch.where(WRONG, (LABELS + 1) % 9, LABELS)
SPLIT = Split(torch.from_numpy(NOISE).permute(0, 3, 1, 2), LABELS)
LARGE = Split(torch.full((7, 3, 224, 224), 99, dtype=torch.uint8), torch.arange(7) % 2)
FOUND = Predictions(torch.eye(9)[GUESS] * torch.linspace(1, 8, 108)[:, None], LABELS)
PERFECT = Predictions(torch.eye(9)[LABELS] * 9.0, LABELS)
METHODS = {"right": {32: 0.5, 2240: 0.9}, "wrong": {32: 0.4, 64: 0.6, 2240: 0.8}}
HISTORY = np.arange(12).reshape(3, 4)
TITLES = {image: f"label {image}" for image in range(7)}
FIGURES = {
    "examples": lambda: figures.class_examples(SPLIT, CLASSES, lambda images: images / 255),
    "large examples": lambda: figures.class_examples(LARGE, "ab", lambda images: images / 255),
    "curves": lambda: figures.learning_curves({"A": HISTORY}, {"A": 2}, "alt"),
    "late": lambda: figures.learning_curves({"A": HISTORY}, {"A": 2}, "alt", first=2),
    "lines": lambda: figures.accuracy_lines(METHODS, "pixels", "alt", doubling=True),
    "reliability": lambda: figures.reliability_diagram({"A": {"B": FOUND}}, "alt"),
    "compared": lambda: figures.compared_images(SPLIT, CLASSES, TITLES, {"A": FOUND}, "alt"),
    "confusions": lambda: figures.confusion_matrices({"A": FOUND}, CLASSES, "alt"),
    "accuracies": lambda: figures.class_accuracies({"A": FOUND, "B": PERFECT}, CLASSES, "alt"),
    "grid": lambda: figures.most_confident_grid(SPLIT, FOUND, CLASSES, "A"),
    "perfect": lambda: figures.most_confident_grid(SPLIT, PERFECT, CLASSES, "A"),
    "by predicted": lambda: figures.errors_by_predicted_class(SPLIT, FOUND, CLASSES, "A"),
}
BY_PREDICTED = [top_incorrect(FOUND, k, by_predicted=True) for k in range(9)]
GRIDS: dict[str, list[tuple[list[int], list[int]]]] = {
    "grid": [(top_correct(FOUND, k), top_incorrect(FOUND, k)) for k in range(9)],
    "by predicted": list(zip_longest(BY_PREDICTED[::2], BY_PREDICTED[1::2], fillvalue=[])),
}


@pytest.mark.usefixtures("sample_mode")
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_its_words_and_the_stamp_of_the_sample(name: str) -> None:
    figure = FIGURES[name]()
    assert len(figure.alt.partition(". ")[2]) >= 3
    assert figure.texts[-1].get_text() == "SAMPLE"


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_shows_its_images_enlarged_four_times_and_marks_the_errors(name: str) -> None:
    stored = pixels(FIGURES[name]())
    for row, halves in enumerate(GRIDS[name]):
        band = stored[HEADING + row * ROW :][: ROW - 2]
        for left, half in zip(LEFTS, halves, strict=True):
            for column, image in enumerate(half):
                shown = band[:THUMB, left + column * PITCH :][:, :THUMB]
                same = shown == NOISE[image].repeat(4, 0).repeat(4, 1)
                assert same[32:-8, 32:-8].all()
                assert same.all() == (not WRONG[image])
                if WRONG[image]:
                    frame, cross = shown[[2, -3, 64, 64], [64, 64, 2, -3]], shown[6:22, 6:22].max(2)
                    assert (frame == [213, 94, 0]).all()
                    assert (cross.min(), cross.max() > 200) == (0, True), "white on black"
            assert (band[:, left + len(half) * PITCH : left + 5 * PITCH] == 255).all()


def test_the_words_of_a_grid_are_right_and_hide_nothing() -> None:
    figure = FIGURES["grid"]()
    written = [text for text in figure.axes[0].texts if text.get_text() != "×"]
    names, expected = ["plane", "auto", *CLASSES[2:]], []
    for image in chain.from_iterable(chain.from_iterable(GRIDS["grid"])):
        truth = f"\nis {names[LABELS[image]]}" if WRONG[image] else ""
        expected += [f"{names[GUESS[image]]} {FOUND.log_confidence[image].exp():.0%}{truth}"]
    assert [text.get_text() for text in written if "%" in text.get_text()] == expected
    boxes = [thing.get_window_extent() for thing in (*figure.axes[0].images, *written)]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1 for box in boxes)
    assert "The 37 errors were made with confidences from 96% to 100%." in figure.alt


def test_predictions_of_other_images_are_refused() -> None:
    other = Split(SPLIT.images, SPLIT.labels.flip(0))
    with pytest.raises(AssignmentError, match="of other images; expected those of the split"):
        figures.most_confident_grid(other, FOUND, CLASSES, "Model")


BINS, BEST = calibration(FOUND), ([2, 2], [0, 1])
ENOUGH = BINS.count >= 10
LINES: dict[str, Any] = {
    "curves": [([1, 2, 3], [k, k + 4, k + 8]) if k >= 0 else BEST for k in (0, 2, -1, 1, 3, -1)],
    "lines": [(list(points), list(points.values())) for points in METHODS.values()],
    "late": [([2, 3], [k, k + 4]) if k >= 0 else BEST for k in (4, 6, -1, 5, 7, -1)],
    "reliability": [([0, 1], [0, 1]), (BINS.confidence[ENOUGH], BINS.accuracy[ENOUGH])],
    "accuracies": [([0.5] * 7 + [10 / 12, 1], range(9)), ([1] * 9, range(9))],
}


@pytest.mark.parametrize("name", LINES)
def test_lines_show_the_numbers_and_differ_in_grey(name: str) -> None:
    panels = [axes.lines for axes in FIGURES[name]().axes]
    for line, points in zip(chain.from_iterable(panels), LINES[name], strict=True):
        assert line.get_xydata() == pytest.approx(np.transpose(points))
    for lines in panels:
        assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == len(lines)


def test_panels_show_the_examples_of_a_class_in_its_row_and_state_what_they_count() -> None:
    for axes in FIGURES["examples"]().axes:
        for image, (column, k) in enumerate(np.ndindex(6, 9)):
            shown = np.asarray(axes.images[0].get_array())[34 * k :, 34 * column :][:32, :32]
            assert shown == pytest.approx(NOISE[image] / 255)
    (axes,) = FIGURES["confusions"]().axes
    numbers = [int(text.get_text()) for text in axes.texts]
    assert (len(numbers), sum(numbers), axes.get_title()) == (9 * 8, 44, "A: 44 errors")
    assert FIGURES["reliability"]().axes[0].lines[1].get_label() == f"B (ECE {BINS.error:.1%})"
    bars: Any = FIGURES["reliability"]().axes[1].patches[0]
    assert {*bars.get_xy()[:, 1]} - {0} == {*BINS.count}
    compared: Any = FIGURES["compared"]().axes[6]
    assert compared.get_title() == "label 6"
    sure = FOUND.log_confidence[6].exp()
    assert compared.get_xlabel() == f"A: {CLASSES[GUESS[6]]} {sure:.0%}"
    assert np.array_equal(compared.images[0].get_array(), NOISE[6])
    assert FIGURES["accuracies"]().axes[0].get_yticklabels()[-1].get_text() == "automobile"
    (axes,) = FIGURES["lines"]().axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["32", "64", "2,240"]
