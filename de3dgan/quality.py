"""How much generated EEG is like the real EEG of the same trials."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import signal

from de3dgan.features import BANDS, FRAME, differential_entropy
from de3dgan.sources import SFREQ

#: Silence has a DE of -inf; this stands for it: a thousandth of a millionth of a µV.
_SILENCE = -20.0


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
    return np.stack([differential_entropy(trial) for trial in eeg]).clip(_SILENCE)


def de_round_trip(made: np.ndarray, wanted: np.ndarray) -> dict[str, dict[str, float]]:
    """Compare the DE of generated EEG with the DE it was generated from.

    Parameters
    ----------
    made, wanted : array, (n_trials, n_bands, n_windows, n_chans)
        Absolute DE in nats.

    Returns
    -------
    dict
        Per band: ``correlation`` over all windows, electrodes and trials (0 where the generated
        EEG does not vary); ``mae``, the mean absolute error in nats; ``bias``, the mean error,
        below 0 where the generated EEG is too quiet.
    """
    out = {}
    for index, band in enumerate(BANDS):
        a, b = made[:, index].ravel(), wanted[:, index].ravel().astype(np.float64)
        varies = a.std() > 0 and b.std() > 0
        out[band] = {
            "correlation": float(np.corrcoef(a, b)[0, 1]) if varies else 0.0,
            "mae": float(np.abs(a - b).mean()),
            "bias": float((a - b).mean()),
        }
    return out


def seam_ratio(eeg: np.ndarray) -> float:
    """Return the mean absolute step across one-second frame borders over that inside frames.

    1 for EEG that does not know where the borders are, and for silence.

    Parameters
    ----------
    eeg : array, (..., n_times)
        EEG in µV.
    """
    steps = np.abs(np.diff(eeg, axis=-1))
    across = np.arange(FRAME - 1, steps.shape[-1], FRAME)
    inside = np.delete(steps, across, axis=-1).mean()
    return float(steps[..., across].mean() / inside) if inside > 0 else 1.0


def log_spectrum_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Return the mean absolute difference of log power spectra, 4-46 Hz.

    Parameters
    ----------
    real, generated : array, (..., n_times)
        EEG of the same trials, in µV.

    Returns
    -------
    float
        In nats; of Welch spectra with 2-s Hann windows, per trial and electrode.
    """
    freqs, of_real = signal.welch(real, SFREQ, nperseg=2 * SFREQ)
    _, of_generated = signal.welch(generated, SFREQ, nperseg=2 * SFREQ)
    inside = (freqs >= 4) & (freqs <= 46)
    floor = 1e-12  # µV²/Hz, so that silence has a logarithm
    difference = np.log(of_generated[..., inside] + floor) - np.log(of_real[..., inside] + floor)
    return float(np.abs(difference).mean())


def quality(pairs: Iterable[tuple[np.ndarray, np.ndarray]], de: np.ndarray) -> dict[str, Any]:
    """Return the figures of generated EEG beside those of the real EEG of the same trials.

    Parameters
    ----------
    pairs : iterable of (real, generated), each (n_chans, n_times)
        EEG in µV, trial by trial, so that not all need be in memory.
    de : array, (n_trials, n_bands, n_windows, n_chans)
        Absolute DE of the trials, in nats.

    Returns
    -------
    dict
        Means over trials; ``de_round_trip`` per band, see there.
    """
    made, per_trial = [], []
    for real, generated in pairs:
        made.append(trial_de(generated[None])[0])
        per_trial.append(
            (
                seam_ratio(real),
                seam_ratio(generated),
                log_spectrum_distance(real, generated),
                real.std(),
                generated.std(),
            )
        )
    seam_real, seam_generated, distance, sd_real, sd_generated = np.mean(per_trial, axis=0).tolist()
    return {
        "de_round_trip": de_round_trip(np.stack(made), de),
        "seam_ratio": {"real": seam_real, "generated": seam_generated},
        "log_spectrum_distance": distance,
        "amplitude_uv": {"real": sd_real, "generated": sd_generated},
    }
