"""Metrics, the linear baseline, and the measures of generated EEG."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from de3dgan import metrics
from de3dgan.baselines import (
    frame_de,
    linear_probabilities,
    majority_probabilities,
    random_probabilities,
    svm_probabilities,
)
from de3dgan.features import BANDS
from de3dgan.quality import (
    de_round_trip,
    log_spectrum_distance,
    quality,
    seam_ratio,
    trial_de,
)
from de3dgan.splits import make_split
from tests.helpers import fake_store


def certain(predicted: list[int], n_classes: int, p: float = 0.8) -> np.ndarray:
    """Return probabilities that give `p` to each prediction and the rest to the others."""
    others = (1 - p) / (n_classes - 1)
    return np.where(np.eye(n_classes, dtype=bool)[predicted], p, others)


def noise(*shape: int, seed: int = 0, scale: float = 10.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=scale, size=shape)


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
            "mcc": (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)),
            "kappa": (4 / 6 - chance) / (1 - chance),
        }
    )


@pytest.mark.parametrize("n_classes", [2, 4])
def test_scores_are_scikit_learns(n_classes):
    rng = np.random.default_rng(n_classes)
    labels = rng.permutation(np.arange(200) % n_classes)
    p = rng.dirichlet(np.ones(n_classes), size=200)
    p[np.arange(200), labels] += 0.2
    p /= p.sum(1, keepdims=True)
    predicted = p.argmax(1)
    one_vs_rest = [reference.roc_auc_score(labels == c, p[:, c]) for c in range(n_classes)]
    assert metrics.scores(labels, p) == pytest.approx(
        {
            "accuracy": reference.accuracy_score(labels, predicted),
            "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted),
            "macro_f1": reference.f1_score(labels, predicted, average="macro"),
            "auc": np.mean(one_vs_rest),
            "mcc": reference.matthews_corrcoef(labels, predicted),
            "kappa": reference.cohen_kappa_score(labels, predicted),
        }
    )


def test_a_perfect_prediction_is_all_ones_and_the_majority_is_at_chance():
    labels = np.array([0, 1, 2, 3, 2, 1])
    assert metrics.scores(labels, certain(labels, 4)) == dict.fromkeys(metrics.METRICS, 1.0)
    majority = majority_probabilities(np.array([0, 0, 1]), 4, 2)
    np.testing.assert_allclose(majority, [[2 / 3, 1 / 3]] * 4)
    assert metrics.scores(np.array([0, 0, 0, 1]), majority) == pytest.approx(
        {
            "accuracy": 0.75,
            "balanced_accuracy": 0.5,
            "macro_f1": 6 / 7 / 2,
            "auc": 0.5,
            "mcc": 0.0,
            "kappa": 0.0,
        }
    )


def test_without_a_class_there_is_no_auc():
    assert metrics.scores(np.zeros(3, int), certain([0, 1, 0], 2))["auc"] is None
    assert metrics.scores(np.array([0, 1, 2]), certain([0, 1, 2], 4))["auc"] is None
    # Recall is averaged over the classes that occur.
    scores = metrics.scores(np.array([0, 0, 1, 1]), certain([0, 3, 1, 1], 4))
    assert scores["balanced_accuracy"] == 0.75


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from([2, 4]), st.integers(1, 12))
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_no_prediction_gives_nan(data, n_classes, n):
    classes = st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n)
    labels, predicted = np.array(data.draw(classes)), data.draw(classes)
    trials = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    labels = labels[trials % n]  # a trial has one label
    p = data.draw(st.sampled_from([1.0, 0.6, 1 / n_classes]))
    results = metrics.window_and_trial(trials, labels, certain(predicted, n_classes, p))
    for scores in results.values():
        assert tuple(scores) == metrics.METRICS
        for name, value in scores.items():
            if value is None:
                assert name == "auc"
            else:
                assert (-1 if name in ("mcc", "kappa") else 0) <= value <= 1 + 1e-12


def test_a_trials_score_is_the_mean_of_its_frames():
    trials = np.array([7, 2, 7, 2, 7])
    labels = np.array([1, 0, 1, 0, 1])
    p_1 = np.array([0.9, 0.2, 0.4, 0.6, 0.4])
    p = np.stack([1 - p_1, p_1], axis=1)
    of_trial, mean = metrics.by_trial(trials, labels, p)
    assert of_trial.tolist() == [0, 1]
    np.testing.assert_allclose(mean[:, 1], [0.4, 1.7 / 3])
    both = metrics.window_and_trial(trials, labels, p)
    assert both["window"]["accuracy"] == pytest.approx(2 / 5)
    assert both["trial"]["accuracy"] == 1.0


def test_confusion_has_true_classes_in_rows():
    counts = metrics.confusion(np.array([0, 0, 1, 3]), certain([0, 1, 1, 0], 4))
    np.testing.assert_array_equal(counts, [[1, 1, 0, 0], [0, 1, 0, 0], [0] * 4, [1, 0, 0, 0]])


# --- The linear baseline -----------------------------------------------------------------------


def test_frame_de_is_the_mean_of_the_two_half_seconds():
    store = fake_store(n_trials=3, n_frames=4)
    features = frame_de(store, np.array([0, 5, 11]))
    for row, (trial, second) in zip(features, [(0, 0), (1, 1), (2, 3)], strict=True):
        halves = store.de[trial][:, [2 * second, 2 * second + 1]]
        np.testing.assert_allclose(row.reshape(4, 3), halves.mean(1), atol=1e-6)


@pytest.mark.parametrize("effect", [0.0, 0.6])
def test_the_linear_baseline_finds_an_effect_where_there_is_one_only(effect):
    store = fake_store(n_trials=200, n_frames=2)
    labels = np.random.default_rng(3).permutation(np.arange(200) % 2)
    store.de[labels == 1, 1] += effect  # alpha, all electrodes
    accuracies = []
    for fold in range(5):
        split = make_split(store, labels, "trial", fold, 520)
        p = linear_probabilities(store, split, labels, split.test)
        assert p.shape == (len(split.test), 2)
        np.testing.assert_allclose(p.sum(1), 1)
        of_frame = split.test // store.n_frames
        scores = metrics.window_and_trial(of_frame, labels[of_frame], p)
        accuracies.append(scores["trial"]["balanced_accuracy"])
    if effect:
        assert min(accuracies) > 0.8
    else:
        assert 0.35 < np.mean(accuracies) < 0.65  # 200 trials: chance is 0.5 ± 0.035


def test_the_linear_baseline_never_sees_the_test_part():
    store = fake_store(n_trials=40, n_frames=2)
    labels = np.arange(40) % 2
    split = make_split(store, labels, "trial", 0, 520)
    test = split.trials("test")
    asked = split.train[:10]
    before = linear_probabilities(store, split, labels, asked)
    store.de[test] = 1e6
    labels = labels.copy()
    labels[test] = 1 - labels[test]
    np.testing.assert_array_equal(linear_probabilities(store, split, labels, asked), before)


def test_the_svm_finds_what_no_line_can_and_never_sees_the_test_part():
    """Both ends of a scale are one class, its middle the other."""
    store = fake_store(n_trials=200, n_frames=2)
    labels = np.arange(200) % 2
    shift = np.where(np.arange(200) % 4 < 2, -3.0, 3.0)
    store.de[labels == 1, 1] += shift[labels == 1, None, None]
    split = make_split(store, labels, "trial", 0, 520)
    true = labels[split.test // store.n_frames]
    curved = svm_probabilities(store, split, labels, split.test)
    straight = linear_probabilities(store, split, labels, split.test)
    np.testing.assert_allclose(curved.sum(1), 1)
    assert (curved.argmax(1) == true).mean() > 0.9 > 0.7 > (straight.argmax(1) == true).mean()
    asked = split.train[:10]
    before = svm_probabilities(store, split, labels, asked)
    store.de[split.trials("test")] = 1e3
    np.testing.assert_array_equal(svm_probabilities(store, split, labels, asked), before)


def test_baseline_removal_is_what_sets_the_two_linear_models_apart():
    """Subjects that differ by more than classes do hide the classes in absolute DE."""
    store = fake_store(n_trials=200, n_frames=2)
    labels = np.random.default_rng(3).permutation(np.arange(200) % 2)
    store.de[labels == 1, 1] += 0.6
    store.baseline_de[:] = np.random.default_rng(4).normal(scale=10, size=store.baseline_de.shape)
    split = make_split(store, labels, "trial", 0, 520)
    true = labels[split.test // store.n_frames]
    accuracy = [
        (linear_probabilities(store, split, labels, split.test, absolute).argmax(1) == true).mean()
        for absolute in (False, True)
    ]
    assert accuracy[0] > 0.8 > accuracy[1]


def test_the_random_baseline_guesses_as_often_as_classes_occur():
    store = fake_store(n_trials=200, n_frames=10)
    labels = (np.arange(200) % 4 == 0).astype(int)
    split = make_split(store, labels, "trial", 0, 520)
    p = random_probabilities(split, labels, split.test)
    assert set(np.unique(p)) == {0.0, 1.0}
    assert p[:, 1].mean() == pytest.approx(0.25, abs=0.08)
    true = labels[split.test // store.n_frames]
    assert abs(np.corrcoef(p[:, 1], true)[0, 1]) < 0.15


def test_the_linear_baseline_gives_a_column_to_a_class_that_nobody_has():
    """Four classes of which class 2 does not occur: column 3 must be that of class 3."""
    store = fake_store(n_trials=60, n_frames=1)
    labels = np.array([0, 1, 3])[np.arange(60) % 3]
    store.de[labels == 3] += 3
    store.de[labels == 1] -= 3
    split = make_split(store, labels, "trial", 0, 520)
    p = linear_probabilities(store, split, labels, split.test)
    np.testing.assert_array_equal(p.argmax(1), labels[split.test])


# --- Quality of generated EEG ------------------------------------------------------------------


def test_real_eeg_compared_with_itself_is_perfect():
    eeg = noise(3, 2, 20 * 128)
    measured = quality(((trial, trial) for trial in eeg), trial_de(eeg))
    assert tuple(measured["de_round_trip"]) == tuple(BANDS)
    for figures in measured["de_round_trip"].values():
        assert figures == pytest.approx({"correlation": 1.0, "mae": 0.0, "bias": 0.0}, abs=1e-6)
    assert measured["log_spectrum_distance"] == 0
    assert measured["seam_ratio"]["real"] == measured["seam_ratio"]["generated"]
    amplitude = np.mean([trial.std() for trial in eeg])
    assert measured["amplitude_uv"] == pytest.approx({"real": amplitude, "generated": amplitude})


def test_half_the_amplitude_is_a_bias_of_minus_ln_two():
    eeg = noise(2, 2, 20 * 128)
    measured = quality(((trial, trial / 2) for trial in eeg), trial_de(eeg))
    for figures in measured["de_round_trip"].values():
        assert figures["correlation"] == pytest.approx(1, abs=1e-6)
        assert figures["bias"] == pytest.approx(-math.log(2), abs=1e-5)
        assert figures["mae"] == pytest.approx(math.log(2), abs=1e-5)
    assert measured["log_spectrum_distance"] == pytest.approx(2 * math.log(2), abs=1e-6)


def test_unrelated_noise_does_not_correlate():
    a, b = trial_de(noise(2, 4, 20 * 128)), trial_de(noise(2, 4, 20 * 128, seed=1))
    for figures in de_round_trip(a, b).values():
        assert abs(figures["correlation"]) < 0.25
        assert figures["mae"] > 0.05


@pytest.mark.parametrize("real_is_silent", [False, True])
def test_silence_is_measured_without_nan(real_is_silent):
    eeg = noise(2, 2, 12 * 128)
    silence = np.zeros_like(eeg)
    real = silence if real_is_silent else eeg
    measured = quality(zip(real, silence, strict=True), trial_de(real))
    for figures in measured["de_round_trip"].values():
        assert figures["correlation"] == 0.0
        assert all(math.isfinite(value) for value in figures.values())
        assert figures["bias"] == 0 if real_is_silent else figures["bias"] < -10
    assert math.isfinite(measured["log_spectrum_distance"])
    assert measured["seam_ratio"]["generated"] == 1.0
    assert measured["amplitude_uv"]["generated"] == 0.0


def test_seams_show_where_frames_do_not_continue_each_other():
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=(8, 60 * 128)), axis=-1)
    assert seam_ratio(walk) == pytest.approx(1, abs=0.08)
    assert seam_ratio(noise(8, 60 * 128)) == pytest.approx(1, abs=0.08)
    t = np.arange(128) / 128
    phases = rng.uniform(0, 2 * np.pi, size=(8, 60, 1))
    frames = np.sin(2 * np.pi * 8 * t + phases).reshape(8, -1)
    assert seam_ratio(frames) > 1.2
    # One step of 128 across the border, steps of 1 inside.
    assert seam_ratio(np.tile(np.arange(128.0), 10)) == pytest.approx(127)


def test_spectra_are_compared_between_4_and_46_hz():
    eeg = noise(2, 20 * 128)
    t = np.arange(20 * 128) / 128
    assert log_spectrum_distance(eeg, eeg + 5 * np.sin(2 * np.pi * 60 * t)) < 0.01
    assert log_spectrum_distance(eeg, eeg + 5 * np.sin(2 * np.pi * 20 * t)) > 0.03
