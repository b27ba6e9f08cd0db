"""The EEG that stage 3 pairs with real EEG: generated EEG, or a control that it has to beat.

=============  ==================================================================================
generated      EEG generated from the trial's own DE
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

from de3dgan.base.files import write_errors
from de3dgan.base.seeds import derived_rng
from de3dgan.data.frames import Frames, chunks
from de3dgan.data.memory_maps import open_array
from de3dgan.eeg.noise import matched_noise
from de3dgan.stages.generation import TrainedGenerator
from de3dgan.training import distributed
from de3dgan.training.run import Run

#: Trials whose paired EEG is generated at a time.
_BATCH = 16


@contextmanager
def paired_frames(
    run: Run, frames: Frames, generator: TrainedGenerator, kind: str
) -> Iterator[Frames | None]:
    """Generate the EEG paired with each training trial, once, and give its frames.

    It lies in a temporary file of the run directory until the block ends, and is read by memory
    map, so that memory does not grow with the number of trials. The file has a row for each trial
    of the store; rows of trials that are not trained on are holes.

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
    generate = _generate_function(run, frames, generator, kind)
    path = run.dir / ".augmentation.npy.tmp"
    trials = run.split.trials("train")
    run.log(f"Generating the EEG paired with {len(trials)} training trials ({kind}).")
    try:
        shape = run.store.eeg.shape
        n_bytes = 4 * math.prod(shape[1:])  # of a trial
        # Written to a file that is mapped only then: a full disk is an error of the former, and
        # the end of the process by the latter.
        with write_errors(path, n_bytes * len(trials)):
            if distributed.is_main_process():
                with open(path, "wb") as file:
                    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                    file.truncate(file.tell() + n_bytes * shape[0])
            distributed.barrier()
            with open(path, "r+b") as file:
                start = path.stat().st_size - n_bytes * shape[0]
                for rows in list(chunks(trials, _BATCH))[
                    distributed.rank() :: distributed.world_size()
                ]:
                    for row, eeg in zip(rows.tolist(), generate(rows), strict=True):
                        file.seek(start + n_bytes * row)
                        file.write(np.ascontiguousarray(eeg, "<f4").data)
            distributed.barrier()
        eeg = open_array(path)
        yield Frames(run.store, run.device, waveform_baseline=False, eeg=eeg, ledger=run.ledger)
    finally:
        if distributed.is_main_process():
            with suppress(OSError):
                path.unlink()


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


def _generate_function(
    run: Run, frames: Frames, generator: TrainedGenerator, kind: str
) -> Callable[[np.ndarray], np.ndarray]:
    """Return what maps trials to their paired EEG, (n_trials, n_chans, n_times) in µV."""
    seed = run.config.seed
    if kind == "shuffled":
        rng = derived_rng(seed, 0, "shuffled trials")
        other = other_of_same_class(run.split.trials("train"), run.labels, rng)

    def generate(trials: np.ndarray) -> np.ndarray:
        if kind == "generated":
            return generator(run.store.absolute_de(trials), trials)
        if kind == "shuffled":
            others = np.array([other[trial] for trial in trials.tolist()])
            return generator(run.store.absolute_de(others), others)
        if kind == "surrogate":
            de = run.store.absolute_de(trials)
            return matched_noise(de, trials, seed, "surrogate of a trial")
        rngs = [derived_rng(seed, trial, "noise of a trial") for trial in trials.tolist()]
        real = frames.continuous(trials)
        mean, std = real.mean(-1, keepdims=True), real.std(-1, keepdims=True)
        return mean + std * np.stack([rng.standard_normal(real.shape[1:]) for rng in rngs])

    return generate
