"""How similar generated EEG is to real EEG of the same test trials.

There is a row of figures per sampler of EEG, and a row "real" that says what a perfect sampler
would get: real EEG is measured as if it were generated, or one half of a real trial against its
other half.

=========================  =========================================================================
figure                     what it measures
=========================  =========================================================================
de_round_trip              DE of the generated EEG against the DE that it was generated from
log_spectrum_distance      power spectra; "real": one half of a trial against the other
channel_correlation_error  correlations between electrodes; "real": likewise
seam_ratio                 steps between samples across borders of frames over steps inside frames
amplitude_uv               standard deviation in µV
discriminative_score       how well a small network tells generated from real EEG; 0.5: not at all
tstr                       train on synthetic, test on real: accuracy on real EEG of a linear model
                           that has learnt the classes from generated EEG
draws_correlation          two draws from the same DE; "real": the two halves of a trial
nearest_training           distance of generated frames to the most similar training frame; far
                           below "real", training frames are being copied
=========================  =========================================================================

All figures are finite. Silence has a DE of -20 nats and correlates with nothing. A class that is
missing in the trials cannot be learnt: `tstr` is then that of always predicting the other. With a
single electrode ``channel_correlation_error`` is None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.schema import non_finite
from de3dgan.base.seeds import derived_rng
from de3dgan.data.frames import chunks
from de3dgan.data.splits import Split
from de3dgan.data.store import Store
from de3dgan.eeg import noise
from de3dgan.eeg.de import trial_de
from de3dgan.evaluation.measures import (
    channel_correlations,
    correlation,
    de_round_trip,
    discriminative_score,
    halves,
    log_spectra,
    mean_by_band,
    passed_frames,
    seam_ratio,
    unit_length,
)
from de3dgan.evaluation.tuning import linear_score

#: A source of EEG: from trials and the number of the draw, 0 or 1, to (len(trials), n_chans,
#: n_times) in µV. Both draws of a trial are of the same DE.
Sampler = Callable[[np.ndarray, int], np.ndarray]

#: Training trials, and test trials, that are measured, at most: memory and time stay the same
#: however large the store. (`nearest_training` goes through all training trials, a few at a time.)
_N_TRIALS = 64
#: Test frames for which the most similar training frame is searched, at most.
_N_QUERIES = 256
#: µV that no EEG reaches; powers of much more do not fit into 32-bit numbers.
_LOUDEST = 1e12


def quality(
    store: Store,
    split: Split,
    labels: np.ndarray,
    real: Callable[[np.ndarray], np.ndarray],
    samplers: Mapping[str, Sampler],
) -> dict[str, dict[str, Any]]:
    """Measure generated EEG, and real EEG in its place.

    Parameters
    ----------
    store, split, labels
        The data, who is trained on and tested on, and the class of each trial.
    real : callable
        From trials to their EEG, (len(trials), n_chans, n_times) in µV; 12 s or more.
    samplers : dict of str to callable
        See `Sampler`.

    Returns
    -------
    dict of str to dict
        For "real" and each of `samplers` the figures of the module's table, means over at most 64
        test trials. They are numbers; ``de_round_trip`` and ``channel_correlation_error`` have them
        per band.

    Raises
    ------
    UserError
        If EEG is not finite or above any amplitude that EEG has, naming the sampler and the trial.
    """
    train, test = (_some_trials(split, part) for part in ("train", "test"))
    in_train, in_test = _in_part(split, "train", train), _in_part(split, "test", test)
    rng = derived_rng(split.seed, 0, "queries of quality")
    queries = tuple(rng.permutation(np.argwhere(in_test))[:_N_QUERIES].T)

    real = _checked(real, "real", store)
    samplers = {name: _checked(sample, name, store) for name, sample in samplers.items()}
    real_eeg = real(test)
    spectra, correlations = log_spectra(real_eeg), channel_correlations(real_eeg)
    real_train, real_test = passed_frames(real(train)), passed_frames(real_eeg)

    def measured(name: str, sample: Callable[..., np.ndarray]) -> tuple[dict, np.ndarray]:
        """Return the figures of a sampler, and those of its frames that are searched for.

        A function, so that its EEG is released before the next sampler's is generated.
        """
        eeg, train_eeg = sample(test, 0), sample(train, 0)
        train_de = trial_de(train_eeg) - store.baseline_de[store.baseline_index[train]][:, :, None]
        train_frames, test_frames = passed_frames(train_eeg), passed_frames(eeg)
        del train_eeg
        # Generated EEG is compared with real EEG half by half, so that its spectra and correlations
        # are as noisy as those of the halves of a real trial, which are compared with each other.
        order = slice(None, None, -1 if name == "real" else 1)
        figures = {
            "de_round_trip": de_round_trip(trial_de(eeg), store.absolute_de(test)),
            "log_spectrum_distance": float(np.abs(log_spectra(eeg) - spectra[:, order]).mean()),
            "channel_correlation_error": mean_by_band(
                np.abs(channel_correlations(eeg) - correlations[:, order])
            ),
            "seam_ratio": float(np.mean([seam_ratio(trial) for trial in eeg])),
            "amplitude_uv": float(np.mean([trial.std() for trial in eeg])),
            "discriminative_score": discriminative_score(
                _mixed(real_train, train_frames, in_train),
                _mixed(real_test, test_frames, in_test),
                split.seed,
            ),
            "tstr": linear_score(
                (_frame_de(train_de)[in_train], _frame_labels(labels[train], in_train)),
                (_frame_de(store.de[test])[in_test], _frame_labels(labels[test], in_test)),
            ),
        }
        del train_frames
        draws = halves(eeg).swapaxes(0, 1) if name == "real" else (eeg, sample(test, 1))
        correlations_of_draws = [correlation(*pair).mean() for pair in zip(*draws, strict=True)]
        figures["draws_correlation"] = float(np.mean(correlations_of_draws))
        return figures, test_frames[queries]

    rows, queried = {}, []
    for name, sample in {"real": lambda trials, _: real(trials), **samplers}.items():
        rows[name], frames = measured(name, sample)
        queried.append(frames)
    distances = _distance_to_training(queried, split, real)
    for row, distance in zip(rows.values(), distances, strict=True):
        row["nearest_training"] = float(distance.mean())
    for figure, value in non_finite(rows):  # a result file must not have it, whatever the cause
        raise UserError(
            f"The quality of EEG cannot be measured: {figure} is {value}. See whether the features "
            "are those of EEG in µV, or make them anew with preprocess_de.py."
        )
    return rows


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


def _some_trials(split: Split, part: str) -> np.ndarray:
    """Return the trials of a part, or a random 64 of them, sorted."""
    rng = derived_rng(split.seed, 0, f"{part} trials of quality")
    return np.sort(rng.permutation(split.trials(part))[:_N_TRIALS])


def _in_part(split: Split, part: str, trials: np.ndarray) -> np.ndarray:
    """Return which frames of `trials` are in a part, bool (len(trials), n_frames).

    In the leaky protocol each part has some frames of a trial; else all of them or none.
    """
    return np.isin(
        trials[:, None] * split.n_frames + np.arange(split.n_frames), getattr(split, part)
    )


def _mixed(
    real: np.ndarray, generated: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return real frames with an even number and generated ones with an odd number.

    Both are of the same trials, and never of the same second. Where `generated` is real EEG too,
    the labels have no meaning, and nobody can learn them.

    Parameters
    ----------
    real, generated : array, (n_trials, n_frames, n_chans, FRAME)
        EEG of the same trials.
    wanted : array of bool, (n_trials, n_frames)
        Frames to return.

    Returns
    -------
    frames : array, (n, n_chans, FRAME)
    is_generated : array of bool, (n,)
    """
    odd = np.arange(wanted.shape[1]) % 2 == 1
    parts = real[wanted & ~odd], generated[wanted & odd]
    return np.concatenate(parts), np.repeat([False, True], [len(part) for part in parts])


def _frame_de(de: np.ndarray) -> np.ndarray:
    """Return the DE of frames: (n_trials, n_bands, n_windows, n_chans) to (n_trials, n_frames, -1).

    The mean over a frame's two windows, like `baselines.frame_de`.
    """
    n_trials, n_bands, n_windows, n_chans = de.shape
    frames = de.reshape(n_trials, n_bands, n_windows // 2, 2, n_chans).mean(3)
    return frames.swapaxes(1, 2).reshape(n_trials, n_windows // 2, -1)


def _frame_labels(labels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the label of each frame that is true in `wanted`, (n_trials, n_frames)."""
    return np.broadcast_to(labels[:, None], wanted.shape)[wanted]


def _distance_to_training(
    queried: list[np.ndarray], split: Split, real: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return 1 minus the highest correlation with a training frame.

    Parameters
    ----------
    queried : list of array, each (n_queries, n_chans, FRAME)
        Frames, one list entry per sampler.
    split, real
        As for `quality`.

    Returns
    -------
    array, (len(queried), n_queries)
    """
    sought = unit_length(np.stack(queried).reshape(len(queried) * len(queried[0]), -1))
    highest = np.full(len(sought), -1.0)
    for trials in chunks(split.trials("train"), 8):
        frames = passed_frames(real(trials))[_in_part(split, "train", trials)]
        found = sought @ unit_length(frames.reshape(len(frames), -1)).T
        highest = np.maximum(highest, found.max(1))
    return 1 - highest.reshape(len(queried), -1)
