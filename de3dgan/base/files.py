"""Files that are whole at every moment: the old content or the new. JSON, CSV, hashes."""

from __future__ import annotations

import codecs
import csv
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path

#: What the system says when a disk, or the share of it that a user may fill, is full.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
#: What it says when writing is not allowed.
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def write_errors(path: str | Path, n_bytes: int | None = None) -> Iterator[None]:
    """Turn an `OSError` of writing `path` in the block into a `UserError` that says what to do.

    Parameters
    ----------
    path : str or Path
        The file or folder that is being written.
    n_bytes : int, optional
        How much room it needs.

    Raises
    ------
    UserError
        In the place of an `OSError`: what is wrong, and what mends it.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in _FULL:
            room = "" if n_bytes is None else f" needs {_mib(n_bytes)} and"
            remedy = f"it{room} finds {_mib(free_bytes(path))} free, so make room"
        elif error.errno in _FORBIDDEN:
            remedy = "allow writing there, or choose another folder"
        else:
            remedy = f"see that the folder {display_path(Path(path).parent)} is there"
        raise UserError(
            f"Cannot write {display_path(path)} ({reason}): {remedy}, and run the same command "
            "again."
        ) from None


def free_bytes(path: str | Path) -> int:
    """Return how much may be written where `path` is, or will be."""
    path = Path(os.path.abspath(path))
    return shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free


def check_free_space(path: Path, n_bytes: int) -> None:
    """Raise `UserError` if `n_bytes` are more than may be written where `path` will be."""
    free = free_bytes(path)
    if n_bytes > free:
        raise UserError(
            f"{display_path(path)} needs {_mib(n_bytes)} and finds {_mib(free)} free: make room, "
            "or choose another folder."
        )


def _mib(n_bytes: int) -> str:
    return f"{n_bytes:,} bytes" if n_bytes < 2**20 else f"{n_bytes / 2**20:,.1f} MiB"


def make_folder(path: Path) -> None:
    """Make folder `path`, and those that it is in, unless it is there."""
    with write_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove `folder` with all that is in it, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


@contextmanager
def atomic_write(path: str | Path, n_bytes: int | None = None) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing; it becomes `path` if the block succeeds.

    Parameters
    ----------
    path : str or Path
        In a folder that is there.
    n_bytes : int, optional
        How much will be written, for the message if there is no room for it.

    Raises
    ------
    UserError
        If it cannot be written; what was there before is still there.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with write_errors(path, n_bytes):
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink()


def write_bytes(path: str | Path, content: bytes | memoryview) -> None:
    """Write `content` to `path` atomically."""
    with atomic_write(path, len(content)) as file:
        file.write(content)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    write_bytes(path, text.encode())


def append_line(path: str | Path, line: str) -> None:
    """Add a line to `path`; the one file here that grows, and may end in half a line if killed."""
    with write_errors(path, len(line) + 1), open(path, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` to `path` as readable JSON, refusing NaN and infinity."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write `rows`, all with the same keys, to `path` with a header line, one at a time."""
    rows = iter(rows)
    first = next(rows)
    with atomic_write(path) as file:
        text = codecs.getwriter("utf-8")(file)
        writer = csv.DictWriter(text, list(first), lineterminator="\n")
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(rows)


def read_csv(path: Path, remedy: str) -> dict[str, list[str]]:
    """Read a CSV file with a header line and at least one row.

    Returns
    -------
    dict of str to list of str
        Its columns.

    Raises
    ------
    UserError
        If it cannot be read, has two columns of one name, or has a row of another length.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            columns: list[list[str]] = [[] for _ in header]
            known: dict[str, str] = {}  # cells that come again are kept once
            n_rows, wrong = 0, None
            for n_rows, row in enumerate(rows, start=1):
                if len(row) != len(header):
                    wrong = wrong or (n_rows + 1, len(row))
                    continue
                for cells, cell in zip(columns, row, strict=True):
                    cells.append(known.setdefault(cell, cell))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{display_path(path)} is damaged or missing ({error}): {remedy}") from None
    problem = None
    if not n_rows:
        problem = "it has no row"
    elif len(set(header)) < len(header):
        problem = "two of its columns have one name"
    elif wrong is not None:
        problem = f"line {wrong[0]} has {wrong[1]} columns, and line 1 has {len(header)}"
    if problem:
        raise UserError(f"{display_path(path)} is damaged: {problem}: {remedy}")
    return dict(zip(header, columns, strict=True))


def read_json(path: str | Path) -> Any:
    """Read a JSON file, or raise `UserError` naming it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{display_path(path)} is not valid JSON ({error}): delete it and rerun."
        ) from None


def read_object(path: str | Path, remedy: str) -> dict[str, Any]:
    """Read a JSON file that holds an object, or raise `UserError` naming it and `remedy`."""
    content = read_json(path) if Path(path).is_file() else None
    if not isinstance(content, dict):
        raise UserError(f"{display_path(path)} is damaged or missing: {remedy}")
    return content


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_hash(content: Any) -> str:
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
            a, b = (json.dumps(value) for value in (a, b))
            alike = len(os.path.commonprefix([a, b]))
            found.append(f"{path}{key} ({_brief(a, alike)} there, {_brief(b, alike)} now)")
    return found


def _brief(text: str, alike: int) -> str:
    """Return a part of `text` that shows what follows the first `alike` characters."""
    start = alike - 8 if alike > 16 else 0
    part = text[start : start + 24]
    return f"{'…' * (start > 0)}{part}{'…' * (start + 24 < len(text))}"
