"""How similar generated EEG is to real EEG of the same people.

There is a row of figures per sampler of EEG, and a row "real" that says what a perfect sampler
would get: real EEG is measured as if it were generated, or one half of a real trial against the
other, the halves taking turns every 5 s. Generated EEG is compared with the other half, too.

=========================  =========================================================================
figure                     what it measures
=========================  =========================================================================
judged                     how well the strongest of a battery of judges tells generated from real
                           EEG of new people, AUC (`judges`); 0.5: not at all
de_round_trip              DE of the generated EEG against the DE that it was generated from: noise
                           of the same DE shows that this alone says little
log_spectrum_distance      power spectra of the halves of trials
channel_correlation_error  correlations between electrodes, likewise
seam_ratio                 steps between samples across borders of frames over steps inside frames
amplitude_uv               standard deviation in µV
tstr                       train on synthetic, test on real: balanced accuracy per frame of real
                           EEG, of models that have learnt from generated EEG (`transfer`)
copying                    likeness to the EEG that the generator was trained on (`copying`), of EEG
                           made from training DE, of another draw of that, and of test DE
=========================  =========================================================================

Beside the rows there are all judges, and whether members of the training set are told from others
(`membership`). Two draws from the same DE must differ; it is said if they do not.

All figures are finite, or None where there is nothing to be measured: the correlations of a single
electrode, judges of 12 s where a part has single seconds only. Silence has a DE of -20 nats and
correlates with nothing. A class that is missing in the trials cannot be learnt: `tstr` is then that
of always predicting the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.schema import non_finite
from de3dgan.base.seeds import derived_rng
from de3dgan.data.frames import chunks
from de3dgan.data.splits import Split, group_names
from de3dgan.data.store import Store
from de3dgan.eeg import noise
from de3dgan.evaluation import judges
from de3dgan.evaluation.copying import figures as copying_figures
from de3dgan.evaluation.copying import likeness, sought
from de3dgan.evaluation.measures import (
    Found,
    across_halves,
    correlation,
    de_round_trip,
    mean_by_band,
    seam_ratio,
)
from de3dgan.evaluation.membership import membership, nearness
from de3dgan.evaluation.metrics import balanced_accuracy
from de3dgan.evaluation.segments import describe
from de3dgan.evaluation.transfer import Learner, Lesson, tangent_space

#: A source of EEG: from trials and the number of the draw, 0 or 1, to (len(trials), n_chans,
#: n_times) in µV. Both draws of a trial are of the same DE.
Sampler = Callable[[np.ndarray, int], np.ndarray]
#: From trials to what else says how well a generator fits each, name to (len(trials),).
Fit = Callable[[np.ndarray], Mapping[str, np.ndarray]]

#: Trials of each part that are measured, at most: memory and time stay the same however large the
#: store. (Copies are sought in all training trials, a few at a time.)
N_TRIALS = {"train": 64, "val": 32, "test": 64}
#: Segments of each kind and length that judges learn from, choose by and are asked about, at most.
N_SEGMENTS = {"train": 240, "val": 120, "test": 240}
#: Trials that models of classes learn from and are asked about, at most, and about how many of the
#: seconds of each; of every other second at most.
_N_LESSONS, _N_SECONDS = 32, 20
#: Training trials of which a second EEG is drawn.
_N_REDRAWN = 8
#: Correlation of two draws from which on they are the same but for some noise.
_ALIKE = 0.5
#: µV that no EEG reaches; powers of much more do not fit into 32-bit numbers.
_LOUDEST = 1e12


@dataclass(frozen=True)
class Part:
    """The trials of a part of the split that are measured, and which of their frames are in it.

    In the leaky protocol each part has some frames of a trial; else all of them or none.

    Attributes
    ----------
    trials : array of int, (n_trials,)
    wanted : array of bool, (n_trials, n_frames)
    """

    trials: np.ndarray
    wanted: np.ndarray

    @classmethod
    def of(cls, split: Split, part: str, n_trials: int | None = None) -> Part:
        """Return all trials of a part ("train", "val" or "test"), or a random `n_trials` of it."""
        trials = split.trials(part)
        if n_trials is not None:
            rng = derived_rng(split.seed, 0, f"{part} trials of quality")
            trials = np.sort(rng.permutation(trials)[:n_trials])
        numbers = trials[:, None] * split.n_frames + np.arange(split.n_frames)
        return cls(trials, np.isin(numbers, getattr(split, part)))

    def few(self, n: int) -> Part:
        """Return the first `n` of its trials."""
        return Part(self.trials[:n], self.wanted[:n])


def quality(
    store: Store,
    split: Split,
    labels: np.ndarray,
    real: Callable[[np.ndarray], np.ndarray],
    samplers: Mapping[str, Sampler],
    learners: Mapping[str, Learner] | None = None,
    fits: Mapping[str, Fit] | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure generated EEG, and real EEG in its place.

    Parameters
    ----------
    store, split, labels
        The data, who is trained on and tested on, and the class of each trial.
    real : callable
        From trials to their EEG, (len(trials), n_chans, n_times) in µV; 12 s or more.
    samplers : dict of str to callable
        See `Sampler`.
    learners : dict of str to callable, optional
        Models that learn the classes from generated EEG, beside one on tangent space.
    fits : dict of str to callable, optional
        See `Fit`; by name of those samplers that were trained. Of them membership is inferred.
    log : callable
        Told if draws are alike.

    Returns
    -------
    dict
        ``quality``: for "real" and each of `samplers` the figures of the module's table, of at most
        64 test trials; ``judges``: likewise, all of `judges.ask`; ``membership``: per sampler of
        `fits`.

    Raises
    ------
    UserError
        If EEG is not finite or above any amplitude that EEG has, naming the sampler and the trial.
    """
    parts = {name: Part.of(split, name, n) for name, n in N_TRIALS.items()}
    train, test = parts["train"], parts["test"]
    redrawn = train.few(_N_REDRAWN)
    groups = group_names(store, split.protocol)[1]
    learners = {"tangent space": tangent_space(store), **(learners or {})}
    fits = fits or {}
    read = _checked(real, "real", store)
    samplers = {name: _checked(sample, name, store) for name, sample in samplers.items()}

    def described(name: str, eeg: np.ndarray, odd: bool) -> dict:
        part = parts[name]
        return describe(eeg, part.trials, part.wanted, odd, N_SEGMENTS[name], split.seed)

    real_eeg = {name: read(part.trials) for name, part in parts.items()}
    real_segments = {name: described(name, eeg, odd=False) for name, eeg in real_eeg.items()}
    looked_at = ("train", "test") if fits else ("test",)
    real_found = {name: Found.of(real_eeg[name]) for name in looked_at}

    def lesson(part: str, eeg: np.ndarray) -> Lesson:
        few = parts[part].few(_N_LESSONS)
        n_frames = few.wanted.shape[1]
        wanted = few.wanted & (np.arange(n_frames) % max(2, n_frames // _N_SECONDS) == 0)
        return Lesson(eeg[: len(few.trials)], few.trials, wanted, labels[few.trials])

    asked = lesson("test", real_eeg["test"])
    queries = {}

    def measured(name: str, sample: Callable[..., np.ndarray]) -> tuple[dict, dict, dict | None]:
        """Return a sampler's figures, what the judges say, and who is told to be a member.

        A function, so that its EEG is released before the next sampler's is generated.
        """
        eeg = {
            part: sample(parts[part].trials, 0) if name != "real" else real_eeg[part]
            for part in parts
        }
        pairs = [(real_segments[part], described(part, eeg[part], odd=True)) for part in parts]
        said = judges.ask(*pairs, groups, split.seed)
        known = lesson("train", eeg["train"])
        found = {
            part: Found.of(eeg[part]) if name != "real" else real_found[part]
            for part in (looked_at if name in fits else ("test",))
        }
        there, wanted = found["test"], real_found["test"]
        spectra = across_halves(there.spectra, wanted.spectra)
        correlations = across_halves(there.correlations, wanted.correlations)
        row = {
            "judged": {
                length: {key: verdict[key] for key in _JUDGED}
                for length, verdict in judges.strongest(said).items()
                if length in ("1 s", "trial")
            },
            "de_round_trip": de_round_trip(there.de, store.absolute_de(test.trials)),
            "log_spectrum_distance": float(spectra.mean()),
            "channel_correlation_error": mean_by_band(correlations),
            "seam_ratio": float(np.mean([seam_ratio(trial) for trial in eeg["test"]])),
            "amplitude_uv": float(np.mean([trial.std() for trial in eeg["test"]])),
            "tstr": {
                learner: balanced_accuracy(asked.classes, learn(known, asked))
                for learner, learn in learners.items()
            },
        }
        few = eeg["train"][: len(redrawn.trials)]
        copies = {"training DE": (few, redrawn), "test DE": (eeg["test"], test)}
        if name != "real":
            again = sample(redrawn.trials, 1)
            copies["new draws"] = (again, redrawn)
            _say_if_alike(name, few, again, log)
        for kind, (segments, part) in copies.items():
            itself = name == "real" and kind == "training DE"
            queries[name, kind] = sought(segments, part.trials, part.wanted, split.seed, itself)
        if name not in fits:
            return row, said, None
        # Of members, as of others, DE and EEG are those of whole trials.
        near = [
            nearness(real_found[part], each, store.absolute_de(parts[part].trials))
            | dict(fits[name](parts[part].trials))
            for part, each in found.items()
        ]
        scores = {key: np.concatenate([each[key] for each in near]) for key in near[0]}
        members = np.repeat([True, False], [len(train.trials), len(test.trials)])
        everyone = np.concatenate([train.trials, test.trials])
        return row, said, membership(scores, groups[everyone], members)

    found = {name: measured(name, sample) for name, sample in {"real": None, **samplers}.items()}
    rows = {name: row for name, (row, _, _) in found.items()}
    for name, kinds in _copied(queries, split, read).items():
        rows[name]["copying"] = kinds
    for figure, value in non_finite(rows):  # a result file must not have it, whatever the cause
        raise UserError(
            f"The quality of EEG cannot be measured: {figure} is {value}. See whether the features "
            "are those of EEG in µV, or make them anew with preprocess_de.py."
        )
    return {
        "quality": rows,
        "judges": {name: said for name, (_, said, _) in found.items()},
        "membership": {name: told for name, (_, _, told) in found.items() if name in fits},
    }


#: What of the strongest judge stands among the figures.
_JUDGED = ("auc", "low", "high", "balanced_accuracy", "judge")


def matched_noise(store: Store, seed: int) -> Sampler:
    """Return the sampler of noise with the DE of each trial, `de3dgan.eeg.noise.matched_noise`."""
    return lambda trials, draw: noise.matched_noise(
        store.absolute_de(trials), trials, seed, f"matched noise, draw {draw}"
    )


def _checked(
    sample: Callable[..., np.ndarray], name: str, store: Store
) -> Callable[..., np.ndarray]:
    """Return a source of EEG, real or generated, that refuses what cannot be measured."""
    remedy = "train the generator anew with a lower learning rate and --restart."
    if name == "real":
        remedy = "make the features anew with preprocess_de.py, from recordings in µV."

    def checked(trials: np.ndarray, *draw: int) -> np.ndarray:
        eeg = sample(trials, *draw)
        bad = trials[~(np.abs(eeg).max((1, 2)) <= _LOUDEST)]  # NaN is not below anything
        if len(bad):
            store.refuse_non_finite_eeg(bad.tolist())
            raise UserError(
                f"The {name} EEG of trial {bad[0]} has values that are not finite, or beyond "
                f"{_LOUDEST:g} µV: {remedy}"
            )
        return eeg

    return checked


def _say_if_alike(
    name: str, first: np.ndarray, second: np.ndarray, log: Callable[[str], None]
) -> None:
    """Warn if two draws from the same DE are alike: then there is one EEG for each DE."""
    alike = float(np.mean([correlation(a, b).mean() for a, b in zip(first, second, strict=True)]))
    if alike > _ALIKE:
        log(
            f"WARNING: two draws of {name} EEG from the same DE correlate at {alike:.2f}: there is "
            "only one EEG for each DE."
        )


def _copied(
    queries: Mapping[tuple[str, str], Any],
    split: Split,
    read: Callable[[np.ndarray], np.ndarray],
) -> dict[str, dict[str, dict[str, float]]]:
    """Return `copying.figures` by sampler and by what the EEG was generated from."""

    def recordings() -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        every = Part.of(split, "train")
        for rows in chunks(np.arange(len(every.trials)), 8):
            trials = every.trials[rows]
            yield from zip(trials.tolist(), read(trials), every.wanted[rows], strict=True)

    found = likeness({key: s for key, s in queries.items() if s is not None}, recordings())
    out: dict[str, dict[str, dict[str, float]]] = {}
    for (name, kind), values in found.items():
        real = found["real", "test DE" if kind == "test DE" else "training DE"]
        out.setdefault(name, {})[kind] = copying_figures(values, real)
    return out
