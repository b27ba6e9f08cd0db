"""The curves of a run's training: ``metrics.jsonl``, and TensorBoard's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from de3dgan.base.files import write_text
from de3dgan.training import distributed

if TYPE_CHECKING:  # given a run, neither needs its module
    from de3dgan.training.run import Run


def write_history(run: Run, history: list[dict[str, float]]) -> None:
    """Write ``metrics.jsonl``, a line per epoch."""
    if distributed.is_main_process():
        lines = "".join(json.dumps(line) + "\n" for line in history)
        write_text(run.dir / "metrics.jsonl", lines)


@contextmanager
def tensorboard(run: Run, n_epochs: int) -> Iterator[Callable[[str, float, int], None]]:
    """Give what adds a point to TensorBoard's curves; it does nothing where that is missing.

    Of a run that goes on, points after its first `n_epochs` are left out.
    """
    if run.quiet or not distributed.is_main_process():
        yield lambda name, value, epoch: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        run.log("TensorBoard is not installed: metrics.jsonl holds the curves.")
        yield lambda name, value, epoch: None
        return
    writer = SummaryWriter(run.dir / "tensorboard", purge_step=n_epochs)
    try:
        yield writer.add_scalar
    finally:
        with suppress(OSError):  # of a full disk, of which other files have told
            writer.close()
