"""What precision and compilation do to results: the same runs, with and without.

    .venv/bin/python benchmarks/precision.py --data-dir DE_feature/study-eegmat

All three stages of our method, by their own scripts, in float32, in bfloat16, and in bfloat16 with
torch.compile, on the same folds and seeds. Differences are paired, and stand beside what another
seed does. Runs are kept, and go on where they stopped. Writes benchmarks/PRECISION.md.
"""

from __future__ import annotations

import json
import re
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

from benchmarks.training_size import pooled
from de3dgan.base.cli import command_line
from de3dgan.base.files import write_text
from de3dgan.base.paths import from_root
from de3dgan.base.recipe import SCRIPTS
from de3dgan.evaluation.statistics import Clusters, compare, estimate
from de3dgan.reporting.results import read_fold

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
    out: Path = ROOT / "benchmarks" / "PRECISION.md"  # the table


def main(config: Config) -> None:
    """Train, compare, print and write the table."""
    for seed in config.seeds:
        for fold in config.folds:
            whole = seed == config.seeds[0] and fold in config.all_stages
            for stage in SCRIPTS if whole else ("classifier",):
                for arm in ARMS:  # in turns, as a machine is not as fast at all times
                    run(config, arm, stage, seed, fold)
    folds = " ".join(map(str, config.folds))
    environment = result(config, "bf16", "classifier", config.seeds[0], config.folds[0])
    environment = environment["environment"]
    lines = [
        "# Precision and compilation",
        "",
        "Made by `.venv/bin/python benchmarks/precision.py --data-dir <store of all EEGMAT>` on "
        f"{environment['device']} with {environment['threads']} thread(s), torch "
        f"{environment['torch']}: task workload, protocol `subject`, folds {folds}, seeds "
        f"{' '.join(map(str, config.seeds))}. `--precision auto` is bf16 where the device gains "
        "from it, `--compile auto` is off.",
        "",
        "Stage 2, balanced accuracy per frame over all folds. Differences are those from fp32 with "
        "the same folds and seeds, with 95 % intervals over people.",
        "",
        "| | mean of seeds | each seed | difference from fp32 (points) |",
        "|---|---|---|---|",
        *(classifier_row(config, arm) for arm in ARMS),
        "",
        f"The other stages, seed {config.seeds[0]}, mean of folds "
        f"{' '.join(map(str, config.all_stages))}:",
        "",
        "| | told from real EEG | log spectrum distance | DE error (nats) "
        "| stage 3: balanced accuracy per frame |",
        "|---|---|---|---|---|",
        *(stages_row(config, arm) for arm in ARMS),
        "",
        "Compilation falls into the first epoch. On a machine that was busy with other things it "
        "took, and the fastest epoch after it: "
        + "; ".join(
            f"{arm}, stage {n}: {epochs(config, arm, stage)[0]:.0f} and "
            f"{min(epochs(config, arm, stage)):.1f} s"
            for n, stage in enumerate(("gan", "classifier"), 1)
            for arm in ARMS
        )
        + ".",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    write_text(config.out, text)


def folder(config: Config, arm: str, seed: int) -> Path:
    """Return where runs of an arm and a seed are."""
    return from_root(config.runs_dir) / arm.replace(", ", "-") / f"seed{seed}"


def run(config: Config, arm: str, stage: str, seed: int, fold: int) -> None:
    """Run a stage, unless it is finished."""
    script = ROOT / "Workload-main" / f"{SCRIPTS[stage]}_Workload.py"
    names = runpy.run_path(str(script))
    sys.argv[0] = str(script)
    where = {"data_dir": config.data_dir, "runs_dir": folder(config, arm, seed), "seed": seed}
    names["main"](names["Config"](**where, protocol="subject", fold=fold, **ARMS[arm]))


def stage_dir(config: Config, arm: str, stage: str, seed: int, fold: int) -> Path:
    """Return a run directory."""
    return folder(config, arm, seed) / "workload" / "subject" / f"fold{fold}" / stage


def result(config: Config, arm: str, stage: str, seed: int, fold: int) -> dict:
    """Return what a run's ``result.json`` says."""
    path = stage_dir(config, arm, stage, seed, fold) / "result.json"
    return json.loads(path.read_text())


def epochs(config: Config, arm: str, stage: str) -> list[float]:
    """Return the seconds of each epoch of the first seed's first fold."""
    log = stage_dir(config, arm, stage, config.seeds[0], config.folds[0]) / "log.txt"
    return [float(s) for s in re.findall(r"epoch \d+: .* \(([\d.]+) s\)$", log.read_text(), re.M)]


def of_classifier(config: Config, arm: str) -> list[Clusters]:
    """Return stage 2's predictions over all folds, per seed."""
    return [
        pooled(
            [
                read_fold(stage_dir(config, arm, "classifier", seed, fold).parent).predictions[
                    "classifier"
                ]
                for fold in config.folds
            ]
        )
        for seed in config.seeds
    ]


def classifier_row(config: Config, arm: str) -> str:
    """Return stage 2's row."""
    clusters = of_classifier(config, arm)
    found = estimate(clusters, pooled_folds=True)["balanced_accuracy"]
    seeds = [estimate([one])["balanced_accuracy"].value for one in clusters]
    difference = "-"
    if arm != "fp32":
        plain = of_classifier(config, "fp32")
        d = compare(clusters, plain, "balanced_accuracy", pooled_folds=True).difference
        difference = f"{100 * d.value:+.2f} ({100 * d.low:+.2f} to {100 * d.high:+.2f})"
    each = ", ".join(f"{value:.3f}" for value in seeds)
    return f"| {arm} | {found.value:.3f} | {each} | {difference} |"


def stages_row(config: Config, arm: str) -> str:
    """Return the row of the other stages."""
    seed = config.seeds[0]
    made = [
        result(config, arm, "gan", seed, fold)["quality"]["generated"] for fold in config.all_stages
    ]
    tuned = mean(
        [
            result(config, arm, "finetune", seed, fold)["test"]["random-frame"]["balanced_accuracy"]
            for fold in config.all_stages
        ]
    )
    de = mean([mean([b["mae"] for b in m["de_round_trip"].values()]) for m in made])
    return (
        f"| {arm} | {mean([m['discriminative_score'] for m in made]):.3f} "
        f"| {mean([m['log_spectrum_distance'] for m in made]):.3f} | {de:.3f} | {tuned:.3f} |"
    )


def mean(values: Sequence[float]) -> float:
    """Return the mean."""
    return float(np.mean(values))


if __name__ == "__main__":
    command_line(main, Config)
