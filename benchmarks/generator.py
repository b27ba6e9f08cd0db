"""What each part of the generator is worth: train it without one part at a time, and measure.

    .venv/bin/python benchmarks/generator.py --data-dir DE_feature/study-eegmat

Each variant is trained by the stage's own script on the same fold, and measured on its test trials
(`de3dgan.evaluation.quality`). Fills in the table of benchmarks/GENERATOR.md.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.documents import fill_table
from de3dgan.base.cli import command_line
from de3dgan.base.files import read_json
from de3dgan.base.recipe import load_script
from models import SpectralGenerator

SCRIPT = ROOT / "Workload-main" / "3D-UNet_GAN_Workload.py"
#: Settings that differ from the recipe's, and the part that is left out, by variant.
VARIANTS: dict[str, tuple[dict[str, Any], str | None]] = {
    "closed form, nothing learnt": ({"epochs": 1, "lr": 0.0, "calibration_steps": 0}, None),
    "closed form, calibrated": ({"epochs": 1, "lr": 0.0}, None),
    "no U-Net": ({}, "no U-Net"),
    "no calibration": ({"calibration_steps": 0}, None),
    "no lags": ({}, "no lags"),
    "the recipe": ({}, None),
}
COLUMNS = ("DE: lowest r", "DE: error (nats)", "seam", "told: AUC, 1 s", "told: AUC, trial")
COLUMNS += ("correlation error", "log spectrum", "TSTR: network", "TSTR: tangent space")


@dataclass(frozen=True)
class Config:
    """On what to train, and where the table goes."""

    data_dir: Path = Path("DE_feature/eegmat")  # store that preprocess_de.py made
    fold: int = 0  # which fifth is tested on
    seed: int = 520  # draws the folds, the initial weights and the batches
    out: Path = ROOT / "benchmarks" / "GENERATOR.md"  # document that holds the table


def main(config: Config) -> None:
    """Train and measure all variants; write the table."""
    rows = []
    for name, (settings, part) in VARIANTS.items():
        measured = quality_of(config, settings, part)
        if not rows:  # what does not depend on the generator
            rows.append(row("real EEG in its place", measured["real"]))
            rows.append(row("noise with the DE of the trial", measured["noise"]))
        rows.append(row(name, measured["generated"]))
        print(*rows[-1], sep=" | ", flush=True)
    heading = f"fold {config.fold}, seed {config.seed}"
    fill_table(config.out, "generator.py", (heading, *COLUMNS), rows)


def quality_of(config: Config, settings: dict[str, Any], part: str | None) -> dict[str, Any]:
    """Train a variant and return the quality of its EEG, as ``result.json`` has it."""
    script = load_script(SCRIPT)
    with tempfile.TemporaryDirectory() as folder, without(part):
        where = {"data_dir": config.data_dir, "runs_dir": Path(folder), "protocol": "subject"}
        recipe = script.Config(**where, fold=config.fold, seed=config.seed, **settings)
        script.main(recipe)
        (result,) = Path(folder).rglob("result.json")
        return read_json(result)["quality"]


def without(part: str | None) -> contextlib.AbstractContextManager:
    """Return a context in which a part of the generator is left out."""
    init_closed_form = SpectralGenerator.init_closed_form
    amplitudes_from = SpectralGenerator._amplitudes_from

    def without_lags(self: SpectralGenerator, *data: Any) -> None:
        init_closed_form(self, *data)
        self.lags.zero_()

    def without_maps(self: SpectralGenerator, maps: Any, x: Any) -> Any:
        return amplitudes_from(self, 0 * maps, x)

    if part is None:
        return contextlib.nullcontext()
    replaced = {
        "no lags": ("init_closed_form", without_lags),
        "no U-Net": ("_amplitudes_from", without_maps),
    }
    return patch.object(SpectralGenerator, *replaced[part])


def row(name: str, quality: dict[str, Any]) -> list[str]:
    """Return a row of the table."""
    bands = quality["de_round_trip"].values()
    correlation_errors = quality["channel_correlation_error"].values()
    figures = (
        min(band["correlation"] for band in bands),
        max(band["mae"] for band in bands),
        quality["seam_ratio"],
        quality["judged"]["1 s"]["auc"],
        quality["judged"]["trial"]["auc"],
        sum(correlation_errors) / len(correlation_errors),
        quality["log_spectrum_distance"],
        quality["tstr"]["network"],
        quality["tstr"]["tangent space"],
    )
    return [name, *(f"{figure:.3f}" for figure in figures)]


if __name__ == "__main__":
    command_line(main, Config)
