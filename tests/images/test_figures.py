"""Figures of the image notebook show what the predictions say, to the pixel where it matters."""

from itertools import chain, zip_longest
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from torch.nn.functional import one_hot

from assignment.common.figures import PALETTE
from assignment.common.settings import SAMPLE_WARNING
from assignment.images import figures
from assignment.images.cifar10 import Split
from assignment.images.figures import HEADING, LEFTS, PITCH, ROW, THUMB, GridHalf
from assignment.images.pixels import to_float
from assignment.images.predictions import Predictions, calibration, top_correct, top_incorrect
from tests.common.test_figures import pixels

CLASSES = ("airplane", "automobile", *"bcdefgh")
NOISE = np.random.default_rng(4).integers(0, 256, (108, 32, 32, 3), dtype=np.uint8)
PLACE, LABELS = torch.arange(108), torch.arange(108) % 9
# Six of twelve images are taken for the next class; two of the first class, none of the second.
WRONG = (PLACE >= 54) & (LABELS != 1) & ((LABELS != 0) | (PLACE >= 90))
GUESS = torch.where(WRONG, (LABELS + 1) % 9, LABELS)
SPLIT = Split(torch.from_numpy(NOISE).permute(0, 3, 1, 2), LABELS)
FOUND = Predictions(one_hot(GUESS, 9) * torch.linspace(1, 8, 108)[:, None], LABELS)
PERFECT = Predictions(one_hot(LABELS, 9) * 9.0, LABELS)
CONFIDENCE = FOUND.logits.double().softmax(1).amax(1)
HISTORY = np.arange(12.0).reshape(3, 4)
METHODS = {"right": {32: 0.5, 2240: 0.9}, "wrong": {32: 0.4, 64: 0.6, 2240: 0.8}}
SIX = [(GridHalf("six", [9, 3, 5, 1, 11, 7]), GridHalf("none", []))]
FIGURES = {
    "examples": lambda: figures.class_examples(SPLIT, CLASSES, to_float),
    "curves": lambda: figures.learning_curves({"A": HISTORY}, {"A": 2}, "alt"),
    "linear": lambda: figures.accuracy_lines(METHODS, "epoch", "alt"),
    "log": lambda: figures.accuracy_lines(METHODS, "pixels", "alt", doubling=True),
    "reliability": lambda: figures.reliability_diagram({"A": {"B": FOUND}}, "alt"),
    "confusions": lambda: figures.confusion_matrices({"A": FOUND}, CLASSES, "alt"),
    "accuracies": lambda: figures.class_accuracies({"A": FOUND, "B": PERFECT}, CLASSES, "alt"),
    "grid": lambda: figures.most_confident_grid(SPLIT, FOUND, CLASSES, "A"),
    "perfect": lambda: figures.most_confident_grid(SPLIT, PERFECT, CLASSES, "A"),
    "by predicted": lambda: figures.errors_by_predicted_class(SPLIT, FOUND, CLASSES, "A"),
    "six": lambda: figures.image_grid(SPLIT, FOUND, CLASSES, SIX, ("", ""), "alt"),
}
BY_PREDICTED = [top_incorrect(FOUND, k, by_predicted=True) for k in range(9)]
GRIDS: dict[str, list[tuple[list[int], list[int]]]] = {
    "perfect": [(top_correct(PERFECT, k), []) for k in range(9)],
    "grid": [(top_correct(FOUND, k), top_incorrect(FOUND, k)) for k in range(9)],
    "by predicted": list(zip_longest(BY_PREDICTED[::2], BY_PREDICTED[1::2], fillvalue=[])),
    "six": [([9, 3, 5, 1, 11], [])],
}


@pytest.mark.usefixtures("sample_mode")
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_its_words_and_the_stamp_of_the_sample(name: str) -> None:
    figure = FIGURES[name]()
    assert len(figure.alt.removeprefix(f"{SAMPLE_WARNING}. ")) in range(3, len(figure.alt))
    assert figure.texts[-1].get_text() == "SAMPLE"


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_shows_its_images_enlarged_four_times_and_marks_the_errors(name: str) -> None:
    stored = pixels(FIGURES[name]())
    for row, halves in enumerate(GRIDS[name]):
        band = stored[HEADING + row * ROW :][: ROW - 2]
        for left, half in zip(LEFTS, halves, strict=True):
            for column, image in enumerate(half):
                shown = band[:THUMB, left + column * PITCH :][:, :THUMB]
                wrong = WRONG[image] and name != "perfect"
                same = shown == NOISE[image].repeat(4, 0).repeat(4, 1)
                assert same[32:-8, 32:-8].all()
                assert same.all() == (not wrong)
                if wrong:
                    frame, cross = shown[[2, -3, 64, 64], [64, 64, 2, -3]], shown[6:22, 6:22].max(2)
                    assert (frame == np.round(255 * np.array(to_rgb(PALETTE[4])))).all()
                    assert (cross.min(), cross.max() > 200) == (0, True), "white on black"
            assert (band[:, left + len(half) * PITCH : left + 5 * PITCH] == 255).all()


def test_the_words_of_a_grid_are_right_and_hide_nothing() -> None:
    figure = FIGURES["grid"]()
    figure.draw_without_rendering()
    written = [text for text in figure.axes[0].texts if text.get_text() != "×"]
    names = ["plane", "auto", *CLASSES[2:]]
    assert [text.get_text() for text in written if "\n" in text.get_text()] == [
        f"{names[GUESS[image]]} {CONFIDENCE[image]:.0%}\nis {names[LABELS[image]]}"
        for image in chain.from_iterable(chain.from_iterable(GRIDS["grid"]))
    ]
    boxes = [thing.get_window_extent() for thing in (*figure.axes[0].images, *written)]
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number])
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1
    sure = CONFIDENCE[[image for _, wrong in GRIDS["grid"] for image in wrong]]
    assert f"The 37 errors were made with confidences from {sure.min():.0%}" in figure.alt
    assert f"to {sure.max():.0%}; 8 places are empty" in figure.alt


def test_the_examples_of_a_class_stand_in_its_row() -> None:
    for axes in FIGURES["examples"]().axes:
        for image, (column, k) in enumerate(np.ndindex(6, 9)):
            shown = np.asarray(axes.images[0].get_array())[34 * k :, 34 * column :][:32, :32]
            assert shown == pytest.approx(NOISE[image] / 255)


BINS, BEST = calibration(FOUND), ([2, 2], [0, 1])
ENOUGH = BINS.count >= 10
LINES: dict[str, Any] = {
    "curves": [([1, 2, 3], HISTORY[:, k]) if k >= 0 else BEST for k in (0, 2, -1, 1, 3, -1)],
    "linear": [(list(points), list(points.values())) for points in METHODS.values()],
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


def test_panels_state_what_they_count() -> None:
    (axes,) = FIGURES["confusions"]().axes
    numbers = [int(text.get_text()) for text in axes.texts]
    assert (len(numbers), sum(numbers), numbers[0]) == (9 * 8, 44, 2), "nothing on the diagonal"
    assert axes.get_title() == "A: 44 errors"
    assert FIGURES["reliability"]().axes[0].lines[1].get_label() == f"B (ECE {BINS.error:.1%})"
    (axes,) = FIGURES["accuracies"]().axes
    assert axes.get_yticklabels()[-1].get_text() == "automobile", "the easiest is on top"
    (axes,) = FIGURES["log"]().axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["32", "64", "2,240"]
