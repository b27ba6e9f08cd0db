"""The pictures of a report: drawn anew over all folds, or taken from a stage's folder."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import image
from matplotlib.figure import Figure

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path
from de3dgan.evaluation import metrics
from de3dgan.evaluation.names import NAMES as BASELINES
from de3dgan.evaluation.statistics import Estimate
from de3dgan.figures import curves, scores, style
from de3dgan.reporting.page import Picture
from de3dgan.reporting.people import Person
from de3dgan.reporting.results import MODELS, Fold
from de3dgan.reporting.study import PRIMARY, Study, seeds_text
from de3dgan.reporting.tables import QUALITY_ROWS, judged
from de3dgan.reporting.wording import count, number, short_name, span, stage_name

_COUNTED = {"frame": "per one-second frame", "trial": "per trial"}
#: The panels of each stage's learning curves; the loss that is minimised stands for its parts.
_CLASSIFIER_PANELS = {
    panel: [key for key in keys if not key[0].endswith("cross_entropy")]
    for panel, keys in curves.CLASSIFIER_PANELS.items()
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


def forest(study: Study, estimates: Mapping[str, Mapping[str, Mapping[str, Estimate]]]) -> Picture:
    """Draw the balanced accuracy of all models, given `Study.estimates` per unit."""
    kinds = {"classifier": "network", "finetune": "network", **dict.fromkeys(BASELINES, "baseline")}
    names = {
        MODELS[model] + (" (leaky)" if study.leaky(model) else ""): kinds.get(model, "control")
        for model in study.predictions
    }
    panels = {
        _COUNTED[unit]: [found["balanced_accuracy"] for found in models.values()]
        for unit, models in estimates.items()
    }
    n_classes = next(iter(study.predictions.values()))[0].probabilities.shape[1]
    leaky = any(map(study.leaky, study.predictions))
    shares = "; ".join(
        f"{MODELS[model]} {number(100 * found['balanced_accuracy'].value, 1)} %"
        for model, found in estimates[PRIMARY[1]].items()
    )
    return _drawn(
        scores.forest(names, panels, 1 / n_classes, _title(study, leaky)),
        f"Balanced accuracy of each model with its 95 % interval. Per frame: {shares}",
        "Balanced accuracy of all models with 95 % intervals; the dashed line is chance.",
        leaky,
    )


def people(study: Study, everyone: Sequence[Person], n_classes: int) -> Picture:
    """Draw the balanced accuracy per frame of each person, see `people.people`."""
    shown = list(everyone[0].accuracy)
    leaky = any(map(study.leaky, shown))
    rates = {MODELS[model]: [person.accuracy[model] for person in everyone] for model in shown}
    ends = "; ".join(
        f"{name} {100 * min(values):.0f} to {100 * max(values):.0f} %"
        for name, values in rates.items()
    )
    return _drawn(
        scores.people([p.name for p in everyone], rates, 1 / n_classes, _title(study, leaky)),
        f"Balanced accuracy per frame of each person, in the order of stage 2's: {ends}.",
        "Balanced accuracy per frame of each person; the dashed line is chance.",
        leaky,
    )


def judges(study: Study, folds: Sequence[Fold]) -> Picture:
    """Draw what each judge says of the shortest segments, and of trials."""
    leaky = any(fold.leaky("gan") for fold in folds)
    panels = judged(folds)
    shown = {
        what: {QUALITY_ROWS[kind]: aucs for kind, aucs in panels[what].items()}
        for what in dict.fromkeys([next(iter(panels)), "Trials"])
    }
    told = "; ".join(
        f"{what.lower()}, {judge}: {number(np.mean(aucs), 2)}"
        for what, eeg in panels.items()
        if what in shown
        for judge, aucs in eeg["generated"].items()
        if aucs
    )
    return _drawn(
        scores.judges(shown, _title(study, leaky)),
        f"AUC of each judge. Generated EEG, {told}.",
        "How well each judge tells EEG from real EEG of people it has not seen.",
        leaky,
    )


def generator_figures(study: Study) -> list[Picture]:
    """Return what stage 1 has drawn in the first fold that has it."""
    pictures = []
    for fold in study.folds_with("gan")[:1]:
        leaky = fold.results["gan"]["leaky"]
        for name, what in _GENERATOR_FIGURES.items():
            path = fold.dir / "gan" / f"{name}{'-leaky' if leaky else ''}.png"
            if path.is_file():
                caption = f"{what}. {study.fold_name(fold)}."
                pictures.append(_picture(path.read_bytes(), path, f"{what}.", caption, leaky))
    return pictures


def prediction_figures(study: Study, model: str) -> list[Picture]:
    """Draw confusion matrices and reliability of a model's pooled predictions."""
    name, leaky = MODELS[model], study.leaky(model)
    class_names = study.every_fold()[0].configs["classifier"]["settings"]["class_names"]
    predictions = {}
    for unit, counted in _COUNTED.items():
        seeds = [seed.in_unit(unit)[1:3] for seed in study.predictions[model]]
        predictions[counted] = tuple(map(np.concatenate, zip(*seeds, strict=True)))
    title = f"{short_name(model)}: {_title(study, leaky)}"
    confusions = {unit: metrics.confusion(*pair) for unit, pair in predictions.items()}
    reliabilities = {unit: metrics.reliability(*pair) for unit, pair in predictions.items()}
    shares = "; ".join(
        f"{unit}, {100 * np.trace(matrix) / matrix.sum():.0f} % of {matrix.sum():,} right"
        for unit, matrix in confusions.items()
    )
    pooled = "all folds pooled" if len(study.folds) == 1 else "all folds and seeds pooled"
    return [
        _drawn(
            scores.confusion_matrices(confusions, class_names, title),
            f"Confusion matrices of {name}: {shares}.",
            f"Which class is taken for which: {name}, test predictions of {pooled}.",
            leaky,
        ),
        _drawn(
            scores.reliability(reliabilities, title),
            f"Reliability of {name}: share that is right against mean confidence.",
            f"How far confidence can be believed: {name}, test predictions of {pooled}.",
            leaky,
        ),
    ]


def learning_curves(study: Study, stage: str, folds: Sequence[Fold]) -> Picture:
    """Draw the learning curves of a stage, of the folds that have finished it."""
    name, leaky = stage_name(stage), any(fold.leaky(stage) for fold in folds)
    best_epochs = [fold.results[stage]["best_epoch"] for fold in folds]
    panels = _CLASSIFIER_PANELS
    if stage == "gan":
        panels = curves.GENERATOR_PANELS[folds[0].configs[stage]["settings"]["method"]]
    histories = [_history(fold.dir / stage / "metrics.jsonl") for fold in folds]
    return _drawn(
        curves.fold_curves(histories, panels, best_epochs, f"{name}: {_title(study, leaky)}"),
        f"Learning curves of {name} in {count(len(folds), 'fold')}; validation chose epochs "
        f"{', '.join(map(str, best_epochs))}.",
        f"Learning curves of {name}, a line for each fold.",
        leaky,
    )


def _history(path: Path) -> list[dict[str, Any]]:
    """Return what was measured in each epoch of a run."""
    try:
        history = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if history and all("epoch" in row for row in history):
            return history
    except (OSError, ValueError, TypeError):
        pass
    raise UserError(
        f"{display_path(path)} is damaged or missing: rerun the {path.parent.name} stage of this "
        "fold with --restart."
    )


def _drawn(figure: Figure, alt: str, caption: str, leaky: bool) -> Picture:
    return _picture(style.png(figure), None, alt, caption, leaky)


def _picture(png: bytes, path: Path | None, alt: str, caption: str, leaky: bool) -> Picture:
    """Put a PNG, of a file or drawn here, on the page: as lossless WebP, of half the size."""
    try:
        pixels = image.imread(io.BytesIO(png))
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


def _title(study: Study, leaky: bool) -> str:
    """Return what figures call a study."""
    seeds = f", seeds: {seeds_text(study.folds)}" if len(study.folds) > 1 else ""
    folds = span([len(folds) for folds in study.folds.values()])
    warning = " (LEAKY: see the certificate)" if leaky else ""
    return f"{study.task}, protocol {study.protocol}, {folds} folds{seeds}{warning}"
