"""The store: the EEG and DE of one source on disk.

=====================  ===========================================================================
``manifest.json``      what it was made from and how, with a hash over all of it
``trials.csv``         a row per trial: trial, subject, session, stimulus, piece, baseline, ratings
``eeg.npy``            float32 (n_trials, n_chans, n_times), µV
``baseline.npy``       float32 (n_baselines, n_chans, n_baseline_times), µV
``de.npy``             float32 (n_trials, n_bands, n_windows, n_chans), nats, baseline's subtracted
``baseline_de.npy``    float32 (n_baselines, n_bands, n_chans), nats
=====================  ===========================================================================

Where trials are cut into pieces, each is a row; ``piece`` is its place in the trial. What a
baseline is, ``reference`` in the manifest says: see `de3dgan.data.pieces.reference_of`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.files import json_hash, read_json
from de3dgan.base.paths import CODE, ROOT, SHIPPED, display_path
from de3dgan.base.programs import COMMANDS, program
from de3dgan.data.memory_maps import reopened
from de3dgan.eeg.de import BANDS, FILTER_ORDER, add_baseline
from de3dgan.eeg.montage import Grid
from de3dgan.eeg.sampling import FRAME, SFREQ, WINDOW

#: What this version writes and reads; it goes up whenever older stores cannot be read any more.
FORMAT = 2
#: Columns of trials.csv that every source has; the others are its ratings.
FIXED_COLUMNS = ("trial", "subject", "session", "stimulus", "piece", "baseline")
ARRAYS = ("eeg", "baseline", "de", "baseline_de")
#: The data set card, which preprocess_de.py --describe puts there: a figure and a text.
CARD = ("card.png", "card.txt")
#: All that preprocess_de.py may draw there.
DRAWN = (*CARD, "grid.png")

#: What the DE of a trial can be relative to, in words; see `de3dgan.data.pieces.reference_of`.
REFERENCES = {
    "baseline": "the trial's baseline",
    "unlabelled": "the mean over the person's time outside trials",
    "person": "the mean over all of the person's time, trials tested on included",
    "none": "nothing: it is absolute",
}

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
    "de": "0.5 ln(2 pi e variance), ddof 1, minus the mean over the reference's windows; nats",
}


@dataclass(frozen=True)
class Store:
    """A store on disk, its arrays memory-mapped; see `de3dgan.data.opening.open_store`.

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

    @property
    def hash(self) -> str:
        """The hash over everything that made the store."""
        return self.manifest["hash"]

    @property
    def ch_names(self) -> list[str]:
        """Channel names, length n_chans."""
        return self.manifest["ch_names"]

    @property
    def grid(self) -> Grid:
        """Where the channels are on the grid of electrodes."""
        return Grid.of(self.manifest["grid"], self.ch_names)

    @property
    def reference(self) -> str:
        """What DE is relative to, see `de3dgan.data.pieces.reference_of`."""
        return self.manifest["reference"]

    @property
    def scales(self) -> dict[str, list[float]]:
        """Lowest and highest value of each rating that has a scale."""
        return self.manifest["scales"]

    @property
    def classes(self) -> dict[str, list[str]]:
        """Names of the classes of each column of class numbers."""
        return self.manifest["classes"]

    @property
    def size(self) -> str:
        """How many subjects, sessions and trials there are, in words."""
        subjects = set(self.columns["subject"])
        sessions = set(zip(self.columns["subject"], self.columns["session"], strict=True))
        several = f", {len(sessions)} sessions" if len(sessions) > len(subjects) else ""
        in_pieces = " (pieces of trials)" if set(self.columns["piece"]) != {"0"} else ""
        return f"{len(subjects)} subjects{several}, {self.n_trials} trials{in_pieces}"

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
        return [key for key in self.columns if key not in FIXED_COLUMNS]

    def rating(self, name: str) -> np.ndarray:
        """Return one rating of every trial, float (n_trials,).

        Raises
        ------
        UserError
            If the source has no such rating, naming those it has.
        """
        if name not in self.ratings:
            raise UserError(
                f"The store in {display_path(self.path)} has no rating {name!r}, only "
                f"{', '.join(self.ratings)}: choose the task's script for this source, or another "
                "--data-dir."
            )
        return np.array(self.columns[name], dtype=np.float64)

    def middle(self, name: str) -> float:
        """Return the middle of a rating's scale.

        Raises
        ------
        UserError
            If the source gives it no scale.
        """
        if name not in self.scales:
            known = ", ".join(self.scales) or "no rating"
            raise UserError(
                f"The source of {display_path(self.path)} gives a scale to {known}, and none to "
                f"{name}: say with --threshold what is above it (a number, or classes if {name} is "
                "a column of class numbers)."
            )
        low, high = self.scales[name]
        return (low + high) / 2

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
                f"There is no trial {wrong[0] if wrong else ''} in {display_path(self.path)}: "
                f"choose from 0 to {self.n_trials - 1}."
            )
        return trials

    def refuse_non_finite_eeg(self, trials: Iterable[int]) -> None:
        """Raise `UserError` if the EEG of `trials`, or of their baselines, is not finite.

        Opening a store checks its DE; its EEG is too much to be read each time. Who meets NaN in
        some trials asks here whether it comes from the store.

        Raises
        ------
        UserError
            Naming the array, the first trial or baseline and the channel.
        """
        trials = list(trials)
        self.refuse_non_finite("eeg", trials)
        self.refuse_non_finite("baseline", sorted(set(self.baseline_index[trials])))

    def refuse_non_finite(self, name: str, rows: Iterable[int]) -> None:
        """Raise `UserError` if one of `rows` of the array `name` is not finite."""
        for row in rows:
            values = reopened(getattr(self, name))[row]
            if not np.isfinite(values).all():
                index = tuple(np.argwhere(~np.isfinite(values))[0])
                # Channels are the last axis of DE, and the first of a trial's EEG.
                channel = self.ch_names[index[-1 if name.endswith("de") else 0]]
                kind = "baseline" if name.startswith("baseline") else "trial"
                raise UserError(
                    f"{display_path(self.path / name)}.npy is damaged: {kind} {row} has "
                    f"{values[index]} at electrode {channel}: make it anew with: "
                    f"{preprocessing_command(self.path)}"
                )

    def absolute_de(self, trials: np.ndarray) -> np.ndarray:
        """Return the DE of `trials` with their baseline's added back, see `eeg.de.add_baseline`.

        Returns
        -------
        array, float32 (len(trials), n_bands, n_windows, n_chans)
            In nats.
        """
        return add_baseline(
            reopened(self.de)[trials], self.baseline_de[self.baseline_index[trials]]
        )


def data_card(wanted: str) -> str:
    """Return the card of the store in DE_feature/ with a hash; nothing if there is none."""
    for path in ROOT.glob("DE_feature/[!.]*/card.txt"):
        with suppress(UserError):
            if read_json(path.with_name("manifest.json")).get("hash") == wanted:
                return path.read_text(encoding="utf-8")
    return ""


def holds_other_files(path: Path) -> bool:
    """Return whether `path` is a folder that holds anything but a store's files."""
    own = {"manifest.json", "trials.csv", "mat", *DRAWN, *(f"{name}.npy" for name in ARRAYS)}
    return path.is_dir() and any(
        child.name not in own and not child.name.startswith(".card.")  # one that is being written
        for child in path.iterdir()
    )


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """Return the hash of a manifest over everything but the hash itself."""
    return json_hash({key: value for key, value in manifest.items() if key != "hash"})


def preprocessing_command(path: Path) -> str:
    """Return the command that makes the store in `path`."""
    from de3dgan.data import sources

    source = path.name if path.name in sources.names() else f"{{{','.join(sources.names())}}}"
    if (SHIPPED / f"{path.name}.toml").is_file():
        source = f"bids --settings {path.name}"
    default = (ROOT / "DE_feature" / path.name).resolve()
    flag = "" if path.resolve() == default else f" --out-dir {shlex.quote(display_path(path))}"
    return f"{program(CODE / COMMANDS['preprocess'], ROOT)} --source {source}{flag}"
