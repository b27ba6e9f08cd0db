"""Folds of a study one after the other, and several at once on one machine or GPU.

    .venv/bin/python benchmarks/speed_folds.py --out folds.json --device cuda

A fold is all three stages, run as users run them, for two epochs. Those that run at once share the
processor's cores, as `make study AT_ONCE=...` shares them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.scaling import METHODS, N_EPOCHS
from de3dgan.base.cli import command_line
from de3dgan.base.recipe import SCRIPTS


@dataclass(frozen=True)
class Config:
    """What to measure, and where to write it."""

    out: Path  # a JSON file
    device: Literal["cpu", "cuda"] = "cpu"  # where networks are
    methods: tuple[Literal["spectral", "published"], ...] = METHODS  # of the stages
    at_once: tuple[int, ...] = (1, 2, 4)  # folds that are trained at once
    n_subjects: int = 8  # of 40 trials each


def main(config: Config) -> None:
    """Measure, and write what was found."""
    from de3dgan.data.preprocessing import build_store
    from de3dgan.data.synthetic import write_deap

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        recordings, store = Path(folder, "recordings"), Path(folder, "store")
        write_deap(recordings, config.n_subjects)
        build_store("deap", recordings, store, n_jobs=1)
        for method in config.methods:
            for n in config.at_once:
                flags = ["--data-dir", store, "--runs-dir", Path(folder, method, str(n))]
                flags += ["--method", method, "--epochs", N_EPOCHS, "--device", config.device]
                seconds = folds(n, flags)
                rows.append({"method": method, "at_once": n, "seconds": seconds})
                print(rows[-1], file=sys.stderr, flush=True)
    config.out.write_text(json.dumps({"n_subjects": config.n_subjects, "rows": rows}))


def folds(n: int, flags: list[Any]) -> float:
    """Return the seconds that `n` folds at once take, all stages of each."""
    env = {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // n))}

    def run(fold: int) -> None:
        for script in SCRIPTS.values():
            command = [sys.executable, ROOT / f"{script}_Valence.py", "--fold", fold, *flags]
            subprocess.run(list(map(str, command)), env=env, check=True, capture_output=True)

    start = time.monotonic()
    with ThreadPoolExecutor(n) as pool:
        list(pool.map(run, range(n)))
    return time.monotonic() - start


if __name__ == "__main__":
    command_line(main, Config)
