"""What the number of threads changes of a training step: how its sums are rounded, and no more.

    .venv/bin/python benchmarks/stress_threads.py

Every stage takes its first step on a small store with one thread and with two, in float32. The
split must be the same, and the step's losses and gradients within a tolerance. (What a training
ends with is not compared: each step amplifies what the one before has rounded.)
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from benchmarks.documents import table
from benchmarks.stress_chains import METHODS, STAGES, quick, run_script
from de3dgan.base.cli import command_line
from de3dgan.data.synthetic import write_store
from de3dgan.training import checkpoints, distributed

#: How much losses and gradients may differ, as a share of their size.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


def main(config: Config) -> None:
    """Print the table; exit with 1 if a step differs by more than `TOLERANCE`."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, quick():
        values = {"data_dir": write_store(Path(folder, "store")), "precision": "fp32"}
        for method in METHODS:
            whole = Path(folder, method)
            whole.mkdir()
            for stage in STAGES:
                given = {**values, "method": method}
                states = [first_step(stage, given, whole, n_threads) for n_threads in (1, 2)]
                rows.append({"stage": f"{stage}, {method}", **compared(*states)})
                if stage != "finetune":
                    run_script(stage, {**given, "runs_dir": whole})
    print(*table(list(rows[0]), [row.values() for row in rows]), sep="\n")
    sys.exit(
        any(row["split"] != "same" or row["loss"] + row["gradient"] > TOLERANCE for row in rows)
    )


def first_step(
    stage: str, values: Mapping[str, Any], whole: Path, n_threads: int
) -> dict[str, Any]:
    """Return the state of a run, after the stages in `whole`, that has taken one step."""

    def interrupt_together() -> None:
        raise KeyboardInterrupt

    runs = Path(shutil.copytree(whole, whole.with_name("stopped")))
    n_before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with (
            mock.patch.object(distributed, "interrupt_together", interrupt_together),
            suppress(KeyboardInterrupt),
        ):
            raise RuntimeError(run_script(stage, {**values, "runs_dir": runs}))
        return checkpoints.load(next(runs.glob(f"*/*/fold*/{stage}/state.pt")), "")
    finally:
        torch.set_num_threads(n_before)
        shutil.rmtree(runs)


def compared(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, object]:
    """Return by what share of their size the losses and gradients of two first steps differ."""
    prints = {state["identity"]["split_fingerprint"] for state in (one, two)}
    losses = [
        {k: float(v) / state["losses"]["counts"][k] for k, v in state["losses"]["sums"].items()}
        for state in (one, two)
    ]
    loss = max(abs(losses[1][k] - v) / max(abs(v), 0.1) for k, v in losses[0].items())
    # After its first step, Adam's average is the gradient times a constant.
    gradients = [
        torch.cat(
            [
                values["exp_avg"].flatten()
                for optimiser in state["optimisers"].values()
                for values in optimiser["state"].values()
            ]
        )
        for state in (one, two)
    ]
    gradient = float((gradients[1] - gradients[0]).norm() / gradients[0].norm())
    return {
        "split": "same" if len(prints) == 1 else "another",
        "loss": float(f"{loss:.1g}"),
        "gradient": float(f"{gradient:.1g}"),
        "tolerance": TOLERANCE,
    }


if __name__ == "__main__":
    command_line(main, Config)
