"""How long sources take to give features, beside plainly reading their files and computing DE.

    .venv/bin/python benchmarks/speed_sources.py

Files of a person, or a session, are written in their published layout and true size (of DREAMER,
one file of eight people), and read by their source. Beside it stand what a library takes to read
those files as a whole, and the DE of as much EEG at 128 Hz. Fills in the table of
benchmarks/SOURCES.md.
"""

from __future__ import annotations

import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mne
import numpy as np
from scipy.io import loadmat

from benchmarks.documents import fill_table
from de3dgan.base.cli import command_line
from de3dgan.data import sources
from de3dgan.data.features import subject_features
from de3dgan.data.pieces import in_pieces, reference_of
from de3dgan.eeg.de import band_signals, windowed_de
from tests.writers import dreamer, eegmat, faced, seed


@dataclass(frozen=True)
class Config:
    """What is measured, and where the table goes."""

    repeats: int = 3  # each figure is the median of so many
    out: Path = ROOT / "benchmarks" / "SOURCES.md"  # document that holds the table


def main(config: Config) -> None:
    """Write files, measure, and fill in the table."""
    rows = []
    for name, (write, plainly) in SETS.items():
        with tempfile.TemporaryDirectory() as folder:
            rows.append([name, *measured(name, Path(folder), write, plainly, config.repeats)])
            print(*rows[-1], sep=" | ", flush=True)
    columns = ["source", "minutes of EEG", "electrodes", "features, s", "plain reading, s"]
    columns += ["DE alone, s", "features / (reading + DE)"]
    fill_table(config.out, "speed_sources.py", columns, rows)


def measured(
    name: str,
    folder: Path,
    write: Callable[[Path], None],
    plainly: Callable[[list[Path]], object],
    repeats: int,
) -> list[str]:
    """Return the cells of a source's row."""
    write(folder)
    source = sources.load(name)
    units = sources.find(source, folder, None)
    every_file = list(dict.fromkeys(path for files in units.values() for path in files))
    times: dict[str, list[float]] = {"features": [], "reading": [], "de": []}
    for _ in range(repeats + 1):  # the first one warms up
        spent, minutes = dict.fromkeys(times, 0.0), 0.0
        for unit, files in units.items():
            start = time.perf_counter()
            data = sources.read_checked(source, unit, files)
            subject_features(data, in_pieces(data, None), reference_of(data, "auto"))
            spent["features"] += time.perf_counter() - start
            for index in range(len(data.recordings)):
                recording = data.recordings[index]
                minutes += recording.shape[1] / 128 / 60
                start = time.perf_counter()
                for band in band_signals(recording):
                    windowed_de(band)
                spent["de"] += time.perf_counter() - start
        start = time.perf_counter()
        plainly(every_file)
        spent["reading"] += time.perf_counter() - start
        for key, value in spent.items():
            times[key].append(value)
    seconds = {key: float(np.median(values[1:])) for key, values in times.items()}
    ratio = seconds["features"] / (seconds["reading"] + seconds["de"])
    return [
        f"{minutes:.0f}",
        str(len(data.ch_names)),
        *(f"{value:.2f}" for value in seconds.values()),
        f"{ratio:.2f}",
    ]


def write_dreamer(folder: Path) -> None:
    """Write eight people who see 18 films of 200 s each."""
    rng = np.random.default_rng(0)
    dreamer.write_dreamer(folder, [dreamer.dreamer_person(rng, [200] * 18) for _ in range(8)])


def write_seed(folder: Path) -> None:
    """Write one session: 15 films of 226 s."""
    seed.write_labels(folder)
    seed.write_session(folder, "1_20131027.mat", n_times=226 * 200)


def read_mats(files: list[Path]) -> None:
    """Read all there is in MATLAB files."""
    for path in files:
        loadmat(path)


def read_pickle(files: list[Path]) -> None:
    """Read FACED's pickle as Python does."""
    with open(files[0], "rb") as file:
        pickle.load(file)


def read_edfs(files: list[Path]) -> None:
    """Read EDF files by MNE."""
    for path in files:
        mne.io.read_raw_edf(path, preload=True, verbose="error")


#: What writes files of each source, and what reads them plainly.
SETS = {
    "dreamer": (write_dreamer, read_mats),
    "eegmat": (lambda folder: eegmat.write_pair(folder, 182, sfreq=500), read_edfs),
    "faced": (lambda folder: faced.write_faced(folder) and None, read_pickle),
    "seed": (write_seed, read_mats),
}


if __name__ == "__main__":
    command_line(main, Config)
