"""The directions between electrodes that all recordings of a person hold.

Cleaning by independent components takes whole directions out of a recording. Where a person's
recordings were cleaned apart, each lacks others, and the power along them, next to nothing in one
recording and not in the other, tells which recording it is. If recordings are also classes, that
can pass for the class. What no recording lacks is safe.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Power along an eigenvector of the covariance below which a recording lacks that direction, as a
#: share of the median over those that are not of rounding alone.
LACKING = 0.05
_ROUNDING = 1e-9


def covariance(eeg: np.ndarray) -> np.ndarray:
    """Return the covariance of electrodes, (n_chans, n_times) to (n_chans, n_chans)."""
    centred = eeg - eeg.mean(-1, keepdims=True)
    return centred @ centred.T / eeg.shape[-1]


def relative_power(of_channels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the power along the eigenvectors of a covariance, relative to what is usual.

    Parameters
    ----------
    of_channels : array, (n_chans, n_chans)
        Covariance of electrodes.

    Returns
    -------
    power : array, (n_chans,)
        Rising, as a share of the median over those that are not of rounding alone; 0 in silence.
    directions : array, (n_chans, n_chans)
        The eigenvectors, one a column.
    """
    power, directions = np.linalg.eigh(of_channels)
    there = power[power > _ROUNDING * power[-1]]
    return power / np.median(there) if len(there) else 0 * power, directions


def lacking(eeg: np.ndarray) -> np.ndarray:
    """Return the directions that a recording lacks, orthonormal.

    Parameters
    ----------
    eeg : array, (n_chans, n_times)
        In µV.

    Returns
    -------
    array, (n_chans, n)
        The eigenvectors of its covariance with a power below `LACKING`.
    """
    power, directions = relative_power(covariance(eeg))
    return directions[:, power < LACKING]


def common_projection(recordings: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
    """Return the projection onto the directions that none of some recordings lacks.

    Parameters
    ----------
    recordings : sequence of array, each (n_chans, n_times)
        Of one person.

    Returns
    -------
    projection : array, (n_chans, n_chans)
        Orthogonal; the identity if no recording lacks anything.
    rank : int
        Its directions.
    """
    removed = np.concatenate([lacking(eeg) for eeg in recordings], axis=1)
    n_chans = len(removed)
    if not removed.shape[1]:
        return np.eye(n_chans), n_chans
    directions, lengths, _ = np.linalg.svd(removed)
    kept = directions[:, int((lengths > 1e-6).sum()) :]  # what two recordings lack counts once
    return kept @ kept.T, kept.shape[1]


def share_lost(eeg: np.ndarray, projection: np.ndarray) -> float:
    """Return the share of the variance of EEG (n_chans, n_times) that a projection takes."""
    before = covariance(eeg)
    total = float(np.trace(before))
    return 1 - float(np.trace(projection @ before)) / total if total else 0.0
