"""Documents of benchmarks: prose written by hand, around a table that a program fills in.

The place of the table is marked by two comments, which Markdown does not show.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from de3dgan.base.errors import UserError
from de3dgan.base.files import write_text
from de3dgan.base.paths import display_path

_END = "<!-- end of table -->"


def fill_table(
    path: Path, script: str, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    """Replace the table of a document.

    Parameters
    ----------
    path : Path
        The document; between its marks is what `script` writes.
    script : str
        The program, as the mark names it: ``<!-- table: benchmarks/<script> -->``.
    columns : sequence of str
        Headings.
    rows : iterable of sequence of str
        Cells, as many in each row as there are columns.

    Raises
    ------
    UserError
        If the document or its marks are missing.
    """
    start = f"<!-- table: benchmarks/{script} -->"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if start not in text or _END not in text.partition(start)[2]:
        raise UserError(
            f"{display_path(path)} has no table of benchmarks/{script}: put the lines {start} and "
            f"{_END} where it belongs."
        )
    before, _, rest = text.partition(start)
    after = rest.partition(_END)[2]
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, *rows)]
    lines.insert(1, "|---" * len(columns) + "|")
    write_text(path, "\n".join([before + start, *lines, _END]) + after)
