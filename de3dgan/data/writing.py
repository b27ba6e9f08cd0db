"""Writing a store, one unit at a time, so that memory does not grow with their number."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.files import sha256, write_csv, write_errors, write_json
from de3dgan.data.store import ARRAYS, manifest_hash
from de3dgan.eeg.montage import Grid


class Unit(NamedTuple):
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
        What `de3dgan.data.preprocessing.in_common_subspace` has removed; empty if nothing.
    n_left_out : int
        Trials that are shorter than a piece.
    """

    same: dict[str, Any]
    arrays: dict[str, np.ndarray]
    rows: list[dict[str, Any]]
    subspace: dict[str, Any]
    n_left_out: int = 0


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


class StoreWriter:
    """A store that is written one unit at a time.

    Parameters
    ----------
    folder : Path
        Where to write; it exists.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.arrays = {name: NpyWriter(folder / f"{name}.npy") for name in ARRAYS}
        self.same: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        self.subspaces: dict[str, dict[str, Any]] = {}
        self.n_left_out = 0

    def append(self, result: Unit) -> None:
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

    def close(self, origin: dict[str, Any], grid: Grid) -> None:
        """Complete the arrays, and write the files that describe them.

        Parameters
        ----------
        origin : dict
            What they were made from; fields of the manifest.
        grid : Grid
            Where the electrodes are.
        """
        for writer in self.arrays.values():
            writer.close()
        write_csv(self.folder / "trials.csv", self.rows)
        same = {field: value for field, value in self.same.items() if field != "columns"}
        manifest = {
            **origin,
            **same,
            "grid": grid.content(),
            "subspaces": self.subspaces,
            "trials_left_out": self.n_left_out,
            "trials": sha256(self.folder / "trials.csv"),
            "arrays": {name: sha256(self.folder / f"{name}.npy") for name in ARRAYS},
            "shapes": {name: list(writer.shape) for name, writer in self.arrays.items()},
            "versions": {"python": platform.python_version()} | _versions(),
        }
        manifest["hash"] = manifest_hash(manifest)
        write_json(self.folder / "manifest.json", manifest)


def _versions() -> dict[str, str]:
    """Return the versions of the packages that made the arrays; a GPU node may lack MNE."""
    found = {}
    for package in ("numpy", "scipy", "mne"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _in_order_of(ch_names: list[str], result: Unit) -> Unit:
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


class NpyWriter:
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
