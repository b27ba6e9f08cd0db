"""What a stage reads of the stages before it: their checkpoints, which must be of its own split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from de3dgan.base.errors import UserError
from de3dgan.base.files import differences, read_object, sha256
from de3dgan.base.paths import display_path
from de3dgan.base.recipe import SHARED_BY_FOLD
from de3dgan.data.frames import Frames
from de3dgan.data.ledger import PAIRED
from de3dgan.data.scalers import STATISTICS, same_statistics
from de3dgan.data.splits import Split
from de3dgan.data.store import Store
from de3dgan.training import checkpoints
from de3dgan.training.directory import read_model


def read_upstream(
    path: Path,
    stage: str,
    command: str,
    identity: Mapping[str, Any],
    store: Store,
    split: Split,
) -> tuple[dict[str, Any], str]:
    """Read the checkpoint of an earlier stage.

    Parameters
    ----------
    path : Path
        Its ``model.pt``.
    stage : str
        The stage that it must be of.
    command : str
        What makes the right one.
    identity : dict
        That of the run that reads it.
    store, split
        The data of that run.

    Returns
    -------
    content : dict
    hash : str
        Of the file.

    Raises
    ------
    UserError
        If it is missing or damaged, or of another fold, store or split.
    """
    if not path.is_file():
        raise UserError(
            f"The {stage} stage of this fold has not been run ({display_path(path)} is missing): "
            f"run {command}"
        )
    remedy = f"make the right one with: {command} --restart"
    file_hash = sha256(path)
    content = read_model(path, stage, remedy)
    if sha256(path) != file_hash:
        raise UserError(f"{display_path(path)} is just being replaced: run the same command again.")
    certificate = path.with_name("leakage.json")
    is_leaky = certificate.is_file() and read_object(certificate, remedy).get("leaky") is True
    with checkpoints.refused_if_damaged(path, remedy):
        ch_names = [
            dict(enumerate(names)) for names in (content["arguments"]["ch_names"], store.ch_names)
        ]
        changed = [
            *differences(_shared_by_fold(content), _shared_by_fold(identity)),
            *differences(*ch_names, "ch_names.")[:1],
        ]
        if changed:
            raise UserError(
                f"{display_path(path)} is of another fold or task than this run, and differs in "
                f"{', '.join(changed)}: {remedy}"
            )
        frames = Frames(store, torch.device("cpu"), split.leaky)
        problem = foreign_data(content, frames, split, is_leaky)
    if problem:
        raise UserError(f"{display_path(path)} is not of this run's split: {problem}: {remedy}")
    return content, file_hash[:16]


def foreign_data(
    content: Mapping[str, Any], frames: Frames, split: Split, is_leaky: bool
) -> str | None:
    """Return in what the data of a checkpoint is not that of its split, or None.

    What it has seen must be of this split, and its scalers those of what it has seen. The leakage
    certificate looks at the same for what has been trained; here it is known before.

    Parameters
    ----------
    content : dict
        That of an earlier stage's ``model.pt``.
    frames : Frames
        The real EEG and its store.
    split : Split
        The split of the later stage.
    is_leaky : bool
        Whether its own certificate says so: the later stage will be marked as leaky, too, and
        test frames that it has seen are no reason to refuse it.
    """
    trials = {part: split.trials(part).tolist() for part in ("train", "val", "test")}
    changed = differences(_parts(content["trials"]), _parts(trials), "trials.")
    if changed:
        return f"it differs in {changed[0]}"
    seen, artefacts = content["seen"], expected_artefacts(content)
    if set(seen) != artefacts:
        there, expected = (" and ".join(sorted(names)) for names in (seen, artefacts))
        return f"seen holds {there or 'nothing'}, and must hold {expected}"
    for artefact, is_seen in seen.items():
        if len(is_seen) != frames.shape[0]:
            return f"seen.{artefact} has {len(is_seen)} frames, the store {frames.shape[0]}"
        n_tested = int(is_seen[split.test].sum())
        if n_tested and not split.leaky and not is_leaky:
            return (
                f"its {artefact} saw {n_tested} of the {len(split.test)} frames to test on, and "
                "the leakage.json beside it does not say so"
            )
        key, recompute = STATISTICS.get(artefact, (None, None))
        if key in content:
            if not is_seen.any():
                return f"its {artefact} saw no frame"
            recomputed = recompute(frames, np.flatnonzero(is_seen))
            if not same_statistics(recomputed, content[key]):
                changed = differences(content[key], asdict(recomputed), f"{key}.")
                return f"its {artefact} is not that of the frames it saw: {changed[0]}"
    return None


def expected_artefacts(content: Mapping[str, Any]) -> set[str]:
    """Return the artefacts that a checkpoint must have a record of."""
    networks = {"generator"} if content["stage"] == "gan" else {"classifier"}
    if content["module"] == "Generator":  # the published one, which has a critic
        networks.add("critic")
    # Fine-tuning goes on with the scaler of the classifier, which has the record.
    scalers = {artefact for artefact, (key, _) in STATISTICS.items() if key in content}
    more = scalers if content["stage"] != "finetune" else _made(content["settings"])
    return networks | {"chosen epoch"} | more


def _made(settings: Mapping[str, Any]) -> set[str]:
    """Return what fine-tuning makes from data: its paired EEG, unless that is real."""
    return set() if settings["augmentation"] in ("none", "real", "jitter", "people") else {PAIRED}


def _parts(trials: Mapping[str, Iterable[int]]) -> dict[int, str]:
    """Return the parts of a split that each trial is in, of the trials of each part."""
    parts: dict[int, str] = {}
    for part, numbers in trials.items():
        for trial in numbers:
            parts[trial] = f"{parts[trial]}+{part}" if trial in parts else part
    return parts


def _shared_by_fold(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a run's identity that the stages of a fold share."""
    return {
        **{name: identity["settings"].get(name) for name in SHARED_BY_FOLD},
        "store_hash": identity["store_hash"],
        "split_fingerprint": identity["split_fingerprint"],
    }
