"""DREAMER (Katsigiannis and Ramzan 2018): 23 people watching 18 films, 14 electrodes of an Emotiv.

One file holds everybody, `DREAMER.mat`: a structure whose cells ``Data`` hold for each person the
EEG of each film (65 to 393 s) and of a neutral clip of 61 s before it, (samples, 14) at 128 Hz, and
their ratings of valence, arousal and dominance from 1 to 5. As its users do, the last 60 s of a
film are its trial, and the neutral clip is its baseline.

Emotiv's EEG lies some 4200 µV off zero. Each recording's mean is taken off per channel: filters do
not need it, but networks that see samples do.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path
from de3dgan.data import matlab
from de3dgan.data.bounded import read_bounded
from de3dgan.data.sources import Segment, Subject, Trial
from de3dgan.eeg.sampling import SFREQ

DEFAULT_DIR = "eeg_dataset/DREAMER"

#: The electrodes, in the order of the columns.
CH_NAMES = tuple("AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4".split())
#: Fields that hold ratings, by the name of the rating, and the ends of their scale.
SCORES = {name: f"Score{name.title()}" for name in ("valence", "arousal", "dominance")}
LOWEST, HIGHEST = 1, 5

#: Samples of a trial, the last of a film (60 s), and of the shortest baseline (2 s).
TRIAL = 60 * SFREQ
SHORTEST_BASELINE = 2 * SFREQ

_LARGEST_FILE = 2**32


def find(data_dir: Path) -> dict[str, list[Path]]:
    """Return each person's file, which is the same for all; `UserError` if it is not there."""
    path = Path(data_dir) / "DREAMER.mat"
    if not path.is_file():
        raise UserError(
            f"There is no DREAMER.mat in {display_path(data_dir)}: ask for access at "
            "zenodo.org/record/546113, download it and put it there."
        )
    matlab.refuse_hdf5(path)
    (n_subjects,) = read_bounded(_n_subjects, path, "DREAMER file", _LARGEST_FILE)
    return {f"s{number:02d}": [path] for number in range(1, n_subjects[0] + 1)}


def read(subject: str, files: list[Path]) -> Subject:
    """Read one person: for each film, a recording of its baseline and one of the film."""
    (path,) = files
    person = int(subject.removeprefix("s"))
    scores, *recordings = read_bounded(
        partial(_person, number=person), path, "DREAMER file", _LARGEST_FILE
    )
    ends = [eeg.shape[1] for eeg in recordings]
    n_films = len(scores)
    return Subject(
        subject=subject,
        ch_names=CH_NAMES,
        recordings=recordings,
        baselines=[Segment(2 * film, 0, ends[2 * film]) for film in range(n_films)],
        scales=dict.fromkeys(SCORES, (LOWEST, HIGHEST)),
        trials=[
            Trial(
                segment=Segment(2 * film + 1, ends[2 * film + 1] - TRIAL, ends[2 * film + 1]),
                baseline=film,
                stimulus=f"film{film + 1:02d}",
                ratings=dict(zip(SCORES, map(float, scores[film]), strict=True)),
                shown=Segment(2 * film + 1, 0, ends[2 * film + 1]),
            )
            for film in range(n_films)
        ],
    )


def _n_subjects(path: Path) -> tuple[np.ndarray]:
    """Return how many people a file holds, (1,).

    Raises whatever it comes to: `read_bounded` makes a sentence of it.
    """
    with matlab.opened(path, "DREAMER") as dreamer:
        for name, field in dreamer.fields():
            if name == "Data":
                if not 1 <= np.prod(field.shape) < 100:
                    raise ValueError(f"its Data has the shape {field.shape}, not (1, people)")
                return (np.array([np.prod(field.shape)]),)
    raise ValueError("it has no field Data")


class _Pass:
    """One pass through a file, person by person."""

    def __init__(self, path: Path):
        self.of, self.place = _identity(path), 0
        self._people = self._open(path)

    def person(self, number: int) -> matlab.Array:
        """Return the cell of a person who was not passed yet."""
        for person in self._people:
            self.place += 1
            if self.place == number:
                return person
        raise ValueError(f"it has no person {number}")

    @staticmethod
    def _open(path: Path) -> Iterator[matlab.Array]:
        with matlab.opened(path, "DREAMER") as dreamer:
            for name, field in dreamer.fields():
                if name == "Data":
                    yield from field.cells()


def _identity(path: Path) -> tuple[Path, int, int]:
    """Return what tells a file from another, and from what it was before."""
    about = path.stat()
    return path, about.st_size, about.st_mtime_ns


#: The pass that the last person was read in. It is gone on with for those who lie behind: what is
#: compressed can be read from its start only, and would be read as often as there are people.
_passing: _Pass | None = None


def _person(path: Path, number: int) -> list[np.ndarray]:
    """Return person `number`'s ratings, (n_films, 3), and EEG, each (14, samples) in µV.

    That is the baseline and the film of the first film, of the second one, and so on. What lies
    before that person in the file is decompressed and not kept, and what lies behind is not read.
    """
    global _passing
    passing, _passing = _passing, None  # after an error, it is begun anew
    if passing is None or passing.of != _identity(path) or passing.place >= number:
        passing = _Pass(path)
    films = _films(passing.person(number))
    _passing = passing
    return films


def _films(person: matlab.Array) -> list[np.ndarray]:
    """Return the ratings and the EEG of one cell of ``Data``."""
    values = {}
    for name, field in person.fields():
        if name in SCORES.values():
            values[name] = field.read().ravel()
        elif name == "EEG":
            values |= {part: clips.read().ravel() for part, clips in field.fields()}
    wanted = ["baseline", "stimuli", *SCORES.values()]
    lacking = [name for name in wanted if name not in values]
    if lacking:
        raise ValueError(f"a person has no {' and no '.join(lacking)}")
    n_films = len(values["stimuli"])
    if not n_films or any(len(values[name]) != n_films for name in wanted):
        raise ValueError("a person has not as many ratings and baselines as films")
    scores = np.stack([np.asarray(values[name], float) for name in SCORES.values()], axis=-1)
    if not ((scores >= LOWEST) & (scores <= HIGHEST)).all():
        raise ValueError(f"ratings are not numbers from {LOWEST} to {HIGHEST}")
    recordings = []
    for film in range(n_films):
        for part, least in (("baseline", SHORTEST_BASELINE), ("stimuli", TRIAL)):
            clip = f"{part} {film + 1}"
            eeg = matlab.eeg(np.asarray(values[part][film]), clip, len(CH_NAMES), axis=1)
            if len(eeg) < least:
                raise ValueError(
                    f"its {clip} lasts {len(eeg) / SFREQ:g} s, and {least / SFREQ:g} s are needed"
                )
            recordings.append((eeg - eeg.mean(0)).T)
    return [scores, *recordings]
