"""What one fold gave: a table of baselines and stages, and where the figures are.

python -m de3dgan.reporting.summary --fold-dir runs/demo/workload/subject/fold0
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from de3dgan.base.cli import command_line
from de3dgan.base.errors import UserError
from de3dgan.base.files import write_text
from de3dgan.base.paths import display_path, from_root
from de3dgan.data.store import REFERENCES
from de3dgan.evaluation.names import CHOSEN
from de3dgan.reporting.results import MODELS, UNITS, Fold, read_fold
from de3dgan.reporting.study import PRIMARY
from de3dgan.reporting.wording import NOT_DEFINED, number, short_name

#: Metrics of the table, and their headings.
_SHOWN = {
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
    "within_auc": "AUC within persons",
}


@dataclass(frozen=True)
class Config:
    """Which fold."""

    fold_dir: Path  # runs/<task>/<protocol>/fold<k>


def main(config: Config) -> None:
    """Print the table and the paths of the figures, and write both beside the stages."""
    fold_dir = from_root(config.fold_dir)
    text = describe(fold_dir)
    write_text(fold_dir / "summary.md", text)
    print(f"\n{text}\nWritten to {display_path(fold_dir / 'summary.md')}.")


def describe(fold_dir: Path) -> str:
    """Return the summary of a fold whose three stages are finished, as Markdown.

    Raises
    ------
    UserError
        If a stage is not finished, or does not belong to the others.
    """
    fold = read_fold(fold_dir)
    for stage in ("gan", "classifier", "finetune"):
        if stage not in fold.results:
            raise UserError(
                f"{display_path(fold_dir / stage / 'result.json')} is missing: run the {stage} "
                "stage's script first."
            )
    result = fold.results["finetune"]
    person = f" of {result['person']}" if result["person"] else ""
    lines = [
        f"Task {result['task']}, protocol {result['protocol']}{person}, fold {result['fold']}, "
        f"seed {result['seed']}: {result['n_train_trials']} trials to train, "
        f"{result['n_val_trials']} to choose the epoch, {result['n_test_trials']} to test.",
        "",
        *_scores(fold),
        "",
        "A frame is one second of EEG; a trial's prediction is the mean of its frames'. DE is "
        f"relative to {REFERENCES[result['reference']]}. Baselines, and the head of our network, "
        "are trained on the validation trials as well.",
        *_not_better_than_baselines(fold),
        "",
        *_leakage(fold),
        "",
        "Generated EEG of the test trials, against the DE it was generated from:",
        "",
        *_quality(fold),
        "",
        "Figures:",
        "",
        *(f"- {display_path(path)}" for path in sorted(fold_dir.glob("*/*.png"))),
    ]
    return "\n".join(lines) + "\n"


def _scores(fold: Fold) -> list[str]:
    """Return the table of models and metrics."""
    headings = [f"{unit}: {name}" for unit in UNITS for name in _SHOWN.values()]
    lines = [f"| test split | {' | '.join(headings)} |", f"|---|{'---|' * len(headings)}"]
    for model, predictions in fold.predictions.items():
        scores = predictions.scores()
        cells = [number(scores[unit][metric]) for unit in UNITS for metric in _SHOWN]
        leaky = " **(leaky)**" if fold.leaky(model) else ""
        lines.append(f"| {MODELS[model]}{leaky} | {' | '.join(cells)} |")
    return lines


def _not_better_than_baselines(fold: Fold) -> list[str]:
    """Return a sentence on the networks that do not beat the best baseline, or some artefact."""
    metric, unit = PRIMARY
    scores = {model: found.scores()[unit][metric] for model, found in fold.predictions.items()}
    result, lines = fold.results["classifier"], []
    rivals = {
        result["best_baseline"]: "the best baseline",
        max(CHOSEN["artefact"], key=scores.__getitem__): "what knows no emotion",
    }
    for rival, what in rivals.items():
        networks = ("classifier", "finetune")
        worse = [short_name(model) for model in networks if scores[model] <= scores[rival]]
        if worse:
            lines.append(
                f"The network of {' and of '.join(worse)} does not beat {what}, {MODELS[rival]} "
                "(balanced accuracy per frame)."
            )
    return lines


def _leakage(fold: Fold) -> list[str]:
    """Return what the leakage certificates say."""
    leaky = [certificate for certificate in fold.certificates.values() if certificate["leaky"]]
    reasons = dict.fromkeys(reason for certificate in leaky for reason in certificate["reasons"])
    if not reasons:
        certificate = fold.certificates["finetune"]
        return [
            f"No {certificate['group']} tested on was seen by any scaler, network or choice of an "
            "epoch, and no recording tested on is a copy of one that was seen.",
            *certificate["notes"],
        ]
    lines = ["**Leaky: these figures say nothing about new EEG.**", ""]
    return lines + [f"- {reason}" for reason in reasons]


def _quality(fold: Fold) -> list[str]:
    """Return what judges say, and the table of the DE round trip beside that of noise."""
    quality = fold.results["gan"]["quality"]
    lines = [
        "| told from real EEG | strongest judge | AUC | noise of the same DE | real EEG |",
        "|---|---|---|---|---|",
    ]
    for unit, verdict in quality["generated"]["judged"].items():
        others = (quality[eeg]["judged"].get(unit) for eeg in ("noise", "real"))
        cells = [f"{other['auc']:.2f}" if other else NOT_DEFINED for other in others]
        auc = f"{verdict['auc']:.2f}"
        if verdict["low"] is not None:
            auc += f" ({verdict['low']:.2f} to {verdict['high']:.2f})"
        lines.append(f"| per {unit} | {verdict['judge']} | {auc} | {' | '.join(cells)} |")
    lines += [
        "",
        "0.5: not told at all; 1: always. The judge is chosen on validation data.",
        "",
        "| band | correlation | of noise | mean absolute error (nats) | bias (nats) |",
        "|---|---|---|---|---|",
    ]
    for band, kept in quality["generated"]["de_round_trip"].items():
        of_noise = quality["noise"]["de_round_trip"][band]["correlation"]
        numbers = f"{kept['correlation']:.2f} | {of_noise:.2f} | {kept['mae']:.2f}"
        lines.append(f"| {band} | {numbers} | {kept['bias']:+.2f} |")
    generated, real = (quality[eeg]["amplitude_uv"] for eeg in ("generated", "real"))
    return [*lines, "", f"Amplitude {generated:.1f} µV generated, {real:.1f} µV real."]


if __name__ == "__main__":
    command_line(main, Config)
