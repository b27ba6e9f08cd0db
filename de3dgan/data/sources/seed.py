"""SEED (Zheng and Lu 2015): 15 people watching 15 films on three days each, 62 electrodes.

A session is a file ``{subject}_{date}.mat`` with a variable per film, ``{initials}_eeg1`` and so
on, (62, samples) in µV at 200 Hz, 185 to 265 s each. The films are the same on all days.
`label.mat` says of each whether it is negative, neutral or positive (-1, 0, 1). There is no
baseline.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path
from de3dgan.data import matlab
from de3dgan.data.bounded import read_bounded
from de3dgan.data.sources import Recordings, Segment, Subject, Trial
from de3dgan.eeg.sampling import n_resampled, resampled

DEFAULT_DIR = "eeg_dataset/SEED/Preprocessed_EEG"

#: The electrodes, in the order of the rows ("Channel Order.xlsx").
CH_NAMES = tuple(
    "FP1 FPZ FP2 AF3 AF4 F7 F5 F3 F1 FZ F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCZ FC2 FC4 FC6 FT8 "
    "T7 C5 C3 C1 CZ C2 C4 C6 T8 TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 P7 P5 P3 P1 PZ P2 P4 P6 P8 "
    "PO7 PO5 PO3 POZ PO4 PO6 PO8 CB1 O1 OZ O2 CB2".split()
)
#: Sampling rate of the files in Hz.
FILE_SFREQ = 200
#: Seconds of the pieces that films are cut into.
TRIAL_SECONDS = 60

#: What the classes are called: number 0 is label -1.
EMOTIONS = ("negative", "neutral", "positive")

_LARGEST_FILE = 2**30
_NAME = re.compile(r"(\d{1,3})_(\d{8})")


def find(data_dir: Path) -> dict[str, list[Path]]:
    """Return the files of each session, its own and the labels; `UserError` if one lacks."""
    labels = Path(data_dir) / "label.mat"
    sessions = session_files(data_dir)
    if not sessions:
        raise UserError(
            f"There is no 1_20131027.mat or the like in {display_path(data_dir)}: SEED is licensed "
            "to each user, so ask for access at bcmi.sjtu.edu.cn/home/seed/ and put its "
            "Preprocessed_EEG there."
        )
    if not labels.is_file():
        raise UserError(
            f"{display_path(labels)} is missing: it says which films are negative, neutral and "
            "positive, and comes with SEED's Preprocessed_EEG."
        )
    return {
        unit_name(subject, session): [path, labels]
        for subject, paths in sessions.items()
        for session, path in enumerate(paths, start=1)
    }


def read(unit: str, files: list[Path]) -> Subject:
    """Read one session: a recording and a trial per film."""
    path, labels = files
    matlab.refuse_hdf5(labels)
    (values,) = read_bounded(_labels, labels, "file of SEED's labels", 2**20)
    stimuli = [f"film{film + 1:02d}" for film in range(len(values))]
    return read_session(unit, path, values + 1, EMOTIONS, stimuli, TRIAL_SECONDS)


def session_files(folder: Path) -> dict[int, list[Path]]:
    """Return the files of each subject in a folder, by their dates.

    Raises
    ------
    UserError
        If there is a MAT-file whose name is no ``{subject}_{date}.mat``.
    """
    found = {}
    for path in sorted(Path(folder).glob("*.mat")):
        if path.name.startswith(".") or path.name == "label.mat":
            continue
        name = _NAME.fullmatch(path.stem)
        if not name:
            raise UserError(
                f"{display_path(path)} is not named like 1_20131027.mat, after a subject and a "
                "date: rename it, or move it elsewhere."
            )
        found.setdefault(int(name[1]), []).append((name[2], path))
    return {subject: [path for _, path in sorted(found[subject])] for subject in sorted(found)}


def unit_name(subject: int, session: int) -> str:
    """Return what `find` calls a session."""
    return f"s{subject:02d}-{session}"


def read_session(
    unit: str,
    path: Path,
    labels: Sequence[int],
    emotions: tuple[str, ...],
    stimuli: list[str],
    trial_seconds: int,
) -> Subject:
    """Read one session of SEED or SEED-IV, whose films are read when they are asked for.

    Parameters
    ----------
    unit : str
        Its name, see `unit_name`.
    path : Path
        Its file.
    labels : sequence of int, length n_films
        Class number of each film.
    emotions : tuple of str
        What the classes are called.
    stimuli : list of str, length n_films
    trial_seconds : int
        Length of the pieces that films are cut into.
    """
    matlab.refuse_hdf5(path)
    subject, session = unit.split("-")
    names, lengths = read_bounded(
        partial(_films, n_films=len(stimuli)), path, "session of SEED", _LARGEST_FILE
    )

    def film(index: int) -> np.ndarray:
        reader = partial(_film, name=str(names[index]))
        return read_bounded(reader, path, "session of SEED", _LARGEST_FILE)[0]

    return Subject(
        subject=subject,
        ch_names=CH_NAMES,
        recordings=Recordings(film, len(stimuli)),
        baselines=[],
        classes={"emotion": emotions},
        trial_seconds=trial_seconds,
        trials=[
            Trial(
                segment=Segment(index, 0, n_resampled(int(lengths[index]), FILE_SFREQ)),
                baseline=None,
                stimulus=stimulus,
                ratings={"emotion": float(labels[index])},
                session=session,
            )
            for index, stimulus in enumerate(stimuli)
        ],
    )


def _labels(path: Path) -> tuple[np.ndarray]:
    """Return the label of each film, (n_films,) of -1, 0 and 1.

    Raises whatever it comes to: `read_bounded` makes a sentence of it.
    """
    labels = matlab.variable(path, "label").ravel()
    if not labels.size or not np.isin(labels, (-1, 0, 1)).all():
        raise ValueError("its label is not a row of -1, 0 and 1")
    return (labels.astype(int),)


def _films(path: Path, n_films: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the variable of each film, (n_films,), and how many samples it has."""
    found: dict[int, list[tuple[str, int]]] = {}
    for name, shape in matlab.shapes(path).items():
        film = re.fullmatch(r".*_eeg(\d{1,3})", name)
        if film:
            if len(shape) != 2 or shape[0] != len(CH_NAMES):
                raise ValueError(f"its {name} has the shape {shape}, not {len(CH_NAMES)} channels")
            found.setdefault(int(film[1]), []).append((name, shape[1]))
    films = range(1, n_films + 1)
    lacking = [f"_eeg{film}" for film in films if film not in found]
    if lacking:
        raise ValueError(f"of {n_films} films, it lacks {', '.join(lacking)}")
    others = [name for film in found for name, _ in found[film][film in films :]]
    if others:
        raise ValueError(f"it has {', '.join(others)} besides {n_films} films")
    names, lengths = zip(*(found[film][0] for film in films), strict=True)
    return np.array(names), np.array(lengths)


def _film(path: Path, name: str) -> tuple[np.ndarray]:
    """Return the EEG of one film, (62, n_times) in µV at `SFREQ`."""
    values = matlab.eeg(matlab.variable(path, name), name, len(CH_NAMES), axis=0)
    return (resampled(values, FILE_SFREQ),)
