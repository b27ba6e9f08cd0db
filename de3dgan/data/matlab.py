"""Reading files of MATLAB: single variables, and single parts of a variable too large to read.

SciPy reads variables as a whole. Where one variable holds everybody's recordings, `opened` walks
through it as it lies in the file, passes over what is not asked for, and lets SciPy read the rest.
The layout is MathWorks' "MAT-File Format", versions 5 to 7, as little-endian machines write it.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path

#: Kinds of elements (miMATRIX, miCOMPRESSED) and of arrays (mxCELL, mxSTRUCT) that are told apart.
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT = 1, 2

#: Bytes of a file's header, and of what is passed over at once.
_HEADER, _CHUNK = 128, 2**20


def refuse_hdf5(path: Path) -> None:
    """Raise `UserError` if a file is MATLAB's version 7.3, which is HDF5."""
    try:
        with open(path, "rb") as file:
            start = file.read(_HEADER)
    except OSError:
        return  # what is wrong with it is said where it is read
    if start.startswith((b"MATLAB 7.3", b"\x89HDF")):
        raise UserError(
            f"{display_path(path)} is of MATLAB's version 7.3, and 5 to 7 are read: load it in "
            "MATLAB and save it again with the option '-v7'."
        )


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each variable by name, without reading their numbers."""
    from scipy import io as scipy_io

    return {name: shape for name, shape, _ in scipy_io.whosmat(path)}


def variable(path: Path, name: str) -> np.ndarray:
    """Return one variable, reading no other."""
    from scipy import io as scipy_io

    content = scipy_io.loadmat(path, variable_names=[name])
    if name not in content:
        raise ValueError(f"it has no variable {name}")
    return content[name]


def eeg(values: np.ndarray, name: str, n_chans: int, axis: int) -> np.ndarray:
    """Return EEG as it is, refusing what cannot be.

    Parameters
    ----------
    values : array, 2-d
    name : str
        What it is called in the file.
    n_chans : int
        How many channels there must be along `axis`.
    axis : int
        0 or 1.

    Raises
    ------
    ValueError
        If there are more or fewer channels, no sample, or values that are not finite real numbers.
    """
    if values.ndim != 2 or values.shape[axis] != n_chans or not values.size:
        raise ValueError(f"its {name} has the shape {values.shape}, not {n_chans} channels")
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise ValueError(f"its {name} holds values that are no finite numbers")
    return values


class Array:
    """An array in a file: its class and shape are read, and what it holds may be read once.

    Attributes
    ----------
    shape : tuple of int
    name : str
        Empty for cells and fields.
    """

    def __init__(self, stream: _Stream):
        kind, length, _ = stream.tag()
        if kind != _MATRIX:
            raise ValueError("it has something else where an array should be")
        self._stream, self._end = stream, stream.at + length
        self._kind, self.shape, self.name = 0, (0, 0), ""
        self._flags = self._dims = b""
        if length:  # else it is empty, and has no header
            self._flags, self._dims = stream.element(), stream.element()
            self.name = stream.element().decode("latin1")
            self._kind = self._flags[0]
            self.shape = struct.unpack(f"<{len(self._dims) // 4}i", self._dims)

    def fields(self) -> Iterator[tuple[str, Array]]:
        """Go through the fields of a structure of one element, in the order of the file."""
        if self._kind != _STRUCT or self.shape != (1, 1):
            raise ValueError("it has no structure where one should be")
        (length,) = struct.unpack("<i", self._stream.element())
        names = self._stream.element()
        if length < 1:
            raise ValueError("names of fields have no length")
        for start in range(0, len(names), length):
            field = Array(self._stream)
            yield names[start : start + length].split(b"\0")[0].decode("latin1"), field
            field.skip()

    def cells(self) -> Iterator[Array]:
        """Go through the cells of a cell array, in MATLAB's order: the first index runs fastest."""
        if self._kind != _CELL:
            raise ValueError("it has no cell array where one should be")
        for _ in range(int(np.prod(self.shape))):
            cell = Array(self._stream)
            yield cell
            cell.skip()

    def read(self) -> np.ndarray:
        """Return the array as SciPy reads it."""
        from scipy import io as scipy_io

        if not self._flags:
            return np.empty((0, 0))
        content = b"".join(
            struct.pack("<2I", kind, len(part)) + part + bytes(-len(part) % 8)
            for kind, part in ((6, self._flags), (5, self._dims), (1, b"part"))
        )
        content += self._stream.read(self._end - self._stream.at)
        head = self._stream.header + struct.pack("<2I", _MATRIX, len(content))
        return scipy_io.loadmat(io.BytesIO(head + content))["part"]

    def skip(self) -> None:
        """Pass over what was not read."""
        while self._stream.at < self._end:
            self._stream.read(min(_CHUNK, self._end - self._stream.at))


@contextmanager
def opened(path: Path, name: str) -> Iterator[Array]:
    """Open a variable to be read in parts, in the order in which they lie in the file.

    Raises
    ------
    ValueError
        If it is not there, or the file is not of MATLAB's versions 5 to 7.
    """
    with open(path, "rb") as file:
        header = file.read(_HEADER)
        if header[124:] != b"\0\1IM":
            raise ValueError("it is no MAT-file of version 5 to 7, or of a big-endian machine")
        while head := file.read(8):
            kind, length = struct.unpack("<2I", head.ljust(8, b"\0"))
            start = file.tell()
            if kind == _COMPRESSED:
                found = Array(_Stream(file, header, length))
            elif kind == _MATRIX:
                file.seek(start - 8)
                found = Array(_Stream(file, header))
            else:
                raise ValueError("it has something else where a variable should be")
            if found.name == name:
                yield found
                return
            file.seek(start + length)
    raise ValueError(f"it has no variable {name}")


class _Stream:
    """The bytes of a variable, decompressed as they are asked for.

    Attributes
    ----------
    at : int
        How many were read.
    header : bytes
        The file's header.
    """

    def __init__(self, file: BinaryIO, header: bytes, compressed: int | None = None):
        self._file, self._left = file, compressed
        self._zlib = zlib.decompressobj()
        self.header, self.at = header, 0

    def read(self, n: int) -> bytes:
        """Return the next n bytes."""
        self.at += n
        content = self._file.read(n) if self._left is None else b"".join(self._decompressed(n))
        if len(content) < n:
            raise ValueError("it ends within a variable")
        return content

    def _decompressed(self, n: int) -> Iterator[bytes]:
        while n:
            source = self._zlib.unconsumed_tail
            if not source:
                source = self._file.read(min(_CHUNK, self._left))
                self._left -= len(source)
            part = self._zlib.decompress(source, n)
            if not part and (not source or self._zlib.eof):
                return
            n -= len(part)
            yield part

    def tag(self) -> tuple[int, int, bytes]:
        """Return an element's kind, its length in bytes, and what it holds if that is 1 to 4."""
        head = self.read(8)
        kind, length = struct.unpack("<2I", head)
        if kind >> 16:
            return kind & 0xFFFF, kind >> 16, head[4 : 4 + (kind >> 16)]
        return kind, length, b""

    def element(self) -> bytes:
        """Return what an element holds."""
        _, length, content = self.tag()
        return content or self.read(length + -length % 8)[:length]
