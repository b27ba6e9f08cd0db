"""Metrics against scikit-learn and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from de3dgan.evaluation import metrics


def certain(predicted: list[int], n_classes: int, p: float = 0.8) -> np.ndarray:
    """Return probabilities that give `p` to each prediction and the rest to the others."""
    others = (1 - p) / (n_classes - 1)
    return np.where(np.eye(n_classes, dtype=bool)[predicted], p, others)


def _slow_ece(labels: np.ndarray, p: np.ndarray) -> float:
    """Return the expected calibration error, prediction by prediction."""
    gap = dict.fromkeys(range(1, 11), 0.0)
    for label, row in zip(labels, p, strict=True):
        gap[math.ceil(10 * row.max())] += (row.argmax() == label) - row.max()
    return sum(abs(value) for value in gap.values()) / len(labels)


# --- Metrics -----------------------------------------------------------------------------------


def test_scores_of_a_case_worked_by_hand():
    # Class 0: 3 of 4 right; class 1: 1 of 2 right.
    labels = np.array([0, 0, 0, 0, 1, 1])
    p_1 = np.array([0.1, 0.2, 0.3, 0.6, 0.9, 0.4])
    scores = metrics.scores(labels, np.stack([1 - p_1, p_1], axis=1))
    tn, fp, fn, tp = 3, 1, 1, 1
    chance = (4 / 6) * (4 / 6) + (2 / 6) * (2 / 6)
    assert scores == pytest.approx(
        {
            "accuracy": 4 / 6,
            "balanced_accuracy": (3 / 4 + 1 / 2) / 2,
            "macro_f1": (2 * 3 / (2 * 3 + 1 + 1) + 2 * 1 / (2 * 1 + 1 + 1)) / 2,
            # Of 8 pairs (low, high), 0.4 loses to 0.6 only.
            "auc": 7 / 8,
            "within_auc": None,
            "mcc": (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)),
            "kappa": (4 / 6 - chance) / (1 - chance),
            # Per bin of confidence: 0.6 twice, both wrong; 0.7, 0.8 and twice 0.9, all right.
            "ece": (2 * 0.6 + 0.3 + 0.2 + 2 * 0.1) / 6,
        }
    )


@pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.UndefinedMetricWarning", "ignore:y_pred", "ignore:A single label"
)
@settings(max_examples=100)
@given(
    seed=st.integers(0, 10**6),
    n_classes=st.sampled_from([2, 3, 4]),
    n=st.integers(1, 60),
    decimals=st.sampled_from([1, 15]),
)
def test_scores_are_scikit_learns(seed, n_classes, n, decimals):
    """With ties or without, and where classes do not occur or are never predicted."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(n_classes), size=n).round(decimals) + 0.01
    p /= p.sum(1, keepdims=True)
    labels, predicted = rng.integers(n_classes, size=n), p.argmax(1)
    auc = None
    if len(set(labels)) == n_classes:
        auc = np.mean([reference.roc_auc_score(labels == c, p[:, c]) for c in range(n_classes)])
    with np.errstate(invalid="ignore"):
        kappa = reference.cohen_kappa_score(labels, predicted)
    wanted = {
        "accuracy": reference.accuracy_score(labels, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted),
        "macro_f1": reference.f1_score(labels, predicted, average="macro"),
        "auc": auc,
        "within_auc": None,
        "mcc": reference.matthews_corrcoef(labels, predicted),
        "kappa": 0 if math.isnan(kappa) else kappa,
        "ece": _slow_ece(labels, p),
    }
    assert metrics.scores(labels, p) == pytest.approx(wanted, abs=1e-12)
    recall = metrics.balanced_accuracy(labels, predicted)
    assert recall == pytest.approx(wanted["balanced_accuracy"])


def test_reliability_of_a_case_worked_by_hand():
    p_0 = np.array([0.55, 0.59, 0.6, 0.61, 1.0, 0.3])
    labels = np.array([0, 1, 0, 1, 0, 1])
    confidence, accuracy, counts = metrics.reliability(labels, np.stack([p_0, 1 - p_0], axis=1))
    # 0.6 belongs to the bin that it ends.
    assert counts.tolist() == [0, 0, 0, 0, 0, 3, 2, 0, 0, 1]
    np.testing.assert_allclose(confidence[[5, 6, 9]], [1.74 / 3, 1.31 / 2, 1])
    np.testing.assert_allclose(accuracy[[5, 6, 9]], [2 / 3, 1 / 2, 1])


@settings(max_examples=100)
@given(st.integers(0, 10**6), st.sampled_from([2, 4]), st.integers(1, 40), st.floats(0.1, 10))
def test_calibration_error_and_reliability_agree(seed, n_classes, n, concentration):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(n_classes, concentration), size=n)
    labels = rng.integers(n_classes, size=n)
    error = metrics.scores(labels, p)["ece"]
    # Neither order nor names of classes matter.
    order, names = rng.permutation(n), rng.permutation(n_classes)
    renamed = np.empty_like(p)
    renamed[:, names] = p[order]
    assert metrics.scores(names[labels[order]], renamed)["ece"] == pytest.approx(error)
    confidence, rate, counts = metrics.reliability(labels, p)
    gaps = counts * np.abs(rate - confidence)
    assert error == pytest.approx(np.nansum(gaps) / n)
    assert counts.sum() == n


def test_a_trials_score_is_the_mean_of_its_frames():
    trials = np.array([7, 2, 7, 2, 7])
    labels = np.array([1, 0, 1, 0, 1])
    p_1 = np.array([0.9, 0.2, 0.4, 0.6, 0.4])
    p = np.stack([1 - p_1, p_1], axis=1)
    trial_labels, mean = metrics.by_trial(trials, labels, p)
    assert trial_labels.tolist() == [0, 1]
    np.testing.assert_allclose(mean[:, 1], [0.4, 1.7 / 3])
    both = metrics.frame_and_trial(trials, labels, p)
    assert both["frame"]["accuracy"] == pytest.approx(2 / 5)
    assert both["trial"]["accuracy"] == 1.0


def test_confusion_has_true_classes_in_rows():
    counts = metrics.confusion(np.array([0, 0, 1, 3]), certain([0, 1, 1, 0], 4))
    np.testing.assert_array_equal(counts, [[1, 1, 0, 0], [0, 1, 0, 0], [0] * 4, [1, 0, 0, 0]])


# --- Pairs of one person -------------------------------------------------------------------------


def test_who_someone_is_cannot_raise_the_auc_within_persons():
    """A model that knows only the person: above chance where persons differ in their classes."""
    persons = np.repeat(np.arange(4), 10)
    labels = (np.tile(np.arange(10), 4) < 2 + 2 * persons).astype(int)
    p = np.linspace(0.2, 0.8, 4)[persons]
    found = metrics.scores(labels, np.stack([1 - p, p], axis=1), persons)
    assert found["auc"] > 0.7 and found["within_auc"] == 0.5
    # And a model that knows the class in each person is perfect, whatever it knows of persons.
    p = p + 0.01 * labels
    found = metrics.scores(labels, np.stack([1 - p, p], axis=1), persons)
    assert found["auc"] < 1 and found["within_auc"] == 1


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([2, 3]), st.booleans())
def test_the_auc_within_persons_is_that_of_their_pairs(seed, n_classes, trials_are_groups):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    labels, persons = rng.integers(n_classes, size=n), rng.integers(3, size=n)
    p = rng.dirichlet(np.ones(n_classes), size=n).round(1) + 0.05
    p /= p.sum(1, keepdims=True)
    areas = []
    for c in [1] if n_classes == 2 else range(n_classes):
        pairs = [
            np.sign(p[i, c] - p[j, c])
            for i in range(n)
            for j in range(n)
            if persons[i] == persons[j] and labels[i] == c != labels[j]
        ]
        areas.append(np.mean(pairs) / 2 + 0.5 if pairs else math.nan)
    groups = np.arange(n) if trials_are_groups else persons  # pairs across groups, or inside
    clusters = metrics.Clusters.of(groups, labels, p, persons)
    found = clusters.metrics(np.ones((1, len(clusters.groups))), ["within_auc"])["within_auc"][0]
    assert found == pytest.approx(np.mean(areas), nan_ok=True)
    assert metrics.scores(labels, p, persons)["within_auc"] == (
        None if math.isnan(found) else pytest.approx(found)
    )
