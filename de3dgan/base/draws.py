"""Random numbers for the rows of a batch, the same however many processes share the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

#: First item, end and total of the part of a batch that is computed here, if it is not all of it.
_part: tuple[int, int, int] | None = None


@contextmanager
def part(start: int, stop: int, total: int) -> Iterator[None]:
    """Say that batches in the block are items `start` to `stop` of `total`."""
    global _part
    outer, _part = _part, (start, stop, total)
    try:
        yield
    finally:
        _part = outer


def is_part() -> bool:
    """Return whether batches are part of a larger one, of which other processes have the rest."""
    return _part is not None


def rows(draw: Callable[[int], Tensor], n_rows: int) -> Tensor:
    """Return random numbers for `n_rows` rows of a batch.

    They are drawn for the whole batch, so that processes that share it give each row what a single
    process would, and go on from the same state of their generators.

    Parameters
    ----------
    draw : callable
        Draws for a number of rows, the first axis of what it returns.
    n_rows : int
        Rows of the part that is computed here: as many for each item, those of an item together.
    """
    if _part is None:
        return draw(n_rows)
    start, stop, total = _part
    per_item = n_rows // (stop - start)
    return draw(per_item * total)[per_item * start : per_item * stop]
