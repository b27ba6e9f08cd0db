"""Measures of EEG: arrays in, numbers out. What they are for is said in `quality`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from de3dgan.eeg.de import BANDS, SILENCE, band_signals, windowed_de
from de3dgan.eeg.sampling import FRAME, SFREQ

#: Samples of the segments that trials are cut into: 5 s.
_SEGMENT = 5 * SFREQ
#: Standard deviation in nats below which DE does not vary but by rounding.
_CONSTANT = 1e-6


def de_round_trip(generated: np.ndarray, wanted: np.ndarray) -> dict[str, dict[str, float]]:
    """Compare the DE of generated EEG with the DE it was generated from.

    Parameters
    ----------
    generated, wanted : array, (n_trials, n_bands, n_windows, n_chans)
        Absolute DE in nats.

    Returns
    -------
    dict
        Per band: ``correlation`` over all windows, electrodes and trials (0 where the generated EEG
        does not vary); ``mae``, the mean absolute error in nats; ``bias``, the mean error in nats,
        below 0 where the amplitude of the generated EEG is too low.
    """
    out = {}
    for index, band in enumerate(BANDS):
        a, b = generated[:, index].ravel(), wanted[:, index].ravel().astype(np.float64)
        varies = min(a.std(), b.std()) > _CONSTANT
        out[band] = {
            "correlation": float(np.corrcoef(a, b)[0, 1]) if varies else 0.0,
            "mae": float(np.abs(a - b).mean()),
            "bias": float((a - b).mean()),
        }
    return out


def seam_ratio(eeg: np.ndarray) -> float:
    """Return the mean absolute step between samples across borders of frames over that inside them.

    It is 1 for EEG without seams at the borders, and for silence.

    Parameters
    ----------
    eeg : array, (..., n_times)
        EEG in µV.
    """
    steps = np.abs(np.diff(eeg, axis=-1))
    across = np.arange(FRAME - 1, steps.shape[-1], FRAME)
    inside = np.delete(steps, across, axis=-1).mean()
    return float(steps[..., across].mean() / inside) if inside > 0 else 1.0


def halves(eeg: np.ndarray) -> np.ndarray:
    """Cut EEG into segments of 5 s, and deal them out to two interleaved halves.

    A trial changes as it goes on. Its first half differs from its second by more than two halves do
    that take turns.

    Parameters
    ----------
    eeg : array, (..., n_times)
        10 s or more.

    Returns
    -------
    array, (2, ..., n_segments, 5 s)
    """
    n = eeg.shape[-1] // (2 * _SEGMENT)
    segments = eeg[..., : 2 * n * _SEGMENT].reshape(*eeg.shape[:-1], n, 2, _SEGMENT)
    return np.moveaxis(segments, -2, 0)


def log_spectra(eeg: np.ndarray) -> np.ndarray:
    """Return the log power spectra of the two `halves` of trials, 4-46 Hz.

    By Welch's method, with Hann windows of 2 s.

    Parameters
    ----------
    eeg : array, (n_trials, n_chans, n_times)
        In µV.

    Returns
    -------
    array, (n_trials, 2, n_chans, n_freqs)
        In nats.
    """
    from scipy import signal  # imported here, as it takes 1 s and training does without

    freqs = np.fft.rfftfreq(2 * SFREQ, 1 / SFREQ)
    inside = (freqs >= 4) & (freqs <= 46)
    floor = 1e-12  # µV²/Hz, so that silence has a logarithm
    # Trial by trial: overlapping windows take several times the memory of the EEG.
    power = [signal.welch(halves(trial), SFREQ, nperseg=2 * SFREQ)[1].mean(-2) for trial in eeg]
    return np.log(np.stack(power)[..., inside] + floor)


def channel_correlations(bands: np.ndarray) -> np.ndarray:
    """Return the correlations between electrodes in the two `halves` of a trial, per band.

    They are taken over segments of 5 s and averaged, so that a few loud moments do not determine
    the result.

    Parameters
    ----------
    bands : array, (n_bands, n_chans, n_times)
        The trial, filtered into bands.

    Returns
    -------
    array, (2, n_bands, n_chans, n_chans)
        0 where an electrode is silent.
    """
    segments = halves(bands).swapaxes(-3, -2)  # (2, n_bands, n, n_chans, 5 s)
    return correlations(segments).mean(-3)


@dataclass(frozen=True)
class Found:
    """What is found in trials, for which each is filtered once.

    Attributes
    ----------
    spectra, correlations, de : array, (n_trials, ...)
        `log_spectra`, `channel_correlations`, and absolute DE as `trial_de` returns it.
    """

    spectra: np.ndarray
    correlations: np.ndarray
    de: np.ndarray

    @classmethod
    def of(cls, eeg: np.ndarray) -> Found:
        """Look at trials, (n_trials, n_chans, n_times) in µV."""
        found = []
        for trial in eeg:
            bands = np.stack(list(band_signals(trial)))
            found.append((channel_correlations(bands), np.stack([windowed_de(b) for b in bands])))
        correlations, de = zip(*found, strict=True)
        return cls(log_spectra(eeg), np.stack(correlations), np.stack(de).clip(SILENCE))


def across_halves(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return how far what is found in one half of trials is from the *other* half of others.

    So real EEG can be compared with itself, and generated EEG with real EEG as strictly: a perfect
    generator gets what real EEG gets.

    Parameters
    ----------
    a, b : array, (n_trials, 2, ...)
        `log_spectra` or `channel_correlations`.

    Returns
    -------
    array, (n_trials, 2, ...)
        Absolute differences.
    """
    return np.abs(a - b[:, ::-1])


def correlations(x: np.ndarray) -> np.ndarray:
    """Return correlation matrices of channels: (..., n_chans, n_times) to (..., n_chans, n_chans).

    Silent channels have 0 with all, themselves included.
    """
    x = unit_length(x)
    return x @ x.swapaxes(-2, -1)


def mean_by_band(error: np.ndarray) -> dict[str, float | None]:
    """Return the mean per band of errors of `channel_correlations`, off the diagonal.

    None for a single electrode, for which there is nothing off the diagonal.
    """
    others = ~np.eye(error.shape[-1], dtype=bool)
    if not others.any():
        return dict.fromkeys(BANDS)
    return dict(zip(BANDS, error[..., others].mean((0, 1, 3)).tolist(), strict=True))


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the correlations along the last axis, 0 with silence."""
    return (unit_length(a) * unit_length(b)).sum(-1)


def unit_length(x: np.ndarray) -> np.ndarray:
    """Centre along the last axis and scale to length 1, or to 0 if there is only rounding error."""
    mean = x.mean(-1, keepdims=True)
    x = x - mean
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    rounding = 1e-6 * np.abs(mean) * np.sqrt(x.shape[-1])  # of 32-bit numbers
    varies = length > np.maximum(rounding, 1e-9)
    return np.divide(x, length, out=np.zeros_like(x), where=varies)
