"""What each part of the generator is worth: train it without one part at a time, and measure.

    .venv/bin/python benchmarks/generator.py --data-dir DE_feature/study-eegmat

Each variant is trained by the stage's own script on the same fold, and measured on its test trials
(`de3dgan/evaluation/quality.py`). Writes the table of benchmarks/GENERATOR.md, between its two marks.
"""

from __future__ import annotations

import contextlib
import runpy
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from de3dgan.base.cli import command_line
from de3dgan.base.files import read_json, write_text

SCRIPT = ROOT / "Workload-main" / "3D-UNet_GAN_Workload.py"
MARKS = "<!-- table: benchmarks/generator.py -->\n", "<!-- end of table -->\n"
#: Settings that differ from the recipe's, and what is patched, by variant.
VARIANTS: dict[str, tuple[dict[str, Any], str | None]] = {
    "closed form, nothing learnt": ({"epochs": 1, "lr": 0.0, "calibration_steps": 0}, None),
    "closed form, calibrated": ({"epochs": 1, "lr": 0.0}, None),
    "no U-Net": ({}, "no U-Net"),
    "no calibration": ({"calibration_steps": 0}, None),
    "no lags": ({}, "no lags"),
    "the recipe": ({}, None),
}
COLUMNS = (
    "DE: lowest r",
    "DE: error (nats)",
    "seam",
    "told from real",
    "correlation error",
    "log spectrum",
    "two draws, r",
    "TSTR",
)


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
        print(rows[-1], flush=True)
    lines = [
        f"| fold {config.fold}, seed {config.seed} | " + " | ".join(COLUMNS) + " |",
        "|---" * (1 + len(COLUMNS)) + "|",
        *rows,
    ]
    before, _, rest = config.out.read_text().partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    write_text(config.out, before + MARKS[0] + "\n".join(lines) + "\n" + MARKS[1] + after)


def quality_of(config: Config, settings: dict[str, Any], part: str | None) -> dict[str, Any]:
    """Train a variant and return the quality of what it makes, as ``result.json`` has it."""
    names = runpy.run_path(str(SCRIPT))
    sys.argv[0] = str(SCRIPT)
    with tempfile.TemporaryDirectory() as folder, without(part):
        names["main"](
            names["Config"](
                data_dir=config.data_dir,
                runs_dir=Path(folder),
                protocol="subject",
                fold=config.fold,
                seed=config.seed,
                **settings,
            )
        )
        (result,) = Path(folder).rglob("result.json")
        return read_json(result)["quality"]


@contextmanager
def without(part: str | None) -> Iterator[None]:
    """Leave a part of the generator out meanwhile."""
    from models import SpectralGenerator

    init_closed_form, amplitudes_from = (
        SpectralGenerator.init_closed_form,
        SpectralGenerator._amplitudes_from,
    )

    def without_lags(self: SpectralGenerator, *data: Any) -> None:
        init_closed_form(self, *data)
        self.lags.zero_()

    def without_maps(self: SpectralGenerator, maps: Any, x: Any) -> Any:
        return amplitudes_from(self, 0 * maps, x)

    replaced = {
        "no lags": ("init_closed_form", without_lags),
        "no U-Net": ("_amplitudes_from", without_maps),
    }
    with contextlib.ExitStack() as stack:
        if part:
            stack.enter_context(patch.object(SpectralGenerator, *replaced[part]))
        yield


def row(name: str, quality: dict[str, Any]) -> str:
    """Return a row of the table."""
    bands = quality["de_round_trip"].values()
    correlation_errors = quality["channel_correlation_error"].values()
    figures = (
        f"{min(band['correlation'] for band in bands):.3f}",
        f"{max(band['mae'] for band in bands):.3f}",
        f"{quality['seam_ratio']:.3f}",
        f"{quality['discriminative_score']:.3f}",
        f"{sum(correlation_errors) / len(correlation_errors):.3f}",
        f"{quality['log_spectrum_distance']:.3f}",
        f"{quality['draws_correlation']:.3f}",
        f"{quality['tstr']:.3f}",
    )
    return f"| {name} | " + " | ".join(figures) + " |"


if __name__ == "__main__":
    command_line(main, Config)
