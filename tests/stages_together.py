"""Runs stages in one of the processes that ``torchrun`` has started, for test_processes.py."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

from de3dgan.figures import stages as figures_of_stages
from de3dgan.training import distributed, loop
from tests.conftest import run_stage
from tests.helpers import stopped_after_one_step


def main() -> None:
    """Run the stages that the command line names, in JSON, one after the other."""
    figures_of_stages.plotting = lambda run: None
    for job in json.loads(sys.argv[1]):
        stop_at = job.pop("stop_at", None)
        if stop_at is not None:
            loop.distributed.interrupt_together = stopping_at(stop_at)
        store, runs = Path(job.pop("store")), Path(job.pop("runs"))
        until = stopped_after_one_step() if job.pop("one_step", False) else nullcontext()
        try:
            with until:
                run_stage(job.pop("stage"), store, runs, **job)
        except KeyboardInterrupt as interrupt:
            print(f"process {os.environ['RANK']} stopped by {interrupt.args[0]}")
        distributed.barrier()  # what the first one writes, the next stage reads


def stopping_at(n_steps: int):
    """Return `distributed.interrupt_together`, but the last process gets a signal at a step."""
    n_taken = 0
    original = distributed.interrupt_together

    def interrupt_together() -> None:
        nonlocal n_taken
        n_taken += 1
        if n_taken == n_steps and distributed.rank() == distributed.world_size() - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        original()

    return interrupt_together


if __name__ == "__main__":
    main()
