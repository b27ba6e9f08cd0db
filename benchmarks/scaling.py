"""What grows with the number of subjects: memory, time per epoch, disk, time to the first step.

    .venv/bin/python benchmarks/scaling.py --out scaling.json

Simulated recordings of 4, 8, 16 and 32 subjects of DEAP's size go through preprocessing and all
stages of both methods, at full widths, as users run them, from reading to figures, for two epochs.
Each runs in a process of its own, whose memory is looked at from outside. It takes 6 GB of disk.

This process stays small: a process starts with the peak memory of the one that starts it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from de3dgan.base.cli import command_line
from de3dgan.base.recipe import SCRIPTS

METHODS = ("spectral", "published")
#: Epochs of each stage: in the first the published critic steps, in the second it rests; and the
#: first warms up.
N_EPOCHS = 2
#: Seconds between looks at a process's memory.
_EVERY = 0.05


@dataclass(frozen=True)
class Config:
    """What to measure, and where to write it."""

    out: Path  # a JSON file
    subjects: tuple[int, ...] = (4, 8, 16, 32)  # of 40 trials each
    methods: tuple[Literal["spectral", "published"], ...] = METHODS  # of the stages
    device: Literal["cpu", "cuda"] = "cpu"  # where networks are


def main(config: Config) -> None:
    """Measure, and write what was found."""
    rows = []
    imports = watched([sys.executable, "-c", "import torch"])["peak_mib"]
    with tempfile.TemporaryDirectory() as folder:
        recordings = Path(folder, "recordings")
        simulate = ("-m", "de3dgan.data.synthetic", "--out-dir", recordings)
        command = [sys.executable, *simulate, "--n-subjects", str(max(config.subjects))]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        for n_subjects in config.subjects:
            at = Path(folder, str(n_subjects))
            rows += of_subjects(recordings, at, n_subjects, config.methods, config.device)
            shutil.rmtree(at)
    found = {"torch_mib": imports, "n_epochs": N_EPOCHS, "rows": rows}
    config.out.write_text(json.dumps(found, indent=1))


def of_subjects(
    recordings: Path, at: Path, n_subjects: int, methods: Sequence[str], device: str
) -> list[dict[str, Any]]:
    """Return a row for preprocessing and for each stage of each method."""
    (at / "recordings").mkdir(parents=True)
    for path in (recordings / "SIMULATED.txt", *sorted(recordings.glob("s*.dat"))[:n_subjects]):
        (at / "recordings" / path.name).symlink_to(path)
    store, runs = at / "store", at / "runs"
    flags = ["--source", "deap", "--data-dir", at / "recordings", "--out-dir", store]
    rows = [{"stage": "preprocess", "method": "both", **script_run("preprocess_de.py", flags, at)}]
    rows[0]["disk_mib"] = disk_mib(store)
    for method in methods:
        for stage, name in SCRIPTS.items():
            flags = [
                *("--data-dir", store, "--runs-dir", runs / method, "--method", method),
                *("--epochs", N_EPOCHS, "--device", device),
            ]
            row = script_run(f"{name}_Valence.py", flags, at)
            run_dir = runs / method / "valence" / "trial" / "fold0" / stage
            result = json.loads((run_dir / "result.json").read_text())
            row |= {"n_train_trials": result["n_train_trials"], "disk_mib": disk_mib(run_dir)}
            rows.append({"stage": stage, "method": method, **row})
            print(f"{n_subjects} subjects: {rows[-1]}", file=sys.stderr, flush=True)
    return [{"n_subjects": n_subjects, **row} for row in rows]


def script_run(script: str, flags: Sequence[object], at: Path) -> dict[str, Any]:
    """Run a script with flags; return what was seen of it from outside and from inside."""
    notes = at / "notes.json"
    runner = ROOT / "benchmarks" / "instrumented.py"
    command = [sys.executable, runner, notes, ROOT / script, *flags]
    return {**watched(list(map(str, command))), **json.loads(notes.read_text())}


def watched(command: list[str]) -> dict[str, Any]:
    """Run a command; return its ``seconds`` and MiB of memory.

    ``peak_mib`` is the most that the process had resident, pages of mapped files included, or any
    one that it started; ``peak_anonymous_mib`` is without these, as seen every `_EVERY` seconds
    (None where the system does not tell). A command that fails raises an error with its output.
    """
    start, anonymous = time.monotonic(), None
    with tempfile.TemporaryFile() as output:
        env = {**os.environ, "STARTED": str(time.time())}
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output)
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            anonymous = max(filter(None, (anonymous, anonymous_mib(process.pid))), default=None)
            time.sleep(_EVERY)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{command}: {output.read().decode(errors='replace')[-3000:]}")
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts in bytes
    return {
        "seconds": time.monotonic() - start,
        "peak_mib": usage.ru_maxrss / unit,
        "peak_anonymous_mib": anonymous,
    }


def anonymous_mib(pid: int) -> float | None:
    """Return the MiB that a process holds that are no pages of files, or None."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    kib = [int(line.split()[1]) for line in lines if line.startswith("RssAnon")]
    return kib[0] / 2**10 if kib else None


def disk_mib(folder: Path) -> float:
    """Return the size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


if __name__ == "__main__":
    command_line(main, Config)
