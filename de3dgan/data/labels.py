"""The class of each trial: from ratings by a threshold, or as a column of class numbers has it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path

if TYPE_CHECKING:
    from de3dgan.base.recipe import Threshold
    from de3dgan.data.store import Store


#: The column of planted recordings that says what was planted: it is the truth, and no label.
PLANTED = "planted"


def class_labels(
    store: Store, ratings: Sequence[str], threshold: Threshold, n_classes: int = 2
) -> np.ndarray:
    """Return the class of each trial: bit i is set where rating i exceeds the threshold.

    One rating gives two classes, low and high; valence and arousal give four, numbered
    ``valence_high + 2 · arousal_high``.

    Parameters
    ----------
    store : Store
        The data.
    ratings : sequence of str
        Columns of ``trials.csv``.
    threshold : float, "middle" or "classes"
        A number for all of them; the middle of the scale that the source gives each; or that the
        one column holds the numbers of classes itself.
    n_classes : int
        How many there are, in a column of class numbers.

    Returns
    -------
    array of int, (n_trials,)

    Raises
    ------
    UserError
        If there is no such column, if it has no scale, or if it holds other numbers.
    """
    if threshold == "classes":
        values = store.rating(ratings[0])
        wrong = np.flatnonzero(~np.isin(values, np.arange(n_classes)))
        if len(wrong):
            names = store.classes.get(ratings[0])
            known = f" (its classes are {', '.join(names)})" if names else ""
            raise UserError(
                f"{ratings[0]} of trial {wrong[0]} in {display_path(store.path)} is "
                f"{values[wrong[0]]:g}, and --class-names has {n_classes} names, for 0 to "
                f"{n_classes - 1}: give as many as there are classes{known}."
            )
        return values.astype(np.int64)
    return _combined(
        store.rating(name) > (store.middle(name) if threshold == "middle" else threshold)
        for name in ratings
    )


def labels_by_median(store: Store, ratings: Sequence[str], train: np.ndarray) -> np.ndarray:
    """Return the class of each trial: bit i is set where rating i exceeds the person's median.

    Parameters
    ----------
    store : Store
        The data.
    ratings : sequence of str
        Columns of ``trials.csv``.
    train : array of int
        Trials whose ratings medians are taken of. Someone who has none of them is parted by the
        median of them all.

    Returns
    -------
    array of int, (n_trials,)
    """
    subjects = np.array(store.columns["subject"])
    high = []
    for name in ratings:
        values = store.rating(name)
        medians = np.full(store.n_trials, np.median(values[train]))
        for subject in np.unique(subjects[train]):
            own = train[subjects[train] == subject]
            medians[subjects == subject] = np.median(values[own])
        high.append(values > medians)
    return _combined(high)


def classes_of_columns(store: Store) -> list[np.ndarray]:
    """Return the class of each trial in each column of ratings, whatever a task makes of it.

    A rating is parted at the middle of its scale, or at its median over all trials if it has no
    scale. Columns of class numbers come first: they are of the design. What was planted is no
    rating.

    Returns
    -------
    list of array of int, (n_trials,)
    """
    found = []
    names = [name for name in store.ratings if name != PLANTED]
    for name in sorted(names, key=lambda name: name not in store.classes):
        values = store.rating(name)
        if name not in store.classes:
            values = values > (store.middle(name) if name in store.scales else np.median(values))
        found.append(np.unique(values, return_inverse=True)[1])
    return found


def _combined(high: Iterable[np.ndarray]) -> np.ndarray:
    return sum(bit.astype(np.int64) << i for i, bit in enumerate(high))
