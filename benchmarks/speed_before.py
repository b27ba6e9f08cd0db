"""Steps of our method beside those of an earlier commit, in one run.

    git worktree add before 9266c13 && ln -s "$PWD/.venv" before/.venv
    .venv/bin/python benchmarks/speed_before.py --before before

Each checkout's own scripts take training steps of our method on the same simulated trials, with one
thread, and generate the EEG that fine-tuning is given. They do it in turns, each time in a process
of its own, so that whatever else the machine does hits both. The time is that of the thread:
waiting for other programs does not count.

What a fine-tuning step takes is that with paired EEG: it is learnt from here, whatever held-out
trials would say. `make demo` runs in clones, as a user runs it: give it an idle machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = Path(__file__).with_name("SPEED.md")
#: Steps that are timed in a process, after some to warm up.
_N_STEPS, _N_WARM = 24, 3
#: What is timed, and as what it is shown.
NAMES = {
    "gan": "generator: a step of 8 trials",
    "classifier": "classifier: a step of 64 frames",
    "finetune": "fine-tuning: a step of 64 frames and as many paired",
    "eeg": "EEG for fine-tuning: 16 trials of 60 s",
    "demo": "`make demo` without installation, all cores, wall clock",
    "demo, computing": "`make demo`: processor time",
}


@dataclass(frozen=True)
class Config:
    """What to compare with, and how often."""

    before: Path  # a checkout of the earlier commit, with .venv
    repeats: int = 5  # times that each checkout has its turn
    demos: int = 1  # times that each runs the demo


def main(config: Config) -> None:
    """Have both checkouts take steps in turns, and fill in the table."""
    from benchmarks.documents import fill_table
    from de3dgan.data.preprocessing import build_store
    from de3dgan.data.simulation import Signal
    from de3dgan.data.synthetic import write_deap

    trees = {"before": config.before.resolve(), "now": ROOT}
    times: dict[str, dict[str, list[float]]] = {tree: {} for tree in trees}
    with tempfile.TemporaryDirectory() as folder:
        recordings, store = Path(folder, "recordings"), Path(folder, "store")
        write_deap(recordings, n_subjects=1, signal=Signal(n_trials=25))
        build_store("deap", recordings, store, n_jobs=1)
        for repeat in range(config.repeats):
            for name, tree in trees.items():
                found = _child(tree, store, Path(folder, name), first=not repeat)
                for what, seconds in found.items():
                    times[name].setdefault(what, []).append(seconds)
        for repeat in range(config.demos):
            for name, tree in trees.items():
                found = demo(tree, Path(folder, f"demo {name} {repeat}"))
                for what, seconds in found.items():
                    times[name].setdefault(what, []).append(seconds)
    rows = []
    for what, shown in NAMES.items():
        if what not in times["now"]:
            continue
        before, now = (times[tree][what] for tree in trees)
        ratios = sorted(a / b for a, b in zip(before, now, strict=True))
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        rows.append(
            [
                shown,
                f"{statistics.median(before):.3g}",
                f"{statistics.median(now):.3g}",
                f"{statistics.median(ratios):.2f} ({spread})",
            ]
        )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=trees["before"], capture_output=True, text=True
    ).stdout.strip()
    columns = [
        f"float32, one thread, {config.repeats} turns",
        f"at {commit}, s",
        "now, s",
        "ratio",
    ]
    fill_table(DOCUMENT, "speed_before.py", columns, rows)


def demo(tree: Path, clone: Path) -> dict[str, float]:
    """Return what ``make demo`` takes in a clone: wall clock, and processor time, in seconds."""
    subprocess.run(["git", "clone", "--quiet", str(tree), str(clone)], check=True)
    (clone / ".venv").symlink_to((tree / ".venv").resolve())
    began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)[:2]
    done = subprocess.run(
        ["make", "-o", ".venv/installed", "demo"], cwd=clone, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)[:2]
    return {"demo": time.monotonic() - began, "demo, computing": sum(now) - sum(used)}


def _child(tree: Path, store: Path, runs: Path, first: bool) -> dict[str, float]:
    """Return what a checkout takes, in a process of its own."""
    told = [str(tree), str(store), str(runs), str(int(first))]
    done = subprocess.run(
        [sys.executable, __file__, "--child", *told], cwd=tree, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


class Timed(Exception):
    """Ends a stage's script once its steps have been timed."""


def measure(tree: Path, store: Path, runs: Path, first: bool) -> dict[str, float]:
    """Time a checkout, whose modules are found first; `first`: its upstream stages are run, too."""
    sys.path.insert(0, str(tree))
    import numpy as np
    import torch

    from de3dgan.base.recipe import find_scripts, load_script
    from de3dgan.data.opening import open_store
    from de3dgan.stages import classifier
    from de3dgan.stages.generation import load_generator

    torch.set_num_threads(1)
    where = {"data_dir": store, "runs_dir": runs, "device": "cpu", "precision": "fp32"}
    scripts = {stage: load_script(find_scripts(stage)["valence"]) for stage in list(NAMES)[:3]}
    found: dict[str, float] = {}

    def steps(run: Any, nets: Any, *args: Any, **_: Any) -> None:
        _, items, _, step, *_ = args
        for net in nets.values():
            net.train()
        rng, times = np.random.default_rng(0), []
        for _ in range(_N_WARM + _N_STEPS):
            batch = rng.permutation(items)[: run.config.batch_size]
            with run.ledger.reading_for(*nets):
                began = time.thread_time()
                step(0, batch)
                times.append(time.thread_time() - began)
        found[run.stage] = statistics.median(times[_N_WARM:])
        raise Timed

    start = classifier.start

    def with_paired(*args: Any, **kwargs: Any) -> Any:
        return dataclasses.replace(start(*args, **kwargs), with_paired=True)

    def handed_over(run: Any, _: Any, trained: Any, best_epoch: int, *__: Any) -> None:
        run.hand_over(best_epoch, trained.content())
        raise Timed  # measuring it would take longer than all else

    if first:
        for stage, where_measured in (("gan", "generators"), ("classifier", "classifier")):
            with (
                patch(f"de3dgan.stages.{where_measured}.evaluate", handed_over),
                contextlib.suppress(Timed),
            ):
                scripts[stage].main(scripts[stage].Config(**where, epochs=1))
    generator = load_generator(runs / "valence/trial/fold0/gan/model.pt")
    data, trials = open_store(store), np.arange(16)
    began = time.thread_time()
    generator(data.absolute_de(trials), trials)
    found["eeg"] = time.thread_time() - began
    for stage, script in scripts.items():
        folder = runs if stage == "finetune" else runs / "timed"
        timed = script.Config(**{**where, "runs_dir": folder}, restart=True)
        with (
            patch("de3dgan.training.loop.fit", steps),
            patch.object(classifier, "start", with_paired),
            contextlib.suppress(Timed),
        ):
            script.main(timed)
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        tree, store, runs, first = sys.argv[2:]
        sys.path.remove(str(Path(__file__).resolve().parent))
        found = measure(Path(tree), Path(store), Path(runs), first == "1")
        print(json.dumps(found))
    else:
        sys.path.insert(0, str(ROOT))
        from de3dgan.base.cli import command_line

        command_line(main, Config)
