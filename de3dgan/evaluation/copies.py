"""Recordings that are copies of one another: the same, louder, shifted, noisier or filtered anew.

A split can be without fault and its figures worthless, because one recording is on both sides of
it: handed in twice, cut into trials that overlap, or published under two names.

Two recordings are compared by the largest correlation, over all shifts and of either sign, of what
stays the same in such copies and differs between any other two recordings (`_traces`): differences
between electrodes, which no reference touches; whitened, so that rhythms and mains, which all EEG
has, count little; and as loud in each second as in any other, so that two blinks are no likeness.
Seismologists compare their records of noise in this way (Bensen et al. 2007).

Recordings that were seen are first compared in pools, that is as a sum; the members of a pool are
looked at only if it is suspicious (Dorfman 1943). A pair that still is gets confirmed at the full
sampling rate, with all electrodes. The time that this takes grows with the number of pairs: where
there are too many (`all_compared`), recordings are first looked up by fingerprints
(`de3dgan.evaluation.fingerprints`), which find such copies unless noise is as loud as the EEG.

References
----------
Bensen et al. 2007, "Processing seismic ambient noise data to obtain reliable broad-band surface
wave dispersion measurements", Geophysical Journal International 169, 1239-1260.
Dorfman 1943, "The detection of defective members of large populations", Annals of Mathematical
Statistics 14, 436-440.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from heapq import nlargest
from itertools import chain

import numpy as np
from scipy import fft
from scipy.ndimage import uniform_filter1d

from de3dgan.data.frames import chunks
from de3dgan.data.memory_maps import reopened
from de3dgan.eeg.sampling import SFREQ
from de3dgan.evaluation.fingerprints import alike

#: Correlation from which a pair is looked at closely. It falls with the share that two recordings
#: have in common, so that trials with a fifth in common are found.
SUSPICIOUS = 0.15
#: Correlation, in what two recordings have in common, from which they are copies. Noise that is as
#: loud as the EEG leaves 0.5, see benchmarks/COPIES.md.
COPY = 0.4
#: Hz: where EEG is loud, and what most filters leave.
_BAND = (2.0, 20.0)
#: Electrodes that are compared at first, evenly spread, and the samples that make one.
_N_CHANS, _DECIMATION = 9, 2
#: By how many standard deviations a pair must exceed what unrelated ones have: the largest of 10^9
#: normal numbers, a DEAP's pairs at all shifts, is 6.1.
_N_SD = 6.1
#: Suspicious recordings that are looked at closely, of each one tested on.
_N_COMPARED = 3
#: Instead of a division by 0; any EEG has more.
_TINY = 1e-30
#: Values that a processor works on at once without waiting for memory.
_CACHED = 2**17
#: Recordings tested on that are compared with a pool at a time: 23 MB of spectra, if of 60 s.
_BLOCK = 256
#: Recordings tested on, times pools, times their seconds, up to which all pairs are compared. A
#: fold of DEAP with new people has 3 million, which take some 8 s of a processor.
_MOST_COMPARED = 2**22


@dataclass(frozen=True)
class Copy:
    """A recording that was tested on, and is a copy of one that was seen.

    Attributes
    ----------
    tested, seen : int
        Their rows.
    correlation : float
        In what they have in common; 1 if they are the same, byte by byte.
    seconds : float
        How long that is.
    shift : float
        Seconds by which it is later in the one that was seen.
    """

    tested: int
    seen: int
    correlation: float
    seconds: float
    shift: float


def find_copies(eeg: np.ndarray, tested: np.ndarray, seen: np.ndarray) -> list[Copy]:
    """Return which recordings tested on are copies of one that was seen: of the most similar one.

    Parameters
    ----------
    eeg : array, (n, n_chans, n_times)
        Recordings at `SFREQ`, in memory or of `de3dgan.data.memory_maps.open_array`.
    tested, seen : array of int
        Rows of `eeg`.

    Notes
    -----
    Time grows with ``len(tested) * len(seen)`` where `all_compared`, else with their sum. Memory
    grows with neither where `all_compared`, else by 15 KiB for a minute tested on.
    """
    if not len(tested) or not len(seen):
        return []
    hashes = {_hash(eeg, row): row for row in seen.tolist()}
    same = {row: hashes[h] for row in tested.tolist() if (h := _hash(eeg, row)) in hashes}
    copies = [Copy(row, other, 1.0, eeg.shape[-1] / SFREQ, 0.0) for row, other in same.items()]
    others = np.setdiff1d(tested, list(same))
    if all_compared(eeg, len(others), len(seen)):
        parts = (_suspicious(eeg, rows, seen) for rows in chunks(others, _BLOCK))
    else:
        parts = [alike(lambda rows: _coarse(eeg, rows), others, seen)]
    for row, found in chain.from_iterable(part.items() for part in parts):
        compared = (_compared(eeg, row, other) for _, other in nlargest(_N_COMPARED, found))
        real = [copy for copy in compared if _is_copy(copy, eeg.shape[1])]
        copies += nlargest(1, real, key=lambda copy: abs(copy.correlation) * copy.seconds)
    return sorted(copies, key=lambda copy: copy.tested)


def all_compared(eeg: np.ndarray, n_tested: int, n_seen: int) -> bool:
    """Return whether all pairs are compared, not only those whose fingerprints are alike."""
    seconds = eeg.shape[-1] / SFREQ
    n_pools = n_seen / _search(eeg)[1]
    return n_tested * n_pools * seconds <= _MOST_COMPARED


def copies_within(eeg: np.ndarray, rows: np.ndarray) -> list[Copy]:
    """Return which recordings are copies of one another, each pair once.

    Parameters
    ----------
    eeg : array, (n, n_chans, n_times)
        See `find_copies`.
    rows : array of int
        Rows of `eeg`, each compared with all others: half of them with the other half, and then
        the same within each half.
    """
    if len(rows) < 2:
        return []
    one, other = np.array_split(rows, 2)
    found = find_copies(eeg, other, one)
    return found + copies_within(eeg, one) + copies_within(eeg, other)


def _is_copy(copy: Copy, n_chans: int) -> bool:
    return abs(copy.correlation) > max(COPY, _limit(n_chans, copy.seconds))


def _search(eeg: np.ndarray) -> tuple[float, int]:
    """Return the likeness that is suspicious, and how many recordings are compared as one."""
    by_chance = _limit(min(eeg.shape[1], _N_CHANS), eeg.shape[-1] / SFREQ)
    limit = max(SUSPICIOUS, by_chance)
    # The sum of k recordings correlates with another one by √k as much by chance.
    return limit, max(1, int((limit / by_chance) ** 2))


def _suspicious(
    eeg: np.ndarray, tested: np.ndarray, seen: np.ndarray
) -> dict[int, list[tuple[float, int]]]:
    """Return which rows of `seen` are suspiciously similar to each of `tested`: how, and which."""
    n_times = eeg.shape[-1] // _DECIMATION
    limit, pool_size = _search(eeg)
    ours = np.concatenate([_spectra(eeg, rows) for rows in chunks(tested, pool_size)])
    step = max(1, _CACHED // ours[0].size)
    found: dict[int, list[tuple[float, int]]] = {row: [] for row in tested.tolist()}
    for pool in chunks(seen, pool_size):
        theirs = _spectra(eeg, pool)
        total = theirs.sum(0)
        of_pool = np.concatenate([_likeness(some, total, n_times) for some in chunks(ours, step)])
        for row in np.flatnonzero(of_pool > limit):
            each = _likeness(ours[row], theirs, n_times)
            likeness = zip(each.tolist(), pool.tolist(), strict=True)
            found[int(tested[row])] += [pair for pair in likeness if pair[0] > limit]
    return found


def _hash(eeg: np.ndarray, row: int) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(reopened(eeg)[row])).digest()


def _limit(n_chans: int, seconds: float) -> float:
    """Return what hardly any two unrelated recordings exceed, at any shift.

    Their correlation has a variance of one in the number of independent values, which are twice
    the band's width per second and electrode; neighbouring electrodes share about half of theirs.
    """
    n_values = 2 * (_BAND[1] - _BAND[0]) * seconds * max(1.0, (n_chans - 1) / 2)
    return _N_SD / math.sqrt(n_values)


def _spectra(eeg: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the spectra of coarse traces, complex64 (len(rows), n_traces, n_freqs)."""
    spectra = fft.rfft(_coarse(eeg, rows))
    return spectra[..., : int((_BAND[1] + 2) * eeg.shape[-1] / SFREQ)]


def _coarse(eeg: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return traces of some electrodes at half the sampling rate."""
    chans = np.unique(np.linspace(0, eeg.shape[1] - 1, _N_CHANS).round().astype(int))
    return _traces(reopened(eeg)[rows][:, chans], _DECIMATION)


def _likeness(one: np.ndarray, others: np.ndarray, n_times: int) -> np.ndarray:
    """Return the largest correlation of traces, given their spectra, at any shift in a circle.

    Parameters
    ----------
    one : array, (n_traces, n_freqs)
    others : array, (..., n_traces, n_freqs)
    n_times : int
        Samples of the traces.

    Returns
    -------
    array, (...)
    """
    return np.abs(fft.irfft((one.conj() * others).sum(-2), n_times)).max(-1)


def _compared(eeg: np.ndarray, tested: int, seen: int) -> Copy:
    """Compare two recordings at the full sampling rate, with all electrodes."""
    one, other = _traces(reopened(eeg)[[tested, seen]])
    n_times = one.shape[-1]
    size = fft.next_fast_len(2 * n_times, real=True)
    sums = fft.irfft((fft.rfft(one, size).conj() * fft.rfft(other, size)).sum(0), size)
    shift = int(np.abs(sums).argmax())
    if shift > n_times:
        shift -= size
    one, other = one[:, max(-shift, 0) : n_times - shift], other[:, max(shift, 0) :]
    n_shared = n_times - abs(shift)
    one, other = one[:, :n_shared], other[:, :n_shared]
    correlation = float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))
    return Copy(tested, seen, correlation, n_shared / SFREQ, shift / SFREQ)


def _traces(eeg: np.ndarray, decimation: int = 1) -> np.ndarray:
    """Return what is compared of recordings.

    Parameters
    ----------
    eeg : array, (n, n_chans, n_times)
        In any unit.
    decimation : int
        Samples that make one.

    Returns
    -------
    array, float32 (n, n_traces, n_times / decimation)
        The sum of squares of a recording's is 1, or 0 if it is constant or not finite.
    """
    x = np.where(np.isfinite(eeg).all((1, 2), keepdims=True), eeg, 0)
    x = np.diff(x, axis=1) if x.shape[1] > 1 else x
    spectra = fft.rfft(x - x.mean(-1, keepdims=True))
    hz = fft.rfftfreq(x.shape[-1], 1 / SFREQ)
    inside = (hz >= _BAND[0]) & (hz <= _BAND[1])
    spectra = inside * _level(spectra, np.abs(spectra) ** 2, x.shape[-1] / SFREQ)  # within 1 Hz
    n_times = x.shape[-1] // decimation
    x = fft.irfft(spectra[..., : n_times // 2 + 1], n_times)
    x = _level(x, x**2, SFREQ / decimation)  # within 1 s
    return x / np.sqrt((x**2).sum((1, 2), keepdims=True) + _TINY)


def _level(x: np.ndarray, power: np.ndarray, width: float) -> np.ndarray:
    """Divide by the root of the mean power of `width` neighbours, where there is any power."""
    power = uniform_filter1d(power, max(1, round(width)), axis=-1)
    return x / np.sqrt(power.clip(1e-6 * power.mean(-1, keepdims=True) + _TINY))
