"""What stage 3 sets beside real EEG: generated EEG, or a control that it has to beat.

=============  ==================================================================================
generated      EEG that the generator makes from the trial's own DE
none           nothing: the classifier goes on with real EEG alone
noise          white noise with the trial's mean and variance in every channel
surrogate      noise with the trial's DE in every half-second: what needs no learning
shuffled       generated EEG, but from the DE of another training trial of the same class
=============  ==================================================================================

A gain of *generated* over *none* is that of augmentation; over *noise* and *surrogate*, that of a
learned generator; over *shuffled*, that of matching each trial with its own EEG.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np

from de3dgan import processes
from de3dgan.data import Frames, chunks
from de3dgan.features import WINDOW, band_signals, differential_entropy
from de3dgan.files import writing
from de3dgan.generation import TrainedGenerator
from de3dgan.run import Run
from de3dgan.seeds import derived_rng
from de3dgan.store import Store

#: Corrections that `de_matched_noise` makes to its gains.
_PASSES = 5
#: Trials whose second EEG is made at a time.
_BATCH = 16


@contextmanager
def augmented_frames(
    run: Run, frames: Frames, generator: TrainedGenerator, kind: str
) -> Iterator[Frames | None]:
    """Make the second EEG of all training trials, once, and give its frames for as long as needed.

    It lies in a temporary file of the run directory, read by memory map, so that memory does not
    grow with the number of trials; rows of other trials are holes in that file.

    Parameters
    ----------
    run : Run
        A fine-tuning run.
    frames : Frames
        Its real EEG.
    generator : TrainedGenerator
        The generator of the same split.
    kind : str
        One of the table above; None is given for "none".
    """
    if kind == "none":
        yield None
        return
    make = _maker(run, frames, generator, kind)
    path = run.dir / ".augmentation.npy.tmp"
    trials = run.split.trials("train")
    run.log(f"Making the {kind} EEG of {len(trials)} training trials.")
    try:
        shape = run.store.eeg.shape
        n_bytes = 4 * math.prod(shape[1:])  # of a trial
        # Written to a file that is mapped only then: a full disk is an error of the former, and
        # the end of the process by the latter.
        with writing(path, n_bytes * len(trials)):
            if processes.is_first():
                with open(path, "wb") as file:
                    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                    file.truncate(file.tell() + n_bytes * shape[0])
            processes.wait()
            with open(path, "r+b") as file:
                start = path.stat().st_size - n_bytes * shape[0]
                for rows in list(chunks(trials, _BATCH))[processes.number() :: processes.count()]:
                    for row, eeg in zip(rows.tolist(), make(rows), strict=True):
                        file.seek(start + n_bytes * row)
                        file.write(np.ascontiguousarray(eeg, "<f4").data)
            processes.wait()
        eeg = np.load(path, mmap_mode="c")
        yield Frames(run.store, run.device, waveform_baseline=False, eeg=eeg, ledger=run.ledger)
    finally:
        if processes.is_first():
            with suppress(OSError):
                path.unlink()


def de_matched_noise(rng: np.random.Generator, de: np.ndarray) -> np.ndarray:
    """Return noise with a given DE: white noise whose bands are made louder and softer in time.

    Parameters
    ----------
    rng : Generator
        Source of the noise.
    de : array, (n_bands, n_windows, n_chans)
        Absolute DE in nats.

    Returns
    -------
    array, (n_chans, n_windows · WINDOW)
        In µV. Its DE differs from `de` by about 0.03 nats in the mean: gains are interpolated
        between half-seconds, since steps would be heard in other bands.
    """
    n_windows, n_chans = de.shape[1:]
    noise = np.stack(list(band_signals(rng.standard_normal((n_chans, n_windows * WINDOW)))))
    eeg = noise.sum(0)
    log_gain = np.zeros_like(de, dtype=np.float64)
    for _ in range(_PASSES):
        # Bands overlap and gains change within windows, so that this only comes closer.
        log_gain += de - differential_entropy(eeg)
        eeg = np.einsum("bct,bct->ct", noise, np.exp(_between_windows(log_gain)))
    return eeg


def matched_noise(store: Store, trials: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """Return `de_matched_noise` of each of `trials`, drawn for (seed, trial, purpose).

    Returns
    -------
    array, float32 (len(trials), n_chans, n_times)
        In µV.
    """
    out = np.empty((len(trials), *store.eeg.shape[1:]), np.float32)
    for eeg, trial, de in zip(out, trials.tolist(), store.absolute_de(trials), strict=True):
        eeg[:] = de_matched_noise(derived_rng(seed, trial, purpose), de)
    return out


def other_of_same_class(
    trials: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> dict[int, int]:
    """Return, for each of `trials`, another one of its class; itself if it is the only one.

    Parameters
    ----------
    trials : array of int
        Trials to match.
    labels : array of int, (n_trials,)
        Class of every trial of the store.
    rng : Generator
        Source of the matching, which is one cycle through each class.
    """
    other = {}
    for label in np.unique(labels[trials]):
        cycle = rng.permutation(trials[labels[trials] == label])
        other.update(zip(cycle.tolist(), np.roll(cycle, 1).tolist(), strict=True))
    return other


def _between_windows(values: np.ndarray) -> np.ndarray:
    """Interpolate linearly between the centres of half-seconds, constant beyond the outermost.

    `np.interp` does the same for one electrode and band at a time, and is most of the time.

    Parameters
    ----------
    values : array, (n_bands, n_windows, n_chans)
        What holds at the centre of each window.

    Returns
    -------
    array, (n_bands, n_chans, n_windows · WINDOW)
    """
    knots = np.pad(values.swapaxes(1, 2), ((0, 0), (0, 0), (1, 1)), mode="edge")[..., None]
    between = knots[..., :-1, :] + np.diff(knots, axis=-2) * (np.arange(WINDOW) / WINDOW)
    return between.reshape(*between.shape[:2], -1)[..., WINDOW // 2 : -WINDOW // 2]


def _maker(
    run: Run, frames: Frames, generator: TrainedGenerator, kind: str
) -> Callable[[np.ndarray], np.ndarray]:
    """Return what maps trials to their second EEG, (len(trials), n_chans, n_times) in µV."""
    seed = run.config.seed
    if kind == "shuffled":
        rng = derived_rng(seed, 0, "shuffled trials")
        other = other_of_same_class(run.split.trials("train"), run.labels, rng)

    def make(trials: np.ndarray) -> np.ndarray:
        if kind == "generated":
            return generator(run.store.absolute_de(trials), trials)
        if kind == "shuffled":
            others = np.array([other[trial] for trial in trials.tolist()])
            return generator(run.store.absolute_de(others), others)
        if kind == "surrogate":
            return matched_noise(run.store, trials, seed, "surrogate of a trial")
        rngs = [derived_rng(seed, trial, "noise of a trial") for trial in trials.tolist()]
        real = frames.continuous(trials)
        mean, std = real.mean(-1, keepdims=True), real.std(-1, keepdims=True)
        return mean + std * np.stack([rng.standard_normal(real.shape[1:]) for rng in rngs])

    return make
