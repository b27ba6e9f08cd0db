"""One generator per fold, for all tasks: it sees no class, so that another task's is as good.

Folds do not depend on the task, see `de3dgan.data.splits`. A run of stage 1 that has not begun to
train looks beside it for a finished one of another task, with the same identity but for what is of
the task, and takes what that has left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from de3dgan.base.errors import UserError
from de3dgan.base.files import read_object, sha256, write_bytes, write_json, write_text
from de3dgan.base.paths import display_path
from de3dgan.base.schema import OBJECT, check
from de3dgan.training import checkpoints, directory, model_card

#: Settings that name a task and its classes. The generator knows nothing of them.
OF_TASK = ("task", "ratings", "threshold", "class_names")
#: What is taken as it is, besides figures.
_FILES = ("metrics.jsonl", "leakage.json")
#: What is read of a result.
_RESULT = {"quality": OBJECT, "quality.*": OBJECT}
#: The figure of generated EEG that depends on classes: how well they are learnt from it.
_OF_CLASSES = "tstr"
_REMEDY = "begin anew with --restart."


def finished_elsewhere(
    folder: Path, siblings: Iterable[Path], identity: Mapping[str, Any]
) -> tuple[Path | None, str]:
    """Look for a generator that may be taken.

    Parameters
    ----------
    folder : Path
        The run directory that is to have it.
    siblings : iterable of Path
        Run directories of the same stage and fold, of all tasks.
    identity : dict
        That of the run.

    Returns
    -------
    donor : Path or None
        A finished run with this identity, but for the task.
    why_not : str
        A sentence, if there is one with this identity that cannot be taken.
    """
    why_not = ""
    for donor in sorted(siblings):
        if donor == folder or not (donor / "config.json").is_file():
            continue
        with suppress(UserError):
            begun = read_object(donor / "config.json", _REMEDY)
            if _whatever_the_task(begun) != _whatever_the_task(identity):
                continue
            why_not = f"{display_path(donor)} would be the same generator, and is "
            if not directory.is_finished(donor):
                why_not += "not finished"
                continue
            why_not += "damaged"
            directory.read_model(donor / "model.pt", "gan", _REMEDY)
            result = read_object(donor / "result.json", _REMEDY)
            check(result, _RESULT, donor / "result.json", _REMEDY)
            return donor, ""
    return None, why_not and f"{why_not}: this run trains its own."


def take(donor: Path, folder: Path, identity: Mapping[str, Any], spent: Mapping[str, Any]) -> None:
    """Make a run directory that of a finished run, with the generator of another task.

    The files say whose it is, under ``taken_from``. How well classes are learnt from generated EEG
    is left out of the result: it was measured for the classes of the other task.

    Parameters
    ----------
    donor : Path
        Found by `finished_elsewhere`.
    folder : Path
        The run directory.
    identity : dict
        That of the run; its checkpoint is one of this run from now on.
    spent : dict
        What ``result.json`` says of the time and the memory that it took.
    """
    content = directory.read_model(donor / "model.pt", "gan", _REMEDY)
    theirs, ours = (each["settings"]["task"] for each in (content, identity))
    first = {"task": theirs, "model": sha256(donor / "model.pt")[:16]}
    origin = {"taken_from": content.get("taken_from", first)}  # it may have been taken there, too
    begun, result = (read_object(donor / f"{n}.json", _REMEDY) for n in ("config", "result"))
    directory.begin(folder, identity, begun["environment"], **origin)
    for path in sorted(donor.iterdir()):
        if path.name in _FILES or path.suffix == ".png":
            write_bytes(folder / path.name, path.read_bytes())
    checkpoints.save(folder / "model.pt", {**content, **identity, **origin})
    quality = {
        eeg: {name: value for name, value in row.items() if name != _OF_CLASSES}
        for eeg, row in result["quality"].items()
    }
    result = {**result, "task": ours, "quality": quality, **spent, **origin}
    write_text(folder / model_card.NAME, model_card.of_run(folder, result))
    write_json(folder / "result.json", result)  # the last: with it, the run is finished


def _whatever_the_task(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an identity that shapes a generator."""
    shapes = {name: identity.get(name) for name in directory.IDENTITY}
    if isinstance(shapes["settings"], Mapping):
        settings = {k: v for k, v in shapes["settings"].items() if k not in OF_TASK}
        shapes = {**shapes, "settings": settings}
    return shapes
