"""Who is trained on and who is tested on: the protocols, in five stratified folds.

============  ==========================  ==================================================
protocol      no group on both sides      for
============  ==========================  ==================================================
trial         subject x trial             subject-dependent results
video         stimulus                    does it know the video or the emotion
subject       subject                     a new person
session       session of a person         another day: all persons tested on have other sessions
within        trial, of one person        as `trial`, with a model for each person
random-frame  nothing: frames at random   reproducing the paper; every figure of it is leaky
============  ==========================  ==================================================

Folds are drawn from the store, the protocol and a seed, and from nothing that a task is about: all
tasks of a store have the same ones, and share what knows no classes, the generator. They are
stratified over all columns of ratings together.

Or a file says who is trained, validated and tested on, so that figures can be compared with those
that others have published.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from de3dgan.base.errors import UserError
from de3dgan.base.files import json_hash, read_json
from de3dgan.base.paths import display_path, from_root
from de3dgan.base.recipe import N_FOLDS, Protocol, Recipe
from de3dgan.base.schema import TEXT, check, list_of
from de3dgan.base.seeds import derived_rng, derived_seed
from de3dgan.data.labels import class_labels, classes_of_columns, labels_by_median
from de3dgan.data.store import Store

PROTOCOLS = get_args(Protocol)
PARTS = ("train", "val", "test")
#: Draws of the folds that are compared, at most, where parts lack classes.
_N_DRAWS = 10


@dataclass(frozen=True)
class Split:
    """One fold of one protocol.

    A frame is one second of a trial. Frame `k` of trial `t` has the number ``t * n_frames + k``.
    Its parts are sorted and disjoint, and together hold every frame (of the groups in the file, if
    it is of one).

    Attributes
    ----------
    protocol, fold, seed
        What it was drawn from; the seed is that of the folds.
    n_frames : int
        Frames per trial.
    train, val, test : array of int
        Frame numbers.
    fingerprint : str
        The same for two splits if and only if store, protocol, fold, seed and all three parts are.
        Labels are not part of it: tasks of one store share splits.
    spare : array of int
        Frames that could be trained on, and are not, see `with_few_groups`.
    """

    protocol: str
    fold: int
    seed: int
    n_frames: int
    train: np.ndarray = field(repr=False)
    val: np.ndarray = field(repr=False)
    test: np.ndarray = field(repr=False)
    fingerprint: str = ""
    spare: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64), repr=False)

    @property
    def leaky(self) -> bool:
        """Whether test trials are also trained on."""
        return self.protocol == "random-frame"

    def trials(self, part: str) -> np.ndarray:
        """Return the trials that have a frame in `part` ("train", "val", "test" or "spare")."""
        return np.unique(getattr(self, part) // self.n_frames)


def labels_and_split(recipe: Recipe, store: Store) -> tuple[np.ndarray, Split]:
    """Return the class of each trial, int (n_trials,), and the split that a recipe asks for.

    See `class_labels`, `make_split`, `read_split` and `with_few_groups`.

    Raises
    ------
    UserError
        If there is no such split, or a part of it lacks a class; or if DE is relative to what
        holds trials that are tested on.
    """
    labels = None  # medians are of the trials that are trained on, which are not known before
    if recipe.threshold != "median":
        labels = class_labels(store, recipe.ratings, recipe.threshold, recipe.n_classes)
        absent = set(range(recipe.n_classes)) - set(labels.tolist())
        if absent:
            raise UserError(
                f"No trial in {display_path(store.path)} is of class {min(absent)} of the task "
                f"{recipe.task}: there is nothing to tell apart."
            )
    if store.reference == "person" and recipe.protocol != "subject":
        raise UserError(
            f"DE in {display_path(store.path)} is relative to a mean that trials tested on are "
            "part of, which only --protocol subject allows: give that, or preprocess_de.py another "
            "--reference."
        )
    split = split_of(recipe, store, labels)
    if labels is not None:
        return labels, split
    labels = labels_by_median(store, recipe.ratings, split.trials("train"))
    for part in PARTS:
        missing = set(range(recipe.n_classes)) - set(labels[split.trials(part)].tolist())
        if missing:
            raise UserError(
                f"With --threshold median, the {part} part has no trial of class {min(missing)}: "
                "choose another fold or --threshold middle."
            )
    return labels, split


def split_of(recipe: Recipe, store: Store, labels: np.ndarray | None) -> Split:
    """Return the split that a recipe asks for; a part of it without a class is refused."""
    if recipe.split_file is None:
        split = make_split(
            store, labels, recipe.protocol, recipe.fold, recipe.fold_seed, recipe.person
        )
    else:
        split = read_split(store, labels, recipe.protocol, from_root(recipe.split_file))
    return with_few_groups(split, store, labels, recipe.train_groups)


def make_split(
    store: Store,
    labels: np.ndarray | None,
    protocol: str,
    fold: int,
    seed: int,
    person: str | None = None,
) -> Split:
    """Draw a split.

    Parameters
    ----------
    store : Store
        The data.
    labels : array of int, (n_trials,), optional
        Class of each trial in a task. They have no say in the draw: a part that lacks one of them
        is refused.
    protocol : str
        One of `PROTOCOLS`.
    fold : int
        0 to 4: which fifth of the groups is tested on.
    seed : int
        Seed of the draw.
    person : str, optional
        Of protocol ``within``: whose trials are split; others' belong to no part.

    Raises
    ------
    UserError
        If the protocol or the fold does not exist, if there are fewer groups than folds, or if a
        part lacks a class.

    Notes
    -----
    Folds are stratified by the classes of all columns of ratings together, see `_strata`. Where a
    part lacks a class of a column that has groups enough, other draws are tried, and the first is
    taken that lacks the fewest, whatever the task.

    A fifth of the training groups, stratified as well, is kept for validation, which chooses the
    epoch; a larger part of them where a class has fewer than five. The test part has no say in
    anything.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"There is no protocol {protocol!r}: choose one of {', '.join(PROTOCOLS)}.")
    if not 0 <= fold < N_FOLDS:
        raise UserError(f"There is no fold {fold}: choose one from 0 to {N_FOLDS - 1}.")
    n_frames = store.n_frames
    per_item = n_frames if protocol == "random-frame" else 1
    items = np.arange(store.n_trials * per_item)
    if protocol == "random-frame":
        groups = items
    else:
        _, groups = np.unique(group_names(store, protocol)[1], return_inverse=True)
    if protocol == "within":
        items = _trials_of(store, person)
    columns = [np.repeat(classes, per_item) for classes in classes_of_columns(store)]
    columns = [classes for classes in columns if len(set(classes[items].tolist())) > 1]
    strata = np.zeros(len(groups), np.int64)
    strata[items] = _strata([classes[items] for classes in columns], groups[items])

    def drawn(
        items: np.ndarray, fold: int | None, groups: np.ndarray = groups
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return items outside and inside a fold; of those that validate without its number."""
        some = [classes[items] for classes in (*columns, strata)]
        return _stratified_fold(items, some, groups[items], fold, seed, protocol)

    if protocol == "session":
        rest, test = _fold_of_sessions(store, items, fold, seed)
        if not len(test):
            raise UserError(
                "Protocol session tests people on one of their sessions and trains on others, and "
                f"in {display_path(store.path)} nobody that fold {fold} could test has two: choose "
                "--protocol subject or trial."
            )
        train, val = _fold_of_sessions(store, rest, 0, seed)
        if not len(val):  # of two sessions, one is left
            _, trials = np.unique(group_names(store, "trial")[1], return_inverse=True)
            train, val = drawn(rest, None, trials)
    else:
        rest, test = drawn(items, fold)
        train, val = drawn(rest, None)
    parts = dict(zip(PARTS, (train, val, test), strict=True))
    of_whom = f" ({person})" if protocol == "within" else ""
    for name, part in parts.items() if labels is not None else ():
        missing = set(labels[items // per_item].tolist()) - set(labels[part // per_item].tolist())
        if missing:
            raise UserError(
                f"With protocol {protocol}{of_whom}, fold {fold} and seed {seed} the {name} part "
                f"has no trial of class {min(missing)}: there are too few groups, so add subjects "
                "or choose another protocol."
            )
    if protocol != "random-frame":
        parts = {name: _frames_of(part, n_frames) for name, part in parts.items()}
    return _with_fingerprint(Split(protocol, fold, seed, n_frames, **parts), store)


def read_split(store: Store, labels: np.ndarray | None, protocol: str, path: Path) -> Split:
    """Return the split that a file describes; it is called fold 0.

    Parameters
    ----------
    store, labels, protocol
        As for `make_split`; the protocol says what a group is.
    path : Path
        A JSON file: an object whose ``train``, ``val`` and ``test`` are lists of names of groups.
        Groups that it does not name are not read.

    Raises
    ------
    UserError
        If the file cannot be read, names a group that the store does not have, or one in two
        parts, or if a part lacks a class.
    """
    where = display_path(path)
    if protocol == "random-frame":
        raise UserError("--split-file names groups, and the random-frame protocol has none.")
    if not path.is_file():
        raise UserError(f"There is no {where}: --split-file takes a JSON file of groups.")
    content = read_json(path)
    remedy = 'write {"train": [...], "val": [...], "test": [...]}, each with names of groups.'
    check(content, dict.fromkeys(PARTS, list_of(TEXT)), path, remedy)
    what, names = group_names(store, protocol)
    there = set(names.tolist())
    part_of: dict[str, str] = {}
    for part in PARTS:
        for group in content[part]:
            if part_of.setdefault(group, part) != part:
                raise UserError(f"{where} has {what} {group} in {part_of[group]} and in {part}.")
            if group not in there:
                raise UserError(
                    f"{where} names {what} {group}, which {display_path(store.path)} does not have."
                )
    parts = {}
    for part in PARTS:
        trials = np.flatnonzero(np.isin(names, content[part]))
        missing = _absent(labels, trials)
        if missing:
            raise UserError(f"{where} has no trial of class {min(missing)} in {part}.")
        parts[part] = _frames_of(trials, store.n_frames)
    return _with_fingerprint(Split(protocol, 0, 0, store.n_frames, **parts), store)


def everyone(recipe: Recipe, store: Store) -> tuple[np.ndarray, Split]:
    """Return the class of each trial, and a split in which all are trained on.

    It is for what is handed to others, of which nothing is measured here: nobody is tested.
    Validation looks at those that are trained on, as nobody else is left.
    """
    frames = np.arange(store.n_trials * store.n_frames)
    trials = np.arange(store.n_trials)
    labels = (
        labels_by_median(store, recipe.ratings, trials)
        if recipe.threshold == "median"
        else class_labels(store, recipe.ratings, recipe.threshold, recipe.n_classes)
    )
    split = Split(recipe.protocol, recipe.fold, 0, store.n_frames, frames, frames, frames[:0])
    return labels, _with_fingerprint(split, store)


def without_test(store: Store, protocol: str, seed: int) -> Split:
    """Return a split that tests nobody: all are trained on, but for those who validate.

    Validation is cut as in `make_split`.

    Raises
    ------
    UserError
        If there are too few groups.
    """
    trials = np.arange(store.n_trials)
    _, groups = np.unique(group_names(store, protocol)[1], return_inverse=True)
    columns = classes_of_columns(store)
    columns = [*columns, _strata(columns, groups)]
    train, val = _stratified_fold(trials, columns, groups, None, seed, protocol)
    train, val = (_frames_of(part, store.n_frames) for part in (train, val))
    split = Split(protocol, 0, seed, store.n_frames, train, val, train[:0])
    return _with_fingerprint(split, store)


def with_few_groups(split: Split, store: Store, labels: np.ndarray | None, n_groups: int) -> Split:
    """Return a split with a number of its training groups; the frames of others are `spare`.

    Parameters
    ----------
    split : Split
        Who is trained on.
    store, labels
        The data, and the class of each trial if that is known.
    n_groups : int
        Training groups to keep; 0 for all. A smaller draw is part of a larger one.

    Raises
    ------
    UserError
        If there are not as many, or if those that are kept lack a class.
    """
    what, names = group_names(store, split.protocol)
    of_frames = names[split.train // split.n_frames]
    groups = np.unique(of_frames)
    if not n_groups:
        return split
    if n_groups > len(groups):
        raise UserError(
            f"--train-groups {n_groups} is more than the {len(groups)} groups ({what}) there are "
            "to train on."
        )
    rng = derived_rng(split.seed, split.fold, "few groups to train on")
    kept = np.isin(of_frames, rng.permutation(groups)[:n_groups])
    missing = _absent(labels, split.train[kept] // split.n_frames)
    if missing:
        raise UserError(
            f"The {n_groups} groups ({what}) drawn with --train-groups have no trial of class "
            f"{min(missing)}: train on more of them."
        )
    few = replace(split, train=split.train[kept], spare=split.train[~kept])
    return _with_fingerprint(few, store)


def group_names(store: Store, protocol: str) -> tuple[str, np.ndarray]:
    """Return what a group is in `protocol`, and the group of each trial.

    Trials of one person and stimulus share a rating, or may: they are pieces of one recording, or
    repeat it. So they are one group of protocol ``trial``, which has the first one's number.

    The ``random-frame`` protocol knows no groups; its figures are judged by trial.

    Returns
    -------
    what : str
        "subject", "stimulus", "session" or "trial".
    names : array of str, (n_trials,)
    """
    columns = store.columns
    if column := {"subject": "subject", "video": "stimulus"}.get(protocol):
        return column, np.array(columns[column])
    if protocol == "session":
        return "session", _sessions(store)
    first: dict[tuple[str, str], str] = {}
    rated = zip(columns["subject"], columns["stimulus"], columns["trial"], strict=True)
    return "trial", np.array([first.setdefault((who, what), trial) for who, what, trial in rated])


def persons(store: Store) -> list[str]:
    """Return the names of the people in a store, in its order."""
    return list(dict.fromkeys(store.columns["subject"]))


def _sessions(store: Store) -> np.ndarray:
    """Return the name of the session of each trial, unique over people."""
    names = zip(store.columns["subject"], store.columns["session"], strict=True)
    return np.array([f"{subject}, session {session}" for subject, session in names])


def _trials_of(store: Store, person: str | None) -> np.ndarray:
    trials = np.flatnonzero(np.array(store.columns["subject"]) == person)
    if not len(trials):
        raise UserError(
            f"There is no person {person} in {display_path(store.path)}: give as --person one of "
            f"{', '.join(persons(store))}."
        )
    return trials


def _fold_of_sessions(
    store: Store, items: np.ndarray, fold: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return trials outside and inside a fold of sessions.

    Whoever is tested on is trained on as well: a fold holds out one session of a person at most
    (of those who have more than five, a fifth), and none of those who have only one. People begin
    at different folds, drawn at random.
    """
    subjects, sessions = np.array(store.columns["subject"])[items], _sessions(store)[items]
    inside = np.zeros(len(items), bool)
    rng = derived_rng(seed, 0, "folds of sessions")
    for first, person in enumerate(rng.permutation(np.unique(subjects))):
        own = rng.permutation(np.unique(sessions[subjects == person]))
        if len(own) > 1:
            inside |= np.isin(sessions, own[(first + np.arange(len(own))) % N_FOLDS == fold])
    return items[~inside], items[inside]


def _frames_of(trials: np.ndarray, n_frames: int) -> np.ndarray:
    """Return the numbers of all frames of `trials`, sorted as they are."""
    return (trials[:, None] * n_frames + np.arange(n_frames)).ravel()


def _with_fingerprint(split: Split, store: Store) -> Split:
    """Return a split with its `Split.fingerprint`."""
    content = {
        "store": store.hash,
        **{name: getattr(split, name) for name in ("protocol", "fold", "seed")},
        **{part: getattr(split, part).tolist() for part in PARTS},
    }
    return replace(split, fingerprint=json_hash(content)[:16])


def _absent(labels: np.ndarray | None, trials: np.ndarray) -> set[int]:
    """Return the classes that some trials have none of."""
    return set() if labels is None else set(labels.tolist()) - set(labels[trials].tolist())


def _strata(columns: Sequence[np.ndarray], groups: np.ndarray) -> np.ndarray:
    """Return the class of each item in all columns together, rare ones merged.

    Items are parted by one column after the other. Where that would leave a class with fewer groups
    than folds, it stays with the smallest of the others. Later columns must leave more of them, so
    that many columns do not make many small classes. A single column is taken as it is.

    Parameters
    ----------
    columns : sequence of array of int, (n_items,)
        Classes by one column each.
    groups : array of int, (n_items,)
        What is kept together.

    Returns
    -------
    array of int, (n_items,)
    """
    if len(columns) == 1:
        return columns[0]
    strata = np.zeros(len(groups), np.int64)
    for number, classes in enumerate(columns):
        parted, n_parted = np.empty_like(strata), 0
        for stratum in range(strata.max() + 1):
            rows = np.flatnonzero(strata == stratum)
            for some in _merged(classes[rows], groups[rows], N_FOLDS * max(number, 1)):
                parted[rows[np.isin(classes[rows], some)]] = n_parted
                n_parted += 1
        strata = parted
    return strata


def _merged(classes: np.ndarray, groups: np.ndarray, n_needed: int) -> list[list[int]]:
    """Return classes in lists, each with `n_needed` groups or more, or all of them in one."""
    lists = [[c] for c in np.unique(classes).tolist()]

    def n_groups(some: list[int]) -> int:
        return len(np.unique(groups[np.isin(classes, some)]))

    while True:
        lists.sort(key=n_groups)
        if len(lists) == 1 or n_groups(lists[0]) >= n_needed:
            return lists
        lists = [lists[0] + lists[1], *lists[2:]]


def _validation_folds(strata: np.ndarray, groups: np.ndarray) -> int:
    """Return into how many folds training items are cut, one of which validates.

    Of a class that has fewer groups than that, a fold could have none.
    """
    fewest = min(len(np.unique(groups[strata == c])) for c in np.unique(strata))
    return min(N_FOLDS, max(2, fewest))


def _stratified_fold(
    items: np.ndarray,
    columns: Sequence[np.ndarray],
    groups: np.ndarray,
    fold: int | None,
    seed: int,
    protocol: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Return `items` outside and inside a fold, each sorted.

    Parameters
    ----------
    items : array of int, (n_items,)
        Trials, or frames.
    columns : sequence of array of int, (n_items,)
        Classes that all folds should have on both sides; the last ones stratify the draw.
    groups : array of int, (n_items,)
        What is kept together.
    fold : int, optional
        Which of the five. Without, they are cut to validate on one, which alone has to have all
        classes; there may be fewer folds, see `_validation_folds`.
    seed, protocol
        See `make_split`.
    """
    strata, n_groups = columns[-1], len(np.unique(groups))
    n_folds = N_FOLDS if fold is not None else _validation_folds(strata, groups)
    if n_groups < N_FOLDS:
        raise UserError(
            f"Protocol {protocol} holds out a fifth of the groups for testing and a fifth of the "
            f"rest for validation, and {n_groups} groups are too few for that: choose another "
            "protocol, or add recordings and rerun preprocess_de.py."
        )
    if np.bincount(strata).max() < n_folds:
        raise UserError(
            f"No class has the {n_folds} members that {n_folds} folds need: add recordings and "
            "rerun preprocess_de.py."
        )
    n_least = N_FOLDS if fold is not None else 2  # groups without which it cannot be on all sides
    wanted = [
        [c for c in np.unique(classes) if len(np.unique(groups[classes == c])) >= n_least]
        for classes in columns
    ]
    best, fewest = None, None
    for draw in range(_N_DRAWS):
        random_state = derived_seed(seed, draw, "folds") % 2**32 if draw else seed
        kind = StratifiedKFold if protocol == "random-frame" else StratifiedGroupKFold
        folds = kind(n_folds, shuffle=True, random_state=random_state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rare classes, which are looked for below
            sides = list(folds.split(items, strata, groups))
        lacking = [
            sum(
                not np.isin(some, classes[side]).all()
                for pair in (sides if fold is not None else sides[:1])
                for side in pair
            )
            for classes, some in zip(columns, wanted, strict=True)
        ]
        score = (sum(lacking[:-1]), lacking[-1])  # strata matter less than classes that tasks have
        if fewest is None or score < fewest:
            best, fewest = sides[fold or 0], score
        if not any(score):
            break
    return tuple(np.sort(items[side]) for side in best)
