"""Recordings with a planted effect, as `python -m de3dgan.data.planted` writes them.

=================  =========================================================================
``manifest.json``  switches, what was drawn for each person, and the SHA-256 of all files
``trials.csv``     a row per trial: subject, recording, start, stop, stimulus, valence, arousal
                   and planted, which is the class before labels were turned over
``*.npy``          a recording each, float32 (n_chans, n_times), µV at 128 Hz
=================  =========================================================================

A baseline, if there is one, is the start of a recording.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.files import read_csv, read_object, sha256
from de3dgan.base.paths import display_path
from de3dgan.base.schema import OBJECT, TEXT, check, column, list_of, number, one_of, whole
from de3dgan.data.sources import Segment, Subject, Trial
from de3dgan.data.store import manifest_hash
from de3dgan.eeg.sampling import SFREQ

DEFAULT_DIR = "eeg_dataset/planted"

#: What is written and read; it goes up when older folders cannot be read any more.
FORMAT = 1
#: What a manifest must hold.
_FIELDS = {
    "format": one_of(FORMAT),
    "kind": one_of("planted recordings"),
    "sfreq": one_of(SFREQ),
    "settings": OBJECT,
    "settings.baseline_seconds": whole(0),
    "scales": OBJECT,
    "scales.*": list_of(number(), 2),
    "classes": OBJECT,
    "classes.*": list_of(TEXT),
    "people": OBJECT,
    "people.*": OBJECT,
    "people.*.ch_names": list_of(TEXT),
    "people.*.montage": TEXT,
    "people.*.files": OBJECT,
    "people.*.files.*": TEXT,
    "trials": TEXT,
}
_REMEDY = "make it anew with `python -m de3dgan.data.planted`."


def find(data_dir: Path) -> dict[str, list[Path]]:
    """Return each person's files: manifest, table of trials, and recordings."""
    folder = Path(data_dir)
    if not (folder / "manifest.json").is_file():
        raise UserError(
            f"There is no manifest.json in {display_path(folder)}: plant an effect in real "
            f"recordings with `python -m de3dgan.data.planted --source eegmat --out-dir "
            f"{display_path(folder)}`."
        )
    about = [folder / "manifest.json", folder / "trials.csv"]
    people = _manifest(about[0])["people"]
    return {
        subject: about + [folder / name for name in person["files"]]
        for subject, person in people.items()
    }


def read(subject: str, files: list[Path]) -> Subject:
    """Read one person's recordings, as they were written."""
    manifest_path, trials_path, *paths = files
    manifest = _manifest(manifest_path)
    person = manifest["people"][subject]
    _refuse_changed(trials_path, manifest["trials"])
    table = read_csv(trials_path, _REMEDY)
    recordings = [_recording(path, person) for path in paths]
    n_baseline = manifest["settings"]["baseline_seconds"] * SFREQ
    kinds = dict.fromkeys(("recording", "start", "stop"), whole(0)) | {"stimulus": TEXT}
    ratings = [*manifest["scales"], *manifest["classes"]]
    kinds |= dict.fromkeys(ratings, number())
    cells = {name: column(table, name, kind, trials_path, _REMEDY) for name, kind in kinds.items()}
    own = np.flatnonzero(np.array(table["subject"]) == subject)
    return Subject(
        subject=subject,
        ch_names=tuple(person["ch_names"]),
        recordings=recordings,
        baselines=[Segment(i, 0, n_baseline) for i in range(len(recordings)) if n_baseline],
        trials=[
            Trial(
                segment=Segment(*(cells[name][i] for name in ("recording", "start", "stop"))),
                baseline=cells["recording"][i] if n_baseline else None,
                stimulus=cells["stimulus"][i],
                ratings={name: float(cells[name][i]) for name in ratings},
            )
            for i in own
        ],
        scales={name: tuple(scale) for name, scale in manifest["scales"].items()},
        classes={name: tuple(names) for name, names in manifest["classes"].items()},
        montage=person["montage"],
    )


def is_planted(folder: Path) -> bool:
    """Return whether `folder` holds planted recordings, and nothing else."""
    try:
        manifest = _manifest(folder / "manifest.json")
    except UserError:
        return False
    own = {name for person in manifest["people"].values() for name in person["files"]}
    return {path.name for path in folder.iterdir()} <= own | {"manifest.json", "trials.csv"}


def _manifest(path: Path) -> dict[str, Any]:
    manifest = read_object(path, _REMEDY)
    check(manifest, _FIELDS, path, _REMEDY)
    if manifest_hash(manifest) != manifest.get("hash"):
        raise UserError(f"{display_path(path)} is damaged: it has been edited: {_REMEDY}")
    return manifest


def _recording(path: Path, person: dict[str, Any]) -> np.ndarray:
    _refuse_changed(path, person["files"][path.name])
    try:
        eeg = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{display_path(path)} is no array ({error}): {_REMEDY}") from None
    if eeg.ndim != 2 or len(eeg) != len(person["ch_names"]):
        raise UserError(
            f"{display_path(path)} has the shape {eeg.shape}, and must have a row for each of "
            f"{len(person['ch_names'])} electrodes: {_REMEDY}"
        )
    return eeg.astype(np.float64)


def _refuse_changed(path: Path, wanted: str) -> None:
    if not path.is_file() or sha256(path) != wanted:
        raise UserError(
            f"{display_path(path)} is missing, or not as it was written by its SHA-256 in "
            f"manifest.json: {_REMEDY}"
        )
