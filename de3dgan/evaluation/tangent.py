"""Covariances of frames in the tangent space of their baseline's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from de3dgan.eeg.de import BANDS
from de3dgan.eeg.subspace import covariance, lacking
from de3dgan.evaluation.features import band_covariances, of_baselines

if TYPE_CHECKING:
    from de3dgan.data.frames import Frames

#: Weight of the baseline's covariance in that of a frame, which would not be of full rank alone;
#: and of white noise in that of the baseline.
_SHRINKAGE, _WHITE = 0.2, 0.01
#: µV² that a baseline's directions have on average, at least: it may be silent.
_QUIET = 1e-6
_BANDS = list(BANDS.values())


def common_basis(frames: Frames, trials: np.ndarray) -> np.ndarray:
    """Return the directions between electrodes that covariances are taken of.

    Recordings that were cleaned by independent components lack directions, some more than others,
    and the rank would tell them apart: all are brought to the lowest.

    Parameters
    ----------
    frames : Frames
        The EEG.
    trials : array of int
        Those whose rank counts; of the training split.

    Returns
    -------
    array, (n_chans, rank)
        The strongest directions of the mean of their covariances, each of which has a trace of 1;
        as many as the trial has that lacks most.
    """
    mean, rank = 0.0, len(frames.store.ch_names)
    for trial in trials.tolist():
        eeg = frames.continuous(np.array([trial]))[0].astype(np.float64)
        found = covariance(eeg)
        mean = mean + found / max(np.trace(found), 1e-12)
        rank = min(rank, len(eeg) - lacking(eeg).shape[1])
    return np.linalg.eigh(mean)[1][:, -max(rank, 1) :]


def tangent_space(frames: Frames, trials: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return what maps frame numbers to coordinates in the tangent space of their baseline.

    Per band of DE, the covariance of electrodes over a second is whitened by that of the trial's
    baseline, so that all people meet at the identity, and its logarithm is taken (Barachant et
    al., IEEE Transactions on Biomedical Engineering 59, 2012; recentring: Zanini et al., ibid. 65,
    2018).

    Parameters
    ----------
    frames : Frames
        The EEG.
    trials : array of int
        Those whose rank counts, see `common_basis`.

    Returns
    -------
    callable
        Maps numbers (n,) to coordinates (n, n_bands · rank · (rank + 1) / 2).
    """
    # Imported here, as it takes 1 s and training does without.
    from pyriemann.geometry.base import invsqrtm
    from pyriemann.geometry.tangentspace import tangent_space as coordinates

    basis = common_basis(frames, trials)
    identity = np.eye(basis.shape[1])

    def covariances(eeg: np.ndarray) -> np.ndarray:
        return basis.T @ band_covariances(eeg, _BANDS) @ basis

    def features(numbers: np.ndarray) -> np.ndarray:
        references, row = of_baselines(frames.store, numbers, covariances)
        power = references.trace(axis1=-2, axis2=-1)[..., None, None] / len(identity)
        references = (1 - _WHITE) * references + _WHITE * power.clip(_QUIET) * identity
        if frames.store.reference == "none":
            references = np.broadcast_to(identity, references.shape)  # a µV² in all directions
        whitening = invsqrtm(references)[row]
        whitened = whitening @ covariances(frames.cpu(numbers)) @ whitening
        shrunk = (1 - _SHRINKAGE) * whitened + _SHRINKAGE * identity
        found = coordinates(shrunk.reshape(-1, *identity.shape), identity)
        return found.reshape(len(numbers), -1)

    return features
