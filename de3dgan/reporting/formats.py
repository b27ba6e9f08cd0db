"""A table of a report, and how it is written as LaTeX and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\N{MINUS SIGN}": "$-$",
    "–": "--",
    "κ": r"$\kappa$",
    "µ": r"\textmu{}",
}


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes
    ----------
    text : str
        What it says.
    small : tuple of str
        Lines below it, in small print.
    mark : str
        A word that is set apart: "leaky".
    """

    text: str
    small: tuple[str, ...] = ()
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """One table, to be written in four ways.

    Attributes
    ----------
    name : str
        Name of its files.
    caption : str
        What is in it, in whole sentences.
    columns : tuple of str
        Headings; the first is that of the rows' names.
    rows : list of list of Cell
        The first cell of each is its name; a row of one cell is a heading of those below it.
    records : list of dict
        The same with all digits, one figure a line where there are intervals: the CSV.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: list[list[Cell]]
    records: list[dict[str, Any]]


def csv_rows(table: Table) -> list[dict[str, Any]]:
    """Return a table's records for a CSV file, where what is not defined is an empty cell."""
    return [
        {key: None if value != value else value for key, value in record.items()}
        for record in table.records
    ]


def latex_text(table: Table) -> str:
    r"""Return a table as LaTeX, to be read with ``\input`` where booktabs is loaded."""
    lines = [
        "% " + table.caption,
        r"% Needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        r"\toprule",
        _latex_row(map(latex, table.columns)),
        r"\midrule",
    ]
    for name, *cells in table.rows:
        mark = rf" \textbf{{({latex(name.mark)})}}" if name.mark else ""
        if not cells:
            heading = rf"\emph{{{latex(name.text)}}}"
            lines.append(rf"\multicolumn{{{len(table.columns)}}}{{l}}{{{heading}}} \\")
            continue
        lines.append(_latex_row([latex(name.text) + mark, *(latex(cell.text) for cell in cells)]))
        for small in zip_longest(*(cell.small for cell in cells), fillvalue=""):
            lines.append(
                _latex_row(["", *(rf"\scriptsize {latex(s)}" if s else "" for s in small)])
            )
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def markdown_text(table: Table) -> str:
    """Return a table as Markdown, small print in the same cell."""
    lines = [
        table.caption,
        "",
        f"| {' | '.join(table.columns)} |",
        f"|---|{'---:|' * (len(table.columns) - 1)}",
    ]
    for name, *cells in table.rows:
        texts = [f"{name.text} **({name.mark})**" if name.mark else name.text]
        if not cells:
            texts = [f"**{name.text}**", *([""] * (len(table.columns) - 1))]
        for cell in cells:
            small = f"<br><sub>{'<br>'.join(cell.small)}</sub>" if cell.small else ""
            texts.append(cell.text + small)
        lines.append(f"| {' | '.join(text.replace('|', '&#124;') for text in texts)} |")
    return "\n".join(lines) + "\n"


def latex(text: str) -> str:
    """Return `text` with what means something to LaTeX escaped."""
    return "".join(_LATEX.get(sign, sign) for sign in text)


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
