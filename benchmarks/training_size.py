"""Whether generated EEG helps more where there is less real EEG to train on.

    .venv/bin/python benchmarks/training_size.py --data-dir DE_feature/study-eegmat

All three stages are trained, by their own scripts, on few of the training people of each fold, and
fine-tuning with generated EEG is compared with fine-tuning without. Validation and test people are
those of the full study. Runs are kept, and go on where they stopped. Fills in the table of
benchmarks/TRAINING_SIZE.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
from scipy import stats

from benchmarks.documents import fill_table, interval
from de3dgan.base.cli import command_line
from de3dgan.base.paths import from_root
from de3dgan.base.recipe import SCRIPTS, load_script
from de3dgan.base.seeds import derived_rng
from de3dgan.data import splits
from de3dgan.data.splits import Split, group_names
from de3dgan.evaluation.statistics import Clusters, compare, estimate
from de3dgan.reporting.results import Fold, Predictions, read_fold

COLUMNS = ("balanced accuracy with", "without", "difference (points)")
COLUMNS += ("cross entropy with", "without", "difference")


@dataclass(frozen=True)
class Config:
    """What is trained, and where it goes."""

    data_dir: Path = Path("DE_feature/eegmat")  # store that preprocess_de.py made of EEGMAT
    runs_dir: Path = Path("runs/training_size")  # where runs are kept
    sizes: tuple[int, ...] = (4, 8, 16, 0)  # people to train on; 0: all
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)  # which fifths are tested on
    seed: int = 520  # draws the folds, the people, the initial weights and the batches
    out: Path = ROOT / "benchmarks" / "TRAINING_SIZE.md"  # document that holds the table


def main(config: Config) -> None:
    """Train, compare, and fill in the table."""
    rows = []
    for size in config.sizes:
        rows.append(row(size, [trained_on(size, fold, config) for fold in config.folds]))
        print(*rows[-1], sep=" | ", flush=True)
    heading = f"people (folds {', '.join(map(str, config.folds))}; seed {config.seed})"
    fill_table(config.out, "training_size.py", (heading, *COLUMNS), rows)


def trained_on(size: int, fold: int, config: Config) -> Fold:
    """Run the stages of a fold on `size` people, and return their predictions."""

    def few(*args: Any) -> Split:
        split = make_split(*args)
        return with_few_groups(split, group_names(args[0], split.protocol)[1], size)

    runs_dir = from_root(config.runs_dir) / (f"{size}-people" if size else "all")
    make_split = splits.make_split
    where = {"data_dir": config.data_dir, "runs_dir": runs_dir, "protocol": "subject"}
    where |= {"fold": fold, "seed": config.seed}
    with patch("de3dgan.training.run.make_split", few):
        for stage, name in SCRIPTS.items():
            script = load_script(ROOT / "Workload-main" / f"{name}_Workload.py")
            controls = ("generated", "none") if stage == "finetune" else ()
            for settings in [{"augmentation": control} for control in controls] or [{}]:
                script.main(script.Config(**where, **settings))
    return read_fold(runs_dir / "workload" / "subject" / f"fold{fold}")


def with_few_groups(split: Split, names: np.ndarray, size: int) -> Split:
    """Return `split` with `size` of its training groups only; with all of them if `size` is 0."""
    groups = np.unique(names[split.trials("train")])
    if not size or size >= len(groups):
        return split
    rng = derived_rng(split.seed, split.fold, "few groups to train on")
    kept = rng.permutation(groups)[:size]  # a smaller draw is part of a larger one
    return replace(split, train=split.train[np.isin(names[split.train // split.n_frames], kept)])


def row(size: int, folds: Sequence[Fold]) -> list[str]:
    """Return the table's row of a number of people."""
    models = [[fold.predictions[name] for fold in folds] for name in ("finetune", "finetune-none")]
    clusters = [[pooled(model)] for model in models]
    accuracies = [estimate(model, pooled_folds=True)["balanced_accuracy"] for model in clusters]
    gain = compare(*clusters, "balanced_accuracy", pooled_folds=True).difference
    entropies = [np.concatenate(list(map(cross_entropies, model))) for model in models]
    change = entropies[0] - entropies[1]
    found = stats.bootstrap((change,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    return [
        str(size or "all"),
        *(f"{accuracy.value:.3f}" for accuracy in accuracies),
        interval(gain, "+.1f", 100),
        *(f"{entropy.mean():.3f}" for entropy in entropies),
        f"{change.mean():+.3f} ({found.low:+.3f} to {found.high:+.3f})",
    ]


def pooled(folds: Sequence[Predictions]) -> Clusters:
    """Return the predictions of all folds together, per group."""
    parts = zip(*(fold.in_unit("frame") for fold in folds), strict=True)
    return Clusters.of(*map(np.concatenate, parts))


def cross_entropies(predictions: Predictions) -> np.ndarray:
    """Return the mean cross entropy of each group's frames, in nats."""
    rows = np.arange(len(predictions.labels))
    losses = -np.log(predictions.probabilities[rows, predictions.labels].clip(1e-6))
    groups = predictions.groups
    return np.array([losses[groups == group].mean() for group in np.unique(groups)])


if __name__ == "__main__":
    command_line(main, Config)
