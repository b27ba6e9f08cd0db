"""From recordings to a store, one subject at a time, so that memory does not grow with subjects."""

from __future__ import annotations

import warnings
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from de3dgan.base.errors import UserError
from de3dgan.base.files import (
    check_free_space,
    differences,
    read_json,
    sha256,
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
from de3dgan.data.store import ARRAYS, REFERENCES, SETTINGS, Store, holds_other_files
from de3dgan.data.writing import StoreWriter, Unit
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
        writer = StoreWriter(folder)
        for result in progress:
            if not writer.rows:
                size = sum(array.nbytes for array in result.arrays.values())
                check_free_space(out_dir, size * len(files))
            writer.append(result)
        same = writer.same
        writer.close(origin, grid_of(same["ch_names"], same["montage"]))
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


def _process(source_name: str, unit: str, files: list[Path], how: How) -> Unit:
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
    return Unit(same, arrays, rows, about, len(data.trials) - len(cut))


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
