"""The trials of a BIDS recording: where they lie, what was presented, and how it was rated."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path
from de3dgan.data.bids.settings import Rating, Settings
from de3dgan.data.bids.tables import (
    LEAVE_OUT,
    MISSING,
    column,
    entities,
    find_table,
    number,
    read_table,
)
from de3dgan.data.sources import Segment, Trial
from de3dgan.eeg.sampling import SFREQ

#: Samples of the shortest baseline (2 s).
SHORTEST_BASELINE = 2 * SFREQ


@dataclass(frozen=True)
class Recording:
    """What is known of a recording before its EEG is read.

    Attributes
    ----------
    path : Path
        Its file.
    ch_names : tuple of str
        Its EEG channels, as the file has them.
    unit : str
        Of the numbers that MNE takes for V: V, or another one if the file does not say.
    sfreq : float
        Its own sampling rate in Hz.
    n_times : int
        Its samples at `SFREQ`, without those that are cut off at the end.
    """

    path: Path
    ch_names: tuple[str, ...]
    unit: str
    sfreq: float
    n_times: int

    @property
    def name(self) -> str:
        """Name of its file."""
        return self.path.name

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.n_times / SFREQ

    @property
    def task(self) -> str:
        """Its task, in lower case: names of files differ in that."""
        return str(entities(self.path)["task"]).lower()

    @property
    def session(self) -> str:
        """Its session."""
        return entities(self.path)["session"] or "1"


@dataclass(frozen=True)
class _Row:
    """A trial as a table has it: where it is written, seconds, and its cells by column."""

    where: str
    onset: float
    duration: float | None
    cells: dict[str, str]


def find_trials(
    recordings: list[Recording], settings: Settings
) -> tuple[list[Segment], list[Trial]]:
    """Return the baselines and the trials of one subject's recordings.

    Raises
    ------
    UserError
        Naming the file, the line, and what mends it.
    """
    baselines: list[Segment] = []
    trials: list[Trial] = []
    for index, recording in enumerate(recordings):
        trials += _trials(recording, index, settings, baselines)
        stretches = [*baselines, *(trial.segment for trial in trials)]
        _refuse_overlap([s for s in stretches if s.recording == index], recording, settings)
    if not trials:
        raise UserError(f"{recordings[0].name} and the like have no trial: {LEAVE_OUT}.")
    if settings.baseline_task:
        return _with_shared_baselines(recordings, trials, settings)
    return baselines, trials


def _trials(
    recording: Recording, index: int, settings: Settings, baselines: list[Segment]
) -> Iterator[Trial]:
    """Yield the trials of a recording; their baselines are added to those there are."""
    task = next(name for name in settings.task if name.lower() == recording.task)
    rows = _rows(recording, settings)
    for row, rated in zip(rows, _rating_rows(recording, rows, settings), strict=True):
        stimulus = _stimulus(row, recording, task, settings)
        ratings = {
            name: _value(name, rating, rated, stimulus, settings)
            for name, rating in settings.ratings.items()
        }
        missing = [name for name, value in ratings.items() if value is None]
        if missing and settings.missing == "refuse":
            raise UserError(
                f'{rated.where} has no {missing[0]}: write missing = "leave out" into '
                f"{_file(settings)} to leave such trials out, or {LEAVE_OUT}."
            )
        if missing:
            tqdm.write(f"{rated.where} has no {missing[0]}: that trial is left out.", sys.stderr)
            continue
        segment = _segment(row, recording, index, settings)
        baseline = None
        if settings.baseline and not settings.baseline_task:
            baseline = len(baselines)
            baselines.append(_baseline(row, recording, index, settings))
        shown = _presented(row, segment, recording)
        yield Trial(segment, baseline, stimulus, ratings, recording.session, shown)


def _rows(recording: Recording, settings: Settings) -> list[_Row]:
    """Return the rows of the events that are trials; or the recording, if it is one trial."""
    if settings.column is None:
        return [_Row(display_path(recording.path), 0.0, recording.seconds, {})]
    path = find_table(recording.path, "events")
    if path is None:
        raise UserError(
            f"{display_path(recording.path)} has no events.tsv: write one, or leave trials.column "
            f"and trials.pattern out of {_file(settings)}, so that each recording is one trial and "
            "its task the stimulus."
        )
    table = read_table(path)
    cells = column(table, settings.column, path)
    matching = [i for i, cell in enumerate(cells) if re.fullmatch(settings.pattern, cell)]
    if not matching:
        values = ", ".join(list(dict.fromkeys(cells))[:5]) or "no row"
        filled = [name for name, others in table.items() if {*map(str.lower, others)} - {*MISSING}]
        raise UserError(
            f"{display_path(path)} has no trial, as {settings.pattern!r} matches nothing in its "
            f"column {settings.column} ({values}), and the columns that say something are "
            f"{', '.join(filled) or 'none'}: mend trials.column or trials.pattern in "
            f"{_file(settings)}."
        )
    factor = {"s": 1.0, "ms": 1e-3, "samples": 1 / recording.sfreq}[settings.onset_unit]
    onsets, durations = (column(table, name, path) for name in ("onset", "duration"))
    rows = []
    for i in matching:
        where = f"{display_path(path)}, line {i + 2}"
        onset = factor * number(onsets[i], f"{where}: onset")
        duration = None
        if durations[i].lower() not in MISSING:
            duration = factor * number(durations[i], f"{where}: duration")
        rows.append(_Row(where, onset, duration, {name: table[name][i] for name in table}))
    last = max(rows, key=lambda row: row.onset)
    if last.onset > recording.seconds:
        _refuse_onset(last, recording, settings)
    return rows


def _refuse_onset(row: _Row, recording: Recording, settings: Settings) -> NoReturn:
    """Refuse an onset beyond the recording, with the unit in which it would lie in it."""
    onset = float(row.cells["onset"])
    units = {"s": onset, "ms": onset / 1e3, "samples": onset / recording.sfreq}
    fits = [f'onset_unit = "{unit}"' for unit, at in units.items() if at <= recording.seconds]
    remedy = LEAVE_OUT
    if fits:
        remedy = f"write {' or '.join(fits)} under trials in {_file(settings)}, if that is its unit"
    raise UserError(
        f"{row.where}: the onset, {onset:g} {settings.onset_unit}, is beyond the end of "
        f"{recording.name}, which lasts {recording.seconds:g} s: {remedy}."
    )


def _rating_rows(recording: Recording, rows: list[_Row], settings: Settings) -> list[_Row]:
    """Return, per trial, the row that has its ratings: its own, or one of the behavioural file."""
    if settings.ratings_from == "events":
        return rows
    path = find_table(recording.path, "beh")
    if path is None:
        raise UserError(
            f"{display_path(recording.path)} has no beh.tsv in the folder beh, where "
            f"{_file(settings)} says that the ratings are: {LEAVE_OUT}."
        )
    table = read_table(path)
    n_rows = len(next(iter(table.values())))
    named = settings.beh_trial_column
    if named is None and n_rows != len(rows):
        raise UserError(
            f"{display_path(path)} has {n_rows} rows, and {recording.name} {len(rows)} trials: "
            "name the column that has the number of the trial (beh_trial_column in the settings), "
            f"or {LEAVE_OUT}."
        )
    numbers: list[float] = list(range(1, n_rows + 1))
    if named is not None:
        cells = column(table, named, path)
        numbers = [number(cell, f"{display_path(path)}: {named}") for cell in cells]
    rated = []
    for trial, row in enumerate(rows, start=1):
        if numbers.count(trial) != 1:
            raise UserError(
                f"{display_path(path)} has {numbers.count(trial)} rows of trial {trial} in its "
                f"column {named}, and needs one: mend that, or {LEAVE_OUT}."
            )
        i = numbers.index(trial)
        where = f"{display_path(path)}, line {i + 2}"
        rated.append(replace(row, where=where, cells={name: table[name][i] for name in table}))
    return rated


def _segment(row: _Row, recording: Recording, index: int, settings: Settings) -> Segment:
    """Return the part of a trial that is taken."""
    start, stop = row.onset + settings.start, None
    if settings.stop is not None:
        stop = row.onset + settings.stop
    elif row.duration:
        stop = row.onset + row.duration
    if stop is None:
        raise UserError(
            f"{row.where}: the trial has no duration: write stop, in seconds from its onset, under "
            f"trials in {_file(settings)}."
        )
    if settings.last is not None:
        if stop - start < settings.last - 0.5 / SFREQ:
            raise UserError(
                f"{row.where}: the trial lasts {stop - start:g} s, and its last {settings.last:g} "
                f"s are asked for: make trials.last shorter in {_file(settings)}."
            )
        start = stop - settings.last
    what = f"{row.where}: the trial", "change start, stop or last under trials"
    return _samples(start, stop, recording, index, settings, *what)


def _presented(row: _Row, taken: Segment, recording: Recording) -> Segment:
    """Return all of what a row says was presented, with the part of it that is taken."""
    start = min(round(row.onset * SFREQ), taken.start)
    stop = max(round((row.onset + (row.duration or 0)) * SFREQ), taken.stop)
    return replace(taken, start=max(start, 0), stop=min(stop, recording.n_times))


def _baseline(row: _Row, recording: Recording, index: int, settings: Settings) -> Segment:
    """Return the baseline before a trial."""
    start, stop = (row.onset + seconds for seconds in settings.baseline)
    what = f"{row.where}: the baseline", "change baseline"
    return _samples(start, stop, recording, index, settings, *what)


def _samples(
    start: float,
    stop: float,
    recording: Recording,
    index: int,
    settings: Settings,
    what: str,
    remedy: str,
) -> Segment:
    """Return a stretch in samples; the same seconds are the same number of them."""
    first = round(start * SFREQ)
    last = first + round((stop - start) * SFREQ)
    # Rounded twice, what ends with the recording may end one sample after it.
    excess = 1 if last == recording.n_times + 1 else 0
    if not 0 <= first - excess < last - excess <= recording.n_times:
        raise UserError(
            f"{what} goes from {start:g} s to {stop:g} s, and {recording.name} from 0 s to "
            f"{recording.seconds:g} s: {remedy} in {_file(settings)}, or {LEAVE_OUT}."
        )
    return Segment(index, first - excess, last - excess)


def _refuse_overlap(stretches: list[Segment], recording: Recording, settings: Settings) -> None:
    """Refuse trials and baselines that share samples: a model would know one from the other."""
    stretches = sorted(stretches, key=lambda stretch: stretch.start)
    for one, other in zip(stretches, stretches[1:], strict=False):
        if other.start < one.stop:
            raise UserError(
                f"{recording.name}: a trial or baseline starts at {other.start / SFREQ:g} s, and "
                f"the one before it ends at {one.stop / SFREQ:g} s: change baseline, or start, "
                f"stop, last, pattern or onset_unit under trials, in {_file(settings)}."
            )


def _with_shared_baselines(
    recordings: list[Recording], trials: list[Trial], settings: Settings
) -> tuple[list[Segment], list[Trial]]:
    """Return baselines from the recording of a task, one per session, and trials that have them.

    A baseline ends where the first trial of its recording starts, even if that makes it shorter:
    shared samples would put a trial's own EEG into what is subtracted from it.
    """
    baselines: dict[str, Segment] = {}
    start, wanted = (round(seconds * SFREQ) for seconds in settings.baseline)
    for index, recording in enumerate(recordings):
        if recording.task != settings.baseline_task.lower() or recording.session in baselines:
            continue
        trial_starts = [t.segment.start for t in trials if t.segment.recording == index]
        stop = min([wanted, recording.n_times, *trial_starts])
        if stop - start < SHORTEST_BASELINE:
            raise UserError(
                f"{display_path(recording.path)} has less than {SHORTEST_BASELINE / SFREQ:g} s of "
                f"baseline before its trial: {LEAVE_OUT}."
            )
        baselines[recording.session] = Segment(index, start, stop)
    sessions = list(baselines)
    for trial in trials:
        if trial.session not in baselines:
            raise UserError(
                f"{recordings[trial.segment.recording].name}: in session {trial.session}, there is "
                f"no recording of task {settings.baseline_task} for its baseline: {LEAVE_OUT}."
            )
    return list(baselines.values()), [
        replace(trial, baseline=sessions.index(trial.session)) for trial in trials
    ]


def _stimulus(row: _Row, recording: Recording, task: str, settings: Settings) -> str:
    """Return what was presented: of a trial that is a recording, its task."""
    if settings.column is None:
        return task
    name = settings.stimulus
    if name is None:  # nothing says who saw the same: it is a stimulus of its own
        return f"{recording.name} at {row.onset:.3f} s"
    cell = row.cells.get(name, "")
    if cell.lower() in MISSING:
        raise UserError(
            f"{row.where}: the column {name} does not say what was presented: mend trials.stimulus "
            f"in {_file(settings)}, or the table."
        )
    if settings.stimulus_pattern is None:
        return cell
    match = re.fullmatch(settings.stimulus_pattern, cell)
    if match is None or not match[1]:
        raise UserError(
            f"{row.where}: {settings.stimulus_pattern!r} does not match {cell!r} in {name}: mend "
            f"trials.stimulus_pattern in {_file(settings)}."
        )
    return match[1]


def _value(name: str, rating: Rating, row: _Row, stimulus: str, settings: Settings) -> float | None:
    """Return a trial's rating or the number of its class; None where it is missing."""
    if rating.column is None:
        if stimulus not in rating.values:
            raise UserError(
                f"{row.where}: ratings.{name}.values in {_file(settings)} has no {stimulus}: add "
                "it."
            )
        cell = f"{rating.values[stimulus]:.9g}"
    elif rating.column in row.cells:
        cell = row.cells[rating.column]
    else:
        raise UserError(
            f"{row.where}: there is no column {rating.column} (of ratings.{name}), but "
            f"{', '.join(filter(None, row.cells))}: mend {_file(settings)}."
        )
    if cell.lower() in MISSING and cell not in rating.classes:
        return None
    if rating.scale is None:
        return _class_number(cell, name, rating, row)
    value = number(cell, f"{row.where}: {rating.column or name}")
    low, high = rating.scale
    if not low <= value <= high:
        raise UserError(
            f"{row.where}: {rating.column or name} is {value:g}, beyond the scale from {low:g} to "
            f"{high:g} of ratings.{name} in {_file(settings)}: mend either."
        )
    return value


def _class_number(cell: str, name: str, rating: Rating, row: _Row) -> float:
    """Return the number of the class that a cell is of; "2.0" is as good as "2"."""
    for i, known in enumerate(rating.classes):
        try:
            is_it = cell == known or float(cell) == float(known)
        except ValueError:
            is_it = False
        if is_it:
            return float(i)
    raise UserError(
        f"{row.where}: {cell!r} is none of the classes {', '.join(rating.classes)} of "
        f"ratings.{name}: add it, or leave such rows out by trials.pattern."
    )


def _file(settings: Settings) -> str:
    return display_path(settings.path)
