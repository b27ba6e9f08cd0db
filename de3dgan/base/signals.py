"""Ctrl-C and SIGTERM (which a cluster sends) stop a program between two steps, not within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)

#: Signals that have come while they are deferred; None while they are not deferred.
_received: list[int] | None = None


def raise_interrupts() -> None:
    """Make each of `SIGNALS` raise a `KeyboardInterrupt` that holds its number."""
    for number in SIGNALS:
        signal.signal(number, _interrupt)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Defer `SIGNALS` to the end of the block; of nested blocks, to the end of the outermost."""
    global _received
    if threading.current_thread() is not threading.main_thread() or _received is not None:
        yield  # where no signal interrupts
        return
    received = _received = []
    handlers = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in SIGNALS
    }
    try:
        yield
    finally:
        _received = None
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if received:
        raise KeyboardInterrupt(received[0])


def pending() -> list[int]:
    """Return the deferred signals that have come so far."""
    return _received or []


def _interrupt(number: int, _: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(number)
