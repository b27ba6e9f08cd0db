"""Confidence intervals and tests for new groups: people, stimuli or trials not in the data.

Frames of a trial are correlated, and so are trials of a person: 60 frames of one trial are closer
to one observation than to 60. So groups are the unit: those that the split's protocol keeps on one
side.

Pooling the folds of a cross-validation adds another dependence: each fold is trained on what the
others are tested on (Bates, Hastie and Tibshirani 2024, Cross-Validation: What Does It Estimate and
How Well Does It Do It?, JASA 119; Nadeau and Bengio 2003, Inference for the Generalization Error,
Machine Learning 52). What group i gets from having group j in its training set, and j from i, are
two places where one pair of groups counts. Were that all that makes groups differ, as it is at
chance, the variance of a pooled figure would be twice that among groups. If groups are easy or
hard whoever is trained on, it is once. See `_widening` for what is in between.

So intervals and p values of pooled folds are for the whole procedure, training included; those of a
single fold are for the models as trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from de3dgan.base.recipe import N_FOLDS
from de3dgan.evaluation.metrics import METRICS, Clusters

#: Bootstrap draws of an interval.
N_DRAWS = 5000
#: How much wider intervals of pooled folds are at most, see `_widening`.
POOLED_FOLDS = math.sqrt(2)
#: A difference that nobody would change a method for: one percentage point of a share, 0.01 of a
#: correlation. Stated before the study of benchmarks/RESULTS.md was made, after earlier ones.
MARGIN = 0.01
_LOWER_IS_BETTER = ("ece",)
_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auc": "AUC",
    "within_auc": "within-person AUC",
    "mcc": "MCC",
    "kappa": "kappa",
    "ece": "calibration error",
}
_LEVEL = 0.05
_POWER = 0.8

#: The seed that drew the folds, and that of training; None for a model that has none.
Seeds = tuple[int, int | None]
#: A model's predictions of the same groups: by the pair of seeds, or, where all are of the same
#: folds, one after the other.
Sets = Mapping[Seeds, Clusters] | Sequence[Clusters]


@dataclass(frozen=True)
class Estimate:
    """A metric, or a difference of two, and its 95 % interval.

    Attributes
    ----------
    value : float
        Mean over the seeds of the folds, of means over the seeds of training; NaN where the metric
        is not defined.
    low, high : float
        Ends of the interval; NaN with a single group, or where the metric is not defined for over
        half of the draws of groups.
    per_seed : dict of (int, int or None) to float
        The value of each pair of seeds, that of the folds first.
    """

    value: float
    low: float
    high: float
    per_seed: Mapping[Seeds, float]

    @property
    def per_fold_seed(self) -> dict[int, float]:
        """The mean over seeds of training, per seed of the folds."""
        return {
            fold: float(np.mean([value for (f, _), value in self.per_seed.items() if f == fold]))
            for fold in dict.fromkeys(fold for fold, _ in self.per_seed)
        }

    @property
    def training_spread(self) -> float:
        """Standard deviation over seeds of training, within seeds of the folds; NaN if of one."""
        means = self.per_fold_seed
        freedom = len(self.per_seed) - len(means)
        squares = sum((value - means[fold]) ** 2 for (fold, _), value in self.per_seed.items())
        return math.sqrt(squares / freedom) if freedom else math.nan


@dataclass(frozen=True)
class Comparison:
    """How two models differ in a metric, over the same groups.

    Attributes
    ----------
    metric : str
        One of `METRICS`.
    difference : Estimate
        The first model less the second, with the interval ``value ± t · error``.
    error : float
        Standard error of the difference; NaN with a single group, or where the metric is not
        defined without some group.
    p : float
        Two-sided, for the null hypothesis that there is no difference, of the same error: it is
        below 0.05 if and only if the interval excludes 0. NaN where the error is.
    n_groups : int
        Groups compared; t has one degree of freedom less.
    """

    metric: str
    difference: Estimate
    error: float
    p: float
    n_groups: int

    def _t(self, quantile: float) -> float:
        return float(stats.t.ppf(quantile, self.n_groups - 1))

    @property
    def smallest_detectable(self) -> float:
        """The smallest true difference, either way, that 80 % of such studies show at p < 0.05."""
        return (self._t(1 - _LEVEL / 2) + self._t(_POWER)) * self.error

    @property
    def excluded_gain(self) -> float:
        """A gain of the first model above this is excluded: the better end of the interval."""
        lower = self.metric in _LOWER_IS_BETTER
        return -self.difference.low if lower else self.difference.high

    @property
    def equivalent(self) -> bool:
        """Whether the 90 % interval lies within `MARGIN` of 0.

        These are two one-sided tests at 0.05 (Schuirmann 1987, A Comparison of the Two One-Sided
        Tests Procedure and the Power Approach, J. Pharmacokinetics and Biopharmaceutics 15).
        """
        return abs(self.difference.value) + self._t(1 - _LEVEL) * self.error < MARGIN


def estimate(sets: Sets, n_draws: int = N_DRAWS, pooled_folds: bool = False) -> dict[str, Estimate]:
    """Return every metric of a model with its 95 % interval.

    Parameters
    ----------
    sets : mapping of (int, int or None) to Clusters, or sequence of Clusters
        The model's predictions, of the same groups, by the seed of the folds and the seed of
        training; a sequence is of the same folds.
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
    The groups are drawn with replacement, jointly for all seeds. The interval is Hesterberg's
    expanded percentile interval (2015, What Teachers Should Know About the Bootstrap, The American
    Statistician 69): wider, as Student's t with n - 1 degrees of freedom is wider than the normal
    distribution, and by `_widening`. The draws are the same each time.

    In 1,500 simulated studies, each group with 2 trials of 6 correlated frames, intervals of all
    metrics but ECE covered the truth in 95 % with 36 and with 12 groups, in 93-96 % with 8 and in
    92-95 % with 6. With 5 groups it was 87-92 %: fewer than 6 are too few. An interval that takes
    frames for independent covered it in 79 %. For pooled folds, benchmarks/NULL_SIMULATION.md has
    the coverage.

    The ECE of few frames is too high, and in bootstrap draws it is higher still. The lower end of
    its interval is therefore as far from the value as the upper end, but not below 0. It covered
    the truth in 98 % of the same studies, but an ECE of nearly 0 in 85-88 % only.
    """
    models = _by_seeds(sets)
    _check_same_groups([*models.values()])
    n_groups = len(next(iter(models.values())).groups)
    once, draws, without_one = (
        {seeds: model.metrics(weights, names) for seeds, model in models.items()}
        for weights, names in (
            (np.ones((1, n_groups)), METRICS),
            (bootstrap_weights(n_groups, n_draws), METRICS),
            (1 - np.eye(n_groups), ["auc"]),
        )
    )
    aucs = {seeds: values["auc"] for seeds, values in without_one.items()}
    widening = _widening(aucs) if pooled_folds else 1.0
    out = {}
    for name in METRICS:
        per_seed = {seeds: float(values[name][0]) for seeds, values in once.items()}
        low = high = math.nan
        drawn = _mean({seeds: values[name] for seeds, values in draws.items()})
        defined = drawn[~np.isnan(drawn)]
        if n_groups > 1 and 2 * len(defined) >= len(drawn):
            tail = interval_tail(n_groups, widening)
            low, high = np.quantile(defined, [tail, 1 - tail]).tolist()
        out[name] = Estimate(float(_mean(per_seed)), low, high, per_seed)
    ece = out["ece"]
    out["ece"] = replace(ece, low=float(np.maximum(2 * ece.value - ece.high, 0)))
    return out


def compare(
    a: Sets, b: Sets, metric: str, n_draws: int = N_DRAWS, pooled_folds: bool = False
) -> Comparison:
    """Compare two models over the same groups.

    Parameters
    ----------
    a, b : mapping of (int, int or None) to Clusters, or sequence of Clusters
        Predictions of each model, see `estimate`. A model that has a single set of some folds is
        compared by it with each of the other's.
    metric : str
        One of `METRICS`.
    n_draws : int
        Bootstrap draws, for the ECE.
    pooled_folds : bool
        The groups were tested in several folds of a cross-validation.

    Raises
    ------
    ValueError
        If the groups, the labels or the seeds of the folds are not the same everywhere, or if both
        models have several seeds of training and not the same.

    Notes
    -----
    Interval and p are Student's, with one degree of freedom less than groups, of one standard
    error. What a group contributes to the difference is its jackknife pseudo-value, ``n ·
    difference - (n - 1) · difference without the group``; for accuracy and groups of one size that
    is the group's own difference. The error is the standard deviation of the contributions (means
    over the seeds) over the square root of n, times `_widening` if folds are pooled.

    The ECE is not smooth enough for the jackknife: its error is that of the bootstrap. Where one
    model is much better calibrated, the difference comes out too small, and its interval covers the
    truth in 78-90 % of studies.

    benchmarks/NULL_SIMULATION.md has how often p is below 0.05 and 0.05/7 where two models are
    equally good, the coverage of the intervals, and the power.
    """
    pairs = _paired(_by_seeds(a), _by_seeds(b))
    _check_same_groups([model for pair in pairs.values() for model in pair])
    n_groups = len(next(iter(pairs.values()))[0].groups)

    def differences(name: str, weights: np.ndarray) -> dict[Seeds, np.ndarray]:
        one = [name]
        return {
            seeds: x.metrics(weights, one)[name] - y.metrics(weights, one)[name]
            for seeds, (x, y) in pairs.items()
        }

    once = differences(metric, np.ones((1, n_groups)))
    per_seed = {seeds: float(value[0]) for seeds, value in once.items()}
    value, error = float(_mean(per_seed)), math.nan
    if n_groups > 1:
        without_one = 1 - np.eye(n_groups)
        if metric == "ece":
            drawn = _mean(differences(metric, bootstrap_weights(n_groups, n_draws)))
            error = math.sqrt(n_groups / (n_groups - 1)) * float(drawn.std())
        else:
            left = _mean(differences(metric, without_one))
            error = float((n_groups - 1) * left.std(ddof=1) / math.sqrt(n_groups))
        if pooled_folds:
            error *= _widening(differences("auc", without_one))
    if (
        error == 0 and value != 0
    ):  # the same in all groups by chance: how far it may move is unknown
        error = math.nan
    half = error * stats.t.ppf(1 - _LEVEL / 2, n_groups - 1)
    p = 1.0 if value == 0 else 2 * stats.t.sf(np.divide(abs(value), error), n_groups - 1)
    if math.isnan(error):
        p = math.nan
    difference = Estimate(value, float(value - half), float(value + half), per_seed)
    return Comparison(metric, difference, error, float(p), n_groups)


def over_folds(
    intervals: Sequence[tuple[float, float | None, float | None]], n_seeds: int
) -> tuple[float, float, float]:
    """Return the mean over folds of a share, and its 95 % interval, from those of the folds.

    Folds of one seed test other groups: the error of their mean is that of a mean of independent
    ones, made wider as everywhere where folds train on what others test. Another seed of the folds
    tests the same groups again, and makes it no narrower.

    Parameters
    ----------
    intervals : sequence of (float, float, float)
        The share and the ends of its interval in each fold; ends are None where there is none.
    n_seeds : int
        How many seeds have drawn the folds.

    Returns
    -------
    value, low, high : float
        The ends are NaN if some fold has none.
    """
    values, lows, highs = np.array(intervals, dtype=np.float64).T
    n, value = len(values), float(values.mean())
    widen = math.sqrt(n_seeds) * (POOLED_FOLDS if n > n_seeds else 1)
    below, above = (widen * float(np.linalg.norm(values - ends)) / n for ends in (lows, highs))
    return value, max(value - below, 0.0), min(value + above, 1.0)


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
    """Return "helped" or "hurt" (the first model against the second), "equivalent", "no evidence".

    Helped or hurt only if the interval of the difference excludes 0 and the adjusted p is below
    0.05. A lower ECE is a better one; of every other metric a higher value is. Equivalent if it is
    neither, and `Comparison.equivalent`.
    """
    difference = comparison.difference
    if p_adjusted < _LEVEL and (difference.low > 0 or difference.high < 0):
        better = (difference.value > 0) != (comparison.metric in _LOWER_IS_BETTER)
        return "helped" if better else "hurt"
    return "equivalent" if comparison.equivalent else "no evidence"


def verdict_text(comparison: Comparison, p_adjusted: float) -> str:
    """Return the verdict in a few sentences, with the figures that it rests on."""
    name = _NAMES[comparison.metric]
    difference, n_groups = comparison.difference, comparison.n_groups
    if math.isnan(difference.low):
        return f"No evidence: {n_groups} groups are too few for an interval of {name}."
    if comparison.metric in ("mcc", "kappa"):  # which are no percentages
        scale, digits, unit, margin = 1, 3, "", f"{MARGIN:g}"
    else:
        scale, digits, unit = 100, 1, " percentage points"
        margin = f"{100 * MARGIN:g} percentage point"

    def size(value: float) -> str:
        return f"{scale * value:.{digits}f}{unit}"

    low, high = (f"{scale * end:+.{digits}f}" for end in (difference.low, difference.high))
    direction = "higher" if difference.value > 0 else "lower"
    figures = (
        f"{name} is {size(abs(difference.value))} {direction} (95 % interval {low} to {high}, "
        f"{n_groups} groups, adjusted p = {p_adjusted:.3g})."
    )
    word = verdict(comparison, p_adjusted)
    if word in ("helped", "hurt"):
        within = f" By less than {margin}, though." if comparison.equivalent else ""
        return f"{word.capitalize()}: {figures}{within}"
    excluded = f"A gain above {size(max(comparison.excluded_gain, 0))} is excluded."
    if word == "equivalent":
        return f"Equivalent within {margin}: {figures} {excluded}"
    return (
        f"No evidence at this sample size: {figures} {excluded} The smallest difference that so "
        f"many groups would show in 4 of 5 studies is {size(comparison.smallest_detectable)}."
    )


def _check_same_groups(sets: Sequence[Clusters]) -> None:
    """Raise ValueError unless all have the same groups, with equally many frames of each class."""
    for other in sets[1:]:
        if not np.array_equal(sets[0].groups, other.groups):
            raise ValueError("the sets of predictions are not of the same groups")
        if not np.array_equal(sets[0].confusion.sum(2), other.confusion.sum(2)):
            raise ValueError("the sets of predictions are not of the same labels")


def bootstrap_weights(n_groups: int, n_draws: int) -> np.ndarray:
    """Return how often each group is drawn, (n_draws, n_groups)."""
    drawn = np.random.default_rng(0).integers(n_groups, size=(n_draws, n_groups))
    cell = np.arange(n_draws)[:, None] * n_groups + drawn
    return np.bincount(cell.ravel(), minlength=n_draws * n_groups).reshape(n_draws, n_groups)


def interval_tail(n_groups: int, widening: float) -> float:
    """Return the share of bootstrap draws that lie below a 95 % interval, see `estimate`."""
    wider = widening * math.sqrt(n_groups / (n_groups - 1))
    return float(stats.norm.cdf(wider * stats.t.ppf(_LEVEL / 2, n_groups - 1)))


def _by_seeds(sets: Sets) -> dict[Seeds, Clusters]:
    """Return predictions by pairs of seeds."""
    return dict(sets) if isinstance(sets, Mapping) else {(0, i): x for i, x in enumerate(sets)}


def _paired(
    a: Mapping[Seeds, Clusters], b: Mapping[Seeds, Clusters]
) -> dict[Seeds, tuple[Clusters, Clusters]]:
    """Return what is compared with what; a single set of some folds, with each of the other's."""

    def folds(model: Mapping[Seeds, Clusters]) -> dict[int, dict[int | None, Clusters]]:
        out: dict[int, dict[int | None, Clusters]] = {}
        for (fold, seed), clusters in model.items():
            out.setdefault(fold, {})[seed] = clusters
        return out

    ours, theirs, pairs = folds(a), folds(b), {}
    if set(ours) != set(theirs):
        raise ValueError(f"the seeds of folds are {sorted(ours)} and {sorted(theirs)}")
    for fold, x in ours.items():
        y = theirs[fold]
        if len(x) > 1 and len(y) > 1 and set(x) != set(y):
            raise ValueError(f"the seeds of training are {sorted(x)} and {sorted(y)}")
        for seed in x if len(x) > 1 else y:
            first, second = (
                sets[seed] if len(sets) > 1 else [*sets.values()][0] for sets in (x, y)
            )
            pairs[fold, seed] = (first, second)
    return pairs


def _mean(values: Mapping[Seeds, np.ndarray | float]) -> np.ndarray:
    """Return the mean over seeds of the folds of means over seeds of training."""
    per_fold: dict[int, list] = {}
    for (fold, _), value in values.items():
        per_fold.setdefault(fold, []).append(value)
    return np.mean([np.mean(of_training, axis=0) for of_training in per_fold.values()], axis=0)


def _widening(without_one: Mapping[Seeds, np.ndarray]) -> float:
    """Return by how much training makes errors of pooled folds wider.

    Parameters
    ----------
    without_one : mapping of (int, int or None) to array, (n_groups,)
        By seeds, the AUC (or its difference) without each group.

    Returns
    -------
    float
        From 1 to the square root of 2.

    Notes
    -----
    How a group fares depends in part on itself, and in part on who is trained on. Folds drawn by
    two seeds train on sets that share four fifths. If the groups' contributions to the AUC
    correlate by r between such sets, the part that is due to training is about (1 - r) / (1 / 5),
    as it would be all gone with sets that share nobody. This part of the variance counts twice
    (see the module), so that the error grows by the square root of one more than it. The AUC tells
    it for the other metrics as well, since it moves with every probability, where a class changes
    at 0.5 only. Of several seeds of training the mean is taken first; what chance is left in it
    counts as training, so that the error is rather too wide. With a single seed of the folds the
    part is not known, and taken to be all: intervals of 95 % then cover the truth more often, where
    models are strong.
    """
    folds = np.array([fold for fold, _ in without_one])
    values = np.array([*without_one.values()])
    means = np.stack([values[folds == fold].mean(0) for fold in np.unique(folds)])
    centred = means - means.mean(1, keepdims=True)
    products = centred @ centred.T
    n, variance = len(means), np.diagonal(products).mean()
    if n == 1 or not variance > 0:  # a single seed of the folds, or not defined
        return POOLED_FOLDS
    agreeing = (products.sum() / n - variance) / (n - 1)
    part = (variance - agreeing) / variance * N_FOLDS
    return math.sqrt(1 + min(max(part, 0.0), 1.0))
