"""Who is trained on and who is tested on: four protocols, five stratified folds.

============  ==========================  ==================================================
protocol      no group on both sides      for
============  ==========================  ==================================================
trial         subject x trial             subject-dependent results
video         stimulus                    does it know the video or the emotion
subject       subject                     a new person
random-frame  nothing: frames at random   reproducing the paper; every figure of it is leaky
============  ==========================  ==================================================
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from de3dgan.base.errors import UserError
from de3dgan.base.files import json_hash
from de3dgan.base.recipe import N_FOLDS, Protocol
from de3dgan.data.store import Store

PROTOCOLS = get_args(Protocol)


@dataclass(frozen=True)
class Split:
    """One fold of one protocol.

    A frame is one second of a trial. Frame `k` of trial `t` has the number ``t * n_frames + k``.
    The three parts are sorted and disjoint, and together hold every frame.

    Attributes
    ----------
    protocol, fold, seed
        What it was drawn from.
    n_frames : int
        Frames per trial.
    train, val, test : array of int
        Frame numbers.
    fingerprint : str
        The same for two splits if and only if store, labels, protocol, fold, seed and test frames
        are the same.
    """

    protocol: str
    fold: int
    seed: int
    n_frames: int
    train: np.ndarray = field(repr=False)
    val: np.ndarray = field(repr=False)
    test: np.ndarray = field(repr=False)
    fingerprint: str = ""

    @property
    def leaky(self) -> bool:
        """Whether test trials are also trained on."""
        return self.protocol == "random-frame"

    def trials(self, part: str) -> np.ndarray:
        """Return the trials that have a frame in `part` ("train", "val" or "test")."""
        return np.unique(getattr(self, part) // self.n_frames)


def make_split(store: Store, labels: np.ndarray, protocol: str, fold: int, seed: int) -> Split:
    """Draw a split.

    Parameters
    ----------
    store : Store
        The data.
    labels : array of int, (n_trials,)
        Class of each trial; folds are stratified by it.
    protocol : str
        One of `PROTOCOLS`.
    fold : int
        0 to 4: which fifth of the groups is tested on.
    seed : int
        Seed of the draw.

    Raises
    ------
    UserError
        If the protocol or the fold does not exist, if there are fewer groups than folds, or if a
        part lacks a class.

    Notes
    -----
    A fifth of the training groups, stratified as well, is kept for validation, which chooses the
    epoch; the test part has no say in anything.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"There is no protocol {protocol!r}: choose one of {', '.join(PROTOCOLS)}.")
    if not 0 <= fold < N_FOLDS:
        raise UserError(f"There is no fold {fold}: choose one from 0 to {N_FOLDS - 1}.")
    n_frames = store.n_frames
    every_frame = np.arange(store.n_trials * n_frames)
    if protocol == "random-frame":
        items, classes, groups = every_frame, np.repeat(labels, n_frames), None
    else:
        items, classes = np.arange(store.n_trials), labels
        _, groups = np.unique(group_names(store, protocol)[1], return_inverse=True)

    rest, test = _stratified_fold(items, classes, groups, fold, seed, protocol)
    train, val = _stratified_fold(
        rest, classes[rest], None if groups is None else groups[rest], 0, seed, protocol
    )
    parts = {"train": train, "val": val, "test": test}
    for name, part in parts.items():
        missing = sorted(set(classes.tolist()) - set(classes[part].tolist()))
        if missing:
            raise UserError(
                f"With protocol {protocol}, fold {fold} and seed {seed} the {name} part has no "
                f"trial of class {missing[0]}: there are too few groups, so add subjects or choose "
                "another protocol."
            )
    if protocol != "random-frame":
        parts = {
            name: (part[:, None] * n_frames + np.arange(n_frames)).ravel()
            for name, part in parts.items()
        }
    fingerprint = json_hash(
        {
            "store": store.hash,
            "labels": labels.tolist(),
            "protocol": protocol,
            "fold": fold,
            "seed": seed,
            "test": parts["test"].tolist(),
        }
    )[:16]
    return Split(protocol, fold, seed, n_frames, **parts, fingerprint=fingerprint)


def group_names(store: Store, protocol: str) -> tuple[str, np.ndarray]:
    """Return what a group is in `protocol`, and the group of each trial.

    The ``random-frame`` protocol knows no groups; its figures are judged by trial.

    Returns
    -------
    what : str
        "subject", "stimulus" or "trial".
    names : array of str, (n_trials,)
    """
    column = {"subject": "subject", "video": "stimulus"}.get(protocol, "trial")
    return column, np.array(store.columns[column])


def class_labels(store: Store, ratings: Sequence[str], threshold: float) -> np.ndarray:
    """Return the class of each trial: bit i is set where rating i exceeds `threshold`.

    One rating gives two classes, low and high; valence and arousal give four, numbered
    ``valence_high + 2 · arousal_high``.

    Returns
    -------
    array of int, (n_trials,)
    """
    high = [store.rating(name) > threshold for name in ratings]
    return sum(bit.astype(np.int64) << i for i, bit in enumerate(high))


def _stratified_fold(
    items: np.ndarray,
    classes: np.ndarray,
    groups: np.ndarray | None,
    fold: int,
    seed: int,
    protocol: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Return `items` outside and inside fold `fold`, each sorted."""
    n_groups = len(items) if groups is None else len(set(groups.tolist()))
    if n_groups < N_FOLDS:
        raise UserError(
            f"Protocol {protocol} holds out a fifth of the groups for testing and a fifth of the "
            f"rest for validation, and {n_groups} groups are too few for that: choose another "
            "protocol, or add recordings and rerun preprocess_de.py."
        )
    if np.bincount(classes).max() < N_FOLDS:
        raise UserError(
            f"No class has the {N_FOLDS} members that {N_FOLDS} folds need: add recordings and "
            "rerun preprocess_de.py."
        )
    folds = (StratifiedKFold if groups is None else StratifiedGroupKFold)(
        N_FOLDS, shuffle=True, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rare classes: `make_split` refuses a part without one
        outside, inside = list(folds.split(items, classes, groups))[fold]
    return np.sort(items[outside]), np.sort(items[inside])
