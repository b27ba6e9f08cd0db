"""Copies of recordings: whatever was done to them they are found, and unrelated EEG is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.copies import cut, delayed, filtered, noisy
from de3dgan.evaluation import copies
from de3dgan.evaluation.copies import find_copies

N_TIMES = 30 * 128
N_CHANS = 6


@pytest.fixture(autouse=True, params=["all pairs", "fingerprints"])
def search(request, monkeypatch):
    """All that follows holds for few recordings, and for many."""
    if request.param == "fingerprints":
        monkeypatch.setattr(copies, "_MOST_COMPARED", 0)


def recordings(n: int, seed: int = 0, n_times: int = N_TIMES, n_chans: int = N_CHANS) -> np.ndarray:
    """Return unrelated EEG that has in common what all EEG has, (n, n_chans, n_times).

    Noise of 1/f, a rhythm of 10 Hz over all electrodes, mains, and blinks, which are much louder.
    """
    rng = np.random.default_rng(seed)
    hz = np.fft.rfftfreq(n_times, 1 / 128)
    noise = np.fft.rfft(rng.normal(size=(n, n_chans, n_times))) / np.maximum(hz, 1)
    eeg = np.fft.irfft(noise, n_times)
    mixing = rng.normal(size=(n_chans, n_chans)) + 1  # a head: neighbours are alike
    eeg = 30 * np.einsum("ij,njt->nit", mixing, eeg)
    t = np.arange(n_times) / 128
    phase = rng.uniform(0, 2 * np.pi, (2, n, 1, 1))
    drift = np.cumsum(rng.normal(0, 0.02, (n, 1, n_times)), -1)
    eeg += 10 * np.sin(2 * np.pi * 10 * t + drift + phase[0])
    eeg += 5 * np.sin(2 * np.pi * 50 * t + phase[1])
    for one in eeg:
        for start in rng.integers(0, n_times - 40, 8):
            one[: n_chans // 2, start : start + 40] += 100 * np.hanning(40)
    return eeg.astype(np.float32)


#: What is done to a recording, with another one at hand; the share in common, and the shift in s.
CHANGES: dict[str, tuple[Callable, float, float]] = {
    "nothing": (lambda x, _: x, 1, 0),
    "the last digit": (lambda x, _: x * np.float32(1 + 1e-6), 1, 0),
    "gain": (lambda x, _: 1e-6 * x, 1, 0),
    "sign": (lambda x, _: -3 * x, 1, 0),
    "gain of each electrode": (lambda x, _: x / x.std(-1, keepdims=True), 1, 0),
    "noise of 30 %": (lambda x, _: noisy(x, 0.3), 1, 0),
    "other EEG of 30 %": (lambda x, y: x + 0.3 * y, 1, 0),
    "filter": (lambda x, _: filtered(x, 8, 30), 1, 0),
    "reference": (lambda x, _: x - x.mean(0), 1, 0),
    "reference at an electrode": (lambda x, _: x - x[2], 1, 0),
    "half a sample": (lambda x, _: delayed(x, 0.5), 1, 0),
    "a later cut": (lambda x, y: cut(x, y, 0.5), 0.5, 15),
    "a cut with a quarter in common": (lambda x, y: cut(x, y, 0.25), 0.25, 22.5),
    "a later cut, louder, with noise": (lambda x, y: 2 * noisy(cut(x, y, 0.5), 0.3), 0.5, 15),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found_whatever_was_done_to_it(change):
    alter, share, shift = CHANGES[change]
    eeg = recordings(40)
    eeg[7] = alter(eeg[31], eeg[3])
    (copy,) = find_copies(eeg, np.array([2, 7, 11]), np.arange(12, 40))
    assert (copy.tested, copy.seen) == (7, 31)
    assert abs(copy.correlation) > 0.6
    assert (copy.correlation < 0) == (change == "sign")
    assert copy.correlation == 1 or change != "nothing"
    assert copy.seconds == pytest.approx(30 * share, abs=0.02)
    assert copy.shift == pytest.approx(shift, abs=0.02)


@pytest.mark.parametrize(
    ("n_times", "n_chans"), [(N_TIMES, N_CHANS), (512, 19), (384, 3), (N_TIMES, 1), (2 * 128, 1)]
)
def test_unrelated_eeg_is_no_copy(n_times, n_chans):
    """Not even if short, of one electrode, or with rhythms, mains and blinks in common."""
    for seed in range(3):
        eeg = recordings(60, seed, n_times, n_chans)
        assert find_copies(eeg, np.arange(20), np.arange(20, 60)) == []


def test_the_most_similar_one_is_named_and_blocks_change_nothing(monkeypatch):
    *eeg, neither = recordings(25)
    eeg = np.stack(eeg)
    eeg[1] = cut(eeg[10], neither, 0.4)
    eeg[11] = noisy(eeg[1], 0.1)  # which has more in common with it
    eeg[2] = eeg[12]
    eeg[4, :, 1:] = eeg[13, :, :-1]
    found = find_copies(eeg, np.arange(8), np.arange(8, 24))
    assert [(copy.tested, copy.seen) for copy in found] == [(1, 11), (2, 12), (4, 13)]
    monkeypatch.setattr(copies, "_BLOCK", 3)
    assert find_copies(eeg, np.arange(8), np.arange(8, 24)) == found


def test_a_likeness_that_is_none_on_closer_look_hides_no_copy(monkeypatch):
    eeg = recordings(4)
    eeg[2] = 2 * eeg[0]
    eeg[3] = eeg[0] + 0.3 * eeg[1]
    assert [copy.seen for copy in find_copies(eeg, np.array([0]), np.array([1, 2, 3]))] == [2]
    compared = copies._compared

    def unlike(eeg: np.ndarray, row: int, other: int) -> copies.Copy:
        return replace(compared(eeg, row, other), **({"correlation": 0.0} if other == 2 else {}))

    monkeypatch.setattr(copies, "_compared", unlike)
    assert [copy.seen for copy in find_copies(eeg, np.array([0]), np.array([1, 2, 3]))] == [3]


def test_eeg_that_is_constant_or_damaged_is_compared_with_nothing():
    eeg = recordings(12)
    eeg[0], eeg[6] = 0, 1e-3
    eeg[1, 2, 100] = np.nan
    eeg[7, 2, 100] = np.inf
    eeg[2] = eeg[8]
    found = find_copies(eeg, np.arange(6), np.arange(6, 12))
    assert [(copy.tested, copy.seen) for copy in found] == [(2, 8)]


def test_nothing_is_a_copy_of_nothing():
    eeg = recordings(4)
    assert find_copies(eeg, np.arange(4), np.arange(0)) == []
    assert find_copies(eeg, np.arange(0), np.arange(4)) == []
