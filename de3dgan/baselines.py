"""What a network has to beat: the majority class, and a linear model on DE."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from de3dgan.splits import Split
from de3dgan.store import Store


def frame_de(store: Store, frames: np.ndarray) -> np.ndarray:
    """Return the DE of one-second frames, the mean of their two half-seconds, baseline removed.

    Returns
    -------
    array, (len(frames), n_bands · n_chans)
        In nats.
    """
    trial, second = np.divmod(frames, store.n_frames)
    de = (store.de[trial, :, 2 * second] + store.de[trial, :, 2 * second + 1]) / 2
    return de.reshape(len(frames), -1)


def majority_probabilities(labels: np.ndarray, n: int, n_classes: int) -> np.ndarray:
    """Return the class frequencies of training `labels`, `n` times: (n, n_classes)."""
    return np.tile(np.bincount(labels, minlength=n_classes) / len(labels), (n, 1))


def linear_probabilities(
    store: Store, split: Split, labels: np.ndarray, frames: np.ndarray
) -> np.ndarray:
    """Return the predictions of logistic regression (C = 0.01) on DE for `frames`.

    It has no epoch to choose, so that the validation part is trained on as well. DE is z-scored
    with the statistics of what it is trained on.

    Returns
    -------
    array, (len(frames), n_classes)
    """
    known = np.concatenate([split.train, split.val])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    model.fit(frame_de(store, known), labels[known // split.n_frames])
    out = np.zeros((len(frames), labels.max() + 1))
    out[:, model.classes_] = model.predict_proba(frame_de(store, frames))
    return out
