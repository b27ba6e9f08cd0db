"""Normalisation: numpy's statistics, of training data only, and a way back; frames by number."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from de3dgan.base.errors import UserError
from de3dgan.data import scalers
from de3dgan.data.frames import DeviceArray, Frames, batches, chunks
from de3dgan.data.opening import open_store
from de3dgan.data.scalers import fit_de_scaler, fit_eeg_scaler
from de3dgan.eeg.scaling import RobustScaler
from tests.helpers import fake_store, split_by_trial

CPU = torch.device("cpu")


def expected(values: np.ndarray) -> tuple[float, float, float, float]:
    """Return low, high, mean and std of `values` the plain way."""
    ordered = np.sort(values.astype(np.float64).ravel())
    low, high = (
        np.interp(q * (len(ordered) - 1), range(len(ordered)), ordered) for q in (0.01, 0.99)
    )
    clipped = np.clip(ordered, low, high)
    mean = clipped.sum() / len(clipped)
    return low, high, mean, np.sqrt(((clipped - mean) ** 2).sum() / len(clipped))


def statistics(scaler: RobustScaler, band: int | None = None) -> tuple[float, ...]:
    values = (scaler.low, scaler.high, scaler.mean, scaler.std)
    return values if band is None else tuple(value[band] for value in values)


def frames_of(store, **options) -> Frames:
    return Frames(store, CPU, waveform_baseline=False, **options)


def test_eeg_statistics_are_those_of_the_training_trials():
    store = fake_store(n_trials=6)
    store.eeg[...] = store.eeg**3 / 100  # heavy tails, so that clipping matters
    scaler = fit_eeg_scaler(frames_of(store), split_by_trial(store, val=1, test=4))
    np.testing.assert_allclose(
        statistics(scaler), expected(store.eeg[[0, 2, 3, 5]]), rtol=1e-5, atol=1e-3
    )


def test_de_statistics_are_per_band_and_of_absolute_de():
    store = fake_store(n_trials=6)
    store.de[:, 2] += 3
    scaler = fit_de_scaler(frames_of(store), split_by_trial(store, val=1, test=4))
    absolute = store.de + store.baseline_de[:, :, None]
    for band in range(4):
        np.testing.assert_allclose(
            statistics(scaler, band), expected(absolute[[0, 2, 3, 5], band]), rtol=1e-4, atol=1e-5
        )
    assert scaler.mean[2] - scaler.mean[1] > 2


def test_absolute_de_adds_each_trials_own_baseline():
    store = fake_store(n_trials=4, baseline=[1, 1, 0, 3])
    absolute = store.absolute_de(np.array([3, 0, 2]))
    for row, (trial, baseline) in zip(absolute, [(3, 3), (0, 1), (2, 0)], strict=True):
        for window in range(8):
            total = store.de[trial, :, window] + store.baseline_de[baseline]
            np.testing.assert_allclose(row[:, window], total, rtol=1e-6)


@pytest.mark.parametrize("value", [1e9, -1e9, np.nan])
def test_only_the_training_part_matters(value):
    store = fake_store(n_trials=8)
    split = split_by_trial(store, val=1, test=4)
    before = fit_eeg_scaler(frames_of(store), split), fit_de_scaler(frames_of(store), split)
    for array in (store.eeg, store.de, store.baseline, store.baseline_de):
        array[[1, 4]] = value
    assert (
        fit_eeg_scaler(frames_of(store), split),
        fit_de_scaler(frames_of(store), split),
    ) == before
    store.eeg[0] *= 2
    assert fit_eeg_scaler(frames_of(store), split) != before[0]


def test_statistics_of_a_sample_are_close_repeatable_and_of_training_data(monkeypatch):
    store = fake_store(n_trials=60, n_frames=10)
    split = split_by_trial(store, val=1, test=4)
    store.eeg[[1, 4]] = store.de[[1, 4]] = 1e9
    everything = fit_eeg_scaler(frames_of(store), split), fit_de_scaler(frames_of(store), split)
    monkeypatch.setattr(scalers, "_N_VALUES", 10_000)
    sampled, again = (
        (fit_eeg_scaler(frames_of(store), split), fit_de_scaler(frames_of(store), split))
        for _ in range(2)
    )
    assert sampled == again
    for some, full in zip(sampled, everything, strict=True):
        assert some != full
        np.testing.assert_allclose(some.std, full.std, rtol=0.15)
        np.testing.assert_allclose(some.high, full.high, rtol=0.15)


numbers = st.floats(-1e4, 1e4, width=32)


@given(
    values=st.lists(numbers, min_size=1, max_size=60),
    constant=st.booleans(),
    x=st.lists(numbers, min_size=1, max_size=20),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@pytest.mark.filterwarnings("ignore:Data to be normalised are constant")
def test_whatever_it_was_fitted_to_a_scaler_gives_numbers_and_undoes_itself(
    values, constant, x, dtype
):
    """A single value, values that are all the same, or nearly: nothing is divided by zero."""
    scaler = RobustScaler.fit(np.array(values[:1] * 50 if constant else values, np.float32))
    x = torch.tensor(x, dtype=dtype)
    normalised = scaler.normalise(x)
    assert normalised.isfinite().all()
    back, clipped = scaler.denormalise(normalised), x.clamp(scaler.low, scaler.high)
    torch.testing.assert_close(back, clipped, rtol=1e-5, atol=1e-5 * max(1, abs(scaler.mean)))


def test_a_band_that_does_not_vary_is_shifted_only_and_said():
    values = np.random.default_rng(0).normal(size=(4, 500))
    values[2] = -20  # silence
    with pytest.warns(UserWarning, match="constant between their quantiles"):
        scaler = RobustScaler.fit(values)
    assert (scaler.low[2], scaler.mean[2], scaler.std[2]) == (-20, -20, 1)
    for band in (0, 1, 3):
        np.testing.assert_allclose(statistics(scaler, band), expected(values[band]))
    x = torch.full((2, 4, 3, 5), -20.0)
    assert torch.equal(scaler.normalise(x)[:, 2], torch.zeros(2, 3, 5))
    assert torch.equal(scaler.denormalise(scaler.normalise(x))[:, 2], x[:, 2])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_data_that_are_not_finite_have_no_statistics(value):
    store = fake_store(n_trials=6)
    split = split_by_trial(store, val=1, test=4)
    store.eeg[3, 1, 77] = value
    with pytest.raises(UserError, match=f"eeg.npy is damaged: trial 3 has {value} at electrode"):
        fit_eeg_scaler(frames_of(store), split)
    store.de[2, 0, 0, 0] = value
    with pytest.raises(UserError, match="not finite"):
        fit_de_scaler(frames_of(store), split)


@settings(deadline=None, max_examples=30)
@given(batch=st.integers(1, 3), windows=st.integers(1, 5), chans=st.integers(1, 6))
def test_de_is_normalised_band_by_band(batch, windows, chans):
    values = np.random.default_rng(0).normal(size=(4, 200)) * [[1], [2], [3], [4]] + [
        [0],
        [9],
        [5],
        [7],
    ]
    scaler = RobustScaler.fit(values)
    x = torch.randn(batch, 4, windows, chans, dtype=torch.float64) * 5
    z = scaler.normalise(x)
    for band in range(4):
        low, high, mean, std = expected(values[band])
        wanted = (x[:, band].clamp(low, high) - mean) / std
        torch.testing.assert_close(z[:, band], wanted)
        inside = (x[:, band] >= low) & (x[:, band] <= high)
        torch.testing.assert_close(scaler.denormalise(z)[:, band][inside], x[:, band][inside])


# --- Frames ------------------------------------------------------------------------------------


def test_a_frame_is_one_second_of_one_trial():
    store = fake_store(n_trials=3, n_frames=5)
    frames = frames_of(store)
    assert frames.shape == (15, 3, 128)
    numbers = np.array([14, 0, 7, 7])
    got = frames[numbers]
    assert got.dtype == torch.float32
    for row, number in zip(got.numpy(), numbers, strict=True):
        trial, frame = divmod(number, 5)
        np.testing.assert_array_equal(row, store.eeg[trial, :, frame * 128 : (frame + 1) * 128])
    np.testing.assert_array_equal(frames.cpu(numbers), got.numpy())


@given(
    numbers=st.lists(st.integers(0, 83), max_size=30)
    | st.tuples(st.integers(0, 83), st.integers(0, 84)).map(lambda ends: list(range(*ends))),
    leaky=st.booleans(),
)
def test_much_eeg_is_read_from_its_file_and_is_the_same(little_store, numbers, leaky):
    numbers = np.array(numbers, dtype=np.int64)
    store = open_store(little_store)
    frames = Frames(store, CPU, leaky)
    expected = frames[numbers], frames.trials(numbers % 28)
    with patch("de3dgan.data.memory_maps._KEPT", 0):
        assert torch.equal(frames[numbers], expected[0])
        assert torch.equal(frames.trials(numbers % 28), expected[1])


@pytest.mark.parametrize("leaky", [False, True])
def test_whole_trials_are_their_frames(leaky):
    frames = Frames(fake_store(n_trials=4), CPU, leaky)
    trials = np.array([2, 0, 2])
    by_frame = frames[frames.numbers(trials)].unflatten(0, (3, 4)).transpose(1, 2).flatten(2)
    assert torch.equal(frames.trials(trials), by_frame)
    np.testing.assert_array_equal(frames.continuous(trials), by_frame)
    with frames.ledger.reading_for("reader"):
        frames.trials(trials)
    assert np.flatnonzero(frames.ledger.seen["reader"]).tolist() == [*range(4), *range(8, 12)]


def test_what_is_resident_is_indexed_as_what_is_in_a_file_is():
    x = np.arange(60.0, dtype=np.float32).reshape(5, 2, 6)
    there = DeviceArray(x, CPU, (5, 2, 3, 2))
    resident = DeviceArray(x, CPU, (5, 2, 3, 2))
    resident._resident = torch.from_numpy(x).reshape(5, 2, 3, 2)  # as on a GPU
    trial, frame = np.array([4, 0, 0]), np.array([2, 1, 1])
    assert torch.equal(there[trial], resident[trial])
    assert torch.equal(there[trial, :, frame], resident[trial, :, frame])
    assert there[trial, :, frame][0].tolist() == [[52, 53], [58, 59]]
    assert there[trial, :, frame].is_contiguous()


def test_frames_of_other_eeg_replace_the_stores():
    store = fake_store(n_trials=3)
    got = frames_of(store, eeg=store.eeg * 2).cpu(np.arange(12))
    np.testing.assert_array_equal(got, 2 * frames_of(store).cpu(np.arange(12)))


def test_the_published_baseline_takes_the_mean_second_from_each_second():
    store = fake_store(n_trials=3, n_frames=4, baseline=[2, 0, 0])
    frames = Frames(store, CPU, waveform_baseline=True)
    assert frames.shape == (12, 3, 128)
    got = frames.cpu(np.arange(12))
    for trial, baseline in enumerate([2, 0, 0]):
        template = np.mean(np.split(store.baseline[baseline], 3, axis=-1), axis=0)
        for frame in range(4):
            eeg = store.eeg[trial, :, frame * 128 : (frame + 1) * 128]
            np.testing.assert_allclose(got[trial * 4 + frame], eeg - template, atol=1e-5)


def test_the_published_baseline_leaves_out_an_unfinished_second():
    store = fake_store(n_trials=2)
    longer = replace(store, baseline=np.pad(store.baseline, ((0, 0), (0, 0), (0, 50))))
    one, other = (Frames(s, CPU, waveform_baseline=True).cpu(np.arange(8)) for s in (store, longer))
    np.testing.assert_array_equal(one, other)


def test_reading_frames_leaves_the_store_alone():
    store = fake_store(n_trials=2)
    before = store.eeg.copy()
    Frames(store, CPU, waveform_baseline=True)[np.arange(4)].mul_(3)
    frames_of(store)[np.arange(4)].mul_(3)
    np.testing.assert_array_equal(store.eeg, before)


@given(
    n=st.integers(1, 50), size=st.integers(1, 20), seed=st.integers(0, 9), epoch=st.integers(0, 9)
)
def test_batches_hold_everything_once_in_an_order_that_can_be_had_again(n, size, seed, epoch):
    items = np.arange(100, 100 + n)
    order = np.concatenate(list(batches(items, size, seed, epoch, "frames")))
    assert sorted(order) == items.tolist()
    np.testing.assert_array_equal(
        order, np.concatenate(list(batches(items, n, seed, epoch, "frames")))
    )
    assert [len(b) for b in chunks(items, size)] == [len(b) for b in batches(items, size, 0, 0, "")]
    assert np.concatenate(list(chunks(items, size))).tolist() == items.tolist()


def test_each_epoch_seed_and_purpose_has_an_order_of_its_own():
    asked = [(0, 0, "a"), (0, 1, "a"), (1, 0, "a"), (0, 0, "b")]
    orders = {tuple(np.concatenate(list(batches(np.arange(50), 8, *one)))) for one in asked}
    assert len(orders) == 4
