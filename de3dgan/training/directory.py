"""Whose a run directory is: a new run's, this one's to go on with, or another's, left alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from de3dgan.base.errors import UserError
from de3dgan.base.files import (
    differences,
    make_folder,
    read_json,
    read_object,
    remove_folder,
    write_errors,
    write_json,
)
from de3dgan.base.locks import file_lock, remove_stale_lock
from de3dgan.base.paths import display_path
from de3dgan.base.schema import OBJECT, TEXT, check, one_of
from de3dgan.training import checkpoints, distributed

#: What shapes a run, in its ``config.json``, its ``state.pt`` and its ``model.pt``.
IDENTITY = {
    **dict.fromkeys(("stage", "store_hash", "split_fingerprint"), TEXT),
    **dict.fromkeys(("settings", "upstream"), OBJECT),
}
#: What ``config.json`` holds.
_CONFIG = {
    **IDENTITY,
    "environment": OBJECT,
    "environment.precision": one_of("float32", "bfloat16"),
}
#: Files by which a directory is known to hold a run.
_FILES = ("config.json", "state.pt", "model.pt", "result.json")


def is_finished(folder: Path) -> bool:
    """Return whether a directory holds a finished run."""
    return (folder / "result.json").is_file() and (folder / "model.pt").is_file()


def has_trained(folder: Path) -> bool:
    """Return whether a directory holds what a run has learnt, finished or to go on with."""
    return is_finished(folder) or (folder / "state.pt").is_file()


def refuse_other_run(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Refuse to go on with what another run has left.

    Returns
    -------
    dict or None
        The ``config.json`` of the run, None if it has not begun.

    Raises
    ------
    UserError
        If the directory holds a run of another `identity`, or one of which that is not known.
    """
    left = [name for name in _FILES if (folder / name).is_file()]
    if not left:
        return None
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(
            f"{display_path(folder)} holds {left[0]} but no config.json to say of which run: begin "
            "anew with --restart."
        )
    begun = read_json(path)
    check(begun, _CONFIG, path, "begin anew with --restart.")
    changed = differences({key: begun[key] for key in identity}, identity)
    if changed:
        raise UserError(
            f"{display_path(folder)} holds a run that differs in {', '.join(changed)}: give the "
            "same settings to go on with it, --restart to replace it, or another --runs-dir."
        )
    return begun


@contextmanager
def claimed(
    folder: Path, identity: Mapping[str, Any], restart: bool
) -> Iterator[dict[str, Any] | None]:
    """Make a directory this run's, and keep other processes from it.

    Of several processes of one run, the main one does so, and the others wait. A finished run is
    only looked at, wherever it may have been put.

    Parameters
    ----------
    folder : Path
        The run directory.
    identity : dict
        What shapes the run.
    restart : bool
        Whether to remove what is there.

    Yields
    ------
    dict or None
        The ``config.json`` of the run, None if it has not begun; see `begin`.

    Raises
    ------
    UserError
        If it is another run's, or if another process is at it.
    """
    is_main, finished = distributed.is_main_process(), is_finished(folder) and not restart
    if finished and is_main:
        remove_stale_lock(folder)
    begun = None
    with file_lock(folder) if is_main and not finished else nullcontext():
        if is_main:
            if restart:
                with write_errors(folder):
                    remove_folder(folder)
            begun = refuse_other_run(folder, identity)  # another process may have been quicker
            if not is_finished(folder):
                for left in folder.glob(".*.tmp"):  # of a process that was killed while writing
                    left.unlink(missing_ok=True)
        yield distributed.broadcast(begun)


def begin(
    folder: Path, identity: Mapping[str, Any], environment: Mapping[str, Any], **more: Any
) -> None:
    """Write the ``config.json`` of a run: what shapes it, what it began with, and `more`."""
    make_folder(folder)
    write_json(folder / "config.json", {**identity, "environment": environment, **more})


def read_state(folder: Path, identity: Mapping[str, Any], remedy: str) -> dict[str, Any]:
    """Read the ``state.pt`` that a stopped run has left; empty if there is none.

    Raises
    ------
    UserError
        If it is damaged, or of another run; it ends with `remedy`.
    """
    path = folder / "state.pt"
    if not path.is_file():
        return {}
    state = checkpoints.load(path, remedy)
    with checkpoints.refused_if_damaged(path, remedy):
        changed = differences(state["identity"], identity)
    if changed:
        raise UserError(
            f"{display_path(path)} is of another run, which differs in {', '.join(changed)}: "
            f"{remedy}"
        )
    return state


def read_model(path: Path, stage: str, remedy: str) -> dict[str, Any]:
    """Read the ``model.pt`` of a stage's run, as `checkpoints.load_model` does.

    Raises
    ------
    UserError
        As that does; or if it is not of the run that the ``config.json`` beside it describes.
    """
    content = checkpoints.load_model(path, stage, remedy)
    beside = read_object(path.with_name("config.json"), remedy)
    with checkpoints.refused_if_damaged(path, remedy):
        changed = differences(*({key: at.get(key) for key in IDENTITY} for at in (content, beside)))
    if changed:
        raise UserError(
            f"{display_path(path)} is not of the run that the config.json beside it describes; it "
            f"differs in {', '.join(changed)}: {remedy}"
        )
    return content
