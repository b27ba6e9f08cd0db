"""DEAP (Koelstra et al. 2012): 32 people watching 40 one-minute music videos.

Its preprocessed files `sNN.dat` hold a dictionary of two arrays, pickled by Python 2: ``data``
(40, 40, 8064), which is 40 trials x (32 EEG + 8 peripheral channels) x (3 s baseline + 60 s at
128 Hz), in µV, and ``labels`` (40, 4), each from 1 to 9.

A pickle is a program, and these come from the internet: see `de3dgan.data.pickles`.

Copies circulate whose labels are wrong. Those of a `.dat` are in the order of the videos, and are
compared with ``participant_ratings`` of DEAP's metadata, by person and ``Experiment_id``, if that
table lies beside the `.dat` files.
"""

from __future__ import annotations

import csv
import struct
from pathlib import Path

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.files import atomic_write
from de3dgan.base.paths import display_path
from de3dgan.data.bounded import read_bounded
from de3dgan.data.pickles import unpickled
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

#: Most trials (2 GiB of them, the most that Python 2 pickles), and the largest files to open.
MAX_TRIALS = 800
_LARGEST_FILE = 2**31
_LARGEST_TABLE = 2**24

#: File that tells a folder of simulated recordings from one of real ones.
SIMULATED = "SIMULATED.txt"

#: Columns of ``participant_ratings`` that are compared, and how far its hundredths are from labels.
_COLUMNS = ("participant_id", "experiment_id", *RATINGS)
_TOLERANCE = 0.01


def find(data_dir: Path) -> dict[str, list[Path]]:
    """Return each subject's file, and the table of ratings if it lies there.

    Says so if real labels cannot be checked.

    Raises
    ------
    UserError
        If there is no file, saying how to get DEAP.
    """
    files = {path.stem: [path] for path in sorted(Path(data_dir).glob("s[0-9][0-9].dat"))}
    if not files:
        raise UserError(
            f"There is no s01.dat in {display_path(data_dir)}: DEAP is licensed to each user, so "
            "ask for access at www.eecs.qmul.ac.uk/mmv/datasets/deap/ and unzip its "
            "data_preprocessed_python.zip there, or simulate recordings with `python -m "
            "de3dgan.data.synthetic --out-dir eeg_dataset/simulated` and give that as --data-dir."
        )
    parent = Path(data_dir).absolute().parent
    places = [
        Path(data_dir, "participant_ratings.csv"),
        Path(data_dir, "participant_ratings.xls"),
        parent / "metadata_csv" / "participant_ratings.csv",
        parent / "metadata_xls" / "participant_ratings.xls",
    ]
    table = next((path for path in places if path.is_file()), None)
    if table is not None:
        return {subject: [*paths, table] for subject, paths in files.items()}
    if not Path(data_dir, SIMULATED).is_file():
        print(
            "Whether the labels are DEAP's was not checked, and copies with wrong ones circulate: "
            f"put participant_ratings.csv of DEAP's metadata into {display_path(data_dir)}."
        )
    return files


def read(subject: str, files: list[Path]) -> Subject:
    """Read one subject's `.dat`: a recording, a baseline and a trial per video."""
    path, *tables = files
    labels, *recordings = read_bounded(_arrays, path, "DEAP file", _LARGEST_FILE)
    for table in tables:
        _refuse_wrong_labels(path, labels, table, int(subject[1:]))
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
        scales=dict.fromkeys(RATINGS, (1.0, 9.0)),
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
    arrays = unpickled(path)
    if not isinstance(arrays, dict) or not {"data", "labels"} <= set(arrays):
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


def _table(path: Path) -> list[np.ndarray]:
    """Return ``participant_ratings``: of each row, person, video and `RATINGS`, (n_rows, 6).

    Raises whatever it comes to: `read_bounded` makes a sentence of it.
    """
    if path.suffix == ".xls":
        import xlrd

        sheet = xlrd.open_workbook(path).sheet_by_index(0)
        header, *rows = (sheet.row_values(row) for row in range(sheet.nrows))
    else:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header, *rows = (row for row in csv.reader(file) if row)
    names = [str(name).strip().lower() for name in header]
    missing = [name for name in _COLUMNS if name not in names]
    if missing:
        raise ValueError(f"it lacks the column {missing[0].capitalize()}")
    places = [names.index(name) for name in _COLUMNS]
    table = np.array([[float(row[place]) for place in places] for row in rows])
    if not np.isfinite(table).all():
        raise ValueError("it holds a value that is no number")
    return [table.reshape(-1, len(places))]


def _refuse_wrong_labels(path: Path, labels: np.ndarray, table: Path, person: int) -> None:
    """Refuse a file whose labels are not the ratings of its person, saying how they differ.

    Its trials are in the order of ``Experiment_id``, which counts from 1.
    """
    (rows,) = read_bounded(_table, table, "table of DEAP's ratings", _LARGEST_TABLE)
    ratings = {row[1]: row[2:] for row in rows if row[0] == person}
    missing = [video for video in range(1, len(labels) + 1) if video not in ratings]
    if missing:
        raise UserError(
            f"{display_path(table)} has no ratings of person {person} for Experiment_id "
            f"{missing[0]}: download DEAP's metadata anew, or take that file away, and labels are "
            "not checked."
        )
    ratings = np.array([ratings[video] for video in range(1, len(labels) + 1)])
    wrong = np.flatnonzero(~_alike(labels, ratings).all(axis=1))
    if len(wrong):
        raise UserError(
            f"{display_path(path)}: the labels of {len(wrong)} of {len(labels)} trials, of which "
            f"trial {wrong[0] + 1} is the first, are not the ratings in {display_path(table)}, "
            f"{_difference(labels[wrong], ratings[wrong])}: copies with wrong labels circulate, so "
            "download data_preprocessed_python.zip anew from DEAP's own site, or leave that "
            "subject out."
        )


def _difference(labels: np.ndarray, ratings: np.ndarray) -> str:
    """Say how labels of trials, (n_trials, 4), came from ratings, all of which they differ from."""
    same = _alike(labels, ratings)
    for top in (9, 10):  # 10 - x mirrors a scale from 1 to 9; a copy that circulates has 9 - x
        mirrored = _alike(labels, top - ratings)
        if (same | mirrored).all():
            columns = np.array(RATINGS)[~same.all(axis=0)]
            return f"but mirrored ({top} - x) in {' and '.join(columns)}"
    if _alike(labels, ratings[:, [1, 0, 2, 3]]).all():
        return "but have valence and arousal exchanged"
    if sorted(labels.round(2).tolist()) == sorted(ratings.round(2).tolist()):
        return "but those of other trials (permuted)"
    return "nor these mirrored, permuted or exchanged"


def _alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a - b) <= _TOLERANCE
