"""Writer of a person of EEGMAT as PhysioNet has them, with a shorter rest."""

from __future__ import annotations

from pathlib import Path

import edfio
import numpy as np

from de3dgan.eeg.sampling import SFREQ

OLD_NAMES = "Fp1 Fp2 F3 F4 F7 F8 T3 T4 C3 C4 T5 T6 P3 P4 O1 O2 Fz Cz Pz"
EDF_NAMES = [f"EEG {name}" for name in OLD_NAMES.split()]


def write_edf(path: Path, names: list[str], eeg: np.ndarray, sfreq: int) -> None:
    """Write (n_chans, n_times) in µV as EDF: one record per second, 16 bits over ±400 µV."""
    signals = [
        edfio.EdfSignal(
            channel, sfreq, label=name, physical_dimension="uV", physical_range=(-400, 400)
        )
        for name, channel in zip(names, eeg, strict=True)
    ]
    edfio.Edf(signals, data_record_duration=1).write(path)


def noise(n_chans: int, seconds: int, sfreq: int, seed: int = 0) -> np.ndarray:
    """Return noise of some 30 µV below 50 Hz."""
    n_times = seconds * sfreq
    freqs = np.fft.rfftfreq(n_times, 1 / sfreq)
    white = np.random.default_rng(seed).normal(size=(2, n_chans, len(freqs)))
    eeg = np.fft.irfft((white[0] + 1j * white[1]) * (freqs < 50), n_times)
    return 30 * eeg / eeg.std()


def write_pair(
    folder: Path,
    rest_seconds: int,
    task_seconds: int = 62,
    sfreq: int = SFREQ,
    subject: str = "Subject00",
    seed: int = 0,
) -> tuple[list[Path], list[np.ndarray]]:
    """Write a subject's two recordings and return their paths and what they hold."""
    files = [folder / f"{subject}_1.edf", folder / f"{subject}_2.edf"]
    eegs = [noise(19, rest_seconds, sfreq, seed), noise(19, task_seconds, sfreq, seed + 1)]
    for path, eeg in zip(files, eegs, strict=True):
        write_edf(path, EDF_NAMES, eeg, sfreq)
    return files, eegs
