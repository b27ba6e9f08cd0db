"""Documents of benchmarks: prose written by hand, around what programs fill in.

The place is marked by two comments, which Markdown does not show.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from de3dgan.base.errors import UserError
from de3dgan.base.files import write_text
from de3dgan.base.paths import display_path

if TYPE_CHECKING:
    from de3dgan.evaluation.statistics import Estimate

_END = "<!-- end of table -->"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table, given its headings and the cells of each row."""
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (columns, *rows)]
    return [lines[0], "|---" * len(columns) + "|", *lines[1:]]


def interval(found: Estimate, form: str = ".3f", scale: float = 1) -> str:
    """Return a figure with its 95 % interval as text."""
    value, low, high = (f"{scale * x:{form}}" for x in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def fill(path: Path, script: str, lines: Iterable[str]) -> None:
    """Replace what stands in a document after ``<!-- table: benchmarks/<script> -->``.

    Raises
    ------
    UserError
        If the document or its marks are missing.
    """
    start = f"<!-- table: benchmarks/{script} -->"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, _, rest = text.partition(start)
    if _END not in rest:
        raise UserError(
            f"{display_path(path)} has no table of benchmarks/{script}: put the lines {start} and "
            f"{_END} where it belongs."
        )
    write_text(path, "\n".join([before + start, *lines, _END]) + rest.partition(_END)[2])


def fill_table(
    path: Path, script: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Replace a table of a document; see `fill`."""
    fill(path, script, table(columns, rows))
