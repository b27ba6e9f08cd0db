"""Trials cut into pieces, what their DE is relative to, and how recordings are resampled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly

from de3dgan.base.errors import UserError
from de3dgan.data import sources
from de3dgan.data.features import subject_features
from de3dgan.data.pieces import in_pieces, outside, reference_of
from de3dgan.data.sources import Recordings, Segment, Subject, Trial
from de3dgan.eeg.de import differential_entropy
from de3dgan.eeg.sampling import n_resampled, resampled, resampled_in_parts
from de3dgan.evaluation.features import baseline_levels
from de3dgan.models.views import PowerMaps
from tests.helpers import fake_store, one_line

SECOND = 128


def person(
    trials: list[tuple[int, int, int]], lengths: tuple[int, ...] = (40, 30), **fields: object
) -> Subject:
    """Return someone with recordings of so many seconds; trials are (recording, start, stop)."""
    rng = np.random.default_rng(0)
    return Subject(
        subject="x",
        ch_names=("CZ", "OZ"),
        recordings=[10 * rng.normal(size=(2, n * SECOND)) for n in lengths],
        baselines=fields.pop("baselines", []),
        trials=[
            Trial(Segment(i, a * SECOND, b * SECOND), fields.get("baseline"), f"v{n}", {"y": 1.0})
            for n, (i, a, b) in enumerate(trials)
        ],
        **{name: value for name, value in fields.items() if name != "baseline"},
    )


# --- pieces


@settings(max_examples=50)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(1, 12))
def test_pieces_are_of_one_length_at_the_end_of_their_trials(lengths, seconds):
    data = person([(0, 3, 3 + n) for n in lengths])
    if max(lengths) < seconds:
        with pytest.raises(UserError, match="give fewer --trial-seconds"):
            in_pieces(data, seconds)
        return
    pieces = in_pieces(data, seconds)
    for trial, n in zip(data.trials, lengths, strict=True):
        own = [piece for piece in pieces if piece.trial is trial]
        assert [piece.number for piece in own] == list(range(n // seconds))
        ends = [piece.segment.stop for piece in own]
        assert ends == [trial.segment.stop - i * seconds * SECOND for i in range(len(own))][::-1]
        assert all(p.segment.stop - p.segment.start == seconds * SECOND for p in own)


def test_trials_of_one_length_are_left_whole_and_others_ask_for_a_length():
    data = person([(0, 0, 12), (1, 3, 15)])
    assert [piece.segment for piece in in_pieces(data, None)] == [t.segment for t in data.trials]
    with pytest.raises(UserError, match="last from 12 to 14 s: give --trial-seconds") as error:
        in_pieces(person([(0, 0, 12), (0, 12, 26)]), None)
    one_line(error)
    with pytest.raises(UserError, match="--trial-seconds must be 1 or more, and -4 is not"):
        in_pieces(data, -4)
    of_source = person([(0, 0, 12), (0, 12, 26)], trial_seconds=4)
    assert len(in_pieces(of_source, None)) == 3 + 3


# --- references


def test_time_outside_trials_is_whole_seconds_that_no_trial_has():
    data = person([(0, 5, 15), (0, 20, 40)])
    assert outside(data, 0, 40 * SECOND).tolist() == [
        s * SECOND for s in (*range(5), *range(15, 20))
    ]
    assert outside(data, 1, 30 * SECOND).tolist() == [s * SECOND for s in range(30)]
    data.trials[0] = Trial(Segment(0, 5 * SECOND + 1, 15 * SECOND), None, "v", {"y": 1.0})
    assert len(outside(data, 0, 40 * SECOND)) == 10  # a sample less is no second more


@pytest.mark.parametrize("wanted", ["unlabelled", "auto"])
def test_de_is_relative_to_the_mean_over_time_outside_trials(wanted):
    data = person([(0, 10, 22), (1, 0, 12)])
    arrays, index, found = subject_features(data, in_pieces(data, None), wanted)
    assert (found, index.tolist()) == ("unlabelled", [0, 0])
    first, second = (differential_entropy(recording) for recording in data.recordings)
    free = np.concatenate([first[:, :20], first[:, 44:], second[:, 24:]], axis=1)
    np.testing.assert_allclose(arrays["baseline_de"][0], free.mean(1), atol=1e-5)
    np.testing.assert_allclose(arrays["de"][1], second[:, :24] - free.mean(1)[:, None], atol=1e-5)
    # The store keeps a minute of it: all seconds of it, where there are fewer.
    seconds = [
        data.recordings[0][:, s * SECOND : (s + 1) * SECOND] for s in (*range(10), *range(22, 40))
    ]
    seconds += [data.recordings[1][:, s * SECOND : (s + 1) * SECOND] for s in range(12, 30)]
    kept = arrays["baseline"][0].reshape(2, 60, SECOND)
    np.testing.assert_array_equal(kept[:, :46], np.stack(seconds, axis=1).astype(np.float32))
    np.testing.assert_array_equal(kept[:, 46:], kept[:, :14])


def test_a_reference_of_all_the_time_has_trials_in_it():
    data = person([(0, 10, 22)], lengths=(40,))
    arrays, _, found = subject_features(data, in_pieces(data, None), "person")
    assert found == "person"
    whole = differential_entropy(data.recordings[0])
    np.testing.assert_allclose(arrays["baseline_de"][0], whole.mean(1), atol=1e-5)


def test_without_a_reference_de_is_absolute():
    data = person([(0, 0, 40), (1, 0, 30)], trial_seconds=10)
    arrays, index, found = subject_features(data, in_pieces(data, None), "auto")
    assert found == "none"  # no time is left outside trials
    assert not arrays["baseline"].any() and not arrays["baseline_de"].any()
    assert arrays["baseline"].shape == (1, 2, SECOND)
    assert index.tolist() == [0] * 7
    first = differential_entropy(data.recordings[0])
    np.testing.assert_allclose(arrays["de"][0], first[:, :20], atol=1e-5)


def test_a_reference_that_is_not_there_is_refused():
    data = person([(0, 0, 40), (1, 0, 30)], trial_seconds=10)
    with pytest.raises(UserError, match="have no baseline: give --reference unlabelled or none"):
        reference_of(data, "baseline")
    with pytest.raises(
        UserError, match="have 0 s outside trials, and a reference needs 10"
    ) as error:
        subject_features(data, in_pieces(data, None), "unlabelled")
    one_line(error)
    rested = person([(0, 10, 22)], baselines=[Segment(0, 0, 640)], baseline=0)
    assert reference_of(rested, "auto") == "baseline"
    assert reference_of(rested, "none") == "none"


def test_flat_seconds_are_no_part_of_a_reference():
    data = person([(0, 20, 32)], lengths=(40,))
    data.recordings[0][:, : 8 * SECOND] = 0  # the amplifier was not on yet
    arrays, _, _ = subject_features(data, in_pieces(data, None), "unlabelled")
    assert np.isfinite(arrays["baseline_de"]).all()
    assert (arrays["baseline_de"] > 0).all()


def test_maps_are_relative_to_nothing_where_there_is_no_reference():
    store = fake_store(4)
    maps, numbers = PowerMaps(), np.arange(8)
    given = baseline_levels(store, numbers, maps.level, torch.device("cpu"))
    assert given.abs().min() > 0
    store.manifest["reference"] = "none"
    assert not baseline_levels(store, numbers, maps.level, torch.device("cpu")).any()


# --- recordings, one at a time


def test_recordings_are_read_when_they_are_asked_for():
    read = []
    data = person([(0, 0, 12), (2, 0, 12)], lengths=(20, 20, 20))
    kept = data.recordings

    def one(i: int) -> np.ndarray:
        read.append(i)
        return kept[i]

    class Source:
        """A source of one person."""

        @staticmethod
        def read(_unit: str, _files: list) -> Subject:
            return Subject(**{**vars(data), "recordings": Recordings(one, 3)})

    found = sources.read_checked(Source, "x", [], ("OZ",))
    assert (read, len(found.recordings), found.ch_names) == ([], 3, ("OZ",))
    arrays, _, _ = subject_features(found, in_pieces(found, None), "none")
    assert read == [0, 1, 2]
    np.testing.assert_array_equal(arrays["eeg"][1, 0], kept[2][1, : 12 * SECOND].astype("f4"))
    with pytest.raises(IndexError):
        found.recordings[3]
    kept[1][0, 0] = np.nan
    with pytest.raises(UserError, match="not finite"):
        sources.read_checked(Source, "x", []).recordings[1]
    with pytest.raises(UserError, match="no channel PZ .--channels., only CZ OZ"):
        sources.read_checked(Source, "x", [], ("PZ",))


# --- resampling


@settings(max_examples=30)
@given(
    st.sampled_from([100, 200, 250, 256, 300, 500, 512, 1000, 2048, 128]), st.integers(1, 70_000)
)
def test_resampling_in_parts_is_resampling(sfreq, n_times):
    eeg = 50 + np.random.default_rng(n_times).normal(size=(2, n_times))
    found = resampled(eeg, sfreq)
    assert found.shape == (2, n_resampled(n_times, sfreq))
    assert n_resampled(n_times, sfreq) == -(-n_times * 128 // sfreq)
    up, down = 128 // np.gcd(128, sfreq), sfreq // np.gcd(128, sfreq)
    whole = resample_poly(eeg, up, down, axis=-1, padtype="edge") if sfreq != 128 else eeg
    np.testing.assert_allclose(found, whole[:, : found.shape[1]], atol=1e-9)


def test_parts_of_a_recording_are_read_once_but_for_their_margins():
    spans = []

    def read(start: int, stop: int) -> np.ndarray:
        spans.append((start, stop))
        return np.zeros((1, stop - start))

    resampled_in_parts(read, 3_600_000, 1000)
    assert max(stop - start for start, stop in spans) < 70_000
    assert sum(stop - start for start, stop in spans) < 1.05 * 3_600_000


def test_what_no_filter_resamples_is_refused():
    with pytest.raises(ValueError, match="no simple ratio"):
        resampled(np.zeros((1, 100)), 127.9999)
    with pytest.raises(ValueError, match="no samples"):
        resampled(np.zeros((1, 0)), 256)
