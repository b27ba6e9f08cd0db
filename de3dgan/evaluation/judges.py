"""The battery: judges that learn to tell two kinds of EEG apart, and are asked about new people.

The kinds are mostly real and generated EEG, but the same judges are asked about real EEG against
real EEG, which shows what they say where there is nothing to be told, and about noise.

Each judge is trained on segments of 1, 4 and 12 s of training people, and asked about segments of
test people, and about whole trials; the network, which takes any length, is trained once, on random
seconds of the longest. The score of a trial is the mean score of its segments, of that length by
which the judge tells validation trials best: trials are too few to train on. The *strongest* judge
is the one that is best on validation people, so that the test people have no say.
The figure is the AUC: how often a generated segment is scored higher than a real one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from de3dgan.eeg.sampling import SFREQ
from de3dgan.evaluation.metrics import Clusters
from de3dgan.evaluation.names import JUDGES
from de3dgan.evaluation.network_judge import NetworkJudge
from de3dgan.evaluation.segments import LENGTHS, Described, describe
from de3dgan.evaluation.statistics import estimate

#: Segments of each kind that a judge needs to learn from.
_AT_LEAST = 4
#: Bootstrap draws of an interval: there are many intervals.
_N_DRAWS = 1000
#: Segments of each length and kind that `told_apart` describes, about.
_N_SEGMENTS = 240
#: Share of the mean variance that is added to all variances: rounding has no logarithm.
_FLOOR = 1e-4

#: Two kinds of EEG, the second of which is to be told: `segments.describe` of each.
Pair = tuple[Mapping[str, Described], Mapping[str, Described]]


@config_context(assume_finite=True, skip_parameter_validation=True)
def ask(
    train: Pair,
    val: Pair,
    test: Pair,
    groups: np.ndarray,
    seed: int,
    names: Iterable[str] = tuple(JUDGES),
) -> dict[str, dict[str, dict[str, Any]]]:
    """Train every judge and ask it.

    Parameters
    ----------
    train, val, test : pair
        EEG of the people who are trained on, who choose the strongest judge, and who are asked
        about.
    groups : array of str, (n_trials,)
        Group of every trial of the store. Intervals are bootstrapped over the groups tested.
    seed : int
        For the network.
    names : iterable of str
        Which of `JUDGES`.

    Returns
    -------
    dict
        Per length (``"1 s"`` … and ``"trial"``) and judge of `JUDGES`: ``auc`` with the ends of
        its 95 % interval ``low`` and ``high`` (None with a single group), ``balanced_accuracy``,
        ``validation_auc``; of a trial, also ``of``, the length of its segments. A length is left
        out of which there is too little to learn or to ask.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    of_trials: dict[str, list[tuple]] = {name: [] for name in names}
    of_lengths = {}
    for length in LENGTHS:
        parts = [_Question.of(pair, length) for pair in (train, val, test)]
        if all(parts) and all(
            part.has(n) for part, n in zip(parts, (_AT_LEAST, 1, 1), strict=True)
        ):
            of_lengths[length] = parts
    # It learns from single seconds of segments, of which the longest have the most.
    network = NetworkJudge(seed)
    if of_lengths and "network" in of_trials:
        longest = [*of_lengths.values()][-1][0]
        network.fit(longest.features(JUDGES["network"]), longest.is_second)
    for length, (known, chosen_on, asked) in of_lengths.items():
        found[length] = {}
        for name in of_trials:
            kind = JUDGES[name]
            judge: Any = network
            if name != "network":
                judge = _judge(name).fit(known.features(kind), known.is_second)
            scores = [judge.decision_function(part.features(kind)) for part in (chosen_on, asked)]
            auc = _auc(chosen_on.is_second, scores[0])
            found[length][name] = _verdict(asked, scores[1], groups, validation_auc=auc)
            trials, means = chosen_on.by_trial(scores[0])
            auc = _auc(trials.is_second, means)
            of_trials[name].append((auc, length, *asked.by_trial(scores[1])))
    if found:
        best = {name: max(each, key=lambda each: each[0]) for name, each in of_trials.items()}
        found["trial"] = {
            name: {**_verdict(asked, scores, groups, validation_auc=auc), "of": length}
            for name, (auc, length, asked, scores) in best.items()
        }
    return found


def strongest(judges: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return the verdict of the strongest judge of each length, and its name (``judge``).

    Parameters
    ----------
    judges : dict
        What `ask` returns.

    Notes
    -----
    Several judges may tell all validation trials; of these it is the one that tells segments best.
    """

    def rank(length: str, name: str) -> tuple[float, float]:
        verdict = judges[length][name]
        of_segments = judges[verdict.get("of", length)][name]
        return verdict["validation_auc"], of_segments["validation_auc"]

    names = {length: max(found, key=partial(rank, length)) for length, found in judges.items()}
    return {length: {"judge": name, **judges[length][name]} for length, name in names.items()}


def told_apart(
    first: np.ndarray,
    second: np.ndarray,
    people: np.ndarray,
    parts: np.ndarray,
    seed: int = 520,
    names: Iterable[str] = tuple(JUDGES),
) -> dict[str, dict[str, Any]]:
    """Return how well the strongest judge tells two EEGs of the same trials apart.

    Of each trial, judges get other seconds of the first EEG than of the second. So real EEG can be
    given as both: what is found then is the floor.

    Parameters
    ----------
    first, second : array, (n_trials, n_chans, n_times)
        In µV at 128 Hz, such as real and generated EEG.
    people : array of str, (n_trials,)
        Whose each trial is. Intervals are bootstrapped over people.
    parts : array of str, (n_trials,)
        What each trial is for: ``"train"`` judges, ``"val"`` to choose the strongest, and
        ``"test"``, which the figures are of. No person should be in two of them.
    seed : int
        For the choice of segments, and the network.
    names : iterable of str
        Which of `JUDGES`.

    Returns
    -------
    dict
        See `strongest`: per length of a segment and of whole trials, ``judge`` and its ``auc``,
        0.5 where nothing is told.

    Examples
    --------
    Noise that is twice as loud at one of three electrodes is told from noise:

    >>> import numpy as np
    >>> eeg = np.random.default_rng(0).normal(0, 10, (12, 3, 24 * 128))
    >>> people = np.repeat(["a", "b", "c", "d", "e", "f"], 2)
    >>> parts = np.repeat(["train", "val", "test"], 4)
    >>> louder = eeg * np.array([2, 1, 1])[:, None]
    >>> round(told_apart(eeg, louder, people, parts, names=["spectra"])["1 s"]["auc"], 1)
    1.0
    """
    trials = np.arange(len(first))
    people, parts = np.asarray(people), np.asarray(parts)
    pairs = []
    for part in ("train", "val", "test"):
        rows = np.flatnonzero(parts == part)
        wanted = np.ones((len(rows), first.shape[-1] // SFREQ), bool)
        pairs.append(
            tuple(
                describe(eeg[rows], trials[rows], wanted, odd, _N_SEGMENTS, seed)
                for eeg, odd in ((first, False), (second, True))
            )
        )
    return strongest(ask(*pairs, people, seed, names))


class _Question:
    """Segments (or trials) of two kinds: `described` (None for trials), trials, is_second."""

    def __init__(self, described: tuple | None, trials: np.ndarray, is_second: np.ndarray):
        self.described, self.trials, self.is_second = described, trials, is_second

    @classmethod
    def of(cls, pair: Pair, length: str) -> _Question | None:
        if not all(length in kind for kind in pair):
            return None
        described = tuple(kind[length] for kind in pair)
        trials = np.concatenate([kind.trials for kind in described])
        second = np.repeat([False, True], [len(kind.trials) for kind in described])
        return cls(described, trials, second)

    def features(self, kind: str) -> np.ndarray:
        return np.concatenate([described.features[kind] for described in self.described])

    def has(self, at_least: int) -> bool:
        """Return whether there are so many of both kinds."""
        return np.bincount(self.is_second, minlength=2).min() >= at_least

    def by_trial(self, scores: np.ndarray) -> tuple[_Question, np.ndarray]:
        """Return the trials, and the mean score of each one's segments of either kind."""
        keys, row = np.unique(2 * self.trials + self.is_second, return_inverse=True)
        means = np.bincount(row, weights=scores) / np.bincount(row)
        return _Question(None, keys // 2, keys % 2 == 1), means


def _auc(is_second: np.ndarray, scores: np.ndarray) -> float:
    """Return how often one of the second kind has a higher score than one of the first."""
    from scipy.stats import rankdata

    n = is_second.sum()
    above = rankdata(scores)[is_second].sum() - n * (n + 1) / 2
    return float(above / (n * (len(scores) - n)))


def _judge(name: str) -> Pipeline:
    """Return a judge that is no network, untrained."""
    before = [_BandTangentSpace()] if name == "tangent space" else []
    return make_pipeline(*before, StandardScaler(), SVC(class_weight="balanced"))


class _BandTangentSpace(TransformerMixin, BaseEstimator):
    """Maps matrices (n, n_bands, n_chans, n_chans) to their tangent space, one per band.

    With the log-Euclidean metric, see `pyriemann.tangentspace.TangentSpace`.
    """

    def fit(self, x: np.ndarray, y: np.ndarray | None = None) -> _BandTangentSpace:
        """Find the means."""
        from pyriemann.tangentspace import TangentSpace  # imported here, as it takes a second

        self.spaces_ = [
            TangentSpace(metric="logeuclid").fit(band) for band in _floored(x).swapaxes(0, 1)
        ]
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Return tangent vectors, (n, n_bands · n_chans · (n_chans + 1) / 2)."""
        bands = zip(self.spaces_, _floored(x).swapaxes(0, 1), strict=True)
        return np.concatenate([space.transform(band) for space, band in bands], axis=1)


def _floored(matrices: np.ndarray) -> np.ndarray:
    n_chans = matrices.shape[-1]
    level = np.trace(matrices, axis1=-2, axis2=-1)[..., None, None] / n_chans
    return matrices + (_FLOOR * level + 1e-9) * np.eye(n_chans)


def _verdict(
    test: _Question, scores: np.ndarray, groups: np.ndarray, validation_auc: float
) -> dict[str, Any]:
    """Return what a judge's scores of test EEG say."""
    probability = 1 / (1 + np.exp(-np.clip(scores, -30, 30)))
    predicted = np.stack([1 - probability, probability], axis=1)
    clusters = Clusters.of(groups[test.trials], test.is_second.astype(int), predicted)
    found = estimate([clusters], _N_DRAWS)
    auc = found["auc"]
    ends = (None if math.isnan(end) else end for end in (auc.low, auc.high))
    return {
        "auc": auc.value,
        **dict(zip(("low", "high"), ends, strict=True)),
        "balanced_accuracy": found["balanced_accuracy"].value,
        "validation_auc": validation_auc,
    }
