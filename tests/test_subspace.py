"""Recordings that were cleaned apart are brought to directions that all of them hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import null_space

from de3dgan.base.errors import UserError
from de3dgan.base.paths import ROOT
from de3dgan.data.preprocessing import How, build_store, in_common_subspace
from de3dgan.data.sources import Segment, Subject, Trial, eegmat
from de3dgan.eeg.subspace import common_projection, share_lost

CH_NAMES = ("F3", "FZ", "F4", "C3", "CZ", "C4", "P3", "P4")


def recording(rng: np.random.Generator, n_removed: int, n_times: int = 2000) -> np.ndarray:
    """Return EEG (8, n_times) that lacks `n_removed` random directions, as cleaned EEG does."""
    eeg = rng.normal(size=(8, 8)) @ rng.normal(size=(8, n_times))
    eeg = np.linalg.inv(np.linalg.cholesky(np.cov(eeg))) @ eeg  # no direction is weak by chance
    removed = np.linalg.qr(rng.normal(size=(8, 8)))[0][:, :n_removed]
    return 10 * (eeg - removed @ (removed.T @ eeg))


def subject(recordings: list[np.ndarray]) -> Subject:
    trials = [Trial(Segment(i, 0, 256), 0, "x", {"y": 0.0}) for i in range(len(recordings))]
    return Subject("s", CH_NAMES, recordings, [Segment(0, 256, 512)], trials, cleaned_apart=True)


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), removed=st.lists(st.integers(0, 2), min_size=2, max_size=3))
def test_all_recordings_lack_the_same_directions_afterwards(seed, removed):
    rng = np.random.default_rng(seed)
    recordings = [recording(rng, n) for n in removed]
    projection, rank = common_projection(recordings)
    assert np.allclose(projection @ projection, projection)
    assert np.allclose(projection.T, projection)
    assert np.trace(projection) == pytest.approx(rank)
    assert rank == 8 - sum(removed)  # random directions are never the same
    for eeg in recordings:
        lacked = null_space(np.cov(eeg), rcond=1e-6)
        assert np.abs(projection @ lacked).max(initial=0) < 1e-6  # none of them is left
        assert np.linalg.matrix_rank(projection @ eeg, tol=1e-3) == rank  # and all others are


def test_a_direction_that_two_recordings_lack_is_removed_once():
    rng = np.random.default_rng(1)
    direction = np.ones((8, 1)) / np.sqrt(8)  # as with an average reference
    recordings = [eeg - direction @ (direction.T @ eeg) for eeg in (recording(rng, 0),) * 2]
    assert common_projection(recordings)[1] == 7


def test_the_share_lost_is_that_of_the_variance():
    eeg = np.random.default_rng(2).normal(size=(8, 500)) * np.arange(1, 9)[:, None]
    projection = np.diag([1.0] * 7 + [0.0])
    variances = eeg.var(axis=1)
    assert share_lost(eeg, projection) == pytest.approx(variances[7] / variances.sum())
    assert share_lost(0 * eeg, projection) == 0


def test_what_needs_no_projection_stays_bit_for_bit():
    rng = np.random.default_rng(3)
    whole = subject([recording(rng, 0), recording(rng, 0)])
    alone = subject([recording(rng, 2)])  # nothing to be told apart from
    together = subject([recording(rng, 2), recording(rng, 2)])  # cuts of one recording, as DEAP's
    for data in (whole, alone, replace(together, cleaned_apart=False)):
        kept, about = in_common_subspace(data)
        assert kept is data
        assert about == {"rank": 8, "variance_lost": [0.0] * len(data.recordings)}


def test_recordings_with_next_to_nothing_in_common_are_refused():
    rng = np.random.default_rng(4)
    with pytest.raises(UserError, match="of s have only 2 of 8 directions.*as-published"):
        in_common_subspace(subject([recording(rng, 3), recording(rng, 3)]))


def weakest_direction_ratios(recordings: list[np.ndarray]) -> list[float]:
    """Return, both ways, how much more power one recording has where the other has least."""
    covariances = [np.cov(eeg) for eeg in recordings]
    ratios = []
    for a, b in (covariances, covariances[::-1]):
        power, directions = np.linalg.eigh(a)
        index = int(np.flatnonzero(power > 1e-9 * power[-1])[0])
        weakest = directions[:, index]
        ratios.append(weakest @ b @ weakest / power[index])
    return ratios


@pytest.mark.parametrize("number", [1, 4, 5])
def test_files_of_real_eeg_are_not_told_apart_by_what_one_lacks(number):
    """Rest and arithmetic of these people were cleaned apart."""
    name = f"Subject{number:02d}"
    files = [ROOT / eegmat.DEFAULT_DIR / f"{name}_{kind}.edf" for kind in (1, 2)]
    published = eegmat.read(name, files)
    common, about = in_common_subspace(published)
    assert max(weakest_direction_ratios(published.recordings)) > 100
    assert max(weakest_direction_ratios(common.recordings)) < 30
    assert 10 <= about["rank"] < 19
    for before, after, lost in zip(
        published.recordings, common.recordings, about["variance_lost"], strict=True
    ):
        assert lost == pytest.approx(1 - after.var(1).sum() / before.var(1).sum(), abs=1e-5)
        assert 0 < lost < 0.25


def test_a_store_says_what_was_removed_and_can_be_made_as_published(tmp_path):
    recordings = tmp_path / "two"
    recordings.mkdir()
    for kind in (1, 2):
        name = f"Subject01_{kind}.edf"
        (recordings / name).write_bytes((ROOT / eegmat.DEFAULT_DIR / name).read_bytes())
    stores = {
        subspace: build_store("eegmat", recordings, tmp_path / subspace, 1, How(subspace=subspace))
        for subspace in ("common", "as-published")
    }
    manifests = {
        subspace: json.loads(Path(store.path, "manifest.json").read_text())
        for subspace, store in stores.items()
    }
    assert manifests["common"]["asked"]["subspace"] == "common"
    assert manifests["as-published"]["subspaces"] == {"Subject01": {}}
    about = manifests["common"]["subspaces"]["Subject01"]
    ranks = [np.linalg.matrix_rank(eeg, tol=1e-2) for eeg in stores["common"].eeg]
    assert ranks == [about["rank"]] * 2
    data = eegmat.read("Subject01", eegmat.find(recordings)["Subject01"])
    rest = data.recordings[0][:, data.trials[0].segment.start :][:, : 60 * 128]
    assert np.array_equal(stores["as-published"].eeg[0], rest.astype(np.float32))
    assert stores["common"].hash != stores["as-published"].hash
