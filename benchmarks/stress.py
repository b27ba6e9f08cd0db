"""Kill it, starve it and feed it garbage: all stress commands, and what they found.

    .venv/bin/python benchmarks/stress.py

Fills the tables of benchmarks/STRESS.md, or those of some ``--parts``, and exits with 1 if anything
failed. It takes hours; each of its parts is a command of its own, and the short form of each is in
the tests.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from benchmarks.documents import fill
from de3dgan.base.cli import command_line
from de3dgan.training.device import Compute, in_precision

#: Each part is a command.
PARTS = (
    "stress_kill.py --n 50 --seed 0",
    "stress_disk.py --n 10 --seed 0",
    "stress_files.py --n 1000 --seed 0",
    "stress_chains.py --seed 0",
    "stress_threads.py",
    "stress_settings.py",
)


@dataclass(frozen=True)
class Config:
    """Which parts, and where the page is."""

    parts: tuple[int, ...] = tuple(range(1, len(PARTS) + 1))  # numbers of the parts to run
    out: Path = ROOT / "benchmarks" / "STRESS.md"  # document that holds the tables


def main(config: Config) -> None:
    """Run the parts and fill in their tables."""
    precision = in_precision(Compute(torch.device("cpu")), "auto", None)[0].precision
    here = f"PyTorch {torch.__version__}, {os.cpu_count()} CPUs, one thread, {precision}"
    failed = False
    for number in config.parts:
        command = PARTS[number - 1]
        print(f"{command} ...", flush=True)
        script, *flags = shlex.split(command)
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, ROOT / "benchmarks" / script, *flags],
            env={"OMP_NUM_THREADS": "1", **os.environ},
            stdout=subprocess.PIPE,
            text=True,
        )
        failed |= done.returncode != 0
        verdict = "**something failed**" if done.returncode else "nothing failed"
        minutes = f"{(time.monotonic() - begun) / 60:.0f} min"
        found = f"`python benchmarks/{command}` ({minutes}; {here}): {verdict}."
        fill(config.out, script, [found, "", done.stdout.strip()])
    sys.exit(failed)


if __name__ == "__main__":
    command_line(main, Config)
