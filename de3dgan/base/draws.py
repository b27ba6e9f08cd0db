"""Random numbers for the rows of a batch, the same however many processes share the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

#: Start, stop and total of this process's items of a shared batch; None if it has the whole batch.
_part: tuple[int, int, int] | None = None


@contextmanager
def part(start: int, stop: int, total: int) -> Iterator[None]:
    """Declare that batches in the block are items `start` to `stop` of a batch of `total`."""
    global _part
    outer, _part = _part, (start, stop, total)
    try:
        yield
    finally:
        _part = outer


def is_part() -> bool:
    """Return whether this process has a part of the batch, and other processes the rest."""
    return _part is not None


def rows(draw: Callable[[int], Tensor], n_rows: int) -> Tensor:
    """Return random numbers for `n_rows` rows of a batch.

    Each process draws for the whole batch and keeps its own part. So each row gets what a single
    process would give it, and all generators stay in the same state.

    Parameters
    ----------
    draw : callable
        Draws for a number of rows, the first axis of what it returns.
    n_rows : int
        Rows of this process's part: the same number for each item, those of an item together.
    """
    if _part is None:
        return draw(n_rows)
    start, stop, total = _part
    per_item = n_rows // (stop - start)
    return draw(per_item * total)[per_item * start : per_item * stop]


def normal_like(x: Tensor) -> Tensor:
    """Return standard normal numbers, float32, in the shape of a batch of rows `x`."""
    return rows(lambda n: torch.randn(n, *x.shape[1:], device=x.device), len(x))
