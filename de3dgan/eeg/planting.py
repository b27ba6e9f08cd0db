"""Changing EEG so that its DE, or the correlation between electrodes, differs by a known amount.

The EEG of one band is multiplied by a gain that is one number over a trial, and one outside:
``x + (g(t) - 1) · band(x)``, with zero phase, so that all else about it stays as recorded. A gain
that ends cannot be limited to a band. What of it lies outside is kept small in two ways: the band
that is multiplied ends well inside the edges of `BANDS`, and the gain rises and falls along half a
cosine, in the gap beside the trial.

DE filters let through some of what lies beside their band, which the gain does not change. So the
gain that moves DE by 0.1 nats is not exp(0.1). It is solved for, per trial and electrode.

No source in a head changes one electrode and not its neighbours. A gain at some electrodes alone
is therefore easy to find for a model that compares neighbours, and it gives power to directions
between electrodes that a recording lacks (see `de3dgan.eeg.subspace`). Where the change is
*conducted*, other electrodes change with the chosen ones as they go with them over the recording:
each gets its least-squares prediction from them, so that no direction is added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from de3dgan.eeg.de import BANDS, EDGE, band_signals, windowed_de
from de3dgan.eeg.sampling import SFREQ

#: Samples over which a gain rises before a trial, and falls after it (half a second).
RAMP = SFREQ // 2
#: Share of a band's width, at either end, over which the part that is multiplied sets in.
_SLOPE = 0.25
#: How far a change may be from what is asked for, in nats, and how many attempts there are.
_TOLERANCE = 2e-4
_ATTEMPTS = 60

Segments = Sequence[tuple[int, int]]


def with_power(
    eeg: np.ndarray,
    segments: Segments,
    bands: Sequence[str],
    channels: Sequence[int],
    change: np.ndarray,
    conducted: bool = False,
) -> np.ndarray:
    """Change the mean DE of some bands, electrodes and trials.

    Parameters
    ----------
    eeg : array, (n_chans, n_times)
        One continuous recording, in µV at 128 Hz.
    segments : sequence of (int, int), length n_trials
        Start and stop of the trials, `RAMP` or more apart.
    bands : sequence of str, length n_bands
        Names in `BANDS`.
    channels : sequence of int, length n_sites
        Electrodes.
    change : array, (n_bands, n_sites, n_trials)
        By how much the mean over a trial's windows is to rise, in nats.
    conducted : bool
        Whether other electrodes change with the chosen ones.

    Returns
    -------
    array, (n_chans, n_times)
        Times further than `RAMP` from any trial are what they were; so are other electrodes,
        unless the change is conducted.

    Raises
    ------
    ValueError
        If no gain makes that change.
    """
    channels = list(channels)
    chosen, envelopes = eeg[channels], _envelopes(segments, eeg.shape[1])
    parts = [in_band(chosen, band) for band in bands]
    carried = [_carried(eeg, band, channels, conducted) for band in bands]
    before = trial_means(chosen, segments, bands)

    def added(log_gain: np.ndarray, rows: list[int] | slice) -> np.ndarray:
        terms = zip(log_gain, parts, carried, strict=True)
        return sum(to[rows] @ ((np.expm1(gain) @ envelopes) * part) for gain, part, to in terms)

    def measured(log_gain: np.ndarray) -> np.ndarray:
        return trial_means(chosen + added(log_gain, channels), segments, bands) - before

    return eeg + added(_solved(measured, change), slice(None))


def with_correlation(
    eeg: np.ndarray,
    segments: Segments,
    bands: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    change: np.ndarray,
    conducted: bool = False,
) -> np.ndarray:
    """Change the correlation within pairs of electrodes, and no band's DE.

    The two signals of a pair are turned towards each other: each gets a part of the other one,
    scaled to its own size. Turning by half the arcsine of q adds artanh(q) to Fisher's z, the
    artanh of their correlation. Both are then scaled back to the DE that they had.

    Parameters
    ----------
    eeg, segments, bands, conducted
        See `with_power`.
    pairs : sequence of (int, int), length n_pairs
        Electrodes, none of them twice.
    change : array, (n_bands, n_pairs, n_trials)
        By how much Fisher's z of the two band-passed signals over a trial is to rise.

    Returns
    -------
    array, (n_chans, n_times)
        See `with_power`.

    Raises
    ------
    ValueError
        If that cannot be done.
    """
    n, channels = len(pairs), [left for left, _ in pairs] + [right for _, right in pairs]
    chosen, envelopes = eeg[channels], _envelopes(segments, eeg.shape[1])
    parts = [in_band(chosen, band) for band in bands]
    carried = [_carried(eeg, band, channels, conducted) for band in bands]
    sizes = [np.stack([part[:, a:b].std(-1) for a, b in segments], 1) for part in parts]
    before = trial_means(chosen, segments, bands)
    z_before = trial_z(chosen, segments, bands)

    def added(unknown: np.ndarray, rows: list[int] | slice) -> np.ndarray:
        total = 0.0
        for x, part, size, to in zip(unknown, parts, sizes, carried, strict=True):
            gain, angle = np.exp(x[: 2 * n]), 0.5 * np.arcsin(np.tanh(x[2 * n :]))
            angle, other = np.concatenate([angle, angle]), np.roll(part, n, axis=0)
            of_other = gain * np.sin(angle) * size / np.roll(size, n, axis=0)
            new = ((gain * np.cos(angle) - 1) @ envelopes) * part + (of_other @ envelopes) * other
            total = total + to[rows] @ new
        return total

    def measured(unknown: np.ndarray) -> np.ndarray:
        found = chosen + added(unknown, channels)
        de = trial_means(found, segments, bands) - before
        return np.concatenate([de, trial_z(found, segments, bands) - z_before], axis=1)

    no_change = np.zeros((len(bands), 2 * n, len(segments)))
    found = _solved(measured, np.concatenate([no_change, change], axis=1))
    return eeg + added(found, slice(None))


def with_drift(eeg: np.ndarray, bands: Sequence[str], nats: float) -> np.ndarray:
    """Let the log-amplitude of some bands rise by `nats` from the start to the end, evenly."""
    gain = np.expm1(np.linspace(0, nats, eeg.shape[1]))
    return eeg + sum(gain * in_band(eeg, band) for band in bands)


def in_band(eeg: np.ndarray, band: str) -> np.ndarray:
    """Return the part of EEG that is multiplied: it sets in smoothly, inside the band's edges.

    Parameters
    ----------
    eeg : array, (n_chans, n_times)
    band : str
        A name in `BANDS`.

    Returns
    -------
    array, (n_chans, n_times)
    """
    from scipy import fft

    n_times = eeg.shape[-1]
    pad = min(EDGE, n_times - 1)  # an FFT takes the end to be followed by the start
    padded = np.pad(eeg, ((0, 0), (pad, pad)), mode="reflect", reflect_type="odd")
    n_fft = fft.next_fast_len(padded.shape[-1], real=True)
    low, high = BANDS[band]
    freqs, width = np.fft.rfftfreq(n_fft, 1 / SFREQ), _SLOPE * (high - low)
    inside = np.minimum(freqs - low, high - freqs) / width
    response = np.sin(0.5 * np.pi * inside.clip(0, 1)) ** 2
    return fft.irfft(fft.rfft(padded, n_fft) * response, n_fft)[:, pad : pad + n_times]


def trial_means(eeg: np.ndarray, segments: Segments, bands: Sequence[str]) -> np.ndarray:
    """Return the mean DE over each trial's windows, (n_bands, n_chans, n_trials), in nats."""
    return np.stack(
        [
            np.stack([windowed_de(signal[:, a:b]).mean(0) for a, b in segments], axis=1)
            for signal in _signals(eeg, bands)
        ]
    )


def trial_z(eeg: np.ndarray, segments: Segments, bands: Sequence[str]) -> np.ndarray:
    """Return Fisher's z between the first half of the channels and the second, in each trial.

    Returns
    -------
    array, (n_bands, n_chans / 2, n_trials)
    """
    n = len(eeg) // 2
    return np.stack(
        [
            np.stack(
                [np.arctanh(_correlation(signal[:n, a:b], signal[n:, a:b])) for a, b in segments],
                axis=1,
            )
            for signal in _signals(eeg, bands)
        ]
    )


def _carried(eeg: np.ndarray, band: str, channels: list[int], conducted: bool) -> np.ndarray:
    """Return what a change at some electrodes is at all of them, (n_chans, len(channels))."""
    if not conducted:
        return np.eye(len(eeg))[:, channels]
    part = in_band(eeg, band)
    covariance = part @ part[channels].T
    return covariance @ np.linalg.pinv(covariance[channels], rcond=1e-6, hermitian=True)


def _signals(eeg: np.ndarray, bands: Sequence[str]) -> list[np.ndarray]:
    by_name = {
        name: signal for name, signal in zip(BANDS, band_signals(eeg), strict=True) if name in bands
    }
    return [by_name[band] for band in bands]


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = (x - x.mean(-1, keepdims=True) for x in (one, other))
    return (one * other).sum(-1) / np.sqrt((one**2).sum(-1) * (other**2).sum(-1))


def _envelopes(segments: Segments, n_times: int) -> np.ndarray:
    """Return what is one in a trial and falls to zero beside it, (n_trials, n_times)."""
    times = np.arange(n_times)
    rows = [np.minimum(times - start + RAMP, stop - 1 + RAMP - times) for start, stop in segments]
    return np.sin(0.5 * np.pi * (np.stack(rows) / RAMP).clip(0, 1)) ** 2


def _solved(measured: Callable[[np.ndarray], np.ndarray], wanted: np.ndarray) -> np.ndarray:
    """Return x so that `measured(x)` is `wanted`.

    At 0 it is 0, and each element depends on that of x most, with a slope of about 1. Secants,
    element by element, are quick; where elements depend on each other as well (electrodes that are
    highly correlated), they may go astray, and steps of slope 1 are slow and sure.
    """
    for by_secants in (True, False):
        x, slope = wanted.astype(np.float64), np.ones(wanted.shape)
        x_before, found_before = np.zeros(wanted.shape), np.zeros(wanted.shape)
        for _ in range(_ATTEMPTS):
            found = measured(x)
            if not np.isfinite(found).all():
                break
            if np.abs(found - wanted).max() < _TOLERANCE:
                return x
            moved = x - x_before
            far = np.abs(moved) > 1e-6
            if by_secants:
                slope[far] = ((found - found_before)[far] / moved[far]).clip(0.2, 2)
            x_before, found_before = x, found
            x = x + (wanted - found) / slope
    raise ValueError("no gain makes the change")
