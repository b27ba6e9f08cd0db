"""Writing files so that they are, at every moment, either old or new."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from de3dgan.errors import UserError
from de3dgan.paths import shown


@contextmanager
def atomic(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing; it becomes `path` if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with atomic(path) as file:
        file.write(text.encode())


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` to `path` as readable JSON, refusing NaN and infinity."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write `rows`, all with the same keys, to `path` with a header line."""
    rows = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_json(path: str | Path) -> Any:
    """Read a JSON file, or raise `UserError` naming it."""
    try:
        return json.loads(Path(path).read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(
            f"{shown(path)} is not valid JSON ({error}): delete it and rerun."
        ) from None


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(content: Any) -> str:
    """Return the SHA-256 of `content` as canonical JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> list[str]:
    """Return the (nested) fields in which two mappings differ, each with both its values."""
    found = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{path}{key}.")
        elif a != b:
            found.append(f"{path}{key} ({_brief(a)} there, {_brief(b)} now)")
    return found


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 24 else f"{text[:20]}…"


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Give a new, empty folder beside `path`; it replaces `path` if the block succeeds.

    Raises
    ------
    UserError
        If another process is at it.
    """
    new, old = _beside(path)
    new.mkdir(parents=True, exist_ok=True)
    lock = os.open(new, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UserError(
            f"Another process is writing {shown(path)}: wait until it has finished."
        ) from None
    try:
        for left in new.iterdir():  # by a process that was killed
            left.unlink()
        recover_folder(path)
        yield new
        if path.exists():
            os.replace(path, old)
        os.replace(new, path)
    finally:
        _remove(new)
        os.close(lock)
    _remove(old)


def recover_folder(path: Path) -> None:
    """Undo a replacement that was killed between its two renames."""
    _, old = _beside(path)
    if old.exists() and not path.exists():
        os.replace(old, path)
    _remove(old)


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
