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
from sklearn.model_selection import StratifiedGroupKFold

from de3dgan.base.errors import UserError
from de3dgan.base.recipe import load_recipe
from de3dgan.data.labels import class_labels, classes_of_columns
from de3dgan.data.splits import (
    PROTOCOLS,
    group_names,
    labels_and_split,
    make_split,
    persons,
    read_split,
    with_few_groups,
)
from tests.conftest import script_of
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
    labels = (order[subject] + order[video]) % n_classes
    return of_classes(store, emotion=labels), labels


def of_classes(store, **columns: np.ndarray):
    """Return a store with columns of class numbers."""
    text = {name: [str(value) for value in values] for name, values in columns.items()}
    names = {name: [f"class {c}" for c in set(values)] for name, values in text.items()}
    manifest = {**store.manifest, "classes": {**store.manifest["classes"], **names}}
    return replace(store, columns={**store.columns, **text}, manifest=manifest)


def group_of(store, protocol: str) -> np.ndarray:
    """Return the group of each trial, by the definition of the protocol."""
    subjects, stimuli = store.columns["subject"], store.columns["stimulus"]
    trials = [f"{subject} {stimulus}" for subject, stimulus in zip(subjects, stimuli, strict=True)]
    groups = {"trial": trials, "within": trials, "video": stimuli, "subject": subjects}
    return np.array(groups[protocol])


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
    store = of_classes(store, emotion=labels)
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
    store = of_classes(fake_store(len(labels), 2, ("CZ",)), emotion=labels)
    split = make_split(store, labels, protocol, fold, seed)
    check(split, store, labels)
    per_trial = store.n_frames if protocol == "trial" else 1
    counts = np.array(
        [
            [(labels[part // store.n_frames] == label).sum() / per_trial for part in parts(split)]
            for label in range(len(sizes))
        ]
    )
    # A class of five has four left, of which a fifth would be none.
    n_folds = min(5, counts[:, :2].sum(1).min())
    for (train, val, test), size in zip(counts, sizes, strict=True):
        n = size if protocol == "trial" else size * store.n_frames
        assert abs(test - n / 5) < 1
        assert abs(val - (train + val) / n_folds) < 1


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
    other_store = replace(store, manifest={**store.manifest, "hash": "another"})
    changed = [
        (other_store, *base[1:]),
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
    again = make_split(same, 1 - labels, *base[2:])  # labels have no part in it
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


# --- folds of all tasks


def emotion_set(n_people: int, n_videos: int, n_columns: int, shares, seed: int):
    """Return a store of ratings that go with the video and the person; `shares` of them are high.

    Its columns are valence, arousal, and so on.
    """
    rng = np.random.default_rng(seed)
    n = n_people * n_videos
    person, video = np.divmod(np.arange(n), n_videos)
    names = ("valence", "arousal", "dominance", "liking", "familiarity", "joy")[:n_columns]
    columns = {}
    for name, share in zip(names, shares, strict=False):
        liking = rng.normal(size=n_people)[person] + 2 * rng.normal(size=n_videos)[video]
        liking += rng.normal(size=n)
        high = liking > np.quantile(liking, 1 - share)
        columns[name] = np.where(high, rng.uniform(5.1, 9, n), rng.uniform(1, 5, n)).round(2)
    return fake_store(
        n,
        2,
        ("CZ",),
        subject=[f"s{p:02d}" for p in person],
        stimulus=[f"v{v:02d}" for v in video],
        **columns,
    )


def labels_of(store, *names: str) -> np.ndarray:
    return class_labels(store, names, "middle")


EMOTION_SETS = {
    "n_people": st.integers(7, 12),
    "n_videos": st.integers(7, 16),
    "n_columns": st.integers(2, 6),
    "shares": st.lists(st.floats(0.2, 0.8), min_size=6, max_size=6),
    "seed": st.integers(0, 2**31),
}


@settings(max_examples=25)
@given(**EMOTION_SETS, protocol=st.sampled_from((*GROUPED, "random-frame")), fold=st.integers(0, 4))
def test_all_tasks_of_a_store_have_the_same_folds(protocol, fold, seed, **size):
    """Or a task is refused, in a part that has none of one of its classes."""
    store = emotion_set(**size, seed=seed)
    drawn = make_split(store, None, protocol, fold, seed)
    for names in (("valence",), ("arousal",), ("valence", "arousal")):
        labels = labels_of(store, *names)
        lacking = {
            c for part in parts(drawn) for c in set(labels) - set(labels[part // store.n_frames])
        }
        if lacking:
            with pytest.raises(UserError, match=f"no trial of class [{lacking}]"):
                make_split(store, labels, protocol, fold, seed)
            continue
        split = make_split(store, labels, protocol, fold, seed)
        assert split.fingerprint == drawn.fingerprint
        for one, other in zip(parts(split), parts(drawn), strict=True):
            np.testing.assert_array_equal(one, other)


@settings(max_examples=25)
@given(**EMOTION_SETS, fold=st.integers(0, 4))
def test_every_rating_is_stratified_and_so_are_the_first_two_together(fold, seed, **size):
    """Where each trial is a group, to a few trials more or less than a fifth."""
    store = emotion_set(**size, seed=seed)
    split = make_split(store, None, "trial", fold, seed)
    check(split, store, labels_of(store, "valence"))
    for names in (("valence",), ("arousal",), ("valence", "arousal")):
        labels = labels_of(store, *names)
        counts = np.bincount(labels)
        tested = np.bincount(labels[split.trials("test")], minlength=len(counts))
        # An item more or less of each joint class, and there are few of these.
        assert (np.abs(tested - counts / 5) <= 2 + 0.05 * counts).all(), (names, tested, counts)


@pytest.mark.parametrize("protocol", ["trial", "subject"])
def test_folds_of_a_single_rating_are_those_of_its_classes(protocol):
    """Folds that were drawn before tasks shared them, as those of EEGMAT, stay as they were."""
    labels = np.arange(72) % 2
    store = fake_store(
        72,
        2,
        ("CZ",),
        subject=[f"Subject{trial // 2:02d}" for trial in range(72)],
        stimulus=["rest", "arithmetic"] * 36,
        arithmetic=labels,
    )
    store.manifest["scales"]["arithmetic"] = [0, 1]
    _, groups = np.unique(group_names(store, protocol)[1], return_inverse=True)
    cutter = StratifiedGroupKFold(5, shuffle=True, random_state=520)
    for fold, (rest, test) in enumerate(cutter.split(groups, labels, groups)):
        split = make_split(store, labels, protocol, fold, 520)
        np.testing.assert_array_equal(split.trials("test"), np.sort(test))
        train, val = next(cutter.split(rest, labels[rest], groups[rest]))
        np.testing.assert_array_equal(split.trials("val"), np.sort(rest[val]))
        np.testing.assert_array_equal(split.trials("train"), np.sort(rest[train]))
    if protocol == "subject":
        first = make_split(store, labels, protocol, 0, 520).trials("test")
        assert np.unique(first // 2).tolist() == [4, 10, 12, 13, 17, 27, 28, 30]


def test_what_was_planted_has_no_say_in_the_folds():
    store = emotion_set(8, 10, 2, (0.5, 0.4), seed=3)
    truth = np.random.default_rng(0).integers(0, 2, store.n_trials)
    with_truth = of_classes(store, planted=truth)
    for fold in range(5):
        one, other = (make_split(s, None, "trial", fold, 7) for s in (store, with_truth))
        assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("seed", range(7, 17))
def test_a_draw_in_which_a_part_lacks_a_class_is_not_taken_if_another_has_them_all(seed):
    """Seven people alone rate anything high in liking, of twenty."""
    store = emotion_set(20, 6, 2, (0.5, 0.5), seed)
    high = np.arange(store.n_trials) // 6 % 3 == 0
    columns = {**store.columns, "liking": [str(9 if h else 1) for h in high]}
    scales = {**store.manifest["scales"], "liking": [1, 9]}
    store = replace(store, columns=columns, manifest={**store.manifest, "scales": scales})
    for fold in range(5):
        split = make_split(store, labels_of(store, "liking"), "subject", fold, seed)
        assert {tuple(set(high[split.trials(part)])) for part in ("train", "val", "test")} == {
            (False, True)
        }


def test_a_rating_without_a_scale_is_parted_by_its_median():
    store = emotion_set(6, 10, 2, (0.5, 0.5), seed=1)
    del store.manifest["scales"]["arousal"]
    classes = classes_of_columns(store)
    np.testing.assert_array_equal(classes[0], labels_of(store, "valence"))
    assert classes[1].mean() == pytest.approx(0.5, abs=0.05)
    make_split(store, None, "trial", 0, 1)


def test_columns_of_class_numbers_stratify_before_ratings():
    store = emotion_set(6, 10, 2, (0.5, 0.5), seed=1)
    emotion = np.arange(60) % 3 * 2  # numbers need not follow each other
    first, *others = classes_of_columns(of_classes(store, emotion=emotion))
    assert first.tolist() == (emotion // 2).tolist() and len(others) == 2


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
        assert (few.fingerprint == whole.fingerprint) == (n == n_groups)
        before = kept
    assert with_few_groups(whole, store, labels, 0) is whole
    with pytest.raises(UserError, match=f"more than the {n_groups} groups"):
        with_few_groups(whole, store, labels, n_groups + 1)


# --- sessions, one person at a time, and labels


def visits(n_sessions: list[int], n_films: int, n_frames: int = 2, seed: int = 0):
    """Return a store of people who saw all films in each of their sessions, and labels."""
    rows = [
        (f"p{person}", session, film)
        for person, n in enumerate(n_sessions)
        for session in range(1, n + 1)
        for film in range(n_films)
    ]
    subject, session, film = zip(*rows, strict=True)
    store = fake_store(
        len(rows),
        n_frames,
        ("CZ",),
        subject=subject,
        session=session,
        stimulus=[f"film{number:02d}" for number in film],
    )
    labels = np.random.default_rng(seed).permutation(np.arange(n_films) % 2)[list(film)]
    return of_classes(store, emotion=labels), labels


def sessions_of(store, split, part: str) -> set[tuple[str, str]]:
    """Return person and session of each trial of a part."""
    columns = store.columns
    return {(columns["subject"][t], columns["session"][t]) for t in split.trials(part)}


@settings(max_examples=60)
@given(
    n_sessions=st.lists(st.integers(1, 7), min_size=1, max_size=7),
    n_films=st.integers(4, 12),
    fold=st.integers(0, 4),
    seed=st.integers(0, 2**31),
)
def test_whoever_is_tested_on_has_another_session_in_training(n_sessions, n_films, fold, seed):
    """No session is tested on in part, and none of those who came once."""
    store, labels = visits(n_sessions, n_films, seed=seed)
    try:
        split = make_split(store, labels, "session", fold, seed)
    except UserError:
        return
    everything = np.concatenate(parts(split))
    assert sorted(everything.tolist()) == list(range(store.n_trials * store.n_frames))
    train, val, test = (sessions_of(store, split, part) for part in ("train", "val", "test"))
    assert test and not test & (train | val)
    assert {person for person, _ in test} <= {person for person, _ in train}
    assert all(n_sessions[int(person[1:])] > 1 for person, _ in test)
    for person, n in enumerate(n_sessions):
        assert sum(who == f"p{person}" for who, _ in test) <= max(1, -(-n // 5))
    # A session is validated on as a whole; or trials are, where all others are needed to train on.
    if train & val:
        trials = group_of(store, "trial")
        assert not set(trials[split.trials("train")]) & set(trials[split.trials("val")])


@settings(max_examples=10)
@given(
    n_sessions=st.lists(st.integers(2, 5), min_size=5, max_size=7),
    seed=st.integers(0, 2**31),
)
def test_five_folds_test_each_session_once(n_sessions, seed):
    """Of those who have up to five, and of at least as many people as folds."""
    store, labels = visits(n_sessions, 10)
    splits = [make_split(store, labels, "session", fold, seed) for fold in range(5)]
    tested = np.concatenate([split.test for split in splits])
    assert sorted(tested.tolist()) == list(range(store.n_trials * store.n_frames))


def test_sessions_of_one_person_are_never_on_both_sides_under_subject():
    store, labels = visits([3, 2, 1, 3, 2, 3, 1, 2], 6)
    for fold in range(5):
        split = make_split(store, labels, "subject", fold, 520)
        check(split, store, labels)


def test_two_sessions_leave_trials_to_validate_on():
    """One session is tested on, and of the other some films choose the epoch."""
    store, labels = visits([2], 20)
    split = make_split(store, labels, "session", 0, 520)
    (tested,) = sessions_of(store, split, "test")
    (other,) = sessions_of(store, split, "train") | sessions_of(store, split, "val")
    assert tested != other
    assert [len(split.trials(part)) for part in ("train", "val", "test")] == [16, 4, 20]
    assert set(labels[split.trials("val")]) == {0, 1}


@pytest.mark.parametrize(("n_sessions", "fold"), [([1, 1, 1], 0), ([2], 2), ([1] * 9, 4)])
def test_one_session_each_is_refused(n_sessions, fold):
    store, labels = visits(n_sessions, 8)
    with pytest.raises(UserError, match=f"nobody that fold {fold} could test has two") as error:
        make_split(store, labels, "session", fold, 520)
    assert "choose --protocol subject or trial" in one_line(error)


@settings(max_examples=30)
@given(
    n_people=st.integers(1, 4),
    n_videos=st.integers(14, 20),
    n_classes=st.sampled_from([2, 3]),
    fold=st.integers(0, 4),
    seed=st.integers(0, 2**31),
)
def test_within_a_person_there_are_only_their_trials(n_people, n_videos, n_classes, fold, seed):
    """Each of them once, and of other people's none in any part."""
    store, labels = study(n_people, n_videos * n_classes // 2, n_classes, seed=seed)
    for person in persons(store):
        split = make_split(store, labels, "within", fold, seed, person)
        everything = np.concatenate(parts(split))
        own = np.flatnonzero(np.array(store.columns["subject"]) == person)
        frames = own[:, None] * store.n_frames + np.arange(store.n_frames)
        assert sorted(everything.tolist()) == frames.ravel().tolist()
        for part in parts(split):
            assert set(labels[part // store.n_frames]) == set(range(n_classes))


def test_pieces_of_a_trial_are_on_one_side_within_a_person():
    n = 60
    store = fake_store(
        n,
        2,
        ("CZ",),
        subject=["a"] * n,
        stimulus=[f"v{trial // 3:02d}" for trial in range(n)],
        piece=[trial % 3 for trial in range(n)],
    )
    labels = np.arange(n) // 3 % 2
    store = of_classes(store, emotion=labels)
    for fold in range(5):
        check(make_split(store, labels, "within", fold, 1, "a"), store, labels)


def test_an_unknown_person_is_refused_naming_those_there_are():
    store, labels = study(3, 16)
    for person in ("s07", ""):
        with pytest.raises(UserError, match="one of s00, s01, s02") as error:
            make_split(store, labels, "within", 0, 520, person)
        one_line(error)


def test_splits_of_two_people_have_other_fingerprints():
    store, labels = study(2, 16)
    prints = {
        make_split(store, labels, "within", 0, 520, who).fingerprint for who in ("s00", "s01")
    }
    assert len(prints) == 2


# --- thresholds


def asked(store, **values):
    """Return labels and split of the valence task."""
    recipe = load_recipe(script_of("classifier"))(**values)
    recipe.check()
    return labels_and_split(recipe, store)


def rated(n_people: int = 8, n_videos: int = 20, seed: int = 0, scale: tuple = (1, 9)):
    """Return a store whose people differ in their ratings' level."""
    rng = np.random.default_rng(seed)
    n = n_people * n_videos
    low, high = scale
    level = np.repeat(rng.uniform(low + 1, high - 1, n_people), n_videos)
    store = fake_store(
        n,
        2,
        ("CZ",),
        subject=[f"s{trial // n_videos}" for trial in range(n)],
        stimulus=[f"v{trial % n_videos:02d}" for trial in range(n)],
        valence=np.clip(level + rng.normal(0, 1.5, n), low, high).round(2),
    )
    store.manifest["scales"]["valence"] = list(scale)
    return store


def with_ratings(store, values: np.ndarray):
    columns = {**store.columns, "valence": [str(value) for value in values]}
    return replace(store, columns=columns)


def test_medians_are_of_each_persons_training_trials():
    store = rated()
    labels, split = asked(store, threshold="median")
    train, values = split.trials("train"), store.rating("valence")
    subjects = np.array(store.columns["subject"])
    for person in set(subjects):
        own = [values[t] for t in train if subjects[t] == person]
        expected = values[subjects == person] > np.median(own)
        np.testing.assert_array_equal(labels[subjects == person], expected)
        assert abs(labels[[t for t in train if subjects[t] == person]].mean() - 0.5) < 0.1


def test_no_rating_that_is_tested_on_has_a_say_in_what_is_trained_on():
    """Ratings of test trials stay on their side of the scale's middle, so that folds stay."""
    store = rated(seed=1)
    labels, split = asked(store, threshold="median")
    values, test = store.rating("valence"), split.trials("test")
    changed = values.copy()
    changed[test] = np.where(values[test] > 5, 9, 1)
    assert (changed != values).any()
    other_labels, other = asked(with_ratings(store, changed), threshold="median")
    np.testing.assert_array_equal(other.test, split.test)
    for part in ("train", "val"):
        np.testing.assert_array_equal(getattr(other, part), getattr(split, part))
        trials = split.trials(part)
        np.testing.assert_array_equal(labels[trials], other_labels[trials])


def test_who_is_not_trained_on_gets_the_median_of_those_who_are():
    store = rated(seed=2)
    labels, split = asked(store, threshold="median", protocol="subject")
    values, train = store.rating("valence"), split.trials("train")
    for part in ("val", "test"):
        trials = split.trials(part)
        np.testing.assert_array_equal(labels[trials], values[trials] > np.median(values[train]))


def test_thresholds_shape_labels_and_not_folds():
    store = rated()
    found = [asked(store, threshold=t) for t in ("median", "middle", 4.0, 5.0)]
    assert len({split.fingerprint for _, split in found}) == 1
    assert len({labels.tobytes() for labels, _ in found}) == 3  # 5 is the middle of 1 to 9


@pytest.mark.parametrize(("scale", "middle"), [((1, 5), 3), ((0, 7), 3.5), ((1, 9), 5)])
def test_the_middle_is_that_of_the_scale_in_the_manifest(scale, middle):
    """A rating in the middle is low."""
    values = [scale[0], middle - 0.25, middle, middle + 0.25, scale[1]]
    store = fake_store(5, valence=values)
    store.manifest["scales"]["valence"] = list(scale)
    assert class_labels(store, ("valence",), "middle").tolist() == [0, 0, 0, 1, 1]


def test_a_rating_without_a_scale_has_no_middle():
    store = fake_store(2, valence=[1, 9], level=[0, 1])
    del store.manifest["scales"]["level"]
    with pytest.raises(
        UserError, match="scale to valence, and none to level.*--threshold"
    ) as error:
        class_labels(store, ("level",), "middle")
    one_line(error)


def test_a_column_of_class_numbers_is_taken_as_it_is():
    numbers = [2, 0, 1, 1, 2, 0]
    labels = class_labels(fake_store(6, emotion=numbers), ("emotion",), "classes", 3)
    assert labels.dtype == np.int64 and labels.tolist() == numbers


@pytest.mark.parametrize("wrong", [3, -1, 0.5])
def test_numbers_of_no_class_are_refused(wrong):
    store = fake_store(3, emotion=[0, 2, wrong])
    store.manifest["classes"]["emotion"] = ["sad", "calm", "glad", "proud"]
    with pytest.raises(UserError, match=f"emotion of trial 2 .* is {wrong:g}, .* 3 names") as error:
        class_labels(store, ("emotion",), "classes", 3)
    assert "(its classes are sad, calm, glad, proud)" in one_line(error)


def test_a_class_without_a_trial_is_refused():
    store = fake_store(10, emotion=[0, 1] * 5)
    names = ("sad", "calm", "glad")
    with pytest.raises(UserError, match="is of class 2 of the task valence") as error:
        asked(store, ratings=("emotion",), threshold="classes", class_names=names)
    one_line(error)


@pytest.mark.parametrize("protocol", [p for p in PROTOCOLS if p != "subject"])
def test_a_reference_that_holds_tested_trials_is_for_new_people_only(protocol):
    store = rated()
    store.manifest["reference"] = "person"
    assert len(asked(store, protocol="subject")[1].test)
    person = "s1" if protocol == "within" else ""
    with pytest.raises(UserError, match="which only --protocol subject allows") as error:
        asked(store, protocol=protocol, person=person)
    assert "--reference" in one_line(error)


@pytest.mark.parametrize("protocol", ["video", "within"])
@pytest.mark.parametrize("seed", [520, 521, 522])
def test_five_stimuli_of_a_class_are_enough_for_all_folds(protocol, seed):
    """As SEED has them: three classes of five films, two people."""
    labels = np.tile(np.arange(3).repeat(5), 2)
    store = fake_store(
        30,
        subject=["a"] * 15 + ["b"] * 15,
        stimulus=[f"film{film:02d}" for film in range(15)] * 2,
    )
    store = of_classes(store, emotion=labels)
    person = "a" if protocol == "within" else None
    for fold in range(5):
        split = make_split(store, labels, protocol, fold, seed, person)
        for part in ("train", "val", "test"):
            assert set(labels[split.trials(part)]) == {0, 1, 2}
