"""Kill and interrupt every stage, and preprocessing, and see that nothing is lost.

    .venv/bin/python benchmarks/stress_kill.py --n 50 --seed 0

A stage is started on a small store, and stopped: by SIGKILL at a random moment, by SIGKILL just
before a random access to one of its files, by Ctrl-C, or by SIGTERM. What it has left must be whole
files, and the same command must then end with the bytes of a run that was never stopped.
"""

from __future__ import annotations

import math
import random
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.stress_jobs import JOBS, CleanRun, disturbed, start, torn
from de3dgan.base.cli import command_line

#: Ways to stop: the signal, whether it comes at a random access to a file or after a time, and how
#: often, as a share of `Config.n`.
HOWS = {
    "SIGKILL at a random moment": (signal.SIGKILL, False, 0.5),
    "SIGKILL at a random file access": (signal.SIGKILL, True, 0.5),
    "Ctrl-C at a random moment": (signal.SIGINT, False, 0.2),
    "SIGTERM at a random moment": (signal.SIGTERM, False, 0.2),
}


@dataclass(frozen=True)
class Config:
    """How often."""

    n: int = 50  # times that each stage is killed; Ctrl-C and SIGTERM come a fifth as often
    jobs: tuple[str, ...] = tuple(job.name for job in JOBS)  # what is started
    seed: int = 0  # draws the moments


def main(config: Config) -> None:
    """Print the table; exit with 1 if anything was lost."""
    rng = random.Random(config.seed)

    def disturb(clean: CleanRun, way: str, at: Path) -> tuple[int, str | None]:
        number, at_access, _ = HOWS[way]
        shutil.copytree(clean.before, at)
        stop = (number, rng.randrange(clean.n_accesses) if at_access else None)
        code, _ = start(clean.job, at, stop, rng.uniform(0, clean.seconds))
        wrong = _wrong(clean, at, code, number)
        shutil.rmtree(at)
        return code, wrong

    ways = {way: math.ceil(config.n * share) for way, (*_, share) in HOWS.items()}
    disturbed(config.jobs, ways, "stopped", disturb)


def _wrong(clean: CleanRun, at: Path, code: int, number: int) -> str | None:
    """Return what an interruption has spoilt, or None: now, or once the command has run again."""
    expected = {0, -number} if number == signal.SIGKILL else {0, -number, 128 + number}
    if code not in expected:
        return f"exit code {code}: {(at / 'log').read_text()[-2000:]}"
    return torn(at / clean.job.out) or clean.lost(at)


if __name__ == "__main__":
    command_line(main, Config)
