"""Simulated EEG of one subject, with a class effect of known place and size.

The EEG is stationary Gaussian noise, correlated between neighbouring electrodes, with a spectrum of
1/f and an alpha peak between 4 and 45 Hz. Subjects differ in amplitude, slope, and frequency and
height of the alpha peak; trials of one subject differ by chance, by the effect and by the
fingerprint only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.data.sources.deap import BASELINE, MAX_TRIALS, N_CHANNELS, N_TIMES, RATINGS
from de3dgan.eeg.de import BANDS
from de3dgan.eeg.montage import DEAP_CHANNELS, GRID_SHAPE, grid_cells
from de3dgan.eeg.sampling import SFREQ

#: Arousal has an effect of its own, of the same strength, so that all four classes differ.
AROUSAL_BAND = "beta"
AROUSAL_CHANNELS = ("FP1", "AF3", "F3", "FP2", "AF4", "FZ", "F4")

#: Typical standard deviation of an electrode in µV, and of the eight peripheral channels in the
#: units of DEAP: hEOG vEOG zEMG tEMG (µV), GSR (nS), respiration, pulse, temperature (°C).
EEG_STD = 10.0
PERIPHERAL_STD = np.array([60.0, 80.0, 30.0, 30.0, 500.0, 300.0, 400.0, 0.01])

#: What a random stream is for; with the seed and the subject it is the stream's seed, so that no
#: switch and no number of subjects changes any other stream.
_TRAITS, _LABELS, _EEG, _FINGERPRINT, _VIDEOS = range(5)


@dataclass(frozen=True, kw_only=True)
class Signal:
    """What is simulated."""

    # Trials (videos) per subject; DEAP has 40.
    n_trials: int = 40
    # Where all randomness comes from: the same settings and seed give the same bytes.
    seed: int = 0
    # How much higher the log-amplitude is in the effect's band and electrodes in trials of high
    # valence, in nats: DE, being the log of a standard deviation, rises by as much. 0: no effect.
    # High arousal has an effect of the same strength in beta at the frontal electrodes.
    effect_strength: float = 0.5
    # Band of the valence effect.
    effect_band: Literal["theta", "alpha", "beta", "gamma"] = "alpha"
    # Electrodes of the valence effect.
    effect_channels: tuple[str, ...] = ("P3", "PZ", "P4", "PO3", "PO4", "O1", "OZ", "O2")
    # Add to every second of a trial (not of its baseline) one and the same waveform, random for
    # each trial and electrode, whatever the trial's class.
    fingerprint: bool = False
    # Standard deviation of that waveform, in standard deviations of the EEG. At 0.6 it makes up
    # 26 % of a trial's variance, as does the waveform that the published baseline removal adds,
    # and dilutes the effect, which is on the EEG alone: DE rises by 0.4 rather than 0.5 nats.
    fingerprint_strength: float = 0.6


def simulate_subject(subject: int, signal: Signal | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Simulate one subject.

    Parameters
    ----------
    subject : int
        Number of the subject, from 1.
    signal : Signal, optional
        What to simulate; by default, `Signal()`.

    Returns
    -------
    data : array, (n_trials, 40, 8064)
        32 EEG channels in the order of `DEAP_CHANNELS`, in µV, and 8 slow peripheral ones; 3 s of
        baseline and 60 s of trial at 128 Hz.
    labels : array, (n_trials, 4)
        Valence, arousal, dominance and liking, 1 to 9 and never 5. Half the trials are high in
        valence, half of either half in arousal.
    """
    signal = signal or Signal()
    check_signal(signal)
    labels = _simulate_labels(subject, signal)
    power = _spectra(np.random.default_rng([signal.seed, subject, _TRAITS]))
    mixing = np.linalg.cholesky(_spatial_correlation())
    rng = np.random.default_rng([signal.seed, subject, _EEG])
    fingerprint_rng = np.random.default_rng([signal.seed, subject, _FINGERPRINT])

    n_eeg = len(DEAP_CHANNELS)
    data = np.empty((signal.n_trials, N_CHANNELS, N_TIMES))
    for trial, (valence, arousal, *_) in zip(data, labels, strict=True):
        eeg = trial[:n_eeg]
        spectrum = _complex_noise(rng, mixing, power)
        eeg[:] = np.fft.irfft(spectrum, N_TIMES)
        if valence > 5:
            _add_effect(eeg, spectrum, signal, signal.effect_band, signal.effect_channels)
        if arousal > 5:
            _add_effect(eeg, spectrum, signal, AROUSAL_BAND, AROUSAL_CHANNELS)
        if signal.fingerprint:
            waveform = _fingerprint(fingerprint_rng, power)
            seconds = eeg[:, BASELINE:].reshape(n_eeg, -1, SFREQ)
            seconds += signal.fingerprint_strength * waveform[:, None]
        trial[n_eeg:] = _peripheral(rng)
    return data, labels


def check_signal(signal: Signal) -> None:
    """Refuse settings that cannot be simulated."""
    if not 1 <= signal.n_trials <= MAX_TRIALS:
        raise UserError(
            f"The number of trials must be from 1 to {MAX_TRIALS}, not {signal.n_trials}."
        )
    if not -3 <= signal.effect_strength <= 3:
        raise UserError(f"The effect must be from -3 to 3 nats, not {signal.effect_strength}.")
    if not 0 <= signal.fingerprint_strength <= 10:
        raise UserError(
            f"The fingerprint's strength must be from 0 to 10, not {signal.fingerprint_strength}."
        )
    if signal.seed < 0:
        raise UserError(f"The seed must not be negative, as {signal.seed} is.")
    if signal.effect_band not in BANDS:
        raise UserError(f"{signal.effect_band!r} is no band: choose one of {', '.join(BANDS)}.")
    grid_cells(signal.effect_channels)


def _simulate_labels(subject: int, signal: Signal) -> np.ndarray:
    """Return the ratings, (n_trials, 4), balanced within each subject.

    How much a video is felt to be positive or exciting is half the video's doing and half the
    subject's: any two subjects' tendencies correlate by 0.5.
    """
    videos = np.random.default_rng([signal.seed, 0, _VIDEOS])
    rng = np.random.default_rng([signal.seed, subject, _LABELS])
    n = signal.n_trials
    valence, arousal = (videos.normal(size=(n, 2)) + rng.normal(size=(n, 2))).T
    high = rng.random((n, len(RATINGS))) > 0.5  # stays so for dominance and liking
    high[:, 0] = _upper_half(valence)
    # Among videos of either valence, half are exciting: neither tells anything of the other.
    for half in (high[:, 0], ~high[:, 0]):
        high[half, 1] = _upper_half(arousal[half])
    ratings = np.where(high, rng.uniform(5.1, 9, high.shape), rng.uniform(1, 4.9, high.shape))
    return ratings.round(2)


def _upper_half(values: np.ndarray) -> np.ndarray:
    """Return a mask of the half of `values` (of the smaller half, if odd) that is largest."""
    return values.argsort().argsort() >= (len(values) + 1) // 2


def _spectra(rng: np.random.Generator) -> np.ndarray:
    """Draw a subject's spectra, (n_chans, n_freqs): the variance in µV² at each FFT frequency."""
    freqs = np.fft.rfftfreq(N_TIMES, 1 / SFREQ)[1:]
    slope = rng.normal(1.0, 0.1)
    peak, height = rng.uniform(9, 11), 3 * np.exp(rng.normal(0, 0.4))
    gain = np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.1, (len(DEAP_CHANNELS), 1)))
    # DEAP is filtered to 4-45 Hz; like a real filter, this one has no sharp edge.
    passed = 1 / (1 + (4 / freqs) ** 12) / (1 + (freqs / 45) ** 24)
    background = passed * freqs**-slope
    # Alpha is strongest at the back of the head, the last rows of the grid.
    rows = np.array(grid_cells(DEAP_CHANNELS))[:, None] // GRID_SHAPE[1]
    alpha = height * (0.2 + rows / rows.max()) * np.exp(-0.5 * (freqs - peak) ** 2) * peak**-slope
    power = (EEG_STD * gain) ** 2 * (background + alpha) / background.sum()
    return np.pad(power, ((0, 0), (1, 0)))  # nothing at 0 Hz


def _spatial_correlation() -> np.ndarray:
    """Return the correlation between electrodes, (n_chans, n_chans), by distance on the grid."""
    cells = np.array(grid_cells(DEAP_CHANNELS))
    places = np.stack(np.divmod(cells, GRID_SHAPE[1]), axis=1)
    squared = ((places[:, None] - places[None]) ** 2).sum(-1)
    # Each electrode has a fifth of its variance to itself.
    return 0.8 * np.exp(-0.5 * squared / 1.5**2) + 0.2 * np.eye(len(cells))


def _complex_noise(rng: np.random.Generator, mixing: np.ndarray, power: np.ndarray) -> np.ndarray:
    """Draw the FFT, (n_chans, n_freqs), of Gaussian noise with the variances `power` on average."""
    real, imaginary = rng.normal(size=(2, *power.shape))
    return 0.5 * N_TIMES * np.sqrt(power) * (mixing @ real + 1j * (mixing @ imaginary))


def _add_effect(
    eeg: np.ndarray, spectrum: np.ndarray, signal: Signal, band: str, channels: tuple[str, ...]
) -> None:
    """Multiply the EEG in `band` at `channels` by exp(effect_strength), from the trial's start on.

    It sets in over a quarter of a second, since a jump would have power in all bands.
    """
    freqs = np.fft.rfftfreq(N_TIMES, 1 / SFREQ)
    low, high = BANDS[band]
    chosen = [DEAP_CHANNELS.index(name.upper()) for name in channels]
    within = np.fft.irfft(spectrum[chosen] * ((freqs >= low) & (freqs < high)), N_TIMES)
    onset = ((np.arange(N_TIMES) - BASELINE) / (0.25 * SFREQ)).clip(0, 1)
    eeg[chosen] += np.expm1(signal.effect_strength) * onset * within


def _fingerprint(rng: np.random.Generator, power: np.ndarray) -> np.ndarray:
    """Draw a trial's waveform, (n_chans, 128): one second, of the EEG's spectrum and variance."""
    # A second's FFT has a frequency per hertz, which takes the variance around it.
    per_hertz = N_TIMES // SFREQ
    lines = np.add.reduceat(power, np.arange(per_hertz // 2, N_TIMES // 2, per_hertz), axis=1)
    real, imaginary = rng.normal(size=(2, *lines.shape))
    amplitude = 0.5 * SFREQ * np.sqrt(lines) * (real + 1j * imaginary)
    # Frames show the waveform itself. DE, which sees no more of it than its power, is given
    # something to see: bands that are strong or weak at random, of variance 1 on average.
    edges = [low for low, _ in BANDS.values()][1:]
    band_of_line = np.digitize(np.arange(1, 1 + lines.shape[1]), edges)
    amplitude *= rng.normal(size=(len(power), len(BANDS)))[:, band_of_line]
    return np.fft.irfft(np.pad(amplitude, ((0, 0), (1, 0))), SFREQ)


def _peripheral(rng: np.random.Generator) -> np.ndarray:
    """Draw the eight peripheral channels, (8, n_times): noise below some 10 Hz, of no class."""
    freqs = np.fft.rfftfreq(N_TIMES, 1 / SFREQ)[1:]
    power = np.pad(1 / freqs / (1 + (freqs / 10) ** 4), (1, 0))
    power = PERIPHERAL_STD[:, None] ** 2 * power / power.sum()
    return np.fft.irfft(_complex_noise(rng, np.eye(len(power)), power), N_TIMES)
