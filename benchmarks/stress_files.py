"""What becomes of recordings that strangers made: damaged, absurd and hostile files.

    .venv/bin/python benchmarks/stress_files.py --n 1000 --seed 0

Half of the files are DEAP's `.dat`, made from simulated subjects, half EDF files, made from the
bundled EEGMAT. Each is read as preprocessing reads it, in a process that may take 1 GiB more memory
than a good file needs and 10 s. What comes back must be one sentence that names the file, or what
an independent reading of the file gives; nothing may be printed, warned of or run. Prints a table;
exits with 1 if any file failed.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import multiprocessing
import os
import pickle
import re
import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
from scipy.signal import resample_poly

from de3dgan.base.cli import command_line
from de3dgan.base.errors import UserError
from de3dgan.data import array_pickle, sources
from de3dgan.data.simulation import Signal, simulate_subject
from de3dgan.data.sources import eegmat
from de3dgan.data.synthetic import write_deap

#: What one file may take: seconds, and bytes over what a good file needs.
SECONDS = 10
MEMORY = 2**30
#: The file that hostile ones try to make, in the folder that they lie in.
CANARY = "canary"


@dataclass(frozen=True)
class Config:
    """How many files, and which."""

    n: int = 1000  # files, half of them .dat and half EDF
    seed: int = 0  # of all that is random in them


@dataclass(frozen=True)
class Case:
    """A file of a stranger.

    Attributes
    ----------
    content : bytes
        What it starts with.
    expected : list of array, optional
        What it holds, by an independent reading. Without it, the file has to be refused.
    must_read : bool
        Whether it is a good file, which must not be refused.
    size : int, optional
        Bytes to which it is stretched; they take no room on disk.
    """

    content: bytes
    expected: list[np.ndarray] | None = None
    must_read: bool = False
    size: int | None = None


def main(config: Config) -> None:
    """Try all files, and print the table."""
    rows = run(config.n, config.seed)
    print(*table(rows), sep="\n")
    if any(row["failed"] for row in rows):
        sys.exit(1)


def run(n: int = 1000, seed: int = 0) -> list[dict[str, Any]]:
    """Read `n` damaged, absurd and hostile files.

    Parameters
    ----------
    n : int
        Files, as many of each kind as of any other, but for a few large ones.
    seed : int
        Of all that is random in them.

    Returns
    -------
    list of dict
        Of each kind of file: `kind`, how many were `tried`, `refused` in one sentence, read and
        `correct`, and `failed`; `slowest_s`, in seconds, and `peak_mib`, the most memory over what
        a good file of its source and size needs, in MiB; and `why`, what happened to the first
        file that failed, or "".
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder, Reader(Path(folder)) as reader:
        for number, (source, kind) in enumerate(schedule(n)):
            rng = np.random.default_rng([seed, number])
            case = KINDS[source][kind](rng)
            rows.append({"kind": f"{source}: {kind}", **reader.tried(source, case, rng)})
    return summary(rows)


def schedule(n: int) -> Iterator[tuple[str, str]]:
    """Yield source and kind of `n` files: sources in turn, and the kinds of each in turn."""
    kinds = {}
    for source, of_source in KINDS.items():
        # A full-sized file takes as long as a hundred small ones: a few are enough.
        small = [kind for kind in of_source if kind not in FULL_SIZED]
        kinds[source] = itertools.chain(
            [kind for kind in of_source if kind in FULL_SIZED and n >= 100], itertools.cycle(small)
        )
    for _, source in zip(range(n), itertools.cycle(KINDS), strict=False):
        yield source, next(kinds[source])


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per kind, of rows per file."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(row["kind"], []).append(row)
    return [
        {
            "kind": kind,
            "tried": len(of_kind),
            **{key: sum(row[key] for row in of_kind) for key in ("refused", "correct", "failed")},
            **{key: max(row[key] for row in of_kind) for key in ("slowest_s", "peak_mib")},
            "why": next((row["why"] for row in of_kind if row["why"]), ""),
        }
        for kind, of_kind in sorted(kinds.items())
    ]


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the table, and what went wrong."""
    total = {
        "kind": "all",
        **{key: sum(row[key] for row in rows) for key in ("tried", "refused", "correct", "failed")},
        **{key: max(row[key] for row in rows) for key in ("slowest_s", "peak_mib")},
    }
    lines = [
        "| kind | tried | refused | correct | failed | slowest (s) | memory over normal (MiB) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in [*rows, total]:
        counts = " | ".join(str(row[key]) for key in ("tried", "refused", "correct", "failed"))
        lines.append(
            f"| {row['kind']} | {counts} | {row['slowest_s']:.2f} | {row['peak_mib']:.0f} |"
        )
    return [*lines, *(f"\n{row['kind']}: {row['why']}" for row in rows if row["why"])]


# --- reading in a process that is watched


class Reader:
    """Has files read in a process of limited memory, and judges what comes back.

    Parameters
    ----------
    folder : Path
        Where files are written, and the process works.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.process: Any = None

    def __enter__(self) -> Reader:
        """Start the process."""
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._stop()

    def tried(self, source: str, case: Case, rng: np.random.Generator) -> dict[str, Any]:
        """Write and read a file, and return the columns of its row."""
        files, expected = written(self.folder, source, case, rng)
        answer = self.read(source, files)
        why = answer["why"] or judged(case, files, expected, answer)
        for path in files:
            path.unlink()
        refused = not why and answer["data"] is None
        normal = answer["n_bytes"] / 2**20  # what the arrays take, if they were read
        return {
            "refused": refused,
            "correct": not why and not refused,
            "failed": bool(why),
            "slowest_s": answer["seconds"],
            "peak_mib": max(0.0, answer["peak_mib"] - normal),
            "why": why,
        }

    def read(self, source: str, files: list[Path]) -> dict[str, Any]:
        """Have files read; a process that dies or takes too long is a failure, and replaced.

        Returns the same as `answered`.
        """
        self.connection.send((source, files))
        start = time.perf_counter()
        why = f"took more than {SECONDS} s"
        if self.connection.poll(SECONDS):
            with contextlib.suppress(EOFError, ConnectionError):
                return self.connection.recv()
            why = "the process died"
        seconds = time.perf_counter() - start
        self._stop()
        self._start()
        return {"data": None, "why": why, "seconds": seconds, "peak_mib": 0.0, "n_bytes": 0}

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=read_on_demand, args=(other, self.folder))
        self.process.start()
        other.close()
        good = self.folder / "s01.dat"
        good.write_bytes(good_dat().content)
        self.connection.send(("deap", [good]))
        self.connection.recv()
        good.unlink()

    def _stop(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join()


def written(
    folder: Path, source: str, case: Case, rng: np.random.Generator
) -> tuple[list[Path], list[np.ndarray] | None]:
    """Write a subject's files, of which one is of a stranger.

    Returns
    -------
    files : list of Path
        Of EDF files there are two, one of them good.
    expected : list of array or None
        What reading both has to give, unless the file may only be refused.
    """
    expected, bad = case.expected, 0
    if source == "deap":
        files, contents = [folder / "s01.dat"], [case.content]
    else:
        files = [folder / f"Subject00_{number}.edf" for number in (1, 2)]
        number = rng.integers(12)
        good = [bundled(number, recording) for recording in (1, 2)]
        # Arithmetic may take any length from 60 s on, rest needs 62 s.
        short = expected is not None and expected[1].shape[1] < 62 * 128
        bad = 1 if short or rng.random() < 0.5 else 0
        contents = [case.content if i == bad else content for i, content in enumerate(good)]
        if expected is not None:
            pair = [read_edf_plainly(content) for content in good]
            pair[bad] = expected
            expected = joined(*pair)
    for path, content in zip(files, contents, strict=True):
        path.write_bytes(content)
    if case.size is not None:
        os.truncate(files[bad], case.size)
    return files, expected


def judged(
    case: Case, files: list[Path], expected: list[np.ndarray] | None, answer: dict[str, Any]
) -> str:
    """Return what is wrong with an answer, or ""."""
    canary = files[0].parent / CANARY
    if canary.exists():
        canary.unlink()
        return "code of the file ran"
    data, message = answer["data"], answer["message"]
    if data is None:
        if case.must_read:
            return f"a good file is refused: {message}"
        named = any(path.name in message for path in files)
        if not (named and message.endswith(".") and message.isprintable()):
            return f"no sentence about the file: {message!r}"
        return "" if len(message) < 2000 else f"{len(message)} characters are too long"
    if expected is None:
        return "read, though it should be refused"
    if len(data) != len(expected) or not all(map(np.array_equal, data, expected)):
        return "read, but not what is in it"
    return ""


def read_on_demand(connection: Connection, folder: Path) -> None:
    """Read files that come through a connection, and send back what they hold; runs until closed.

    Parameters
    ----------
    connection : Connection
        Takes a source's name and a list of paths; gives what `answered` returns.
    folder : Path
        Where the process works.
    """
    os.chdir(folder)
    # What a full-sized file takes is normal.
    limit = kib("VmSize") * 1024 + MEMORY + 2**27
    with contextlib.suppress(EOFError):
        while True:
            source, files = connection.recv()
            if sys.platform == "linux":  # elsewhere there is no such limit
                resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            answer = answered(source, files)
            if sys.platform == "linux":
                resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
            connection.send(answer)
            del answer


def answered(source: str, files: list[Path]) -> dict[str, Any]:
    """Read one subject's files as preprocessing does.

    Returns
    -------
    dict
        `data`, a list of arrays or None; `message`, of the `UserError`; `why`, what went wrong;
        `seconds`; `peak_mib`, the most memory over what the process had before; and `n_bytes`, of
        the arrays.
    """
    module = importlib.import_module(source if "." in source else f"de3dgan.data.sources.{source}")
    data = message = None
    why = ""
    printed = io.StringIO()
    with contextlib.suppress(OSError):  # where there is no such file, the peak is that of all
        Path("/proc/self/clear_refs").write_text("5")
    before, start = kib("VmRSS"), time.perf_counter()
    with (
        warnings.catch_warnings(record=True) as warned,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        warnings.simplefilter("always")
        try:
            subject = sources.read_checked(module, "s01", files)
            data = [*subject.recordings, *rated(subject)]
        except UserError as error:
            message = str(error)
        except BaseException:
            why = traceback.format_exc(limit=-2)
    seconds, peak = time.perf_counter() - start, kib("VmHWM") - before
    if not why and (warned or printed.getvalue()):
        why = f"printed {[str(w.message) for w in warned]} {printed.getvalue()!r}"
    return {
        "data": data,
        "message": message,
        "why": why,
        "seconds": seconds,
        "peak_mib": peak / 1024,
        "n_bytes": 0 if data is None else sum(array.nbytes for array in data),
    }


def rated(subject: sources.Subject) -> list[np.ndarray]:
    """Return the ratings of all trials, (n_trials, n_ratings), in a list."""
    return [np.array([list(trial.ratings.values()) for trial in subject.trials])]


def kib(name: str) -> int:
    """Return a size of this process, in KiB: VmRSS, VmHWM or VmSize; on macOS, the peak of all."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


# --- .dat files


@dataclass(frozen=True)
class Dat:
    """A good `.dat`, what it holds, and where in it that lies.

    Attributes
    ----------
    content : bytes
        The file.
    data, labels : array
        As given to the writer.
    places : list of int
        Where the bytes of labels and data begin, and last where they end.
    """

    content: bytes
    data: np.ndarray
    labels: np.ndarray
    places: list[int]

    @property
    def dictionary(self) -> dict[str, np.ndarray]:
        """What is pickled."""
        return {"labels": self.labels, "data": self.data}


@cache
def good_dat(n_trials: int = 1) -> Dat:
    """Return a simulated subject's file."""
    signal = Signal(n_trials=n_trials)
    data, labels = simulate_subject(1, signal)
    with tempfile.TemporaryDirectory() as folder:
        content = write_deap(folder, 1, signal)[0].read_bytes()
    places = [content.index(labels.tobytes()), len(content) - 4 - data.nbytes]
    return Dat(content, data, labels, [*places, len(content) - 4])


def arrays_of(data: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Return what reading gives: a recording per trial, and the ratings."""
    return [*np.asarray(data[:, :32], dtype=np.float64), np.asarray(labels, dtype=np.float64)]


def read_dat_plainly(content: bytes, good: Dat) -> list[np.ndarray] | None:
    """Return what a file holds that differs from a good one in bytes, but not in where they lie.

    None if it is not a file of finite numbers and of ratings from 1 to 9.
    """
    arrays = []
    for place, array in zip(good.places, (good.labels, good.data), strict=False):
        head = content.rindex(b"numpy\ndtype\n", 0, place) + len(b"numpy\ndtype\n")
        code, order = content[head + 2 : head + 4], content[head + 24 : head + 25]
        layout = "F" if content[place - 6 : place - 5] == b"\x88" else "C"
        try:
            dtype = np.dtype((order + code).decode())
            numbers = np.frombuffer(content, dtype, array.size, place)
        except (TypeError, ValueError, UnicodeError):
            return None
        arrays.append(numbers.reshape(array.shape, order=layout))
    labels, data = arrays
    if not (np.isfinite(data[:, :32]).all() and ((labels >= 1) & (labels <= 9)).all()):
        return None
    return arrays_of(data, labels)


def flipped(content: bytes, places: np.ndarray, rng: np.random.Generator) -> bytes:
    """Return `content` with a bit flipped at each place."""
    changed = bytearray(content)
    for place in places:
        changed[place] ^= 1 << rng.integers(8)
    return bytes(changed)


def dat_bits_of_header(rng: np.random.Generator, n_trials: int = 1) -> Case:
    """Flip up to three bits of what is not an array's numbers."""
    good = good_dat(n_trials)
    inside = range(good.places[0], good.places[0] + good.labels.nbytes)
    places = [*range(inside.start), *range(inside.stop, good.places[1]), *range(-4, 0)]
    content = flipped(good.content, rng.choice(places, rng.integers(1, 4)), rng)
    return Case(content, None if plainly_broken(content) else read_dat_plainly(content, good))


def plainly_broken(content: bytes) -> bool:
    """Return whether a file's arrays are named so that no place of them can be told."""
    return content.count(b"numpy\ndtype\n") < 2


def dat_bits_of_numbers(rng: np.random.Generator, n_trials: int = 1) -> Case:
    """Flip up to 1,000 bits of the numbers."""
    good = good_dat(n_trials)
    places = rng.integers(*good.places[1:], size=10 ** rng.integers(4))
    content = flipped(good.content, places, rng)
    return Case(content, read_dat_plainly(content, good))


def dat_truncated(rng: np.random.Generator, n_trials: int = 1) -> Case:
    """Cut a file anywhere, with a header's length as likely as a whole one's."""
    content = good_dat(n_trials).content
    return Case(content[: int(rng.choice([rng.integers(600), rng.integers(len(content))]))])


def dat_shifted(rng: np.random.Generator) -> Case:
    """Take out or put in some bytes anywhere, or after the end."""
    content = good_dat().content
    place = int(rng.choice([rng.integers(600), rng.integers(len(content)), len(content)]))
    length = int(rng.choice([1, 2, 8, 512]))
    if rng.random() < 0.5 and place < len(content):
        return Case(content[:place] + content[place + length :])
    return Case(content[:place] + rng.bytes(length) + content[place:])


def dat_other_bytes(rng: np.random.Generator) -> Case:
    """Write random bytes, text, or another file in its place."""
    kinds = [
        b"",
        rng.bytes(rng.integers(1, 5000)),
        bytes(rng.choice(list(b"(cipqtRb}]u.0123456789\n"), 3000).tolist()),
        b"PK\x03\x04" + rng.bytes(500),
        b"\x1f\x8b\x08" + rng.bytes(500),
        b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n",
        bundled(0, 1)[:100_000],
    ]
    return Case(kinds[rng.integers(len(kinds))])


def dat_good(rng: np.random.Generator, n_trials: int = 1) -> Case:
    """Save a good file as other programs do: protocols, number types, layouts, Python 2."""
    good = good_dat(n_trials)
    dtype = str(rng.choice(["<f8", ">f8", "<f4", ">f4", "<i4", ">i2", "<i8"]))
    layout = np.asfortranarray if rng.random() < 0.3 else np.ascontiguousarray
    content = {"labels": good.labels, "data": layout(good.data.astype(dtype))}
    protocol = int(rng.integers(pickle.HIGHEST_PROTOCOL + 1))
    if protocol == 0:
        return Case(python_2(good), arrays_of(good.data, good.labels), must_read=True)
    raw = pickle.dumps(content, protocol)
    if rng.random() < 0.3:  # NumPy 1
        raw = raw.replace(b"numpy._core.", b"numpy.core.") if protocol < 4 else raw
    return Case(raw, arrays_of(content["data"], good.labels), must_read=True)


def python_2(good: Dat) -> bytes:
    """Return the file as Python 2's cPickle writes it with protocol 1."""

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    def string(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    file = b"}q\x01("
    for name, array in good.dictionary.items():
        file += string(name.encode())
        file += b"cnumpy.core.multiarray\n_reconstruct\nq\x02(cnumpy\nndarray\nq\x03("
        file += number(0) + b"t" + string(b"b") + b"tRq\x04(" + number(1)
        file += b"(" + b"".join(map(number, array.shape)) + b"t"
        file += b"cnumpy\ndtype\nq\x05(" + string(b"f8") + number(0) + number(1) + b"tRq\x06("
        file += number(3) + string(b"<") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
        file += b"I00\n" + string(array.tobytes()) + b"tb"
    return file + b"u."


def dat_wrong_content(rng: np.random.Generator) -> Case:
    """Pickle arrays of wrong types and shapes, values that are none, and no arrays."""
    good = good_dat()
    shape = good.data.shape
    bad_value = rng.choice([np.nan, np.inf, -np.inf])
    data = good.data.copy()
    data[0, rng.integers(32), rng.integers(8064)] = bad_value
    labels = good.labels.copy()
    labels[0, rng.integers(4)] = rng.choice([np.nan, np.inf, 0, 0.99, 9.01, -5, 1e300])
    bad: list[Any] = [
        good.dictionary | {"data": data},
        good.dictionary | {"labels": labels},
        *(
            good.dictionary | {"data": good.data.reshape(other)}
            for other in [(40, 1, 8064), (1, 8064, 40), (-1,), (1, 1, 40, 8064), (2, 20, 8064)]
        ),
        good.dictionary | {"data": np.zeros((0, *shape[1:])), "labels": np.zeros((0, 4))},
        good.dictionary | {"data": np.zeros(())},
        good.dictionary | {"labels": good.labels.T},
        good.dictionary | {"labels": np.repeat(good.labels, 2, 0)},
        *(
            good.dictionary | {"data": np.zeros(shape, dtype)}
            for dtype in ["?", "S8", "U2", "c16", "M8[s]", "m8[s]", "V8", "g", [("a", "f8")]]
        ),
        good.dictionary | {"data": np.ma.masked_array(good.data)},
        good.dictionary | {"data": good.data.tolist()[0][0]},
        good.dictionary | {"data": good.data.tobytes()},
        {"data": good.data},
        [good.labels, good.data],
        (good.data,),
        good.data,
        "data",
        None,
        1.5,
    ]
    chosen = bad[rng.integers(len(bad))]
    return Case(pickle.dumps(chosen, int(rng.integers(pickle.HIGHEST_PROTOCOL + 1))))


def dat_objects(rng: np.random.Generator) -> Case:
    """Pickle arrays of objects, and arrays whose type is changed into objects in the file."""
    good = good_dat()
    protocol = int(rng.integers(pickle.HIGHEST_PROTOCOL + 1))
    objects = np.empty((1, 4), dtype=object)
    objects[:] = [[3.0, "4", None, Calls("os", "system", f"touch {CANARY}")]]
    kinds = [
        good.dictionary | {"labels": objects},
        good.dictionary | {"labels": good.labels.astype(object)},
        good.dictionary | {"data": np.array([good.data, None], dtype=object)},
        good.dictionary | {"data": np.zeros((1, 40, 8064), [("a", "O")])},
    ]
    chosen = int(rng.integers(len(kinds) + 1))
    if chosen == len(kinds):
        code = str(rng.choice(["O8", "V8", "S8", "U2", "M8", "|O"])).encode()
        return Case(good.content.replace(b"f8", code))
    return Case(pickle.dumps(kinds[chosen], protocol))


class Calls:
    """Pickles as a call of a function, which need not be there."""

    def __init__(self, module: str, name: str, *args: object):
        self.module, self.name, self.args = module, name, args

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the call."""
        return getattr(__import__(self.module), self.name), self.args


#: What published tricks import, with arguments by which it would make the canary.
TOUCH = f"touch {CANARY}"
OPEN = f"open({CANARY!r}, 'w')"
TRICKS: list[tuple[str, str, tuple[str, ...]]] = [
    *((module, "system", (TOUCH,)) for module in ("os", "posix", "nt", "sys.modules.os")),
    *((module, "popen", (TOUCH,)) for module in ("os", "posix", "platform", "os._wrap_close")),
    *(("subprocess", name, (TOUCH, "1")) for name in ("Popen", "run", "call", "check_output")),
    ("subprocess", "getoutput", (TOUCH,)),
    ("commands", "getoutput", (TOUCH,)),
    ("pty", "spawn", (TOUCH,)),
    ("os", "execvp", ("touch", CANARY)),
    ("os", "posix_spawnp", ("touch", CANARY)),
    *(
        (module, name, (OPEN,))
        for module in ("builtins", "__builtin__", "__builtins__")
        for name in ("exec", "eval", "compile", "execfile", "apply", "__import__", "open")
    ),
    ("builtins", "getattr", ("os", "system")),
    ("builtins", "globals", ()),
    ("builtins", "map", ("os.system", TOUCH)),
    ("builtins", "type", (CANARY,)),
    ("builtins", "object.__subclasses__", ()),
    ("importlib", "import_module", ("antigravity",)),
    ("importlib.util", "spec_from_file_location", (CANARY, "x.py")),
    ("operator", "attrgetter", ("system",)),
    ("operator", "methodcaller", ("system", TOUCH)),
    ("operator", "itemgetter", ("0",)),
    ("functools", "partial", (TOUCH,)),
    ("functools", "reduce", (TOUCH,)),
    ("types", "FunctionType", (CANARY,)),
    ("types", "CodeType", (CANARY,)),
    ("marshal", "loads", (CANARY,)),
    ("runpy", "run_path", (CANARY,)),
    ("runpy", "_run_code", (OPEN, "1")),
    ("code", "InteractiveInterpreter", ()),
    ("timeit", "timeit", (OPEN,)),
    ("timeit", "main", (OPEN,)),
    ("cProfile", "run", (OPEN,)),
    ("profile", "run", (OPEN,)),
    ("trace", "Trace.run", (OPEN,)),
    ("pdb", "run", (OPEN,)),
    ("bdb", "Bdb.run", (OPEN,)),
    ("doctest", "debug_script", (OPEN,)),
    ("test.support.script_helper", "assert_python_ok", ("-c", OPEN)),
    ("webbrowser", "open", (CANARY,)),
    ("ctypes", "CDLL", (CANARY,)),
    ("shutil", "copyfile", ("s01.dat", CANARY)),
    ("shutil", "rmtree", (".",)),
    ("pathlib", "Path.touch", (CANARY,)),
    ("io", "open", (CANARY, "w")),
    ("io", "FileIO", (CANARY, "w")),
    ("_io", "FileIO", (CANARY, "w")),
    ("tempfile", "mktemp", (CANARY,)),
    ("logging", "FileHandler", (CANARY,)),
    ("logging.config", "fileConfig", (CANARY,)),
    ("sqlite3", "connect", (CANARY,)),
    ("socket", "create_connection", (CANARY,)),
    ("urllib.request", "urlopen", (f"file:{CANARY}",)),
    ("asyncio.subprocess", "create_subprocess_shell", (TOUCH,)),
    ("multiprocessing.util", "spawnv_passfds", (TOUCH,)),
    ("venv", "create", (CANARY,)),
    ("ensurepip", "_run_pip", (CANARY,)),
    ("pip._internal", "main", (CANARY,)),
    ("pickle", "loads", (CANARY,)),
    ("pickle", "Unpickler", (CANARY,)),
    ("_pickle", "loads", (CANARY,)),
    ("copyreg", "_reconstructor", (CANARY,)),
    ("copyreg", "add_extension", ("os", "system", "1")),
    ("copy_reg", "_reconstructor", (CANARY,)),
    ("_codecs", "decode", (CANARY, "rot13")),
    ("_codecs", "encode", (CANARY, "zip")),
    ("_codecs", "register", (CANARY,)),
    ("codecs", "open", (CANARY, "w")),
    ("numpy", "load", (CANARY,)),
    ("numpy", "fromfile", (CANARY,)),
    ("numpy", "memmap", (CANARY,)),
    ("numpy", "savetxt", (CANARY, "1")),
    ("numpy", "dtype.newbyteorder", ("S",)),
    ("numpy", "ndarray.tofile", (CANARY,)),
    ("numpy", "core.multiarray.os.system", (TOUCH,)),
    ("numpy.core.multiarray", "scalar", (CANARY,)),
    ("numpy._core.multiarray", "fromfile", (CANARY,)),
    ("numpy._core.numeric", "fromfile", (CANARY,)),
    ("numpy._core.numeric", "sys.modules", ()),
    ("numpy.testing._private.utils", "runstring", (OPEN, "1")),
    ("numpy.distutils.exec_command", "exec_command", (TOUCH,)),
    ("numpy.f2py.capi_maps", "getinit", (CANARY,)),
    ("numpy.ctypeslib", "load_library", (CANARY, ".")),
    ("torch", "load", (CANARY,)),
    ("torch.hub", "load", (CANARY,)),
    ("torch.serialization", "_load", (CANARY,)),
    ("torch._utils", "_rebuild_tensor_v2", (CANARY,)),
    ("torch.utils._config_module", "load_config", (CANARY,)),
    ("torch.storage", "_load_from_bytes", (CANARY,)),
    ("torch._dynamo.guards", "GuardBuilder.get", (OPEN,)),
    ("torch.distributed.rpc.internal", "_run_function", (CANARY,)),
    ("torch.fx.graph_module", "reduce_graph_module", (CANARY,)),
    ("torch.utils.data.datapipes.utils.decoder", "basichandlers", (CANARY,)),
    ("torch.jit", "_unwrap_optional", (CANARY,)),
    ("joblib", "load", (CANARY,)),
    ("joblib.numpy_pickle", "NumpyArrayWrapper", (CANARY,)),
    ("pandas", "read_pickle", (CANARY,)),
    ("pandas.core.computation.eval", "eval", (OPEN,)),
    ("scipy.io", "loadmat", (CANARY,)),
    ("sklearn.utils._testing", "_convert_container", (CANARY,)),
    ("matplotlib", "rc_file", (CANARY,)),
    ("jinja2", "Template", (CANARY,)),
    ("tensorflow.python.lib.io.file_io", "write_string_to_file", (CANARY, "1")),
    ("keras.saving.saving_lib", "load_model", (CANARY,)),
    ("dill._dill", "_create_function", (CANARY,)),
    ("dill", "loads", (CANARY,)),
    ("cloudpickle.cloudpickle", "_make_function", (CANARY,)),
    ("setuptools", "setup", (CANARY,)),
    ("lib2to3.pgen2.grammar", "Grammar.loads", (CANARY,)),
    ("idlelib.pyshell", "ModifiedInterpreter.runcommand", (OPEN,)),
    ("idlelib.run", "Executive.runcode", (OPEN,)),
    ("xmlrpc.server", "resolve_dotted_attribute", ("os", "system")),
    ("ssl", "get_server_certificate", (CANARY,)),
    ("bisect", "bisect", (CANARY, "1")),
    ("collections", "namedtuple", (CANARY, OPEN)),
    ("site", "main", ()),
    ("de3dgan.data.sources.deap", "write", (CANARY,)),
    ("de3dgan.data.sources.deap", "np.load", (CANARY,)),
    ("__main__", "__builtins__", ()),
]
#: By which opcodes a name is called: each is a function of the name and the arguments.
CALLS: dict[str, Callable[[str, str, tuple[str, ...]], bytes]] = {
    "GLOBAL, REDUCE": lambda m, n, a: named(m, n) + packed(a) + b"R",
    "STACK_GLOBAL, REDUCE": lambda m, n, a: text(m) + text(n) + b"\x93" + packed(a) + b"R",
    "memoised, REDUCE": lambda m, n, a: named(m, n) + b"q\x300h\x30" + packed(a) + b"R",
    "INST": lambda m, n, a: b"(" + b"".join(map(text, a)) + f"i{m}\n{n}\n".encode(),
    "OBJ": lambda m, n, a: b"(" + named(m, n) + b"".join(map(text, a)) + b"o",
    "NEWOBJ": lambda m, n, a: named(m, n) + packed(a) + b"\x81",
    "NEWOBJ_EX": lambda m, n, a: named(m, n) + packed(a) + b"}\x92",
    "BUILD": lambda m, n, a: (
        b"cnumpy\ndtype\n"
        + text("f8")
        + b"\x85R}"
        + text("__setstate__")
        + named(m, n)
        + b"sb"
        + packed(a)
        + b"b"
    ),
    "BUILD of slots": lambda m, n, a: (
        b"cnumpy\nndarray\nN}" + text("__reduce__") + named(m, n) + b"s\x86b" + packed(a) + b"R"
    ),
    "called by the class of arrays": lambda m, n, a: (
        b"cnumpy.core.multiarray\n_reconstruct\n" + named(m, n) + b")" + text("b") + b"\x87R"
    ),
    "called by the type of arrays": lambda m, n, a: b"cnumpy\ndtype\n" + named(m, n) + b"\x85R",
    "called by a string of bytes": lambda m, n, a: (
        b"c_codecs\nencode\n" + named(m, n) + text("latin1") + b"\x86R"
    ),
    "EXT1": lambda m, n, a: b"\x82\x01" + packed(a) + b"R",
    "EXT2": lambda m, n, a: b"\x83\x01\x00" + packed(a) + b"R",
    "EXT4": lambda m, n, a: b"\x84\x01\x00\x00\x00" + packed(a) + b"R",
    "PERSID": lambda m, n, a: f"P{m}.{n}\n".encode() + packed(a) + b"R",
    "BINPERSID": lambda m, n, a: text(f"{m}.{n}") + b"Q" + packed(a) + b"R",
    "a name as a string": lambda m, n, a: text(f"{m}.{n}") + packed(a) + b"R",
    "NEXT_BUFFER": lambda m, n, a: b"\x97\x98" + named(m, n) + packed(a) + b"R",
}


def text(value: str) -> bytes:
    """Return the opcode for a string."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def named(module: str, name: str) -> bytes:
    """Return the opcode for a global."""
    return f"c{module}\n{name}\n".encode()


def packed(values: tuple[str, ...]) -> bytes:
    """Return the opcodes for a tuple of strings."""
    return b"(" + b"".join(map(text, values)) + b"t"


def hostile(opcodes: bytes, where: str) -> bytes:
    """Return a pickle with `opcodes`, which put one thing on the stack, somewhere in it."""
    good = good_dat().content
    if where == "whole":
        return b"\x80\x04" + opcodes + b"."
    if where == "before":
        return good[:4] + text("more") + opcodes + good[4:]
    if where == "value":
        return good[:-2] + text("more") + opcodes + b"u."
    if where == "key":
        return good[:-2] + opcodes + b"Nu."
    if where == "list":
        return good[:-2] + text("more") + b"]" + opcodes + b"au."
    return good + opcodes + b"."


def extra(opcodes: bytes, where: str) -> Case:
    """Return a case of something harmless, if it is small, beside the arrays of a good file."""
    good = good_dat()
    expected = None if where == "whole" else arrays_of(good.data, good.labels)
    return Case(hostile(opcodes, where), expected)


PLACES = ("whole", "before", "value", "key", "list", "after")


def dat_tricks(rng: np.random.Generator) -> Case:
    """Call what would make the canary, by any opcode, anywhere in an otherwise good file."""
    module, name, args = TRICKS[rng.integers(len(TRICKS))]
    call = list(CALLS.values())[rng.integers(len(CALLS))]
    return Case(hostile(call(module, name, args), PLACES[rng.integers(len(PLACES))]))


def dat_huge_sizes(rng: np.random.Generator) -> Case:
    """Declare lengths, places, shapes and numbers beyond all files."""
    good = good_dat().content
    huge = int(rng.choice([2**31 - 1, 2**31, 2**32 - 1, 2**24]))
    huge_8 = int(rng.choice([2**63 - 1, 2**40, 2**62, 2**34], 1)[0])
    lengths = [bytes([code]) + struct.pack("<I", huge) for code in b"TXBrj\x8b"]
    lengths += [bytes([code]) + struct.pack("<Q", huge_8) for code in b"\x8d\x8e\x96\x95"]
    lengths += [b"N" + opcode for opcode in (b"p999999999999\n", b"r\xff\xff\xff\xff")]
    lengths += [b"I" + b"9" * 10**6 + b"\n", b"L" + b"9" * 10**6 + b"L\n", b"F1e999999\n"]
    lengths += [b"\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6, b"\x8a\xff" + b"\x7f" * 255]
    shape = b"(J" + struct.pack("<iBiBi", 1, 74, 40, 74, 8064) + b"t"
    assert good.count(shape) == 1
    others = [
        [2**31 - 1] * 3, [2**16, 2**16, 2**32 + 1], [-1, 40, 8064], [-1, -40, 8064],
        [0, 0, 0], [1] * 100, [2**62, 2**62, 4], [800, 40, 8064], [10**9, 40, 8064],
    ]  # fmt: skip
    numbers = b"".join(
        b"\x8a\x09" + n.to_bytes(9, "little", signed=True)
        for n in others[rng.integers(len(others))]
    )
    if rng.random() < 0.3:
        return Case(good.replace(shape, b"(" + numbers + b"t"))
    chosen = lengths[rng.integers(len(lengths))]
    place = "whole" if rng.random() < 0.5 else "value"
    size = int(rng.choice([10**12, 2**32 - 1])) if rng.random() < 0.2 else None
    return replace(extra(chosen, place), size=size)


def dat_stretched(rng: np.random.Generator) -> Case:
    """Declare sizes that the file has: it is stretched with zeros, which take no room on disk."""
    head = good_dat().content[: good_dat().places[1] - 5]
    kinds = [
        (head + b"\x8e" + struct.pack("<Q", 2**31), 2**32),
        (head + b"\x8e" + struct.pack("<Q", 2**31), 2**32 + 1),
        (head + b"B" + struct.pack("<I", 2**31 - 9999), 2**31),
        (head + b"S'", 2**31),
        (head + b"V", 2**31),
        (b"\x80\x04\x8d" + struct.pack("<Q", 2**31 - 99), 2**31),
        (good_dat().content, 2**40),
        (b"I", 2**31),
        (b"cos\n", 2**31),
        (b"", 2**31),
    ]
    content, size = kinds[rng.integers(len(kinds))]
    return Case(content, size=size)


def dat_nested(rng: np.random.Generator) -> Case:
    """Nest lists, tuples, dictionaries, marks and calls, up to a million deep."""
    depth = int(10 ** rng.uniform(1, 6))
    kinds = [
        b"]" * depth + b"a" * (depth - 1),
        b"(" * depth + b"t" * depth,
        b"(" * depth + b"l" * depth,
        b"N" + b"\x85" * depth,
        b"]" + b"\x85" * depth,
        b"(" * depth,
        b"K\x00" + b"}" * depth + b"NNs" * depth,
        b"".join([b"}", (text("a") + b"}") * depth, b"s" * depth]),
        b"cnumpy\ndtype\n" * depth + text("f8") + b"\x85R" * depth,
        b"\x80\x04" * depth + b"N",
        b"\x95\0\0\0\0\0\0\0\0" * depth + b"N",
    ]
    return extra(kinds[rng.integers(len(kinds))], "value")


def dat_bombs(rng: np.random.Generator) -> Case:
    """Copy and share things so that they double, or are many times as large as the file."""
    n = int(10 ** rng.uniform(1, 6))
    payload = rng.bytes(10**5)
    string = b"X" + struct.pack("<I", 10**5) + b"\xc3\xa9" * 50_000
    encode = b"c_codecs\nencode\n" + string + b"q\x01" + text("latin1") + b"\x86R"
    again = b"c_codecs\nencode\nh\x01" + text("latin1") + b"\x86Ra"
    array = b"cnumpy._core.numeric\n_frombuffer\n(B" + struct.pack("<I", len(payload)) + payload
    kinds = [
        b"]" + b"2a" * n,  # a list in itself
        b"N" + b"2\x86" * n,  # a tuple of itself twice, and so on: slow to hash or show
        b"N" + b"q\x01h\x01\x86" * n,
        b"N" + b"q\x01h\x01\x86" * 400 + b"q\x02}h\x02Ns",  # ... as a key
        b"N" + b"\x94" * n,
        b"(" + b"N" * n + b"l",
        b"(" + b"K\x01" * n + b"t",
        b"](" + (b"N" * 100 + b"e(") * (n // 100) + b"e",
        b"]" + encode + b"a" + again * n,
        b"](" + b"h\x01" * n + b"e",
        b"]q\x01(" + b"h\x01" * n + b"e",
        b"}(" + b"".join(text(str(i)) + b"N" for i in range(min(n, 10**5))) + b"u",
        array + b"q\x05" + b"h\x05" * n + b"t",
        b"N" + b"0N" * n,
        b"(1" * n + b"N",
        b"cnumpy\ndtype\n" + text("f8") + b"\x85R" + (b"(K\x03" + text(">") + b"tb") * n,
    ]
    return extra(kinds[rng.integers(len(kinds))], "value" if rng.random() < 0.7 else "whole")


def dat_large_bombs(rng: np.random.Generator) -> Case:
    """Copy the 100 MB of a full-sized file again and again."""
    good = good_dat(40)
    payload = good.content[good.places[1] : good.places[2]]
    string = b"\x8d" + struct.pack("<Q", len(payload)) + bytes(len(payload))
    again = b"c_codecs\nencode\nh\x01" + text("latin1") + b"\x86Ra"
    return Case(hostile(string + b"q\x010]" + again * 100, "whole"))


def dat_random_opcodes(rng: np.random.Generator) -> Case:
    """Put random opcodes one after the other, by themselves or within an otherwise good file."""
    pieces = [bytes([code]) for code in range(256)] * 2
    pieces += [*map(text, ("f8", "<", "data", "labels", "latin1", "C"))] * 10
    pieces += [named(*name) for name in array_pickle._GLOBALS] * 10
    pieces += [b"K\x01", b"M\x80\x1f", b"q\x01", b"h\x01", b"I00\n", b"S'a\\x00'\n", b"Va\n"] * 5
    pieces += [b"(", b"t", b"R", b"b", b"\x85", b"\x86", b"\x87", b"}", b"s", b"u", b"]", b"a"] * 20
    chosen = rng.integers(len(pieces), size=int(10 ** rng.uniform(0, 3)))
    return extra(b"".join(pieces[i] for i in chosen), PLACES[rng.integers(len(PLACES))])


# --- EDF files


@cache
def bundled(number: int, recording: int) -> bytes:
    """Return a bundled EDF file: subject 0 to 11, 1 for rest and 2 for arithmetic."""
    return (ROOT / eegmat.DEFAULT_DIR / f"Subject{number:02d}_{recording}.edf").read_bytes()


#: The fields of an EDF header: place and width for the file, and in the part of the signals.
FIELDS = {
    "version": (0, 8), "patient": (8, 80), "recording": (88, 80), "date": (168, 8),
    "time": (176, 8), "header bytes": (184, 8), "reserved": (192, 44), "records": (236, 8),
    "duration": (244, 8), "signals": (252, 4),
}  # fmt: skip
SIGNAL_FIELDS = {
    "label": (0, 16), "transducer": (16, 80), "unit": (96, 8), "physical min": (104, 8),
    "physical max": (112, 8), "digital min": (120, 8), "digital max": (128, 8),
    "filter": (136, 80), "samples": (216, 8), "reserved of signals": (224, 32),
}  # fmt: skip


def n_signals(content: bytes) -> int:
    """Return how many signals a file has."""
    return int(content[252:256])


def with_field(content: bytes, field: str, value: str | bytes, signal: int = 0) -> bytes:
    """Return an EDF file with another value in a field of its header."""
    value = value.encode("latin1") if isinstance(value, str) else value
    if field in FIELDS:
        place, width = FIELDS[field]
    else:
        place, width = SIGNAL_FIELDS[field]
        place = 256 + n_signals(content) * place + width * signal
    return content[:place] + value.ljust(width)[:width] + content[place + width :]


def write_edf(
    signals: list[tuple[str, str, np.ndarray]], duration: str = "1", **fields: str
) -> bytes:
    """Return an EDF file of signals: each a label, a unit, and digital values (n_records, n)."""
    content = b" " * 256 + b" " * 256 * len(signals)
    values = {
        "version": "0", "patient": "X X X X", "recording": "Startdate X X X X",
        "date": "01.01.11", "time": "00.00.00", "header bytes": str(len(content)),
        "records": str(len(signals[0][2])), "duration": duration, "signals": str(len(signals)),
    }  # fmt: skip
    content = with_field(content, "signals", values["signals"])
    for field, value in {**values, **fields}.items():
        content = with_field(content, field, value)
    for i, (label, unit, digital) in enumerate(signals):
        of_signal = {
            "label": label, "unit": unit, "physical min": "-400", "physical max": "400",
            "digital min": "-32768", "digital max": "32767", "samples": str(digital.shape[1]),
        }  # fmt: skip
        for field, value in of_signal.items():
            content = with_field(content, field, value, i)
    return content + np.concatenate([s[2] for s in signals], 1).astype("<i2").tobytes()


def read_edf_plainly(content: bytes) -> tuple[list[str], np.ndarray] | None:
    """Return electrodes and EEG in µV at 128 Hz of an EDF file, or None if it is none.

    An independent reading, which knows little of what is sensible.
    """
    try:
        n = int(content[252:256])

        def column(field: str) -> list[str]:
            place, width = SIGNAL_FIELDS[field]
            start = 256 + n * place
            return [
                content[start + i * width : start + (i + 1) * width].decode("latin1").strip(" \0")
                for i in range(n)
            ]

        lengths = [int(text) for text in column("samples")]
        records, start = int(content[236:244]), int(content[184:192])
        digital = np.frombuffer(content, "<i2", offset=start).reshape(records, sum(lengths))
        duration = Fraction(content[244:252].decode().strip(" \0"))
        stops = np.cumsum(lengths)
        names, eeg = [], []
        for i, label in enumerate(column("label")):
            if not label.startswith("EEG ") or label.startswith("EEG A2-A1"):
                continue
            low, high, digital_low, digital_high = (
                float(column(field)[i].replace(",", "."))
                for field in ("physical min", "physical max", "digital min", "digital max")
            )
            gain = (high - low) / (digital_high - digital_low)
            volts = {"uV": 1e-6, "\xb5V": 1e-6, "\x83\xcaV": 1e-6, "mV": 1e-3, "V": 1}
            if not np.isfinite([gain, low]).all():
                return None
            values = digital[:, stops[i] - lengths[i] : stops[i]].ravel() * gain
            values = (values + (low - digital_low * gain)) * volts[column("unit")[i]]
            ratio = 128 * duration / lengths[i]
            if max(ratio.numerator, ratio.denominator) > 10**5 or ratio <= 0:
                return None
            if ratio != 1:
                values = resample_poly(values, ratio.numerator, ratio.denominator)
            name = label.upper().removeprefix("EEG ")  # of which T3 and T7 are one electrode
            names.append({"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}.get(name, name))
            eeg.append(values * 1e6)
        return names, np.stack(eeg)[:, :-256]
    except (ValueError, KeyError, ZeroDivisionError, UnicodeError, IndexError):
        return None


def joined(
    rest: tuple[list[str], np.ndarray] | None, task: tuple[list[str], np.ndarray] | None
) -> list[np.ndarray] | None:
    """Return what reading a pair gives: two recordings of the same channels, and the labels."""
    if rest is None or task is None or sorted(rest[0]) != sorted(task[0]):
        return None
    order = [task[0].index(name) for name in rest[0]]
    return [rest[1], task[1][order], np.array([[0.0], [1.0]])]


def edf_case(content: bytes, must_read: bool = False) -> Case:
    """Return a case of which an independent reading says what is in it."""
    return Case(content, read_edf_plainly(content), must_read)


def any_bundled(rng: np.random.Generator) -> bytes:
    """Return a bundled file."""
    return bundled(int(rng.integers(12)), int(rng.integers(1, 3)))


def edf_bits_of_header(rng: np.random.Generator) -> Case:
    """Flip up to three bits of the header."""
    content = any_bundled(rng)
    places = rng.integers(256 * (n_signals(content) + 1), size=rng.integers(1, 4))
    return edf_case(flipped(content, places, rng))


def edf_bits_of_numbers(rng: np.random.Generator) -> Case:
    """Flip up to 1,000 bits of the numbers."""
    content = any_bundled(rng)
    places = rng.integers(256 * (n_signals(content) + 1), len(content), 10 ** rng.integers(4))
    return edf_case(flipped(content, places, rng), must_read=True)


def edf_truncated(rng: np.random.Generator) -> Case:
    """Cut a file anywhere."""
    content = any_bundled(rng)
    return Case(content[: int(rng.choice([rng.integers(5120), rng.integers(len(content))]))])


def edf_shifted(rng: np.random.Generator) -> Case:
    """Take out or put in some bytes anywhere."""
    content = any_bundled(rng)
    place = int(rng.choice([rng.integers(5120), rng.integers(len(content))]))
    length = int(rng.choice([1, 2, 8, 256]))
    if rng.random() < 0.5:
        return Case(content[:place] + content[place + length :])
    return Case(content[:place] + rng.bytes(length) + content[place:])


def edf_other_bytes(rng: np.random.Generator) -> Case:
    """Write random bytes, text, or another file in its place; or zeros into a block of it."""
    content = any_bundled(rng)
    start = int(rng.integers(5000))
    kinds = [
        b"",
        rng.bytes(rng.integers(1, 9000)),
        b"0".ljust(8) + rng.bytes(9000),
        b" " * 10_000,
        b"\0" * 10_000,
        b"0" * 10_000,
        b"9" * 10_000,
        good_dat().content[:100_000],
        content[:start] + bytes(256) + content[start + 256 :],
    ]
    return edf_case(kinds[rng.integers(len(kinds))])


NASTY = (
    "", "-1", "0", "-0", "nan", "inf", "-inf", "1e9", "1e99", "1E-9", "1e-300", "99999999",
    "-9999999", "\xff" * 8, "\xbd", "1_0", "0x10", "1,5", "1.5", "+", ".", "\0", "\n", "1\n2",
    "\x1b[31m", "32768", "-32769", "2147483", "0.000001", "1000000", "NaN(1)", "1 2", "\x85",
)  # fmt: skip


def edf_nasty_fields(rng: np.random.Generator) -> Case:
    """Put numbers that are none, huge, tiny or negative, and odd characters, into a field."""
    content = any_bundled(rng)
    field = str(rng.choice([*FIELDS, *SIGNAL_FIELDS]))
    changed = with_field(content, field, NASTY[rng.integers(len(NASTY))], int(rng.integers(19)))
    return edf_case(changed)


def edf_counts(rng: np.random.Generator) -> Case:
    """Declare no signals or thousands, and records and samples beyond the file."""
    content = any_bundled(rng)
    field, values = [
        ("signals", ["0", "1", "18", "20", "256", "9999", "-1", "-999"]),
        ("records", ["0", "-1", "1", "999999", "99999999", "183"]),
        ("header bytes", ["0", "256", "5118", "99999999", "-5120", "5376"]),
        ("samples", ["0", "-128", "127", "129", "99999999", "-9999999"]),
    ][rng.integers(4)]
    return Case(with_field(content, field, str(rng.choice(values)), int(rng.integers(19))))


def some_eeg(rng: np.random.Generator, n_records: int, n: int, n_chans: int = 4) -> list[Any]:
    """Return a few signals of noise, as `write_edf` takes them."""
    labels = ["EEG Fp1", "EEG Fp2", "EEG F3", "EEG F4"] + [f"EEG {i}" for i in range(n_chans)]
    return [(labels[i], "uV", rng.integers(-999, 999, (n_records, n))) for i in range(n_chans)]


def edf_rates(rng: np.random.Generator) -> Case:
    """Sample absurdly fast or slowly, for no time or for ages, or channels at different rates."""
    duration, n = [
        ("1e-9", 128), ("0.000001", 500), ("99999999", 128), ("1e9", 500), ("0", 128), ("-1", 128),
        ("nan", 128), ("inf", 128), ("0.999999", 128), ("1.0001", 128), ("1", 1), ("1", 99),
        ("1", 60_000), ("0.0001", 1), ("2", 1), ("1e-300", 128), ("3", 31),
    ][rng.integers(17)]  # fmt: skip
    signals = some_eeg(rng, 70, n)
    if rng.random() < 0.2:
        signals, duration = some_eeg(rng, 70, 128), "1"
        signals[1] = ("EEG F3", "uV", rng.integers(-99, 99, (70, int(rng.choice([1, 64, 9999])))))
    return Case(write_edf(signals, duration))


def edf_good(rng: np.random.Generator) -> Case:
    """Save EEG as other programs do: rates, records, other channels, EDF+ and annotations."""
    duration, n = [("1", 500), ("1", 256), ("0.5", 64), ("10", 1280), ("1", 1000), ("0.1", 50)][
        rng.integers(6)
    ]
    n_records = int(70 / float(duration))
    content = any_bundled(rng)
    names = [f"EEG {name}" for name in "Fp1 Fp2 F3 F4 F7 F8 T3 T4 C3 C4 T5 T6".split()]
    names += [f"EEG {name}" for name in "P3 P4 O1 O2 Fz Cz Pz".split()]
    signals = [(name, "uV", rng.integers(-9999, 9999, (n_records, n))) for name in names]
    signals += [("ECG ECG", "mV", rng.integers(-9, 9, (n_records, 7)))] * int(rng.integers(2))
    good = True
    if rng.random() < 0.7:
        notes, good = annotations(rng, n_records)
        signals.append(("EDF Annotations", "", notes))
    content = write_edf(signals, duration, reserved="EDF+C")
    if rng.random() < 0.3:
        content = with_field(content, "patient", "M\xfcller, J\xf6rg \xb5")
    return edf_case(content, must_read=good)


def annotations(rng: np.random.Generator, n_records: int) -> tuple[np.ndarray, bool]:
    """Return an annotation signal, (n_records, n), and whether it is good: whole, and not long."""
    n = int(rng.choice([30, 300, 3000]))
    kinds = [
        b"+0\x14\x14\0+1\x14rest\x14\0".ljust(2 * n, b"\0"),
        b"+1\x14x" * n,
        b"+" + b"1" * 2 * n,
        b"\xff" * 2 * n,
        rng.bytes(2 * n),
        b"+9e99\x14x\x14\0" * n,
    ]
    kind = rng.integers(len(kinds))
    notes = np.tile(np.frombuffer(kinds[kind][: 2 * n], "<i2"), (n_records, 1))
    return notes, kind == 0 and notes.nbytes <= 2**16


def edf_ranges(rng: np.random.Generator) -> Case:
    """Give a channel no range, a huge one, or none of numbers; or another unit."""
    content = any_bundled(rng)
    fields = [
        {"digital min": "0", "digital max": "0"},
        {"digital min": "32767", "digital max": "-32768"},
        {"digital min": "-99999", "digital max": "99999"},
        {"digital min": "nan"},
        {"physical min": "0", "physical max": "0"},
        {"physical min": "-1e30", "physical max": "1e30"},
        {"physical min": "nan", "physical max": "nan"},
        {"physical min": "-inf", "physical max": "inf"},
        {"unit": "nV"},
        {"unit": ""},
        {"unit": "\xff\xfe"},
        {"unit": "V"},
    ][rng.integers(12)]
    signal = int(rng.integers(19))
    for field, value in fields.items():
        content = with_field(content, field, value, signal)
    return Case(content)


def edf_labels(rng: np.random.Generator) -> Case:
    """Name channels twice, not at all, or in characters that are none."""
    content = any_bundled(rng)
    signal, other = rng.choice(19, 2, replace=False)
    place = 256 + 16 * int(other)
    labels = [
        content[place : place + 16], content[place : place + 16].upper(), "", "EEG", "EEG ",
        "EEG \0", "EEG F3\nF4", "EEG \x1b[31mF3", "EEG \xe9\xff", "EEG A2-A1", "EEG Q7",
        "EDF Annotations", "EEG " + "X" * 12, "\xff" * 16, "eeg fp1", "EEG T7",
    ]  # fmt: skip
    changed = with_field(content, "label", labels[rng.integers(len(labels))], int(signal))
    if rng.random() < 0.2:
        return Case(with_field(content, "reserved", "EDF+D"))
    return edf_case(changed)


def edf_stretched(rng: np.random.Generator) -> Case:
    """Declare a recording of days, and stretch the file to it with zeros."""
    content = any_bundled(rng)
    n_records = int(rng.choice([99_999_999, 10**6, 20_000]))
    size = len(content[:5120]) + 2 * 128 * 19 * n_records
    many = write_edf(some_eeg(rng, 1, 128, n_chans=300))
    kinds = [(with_field(content, "records", str(n_records)), size), (content, 2**40), (many, None)]
    content, size = kinds[rng.integers(len(kinds))]
    return Case(content, size=size)


def edf_long(rng: np.random.Generator) -> Case:
    """Record for hours, up to the largest file that is read."""
    content = bundled(int(rng.integers(12)), 1)
    seconds = int(rng.integers(5_000, 13_700))
    numbers = np.resize(np.frombuffer(content[5120:], "<i2"), seconds * 128 * 19).tobytes()
    return edf_case(with_field(content[:5120], "records", str(seconds)) + numbers, must_read=True)


#: Every kind of file, by source and name: a function of a random generator that returns a `Case`.
KINDS: dict[str, dict[str, Callable[[np.random.Generator], Case]]] = {
    "deap": {
        "full size, good": partial(dat_good, n_trials=40),
        "full size, bits of the header flipped": partial(dat_bits_of_header, n_trials=40),
        "full size, bits of the numbers flipped": partial(dat_bits_of_numbers, n_trials=40),
        "full size, truncated": partial(dat_truncated, n_trials=40),
        "full size, copied again and again": dat_large_bombs,
        "good, of other programs": dat_good,
        "truncated": dat_truncated,
        "bits of the header flipped": dat_bits_of_header,
        "bits of the numbers flipped": dat_bits_of_numbers,
        "bytes taken out or put in": dat_shifted,
        "something else": dat_other_bytes,
        "wrong types, shapes and values": dat_wrong_content,
        "arrays of objects": dat_objects,
        "tricks that reach code": dat_tricks,
        "huge declared sizes": dat_huge_sizes,
        "huge sizes on disk": dat_stretched,
        "deep nesting": dat_nested,
        "zip bombs of opcodes": dat_bombs,
        "random opcodes": dat_random_opcodes,
    },
    "eegmat": {
        "full size, hours long": edf_long,
        "good, of other programs": edf_good,
        "truncated": edf_truncated,
        "bits of the header flipped": edf_bits_of_header,
        "bits of the numbers flipped": edf_bits_of_numbers,
        "bytes taken out or put in": edf_shifted,
        "something else": edf_other_bytes,
        "nasty values in fields": edf_nasty_fields,
        "numbers of signals, records, samples": edf_counts,
        "sampling rates and durations": edf_rates,
        "ranges and units": edf_ranges,
        "labels, and gaps": edf_labels,
        "huge sizes on disk": edf_stretched,
    },
}
FULL_SIZED = {kind for kinds in KINDS.values() for kind in kinds if kind.startswith("full size")}


if __name__ == "__main__":
    command_line(main, Config)
