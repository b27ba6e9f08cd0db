"""The report: everything that runs have given, on one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2

from de3dgan.base.files import make_folder, write_csv, write_text
from de3dgan.reporting.formats import latex_text, markdown_text
from de3dgan.reporting.sections import Part, study_part
from de3dgan.reporting.study import read_studies


def write_report(runs_dir: Path, out: Path) -> tuple[Path, list[Path], list[str]]:
    """Write ``report.html``, ``report.md`` and ``tables/`` of all studies below a folder.

    Parameters
    ----------
    runs_dir : Path
        Where stages have put their results.
    out : Path
        Folder to write to.

    Returns
    -------
    page : Path
    tables : list of Path
        What was written.
    verdicts : list of str
        In a line each.

    Raises
    ------
    UserError
        If there is nothing to report, or if a file is damaged; nothing is written then.
    """
    parts = [study_part(study, runs_dir) for study in read_studies(runs_dir)]
    tables = [table for part in parts for section in part.sections for table in section.tables]
    latex, markdown, page = [latex_text(table) for table in tables], _markdown(parts), _html(parts)
    make_folder(out / "tables")
    paths = []
    for table, text in zip(tables, latex, strict=True):
        paths += [out / "tables" / f"{table.name}.{ending}" for ending in ("csv", "tex")]
        write_csv(paths[-2], table.records)
        write_text(paths[-1], text)
    write_text(out / "report.md", markdown)
    write_text(out / "report.html", page)
    verdicts = [f"{_title(part)}: {part.verdict.headline}." for part in parts]
    return out / "report.html", paths, verdicts


def _markdown(parts: Sequence[Part]) -> str:
    """Return the verdicts and the tables, for where a page cannot be shown."""
    lines = []
    for part in parts:
        lines += [f"## {_title(part)}", "", f"**{part.verdict.headline}.**", ""]
        lines += [f"- {sentence}" for sentence in [*part.verdict.sentences, *part.notes]]
        for section in part.sections:
            if section.tables:
                lines += ["", f"### {section.title}"]
                for table in section.tables:
                    lines += ["", markdown_text(table).rstrip("\n")]
        lines.append("")
    return "\n".join(lines)


def _html(parts: Sequence[Part]) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html.jinja").render(
        title="DE-3DGAN: what the generated EEG is worth"
        + (" (leaky)" if all(part.mark for part in parts) else ""),
        introduction="A network (stage 2) learns to tell classes of EEG apart, and is then "
        "fine-tuned (stage 3) with EEG that a generator (stage 1) generates from differential "
        "entropy (DE). All figures are of test data, which had no say in training, normalisation "
        "or the choice of an epoch, unless they are marked as leaky.",
        parts=parts,
        footer="Written by report.py. The page needs no network and no other file.",
    )


def _title(part: Part) -> str:
    return f"{part.title} ({part.mark})" if part.mark else part.title
