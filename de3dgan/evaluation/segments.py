"""What judges are given of segments of EEG: features that each show one property.

=============  =================================================================================
features       per segment
=============  =================================================================================
samples        the samples themselves, µV
eigenvalues    log eigenvalues of the correlation matrix of the electrodes, per band: how many
               independent sources there are
correlations   that matrix itself, per band
marginals      skewness and log kurtosis per electrode, of the whole and per band: bursts
memory         autocorrelation of the analytic signal, and of its phase alone, at several lags,
               per band and electrode: how long a wave goes on
coupling       correlation of the amplitudes of two bands, and how far the phase of the lower sets
               the amplitude of the higher one (mean vector length, Canolty et al., Science 2006)
steps          distribution of steps between samples, and steps across borders of frames
spectra        log power at 4 to 45 Hz: mean and spread over electrodes, and by electrode
=============  =================================================================================

EEG is filtered to 4-45 Hz before anything: DE does not tell what real EEG holds below and above, so
that no generator could know it. Filters run over whole trials, never over a segment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from de3dgan.base.seeds import derived_rng
from de3dgan.eeg.de import BANDS, FILTER_ORDER, fft_length, power_responses
from de3dgan.eeg.sampling import FRAME, SFREQ
from de3dgan.evaluation.measures import correlations, unit_length

#: Samples of the segments that judges are asked about.
LENGTHS = {"1 s": SFREQ, "4 s": 4 * SFREQ, "12 s": 12 * SFREQ}
#: Hz that EEG is filtered to: DE's bands together.
_PASSBAND = (4.0, 45.0)
#: Lags of `memory` in samples of analytic signals: an eighth, a quarter and half a second.
_LAGS = (8, 16, 32)
#: Every how many samples of an analytic signal are kept: it has no power above 64 Hz to be lost,
#: nor any below 0.
_STEP = 2
#: Samples by which EEG is continued beyond its ends before it is filtered.
_EDGE = 2 * SFREQ
#: Power in µV² (or its share) below which there is only rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Signals:
    """A trial as features need it; all in µV, and 32-bit.

    Attributes
    ----------
    passed : array, (n_chans, n_times)
        Filtered to 4-45 Hz.
    bands : array, (n_bands, n_chans, n_times)
        Its bands.
    analytic : array of complex, (n_bands, n_chans, n_times / 2)
        Their analytic signals, at 64 Hz.
    """

    passed: np.ndarray
    bands: np.ndarray
    analytic: np.ndarray

    @classmethod
    def of(cls, eeg: np.ndarray) -> Signals:
        """Filter a trial, (n_chans, n_times) in µV."""
        from scipy import fft

        n_times = eeg.shape[-1]
        spectrum, n_fft, edge = _passed_spectrum(eeg)
        inside = slice(edge, edge + n_times)
        of_bands = spectrum * power_responses(n_fft)[:, None].astype(np.float32)
        # Without what is below 0 Hz, every second sample is enough.
        half = 2 * of_bands[..., : n_fft // _STEP] / _STEP
        return cls(
            fft.irfft(spectrum, n_fft)[..., inside],
            fft.irfft(of_bands, n_fft)[..., inside],
            fft.ifft(half)[..., edge // _STEP : (edge + n_times) // _STEP],
        )


@dataclass(frozen=True)
class _Segments:
    """Segments of a trial, as `Signals`; computed once, as several features need them.

    Attributes
    ----------
    passed : array, (n, n_chans, length)
    steps : array, (n, n_chans, length)
        Absolute steps from sample to sample; the first is that from the segment before.
    bands : array, (n, n_bands, n_chans, length)
    analytic, phase : array of complex, (n, n_bands, n_chans, length / 2)
    amplitude : array, (n, n_bands, n_chans, length / 2)
    correlations : array, (n, n_bands, n_chans, n_chans)
    """

    passed: np.ndarray
    steps: np.ndarray
    bands: np.ndarray
    analytic: np.ndarray
    amplitude: np.ndarray
    phase: np.ndarray
    correlations: np.ndarray

    @classmethod
    def of(cls, signals: Signals, chosen: np.ndarray, length: int) -> _Segments:
        """Cut those chosen of the segments of a length."""
        steps = np.abs(np.diff(signals.passed, prepend=signals.passed[:, :1]))
        bands = _cut(signals.bands, chosen, length)
        analytic = _cut(signals.analytic, chosen, length // _STEP)
        amplitude = np.abs(analytic)
        return cls(
            _cut(signals.passed, chosen, length),
            _cut(steps, chosen, length),
            bands,
            analytic,
            amplitude,
            analytic / (amplitude + _ROUNDING),
            correlations(bands.astype(np.float64)),
        )


@dataclass(frozen=True)
class Described:
    """Features of segments of one length.

    Attributes
    ----------
    features : dict of str to array, (n, ...)
        By name of `FEATURES`.
    trials : array of int, (n,)
        The trial that each segment is of.
    """

    features: dict[str, np.ndarray]
    trials: np.ndarray


def passed(eeg: np.ndarray) -> np.ndarray:
    """Filter EEG (n_chans, n_times) to 4-45 Hz with zero phase; float32."""
    from scipy import fft

    spectrum, n_fft, edge = _passed_spectrum(eeg)
    return fft.irfft(spectrum, n_fft)[..., edge : edge + eeg.shape[-1]]


def _passed_spectrum(eeg: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Return the spectrum of filtered EEG, the samples that it is of, and where EEG begins.

    EEG goes on beyond its ends, mirrored in them: a step would ring in all bands.
    """
    from scipy import fft

    eeg = (eeg - eeg.mean(-1, keepdims=True, dtype=np.float64)).astype(np.float32)
    n_times = eeg.shape[-1]
    edge = min(_EDGE, (n_times - 1) // _STEP * _STEP)
    eeg = np.pad(eeg, ((0, 0), (edge, edge)), "reflect", reflect_type="odd")
    n_fft = fft_length(n_times + 3 * edge)
    return fft.rfft(eeg, n_fft) * _pass_response(n_fft), n_fft, edge


@lru_cache(maxsize=8)
def _pass_response(n_fft: int) -> np.ndarray:
    """Return |H(f)|² of 4-45 Hz, float32 (n_fft // 2 + 1,)."""
    from scipy import signal

    sos = signal.butter(FILTER_ORDER, _PASSBAND, "bandpass", fs=SFREQ, output="sos")
    freqs = np.fft.rfftfreq(n_fft, 1 / SFREQ)
    return (np.abs(signal.freqz_sos(sos, freqs, fs=SFREQ)[1]) ** 2).astype(np.float32)


def describe(
    eeg: np.ndarray,
    trials: np.ndarray,
    wanted: np.ndarray,
    odd: bool,
    n_segments: int,
    seed: int,
) -> dict[str, Described]:
    """Return the features of every second segment of trials.

    Which segments are odd is drawn for each trial. Real EEG described by its even segments and
    generated EEG by its odd ones never have a second of a trial in common, and neither comes first
    in every trial.

    Parameters
    ----------
    eeg : array, (n_trials, n_chans, n_times)
        In µV.
    trials : array of int, (n_trials,)
        Which trials these are.
    wanted : array of bool, (n_trials, n_frames)
        Segments are described of which all frames are wanted.
    odd : bool
        Odd segments, or even ones.
    n_segments : int
        About how many to describe of each length, at most; they are spread over the trials.
    seed : int
        For the draws.

    Returns
    -------
    dict of str to Described
        By name of `LENGTHS`.
    """
    at_most = max(1, n_segments // len(trials))
    rows: dict[str, list] = {name: [] for name in LENGTHS}
    for number, trial, mask in zip(trials.tolist(), eeg, wanted, strict=True):
        signals = Signals.of(trial)
        rng = derived_rng(seed, number, "segments that judges are asked about")
        first = int(rng.integers(2))
        for name, length in LENGTHS.items():
            n_frames = length // FRAME
            whole = mask[: len(mask) // n_frames * n_frames].reshape(-1, n_frames).all(1)
            side = (np.arange(len(whole)) + first) % 2 == odd
            chosen = np.sort(rng.permutation(np.flatnonzero(whole & side))[:at_most])
            if len(chosen):
                segments = _Segments.of(signals, chosen, length)
                found = {key: f(segments) for key, f in FEATURES.items()}
                rows[name].append((number, found))
    return {name: _joined(found) for name, found in rows.items() if found}


def _joined(rows: list[tuple[int, dict[str, np.ndarray]]]) -> Described:
    numbers, features = zip(*rows, strict=True)
    counts = [len(found["steps"]) for found in features]
    return Described(
        {name: np.concatenate([found[name] for found in features]) for name in FEATURES},
        np.repeat(numbers, counts),
    )


def _cut(x: np.ndarray, chosen: np.ndarray, length: int) -> np.ndarray:
    """Cut (..., n_times) into segments and return those chosen, (len(chosen), ..., length)."""
    n = x.shape[-1] // length
    segments = x[..., : n * length].reshape(*x.shape[:-1], n, length)
    return np.moveaxis(segments[..., chosen, :], -2, 0)


def _rows(*features: np.ndarray) -> np.ndarray:
    """Join features (n, ...) to (n, n_features); those that are all but 0 are 0."""
    rows = np.concatenate([f.reshape(len(f), -1) for f in features], axis=1).astype(np.float32)
    rows[np.abs(rows) < _ROUNDING] = 0
    return rows


def _eigenvalues(segments: _Segments) -> np.ndarray:
    found = np.linalg.eigvalsh(segments.correlations)
    return _rows(np.log(found.clip(0) + _ROUNDING))


def _marginals(segments: _Segments) -> np.ndarray:
    x = np.concatenate([segments.passed[:, None], segments.bands], axis=1)
    x = x - x.mean(-1, keepdims=True)
    x = x / (x.std(-1, keepdims=True) + _ROUNDING)
    square = x * x
    kurtosis = np.log(np.vecdot(square, square) / x.shape[-1] + _ROUNDING)
    return _rows(np.vecdot(square, x) / x.shape[-1], kurtosis)


def _memory(segments: _Segments) -> np.ndarray:
    power = (segments.amplitude**2).mean(-1) + _ROUNDING
    out = []
    for x, scale in ((segments.analytic, power), (segments.phase, 1.0)):
        for lag in _LAGS:
            found = np.vecdot(x[..., :-lag], x[..., lag:]) / (x.shape[-1] - lag)
            out.append(np.abs(found) / scale)
    return _rows(*out)


def _coupling(segments: _Segments) -> np.ndarray:
    amplitude, phase = segments.amplitude, segments.phase
    shape = unit_length(amplitude)
    out = []
    for low in range(len(BANDS)):
        for high in range(low + 1, len(BANDS)):
            out.append(np.vecdot(shape[:, low], shape[:, high]))
            vector = np.vecdot(amplitude[:, high], phase[:, low]) / phase.shape[-1]
            out.append(np.abs(vector) / (amplitude[:, high].mean(-1) + _ROUNDING))
    return _rows(*out)


def _steps(segments: _Segments) -> np.ndarray:
    steps = segments.steps
    borders = np.arange(0, steps.shape[-1], FRAME)  # the first of each frame is from one before
    inside = np.sort(np.delete(steps, borders, axis=-1))
    mean = inside.mean(-1) + _ROUNDING
    at = (np.array([0.25, 0.5, 0.75, 0.9, 0.97, 1]) * (inside.shape[-1] - 1)).astype(int)
    quantiles = inside[..., at] / mean[..., None]
    across = steps[..., borders].mean(-1) / mean
    sd = segments.passed.std(-1) + _ROUNDING
    return _rows(np.log(quantiles + 1e-3), np.log(across + 1e-2), np.log(mean / sd))


def _spectra(segments: _Segments) -> np.ndarray:
    frames = segments.passed.reshape(*segments.passed.shape[:-1], -1, FRAME)
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME).astype(np.float32))) ** 2
    level = np.log(power[..., 4:46].mean(-2) + _ROUNDING)  # (n, n_chans, 42 Hz)
    coarse = level.reshape(*level.shape[:2], -1, 3).mean(-1)
    return _rows(level.mean(1), level.std(1), coarse)


#: What makes the features of segments of a trial.
FEATURES: dict[str, Callable[[_Segments], np.ndarray]] = {
    "samples": lambda segments: segments.passed,
    "eigenvalues": _eigenvalues,
    "correlations": lambda segments: segments.correlations,
    "marginals": _marginals,
    "memory": _memory,
    "coupling": _coupling,
    "steps": _steps,
    "spectra": _spectra,
}
