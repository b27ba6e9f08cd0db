"""The EEG that stage 3 pairs with real frames: generated EEG, or a control that it has to beat.

=============  ==================================================================================
generated      EEG generated from the trial's own DE
none           nothing: the classifier goes on with real EEG alone
real           the same real frames again, each with its own dropout and its own noise on the maps
jitter         the same real frames again, with additional noise on the network's input
noise          white noise with the trial's mean and variance in every channel
surrogate      noise with the trial's DE in every half-second: what needs no learning
shuffled       generated EEG, but that of another training trial of the class, with its baseline
virtual        EEG of virtual people, drawn and generated from what training people have
virtual_noise  noise with the DE of the same virtual people, in the place of a generator
people         real frames of groups that are not trained on: what there is to gain
=============  ==================================================================================

A gain of *generated* over *none* is that of augmentation; over *real*, that of more than as many
samples; over *jitter*, that of more than blurring; over *noise* and *surrogate*, that of a learned
generator; over *shuffled*, that of matching each trial with its own EEG (where a term of the loss
compares the two; else *shuffled* differs by chance alone, and shows how much chance does).
*virtual* over *virtual_noise* is the gain of the generator, and not of the prior of their DE.
*people* is the positive control: where it gains nothing, no augmentation can be shown to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.files import remove_folder, write_errors
from de3dgan.base.seeds import derived_rng
from de3dgan.data.frames import Frames, chunks
from de3dgan.data.labels import class_labels
from de3dgan.data.ledger import PAIRED
from de3dgan.data.memory_maps import open_array
from de3dgan.data.opening import open_store
from de3dgan.data.splits import group_names, labels_and_split
from de3dgan.eeg.noise import matched_noise
from de3dgan.stages.generation import TrainedGenerator
from de3dgan.stages.virtual import (
    Population,
    Sampler,
    sampler_of,
    virtual_weight,
    write_store,
)
from de3dgan.training import distributed
from de3dgan.training.run import Run

#: Trials whose paired EEG is generated at a time.
_BATCH = 16


#: From an epoch and numbers of real frames to the numbers of the frames that are paired with them.
Partners = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PairedEEG:
    """What is set beside the real frames of a batch.

    Attributes
    ----------
    frames : Frames
        The EEG; its store is another where it is of virtual people.
    partners : callable
        Returns, given an epoch and numbers of real frames, the numbers of the frames paired with
        them. They are of the same classes, and their baselines are those of these numbers.
    jitter : float
        Standard deviation of noise to add to them once they are normalised.
    weight : float
        Factor to the weight of their cross entropy.
    made_from : {"own trials", "training people", "others"}
        Each frame from the real trial of the same number; from all training people and their
        classes; or from nobody who is trained on.
    """

    frames: Frames
    partners: Partners = lambda epoch, numbers: numbers
    jitter: float = 0.0
    weight: float = 1.0
    made_from: Literal["own trials", "training people", "others"] = "own trials"


def upstream(kind: str) -> tuple[str, ...]:
    """Return the stages that fine-tuning with a kind of EEG goes on from."""
    needed = kind in ("generated", "shuffled", "virtual")
    return ("gan", "classifier") if needed else ("classifier",)


@contextmanager
def paired_eeg(run: Run, frames: Frames) -> Iterator[PairedEEG | None]:
    """Give the EEG that is paired with training frames.

    What has to be made is made once. It lies in a temporary file of the run directory until the
    block ends, and is read by memory map, so that memory does not grow with the number of trials.

    Parameters
    ----------
    run : Run
        A fine-tuning run. Its config says which of the table above it is; of "none", None is given.
    frames : Frames
        Its real EEG.

    Raises
    ------
    UserError
        If additional people are asked for, and there are none.
    """
    kind = run.config.augmentation
    if kind == "none":
        yield None
    elif kind == "real":
        yield PairedEEG(frames)
    elif kind == "jitter":
        yield PairedEEG(frames, jitter=run.config.jitter)
    elif kind == "people":
        yield PairedEEG(frames, additional_frames(run), made_from="others")
    elif kind in ("virtual", "virtual_noise"):
        with _virtual_people(run, frames) as eeg:
            people = np.array(run.store.columns["subject"])[run.split.trials("train")]
            weight = virtual_weight(len(set(people.tolist())))
            of_class = _of_class(run, eeg)
            yield PairedEEG(eeg, of_class, weight=weight, made_from="training people")
    else:
        with _in_file(run, _made(run, frames)) as eeg:
            yield PairedEEG(eeg, _shuffled(run)) if kind == "shuffled" else PairedEEG(eeg)


@contextmanager
def _in_file(run: Run, make: Callable[[np.ndarray], np.ndarray]) -> Iterator[Frames]:
    """Make the EEG of all training trials, and give its frames.

    Parameters
    ----------
    run : Run
        A fine-tuning run.
    make : callable
        From trials to their EEG, (n_trials, n_chans, n_times) in µV.

    Notes
    -----
    The file has a row for each trial of the store; those of trials that are not trained on are
    holes.
    """
    path = run.dir / ".augmentation.npy.tmp"
    trials = run.split.trials("train")
    run.log(
        f"Making the EEG paired with {len(trials)} training trials ({run.config.augmentation})."
    )
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
                    with run.ledger.reading_for(PAIRED):
                        made = make(rows)
                    for row, eeg in zip(rows.tolist(), made, strict=True):
                        file.seek(start + n_bytes * row)
                        file.write(np.ascontiguousarray(eeg, "<f4").data)
            distributed.barrier()
        eeg = open_array(path)
        yield Frames(run.store, run.device, waveform_baseline=False, eeg=eeg, ledger=run.ledger)
    finally:
        if distributed.is_main_process():
            with suppress(OSError):
                path.unlink()


@contextmanager
def _virtual_people(run: Run, frames: Frames) -> Iterator[Frames]:
    """Make virtual people, as many as the config says, and give their frames.

    Each has a trial of every class, as long as real ones. They lie in a temporary store.
    """
    config, trials = run.config, run.split.trials("train")
    path = run.dir / ".virtual.tmp"
    try:
        if distributed.is_main_process():
            run.log(
                f"Making {config.virtual_people} virtual people ({config.augmentation}) from the "
                f"{len(trials)} training trials."
            )
            with run.ledger.reading_for(PAIRED):
                run.ledger.note(frames.numbers(trials))
                population = Population.of(run.store, trials, run.labels, vars(config))
            remove_folder(path)  # left by a process that was killed
            sampler = _sampler(run)
            everyone = (
                population.person(
                    sampler, range(config.n_classes), run.store.n_frames, config.seed, number
                )
                for number in range(config.virtual_people)
            )
            write_store(path, population, everyone, {"run": run.split.fingerprint})
        distributed.barrier()
        yield Frames(open_store(path), run.device, waveform_baseline=False)
    finally:
        if distributed.is_main_process():
            remove_folder(path)


def _sampler(run: Run) -> Sampler:
    """Return what makes EEG of the DE of virtual people."""
    if run.config.augmentation == "virtual":
        return sampler_of(TrainedGenerator.from_content(run.upstream["gan"], run.compute))
    return lambda de, numbers, _: matched_noise(de, numbers, run.config.seed, "virtual noise")


def _of_class(run: Run, virtual: Frames) -> Partners:
    """Return what pairs frames with those of virtual people of the class, anew in each epoch."""
    labels = class_labels(
        virtual.store,
        run.config.ratings,
        "middle" if run.config.threshold == "median" else run.config.threshold,
        run.config.n_classes,
    )
    there = np.repeat(labels, virtual.n_frames)
    return _drawn_by_class(run, there, np.arange(len(there)), "virtual people")


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


def additional_frames(run: Run) -> Partners:
    """Return what pairs training frames with real frames of groups that are not trained on.

    They are those groups that training on `more_groups` more would add. Each frame gets one of its
    own class; in each epoch they are drawn anew, each as often as any other, but for once.

    Raises
    ------
    UserError
        If there are not as many groups, or if they lack a class.
    """
    split, labels, config = run.split, run.labels, run.config
    _, names = group_names(run.store, split.protocol)
    n_spare, n_more = len(set(names[split.trials("spare")])), config.more_groups
    if not n_spare or n_more > n_spare:
        raise UserError(
            f"--augmentation people takes {n_more or 'the'} groups that --train-groups leaves out, "
            f"and --train-groups {config.train_groups} leaves {n_spare}: give it a smaller number."
        )
    spare = split.spare
    if n_more:
        wider = replace(config, train_groups=config.train_groups + n_more)
        _, more = labels_and_split(wider, run.store)
        spare = np.setdiff1d(more.train, split.train)
    of_train, of_spare = (labels[part // split.n_frames] for part in (split.train, spare))
    missing = set(of_train.tolist()) - set(of_spare.tolist())
    if missing:
        raise UserError(
            f"The groups that --augmentation people adds have no trial of class {min(missing)}: "
            "give a larger --more-groups."
        )

    return _drawn_by_class(run, of_spare, spare, "additional people")


def _drawn_by_class(run: Run, classes: np.ndarray, there: np.ndarray, purpose: str) -> Partners:
    """Return what pairs each training frame with one of its class out of others.

    They are drawn anew in each epoch, each as often as any other of its class, but for once.

    Parameters
    ----------
    run : Run
        Whose training frames.
    classes : array of int, (n,)
        The class of each of the others.
    there : array of int, (n,)
        Their numbers.
    purpose : str
        What they are drawn for, see `de3dgan.base.seeds`.
    """
    split = run.split
    of_train = run.labels[split.train // split.n_frames]

    @lru_cache(maxsize=1)
    def partner_of(epoch: int) -> np.ndarray:
        rng = derived_rng(run.config.seed, epoch, purpose)
        partner = np.full(run.store.n_trials * split.n_frames, -1)
        for label in np.unique(of_train):
            wanted, of_class = split.train[of_train == label], there[classes == label]
            rounds = [rng.permutation(of_class) for _ in range(-(-len(wanted) // len(of_class)))]
            partner[wanted] = rng.permutation(np.concatenate(rounds)[: len(wanted)])
        return partner

    return lambda epoch, numbers: partner_of(epoch)[numbers]


def _shuffled(run: Run) -> Partners:
    """Return what pairs frames with those of another trial of the class, at the same second."""
    rng = derived_rng(run.config.seed, 0, "shuffled trials")
    other = np.arange(run.store.n_trials)
    for trial, partner in other_of_same_class(run.split.trials("train"), run.labels, rng).items():
        other[trial] = partner

    def partners(_: int, numbers: np.ndarray) -> np.ndarray:
        trials, seconds = np.divmod(numbers, run.split.n_frames)
        return other[trials] * run.split.n_frames + seconds

    return partners


def _made(run: Run, frames: Frames) -> Callable[[np.ndarray], np.ndarray]:
    """Return what maps trials to EEG made in their place, (n_trials, n_chans, n_times) in µV."""
    kind, seed = run.config.augmentation, run.config.seed
    if "gan" in run.upstream:
        generator = TrainedGenerator.from_content(run.upstream["gan"], run.compute)

    def make(trials: np.ndarray) -> np.ndarray:
        if kind in ("generated", "shuffled"):
            return generator(frames.absolute_de(trials), trials)
        if kind == "surrogate":
            return matched_noise(frames.absolute_de(trials), trials, seed, "surrogate of a trial")
        rngs = [derived_rng(seed, trial, "noise of a trial") for trial in trials.tolist()]
        real = frames.continuous(trials)
        mean, std = real.mean(-1, keepdims=True), real.std(-1, keepdims=True)
        return mean + std * np.stack([rng.standard_normal(real.shape[1:]) for rng in rngs])

    return make
