"""How good predictions are, per one-second frame and per trial."""

from __future__ import annotations

import math
import warnings

import numpy as np
from sklearn import metrics

from de3dgan.base.errors import UserError

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auc", "mcc", "kappa", "ece")
#: Equally wide bins of confidence that calibration is measured in.
N_BINS = 10


def scores(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float | None]:
    """Return the metrics of one set of predictions.

    Parameters
    ----------
    labels : array of int, (n,)
        True classes.
    probabilities : array, (n, n_classes)
        Predicted probabilities; the prediction is the most probable class.

    Returns
    -------
    dict
        Keys `METRICS`. ``auc`` is that of class 1 for two classes and the macro mean of
        one-vs-rest for more; None where a class does not occur, as it is not defined then.
        ``ece`` is the expected calibration error, see `expected_calibration_error`; of all
        metrics it alone is better when lower. All others are finite, with a single class too.

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
    predicted = probabilities.argmax(1)
    n_classes = probabilities.shape[1]
    auc = None
    if len(np.unique(labels)) == n_classes:
        auc = metrics.roc_auc_score(
            labels, probabilities[:, 1] if n_classes == 2 else probabilities, multi_class="ovr"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a single class, for which every figure is defined
        mcc = float(metrics.matthews_corrcoef(labels, predicted))
        kappa = float(metrics.cohen_kappa_score(labels, predicted))
    return {
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "balanced_accuracy": balanced_accuracy(labels, predicted),
        "macro_f1": float(metrics.f1_score(labels, predicted, average="macro", zero_division=0)),
        "auc": None if auc is None else float(auc),
        "mcc": mcc,
        # With one class, true and predicted, chance agreement is complete and kappa 0/0; there is
        # then no agreement beyond chance.
        "kappa": 0.0 if math.isnan(kappa) else kappa,
        "ece": expected_calibration_error(labels, probabilities),
    }


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean, over the classes that occur in `labels`, of the share that is recognised."""
    present = np.unique(labels)
    return float(metrics.recall_score(labels, predicted, labels=present, average="macro"))


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
    """Return the reliability curve: how often predictions of each confidence are right.

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
    right = probabilities.argmax(1) == labels
    counts = np.bincount(bins, minlength=N_BINS)
    means = [
        np.divide(
            np.bincount(bins, weights=values, minlength=N_BINS),
            counts,
            out=np.full(N_BINS, np.nan),
            where=counts > 0,
        )
        for values in (confidence, right)
    ]
    return *means, counts


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean distance of confidence from accuracy: 0 is best, 1 worst.

    The mean of ``|accuracy - confidence|`` over the bins of `reliability`, each weighted by its
    predictions (Guo et al. 2017, On Calibration of Modern Neural Networks, ICML).

    Parameters
    ----------
    labels : array of int, (n,)
        True classes.
    probabilities : array, (n, n_classes)
        Predicted probabilities.
    """
    confidence, accuracy, counts = reliability(labels, probabilities)
    return float(np.nansum(counts * np.abs(accuracy - confidence)) / counts.sum())


def by_trial(trials: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> tuple:
    """Average the predictions of each trial's frames.

    Returns
    -------
    labels : array of int, (n_trials,)
    probabilities : array, (n_trials, n_classes)
        Mean over the trial's frames.
    """
    _, first, inverse, counts = np.unique(
        trials, return_index=True, return_inverse=True, return_counts=True
    )
    sums = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(sums, inverse, probabilities)
    return labels[first], sums / counts[:, None]


def frame_and_trial(
    trials: np.ndarray, labels: np.ndarray, probabilities: np.ndarray
) -> dict[str, dict[str, float | None]]:
    """Return ``{"frame": scores per frame, "trial": scores per trial}``."""
    return {
        "frame": scores(labels, probabilities),
        "trial": scores(*by_trial(trials, labels, probabilities)),
    }


def confusion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return counts (n_classes, n_classes), rows the true class, columns the predicted one."""
    classes = np.arange(probabilities.shape[1])
    return metrics.confusion_matrix(labels, probabilities.argmax(1), labels=classes)
