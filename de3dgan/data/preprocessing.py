"""From recordings to a store, one subject at a time, so that memory does not grow with subjects."""

from __future__ import annotations

import os
import platform
import warnings
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from de3dgan.base.errors import UserError
from de3dgan.base.files import (
    check_free_space,
    differences,
    read_json,
    sha256,
    write_csv,
    write_errors,
    write_json,
)
from de3dgan.base.locks import recover_folder, replaced_folder
from de3dgan.base.paths import display_path
from de3dgan.data import sources
from de3dgan.data.features import subject_features
from de3dgan.data.opening import open_store, read_store
from de3dgan.data.sources import Subject
from de3dgan.data.store import ARRAYS, SETTINGS, Store, holds_other_files, manifest_hash
from de3dgan.eeg.subspace import common_projection, share_lost

#: Whether each person's recordings are brought to directions that all of them hold.
Subspace = Literal["common", "as-published"]
#: Share of the directions between electrodes that a person's recordings have in common, at least.
_LEAST_RANK = 1 / 3


def build_store(
    source_name: str, data_dir: Path, out_dir: Path, n_jobs: int, subspace: Subspace = "common"
) -> Store:
    """Make the store of a source, or return the one that is there if nothing has changed.

    Parameters
    ----------
    source_name : str
        A module of `de3dgan.data.sources`.
    data_dir : Path
        The folder of its recordings.
    out_dir : Path
        The store's folder. It is replaced in one go at the end: a run that is killed leaves the
        old store as it was.
    n_jobs : int
        Subjects worked on at once; each takes one process.
    subspace : "common" or "as-published"
        See `in_common_subspace`; "as-published" leaves recordings as they are.

    Raises
    ------
    UserError
        On recordings that cannot be read or do not fit together, naming the file; and, before
        anything is written, if the store needs more room than there is.
    """
    source = sources.load(source_name)
    files = source.find(data_dir)
    every_file = [path for paths in files.values() for path in paths]
    names = [f"{subject}/{path.name}" for subject, paths in files.items() for path in paths]
    hashes = Parallel(n_jobs=n_jobs, prefer="threads")(delayed(sha256)(path) for path in every_file)
    origin = {
        **SETTINGS,
        "source": source_name,
        "source_code": sha256(source.__file__),
        "subspace": subspace,
        "inputs": dict(zip(names, hashes, strict=True)),
    }
    _refuse_to_replace(out_dir, data_dir)
    recover_folder(out_dir)
    reason = _why_recompute(out_dir, origin)
    if reason is None:
        print(f"{display_path(out_dir)} is up to date: {len(files)} subjects, nothing to compute.")
        return open_store(out_dir)
    print(f"Computing {display_path(out_dir)}: {reason}.")

    tasks = (delayed(_process)(source_name, *subject, subspace) for subject in files.items())
    with (
        replaced_folder(out_dir) as folder,
        warnings.catch_warnings(),
        closing(Parallel(n_jobs=n_jobs, return_as="generator")(tasks)) as results,
        tqdm(results, total=len(files), unit="subject", desc="DE features") as progress,
    ):
        # Of joblib, that it stops working on other subjects if there is an error in one.
        warnings.filterwarnings("ignore", module="joblib")
        writer = _StoreWriter(folder)
        for result in progress:
            if not writer.rows:
                size = sum(array.nbytes for array in result.arrays.values())
                check_free_space(out_dir, size * len(files))
            writer.append(result)
        writer.close(origin)
        read_store(out_dir, folder)  # refuses what later scripts would, while the old one is there
    print(
        f"{display_path(out_dir)}: {len(files)} subjects, {len(writer.rows)} trials, "
        f"{len(writer.ch_names)} channels."
    )
    _print_subspaces(writer.subspaces, len(writer.ch_names))
    return open_store(out_dir)


def _print_subspaces(subspaces: dict[str, dict[str, Any]], n_chans: int) -> None:
    """Say what was removed so that each subject's recordings share one subspace, if anything."""
    reduced = [about for about in subspaces.values() if about.get("rank", n_chans) < n_chans]
    if reduced:
        ranks = [about["rank"] for about in reduced]
        lost = np.concatenate([about["variance_lost"] for about in reduced])
        print(
            f"Some recordings of {len(reduced)} subjects lack directions that others hold, which "
            f"tells them apart; they are projected to {min(ranks)} to {max(ranks)} of {n_chans} "
            f"that all of them hold: {lost.mean():.1%} of their variance is lost (at most "
            f"{lost.max():.1%}; see manifest.json). --subspace as-published leaves them."
        )


class _Result(NamedTuple):
    """What the store holds of one subject: channels, arrays, and rows of ``trials.csv``.

    And its subspace: the second value of `in_common_subspace`.
    """

    ch_names: tuple[str, ...]
    arrays: dict[str, np.ndarray]
    rows: list[dict[str, Any]]
    subspace: dict[str, Any]


def in_common_subspace(data: Subject) -> tuple[Subject, dict[str, Any]]:
    """Project a subject's recordings onto the directions that none of them lacks.

    A single recording, those that were not cleaned apart, and those that lack nothing stay as they
    are, bit for bit. See `de3dgan.eeg.subspace` for what it is good for. It knows no label, but
    each recording has a say in what is left of the others.

    Returns
    -------
    data : Subject
    subspace : dict
        ``rank``, the directions that are left, and ``variance_lost``, the share of the variance
        of each recording that is not.
    """
    projection, rank = np.eye(len(data.ch_names)), len(data.ch_names)
    if data.cleaned_apart and len(data.recordings) > 1:
        projection, rank = common_projection(data.recordings)
    if rank < _LEAST_RANK * len(data.ch_names):
        raise UserError(
            f"The recordings of {data.subject} have only {rank} of {len(data.ch_names)} directions "
            "between electrodes in common: leave that subject out, or give --subspace as-published."
        )
    lost = [round(share_lost(eeg, projection), 6) for eeg in data.recordings]
    if rank < len(data.ch_names):
        data = replace(data, recordings=[projection @ eeg for eeg in data.recordings])
    return data, {"rank": rank, "variance_lost": lost}


def _process(source_name: str, subject: str, files: list[Path], subspace: Subspace) -> _Result:
    """Read and compute one subject, in a process of its own."""
    data = sources.read_checked(sources.load(source_name), subject, files)
    about: dict[str, Any] = {}
    if subspace == "common":
        data, about = in_common_subspace(data)
    rows = [
        {
            "subject": subject,
            "stimulus": trial.stimulus,
            "baseline": trial.baseline,
            **trial.ratings,
        }
        for trial in data.trials
    ]
    return _Result(data.ch_names, subject_features(data), rows, about)


def _refuse_to_replace(out_dir: Path, data_dir: Path) -> None:
    """Refuse an output folder that holds anything but a store, which it would replace."""
    out, data = out_dir.resolve(), data_dir.resolve()
    if out == data or out in data.parents:
        raise UserError(f"{display_path(out_dir)} holds the recordings: choose another --out-dir.")
    if out.exists() and not out.is_dir():
        raise UserError(f"{display_path(out_dir)} is a file: choose another --out-dir.")
    if holds_other_files(out):
        raise UserError(
            f"{display_path(out_dir)} holds other files than a store's, which would be lost: "
            "choose another --out-dir."
        )


def _why_recompute(out_dir: Path, origin: dict[str, Any]) -> str | None:
    """Return why the store in `out_dir` cannot be kept, or None if it can."""
    if not (out_dir / "manifest.json").is_file():
        return "there is no store yet"
    damaged = "the store there is damaged"
    try:
        old = read_json(out_dir / "manifest.json")
        changed = differences({key: old.get(key) for key in origin}, origin)
        if changed:
            return f"changed: {', '.join(changed)}"
        hashes = {name: sha256(out_dir / f"{name}.npy") for name in ARRAYS}
        return None if open_store(out_dir).manifest.get("arrays") == hashes else damaged
    except (UserError, AttributeError, OSError):  # no JSON, no object, no array
        return damaged


class _StoreWriter:
    """A store that is written one subject at a time.

    Parameters
    ----------
    folder : Path
        Where to write; it exists.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.arrays = {name: _NpyWriter(folder / f"{name}.npy") for name in ARRAYS}
        self.ch_names: tuple[str, ...] = ()
        self.rows: list[dict[str, Any]] = []
        self.subspaces: dict[str, dict[str, Any]] = {}

    def append(self, result: _Result) -> None:
        """Add a subject; refuse one that does not fit to those before it."""
        subject = result.rows[0]["subject"]
        if self.rows and result.ch_names != self.ch_names:
            raise UserError(
                f"Subject {subject} has the channels {' '.join(result.ch_names)}, those before it "
                f"{' '.join(self.ch_names)}: give all the same ones."
            )
        self.ch_names = result.ch_names
        self.subspaces[subject] = result.subspace
        n_baselines = self.arrays["baseline"].n_rows
        for row in result.rows:
            row["baseline"] += n_baselines
            self.rows.append({"trial": len(self.rows), **row})
        for name, writer in self.arrays.items():
            writer.append(result.arrays[name], subject)

    def close(self, origin: dict[str, Any]) -> None:
        """Complete the arrays, and write the files that describe them; `origin` is their source."""
        for writer in self.arrays.values():
            writer.close()
        write_csv(self.folder / "trials.csv", self.rows)
        manifest = {
            **origin,
            "ch_names": list(self.ch_names),
            "subspaces": self.subspaces,
            "trials": sha256(self.folder / "trials.csv"),
            "arrays": {name: sha256(self.folder / f"{name}.npy") for name in ARRAYS},
            "shapes": {name: list(writer.shape) for name, writer in self.arrays.items()},
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in ("numpy", "scipy", "mne")},
        }
        manifest["hash"] = manifest_hash(manifest)
        write_json(self.folder / "manifest.json", manifest)


class _NpyWriter:
    """A ``.npy`` file that grows along its first axis, written in pieces."""

    def __init__(self, path: Path):
        self.path = path
        with write_errors(path):
            self.file = open(path, "wb")  # noqa: SIM115 - closed by `close`, or with the process
        self.shape: tuple[int, ...] = ()

    @property
    def n_rows(self) -> int:
        """Length of the first axis so far."""
        return self.shape[0] if self.shape else 0

    def append(self, array: np.ndarray, subject: str) -> None:
        """Add `array`, (n, ...), of one subject."""
        if not self.shape:
            self.shape = (0, *array.shape[1:])
            self._write_header(array.dtype)
        if array.shape[1:] != self.shape[1:]:
            raise UserError(
                f"Subject {subject} has trials or baselines of shape {array.shape[1:]}, those "
                f"before it of {self.shape[1:]}: all must have one length."
            )
        with write_errors(self.path, array.nbytes):
            self.file.write(np.ascontiguousarray(array).data)
        self.shape = (self.shape[0] + len(array), *self.shape[1:])
        self.dtype = array.dtype

    def close(self) -> None:
        """Complete the header, for which NumPy leaves room, and flush to disk."""
        with write_errors(self.path):
            self.file.seek(0)
            self._write_header(self.dtype)
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()

    def _write_header(self, dtype: np.dtype) -> None:
        header = {"descr": dtype.str, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(self.file, header)
