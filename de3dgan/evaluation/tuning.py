"""Classifiers of scikit-learn's, tuned by grouped cross-validation on what they are trained on.

Whatever is chosen or fitted beside the weights themselves - z-scores, strengths of regularisation,
kernel widths, the calibration of probabilities - comes from the frames that are given for training,
cut into folds that keep together what the protocol keeps together. So a person, or a trial, is
never on both sides of an inner fold either.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import ParameterGrid, StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.class_weight import compute_sample_weight

from de3dgan.evaluation.metrics import balanced_accuracy

#: Inner folds, at most.
_N_FOLDS = 3

Folds = Sequence[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Family:
    """A kind of classifier, and what is tried of it; it is given z-scores.

    Attributes
    ----------
    estimator : estimator
        Untrained.
    grid : dict of str to sequence
        The values of its parameters that are tried. Of equally good ones the first is taken.
    n_frames : int
        Frames that it is trained on, at most.
    n_tuning : int
        Frames that it is tuned on, at most.
    """

    estimator: BaseEstimator
    grid: dict[str, Sequence[Any]]
    n_frames: int
    n_tuning: int


def _rbf(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """Return ``exp(-width |a - b|² / n_features)``: with width 1, scikit-learn's gamma "scale".

    It is given to the support vector machine as a function, since scikit-learn computes all
    distances by one product of matrices, and libsvm one by one.
    """
    return rbf_kernel(a, b, gamma=width / a.shape[1])


#: What is tried of each kind; the strongest regularisation comes first.
LOGISTIC = Family(
    LogisticRegression(max_iter=300, class_weight="balanced"),
    {"C": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)},
    n_frames=6000,
    n_tuning=3000,
)
SVM = Family(
    SVC(class_weight="balanced"),
    {"C": (0.1, 1.0, 10.0), "kernel": [partial(_rbf, width=width) for width in (0.25, 1.0)]},
    n_frames=4000,
    n_tuning=1500,
)


def grouped_folds(classes: np.ndarray, groups: np.ndarray | None, n_folds: int = _N_FOLDS) -> Folds:
    """Return folds that keep groups together, each of which trains on every class.

    Parameters
    ----------
    classes : array of int, (n,)
        The class of each example.
    groups : array, (n,), optional
        Its group; without, each example is one.
    n_folds : int
        As many folds, or fewer where a class is in fewer groups.

    Returns
    -------
    list of (array of int, array of int)
        Rows to train on, and rows to ask; none if a class is in a single group.
    """
    members = np.arange(len(classes)) if groups is None else groups
    per_class = [len(set(members[classes == c].tolist())) for c in np.unique(classes)]
    n = min(n_folds, *per_class) if len(per_class) > 1 else 0
    if n < 2:
        return []
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rare classes: a fold that lacks one is left out here
        folds = list(kind(n, shuffle=True, random_state=0).split(classes, classes, groups))
    return [fold for fold in folds if len(set(classes[fold[0]].tolist())) == len(per_class)]


def tuned(
    family: Family, features: np.ndarray, classes: np.ndarray, groups: np.ndarray | None
) -> BaseEstimator:
    """Return a classifier with the parameters that predict held-out groups best.

    Parameters
    ----------
    family : Family
        What is tried.
    features : array, (n, n_features)
        Examples.
    classes, groups : array, (n,)
        See `grouped_folds`.

    Returns
    -------
    estimator
        Trained on all of them: z-scores, then the family's estimator, with the parameters of the
        highest mean balanced accuracy over the folds. See `prior` for what it is if there are none.
    """
    folds, tried = grouped_folds(classes, groups), list(ParameterGrid(family.grid))
    if not folds:
        return prior(classes)
    scores = np.zeros(len(tried))
    with warnings.catch_warnings():
        # Of weak regularisation, under which weights go on growing: it is tried as it is by then.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for train, asked in folds if len(tried) > 1 else []:
            scaler = StandardScaler().fit(features[train])
            known, unknown = scaler.transform(features[train]), scaler.transform(features[asked])
            for row, parameters in enumerate(tried):
                model = clone(family.estimator).set_params(**parameters).fit(known, classes[train])
                scores[row] += balanced_accuracy(classes[asked], model.predict(unknown))
        best = clone(family.estimator).set_params(**tried[scores.argmax()])
        return make_pipeline(StandardScaler(), best).fit(features, classes)


def trained(
    model: BaseEstimator, features: np.ndarray, classes: np.ndarray, groups: np.ndarray | None
) -> BaseEstimator:
    """Return a classifier with the parameters of `model`, trained anew, that has probabilities.

    Where it has none itself, its scores become probabilities by Platt's method, on scores of
    held-out groups.
    """
    model = clone(model)
    if not hasattr(model, "predict_proba"):
        folds = grouped_folds(classes, groups)
        if not folds:
            return prior(classes)
        model = CalibratedClassifierCV(model, cv=folds, ensemble=False)
        with warnings.catch_warnings():
            # That a pipeline takes no weights: it has its own, and these are of the calibration.
            warnings.filterwarnings("ignore", "Since Pipeline does not appear to accept")
            return model.fit(features, classes, compute_sample_weight("balanced", classes))
    return model.fit(features, classes)


def prior(classes: np.ndarray) -> DummyClassifier:
    """Return what predicts how frequent each class is in `classes`, with a `UserWarning`."""
    counted = zip(*np.unique(classes, return_counts=True), strict=True)
    found = ", ".join(f"{n} of class {c}" for c, n in counted)
    warnings.warn(
        f"A baseline is trained on {found}, which is too little: it predicts how frequent the "
        "classes are.",
        stacklevel=3,
    )
    return DummyClassifier(strategy="prior").fit(np.zeros((len(classes), 1)), classes)
