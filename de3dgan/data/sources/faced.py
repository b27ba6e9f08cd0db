"""FACED (Chen et al. 2023): 123 people watching 28 film clips that evoke nine emotions.

Its preprocessed files ``Processed_data/subNNN.pkl`` hold one pickled array, (28 films, 32 channels,
7500 samples): the last 30 s of each film at 250 Hz, in µV, in the order of the films' numbers, with
the channels of both cohorts brought to one order. The last two channels are the mastoids and are
left out.

``Data/subNNN/After_remarks.mat`` holds a struct array ``After_remark`` of what each person felt, in
the order of presentation: ``vid``, the film's number, and ``score``, twelve ratings from 0 to 7.

There is no baseline: what preceded a film is only in the raw recordings.

Each film was cleaned by independent components of its own. `Subject.cleaned_apart` does not say so,
for what 28 films lack leaves no subspace that all of them hold.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path
from de3dgan.data.bounded import read_bounded
from de3dgan.data.pickles import unpickled
from de3dgan.data.sources import Segment, Subject, Trial
from de3dgan.eeg.sampling import SFREQ, resampled

DEFAULT_DIR = "eeg_dataset/FACED"

#: What a film is meant to evoke, and how many films do, in the order of the films' numbers.
EMOTIONS = {
    "anger": 3,
    "disgust": 3,
    "fear": 3,
    "sadness": 3,
    "neutral": 4,
    "amusement": 3,
    "inspiration": 3,
    "joy": 3,
    "tenderness": 3,
}
#: Whether that is pleasant: the first four are not, the last four are.
VALENCES = ("negative", "neutral", "positive")
#: What the numbers of ``score`` are, each from 0 to 7.
RATINGS = tuple(
    "joy tenderness inspiration amusement anger disgust fear sadness arousal valence familiarity "
    "liking".split()
)

#: The electrodes, in the order of ``Electrode_Location.xlsx``; two mastoids follow.
CHANNELS = tuple(
    "Fp1 Fp2 Fz F3 F4 F7 F8 FC1 FC2 FC5 FC6 Cz C3 C4 T7 T8 CP1 CP2 CP5 CP6 Pz P3 P4 P7 P8 PO3 PO4 "
    "Oz O1 O2".split()
)
N_FILMS = 28
#: Seconds of a film that are used, its last: of 30, a multiple of the 4 s that the generator needs.
TRIAL_SECONDS = 28
_SFREQ = 250
_SHAPE = (N_FILMS, len(CHANNELS) + 2, 30 * _SFREQ)

#: Bytes of the largest files, twice those of FACED's and more.
_LARGEST_FILE = 2**27
_LARGEST_REMARKS = 2**22


def find(data_dir: Path) -> dict[str, list[Path]]:
    """Return each subject's EEG and ratings; `UserError` if none are there or ratings lack."""
    files = {}
    for path in sorted(Path(data_dir, "Processed_data").glob("sub[0-9][0-9][0-9].pkl")):
        # The ratings lie in Data, or in After_remarks, the folder that FACED's own code reads.
        places = [
            Path(data_dir, folder, path.stem, "After_remarks.mat")
            for folder in ("Data", "After_remarks")
        ]
        files[path.stem] = [path, next((place for place in places if place.is_file()), places[0])]
    if not files:
        raise UserError(
            f"There is no Processed_data/sub000.pkl in {display_path(data_dir)}: download FACED's "
            "Processed_data, and After_remarks.mat of each person into Data/subNNN, from "
            "www.synapse.org (syn50614194), as docs/data/faced.md says."
        )
    missing = [remarks for _, remarks in files.values() if not remarks.is_file()]
    if missing:
        raise UserError(
            f"{display_path(missing[0])} is not there, nor are the ratings of {len(missing) - 1} "
            "other subjects: download it from www.synapse.org (syn50614194), or leave those "
            "subjects' .pkl out."
        )
    return files


def read(subject: str, files: list[Path]) -> Subject:
    """Read one subject's films and what they felt: each film is a recording and a trial."""
    path, remarks = files
    (films,) = read_bounded(_films, path, "FACED file", _LARGEST_FILE)
    numbers, scores = read_bounded(_remarks, remarks, "file of FACED's ratings", _LARGEST_REMARKS)
    emotions = [number for number, n in enumerate(EMOTIONS.values()) for _ in range(n)]
    neutral = list(EMOTIONS).index("neutral")
    trials = []
    for number, score in zip(numbers.tolist(), scores.tolist(), strict=True):
        emotion = emotions[number - 1]
        classes = {
            "emotion": float(emotion),
            "positive": 1.0 + (emotion > neutral) - (emotion < neutral),
        }
        trials.append(
            Trial(
                segment=Segment(number - 1, 0, films.shape[-1]),
                baseline=None,
                stimulus=f"film{number:02d}",
                ratings={**dict(zip(RATINGS, score, strict=True)), **classes},
            )
        )
    return Subject(
        subject=subject,
        ch_names=CHANNELS,
        recordings=list(films),
        baselines=[],
        trials=trials,
        scales=dict.fromkeys(RATINGS, (0.0, 7.0)),
        classes={"emotion": tuple(EMOTIONS), "positive": VALENCES},
        trial_seconds=TRIAL_SECONDS,
    )


def _films(path: Path) -> list[np.ndarray]:
    """Return the films' EEG at `SFREQ`, (28, 30, 30 * SFREQ) in µV.

    Raises whatever it comes to: `read_bounded` makes a sentence of it.
    """
    eeg = unpickled(path)
    if not isinstance(eeg, np.ndarray) or eeg.shape != _SHAPE:
        shape = getattr(eeg, "shape", "no array")
        raise ValueError(f"it holds {shape}, not an array of the shape {_SHAPE}")
    films = np.empty((N_FILMS, len(CHANNELS), 30 * SFREQ))
    for film, channels in zip(films, eeg, strict=True):
        film[:] = resampled(channels[: len(CHANNELS)], _SFREQ)
    return [films]


def _remarks(path: Path) -> list[np.ndarray]:
    """Return the films' numbers in the order of presentation, (28,), and their scores, (28, 12).

    Raises whatever it comes to: `read_bounded` makes a sentence of it.
    """
    from scipy.io import loadmat

    content = loadmat(path, variable_names=["After_remark"], simplify_cells=True)
    try:
        entries = list(content["After_remark"])
        numbers = np.array([entry["vid"] for entry in entries], dtype=np.int64)
        scores = np.array([entry["score"] for entry in entries], dtype=np.float64)
    except (KeyError, TypeError, IndexError):
        raise ValueError("it lacks a struct array After_remark with vid and score") from None
    if sorted(numbers.tolist()) != list(range(1, N_FILMS + 1)):
        raise ValueError(f"it has not each film, 1 to {N_FILMS}, once")
    if scores.shape != (N_FILMS, len(RATINGS)):
        raise ValueError(f"its scores have the shape {scores.shape}, not {N_FILMS, len(RATINGS)}")
    if not ((scores >= 0) & (scores <= 7)).all():
        raise ValueError("a score is not a number from 0 to 7")
    return [numbers, scores]
