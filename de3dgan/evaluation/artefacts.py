"""What tells classes apart without emotion: which recording, muscles, who, which stimulus.

A network that does not beat a model of these is not shown to know more than they do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from de3dgan.eeg.sampling import FRAME
from de3dgan.evaluation.features import band_covariances, of_baselines, spectra

if TYPE_CHECKING:
    from de3dgan.data.frames import Frames

#: Hz in which a recording's weakest direction is looked for.
_EEG = [(4.0, 31.0)]
#: A direction with less than this share of the strongest one's power holds rounding alone.
_ROUNDING = 1e-9
#: Hz above the bands of EEG, without the power line.
_ABOVE = ((46, 54), (56, 64))
#: µV² added before logarithms: recordings may hold nothing there.
_QUIET = 1e-12


def null_space(frames: Frames, numbers: np.ndarray) -> np.ndarray:
    """Return a score of frames that knows which recording they are of.

    Cleaning by independent components leaves directions between electrodes with next to no power,
    other ones in each recording that was cleaned apart. A frame from another recording than its
    baseline has more power there.

    Parameters
    ----------
    frames : Frames
        The EEG.
    numbers : array of int
        Frame numbers.

    Returns
    -------
    array, (len(numbers), 1)
        Log power from 4 to 30 Hz along the weakest eigenvector of the baseline's covariance in
        these frequencies, less that of the baseline. Directions of rounding alone are left out.
        Where there is no baseline, 0.
    """
    if frames.store.reference == "none":
        return np.zeros((len(numbers), 1))
    of_baseline, row = of_baselines(frames.store, numbers, _covariances)
    power, directions = np.linalg.eigh(of_baseline)
    weakest = (power > _ROUNDING * power[:, -1:]).argmax(1)
    baselines = np.arange(len(power))
    direction = directions[baselines, :, weakest][row]
    of_frames = np.einsum(
        "nij,ni,nj->n", _covariances(frames.cpu(numbers)), direction, direction, optimize=True
    )
    reference = power[baselines, weakest].clip(0)[row]
    return np.log((of_frames.clip(0) + _QUIET) / (reference + _QUIET))[:, None]


def _covariances(frames: np.ndarray) -> np.ndarray:
    return band_covariances(frames, _EEG)[:, 0]


def above_46_hz(frames: Frames, numbers: np.ndarray) -> np.ndarray:
    """Return the log power of frames above the bands of EEG, less that of the baseline.

    There muscles and amplifier are louder on the scalp than the brain.

    Returns
    -------
    array, (len(numbers), 2 · n_chans)
        From 46 to 54 and from 56 to 64 Hz, in nats.
    """
    level, row = of_baselines(frames.store, numbers, _log_power_above)
    return _log_power_above(frames.cpu(numbers)) - level[row]


def _log_power_above(frames: np.ndarray) -> np.ndarray:
    """Map frames (n, n_chans, FRAME) to (n, 2 · n_chans)."""
    power = (np.abs(spectra(frames)) ** 2).mean(-2)
    freqs = np.fft.rfftfreq(FRAME, 1 / FRAME)
    bands = [power[..., (freqs >= low) & (freqs <= high)].mean(-1) for low, high in _ABOVE]
    return 0.5 * np.log(np.concatenate(bands, axis=-1) + _QUIET)


def class_frequencies(
    names: np.ndarray, labels: np.ndarray, known: np.ndarray, asked: np.ndarray
) -> np.ndarray:
    """Return how frequent each class is in what is known of whoever is asked about.

    Parameters
    ----------
    names : array of str, (n_trials,)
        Person, or stimulus, of each trial.
    labels : array of int, (n_trials,)
        Class of each trial.
    known, asked : array of int
        Trial of each frame that is known, and of each that is asked about.

    Returns
    -------
    array, (len(asked), n_classes)
        Of someone unknown, the frequencies over all that are known.

    Notes
    -----
    Where there is one name per class, as where rest is one stimulus and a task the other, names
    are but another word for the classes: then nobody counts as known.
    """
    _, index = np.unique(names, return_inverse=True)
    counts = np.zeros((index.max() + 1, labels.max() + 1))
    np.add.at(counts, (index[known], labels[known]), 1)
    general = counts.sum(0) / counts.sum()
    if all((np.count_nonzero(counts, axis=axis) <= 1).all() for axis in (0, 1)):
        counts[:] = 0
    totals = counts.sum(1, keepdims=True)
    frequencies = np.where(totals > 0, counts / np.maximum(totals, 1), general)
    return frequencies[index[asked]]
