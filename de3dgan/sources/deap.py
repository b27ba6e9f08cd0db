"""DEAP (Koelstra et al. 2012): 32 people watching 40 one-minute music videos.

Its preprocessed files `sNN.dat` hold a dictionary of two arrays, pickled by Python 2: ``data``
(40, 40, 8064), which is 40 trials x (32 EEG + 8 peripheral channels) x (3 s baseline + 60 s at
128 Hz), in µV, and ``labels`` (40, 4), each from 1 to 9.

A pickle is a program, and these come from the internet. Here nothing that a file names is ever
imported: the few names that arrays need stand for classes of this module, which keep plain numbers
only, and any other name is refused. NumPy's own unpickling is not used either: it trusts what a
file says of its memory.
"""

from __future__ import annotations

import pickle
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from de3dgan.errors import UserError
from de3dgan.files import atomic
from de3dgan.montage import DEAP_CHANNELS
from de3dgan.paths import shown
from de3dgan.sources import SFREQ, Segment, Subject, Trial

DEFAULT_DIR = "eeg_dataset/DEAP/data_preprocessed_python"

#: What the columns of ``labels`` are.
RATINGS = ("valence", "arousal", "dominance", "liking")
#: EEG and peripheral channels of ``data``, and its samples: 3 s of baseline, 60 s of trial.
N_CHANNELS = 40
BASELINE = 3 * SFREQ
N_TIMES = BASELINE + 60 * SFREQ


def find(data_dir: Path) -> dict[str, list[Path]]:
    """Return each subject's file; `UserError`, saying how to get DEAP, if there is none."""
    files = {path.stem: [path] for path in sorted(Path(data_dir).glob("s[0-9][0-9].dat"))}
    if not files:
        raise UserError(
            f"There is no s01.dat in {shown(data_dir)}: DEAP is licensed to each user, so ask for "
            "access at www.eecs.qmul.ac.uk/mmv/datasets/deap/ and unzip its "
            "data_preprocessed_python.zip there, or simulate recordings with `python -m "
            "de3dgan.synthetic --out-dir eeg_dataset/simulated` and give that as --data-dir."
        )
    return files


def read(subject: str, files: list[Path]) -> Subject:
    """Read one subject's `.dat`: a recording, a baseline and a trial per video."""
    (path,) = files
    content = _load(path)
    data, labels = content["data"], content["labels"]
    if data.ndim != 3 or not len(data) or data.shape[1:] != (N_CHANNELS, N_TIMES):
        raise UserError(
            f"{shown(path)} has data of shape {data.shape}, not (trials, {N_CHANNELS}, {N_TIMES})."
        )
    if labels.shape != (len(data), len(RATINGS)):
        raise UserError(
            f"{shown(path)} has labels of shape {labels.shape}, not {(len(data), len(RATINGS))}."
        )
    if not ((labels >= 1) & (labels <= 9)).all():
        raise UserError(f"{shown(path)} has labels that are not numbers from 1 to 9.")
    return Subject(
        subject=subject,
        ch_names=DEAP_CHANNELS,
        recordings=list(data[:, : len(DEAP_CHANNELS)]),
        baselines=[Segment(trial, 0, BASELINE) for trial in range(len(data))],
        trials=[
            Trial(
                segment=Segment(trial, BASELINE, N_TIMES),
                baseline=trial,
                stimulus=f"video{trial + 1:02d}",
                ratings=dict(zip(RATINGS, map(float, ratings), strict=True)),
            )
            for trial, ratings in enumerate(labels)
        ],
    )


def write(path: Path, data: np.ndarray, labels: np.ndarray) -> None:
    """Write a `.dat` as Python 2 pickled it (protocol 2), without a copy and atomically.

    Parameters
    ----------
    path : Path
        The file; `find` sees it if it is named sNN.dat.
    data : array, (n_trials, 40, 8064)
        32 EEG channels in µV and 8 peripheral ones, 3 s of baseline and 60 s of trial at 128 Hz.
    labels : array, (n_trials, 4)
        `RATINGS`, each from 1 to 9.

    Notes
    -----
    Python 3 cannot write that: it has no strings of bytes, and would encode an array's bytes as
    text of half as much again. With Python 2's opcodes, whatever reads DEAP reads these files.
    """

    def string(text: str) -> bytes:
        return b"U" + bytes([len(text)]) + text.encode()

    def integers(*numbers: int) -> bytes:
        return b"".join(b"J" + struct.pack("<i", number) for number in numbers)

    # An array is an empty one, made by a call (R), that is then given its state (b): version,
    # shape, type, no Fortran order, bytes. So is its type.
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
    empty += integers(0) + b"\x85" + string("b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + string("f8") + integers(0, 1) + b"\x87R"
    dtype += b"(" + integers(3) + string("<") + b"NNN" + integers(-1, -1, 0) + b"tb"
    with atomic(path) as file:
        file.write(b"\x80\x02}(")
        for name, array in {"labels": labels, "data": data}.items():
            array = np.ascontiguousarray(array, dtype="<f8")
            file.write(string(name) + empty + b"(" + integers(1))
            file.write(b"(" + integers(*array.shape) + b"t" + dtype + b"\x89")
            file.write(b"T" + struct.pack("<i", array.nbytes))
            file.write(array.data)
            file.write(b"tb")
        file.write(b"u.")


def _load(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays ``data`` and ``labels`` of a `.dat`, and run nothing that it holds."""
    try:
        with open(path, "rb") as file:
            content = _ArrayUnpickler(file, path.name).load()
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
        raise UserError(f"{shown(path)} is damaged or no DEAP file: {reason}.") from None
    content = content if isinstance(content, dict) else {}
    arrays = {name: getattr(content.get(name), "array", None) for name in ("data", "labels")}
    if any(array is None for array in arrays.values()):
        raise UserError(f"{shown(path)} is no DEAP file: it lacks the arrays data and labels.")
    return arrays


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler of dictionaries, lists, numbers, strings and numeric arrays, of nothing else."""

    def __init__(self, file: Any, name: str):
        # Python 2 wrote an array's bytes as a string; as Latin-1, characters and bytes are one.
        super().__init__(file, encoding="latin1")
        self.name = name

    def find_class(self, module: str, name: str) -> Any:
        """Return this module's stand-in for a global of the file, from a fixed table."""
        if (module, name) not in _GLOBALS:
            wanted = f"{module}.{name}".encode("unicode_escape").decode()[:100]
            raise UserError(
                f"{self.name} tries to import {wanted}: it is not a DEAP file, and was not run."
            )
        return _GLOBALS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Refuse a reference to something outside the file."""
        raise UserError(
            f"{self.name} refers to an object outside itself: it is not a DEAP file, "
            "and was not run."
        )


class _Dtype:
    """Stands for `numpy.dtype`, of plain numbers only: "f8" and a byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *_: object):
        if not re.fullmatch("[fiu][1248]", code):
            raise TypeError(f"an array of type {code!r} holds no plain numbers")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        # (version, byte order, ...): the rest is for other types, and for NumPy's inner workings.
        self.order = state[1]

    def view(self, raw: bytes, shape: tuple[int, ...], order: str) -> np.ndarray:
        """Return `raw` as an array, without a copy if it has this machine's byte order."""
        dtype = np.dtype(self.code).newbyteorder(self.order)
        array = np.frombuffer(raw, dtype).reshape(shape, order=order)
        return array.astype(dtype.newbyteorder("="), copy=False)


class _Array:
    """Stands for `numpy.ndarray` as it is rebuilt: first an empty one, then its state."""

    __slots__ = ("array",)

    def __init__(self, *_: object):
        pass

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, raw = state
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        self.array = dtype.view(raw, shape, "F" if fortran else "C")


class _BufferArray(_Array):
    """The same for pickles of protocol 5, which name everything at once."""

    __slots__ = ()

    def __init__(self, raw: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str = "C"):
        self.array = dtype.view(raw, shape, order)


class _Bytes:
    """Stands for `_codecs.encode`, by which Python 3 writes bytes for Python 2 to read."""

    def __new__(cls, text: str, encoding: str) -> bytes:
        """Return `text` as bytes; other codecs than Latin-1 have no business here."""
        if encoding != "latin1":
            raise ValueError(f"bytes in the encoding {encoding!r}")
        return text.encode("latin1")

    def __setstate__(self, state: object) -> None:
        raise TypeError("bytes have no state")


#: All that a file may name, by the names of NumPy before and after its version 2. The class of an
#: array is only handed around, so that a word can stand for it. Each class has a `__setstate__`:
#: without one, a pickle could set attributes of the class itself.
_GLOBALS = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _BufferArray,
    ("numpy._core.numeric", "_frombuffer"): _BufferArray,
    ("_codecs", "encode"): _Bytes,
}
