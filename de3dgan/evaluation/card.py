"""What is in a store: the numbers of its data set card.

Whoever has new data looks at these first. They are found in one pass over the trials, of which one
is in memory at a time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import signal, stats

from de3dgan.data.memory_maps import reopened
from de3dgan.data.store import Store
from de3dgan.eeg.sampling import SFREQ
from de3dgan.eeg.subspace import LACKING, covariance, relative_power
from de3dgan.evaluation.copies import Copy, copies_within

#: A channel is flat in a trial if its standard deviation is below this share of the median one.
FLAT = 0.02
#: A channel is loud if its log amplitude is more standard deviations above a person's others.
LOUD = 5.0
#: Correlation from which two channels hold the same.
DUPLICATED = 0.999
#: Hz above the bands of EEG, where muscles and amplifier are louder than the brain.
ABOVE_HZ = (46.0, 64.0)
#: So many times its power others have along a direction that a trial lacks. In EEGMAT, whose
#: recordings were cleaned apart, it is 5,000 times and more; of trials of one recording, below 50.
_GAP = 100.0
#: Share of a person's other trials that must have it.
_SHARE_WITH_IT = 0.25
#: Least standard deviation of log amplitudes: that of a person's channels is at times an accident.
_LEAST_SD = 0.2
#: µV and µV²/Hz instead of 0, so that a logarithm exists.
_QUIET, _NO_POWER = 1e-6, 1e-12
#: Different values of a rating without a scale that are taken for classes, at most.
_MOST_CLASSES = 2


@dataclass(frozen=True)
class Label:
    """One column of labels, as classes.

    Attributes
    ----------
    name : str
        The column.
    about : str
        How it becomes classes.
    classes : tuple of str
        Their names, low before high; empty if nothing says how to split the column.
    values : array of int, (n_trials,)
        The class of each trial; -1 of none.
    told_above : float
        How well power above 46 Hz tells the class within a person, as AUC; of several classes, that
        of the class told best. 0.5 is not at all, and 0 as well as 1.
    z : float
        The same in standard deviations of what it is by chance.
    """

    name: str
    about: str
    classes: tuple[str, ...]
    values: np.ndarray
    told_above: float = float("nan")
    z: float = 0.0


@dataclass(frozen=True)
class Channel:
    """A channel of a person that looks wrong.

    Attributes
    ----------
    subject, name, kind : str
        Whose, which one ("C3", or two: "C3 and C4"), and what: "flat", "loud" or "duplicated".
    n_trials : int
        In how many of the person's trials.
    """

    subject: str
    name: str
    kind: str
    n_trials: int


@dataclass(frozen=True)
class Card:
    """What is in a store.

    Attributes
    ----------
    store : Store
        Which one.
    subjects, sessions, stimuli : array of str, (n_trials,)
        Of each trial, or piece of one.
    trials : array of int, (n_trials,)
        Number of the trial that each is a piece of.
    labels : list of Label
        All columns of labels.
    amplitude : array, (n_trials, n_chans)
        Standard deviations in µV.
    freqs : array, (n_freqs,)
        In Hz, half a Hz apart (of trials below 2 s, more), without 0.
    spectra : dict of str to array, (n_freqs,)
        Each person's power in dB re 1 µV²/Hz: the mean over trials of the median over channels.
    rank : array of int, (n_trials,)
        Directions between electrodes with power, see `de3dgan.eeg.subspace`.
    lacks : array of bool, (n_trials,)
        Whether a trial lacks a direction that other trials of its person have.
    above : array, (n_trials,)
        Amplitude from 46 to 64 Hz: standard deviation in µV, the median over channels.
    channels : list of Channel
        Those that look wrong.
    copies : list of Copy
        Trials that hold the same EEG, or a part of it.
    """

    store: Store
    subjects: np.ndarray
    sessions: np.ndarray
    stimuli: np.ndarray
    trials: np.ndarray
    labels: list[Label]
    amplitude: np.ndarray
    freqs: np.ndarray
    spectra: dict[str, np.ndarray]
    rank: np.ndarray
    lacks: np.ndarray
    above: np.ndarray
    channels: list[Channel]
    copies: list[Copy]

    @property
    def people(self) -> list[str]:
        """Names of the people, in the order of the store."""
        return list(self.spectra)

    def amplitudes(self) -> np.ndarray:
        """Return each person's median amplitude over trials, (n_people, n_chans) in µV."""
        return np.stack([np.median(self.amplitude[self.subjects == s], 0) for s in self.people])


def describe(store: Store) -> Card:
    """Find out what is in a store.

    Parameters
    ----------
    store : Store
        It is read trial by trial; only the covariances of one person's are kept meanwhile.

    Raises
    ------
    UserError
        If EEG is not finite, naming where.
    """
    columns = {name: np.array(values) for name, values in store.columns.items()}
    subjects, n_trials = columns["subject"], store.n_trials
    whole_trials = np.cumsum(columns["piece"] == "0") - 1  # pieces of one follow each other
    amplitude = np.zeros((n_trials, len(store.ch_names)))
    rank, lacks, above = np.zeros(n_trials, int), np.zeros(n_trials, bool), np.zeros(n_trials)
    spectra: dict[str, np.ndarray] = {}
    channels: list[Channel] = []
    for subject in dict.fromkeys(subjects.tolist()):
        trials = np.flatnonzero(subjects == subject)
        store.refuse_non_finite("eeg", trials)
        levels, covariances = [], []
        for trial in trials:
            eeg = reopened(store.eeg)[trial].astype(np.float64)
            covariances.append(covariance(eeg))
            amplitude[trial] = np.sqrt(np.diag(covariances[-1]))
            freqs, power = _spectrum(eeg)
            levels.append(_decibels(np.median(power, 0)))
            above[trial] = _above(freqs, power)
        spectra[subject] = np.mean(levels, 0)
        found, whole = _suspicious(subject, store.ch_names, amplitude[trials], covariances)
        channels += found
        rank[trials], missing = _directions(np.stack(covariances))
        lacks[trials] = missing & whole
    return Card(
        store=store,
        subjects=subjects,
        sessions=columns["session"],
        stimuli=columns["stimulus"],
        trials=whole_trials,
        labels=[_label(store, name, whole_trials, above) for name in store.ratings],
        amplitude=amplitude,
        freqs=freqs,
        spectra=spectra,
        rank=rank,
        lacks=lacks,
        above=above,
        channels=channels,
        copies=copies_within(store.eeg, np.arange(n_trials)),
    )


def distance_from_others(values: np.ndarray) -> np.ndarray:
    """Return how far each value is above the median of the others, in their standard deviations.

    These are estimated from the median absolute deviation, and are `_LEAST_SD` at least.

    Parameters
    ----------
    values : array, (n,)
        Logarithms; NaN for a single one.
    """
    distances = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        others = np.delete(values, row)
        if len(others):
            sd = stats.median_abs_deviation(others, scale="normal")
            distances[row] = (value - np.median(others)) / max(sd, _LEAST_SD)
    return distances


def within_auc(score: np.ndarray, positive: np.ndarray, people: np.ndarray) -> tuple[float, float]:
    """Return how well a score tells two classes within people.

    Parameters
    ----------
    score : array, (n,)
    positive : array of bool, (n,)
        Who is of the class that high scores would speak for.
    people : array of str, (n,)
        Only pairs of one person are compared.

    Returns
    -------
    auc : float
        Share of pairs in which the positive has the higher score; NaN if there is no pair.
    z : float
        In standard deviations of what it is if classes are drawn anew (van Elteren's test with
        equal weight of pairs); 0 if there is no pair.
    """
    wins, pairs, variance = 0.0, 0, 0.0
    for person in np.unique(people):
        own = people == person
        n, n_positive = int(own.sum()), int(positive[own].sum())
        n_pairs = n_positive * (n - n_positive)
        if n_pairs:
            ranks = stats.rankdata(score[own])
            wins += ranks[positive[own]].sum() - n_positive * (n_positive + 1) / 2
            pairs += n_pairs
            variance += n_pairs * (n + 1) / 12
    if not pairs:
        return float("nan"), 0.0
    return wins / pairs, (wins - pairs / 2) / np.sqrt(variance)


def _spectrum(eeg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies and power by Welch's method with windows of 2 s, (n_chans, n_freqs)."""
    freqs, power = signal.welch(eeg, SFREQ, nperseg=min(2 * SFREQ, eeg.shape[-1]), noverlap=0)
    return freqs[1:], power[:, 1:]


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.maximum(power, _NO_POWER))


def _above(freqs: np.ndarray, power: np.ndarray) -> float:
    inside = (freqs >= ABOVE_HZ[0]) & (freqs < ABOVE_HZ[1])
    return float(np.median(np.sqrt(power[:, inside].sum(1) * freqs[0])))


def _directions(covariances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rank of each of a person's trials, and whether it lacks what others have.

    What a trial lacks is compared with the others', along the same direction: a montage with many
    electrodes has directions with little power in all of them.
    """
    own = [relative_power(each) for each in covariances]
    rank = np.array([(power >= LACKING).sum() for power, _ in own])
    usual = np.array(
        [
            each.trace() / max(power.sum(), _NO_POWER)
            for each, (power, _) in zip(covariances, own, strict=True)
        ]
    )
    lacks = np.zeros(len(own), bool)
    for row, (power, directions) in enumerate(own):
        weak = directions[:, power < LACKING]
        others = np.delete(np.arange(len(own)), row)
        if weak.shape[1] and len(others):
            theirs = np.einsum("nij,ik,jk->nk", covariances[others], weak, weak, optimize=True)
            theirs /= np.maximum(usual[others], _NO_POWER)[:, None]
            theirs = np.quantile(theirs, 1 - _SHARE_WITH_IT, axis=0)
            lacks[row] = (theirs >= np.maximum(_GAP * power[power < LACKING], LACKING)).any()
    return rank, lacks


def _suspicious(
    subject: str, ch_names: list[str], amplitude: np.ndarray, covariances: list[np.ndarray]
) -> tuple[list[Channel], np.ndarray]:
    """Return a person's suspicious channels, and which trials have none flat or duplicated."""
    flat = amplitude <= FLAT * np.median(amplitude, axis=1, keepdims=True)
    pairs: Counter[tuple[int, int]] = Counter()
    whole = ~flat.any(1)
    for row, (sd, each) in enumerate(zip(amplitude, covariances, strict=True)):
        limit = DUPLICATED * np.outer(sd, sd)
        alike = (np.abs(each) > limit) & ~flat[row] & ~flat[row][:, None]
        found = [(i, j) for i, j in combinations(range(len(sd)), 2) if alike[i, j]]
        pairs.update(found)
        whole[row] &= not found
    distance = distance_from_others(np.log(np.median(amplitude, 0) + _QUIET))
    n = len(amplitude)
    return [
        *(Channel(subject, ch_names[i], "flat", int(m)) for i, m in enumerate(flat.sum(0)) if m),
        *(Channel(subject, ch_names[i], "loud", n) for i in np.flatnonzero(distance > LOUD)),
        *(
            Channel(subject, f"{ch_names[i]} and {ch_names[j]}", "duplicated", m)
            for (i, j), m in sorted(pairs.items())
        ),
    ], whole


def _label(store: Store, name: str, trials: np.ndarray, above: np.ndarray) -> Label:
    """Return a column as classes: class numbers as they are, ratings split at their middle."""
    values = store.rating(name)
    different = np.unique(values)
    if name in store.classes:
        about, classes, numbers = "class numbers", store.classes[name], values.astype(int)
    elif name in store.scales:
        low, high = store.scales[name]
        about = f"above {store.middle(name):g} of {low:g} to {high:g}"
        classes, numbers = ("low", "high"), (values > store.middle(name)).astype(int)
    elif len(different) <= _MOST_CLASSES:
        about, classes = "its values", tuple(f"{value:g}" for value in different)
        numbers = np.searchsorted(different, values)
    else:
        about = f"{different[0]:g} to {different[-1]:g}, no scale known"
        return Label(name, about, (), np.full(len(values), -1))
    # Pieces of one trial are no evidence of their own.
    first = np.unique(trials, return_index=True)[1]
    level = np.bincount(trials, above) / np.bincount(trials)
    people = np.array(store.columns["subject"])[first]
    # Of two classes, the first is told as well as the second.
    asked = range(1 if len(classes) == 2 else 0, len(classes))
    told = [within_auc(level, numbers[first] == number, people) for number in asked]
    told = [pair for pair in told if not np.isnan(pair[0])]
    best = max(told, key=lambda pair: abs(pair[0] - 0.5), default=(float("nan"), 0.0))
    return Label(name, about, tuple(classes), numbers, *map(float, best))
