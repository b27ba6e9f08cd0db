"""The report: everything that runs have given, on one page that needs nothing else."""

from __future__ import annotations

import base64
import io
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib import image

from de3dgan.base.errors import UserError
from de3dgan.base.files import make_folder, write_text
from de3dgan.base.paths import ROOT, display_path
from de3dgan.base.recipe import SCRIPTS, Recipe, command_words, find_scripts, load_recipe
from de3dgan.evaluation import metrics
from de3dgan.evaluation.statistics import Comparison, Estimate, verdict, verdict_text
from de3dgan.figures import plots
from de3dgan.reporting.results import (
    COMPARISONS,
    MODELS,
    PRIMARY,
    UNITS,
    Fold,
    Study,
    differing_settings,
    read_studies,
)
from de3dgan.reporting.tables import (
    METRIC_TEXTS,
    Table,
    better_or_worse,
    comparisons_table,
    count,
    csv_text,
    is_baseline,
    latex_text,
    leakage_table,
    markdown_text,
    number,
    p_value,
    points,
    quality_table,
    scores_table,
    setting,
    settings_table,
    short_name,
    span,
    stage_name,
)

#: Symbol and headline of each verdict on generated EEG.
_VERDICTS = {
    "helped": ("▲", "Generated EEG helped"),
    "hurt": ("▼", "Generated EEG hurt"),
    "no evidence": ("○", "No evidence that generated EEG helped or hurt"),
    "none": ("…", "No verdict on generated EEG yet"),
}
_COUNTED = {"frame": "per one-second frame", "trial": "per trial"}
#: The panels of each stage's learning curves; the loss that is minimised stands for its parts.
_CLASSIFIER_PANELS = {
    panel: [key for key in keys if not key[0].endswith("cross_entropy")]
    for panel, keys in plots.CLASSIFIER_PANELS.items()
}
#: Figures of stage 1 that are shown as they are: what each shows.
_GENERATOR_FIGURES = {
    "de_maps": "Scalp maps of DE in each frequency band: real EEG, generated EEG, and the "
    "difference",
    "traces": "Four seconds of real and of generated EEG of one test trial",
    "spectra": "Power spectra of real and generated EEG, of the whole scalp and of its regions",
    "spectrogram": "How the spectrum of one electrode changes over a test trial, real above "
    "generated",
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
    """A part of a study's part of the page; `lists` are folded away."""

    id: str
    title: str
    texts: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[Picture] = field(default_factory=list)
    lists: dict[str, dict[str, str]] = field(default_factory=dict)
    commands: str = ""


@dataclass(frozen=True)
class Verdict:
    """What is said first."""

    kind: str
    sentences: list[str]

    @property
    def symbol(self) -> str:
        """A sign for it, beside the words."""
        return _VERDICTS[self.kind][0]

    @property
    def headline(self) -> str:
        """It in one line."""
        return _VERDICTS[self.kind][1]


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
    studies = read_studies(runs_dir)
    with tempfile.TemporaryDirectory() as folder:
        parts = [_part(study, runs_dir, Path(folder)) for study in studies]
    page = _page(parts)
    texts = {
        f"{table.name}.{ending}": write(table)
        for part in parts
        for section in part.sections
        for table in section.tables
        for ending, write in {"csv": csv_text, "tex": latex_text}.items()
    }
    make_folder(out / "tables")
    for name, text in texts.items():
        write_text(out / "tables" / name, text)
    write_text(out / "report.md", _markdown(parts))
    write_text(out / "report.html", page)
    verdicts = [
        f"{part.title}{f' ({part.mark})' if part.mark else ''}: {part.verdict.headline}."
        for part in parts
    ]
    return out / "report.html", [out / "tables" / name for name in texts], verdicts


def _markdown(parts: Sequence[Part]) -> str:
    """Return the verdicts and the tables, for where a page cannot be shown."""
    lines = []
    for part in parts:
        mark = f" ({part.mark})" if part.mark else ""
        lines += [f"## {part.title}{mark}", "", f"**{part.verdict.headline}.**", ""]
        lines += [f"- {sentence}" for sentence in [*part.verdict.sentences, *part.notes]]
        for section in part.sections:
            if section.tables:
                lines += ["", f"### {section.title}"]
                for table in section.tables:
                    lines += ["", markdown_text(table).rstrip("\n")]
        lines.append("")
    return "\n".join(lines)


def _page(parts: Sequence[Part]) -> str:
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
        "fine-tuned (stage 3) with EEG that a generator (stage 1) makes from differential entropy "
        "(DE). All figures are of test data, which had no say in training, normalisation or the "
        "choice of an epoch, unless they are marked as leaky.",
        parts=parts,
        footer="Written by report.py. The page needs no network and no other file.",
    )


def _part(study: Study, runs_dir: Path, folder: Path) -> Part:
    """Return what is said about a study; figures are drawn into `folder` on the way."""
    estimates = {unit: study.estimates(unit) for unit in UNITS}
    comparisons = study.comparisons()
    leaky = [
        stage
        for stage in ("gan", *MODELS)
        if any(fold.certificates[stage]["leaky"] for fold in _having(study, stage))
    ]
    title = f"Task {study.task}, protocol {study.protocol}"
    sections = [
        _models(study, estimates, folder),
        _comparisons(study, comparisons),
        _certificate(study),
        _quality(study),
        _figures(study, folder),
        _settings(study, runs_dir),
    ]
    return Part(
        id=re.sub(r"\W+", "-", f"{study.task}-{study.protocol}"),
        title=title,
        mark="leaky" if leaky else "",
        leaks=", ".join(map(short_name, leaky)),
        verdict=_verdict(study, comparisons),
        notes=[*study.notes, *_missing(study), *_unlike(study).values()],
        sections=[section for section in sections if section],
    )


def _verdict(
    study: Study, comparisons: Mapping[tuple[str, str], tuple[Comparison, float]]
) -> Verdict:
    """Return the verdict on generated EEG, on its controls and on the networks."""
    first = COMPARISONS[0]
    sentences, unlike = [], _unlike(study)
    if first in comparisons and first[1] in unlike:
        kind = "none"
        sentences.append(unlike[first[1]])
    elif first in comparisons:
        kind = verdict(*comparisons[first])
        of = "Fine-tuned with generated EEG, against fine-tuned with nothing beside the real EEG"
        sentences.append(f"{of}, {_COUNTED[PRIMARY[1]]}. {_says(*comparisons[first])}")
    else:
        kind = "none"
        absent = [MODELS[model] for model in first if model not in study.predictions]
        sentences.append(
            "It rests on fine-tuning with generated EEG against fine-tuning with nothing, and not "
            f"all folds have: {'; '.join(absent)}. Run the Finetune_Classifier script on each "
            "fold, with and without --augmentation none."
        )
    clauses = []
    for pair in COMPARISONS[1:4]:
        if pair in comparisons and pair[1] not in unlike:
            comparison, p = comparisons[pair]
            word = {"better": "better than", "worse": "worse than"}.get(
                better_or_worse(comparison, p), "no evidence of a difference from"
            )
            other = MODELS[pair[1]].removeprefix("control: fine-tuned with ")
            clauses.append(
                f"{word} {other} ({points(comparison.difference.value)} percentage points, "
                f"adjusted p {_equals(p)})"
            )
    if clauses:
        sentences.append(f"Generated EEG against its other controls: {'; '.join(clauses)}.")
    for model in ("classifier", "finetune"):
        if (model, "linear") in comparisons:
            sentences.append(_against_linear(model, *comparisons[model, "linear"]))
    return Verdict(kind, sentences)


def _against_linear(model: str, comparison: Comparison, p: float) -> str:
    """Say whether a network beats the linear model."""
    stage = MODELS[model].split(":")[0].capitalize()
    says = {
        "better": "beats the linear model on DE",
        "worse": "does not beat the linear model on DE, but is worse",
        "no evidence": "does not beat the linear model on DE, as far as this sample size shows",
    }[better_or_worse(comparison, p)]
    return f"{stage} {says}: {_says(comparison, p).partition(': ')[2]}"


def _says(comparison: Comparison, p: float) -> str:
    """Return `verdict_text` with the minus signs of the page."""
    return re.sub(r"(?<=\s)-(?=\d)", "\N{MINUS SIGN}", verdict_text(comparison, p))


def _equals(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _missing(study: Study) -> list[str]:
    """Say which stages no fold has finished."""
    absent = [
        stage_name(stage)
        for stage in ("gan", *MODELS)
        if not is_baseline(stage) and not _having(study, stage)
    ]
    return [f"Not run, or not finished, in any fold: {'; '.join(absent)}."] if absent else []


def _unlike(study: Study) -> dict[str, str]:
    """Say which controls were fine-tuned in another way than stage 3, so that they are none."""
    out = {}
    for fold in _having(study, "finetune"):
        for model in fold.configs:
            if model.startswith("finetune-"):
                ours, theirs = (fold.configs[m]["settings"] for m in ("finetune", model))
                differing = differing_settings(ours, theirs, {"augmentation"})
                if differing:
                    out[model] = (
                        f"Not comparable: {MODELS[model]} differs from stage 3 in "
                        f"{', '.join(differing)} as well."
                    )
    return out


def _models(
    study: Study, estimates: Mapping[str, Mapping[str, Mapping[str, Estimate]]], folder: Path
) -> Section:
    kinds = {"classifier": "network", "finetune": "network"}
    names = {
        MODELS[model] + (" (leaky)" if study.leaky(model) else ""): kinds.get(
            model, "baseline" if is_baseline(model) else "control"
        )
        for model in study.predictions
    }
    n_classes = next(iter(study.predictions.values()))[0].probabilities.shape[1]
    panels = {
        _COUNTED[unit]: [of_model["balanced_accuracy"] for of_model in of_unit.values()]
        for unit, of_unit in estimates.items()
    }
    leaky = any(map(study.leaky, study.predictions))
    path = plots.forest(folder / "forest.png", names, panels, 1 / n_classes, _title(study, leaky))
    said = "; ".join(
        f"{MODELS[model]} {number(100 * of_model['balanced_accuracy'].value, 1)} %"
        for model, of_model in estimates[PRIMARY[1]].items()
    )
    return Section(
        "models",
        "All models",
        tables=[scores_table(study, unit, estimates[unit]) for unit in UNITS],
        figures=[
            _picture(
                path,
                f"Balanced accuracy of each model with its 95 % interval. Per frame: {said}",
                "Balanced accuracy of all models with 95 % intervals; the dashed line is chance.",
                leaky,
            )
        ],
        lists={"What the columns mean": METRIC_TEXTS},
    )


def _comparisons(
    study: Study, comparisons: Mapping[tuple[str, str], tuple[Comparison, float]]
) -> Section | None:
    if not comparisons:
        return None
    return Section("comparisons", "Comparisons", tables=[comparisons_table(study, comparisons)])


def _certificate(study: Study) -> Section:
    folds = study.every_fold()
    probes = {_fold_name(study, fold): fold.certificates["classifier"]["probe"] for fold in folds}
    accuracies = [probe["balanced_accuracy"] for probe in probes.values()]
    n_covering = sum(probe["covers_chance"] for probe in probes.values())
    ends = [number(end) for end in (min(accuracies), max(accuracies))]
    per_fold = {
        name: f"{number(probe['balanced_accuracy'])}, 99.9 % interval {number(probe['low'])} to "
        f"{number(probe['high'])}, chance {number(probe['chance'])}: "
        + ("covers chance." if probe["covers_chance"] else "does NOT cover chance, a leak.")
        for name, probe in probes.items()
    }
    reasons: dict[str, str] = {}
    groups: dict[str, str] = {}
    for fold in folds:
        found = [c["reasons"] for c in fold.certificates.values() if c["reasons"]]
        if found:  # later stages repeat the reasons of those that they rest on
            reasons[_fold_name(study, fold)] = " ".join(dict.fromkeys(sum(found, [])))
        groups.update(_groups_of(study, fold))
    lists = {"The probe, fold by fold": per_fold}
    if reasons:
        lists["Why it is leaky"] = reasons
    return Section(
        "leakage",
        "Leakage certificate",
        [
            "Has anything that the figures were made with seen the groups that are tested on? "
            "Each checkpoint records the data that shaped it; the statistics of scalers are "
            "computed anew; and a probe, a linear model trained on the same split with the classes "
            "of trials permuted, must find nothing.",
            f"Probe: balanced accuracy {' to '.join(dict.fromkeys(ends))} (chance "
            f"{number(next(iter(probes.values()))['chance'])}); the 99.9 % interval covers chance "
            f"in {n_covering} of {count(len(probes), 'fold')}.",
        ],
        [leakage_table(study)],
        lists={**lists, f"All groups ({study.group})": groups},
    )


def _groups_of(study: Study, fold: Fold) -> dict[str, str]:
    """Return the groups that a fold tests on, and those that each artefact has seen."""
    seen: dict[str, dict[str, list[str]]] = {}
    for folder, certificate in fold.certificates.items():
        for entry in certificate["artefacts"]:
            if entry["stage"] == fold.results[folder]["stage"]:
                groups = ", ".join(entry["groups"]) or "none"
                of_stage = seen.setdefault(groups, {}).setdefault(short_name(folder), [])
                of_stage.append(entry["artefact"])
    name = _fold_name(study, fold)
    tested = ", ".join(fold.certificates["classifier"]["test_groups"])
    return {f"{name}, tested on": tested} | {
        f"{name}, seen by "
        + "; ".join(f"{stage} ({', '.join(artefacts)})" for stage, artefacts in by.items()): groups
        for groups, by in seen.items()
    }


def _quality(study: Study) -> Section | None:
    folds = _having(study, "gan")
    if not folds:
        return None
    return Section("quality", "Quality of generated EEG", tables=[quality_table(study, folds)])


def _figures(study: Study, folder: Path) -> Section:
    pictures = []
    for fold in _having(study, "gan")[:1]:
        leaky = fold.results["gan"]["leaky"]
        for name, what in _GENERATOR_FIGURES.items():
            path = fold.dir / "gan" / f"{name}{'-leaky' if leaky else ''}.png"
            if path.is_file():
                pictures.append(
                    _picture(path, f"{what}.", f"{what}. {_fold_name(study, fold)}.", leaky)
                )
    for model in ("classifier", "finetune"):
        if model in study.predictions:
            pictures += _of_predictions(study, model, folder)
    for stage in ("gan", "classifier", "finetune"):
        folds = _having(study, stage)
        if folds:
            pictures.append(_learning_curves(study, stage, folds, folder))
    return Section("figures", "Figures", figures=pictures)


def _of_predictions(study: Study, model: str, folder: Path) -> list[Picture]:
    """Draw confusion matrices and reliability of a model's pooled predictions."""
    name, leaky = MODELS[model], study.leaky(model)
    class_names = _having(study, "classifier")[0].configs["classifier"]["settings"]["class_names"]
    per_unit = {}
    for unit, counted in _COUNTED.items():
        _, labels, probabilities = zip(
            *(of_seed.in_unit(unit) for of_seed in study.predictions[model]), strict=True
        )
        per_unit[counted] = np.concatenate(labels), np.concatenate(probabilities)
    title = f"{short_name(model)}: {_title(study, leaky)}"
    confusions = {unit: metrics.confusion(*of_unit) for unit, of_unit in per_unit.items()}
    curves = {unit: metrics.reliability(*of_unit) for unit, of_unit in per_unit.items()}
    said = "; ".join(
        f"{unit}, {100 * np.trace(matrix) / matrix.sum():.0f} % of {matrix.sum():,} right"
        for unit, matrix in confusions.items()
    )
    pooled = "all folds pooled" if len(study.folds) == 1 else "all folds and seeds pooled"
    return [
        _picture(
            plots.confusion_matrices(folder / "confusion.png", confusions, class_names, title),
            f"Confusion matrices of {name}: {said}.",
            f"Which class is taken for which: {name}, test predictions of {pooled}.",
            leaky,
        ),
        _picture(
            plots.reliability(folder / "reliability.png", curves, title),
            f"Reliability of {name}: share that is right against mean confidence.",
            f"How far confidence can be believed: {name}, test predictions of {pooled}.",
            leaky,
        ),
    ]


def _learning_curves(study: Study, stage: str, folds: Sequence[Fold], folder: Path) -> Picture:
    leaky = any(fold.leaky(stage) for fold in folds)
    best = [fold.results[stage]["best_epoch"] for fold in folds]
    panels = _CLASSIFIER_PANELS
    if stage == "gan":
        panels = plots.GENERATOR_PANELS[folds[0].configs[stage]["settings"]["method"]]
    path = plots.fold_curves(
        folder / "curves.png",
        [_history(fold.dir / stage / "metrics.jsonl") for fold in folds],
        panels,
        best,
        f"{stage_name(stage)}: {_title(study, leaky)}",
    )
    return _picture(
        path,
        f"Learning curves of {stage_name(stage)} in {count(len(folds), 'fold')}; validation chose "
        f"epochs {', '.join(map(str, best))}.",
        f"Learning curves of {stage_name(stage)}, a line for each fold.",
        leaky,
    )


def _settings(study: Study, runs_dir: Path) -> Section:
    versions: dict[str, list[Any]] = {}
    spent: dict[str, list[float]] = {}
    for fold in study.every_fold():
        for stage, config in fold.configs.items():
            for key, value in {
                **config["environment"],
                "features (hash)": config["store_hash"],
            }.items():
                of_key = versions.setdefault(key, [])
                if value not in of_key:
                    of_key.append(value)
            result = fold.results[stage]
            if "seconds" in result and "peak_rss_mib" in result:
                spent.setdefault(stage, []).append((result["seconds"], result["peak_rss_mib"]))
    times = {
        stage_name(stage): f"{number(sum(s for s, _ in of_stage) / 60, 1)} minutes over "
        f"{count(len(of_stage), 'run')}, at most {max(mib for _, mib in of_stage):,.0f} MiB"
        for stage, of_stage in spent.items()
    }
    trials = {
        _fold_name(study, fold): ", ".join(
            f"{fold.results['classifier'][f'n_{part}_trials']} {what}"
            for part, what in {
                "train": "trials to train",
                "val": "to choose the epoch",
                "test": "to test",
            }.items()
        )
        for fold in study.every_fold()
    }
    return Section(
        "settings",
        "Configuration and versions",
        tables=[settings_table(study)],
        lists={
            "Versions and device": {key: setting(values) for key, values in versions.items()},
            "Split": trials,
            "Time and memory": times,
        },
        commands=_commands(study, runs_dir),
    )


def _commands(study: Study, runs_dir: Path) -> str:
    """Return the commands that make a study again, one block per seed."""
    stores = {fold.configs["classifier"]["store_hash"][:16] for fold in study.every_fold()}
    lines = [
        f"# features: hash {', '.join(stores)}; where they are not in the script's default folder,",
        "# add --data-dir to all but the last command",
    ]
    for folds in study.folds.values():
        numbers = " ".join(str(fold.results["classifier"]["fold"]) for fold in folds)
        lines.append(f"for fold in {numbers}; do")
        for stage in ("gan", "classifier", *(m for m in MODELS if m.startswith("finetune"))):
            having = [fold for fold in folds if stage in fold.configs]
            if having:
                config = having[0].configs[stage]
                settings = {k: v for k, v in config["settings"].items() if k != "fold"}
                script, recipe = _script(config["stage"], study.task, settings["method"])
                where = f"--runs-dir {display_path(folds[0].dir.parents[2])}"
                first, *flags = command_words(script, settings, recipe)
                lines += _wrapped([f"  python {first} --fold $fold", where, *flags])
        lines.append("done")
    lines.append(f"python report.py --runs-dir {display_path(runs_dir)}")
    return "\n".join(lines)


def _wrapped(words: Sequence[str]) -> list[str]:
    """Return a command, of a script and flags with their values, in lines that fit on paper."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) < 80:
            lines[-1] += f" {word}"
        else:
            lines[-1] += " \\"
            lines.append(f"    {word}")
    return lines


def _script(stage: str, task: str, method: str) -> tuple[str, type[Recipe] | None]:
    """Return a stage's script for a task, as a user types it, and its recipe for a method."""
    path = find_scripts(stage).get(task)
    if path is None:
        return f"{SCRIPTS[stage]}_<your task>.py", None
    return str(path.relative_to(ROOT)), load_recipe(path, method)


def _history(path: Path) -> list[dict[str, Any]]:
    """Return what was measured in each epoch of a run."""
    try:
        history = [json.loads(line) for line in path.read_text().splitlines()]
        if history and all("epoch" in row for row in history):
            return history
    except (OSError, ValueError, TypeError):
        pass
    raise UserError(
        f"{display_path(path)} is damaged or missing: rerun the {path.parent.name} stage of this "
        "fold with --restart."
    )


def _picture(path: Path, alt: str, caption: str, leaky: bool) -> Picture:
    """Put a PNG into the page, as lossless WebP, which takes half the room."""
    try:
        pixels = image.imread(path)
    except (OSError, ValueError, SyntaxError):  # as Pillow calls a damaged PNG
        raise UserError(
            f"{display_path(path)} is damaged: rerun the {path.parent.name} stage of this fold "
            "with --restart."
        ) from None
    pixels = (255 * pixels[..., :3]).round().astype(np.uint8)  # figures are opaque
    content = io.BytesIO()
    image.imsave(content, pixels, format="webp", pil_kwargs={"lossless": True})
    source = f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
    height, width = pixels.shape[:2]
    mark = "leaky" if leaky else ""
    return Picture(source, width, height, f"Leaky. {alt}" if leaky else alt, caption, mark)


def _having(study: Study, stage: str) -> list[Fold]:
    """Return the folds that have finished a stage."""
    return [fold for fold in study.every_fold() if stage in fold.results]


def _fold_name(study: Study, fold: Fold) -> str:
    of = fold.results["classifier"]
    return f"Fold {of['fold']}" + (f", seed {of['seed']}" if len(study.folds) > 1 else "")


def _title(study: Study, leaky: bool) -> str:
    """Return what figures call a study."""
    seeds = f", seeds {', '.join(map(str, study.folds))}" if len(study.folds) > 1 else ""
    folds = span([len(folds) for folds in study.folds.values()])
    warning = " (LEAKY: see the certificate)" if leaky else ""
    return f"{study.task}, protocol {study.protocol}, {folds} folds{seeds}{warning}"
