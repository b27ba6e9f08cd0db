"""What stage 3 sets beside real EEG: that each control differs from generated EEG as it says."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from de3dgan.data.frames import Frames
from de3dgan.data.ledger import Ledger
from de3dgan.data.opening import open_store
from de3dgan.eeg.de import differential_entropy
from de3dgan.eeg.noise import de_matched_noise
from de3dgan.stages.augmentation import other_of_same_class, paired_frames


@pytest.fixture
def run(little_store, tmp_path):
    """What the controls need of a run, on a store whose trials alternate between classes."""
    store = open_store(little_store)
    train = np.arange(0, store.n_trials - 4)
    return SimpleNamespace(
        store=store,
        dir=tmp_path,
        device=torch.device("cpu"),
        labels=np.arange(store.n_trials) % 2,
        config=SimpleNamespace(seed=1),
        ledger=Ledger(store.n_trials * store.n_frames),
        split=SimpleNamespace(trials={"train": train}.__getitem__),
        log=lambda message: None,
    )


def echo(de: np.ndarray, trials: np.ndarray, draw: int = 0) -> np.ndarray:
    """Stand in for a generator: EEG that holds the DE of its trial, and so shows which it is.

    But for the first sample of each electrode, which says whose noise was drawn.
    """
    n_trials, _, n_windows, n_chans = de.shape
    flat = de.transpose(0, 3, 1, 2).reshape(n_trials, n_chans, -1)
    eeg = flat[..., np.arange(n_windows * 64) % flat.shape[-1]].astype(np.float32)
    eeg[..., 0] = trials[:, None]
    assert draw == 0
    return eeg


def paired(run, kind: str) -> np.ndarray:
    """Return the EEG of the training trials that `kind` gives."""
    frames = Frames(run.store, run.device, waveform_baseline=False)
    with paired_frames(run, frames, echo, kind) as paired_eeg:
        eeg = paired_eeg.continuous(run.split.trials("train")).copy()
    assert list(run.dir.iterdir()) == []  # the file that held it is gone
    return eeg


def test_generated_eeg_is_that_of_the_same_trial(run):
    trials = run.split.trials("train")
    for eeg, trial in zip(paired(run, "generated"), trials, strict=True):
        alone = echo(run.store.absolute_de([trial]), np.array([trial]))
        np.testing.assert_array_equal(eeg, alone[0])


def test_shuffled_eeg_is_that_of_another_training_trial_of_the_class(run):
    trials = run.split.trials("train")
    every = np.arange(run.store.n_trials)
    known = echo(run.store.absolute_de(every), every)
    found = [int((known == eeg).all((1, 2)).argmax()) for eeg in paired(run, "shuffled")]
    assert set(found) == set(trials.tolist())  # each training trial once, and no other
    for trial, source in zip(trials, found, strict=True):
        assert source != trial
        assert run.labels[source] == run.labels[trial]


def test_noise_has_the_mean_and_variance_of_its_trial_and_nothing_else(run):
    trials = run.split.trials("train")
    real = run.store.eeg[trials]
    eeg = paired(run, "noise")
    np.testing.assert_allclose(eeg.std(-1), real.std(-1), rtol=0.1)
    np.testing.assert_allclose(eeg.mean(-1), real.mean(-1), atol=0.2 * real.std())
    power = np.abs(np.fft.rfft(eeg - eeg.mean(-1, keepdims=True))) ** 2
    halves = np.array_split(power.mean((0, 1))[1:], 2)
    assert halves[0].mean() == pytest.approx(halves[1].mean(), rel=0.1)  # white


def test_surrogates_have_the_de_of_their_trial(run):
    trials = run.split.trials("train")
    wanted = run.store.absolute_de(trials)
    got = np.stack([differential_entropy(eeg) for eeg in paired(run, "surrogate")])
    assert np.abs(got - wanted).mean() < 0.06
    assert np.abs((got - wanted).mean()) < 0.03


def test_de_matched_noise_follows_a_change_of_loudness():
    eeg = np.random.default_rng(2).normal(size=(3, 30 * 128))
    eeg[:, 15 * 128 :] *= 5
    de = differential_entropy(eeg)
    twins = [de_matched_noise(np.random.default_rng(seed), de) for seed in (0, 1)]
    for twin in twins:
        assert np.abs(differential_entropy(twin) - de).mean() < 0.06
        assert twin[:, 16 * 128 :].std() / twin[:, : 14 * 128].std() == pytest.approx(5, rel=0.2)
    assert abs(np.corrcoef(twins[0].ravel(), twins[1].ravel())[0, 1]) < 0.1  # not the same noise


@pytest.mark.parametrize("kind", ["noise", "surrogate", "shuffled"])
def test_controls_are_the_same_every_time(run, kind):
    np.testing.assert_array_equal(paired(run, kind), paired(run, kind))


def test_no_augmentation_is_no_frames(run):
    with paired_frames(run, None, echo, "none") as paired_eeg:
        assert paired_eeg is None


def test_a_class_of_one_trial_is_its_own_other():
    rng = np.random.default_rng(0)
    assert other_of_same_class(np.array([4, 7]), np.array([0] * 7 + [1]), rng) == {4: 4, 7: 7}
