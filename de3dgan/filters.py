"""The band filters of differential entropy, and what makes them fast.

A module of its own, as `scipy.signal` takes a second to import and training does not need it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import fft, signal

from de3dgan.features import BANDS, EDGE, FILTER_ORDER
from de3dgan.sources import SFREQ


def band_filters() -> list[np.ndarray]:
    """Return the second-order sections of each band's Butterworth filter, order of `BANDS`."""
    return [
        signal.butter(FILTER_ORDER, edges, "bandpass", fs=SFREQ, output="sos")
        for edges in BANDS.values()
    ]


def fft_length(n_times: int) -> int:
    """Return a length of at least `n_times` with many factors of two, which FFTs are fastest at."""
    return 1024 * fft.next_fast_len(-(-n_times // 1024), real=True)


@lru_cache(maxsize=8)
def power_responses(n_fft: int) -> np.ndarray:
    """Return |H(f)|² of each band, (n_bands, n_fft // 2 + 1)."""
    freqs = np.fft.rfftfreq(n_fft, 1 / SFREQ)
    return np.stack([np.abs(signal.freqz_sos(s, freqs, fs=SFREQ)[1]) ** 2 for s in band_filters()])


@lru_cache(maxsize=1)
def edge_maps() -> list[tuple[tuple[np.ndarray, np.ndarray], ...]]:
    """Return, per band, what `sosfiltfilt` does near the start and the end beyond |H|².

    Each map is linear from the `EDGE` outermost samples to themselves, and is returned as two
    factors (n_edge, rank) and (rank, n_edge).
    """
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
