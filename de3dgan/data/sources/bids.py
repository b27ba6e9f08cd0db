"""Any EEG data set in BIDS (Gorgolewski et al. 2016, Pernet et al. 2019), with a file of settings.

MNE-BIDS finds the files, and MNE reads the EEG: BDF, EDF, BrainVision and EEGLAB. What the trials
are and which column is a rating, BIDS does not say: the settings do, see
`de3dgan.data.bids.settings` and ``docs/data/bids.md``. Each recording is read and resampled in
parts, so that it is never in memory at its own rate.

Tables are read here, and not taken from MNE's annotations: those lack rows without a ``trial_type``
and rows beyond the recording, and with them what is wrong.
"""

from __future__ import annotations

import warnings
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path
from de3dgan.data.bids.settings import Settings, read_settings, settings_file
from de3dgan.data.bids.tables import (
    EXTENSIONS,
    LEAVE_OUT,
    entities,
    find_table,
    is_eeg,
    is_fetched,
    parts,
    read_table,
)
from de3dgan.data.bids.trials import Recording, find_trials
from de3dgan.data.bounded import read_bounded
from de3dgan.data.sources import Recordings, Subject
from de3dgan.eeg.sampling import SFREQ, n_resampled, resampled_in_parts

if TYPE_CHECKING:
    import mne

DEFAULT_DIR = "eeg_dataset/BIDS"

#: Bytes of the largest recording.
LARGEST_FILE = 2**32
#: Bytes per second of processor time that reading gets: a core reads some twenty times as many.
BYTES_PER_SECOND = 2**22
#: Sampling rates in Hz: the gamma band ends at 45 Hz, and more is not sampled on the scalp.
SLOWEST, FASTEST = 100, 20_000

#: µV of what MNE takes for 1 V.
_SCALES = {"V": 1e6, "mV": 1e3, "uV": 1.0}


def find(data_dir: Path, settings: Path | None = None) -> dict[str, list[Path]]:
    """Return each subject's files: the settings, and each recording followed by its tables.

    Parameters
    ----------
    data_dir : Path
        The BIDS folder, which holds the folders ``sub-*``.
    settings : Path, optional
        A file of settings, or the bare name of one that comes with the repository.

    Raises
    ------
    UserError
        Without settings, or if there is no recording that they speak of.
    """
    chosen = read_settings(settings_file(settings))
    units: dict[str, list[Path]] = {}
    for path in _recordings(Path(data_dir), chosen):
        tables = (find_table(path, suffix) for suffix in ("channels", "events", "beh"))
        unit = units.setdefault(f"sub-{entities(path)['subject']}", [chosen.path])
        unit += [*parts(path), *(table for table in tables if table and table not in unit)]
    left_out = {f"sub-{name.removeprefix('sub-')}" for name in chosen.subjects_left_out}
    if left_out - set(units):
        raise UserError(
            f"{display_path(chosen.path)} leaves out {', '.join(sorted(left_out - set(units)))}, "
            f"of whom {display_path(data_dir)} has no recording: mend subjects_left_out."
        )
    units = {unit: files for unit, files in units.items() if unit not in left_out}
    for path in (path for files in units.values() for path in files):
        if not is_fetched(path):
            raise UserError(
                f"{display_path(path)} was not fetched: datalad get does, or a download."
            )
    if not units:
        raise UserError(f"{display_path(chosen.path)} leaves out every subject: leave some in.")
    return units


def read(unit: str, files: list[Path]) -> Subject:
    """Read one subject's recordings, which are loaded one at a time, and their trials."""
    settings = read_settings(files[0])
    recordings = [_header(path, settings) for path in files[1:] if is_eeg(path)]
    ch_names = recordings[0].ch_names
    for other in recordings[1:]:
        if set(other.ch_names) != set(ch_names):
            raise UserError(
                f"{recordings[0].name} and {other.name} have different EEG channels "
                f"({' '.join(sorted(set(other.ch_names) ^ set(ch_names)))}): drop them in "
                f"{display_path(settings.path)}, or {LEAVE_OUT}."
            )
    baselines, trials = find_trials(recordings, settings)
    longest = settings.baseline and round((settings.baseline[1] - settings.baseline[0]) * SFREQ)
    ratings = settings.ratings.items()
    return Subject(
        subject=unit,
        ch_names=tuple(settings.rename.get(name, name) for name in ch_names),
        recordings=Recordings(lambda i: _eeg(recordings[i], ch_names), len(recordings)),
        baselines=baselines,
        trials=trials,
        scales={name: rating.scale for name, rating in ratings if rating.scale},
        classes={
            name: tuple(rating.classes.values()) for name, rating in ratings if rating.classes
        },
        cleaned_apart=settings.cleaned_apart,
        n_baseline_times=longest,
        trial_seconds=settings.trial_seconds,
        montage=settings.montage,
    )


def _recordings(data_dir: Path, settings: Settings) -> list[Path]:
    """Return the EEG files that the settings speak of: by subject, session, run, and task."""
    import mne_bids

    where = display_path(data_dir)
    if not data_dir.is_dir():
        raise UserError(f"There is no folder {where}: give a BIDS data set as --data-dir.")
    found = mne_bids.find_matching_paths(
        data_dir, suffixes="eeg", extensions=list(EXTENSIONS), datatypes="eeg", ignore_nosub=True
    )
    found = [path for path in found if is_fetched(path.fpath)]
    every = [path for path in data_dir.glob("sub-*/**/*_eeg.*") if is_eeg(path)]
    unfetched = len(every) - sum(map(is_fetched, every))
    if not found:
        reason = "give the folder that has its folders sub-*"
        if unfetched:
            reason = "its recordings were not fetched, which datalad get does"
        raise UserError(f"{where} has no EEG in BIDS, sub-*/eeg/*_eeg.bdf or the like: {reason}.")
    if unfetched:
        print(f"{where}: {unfetched} recordings were not fetched (datalad get) and are left out.")
    tasks = [task.lower() for task in settings.task]
    chosen = [
        path
        for path in found
        if str(path.task).lower() in tasks
        and (not settings.sessions or path.session in settings.sessions)
        and (not settings.runs or path.run in settings.runs)
    ]
    if not chosen:
        there = "; ".join(
            f"{entity} {' '.join(sorted({str(getattr(path, entity)) for path in found}))}"
            for entity in ("task", "session", "run")
        )
        raise UserError(
            f"{where} has no recording of the task ({' '.join(settings.task)}), sessions and runs "
            f"in {display_path(settings.path)}: mend them, there are {there}."
        )
    stems = Counter(path.fpath.stem for path in chosen)
    twice = [stem for stem, n in stems.items() if n > 1]
    if twice:
        raise UserError(
            f"{where} has {twice[0]} in two formats, as if it were two recordings: move one away."
        )
    chosen.sort(
        key=lambda path: (
            path.subject,
            path.session or "",
            path.run or "",
            tasks.index(path.task.lower()),
            path.basename,
        )
    )
    return [path.fpath for path in chosen]


def _bounded(read: partial, path: Path) -> list[np.ndarray]:
    """Read a recording in a child process that has time in proportion to its size."""
    size = sum(part.stat().st_size for part in parts(path))
    return read_bounded(read, path, "EEG recording", LARGEST_FILE, size, size / BYTES_PER_SECOND)


def _header(path: Path, settings: Settings) -> Recording:
    """Return what is known of a recording before its EEG is read, refusing one of no use."""
    names, types, stated, numbers = (
        array.tolist() for array in _bounded(partial(_read_header), path)
    )
    type_of = dict(zip(names, types, strict=True))
    table = find_table(path, "channels")
    if table:
        columns = read_table(table)
        told = zip(columns.get("name", ()), columns.get("type", ()), strict=False)
        type_of |= {name: type_.lower() for name, type_ in told if name in type_of}
    ch_names = tuple(name for name in names if type_of[name] == "eeg" and name not in settings.drop)
    if not ch_names:
        raise UserError(f"{display_path(path)} has no EEG channel: {LEAVE_OUT}.")
    sfreq, n_times = numbers
    n_left = n_resampled(int(n_times), sfreq) - round(settings.end_cut * SFREQ)
    if n_left < 1:
        raise UserError(
            f"{display_path(path)} lasts no longer than the {settings.end_cut:g} s that end_cut "
            f"takes away: {LEAVE_OUT}."
        )
    known = {name for name, is_stated in zip(names, stated, strict=True) if is_stated}
    return Recording(path, ch_names, _unit(path, ch_names, known, settings), sfreq, n_left)


def _unit(path: Path, ch_names: tuple[str, ...], known: set[str], settings: Settings) -> str:
    """Return the unit of what MNE takes for V, which is another where a file does not say."""
    silent = [name for name in ch_names if name not in known]
    if not silent:
        return "V"
    if len(silent) < len(ch_names):
        raise UserError(
            f"{display_path(path)} says of some EEG channels in what unit they are, and not of "
            f"{' '.join(silent)}: drop these in {display_path(settings.path)}, or {LEAVE_OUT}."
        )
    if settings.unit is None:
        raise UserError(
            f"{display_path(path)} does not say in what unit its EEG is: write unit = "
            f'"uV" (or "mV" or "V") into {display_path(settings.path)}, if you know.'
        )
    return settings.unit


def _eeg(recording: Recording, ch_names: tuple[str, ...]) -> np.ndarray:
    """Return the EEG of a recording, (n_chans, n_times) in µV at `SFREQ`."""
    read = partial(_read_eeg, ch_names=ch_names, scale=_SCALES[recording.unit])
    return _bounded(read, recording.path)[0][:, : recording.n_times]


def _open(path: Path) -> mne.io.BaseRaw:
    """Open a recording, refusing what MNE would read though there is more or less of it."""
    import mne

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # If a header contradicts itself or the file, MNE goes on with a guess.
        warnings.filterwarnings("error", "Number of records|Header information|Scaling|Physical")
        raw = mne.io.read_raw(path, verbose="warning")
    with open(path, "rb") as file:
        if path.suffix.lower() in (".edf", ".bdf") and b"DF+D" in file.read(200)[192:]:
            raise ValueError("its recording has gaps (EDF+D)")
    for part in map(Path, raw.filenames):
        expected, there = 4 * len(raw.ch_names) * raw.n_times, part.stat().st_size
        if part.suffix.lower() == ".fdt" and there != expected:
            raise ValueError(f"its header speaks of {expected} bytes, and {part.name} has {there}")
    return raw


def _read_header(path: Path) -> tuple[np.ndarray, ...]:
    """Return names of channels, their types, whether their unit is known, and rate and samples.

    Raises whatever it comes to: `read_bounded` makes a sentence of it.
    """
    raw = _open(path)
    sfreq = raw.info["sfreq"]
    if not SLOWEST <= sfreq <= FASTEST:
        raise ValueError(f"it is sampled at {sfreq:g} Hz, not at {SLOWEST} to {FASTEST}")
    n_resampled(raw.n_times, sfreq)
    stated = [raw._orig_units.get(name) != "n/a" for name in raw.ch_names]
    numbers = np.array([sfreq, raw.n_times])
    return np.array(raw.ch_names), np.array(raw.get_channel_types()), np.array(stated), numbers


def _read_eeg(path: Path, ch_names: tuple[str, ...], scale: float) -> tuple[np.ndarray]:
    """Return channels of a recording, (n_chans, n_times) in µV at `SFREQ`.

    Raises whatever it comes to: `read_bounded` makes a sentence of it.
    """
    raw = _open(path)
    picks = [raw.ch_names.index(name) for name in ch_names]

    def part(start: int, stop: int) -> np.ndarray:
        return scale * raw[picks, start:stop][0]

    return (resampled_in_parts(part, raw.n_times, raw.info["sfreq"]),)
