"""Checks of what files hold, field by field, with sentences that name the field.

::

    check(
        content,
        {"fold": whole(0, 4), "copies.*.seconds": number(0), "artefacts.*.stage": TEXT},
        where="runs/…/leakage.json",
        remedy="rerun the stage with --restart.",
    )

A field is dotted from the outermost object inwards. ``*`` stands for every key of an object and
every place of a list; ``?`` ends a key that may be missing. Whoever gives the fields lists an
object before what is in it, so that the message is about the outermost thing that is wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NoReturn

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path

_MISSING = object()


@dataclass(frozen=True)
class FieldType:
    """What a field may hold.

    Attributes
    ----------
    text : str
        In words, for messages: "must be …".
    holds : callable
        Returns whether a value is of this kind; given whatever the file has there.
    read : callable
        Makes a value of the text in a cell of a CSV file; raises ValueError where that is none.
    """

    text: str
    holds: Callable[[Any], bool]
    read: Callable[[str], Any] = str


def _range(lowest: float, highest: float) -> str:
    if math.isfinite(highest):
        return f" from {lowest:g} to {highest:g}"
    return f" of {lowest:g} or more" if math.isfinite(lowest) else ""


def number(lowest: float = -math.inf, highest: float = math.inf) -> FieldType:
    """Return the kind of finite numbers in a range."""

    def holds(value: Any) -> bool:
        is_one = isinstance(value, Real) and not isinstance(value, bool)
        return is_one and math.isfinite(value) and lowest <= value <= highest

    return FieldType(f"a finite number{_range(lowest, highest)}", holds, float)


def whole(lowest: float = -math.inf, highest: float = math.inf) -> FieldType:
    """Return the kind of whole numbers in a range."""

    def holds(value: Any) -> bool:
        is_one = isinstance(value, Integral) and not isinstance(value, bool)
        return is_one and lowest <= value <= highest

    return FieldType(f"a whole number{_range(lowest, highest)}", holds, int)


def one_of(*values: Any) -> FieldType:
    """Return the kind of these values."""
    return FieldType(f"one of {', '.join(map(str, values))}", lambda value: value in values)


def list_of(kind: FieldType, n: int | None = None) -> FieldType:
    """Return the kind of lists of `n` (or at least one) values of a kind."""
    length = "one or more" if n is None else str(n)

    def holds(value: Any) -> bool:
        fits = isinstance(value, list | tuple) and (len(value) == n if n is not None else value)
        return bool(fits) and all(map(kind.holds, value))

    return FieldType(f"a list of {length}, each {kind.text}", holds)


def or_null(kind: FieldType) -> FieldType:
    """Return the kind of values of a kind, or null."""
    return FieldType(f"{kind.text}, or null", lambda value: value is None or kind.holds(value))


TEXT = FieldType("a text", lambda value: isinstance(value, str) and bool(value))
TRUTH = FieldType("true or false", lambda value: isinstance(value, bool))
OBJECT = FieldType("an object", lambda value: isinstance(value, Mapping))
LIST = FieldType("a list", lambda value: isinstance(value, list | tuple))


def check(content: Any, fields: Mapping[str, FieldType], where: str | Path, remedy: str) -> None:
    """Refuse an object one of whose fields is not of its kind.

    Parameters
    ----------
    content : object
        What was read from a file.
    fields : dict of str to FieldType
        See the module; they are checked in this order.
    where : str or Path
        The file.
    remedy : str
        What mends it, for the end of the sentence.

    Raises
    ------
    UserError
        Naming the file, the first field that is wrong, what is there and what has to be.
    """
    if not isinstance(content, Mapping):
        _refuse(where, "what it holds", content, OBJECT, remedy)
    for field, kind in fields.items():
        for name, value in _values(content, field.split("."), ""):
            if value is _MISSING or not kind.holds(value):
                _refuse(where, name, value, kind, remedy)


def check_finite(content: Any, where: str | Path, remedy: str) -> None:
    """Refuse NaN and infinity anywhere in what was read from a JSON file; see `check`."""
    for name, value in non_finite(content):
        _refuse(where, name, value, number(), remedy)


def non_finite(content: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Yield each NaN and infinity in nested objects and lists, with its dotted name."""
    if isinstance(content, float) and not math.isfinite(content):
        yield name, content
    for at, value in _inside(content).items():
        yield from non_finite(value, f"{name}.{at}".lstrip("."))


def column(
    table: Mapping[str, Sequence[str]], name: str, kind: FieldType, where: Path, remedy: str
) -> list[Any]:
    """Return a column of a table as values of a kind.

    Raises
    ------
    UserError
        If there is no such column, or naming the line where a value is of another kind.
    """
    if name not in table:
        _refuse(where, f"column {name}", _MISSING, kind, remedy)
    values = []
    for line, cell in enumerate(table[name], start=2):
        try:
            value = kind.read(cell)
        except ValueError:
            value = _MISSING
        if value is _MISSING or not kind.holds(value):
            _refuse(where, f"{name} in line {line}", cell, kind, remedy)
        values.append(value)
    return values


def _values(content: Any, keys: Sequence[str], name: str) -> Iterator[tuple[str, Any]]:
    """Yield every place that dotted keys lead to, with its name and its value."""
    if not keys:
        yield name, content
        return
    key, optional = keys[0].rstrip("?"), keys[0].endswith("?")
    inside = _inside(content)
    if key != "*":
        inside = {key: inside[key]} if key in inside else {} if optional else {key: _MISSING}
    for at, value in inside.items():
        rest = keys[1:] if value is not _MISSING else ()
        yield from _values(value, rest, f"{name}.{at}".lstrip("."))


def _inside(content: Any) -> Mapping[Any, Any]:
    """Return what an object or a list holds, by key or by place."""
    if isinstance(content, list | tuple):
        return dict(enumerate(content))
    return content if isinstance(content, Mapping) else {}


def _refuse(where: str | Path, name: str, value: Any, kind: FieldType, remedy: str) -> NoReturn:
    where = display_path(where) if isinstance(where, Path) else where
    is_ = "missing" if value is _MISSING else _brief(value)
    raise UserError(f"{where} is damaged: {name} is {is_}, and must be {kind.text}: {remedy}")


def _brief(value: Any) -> str:
    """Return a value as a message shows it, in a few words."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:36]}…"
