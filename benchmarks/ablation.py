"""What SA-ST-Net's trunk adds to simple models on the same maps, and what each kind of map adds.

    .venv/bin/python benchmarks/ablation.py --data-dir DE_feature/study-eegmat

Stage 2 of the workload task is trained as its script does it, and tuned logistic regression and
support vector machine are trained on the very maps that the network is given, of the same people.
Fills in the table of benchmarks/ABLATION.md, a row at a time.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partialmethod
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

from benchmarks.documents import fill_table, interval
from de3dgan.base.cli import command_line
from de3dgan.base.paths import from_root
from de3dgan.base.recipe import SCRIPTS, load_script
from de3dgan.data.frames import Frames
from de3dgan.evaluation import baselines
from de3dgan.evaluation.metrics import Clusters, by_trial
from de3dgan.evaluation.statistics import estimate
from de3dgan.stages import classifier
from de3dgan.training.run import Run
from models import SpectralSASTNet

#: Arguments of `models.classifier.PowerMaps`, by what the network is given.
VARIANTS: dict[str, dict[str, Any]] = {
    "all maps": {},
    "change only, no magnitudes": {"kinds": ("change",)},
    "magnitudes only": {"kinds": ("magnitude", "apart")},
    "no baseline removed": {"relative": False},
    "below 28 Hz only": {"highest": 28.0},
}
MODELS = {
    "network": "SA-ST-Net",
    "svm_maps": "support vector machine",
    "linear_maps": "logistic regression",
}
SCRIPT = ROOT / "Workload-main" / f"{SCRIPTS['classifier']}_Workload.py"


@dataclass(frozen=True)
class Config:
    """What is trained, and where the table goes."""

    data_dir: Path = Path("DE_feature/eegmat")  # store that preprocess_de.py made of EEGMAT
    fold_seeds: tuple[int, ...] = (520,)  # draw the folds
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)  # which fifths are tested on
    seed: int = 520  # of the initial weights and the batches
    variants: tuple[str, ...] = tuple(VARIANTS)  # rows of the table
    out: Path = ROOT / "benchmarks" / "ABLATION.md"  # document that holds the table


@dataclass(frozen=True)
class Tested:
    """Test predictions of one fold: person and class of each frame, and probabilities by model."""

    people: np.ndarray
    trials: np.ndarray
    labels: np.ndarray
    probabilities: Mapping[str, np.ndarray]


def main(config: Config) -> None:
    """Train, and fill in the table."""
    rows = []
    for name in config.variants:
        per_seed = [
            [trained(VARIANTS[name], fold, seed, config) for fold in config.folds]
            for seed in config.fold_seeds
        ]
        for model, title in MODELS.items():
            rows.append([name, title, *cells(model, per_seed)])
            print(*rows[-1], sep=" | ", flush=True)
        columns = ["maps", "model"]
        for metric in ("BA", "AUC"):
            columns += [f"{metric} per frame", f"{metric} per trial"]
        fill_table(config.out, "ablation.py", columns, rows)


def given(maps: Mapping[str, Any]) -> partialmethod:
    """Return how our network is made if it is given other maps."""
    return partialmethod(SpectralSASTNet.__init__, maps=maps)


def trained(maps: Mapping[str, Any], fold: int, fold_seed: int, config: Config) -> Tested:
    """Train the network by its script, and the simple models on its maps, on one fold."""
    found: list[Tested] = []

    def compare(
        run: Run, frames: Frames, trained: classifier.FrameClassifier, best_epoch: int
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Predict the test split by all models, in the place of `classifier.evaluate`."""
        asked, names = run.split.test, ("svm_maps", "linear_maps")
        simple, _ = baselines.predictions(
            frames, run.split, run.labels, asked, trained.net.maps, names
        )
        probabilities = classifier.predict(trained, frames, asked)
        trials = asked // run.split.n_frames
        people = np.array(run.store.columns["subject"])[trials]
        found.append(
            Tested(people, trials, run.labels[trials], {**simple, "network": probabilities})
        )
        return {"best_epoch": best_epoch}, probabilities

    script = load_script(SCRIPT)
    with (
        tempfile.TemporaryDirectory() as runs_dir,
        patch.object(SpectralSASTNet, "__init__", given(maps)),
        patch.object(classifier, "evaluate", compare),
        patch("de3dgan.figures.stages.draw_classifier"),
        patch.object(Run, "write_result"),
    ):
        where = {"data_dir": from_root(config.data_dir), "runs_dir": Path(runs_dir)}
        drawn = {"protocol": "subject", "fold": fold, "fold_seed": fold_seed, "seed": config.seed}
        script.main(script.Config(**where, **drawn))
    return found[0]


def cells(model: str, per_seed: list[list[Tested]]) -> list[str]:
    """Return a model's figures per frame and per trial, over all folds of each seed."""
    units: dict[str, list[Clusters]] = {"frame": [], "trial": []}
    for folds in per_seed:
        people, trials, labels = (
            np.concatenate([getattr(fold, name) for fold in folds])
            for name in ("people", "trials", "labels")
        )
        p = np.concatenate([fold.probabilities[model] for fold in folds])
        _, first = np.unique(trials, return_index=True)
        units["frame"].append(Clusters.of(people, labels, p))
        units["trial"].append(Clusters.of(people[first], *by_trial(trials, labels, p)))
    pooled = len(per_seed[0]) > 1
    found = [estimate(clusters, pooled_folds=pooled) for clusters in units.values()]
    return [interval(f[metric]) for metric in ("balanced_accuracy", "auc") for f in found]


if __name__ == "__main__":
    command_line(main, Config)
