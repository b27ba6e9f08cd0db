"""Figures of quality and accuracy of our method beside those of an earlier commit.

    git worktree add before 9266c13 && ln -s "$PWD/.venv" before/.venv
    .venv/bin/python benchmarks/quality_before.py --before before --data-dir <store of EEGMAT>

Each checkout's own scripts train and test the three stages on the same store, folds and seeds, with
one thread. A difference is that of the mean of a fold's seeds, over folds; its standard error is
beside it. What another seed changes, in the same fold and checkout, is in the last column.

Runs stay where they are, and those that are finished are not made again: not even after a change of
the code. Allow 10 minutes of a core for a fold and seed. Fills in the table of SPEED.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.documents import fill_table
from de3dgan.base.cli import command_line
from de3dgan.base.errors import UserError
from de3dgan.base.files import read_json
from de3dgan.base.paths import from_root
from de3dgan.base.recipe import SCRIPTS

DOCUMENT = ROOT / "benchmarks" / "SPEED.md"


@dataclass(frozen=True)
class Config:
    """What to compare, and on what."""

    before: Path  # a checkout of the earlier commit, with .venv
    data_dir: Path = Path("DE_feature/eegmat")  # store that preprocess_de.py made
    runs_dir: Path = Path("runs/quality_before")  # where the runs are
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)  # of protocol subject
    seeds: tuple[int, ...] = (520, 521)  # two or more


def _scored(unit: str, metric: str) -> Callable[[dict[str, Any]], float]:
    return lambda result: result["test"][unit][metric]


def _judged(per: str) -> Callable[[dict[str, Any]], float]:
    return lambda result: result["quality"]["generated"]["judged"][per]["auc"]


def _de_error(result: dict[str, Any]) -> float:
    kept = result["quality"]["generated"]["de_round_trip"]
    return float(np.mean([of_band["mae"] for of_band in kept.values()]))


_OF_CLASSIFIERS = {
    "balanced accuracy per frame": _scored("frame", "balanced_accuracy"),
    "AUC per frame, within people": _scored("frame", "within_auc"),
    "balanced accuracy per trial": _scored("trial", "balanced_accuracy"),
}
#: What is compared of each stage's test split; and the figure by which it chose its epoch.
FIGURES: dict[str, dict[str, Callable[[dict[str, Any]], float]]] = {
    "gan": {
        "strongest judge's AUC at 1 s": _judged("1 s"),
        "strongest judge's AUC per trial": _judged("trial"),
        "error of DE, nats": _de_error,
        "distance of log spectra": lambda result: result["quality"]["generated"][
            "log_spectrum_distance"
        ],
    },
    "classifier": _OF_CLASSIFIERS,
    "finetune": _OF_CLASSIFIERS,
}
CHOSEN_BY = {"gan": "val_log_likelihood", "classifier": "val_loss", "finetune": "val_loss"}
_STAGE = {"gan": "stage 1", "classifier": "stage 2", "finetune": "stage 3"}


def main(config: Config) -> None:
    """Train and test what is not there yet, and fill in the table."""
    if len(config.seeds) < 2:
        raise UserError("One seed says nothing of what another one changes: give --seeds 520 521.")
    trees = {"before": config.before.resolve(), "now": ROOT}
    found: dict[str, np.ndarray] = {}  # (checkouts, folds, seeds)
    shape = len(trees), len(config.folds), len(config.seeds)
    for s, seed in enumerate(config.seeds):
        for f, fold in enumerate(config.folds):
            for t, (name, tree) in enumerate(trees.items()):
                runs = from_root(config.runs_dir) / name / f"seed {seed}"
                for what, figure in figures(tree, config, runs, fold, seed).items():
                    found.setdefault(what, np.full(shape, np.nan))[t, f, s] = figure
                    print(f"{name}, fold {fold}, seed {seed}: {what} {figure:.4f}", flush=True)
    fill_table(
        DOCUMENT,
        "quality_before.py",
        [
            f"{len(config.folds)} folds, {len(config.seeds)} seeds each",
            "before",
            "now",
            "difference (standard error)",
            "standard deviation between seeds",
        ],
        [[what, *cells(figures)] for what, figures in found.items()],
    )


def cells(figures: np.ndarray) -> list[str]:
    """Return the cells of a figure's row, given its values (2, n_folds, n_seeds)."""
    before, now = figures.mean((1, 2))
    differences = np.diff(figures.mean(2), axis=0)[0]
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    between_seeds = np.sqrt(figures.var(2, ddof=1).mean())
    return [
        *(f"{value:.4f}" for value in (before, now)),
        f"{differences.mean():+.4f} ({error:.4f})",
        f"{between_seeds:.4f}",
    ]


def figures(tree: Path, config: Config, runs: Path, fold: int, seed: int) -> dict[str, float]:
    """Return a fold's figures, by name, from a checkout's scripts."""
    split = ["--protocol", "subject", "--fold", fold]
    found = {}
    for stage, name in SCRIPTS.items():
        folder = runs / "workload" / "subject" / f"fold{fold}" / stage
        if not (folder / "result.json").is_file():
            flags = [*split, "--seed", seed, "--data-dir", from_root(config.data_dir).resolve()]
            words = [f"Workload-main/{name}_Workload.py", *flags, "--runs-dir", runs]
            done = subprocess.run(
                [str(tree / ".venv" / "bin" / "python"), *map(str, words)],
                cwd=tree,
                env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise UserError(f"{tree}: {done.stderr.strip().splitlines()[-1]}")
        result = read_json(folder / "result.json")
        epochs = (folder / "metrics.jsonl").read_text().splitlines()
        of_stage = {
            CHOSEN_BY[stage]: json.loads(epochs[result["best_epoch"]])[CHOSEN_BY[stage]],
            **{what: figure(result) for what, figure in FIGURES[stage].items()},
        }
        found |= {f"{_STAGE[stage]}: {what}": float(value) for what, value in of_stage.items()}
    return found


if __name__ == "__main__":
    command_line(main, Config)
