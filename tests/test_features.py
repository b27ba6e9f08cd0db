"""DE against scipy, one window at a time, and against what theory says of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from de3dgan.base.paths import ROOT
from de3dgan.data.sources import eegmat
from de3dgan.eeg.de import BANDS, band_signals, differential_entropy, windowed_de

EDGES = [(4, 8), (8, 14), (14, 31), (31, 45)]
CONSTANT = 0.5 * np.log(2 * np.pi * np.e)


def by_the_book(eeg: np.ndarray) -> np.ndarray:
    """Return DE as DESIGN defines it, (n_bands, n_windows, n_chans), the slow and plain way."""
    n_chans, n_times = eeg.shape
    de = np.empty((len(EDGES), n_times // 64, n_chans))
    for band, edges in enumerate(EDGES):
        sos = signal.butter(3, edges, "bandpass", fs=128, output="sos")
        for channel in range(n_chans):
            filtered = signal.sosfiltfilt(sos, eeg[channel])
            for window in range(n_times // 64):
                variance = np.var(filtered[64 * window : 64 * (window + 1)], ddof=1)
                de[band, window, channel] = 0.5 * np.log(2 * np.pi * np.e * variance)
    return de


def noise(n_chans: int, n_times: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=10, size=(n_chans, n_times))


def test_bands_are_those_of_the_design():
    assert list(BANDS.items()) == list(zip(("theta", "alpha", "beta", "gamma"), EDGES, strict=True))


@pytest.mark.parametrize("recording", [0, 1])
def test_de_of_real_eeg_is_that_of_the_definition(recording):
    subject, files = next(iter(eegmat.find(ROOT / eegmat.DEFAULT_DIR).items()))
    eeg = eegmat.read(subject, files).recordings[recording]
    assert len(eeg) == 19
    eeg = eeg[::6]
    np.testing.assert_allclose(differential_entropy(eeg), by_the_book(eeg), rtol=0, atol=1e-6)


# Ten seconds are 1280 samples: below, there is nothing but edge.
@pytest.mark.parametrize("n_times", [64, 100, 640, 1279, 1280, 1281, 1343, 2000, 7680, 8064, 9001])
def test_de_of_noise_of_any_length_is_that_of_the_definition(n_times):
    eeg = noise(2, n_times, seed=n_times)
    de = differential_entropy(eeg)
    assert de.shape == (4, n_times // 64, 2)
    np.testing.assert_allclose(de, by_the_book(eeg), rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_times", [1000, 1500, 8064])
@pytest.mark.parametrize("kind", ["offset", "drift", "slow wave", "step", "spike"])
def test_de_is_that_of_the_definition_under_artefacts(n_times, kind):
    t = np.arange(n_times) / 128
    artefact = {
        "offset": np.full(n_times, 1e5),
        "drift": 1e4 * t / t[-1],
        "slow wave": 1e3 * np.sin(2 * np.pi * 0.1 * t + 1),
        "step": np.where(t > 3, 1e3, 0),
        "spike": np.where(np.arange(n_times) == n_times - 1, 1e3, 0),
    }[kind]
    eeg = noise(2, n_times) + artefact
    np.testing.assert_allclose(differential_entropy(eeg), by_the_book(eeg), rtol=0, atol=1e-6)


@settings(max_examples=30)
@given(log_gain=st.floats(-8, 8), n_times=st.integers(1000, 3000), flip=st.booleans())
def test_a_gain_adds_its_logarithm(log_gain, n_times, flip):
    eeg = noise(2, n_times)
    gain = np.exp(log_gain) * (-1 if flip else 1)
    np.testing.assert_allclose(
        differential_entropy(gain * eeg), differential_entropy(eeg) + log_gain, atol=1e-7
    )


@settings(max_examples=20)
@given(offset=st.floats(-1e6, 1e6), channel=st.integers(0, 2))
def test_an_offset_changes_nothing_and_channels_do_not_mix(offset, channel):
    eeg = noise(3, 2000)
    moved = eeg.copy()
    moved[channel] += offset
    np.testing.assert_allclose(differential_entropy(moved), differential_entropy(eeg), atol=1e-5)
    alone = differential_entropy(eeg[[channel]])[..., 0]
    np.testing.assert_allclose(differential_entropy(eeg)[..., channel], alone, atol=1e-9)


@pytest.mark.parametrize(("band", "freq"), [(0, 6), (1, 10), (2, 20), (3, 38)])
@pytest.mark.parametrize("amplitude", [0.5, 30])
def test_a_sine_has_the_entropy_of_its_power(band, freq, amplitude):
    # Whole periods per window, so that its variance is A²/2 (n / (n - 1), for ddof 1) in each.
    eeg = amplitude * np.sin(2 * np.pi * freq * np.arange(30 * 128) / 128)[None]
    expected = CONSTANT + 0.5 * np.log(amplitude**2 / 2 * 64 / 63)
    de = differential_entropy(eeg)[:, 10:-10, 0]
    np.testing.assert_allclose(de[band], expected, atol=0.01)
    assert (np.delete(de, band, axis=0) < expected - 1).all()


def test_white_noise_has_the_power_of_each_bandwidth():
    sigma = 3.0
    eeg = sigma * np.random.default_rng(1).normal(size=(8, 120 * 128))
    variance = np.exp(2 * (differential_entropy(eeg) - CONSTANT)).mean((1, 2))
    widths = np.array([high - low for low, high in EDGES])
    # |H|⁴ is below 1 near the edges of a band: some of its power is lost.
    np.testing.assert_allclose(variance, sigma**2 * widths / 64, rtol=0.15)


def test_segments_come_from_the_continuous_recording():
    """A part's DE is that of the whole recording there: no filter edge where it is cut."""
    eeg = noise(2, 8064)
    whole = by_the_book(eeg)
    for band, expected in zip(band_signals(eeg), whole, strict=True):
        np.testing.assert_allclose(windowed_de(band[:, 384:]), expected[6:], atol=1e-6)
        np.testing.assert_allclose(windowed_de(band[:, :384]), expected[:6], atol=1e-6)
    cut_first = by_the_book(eeg[:, 384:])
    assert np.abs(cut_first[:, 0] - whole[:, 6]).max() > 0.01


def test_a_dead_electrode_is_minus_infinity_or_nearly_so():
    eeg = noise(2, 2000)
    eeg[0] = 7.0
    de = differential_entropy(eeg)
    assert not np.isnan(de).any()
    assert (de[..., 0] < -15).all()
    assert (de[..., 1] > -1).all()
