"""DEAP (Koelstra et al. 2012): 32 people watching 40 one-minute music videos.

Its preprocessed files `sNN.dat` hold a dictionary of two arrays, pickled by Python 2: ``data``
(40, 40, 8064), which is 40 trials x (32 EEG + 8 peripheral channels) x (3 s baseline + 60 s at
128 Hz), in µV, and ``labels`` (40, 4), each from 1 to 9.

A pickle is a program, and these come from the internet: they are read by an unpickler that admits
arrays and nothing else, within a bound of memory and time.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.files import atomic_write
from de3dgan.base.paths import display_path
from de3dgan.data.bounded import read_bounded
from de3dgan.data.sources import Segment, Subject, Trial
from de3dgan.eeg.montage import DEAP_CHANNELS
from de3dgan.eeg.sampling import SFREQ

DEFAULT_DIR = "eeg_dataset/DEAP/data_preprocessed_python"

#: What the columns of ``labels`` are.
RATINGS = ("valence", "arousal", "dominance", "liking")
#: EEG and peripheral channels of ``data``, and its samples: 3 s of baseline, 60 s of trial.
N_CHANNELS = 40
BASELINE = 3 * SFREQ
N_TIMES = BASELINE + 60 * SFREQ

#: Most trials (2 GiB of them, the most that Python 2 pickles), and the largest file that is opened.
MAX_TRIALS = 800
_LARGEST_FILE = 2**31

#: Types of arrays that are plain numbers.
_CODES = "i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split()


def find(data_dir: Path) -> dict[str, list[Path]]:
    """Return each subject's file; `UserError`, saying how to get DEAP, if there is none."""
    files = {path.stem: [path] for path in sorted(Path(data_dir).glob("s[0-9][0-9].dat"))}
    if not files:
        raise UserError(
            f"There is no s01.dat in {display_path(data_dir)}: DEAP is licensed to each user, so "
            "ask for access at www.eecs.qmul.ac.uk/mmv/datasets/deap/ and unzip its "
            "data_preprocessed_python.zip there, or simulate recordings with `python -m "
            "de3dgan.data.synthetic --out-dir eeg_dataset/simulated` and give that as --data-dir."
        )
    return files


def read(subject: str, files: list[Path]) -> Subject:
    """Read one subject's `.dat`: a recording, a baseline and a trial per video."""
    (path,) = files
    labels, *recordings = read_bounded(_arrays, path, "DEAP file", _LARGEST_FILE)
    if not ((labels >= 1) & (labels <= 9)).all():
        raise UserError(
            f"{display_path(path)} has labels that are not numbers from 1 to 9: copy or download "
            "it anew, or leave that subject out."
        )
    return Subject(
        subject=subject,
        ch_names=DEAP_CHANNELS,
        recordings=recordings,
        baselines=[Segment(trial, 0, BASELINE) for trial in range(len(labels))],
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
    with atomic_write(path, data.nbytes + labels.nbytes) as file:
        file.write(b"\x80\x02}(")
        for name, array in {"labels": labels, "data": data}.items():
            array = np.ascontiguousarray(array, dtype="<f8")
            file.write(string(name) + empty + b"(" + integers(1))
            file.write(b"(" + integers(*array.shape) + b"t" + dtype + b"\x89")
            file.write(b"T" + struct.pack("<i", array.nbytes))
            file.write(array.data)
            file.write(b"tb")
        file.write(b"u.")


def _arrays(path: Path) -> list[np.ndarray]:
    """Return the labels of a `.dat`, (n_trials, 4), and the EEG of each trial, (32, 8064).

    Raises whatever it comes to: `read_bounded` makes a sentence of it.
    """
    try:
        with open(path, "rb") as file:
            # Python 2's strings are read as bytes, for as text the numbers would be copied.
            content = _ArrayUnpickler(file, encoding="bytes").load()
            if file.read(1):
                raise ValueError("it goes on after its end")
        items = content.items() if isinstance(content, dict) else ()
        arrays = {_text(key): value.numbers for key, value in items if isinstance(value, _Array)}
    except (TypeError, AttributeError, LookupError):  # what is no array was used as one
        raise ValueError("it is no pickle of arrays") from None
    if not {"data", "labels"} <= set(arrays):
        raise ValueError("it lacks the arrays data and labels")
    data, labels = arrays["data"], arrays["labels"]
    if data.shape[1:] != (N_CHANNELS, N_TIMES) or not 1 <= len(data) <= MAX_TRIALS:
        raise ValueError(
            f"its data have the shape {data.shape}, not (trials, {N_CHANNELS}, {N_TIMES}) with 1 "
            f"to {MAX_TRIALS} trials"
        )
    if labels.shape != (len(data), len(RATINGS)):
        raise ValueError(
            f"its labels have the shape {labels.shape}, not {(len(data), len(RATINGS))}"
        )
    return [labels, *data[:, : len(DEAP_CHANNELS)]]


class _ArrayUnpickler(pickle.Unpickler):
    """Reads dictionaries of arrays of plain numbers, and runs nothing that a file names.

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
