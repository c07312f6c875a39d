"""Rankings, metrics, tests and calibration, against plain Python, scikit-learn and sums by hand."""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn import metrics

from assignment.images import predictions
from assignment.images.predictions import Predictions, apply_temperature, calibration, compare

SEEDS = st.integers(0, 10_000)
ZEROS = torch.zeros(3, dtype=torch.long)
few = settings(deadline=None, max_examples=20)


def noisy(seed: int, count: int = 200, classes: int = 5, scale: float = 2.0) -> Predictions:
    """Noise that leans towards the label; every class occurs, and every third row is a repeat."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    logits = scale * torch.randn(count, classes, generator=generator)
    logits += 2 * torch.nn.functional.one_hot(labels, classes)
    logits[2::3] = logits[: len(logits[2::3])].clone()
    return Predictions(logits, labels)


def confidence(row: list[float]) -> float:
    """Log-probability of the largest of some logits."""
    return -math.log1p(math.fsum(math.exp(value - max(row)) for value in sorted(row)[:-1]))


@given(seed=SEEDS, count=st.integers(4, 60), scale=st.sampled_from([0.0, 1.0, 4.0]))
@few
def test_rankings_are_a_sort_in_plain_python(seed: int, count: int, scale: float) -> None:
    found = noisy(seed, count, 4, scale)
    rows, labels = found.logits.tolist(), found.labels.tolist()
    order = sorted(range(count), key=lambda image: (-confidence(rows[image]), image))
    named = [row.index(max(row)) for row in rows]
    for k in range(4):
        correct = [i for i in order if named[i] == labels[i] == k]
        missed = [i for i in order if named[i] != labels[i] == k]
        mistaken = [i for i in order if labels[i] != named[i] == k]
        assert predictions.top_correct(found, k) == correct[:5]
        assert predictions.top_incorrect(found, k) == missed[:5]
        assert predictions.top_incorrect(found, k, by_predicted=True) == mistaken[:5]
    assert predictions.most_confident(found, found.labels >= 0, count) == order


def test_probabilities_that_all_print_as_one_still_have_an_order() -> None:
    gaps = torch.tensor([18.0, 45.0, 24.0, 18.5, 40.0, 21.0])
    found = Predictions(torch.stack([gaps, torch.zeros(6)], 1), torch.zeros(6, dtype=torch.long))
    assert (found.logits.softmax(1)[:, 0] == 1).all(), "in float32 there is no order"
    assert predictions.most_confident(found, found.correct, 6) == [1, 4, 2, 5, 3, 0]


@given(seed=SEEDS, classes=st.integers(2, 8))
@few
def test_metrics_are_scikit_learns(seed: int, classes: int) -> None:
    found = noisy(seed, 150, classes)
    labels, guess = found.labels.numpy(), found.logits.numpy().argmax(1)
    probabilities = found.logits.double().softmax(1).numpy()
    assert found.accuracy == pytest.approx(metrics.accuracy_score(labels, guess))
    assert (found.confusion == metrics.confusion_matrix(labels, guess)).all()
    assert found.class_accuracy == pytest.approx(metrics.recall_score(labels, guess, average=None))
    few = Predictions(found.logits, found.labels % max(1, classes - 1))  # of the last class none
    expected = metrics.recall_score(few.labels.numpy(), guess, average=None, zero_division=np.nan)
    assert few.class_accuracy == pytest.approx(expected, nan_ok=True)
    assert few.balanced_accuracy == pytest.approx(np.nanmean(expected))
    assert found.loss == pytest.approx(metrics.log_loss(labels, probabilities))
    assert found.log_confidence.exp().numpy() == pytest.approx(probabilities.max(1))


def test_large_logits_stay_finite_and_of_equal_classes_the_first_is_predicted() -> None:
    found = Predictions(torch.tensor([[3e4, 0.0], [0.0, 1], [7, 7]]), torch.tensor([1, 0, 0]))
    assert found.loss == pytest.approx((3e4 + math.log(1 + math.e) + math.log(2)) / 3)
    assert found.predicted.tolist() == [0, 1, 0]
    assert found.log_confidence.exp().tolist() == pytest.approx([1, 1 / (1 + 1 / math.e), 1 / 2])
    assert calibration(found, 2).count.tolist() == [1, 2], "an edge belongs to the bin below"


@pytest.mark.parametrize(("call", "reason"), [
    (lambda: Predictions(torch.zeros(3, 2), ZEROS[:2]), r"\[3, 2\] do not fit labels \[2\]"),
    (lambda: Predictions(torch.zeros(3), ZEROS), "expected one row of logits per label"),
    (lambda: Predictions(torch.zeros(0, 2), ZEROS[:0]), "and at least one"),
    (lambda: Predictions(torch.zeros(3, 2), ZEROS.float()), r"numbers \(int64\) from 0 to 1"),
    (lambda: Predictions(torch.zeros(3, 2), ZEROS + 2), "from 0 to 1"),
    (lambda: Predictions(torch.zeros(3, 2), ZEROS - 1), "from 0 to 1"),
    (lambda: Predictions(torch.full((3, 2), math.inf), ZEROS), "the model has diverged"),
    (lambda: compare(noisy(0, 50, 5), noisy(0, 50, 4)), "were evaluated on different images"),
    (lambda: apply_temperature(noisy(0), 0.0), "is 0.0, it must be positive"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(call: Callable[[], object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        call()


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (1, 1), (3, 7), (9_512, 10_000)])
def test_wilson_interval_is_the_closed_formula(hits: int, count: int) -> None:
    p, z2 = hits / count, NormalDist().inv_cdf(0.975) ** 2
    centre = (p + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * (p * (1 - p) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    expected = pytest.approx((centre - half, centre + half), abs=1e-9)
    assert predictions.wilson_interval(p, count) == expected


@given(corrected=st.integers(0, 30), lost=st.integers(0, 30))
@few
def test_mcnemar_sums_every_split_at_least_as_uneven(corrected: int, lost: int) -> None:
    right = torch.tensor([(0, 1)] * corrected + [(1, 0)] * lost + [(1, 1), (0, 0)]).bool()
    labels, changed = torch.arange(len(right)) % 3, corrected + lost
    first, second = (Predictions(torch.eye(3)[(labels + ~hit) % 3], labels) for hit in right.T)
    found = compare(first, second)
    assert found.corrected.tolist() == [*range(corrected)]
    assert found.lost.tolist() == [*range(corrected, changed)]
    uneven = [k for k in range(changed + 1) if abs(2 * k - changed) >= abs(corrected - lost)]
    assert found.p == pytest.approx(binom.pmf(uneven, changed, 0.5).sum())


@given(seed=SEEDS, bins=st.integers(1, 20), scale=st.floats(0.1, 10))
@few
def test_calibration_is_a_literal_loop(seed: int, bins: int, scale: float) -> None:
    predicted = noisy(seed, 120, 4, scale)
    sure = np.exp([confidence(row) for row in predicted.logits.double().tolist()])
    found, right, rows = calibration(predicted, bins), predicted.correct.numpy(), []
    for k in range(bins):
        inside = (k / bins < sure) & (sure <= (k + 1) / bins)
        if inside.any():
            rows.append((sure[inside].mean(), right[inside].mean(), inside.sum()))
    together = np.stack([found.confidence, found.accuracy, found.count], axis=1)
    assert together == pytest.approx(np.array(rows))
    assert found.error == pytest.approx(sum(n / 120 * abs(p - share) for p, share, n in rows))


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_fitted_temperature_is_the_factor_of_the_logits_and_calibrates(factor: float) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(20_000, 5, generator=generator, dtype=torch.double)
    labels = logits.softmax(1).multinomial(1, generator=generator).squeeze(1)
    scaled = Predictions(logits * factor, labels)
    temperature = predictions.fit_temperature(scaled)
    assert temperature == pytest.approx(factor, rel=0.03)
    assert calibration(apply_temperature(scaled, temperature)).error < 0.015
    assert factor == 1 or calibration(scaled).error > 0.05
