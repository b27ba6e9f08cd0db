"""Differential entropy of one DEAP subject: ours, and the loop that it is usually written as."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy.signal import butter, filtfilt

from de3dgan.data.simulation import simulate_subject
from de3dgan.eeg.de import BANDS, differential_entropy


def measure(repeats: int) -> dict[str, Any]:
    """Return seconds per subject: of the plain loop, of one process, and of one per core."""
    data, _ = simulate_subject(1)
    recordings = list(data[:, :32])
    fast = our_de(recordings)  # warms up: filters are made once per process
    plain_times, times = [], []
    for _ in range(repeats):  # in turns, so that whatever else the machine does hits both
        start = time.perf_counter()
        plain = plain_loop(recordings)
        plain_times.append(time.perf_counter() - start)
        times.append(seconds_of(recordings, 1))
    # Each process computes one subject again and again, as many processes as cores.
    cores = os.cpu_count() or 1
    with Parallel(n_jobs=cores) as parallel:
        parallel(
            delayed(seconds_of)(recordings, 1) for _ in range(cores)
        )  # processes start, warm up
        together = parallel(delayed(seconds_of)(recordings, 3 * repeats) for _ in range(cores))
    return {
        "plain": float(np.median(plain_times)),
        "one_process": float(np.median(times)),
        "all_cores": max(together) / (cores * 3 * repeats),
        "cores": cores,
        "largest_difference": float(np.abs(fast - plain).max()),
    }


def our_de(recordings: list[np.ndarray]) -> np.ndarray:
    """Return baseline-removed DE, (n_trials, n_bands, 120, 32)."""
    des = map(differential_entropy, recordings)
    return np.stack([de[:, 6:] - de[:, :6].mean(1, keepdims=True) for de in des])


def seconds_of(recordings: list[np.ndarray], repeats: int) -> float:
    """Return how long it takes to compute a subject's DE `repeats` times."""
    start = time.perf_counter()
    for _ in range(repeats):
        our_de(recordings)
    return time.perf_counter() - start


def plain_loop(recordings: list[np.ndarray]) -> np.ndarray:
    """Return baseline-removed DE, one trial, electrode, band and window at a time."""
    out = np.empty((len(recordings), len(BANDS), 120, 32))
    for trial, recording in enumerate(recordings):
        for band, (low, high) in enumerate(BANDS.values()):
            b, a = butter(3, [low, high], "bandpass", fs=128)
            for channel in range(32):
                filtered = filtfilt(b, a, recording[channel])
                de = [
                    0.5 * np.log(2 * np.pi * np.e * np.var(filtered[start : start + 64], ddof=1))
                    for start in range(0, 8064, 64)
                ]
                out[trial, band, :, channel] = np.array(de[6:]) - np.mean(de[:6])
    return out
