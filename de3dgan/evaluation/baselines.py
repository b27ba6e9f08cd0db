"""What a network has to beat, on the same split and by the same metrics.

Baselines have no epoch to choose, so they are trained on the validation part as well. DE is
z-scored with the statistics of the frames they are trained on; a feature that does not vary becomes
0.

With too little to be trained on (a single class; for the support vector machine, fewer than five
frames of a class), a model predicts the frequencies of the classes, with a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from de3dgan.base.seeds import derived_rng
from de3dgan.data.splits import Split
from de3dgan.data.store import Store
from de3dgan.eeg.de import add_baseline
from de3dgan.evaluation.metrics import balanced_accuracy

#: What each baseline is called in tables.
NAMES = {
    "majority": "majority class",
    "random": "random, classes as in training",
    "linear": "linear model on DE",
    "linear_absolute": "linear model on DE, no baseline removal",
    "svm": "support vector machine on DE",
}
#: Frames that the support vector machine is trained on, at most: its time grows with the square.
_N_SVM_FRAMES = 6000
#: Parts of these that its probabilities are calibrated on in turn; each needs all classes.
_N_SVM_PARTS = 5


def frame_de(store: Store, frames: np.ndarray, absolute: bool = False) -> np.ndarray:
    """Return the DE of frames, the mean over their two windows.

    Parameters
    ----------
    store : Store
        The data.
    frames : array of int
        Frame numbers.
    absolute : bool
        Without baseline removal.

    Returns
    -------
    array, (len(frames), n_bands · n_chans)
        In nats.
    """
    trial, frame = np.divmod(frames, store.n_frames)
    de = (store.de[trial, :, 2 * frame] + store.de[trial, :, 2 * frame + 1]) / 2
    if absolute:
        de = add_baseline(de[:, :, None], store.baseline_de[store.baseline_index[trial]])
    return de.reshape(len(frames), -1)


def predictions(
    store: Store,
    split: Split,
    labels: np.ndarray,
    frames: np.ndarray,
    names: Iterable[str] = tuple(NAMES),
) -> dict[str, np.ndarray]:
    """Return what each of `names` (all) predicts for `frames`, (len(frames), n_classes)."""
    known = labels[split.trials("train")]
    data = (store, split, labels, frames)
    models = {
        "majority": lambda: majority_probabilities(known, len(frames), labels.max() + 1),
        "random": lambda: random_probabilities(split, labels, frames),
        "linear": lambda: linear_probabilities(*data),
        "linear_absolute": lambda: linear_probabilities(*data, absolute=True),
        "svm": lambda: svm_probabilities(*data),
    }
    return {name: models[name]() for name in names}


def majority_probabilities(labels: np.ndarray, n: int, n_classes: int) -> np.ndarray:
    """Return the class frequencies of training `labels`, `n` times: (n, n_classes)."""
    return np.tile(np.bincount(labels, minlength=n_classes) / len(labels), (n, 1))


def linear_model() -> Pipeline:
    """Return the linear model, untrained: z-scores, then logistic regression with C = 0.01."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))


def fitted(
    model: BaseEstimator, features: np.ndarray, classes: np.ndarray, at_least: int = 1
) -> BaseEstimator:
    """Return `model`, trained; or, with too little to be trained on, one of class frequencies.

    Parameters
    ----------
    model : estimator
        A classifier of scikit-learn's, untrained.
    features : array, (n, n_features)
        What it is trained on.
    classes : array of int, (n,)
        Their classes.
    at_least : int
        Examples of each class that it needs. With fewer, or with a single class, there is a
        `UserWarning`, and what is returned predicts how frequent each class is in `classes`.
    """
    present, counts = np.unique(classes, return_counts=True)
    if len(present) < 2 or counts.min() < at_least:
        found = ", ".join(f"{n} of class {c}" for c, n in zip(present, counts, strict=True))
        warnings.warn(
            f"A baseline is trained on {found}, which is too little: it predicts how frequent the "
            "classes are.",
            stacklevel=2,
        )
        model = DummyClassifier(strategy="prior")
    return model.fit(features, classes)


def linear_score(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> float:
    """Return the balanced accuracy of the linear baseline (`linear_model`).

    Trained on a single class it always predicts that one, see `fitted`.

    Parameters
    ----------
    train, test : (features, classes)
        Arrays (n, n_features) and (n,).
    """
    return balanced_accuracy(test[1], fitted(linear_model(), *train).predict(test[0]))


def linear_probabilities(
    store: Store, split: Split, labels: np.ndarray, frames: np.ndarray, absolute: bool = False
) -> np.ndarray:
    """Return the predictions of `linear_model` on DE for `frames`.

    Parameters
    ----------
    store, split, labels
        The data, who is trained on, and the class of each trial.
    frames : array of int
        Frames to predict.
    absolute : bool
        Without baseline removal.

    Returns
    -------
    array, (len(frames), n_classes)
    """
    known = np.concatenate([split.train, split.val])
    model = fitted(
        linear_model(), frame_de(store, known, absolute), labels[known // split.n_frames]
    )
    return _columns(model, labels, frame_de(store, frames, absolute))


def svm_probabilities(
    store: Store, split: Split, labels: np.ndarray, frames: np.ndarray
) -> np.ndarray:
    """Return the predictions of a support vector machine (RBF kernel, C = 1) on DE for `frames`.

    It is trained on 6,000 random frames if there are more. Platt's method, on training frames,
    turns its scores into probabilities.

    Returns
    -------
    array, (len(frames), n_classes)
    """
    known = np.concatenate([split.train, split.val])
    if len(known) > _N_SVM_FRAMES:
        rng = derived_rng(split.seed, split.fold, "frames of the support vector machine")
        known = rng.choice(known, _N_SVM_FRAMES, replace=False)
    calibrated = CalibratedClassifierCV(SVC(), cv=_N_SVM_PARTS, ensemble=False)
    model = make_pipeline(StandardScaler(), calibrated)
    classes = labels[known // split.n_frames]
    model = fitted(model, frame_de(store, known), classes, at_least=_N_SVM_PARTS)
    return _columns(model, labels, frame_de(store, frames))


def random_probabilities(split: Split, labels: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Return random predictions, each certain, with classes as frequent as in training.

    Returns
    -------
    array, (len(frames), n_classes)
    """
    known = labels[split.trials("train")]
    rng = derived_rng(split.seed, split.fold, "random baseline")
    return np.eye(labels.max() + 1)[rng.choice(known, len(frames))]


def _columns(model: object, labels: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return a model's predictions with a column for every class, also those it has not seen."""
    out = np.zeros((len(features), labels.max() + 1))
    out[:, model.classes_] = model.predict_proba(features)
    return out
