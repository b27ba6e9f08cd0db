"""Arrays in pickles from strangers: no code runs, and time and memory are those of the arrays.

A pickle is a program. Python's own interpreter of that program (`pickle`) can be kept from
importing anything, but not from running out of memory or stack on lengths, nesting and copies that
a file asks for. So it is not used, and neither is NumPy's unpickling, which trusts what a file says
of its memory. `_Pickle` below follows the few opcodes of which dictionaries of arrays are made, and
nothing else:

- no name in a file leads to code: those that arrays need stand for four functions of this module,
  any other is refused;
- a file has at most 1,000 opcodes, and each puts at most one small thing on the stack. Strings,
  numbers of an array among them, stay on disk as a place and a length, which must lie in the file;
- an array is read when it is asked for, once its shape has been looked at, and is not copied.

Pickles of protocol 0, which write arrays as escaped text, are not read.
"""

from __future__ import annotations

import codecs
import math
import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from de3dgan.base.errors import UserError

#: Two arrays take some 100 opcodes. What is a name and what is an array's content: bytes.
_MOST_OPCODES = 1000
_SHORT = 256
#: Bytes of a long text that are decoded in one go.
_PIECE = 2**20
#: Strings: the layout of their length, and how they are written.
_STRINGS = {
    b"U": ("<B", "latin1"),
    b"T": ("<I", "latin1"),
    b"C": ("<B", "latin1"),
    b"B": ("<I", "latin1"),
    b"\x8e": ("<Q", "latin1"),
    b"\x96": ("<Q", "latin1"),
    b"\x8c": ("<B", "utf-8"),
    b"X": ("<I", "utf-8"),
    b"\x8d": ("<Q", "utf-8"),
}


def find_arrays(file: BinaryIO, name: str) -> dict[str, Array]:
    """Return the arrays in a pickled dictionary, by key, without reading their numbers.

    Parameters
    ----------
    file : file
        The pickle, open for reading.
    name : str
        What messages call it.

    Raises
    ------
    ValueError
        Saying what is wrong, if it is no such pickle.
    UserError
        If it names anything that could be code.
    """
    try:
        content = _Pickle(file, name).content()
    except (TypeError, AttributeError, LookupError):
        # They come of taking from an empty stack, of calling a number and the like.
        raise ValueError("it is no pickle of arrays") from None
    if not isinstance(content, dict):
        raise ValueError("it holds no dictionary")
    return {key: value for key, value in content.items() if isinstance(value, Array)}


class _Pickle:
    """Follows the opcodes of a pickle that is a dictionary of arrays, of any protocol.

    `pickletools` of Python's library documents every opcode, and what it takes and leaves.
    """

    def __init__(self, file: BinaryIO, name: str):
        self.file, self.name = file, name
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        # A mark begins a new stack, and what collects the items since the mark ends it.
        self.stacks: list[list[Any]] = [[]]
        self.memo: dict[int, Any] = {}

    def content(self) -> Any:
        """Return what the pickle describes; `ValueError` says what is wrong with it."""
        for _ in range(_MOST_OPCODES):
            opcode = self.take(1)
            if opcode == b".":
                if len(self.stacks) > 1 or len(self.stacks[0]) > 1 or self.file.read(1):
                    raise ValueError("it goes on after its end")
                return self.stacks[0].pop()
            self.follow(opcode)
        raise ValueError("its pickle has more parts than two arrays have")

    def follow(self, opcode: bytes) -> None:
        """Do what one opcode says."""
        stack = self.stacks[-1]
        match opcode:
            # Constants and numbers.
            case b"N":
                stack.append(None)
            case b"\x88" | b"\x89":
                stack.append(opcode == b"\x88")
            case b"K" | b"M" | b"J" | b"G":
                layout = {b"K": "<B", b"M": "<H", b"J": "<i", b"G": ">d"}[opcode]
                stack.append(self.number(layout))
            case b"I":
                stack.append(self.line_number())
            case b"\x8a":
                stack.append(int.from_bytes(self.take(self.number("<B")), "little", signed=True))
            # Strings of bytes or text, after their length.
            case _ if opcode in _STRINGS:
                length, coding = _STRINGS[opcode]
                stack.append(self.string(self.number(length), coding))
            # Collections. A key must be a string, so that nothing can be slow to hash.
            case b"(":
                self.stacks.append([])
            case b")":
                stack.append(())
            case b"\x85" | b"\x86" | b"\x87":
                stack.append(tuple(reversed([stack.pop() for _ in range(opcode[0] - 0x84)])))
            case b"t":
                self.push(tuple(self.items()))
            case b"]":
                stack.append([])
            case b"l":
                self.push(self.items())
            case b"a":
                item = stack.pop()
                self.extend([item])
            case b"e":
                self.extend(self.items())
            case b"}":
                stack.append({})
            case b"d":
                items = self.items()
                self.push({})
                self.update(items)
            case b"s":
                value, key = stack.pop(), stack.pop()
                self.update([key, value])
            case b"u":
                self.update(self.items())
            # What comes again is put into a memo, and got from it.
            case b"q" | b"r" | b"\x94":
                self.memo[self.index(opcode)] = stack[-1]
            case b"h" | b"j":
                stack.append(self.memo[self.index(opcode)])
            # Arrays and their types: names, calls of them and states.
            case b"c":
                stack.append(self.named(self.line(), self.line()))
            case b"\x93":
                name, module = stack.pop(), stack.pop()
                stack.append(self.named(module.short, name.short))
            case b"R":
                arguments, function = stack.pop(), stack.pop()
                stack.append(function.call(*arguments))
            case b"b":
                state = stack.pop()
                stack[-1].set_state(*state)
            # Protocol and frames, which say nothing of the content.
            case b"\x80":
                self.take(1)
            case b"\x95":
                if self.number("<Q") > self.size - self.file.tell():
                    raise ValueError("it ends too early")
            case _:
                raise ValueError(f"its pickle has a part {opcode!r}, which no array has")

    def take(self, length: int) -> bytes:
        """Return the next few bytes."""
        taken = self.file.read(length)
        if len(taken) < length:
            raise ValueError("it ends too early")
        return taken

    def number(self, layout: str) -> int:
        """Return the next number, laid out as `struct` describes it."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        """Return the next line, a short one."""
        line = self.file.readline(_SHORT)
        if not line.endswith(b"\n"):
            raise ValueError("it ends too early, or a name or number in it is too long")
        return line[:-1].decode("latin1")

    def line_number(self) -> int:
        """Return the next line, a whole number."""
        line = self.line()
        if not re.fullmatch(r"-?[0-9]+", line):
            raise ValueError("it has a number that is none")
        return int(line)

    def string(self, length: int, coding: str) -> _String:
        """Return the place of a string of `length` bytes, and go to its end."""
        place = self.file.tell()
        if length > self.size - place:
            raise ValueError("it ends too early")
        short = None
        if length <= _SHORT:
            short = b"".join(_pieces(self.file, length, coding)).decode("latin1")
        self.file.seek(place + length)
        return _String(place, length, coding, short)

    def index(self, opcode: bytes) -> int:
        """Return the place in the memo that an opcode names."""
        if opcode == b"\x94":
            return len(self.memo)
        return self.number("<B" if opcode in b"qh" else "<I")

    def items(self) -> list[Any]:
        """Return what was put on the stack since the last mark, and take it off."""
        return self.stacks.pop()

    def push(self, value: Any) -> None:
        """Put `value` on the stack that `items` has come back to."""
        self.stacks[-1].append(value)

    def extend(self, items: list[Any]) -> None:
        """Add to the list on the stack."""
        target = self.stacks[-1][-1]
        if not isinstance(target, list):
            raise ValueError("its pickle adds to what is no list")
        target += items

    def update(self, items: list[Any]) -> None:
        """Add keys and values, which alternate, to the dictionary on the stack."""
        target = self.stacks[-1][-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("its pickle adds to what is no dictionary")
        target.update(
            {key.short: value for key, value in zip(items[::2], items[1::2], strict=True)}
        )

    def named(self, module: str, name: str) -> _Function:
        """Return this module's stand-in for a global of the file, from a fixed table."""
        if (module, name) not in _GLOBALS:
            wanted = f"{module}.{name}".encode("unicode_escape").decode()[:100]
            raise UserError(
                f"{self.name} tries to import {wanted}: it is not a DEAP file, and was not run."
            )
        return _Function(_GLOBALS[module, name])


@dataclass(frozen=True)
class _Function:
    """A function of this module that a file may call."""

    call: Callable[..., Any]


@dataclass(frozen=True)
class _String:
    """A string of the file, as a place in it.

    Python 2 wrote an array's bytes as a string, and Python 3 for Python 2 as text, of which each
    character is a byte. Here text and bytes are one: `short` and what is read are Latin-1.
    """

    place: int
    length: int
    coding: str
    short: str | None  # the string itself, unless it is long

    def read(self, file: BinaryIO, dtype: np.dtype, count: int) -> np.ndarray:
        """Return the string as `count` numbers; `ValueError` if it does not hold that many."""
        n_bytes = count * dtype.itemsize
        file.seek(self.place)
        if self.coding == "latin1":
            if self.length != n_bytes:
                raise ValueError(f"an array has not the {n_bytes} bytes that its shape needs")
            return np.fromfile(file, dtype, count)
        raw = bytearray()
        for piece in _pieces(file, self.length, self.coding):
            raw += piece
            if len(raw) > n_bytes:
                break
        if len(raw) != n_bytes:
            raise ValueError(f"an array has not the {n_bytes} bytes that its shape needs")
        return np.frombuffer(raw, dtype)


class _Dtype:
    """Stands for `numpy.dtype`, of plain numbers only: "f8" and a byte order."""

    def __init__(self, code: _String, *_: object):
        if not re.fullmatch("[iu][1248]|f[248]", code.short or ""):
            raise ValueError(f"an array of type {ascii(code.short)} holds no plain numbers")
        self.dtype = np.dtype(code.short)

    def set_state(self, _version: Any, order: _String, *_: object) -> None:
        """Take over the byte order; the rest is for other types and NumPy's inner workings."""
        if order.short not in tuple("<>=|"):
            raise ValueError(f"an array has the byte order {ascii(order.short)}")
        self.dtype = self.dtype.newbyteorder(order.short)


class Array:
    """Stands for `numpy.ndarray` as it is rebuilt: first an empty one, then its state."""

    def __init__(self, *_: object):
        self.shape: tuple[int, ...] = ()

    def set_state(self, _version: Any, shape: Any, dtype: Any, fortran: Any, raw: Any) -> None:
        """Take over where the numbers lie, and what they are."""
        plain = isinstance(shape, tuple) and len(shape) <= 32
        if not plain or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
            raise ValueError("an array has a shape that is none")
        if not (isinstance(dtype, _Dtype) and isinstance(raw, _String)):
            raise ValueError("an array holds no plain numbers")
        self.shape, self.raw, self.order = shape, raw, "F" if fortran else "C"
        self.dtype = dtype.dtype

    def read(self, file: BinaryIO) -> np.ndarray:
        """Return the array, in this machine's byte order."""
        array = self.raw.read(file, self.dtype, math.prod(self.shape))
        array = array.reshape(self.shape, order=self.order)
        return array.astype(self.dtype.newbyteorder("="), copy=False)


def _from_buffer(raw: _String, dtype: _Dtype, shape: Any, order: _String) -> Array:
    """Stand for `numpy._core.numeric._frombuffer`: protocol 5 names everything at once."""
    array = Array()
    array.set_state(1, shape, dtype, order.short == "F", raw)
    return array


def _encode(text: _String, coding: _String) -> _String:
    """Stand for `_codecs.encode`, by which Python 3 writes bytes for Python 2 to read."""
    if coding.short != "latin1":
        raise ValueError(f"it has bytes in the encoding {ascii(coding.short)}")
    return text


def _refuse_call(*_: object) -> None:
    """Stand for the class of an array, which is only handed around."""
    raise ValueError("it makes an array in a way that no pickle does")


def _pieces(file: BinaryIO, length: int, coding: str) -> Iterator[bytes]:
    """Yield the bytes that a string of the file stands for, in pieces that fit into memory."""
    decoder = codecs.getincrementaldecoder(coding)()
    while length:
        piece = file.read(min(length, _PIECE))
        if not piece:
            raise ValueError("it ends too early")
        length -= len(piece)
        yield decoder.decode(piece, final=not length).encode("latin1")


#: All that a file may name, by the names of NumPy before and after its version 2.
_GLOBALS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _refuse_call,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): Array,
    ("numpy._core.multiarray", "_reconstruct"): Array,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
}
