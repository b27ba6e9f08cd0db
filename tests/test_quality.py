"""The measures of generated EEG, on EEG of which the answer is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy import signal

from de3dgan.data.splits import Split
from de3dgan.data.store import Store
from de3dgan.eeg.de import BANDS, trial_de
from de3dgan.evaluation import quality as module
from de3dgan.evaluation.measures import (
    channel_correlations,
    discriminative_score,
    log_spectra,
    mean_by_band,
    passed_frames,
    seam_ratio,
)
from de3dgan.evaluation.quality import matched_noise, quality
from tests.helpers import fake_store

FIGURES = set(
    "de_round_trip log_spectrum_distance channel_correlation_error seam_ratio amplitude_uv "
    "discriminative_score tstr draws_correlation nearest_training".split()
)
N_TRIALS, N_FRAMES = 24, 12
#: Frames of each trial that the network which tells generated from real EEG is asked about.
N_JUDGED = 60
LABELS = np.arange(N_TRIALS) % 2


def noise(*shape: int, seed: int = 0, scale: float = 10.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=scale, size=shape)


def brownish(*shape: int, seed: int = 0) -> np.ndarray:
    """Return stationary noise that is louder at low frequencies, (..., n_times)."""
    return signal.lfilter([1], [1, -0.9], noise(*shape, seed=seed, scale=4), axis=-1)


def store_with(eeg: np.ndarray) -> Store:
    """Return a store of EEG with the DE that it has, and baselines of random DE."""
    n_trials, n_chans, n_times = eeg.shape
    store = fake_store(n_trials, n_times // 128, ("F3", "FZ", "F4", "PZ")[:n_chans])
    store.eeg[:] = eeg
    store.de[:] = trial_de(eeg) - store.baseline_de[store.baseline_index][:, :, None]
    return store


def split_by_hand(test: int = 8, n_trials: int = N_TRIALS) -> Split:
    """Return a split whose last trials are tested, those before validate, the rest train."""
    frames = np.arange(n_trials * N_FRAMES)
    parts = np.split(frames, [-(test + 2) * N_FRAMES, -test * N_FRAMES])
    return Split("trial", 0, 520, N_FRAMES, *parts)


def eeg_with_classes() -> np.ndarray:
    """Return EEG of four electrodes that share a half; the first is louder in trials of class 1.

    The electrodes' gains differ between trials.
    """
    eeg = brownish(N_TRIALS, 4, N_FRAMES * 128) + brownish(N_TRIALS, 1, N_FRAMES * 128, seed=1)
    eeg *= np.exp(0.2 * np.random.default_rng(2).normal(size=(N_TRIALS, 4, 1)))
    eeg[LABELS == 1, 0] *= 2
    return eeg.astype(np.float32)


def flat(figures: dict, prefix: str = "") -> dict[str, float]:
    out = {}
    for key, value in figures.items():
        nested = isinstance(value, dict)
        out.update(flat(value, f"{prefix}{key}.") if nested else {prefix + key: value})
    return out


@pytest.fixture(scope="module")
def world() -> Store:
    return store_with(eeg_with_classes())


@pytest.fixture(scope="module")
def measured(world) -> dict:
    """The figures of samplers that are good or bad in a known way."""
    split = split_by_hand()
    train = split.trials("train")
    # What stands for a trial of class 0 is as often of class 1, and the other way round.
    shuffled = train.copy()
    shuffled[0::4], shuffled[1::4] = train[1::4], train[0::4]
    other = dict(zip(train.tolist(), shuffled.tolist(), strict=True))

    def white(trials, draw):
        return noise(len(trials), 4, N_FRAMES * 128, seed=draw).astype(np.float32)

    samplers = {
        "itself": lambda trials, draw: world.eeg[trials],
        "half": lambda trials, draw: world.eeg[trials] / 2,
        "copy": lambda trials, draw: world.eeg[train[trials % len(train)]],
        "shuffled": lambda trials, draw: world.eeg[[other.get(t, t) for t in trials.tolist()]],
        "noise": matched_noise(world, 1),
        "white": white,
        "silence": lambda trials, draw: np.zeros_like(world.eeg[trials]),
    }
    return quality(world, split, LABELS, lambda trials: world.eeg[trials], samplers)


def test_every_row_has_the_same_finite_figures(measured):
    assert list(measured) == "real itself half copy shuffled noise white silence".split()
    for row in measured.values():
        assert set(row) == FIGURES
        assert set(row["de_round_trip"]) == set(row["channel_correlation_error"]) == set(BANDS)
        assert all(type(value) is float and math.isfinite(value) for value in flat(row).values())
    assert json.loads(json.dumps(measured)) == measured


def test_real_eeg_in_the_place_of_generated_eeg_is_perfect(measured, world):
    itself, real = measured["itself"], measured["real"]
    for figures in itself["de_round_trip"].values():
        assert figures == pytest.approx({"correlation": 1.0, "mae": 0.0, "bias": 0.0}, abs=1e-5)
    assert itself["log_spectrum_distance"] == 0
    assert set(itself["channel_correlation_error"].values()) == {0.0}
    for same in ("de_round_trip", "seam_ratio", "discriminative_score", "tstr", "nearest_training"):
        assert itself[same] == real[same]
    amplitude = np.mean([world.eeg[trial].std() for trial in range(N_TRIALS - 8, N_TRIALS)])
    assert real["amplitude_uv"] == pytest.approx(amplitude, rel=1e-5)


def test_real_halves_differ_and_noise_without_the_spectrum_differs_more(measured):
    assert 0 < measured["real"]["log_spectrum_distance"] < 0.7
    assert measured["white"]["log_spectrum_distance"] > 1.2
    for band, floor in measured["real"]["channel_correlation_error"].items():
        assert 0 < floor < 0.2
        # The electrodes share half their variance, those of the noise nothing.
        assert measured["noise"]["channel_correlation_error"][band] > 0.35


def test_half_the_amplitude_is_a_bias_of_minus_ln_two(measured):
    half = measured["half"]
    for figures in half["de_round_trip"].values():
        assert figures["correlation"] == pytest.approx(1, abs=1e-5)
        assert figures["bias"] == pytest.approx(-math.log(2), abs=1e-5)
        assert figures["mae"] == pytest.approx(math.log(2), abs=1e-5)
    assert half["log_spectrum_distance"] == pytest.approx(2 * math.log(2), abs=1e-4)
    assert half["amplitude_uv"] == pytest.approx(measured["real"]["amplitude_uv"] / 2)
    assert max(half["channel_correlation_error"].values()) < 1e-6


def test_noise_has_the_de_and_little_else(measured):
    for figures in measured["noise"]["de_round_trip"].values():
        assert figures["correlation"] > 0.95
        assert figures["mae"] < 0.06
    assert measured["noise"]["tstr"] > 0.8
    assert measured["noise"]["nearest_training"] > measured["real"]["nearest_training"]


def test_copies_of_training_eeg_are_found(measured):
    assert measured["copy"]["nearest_training"] == pytest.approx(0, abs=1e-5)
    assert measured["real"]["nearest_training"] > 0.4
    assert measured["silence"]["nearest_training"] == 1


def test_draws_correlate_if_there_is_no_chance_in_them(measured):
    for name in ("itself", "copy"):
        assert measured[name]["draws_correlation"] == pytest.approx(1, abs=1e-6)
    for name in ("real", "noise", "white", "silence"):
        assert abs(measured[name]["draws_correlation"]) < 0.1


def test_a_class_is_learnt_from_generated_eeg_that_has_it(measured):
    assert measured["real"]["tstr"] > 0.85
    assert 0.3 < measured["shuffled"]["tstr"] < 0.7
    assert measured["silence"]["tstr"] == 0.5


def test_silence_is_silent(measured):
    silence = measured["silence"]
    for figures in silence["de_round_trip"].values():
        assert figures["correlation"] == 0.0
        assert figures["bias"] < -10
    assert silence["seam_ratio"] == 1.0
    assert silence["amplitude_uv"] == 0.0
    assert silence["discriminative_score"] > 0.95


def test_silent_real_eeg_is_measured_too():
    store = store_with(np.zeros((N_TRIALS, 2, N_FRAMES * 128)))
    samplers = {
        "silence": lambda trials, draw: store.eeg[trials],
        "loud": lambda trials, draw: noise(*store.eeg[trials].shape, seed=draw),
    }
    rows = quality(store, split_by_hand(), LABELS, lambda trials: store.eeg[trials], samplers)
    for row in rows.values():
        assert all(math.isfinite(value) for value in flat(row).values())
    for name in ("real", "silence"):
        assert rows[name]["discriminative_score"] == 0.5
        assert rows[name]["log_spectrum_distance"] == 0
    assert rows["loud"]["discriminative_score"] > 0.95


def test_the_same_seed_gives_the_same_figures_and_leaves_pytorchs_alone(world):
    def rows() -> dict:
        samplers = {"noise": matched_noise(world, 1)}
        return quality(world, split_by_hand(), LABELS, lambda trials: world.eeg[trials], samplers)

    torch.manual_seed(3)
    first, state = rows(), torch.get_rng_state()
    torch.manual_seed(3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    assert rows() == first


def test_only_so_many_trials_are_generated_and_only_of_their_part(world, monkeypatch):
    monkeypatch.setattr(module, "_N_TRIALS", 6)
    monkeypatch.setattr(module, "_N_QUERIES", 5)
    split, asked, read = split_by_hand(), [], []

    def sample(trials, draw):
        asked.append((trials.tolist(), draw))
        return world.eeg[trials]

    def real(trials):
        read.append(trials)
        return world.eeg[trials]

    quality(world, split, LABELS, real, {"generated": sample})
    tests, trains = (
        [
            (trials, draw)
            for trials, draw in asked
            if set(trials) <= set(split.trials(part).tolist())
        ]
        for part in ("test", "train")
    )
    assert [draw for _, draw in tests] == [0, 1]
    assert [draw for _, draw in trains] == [0]
    assert len(asked) == 3
    assert all(len(trials) == 6 and trials == sorted(trials) for trials, _ in asked)
    assert max(map(len, read)) <= 8
    # Training trials are all searched for copies; those of the validation part are not read.
    assert set(np.concatenate(read)) >= set(split.trials("train"))
    assert not set(np.concatenate(read)) & set(split.trials("val"))


def test_in_the_leaky_protocol_test_frames_are_not_their_own_training_frames(world):
    frames = np.random.default_rng(0).permutation(N_TRIALS * N_FRAMES)
    train, val, test = map(np.sort, np.split(frames, [200, 240]))
    split = Split("random-frame", 0, 520, N_FRAMES, train, val, test)
    rows = quality(world, split, LABELS, lambda trials: world.eeg[trials], {})
    assert rows["real"]["nearest_training"] > 0.3
    assert rows["real"]["tstr"] > 0.85


# --- Single figures ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("real", 0.42, 0.58), ("white", 0.95, 1), ("louder", 0.65, 1), ("uncorrelated", 0.85, 1)],
)
def test_the_judge_tells_what_differs_and_nothing_else(kind, low, high):
    """600 frames are asked: by chance the score is 0.5 ± 0.02."""

    def frames(seed: int) -> tuple[np.ndarray, np.ndarray]:
        def real(seed: int) -> np.ndarray:
            return brownish(10, 3, N_JUDGED * 128, seed=seed) + brownish(
                10, 1, 60 * 128, seed=seed + 10
            )

        generated = {
            "real": lambda: real(seed + 1),
            "white": lambda: noise(10, 3, N_JUDGED * 128, seed=seed),
            "louder": lambda: 1.2 * real(seed + 1),
            "uncorrelated": lambda: 2**0.5 * brownish(10, 3, N_JUDGED * 128, seed=seed + 1),
        }[kind]()
        every_frame = np.ones((10, N_JUDGED), bool)
        return module._mixed(passed_frames(real(seed)), passed_frames(generated), every_frame)

    train, test = frames(100), frames(200)
    assert train[1].mean() == 0.5
    assert low <= discriminative_score(train, test, seed=0) <= high


def test_seams_show_where_frames_do_not_continue_each_other():
    assert seam_ratio(noise(8, 60 * 128)) == pytest.approx(1, abs=0.08)
    smooth = signal.sosfilt(signal.butter(4, 20, fs=128, output="sos"), noise(8, 64 * 128))
    assert seam_ratio(smooth[:, : 60 * 128]) == pytest.approx(1, abs=0.08)
    # Frames of one signal in another order, and frames that each start anew.
    order = np.random.default_rng(0).permutation(60)
    frames = smooth[:, : 60 * 128].reshape(8, 60, 128)[:, order]
    assert seam_ratio(frames.reshape(8, -1)) > 1.5
    t = np.arange(128) / 128
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, size=(8, 60, 1))
    assert seam_ratio(np.sin(2 * np.pi * 8 * t + phases).reshape(8, -1)) > 1.2
    # One step of 128 across the border, steps of 1 inside.
    assert seam_ratio(np.tile(np.arange(128.0), 10)) == pytest.approx(127)


def test_spectra_are_compared_between_4_and_46_hz():
    eeg = noise(1, 2, 40 * 128)
    t = np.arange(40 * 128) / 128

    def distance(frequency: float) -> float:
        generated = eeg + 5 * np.sin(2 * np.pi * frequency * t)
        return np.abs(log_spectra(generated) - log_spectra(eeg)).mean()

    assert distance(60) < 0.01
    assert distance(2) < 0.01
    assert distance(20) > 0.03


def test_correlations_between_electrodes_are_found_in_the_band_where_they_are():
    """Electrode 1 is electrode 0 in the first half and its opposite in the second; 2 is alone.

    Electrode 3 shares with electrode 0 what both have in alpha.
    """
    eeg = noise(1, 4, 60 * 128)
    sign = np.repeat([1, -1], 30 * 128)
    eeg[0, 1] = sign * eeg[0, 0]
    sos = signal.butter(8, (7, 15), "bandpass", fs=128, output="sos")
    eeg[0, 3] += signal.sosfiltfilt(sos, eeg[0, 0] - eeg[0, 3])
    (found,) = channel_correlations(eeg)
    assert found.shape == (2, 4, 4, 4)
    np.testing.assert_allclose(found[0, :, 0, 1], 1, atol=0.02)
    np.testing.assert_allclose(found[1, :, 0, 1], -1, atol=0.02)
    assert np.abs(found[:, :, 0, 2]).max() < 0.25
    theta, alpha, beta, gamma = found[:, :, 0, 3].mean(0)
    assert alpha > 0.9
    assert max(map(abs, (theta, beta, gamma))) < 0.45


def test_a_loud_moment_does_not_decide_the_correlation():
    eeg = noise(1, 2, 60 * 128)
    eeg[..., 2 * 128 : 3 * 128] = noise(1, 1, 128, scale=1000)
    (found,) = channel_correlations(eeg)
    np.testing.assert_allclose(found[0, :, 0, 1], 1 / 6, atol=0.2)  # of six times 5 s, one


def test_errors_of_correlations_are_means_off_the_diagonal():
    error = np.arange(4.0)[:, None, None] * (1 - np.eye(3)) + 100 * np.eye(3)
    error = np.broadcast_to(error, (5, 2, 4, 3, 3))
    assert mean_by_band(error) == {"theta": 0.0, "alpha": 1.0, "beta": 2.0, "gamma": 3.0}


def test_matched_noise_is_drawn_per_trial_and_draw(world):
    sample = matched_noise(world, 1)
    both, again = sample(np.array([3, 5]), 0), sample(np.array([5]), 0)
    np.testing.assert_array_equal(both[1], again[0])
    for unlike in (
        sample(np.array([5]), 1)[0],
        both[0],
        matched_noise(world, 2)(np.array([5]), 0)[0],
    ):
        assert abs(np.corrcoef(both[1].ravel(), unlike.ravel())[0, 1]) < 0.1
    assert np.abs(trial_de(again) - world.absolute_de(np.array([5]))).mean() < 0.06
