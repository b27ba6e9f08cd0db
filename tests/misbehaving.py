"""A reader that does what a file says; it is read in a child process, so imports little."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np


def misbehave(path: Path) -> list[np.ndarray]:
    """Read a file, or do what it says."""
    wish = path.read_text()
    if wish == "hang":
        while True:
            pass
    if wish == "wait":
        time.sleep(60)
    if wish == "die":
        os._exit(1)
    if wish == "eat":
        np.ones(2**28)
    if wish == "print":
        print("something", flush=True)
    if wish == "fail":
        raise KeyError("data\nof\x1b[31m it. And more")
    return [np.arange(6).reshape(2, 3), np.array(["a", "bc"])]
