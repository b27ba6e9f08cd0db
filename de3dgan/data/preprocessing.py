"""From recordings to a store, one subject at a time, so that memory does not grow with subjects."""

from __future__ import annotations

import io
import os
import platform
import warnings
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from de3dgan.base.errors import UserError
from de3dgan.base.files import (
    check_free_space,
    differences,
    make_folder,
    read_json,
    sha256,
    write_bytes,
    write_csv,
    write_errors,
    write_json,
)
from de3dgan.base.locks import recover_folder, replaced_folder
from de3dgan.base.paths import display_path
from de3dgan.data import sources
from de3dgan.data.opening import open_store, read_store
from de3dgan.data.sources import Segment, Subject
from de3dgan.data.store import ARRAYS, SETTINGS, Store, holds_other_files, manifest_hash
from de3dgan.eeg.de import band_signals, windowed_de
from de3dgan.eeg.montage import GRID_SHAPE, grid_cells
from de3dgan.eeg.sampling import SFREQ, WINDOW

#: Variance below exp(2 · this) µV² is an electrode that recorded nothing.
_FLAT_DE = -15.0


def build_store(source_name: str, data_dir: Path, out_dir: Path, n_jobs: int) -> Store:
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

    Raises
    ------
    UserError
        On recordings that cannot be read or do not fit together, naming the file; and, before
        anything is written, if the store needs more room than there is.
    """
    source = sources.load(source_name)
    files = source.find(data_dir)
    every_file = [path for paths in files.values() for path in paths]
    named = [f"{subject}/{path.name}" for subject, paths in files.items() for path in paths]
    hashes = Parallel(n_jobs=n_jobs, prefer="threads")(delayed(sha256)(path) for path in every_file)
    wanted = {
        **SETTINGS,
        "source": source_name,
        "source_code": sha256(source.__file__),
        "inputs": dict(zip(named, hashes, strict=True)),
    }
    _refuse_to_replace(out_dir, data_dir)
    recover_folder(out_dir)
    reason = _why_recompute(out_dir, wanted)
    if reason is None:
        print(f"{display_path(out_dir)} is up to date: {len(files)} subjects, nothing to compute.")
        return open_store(out_dir)
    print(f"Computing {display_path(out_dir)}: {reason}.")

    with replaced_folder(out_dir) as new:
        writers = {name: _NpyWriter(new / f"{name}.npy") for name in ARRAYS}
        rows: list[dict[str, Any]] = []
        n_baselines = 0
        ch_names: tuple[str, ...] | None = None
        tasks = (delayed(_process)(source_name, *subject) for subject in files.items())
        with (
            warnings.catch_warnings(),
            closing(Parallel(n_jobs=n_jobs, return_as="generator")(tasks)) as done,
            tqdm(total=len(files), unit="subject", desc="DE features") as bar,
        ):
            # Of joblib, that it stops working on other subjects if there is an error in one.
            warnings.filterwarnings("ignore", module="joblib")
            for names, arrays, subject_rows in done:
                if ch_names not in (None, names):
                    raise UserError(
                        f"Subject {subject_rows[0]['subject']} has the channels {' '.join(names)}, "
                        f"those before it {' '.join(ch_names)}: give all the same ones."
                    )
                if ch_names is None:
                    per_subject = sum(array.nbytes for array in arrays.values())
                    check_free_space(out_dir, per_subject * len(files))
                ch_names = names
                for name, writer in writers.items():
                    writer.append(arrays[name], subject_rows[0]["subject"])
                for row in subject_rows:
                    row["baseline"] += n_baselines
                    rows.append({"trial": len(rows), **row})
                n_baselines += len(arrays["baseline"])
                bar.update()
        for writer in writers.values():
            writer.close()
        write_csv(new / "trials.csv", rows)
        manifest = {
            **wanted,
            "ch_names": list(ch_names),
            "trials": sha256(new / "trials.csv"),
            "arrays": {name: sha256(new / f"{name}.npy") for name in ARRAYS},
            "shapes": {name: list(writer.shape) for name, writer in writers.items()},
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in ("numpy", "scipy", "mne")},
        }
        write_json(new / "manifest.json", {**manifest, "hash": manifest_hash(manifest)})
        read_store(out_dir, new)  # refuses what later scripts would, while the old one is there
    print(
        f"{display_path(out_dir)}: {len(files)} subjects, {len(rows)} trials, {len(ch_names)} "
        "channels."
    )
    return open_store(out_dir)


def subject_features(data: Subject) -> dict[str, np.ndarray]:
    """Compute everything the store holds of one subject.

    Returns
    -------
    dict of array, float32
        ``eeg`` (n_trials, n_chans, n_times) and ``baseline`` (n_baselines, n_chans,
        n_baseline_times) in µV; ``de`` (n_trials, n_bands, n_windows, n_chans), its baseline
        removed, and ``baseline_de`` (n_baselines, n_bands, n_chans) in nats.

    Notes
    -----
    Baselines of one source have one length on disk. A shorter one is repeated to fill it; its DE
    is of the samples that were recorded.
    """

    def cut(segment: Segment) -> np.ndarray:
        eeg = data.recordings[segment.recording][:, segment.start : segment.stop]
        with np.errstate(over="ignore"):
            return eeg.astype(np.float32)

    n_baseline_times = data.n_baseline_times or max(s.stop - s.start for s in data.baselines)
    de, baseline_de = subject_de(data)
    features = {
        "eeg": np.stack([cut(trial.segment) for trial in data.trials]),
        "baseline": np.stack(
            [_repeated(cut(segment), n_baseline_times) for segment in data.baselines]
        ),
        "de": de.astype(np.float32),
        "baseline_de": baseline_de.astype(np.float32),
    }
    for name, array in features.items():
        if not np.isfinite(array).all():
            raise UserError(
                f"Subject {data.subject}: {name} has values beyond what 32-bit numbers hold; "
                "recordings must be in µV."
            )
    return features


def subject_de(data: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Compute one subject's DE.

    Returns
    -------
    de : array, (n_trials, n_bands, n_windows, n_chans)
        In nats, the mean DE of the trial's baseline removed.
    baseline_de : array, (n_baselines, n_bands, n_chans)
        In nats.
    """
    segments = data.baselines + [trial.segment for trial in data.trials]
    bands: list[list[np.ndarray]] = [[] for _ in segments]
    for index, recording in enumerate(data.recordings):
        inside = [i for i, segment in enumerate(segments) if segment.recording == index]
        for band in band_signals(recording):
            for i in inside:
                bands[i].append(windowed_de(band[:, segments[i].start : segments[i].stop]))
    des = [np.stack(de) for de in bands]
    for de, segment in zip(des, segments, strict=True):
        _refuse_flat(de, data, segment)
    n_baselines = len(data.baselines)
    baseline_de = np.stack([de.mean(axis=1) for de in des[:n_baselines]])
    of_trial = [trial.baseline for trial in data.trials]
    return np.stack(des[n_baselines:]) - baseline_de[of_trial][:, :, None, :], baseline_de


def export_mat(store: Store, folder: Path) -> None:
    """Write the field's usual ``.mat`` layout, one file per subject.

    Each holds ``data``, float32 (n_trials · n_windows, n_bands, 8, 9), baseline removed and zero in
    empty cells, and for each of the source's ratings ``<rating>_labels`` (1, n_trials · n_windows):
    1 above 5 (the middle of DEAP's scale) and 0 below for a rating from 1 to 9, or the label itself
    where the source has 0/1 labels.
    """
    from scipy.io import savemat

    n_trials, n_bands, n_windows, _ = store.de.shape
    subjects = np.array(store.columns["subject"])
    cells = grid_cells(store.ch_names)
    make_folder(folder)
    for subject in tqdm(dict.fromkeys(subjects.tolist()), unit="file", desc=".mat export"):
        trials = np.flatnonzero(subjects == subject)
        grid = np.zeros((len(trials), n_windows, n_bands, GRID_SHAPE[0] * GRID_SHAPE[1]), "f4")
        grid[..., cells] = store.de[trials].swapaxes(1, 2)
        content = {"data": grid.reshape(-1, n_bands, *GRID_SHAPE)}
        for name in store.ratings:
            rating = store.rating(name)
            high = rating if set(rating) <= {0.0, 1.0} else rating > 5
            content[f"{name}_labels"] = np.repeat(high[trials], n_windows).astype(np.int64)
        mat = io.BytesIO()
        savemat(mat, content, do_compression=True)
        write_bytes(folder / f"{subject}.mat", mat.getbuffer())
    print(f"{display_path(folder)}: {len(set(subjects))} .mat files.")


def _process(
    source_name: str, subject: str, files: list[Path]
) -> tuple[tuple[str, ...], dict[str, np.ndarray], list[dict[str, Any]]]:
    """Read and compute one subject, in a process of its own."""
    data = sources.read_checked(sources.load(source_name), subject, files)
    rows = [
        {
            "subject": subject,
            "stimulus": trial.stimulus,
            "baseline": trial.baseline,
            **trial.ratings,
        }
        for trial in data.trials
    ]
    return data.ch_names, subject_features(data), rows


def _repeated(eeg: np.ndarray, n_times: int) -> np.ndarray:
    return np.take(eeg, np.arange(n_times) % eeg.shape[-1], axis=-1)


def _refuse_flat(de: np.ndarray, data: Subject, segment: Segment) -> None:
    flat = np.argwhere(de < _FLAT_DE)
    if len(flat):
        _, window, channel = flat[0]
        second = segment.start / SFREQ + window * WINDOW / SFREQ
        raise UserError(
            f"Subject {data.subject}: electrode {data.ch_names[channel]} is flat at "
            f"{second:g} s of recording {segment.recording + 1}, where DE is not defined: "
            "interpolate it or leave that subject out."
        )


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


def _why_recompute(out_dir: Path, wanted: dict[str, Any]) -> str | None:
    """Return why the store in `out_dir` does not do, or None if it does."""
    if not (out_dir / "manifest.json").is_file():
        return "there is no store yet"
    damaged = "the store there is damaged"
    try:
        old = read_json(out_dir / "manifest.json")
        changed = differences({key: old.get(key) for key in wanted}, wanted)
        if changed:
            return f"changed: {', '.join(changed)}"
        hashes = {name: sha256(out_dir / f"{name}.npy") for name in ARRAYS}
        return None if open_store(out_dir).manifest.get("arrays") == hashes else damaged
    except (UserError, AttributeError, OSError):  # no JSON, no object, no array
        return damaged


class _NpyWriter:
    """A ``.npy`` file that grows along its first axis, written in pieces."""

    def __init__(self, path: Path):
        self.path = path
        with write_errors(path):
            self.file = open(path, "wb")  # noqa: SIM115 - closed by `close`, or with the process
        self.shape: tuple[int, ...] = ()

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
