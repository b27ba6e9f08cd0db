"""The report: everything that runs have given, on one page that needs nothing else."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

from de3dgan.base.files import make_folder, write_csv, write_text
from de3dgan.data.store import data_card
from de3dgan.evaluation.names import CHOSEN
from de3dgan.evaluation.statistics import verdict
from de3dgan.reporting import pictures
from de3dgan.reporting.commands import study_commands
from de3dgan.reporting.formats import csv_rows, latex_text
from de3dgan.reporting.page import Part, Section, Verdict, html, markdown
from de3dgan.reporting.people import about_people, people, worth_in_people
from de3dgan.reporting.results import MODELS, STAGES, UNITS, Fold
from de3dgan.reporting.study import (
    COMPARISONS,
    Comparisons,
    Study,
    differing_settings,
    read_studies,
)
from de3dgan.reporting.tables import (
    METRIC_TEXTS,
    comparisons_table,
    judges_table,
    leakage_table,
    people_table,
    quality_table,
    scores_table,
    settings_table,
)
from de3dgan.reporting.wording import (
    BEATS,
    COMPARED_TO,
    better_or_worse,
    count,
    equals,
    number,
    points,
    sentence,
    setting,
    short_name,
    stage_name,
)

#: What a result has of time and memory, if it was measured.
_SPENT = {"seconds", "peak_rss_mib"}


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
    parts = [_part(study, runs_dir) for study in read_studies(runs_dir)]
    tables = [table for part in parts for section in part.sections for table in section.tables]
    latex, text, page = [latex_text(table) for table in tables], markdown(parts), html(parts)
    make_folder(out / "tables")
    paths = []
    for table, tex in zip(tables, latex, strict=True):
        paths += [out / "tables" / f"{table.name}.{ending}" for ending in ("csv", "tex")]
        write_csv(paths[-2], csv_rows(table))
        write_text(paths[-1], tex)
    write_text(out / "report.md", text)
    write_text(out / "report.html", page)
    verdicts = [f"{part.marked_title}: {part.verdict.headline}." for part in parts]
    return out / "report.html", paths, verdicts


def _part(study: Study, runs_dir: Path) -> Part:
    """Return what is said about a study of the runs below a folder."""
    comparisons = study.comparisons()
    incomparable = _incomparable(study)
    leaky = [
        stage
        for stage in STAGES
        if any(fold.certificates[stage]["leaky"] for fold in study.folds_with(stage))
    ]
    sections = [
        _models(study),
        _comparisons(study, comparisons),
        _people(study),
        _worth(study),
        _certificate(study),
        _quality(study),
        _figures(study),
        _cards(study),
        _settings(study, runs_dir),
    ]
    return Part(
        id=re.sub(r"\W+", "-", f"{study.task}-{study.protocol}"),
        title=f"Task {study.task}, protocol {study.protocol}",
        mark="leaky" if leaky else "",
        leaks=", ".join(map(short_name, leaky)),
        verdict=_verdict(study, comparisons, incomparable),
        notes=[*study.notes, *_missing(study), *incomparable.values()],
        sections=[section for section in sections if section],
    )


def _verdict(study: Study, comparisons: Comparisons, incomparable: dict[str, str]) -> Verdict:
    """Return the verdict on generated EEG, on its controls and on the networks."""
    first = COMPARISONS[0]
    if first not in comparisons:
        kind = "none"
        absent = [MODELS[model] for model in first if model not in study.predictions]
        sentences = [
            "It rests on fine-tuning with generated EEG against fine-tuning with nothing, and not "
            f"all folds have: {'; '.join(absent)}. Run the Finetune_Classifier script on each "
            "fold, with and without --augmentation none."
        ]
    elif first[1] in incomparable:
        kind = "none"
        sentences = [incomparable[first[1]]]
    else:
        kind = verdict(*comparisons[first])
        sentences = [
            "Fine-tuned with generated EEG, against fine-tuned with nothing beside the real EEG, "
            f"per one-second frame. {sentence(*comparisons[first])}"
        ]
    clauses = []
    for pair in COMPARISONS[1:]:
        of_generated = pair[0] == "finetune" and pair[1].startswith("finetune-")
        if of_generated and pair in comparisons and pair[1] not in incomparable:
            comparison, p = comparisons[pair]
            words = COMPARED_TO[better_or_worse(comparison, p)]
            control = MODELS[pair[1]].removeprefix("control: fine-tuned with ")
            clauses.append(
                f"{words} {control} ({points(comparison.difference.value)} percentage points, "
                f"adjusted p {equals(p)})"
            )
    if clauses:
        sentences.append(f"Generated EEG against its other controls: {'; '.join(clauses)}.")
    control = ("finetune-people", "finetune-none")
    if control in comparisons:
        sentences.append(
            "Positive control, additional real people against nothing. "
            f"{sentence(*comparisons[control])}"
        )
    hardest = ", of what knows no emotion the hardest to beat"
    of_baselines = {"best": "the best baseline"}
    of_baselines |= {name: f"{short_name(name)}{hardest}" for name in CHOSEN["artefact"]}
    for baselines in (("best",), CHOSEN["artefact"]):
        for pair in itertools.product(("classifier", "finetune"), baselines):
            if pair in comparisons:
                says = BEATS[better_or_worse(*comparisons[pair])].format(of_baselines[pair[1]])
                _, _, numbers = sentence(*comparisons[pair]).partition(": ")
                sentences.append(f"{short_name(pair[0]).capitalize()} {says}: {numbers}")
    return Verdict(kind, sentences)


def _missing(study: Study) -> list[str]:
    """Say which stages no fold has finished."""
    # Additional people are those that --train-groups leaves out.
    settings = [fold.configs["classifier"]["settings"] for fold in study.every_fold()]
    few = any(each.get("train_groups") for each in settings)
    possible = [stage for stage in STAGES if few or stage != "finetune-people"]
    absent = [stage_name(stage) for stage in possible if not study.folds_with(stage)]
    return [f"Not run, or not finished, in any fold: {'; '.join(absent)}."] if absent else []


def _incomparable(study: Study) -> dict[str, str]:
    """Say which controls were fine-tuned in another way than stage 3, so that they are none."""
    may_differ = {"augmentation", "jitter", "more_groups", "virtual_people"}
    reasons = {}
    for fold in study.folds_with("finetune"):
        for model in fold.configs:
            if model.startswith("finetune-"):
                ours, theirs = (fold.configs[m]["settings"] for m in ("finetune", model))
                differing = differing_settings(ours, theirs, may_differ)
                if differing:
                    reasons[model] = (
                        f"Not comparable: {MODELS[model]} differs from stage 3 in "
                        f"{', '.join(differing)} as well."
                    )
    return reasons


def _models(study: Study) -> Section:
    estimates = {unit: study.estimates(unit) for unit in UNITS}
    return Section(
        "models",
        "All models",
        tables=[scores_table(study, unit, estimates[unit]) for unit in UNITS],
        figures=[pictures.forest(study, estimates)],
        lists={"What the columns mean": METRIC_TEXTS},
    )


def _comparisons(study: Study, comparisons: Comparisons) -> Section | None:
    if not comparisons:
        return None
    return Section("comparisons", "Comparisons", tables=[comparisons_table(study, comparisons)])


def _people(study: Study) -> Section:
    everyone = people(study)
    n_classes = next(iter(study.predictions.values()))[0].probabilities.shape[1]
    return Section(
        "people",
        "Who is read well, and who is not",
        about_people(everyone, n_classes),
        tables=[people_table(study, everyone)],
        figures=[pictures.people(study, everyone, n_classes)],
    )


def _worth(study: Study) -> Section | None:
    if not study.folds_with("finetune"):
        return None
    return Section("worth", "Worth in people", worth_in_people(study))


def _cards(study: Study) -> Section | None:
    """Return the cards of the data and of the networks, as text."""
    fold = study.every_fold()[0]
    cards = {}
    if found := data_card(fold.configs["classifier"]["store_hash"]):
        cards["The data set"] = found
    for stage in ("gan", "classifier", "finetune"):
        path = fold.dir / stage / "CARD.md"
        if path.is_file():
            cards[f"{stage_name(stage)}, {study.fold_name(fold)}"] = path.read_text(
                encoding="utf-8"
            )
    return Section("cards", "Cards", cards=cards) if cards else None


def _certificate(study: Study) -> Section:
    reasons, groups, copies, notes = {}, {}, set(), {}
    for fold in study.every_fold():
        name = study.fold_name(fold)
        # Later stages repeat the reasons of those that they rest on.
        found = dict.fromkeys(
            reason
            for certificate in fold.certificates.values()
            for reason in certificate["reasons"]
        )
        if found:
            reasons[name] = " ".join(found)
        groups |= _groups(name, fold)
        for certificate in fold.certificates.values():
            notes |= dict.fromkeys(certificate["notes"])
        copies |= {
            (name, copy["recording"], copy["tested"])
            for certificate in fold.certificates.values()
            for copy in certificate["copies"]
        }
    return Section(
        "leakage",
        "Leakage certificate",
        [
            "Has anything that the figures rest on seen the groups that are tested on? "
            "Each checkpoint records the data that shaped it; the statistics of scalers are "
            "computed anew; and the recordings tested on are compared with those that were seen, "
            "at any gain and shift.",
            f"Recordings tested on that are copies of one that was seen: {len(copies) or 'none'}.",
            *notes,
        ],
        [leakage_table(study)],
        lists={
            **({"Why it is leaky": reasons} if reasons else {}),
            f"All groups ({study.group})": groups,
        },
    )


def _groups(name: str, fold: Fold) -> dict[str, str]:
    """Return the groups that a fold tests on, and those that each artefact has seen."""
    artefacts: dict[str, dict[str, list[str]]] = {}  # by the groups seen and the stage
    for folder, certificate in fold.certificates.items():
        for entry in certificate["artefacts"]:
            if entry["stage"] == fold.results[folder]["stage"]:
                stages = artefacts.setdefault(", ".join(entry["groups"]) or "none", {})
                stages.setdefault(short_name(folder), []).append(entry["artefact"])
    groups = {f"{name}, tested on": ", ".join(fold.certificates["classifier"]["test_groups"])}
    for seen, stages in artefacts.items():
        who = "; ".join(f"{stage} ({', '.join(names)})" for stage, names in stages.items())
        groups[f"{name}, seen by {who}"] = seen
    return groups


def _quality(study: Study) -> Section | None:
    folds = study.folds_with("gan")
    if not folds:
        return None
    tables, figures = [quality_table(study, folds)], []
    if all(fold.results["gan"].get("judges", {}).get("generated") for fold in folds):
        tables.append(judges_table(study, folds))
        figures.append(pictures.judges(study, folds))
    return Section("quality", "Quality of generated EEG", tables=tables, figures=figures)


def _figures(study: Study) -> Section:
    figures = pictures.generator_figures(study)
    for model in ("classifier", "finetune"):
        if model in study.predictions:
            figures += pictures.prediction_figures(study, model)
    for stage in ("gan", "classifier", "finetune"):
        folds = study.folds_with(stage)
        if folds:
            figures.append(pictures.learning_curves(study, stage, folds))
    return Section("figures", "Figures", figures=figures)


def _settings(study: Study, runs_dir: Path) -> Section:
    versions: dict[str, list[Any]] = {}
    trials = {}
    for fold in study.every_fold():
        result = fold.results["classifier"]
        trials[study.fold_name(fold)] = (
            f"{result['n_train_trials']} trials to train, {result['n_val_trials']} to choose the "
            f"epoch, {result['n_test_trials']} to test"
        )
        for config in fold.configs.values():
            found = {**config["environment"], "features (hash)": config["store_hash"]}
            for key, value in found.items():
                values = versions.setdefault(key, [])
                if value not in values:
                    values.append(value)
    times = {}
    for stage in STAGES:
        results = [fold.results[stage] for fold in study.folds_with(stage)]
        spent = [(r["seconds"], r["peak_rss_mib"]) for r in results if set(r) >= _SPENT]
        if spent:
            seconds, mib = zip(*spent, strict=True)
            times[stage_name(stage)] = (
                f"{number(sum(seconds) / 60, 1)} minutes over {count(len(spent), 'run')}, at most "
                f"{max(mib):,.0f} MiB"
            )
    return Section(
        "settings",
        "Configuration and versions",
        tables=[settings_table(study)],
        lists={
            "Versions and device": {key: setting(values) for key, values in versions.items()},
            "Split": trials,
            "Time and memory": times,
        },
        commands=study_commands(study, runs_dir),
    )
