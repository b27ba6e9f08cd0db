"""Reading pickled arrays of strangers, and nothing else that a pickle can ask for.

A pickle is a program, and those of data sets come from the internet: they are read by an unpickler
that admits arrays of plain numbers and runs nothing. A source reads a file with it through
`de3dgan.data.bounded.read_bounded`, for a pickle can ask for more memory than there is.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

#: Types of arrays that are plain numbers.
_CODES = "i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split()


def unpickled(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    """Return the array that a file holds, or the dictionary of arrays, of Python 2 or 3.

    What is in a dictionary and no array is left out, and so is all of a file that holds neither.

    Raises
    ------
    ValueError
        If the file names anything but arrays of plain numbers, or goes on after its end. Other
        exceptions come from `pickle` itself: `read_bounded` makes a sentence of any of them.
    """
    try:
        with open(path, "rb") as file:
            # Python 2's strings are read as bytes, for as text the numbers would be copied.
            content = _ArrayUnpickler(file, encoding="bytes").load()
            if file.read(1):
                raise ValueError("it goes on after its end")
        if isinstance(content, _Array):
            return content.numbers
        items = content.items() if isinstance(content, dict) else ()
        return {_text(key): value.numbers for key, value in items if isinstance(value, _Array)}
    except (TypeError, AttributeError, LookupError):  # what is no array was used as one
        raise ValueError("it is no pickle of arrays") from None


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays of plain numbers, and runs nothing that a file names.

    Not even NumPy's own unpickling is let in: a type whose state says that pointers are numbers
    would have it follow them. What a file names instead are stand-ins, made anew for each name, as
    a file may set the attributes of what it gets hold of.
    """

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return the stand-in for a global of the file; refuse all but those of arrays."""
        stand_ins = {
            # The names of NumPy from version 2 on differ in an underscore.
            "numpy.ndarray": lambda: None,  # only handed around
            "numpy.dtype": lambda code, *_: _Dtype(code),
            "numpy.core.multiarray._reconstruct": lambda *_: _Array(),
            # Protocol 5 names everything at once.
            "numpy.core.numeric._frombuffer": lambda *args: _Array(*args),
            # By this, Python 3 writes bytes for Python 2 to read.
            "_codecs.encode": lambda text, coding: _encoded(text, coding),
        }
        wanted = f"{module}.{name}".replace("numpy._core.", "numpy.core.", 1)
        if wanted not in stand_ins:
            raise ValueError(f"it tries to import {wanted[:100]}, which was not run")
        return stand_ins[wanted]


class _Dtype:
    """Stands for `numpy.dtype`, of plain numbers only: "f8" and a byte order."""

    def __init__(self, code: Any):
        self.dtype = np.dtype(_one_of(_CODES, code, "type"))

    def __setstate__(self, state: Any) -> None:
        """Take over the byte order; the rest is for other types and NumPy's inner workings."""
        self.dtype = self.dtype.newbyteorder(_one_of("<>=|", state[1], "byte order"))


class _Array:
    """Stands for `numpy.ndarray`: an empty one is made first, and then given its state."""

    numbers = np.empty(0)

    def __init__(self, *state: Any):
        if state:
            self._set(*state)

    def __setstate__(self, state: Any) -> None:
        """Take over the numbers."""
        _, shape, dtype, is_fortran, numbers = state
        self._set(numbers, dtype, shape, "F" if is_fortran else "C")

    def _set(self, raw: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> None:
        if min(shape, default=0) < 0:
            raise ValueError(f"an array has the shape {shape}")
        numbers = np.frombuffer(raw, dtype.dtype)
        if axes:  # the order in which they lie in memory
            self.numbers = numbers.reshape(shape).transpose(axes)
        else:
            self.numbers = numbers.reshape(shape, order=order)


def _encoded(text: str, coding: Any) -> bytes:
    return text.encode(_one_of(["latin1"], coding, "encoding"))


def _one_of(allowed: Iterable[str], value: Any, name: str) -> str:
    if _text(value) not in tuple(allowed):
        raise ValueError(f"an array has the {name} {_text(value)!r}, which holds no plain numbers")
    return _text(value)


def _text(value: Any) -> str:
    """Return text for bytes, as which Python 2's strings are read."""
    value = value.decode("latin1") if isinstance(value, bytes) else value
    if not isinstance(value, str):
        raise TypeError
    return value
