"""Sampling rate of EEG, the lengths of windows and frames, and the filter that resamples."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

#: Sampling rate of all EEG here, in Hz; sources resample to it.
SFREQ = 128
#: Samples per DE window: half a second.
WINDOW = SFREQ // 2
#: Samples per frame, the one second of EEG that a network sees at a time: two DE windows.
FRAME = SFREQ

#: Seconds of EEG that are resampled at once.
_PART = 60


def n_resampled(n_times: int, sfreq: float) -> int:
    """Return how many samples `n_times` at `sfreq` are at `SFREQ`."""
    ratio = _ratio(sfreq)
    return -(-n_times * ratio.numerator // ratio.denominator)


def resampled(eeg: np.ndarray, sfreq: float) -> np.ndarray:
    """Resample EEG to `SFREQ` with a polyphase filter, see `resampled_in_parts`.

    Parameters
    ----------
    eeg : array, (n_chans, n_times)
    sfreq : float
        Its sampling rate in Hz.

    Returns
    -------
    array, float64 (n_chans, `n_resampled`)
        The EEG itself where it is sampled at `SFREQ` already.
    """
    if sfreq == SFREQ:
        return np.asarray(eeg, dtype=np.float64)
    return resampled_in_parts(lambda start, stop: eeg[:, start:stop], eeg.shape[1], sfreq)


def resampled_in_parts(
    read: Callable[[int, int], np.ndarray], n_times: int, sfreq: float
) -> np.ndarray:
    """Resample EEG that is read in parts, so that it is never in memory as a whole.

    A zero-phase FIR filter (a sinc in a Kaiser window of β 5, 10 samples of the slower rate to
    either side: `scipy.signal.resample_poly`) keeps what is below 54 Hz and removes what would
    alias below it. The first and the last value go on beyond the ends.

    Parameters
    ----------
    read : callable
        Returns samples start to stop, (n_chans, stop - start).
    n_times : int
        How many there are.
    sfreq : float
        Their sampling rate in Hz.

    Returns
    -------
    array, float64 (n_chans, `n_resampled`)

    Raises
    ------
    ValueError
        If the rate is no simple ratio to `SFREQ`, or there is no EEG.
    """
    from scipy import signal  # it takes 1 s to import, and training does without

    ratio = _ratio(sfreq)
    up, down = ratio.numerator, ratio.denominator
    n_out = n_resampled(n_times, sfreq)
    if n_times < 1:
        raise ValueError("it has no samples")
    # Parts start at multiples of `down` samples in, which are multiples of `up` samples out.
    step = max(1, round(_PART * sfreq / down)) * down
    margin = _margin(up, down)
    out = None
    for start in range(0, n_times, step):
        stop = min(start + step, n_times)
        first, last = start - margin, stop + margin
        part = np.asarray(read(max(first, 0), min(last, n_times)), dtype=np.float64)
        beyond = max(-first, 0), max(last - n_times, 0)
        part = np.pad(part, ((0, 0), beyond), mode="edge")
        part = signal.resample_poly(part, up, down, axis=-1)
        if out is None:
            out = np.empty((len(part), n_out))
        at = start // down * up
        n = n_resampled(stop - start, sfreq)
        offset = margin // down * up
        out[:, at : at + n] = part[:, offset : offset + n]
    return out


def polyphase(sfreq: float) -> tuple[np.ndarray, int, int]:
    """Return `resampled` as products with filters, for EEG that is resampled within a network.

    Parameters
    ----------
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    filters : array, float64 (up, margin + down + margin)
        Of each `up` samples out, those that they are the products with.
    down : int
        Samples in for `up` samples out.
    margin : int
        Samples before and after these that filters reach to.

    Raises
    ------
    ValueError
        If the rate is no simple ratio to `SFREQ`.
    """
    from scipy import signal

    ratio = _ratio(sfreq)
    up, down = ratio.numerator, ratio.denominator
    margin = _margin(up, down)
    impulses = np.eye(margin + down + margin)
    first = margin // down * up
    return signal.resample_poly(impulses, up, down, axis=1)[:, first : first + up].T, down, margin


def _margin(up: int, down: int) -> int:
    """Return how many samples in, a multiple of `down`, the filter reaches beyond others."""
    return -(-10 * max(up, down) // (up * down)) * down


def _ratio(sfreq: float) -> Fraction:
    """Return `SFREQ` over a sampling rate."""
    ratio = Fraction(SFREQ) / Fraction(sfreq).limit_denominator(100)
    if abs(float(ratio) * sfreq / SFREQ - 1) > 1e-9 or max(ratio.as_integer_ratio()) > 10_000:
        raise ValueError(f"its sampling rate, {sfreq} Hz, is no simple ratio")
    return ratio
