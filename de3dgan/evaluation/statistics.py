"""What predictions say about groups (people, stimuli or trials) that nobody has tested yet.

Frames of a trial resemble each other, and so do trials of a person: 60 frames of one trial are
closer to one observation than to 60. Everything here therefore resamples whole groups, those that
the split's protocol keeps on one side.

Where the folds of a cross-validation are pooled, that is not enough: each fold is trained on what
the others test, so that groups are no longer independent of each other (Bates, Hastie and
Tibshirani 2024, Cross-Validation: What Does It Estimate and How Well Does It Do It?, JASA 119).
Every pair of groups then counts twice, once in either role, and intervals are widened by the square
root of two. What they are for is then the accuracy of the whole procedure, training included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from de3dgan.evaluation.metrics import METRICS, N_BINS, confidence_bins

#: Bootstrap draws of an interval.
N_DRAWS = 5000
#: How much wider intervals are when the folds of a cross-validation are pooled.
_POOLED_FOLDS = math.sqrt(2)
#: Random flips of a permutation test; all flips are tried where there are no more than these.
N_FLIPS = 10_000
_LOWER_IS_BETTER = ("ece",)
_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auc": "AUC",
    "mcc": "MCC",
    "kappa": "kappa",
    "ece": "calibration error",
}
_LEVEL = 0.05
_POWER = 0.8


@dataclass(frozen=True)
class Clusters:
    """One set of predictions, reduced per group to what every metric can be computed from.

    Attributes
    ----------
    groups : array, (n_groups,)
        Names of the groups, sorted.
    confusion : array of int, (n_groups, n_classes, n_classes)
        Counts, rows the true class, columns the predicted one.
    wins : array, (n_scores, n_groups, n_groups)
        Pairs of a frame of a class in group g (second axis) and a frame of another class in group
        h (third axis) of which the first has the higher probability of the class; ties count half.
        First axis: class 1 only if there are two classes, else every class.
    gaps : array, (n_groups, N_BINS)
        Right predictions less their summed confidence, per bin of confidence.
    """

    groups: np.ndarray
    confusion: np.ndarray
    wins: np.ndarray
    gaps: np.ndarray

    @classmethod
    def of(cls, groups: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> Clusters:
        """Reduce predictions.

        Parameters
        ----------
        groups : array, (n,)
            Group of each frame (or trial): numbers or names.
        labels : array of int, (n,)
            True classes.
        probabilities : array, (n, n_classes)
            Predicted probabilities; the prediction is the most probable class.
        """
        names, group = np.unique(groups, return_inverse=True)
        n_groups, n_classes = len(names), probabilities.shape[1]
        cell = np.ravel_multi_index(
            (group, labels, probabilities.argmax(1)), (n_groups, n_classes, n_classes)
        )
        counts = np.bincount(cell, minlength=n_groups * n_classes**2)
        confidence, bins = confidence_bins(probabilities)
        gaps = np.bincount(
            group * N_BINS + bins,
            weights=(probabilities.argmax(1) == labels) - confidence,
            minlength=n_groups * N_BINS,
        )
        return cls(
            groups=names,
            confusion=counts.reshape(n_groups, n_classes, n_classes),
            wins=np.stack(
                [
                    _concordant_pairs(group, n_groups, labels == c, probabilities[:, c])
                    for c in _scored_classes(n_classes)
                ]
            ),
            gaps=gaps.reshape(n_groups, N_BINS),
        )

    def metrics(self, weights: np.ndarray, names: Sequence[str] = METRICS) -> dict[str, np.ndarray]:
        """Return metrics as if each group occurred as often as it weighs, for many weightings.

        Parameters
        ----------
        weights : array, (n_draws, n_groups)
            At least 0.
        names : sequence of str
            Which of `METRICS`.

        Returns
        -------
        dict
            Per name an array (n_draws,), NaN where the metric is not defined. With weights 1 it
            holds what `metrics.scores` returns.
        """
        weights = np.asarray(weights, dtype=np.float64)
        counts = np.tensordot(weights, self.confusion, 1)
        out = _count_metrics(counts)
        if "auc" in names:
            out["auc"] = self._auc(weights, counts.sum(2))
        if "ece" in names:
            out["ece"] = _ratio(np.abs(weights @ self.gaps).sum(1), counts.sum((1, 2)), math.nan)
        return {name: out[name] for name in names}

    def _auc(self, weights: np.ndarray, support: np.ndarray) -> np.ndarray:
        """Return the AUC per draw, given the frames of each class, (n_draws, n_classes)."""
        wins = np.stack(
            [((weights @ of_class) * weights).sum(1) for of_class in self.concordant_pairs], 1
        )
        pairs = support * (support.sum(1, keepdims=True) - support)
        return _ratio(wins, pairs[:, _scored_classes(support.shape[1])], math.nan).mean(1)


@dataclass(frozen=True)
class Estimate:
    """A metric, or a difference of two, and its 95 % interval.

    Attributes
    ----------
    value : float
        Mean over seeds; NaN where the metric is not defined.
    low, high : float
        Ends of the interval; NaN with a single group, or where the metric is not defined for over
        half of the draws of groups.
    per_seed : tuple of float
        The value of each seed.
    """

    value: float
    low: float
    high: float
    per_seed: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """How two models differ in a metric, over the same groups.

    Attributes
    ----------
    metric : str
        One of `METRICS`.
    difference : Estimate
        The first model less the second.
    p : float
        Two-sided, for the null hypothesis that there is no difference; NaN where the metric is not
        defined without some group.
    smallest_detectable : float
        The smallest true difference, either way, that so many groups would show at p < 0.05 in
        80 % of studies.
    n_groups : int
        Groups compared.
    """

    metric: str
    difference: Estimate
    p: float
    smallest_detectable: float
    n_groups: int


def estimate(
    seeds: Sequence[Clusters], n_draws: int = N_DRAWS, pooled_folds: bool = False
) -> dict[str, Estimate]:
    """Return every metric of a model with its 95 % interval.

    Parameters
    ----------
    seeds : sequence of Clusters
        The model's predictions, one set per seed, of the same groups.
    n_draws : int
        Bootstrap draws.
    pooled_folds : bool
        The groups were tested in several folds of a cross-validation.

    Returns
    -------
    dict
        Per name of `METRICS` the mean over seeds, the interval of that mean, and the seeds' values.

    Raises
    ------
    ValueError
        If the seeds predict other groups or other labels.

    Notes
    -----
    The groups are drawn with replacement, jointly for all seeds, and the interval is Hesterberg's
    expanded percentile interval (2015, What Teachers Should Know About the Bootstrap, The American
    Statistician 69), which is as much wider as Student's t and the n - 1 degrees of freedom ask
    for. The draws are the same each time.

    In 1,500 simulated studies, each group with 2 trials of 6 correlated frames, intervals of the
    six metrics but ECE covered the truth in 95 % with 36 and with 12 groups, in 93-96 % with 8 and
    in 92-95 % with 6; with 5 it was 87-92 %, so that fewer than 6 are too few. An interval that
    takes frames for independent covered it in 79 %.

    With pooled folds, intervals of balanced accuracy covered that of the procedure in 95-98 % of
    600 simulated cross-validations of a linear model on 36 groups, at five sizes of the effect; not
    widened they would have in 87-94 %.

    The ECE of few frames is too high, and that of groups drawn from them higher still, so that the
    lower end of its interval mirrors the upper one, down to 0. It covered the truth in 98 % of the
    same studies, but an ECE of nearly 0 in 85-88 % only.
    """
    _check_same_groups(seeds)
    n_groups = len(seeds[0].groups)
    weights = _bootstrap_weights(n_groups, n_draws)
    once = [clusters.metrics(np.ones((1, n_groups))) for clusters in seeds]
    drawn = [clusters.metrics(weights) for clusters in seeds]
    out = {}
    for name in METRICS:
        per_seed = [float(of_seed[name][0]) for of_seed in once]
        draws = np.mean([of_seed[name] for of_seed in drawn], axis=0)
        out[name], _ = _estimate(per_seed, draws, n_groups, pooled_folds)
    ece = out["ece"]
    out["ece"] = replace(ece, low=float(np.maximum(2 * ece.value - ece.high, 0)))
    return out


def compare(
    a: Sequence[Clusters],
    b: Sequence[Clusters],
    metric: str,
    n_draws: int = N_DRAWS,
    pooled_folds: bool = False,
) -> Comparison:
    """Compare two models over the same groups.

    Parameters
    ----------
    a, b : sequence of Clusters
        Predictions of each model, one set per seed; a model without seeds is given as one set.
    metric : str
        One of `METRICS`.
    n_draws : int
        Bootstrap draws.
    pooled_folds : bool
        The groups were tested in several folds of a cross-validation.

    Raises
    ------
    ValueError
        If the groups or labels are not the same everywhere, or if both models have several seeds
        and not equally many.

    Notes
    -----
    The interval is the percentile interval of `estimate`, of the difference, with the groups drawn
    jointly for both models.

    p is that of a permutation test. If the models did not differ, each group would be as likely to
    favour one as the other. What a group contributes to the difference is its jackknife
    pseudo-value, ``n · difference - (n - 1) · difference without the group``; the signs of the
    contributions are flipped in random groups, or in every way where there are few. For accuracy
    and groups of one size this is the test that swaps the models' predictions in whole groups. For
    other metrics it is not: swapping would mix models of different leanings, and hardly ever tell
    a weak classifier from one that always predicts the majority.

    The ECE is too crooked for the jackknife; its p is that of a t test, the difference over its
    bootstrap standard error. Where one model is much better calibrated, the difference comes out
    too small, and its interval covers the truth in 78-90 % of studies.

    In 1,500 simulated studies without a difference, with 8 to 36 groups, p was below 0.05 in
    3-6 % (ECE: 2-4 %). With fewer than 6 groups a permutation test cannot go below 0.05.
    """
    n_seeds = max(len(a), len(b))
    a, b = ([*model] * n_seeds if len(model) == 1 else [*model] for model in (a, b))
    if len(a) != len(b):
        raise ValueError(f"one model has {len(a)} seeds and the other {len(b)}")
    _check_same_groups([*a, *b])
    n_groups = len(a[0].groups)

    def per_seed(weights: np.ndarray) -> np.ndarray:
        return np.stack(
            [
                x.metrics(weights, [metric])[metric] - y.metrics(weights, [metric])[metric]
                for x, y in zip(a, b, strict=True)
            ]
        )

    once = per_seed(np.ones((1, n_groups)))[:, 0].tolist()
    drawn = per_seed(_bootstrap_weights(n_groups, n_draws)).mean(0)
    difference, error = _estimate(once, drawn, n_groups, pooled_folds)
    if metric == "ece":
        p = _t_test(difference.value, error, n_groups)
    else:
        without_one = per_seed(1 - np.eye(n_groups)).mean(0)
        p = _flip_test(n_groups * difference.value - (n_groups - 1) * without_one)
    quantiles = stats.t.ppf([1 - _LEVEL / 2, _POWER], n_groups - 1)
    return Comparison(metric, difference, p, float(quantiles.sum() * error), n_groups)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p values adjusted for their number, by Holm's method.

    Rejecting those below 0.05 makes any false rejection happen in at most 5 % of studies.

    Parameters
    ----------
    p_values : sequence of float
        One per comparison.

    Returns
    -------
    array, (len(p_values),)
        In the same order.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return adjusted.clip(max=1)


def verdict(comparison: Comparison, p_adjusted: float) -> str:
    """Return "helped" or "hurt" (the first model against the second), or "no evidence".

    Helped or hurt only if the interval of the difference excludes 0 and the adjusted p is below
    0.05. A lower ECE is a better one; of every other metric a higher value is.
    """
    difference = comparison.difference
    if p_adjusted < _LEVEL and (difference.low > 0 or difference.high < 0):
        better = (difference.value > 0) != (comparison.metric in _LOWER_IS_BETTER)
        return "helped" if better else "hurt"
    return "no evidence"


def verdict_text(comparison: Comparison, p_adjusted: float) -> str:
    """Return the verdict in one or two sentences, with the figures that it rests on."""
    name = _NAMES[comparison.metric]
    difference, n_groups = comparison.difference, comparison.n_groups
    if math.isnan(difference.low):
        return f"No evidence: {n_groups} groups are too few for an interval of {name}."
    if comparison.metric in ("mcc", "kappa"):  # which are no percentages
        scale, digits, unit = 1, 3, ""
    else:
        scale, digits, unit = 100, 1, " percentage points"
    low, high = (f"{scale * end:+.{digits}f}" for end in (difference.low, difference.high))
    size = f"{scale * abs(difference.value):.{digits}f}{unit}"
    direction = "higher" if difference.value > 0 else "lower"
    p = "not defined" if math.isnan(p_adjusted) else f"= {p_adjusted:.3g}"
    figures = (
        f"{name} is {size} {direction} (95 % interval {low} to {high}, {n_groups} groups, "
        f"adjusted p {p})."
    )
    word = verdict(comparison, p_adjusted)
    if word != "no evidence":
        return f"{word.capitalize()}: {figures}"
    smallest = f"{scale * comparison.smallest_detectable:.{digits}f}{unit}"
    return (
        f"No evidence at this sample size: {figures} The smallest difference that so many groups "
        f"would show in 4 of 5 studies is {smallest}."
    )


def _scored_classes(n_classes: int) -> list[int]:
    """Return the classes whose AUCs are averaged."""
    return [1] if n_classes == 2 else list(range(n_classes))


def _concordant_pairs(
    group: np.ndarray, n_groups: int, positive: np.ndarray, score: np.ndarray
) -> np.ndarray:
    """Return one class's `Clusters.wins`, (n_groups, n_groups)."""
    order = np.flatnonzero(positive)
    order = order[np.argsort(score[order])]  # sorted, since that is searched for much faster
    wanted, group_of_wanted = score[order], group[order]
    out = np.zeros((n_groups, n_groups))
    for other in np.unique(group[~positive]):
        rivals = np.sort(score[~positive & (group == other)])
        twice = np.searchsorted(rivals, wanted) + np.searchsorted(rivals, wanted, side="right")
        out[:, other] = np.bincount(group_of_wanted, weights=twice / 2, minlength=n_groups)
    return out


def _count_metrics(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return the metrics that confusion matrices (n_draws, n_classes, n_classes) determine.

    As scikit-learn defines them: a class that does not occur has no recall, one that is not
    predicted either has no F1, and MCC and kappa are 0 where they would be 0/0.
    """
    right = np.diagonal(counts, axis1=1, axis2=2)
    support, predicted = counts.sum(2), counts.sum(1)
    n, n_right = support.sum(1), right.sum(1)
    recall = _ratio(right, support, 0)
    f1 = _ratio(2 * right, support + predicted, 0)
    by_chance = (support * predicted).sum(1)
    covariance = n * n_right - by_chance
    variances = (n**2 - (support**2).sum(1)) * (n**2 - (predicted**2).sum(1))
    return {
        "accuracy": _ratio(n_right, n, math.nan),
        "balanced_accuracy": _ratio(recall.sum(1), (support > 0).sum(1), math.nan),
        "macro_f1": _ratio(f1.sum(1), (support + predicted > 0).sum(1), math.nan),
        "mcc": _ratio(covariance, np.sqrt(variances), 0),
        "kappa": _ratio(covariance, n**2 - by_chance, 0),
    }


def _ratio(a: np.ndarray, b: np.ndarray, undefined: float) -> np.ndarray:
    """Return a / b, and `undefined` where b is 0."""
    return np.divide(a, b, out=np.full(b.shape, float(undefined)), where=b != 0)


def _check_same_groups(sets: Sequence[Clusters]) -> None:
    """Raise ValueError unless all have the same groups, with equally many frames of each class."""
    for other in sets[1:]:
        if not np.array_equal(sets[0].groups, other.groups):
            raise ValueError("the sets of predictions are not of the same groups")
        if not np.array_equal(sets[0].confusion.sum(2), other.confusion.sum(2)):
            raise ValueError("the sets of predictions are not of the same labels")


def _bootstrap_weights(n_groups: int, n_draws: int) -> np.ndarray:
    """Return how often each group is drawn, (n_draws, n_groups)."""
    drawn = np.random.default_rng(0).integers(n_groups, size=(n_draws, n_groups))
    cell = np.arange(n_draws)[:, None] * n_groups + drawn
    return np.bincount(cell.ravel(), minlength=n_draws * n_groups).reshape(n_draws, n_groups)


def _estimate(
    per_seed: Sequence[float], draws: np.ndarray, n_groups: int, pooled_folds: bool
) -> tuple[Estimate, float]:
    """Return the mean over seeds with its interval, and its standard error."""
    value = float(np.mean(per_seed))
    defined = draws[~np.isnan(draws)]
    if n_groups < 2 or 2 * len(defined) < len(draws):
        return Estimate(value, math.nan, math.nan, tuple(per_seed)), math.nan
    expansion = math.sqrt(n_groups / (n_groups - 1)) * (_POOLED_FOLDS if pooled_folds else 1)
    tail = stats.norm.cdf(expansion * stats.t.ppf(_LEVEL / 2, n_groups - 1))
    low, high = np.quantile(defined, [tail, 1 - tail])
    return (
        Estimate(value, float(low), float(high), tuple(per_seed)),
        float(expansion * defined.std()),
    )


def _t_test(difference: float, error: float, n_groups: int) -> float:
    """Return the two-sided p of a difference with this standard error."""
    if difference == 0:
        return 1.0
    return float(2 * stats.t.sf(abs(difference) / error, n_groups - 1)) if error else 0.0


def _flip_test(contributions: np.ndarray) -> float:
    """Return the two-sided p that the mean of groups' contributions (n_groups,) is 0."""
    if np.isnan(contributions).any():
        return math.nan
    n_groups = len(contributions)
    every_flip = 2**n_groups <= N_FLIPS
    if every_flip:
        flips = np.arange(2**n_groups)[:, None] >> np.arange(n_groups) & 1
    else:
        flips = np.random.default_rng(0).integers(0, 2, (N_FLIPS, n_groups), dtype=np.int8)
    sums = (1 - 2 * flips) @ contributions
    found = contributions.sum()
    # Without the slack, rounding would tell equal sums apart.
    extreme = int((np.abs(sums) >= abs(found) * (1 - 1e-9)).sum())
    # What was found is one of the sums possible: all flips have it, random ones need not.
    return extreme / len(sums) if every_flip else (extreme + 1) / (len(sums) + 1)
