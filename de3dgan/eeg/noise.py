"""Noise with a given differential entropy: what needs no learning."""

from __future__ import annotations

import numpy as np

from de3dgan.base.seeds import derived_rng
from de3dgan.eeg.de import band_signals, differential_entropy
from de3dgan.eeg.sampling import WINDOW

#: Corrections that `de_matched_noise` makes to its gains.
_PASSES = 5


def de_matched_noise(rng: np.random.Generator, de: np.ndarray) -> np.ndarray:
    """Return noise with a given DE: white noise, the amplitude of its bands changed in time.

    Parameters
    ----------
    rng : Generator
        Source of the noise.
    de : array, (n_bands, n_windows, n_chans)
        Absolute DE in nats.

    Returns
    -------
    array, (n_chans, n_windows · WINDOW)
        In µV. Its DE differs from `de` by about 0.03 nats in the mean: gains are interpolated
        between windows, since a step would put power into other bands.
    """
    n_windows, n_chans = de.shape[1:]
    noise = np.stack(list(band_signals(rng.standard_normal((n_chans, n_windows * WINDOW)))))
    eeg = noise.sum(0)
    log_gain = np.zeros_like(de, dtype=np.float64)
    for _ in range(_PASSES):
        # Bands overlap and gains change within windows: each pass comes closer, none is exact.
        log_gain += de - differential_entropy(eeg)
        eeg = np.einsum("bct,bct->ct", noise, np.exp(_between_windows(log_gain)))
    return eeg


def matched_noise(de: np.ndarray, trials: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """Return `de_matched_noise` of each of `trials`, drawn for (seed, trial, purpose).

    Parameters
    ----------
    de : array, (n_trials, n_bands, n_windows, n_chans)
        Absolute DE in nats.
    trials : array of int, (n_trials,)
        Whose DE it is.
    seed : int
        The run's seed.
    purpose : str
        What the noise is drawn for, see `de3dgan.base.seeds`.

    Returns
    -------
    array, float32 (n_trials, n_chans, n_times)
        In µV.
    """
    n_trials, _, n_windows, n_chans = de.shape
    out = np.empty((n_trials, n_chans, n_windows * WINDOW), np.float32)
    for eeg, trial, wanted in zip(out, trials.tolist(), de, strict=True):
        eeg[:] = de_matched_noise(derived_rng(seed, trial, purpose), wanted)
    return out


def _between_windows(values: np.ndarray) -> np.ndarray:
    """Interpolate linearly between the centres of windows, constant beyond the outermost.

    `np.interp` does so for one electrode and band at a time, which would take most of the time.

    Parameters
    ----------
    values : array, (n_bands, n_windows, n_chans)
        Values at the centre of each window.

    Returns
    -------
    array, (n_bands, n_chans, n_windows · WINDOW)
    """
    knots = np.pad(values.swapaxes(1, 2), ((0, 0), (0, 0), (1, 1)), mode="edge")[..., None]
    between = knots[..., :-1, :] + np.diff(knots, axis=-2) * (np.arange(WINDOW) / WINDOW)
    return between.reshape(*between.shape[:2], -1)[..., WINDOW // 2 : -WINDOW // 2]
