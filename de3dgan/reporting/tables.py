"""The tables of a report: what is in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from de3dgan.data.store import REFERENCES
from de3dgan.evaluation.metrics import METRICS
from de3dgan.evaluation.names import JUDGES
from de3dgan.evaluation.statistics import MARGIN, Estimate, over_folds
from de3dgan.reporting.formats import Cell, Table
from de3dgan.reporting.people import Person
from de3dgan.reporting.results import MODELS, Fold
from de3dgan.reporting.study import PRIMARY, Comparisons, Study, seed_of, seeds_text
from de3dgan.reporting.wording import (
    NOT_DEFINED,
    better_or_worse,
    count,
    number,
    p_value,
    points,
    setting,
    short_name,
    span,
)

_METRIC_NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "auc": "AUC",
    "within_auc": "Within-person AUC",
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
    "Within-person AUC": "the same over pairs of examples of one person, so that knowing who it is "
    "is worth nothing; chance is 0.5.",
    "MCC": "Matthews' correlation of true and predicted classes; chance is 0.",
    "Cohen's κ": "agreement beyond what the frequencies of the classes give; chance is 0.",
    "ECE": "expected calibration error, how far confidence is from accuracy on average; 0 is best.",
}
#: What the figures of generated EEG's quality mean: name, explanation, digits.
_QUALITY = {
    "judged.auc": (
        "Told from real EEG by the strongest judge (AUC)",
        "How often the strongest of eight judges, chosen on validation data, scores generated EEG "
        "of new groups higher than real EEG. 0.5 is perfect: not told at all; 1 is always. EEG is "
        "filtered to 4-45 Hz, as DE tells of nothing else.",
        2,
    ),
    "judged.balanced_accuracy": (
        "The same judge's balanced accuracy",
        "0.5 is perfect; 1 is always told.",
        2,
    ),
    "de_round_trip.correlation": (
        "DE kept: correlation",
        "Does DE of the EEG follow the DE that it was generated from? 1 is perfect, 0 not at all. "
        "It says little of a generator: noise can be given the same DE.",
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
        "Mean distance of the power spectra from those of the interleaved other half of the real "
        "trial, frequency by frequency. Good: as low as real EEG.",
        2,
    ),
    "channel_correlation_error": (
        "Error of correlations between electrodes",
        "How wrongly electrodes go together, from 0 to 2, likewise. Good: as low as real EEG.",
        3,
    ),
    "membership": (
        "Members of the training set told from others (balanced accuracy)",
        "Told from how near EEG generated from the DE of someone is to that person's. 0.5 is "
        "privacy.",
        2,
    ),
    "seam_ratio": (
        "Steps across the borders of frames",
        "Relative to steps inside them. 1 is perfect; above it the frames do not join.",
        2,
    ),
    "amplitude_uv": (
        "Amplitude (µV)",
        "Standard deviation. Good: that of real EEG.",
        1,
    ),
    "tstr": (
        "Train on it, test on real EEG",
        "Balanced accuracy per frame of models that learn the classes from it: the network of "
        "stage 2, and a linear one in tangent space. Good: as high as real EEG.",
        2,
    ),
    "copying.waveform": (
        "Likeness to training EEG: waveforms",
        "Highest correlation of 4 s with any place of any training recording, at any shift. Good: "
        "not above real EEG.",
        2,
    ),
    "copying.spectrum": (
        "Likeness to training EEG: spectra",
        "Highest correlation of log spectra. DE gives away some of it: compare with noise too.",
        3,
    ),
    "copying.covariance": (
        "Likeness to training EEG: correlations between electrodes",
        "Highest correlation of these. Good: not above real EEG.",
        3,
    ),
    "copying.copied": (
        "Share that seems copied",
        "Segments whose waveform is more like training EEG than any real segment is. Good: 0.",
        2,
    ),
}
QUALITY_ROWS = {
    "real": "Real EEG (what is reachable)",
    "generated": "Generated EEG",
    "noise": "Noise of the same DE",
}


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
        `Study.estimates` in that unit.
    """
    rows, records = [], []
    for model, metrics in estimates.items():
        leaky = study.leaky(model)
        row = [_name_cell(MODELS[model], leaky)]
        for metric in METRICS:
            found = metrics[metric]
            row.append(Cell(number(found.value), _interval_and_seeds(found)))
            record = {"model": model, "name": MODELS[model], "leaky": leaky, "unit": unit}
            records.append({**record, "metric": metric, **_numbers(found)})
        rows.append(row)
    predictions = next(iter(study.predictions.values()))[0]
    groups, labels, probabilities, _ = study.in_unit(predictions, unit)
    n_groups = len(set(groups.tolist()))
    counted = {
        "frame": "Per one-second frame",
        "trial": "Per trial, whose prediction is the mean of its frames'",
    }
    caption = (
        f"{counted[unit]}: {count(len(labels), unit)} of "
        f"{count(n_groups, 'group')} ({study.group}) that were tested on. "
        "Below each figure its 95 % interval, for which whole groups are drawn anew"
    )
    if study.pooled_folds:
        caption += ", widened since folds train on what others test"
    if len(study.folds) > 1:
        caption += (
            f"; figures are means over {len(study.folds)} pairs of seeds ("
            f"{seeds_text(study.folds)}), and below the interval are the lowest and the highest "
            "mean of a seed of folds, and the standard deviation over seeds of training if there "
            "are several"
        )
    caption += (
        f". DE is relative to {REFERENCES[study.reference]}. Balanced accuracy of chance: "
        f"{number(1 / probabilities.shape[1])}."
    )
    columns = ("Model", *(_METRIC_NAMES[metric] for metric in METRICS))
    return Table(table_name(study, f"models-per-{unit}"), caption, columns, rows, records)


def comparisons_table(study: Study, comparisons: Comparisons) -> Table:
    """Return the table of `Study.comparisons`."""
    rows, records = [], []
    others = {metric: study.comparisons(metric) for metric in ("auc", "within_auc")}
    for (a, b), (comparison, p_adjusted) in comparisons.items():
        difference, word = comparison.difference, better_or_worse(comparison, p_adjusted)
        ranked = {metric: found[a, b][0].difference for metric, found in others.items()}
        leaky = study.leaky(a) or study.leaky(b)
        rows.append(
            [
                _name_cell(f"{short_name(a)} against {short_name(b)}", leaky),
                Cell(word),
                Cell(points(difference.value), _interval_and_seeds(difference, points)),
                Cell(p_value(comparison.p)),
                Cell(p_value(p_adjusted)),
                Cell(points(comparison.excluded_gain)),
                Cell(points(comparison.smallest_detectable).lstrip("+")),
                *(
                    Cell(points(each.value), _interval_and_seeds(each, points)[:1])
                    for each in ranked.values()
                ),
            ]
        )
        records.append(
            {
                "model": a,
                "against": b,
                "leaky": leaky,
                "in_words": word,
                "metric": comparison.metric,
                "unit": PRIMARY[1],
                **_numbers(difference),
                "p": comparison.p,
                "p_adjusted": p_adjusted,
                "standard_error": comparison.error,
                "excluded_gain": comparison.excluded_gain,
                "equivalent": comparison.equivalent,
                "smallest_detectable": comparison.smallest_detectable,
                "n_groups": comparison.n_groups,
                **{
                    f"{metric}_{name}": getattr(each, name)
                    for metric, each in ranked.items()
                    for name in ("value", "low", "high")
                },
            }
        )
    caption = (
        f"Balanced accuracy per frame of the first model less that of the second, in percentage "
        f"points, over the same {count(records[0]['n_groups'], 'group')} ({study.group}), with its "
        "95 % interval. p: Student's, of the interval's own error; adjusted by Holm's "
        f"method for the {count(len(comparisons), 'comparison')}. Better or worse: only if the "
        "interval excludes 0 and the adjusted p is below 0.05. Equivalent: neither, and the 90 % "
        f"interval lies within {100 * MARGIN:g} point of 0. Excluded gain: the end of the "
        "interval, above which no gain is likely. Smallest detectable: the smallest true "
        "difference that so many groups would show at p < 0.05 in 4 of 5 studies. Of the models "
        "that know no emotion it is the one that the network beats least: to beat all of them, it "
        "must beat that one. The differences in AUC and in AUC within persons, in points as well, "
        "are beside it and in no verdict."
    )
    columns = ("Comparison", "In words", "Difference", "p", "Adjusted p", "Excluded gain")
    columns += ("Smallest detectable", *(_METRIC_NAMES[metric] for metric in others))
    return Table(table_name(study, "comparisons"), caption, columns, rows, records)


def people_table(study: Study, everyone: Sequence[Person]) -> Table:
    """Return the balanced accuracy per frame of each person, see `people.people`."""
    shown = list(everyone[0].accuracy)
    rows = [
        [
            Cell(person.name),
            Cell(str(person.n_trials)),
            *(Cell(number(person.accuracy[model])) for model in shown),
        ]
        for person in everyone
    ]
    records = [
        {
            "person": person.name,
            "n_trials": person.n_trials,
            "n_classes": person.n_classes,
            **{model: person.accuracy[model] for model in shown},
        }
        for person in everyone
    ]
    caption = "Balanced accuracy per frame of each person who was tested, stage 2's highest first."
    columns = ("Person", "Trials", *map(short_name, shown))
    return Table(table_name(study, "people"), caption, columns, rows, records)


def judged(folds: Sequence[Fold]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Return the AUCs of folds, by what is judged, by the EEG, and by the judge."""
    said = [fold.results["gan"]["judges"] for fold in folds]
    kinds = [kind for kind in QUALITY_ROWS if all(kind in each for each in said)]
    lengths = dict.fromkeys(length for each in said for kind in kinds for length in each[kind])

    def aucs(length: str, kind: str, judge: str) -> list[float]:
        found = [each[kind].get(length, {}).get(judge, {}).get("auc") for each in said]
        return [auc for auc in found if auc is not None]

    return {
        "Trials" if length == "trial" else f"Segments of {length}": {
            kind: {judge: aucs(length, kind, judge) for judge in JUDGES} for kind in kinds
        }
        for length in lengths
    }


def judges_table(study: Study, folds: Sequence[Fold]) -> Table:
    """Return what each judge says of each EEG, means over folds that have a generator."""
    rows, records, kinds = [], [], []
    for what, of_kinds in judged(folds).items():
        kinds = [*of_kinds]
        rows.append([Cell(what, ("",))])
        for judge in JUDGES:
            row = [Cell(judge)]
            for kind in kinds:
                values = of_kinds[kind][judge]
                ends = f"{number(min(values), 2)} to {number(max(values), 2)}" if values else ""
                mean = sum(values) / len(values) if values else None
                row.append(Cell(number(mean, 2), (ends,) if len(values) > 1 else ()))
                record = {"judged": what, "judge": judge, "eeg": kind, "auc": mean}
                records.append({**record, "n_folds": len(values)})
            rows.append(row)
    caption = (
        "How often each judge, trained on training data, tells the EEG from real EEG of new groups "
        "(AUC; 0.5 is not at all), mean and range over folds. That of real EEG against other "
        "seconds of real EEG is what can be reached."
    )
    columns = ("Judge", *(QUALITY_ROWS[kind] for kind in kinds))
    return Table(table_name(study, "judges"), caption, columns, rows, records)


def leakage_table(study: Study) -> Table:
    """Return the table of who has seen what: a row per stage and artefact.

    A certificate has the artefacts of earlier stages as well: what all certificates say of one
    artefact is one row.
    """
    findings: dict[tuple[str, str], list[tuple[dict[str, Any], int]]] = {}
    for fold in study.every_fold():
        for folder, certificate in fold.certificates.items():
            n_tested = len(certificate["test_groups"])
            for entry in certificate["artefacts"]:
                own = entry["stage"] == fold.results[folder]["stage"]
                key = (folder if own else entry["stage"], entry["artefact"])
                findings.setdefault(key, []).append((entry, n_tested))
    rows, records = [], []
    order = ["gan", *MODELS]
    for folder, artefact in sorted(findings, key=lambda key: order.index(key[0])):
        entries, tested = zip(*findings[folder, artefact], strict=True)
        seen = [len(entry["groups"]) for entry in entries]
        overlap = [len(entry["overlap"]) for entry in entries]
        agree = [entry["recomputed"] for entry in entries if "recomputed" in entry]
        leaky = any(overlap) or not all(agree)
        rows.append(
            [
                _name_cell(short_name(folder), leaky),
                Cell(artefact),
                *(Cell(span(values)) for values in (seen, tested, overlap)),
                Cell(("yes" if all(agree) else "NO") if agree else "not a scaler"),
            ]
        )
        records.append(
            {
                "stage": folder,
                "artefact": artefact,
                "leaky": leaky,
                **_range("groups_seen", seen),
                **_range("groups_tested_on", tested),
                **_range("groups_of_both", overlap),
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
    """Return the quality card of generated EEG, means over folds that have a generator."""
    leaky = any(fold.leaky("gan") for fold in folds)
    measured = [
        {
            eeg: _flat({**figures, **_members(fold, eeg)})
            for eeg, figures in fold.results["gan"]["quality"].items()
        }
        for fold in folds
    ]
    kinds = list(dict.fromkeys(eeg for fold in measured for eeg in fold))
    keys = dict.fromkeys(key for fold in measured for flat in fold.values() for key in flat)
    rows, records = [], []
    for figure in dict.fromkeys(figure for figure, _ in keys):
        name, text, digits = _QUALITY.get(figure, (figure.replace("_", " "), "", 3))
        rows.append([Cell(name, (text,))])
        for band in (band for name, band in keys if name == figure):
            row = [Cell(band or "overall")]
            for eeg in kinds:
                found = [fold.get(eeg, {}).get((figure, band)) for fold in measured]
                values = [value for value in found if value is not None]
                if not values:
                    row.append(Cell(NOT_DEFINED))
                    continue
                mean, low, high = sum(values) / len(values), min(values), max(values)
                ends = f"{number(low, digits)} to {number(high, digits)}"
                notes = [ends] if len(values) > 1 else []
                if figure == "judged.auc":
                    notes = _judges_note(folds, eeg, band)
                row.append(Cell(number(mean, digits), tuple(notes)))
                records.append(
                    {
                        "figure": figure,
                        "band": band,
                        "eeg": eeg,
                        "leaky": leaky,
                        "mean": mean,
                        "lowest_fold": low,
                        "highest_fold": high,
                        "n_folds": len(values),
                    }
                )
            rows.append(row)
    caption = (
        "EEG generated from the DE of test trials, against the real EEG of the same trials (but "
        "for likeness to training EEG, which is also asked of EEG from training DE): means "
        f"over {count(len(folds), 'fold')}"
        + (", and below them the lowest and highest fold's" if len(folds) > 1 else "")
        + " (of AUC, the 95 % interval over people tested). "
        + "Real EEG in the place of generated EEG shows what the best possible generator would "
        "get; noise of the same DE shows what DE alone gives, without anything learnt."
    )
    names = {**QUALITY_ROWS, "generated": "Generated EEG (leaky)"} if leaky else QUALITY_ROWS
    columns = ("Figure", *(names.get(eeg, eeg) for eeg in kinds))
    return Table(table_name(study, "quality"), caption, columns, rows, records)


def _members(fold: Fold, eeg: str) -> dict[str, float]:
    """Return how well members of the training set are told from others, where that was asked."""
    told = (fold.results["gan"].get("membership") or {}).get(eeg)
    return {"membership": told["balanced_accuracy"]} if told else {}


def _judges_note(folds: Sequence[Fold], eeg: str, unit: str) -> list[str]:
    """Return the interval over folds, and which judges were the strongest."""
    found = [fold.results["gan"]["quality"][eeg]["judged"].get(unit) for fold in folds]
    verdicts = [verdict for verdict in found if verdict]
    n_seeds = len({seed_of(fold.results["gan"]) for fold in folds})
    _, low, high = over_folds([(v["auc"], v["low"], v["high"]) for v in verdicts], n_seeds)
    names = ", ".join(dict.fromkeys(verdict["judge"] for verdict in verdicts))
    return [names] if math.isnan(low) else [f"{number(low, 2)} to {number(high, 2)}", names]


def _flat(figures: Mapping[str, Any]) -> dict[tuple[str, str], float | None]:
    """Return quality figures by (figure, band): of all bands "", of several numbers figure.name."""
    flat = {}
    for figure, value in figures.items():
        for band, inner in value.items() if isinstance(value, Mapping) else [("", value)]:
            if isinstance(inner, Mapping):
                shown = ("auc", "balanced_accuracy") if figure == "judged" else inner
                flat |= {(f"{figure}.{name}", band): inner[name] for name in shown}
            else:
                flat[figure, band] = inner
    return flat


def settings_table(study: Study) -> Table:
    """Return every setting of every stage, those that differ between folds with all values."""
    stages = {
        "Stage 1": ["gan"],
        "Stage 2": ["classifier"],
        "Stage 3 and controls": [model for model in MODELS if model.startswith("finetune")],
    }
    found: dict[str, dict[str, list[Any]]] = {}
    for fold in study.every_fold():
        for stage, folders in stages.items():
            for folder in folders:
                for key, value in fold.configs.get(folder, {}).get("settings", {}).items():
                    values = found.setdefault(key, {}).setdefault(stage, [])
                    if value not in values:
                        values.append(value)
    shown = [stage for stage in stages if any(stage in values for values in found.values())]
    rows, records = [], []
    for key, values in found.items():
        texts = {stage: setting(values.get(stage, [])) for stage in shown}
        rows.append([Cell(key.replace("_", " ")), *map(Cell, texts.values())])
        records.append({"setting": key, **texts})
    caption = "All settings. Where folds, seeds or controls differ, all values are given."
    return Table(table_name(study, "settings"), caption, ("Setting", *shown), rows, records)


def _name_cell(text: str, leaky: bool) -> Cell:
    return Cell(text, mark="leaky" if leaky else "")


def _interval_and_seeds(found: Estimate, write: Callable[[float], str] = number) -> tuple[str, ...]:
    """Return the small print below a figure."""
    lines = [NOT_DEFINED if math.isnan(found.low) else f"{write(found.low)} to {write(found.high)}"]
    if len(found.per_seed) > 1:
        folds, training = [*found.per_fold_seed.values()], found.training_spread
        if len(folds) > 1:
            lines.append(f"seeds of folds {write(min(folds))} to {write(max(folds))}")
        if not math.isnan(training):
            lines.append(f"seeds of training ± {write(training).lstrip('+')}")
    return tuple(lines)


def _numbers(found: Estimate) -> dict[str, float | int]:
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "lowest_fold_seed": min(found.per_fold_seed.values()),
        "highest_fold_seed": max(found.per_fold_seed.values()),
        "sd_of_training_seeds": found.training_spread,
        "n_fold_seeds": len(found.per_fold_seed),
        "n_seeds": len(found.per_seed),
    }


def _range(name: str, values: Sequence[int]) -> dict[str, int]:
    return {f"{name}_lowest": min(values), f"{name}_highest": max(values)}
