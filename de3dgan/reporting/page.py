"""The page of a report: what it consists of, and how it is written as HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

from de3dgan.reporting.formats import Table, markdown_text

#: Symbol and headline of each verdict on generated EEG.
VERDICTS = {
    "helped": ("▲", "Generated EEG helped"),
    "hurt": ("▼", "Generated EEG hurt"),
    "no evidence": ("○", "No evidence that generated EEG helped or hurt"),
    "equivalent": ("=", "Generated EEG makes no difference worth a change"),
    "none": ("…", "No verdict on generated EEG yet"),
}


@dataclass(frozen=True)
class Picture:
    """A figure on the page.

    Attributes
    ----------
    source : str
        The image, as a data URI.
    width, height : int
        In pixels.
    alt, caption : str
        For who cannot see it; below it.
    mark : str
        "leaky", or nothing.
    """

    source: str
    width: int
    height: int
    alt: str
    caption: str
    mark: str = ""

    @property
    def tall(self) -> bool:
        """Whether it needs a sheet of paper for itself."""
        return self.height > 0.8 * self.width

    @property
    def readable(self) -> int:
        """Width in CSS pixels at which the smallest print can be read on a phone."""
        return self.width // 2


@dataclass(frozen=True)
class Section:
    """A section of a study's part of the page; `lists` and `cards` are folded away."""

    id: str
    title: str
    texts: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[Picture] = field(default_factory=list)
    lists: dict[str, dict[str, str]] = field(default_factory=dict)
    cards: dict[str, str] = field(default_factory=dict)
    commands: str = ""


@dataclass(frozen=True)
class Verdict:
    """What is said first."""

    kind: str
    sentences: list[str]

    @property
    def symbol(self) -> str:
        """A sign for it, beside the words."""
        return VERDICTS[self.kind][0]

    @property
    def headline(self) -> str:
        """It in one line."""
        return VERDICTS[self.kind][1]


@dataclass(frozen=True)
class Part:
    """What the page says about one study."""

    id: str
    title: str
    mark: str
    leaks: str
    verdict: Verdict
    notes: list[str]
    sections: list[Section]

    @property
    def marked_title(self) -> str:
        """Its title, with the mark."""
        return f"{self.title} ({self.mark})" if self.mark else self.title


def markdown(parts: Sequence[Part]) -> str:
    """Return the verdicts and the tables, for where a page cannot be shown."""
    lines = []
    for part in parts:
        lines += [f"## {part.marked_title}", "", f"**{part.verdict.headline}.**", ""]
        lines += [f"- {sentence}" for sentence in [*part.verdict.sentences, *part.notes]]
        for section in part.sections:
            if section.tables:
                lines += ["", f"### {section.title}"]
                for table in section.tables:
                    lines += ["", markdown_text(table).rstrip("\n")]
        lines.append("")
    return "\n".join(lines)


def html(parts: Sequence[Part]) -> str:
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
