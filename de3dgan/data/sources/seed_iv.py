"""SEED-IV (Zheng et al. 2019): 15 people watching 24 films on each of three days, 62 electrodes.

As SEED, but each day is a folder (``1``, ``2``, ``3``) and has films of its own, 72 in all. Which
of four emotions a film is chosen for is not in the files but in the data set's ReadMe, and so here.
"""

from __future__ import annotations

from pathlib import Path

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path
from de3dgan.data.sources import Subject, seed

DEFAULT_DIR = "eeg_dataset/SEED_IV/eeg_raw_data"

#: Seconds of the pieces that films are cut into: those of the shortest film, which lasts 40 s.
TRIAL_SECONDS = 40

#: What the classes are called, by their number in the ReadMe.
EMOTIONS = ("neutral", "sad", "fear", "happy")
#: The class of each film, by session.
LABELS = {
    session: tuple(map(int, classes))
    for session, classes in {
        1: "123020010121112322330303",
        2: "213002023323201121030131",
        3: "122133311210233023002010",
    }.items()
}


def find(data_dir: Path) -> dict[str, list[Path]]:
    """Return the file of each session; `UserError` if there is none, or there are two of one."""
    found = {}
    for session in LABELS:
        folder = Path(data_dir) / str(session)
        for subject, paths in seed.session_files(folder).items():
            if len(paths) > 1:
                raise UserError(
                    f"{display_path(folder)} has {' and '.join(path.name for path in paths)}, and "
                    "a subject has one file per session: leave one of them there."
                )
            found[subject, session] = paths
    if not found:
        raise UserError(
            f"There is no {Path('1', '1_20160518.mat')} or the like in {display_path(data_dir)}: "
            "SEED-IV is licensed to each user, so ask for access at bcmi.sjtu.edu.cn/home/seed/ "
            "and put its eeg_raw_data there."
        )
    return {seed.unit_name(*key): found[key] for key in sorted(found)}


def read(unit: str, files: list[Path]) -> Subject:
    """Read one session: a recording and a trial per film."""
    (path,) = files
    session = int(unit.split("-")[1])
    labels = LABELS[session]
    # Films of different sessions are different films: they are numbered through.
    first = (session - 1) * len(labels) + 1
    stimuli = [f"film{first + film:02d}" for film in range(len(labels))]
    return seed.read_session(unit, path, labels, EMOTIONS, stimuli, TRIAL_SECONDS)
