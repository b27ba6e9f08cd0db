"""What precision and compilation do to results: the same runs, with and without.

    .venv/bin/python benchmarks/precision.py --data-dir DE_feature/study-eegmat

All three stages of our method, by their own scripts, in float32, in bfloat16, and in bfloat16 with
torch.compile, on the same folds and seeds. Differences are paired, and stand beside what another
seed does. Runs are kept, and go on where they stopped. Fills the tables of benchmarks/PRECISION.md.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.documents import fill_table, interval
from de3dgan.base.cli import command_line
from de3dgan.base.paths import from_root
from de3dgan.base.recipe import SCRIPTS, find_scripts, load_recipe, load_script
from de3dgan.evaluation.statistics import Clusters, compare, estimate
from de3dgan.reporting.results import Predictions, read_fold

ARMS = {
    "fp32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
    "bf16, compiled": {"precision": "bf16", "compile": "on"},
}


@dataclass(frozen=True)
class Config:
    """What is trained, and where it goes."""

    data_dir: Path = Path("DE_feature/eegmat")  # store that preprocess_de.py made of EEGMAT
    runs_dir: Path = Path("runs/precision")  # where runs are kept
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)  # folds of the classifier
    seeds: tuple[int, ...] = (520, 521, 522)  # seeds of the classifier
    all_stages: tuple[int, ...] = (0,)  # folds of the other stages, with the first seed
    out: Path = ROOT / "benchmarks" / "PRECISION.md"  # the page


def main(config: Config) -> None:
    """Train, compare and write the tables."""
    for seed in config.seeds:
        for fold in config.folds:
            whole = seed == config.seeds[0] and fold in config.all_stages
            for stage in SCRIPTS if whole else ("classifier",):
                for arm in ARMS:  # in turns, as a machine is not as fast at all times
                    run(config, arm, stage, seed, fold)
    for name, (row, columns) in TABLES.items():
        rows = [row(config, arm) for arm in ARMS]
        fill_table(config.out, f"precision.py, {name}", ("", *columns), rows)


def folder(config: Config, arm: str, seed: int) -> Path:
    """Return where runs of an arm and a seed are."""
    return from_root(config.runs_dir) / arm.replace(", ", "-") / f"seed{seed}"


def run(config: Config, arm: str, stage: str, seed: int, fold: int) -> None:
    """Run a stage, unless it is finished."""
    path = find_scripts(stage)["workload"]
    where = {"data_dir": config.data_dir, "runs_dir": folder(config, arm, seed), "seed": seed}
    recipe = load_recipe(path)(**where, protocol="subject", fold=fold, **ARMS[arm])
    load_script(path).main(recipe)


def stage_dir(config: Config, arm: str, stage: str, seed: int, fold: int) -> Path:
    """Return a run directory."""
    return folder(config, arm, seed) / "workload" / "subject" / f"fold{fold}" / stage


def results(config: Config, arm: str, stage: str) -> list[dict]:
    """Return what ``result.json`` says of a stage's runs in `Config.all_stages`."""
    dirs = [stage_dir(config, arm, stage, config.seeds[0], fold) for fold in config.all_stages]
    return [json.loads((path / "result.json").read_text()) for path in dirs]


def clusters(config: Config, arm: str) -> list[Clusters]:
    """Return stage 2's predictions over all folds, per seed."""
    found = []
    for seed in config.seeds:
        dirs = (stage_dir(config, arm, "classifier", seed, fold).parent for fold in config.folds)
        each = [read_fold(path).predictions["classifier"] for path in dirs]
        found.append(Clusters.of(*Predictions.pooled(each).in_unit("frame")))
    return found


def classifier_row(config: Config, arm: str) -> tuple[str, ...]:
    """Return stage 2's row."""
    found = clusters(config, arm)
    mean = estimate(found, pooled_folds=True)["balanced_accuracy"].value
    seeds = [estimate([one])["balanced_accuracy"].value for one in found]
    difference = "-"
    if arm != "fp32":
        plain = clusters(config, "fp32")
        d = compare(found, plain, "balanced_accuracy", pooled_folds=True).difference
        difference = interval(d, "+.2f", 100)
    return arm, f"{mean:.3f}", ", ".join(f"{value:.3f}" for value in seeds), difference


def stages_row(config: Config, arm: str) -> tuple[str, ...]:
    """Return the row of the other stages."""
    qualities = [of["quality"]["generated"] for of in results(config, arm, "gan")]
    tuned = [of["test"]["frame"]["balanced_accuracy"] for of in results(config, arm, "finetune")]
    figures = (
        fmean(quality["judged"]["1 s"]["auc"] for quality in qualities),
        fmean(quality["log_spectrum_distance"] for quality in qualities),
        fmean(fmean(b["mae"] for b in q["de_round_trip"].values()) for q in qualities),
        fmean(tuned),
    )
    return arm, *(f"{figure:.3f}" for figure in figures)


def seconds_row(config: Config, arm: str) -> tuple[str, ...]:
    """Return the row of the seconds of epochs, of the first seed's first fold."""
    row = [arm]
    for stage in ("gan", "classifier"):
        log = stage_dir(config, arm, stage, config.seeds[0], config.folds[0]) / "log.txt"
        found = re.findall(r"epoch \d+: .* \(([\d.]+) s\)$", log.read_text(), re.MULTILINE)
        seconds = [float(text) for text in found]
        row += [f"{seconds[0]:.0f}", f"{min(seconds):.1f}"]
    return tuple(row)


_QUALITY = ("told from real EEG, AUC of 1 s", "log spectrum distance", "DE error (nats)")
#: What makes a row of each table, and its headings.
TABLES = {
    "classifier": (classifier_row, ("mean of seeds", "each seed", "difference from fp32 (points)")),
    "stages": (stages_row, (*_QUALITY, "stage 3: balanced accuracy per frame")),
    "seconds": (
        seconds_row,
        [f"stage {n}, {of} epoch" for n in (1, 2) for of in ("first", "best")],
    ),
}


if __name__ == "__main__":
    command_line(main, Config)
