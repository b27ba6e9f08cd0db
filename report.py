"""Write one page, report.html, of what runs have given, and its tables for a paper.

Reads   runs/**/<task>/<protocol>/fold<k>/     the finished stages of all folds (and seeds)

Writes  <out>/report.html                      verdict, tables, certificate, figures, settings

Writes  <out>/report.md                        the verdict and the tables, as Markdown

Writes  <out>/tables/                          the tables as CSV and as LaTeX

The page is a single file without links to others: it can be mailed, put on a phone and printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from de3dgan.base.cli import command_line


@dataclass(frozen=True)
class Config:
    """Which runs, and where the report goes."""

    runs_dir: Path = Path("runs")  # everything below it is read, each task and protocol a part
    out: Path | None = None  # folder to write to; default: a folder report in --runs-dir


def main(config: Config) -> None:
    """Read the runs, write the report."""
    from de3dgan.base.paths import display_path, from_root
    from de3dgan.reporting.report import write_report

    runs_dir = from_root(config.runs_dir)
    page, tables, verdicts = write_report(runs_dir, config.out or runs_dir / "report")
    print("\n".join(verdicts))
    print(
        f"{display_path(page)}, and {len(tables)} tables in {display_path(page.parent / 'tables')}."
    )


if __name__ == "__main__":
    command_line(main, Config)
