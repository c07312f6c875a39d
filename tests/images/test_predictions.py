"""Rankings, metrics, tests and calibration, against plain Python, scikit-learn and sums by hand."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn import metrics
from torch import Tensor

from assignment.images import predictions
from assignment.images.predictions import (
    Predictions,
    apply_temperature,
    calibration,
    compare,
    fit_temperature,
    wilson_interval,
)

SEEDS = st.integers(0, 10_000)


def answers(seed: int, count: int = 200, classes: int = 5, scale: float = 2.0) -> Predictions:
    """Noise that leans towards the label; every class occurs."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    logits = scale * torch.randn(count, classes, generator=generator)
    return Predictions(logits + 2 * torch.nn.functional.one_hot(labels, classes), labels)


def calibrated(count: int = 20_000, classes: int = 5) -> Predictions:
    """Labels drawn from the very probabilities that the logits state."""
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(count, classes, generator=generator, dtype=torch.double)
    labels = logits.softmax(1).multinomial(1, generator=generator).squeeze(1)
    return Predictions(logits, labels)


def with_ties(seed: int, count: int, classes: int, scale: float) -> Predictions:
    """Every row of logits occurs about three times, under labels of its own."""
    generator = torch.Generator().manual_seed(seed)
    pool = scale * torch.randn(1 + count // 3, classes, generator=generator)
    rows = torch.randint(0, len(pool), (count,), generator=generator)
    return Predictions(pool[rows], torch.randint(0, classes, (count,), generator=generator))


def log_probabilities(logits: list[float]) -> list[float]:
    most = max(logits)
    total = most + math.log(math.fsum(math.exp(value - most) for value in logits))
    return [value - total for value in logits]


def guesses(said: Predictions) -> list[int]:
    return [row.index(max(row)) for row in said.logits.tolist()]


def ranked(said: Predictions) -> list[int]:
    """All images, the surest first, equal ones in data order."""
    sure = [max(log_probabilities(row)) for row in said.logits.tolist()]
    return sorted(range(len(sure)), key=lambda image: (-sure[image], image))


def one_sentence(error: pytest.ExceptionInfo[ValueError]) -> None:
    assert "\n" not in str(error.value)
    assert 20 < len(str(error.value)) < 200


# --- which ones -----------------------------------------------------------------------------------


@given(
    seed=SEEDS,
    images=st.integers(1, 60),
    classes=st.integers(2, 4),
    scale=st.sampled_from([0.0, 0.1, 1.0, 4.0]),
    count=st.integers(0, 7),
)
@settings(deadline=None, max_examples=40)
def test_rankings_are_a_sort_in_plain_python(
    seed: int, images: int, classes: int, scale: float, count: int
) -> None:
    said = with_ties(seed, images, classes, scale)
    order, labels, named = ranked(said), said.labels.tolist(), guesses(said)
    right = [image for image in order if named[image] == labels[image]]
    wrong = [image for image in order if named[image] != labels[image]]
    for k in range(classes):
        hits = [image for image in right if labels[image] == k]
        missed = [image for image in wrong if labels[image] == k]
        taken = [image for image in wrong if named[image] == k]
        assert predictions.top_correct(said, k, count) == hits[:count]
        assert predictions.top_incorrect(said, k, count) == missed[:count]
        assert predictions.top_incorrect(said, k, count, by_predicted=True) == taken[:count]
    everything = torch.ones(images, dtype=torch.bool)
    assert predictions.most_confident(said, everything, images) == order


def test_five_come_back_unless_there_are_fewer_or_none() -> None:
    labels = torch.tensor([0] * 9 + [1] * 2)
    guess = torch.tensor([0] * 6 + [1] * 3 + [1] * 2)
    said = Predictions(torch.nn.functional.one_hot(guess, 3).float(), labels)
    assert predictions.top_correct(said, 0) == [0, 1, 2, 3, 4]
    assert predictions.top_incorrect(said, 0) == [6, 7, 8]
    assert predictions.top_incorrect(said, 1, by_predicted=True) == [6, 7, 8]
    assert predictions.top_correct(said, 1) == [9, 10]
    assert predictions.top_incorrect(said, 1) == []
    assert predictions.top_incorrect(said, 0, by_predicted=True) == []
    assert predictions.top_correct(said, 2) == []
    assert predictions.most_confident(said, torch.zeros(11, dtype=torch.bool)) == []


def test_only_marked_images_are_ranked() -> None:
    said = answers(1)
    among = torch.arange(200) % 7 == 3
    best = predictions.most_confident(said, among, 200)
    assert set(best) == set(range(3, 200, 7))
    assert best == [image for image in ranked(said) if image % 7 == 3]


def test_equal_logits_come_in_data_order_among_less_sure_ones() -> None:
    row, less = [0.1, 2.3, -1.7], [0.1, 2.2, -1.7]
    said = Predictions(torch.tensor([less, row, less, row, row]), torch.ones(5, dtype=torch.long))
    assert predictions.top_correct(said, 1) == [1, 3, 4, 0, 2]


def test_probabilities_that_all_print_as_one_are_still_ordered() -> None:
    gaps = torch.tensor([18.0, 30.0, 24.0, 18.5, 29.0, 21.0])
    said = Predictions(torch.stack([gaps, torch.zeros(6)], 1), torch.zeros(6, dtype=torch.long))
    assert (said.logits.softmax(1)[:, 0] == 1).all(), "in float32 there is no order"
    assert {f"{p:.4f}" for p in said.log_confidence.exp().tolist()} == {"1.0000"}
    assert predictions.top_correct(said, 0, 6) == [1, 4, 2, 5, 3, 0]


# --- how often, how sure --------------------------------------------------------------------------


@given(seed=SEEDS, classes=st.integers(2, 8))
@settings(deadline=None, max_examples=15)
def test_metrics_are_scikit_learns(seed: int, classes: int) -> None:
    said = answers(seed, 150, classes)
    labels, names = said.labels.numpy(), list(range(classes))
    guess = said.logits.numpy().argmax(1)
    assert (said.predicted.numpy() == guess).all()
    assert (said.correct.numpy() == (guess == labels)).all()
    assert said.accuracy == pytest.approx(metrics.accuracy_score(labels, guess))
    assert (said.confusion == metrics.confusion_matrix(labels, guess, labels=names)).all()
    recall = metrics.recall_score(labels, guess, average=None, labels=names)
    assert said.class_accuracy == pytest.approx(recall)
    probabilities = said.logits.double().softmax(1).numpy()
    assert said.loss == pytest.approx(metrics.log_loss(labels, probabilities, labels=names))
    assert said.log_confidence.exp().numpy() == pytest.approx(probabilities.max(1))


def test_confusion_has_truth_in_rows_and_the_classes_that_never_occur() -> None:
    said = Predictions(torch.eye(4)[[1, 1, 0]], torch.tensor([0, 0, 1]))
    expected = np.zeros((4, 4), dtype=int)
    expected[0, 1], expected[1, 0] = 2, 1
    assert (said.confusion == expected).all()


def test_log_probabilities_are_float64_and_survive_large_logits() -> None:
    said = Predictions(torch.tensor([[3e4, 0.0], [0.0, 500.0]]), torch.tensor([1, 0]))
    assert said.log_probabilities.dtype == torch.double
    assert said.log_probabilities.tolist() == [[0.0, -3e4], [-500.0, 0.0]]
    assert said.loss == pytest.approx(15_250)


def test_of_equal_classes_the_first_is_predicted() -> None:
    said = Predictions(torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]]), torch.tensor([2, 0]))
    assert said.predicted.tolist() == [1, 0]
    assert said.log_confidence.exp().tolist() == pytest.approx([1 / (2 + math.exp(-1)), 1 / 3])


@pytest.mark.parametrize(
    ("logits", "labels", "reason"),
    [
        (torch.zeros(3, 2), torch.zeros(4, dtype=torch.long), r"logits \[3, 2\] .* labels \[4\]"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.long), "expected one row of logits per label"),
        (torch.zeros(3, 2, 1), torch.zeros(3, dtype=torch.long), "one row of logits per label"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), "and at least one"),
        (torch.tensor([[0.0, math.nan]]), torch.tensor([0]), "not finite: the model has diverged"),
        (torch.tensor([[0.0, math.inf]]), torch.tensor([0]), "not finite: the model has diverged"),
        (torch.tensor([[-math.inf, 0.0]]), torch.tensor([1]), "not finite: the model has diverged"),
    ],
)
def test_what_is_no_answer_is_refused_in_one_sentence(
    logits: Tensor, labels: Tensor, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        Predictions(logits, labels)
    one_sentence(error)


# --- is the difference real -----------------------------------------------------------------------


@given(hits=st.data(), count=st.integers(1, 20_000), level=st.floats(0.5, 0.999))
@settings(deadline=None, max_examples=40)
def test_wilson_is_the_closed_formula(hits: st.DataObject, count: int, level: float) -> None:
    share = hits.draw(st.integers(0, count)) / count
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    assert wilson_interval(share, count, level) == pytest.approx(
        (centre - half, centre + half), abs=1e-9
    )


def test_wilson_is_at_95_percent_unless_told_otherwise_and_never_leaves_zero_to_one() -> None:
    assert (
        wilson_interval(0.8, 50) == wilson_interval(0.8, 50, 0.95) != wilson_interval(0.8, 50, 0.9)
    )
    assert wilson_interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def pair(mended: int, broken: int, both: int = 3, neither: int = 2) -> list[Predictions]:
    """Two models that differ on so many images, in a shuffled order."""
    right = [(False, True)] * mended + [(True, False)] * broken
    right += [(True, True)] * both + [(False, False)] * neither
    shuffled = np.random.default_rng(mended + 100 * broken).permutation(np.array(right))
    labels = torch.arange(len(right)) % 3
    named = [(labels + torch.from_numpy(~hits)) % 3 for hits in shuffled.T]
    return [Predictions(torch.eye(3)[guess], labels) for guess in named]


@given(mended=st.integers(0, 30), broken=st.integers(0, 30))
@settings(deadline=None, max_examples=40)
def test_mcnemar_sums_every_split_at_least_as_uneven(mended: int, broken: int) -> None:
    first, second = pair(mended, broken)
    found, back = compare(first, second), compare(second, first)
    hits = [set(said.correct.nonzero().squeeze(1).tolist()) for said in (first, second)]
    assert set(found.corrected.tolist()) == hits[1] - hits[0]
    assert set(found.lost.tolist()) == hits[0] - hits[1]
    assert (len(found.corrected), len(found.lost)) == (mended, broken)
    every = range(mended + broken + 1)
    uneven = [k for k in every if abs(2 * k - mended - broken) >= abs(mended - broken)]
    assert found.p == pytest.approx(binom.pmf(uneven, mended + broken, 0.5).sum())
    assert back.p == found.p
    assert torch.equal(back.corrected, found.lost)
    assert torch.equal(back.lost, found.corrected)


def test_nothing_changed_is_no_evidence() -> None:
    said = answers(2)
    same = compare(said, said)
    assert same.p == 1.0
    assert len(same.corrected) == len(same.lost) == 0


@pytest.mark.parametrize("labels", [[0, 1, 1], [0, 1], [0, 1, 2, 0]])
def test_models_asked_about_different_images_are_not_compared(labels: list[int]) -> None:
    first = Predictions(torch.eye(3), torch.tensor([0, 1, 2]))
    second = Predictions(torch.eye(3)[labels], torch.tensor(labels))
    with pytest.raises(ValueError, match="were asked about different images") as error:
        compare(first, second)
    one_sentence(error)


# --- calibration ----------------------------------------------------------------------------------


@given(seed=SEEDS, bins=st.integers(1, 20), scale=st.floats(0.1, 10))
@settings(deadline=None, max_examples=25)
def test_calibration_is_a_literal_loop(seed: int, bins: int, scale: float) -> None:
    said = answers(seed, 120, 4, scale)
    sure = [max(map(math.exp, log_probabilities(row))) for row in said.logits.tolist()]
    right = said.correct.tolist()
    rows, error = [], 0.0
    for k in range(bins):
        inside = [i for i, p in enumerate(sure) if k / bins < min(p, 1.0) <= (k + 1) / bins]
        if inside:
            means = [sum(values[i] for i in inside) / len(inside) for values in (sure, right)]
            rows.append((*means, len(inside)))
            error += len(inside) / len(sure) * abs(means[0] - means[1])
    found = calibration(said, bins)
    together = np.stack([found.confidence, found.accuracy, found.count], axis=1)
    assert together == pytest.approx(np.array(rows))
    assert found.error == pytest.approx(error)
    assert found.count.sum() == 120


def test_a_calibrated_model_has_next_to_no_error_and_an_overconfident_one_does() -> None:
    said = calibrated()
    assert calibration(said).error < 0.015
    assert calibration(apply_temperature(said, 1 / 3)).error > 0.1
    assert calibration(apply_temperature(said, 3)).error > 0.1


def test_there_are_fifteen_bins_unless_told_otherwise() -> None:
    said = answers(4)
    assert calibration(said).error == calibration(said, 15).error != calibration(said, 14).error
    assert len(calibration(calibrated(), 15).count) == 12, "of five classes none is under a fifth"


@pytest.mark.parametrize("classes", [2, 4])
def test_a_confidence_on_an_edge_belongs_to_the_bin_below(classes: int) -> None:
    on, above = [0.0] * classes, [0.001] + [0.0] * (classes - 1)
    said = Predictions(torch.tensor([on, above]), torch.tensor([0, 1]))
    assert said.log_confidence[0].exp().item() == 1 / classes
    found = calibration(said, classes)
    assert found.count.tolist() == [1, 1]
    assert found.accuracy.tolist() == [1, 0]


@pytest.mark.parametrize("bins", [1, 2, 15])
def test_full_confidence_belongs_to_the_last_bin(bins: int) -> None:
    said = Predictions(torch.tensor([[1000.0, 0.0], [0.0, 4.0]]), torch.tensor([0, 0]))
    assert said.log_confidence[0].exp().item() == 1.0
    found = calibration(said, bins)
    assert found.count.tolist() == [2]
    assert found.accuracy.tolist() == [0.5]


# --- temperature ----------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_temperature_finds_the_factor_that_logits_were_scaled_by(factor: float) -> None:
    honest = calibrated()
    scaled = Predictions(honest.logits * factor, honest.labels)
    assert fit_temperature(scaled) == pytest.approx(factor, rel=0.03)
    assert calibration(apply_temperature(scaled, fit_temperature(scaled))).error < 0.015


@given(seed=SEEDS)
@settings(deadline=None, max_examples=8)
def test_no_other_temperature_has_a_lower_loss(seed: int) -> None:
    said = answers(seed, 60)
    lowest = apply_temperature(said, fit_temperature(said)).loss
    assert (
        lowest <= min(apply_temperature(said, by).loss for by in np.geomspace(0.06, 18, 60)) + 1e-9
    )


@given(seed=SEEDS, by=st.floats(0.05, 20))
@settings(deadline=None, max_examples=20)
def test_tempering_keeps_the_order_of_the_classes(seed: int, by: float) -> None:
    said = answers(seed)
    cooler = apply_temperature(said, by)
    assert torch.equal(cooler.logits.argsort(1), said.logits.argsort(1))
    assert torch.equal(cooler.labels, said.labels)
    assert cooler.accuracy == said.accuracy
    assert np.allclose(cooler.logits.numpy() * by, said.logits.numpy())


def test_a_higher_temperature_is_less_sure_of_everything() -> None:
    said = answers(6)
    sure = [apply_temperature(said, by).log_confidence for by in (0.5, 1.0, 2.0)]
    assert (sure[0] > sure[1]).all()
    assert (sure[1] > sure[2]).all()
    assert torch.equal(sure[1], said.log_confidence)
