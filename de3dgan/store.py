"""The store: the EEG and DE of one source on disk, read by memory map.

=====================  ===========================================================================
``manifest.json``      what it was made from and how, with a hash over all of it
``trials.csv``         a row per trial: trial, subject, stimulus, baseline, and the source's ratings
``eeg.npy``            float32 (n_trials, n_chans, n_times), µV
``baseline.npy``       float32 (n_baselines, n_chans, n_baseline_times), µV
``de.npy``             float32 (n_trials, n_bands, n_windows, n_chans), nats, baseline removed
``baseline_de.npy``    float32 (n_baselines, n_bands, n_chans), nats
=====================  ===========================================================================
"""

from __future__ import annotations

import csv
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from de3dgan.errors import UserError
from de3dgan.features import BANDS, FILTER_ORDER, FRAME, WINDOW
from de3dgan.files import differences, digest, read_json, sha256
from de3dgan.paths import ROOT, shown
from de3dgan.sources import SFREQ

FORMAT = 1
_FIXED_COLUMNS = ("trial", "subject", "stimulus", "baseline")
ARRAYS = ("eeg", "baseline", "de", "baseline_de")

#: Everything that shapes the numbers of a store, besides its input files.
SETTINGS = {
    "format": FORMAT,
    "sfreq": SFREQ,
    "bands": {name: list(edges) for name, edges in BANDS.items()},
    "window": {"n_times": WINDOW, "seconds": WINDOW / SFREQ},
    "filter": {
        "kind": "Butterworth band-pass, zero phase (forward and backward)",
        "order": FILTER_ORDER,
        "over": "the whole continuous recording",
    },
    "de": "0.5 ln(2 pi e variance), ddof 1, minus the mean over the baseline's windows; nats",
}


@dataclass(frozen=True)
class Store:
    """A store on disk, its arrays memory-mapped.

    Attributes
    ----------
    path : Path
        Its folder.
    manifest : dict
        What it was made from and how.
    eeg, baseline, de, baseline_de : array
        See the module's table.
    columns : dict of str to list of str
        The columns of ``trials.csv``.
    """

    path: Path
    manifest: dict[str, Any]
    eeg: np.ndarray
    baseline: np.ndarray
    de: np.ndarray
    baseline_de: np.ndarray
    columns: dict[str, list[str]]

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open the store in folder `path`.

        Raises
        ------
        UserError
            If there is none, if it is damaged, or if it was made with other settings than this
            version's.
        """
        path = Path(path)
        if path.is_file() or holds_other_files(path):
            raise UserError(
                f"{shown(path)} is no store: give the folder that preprocess_de.py made."
            )
        remedy = f"make it with: {_command(path)}"
        if not (path / "manifest.json").is_file():
            raise UserError(f"There is no store in {shown(path)}: {remedy}")
        manifest = read_json(path / "manifest.json")
        if not isinstance(manifest, dict) or manifest_hash(manifest) != manifest.get("hash"):
            raise UserError(f"{shown(path / 'manifest.json')} is damaged: delete it and {remedy}")
        changed = differences({key: manifest.get(key) for key in SETTINGS}, SETTINGS)
        if changed:
            raise UserError(
                f"The store in {shown(path)} was made with other settings, "
                f"{', '.join(changed)}: {remedy}"
            )
        try:
            arrays = {name: np.load(path / f"{name}.npy", mmap_mode="c") for name in ARRAYS}
            with open(path / "trials.csv", newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"The store in {shown(path)} is damaged ({error}): {remedy}") from None
        if sha256(path / "trials.csv") != manifest.get("trials"):
            raise UserError(f"{shown(path / 'trials.csv')} has been edited: {remedy}")
        shapes = {name: list(array.shape) for name, array in arrays.items()}
        if shapes != manifest["shapes"] or len(rows) != len(arrays["eeg"]):
            raise UserError(f"The store in {shown(path)} is damaged (wrong shapes): {remedy}")
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        return cls(path=path, manifest=manifest, columns=columns, **arrays)

    @property
    def hash(self) -> str:
        """The hash over everything that made the store."""
        return self.manifest["hash"]

    @property
    def ch_names(self) -> list[str]:
        """Channel names, length n_chans."""
        return self.manifest["ch_names"]

    @property
    def n_trials(self) -> int:
        """Number of trials."""
        return len(self.eeg)

    @property
    def n_frames(self) -> int:
        """One-second frames per trial."""
        return self.eeg.shape[-1] // FRAME

    @property
    def ratings(self) -> list[str]:
        """Names of the source's ratings and labels, the columns `rating` takes."""
        return [key for key in self.columns if key not in _FIXED_COLUMNS]

    def rating(self, name: str) -> np.ndarray:
        """Return one rating of every trial, float (n_trials,).

        Raises
        ------
        UserError
            If the source has no such rating, naming those it has.
        """
        if name not in self.ratings:
            raise UserError(
                f"The store in {shown(self.path)} has no rating {name!r}, only "
                f"{', '.join(self.ratings)}: choose the task's script for this source, or another "
                "--data-dir."
            )
        return np.array(self.columns[name], dtype=np.float64)

    @cached_property
    def baseline_index(self) -> np.ndarray:
        """Row of `baseline` and `baseline_de` that belongs to each trial, int (n_trials,)."""
        return np.array(self.columns["baseline"], dtype=np.int64)

    def checked_trials(self, trials: Iterable[int]) -> list[int]:
        """Return `trials` as a list, or raise `UserError` if one is not in the store."""
        trials = list(trials)
        wrong = [trial for trial in trials if not 0 <= trial < self.n_trials]
        if wrong or not trials:
            raise UserError(
                f"There is no trial {wrong[0] if wrong else ''} in {shown(self.path)}: choose from "
                f"0 to {self.n_trials - 1}."
            )
        return trials

    def absolute_de(self, trials: np.ndarray) -> np.ndarray:
        """Return the DE of `trials` with their baseline's DE added back.

        Baseline removal is for telling classes apart. The amplitude of an EEG signal is in its
        absolute DE, which is therefore what a generator is given and judged by.

        Returns
        -------
        array, float32 (len(trials), n_bands, n_windows, n_chans)
            In nats.
        """
        baseline = self.baseline_de[self.baseline_index[trials]]
        return self.de[trials] + baseline[:, :, None, :]


def holds_other_files(path: Path) -> bool:
    """Return whether `path` is a folder that holds anything but a store's files."""
    own = {"manifest.json", "trials.csv", "mat", *(f"{name}.npy" for name in ARRAYS)}
    return path.is_dir() and any(child.name not in own for child in path.iterdir())


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """Return the hash of a manifest over everything but the hash itself."""
    return digest({key: value for key, value in manifest.items() if key != "hash"})


def _command(path: Path) -> str:
    """Return the command that makes the store in `path`."""
    from de3dgan import sources

    source = path.name if path.name in sources.names() else f"{{{','.join(sources.names())}}}"
    default = ROOT / "DE_feature" / path.name
    place = "" if path.resolve() == default else f" --out-dir {shlex.quote(shown(path))}"
    return f"python preprocess_de.py --source {source}{place}"
