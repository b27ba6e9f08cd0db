"""Who has which planted effect, and which labels: draws for `de3dgan.data.planted`.

Labels are drawn trial by trial, and are not balanced within a person. If half of each person's
trials were high, what a model is trained on would lean against what it is tested on: of a person
with one more high trial among those held out, one more low trial is left. A model that has learnt
nothing but that lean falls below chance under protocol ``trial``. Emotion sets have the same
where their stimuli were chosen to be half high and half low, and labels are the stimuli's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.seeds import derived_rng
from de3dgan.data.labels import PLANTED
from de3dgan.data.montages import HEAD, mne_info
from de3dgan.eeg.de import BANDS
from de3dgan.eeg.montage import canonical
from de3dgan.eeg.planting import RAMP
from de3dgan.eeg.sampling import SFREQ

#: Lowest and highest value of the ratings; 5 parts low from high, and is never drawn.
SCALES = {"valence": (1.0, 9.0), "arousal": (1.0, 9.0)}
#: Names of the classes of the column that holds what was planted.
CLASSES = {PLANTED: ("low", "high")}

#: Electrodes of an effect by default: at the back of the head; of asymmetry, at its front.
_POSTERIOR = re.compile(r"(P|PO|O)(\d+|Z)")
_FRONTAL = re.compile(r"(FP|AF|F|FC)\d+")
#: Metres over which electrodes of a person's own are sought beside those of the common pattern.
_NEARBY = 0.04


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What is planted, and how trials are cut and labelled."""

    # By how much the two classes of valence differ: trials of high valence get half of it, those
    # of low valence lose half, so that the mean of a recording stays. In nats of DE at each chosen
    # electrode; of correlation, in Fisher's z. 0: no effect. Chosen, no source: 0.1 nats are 22 %
    # of a band's power.
    strength: float = 0.1
    # What differs: band power; the correlation between left and right electrodes, all band powers
    # unchanged; or power up on the left and down on the right, the mean of both unchanged. Films
    # of different emotion differed in all three: see `bands`, and Lee & Hsieh 2014 on correlation
    # (doi 10.1371/journal.pone.0095415).
    effect: Literal["power", "correlation", "asymmetry"] = "power"
    # Bands of the effect. Alpha differed between film excerpts, at the midline and between left and
    # right (doi 10.3389/fnbeh.2018.00225), and fell with arousal by videos (Kim et al. 2021, doi
    # 10.1371/journal.pone.0255032).
    bands: tuple[Literal["theta", "alpha", "beta", "gamma"], ...] = ("alpha",)
    # Electrodes of the effect; of correlation and asymmetry, both of each pair. Default: those of
    # the recording at the back of the head (P, PO, O); of asymmetry, at its front (FP, AF, F, FC).
    channels: tuple[str, ...] = ()
    # Let other electrodes change with the chosen ones, as sources in a head would have it. Without,
    # they stay as recorded, and the effect is easier to find; see de3dgan/eeg/planting.py.
    conducted: bool = False
    # Standard deviation over people of the logarithm of the strength, whose median is `strength`.
    # Chosen, no source.
    spread: float = 0.5
    # Share of people whose effect has the other sign. Chosen, no source: a linear model is made for
    # 0.
    other_sign: float = 0.3
    # Share of the pattern that is a person's own: each electrode (or pair) moves, with this
    # probability, to one near it that is not in the pattern, and each band to one beside it.
    # Chosen, no source.
    own_pattern: float = 0.0
    # Standard deviation over people of the logit of the share of high labels: 0.5 gives shares of
    # 38 to 62 % to two people in three. Chosen, no source.
    imbalance: float = 0.5
    # Share of valence labels that are wrong: turned over after planting. At 0.1, two such labels of
    # one trial agree in 82 %; of ratings of emotion in music that were given twice, about 80 % were
    # reliable (doi 10.1177/0305735611430079).
    label_noise: float = 0.1
    # Stimuli; each person meets each at most once, in an order of their own. DEAP has 40.
    n_stimuli: int = 40
    # Probability that a label is the stimulus's (the same for all people) and not the person's own
    # coin: two people's labels of one stimulus correlate by its square. Chosen, no source: 1 is
    # what sets have that label by stimulus, as SEED does.
    consensus: float = 0.7
    # Nats by which the log-amplitude of the drift's bands rises from the start of a recording to
    # its end, at all electrodes, whatever the class. Real recordings have a drift of their own, so
    # there is none by default. In hours of mental arithmetic, the power of theta and alpha rose by
    # 29 and 44 %, which is 0.13 and 0.18 nats (Trejo et al. 2015, doi 10.4236/psych.2015.65055).
    drift: float = 0.0
    # Bands of the drift.
    drift_bands: tuple[Literal["theta", "alpha", "beta", "gamma"], ...] = ("theta", "alpha")
    # Length of a trial.
    trial_seconds: int = 12
    # Length of the gap before each trial, 1 s or more: in it the effect sets in and ends.
    gap_seconds: float = 2.0
    # Length of the baseline, the start of a recording; 0: none.
    baseline_seconds: int = 10
    # Where all draws come from. A person's depend on it and on the person's name.
    seed: int = 0


@dataclass(frozen=True)
class Person:
    """What was drawn for one person.

    Attributes
    ----------
    strength : float
        By how much this person's classes differ; negative if the sign is the other one.
    bands : tuple of str
        Bands of this person's effect.
    sites : tuple of tuple of str
        Electrodes of it: one each, or a left and a right one.
    trials : list of dict
        Per trial, ``stimulus``, ``valence``, ``arousal`` and ``planted``: the class before labels
        were turned over, 0 or 1.
    """

    strength: float
    bands: tuple[str, ...]
    sites: tuple[tuple[str, ...], ...]
    trials: list[dict[str, Any]]


def check_effect(effect: Effect) -> None:
    """Refuse switches that cannot be."""
    shares = ("other_sign", "own_pattern", "label_noise", "consensus")
    for names, low, high in (
        (("strength",), 0, 1),
        (shares, 0, 1),
        (("spread", "imbalance"), 0, 3),
        (("drift",), -1, 1),
        (("trial_seconds",), 1, 3600),
        (("gap_seconds",), 2 * RAMP / SFREQ, 3600),
        (("baseline_seconds",), 0, 3600),
        (("n_stimuli",), 1, 100_000),
        (("seed",), 0, 2**63),
    ):
        for name in names:
            value = getattr(effect, name)
            if not low <= value <= high:
                raise UserError(
                    f"--{name.replace('_', '-')} must be from {low:g} to {high:g}, not {value:g}."
                )
    for name in ("bands", "drift_bands"):
        bands = getattr(effect, name)
        if len(set(bands)) < len(bands) or not set(bands) <= set(BANDS) or not bands:
            raise UserError(
                f"--{name.replace('_', '-')} takes one or more of {', '.join(BANDS)}, each once, "
                f"not {' '.join(bands) or 'none'}."
            )


def trial_segments(n_times: int, effect: Effect) -> list[tuple[int, int]]:
    """Return start and stop of the trials of a recording: after a baseline, a gap before each."""
    gap, length = round(effect.gap_seconds * SFREQ), effect.trial_seconds * SFREQ
    start = effect.baseline_seconds * SFREQ
    n = max(0, (n_times - start) // (gap + length))
    starts = [start + gap + i * (gap + length) for i in range(n)]
    return [(start, start + length) for start in starts]


def draw_person(
    subject: str, ch_names: Sequence[str], n_trials: int, effect: Effect, montage: str = HEAD
) -> Person:
    """Draw one person's effect and labels.

    Each is drawn from a stream of its own, so that no switch changes what another one draws, and
    no person what another one is.

    Parameters
    ----------
    subject : str
    ch_names : sequence of str
        Of the recording, as `canonical` gives them.
    n_trials : int
    effect : Effect
    montage : str
        MNE's standard montage that knows the electrodes, for finding those near others.

    Raises
    ------
    UserError
        If the recording lacks the effect's electrodes, or there are fewer stimuli than trials.
    """
    if n_trials > effect.n_stimuli:
        raise UserError(
            f"{subject} has {n_trials} trials and there are {effect.n_stimuli} stimuli, each of "
            "which a person meets once: give a larger --n-stimuli, or longer trials."
        )

    def rng(purpose: str) -> np.random.Generator:
        return derived_rng(effect.seed, 0, f"{purpose} of {subject}")

    stimuli = rng("stimuli").permutation(effect.n_stimuli)[:n_trials]
    planted = _classes("valence", stimuli, effect, rng("valence"))
    valence = planted ^ (rng("label noise").random(n_trials) < effect.label_noise)
    arousal = _classes("arousal", stimuli, effect, rng("arousal"))
    ratings = {
        "valence": _ratings(valence, rng("valence ratings")),
        "arousal": _ratings(arousal, rng("arousal ratings")),
    }
    strength = effect.strength * np.exp(effect.spread * rng("strength").normal())
    sign = -1 if rng("sign").random() < effect.other_sign else 1
    return Person(
        strength=float(sign * strength),
        bands=_own_bands(effect, rng("bands")),
        sites=_own_sites(subject, ch_names, effect, montage, rng("sites")),
        trials=[
            {
                "stimulus": f"stimulus{stimuli[i] + 1:02d}",
                **{name: float(values[i]) for name, values in ratings.items()},
                PLANTED: int(planted[i]),
            }
            for i in range(n_trials)
        ],
    )


def _classes(
    rating: str, stimuli: np.ndarray, effect: Effect, rng: np.random.Generator
) -> np.ndarray:
    """Return the class of each trial: the stimulus's or, of a share, the person's own."""
    everyone = derived_rng(effect.seed, 0, f"consensus on {rating}")
    consensus = everyone.random(effect.n_stimuli) < 0.5
    share = 1 / (1 + np.exp(-effect.imbalance * rng.normal()))
    own, agrees = rng.random((2, len(stimuli)))
    return np.where(agrees < effect.consensus, consensus[stimuli], own < share)


def _ratings(high: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    where = rng.random(len(high))
    return np.where(high, 5.1 + 3.9 * where, 1 + 3.9 * where).round(2)


def _own_bands(effect: Effect, rng: np.random.Generator) -> tuple[str, ...]:
    """Return a person's bands: each stays, or moves to a free one beside it, if there is one."""
    names, bands = list(BANDS), list(effect.bands)
    for i, band in enumerate(effect.bands):
        at, (moves, which) = names.index(band), rng.random(2)
        beside = names[max(at - 1, 0) : at + 2]
        free = [name for name in beside if name not in bands and name not in effect.bands]
        if moves < effect.own_pattern and free:
            bands[i] = free[int(which * len(free))]
    return tuple(sorted(bands, key=names.index))


def _own_sites(
    subject: str,
    ch_names: Sequence[str],
    effect: Effect,
    montage: str,
    rng: np.random.Generator,
) -> tuple[tuple[str, ...], ...]:
    """Return a person's electrodes: each stays, or moves to a free one, most likely near it."""
    every = [(name,) for name in ch_names]
    if effect.effect != "power":
        every = [pair for name in ch_names if (pair := _pair(name))[1] in ch_names]
    named = [canonical(name) for name in effect.channels]
    usual = _FRONTAL if effect.effect == "asymmetry" else _POSTERIOR
    common = [
        site
        for site in every
        if all(name in named if named else usual.fullmatch(name) for name in site)
    ]
    lacking = set(named) - {name for site in common for name in site}
    if lacking or not common:
        kind = "electrode" if effect.effect == "power" else "pair of a left and a right electrode"
        raise UserError(
            f"The recording of {subject} has no {kind} {' '.join(sorted(lacking))}".rstrip()
            + f" for the effect, only {' '.join(ch_names)}: choose its --channels from these."
        )
    if not effect.own_pattern:
        return tuple(common)
    places, sites = _places(tuple(ch_names), montage), list(common)
    for i, site in enumerate(common):
        moves, which = rng.random(2)
        free = [other for other in every if other not in sites and other not in common]
        if moves < effect.own_pattern and free:
            distance = [np.linalg.norm(places[other[0]] - places[site[0]]) for other in free]
            weights = np.exp(-0.5 * (np.array(distance) / _NEARBY) ** 2)
            at = np.searchsorted(weights.cumsum(), which * weights.sum(), side="right")
            sites[i] = free[min(int(at), len(free) - 1)]
    return tuple(sorted(sites, key=every.index))


def _pair(name: str) -> tuple[str, str]:
    """Return a left electrode and the one on the right, which is "" if `name` is not on the left.

    Electrodes with odd numbers are on the left.
    """
    found = re.fullmatch(r"([A-Z]+)(\d*[13579])", name)
    return (name, f"{found[1]}{int(found[2]) + 1}") if found else (name, "")


@lru_cache(maxsize=64)
def _places(ch_names: tuple[str, ...], montage: str) -> dict[str, np.ndarray]:
    """Return where electrodes are on MNE's head, in metres, by name."""
    channels = mne_info(ch_names, montage)["chs"]
    return {name: at["loc"][:3] for name, at in zip(ch_names, channels, strict=True)}
