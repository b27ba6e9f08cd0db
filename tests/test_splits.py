"""Splits: nobody on two sides, everybody on one, and a fingerprint that says which."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from de3dgan.base.errors import UserError
from de3dgan.data.splits import class_labels, group_names, make_split, read_split, with_few_groups
from tests.helpers import fake_store, one_line

GROUPED = ("trial", "video", "subject")


def study(n_subjects: int, n_videos: int, n_classes: int = 2, n_frames: int = 2, seed: int = 0):
    """Return a store of every subject with every video, and labels that are balanced in both."""
    n_trials = n_subjects * n_videos
    store = fake_store(
        n_trials,
        n_frames,
        ch_names=("CZ",),
        subject=[f"s{trial // n_videos:02d}" for trial in range(n_trials)],
        stimulus=[f"v{trial % n_videos:02d}" for trial in range(n_trials)],
    )
    subject, video = np.divmod(np.arange(n_trials), n_videos)
    order = np.random.default_rng(seed).permutation(max(n_subjects, n_videos))
    return store, (order[subject] + order[video]) % n_classes


def group_of(store, protocol: str) -> np.ndarray:
    """Return the group of each trial, by the definition of the protocol."""
    subjects, stimuli = store.columns["subject"], store.columns["stimulus"]
    trials = [f"{subject} {stimulus}" for subject, stimulus in zip(subjects, stimuli, strict=True)]
    return np.array({"trial": trials, "video": stimuli, "subject": subjects}[protocol])


def parts(split) -> list[np.ndarray]:
    return [split.train, split.val, split.test]


TRIALS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=50
)


def check(split, store, labels) -> None:
    """Check what holds for every split."""
    n_frames = store.n_frames
    everything = np.concatenate(parts(split))
    assert sorted(everything.tolist()) == list(range(store.n_trials * n_frames))
    for part in parts(split):
        assert (np.diff(part) > 0).all()
        assert set(labels[part // n_frames]) == set(labels)
    if split.protocol != "random-frame":
        groups = group_of(store, split.protocol)
        train, val, test = (set(groups[part // n_frames]) for part in parts(split))
        assert not (train & val or train & test or val & test)


@settings(max_examples=60)
@given(
    trials=TRIALS,
    protocol=st.sampled_from((*GROUPED, "random-frame")),
    n_classes=st.sampled_from([1, 2, 4]),
    fold=st.integers(0, 4),
    seed=st.integers(0, 2**31),
)
def test_any_study_is_split_by_group_or_refused(trials, protocol, n_classes, fold, seed):
    """However few or uneven subjects, stimuli and classes are."""
    subjects, stimuli, classes = zip(*trials, strict=True)
    store = fake_store(len(trials), 2, ("CZ",), subject=subjects, stimulus=stimuli)
    labels = np.array(classes) % n_classes
    try:
        split = make_split(store, labels, protocol, fold, seed)
    except UserError:
        return
    check(split, store, labels)


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(5, 40), min_size=2, max_size=4),
    protocol=st.sampled_from(["trial", "random-frame"]),
    fold=st.integers(0, 4),
    seed=st.integers(0, 2**31),
)
def test_parts_are_stratified_however_frequent_the_classes_are(sizes, protocol, fold, seed):
    """Where nothing keeps items together, every part has its share of each class, to one item."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    store = fake_store(len(labels), 2, ("CZ",))
    try:
        split = make_split(store, labels, protocol, fold, seed)
    except UserError:
        assert protocol == "trial" and min(sizes) < 7  # too few for three parts with each class
        return
    check(split, store, labels)
    per_trial = store.n_frames if protocol == "trial" else 1
    for label, size in enumerate(sizes):
        train, val, test = (
            (labels[part // store.n_frames] == label).sum() / per_trial for part in parts(split)
        )
        n = size if protocol == "trial" else size * store.n_frames
        assert abs(test - n / 5) < 1
        assert abs(val - (n - test) / 5) < 1


@pytest.mark.parametrize("protocol", GROUPED)
@settings(max_examples=5)
@given(n=st.sampled_from([8, 12]), n_classes=st.sampled_from([2, 4]), seed=st.integers(0, 2**31))
def test_the_test_parts_of_five_folds_are_everything_once(protocol, n, n_classes, seed):
    """Where each subject and each video has as many trials of every class."""
    store, labels = study(n, n, n_classes, seed=seed)
    splits = [make_split(store, labels, protocol, fold, seed) for fold in range(5)]
    tested = np.concatenate([split.test for split in splits])
    assert sorted(tested.tolist()) == list(range(store.n_trials * store.n_frames))
    assert len({split.fingerprint for split in splits}) == 5
    for split in splits:
        check(split, store, labels)
        assert 0.1 < len(split.test) / len(tested) < 0.3
        assert not split.leaky


def test_the_random_frame_protocol_mixes_trials_and_says_so():
    store, labels = study(2, 5, n_frames=60)
    splits = [make_split(store, labels, "random-frame", fold, 520) for fold in range(5)]
    for split in splits:
        check(split, store, labels)
        assert split.leaky
        for part in ("train", "val", "test"):
            np.testing.assert_array_equal(split.trials(part), np.arange(10))
    assert sorted(np.concatenate([split.test for split in splits])) == list(range(600))


def test_the_fingerprint_follows_whatever_shapes_the_split():
    store, labels = study(8, 6)
    base = (store, labels, "trial", 0, 520)
    other_store = replace(store, manifest={"hash": "another"})
    other_labels = labels.copy()
    other_labels[0] = 1 - labels[0]
    changed = [
        (other_store, *base[1:]),
        (store, other_labels, *base[2:]),
        (store, 1 - labels, *base[2:]),  # the same test part
        (store, labels, "subject", 0, 520),
        (store, labels, "trial", 1, 520),
        (store, labels, "trial", 0, 521),
    ]
    prints = [make_split(*arguments).fingerprint for arguments in (base, *changed)]
    assert len(set(prints)) == len(prints)
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in prints)
    # The same whatever happened in between, and whatever the EEG in memory is.
    np.random.seed(7)  # noqa: NPY002 - the global state must not matter
    same = replace(store, eeg=store.eeg * 2)
    again = make_split(same, labels.astype(np.int32), *base[2:])
    assert again.fingerprint == prints[0]
    for one, other in zip(parts(again), parts(make_split(*base)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_trials_of_one_person_and_stimulus_are_one_group_called_by_the_first():
    store = fake_store(5, subject=list("aabba"), stimulus=list("xyxxx"))
    what, names = group_names(store, "trial")
    assert what == "trial" and names.tolist() == ["0", "1", "2", "2", "0"]
    assert group_names(store, "random-frame")[1].tolist() == names.tolist()
    # DEAP and EEGMAT, where each person sees a stimulus once, have a group for each trial.
    deap, _ = study(32, 40)
    assert group_names(deap, "trial")[1].tolist() == deap.columns["trial"]
    for protocol, letters in (("subject", "aabba"), ("video", "xyxxx")):
        assert group_names(store, protocol)[1].tolist() == list(letters)


def test_another_seed_draws_other_trials():
    store, labels = study(6, 8)
    draws = {tuple(make_split(store, labels, "trial", 0, seed).test) for seed in range(5)}
    assert len(draws) == 5


@pytest.mark.parametrize(
    ("protocol", "fold", "words"),
    [
        ("leave-one-out", 0, "trial, video, subject, session, within, random-frame"),
        ("trial", 5, "0 to 4"),
        ("trial", -1, "0 to 4"),
        ("subject", 0, "add recordings"),
        ("video", 0, "another protocol"),
    ],
)
def test_what_cannot_be_split_is_refused_in_one_line(protocol, fold, words):
    store, labels = study(3, 4)
    with pytest.raises(UserError, match=words) as error:
        make_split(store, labels, protocol, fold, 520)
    one_line(error)


def test_a_class_that_a_part_would_lack_is_refused():
    store, _ = study(8, 6)
    labels = np.array([person == "s03" for person in store.columns["subject"]]).astype(int)
    with pytest.raises(UserError, match="class 1") as error:
        make_split(store, labels, "subject", 0, 520)
    one_line(error)


@pytest.mark.parametrize("protocol", ["trial", "random-frame"])
def test_too_few_trials_of_every_class_are_refused(protocol):
    """Six trials are six groups, but three of a class cannot be in five folds."""
    store, labels = study(1, 6, n_frames=1)
    with pytest.raises(UserError) as error:
        make_split(store, labels, protocol, 0, 520)
    one_line(error)


def test_four_classes_are_valence_plus_twice_arousal_and_five_is_low():
    valence = [1, 9, 5.0, 5.01, 5, 9, 4.99, 6]
    arousal = [1, 5.0, 9, 6, 5, 9, 5.01, 1]
    store = fake_store(8, valence=valence, arousal=arousal)
    high = {
        name: np.array([value > 5 for value in values], int)
        for name, values in (("valence", valence), ("arousal", arousal))
    }
    assert class_labels(store, ("valence",), 5.0).tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    four = class_labels(store, ("valence", "arousal"), 5.0)
    np.testing.assert_array_equal(four, high["valence"] + 2 * high["arousal"])
    assert four.tolist() == [0, 1, 2, 3, 0, 3, 2, 1]


def test_a_rating_that_is_not_there_is_refused_naming_those_that_are():
    with pytest.raises(UserError, match="valence, liking") as error:
        class_labels(fake_store(2, valence=[1, 9], liking=[1, 9]), ("arousal",), 5.0)
    one_line(error)


# --- splits of a file, and fewer groups to train on


def written(path, **parts) -> Path:
    path.write_text(json.dumps(parts))
    return path


def test_a_file_says_who_is_trained_and_tested_on(tmp_path):
    store, labels = study(6, 4)
    path = written(tmp_path / "s.json", train=["s00", "s03"], val=["s01"], test=["s05"])
    split = read_split(store, labels, "subject", path)
    for part, names in (("train", {"s00", "s03"}), ("val", {"s01"}), ("test", {"s05"})):
        trials = split.trials(part)
        assert {store.columns["subject"][trial] for trial in trials} == names
        assert len(getattr(split, part)) == len(names) * 4 * store.n_frames
    others = written(tmp_path / "t.json", train=["s00", "s02"], val=["s01"], test=["s05"])
    assert read_split(store, labels, "subject", others).fingerprint != split.fingerprint


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"train": ["s00"], "val": ["s01"]}, "test"),
        ({"train": ["s00"], "val": ["s00"], "test": ["s05"]}, "s00 in train and in val"),
        ({"train": ["s00"], "val": ["s01"], "test": ["s99"]}, "s99, which"),
        ({"train": "s00", "val": ["s01"], "test": ["s05"]}, "train"),
    ],
)
def test_a_file_that_is_no_split_is_refused(tmp_path, parts, reason):
    store, labels = study(6, 4)
    path = written(tmp_path / "s.json", **parts)
    with pytest.raises(UserError, match=reason) as refused:
        read_split(store, labels, "subject", path)
    one_line(refused)
    with pytest.raises(UserError, match="random-frame protocol has none"):
        read_split(store, labels, "random-frame", path)
    with pytest.raises(UserError, match="takes a JSON file"):
        read_split(store, labels, "subject", tmp_path / "absent.json")


@pytest.mark.parametrize("protocol", GROUPED)
def test_fewer_groups_are_part_of_more_and_the_rest_is_spare(protocol):
    store, labels = study(12, 12)
    whole = make_split(store, labels, protocol, 1, 3)
    names = group_of(store, protocol)
    before = set()
    n_groups = len(set(names[whole.trials("train")]))
    for n in (3, 5, n_groups):
        few = with_few_groups(whole, store, labels, n)
        kept = set(names[few.trials("train")])
        assert len(kept) == n and before <= kept
        assert not kept & set(names[few.trials("spare")])
        assert np.array_equal(np.sort(np.r_[few.train, few.spare]), whole.train)
        assert np.array_equal(few.test, whole.test) and np.array_equal(few.val, whole.val)
        assert few.fingerprint != whole.fingerprint
        before = kept
    assert with_few_groups(whole, store, labels, 0) is whole
    with pytest.raises(UserError, match=f"more than the {n_groups} groups"):
        with_few_groups(whole, store, labels, n_groups + 1)
