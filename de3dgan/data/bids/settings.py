"""The file of settings of a BIDS data set: which rows of its events are trials, and what they mean.

BIDS says where files are, and not which events are trials or which column is a rating. That is
what a short TOML file says, of which ``docs/data/bids.md`` explains every key; those that come with
the repository are in `de3dgan.base.paths.SHIPPED`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from de3dgan.base.errors import UserError
from de3dgan.base.paths import SHIPPED, display_path
from de3dgan.base.schema import (
    OBJECT,
    TEXT,
    TRUTH,
    FieldType,
    check,
    list_of,
    number,
    one_of,
    whole,
)
from de3dgan.data.store import FIXED_COLUMNS

_REMEDY = "docs/data/bids.md has every key, and an example."


def _compiles(value: Any) -> bool:
    try:
        re.compile(value)
    except (re.error, TypeError):
        return False
    return True


_PATTERN = FieldType("a regular expression", _compiles)
_TEXTS = FieldType(
    "a text, or a list of them", lambda value: TEXT.holds(value) or list_of(TEXT).holds(value)
)
_BASELINE = FieldType(
    "[start, stop] in seconds, or a table with the keys task, start and stop",
    lambda value: isinstance(value, Mapping) or list_of(number(), 2).holds(value),
)
_CLASSES = FieldType(
    "a list of two or more values, or a table with the names of two or more",
    lambda value: (
        isinstance(value, list | Mapping)
        and len(value) > 1
        and all(
            TEXT.holds(name) or whole().holds(name)
            for name in (value.values() if isinstance(value, Mapping) else value)
        )
    ),
)

#: Every key, see `de3dgan.base.schema`.
_FIELDS = {
    "task": _TEXTS,
    "sessions?": list_of(TEXT),
    "runs?": list_of(TEXT),
    "subjects_left_out?": list_of(TEXT),
    "trials?": OBJECT,
    "trials?.column?": TEXT,
    "trials?.pattern?": _PATTERN,
    "trials?.stimulus?": TEXT,
    "trials?.stimulus_pattern?": _PATTERN,
    "trials?.onset_unit?": one_of("s", "ms", "samples"),
    "trials?.start?": number(),
    "trials?.stop?": number(),
    "trials?.last?": number(1),
    "baseline?": _BASELINE,
    "baseline?.task?": TEXT,
    "baseline?.start?": number(0),
    "baseline?.stop?": number(0),
    "trial_seconds?": whole(1),
    "ratings": OBJECT,
    "ratings.*": OBJECT,
    "ratings.*.column?": TEXT,
    "ratings.*.values?": OBJECT,
    "ratings.*.values?.*": number(),
    "ratings.*.scale?": list_of(number(), 2),
    "ratings.*.classes?": _CLASSES,
    "ratings_from?": one_of("events", "beh"),
    "beh_trial_column?": TEXT,
    "missing?": one_of("refuse", "leave out"),
    "rename?": OBJECT,
    "rename?.*": TEXT,
    "drop?": list_of(TEXT),
    "end_cut?": number(0),
    "unit?": one_of("V", "mV", "uV"),
    "montage?": TEXT,
    "cleaned_apart?": TRUTH,
}


@dataclass(frozen=True)
class Rating:
    """Where a rating or a class comes from.

    Attributes
    ----------
    column : str or None
        Of the events or of the behavioural file; None if `values` has it.
    values : dict of str to float
        Of each stimulus.
    scale : (float, float) or None
        Lowest and highest value; None for classes.
    classes : dict of str to str
        Name of each class by what the file has for it, in the order of their numbers.
    """

    column: str | None
    values: dict[str, float]
    scale: tuple[float, float] | None
    classes: dict[str, str]


@dataclass(frozen=True)
class Settings:
    """What a file of settings says; its keys are explained in ``docs/data/bids.md``.

    Attributes
    ----------
    path : Path
        The file.
    task, sessions, runs, subjects_left_out : tuple of str
        Which recordings are taken; all sessions and runs if theirs are empty.
    column, pattern : str or None
        A row of the events is a trial if this column matches; if None, a recording is one.
    stimulus, stimulus_pattern : str or None
        Column of what was presented, and the part of it that is the name: the first group.
    onset_unit : str
        Of the columns onset and duration: "s", "ms" or "samples".
    start, stop, last : float or None
        Part of a trial in seconds from its onset; of that, the last so many seconds.
    baseline : (float, float) or None
        Seconds from a trial's onset or, with `baseline_task`, in that recording.
    baseline_task : str or None
        Task of a recording that holds the baseline of all trials of a session.
    trial_seconds : int or None
        Length of the pieces of a trial.
    ratings : dict of str to Rating
        By name.
    ratings_from : str
        "events" or "beh".
    beh_trial_column : str or None
        Number of the trial, from 1 on, of a row of the behavioural file.
    missing : str
        What becomes of a trial without a rating: "refuse" or "leave out".
    rename : dict of str to str
        New names of channels.
    drop : tuple of str
        Channels that are left out.
    end_cut : float
        Seconds at the end of each recording that hold no EEG.
    unit : str or None
        Of EEG whose file does not say.
    montage : str or None
        Name of MNE's standard montage.
    cleaned_apart : bool
        See `de3dgan.data.sources.Subject`.
    """

    path: Path
    task: tuple[str, ...]
    ratings: dict[str, Rating]
    sessions: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    subjects_left_out: tuple[str, ...] = ()
    column: str | None = None
    pattern: str | None = None
    stimulus: str | None = None
    stimulus_pattern: str | None = None
    onset_unit: str = "s"
    start: float = 0
    stop: float | None = None
    last: float | None = None
    baseline: tuple[float, float] | None = None
    baseline_task: str | None = None
    trial_seconds: int | None = None
    ratings_from: str = "events"
    beh_trial_column: str | None = None
    missing: str = "refuse"
    rename: dict[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    end_cut: float = 0
    unit: str | None = None
    montage: str | None = None
    cleaned_apart: bool = False


def settings_file(settings: Path | None) -> Path:
    """Return the file that `settings` names: a path, or the bare name of one in `SHIPPED`.

    Raises
    ------
    UserError
        If there is none, saying what to give.
    """
    shipped = {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}
    what = f"one of those that come with the repository ({', '.join(shipped)}) or a file of yours"
    if settings is None:
        raise UserError(
            f"A BIDS data set needs --settings, which say what its trials are: give {what}, which "
            "docs/data/bids.md shows how to write in five minutes."
        )
    if settings.is_file():
        return settings
    if settings.name.removesuffix(".toml") not in shipped:
        raise UserError(f"There is no {display_path(settings)}: give --settings {what}.")
    return shipped[settings.name.removesuffix(".toml")]


def read_settings(path: Path) -> Settings:
    """Read a file of settings.

    Raises
    ------
    UserError
        Naming the file and the key that is wrong.
    """
    where = display_path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = str(error).rstrip(".")
        raise UserError(f"{where} is no TOML file ({reason}): {_REMEDY}") from None
    except OSError as error:
        raise UserError(f"{where} cannot be read ({error.strerror}): give another one.") from None
    content = json.loads(json.dumps(content, default=str))  # dates are no values here
    for key in _keys(content, ""):
        if not any(re.fullmatch(_as_pattern(known), key) for known in _FIELDS):
            raise UserError(f"{where} has the key {key}, which is none: {_REMEDY}")
    check(content, _FIELDS, path, _REMEDY)
    content |= content.pop("trials", {})
    content["ratings"] = {
        name: _rating(name, rating, where) for name, rating in content["ratings"].items()
    }
    if isinstance(content["task"], str):
        content["task"] = [content["task"]]
    baseline = content.get("baseline")
    if isinstance(baseline, Mapping):
        if set(baseline) != {"task", "start", "stop"}:
            raise UserError(f"{where}: the table baseline needs task, start and stop: {_REMEDY}")
        content["baseline_task"] = baseline["task"]
        content["baseline"] = [baseline["start"], baseline["stop"]]
    settings = Settings(
        path=path,
        **{
            key: tuple(value) if isinstance(value, list) else value
            for key, value in content.items()
        },
    )
    problem = _problem(settings)
    if problem:
        raise UserError(f"{where}: {problem}: {_REMEDY}")
    return settings


def _keys(content: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield the dotted name of every key, outermost first; dots in keys are no dots there."""
    for key, value in content.items():
        dotted = f"{name}.{key.replace('.', ' ')}".lstrip(".")
        yield dotted
        if isinstance(value, Mapping) and key != "classes":
            yield from _keys(value, dotted)


def _as_pattern(known: str) -> str:
    """Return the regular expression of a key of `_FIELDS`."""
    return r"\.".join("[^.]*" if key == "*" else key.rstrip("?") for key in known.split("."))


def _rating(name: str, content: Mapping[str, Any], where: str) -> Rating:
    """Return a rating; raise `UserError` if it is not said where it comes from or what it is."""
    if not name.isidentifier() or name in FIXED_COLUMNS:
        raise UserError(
            f"{where}: a rating cannot be called {name!r}, but by letters, digits and _, and not "
            f"{', '.join(FIXED_COLUMNS)}: call it something else."
        )
    for one, other in (("column", "values"), ("scale", "classes")):
        if (one in content) == (other in content):
            raise UserError(f"{where}: ratings.{name} needs either {one} or {other}: {_REMEDY}")
    scale = content.get("scale")
    if scale and not scale[0] < scale[1]:
        raise UserError(f"{where}: ratings.{name}.scale goes from low to high: {_REMEDY}")
    classes = content.get("classes", {})
    if isinstance(classes, list):
        classes = {str(value): value for value in classes}
    return Rating(
        column=content.get("column"),
        values=content.get("values", {}),
        scale=tuple(scale) if scale else None,
        classes={value: str(called) for value, called in classes.items()},
    )


def _problem(settings: Settings) -> str | None:
    """Return what in the settings does not go together, if anything."""
    if not settings.ratings:
        return "it has no rating"
    if (settings.column is None) != (settings.pattern is None):
        return "trials.column and trials.pattern are given together, or neither"
    by_column = [name for name, rating in settings.ratings.items() if rating.column]
    if settings.column is None and by_column and settings.ratings_from == "events":
        return f"ratings.{by_column[0]}.column is one of events, and trials.column is missing"
    if settings.stimulus_pattern and not re.compile(settings.stimulus_pattern).groups:
        return "trials.stimulus_pattern has no group, such as (.*)_[0-9]+ has"
    if settings.stop is not None and settings.stop <= settings.start:
        return "trials.stop is not after trials.start"
    if settings.baseline and settings.baseline[1] - settings.baseline[0] < 2:
        return "baseline is shorter than 2 s"
    if settings.baseline_task and settings.baseline_task not in settings.task:
        return f"baseline.task, {settings.baseline_task}, is none of task"
    return None
