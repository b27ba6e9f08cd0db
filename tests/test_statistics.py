"""Intervals and comparisons over groups: right by definition, and right in simulated studies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from scipy.special import expit

from benchmarks import null_simulation
from de3dgan.evaluation import metrics, statistics
from de3dgan.evaluation.metrics import METRICS
from de3dgan.evaluation.statistics import (
    Clusters,
    Comparison,
    Estimate,
    compare,
    estimate,
    holm,
    verdict,
)

#: Standard deviations of the simulated studies: of people, of a person's trials, of its frames.
GROUP, TRIAL, FRAME = 0.6, 0.6, 1.0
#: How far all decisions lean to class 0, and how frequent class 1 is: with both, accuracy and
#: balanced accuracy differ.
LEANING, PREVALENCE = 0.3, 0.4
N_DRAWS = 400
SLOW = pytest.mark.slow


def study(rng: np.random.Generator, n_groups: int, signals: Sequence[float]) -> list[Clusters]:
    """Return predictions of models of different strengths, for the same people.

    2 trials of 6 frames per person. Half of the variance of people, trials and frames is shared
    by the models, and half is each one's own.
    """

    def variation() -> np.ndarray:
        return (
            GROUP * rng.normal(size=(n_groups, 1, 1))
            + TRIAL * rng.normal(size=(n_groups, 2, 1))
            + FRAME * rng.normal(size=(n_groups, 2, 6))
        ) * math.sqrt(0.5)

    labels = (rng.random((n_groups, 2, 1)) < PREVALENCE).astype(int)
    shared = variation()
    frame_labels = np.broadcast_to(labels, shared.shape).ravel()
    groups = np.repeat(np.arange(n_groups), 12)
    out = []
    for signal in signals:
        p = expit((2 * labels - 1) * signal - LEANING + shared + variation()).ravel()
        out.append(Clusters.of(groups, frame_labels, np.stack([1 - p, p], axis=1), groups))
    return out


def truth(signal: float) -> dict[str, float]:
    """Return what a model of this strength scores over all people there could be."""
    spread = math.sqrt(GROUP**2 + TRIAL**2 + FRAME**2)
    high = stats.norm.cdf((signal - LEANING) / spread)
    low = stats.norm.cdf((signal + LEANING) / spread)
    return {
        "accuracy": PREVALENCE * high + (1 - PREVALENCE) * low,
        "balanced_accuracy": (low + high) / 2,
        "auc": stats.norm.cdf(2 * signal / (spread * math.sqrt(2))),
    }


def stronger_by(difference: float, signal: float) -> float:
    """Return the strength of a model whose accuracy is higher by `difference`."""
    wanted = truth(signal)["accuracy"] + difference
    return optimize.brentq(lambda s: truth(s)["accuracy"] - wanted, -1, 5)


def predictions(
    seed: int, n_groups: int, n_classes: int, n: int, decimals: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (groups, labels, probabilities) with many ties; groups may lack classes."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(n_classes), size=n).round(decimals) + 0.05
    groups = np.concatenate([np.arange(n_groups), rng.integers(n_groups, size=n - n_groups)])
    return groups, rng.integers(n_classes, size=n), p / p.sum(1, keepdims=True)


def whole(clusters: Clusters) -> dict[str, float]:
    """Return the metrics with every group once."""
    values = clusters.metrics(np.ones((1, len(clusters.groups))))
    return {name: value[0] for name, value in values.items()}


def approx(scores: dict[str, float | None]) -> object:
    values = {name: math.nan if value is None else value for name, value in scores.items()}
    return pytest.approx(values, nan_ok=True, abs=1e-9)


# --- Sufficient statistics ---------------------------------------------------------------------


@settings(max_examples=80)
@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([2, 3, 4]), st.data())
def test_groups_that_count_several_times_give_the_scores_of_repeated_data(
    seed, n_groups, n_classes, data
):
    """Also where classes do not occur, or are not predicted, in a draw."""
    groups, labels, p = predictions(seed, n_groups, n_classes, n_groups + seed % 12)
    if seed % 3 == 0:  # as with trials: one class per group
        labels = labels[groups]
    if seed % 4 == 0:
        p = np.eye(n_classes)[p.argmax(1)]
    weights = data.draw(st.lists(st.integers(0, 3), min_size=n_groups, max_size=n_groups))
    weights = np.array([weights if any(weights) else [1] * n_groups, range(1, n_groups + 1)])
    values = Clusters.of(groups, labels, p, groups).metrics(weights)
    assert tuple(values) == METRICS
    for draw, counts in enumerate(weights):
        frames = np.repeat(np.arange(len(groups)), counts[groups])
        # A person who is drawn twice is two persons.
        copy = np.concatenate([np.arange(n) for n in counts[groups]])
        wanted = metrics.scores(labels[frames], p[frames], 10 * groups[frames] + copy)
        if len(set(labels[frames])) < len(set(labels)):
            wanted |= dict.fromkeys(("balanced_accuracy", "macro_f1", "mcc", "kappa", "auc"))
        assert {name: value[draw] for name, value in values.items()} == approx(wanted)


# --- Estimates ---------------------------------------------------------------------------------


def test_an_estimate_is_the_mean_over_seeds_and_shows_each():
    seeds = study(np.random.default_rng(0), 20, [0.5, 0.5, 0.9])
    result = estimate(seeds)
    assert tuple(result) == METRICS
    for name, found in result.items():
        values = [whole(seed)[name] for seed in seeds]
        assert found.per_seed == pytest.approx({(0, i): value for i, value in enumerate(values)})
        assert found.value == pytest.approx(np.mean(values))
        assert found.low < found.value < found.high
    assert estimate(seeds) == result
    # Seeds that agree say no more than one of them.
    alone = estimate(seeds[:1])["accuracy"]
    thrice = estimate(seeds[:1] * 3)["accuracy"]
    assert (thrice.value, thrice.low, thrice.high) == pytest.approx(
        (alone.value, alone.low, alone.high)
    )


def test_the_interval_of_a_mean_is_students():
    """Of accuracy, with equally large groups, a mean of nearly normal values."""
    rng = np.random.default_rng(0)
    right = rng.binomial(200, 0.7, size=15)
    labels = np.zeros(15 * 200, int)
    predicted = (np.arange(200) >= right[:, None]).astype(int).ravel()
    clusters = Clusters.of(np.repeat(np.arange(15), 200), labels, np.eye(2)[predicted])
    interval = estimate([clusters], 20_000)["accuracy"]
    half = stats.t.ppf(0.975, 14) * (right / 200).std(ddof=1) / math.sqrt(15)
    mean = right.mean() / 200
    assert (interval.low, interval.high) == pytest.approx(
        (mean - half, mean + half), abs=0.1 * half
    )


def test_what_is_not_defined_is_nan():
    groups, labels, p = predictions(0, 6, 2, 60)
    alone = estimate([Clusters.of(np.zeros(60), labels, p)])["accuracy"]
    assert math.isnan(alone.low) and math.isnan(alone.high) and alone.value > 0
    constant = estimate([Clusters.of(groups, np.zeros(60, int), p)])
    assert math.isnan(constant["auc"].value) and math.isnan(constant["auc"].low)
    assert not math.isnan(constant["accuracy"].low)
    # Four groups of four classes: hardly a draw has them all.
    rare = estimate([Clusters.of(np.arange(4), np.arange(4), np.eye(4))])["auc"]
    assert rare.value == 1 and math.isnan(rare.low)


def test_seeds_and_models_must_have_predicted_the_same():
    groups, labels, p = predictions(0, 6, 2, 60)
    one = Clusters.of(groups, labels, p)
    with pytest.raises(ValueError, match="same groups"):
        estimate([one, Clusters.of(groups + 1, labels, p)])
    with pytest.raises(ValueError, match="same labels"):
        compare([one], [Clusters.of(groups, 1 - labels, p)], "accuracy")
    with pytest.raises(ValueError, match=r"seeds of training are \[0, 1, 2\] and \[0, 1\]"):
        compare([one] * 3, [one] * 2, "accuracy")


# --- Comparisons -------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_a_model_compared_with_itself_does_not_differ(metric):
    (model,) = study(np.random.default_rng(1), 20, [0.5])
    result = compare([model], [model], metric)
    assert result == Comparison(metric, Estimate(0.0, 0.0, 0.0, {(0, 0): 0.0}), 0.0, 1.0, 20)
    assert verdict(result, result.p) == "equivalent"


@pytest.mark.parametrize("metric", METRICS)
def test_a_comparison_has_two_sides(metric):
    a, b, c = study(np.random.default_rng(1), 20, [0.5, 0.8, 0.6])
    forth, back = compare([a, c], [b], metric), compare([b], [a, c], metric)
    assert forth.difference.value == pytest.approx(-back.difference.value)
    assert forth.difference.low == pytest.approx(-back.difference.high)
    assert forth.smallest_detectable == pytest.approx(back.smallest_detectable)
    assert forth.p == pytest.approx(back.p)
    single = {(0, i): whole(x)[metric] - whole(b)[metric] for i, x in enumerate((a, c))}
    assert forth.difference.per_seed == pytest.approx(single)
    assert compare([a, c], [b, b], metric) == forth


def with_accuracies(right: np.ndarray) -> Clusters:
    """Return predictions of 10 frames of class 0 per group, as many right as it says."""
    predicted = (np.arange(10) >= right[:, None]).astype(int).ravel()
    groups = np.repeat(np.arange(len(right)), 10)
    return Clusters.of(groups, np.zeros(len(groups), int), np.eye(2)[predicted])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("strength", [0.4, 0.6, 0.9])
def test_p_is_below_a_level_where_the_interval_excludes_no_difference(metric, strength):
    for seed in range(4):
        a, b = study(np.random.default_rng(seed), 14, [strength, 0.4])
        found = compare([a], [b], metric, pooled_folds=bool(seed % 2))
        excludes = found.difference.low > 0 or found.difference.high < 0
        assert (found.p < 0.05) == excludes
        # The test can be had from the interval, and the interval from the test.
        half = (found.difference.high - found.difference.low) / 2
        t = found.difference.value / (half / stats.t.ppf(0.975, 13))
        assert found.p == pytest.approx(2 * stats.t.sf(abs(t), 13))


def test_a_difference_of_means_has_students_standard_error():
    rng = np.random.default_rng(0)
    a, a_too, b = rng.integers(2, 9, (3, 8))
    sets = [with_accuracies(a), with_accuracies(a_too)], [with_accuracies(b)]
    result = compare(*sets, "accuracy", 20_000)
    difference = ((a + a_too) / 2 - b) / 10
    assert result.difference.value == pytest.approx(difference.mean())
    error = difference.std(ddof=1) / math.sqrt(8)
    factor = stats.t.ppf(0.975, 7) + stats.t.ppf(0.8, 7)
    assert result.smallest_detectable == pytest.approx(factor * error, rel=0.02)
    # All are certain, so that the calibration error is what accuracy lacks to 1.
    calibration = compare(*sets, "ece", 20_000)
    assert calibration.difference.value == pytest.approx(-difference.mean())
    assert calibration.p == pytest.approx(stats.ttest_1samp(difference, 0).pvalue, rel=0.05)


def test_holm_on_a_case_worked_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.2: times 4, 3, 2, 1, and never less than the one before.
    np.testing.assert_allclose(holm([0.03, 0.01, 0.2, 0.02]), [0.06, 0.04, 0.2, 0.06])
    np.testing.assert_allclose(holm([0.6, 0.9]), [1, 1])
    assert holm([0.03]).tolist() == [0.03]
    assert len(holm([])) == 0


def comparison(value: float, low: float, high: float, metric: str = "balanced_accuracy"):
    error = (high - low) / 2 / stats.t.ppf(0.975, 35)
    return Comparison(metric, Estimate(value, low, high, {(0, 0): value}), error, 0.01, 36)


def test_a_verdict_needs_the_interval_and_the_p_value():
    better, worse = comparison(0.03, 0.01, 0.05), comparison(-0.03, -0.05, -0.01)
    assert (verdict(better, 0.04), verdict(worse, 0.04)) == ("helped", "hurt")
    assert (verdict(better, 0.06), verdict(worse, 0.06)) == ("no evidence", "no evidence")
    assert verdict(comparison(0.03, -0.01, 0.07), 0.04) == "no evidence"
    assert verdict(replace(better, metric="ece"), 0.04) == "hurt"
    assert verdict(replace(worse, metric="ece"), 0.04) == "helped"


def test_equivalence_is_that_of_two_one_sided_tests():
    """Each of the two hypotheses, a difference of a point either way, is rejected at 0.05."""
    for value, half in ((0.0, 0.011), (0.0, 0.013), (0.004, 0.007), (-0.004, 0.008)):
        found = comparison(value, value - half, value + half)
        t = [(margin - value) / found.error for margin in (0.01, -0.01)]
        both = stats.t.sf(t[0], 35) < 0.05 and stats.t.cdf(t[1], 35) < 0.05
        assert found.equivalent == both
        assert verdict(found, 0.5) == ("equivalent" if both else "no evidence")
    assert comparison(0.01, -0.02, 0.04).excluded_gain == 0.04
    assert comparison(0.01, -0.02, 0.04, "ece").excluded_gain == 0.02


def test_a_verdict_in_words_says_what_it_rests_on():
    assert statistics.verdict_text(comparison(0.0312, 0.0104, 0.0523), 0.012) == (
        "Helped: balanced accuracy is 3.1 percentage points higher "
        "(95 % interval +1.0 to +5.2, 36 groups, adjusted p = 0.012)."
    )
    assert statistics.verdict_text(comparison(-0.01, -0.03, 0.01, "auc"), 0.4) == (
        "No evidence at this sample size: AUC is 1.0 percentage points lower "
        "(95 % interval -3.0 to +1.0, 36 groups, adjusted p = 0.4). A gain above 1.0 percentage "
        "points is excluded. The smallest difference that so many groups would show in 4 of 5 "
        "studies is 2.8 percentage points."
    )
    assert statistics.verdict_text(comparison(0.001, -0.004, 0.006), 0.4) == (
        "Equivalent within 1 percentage point: balanced accuracy is 0.1 percentage points higher "
        "(95 % interval -0.4 to +0.6, 36 groups, adjusted p = 0.4). A gain above 0.6 percentage "
        "points is excluded."
    )
    assert statistics.verdict_text(comparison(0.005, 0.001, 0.009), 0.01).endswith(
        "By less than 1 percentage point, though."
    )
    assert "MCC is 0.100 lower (95 % interval -0.150 to -0.050," in statistics.verdict_text(
        comparison(-0.1, -0.15, -0.05, "mcc"), 0.001
    )
    nothing = comparison(0.1, math.nan, math.nan)
    assert "too few" in statistics.verdict_text(replace(nothing, n_groups=1), 1.0)


# --- Simulated studies: a short form, and a long one that is marked slow ------------------------


def as_often_as(share: float, n_true: int, n_studies: int) -> bool:
    """Return whether an event of this probability may happen so often, within 3.3 deviations."""
    return abs(n_true / n_studies - share) <= 3.3 * math.sqrt(share * (1 - share) / n_studies)


@pytest.mark.parametrize(
    ("n_groups", "n_studies"),
    [(12, 150), pytest.param(36, 700, marks=SLOW), pytest.param(12, 700, marks=SLOW)],
)
def test_intervals_cover_the_truth(n_groups, n_studies):
    """In about 95 % of studies; an interval that takes frames for independent, in far fewer."""
    rng = np.random.default_rng(n_groups)
    wanted, strong = truth(0.5), truth(0.9)
    compared = ("accuracy", "balanced_accuracy")
    covered = dict.fromkeys([*wanted, *(f"difference of {name}" for name in compared)], 0)
    naively = 0
    for _ in range(n_studies):
        b, a = study(rng, n_groups, [0.5, 0.9])
        result = estimate([b], N_DRAWS)
        for name, true in wanted.items():
            covered[name] += result[name].low <= true <= result[name].high
        for name in compared:
            found = compare([a], [b], name, N_DRAWS).difference
            true = strong[name] - wanted[name]
            covered[f"difference of {name}"] += found.low <= true <= found.high
        accuracy = result["accuracy"].value
        error = math.sqrt(accuracy * (1 - accuracy) / (12 * n_groups))
        naively += abs(accuracy - wanted["accuracy"]) <= 1.96 * error
    for name, count in covered.items():
        assert as_often_as(0.95, count, n_studies), name
    assert naively / n_studies < 0.85


def test_the_calibration_error_of_calibrated_predictions_may_be_none():
    """Of few frames it is far above 0 though nothing is amiss, and every bootstrap draw as well."""
    rng = np.random.default_rng(0)
    n_above = 0
    for _ in range(50):
        p = rng.beta(4, 4, size=400)
        labels = (rng.random(400) < p).astype(int)
        clusters = Clusters.of(np.arange(400) // 20, labels, np.stack([1 - p, p], axis=1))
        result = estimate([clusters], N_DRAWS)["ece"]
        assert result.value > 0.005
        n_above += result.low > 0
    assert n_above <= 15


@pytest.mark.parametrize("n_studies", [60, pytest.param(500, marks=SLOW)])
def test_verdicts_of_simulated_studies(n_studies):
    """No effect is rarely found; one of the smallest detectable size mostly; twice it, always."""
    rng = np.random.default_rng(0)

    def simulate(difference: float, n_studies: int, metric: str = "accuracy") -> list[Comparison]:
        signals = [stronger_by(difference, 0.5), 0.5]
        pairs = (study(rng, 36, signals) for _ in range(n_studies))
        return [compare([a], [b], metric, N_DRAWS) for a, b in pairs]

    def count(results: list[Comparison], word: str) -> int:
        return sum(verdict(result, result.p) == word for result in results)

    for metric in ("auc", "accuracy"):
        null = simulate(0.0, n_studies, metric)
        assert as_often_as(0.05, sum(result.p < 0.05 for result in null), n_studies), metric
        assert count(null, "no evidence") >= 0.9 * n_studies, metric
    smallest = float(np.median([result.smallest_detectable for result in null]))
    n_studies //= 2
    assert as_often_as(0.8, count(simulate(smallest, n_studies), "helped"), n_studies)
    for direction, word in ((2, "helped"), (-2, "hurt")):
        results = simulate(direction * smallest, min(n_studies, 60))
        assert count(results, word) >= len(results) - 1


def test_a_weak_classifier_is_told_from_one_that_always_predicts_the_majority():
    """Though groups of the majority's class all speak for the latter."""
    n_groups = 60
    rng = np.random.default_rng(0)
    helped = 0
    n_studies = 25
    for _ in range(n_studies):
        (model,) = study(rng, n_groups, [0.45])
        counts = np.zeros_like(model.confusion)
        counts[:, :, 0] = model.confusion.sum(2)
        result = compare([model], [replace(model, confusion=counts)], "balanced_accuracy", N_DRAWS)
        assert result.difference.value == pytest.approx(whole(model)["balanced_accuracy"] - 0.5)
        helped += verdict(result, result.p) == "helped"
    assert helped >= 0.8 * n_studies


def cross_validated(effect: float, rng: np.random.Generator, n_groups: int = 36) -> Clusters:
    """Return the predictions of a linear model, five folds of one simulated study pooled.

    Each group has 2 trials of either class, whose features (20) are the group's, the trial's and
    noise; the model is the difference of the class means of the groups trained on.
    """
    sides = np.array([-1, 1])
    x = rng.normal(size=(n_groups, 1, 20)) + rng.normal(size=(n_groups, 2, 20))
    x[..., :4] += effect * sides[:, None] / 2
    scores = np.empty((n_groups, 2))
    for fold in range(5):
        tested = np.arange(n_groups) % 5 == fold
        known = x[~tested]
        weights = (known * sides[:, None]).mean((0, 1))
        scores[tested] = (x[tested] - known.mean((0, 1))) @ weights
    p = 1 / (1 + np.exp(-scores.ravel()))
    return Clusters.of(
        np.repeat(np.arange(n_groups), 2), np.tile([0, 1], n_groups), np.stack([1 - p, p], 1)
    )


@pytest.mark.parametrize(
    ("effect", "n_studies"),
    [(0.5, 150), pytest.param(0.0, 600, marks=SLOW), pytest.param(0.5, 600, marks=SLOW)],
)
def test_intervals_of_pooled_folds_cover_the_accuracy_of_the_procedure(effect, n_studies):
    """And without widening they do not, since folds train on what the others test."""
    rng = np.random.default_rng(int(10 * effect))
    values, ends = [], {True: [], False: []}
    for _ in range(n_studies):
        clusters = cross_validated(effect, rng)
        for pooled in ends:
            found = estimate([clusters], N_DRAWS, pooled_folds=pooled)["balanced_accuracy"]
            ends[pooled].append((found.low, found.high))
        values.append(found.value)
    truth = np.mean(values)
    covered = {
        pooled: sum(low <= truth <= high for low, high in found) for pooled, found in ends.items()
    }
    assert as_often_as(0.96, covered[True], n_studies)
    assert covered[False] < min(0.93 * n_studies, covered[True])


# --- Seeds of folds and of training --------------------------------------------------------------


def test_spreads_of_folds_and_of_training_are_told_apart():
    models = study(np.random.default_rng(0), 20, [0.2, 0.3, 0.9, 1.2])
    keys = [(1, 5), (1, 6), (2, 5), (2, 6)]
    found = estimate(dict(zip(keys, models, strict=True)))["accuracy"]
    values = [whole(model)["accuracy"] for model in models]
    folds = {1: np.mean(values[:2]), 2: np.mean(values[2:])}
    assert found.per_seed == pytest.approx(dict(zip(keys, values, strict=True)))
    assert found.per_fold_seed == pytest.approx(folds)
    within = np.mean([np.var(pair, ddof=1) for pair in (values[:2], values[2:])])
    assert found.training_spread == pytest.approx(math.sqrt(within))
    assert math.isnan(estimate({(1, None): models[0]})["accuracy"].training_spread)


def test_a_model_without_seeds_of_training_is_compared_with_each_of_the_others():
    a, b, c, baseline, other = study(np.random.default_rng(0), 20, [0.2, 0.3, 0.9, 0.4, 0.5])
    model = {(1, 5): a, (1, 6): b, (2, 5): c}
    found = compare(model, {(1, None): baseline, (2, None): other}, "accuracy")
    accuracy = [whole(x)["accuracy"] for x in (a, b, c, baseline, other)]
    wanted = (accuracy[0] + accuracy[1]) / 2 - accuracy[3], accuracy[2] - accuracy[4]
    assert list(found.difference.per_fold_seed.values()) == pytest.approx(wanted)
    assert found.difference.value == pytest.approx(np.mean(wanted))
    with pytest.raises(ValueError, match="seeds of folds"):
        compare(model, {(1, None): baseline}, "accuracy")


def test_more_is_due_to_training_the_less_models_of_other_folds_agree():
    """From nothing to all; and what training does by itself is not taken for it."""
    rng = np.random.default_rng(0)
    groups, labels = np.repeat(np.arange(30), 4), np.tile([0, 1], 60)
    lasting = np.repeat(rng.normal(size=30), 4) * np.tile([-1, 1], 60)

    def widening(by_fold: float, by_seed: float) -> float:
        sets = {}
        for fold in range(3):
            of_fold = by_fold * rng.normal(size=120)
            for seed in range(2):
                p = expit(labels - 0.5 + lasting + of_fold + by_seed * rng.normal(size=120))
                sets[fold, seed] = Clusters.of(groups, labels, np.stack([1 - p, p], axis=1))
        half = Clusters.of(groups, labels, np.full((120, 2), 0.5))
        guess = {(fold, None): half for fold in range(3)}
        pooled, single = (compare(sets, guess, "auc", pooled_folds=one) for one in (True, False))
        return pooled.error / single.error

    assert widening(0, 0) == pytest.approx(1)
    assert widening(0, 0.3) < 1.1
    assert 1.1 < widening(0.5, 0.3) < 1.4
    assert widening(3, 0.3) == pytest.approx(math.sqrt(2))


@pytest.fixture(scope="module")
def studies_of_nothing():
    return list(null_simulation.simulate(24, (0.25, 0.25), 150, seed=0))


@pytest.mark.parametrize("seeds", null_simulation.SEEDS)
def test_two_equally_good_models_are_seldom_told_apart(seeds, studies_of_nothing):
    """In about 5 % of studies, at most."""
    found = [null_simulation.compared(s, seeds, "balanced_accuracy") for s in studies_of_nothing]
    assert as_often_as(0.045, sum(one.p < 0.05 for one in found), 150)


def test_flips_of_signs_tell_equally_good_models_apart_too_often(studies_of_nothing):
    """They know nothing of training."""
    flips = [null_simulation.sign_flip_p(s, "balanced_accuracy") for s in studies_of_nothing]
    assert not as_often_as(0.045, sum(np.array(flips) < 0.05), 150)
