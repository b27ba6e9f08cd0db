"""What one fold gave: a table of baselines and stages, and where the figures are.

python -m de3dgan.summary --fold-dir runs/demo/workload/subject/fold0
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from de3dgan.cli import command_line

#: What the controls of stage 3 set beside real EEG.
_CONTROLS = {
    "none": "nothing",
    "noise": "white noise",
    "surrogate": "noise of the same DE",
    "shuffled": "generated EEG of other trials",
}
#: Metrics of the table, and their headings.
_SHOWN = {"accuracy": "accuracy", "balanced_accuracy": "balanced", "auc": "AUC"}


@dataclass(frozen=True)
class Config:
    """Which fold."""

    fold_dir: Path  # runs/<task>/<protocol>/fold<k>
    data_dir: Path | None = None  # its store; default: found in DE_feature/


def main(config: Config) -> None:
    """Print the table and the paths of the figures, and write both beside the stages."""
    from de3dgan.files import write_text
    from de3dgan.paths import from_root, shown

    fold_dir = from_root(config.fold_dir)
    text = describe(fold_dir, config.data_dir)
    write_text(fold_dir / "summary.md", text)
    print(f"\n{text}\nWritten to {shown(fold_dir / 'summary.md')}.")


def describe(fold_dir: Path, data_dir: Path | None = None) -> str:
    """Return the summary of a fold whose three stages are finished, as Markdown.

    Raises
    ------
    UserError
        If a stage is not finished or the store is not there.
    """
    from de3dgan.files import read_json
    from de3dgan.paths import shown

    results = read_results(fold_dir)
    gan, last = results["gan"], results["finetune"]
    rows = {
        "majority class": last["majority"],
        **baselines(fold_dir, data_dir),
        "stage 2: SA-ST-Net on real EEG": results["classifier"]["test"],
        "stage 3: fine-tuned with generated EEG": last["test"],
    }
    for path in sorted(fold_dir.glob("finetune-*/result.json")):
        control = path.parent.name.removeprefix("finetune-")
        rows[f"control: fine-tuned with {_CONTROLS[control]}"] = read_json(path)["test"]
    leaky = " **Leaky protocol: the figures say nothing about new EEG.**" if last["leaky"] else ""
    headings = [f"{unit}: {name}" for unit in ("frame", "trial") for name in _SHOWN.values()]
    lines = [
        f"Task {last['task']}, protocol {last['protocol']}, fold {last['fold']}, seed "
        f"{last['seed']}: {last['n_train_trials']} trials to train, {last['n_val_trials']} to "
        f"choose the epoch, {last['n_test_trials']} to test.{leaky}",
        "",
        f"| test split | {' | '.join(headings)} |",
        f"|---|{'---|' * len(headings)}",
    ]
    for name, test in rows.items():
        cells = [_number(test[unit][m]) for unit in ("window", "trial") for m in _SHOWN]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "A frame is one second of EEG; a trial's prediction is the mean of its frames'. Baselines "
        "have no epoch to choose and are trained on the validation trials as well.",
        "",
        "Generated EEG of the test trials, against the DE it was generated from:",
        "",
        "| band | correlation | mean absolute error (nats) | bias (nats) |",
        "|---|---|---|---|",
    ]
    for band, f in gan["quality"]["de_round_trip"].items():
        lines.append(f"| {band} | {f['correlation']:.2f} | {f['mae']:.2f} | {f['bias']:+.2f} |")
    amplitude = gan["quality"]["amplitude_uv"]
    lines += [
        "",
        f"Amplitude {amplitude['generated']:.1f} µV generated, {amplitude['real']:.1f} µV real.",
        "",
        "Figures:",
        "",
    ]
    lines += [f"- {shown(path)}" for path in sorted(fold_dir.glob("*/*.png"))]
    return "\n".join(lines) + "\n"


def read_results(fold_dir: Path) -> dict[str, dict[str, Any]]:
    """Return ``result.json`` of each stage.

    Raises
    ------
    UserError
        If one is missing, or if fine-tuning was done from other checkpoints than are there.
    """
    from de3dgan.errors import UserError
    from de3dgan.files import read_json, sha256
    from de3dgan.paths import shown

    results = {}
    for stage in ("gan", "classifier", "finetune"):
        path = fold_dir / stage / "result.json"
        if not path.is_file():
            raise UserError(f"{shown(path)} is missing: run the {stage} stage's script first.")
        results[stage] = read_json(path)
        if not isinstance(results[stage], dict) or "split_fingerprint" not in results[stage]:
            raise UserError(f"{shown(path)} is damaged: rerun the {stage} stage with --restart.")
    for folder in (fold_dir / "finetune", *fold_dir.glob("finetune-*")):
        used = read_json(folder / "config.json")["upstream"]
        there = {stage: sha256(fold_dir / stage / "model.pt")[:16] for stage in used}
        if used != there:
            raise UserError(
                f"{shown(folder)} was made from another generator or classifier than those beside "
                "it: rerun that stage with --restart."
            )
    return results


def baselines(fold_dir: Path, data_dir: Path | None = None) -> dict[str, dict[str, Any]]:
    """Return the test metrics of each baseline, on the split of a fold's classifier."""
    from de3dgan import baselines as models
    from de3dgan.files import read_json
    from de3dgan.generation import load_generator, store_of
    from de3dgan.metrics import window_and_trial
    from de3dgan.splits import class_labels, make_split

    store = store_of(load_generator(fold_dir / "gan" / "model.pt"), data_dir)
    settings = read_json(fold_dir / "classifier" / "config.json")["settings"]
    labels = class_labels(store, settings["ratings"], settings["threshold"])
    split = make_split(store, labels, settings["protocol"], settings["fold"], settings["seed"])
    data = (store, split, labels, split.test)
    predictions = {
        "random, classes as in training": models.random_probabilities(split, labels, split.test),
        "linear model on DE": models.linear_probabilities(*data),
        "linear model on DE, no baseline removal": models.linear_probabilities(*data, True),
        "support vector machine on DE": models.svm_probabilities(*data),
    }
    trials = split.test // split.n_frames
    return {
        name: window_and_trial(trials, labels[trials], probabilities)
        for name, probabilities in predictions.items()
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    command_line(main, Config)
