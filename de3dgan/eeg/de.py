"""Differential entropy (DE): the features that the method starts from.

For a band-passed signal that is Gaussian with variance σ², the differential entropy is
``½ ln(2πe σ²)`` nats (Shi, Jiao & Lu, EMBC 2013): a log band power. It is taken per band, per
electrode and per half-second window.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from de3dgan.eeg.sampling import SFREQ, WINDOW

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", np.ndarray, "Tensor")

#: Band edges in Hz, in the order of the band axis everywhere.
BANDS = {"theta": (4.0, 8.0), "alpha": (8.0, 14.0), "beta": (14.0, 31.0), "gamma": (31.0, 45.0)}
FILTER_ORDER = 3
#: Samples after which the edge of a recording no longer affects a filter's output (5 s; measured:
#: < 1e-11 of the signal is left in the slowest band).
EDGE = 5 * SFREQ
#: Silence has a DE of -inf; this stands for it: a thousandth of a millionth of a µV.
SILENCE = -20.0


def band_filters() -> list[np.ndarray]:
    """Return the second-order sections of each band's Butterworth filter, order of `BANDS`."""
    from scipy import signal  # imported here and below, as it takes 1 s and training does without

    return [
        signal.butter(FILTER_ORDER, edges, "bandpass", fs=SFREQ, output="sos")
        for edges in BANDS.values()
    ]


def fft_length(n_times: int) -> int:
    """Return a length of at least `n_times` with many factors of two, for which FFTs are fast."""
    from scipy import fft

    return 1024 * fft.next_fast_len(-(-n_times // 1024), real=True)


@lru_cache(maxsize=8)
def power_responses(n_fft: int) -> np.ndarray:
    """Return ``|H(f)|²`` of each band, (n_bands, n_fft // 2 + 1)."""
    from scipy import signal

    freqs = np.fft.rfftfreq(n_fft, 1 / SFREQ)
    return np.stack([np.abs(signal.freqz_sos(s, freqs, fs=SFREQ)[1]) ** 2 for s in band_filters()])


@lru_cache(maxsize=1)
def edge_maps() -> list[tuple[tuple[np.ndarray, np.ndarray], ...]]:
    """Return, per band, how `sosfiltfilt` differs from ``|H|²`` near the start and the end.

    The difference is a linear map from the `EDGE` outermost samples to themselves. It is returned
    as two factors, (n_edge, rank) and (rank, n_edge).
    """
    from scipy import signal

    n_times = 2 * EDGE
    n_fft = fft_length(n_times + EDGE)
    impulses = np.eye(n_times)
    maps = []
    for sos, response in zip(band_filters(), power_responses(n_fft), strict=True):
        pair = []
        for edge in (slice(None, EDGE), slice(-EDGE, None)):
            exact = signal.sosfiltfilt(sos, impulses[edge])
            circular = np.fft.irfft(np.fft.rfft(impulses[edge], n=n_fft) * response, n=n_fft)
            left, weights, right = np.linalg.svd((exact - circular[:, :n_times])[:, edge])
            rank = int((weights > 1e-12).sum())
            pair.append((left[:, :rank] * weights[:rank], right[:rank]))
        maps.append(tuple(pair))
    return maps


def band_signals(eeg: np.ndarray) -> Iterator[np.ndarray]:
    """Split EEG into bands with zero-phase filters, one band after the other.

    The result is that of `scipy.signal.sosfiltfilt` with its default padding, to 1e-10, and several
    times as fast. Far from the ends a zero-phase filter is a multiplication by ``|H|²`` in the
    frequency domain. Near them the two differ by a fixed linear map of rank six, which is computed
    once per process from `sosfiltfilt` itself.

    Parameters
    ----------
    eeg : array, (n_chans, n_times)
        One continuous recording, in µV at 128 Hz.

    Yields
    ------
    array, (n_chans, n_times)
        Each band's signal in µV, in the order of `BANDS`.
    """
    from scipy import fft, signal

    # A constant has no power in any band; without it the edge correction stays small.
    eeg = eeg - eeg.mean(-1, keepdims=True)
    n_times = eeg.shape[-1]
    if n_times < 2 * EDGE:
        yield from (signal.sosfiltfilt(sos, eeg) for sos in band_filters())
        return
    n_fft = fft_length(n_times + EDGE)
    spectrum = fft.rfft(eeg, n_fft)
    for power_response, edges in zip(power_responses(n_fft), edge_maps(), strict=True):
        band = fft.irfft(spectrum * power_response, n_fft)[..., :n_times]
        (start_in, start_out), (end_in, end_out) = edges
        band[:, :EDGE] += (eeg[:, :EDGE] @ start_in) @ start_out
        band[:, -EDGE:] += (eeg[:, -EDGE:] @ end_in) @ end_out
        yield band


def windowed_de(band: np.ndarray) -> np.ndarray:
    """Return the DE of each half-second window: ``½ ln(2πe σ²)``, σ² with ddof 1.

    Parameters
    ----------
    band : array, (n_chans, n_times)
        Band-passed EEG in µV; samples after the last whole window are left out.

    Returns
    -------
    array, (n_windows, n_chans)
        In nats; -inf where a window is constant (a dead electrode).
    """
    n_chans, n_times = band.shape
    n_windows = n_times // WINDOW
    windows = band[:, : n_windows * WINDOW].reshape(n_chans, n_windows, WINDOW)
    # Band-passed signals have a mean near 0, so that the difference below loses no digits.
    sums = windows @ np.ones(WINDOW)
    squares = np.einsum("cwt,cwt->cw", windows, windows)
    # Of values too large to be squared, DE is not finite, which whoever stores it refuses.
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        variance = (squares - sums**2 / WINDOW) / (WINDOW - 1)
        return 0.5 * np.log(2 * np.pi * np.e * variance.clip(0)).T


def differential_entropy(eeg: np.ndarray) -> np.ndarray:
    """Return the DE of a continuous recording, (n_chans, n_times) to (n_bands, n_windows, n_chans).

    See Also
    --------
    band_signals, windowed_de : the two steps, for recordings of which only parts are wanted.

    Examples
    --------
    >>> eeg = np.random.default_rng(0).normal(0, 10, (19, 60 * 128))  # µV at 128 Hz
    >>> differential_entropy(eeg).shape
    (4, 120, 19)

    Twice the amplitude is ln 2 = 0.693 nats more:

    >>> np.unique((differential_entropy(2 * eeg) - differential_entropy(eeg)).round(3))
    array([0.693])
    """
    return np.stack([windowed_de(band) for band in band_signals(eeg)])


def add_baseline(de: Array, baseline_de: Array) -> Array:
    """Return absolute DE: the DE of the baseline, which preprocessing has subtracted, added back.

    Without the baseline, DE is for telling classes apart. The amplitude of an EEG signal is in its
    absolute DE, which is therefore what a generator is given and judged by.

    Parameters
    ----------
    de : array or Tensor, (..., n_bands, n_windows, n_chans)
        DE in nats, the baseline's subtracted.
    baseline_de : array or Tensor, (..., n_bands, n_chans)
        Mean DE of the baseline that belongs to each, in nats.

    Returns
    -------
    array or Tensor, (..., n_bands, n_windows, n_chans)
        In nats.
    """
    return de + baseline_de[..., None, :]


def trial_de(eeg: np.ndarray) -> np.ndarray:
    """Return the absolute DE of EEG trials.

    Parameters
    ----------
    eeg : array, (n_trials, n_chans, n_times)
        In µV.

    Returns
    -------
    array, (n_trials, n_bands, n_windows, n_chans)
        In nats.
    """
    return np.stack([differential_entropy(trial) for trial in eeg]).clip(SILENCE)
