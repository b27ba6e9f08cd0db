"""DEAP (Koelstra et al. 2012): 32 people watching 40 one-minute music videos.

Its preprocessed files `sNN.dat` hold a dictionary of two arrays, pickled by Python 2: ``data``
(40, 40, 8064), which is 40 trials x (32 EEG + 8 peripheral channels) x (3 s baseline + 60 s at
128 Hz), in µV, and ``labels`` (40, 4), each from 1 to 9.

A pickle is a program, and these come from the internet: `array_pickle` reads them.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.files import atomic_write
from de3dgan.base.paths import display_path
from de3dgan.data.array_pickle import find_arrays
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
    data, labels = _load(path)
    if not ((labels >= 1) & (labels <= 9)).all():
        raise UserError(f"{display_path(path)} has labels that are not numbers from 1 to 9.")
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


def _load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the arrays ``data`` and ``labels`` of a `.dat`, and run nothing that it holds."""
    if not path.is_file() or path.stat().st_size > _LARGEST_FILE:
        raise UserError(
            f"{display_path(path)} is no file, or one too large for a DEAP file: replace it."
        )
    try:
        with open(path, "rb") as file:
            arrays = find_arrays(file, path.name)
            if not {"data", "labels"} <= set(arrays):
                raise ValueError("it lacks the arrays data and labels")
            data, labels = arrays["data"], arrays["labels"]
            _refuse_shapes(path, data.shape, labels.shape)
            return data.read(file), labels.read(file)
    except OSError as error:
        raise UserError(
            f"{display_path(path)} cannot be read: {error.strerror or error}."
        ) from None
    except MemoryError:
        raise UserError(
            f"{display_path(path)} does not fit into the memory that is free: close other "
            "programs, or work on fewer subjects at once (--jobs)."
        ) from None
    except ValueError as error:
        raise UserError(
            f"{display_path(path)} is damaged or no DEAP file ({error}): copy or download it anew."
        ) from None


def _refuse_shapes(path: Path, data: tuple[int, ...], labels: tuple[int, ...]) -> None:
    if len(data) != 3 or data[1:] != (N_CHANNELS, N_TIMES) or not 1 <= data[0] <= MAX_TRIALS:
        raise UserError(
            f"{display_path(path)} has data of shape {data}, not (trials, {N_CHANNELS}, {N_TIMES}) "
            f"with 1 to {MAX_TRIALS} trials."
        )
    if labels != (data[0], len(RATINGS)):
        raise UserError(f"{display_path(path)} has labels of shape {labels}, not {(data[0], 4)}.")
