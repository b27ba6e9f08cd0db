"""Opening a store, and what is checked then."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.files import differences, read_csv, read_json, sha256
from de3dgan.base.paths import display_path
from de3dgan.base.schema import OBJECT, TEXT, check, column, list_of, number, one_of, whole
from de3dgan.data.memory_maps import open_array
from de3dgan.data.store import (
    ARRAYS,
    FIXED_COLUMNS,
    FORMAT,
    REFERENCES,
    SETTINGS,
    Store,
    holds_other_files,
    manifest_hash,
    preprocessing_command,
)
from de3dgan.eeg.de import BANDS
from de3dgan.eeg.sampling import FRAME, SFREQ, WINDOW

#: What a manifest holds beside `SETTINGS`. Fields that only preprocess_de.py reads may be missing.
_FIELDS = {
    "source": TEXT,
    "ch_names": list_of(TEXT),
    "trials": TEXT,
    "shapes": OBJECT,
    **{f"shapes.{name}": list_of(whole(1), 3 + (name == "de")) for name in ARRAYS},
    "inputs": OBJECT,
    "inputs.*": TEXT,
    "montage": TEXT,
    "reference": one_of(*REFERENCES),
    "grid": OBJECT,
    "grid.shape": list_of(whole(1), 2),
    "grid.cells": list_of(whole(0)),
    "scales": OBJECT,
    "scales.*": list_of(number(), 2),
    "classes": OBJECT,
    "classes.*": list_of(TEXT),
}
#: How often opening starts again because the store has been replaced meanwhile.
_ATTEMPTS = 5


def open_store(path: str | Path) -> Store:
    """Open the store in folder `path`.

    While preprocess_de.py replaces it, this gives the old store or the new one, never parts of
    both. If a replacement was killed between its two renames, it gives the old one.

    Raises
    ------
    UserError
        If there is none, if it is damaged, if DE is not finite, or if it was made by a version
        of another format or with other settings than this version's.
    """
    path = Path(path)
    for _ in range(_ATTEMPTS):
        before = _version(path)
        store, problem = None, None
        try:
            store = read_store(path, _current_folder(path))
        except (UserError, OSError) as error:
            problem = error
        if _version(path) == before:  # it has not been replaced meanwhile
            if problem:
                raise problem
            return store
    raise UserError(f"{display_path(path)} is being replaced again and again: wait, and try again.")


def read_store(path: Path, folder: Path) -> Store:
    """Read and check the store that lies in `folder`, and that messages call `path`.

    Raises
    ------
    UserError
        See `open_store`.
    """
    if folder.is_file() or holds_other_files(folder):
        raise UserError(
            f"{display_path(path)} is no store: give the folder that preprocess_de.py made."
        )
    remedy = f"make it with: {preprocessing_command(path)}"
    if not (folder / "manifest.json").is_file():
        raise UserError(f"There is no store in {display_path(path)}: {remedy}")
    manifest = read_json(folder / "manifest.json")
    remedy = f"make it anew with: {preprocessing_command(path)}"
    _check_manifest(manifest, path, remedy)
    try:
        arrays = {name: _mapped(folder / f"{name}.npy") for name in ARRAYS}
    except Exception as error:  # numpy raises whatever the damage of a header leads it to
        raise UserError(
            f"The store in {display_path(path)} is damaged ({error}): {remedy}"
        ) from None
    if not (folder / "trials.csv").is_file():
        raise UserError(f"{display_path(path / 'trials.csv')} is missing: {remedy}")
    if sha256(folder / "trials.csv") != manifest["trials"]:
        raise UserError(f"{display_path(path / 'trials.csv')} has been edited: {remedy}")
    columns = read_csv(folder / "trials.csv", remedy)
    _check_shapes(arrays, manifest, path, remedy)
    _check_trials(columns, arrays, path / "trials.csv", remedy)
    store = Store(path=path, manifest=manifest, columns=columns, **arrays)
    for name in ("de", "baseline_de"):
        store.refuse_non_finite(name, range(len(arrays[name])))
    return store


def _current_folder(path: Path) -> Path:
    """Return the folder that the store of `path` is in.

    `locks.replaced_folder` renames the old store before it renames the new one. A process that was
    killed in between has left the old one under its temporary name.
    """
    old = path.with_name(f".{path.name}.old") if path.name else path
    return old if old.is_dir() and not path.exists() else path


def _version(path: Path) -> tuple[Any, ...]:
    """Return what changes whenever the store of `path` is replaced: folder, inode and manifest.

    The manifest holds a hash of everything else.
    """
    folder = _current_folder(path)
    try:
        return folder, folder.stat().st_ino, (folder / "manifest.json").read_bytes()
    except OSError:
        return (folder,)


def _mapped(path: Path) -> np.ndarray:
    array = open_array(path)
    if not isinstance(array, np.memmap) or array.dtype != np.float32 or np.isfortran(array):
        raise ValueError(f"{path.name} is no array of 32-bit numbers")
    return array


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
    names, grid = manifest["ch_names"], manifest["grid"]
    cells = set(grid["cells"])
    if not len(set(names)) == len(names) == len(cells) == len(grid["cells"]):
        raise UserError(
            f"{where} is damaged: {len(names)} channels have {len(set(names))} different names and "
            f"{len(cells)} different cells of the grid: {remedy}"
        )
    if max(cells) >= grid["shape"][0] * grid["shape"][1]:
        raise UserError(f"{where} is damaged: grid has no cell {max(cells)}: {remedy}")


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
            f"seconds: {remedy} and --trial-seconds"
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
    kinds = dict.fromkeys(FIXED_COLUMNS, TEXT)
    kinds |= {"trial": whole(0), "piece": whole(0), "baseline": whole(0, n_baselines - 1)}
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
