"""How the report words numbers, stages and verdicts."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from de3dgan.evaluation.statistics import Comparison, verdict, verdict_text
from de3dgan.reporting.results import MODELS

#: What stages are called where `MODELS` has no name.
GENERATOR = "stage 1: generator"
NOT_DEFINED = "–"
#: What is said of a model beside another, by `better_or_worse`.
COMPARED_TO = {
    "better": "better than",
    "worse": "worse than",
    "equivalent": "equivalent to",
    "no evidence": "no evidence of a difference from",
}
#: What is said of a network and a baseline.
BEATS = {
    "better": "beats {}",
    "worse": "does not beat {}, but is worse",
    "equivalent": "does not beat {}, but is as good",
    "no evidence": "does not beat {}, as far as this sample size shows",
}


def stage_name(folder: str) -> str:
    """Return what a stage is called, by its folder."""
    return MODELS.get(folder, GENERATOR)


def short_name(folder: str) -> str:
    """Return what a stage or model is called where there is little room."""
    kind, _, what = stage_name(folder).partition(": ")
    return f"control: {what.removeprefix('fine-tuned with ')}" if kind == "control" else kind


def better_or_worse(comparison: Comparison, p_adjusted: float) -> str:
    """Return the verdict on a comparison of any two models."""
    words = {"helped": "better", "hurt": "worse"}
    word = verdict(comparison, p_adjusted)
    return words.get(word, word)


def setting(values: Sequence[Any]) -> str:
    """Return the values of one setting; whole numbers in a row as a range."""
    if not values:
        return NOT_DEFINED
    whole = all(type(value) is int for value in values)
    if whole and len(values) > 2 and sorted(values) == list(range(min(values), max(values) + 1)):
        return f"{min(values)} to {max(values)}"
    texts = [
        ", ".join(map(str, value)) if isinstance(value, list) else str(value) for value in values
    ]
    return (", " if whole else "; ").join(texts)


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure as tables show it."""
    if value is None or math.isnan(value):
        return NOT_DEFINED
    text = f"{value:.{digits}f}"
    if not re.search("[1-9]", text):
        text = text.lstrip("-")
    return text.replace("-", "\N{MINUS SIGN}")


def points(value: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    text = number(100 * value, 1)
    return text if text == NOT_DEFINED or text.startswith("\N{MINUS SIGN}") else f"+{text}"


def p_value(p: float) -> str:
    """Return a p value with as many digits as matter."""
    return "< 0.001" if p < 0.001 else number(p, 3)


def count(n: int, thing: str, also: str = "") -> str:
    """Return "1 trial", "1,280 trials"."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}{also}"


def span(values: Sequence[int]) -> str:
    """Return "7", or "7 to 8"."""
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def equals(p: float) -> str:
    """Return a p value as it follows the letter p: "= 0.02", "< 0.001"."""
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def sentence(comparison: Comparison, p_adjusted: float) -> str:
    """Return `verdict_text` with the minus signs of the page."""
    text = verdict_text(comparison, p_adjusted)
    return re.sub(r"(?<=\s)-(?=\d)", "\N{MINUS SIGN}", text)
