"""Take the disk away from every stage, and from preprocessing, and see that nothing is lost.

    .venv/bin/python benchmarks/stress_disk.py --n 10 --seed 0

A stage works on a small disk of its own, which is full at some point, or from which its folder goes
at a random moment. It must say so in a sentence that names a file and how much room it needs, must
leave whole files, and must end with the bytes of an undisturbed run once there is room. To make
disks, it needs Linux and user namespaces (``unshare -rm``).
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.stress_jobs import JOBS, CleanRun, disturbed, start, torn
from de3dgan.base.cli import command_line

WAYS = ("disk of a random size", "no room at all", "folder removed")


@dataclass(frozen=True)
class Config:
    """How often."""

    n: int = 10  # times for each stage and each of the three ways
    jobs: tuple[str, ...] = tuple(job.name for job in JOBS)  # what is started
    seed: int = 0  # draws the sizes and the moments
    inside: bool = False  # whether this process may make disks; else it starts one that may


def main(config: Config) -> None:
    """Print the table; exit with 1 if anything was lost."""
    if not config.inside:
        allowed = ["unshare", "--map-root-user", "--mount"]
        sys.exit(subprocess.run([*allowed, sys.executable, *sys.argv, "--inside"]).returncode)
    rng = random.Random(config.seed)

    def disturb(clean: CleanRun, way: str, at: Path) -> tuple[int, str | None]:
        sizes = [sum(p.stat().st_size for p in x.rglob("*")) for x in (clean.before, clean.after)]
        size = rng.randint(*sizes) if way == "disk of a random size" else sizes[0]
        size = 2**30 if way == "folder removed" else size + 2**17
        with _disk(at, size) as make_room:
            shutil.copytree(clean.before, at, dirs_exist_ok=True)
            moment, out = rng.uniform(0, clean.seconds), at / clean.job.out
            gone = threading.Timer(moment, shutil.rmtree, (out, True))
            if way == "folder removed":
                gone.start()
            code, _ = start(clean.job, at)
            gone.cancel()
            wrong = _wrong(clean, at, code)
            make_room()
            return code, wrong or clean.lost(at)

    disturbed(config.jobs, dict.fromkeys(WAYS, config.n), "refused", disturb)


def _wrong(clean: CleanRun, at: Path, code: int) -> str | None:
    """Return what is wrong with how a job ended, or None."""
    log = (at / "log").read_text().replace("\r", "\n").splitlines()
    errors = [line for line in log if line.startswith("Error: ")]
    if code == 0:
        return None
    if code != 2 or len(errors) != 1 or any("Traceback" in line for line in log):
        return f"exit code {code}: {log[-20:]}"
    if str(at) not in errors[0]:
        return f"no file is named: {errors[0]}"
    if "No space" in errors[0] and not re.search(r"needs [0-9.,]+ (bytes|MiB)", errors[0]):
        return f"how much room is needed is not said: {errors[0]}"
    return torn(at / clean.job.out)


@contextmanager
def _disk(at: Path, n_bytes: int) -> Iterator[Callable[[], object]]:
    """Mount a disk of a size at `at`, and give what makes it large."""
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "disk", at], check=True)
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=1g", at], check=True)
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)
        at.rmdir()


if __name__ == "__main__":
    command_line(main, Config)
