"""Membership inference: who was in a generator's training set, told from the generator.

An attacker has the generator, and EEG of people of whom some trained it. If it fits its members
better than others, their EEG is nearer to what it makes of their DE. A logistic regression learns
from all other people how near members are, and is asked about the one left out. People who chose
the epoch are neither members nor strangers, and are not asked about.

Leaving one out has a small bias: in 60 simulations with nothing to be told, 22 members and 8
others, the mean AUC was 0.47 and the mean balanced accuracy 0.48.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from de3dgan.evaluation.measures import Found, across_halves
from de3dgan.evaluation.metrics import Clusters
from de3dgan.evaluation.statistics import estimate

#: Groups of either kind below which there is nothing to learn from.
_AT_LEAST = 3


def nearness(real: Found, generated: Found, de: np.ndarray) -> dict[str, np.ndarray]:
    """Return how far generated EEG of trials is from their real EEG.

    Parameters
    ----------
    real, generated : Found
    de : array, (n_trials, n_bands, n_windows, n_chans)
        The absolute DE that the EEG was generated from, in nats.

    Returns
    -------
    dict of str to array, (n_trials,)
    """
    spectra = across_halves(generated.spectra, real.spectra)
    found = across_halves(generated.correlations, real.correlations)
    return {
        "spectrum": spectra.mean((1, 2, 3)),
        "correlations": found.mean((1, 2, 3, 4)),
        "de": np.abs(generated.de - de).mean((1, 2, 3)),
    }


def membership(
    scores: Mapping[str, np.ndarray], groups: np.ndarray, members: np.ndarray
) -> dict[str, float | int | None] | None:
    """Return how well members are told from others.

    Parameters
    ----------
    scores : dict of str to array, (n_trials,)
        `nearness` of the trials, and whatever else may tell.
    groups : array of str, (n_trials,)
        Whose trials they are; scores are averaged over a group's.
    members : array of bool, (n_trials,)
        Whether the group was trained on.

    Returns
    -------
    dict or None
        ``auc`` and ``balanced_accuracy``, each with the ends of its 95 % interval over groups
        (``auc_low``, ``auc_high``, …), and the numbers of ``members`` and ``others``. 0.5 is
        privacy. None if there are fewer than three of either, or if a group is both.
    """
    names, x, is_member = by_group(scores, groups, members)
    if len(set(groups[members]) & set(groups[~members])):
        return None
    if min(is_member.sum(), (~is_member).sum()) < _AT_LEAST:
        return None
    probability = left_out(x, is_member, names)
    predicted = np.stack([1 - probability, probability], axis=1)
    # Each is predicted by a model that the others have trained.
    found = estimate([Clusters.of(names, is_member.astype(int), predicted)], pooled_folds=True)
    out: dict[str, float | int | None] = {}
    for metric in ("auc", "balanced_accuracy"):
        of = found[metric]
        for name, value in (("", of.value), ("_low", of.low), ("_high", of.high)):
            out[metric + name] = None if math.isnan(value) else value
    return {**out, "members": int(is_member.sum()), "others": int((~is_member).sum())}


def by_group(
    scores: Mapping[str, np.ndarray], groups: np.ndarray, members: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the names of groups, their mean scores (n_groups, n_scores), and who is a member."""
    names, first, row = np.unique(groups, return_index=True, return_inverse=True)
    counts = np.bincount(row)
    x = np.stack([np.bincount(row, weights=s) / counts for s in scores.values()], axis=1)
    return names, x, members[first]


def left_out(x: np.ndarray, is_member: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the probability of being a member, learnt from all other groups, (n,).

    Parameters
    ----------
    x : array, (n, n_scores)
        Scores of groups, of one generator or of several.
    is_member : array of bool, (n,)
        Whether each was trained on.
    groups : array of str, (n,)
        Their names.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced"))
    out = np.empty(len(x))
    for name in set(groups.tolist()):
        own = groups == name
        out[own] = model.fit(x[~own], is_member[~own]).predict_proba(x[own])[:, 1]
    return out
