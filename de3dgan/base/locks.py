"""One process at a time: locks, and folders that are replaced as a whole under one."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from de3dgan.base.errors import UserError
from de3dgan.base.files import make_folder, remove_folder, write_errors
from de3dgan.base.paths import display_path

#: What the system says when a file system has no locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Keep other processes from a file or folder, which need not exist yet.

    The system's lock is taken on a file ``.<name>.lock`` beside `path`, which names the process
    that holds it. The system releases it when that process ends, however it ends.

    Raises
    ------
    UserError
        If another process has it, naming that one.
    """
    make_folder(path.parent)
    lock_path = path.with_name(f".{path.name}.lock")
    with write_errors(lock_path):
        lock = _acquire(lock_path)
    if lock is None:
        raise UserError(
            f"{display_path(path)} is in use by {_holder(lock_path)}: wait until that has "
            "finished, or stop it."
        )
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = {"pid": os.getpid(), "host": platform.node(), "since": since}
        with write_errors(lock_path):
            os.ftruncate(lock, 0)
            os.write(lock, json.dumps(holder).encode())
        yield
    finally:
        with suppress(OSError):
            lock_path.unlink()
        os.close(lock)


def remove_stale_lock(path: Path) -> None:
    """Remove the lock file of a process that was killed after it had finished `path`."""
    if path.with_name(f".{path.name}.lock").exists():
        with suppress(UserError), file_lock(path):
            pass


def _acquire(path: Path) -> int | None:
    """Lock the file `path` and return its descriptor, or None if another process has the lock."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                print(
                    f"{display_path(path)}: this file system has no locks, so use it from one "
                    "process."
                )
                return lock
            os.close(lock)
            if isinstance(error, BlockingIOError):
                return None
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                return lock
        os.close(lock)  # the process that had it has removed the file meanwhile


def _holder(path: Path) -> str:
    """Return in words which process a lock file names."""
    try:
        found = json.loads(path.read_text())
        return f"process {found['pid']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, LookupError, TypeError):  # it is just being written
        return "another process"


def refuse_to_replace(path: Path, own: str, holds_others: bool) -> None:
    """Refuse a folder that `replaced_folder` would lose files of.

    Parameters
    ----------
    path : Path
        What a user gave as ``--out-dir``.
    own : str
        What is written there, and may be lost: "a store's".
    holds_others : bool
        Whether anything else is there.

    Raises
    ------
    UserError
        If it is a file, or holds others.
    """
    if path.exists() and not path.is_dir():
        raise UserError(f"{display_path(path)} is a file: choose another --out-dir.")
    if holds_others:
        raise UserError(
            f"{display_path(path)} holds other files than {own}, which would be lost: choose "
            "another --out-dir."
        )


def refuse_to_replace_inputs(path: Path, inputs: Path) -> None:
    """Refuse a folder, given as ``--out-dir``, that is the one of the recordings or above it."""
    out, data = path.resolve(), inputs.resolve()
    if out == data or out in data.parents:
        raise UserError(f"{display_path(path)} holds the recordings: choose another --out-dir.")


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Yield a new, empty folder beside `path`; it replaces `path` if the block succeeds.

    Raises
    ------
    UserError
        If another process is replacing it.
    """
    new, old = _new_and_old(path)
    with file_lock(path):
        remove_folder(new)  # left by a process that was killed
        _recover(path)
        try:
            make_folder(new)
            yield new
            with write_errors(path):
                if path.exists():
                    os.replace(path, old)
                os.replace(new, path)
        finally:
            remove_folder(new)
        remove_folder(old)


def recover_folder(path: Path) -> None:
    """Undo a replacement that was killed between its two renames."""
    if _new_and_old(path)[1].exists():
        with file_lock(path):
            _recover(path)


def _recover(path: Path) -> None:
    _, old = _new_and_old(path)
    with write_errors(path):
        if old.exists() and not path.exists():
            os.replace(old, path)
        remove_folder(old)


def _new_and_old(path: Path) -> tuple[Path, Path]:
    return path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")
