"""Kill it, starve it and feed it garbage: all stress commands, and what they found.

    .venv/bin/python benchmarks/stress.py

Writes benchmarks/STRESS.md, or the sections of some ``--parts`` anew, and exits with 1 if anything
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

from de3dgan.base.cli import command_line
from de3dgan.base.files import write_text
from de3dgan.training.device import Compute, in_precision
from de3dgan.training.environment import environment

#: Of each part: its heading, its command, and what its table says.
PARTS = (
    (
        "Kill anywhere",
        "stress_kill.py --n 50 --seed 0",
        "Each stage, and preprocessing, on small data. *stopped*: the signal came before the end. "
        "*lost*: a checkpoint or a store was torn, the exit code was not 130 or 143, or the rerun "
        "did not end with the bytes of an undisturbed run (`model.pt`, `metrics.jsonl`, "
        "`predictions.csv`, `baselines.csv`, `leakage.json`; all files of a store).",
    ),
    (
        "Disks that are full, and folders that vanish",
        "stress_disk.py --n 10 --seed 0",
        "*refused*: it ended with one sentence that names the file, and how much room it needs. "
        "*lost*: a traceback, a torn file, or a rerun that did not end with the same bytes.",
    ),
    (
        "Files from strangers",
        "stress_files.py --n 1000 --seed 0",
        "*correct*: what was read is what an independent reading of the file gives. *failed*: "
        "anything but that or one sentence, or more than 60 s. Each file may take 3 s of processor "
        "time (20 s outside this test), and 1 GiB and three times its size of memory: Linux ends "
        "what takes more. *memory*: the most that the reading process took, itself included.",
    ),
    (
        "Chains that do not fit",
        "stress_chains.py --seed 0",
        "Foreign generators, scalers, classifiers, stores and settings in every place where they "
        "can be put. *refused*: in one sentence that names both sides, with nothing changed.",
    ),
    (
        "Numbers of threads",
        "stress_threads.py",
        "The first step of a stage, in float32, with one thread against two: the largest "
        "difference of a loss, and that of the gradient, as shares of their size.",
    ),
)


@dataclass(frozen=True)
class Config:
    """Which parts, and where the page goes."""

    parts: tuple[int, ...] = tuple(range(1, len(PARTS) + 1))  # numbers of the parts to run
    out: Path = ROOT / "benchmarks" / "STRESS.md"  # page to write


def main(config: Config) -> None:
    """Run the parts and write the page."""
    compute, _ = in_precision(Compute(torch.device("cpu")), "auto", None)
    here = environment(compute)
    head = (
        "# What it survives\n\n"
        "Written by `python benchmarks/stress.py`: nothing lost, nothing run, nothing silently "
        f"wrong. Python {here['python']}, PyTorch {here['torch']}, {os.cpu_count()} CPUs, one "
        f"thread, {here['precision']}.\n"
    )
    there = config.out.read_text().split("\n## ")[1:] if config.out.is_file() else []
    sections = {section.partition("\n")[0]: section for section in there}
    failed = False
    for number in config.parts:
        heading, command, legend = PARTS[number - 1]
        print(f"{heading} ...", flush=True)
        script, *flags = shlex.split(command)
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, ROOT / "benchmarks" / script, *flags],
            env={"OMP_NUM_THREADS": "1", **os.environ},
            stdout=subprocess.PIPE,
            text=True,
        )
        failed |= done.returncode != 0
        minutes = (time.monotonic() - begun) / 60
        verdict = "nothing failed" if done.returncode == 0 else "**something failed**"
        sections[heading] = (
            f"{heading}\n\n{legend}\n\n`python benchmarks/{command}`, {minutes:.0f} minutes: "
            f"{verdict}.\n\n{done.stdout.strip()}\n"
        )
        ordered = [sections[name] for name, *_ in PARTS if name in sections]
        write_text(config.out, "\n## ".join([head, *ordered]))
    sys.exit(failed)


if __name__ == "__main__":
    command_line(main, Config)
