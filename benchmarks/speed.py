"""How fast everything is, how much memory and disk it takes, and what is wanted of it.

    .venv/bin/python benchmarks/speed.py                     # an hour on two cores
    .venv/bin/python benchmarks/speed.py --parts auto help   # a minute; the rest stays as it was
    .venv/bin/python benchmarks/speed.py --parts             # only the tables, from speed.json
    .venv/bin/python benchmarks/speed.py --device cuda       # on a GPU; the processor's part stays

Fills the tables of benchmarks/SPEED.md, which says how each figure was found, from speed.json
beside it.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.scaling import METHODS
from de3dgan.base.cli import command_line
from de3dgan.base.recipe import SCRIPTS

#: Instructions that PyTorch's libraries can be kept to: what that is called, and how.
INSTRUCTIONS = {
    "all": {},
    "AVX2 only": {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "AVX-512 without bfloat16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "PyTorch's own at AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "PyTorch's own at SSE": {"ATEN_CPU_CAPABILITY": "default"},
}
#: Those that steps are timed with, and in which precisions: AVX2 has to emulate bfloat16.
_STEPS = {"all": ("fp32", "bf16"), "AVX2 only": ("fp32",)}
_CHOICE = """
import json, sys, time, torch
from de3dgan.training import device
begun, compute = time.perf_counter(), device.Compute(torch.device(sys.argv[1]))
precision = device.in_precision(compute, "auto", None)[0].precision
seconds = time.perf_counter() - begun
ratio = device.bfloat16_ratio(compute.device)
print(json.dumps({"precision": precision, "ratio": ratio, "seconds": seconds}))
"""


@dataclass(frozen=True)
class Config:
    """What to measure, and where to write it."""

    # which parts to measure: what --precision auto is; training steps; DE; --help; all stages with
    # 4 to 32 subjects; several folds at once. With none, the tables are filled anew from speed.json
    parts: tuple[Literal["auto", "steps", "de", "help", "scaling", "folds"], ...] = (
        *("auto", "steps", "de", "help", "scaling", "folds"),
    )
    device: Literal["cpu", "cuda"] = "cpu"  # where networks are
    repeats: int = 5  # times that each figure is measured; the median is reported
    threads: tuple[int, ...] = (1, 2)  # for the first two parts
    subjects: tuple[int, ...] = (4, 8, 16, 32)  # of 40 trials each, for the last part
    out: Path = ROOT / "benchmarks" / "SPEED.md"  # the page; speed.json is beside it


def main(config: Config) -> None:
    """Measure, and write the tables."""
    from benchmarks import speed_tables
    from benchmarks.documents import fill_table
    from de3dgan.base.files import write_text

    kept = figures_beside(config.out)
    found = json.loads(kept.read_text()) if kept.is_file() else {}
    of_device = found.setdefault(config.device, {"machines": {}})
    measure = {
        **{"auto": choices, "steps": steps, "de": de, "help": help_seconds},
        **{"scaling": scaling, "folds": folds},
    }
    for part in config.parts:
        of_device[part] = measure[part](config)
        of_device["machines"][part] = machine(config.device)
        write_text(kept, json.dumps(found, indent=1) + "\n")
    for name, (heads, rows) in speed_tables.tables(found).items():
        fill_table(config.out, f"speed.py, {name}", heads, rows)


def figures_beside(page: Path) -> Path:
    """Return the file that holds the figures of `page`."""
    return page.with_name(f"{page.stem.lower()}.json")


def machine(device: str) -> dict[str, Any]:
    """Return the properties of this machine that the figures depend on."""
    import torch

    extensions = {
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "AMX": torch.cpu._is_amx_tile_supported(),
    }
    instructions = [name if has else f"no {name}" for name, has in extensions.items()]
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "instructions": ", ".join([torch.backends.cpu.get_cpu_capability(), *instructions]),
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
    }


def choices(config: Config) -> list[dict[str, Any]]:
    """Return what ``--precision auto`` is, for each kind of instructions and number of threads."""
    rows = []
    for setting, env in settings(config, INSTRUCTIONS):
        command = [sys.executable, "-c", _CHOICE, config.device]
        done = subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE)
        rows.append({**setting, **json.loads(done.stdout)})
    return rows


def steps(config: Config) -> list[dict[str, Any]]:
    """Return what `speed_steps.py` finds, for each kind of instructions and number of threads."""
    found = []
    for setting, env in settings(config, _STEPS):
        precisions = _STEPS[setting["instructions"]]
        flags = ("--repeats", config.repeats, "--precisions", *precisions)
        if config.device == "cuda":  # on processors, it takes longer to compile than it saves
            flags += ("--compile", "off", "on")
        found.append({**setting, **from_process("speed_steps.py", config.device, *flags, env=env)})
    return found


def settings(
    config: Config, instructions: Iterable[str]
) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Yield pairs of instructions and threads, and the environment of a process kept to them."""
    pairs = list(itertools.product(instructions, config.threads))
    for name, threads in pairs if config.device == "cpu" else pairs[:1]:
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), **INSTRUCTIONS[name]}
        yield {"instructions": name, "threads": threads}, env


def de(config: Config) -> dict[str, Any]:
    """Return what `speed_de` finds."""
    from benchmarks import speed_de

    return speed_de.measure(config.repeats)


def scaling(config: Config) -> dict[str, Any]:
    """Return what `scaling.py` finds."""
    return from_process("scaling.py", config.device, "--subjects", *config.subjects)


def folds(config: Config) -> dict[str, Any]:
    """Return what `speed_folds.py` finds."""
    return from_process("speed_folds.py", config.device)


def help_seconds(config: Config) -> dict[str, float]:
    """Return the seconds that ``--help`` of each script takes."""
    scripts = [f"{script}_Valence.py" for script in SCRIPTS.values()]
    commands = [[script, "--method", method] for script in scripts for method in METHODS]
    found = {}
    for command in (["preprocess_de.py"], *commands):
        times = []
        for _ in range(config.repeats):
            start = time.perf_counter()
            words = [sys.executable, ROOT / command[0], *command[1:], "--help"]
            subprocess.run(words, check=True, capture_output=True)
            times.append(time.perf_counter() - start)
        found[" ".join(command)] = statistics.median(times)
    return found


def from_process(
    script: str, device: str, *flags: object, env: dict[str, str] | None = None
) -> dict[str, Any]:
    """Return what a script of this folder writes to its ``--out``."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "found.json")
        words = map(str, ("--out", out, "--device", device, *flags))
        subprocess.run([sys.executable, ROOT / "benchmarks" / script, *words], check=True, env=env)
        return json.loads(out.read_text())


if __name__ == "__main__":
    command_line(main, Config)
