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
    repeated = logits[2::3]
    repeated.copy_(logits[: len(repeated)].clone())
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
        assert predictions.top_incorrect(found, k, 3) == missed[:3]
        assert predictions.top_incorrect(found, k, 60, by_predicted=True) == mistaken
    among = torch.arange(count) % 3 > 0
    assert predictions.most_confident(found, among, 60) == [i for i in order if i % 3]


def test_probabilities_that_all_print_as_one_still_have_an_order() -> None:
    gaps = torch.tensor([18.0, 45.0, 24.0, 18.5, 40.0, 21.0])
    found = Predictions(torch.stack([gaps, torch.zeros(6)], 1), torch.zeros(6, dtype=torch.long))
    assert (found.logits.softmax(1)[:, 0] == 1).all(), "in float32 there is no order"
    assert predictions.top_correct(found, 0, 6) == [1, 4, 2, 5, 3, 0]


@given(seed=SEEDS, classes=st.integers(2, 8))
@few
def test_metrics_are_scikit_learns(seed: int, classes: int) -> None:
    found, names = noisy(seed, 150, classes), list(range(classes))
    labels, guess = found.labels.numpy(), found.logits.numpy().argmax(1)
    probabilities = found.logits.double().softmax(1).numpy()
    assert (found.correct.numpy() == (guess == labels)).all()
    assert found.accuracy == pytest.approx(metrics.accuracy_score(labels, guess))
    assert (found.confusion == metrics.confusion_matrix(labels, guess, labels=names)).all()
    recall = metrics.recall_score(labels, guess, average=None, labels=names)
    assert found.class_accuracy == pytest.approx(recall)
    assert found.loss == pytest.approx(metrics.log_loss(labels, probabilities, labels=names))
    assert found.log_confidence.exp().numpy() == pytest.approx(probabilities.max(1))


def test_large_logits_stay_finite_and_of_equal_classes_the_first_is_predicted() -> None:
    found = Predictions(torch.tensor([[3e4, 0.0], [0.0, 500], [7, 7]]), torch.tensor([1, 0, 0]))
    assert found.log_probabilities.dtype == torch.double
    assert found.log_probabilities[:2].tolist() == [[0.0, -3e4], [-500.0, 0.0]]
    assert found.predicted.tolist() == [0, 1, 0]
    assert found.log_confidence.exp().tolist() == pytest.approx([1, 1, 1 / 2])


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: Predictions(torch.zeros(3, 2), ZEROS[:2]), r"\[3, 2\] do not fit labels \[2\]"),
        (lambda: Predictions(torch.zeros(3), ZEROS), "expected one row of logits per label"),
        (lambda: Predictions(torch.zeros(0, 2), ZEROS[:0]), "and at least one"),
        (lambda: Predictions(torch.zeros(3, 2), ZEROS.float()), r"numbers \(int64\) from 0 to 1"),
        (lambda: Predictions(torch.zeros(3, 2), ZEROS + 2), "from 0 to 1"),
        (lambda: Predictions(torch.zeros(3, 2), ZEROS - 1), "from 0 to 1"),
        (lambda: Predictions(torch.full((3, 2), math.nan), ZEROS), "the model has diverged"),
        (lambda: Predictions(torch.full((3, 2), math.inf), ZEROS), "the model has diverged"),
        (lambda: compare(noisy(0, 50), noisy(0, 51)), "were evaluated on different images"),
        (lambda: compare(noisy(0, 50, 5), noisy(0, 50, 4)), "were evaluated on different images"),
        (lambda: apply_temperature(noisy(0), 0.0), "is 0.0, it must be positive"),
    ],
)
def test_what_cannot_be_meant_is_refused(call: Callable[[], object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        call()


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(("hits", "count"), [(0, 10), (1, 1), (3, 7), (9_512, 10_000)])
def test_wilson_interval_is_the_closed_formula(hits: int, count: int, level: float) -> None:
    p, z2 = hits / count, NormalDist().inv_cdf((1 + level) / 2) ** 2
    centre = (p + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * (p * (1 - p) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    expected = pytest.approx((centre - half, centre + half), abs=1e-9)
    assert predictions.wilson_interval(p, count, level) == expected
    assert predictions.wilson_interval(p, count) == predictions.wilson_interval(p, count, 0.95)


@given(corrected=st.integers(0, 30), lost=st.integers(0, 30))
@few
def test_mcnemar_sums_every_split_at_least_as_uneven(corrected: int, lost: int) -> None:
    right = [(False, True)] * corrected + [(True, False)] * lost + [(True, True), (False, False)]
    right = [right[i] for i in np.random.default_rng(corrected).permutation(len(right))]
    labels = torch.arange(len(right)) % 3
    guesses = [(labels + ~torch.tensor(hits)) % 3 for hits in zip(*right, strict=True)]
    first, second = (Predictions(torch.eye(3)[guess], labels) for guess in guesses)
    found, changed = compare(first, second), corrected + lost
    assert found.corrected.tolist() == [i for i, pair in enumerate(right) if pair == (False, True)]
    assert found.lost.tolist() == [i for i, pair in enumerate(right) if pair == (True, False)]
    uneven = [k for k in range(changed + 1) if abs(2 * k - changed) >= abs(corrected - lost)]
    assert found.p == pytest.approx(binom.pmf(uneven, changed, 0.5).sum())


@given(seed=SEEDS, bins=st.integers(1, 20), scale=st.floats(0.1, 10))
@few
def test_calibration_is_a_literal_loop(seed: int, bins: int, scale: float) -> None:
    predicted = noisy(seed, 120, 4, scale)
    sure = [math.exp(confidence(row)) for row in predicted.logits.double().tolist()]
    rows, error = [], 0.0
    for k in range(bins):
        inside = [i for i, p in enumerate(sure) if k / bins < p <= (k + 1) / bins]
        if inside:
            means = [np.mean([v[i] for i in inside]) for v in (sure, predicted.correct.tolist())]
            rows.append((*means, len(inside)))
            error += len(inside) / 120 * abs(means[0] - means[1])
    found = calibration(predicted, bins)
    together = np.stack([found.confidence, found.accuracy, found.count], axis=1)
    assert together == pytest.approx(np.array(rows))
    assert found.error == pytest.approx(error)
    assert calibration(predicted).error == calibration(predicted, 15).error


@pytest.mark.parametrize("logits", [[0.0, 0.0], [1000.0, 0.0]], ids=["1/2", "1"])
def test_confidence_on_an_edge_belongs_to_the_bin_below(logits: list[float]) -> None:
    found = calibration(Predictions(torch.tensor([logits, [1, 0]]), torch.tensor([0, 1])), 2)
    assert found.count.tolist() == ([1, 1] if logits == [0.0, 0.0] else [2])


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


@given(seed=SEEDS)
@few
def test_fitted_temperature_has_the_lowest_loss_and_keeps_the_order(seed: int) -> None:
    predicted = noisy(seed, 60)
    best = apply_temperature(predicted, predictions.fit_temperature(predicted))
    losses = [apply_temperature(predicted, t).loss for t in np.geomspace(0.06, 18, 30)]
    assert best.loss <= min(losses) + 1e-9
    assert torch.equal(best.logits.argsort(1), predicted.logits.argsort(1))
