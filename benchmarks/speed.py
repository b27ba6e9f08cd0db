"""How fast everything is, how much memory and disk it takes, and what is wanted of it.

    .venv/bin/python benchmarks/speed.py                     # half an hour on two cores
    .venv/bin/python benchmarks/speed.py --parts steps help  # minutes; the rest stays as it was
    .venv/bin/python benchmarks/speed.py --device cuda       # on a GPU; the processor's part stays

Writes benchmarks/SPEED.md, which says how each figure was found, and speed.json beside it.
"""

from __future__ import annotations

import json
import os
import platform
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.scaling import METHODS
from de3dgan.base.cli import command_line
from de3dgan.base.recipe import SCRIPTS

#: The profiler says on the terminal when it starts and stops.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

PARTS = ("help", "scaling", "de", "steps")


@dataclass(frozen=True)
class Config:
    """What to measure, and where to write it."""

    # which parts to measure: --help; all stages with 4 to 32 subjects; DE; training steps. With
    # none, the page is written anew from speed.json
    parts: tuple[Literal["help", "scaling", "de", "steps"], ...] = PARTS
    device: Literal["cpu", "cuda"] = "cpu"  # where networks are
    repeats: int = 5  # times that each figure is measured; the median is reported
    subjects: tuple[int, ...] = (4, 8, 16, 32)  # of 40 trials each, for the second part
    quick: bool = False  # only a look: one and two subjects, two repeats, and nothing is written
    out: Path = ROOT / "benchmarks" / "SPEED.md"  # the tables; speed.json goes beside them


def main(config: Config) -> None:
    """Measure, print and write the tables."""
    from benchmarks import speed_report

    repeats, subjects = (2, (1, 2)) if config.quick else (config.repeats, config.subjects)
    kept = figures_beside(config.out)
    found = json.loads(kept.read_text()) if kept.is_file() and not config.quick else {}
    of_device = found.setdefault(config.device, {})
    if config.parts:
        of_device |= {"machine": machine(config.device), "recipe_epochs": recipe_epochs()}
    if "help" in config.parts:
        of_device["help"] = help_seconds(repeats)
    if "scaling" in config.parts:
        of_device["scaling"] = scaling(subjects, config.device)
    if "de" in config.parts:
        from benchmarks import speed_de

        of_device["de"] = speed_de.measure(repeats)
    if "steps" in config.parts:
        from benchmarks import speed_steps

        of_device |= speed_steps.measure(config.device, repeats)
    text = speed_report.document(found)
    print(text)
    if not config.quick:
        from de3dgan.base.files import write_text

        write_text(kept, json.dumps(found, indent=1) + "\n")
        write_text(config.out, text)


def figures_beside(page: Path) -> Path:
    """Return the file that holds the figures of `page`."""
    return page.with_name(f"{page.stem.lower()}.json")


def machine(device: str) -> dict[str, Any]:
    """Return the properties of this machine that the figures depend on."""
    import torch

    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "bfloat16": torch.cpu._is_avx512_bf16_supported(),
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
    }


def recipe_epochs() -> dict[str, dict[str, int]]:
    """Return how many epochs each method's recipes train for, per stage."""
    names = {
        stage: runpy.run_path(str(ROOT / f"{script}_Valence.py"))
        for stage, script in SCRIPTS.items()
    }
    return {
        method: {stage: of[recipe].epochs for stage, of in names.items()}
        for method, recipe in {"spectral": "Config", "published": "Published"}.items()
    }


def help_seconds(repeats: int) -> dict[str, float]:
    """Return the seconds that ``--help`` of each script takes."""
    scripts = [f"{script}_Valence.py" for script in SCRIPTS.values()]
    commands = [[script, "--method", method] for script in scripts for method in METHODS]
    found = {}
    for command in (["preprocess_de.py"], *commands):
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            words = [sys.executable, ROOT / command[0], *command[1:], "--help"]
            subprocess.run(words, check=True, capture_output=True)
            times.append(time.perf_counter() - start)
        found[" ".join(command)] = statistics.median(times)
    return found


def scaling(subjects: tuple[int, ...], device: str) -> dict[str, Any]:
    """Return what `scaling.py` finds; it is a process of its own, which must be small."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "scaling.json")
        flags = ["--out", out, "--device", device, "--subjects", *map(str, subjects)]
        subprocess.run([sys.executable, ROOT / "benchmarks" / "scaling.py", *flags], check=True)
        return json.loads(out.read_text())


if __name__ == "__main__":
    command_line(main, Config)
