"""Finished runs without training: copies of a finished fold, with predictions of a known rate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from de3dgan.base.files import write_csv
from de3dgan.evaluation.names import NAMES as BASELINES

DONE = ("classifier", "finetune", "finetune-none")
RATES = {**dict.fromkeys(BASELINES, 0.5), "best": 0.7, "classifier": 0.7, "finetune": 0.7}
N_FRAMES = 12


def plant(
    runs: Path,
    finished: Path,
    rates: Mapping[str, float] = RATES,
    task: str = "valence",
    seed: int = 520,
    folds: Iterable[int] = range(5),
    stages: Iterable[str] = DONE,
    person: str | None = None,
) -> Path:
    """Write folds in which each model is right about a frame as often as `rates` says (else 0.5).

    They are copies of `finished`, but for 40 groups of 2 trials, of which each fold tests 8; of
    protocol subject, or of protocol within, if it is of one `person`, whose number ends the name.
    """
    rng = np.random.default_rng(seed - 520)
    protocol = "within" if person else "subject"
    first_trial = 80 * int(person[1:]) if person else 0
    for fold in folds:
        fold_dir = runs / task / protocol / (person or "") / f"fold{fold}"
        (fold_dir / "gan").mkdir(parents=True)
        source = finished / "valence" / "subject" / "fold0"
        shutil.copy(source / "gan" / "model.pt", fold_dir / "gan")
        trials = first_trial + np.arange(16) + 16 * fold
        groups = {f"p{t // 2:02d}": [int(t), int(t) + 1] for t in trials[::2]}
        for stage in stages:
            folder = fold_dir / stage
            folder.mkdir()
            for name in ("model.pt", "metrics.jsonl", "result.json", "config.json", "leakage.json"):
                shutil.copy(source / stage / name, folder)
            whose = {"protocol": protocol, "person": person}
            edit(folder / "result.json", fold=fold, seed=seed, task=task, **whose)
            edit(folder / "leakage.json", test_groups=groups)
            edit_settings(folder, fold=fold, seed=seed, **whose)
            known = {"": rates.get(stage, 0.5)}
            _write_predictions(folder / "predictions.csv", known, trials, rng, person)
        known = {model: rates.get(model, 0.5) for model in BASELINES}
        table = fold_dir / "classifier" / "baselines.csv"
        _write_predictions(table, known, trials, rng, person)
    return runs


def edit(path: Path, **changed: object) -> None:
    """Change fields of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def edit_settings(folder: Path, **changed: object) -> None:
    """Change settings in a stage's config.json."""
    settings = json.loads((folder / "config.json").read_text())["settings"]
    edit(folder / "config.json", settings={**settings, **changed})


def _write_predictions(
    path: Path,
    rates: Mapping[str, float],
    trials: np.ndarray,
    rng: np.random.Generator,
    person: str | None,
) -> None:
    rows = []
    for model, rate in rates.items():
        for trial in trials.tolist():
            for frame, right in enumerate(rng.random(N_FRAMES) < rate):
                p = 0.5 + (0.3 if right == trial % 2 else -0.3) + rng.uniform(-0.1, 0.1)
                row = {"trial": trial, "frame": frame, "label": trial % 2, "p_0": 1 - p, "p_1": p}
                row["subject"] = person or f"p{trial // 2:02d}"
                rows.append({"model": model, **row} if model else row)
    write_csv(path, rows)
