"""How far SA-ST-Net and its baselines are from published figures, on a public benchmark's split.

    .venv/bin/python benchmarks/yardstick.py --data-dir DE_feature/eegmat-36

Stage 2 is trained, by its own script, on people 00 to 27 of EEGMAT, its epoch chosen on 28 to 31,
and tested on 32 to 35, with several seeds. A prediction is that of five seconds: the mean of the
probabilities of five frames in succession. Networks of braindecode need `make braindecode`. Runs
are kept, and go on where they stopped. Fills in the table of benchmarks/YARDSTICK.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

from benchmarks.documents import fill_table, interval
from de3dgan.base.cli import command_line
from de3dgan.base.files import make_folder, write_json
from de3dgan.base.paths import from_root
from de3dgan.base.recipe import load_script
from de3dgan.evaluation import baselines
from de3dgan.evaluation.metrics import Clusters
from de3dgan.evaluation.names import NAMES
from de3dgan.evaluation.statistics import estimate
from de3dgan.reporting.results import Predictions, read_fold

PEOPLE = [f"Subject{number:02d}" for number in range(36)]
SPLIT = {"train": PEOPLE[:28], "val": PEOPLE[28:32], "test": PEOPLE[32:]}
#: Seconds that a prediction is made for.
WINDOW = 5
#: Balanced accuracies after full fine-tuning: OpenEEG-Bench (EUSIPCO), Table II, converted.
PUBLISHED = {
    "REVE, its authors": 0.766,
    "BIOT": 0.674,
    "REVE": 0.661,
    "CBraMod": 0.632,
    "EEGPT": 0.563,
    "LaBraM": 0.556,
}
#: What networks on samples are trained with.
SAMPLES = {"lr": 1e-3, "epochs": 12}


@dataclass(frozen=True)
class Config:
    """What is trained, and where it goes."""

    data_dir: tuple[Path, ...] = (Path("DE_feature/eegmat-36"),)  # stores of all 36 people
    runs_dir: Path = Path("runs/yardstick")  # where runs are kept
    networks: tuple[str, ...] = ("SASTNet", "EEGNet", "ShallowFBCSPNet")  # as --network of stage 2
    seeds: tuple[int, ...] = (520, 521, 522, 523, 524)  # initial weights and batches
    out: Path = ROOT / "benchmarks" / "YARDSTICK.md"  # document that holds the table


def main(config: Config) -> None:
    """Train, score, and fill in the table."""
    scored = [of_store(data_dir, config) for data_dir in config.data_dir]
    models = list(dict.fromkeys(model for column in scored for model in column))
    rows = [[model, *(column.get(model, "") for column in scored)] for model in models]
    rows += [[f"{model} (published)", *(f"{ba:.3f}" for _ in scored)] for model, ba in published()]
    columns = ("balanced accuracy per 5 s", *(f"`{path.name}`" for path in config.data_dir))
    fill_table(config.out, "yardstick.py", columns, rows)


def published() -> list[tuple[str, float]]:
    """Return the published figures, the highest first."""
    return sorted(PUBLISHED.items(), key=lambda item: -item[1])


def of_store(data_dir: Path, config: Config) -> dict[str, str]:
    """Train on a store, and return the cell of each network and baseline."""
    runs_dir = from_root(config.runs_dir) / data_dir.name
    make_folder(runs_dir)
    write_json(runs_dir / "split.json", SPLIT)
    script = load_script(ROOT / "Workload-main" / "SA-ST_Net_Classifier_Workload.py")
    simple: dict[str, list[Predictions]] = {}
    cells, found = {}, []

    def once(*args: object) -> object:
        """Return the predictions of the first run's baselines: all runs would have the same."""
        if not found:
            found.append(predictions(*args))
        return found[0]

    predictions = baselines.predictions
    with patch.object(baselines, "predictions", once):
        for network in config.networks:
            of_seeds = []
            for seed in config.seeds:
                where = runs_dir / network / f"seed{seed}"
                options = {} if network == "SASTNet" else SAMPLES
                script.main(
                    script.Config(
                        data_dir=data_dir,
                        runs_dir=where,
                        protocol="subject",
                        split_file=runs_dir / "split.json",
                        seed=seed,
                        network=network,
                        **options,
                    )
                )
                fold = read_fold(where / "workload" / "subject" / "fold0")
                of_seeds.append(fold.predictions["classifier"])
                simple = simple or {
                    model: [of] for model, of in fold.predictions.items() if model != "classifier"
                }
            cells[network] = cell(of_seeds)
            print(data_dir.name, network, cells[network], flush=True)
    for model, of_seeds in simple.items():
        cells[NAMES.get(model, model)] = cell(of_seeds)
    return cells


def cell(of_seeds: Sequence[Predictions]) -> str:
    """Return the balanced accuracy with its interval, and the range of seeds."""
    found = estimate([Clusters.of(*windows(one)) for one in of_seeds])["balanced_accuracy"]
    low, high = min(found.per_seed.values()), max(found.per_seed.values())
    spread = f"; seeds {low:.3f} to {high:.3f}" if len(of_seeds) > 1 else ""
    return interval(found) + spread


def windows(of: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the group, label and mean probabilities of every five seconds of each trial.

    Seconds at the end of a trial that are less than five are left out.
    """
    order = np.lexsort([of.frames, of.trials])
    trials, place = of.trials[order], of.frames[order] // WINDOW
    _, first, counts = np.unique(
        trials * (place.max() + 1) + place, return_index=True, return_counts=True
    )
    first = first[counts == WINDOW]
    probabilities = of.probabilities[order]
    means = np.mean([probabilities[first + second] for second in range(WINDOW)], axis=0)
    return of.groups[order][first], of.labels[order][first], means


if __name__ == "__main__":
    command_line(main, Config)
