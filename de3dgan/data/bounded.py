"""Reading a stranger's file in a process of its own, within a bound of memory and time.

A file can ask its reader for more memory than there is, for hours, or for a recursion that ends the
process. Readers need not foresee how: they do their work in a child process, which may take a
certain memory and processor time. What goes wrong there is one sentence here.

Only Linux bounds a process's memory; elsewhere the bound of time is all. The child is no sandbox:
a reader that runs what a file says would run it there.
"""

from __future__ import annotations

import gc
import json
import math
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path

#: Bytes of memory that reading may take, and how many more for each byte of the file: a few copies.
MEMORY = 2**30
PER_BYTE = 3
#: Seconds of processor time, and of waiting for a slow disk, that reading may take.
CPU_SECONDS = 20
#: Bytes of a file for each of which reading may take a second more.
BYTES_PER_SECOND = 2**22
SECONDS = 600

Read = Callable[[Path], "tuple[np.ndarray, ...]"]

_lock = threading.Lock()
_child: _Child | None = None


def read_bounded(
    read: Read, path: Path, kind: str, largest: int, size: int | None = None, seconds: float = 0
) -> list[np.ndarray]:
    """Return the arrays that ``read(path)`` returns, having read in a child process.

    Parameters
    ----------
    read : callable
        A function of a module. It may raise anything; what its exception says goes into the
        sentence that a user sees.
    path : Path
        The file.
    kind : str
        What it should be, such as "EDF file".
    largest : int
        Bytes that the largest file of that kind has.
    size : int, optional
        Bytes that are read, if the file is read together with others.
    seconds : float
        Seconds of processor time that reading may take beyond those of a file of that size.

    Raises
    ------
    UserError
        If the file cannot be read within the bound, or is not what it should be.
    """
    where, remedy = display_path(path), "copy or download it anew, or leave that subject out"
    if not path.is_file():
        raise UserError(f"{where} is no file: {remedy}.")
    size = path.stat().st_size if size is None else size
    if size > largest:
        raise UserError(
            f"{where} has more than {largest // 2**20} MiB, the most of any {kind}: {remedy}."
        )
    memory = MEMORY + PER_BYTE * size
    answer = _ask(read, path.absolute(), memory, CPU_SECONDS + size // BYTES_PER_SECOND + seconds)
    if isinstance(answer, list):
        return answer
    if answer == "MemoryError":
        raise UserError(
            f"{where} takes more than {memory // 2**20} MiB of memory to read, or than is free: "
            f"{remedy}, or work on fewer subjects at once (--jobs)."
        )
    raise UserError(f"{where} is damaged or no {kind} ({answer}): {remedy}.")


def reason(error: BaseException) -> str:
    """Return what an exception says, as one short line that a terminal can show."""
    line = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        line = error.strerror
    line = " ".join(line.split()).split(". ")[0].rstrip(".")[:300]
    return line.encode("unicode_escape").decode()


class _Child:
    """A process that reads what it is asked to."""

    def __init__(self):
        self.owner = os.getpid()  # a fork of this process must not talk to its child
        # It imports what this process would, and nothing from the folder it happens to be in. It
        # needs no threads, whose stacks would count as memory. A Ctrl-C does not reach it, lest the
        # end of reading be taken for the file's fault.
        code = (
            "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
            "from de3dgan.data.bounded import serve; serve()"
        )
        one_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **one_thread},
            start_new_session=True,
            pipesize=2**20,
        )

    def answer(self, *request: Any) -> list[np.ndarray] | str:
        """Return the arrays that were read, or what went wrong, of which the process may end."""
        pickle.dump(request, self.process.stdin)
        self.process.stdin.flush()
        answers = self.process.stdout
        if not select.select([answers], [], [], SECONDS)[0]:
            self.end()
            return f"reading it takes more than {SECONDS} s"
        header = json.loads(answers.readline() or "null")
        if isinstance(header, str):
            return header
        arrays = [np.empty(shape, dtype) for dtype, shape in header or []]
        if not arrays or any(answers.readinto(_bytes(array)) < array.nbytes for array in arrays):
            self.process.communicate()
            if self.process.returncode == -signal.SIGXCPU:
                return f"reading it takes more than {request[-1]:.0f} s"
            return f"reading it ends the process that reads: {self.process.returncode}"
        return arrays

    def end(self) -> None:
        """End the process; the next file is read by another."""
        self.process.kill()
        self.process.communicate()


def _ask(*request: Any) -> list[np.ndarray] | str:
    """Return the answer of the child, which is started if there is none."""
    global _child
    with _lock:
        if _child is None or _child.owner != os.getpid() or _child.process.poll() is not None:
            _child = _Child()
        try:
            return _child.answer(*request)
        except BaseException:  # an interrupt: what is still to come is no answer to the next file
            _child.end()
            raise


def serve() -> None:
    """Read files on request until there are no more requests."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a reader prints is no answer
    while requests.peek(1):
        read, path, memory, seconds = pickle.load(requests)
        try:
            with _limited(memory, seconds):
                arrays = [
                    np.ascontiguousarray(array, array.dtype.newbyteorder("="))
                    for array in read(path)
                ]
            header: Any = [(array.dtype.str, array.shape) for array in arrays]
        except MemoryError:
            arrays, header = [], "MemoryError"
        except Exception as error:
            arrays, header = [], reason(error)
        # What a file has put together is gone before the answer goes out: if its end is the end of
        # this process, that is not the next file's fault.
        gc.collect()
        answers.write(json.dumps(header).encode() + b"\n")
        answers.writelines(map(_bytes, arrays))
        answers.flush()
        del arrays


def _bytes(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1).view(np.uint8)


@contextmanager
def _limited(memory: int, seconds: float) -> Iterator[None]:
    """Bound what this process takes in the block, in bytes and seconds."""
    limits = {
        resource.RLIMIT_CPU: math.ceil(time.process_time() + seconds),
        resource.RLIMIT_CORE: 0,
    }
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + memory
    before = {limit: resource.getrlimit(limit) for limit in limits}
    for limit, most in limits.items():
        hard = before[limit][1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (most, hard))
    try:
        yield
    finally:
        for limit, soft_and_hard in before.items():
            resource.setrlimit(limit, soft_and_hard)
