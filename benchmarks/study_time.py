"""How long a study of several tasks takes, before and since tasks share folds and generators.

    .venv/bin/python benchmarks/study_time.py --out-dir runs/study-time

Both versions of the repository, the one before in a worktree of its own, study the same simulated
recordings, one stage at a time and with one thread. What is compared is processor time, of which
other programs on the machine take less than of the clock's. The table goes to
benchmarks/STUDY_TIME.md.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.documents import fill_table
from de3dgan.base.cli import command_line
from de3dgan.base.errors import UserError
from de3dgan.base.files import make_folder, read_json, remove_folder
from de3dgan.base.paths import from_root

#: What the rows are called, by stage.
STAGES = {"gan": "generators", "classifier": "classifiers", "finetune": "fine-tuning"}


@dataclass(frozen=True)
class Config:
    """What is studied; by default, with epochs as shipped."""

    out_dir: Path = Path("runs/study-time")  # for recordings and results; replaced
    before: str = "e31579e"  # commit of the version before
    n_subjects: int = 4  # simulated people
    n_trials: int = 12  # trials of each, of 60 s
    seed: int = 7  # of the simulation
    tasks: str = "valence arousal four_class"
    folds: str = "0"
    augmentations: str = "generated none real jitter noise surrogate shuffled"  # as shipped before
    epochs: int = 0  # of all stages; 0: as shipped


def main(config: Config) -> None:
    """Simulate, study twice, and fill the table."""
    out = from_root(config.out_dir)
    remove_folder(out)
    make_folder(out)
    recordings = out / "recordings"
    _run(
        *(ROOT, "-m", "de3dgan.data.synthetic", "--out-dir", recordings),
        *("--n-subjects", config.n_subjects, "--n-trials", config.n_trials, "--seed", config.seed),
    )
    found = {}
    with worktree(out / "before-code", config.before) as before:
        for name, code in (("before", before), ("now", ROOT)):
            found[name] = studied(code, recordings, out / name, config)
            print(name, found[name], flush=True)
    rows = []
    for row in (*STAGES.values(), "all stages", "the study, processor", "the study, clock"):
        old, new = (found[name][row] for name in ("before", "now"))
        rows.append([row, f"{old:,.0f}", f"{new:,.0f}", f"{new / old:.2f}"])
    columns = ("seconds of", f"before ({config.before})", "now", "ratio")
    fill_table(ROOT / "benchmarks" / "STUDY_TIME.md", "study_time.py", columns, rows)


@contextlib.contextmanager
def worktree(folder: Path, commit: str) -> Iterator[Path]:
    """Give the repository as it was at a commit, in a folder, for the block."""
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def studied(code: Path, recordings: Path, out: Path, config: Config) -> dict[str, float]:
    """Return how long the study takes by the code in a folder: of each kind of stage, and in all.

    Stages say themselves how long they took, without what it takes to start Python.
    """
    settings = {
        "tasks": config.tasks,
        "folds": config.folds,
        "protocol": "trial",
        "augmentations": config.augmentations,
        "data_dir": recordings,
        "features": out / "features",
        "runs": out / "runs",
    }
    if config.epochs:
        settings |= {f"{stage}_epochs": config.epochs for stage in STAGES}
    begun, used = time.monotonic(), _processor_seconds()
    _run(
        *(code, code / "workflow" / "run.py", "--cores", 1, "--config"),
        *(f"{name}={value}" for name, value in settings.items()),
    )
    found = dict.fromkeys(STAGES.values(), 0.0)
    for path in (out / "runs").glob("folds*/seed*/*/*/fold*/*/result.json"):
        result = read_json(path)
        found[STAGES[result["stage"]]] += result["seconds"]
    return {
        **found,
        "all stages": sum(found.values()),
        "the study, processor": _processor_seconds() - used,
        "the study, clock": time.monotonic() - begun,
    }


def _run(code: Path, *words: object) -> None:
    """Run Python in a folder of code with one thread."""
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=code, env={**os.environ, **threads}
    )
    if done.returncode:
        raise UserError("The study has failed, see above: mend that, and run this again.")


def _processor_seconds() -> float:
    """Return what processes that have ended had of the processors."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    command_line(main, Config)
