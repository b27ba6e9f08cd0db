"""The files of a BIDS recording: its parts and its tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path

#: File formats of EEG in BIDS; what else a recording has lies beside it under the same name.
EXTENSIONS = (".bdf", ".edf", ".set", ".vhdr")
#: Bytes of the largest table that is read.
LARGEST_TABLE = 2**24

#: What stands for no value.
MISSING = ("", "n/a", "na", "nan", "none", "null")
#: What mends what cannot be mended in the settings.
LEAVE_OUT = "leave the subject out (subjects_left_out in the settings)"

Table = dict[str, list[str]]


def entities(path: Path) -> dict[str, str | None]:
    """Return what a file's name says: subject, session, task, run, and so on."""
    import mne_bids

    return mne_bids.get_entities_from_fname(path.name, on_error="ignore")


def is_eeg(path: Path) -> bool:
    """Return whether a file is the one that a recording of EEG is opened by."""
    return path.stem.endswith("_eeg") and path.suffix.lower() in EXTENSIONS


def parts(path: Path) -> list[Path]:
    """Return a recording's file, followed by those of the same name: EEG, markers, JSON."""
    others = [other for other in path.parent.glob("*") if other.stem.lower() == path.stem.lower()]
    return [path, *sorted(other for other in others if other != path and not is_eeg(other))]


def is_fetched(path: Path) -> bool:
    """Return whether a file is there, and not only git-annex's or git-lfs's word for it."""
    if not path.exists():
        return False
    with open(path, "rb") as file:
        return not file.read(40).startswith((b"/annex/objects/", b"version https://git-lfs"))


def find_table(path: Path, suffix: str) -> Path | None:
    """Return the table of a recording, if it has one.

    In its own folder, names may differ in case, as they do in some sets. Else, it inherits one from
    further up.

    Parameters
    ----------
    path : Path
        The recording.
    suffix : str
        "events", "channels" or "beh".
    """
    import mne_bids

    folder = path.parent.parent / "beh" if suffix == "beh" else path.parent
    name = f"{path.stem.removesuffix('eeg')}{suffix}.tsv"
    same = sorted(other for other in folder.glob("*.tsv") if other.name.lower() == name.lower())
    if same:
        return next((other for other in same if other.name == name), same[0])
    if suffix == "beh":
        return None
    return mne_bids.get_bids_path_from_fname(path, check=False).find_matching_sidecar(
        suffix=suffix, extension=".tsv", on_error="ignore"
    )


def read_table(path: Path) -> Table:
    """Return the columns of a table, as text; a byte-order mark at its head is none of it.

    Raises
    ------
    UserError
        If it is no table in UTF-8, or naming the line that has more or fewer cells than the first.
    """
    where = display_path(path)
    if path.stat().st_size > LARGEST_TABLE:
        raise UserError(f"{where} has more than {LARGEST_TABLE // 2**20} MiB: {LEAVE_OUT}.")
    try:
        with open(path, encoding="utf-8-sig") as file:  # line ends of any system
            lines = [line.rstrip("\n").split("\t") for line in file]
    except UnicodeDecodeError:
        raise UserError(f"{where} is no text in UTF-8: save it as that.") from None
    if not lines:
        raise UserError(f"{where} is empty: {LEAVE_OUT}.")
    header = [cell.strip() for cell in lines[0]]
    for number, line in enumerate(lines[1:], start=2):
        if line != [""] and len(line) != len(header):
            raise UserError(
                f"{where} has {len(header)} columns, and {len(line)} in line {number}: mend that."
            )
    rows = [line for line in lines[1:] if line != [""]]
    return {name: [row[i].strip() for row in rows] for i, name in enumerate(header)}


def column(table: Table, name: str, path: Path) -> list[str]:
    """Return a column of a table; raise `UserError` naming those that are there if it is not."""
    if name not in table:
        raise UserError(
            f"{display_path(path)} has no column {name}, but {', '.join(filter(None, table))}: "
            "mend the settings, or the table."
        )
    return table[name]


def number(cell: str, what: str) -> float:
    """Return the number in a cell; raise `UserError` about `what` if it is none that is finite."""
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise UserError(f"{what} is {cell!r}, and must be a number: mend that.")
    return value
