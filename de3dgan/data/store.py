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

import mmap
import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.files import differences, json_hash, read_csv, read_json, sha256
from de3dgan.base.paths import ROOT, display_path
from de3dgan.base.schema import OBJECT, TEXT, check, column, list_of, number, whole
from de3dgan.eeg.de import BANDS, FILTER_ORDER, add_baseline
from de3dgan.eeg.montage import grid_cells
from de3dgan.eeg.sampling import FRAME, SFREQ, WINDOW

#: What this version writes and reads; it goes up whenever older stores cannot be read any more.
FORMAT = 1
#: Columns of trials.csv that every source has; the others are its ratings.
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
#: What a manifest holds beside them. Fields that only preprocess_de.py reads may be missing.
_FIELDS = {
    "source": TEXT,
    "ch_names": list_of(TEXT),
    "trials": TEXT,
    "shapes": OBJECT,
    **{f"shapes.{name}": list_of(whole(1), 3 + (name == "de")) for name in ARRAYS},
    "inputs": OBJECT,
    "inputs.*": TEXT,
}
#: Times that a store is read anew because it has been replaced meanwhile.
_ATTEMPTS = 5
#: Bytes that a process may have in memory before it gives back what it has read of files.
_RESIDENT = 700 * 2**20


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

        While preprocess_de.py replaces it, that is the old store or the new one, never parts of
        both; and the old one, if the replacement was killed between its two renames.

        Raises
        ------
        UserError
            If there is none, if it is damaged, if DE is not finite, or if it was made by a version
            of another format or with other settings than this version's.
        """
        path = Path(path)
        for _ in range(_ATTEMPTS):
            before = _identity(path)
            store, problem = None, None
            try:
                store = cls.read(path, _place(path))
            except (UserError, OSError) as error:
                problem = error
            if _identity(path) == before:  # it has not been replaced meanwhile
                if problem:
                    raise problem
                return store
        raise UserError(
            f"{display_path(path)} is being replaced again and again: wait, and try again."
        )

    @classmethod
    def read(cls, path: Path, place: Path) -> Store:
        """Read the store of `path`, as messages call it, from the folder `place` where it lies.

        Raises
        ------
        UserError
            See `open`.
        """
        if place.is_file() or holds_other_files(place):
            raise UserError(
                f"{display_path(path)} is no store: give the folder that preprocess_de.py made."
            )
        remedy = f"make it with: {_command(path)}"
        if not (place / "manifest.json").is_file():
            raise UserError(f"There is no store in {display_path(path)}: {remedy}")
        manifest = read_json(place / "manifest.json")
        remedy = f"make it anew with: {_command(path)}"
        _check_manifest(manifest, path, remedy)
        try:
            arrays = {name: _mapped(place / f"{name}.npy") for name in ARRAYS}
        except Exception as error:  # numpy raises whatever the damage of a header leads it to
            raise UserError(
                f"The store in {display_path(path)} is damaged ({error}): {remedy}"
            ) from None
        if not (place / "trials.csv").is_file():
            raise UserError(f"{display_path(path / 'trials.csv')} is missing: {remedy}")
        if sha256(place / "trials.csv") != manifest["trials"]:
            raise UserError(f"{display_path(path / 'trials.csv')} has been edited: {remedy}")
        columns = read_csv(place / "trials.csv", remedy)
        _check_shapes(arrays, manifest, path, remedy)
        _check_trials(columns, arrays, path / "trials.csv", remedy)
        store = cls(path=path, manifest=manifest, columns=columns, **arrays)
        for name, whose in (("de", "trial"), ("baseline_de", "baseline")):
            store._refuse_non_finite(name, whose, range(len(arrays[name])))
        return store

    def opened(self, name: str) -> int:
        """Open the file of an array that is mapped, and return its descriptor.

        Raises
        ------
        UserError
            If the store has been replaced meanwhile.
        """
        place = _place(self.path)
        descriptor = os.open(place / f"{name}.npy", os.O_RDONLY)
        if read_json(place / "manifest.json").get("hash") != self.hash:
            os.close(descriptor)
            raise UserError(f"{display_path(self.path)} has just been replaced: try again.")
        return descriptor

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
                f"The store in {display_path(self.path)} has no rating {name!r}, only "
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
                f"There is no trial {wrong[0] if wrong else ''} in {display_path(self.path)}: "
                f"choose from 0 to {self.n_trials - 1}."
            )
        return trials

    def refuse_non_finite_eeg(self, trials: Iterable[int]) -> None:
        """Raise `UserError` if the EEG of `trials`, or of their baselines, is not finite.

        `open` has looked at DE. EEG is too much to be read each time a store is opened: whoever
        meets NaN while working with some trials asks here whether it comes from the store.

        Raises
        ------
        UserError
            Naming the array, the first trial or baseline and the channel.
        """
        trials = list(trials)
        self._refuse_non_finite("eeg", "trial", trials)
        self._refuse_non_finite("baseline", "baseline", sorted(set(self.baseline_index[trials])))

    def _refuse_non_finite(self, name: str, whose: str, rows: Iterable[int]) -> None:
        """Raise `UserError` if one of `rows` of an array is not finite."""
        array = getattr(self, name)
        for row in rows:
            release_pages(array)
            bad = ~np.isfinite(array[row])
            if bad.any():
                # The last axis of DE is that of channels, and the first one of EEG.
                place = np.argwhere(bad)[0]
                channel = self.ch_names[place[-1 if name.endswith("de") else 0]]
                raise UserError(
                    f"{display_path(self.path / name)}.npy is damaged: {whose} {row} has "
                    f"{array[row][tuple(place)]} at electrode {channel}: make it anew with: "
                    f"{_command(self.path)}"
                )

    def absolute_de(self, trials: np.ndarray) -> np.ndarray:
        """Return the DE of `trials` with their baseline's added back, see `eeg.de.add_baseline`.

        Returns
        -------
        array, float32 (len(trials), n_bands, n_windows, n_chans)
            In nats.
        """
        return add_baseline(self.de[trials], self.baseline_de[self.baseline_index[trials]])


def holds_other_files(path: Path) -> bool:
    """Return whether `path` is a folder that holds anything but a store's files."""
    own = {"manifest.json", "trials.csv", "mat", *(f"{name}.npy" for name in ARRAYS)}
    return path.is_dir() and any(child.name not in own for child in path.iterdir())


def _place(path: Path) -> Path:
    """Return the folder that the store of `path` is in.

    `files.replaced_folder` renames the old store before it renames the new one; a process that was
    killed in between has left the old one beside its place.
    """
    old = path.with_name(f".{path.name}.old") if path.name else path
    return old if old.is_dir() and not path.exists() else path


def _identity(path: Path) -> tuple[Any, ...]:
    """Return what is another whenever the store of `path` is: its place, its folder, its manifest.

    A manifest has a hash of everything else.
    """
    place = _place(path)
    try:
        return place, place.stat().st_ino, (place / "manifest.json").read_bytes()
    except OSError:
        return (place,)


def _mapped(path: Path) -> np.ndarray:
    array = np.load(path, mmap_mode="c")
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        raise ValueError(f"{path.name} is no array of 32-bit numbers")
    return array


def release_pages(array: np.ndarray) -> None:
    """Give back the memory that reading `array` by memory map has taken, if the process has much.

    The system keeps what was read for as long as it has room, but counts it as this process's, and
    a cluster may end a process for it. Where the system cannot tell, nothing is done.
    """
    try:
        with open("/proc/self/statm", "rb") as file:
            resident = int(file.read().split()[1]) * mmap.PAGESIZE
    except OSError:
        return
    if resident > _RESIDENT and isinstance(array.base, mmap.mmap):
        array.base.madvise(mmap.MADV_DONTNEED)


def _check_manifest(manifest: Any, path: Path, remedy: str) -> None:
    """Refuse a manifest that this version cannot go by."""
    where = display_path(path / "manifest.json")
    check(manifest, {"format": whole(0)}, where, remedy)
    if manifest["format"] != FORMAT:
        newer = "update the repository (git pull), or " if manifest["format"] > FORMAT else ""
        raise UserError(
            f"The store in {display_path(path)} has format {manifest['format']}, and this version "
            f"reads format {FORMAT}: {newer}{remedy}"
        )
    if manifest_hash(manifest) != manifest.get("hash"):
        raise UserError(f"{where} is damaged: it has been edited: {remedy}")
    changed = differences({key: manifest.get(key) for key in SETTINGS}, SETTINGS)
    if changed:
        raise UserError(
            f"The store in {display_path(path)} was made with other settings, "
            f"{', '.join(changed)}: {remedy}"
        )
    check(manifest, _FIELDS, where, remedy)
    try:
        grid_cells(manifest["ch_names"])
    except UserError as error:
        reason = str(error).rstrip(".")
        raise UserError(f"{where} is damaged: ch_names: {reason}; {remedy}") from None


def _check_shapes(
    arrays: Mapping[str, np.ndarray], manifest: Mapping[str, Any], path: Path, remedy: str
) -> None:
    """Refuse arrays that do not belong together, or are too short to be worked with."""
    n_chans, n_bands = len(manifest["ch_names"]), len(BANDS)
    n_trials, _, n_times = manifest["shapes"]["eeg"]
    n_baselines, _, n_baseline_times = manifest["shapes"]["baseline"]
    wanted = {
        "eeg": [n_trials, n_chans, n_times],
        "baseline": [n_baselines, n_chans, n_baseline_times],
        "de": [n_trials, n_bands, n_times // WINDOW, n_chans],
        "baseline_de": [n_baselines, n_bands, n_chans],
    }
    for name, array in arrays.items():
        if not list(array.shape) == manifest["shapes"][name] == wanted[name]:
            raise UserError(
                f"The store in {display_path(path)} is damaged: {name}.npy has the shape "
                f"{list(array.shape)}, shapes.{name} in its manifest.json is "
                f"{manifest['shapes'][name]}, and both must be {wanted[name]}: {remedy}"
            )
    if n_times % FRAME:
        raise UserError(
            f"Trials of {display_path(path)} last {n_times / SFREQ:g} s, and must last whole "
            f"seconds: cut them so in the source's `read`, and {remedy}"
        )
    if n_baseline_times < FRAME:
        raise UserError(
            f"Baselines of {display_path(path)} last {n_baseline_times / SFREQ:g} s, and must last "
            f"1 s or more: give longer ones in the source's `read`, and {remedy}"
        )


def _check_trials(
    columns: Mapping[str, list[str]], arrays: Mapping[str, np.ndarray], where: Path, remedy: str
) -> None:
    """Refuse a table of trials that does not fit the arrays."""
    n_trials, n_baselines = len(arrays["eeg"]), len(arrays["baseline"])
    kinds = {"trial": whole(0), "subject": TEXT, "stimulus": TEXT}
    kinds["baseline"] = whole(0, n_baselines - 1)
    ratings = [name for name in columns if name not in kinds]
    found = {
        name: column(columns, name, kind, where, remedy)
        for name, kind in {**kinds, **dict.fromkeys(ratings, number())}.items()
    }
    if found["trial"] != list(range(n_trials)):
        raise UserError(
            f"{display_path(where)} is damaged: trial must count from 0 to {n_trials - 1}, the "
            f"trials of eeg.npy: {remedy}"
        )


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """Return the hash of a manifest over everything but the hash itself."""
    return json_hash({key: value for key, value in manifest.items() if key != "hash"})


def _command(path: Path) -> str:
    """Return the command that makes the store in `path`."""
    from de3dgan.data import sources

    source = path.name if path.name in sources.names() else f"{{{','.join(sources.names())}}}"
    default = ROOT / "DE_feature" / path.name
    place = "" if path.resolve() == default else f" --out-dir {shlex.quote(display_path(path))}"
    return f"python preprocess_de.py --source {source}{place}"
