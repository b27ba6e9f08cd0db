"""Data sources: each module here reads one data set, and all of them return the same thing.

A source is a module with three names; the shortest one, `eegmat`, is the one to copy for a data
set of your own (it is then found as ``--source <module name>``):

``DEFAULT_DIR`` : str
    Where its files lie, relative to the repository root.
``find(data_dir) -> dict[str, list[Path]]``
    The files of each unit, in order: of a subject, or of one session of a subject where a session
    is much to hold in memory. Raises `UserError` where there are none, saying where to get them.
    ``find(data_dir, settings)`` of a source that takes a file of settings (``--settings``).
``read(unit, files) -> Subject``
    One unit's recordings at `SFREQ` (see `de3dgan.eeg.sampling.resampled`), in µV, and where its
    trials and baselines lie in them. Raises `UserError` on a bad file, naming it.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.files import json_hash, sha256
from de3dgan.data.montages import find_montage
from de3dgan.eeg.montage import canonical, refuse_twice

#: Modules of `de3dgan.data` that sources use, and that do not decide what they read.
_NO_READERS = tuple(f"de3dgan.data.{name}" for name in ("bounded", "store", "memory_maps"))


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
        Where it lies. Trials may differ in length: they are cut into pieces of one length.
    baseline : int or None
        Which of the subject's baselines is its reference; None where the source has none.
    stimulus : str
        What was presented; trials of all subjects with one stimulus share it.
    ratings : dict of str to float
        Every rating, label or class number the source has, by column name.
    session : str
        Name of the day, or the visit, on which the subject was recorded.
    shown : Segment, optional
        All of what was presented, where `segment` is a part of it: no time of rest.
    """

    segment: Segment
    baseline: int | None
    stimulus: str
    ratings: dict[str, float]
    session: str = "1"
    shown: Segment | None = None


@dataclass(frozen=True)
class Subject:
    """What one subject contributed, or one session of one: what `find` calls a unit.

    Attributes
    ----------
    subject : str
        Name, unique in the source; the same in all sessions.
    ch_names : tuple of str, length n_chans
        Channel names as in the files: `read_checked` brings them to those of the 10-05 system.
    recordings : sequence of array, each (n_chans, n_times)
        Continuous EEG in µV at `SFREQ`, each with its baseline if it has one: filters run over the
        whole of it, so that a trial's first window has no filter edge. A list, or `Recordings`
        that are read one at a time.
    baselines : list of Segment
        Rest stretches, referred to by the trials; empty where the source has none.
    trials : list of Trial
        In the order of presentation.
    scales : dict of str to (float, float)
        Lowest and highest value that each rating can have; its middle parts low from high.
    classes : dict of str to tuple of str
        Of ratings that are class numbers (0, 1, ...), what each class is called.
    cleaned_apart : bool
        Whether each recording was cleaned by independent components of its own, so that each may
        lack other directions between electrodes, see `de3dgan.eeg.subspace`.
    n_baseline_times : int, optional
        Length to which the store repeats a baseline that is shorter than other subjects' ones.
    trial_seconds : int, optional
        Length of the pieces that trials of unequal length are cut into, unless a user asks for
        another one; by default, trials are one length and are left whole.
    montage : str, optional
        Name of MNE's standard montage that the channel names are of; by default, the first that
        knows all of them.
    """

    subject: str
    ch_names: tuple[str, ...]
    recordings: Sequence[np.ndarray] = field(repr=False)
    baselines: list[Segment]
    trials: list[Trial]
    scales: dict[str, tuple[float, float]] = field(default_factory=dict)
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    cleaned_apart: bool = False
    n_baseline_times: int | None = None
    trial_seconds: int | None = None
    montage: str | None = None


class Recordings(Sequence):
    """Recordings that are read when they are asked for, one at a time, and not kept.

    Parameters
    ----------
    read : callable
        Returns recording number i, (n_chans, n_times).
    n : int
        How many there are.
    """

    def __init__(self, read: Callable[[int], np.ndarray], n: int):
        self._read, self._n = read, n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: int) -> np.ndarray:
        """Read recording number `index`."""
        if not 0 <= index < self._n:
            raise IndexError(index)
        return self._read(index)


def names() -> tuple[str, ...]:
    """Return the names of all sources: the modules of this package."""
    return tuple(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """Return the module of source `name`."""
    if name not in names():
        raise UserError(f"There is no source {name!r}: choose one of {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")


def code_hash(source: ModuleType) -> str:
    """Return a hash of a source's code, and of the modules of `de3dgan.data` that read for it."""
    room = __package__.rpartition(".")[0] + "."
    readers, waiting = {}, [source]
    while waiting:
        module = waiting.pop()
        readers[module.__name__] = sha256(module.__file__)
        used = {inspect.getmodule(value) for value in vars(module).values()} - {None}
        waiting += [
            other
            for other in used
            if other.__name__.startswith(room)
            and other.__name__ not in (*readers, __name__, *_NO_READERS)
        ]
    return json_hash(readers)


def find(source: ModuleType, data_dir: Path, settings: Path | None) -> dict[str, list[Path]]:
    """Return the files of each unit of a source, given its file of settings if it takes one."""
    takes_settings = "settings" in inspect.signature(source.find).parameters
    if settings is not None and not takes_settings:
        raise UserError(
            f"--settings is for a source that takes a file of them, and {_name(source)} does not."
        )
    return source.find(data_dir, settings) if takes_settings else source.find(data_dir)


def read_checked(
    source: ModuleType, unit: str, files: list[Path], channels: Sequence[str] = ()
) -> Subject:
    """Read one unit and refuse what would go wrong later, naming the file.

    Parameters
    ----------
    source : module
        See the top of this package.
    unit : str
        A key of what its `find` returns.
    files : list of Path
        What it returns for that unit.
    channels : sequence of str
        Names of the channels to keep, in this order; all of them if it is empty.

    Returns
    -------
    Subject
        With channel names as `canonical` gives them, a montage that knows them, and recordings as
        float64.

    Raises
    ------
    UserError
        On an unreadable file, a channel that no montage knows, a value that is not finite, or a
        segment outside its recording. Of `Recordings` that are read when they are asked for, what
        is wrong in one is said then.
    """
    data = source.read(unit, files)
    where = ", ".join(path.name for path in files)
    names = [canonical(name) for name in data.ch_names]
    wanted = [canonical(name) for name in channels] or names
    missing = [name for name in wanted if name not in names]
    if missing:
        raise UserError(
            f"{where}: there is no channel {', '.join(missing)} (--channels), only "
            f"{' '.join(names)}."
        )
    try:
        refuse_twice(names)
        refuse_twice(wanted)
        montage = find_montage(wanted, data.montage)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    _check_trials(data, where)
    rows = [names.index(name) for name in wanted]

    def recording(index: int) -> np.ndarray:
        eeg = np.asarray(data.recordings[index], dtype=np.float64)
        if rows != list(range(len(eeg))):
            eeg = eeg[rows]
        _check_recording(data, index, eeg, where)
        return eeg

    n = len(data.recordings)
    lazy = isinstance(data.recordings, Recordings)
    return replace(
        data,
        ch_names=tuple(wanted),
        montage=montage,
        recordings=Recordings(recording, n) if lazy else [recording(i) for i in range(n)],
    )


def _check_trials(data: Subject, where: str) -> None:
    """Refuse trials, ratings and segments that do not fit together."""
    if not data.trials:
        raise UserError(f"{where} gives no trial.")
    columns = list(data.trials[0].ratings)
    for trial in data.trials:
        if list(trial.ratings) != columns or not all(
            isinstance(value, int | float) and math.isfinite(value)
            for value in trial.ratings.values()
        ):
            raise UserError(f"{where}: trials need the same ratings, all of them finite numbers.")
        for name, names in data.classes.items():
            if trial.ratings.get(name) not in range(len(names)):
                raise UserError(
                    f"{where}: {name} is {trial.ratings.get(name)}, and must be the number of a "
                    f"class, 0 to {len(names) - 1}."
                )
        if trial.baseline is not None and not 0 <= trial.baseline < len(data.baselines):
            raise UserError(
                f"{where}: a trial refers to baseline {trial.baseline}, which is not there."
            )
    for segment in data.baselines + [trial.segment for trial in data.trials]:
        if not 0 <= segment.recording < len(data.recordings):
            raise UserError(
                f"{where}: a segment is of recording {segment.recording + 1}, and there are "
                f"{len(data.recordings)}."
            )


def _check_recording(data: Subject, index: int, eeg: np.ndarray, where: str) -> None:
    """Refuse a recording that is not finite, or too short for its segments."""
    if not np.isfinite(eeg).all():
        raise UserError(f"{where} holds values that are not finite (NaN or infinity).")
    for segment in data.baselines + [trial.segment for trial in data.trials]:
        if segment.recording == index and not 0 <= segment.start < segment.stop <= eeg.shape[1]:
            raise UserError(
                f"{where}: a segment from sample {segment.start} to {segment.stop} does not fit "
                f"into a recording of {eeg.shape[1]} samples."
            )


def _name(source: ModuleType) -> str:
    return source.__name__.rpartition(".")[2]
