"""From recordings to a store, one subject at a time, so that memory does not grow with subjects."""

from __future__ import annotations

import os
import platform
import warnings
from contextlib import closing
from dataclasses import dataclass, replace
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
from de3dgan.base.locks import (
    recover_folder,
    refuse_to_replace,
    refuse_to_replace_inputs,
    replaced_folder,
)
from de3dgan.base.paths import display_path
from de3dgan.data import sources
from de3dgan.data.features import subject_features
from de3dgan.data.montages import grid_of
from de3dgan.data.opening import open_store, read_store
from de3dgan.data.pieces import Reference, in_pieces, reference_of
from de3dgan.data.sources import Recordings, Subject
from de3dgan.data.store import ARRAYS, REFERENCES, SETTINGS, Store, holds_other_files, manifest_hash
from de3dgan.eeg.subspace import common_projection, share_lost

#: Whether each person's recordings are brought to directions that all of them hold.
Subspace = Literal["common", "as-published"]
#: Share of the directions between electrodes that a person's recordings have in common, at least.
_LEAST_RANK = 1 / 3


@dataclass(frozen=True)
class How:
    """How recordings are made a store, see `build_store`."""

    settings: Path | None = None
    leave_out: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    trial_seconds: int | None = None
    reference: Reference = "auto"
    subspace: Subspace = "common"


def build_store(
    source_name: str, data_dir: Path, out_dir: Path, n_jobs: int, how: How | None = None
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
    how : How, optional
        ``settings``, a file for sources that take one; ``leave_out``, units of the source that
        are not read; ``channels`` to keep, all by default;
        ``trial_seconds``, see `de3dgan.data.pieces.in_pieces`; ``reference``, see
        `de3dgan.data.pieces.reference_of`; ``subspace``, see `in_common_subspace`: "as-published"
        leaves recordings as they are.

    Raises
    ------
    UserError
        On recordings that cannot be read or do not fit together, naming the file; and, before
        anything is written, if the store needs more room than there is.
    """
    how = how or How()
    source = sources.load(source_name)
    files = sources.find(source, data_dir, how.settings)
    unknown = sorted(set(how.leave_out) - set(files))
    if unknown or len(set(how.leave_out)) == len(files):
        raise UserError(
            f"--leave-out {' '.join(unknown or how.leave_out)} leaves nobody, or names who is not "
            f"in {display_path(data_dir)}: there are {', '.join(files)}."
        )
    files = {unit: paths for unit, paths in files.items() if unit not in how.leave_out}
    every_file = [path for paths in files.values() for path in paths]
    names = [f"{unit}/{path.name}" for unit, paths in files.items() for path in paths]
    different = list(dict.fromkeys(every_file))  # units may share a file
    hashes = Parallel(n_jobs=n_jobs, prefer="threads")(delayed(sha256)(path) for path in different)
    hash_of = dict(zip(different, hashes, strict=True))
    origin = {
        **SETTINGS,
        "source": source_name,
        "source_code": sources.code_hash(source),
        "asked": {
            "channels": list(how.channels),
            "trial_seconds": how.trial_seconds,
            "reference": how.reference,
            "subspace": how.subspace,
        },
        "inputs": {name: hash_of[path] for name, path in zip(names, every_file, strict=True)},
    }
    refuse_to_replace_inputs(out_dir, data_dir)
    refuse_to_replace(out_dir, "a store's", holds_other_files(out_dir))
    recover_folder(out_dir)
    reason = _why_recompute(out_dir, origin)
    if reason is None:
        store = open_store(out_dir)
        print(f"{display_path(out_dir)} is up to date: {store.size}, nothing to compute.")
        return store
    print(f"Computing {display_path(out_dir)}: {reason}.")

    tasks = (delayed(_process)(source_name, *unit, how) for unit in files.items())
    with (
        replaced_folder(out_dir) as folder,
        warnings.catch_warnings(),
        closing(Parallel(n_jobs=n_jobs, return_as="generator")(tasks)) as results,
        tqdm(results, total=len(files), unit="unit", desc="DE features") as progress,
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
    store = open_store(out_dir)
    print(f"{display_path(out_dir)}: {store.size}, {len(store.ch_names)} channels.")
    print(f"DE is relative to {REFERENCES[store.reference]} (--reference).")
    if writer.n_left_out:
        print(f"{writer.n_left_out} trials are shorter than a piece, and left out.")
    _print_subspaces(store.manifest["subspaces"], len(store.ch_names))
    return store


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
    """What the store holds of one unit.

    Attributes
    ----------
    same : dict
        What must be the same in all units; fields of the manifest.
    arrays : dict of array
        See `de3dgan.data.store`.
    rows : list of dict
        Of ``trials.csv``.
    subspace : dict
        The second value of `in_common_subspace`.
    n_left_out : int
        Trials that are shorter than a piece.
    """

    same: dict[str, Any]
    arrays: dict[str, np.ndarray]
    rows: list[dict[str, Any]]
    subspace: dict[str, Any]
    n_left_out: int = 0


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
    if not data.cleaned_apart or len(data.recordings) < 2:
        return data, {"rank": len(data.ch_names), "variance_lost": [0.0] * len(data.recordings)}
    projection, rank = common_projection(data.recordings)
    if rank < _LEAST_RANK * len(data.ch_names):
        raise UserError(
            f"The recordings of {data.subject} have only {rank} of {len(data.ch_names)} directions "
            "between electrodes in common: leave that subject out, or give --subspace as-published."
        )
    lost = [round(share_lost(eeg, projection), 6) for eeg in data.recordings]
    if rank < len(data.ch_names):
        whole = data.recordings
        data = replace(data, recordings=Recordings(lambda i: projection @ whole[i], len(whole)))
    return data, {"rank": rank, "variance_lost": lost}


def _process(source_name: str, unit: str, files: list[Path], how: How) -> _Result:
    """Read and compute one unit, in a process of its own."""
    data = sources.read_checked(sources.load(source_name), unit, files, how.channels)
    pieces = in_pieces(data, how.trial_seconds)
    about: dict[str, Any] = {}
    if how.subspace == "common":
        data, about = in_common_subspace(data)
    arrays, baseline_index, reference = subject_features(
        data, pieces, reference_of(data, how.reference)
    )
    rows = [
        {
            "subject": data.subject,
            "session": piece.trial.session,
            "stimulus": piece.trial.stimulus,
            "piece": piece.number,
            "baseline": baseline,
            **piece.trial.ratings,
        }
        for piece, baseline in zip(pieces, baseline_index.tolist(), strict=True)
    ]
    same = {
        "ch_names": list(data.ch_names),
        "montage": data.montage,
        "reference": reference,
        "scales": {name: list(scale) for name, scale in data.scales.items()},
        "classes": {name: list(names) for name, names in data.classes.items()},
        "columns": list(data.trials[0].ratings),
    }
    cut = {id(piece.trial) for piece in pieces}
    return _Result(same, arrays, rows, about, len(data.trials) - len(cut))


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


#: What units of one store must agree in, for messages.
_SAME = {
    "ch_names": "channels",
    "montage": "montage",
    "reference": "reference",
    "scales": "scales of ratings",
    "classes": "classes",
    "columns": "ratings",
}

#: What makes units agree, where there is a flag for it.
_ALIKE = {
    "ch_names": " with --channels",
    "reference": ", with --reference none if need be",
}


class _StoreWriter:
    """A store that is written one unit at a time.

    Parameters
    ----------
    folder : Path
        Where to write; it exists.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.arrays = {name: _NpyWriter(folder / f"{name}.npy") for name in ARRAYS}
        self.same: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        self.subspaces: dict[str, dict[str, Any]] = {}
        self.n_left_out = 0

    def append(self, result: _Result) -> None:
        """Add a unit; refuse one that does not fit to those before it."""
        subject, session = result.rows[0]["subject"], result.rows[0]["session"]
        if self.same:
            result = _in_order_of(self.same["ch_names"], result)
        for field in self.same:
            if result.same[field] != self.same[field]:
                ours, theirs = (_brief(one[field]) for one in (result.same, self.same))
                raise UserError(
                    f"Subject {subject} has the {_SAME[field]} {ours}, those before it {theirs}: "
                    f"give all the same ones{_ALIKE.get(field, '')}."
                )
        self.same = result.same
        unit = subject if subject not in self.subspaces else f"{subject}, session {session}"
        self.subspaces[unit] = result.subspace
        self.n_left_out += result.n_left_out
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
        same = {field: value for field, value in self.same.items() if field != "columns"}
        manifest = {
            **origin,
            **same,
            "grid": grid_of(same["ch_names"], same["montage"]).content(),
            "subspaces": self.subspaces,
            "trials_left_out": self.n_left_out,
            "trials": sha256(self.folder / "trials.csv"),
            "arrays": {name: sha256(self.folder / f"{name}.npy") for name in ARRAYS},
            "shapes": {name: list(writer.shape) for name, writer in self.arrays.items()},
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in ("numpy", "scipy", "mne")},
        }
        manifest["hash"] = manifest_hash(manifest)
        write_json(self.folder / "manifest.json", manifest)


def _in_order_of(ch_names: list[str], result: _Result) -> _Result:
    """Return what a unit has with its channels in another's order, if they are the same."""
    own = result.same["ch_names"]
    if own == ch_names or sorted(own) != sorted(ch_names):
        return result
    order = [own.index(name) for name in ch_names]
    arrays = {
        name: array[..., order] if name.endswith("de") else array[:, order]
        for name, array in result.arrays.items()
    }
    return result._replace(same={**result.same, "ch_names": ch_names}, arrays=arrays)


def _brief(value: Any) -> str:
    """Return what units have, as messages show it."""
    return " ".join(value) if isinstance(value, list) else str(value)


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
