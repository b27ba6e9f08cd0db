"""Train on synthetic, test on real (TSTR): what of the classes is in generated EEG.

A model learns the classes from generated EEG of training trials, and is asked about real EEG of
test trials, frame by frame. The same model that has learnt from real EEG shows what can be reached,
and noise of the same DE what needs no more than DE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from de3dgan.data.memory_maps import reopened
from de3dgan.data.store import Store
from de3dgan.eeg.de import band_signals
from de3dgan.eeg.sampling import FRAME
from de3dgan.evaluation.tuning import prior

#: Share of the mean variance that is added to all variances: silence has no logarithm.
_FLOOR = 1e-3


@dataclass(frozen=True)
class Lesson:
    """EEG of trials of known class.

    Attributes
    ----------
    eeg : array, (n_trials, n_chans, n_times)
        In µV.
    trials : array of int, (n_trials,)
        Which they are.
    wanted : array of bool, (n_trials, n_frames)
        Which of their frames to learn from, or to ask about.
    labels : array of int, (n_trials,)
        Their classes.
    """

    eeg: np.ndarray
    trials: np.ndarray
    wanted: np.ndarray
    labels: np.ndarray

    @property
    def frames(self) -> np.ndarray:
        """The frames, (n, n_chans, FRAME)."""
        n_trials, n_chans, n_times = self.eeg.shape
        frames = self.eeg.reshape(n_trials, n_chans, n_times // FRAME, FRAME).swapaxes(1, 2)
        return frames[self.wanted]

    @property
    def numbers(self) -> np.ndarray:
        """Numbers of the frames in the store, int (n,)."""
        n_frames = self.wanted.shape[1]
        return (self.trials[:, None] * n_frames + np.arange(n_frames))[self.wanted]

    @property
    def classes(self) -> np.ndarray:
        """Class of each frame, int (n,)."""
        return np.broadcast_to(self.labels[:, None], self.wanted.shape)[self.wanted]


#: From what a model learns and what it is asked about to the classes that it predicts, (n,).
Learner = Callable[[Lesson, Lesson], np.ndarray]


def tangent_space(store: Store) -> Learner:
    """Return logistic regression on band covariances of frames, relative to the trial's baseline.

    Covariances are mapped to the tangent space of the log-Euclidean metric (Arsigny et al., SIAM
    Journal on Matrix Analysis 29, 2007), and the mean over the baseline's frames is subtracted.
    """

    @cache
    def baseline(index: int) -> np.ndarray:
        return _log_covariances(reopened(store.baseline)[index]).mean(0)

    def features(lesson: Lesson) -> np.ndarray:
        index = store.baseline_index[lesson.trials].tolist()
        parts = [
            _log_covariances(eeg, wanted) - baseline(own)
            for eeg, wanted, own in zip(lesson.eeg, lesson.wanted, index, strict=True)
        ]
        return np.concatenate(parts).reshape(sum(map(len, parts)), -1)

    def learn(train: Lesson, test: Lesson) -> np.ndarray:
        if len(np.unique(train.classes)) < 2:
            return prior(train.classes).predict(np.zeros((len(test.classes), 1)))
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=1000))
        return model.fit(features(train), train.classes).predict(features(test))

    return learn


def _log_covariances(eeg: np.ndarray, wanted: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Return tangent vectors of frames: (n_chans, n_times) to (n_frames, n_bands, n_features)."""
    from pyriemann.geometry.base import logm  # imported here, as it takes a second
    from pyriemann.geometry.tangentspace import upper

    n_chans = len(eeg)
    n_frames = eeg.shape[-1] // FRAME
    bands = np.stack(list(band_signals(eeg)))[..., : n_frames * FRAME]
    frames = bands.reshape(len(bands), n_chans, n_frames, FRAME).transpose(2, 0, 1, 3)[wanted]
    covariances = frames @ frames.swapaxes(-2, -1) / FRAME
    level = np.trace(covariances, axis1=-2, axis2=-1)[..., None, None] / n_chans
    return upper(logm(covariances + (_FLOOR * level + 1e-9) * np.eye(n_chans)))
