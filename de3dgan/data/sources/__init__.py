"""Data sources: each module here reads one data set, and all of them return the same thing.

A source is a module with three names; the shortest one, `eegmat`, is the one to copy for a data
set of your own (it is then found as ``--source <module name>``):

``DEFAULT_DIR`` : str
    Where its files lie, relative to the repository root.
``find(data_dir) -> dict[str, list[Path]]``
    The files of each subject, subjects in order. Raises `UserError` where there are none, saying
    where to get them.
``read(subject, files) -> Subject``
    One subject's recordings at `SFREQ`, in µV, and where its trials and baselines lie in them.
    Raises `UserError` on a bad file, naming it.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.eeg.montage import grid_cells


@dataclass(frozen=True)
class Segment:
    """Samples `start` to `stop` (excluded) of `Subject.recordings[recording]`."""

    recording: int
    start: int
    stop: int


@dataclass(frozen=True)
class Trial:
    """One labelled stretch of EEG.

    Attributes
    ----------
    segment : Segment
        Where it lies.
    baseline : int
        Which of the subject's baselines is its reference.
    stimulus : str
        What was presented; trials of all subjects with one stimulus share it.
    ratings : dict of str to float
        Every rating or label the source has, by column name.
    """

    segment: Segment
    baseline: int
    stimulus: str
    ratings: dict[str, float]


@dataclass(frozen=True)
class Subject:
    """Everything one subject contributed.

    Attributes
    ----------
    subject : str
        Name, unique in the source.
    ch_names : tuple of str, length n_chans
        Channel names, of the 8x9 grid.
    recordings : list of array, each (n_chans, n_times)
        Continuous EEG in µV at `SFREQ`, each with its baseline if it has one: filters run over the
        whole of it, so that a trial's first window has no filter edge.
    baselines : list of Segment
        Rest stretches, referred to by the trials.
    trials : list of Trial
        In the order of presentation.
    cleaned_apart : bool
        Whether each recording was cleaned by independent components of its own, so that each may
        lack other directions between electrodes, see `de3dgan.eeg.subspace`.
    n_baseline_times : int, optional
        Length to which the store repeats a baseline that is shorter than other subjects' ones.
    """

    subject: str
    ch_names: tuple[str, ...]
    recordings: list[np.ndarray] = field(repr=False)
    baselines: list[Segment]
    trials: list[Trial]
    cleaned_apart: bool = False
    n_baseline_times: int | None = None


def names() -> tuple[str, ...]:
    """Return the names of all sources: the modules of this package."""
    return tuple(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """Return the module of source `name`."""
    if name not in names():
        raise UserError(f"There is no source {name!r}: choose one of {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")


def read_checked(source: ModuleType, subject: str, files: list[Path]) -> Subject:
    """Read one subject and refuse what would go wrong later, naming the file.

    Returns
    -------
    Subject
        With channel names in upper case and recordings as float64.

    Raises
    ------
    UserError
        On an unreadable file, a channel that is not on the grid, a value that is not finite, or a
        segment outside its recording.
    """
    data = source.read(subject, files)
    where = ", ".join(path.name for path in files)
    try:
        grid_cells(data.ch_names)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    for recording in data.recordings:
        if not np.isfinite(recording).all():
            raise UserError(f"{where} holds values that are not finite (NaN or infinity).")
    if not data.trials or not data.baselines:
        raise UserError(f"{where} gives no trial, or no baseline.")
    for trial in data.trials:
        if list(trial.ratings) != list(data.trials[0].ratings) or not all(
            isinstance(value, int | float) and math.isfinite(value)
            for value in trial.ratings.values()
        ):
            raise UserError(f"{where}: trials need the same ratings, all of them finite numbers.")
        if not 0 <= trial.baseline < len(data.baselines):
            raise UserError(
                f"{where}: a trial refers to baseline {trial.baseline}, which is not there."
            )
    for segment in data.baselines + [trial.segment for trial in data.trials]:
        n_times = 0
        if 0 <= segment.recording < len(data.recordings):
            n_times = data.recordings[segment.recording].shape[1]
        if not 0 <= segment.start < segment.stop <= n_times:
            raise UserError(
                f"{where}: a segment from sample {segment.start} to {segment.stop} does not fit "
                f"into a recording of {n_times} samples."
            )
    return replace(
        data,
        ch_names=tuple(name.upper() for name in data.ch_names),
        recordings=[np.asarray(recording, dtype=np.float64) for recording in data.recordings],
    )
