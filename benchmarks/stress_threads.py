"""What the number of threads changes: nothing but the last digits.

    .venv/bin/python benchmarks/stress_threads.py

Every stage is trained on a small store with one thread and with two. The split must be the same,
and losses may differ by rounding: sums are added in another order, in bfloat16 on some processors.
(Accuracies are not compared: they move in steps, by the frames on the border of two classes.)
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.stress_jobs import JOBS, table, write_data
from de3dgan.base.cli import command_line
from de3dgan.base.files import read_json

#: How much losses may differ, as a share of their size.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


def main(config: Config) -> None:
    """Print the table; exit with 1 if a figure differs by more than `TOLERANCE`."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder, "one"), Path(folder, "two")
        write_data(one)
        for job in JOBS[1:]:
            if job.name.startswith("gan"):
                shutil.rmtree(one / "runs", ignore_errors=True)
            shutil.copytree(one, two)  # the earlier stages are those of one thread
            for n_threads, at in ((1, one), (2, two)):
                subprocess.run(
                    [sys.executable, *job.words(at)],
                    env={**os.environ, "OMP_NUM_THREADS": str(n_threads)},
                    capture_output=True,
                    check=True,
                )
            rows.append({"stage": job.name, **compared(one / job.out, two / job.out)})
            shutil.rmtree(two)
    print(table(rows))
    sys.exit(any(row["split"] != "same" or row["difference"] > TOLERANCE for row in rows))


def compared(one: Path, two: Path) -> dict[str, object]:
    """Return what differs between two runs of a stage."""
    results = [read_json(at / "result.json") for at in (one, two)]
    assert [result["environment"]["threads"] for result in results] == [1, 2]
    split = "same" if len({result["split_fingerprint"] for result in results}) == 1 else "another"
    histories = [
        [json.loads(line) for line in (at / "metrics.jsonl").read_text().splitlines()]
        for at in (one, two)
    ]
    difference = max(
        abs(a[name] - b[name]) / max(abs(a[name]), 0.1)
        for a, b in zip(*histories, strict=True)
        for name in set(a) - {"val_balanced_accuracy"}  # which moves in steps, of a frame
    )
    return {"split": split, "difference": float(f"{difference:.1g}"), "tolerance": TOLERANCE}


if __name__ == "__main__":
    command_line(main, Config)
