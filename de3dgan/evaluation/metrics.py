"""How good predictions are, per one-second frame and per trial: every metric, in one place.

All metrics are computed from a few sums per group of frames, which `Clusters` holds. A metric of
all predictions counts each group once; a bootstrap draw counts it as often as it was drawn. So
`scores` and the intervals of `de3dgan.evaluation.statistics` cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from de3dgan.base.errors import UserError

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auc", "within_auc", "mcc", "kappa", "ece")
#: What is not defined where a class is lacking that others have.
_OF_EVERY_CLASS = ("balanced_accuracy", "macro_f1", "mcc", "kappa")
#: Equally wide bins of confidence that calibration is measured in.
N_BINS = 10


@dataclass(frozen=True)
class Clusters:
    """Predictions, summed per group to what every metric can be computed from.

    Attributes
    ----------
    groups : array, (n_groups,)
        Names of the groups, sorted.
    confusion : array of int, (n_groups, n_classes, n_classes)
        Counts, rows the true class, columns the predicted one.
    concordant_pairs : array, (n_scores, n_groups, n_groups)
        For the AUC of a class: pairs of a frame of the class in group g (second axis) and a frame
        of another class in group h (third axis) of which the first has the higher probability of
        the class; ties count half. First axis: class 1 if there are two classes, else every class.
    pairs_within : array, (2, n_scores, n_groups, n_groups)
        Of the pairs that are of one person: those that `concordant_pairs` counts, and all.
    gaps : array, (n_groups, N_BINS)
        Correct predictions minus their summed confidence, per bin of confidence.
    """

    groups: np.ndarray
    confusion: np.ndarray
    concordant_pairs: np.ndarray
    pairs_within: np.ndarray
    gaps: np.ndarray

    @classmethod
    def of(
        cls,
        groups: np.ndarray,
        labels: np.ndarray,
        probabilities: np.ndarray,
        persons: np.ndarray | None = None,
    ) -> Clusters:
        """Sum predictions per group.

        Parameters
        ----------
        groups : array, (n,)
            Group of each frame (or trial): numbers or names.
        labels : array of int, (n,)
            True classes.
        probabilities : array, (n, n_classes)
            Predicted probabilities; the prediction is the most probable class.
        persons : array, (n,), optional
            Person of each frame (or trial); without them ``within_auc`` is not defined.
        """
        names, group = np.unique(groups, return_inverse=True)
        n_groups, n_classes = len(names), probabilities.shape[1]
        predicted = probabilities.argmax(1)
        confidence, bins = confidence_bins(probabilities)
        gaps = np.bincount(
            group * N_BINS + bins,
            weights=(predicted == labels) - confidence,
            minlength=n_groups * N_BINS,
        )
        return cls(
            groups=names,
            confusion=_counts((n_groups, n_classes, n_classes), group, labels, predicted),
            concordant_pairs=np.stack(
                [
                    _concordant_pairs(group, n_groups, labels == c, probabilities[:, c])
                    for c in _scored_classes(n_classes)
                ]
            ),
            pairs_within=_pairs_within(group, n_groups, labels, probabilities, persons),
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
            Per name an array (n_draws,), NaN where the metric is not defined: with a class lacking
            that occurs in some group, only ``accuracy`` and ``ece`` are.
        """
        weights = np.asarray(weights, dtype=np.float64)
        counts = np.tensordot(weights, self.confusion, 1)
        out = confusion_metrics(counts)
        support, occurs = counts.sum(2), self.confusion.sum((0, 2)) > 0
        lacking = (support[:, occurs] == 0).any(1)
        for name in _OF_EVERY_CLASS:
            out[name][lacking] = math.nan
        if "auc" in names:
            out["auc"] = self._auc(weights, support)
        if "within_auc" in names:
            out["within_auc"] = self._within_auc(weights)
        if "ece" in names:
            out["ece"] = _ratio(np.abs(weights @ self.gaps).sum(1), counts.sum((1, 2)), math.nan)
        return {name: out[name] for name in names}

    def _auc(self, weights: np.ndarray, support: np.ndarray) -> np.ndarray:
        """Return the AUC per draw, given the frames of each class, (n_draws, n_classes)."""
        concordant = [((weights @ pairs) * weights).sum(1) for pairs in self.concordant_pairs]
        all_pairs = support * (support.sum(1, keepdims=True) - support)
        all_pairs = all_pairs[:, _scored_classes(support.shape[1])]
        return _ratio(np.stack(concordant, 1), all_pairs, math.nan).mean(1)

    def _within_auc(self, weights: np.ndarray) -> np.ndarray:
        """Return the AUC over pairs of one person, per draw.

        A group that is drawn twice is two groups, whose members are not each other's pairs.
        """
        if not self.pairs_within.any():
            return np.full(len(weights), math.nan)
        concordant, every = (
            np.stack(
                [
                    ((weights @ (pairs - np.diag(own))) * weights).sum(1) + weights @ own
                    for pairs, own in zip(of, np.diagonal(of, axis1=1, axis2=2), strict=True)
                ],
                axis=1,
            )
            for of in self.pairs_within
        )
        return _ratio(concordant, every, math.nan).mean(1)


def confusion_metrics(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return the metrics that confusion matrices determine.

    They are defined as in scikit-learn: a class that does not occur has no recall, and one that is
    not predicted either has no F1. MCC and kappa are 0 where they would be 0/0, as with a single
    class, true and predicted: there is no agreement beyond chance.

    Parameters
    ----------
    counts : array, (n_draws, n_classes, n_classes)
        Rows the true class, columns the predicted one.

    Returns
    -------
    dict
        Arrays (n_draws,) of all `METRICS` but ``auc`` and ``ece``; NaN without predictions.
    """
    correct = np.diagonal(counts, axis1=1, axis2=2)
    support, predicted = counts.sum(2), counts.sum(1)
    n, n_correct = support.sum(1), correct.sum(1)
    recall = _ratio(correct, support, 0)
    f1 = _ratio(2 * correct, support + predicted, 0)
    covariance = n * n_correct - (support * predicted).sum(1)
    variances = (n**2 - (support**2).sum(1)) * (n**2 - (predicted**2).sum(1))
    by_chance = _ratio(support[:, :, None] * predicted[:, None], n[:, None, None], 0)
    off_diagonal = 1 - np.eye(counts.shape[1])
    disagreement, disagreement_by_chance = (
        (matrix * off_diagonal).sum((1, 2)) for matrix in (counts, by_chance)
    )
    return {
        "accuracy": _ratio(n_correct, n, math.nan),
        "balanced_accuracy": _ratio(recall.sum(1), (support > 0).sum(1), math.nan),
        "macro_f1": _ratio(f1.sum(1), (support + predicted > 0).sum(1), math.nan),
        "mcc": _ratio(covariance, np.sqrt(variances), 0),
        "kappa": 1 - _ratio(disagreement, disagreement_by_chance, 1),
    }


def scores(
    labels: np.ndarray, probabilities: np.ndarray, persons: np.ndarray | None = None
) -> dict[str, float | None]:
    """Return the metrics of one set of predictions.

    Parameters
    ----------
    labels : array of int, (n,)
        True classes.
    probabilities : array, (n, n_classes)
        Predicted probabilities; the prediction is the most probable class.
    persons : array, (n,), optional
        Person of each prediction.

    Returns
    -------
    dict
        Keys `METRICS`. ``auc`` is that of class 1 for two classes and the macro mean of
        one-vs-rest for more; None where a class does not occur, as it is not defined then.
        ``within_auc`` is that over pairs of predictions of one person, all persons' pairs together:
        who someone is cannot raise it. None where no person has both kinds, or without `persons`.
        ``ece`` is the expected calibration error: the mean of ``|accuracy - confidence|`` over the
        bins of `reliability`, each weighted by its predictions (Guo et al. 2017, On Calibration of
        Modern Neural Networks, ICML); it alone is better when lower. All but the AUCs are
        finite: with a single class, balanced accuracy is the share of it that is recognised.

    Raises
    ------
    UserError
        If a probability is not a number from 0 to 1.
    """
    wrong = np.flatnonzero(~((probabilities >= 0) & (probabilities <= 1)).all(1))
    if len(wrong):
        raise UserError(
            f"The probabilities of prediction {wrong[0]} are {probabilities[wrong[0]].tolist()}, "
            "and must be from 0 to 1: begin anew with a lower learning rate and --restart."
        )
    one_group = np.zeros(len(labels), int)
    values = Clusters.of(one_group, labels, probabilities, persons).metrics(np.ones((1, 1)))
    scores = {name: float(value[0]) for name, value in values.items()}
    return {name: None if math.isnan(value) else value for name, value in scores.items()}


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean, over the classes that occur in `labels`, of the share that is recognised."""
    labels, predicted = labels.astype(int), predicted.astype(int)
    n_classes = 1 + max(labels.max(), predicted.max())
    counts = _counts((1, n_classes, n_classes), np.zeros(len(labels), int), labels, predicted)
    return float(confusion_metrics(counts)["balanced_accuracy"][0])


def balanced_accuracy_of_each(
    groups: np.ndarray, labels: np.ndarray, predicted: np.ndarray, n_classes: int
) -> np.ndarray:
    """Return `balanced_accuracy` of each group, (n_groups,), in the order of their names."""
    names, group = np.unique(groups, return_inverse=True)
    counts = _counts((len(names), n_classes, n_classes), group, labels, predicted)
    return confusion_metrics(counts)["balanced_accuracy"]


def confusion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return counts (n_classes, n_classes), rows the true class, columns the predicted one."""
    n_classes = probabilities.shape[1]
    return _counts((n_classes, n_classes), labels, probabilities.argmax(1))


def confidence_bins(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how confident each prediction is, and the bin of confidence it belongs to.

    Parameters
    ----------
    probabilities : array, (n, n_classes)
        Predicted probabilities.

    Returns
    -------
    confidence : array, (n,)
        Probability of the most probable class.
    bins : array of int, (n,)
        0 to `N_BINS` - 1; bin b holds b/`N_BINS` < confidence <= (b + 1)/`N_BINS`.
    """
    confidence = probabilities.max(1).astype(np.float64)
    edges = np.arange(1, N_BINS) / N_BINS
    return confidence, np.searchsorted(edges, confidence)


def reliability(
    labels: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the reliability curve: how often predictions of each confidence are correct.

    Parameters
    ----------
    labels : array of int, (n,)
        True classes.
    probabilities : array, (n, n_classes)
        Predicted probabilities.

    Returns
    -------
    confidence, accuracy : array, (N_BINS,)
        Means over the predictions of each bin of confidence; NaN for an empty bin. Where the two
        are equal, the probabilities mean what they say.
    counts : array of int, (N_BINS,)
        Predictions per bin.
    """
    confidence, bins = confidence_bins(probabilities)
    correct = probabilities.argmax(1) == labels
    counts = np.bincount(bins, minlength=N_BINS)
    means = [
        _ratio(np.bincount(bins, weights=values, minlength=N_BINS), counts, math.nan)
        for values in (confidence, correct)
    ]
    return *means, counts


def by_trial(
    trials: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    sharpness: float | np.ndarray = 1.0,
) -> tuple:
    """Average the predictions of each trial's frames.

    Parameters
    ----------
    trials, labels : array, (n,)
        Trial and class of each frame.
    probabilities : array, (n, n_classes)
        Of each frame.
    sharpness : float or array, (n,)
        Exponent of a trial's probabilities. The mean of frames that agree is less sure than it may
        be; which class is the most probable does not change.

    Returns
    -------
    labels : array of int, (n_trials,)
    probabilities : array, (n_trials, n_classes)
        Mean over the trial's frames, to the power of `sharpness`, and scaled to add up to 1.
    """
    _, first, inverse, counts = np.unique(
        trials, return_index=True, return_inverse=True, return_counts=True
    )
    sums = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(sums, inverse, probabilities)
    means = sums / counts[:, None]
    exponents = np.broadcast_to(sharpness, len(trials))[first][:, None]
    sharp = np.where(exponents == 1, means, means**exponents)
    return labels[first], np.where(exponents == 1, means, sharp / sharp.sum(1, keepdims=True))


def frame_and_trial(
    trials: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    persons: np.ndarray | None = None,
    sharpness: float | np.ndarray = 1.0,
) -> dict[str, dict[str, float | None]]:
    """Return ``{"frame": scores per frame, "trial": scores per trial}``.

    Parameters
    ----------
    trials, labels : array, (n,)
        Trial and class of each frame.
    probabilities : array, (n, n_classes)
        Of each frame.
    persons : array, (n,), optional
        Person of each frame.
    sharpness : float or array, (n,)
        See `by_trial`.
    """
    of_trials = None if persons is None else persons[np.unique(trials, return_index=True)[1]]
    return {
        "frame": scores(labels, probabilities, persons),
        "trial": scores(*by_trial(trials, labels, probabilities, sharpness), of_trials),
    }


def _counts(shape: tuple[int, ...], *indices: np.ndarray) -> np.ndarray:
    """Return how often each combination of `indices`, one array per axis of `shape`, occurs."""
    cells = np.ravel_multi_index(indices, shape)
    return np.bincount(cells, minlength=math.prod(shape)).reshape(shape)


def _scored_classes(n_classes: int) -> list[int]:
    """Return the classes whose AUCs are averaged."""
    return [1] if n_classes == 2 else list(range(n_classes))


def _concordant_pairs(
    group: np.ndarray, n_groups: int, positive: np.ndarray, score: np.ndarray
) -> np.ndarray:
    """Return one class's `Clusters.concordant_pairs`, (n_groups, n_groups)."""
    order = np.flatnonzero(positive)
    order = order[np.argsort(score[order])]  # sorted, since that is searched for much faster
    positive_scores, positive_groups = score[order], group[order]
    out = np.zeros((n_groups, n_groups))
    for other in np.unique(group[~positive]):
        negatives = np.sort(score[~positive & (group == other)])
        twice = sum(np.searchsorted(negatives, positive_scores, side) for side in ("left", "right"))
        out[:, other] = np.bincount(positive_groups, weights=twice / 2, minlength=n_groups)
    return out


def _pairs_within(
    group: np.ndarray,
    n_groups: int,
    labels: np.ndarray,
    probabilities: np.ndarray,
    persons: np.ndarray | None,
) -> np.ndarray:
    """Return `Clusters.pairs_within`."""
    classes = _scored_classes(probabilities.shape[1])
    out = np.zeros((2, len(classes), n_groups, n_groups))
    for person in () if persons is None else np.unique(persons):
        own = persons == person
        groups, of_person = np.unique(group[own], return_inverse=True)
        for i, c in enumerate(classes):
            positive = labels[own] == c
            n_positive, n_negative = (
                np.bincount(of_person[of_class], minlength=len(groups))
                for of_class in (positive, ~positive)
            )
            concordant = _concordant_pairs(of_person, len(groups), positive, probabilities[own, c])
            out[0, i][np.ix_(groups, groups)] += concordant
            out[1, i][np.ix_(groups, groups)] += np.outer(n_positive, n_negative)
    return out


def _ratio(a: np.ndarray, b: np.ndarray, undefined: float) -> np.ndarray:
    """Return a / b, of the shape of a, and `undefined` where b is 0."""
    return np.divide(a, b, out=np.full(a.shape, float(undefined)), where=b != 0)
