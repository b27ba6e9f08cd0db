"""The tables of a report: for the page, as CSV, as LaTeX and as Markdown."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path
from de3dgan.evaluation.baselines import NAMES as BASELINES
from de3dgan.evaluation.metrics import METRICS
from de3dgan.evaluation.statistics import Comparison, Estimate, verdict
from de3dgan.reporting.results import MODELS, PRIMARY, UNITS, Fold, Study

#: What stages are called where `MODELS` has no name.
GENERATOR = "stage 1: generator"
NOT_DEFINED = "–"
_METRIC_NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "auc": "AUC",
    "mcc": "MCC",
    "kappa": "Cohen's κ",
    "ece": "ECE (lower is better)",
}
#: A line on each metric, for whoever meets it for the first time.
METRIC_TEXTS = {
    "Accuracy": "share of right answers.",
    "Balanced accuracy": "mean over the classes of the share that is right; chance is one in the "
    "number of classes, whatever their sizes. Comparisons rest on it, per frame.",
    "Macro F1": "mean over the classes of F1, the harmonic mean of precision and recall.",
    "AUC": "how often an example of a class is given a higher probability of it than one of "
    "another class; chance is 0.5.",
    "MCC": "Matthews' correlation of true and predicted classes; chance is 0.",
    "Cohen's κ": "agreement beyond what the frequencies of the classes give; chance is 0.",
    "ECE": "expected calibration error, how far confidence is from accuracy on average; 0 is best.",
}
#: What the figures of `quality` mean: name, explanation, digits.
_QUALITY = {
    "de_round_trip.correlation": (
        "DE kept: correlation",
        "Does DE of the EEG follow the DE that it was made from? 1 is perfect, 0 not at all.",
        2,
    ),
    "de_round_trip.mae": (
        "DE kept: mean absolute error (nats)",
        "0 is perfect; 0.7 is an amplitude of half or double.",
        2,
    ),
    "de_round_trip.bias": (
        "DE kept: bias (nats)",
        "0 is perfect; below it the EEG is too quiet, above it too loud.",
        2,
    ),
    "log_spectrum_distance": (
        "Distance of log spectra (nats)",
        "Mean distance of the power spectra, frequency by frequency. Good: as low as real EEG.",
        2,
    ),
    "channel_correlation_error": (
        "Error of correlations between electrodes",
        "How wrongly electrodes go together, from 0 to 2. Good: as low as real EEG.",
        3,
    ),
    "seam_ratio": (
        "Steps across the borders of seconds",
        "Relative to steps inside them. 1 is perfect; above it the seconds do not join.",
        2,
    ),
    "amplitude_uv": (
        "Amplitude (µV)",
        "Standard deviation. Good: that of real EEG.",
        1,
    ),
    "discriminative_score": (
        "Told from real EEG",
        "Balanced accuracy of a small network that tells it from real EEG. 0.5 is perfect: not at "
        "all; 1 is always.",
        2,
    ),
    "tstr": (
        "Train on it, test on real EEG",
        "Balanced accuracy of a linear model that learns the classes from it. Good: as high as "
        "real EEG.",
        2,
    ),
    "draws_correlation": (
        "Likeness of two draws",
        "Correlation of two pieces of EEG made from the same DE. Good: as low as real EEG; at 1 "
        "there is only one EEG for each DE.",
        2,
    ),
    "nearest_training": (
        "Distance from the nearest training frame",
        "Good: as high as real EEG; far below it, training EEG is copied.",
        2,
    ),
}
_QUALITY_ROWS = {
    "real": "Real EEG (what is reachable)",
    "generated": "Generated EEG",
    "noise": "Noise of the same DE",
}
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


def csv_text(table: Table) -> str:
    """Return a table as CSV; what is not defined is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table.records[0]), lineterminator="\n")
    writer.writeheader()
    for record in table.records:
        nan = {key for key, value in record.items() if value != value}
        writer.writerow({**record, **dict.fromkeys(nan)})
    return text.getvalue()


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
            lines.append(
                rf"\multicolumn{{{len(table.columns)}}}{{l}}{{\emph{{{latex(name.text)}}}}} \\"
            )
            continue
        lines.append(_latex_row([latex(name.text) + mark, *(latex(cell.text) for cell in cells)]))
        for number in range(max((len(cell.small) for cell in cells), default=0)):
            small = (cell.small[number] if number < len(cell.small) else "" for cell in cells)
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


def stage_name(folder: str) -> str:
    """Return what a stage is called, by its folder."""
    return MODELS.get(folder, GENERATOR)


def short_name(folder: str) -> str:
    """Return what a stage or model is called where there is little room."""
    kind, _, what = stage_name(folder).partition(": ")
    return f"control: {what.removeprefix('fine-tuned with ')}" if kind == "control" else kind


def table_name(study: Study, name: str) -> str:
    """Return the name of a table's files; tables with leaky figures are called so."""
    leaky = any(fold.leaky(stage) for fold in study.every_fold() for stage in fold.results)
    return f"{study.task}-{study.protocol}-{name}{'-leaky' if leaky else ''}"


def scores_table(study: Study, unit: str, estimates: Mapping[str, Mapping[str, Estimate]]) -> Table:
    """Return the table of all models and metrics.

    Parameters
    ----------
    study : Study
        What it is of.
    unit : str
        "frame" or "trial".
    estimates : mapping
        `statistics.estimate` of each model in that unit.
    """
    seeds = list(study.folds)
    rows, records = [], []
    for model, of_model in estimates.items():
        leaky = study.leaky(model)
        cells = []
        for metric in METRICS:
            found = of_model[metric]
            cells.append(Cell(number(found.value), _interval_and_seeds(found)))
            records.append(
                {
                    "model": model,
                    "name": MODELS[model],
                    "leaky": leaky,
                    "unit": UNITS[unit],
                    "metric": metric,
                    **_columns_of(found),
                }
            )
        rows.append([Cell(MODELS[model], mark="leaky" if leaky else ""), *cells])
    first = next(iter(study.predictions.values()))[0]
    groups, labels, _ = first.in_unit(unit)
    n_classes = first.probabilities.shape[1]
    counted = {
        "frame": "Per one-second frame",
        "trial": "Per trial, whose prediction is the mean of its frames'",
    }
    caption = (
        f"{counted[unit]}: {count(len(labels), UNITS[unit])} of "
        f"{count(len(set(groups.tolist())), 'group', f' ({study.group})')} that were tested on. "
        "Below each figure its 95 % interval, for which whole groups are drawn anew"
        + (", widened since folds train on what others test" if study.pooled_folds else "")
        + (
            f"; figures are means over the {len(seeds)} seeds {', '.join(map(str, seeds))}, and "
            "below the interval are the lowest and the highest seed's"
            if len(seeds) > 1
            else ""
        )
        + f". Balanced accuracy of chance: {number(1 / n_classes)}."
    )
    columns = ("Model", *(_METRIC_NAMES[metric] for metric in METRICS))
    return Table(table_name(study, f"models-per-{UNITS[unit]}"), caption, columns, rows, records)


def comparisons_table(
    study: Study, comparisons: Mapping[tuple[str, str], tuple[Comparison, float]]
) -> Table:
    """Return the table of `Study.comparisons`."""
    rows, records = [], []
    for (a, b), (comparison, p_adjusted) in comparisons.items():
        difference, word = comparison.difference, better_or_worse(comparison, p_adjusted)
        leaky = study.leaky(a) or study.leaky(b)
        rows.append(
            [
                Cell(f"{short_name(a)} against {short_name(b)}", mark="leaky" if leaky else ""),
                Cell(word),
                Cell(points(difference.value), _interval_and_seeds(difference, points)),
                Cell(p_value(comparison.p)),
                Cell(p_value(p_adjusted)),
                Cell(points(comparison.smallest_detectable).lstrip("+")),
            ]
        )
        records.append(
            {
                "model": a,
                "against": b,
                "leaky": leaky,
                "in_words": word,
                "metric": comparison.metric,
                "unit": UNITS[PRIMARY[1]],
                **_columns_of(difference),
                "p": comparison.p,
                "p_adjusted": p_adjusted,
                "smallest_detectable": comparison.smallest_detectable,
                "n_groups": comparison.n_groups,
            }
        )
    n_groups = next(iter(comparisons.values()))[0].n_groups
    caption = (
        f"Balanced accuracy per frame of the first model less that of the second, in percentage "
        f"points, over the same {count(n_groups, 'group')} ({study.group}), with its 95 % "
        "interval. p: permutation test, the groups' contributions flipped; adjusted by Holm's "
        f"method for the {count(len(comparisons), 'comparison')}. Better or worse: only if the "
        "interval excludes 0 and the adjusted p is below 0.05. Smallest detectable: the smallest "
        "true difference that so many groups would show at p < 0.05 in 4 of 5 studies."
    )
    columns = ("Comparison", "In words", "Difference", "p", "Adjusted p", "Smallest detectable")
    return Table(table_name(study, "comparisons"), caption, columns, rows, records)


def better_or_worse(comparison: Comparison, p_adjusted: float) -> str:
    """Return the verdict on a comparison of any two models."""
    words = {"helped": "better", "hurt": "worse", "no evidence": "no evidence"}
    return words[verdict(comparison, p_adjusted)]


def leakage_table(study: Study) -> Table:
    """Return the table of who has seen what: a row per stage and artefact."""
    found: dict[tuple[str, str], list[tuple[dict[str, Any], int]]] = {}
    for fold in study.every_fold():
        for folder, certificate in fold.certificates.items():
            own = fold.results[folder]["stage"]
            n_tested = len(certificate["test_groups"])
            for entry in certificate["artefacts"]:
                # A certificate has the artefacts of earlier stages as well: all certificates'
                # findings on one artefact are one row.
                stage = folder if entry["stage"] == own else entry["stage"]
                found.setdefault((stage, entry["artefact"]), []).append((entry, n_tested))
    rows, records = [], []
    order = ["gan", *MODELS]
    for (folder, artefact), entries in sorted(
        found.items(), key=lambda item: order.index(item[0][0])
    ):
        seen = [len(entry["groups"]) for entry, _ in entries]
        overlap = [len(entry["overlap"]) for entry, _ in entries]
        tested = [n for _, n in entries]
        agree = [entry["recomputed"] for entry, _ in entries if "recomputed" in entry]
        leaky = any(overlap) or not all(agree)
        rows.append(
            [
                Cell(short_name(folder), mark="leaky" if leaky else ""),
                Cell(artefact),
                Cell(span(seen)),
                Cell(span(tested)),
                Cell(span(overlap)),
                Cell(("yes" if all(agree) else "NO") if agree else "not a scaler"),
            ]
        )
        records.append(
            {
                "stage": folder,
                "artefact": artefact,
                "leaky": leaky,
                **_range_of("groups_seen", seen),
                **_range_of("groups_tested_on", tested),
                **_range_of("groups_of_both", overlap),
                "statistics_recomputed": all(agree) if agree else "",
            }
        )
    caption = (
        f"Which groups ({study.group}) each artefact has seen while it was shaped, by the record "
        f"in its checkpoint, over {count(len(study.every_fold()), 'fold')}. Of both: groups seen "
        "that are tested on as well; 0 is what it must be. Recomputed: whether the statistics of a "
        "scaler are those of the data that it is said to come from."
    )
    columns = ("Stage", "Artefact", "Groups seen", "Tested on", "Of both", "Recomputed alike")
    return Table(table_name(study, "leakage"), caption, columns, rows, records)


def quality_table(study: Study, folds: Sequence[Fold]) -> Table:
    """Return the quality card of generated EEG, means over folds that have a generator.

    Raises
    ------
    UserError
        If a generator's result has no such figures.
    """
    leaky = any(fold.leaky("gan") for fold in folds)
    measured = [_flat_quality(fold) for fold in folds]
    makers = list(dict.fromkeys(maker for of_fold in measured for maker in of_fold))
    keys = list(dict.fromkeys(key for of_fold in measured for m in of_fold.values() for key in m))
    rows, records = [], []
    for figure, band in keys:
        name, text, digits = _QUALITY.get(figure, (figure.replace("_", " "), "", 3))
        if not band or (figure, band) == next(key for key in keys if key[0] == figure):
            rows.append([Cell(name, (text,))])
        cells = []
        for maker in makers:
            values = [of_fold.get(maker, {}).get((figure, band)) for of_fold in measured]
            values = [value for value in values if value is not None]
            if not values:
                cells.append(Cell(NOT_DEFINED))
                continue
            mean, low, high = sum(values) / len(values), min(values), max(values)
            ends = [number(end, digits) for end in (low, high)]
            cells.append(
                Cell(number(mean, digits), (" to ".join(ends),) if len(values) > 1 else ())
            )
            records.append(
                {
                    "figure": figure,
                    "band": band,
                    "eeg": maker,
                    "leaky": leaky,
                    "mean": mean,
                    "lowest_fold": low,
                    "highest_fold": high,
                    "n_folds": len(values),
                }
            )
        rows.append([Cell(band or "overall"), *cells])
    caption = (
        f"EEG made from the DE of test trials, against the real EEG of the same trials: means over "
        f"{count(len(folds), 'fold')}"
        + (", and below them the lowest and highest fold's. " if len(folds) > 1 else ". ")
        + "Real EEG in the place of made EEG shows what the best possible generator would get; "
        "noise of the same DE shows what DE alone gives, without anything learnt."
    )
    names = {**_QUALITY_ROWS, "generated": "Generated EEG (leaky)"} if leaky else _QUALITY_ROWS
    columns = ("Figure", *(names.get(maker, maker) for maker in makers))
    return Table(table_name(study, "quality"), caption, columns, rows, records)


def _flat_quality(fold: Fold) -> dict[str, dict[tuple[str, str], float]]:
    """Return the figures of a generator, by maker and then by (figure, band)."""
    out: dict[str, dict[tuple[str, str], float]] = {}
    try:
        for maker, figures in fold.results["gan"]["quality"].items():
            flat: dict[tuple[str, str], float] = {}
            for figure, value in figures.items():
                if not isinstance(value, Mapping):
                    flat[figure, ""] = value
                elif all(isinstance(of_band, Mapping) for of_band in value.values()):
                    names = dict.fromkeys(name for of_band in value.values() for name in of_band)
                    for name in names:
                        for band in value:
                            flat[f"{figure}.{name}", band] = value[band][name]
                else:
                    for band in value:
                        flat[figure, band] = value[band]
            out[maker] = flat
    except (AttributeError, KeyError):
        raise UserError(
            f"{display_path(fold.dir / 'gan' / 'result.json')} does not say how good the generated "
            "EEG is: rerun the gan stage of this fold with --restart."
        ) from None
    return out


def settings_table(study: Study) -> Table:
    """Return every setting of every stage, those that differ between folds with all values."""
    stages = {
        "Stage 1": ["gan"],
        "Stage 2": ["classifier"],
        "Stage 3 and controls": [m for m in MODELS if m.startswith("finetune")],
    }
    values: dict[str, dict[str, list[Any]]] = {}
    for fold in study.every_fold():
        for name, folders in stages.items():
            for folder in folders:
                for key, value in fold.configs.get(folder, {}).get("settings", {}).items():
                    of_stage = values.setdefault(key, {}).setdefault(name, [])
                    if value not in of_stage:
                        of_stage.append(value)
    shown_stages = [name for name in stages if any(name in of_key for of_key in values.values())]
    rows, records = [], []
    for key, of_key in values.items():
        texts = {name: setting(of_key.get(name, [])) for name in shown_stages}
        rows.append([Cell(key.replace("_", " ")), *(Cell(text) for text in texts.values())])
        records.append({"setting": key, **texts})
    caption = "All settings. Where folds, seeds or controls differ, all values are given."
    return Table(table_name(study, "settings"), caption, ("Setting", *shown_stages), rows, records)


def setting(values: Sequence[Any]) -> str:
    """Return the values of one setting; numbers in a row as a range."""
    if not values:
        return NOT_DEFINED
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    if whole and len(values) > 2 and sorted(values) == list(range(min(values), max(values) + 1)):
        return f"{min(values)} to {max(values)}"
    if len(values) > 1 and not whole:
        return "; ".join(setting([value]) for value in values)
    if isinstance(values[0], list):
        return ", ".join(map(str, values[0]))
    return ", ".join(map(str, values))


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


def _interval_and_seeds(found: Estimate, write: Any = number) -> tuple[str, ...]:
    """Return the small print below a figure."""
    lines = [NOT_DEFINED if math.isnan(found.low) else f"{write(found.low)} to {write(found.high)}"]
    if len(found.per_seed) > 1:
        lines.append(f"seeds {write(min(found.per_seed))} to {write(max(found.per_seed))}")
    return tuple(lines)


def _columns_of(found: Estimate) -> dict[str, float | int]:
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "lowest_seed": min(found.per_seed),
        "highest_seed": max(found.per_seed),
        "n_seeds": len(found.per_seed),
    }


def _range_of(name: str, values: Sequence[int]) -> dict[str, int]:
    return {f"{name}_lowest": min(values), f"{name}_highest": max(values)}


def is_baseline(model: str) -> bool:
    """Return whether a model is one that the networks have to beat."""
    return model in BASELINES
