"""The whole test suite in other settings: threads, precision, instructions, locale, folders.

    .venv/bin/python benchmarks/stress_settings.py

Prints a table of what passed and how long it took, and exits with 1 if anything failed. Each
setting is a run of ``make test``'s tests in a copy of the repository.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from de3dgan.base.cli import command_line

#: By name: the environment of the tests. What is not said is one thread, in float32.
SETTINGS = {
    "1 thread, float32": {},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "4 threads": {"OMP_NUM_THREADS": "4"},
    "bfloat16 as what auto chooses": {"DE3DGAN_TEST_PRECISION": "bf16"},
    "ATEN_CPU_CAPABILITY=avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "ATEN_CPU_CAPABILITY=default": {"ATEN_CPU_CAPABILITY": "default"},
    "ONEDNN_MAX_CPU_ISA=AVX2, float32": {"ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2"},
    "LC_ALL=de_DE.UTF-8, TZ=Asia/Kathmandu": {"LC_ALL": "de_DE.UTF-8", "TZ": "Asia/Kathmandu"},
    # Linux lets nobody write there, whoever it is.
    "a home folder that is read-only": {"HOME": "/proc"},
    "a path with a blank and an umlaut": {"FOLDER": "a blänk"},
}


@dataclass(frozen=True)
class Config:
    """Which settings."""

    settings: tuple[str, ...] = tuple(SETTINGS)  # names of settings, as the table has them
    together: bool = False  # all of them at once instead of one after the other


def main(config: Config) -> None:
    """Run the suite in each setting, and print the table."""
    print("| setting | passed | failed | minutes |\n| --- | --- | --- | --- |")
    runs = {name: SETTINGS[name] for name in config.settings}
    if config.together:
        merged = {key: value for setting in runs.values() for key, value in setting.items()}
        runs = {"; ".join(runs): merged}
    n_failed = 0
    for name, environment in runs.items():
        passed, failed, minutes = suite(dict(environment))
        n_failed += failed
        print(f"| {name} | {passed} | {failed} | {minutes:.1f} |", flush=True)
    sys.exit(bool(n_failed))


def suite(environment: dict[str, str]) -> tuple[int, int, float]:
    """Return how many tests pass and fail in a copy of the repository, and the minutes it takes."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, environment.pop("FOLDER", "copy"))
        subprocess.run(["git", "clone", "--quiet", ROOT, copy], check=True)
        (copy / ".venv").symlink_to(sys.prefix)
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, *"-m pytest -n auto --dist loadfile -m".split(), "not slow", "-v"],
            cwd=copy,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        minutes = (time.monotonic() - start) / 60
    for line in re.findall(r"^(?:FAILED|ERROR) .*", done.stdout, re.M):
        print(line, file=sys.stderr)
    outcomes = re.findall(r"(\d+) (passed|failed|error)", done.stdout.splitlines()[-1])
    counts = {outcome: int(n) for n, outcome in outcomes}
    if done.returncode not in (0, 1):
        counts["error"] = counts.get("error", 0) + 1
        print(done.stdout[-2000:] + done.stderr[-2000:], file=sys.stderr)
    return counts.get("passed", 0), counts.get("failed", 0) + counts.get("error", 0), minutes


if __name__ == "__main__":
    command_line(main, Config)
