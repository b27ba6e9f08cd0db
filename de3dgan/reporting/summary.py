"""What one fold gave: a table of baselines and stages, and where the figures are.

python -m de3dgan.reporting.summary --fold-dir runs/demo/workload/subject/fold0
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from de3dgan.base.cli import command_line

if TYPE_CHECKING:
    from de3dgan.reporting.results import Fold

#: Metrics of the table, and their headings.
_SHOWN = {"accuracy": "accuracy", "balanced_accuracy": "balanced", "auc": "AUC"}


@dataclass(frozen=True)
class Config:
    """Which fold."""

    fold_dir: Path  # runs/<task>/<protocol>/fold<k>


def main(config: Config) -> None:
    """Print the table and the paths of the figures, and write both beside the stages."""
    from de3dgan.base.files import write_text
    from de3dgan.base.paths import display_path, from_root

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
    from de3dgan.base.errors import UserError
    from de3dgan.base.paths import display_path
    from de3dgan.reporting.results import read_fold

    fold = read_fold(fold_dir)
    for stage in ("gan", "classifier", "finetune"):
        if stage not in fold.results:
            raise UserError(
                f"{display_path(fold_dir / stage / 'result.json')} is missing: run the {stage} "
                "stage's script first."
            )
    last = fold.results["finetune"]
    lines = [
        f"Task {last['task']}, protocol {last['protocol']}, fold {last['fold']}, seed "
        f"{last['seed']}: {last['n_train_trials']} trials to train, {last['n_val_trials']} to "
        f"choose the epoch, {last['n_test_trials']} to test.",
        "",
        *_scores(fold),
        "",
        "A frame is one second of EEG; a trial's prediction is the mean of its frames'. Baselines "
        "have no epoch to choose and are trained on the validation trials as well.",
        *_not_better_than_linear(fold),
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
    from de3dgan.reporting.results import MODELS, UNITS

    headings = [f"{unit}: {name}" for unit in UNITS.values() for name in _SHOWN.values()]
    lines = [f"| test split | {' | '.join(headings)} |", f"|---|{'---|' * len(headings)}"]
    for model, predictions in fold.predictions.items():
        scores = predictions.scores()
        cells = [_number(scores[unit][metric]) for unit in UNITS for metric in _SHOWN]
        leaky = " **(leaky)**" if fold.leaky(model) else ""
        lines.append(f"| {MODELS[model]}{leaky} | {' | '.join(cells)} |")
    return lines


def _not_better_than_linear(fold: Fold) -> list[str]:
    """Return a sentence on the networks that do not beat the linear model."""
    from de3dgan.reporting.results import MODELS, PRIMARY

    metric, unit = PRIMARY
    figures = {model: p.scores()[unit][metric] for model, p in fold.predictions.items()}
    worse = [
        MODELS[model].split(":")[0]
        for model in ("classifier", "finetune")
        if figures[model] <= figures["linear"]
    ]
    if not worse:
        return []
    return [
        f"The network of {' and of '.join(worse)} does not beat the linear model on DE (balanced "
        "accuracy per frame)."
    ]


def _leakage(fold: Fold) -> list[str]:
    """Return what the leakage certificates say."""
    leaky = [c["reasons"] for c in fold.certificates.values() if c["leaky"]]
    found = list(dict.fromkeys(reason for reasons in leaky for reason in reasons))
    if not found:
        certificate = fold.certificates["finetune"]
        probe, group = certificate["probe"], certificate["group"]
        return [
            f"No {group} tested on was seen by any scaler, network or choice of an epoch; a linear "
            f"model, its classes permuted, has a balanced accuracy of "
            f"{probe['balanced_accuracy']:.3f} per frame (chance {probe['chance']:.3f})."
        ]
    lines = ["**Leaky: these figures say nothing about new EEG.**", ""]
    return lines + [f"- {reason}" for reason in found]


def _quality(fold: Fold) -> list[str]:
    """Return the table of the DE round trip, and the amplitudes."""
    quality = fold.results["gan"]["quality"]
    lines = [
        "| band | correlation | mean absolute error (nats) | bias (nats) |",
        "|---|---|---|---|",
    ]
    for band, f in quality["generated"]["de_round_trip"].items():
        lines.append(f"| {band} | {f['correlation']:.2f} | {f['mae']:.2f} | {f['bias']:+.2f} |")
    generated, real = (quality[row]["amplitude_uv"] for row in ("generated", "real"))
    return [*lines, "", f"Amplitude {generated:.1f} µV generated, {real:.1f} µV real."]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    command_line(main, Config)
