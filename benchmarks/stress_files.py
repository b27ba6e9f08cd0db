"""What becomes of recordings that strangers made: damaged, absurd and hostile files.

    .venv/bin/python benchmarks/stress_files.py --n 1000 --seed 0

Half of the files are DEAP's `.dat`, made from simulated subjects, half EDF files, made from the
bundled EEGMAT. Each is read as preprocessing reads it, but may take 3 s of processor time only.
What comes back must be one sentence that names the file, or what an independent reading of the file
gives; nothing may be printed, warned of or run. Prints a table; exits with 1 if any file failed.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import pickle
import re
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import edfio
import numpy as np
from scipy.signal import resample_poly

from benchmarks.documents import table
from de3dgan.base.cli import command_line
from de3dgan.base.errors import UserError
from de3dgan.data import bounded, sources
from de3dgan.data.simulation import Signal, simulate_subject
from de3dgan.data.sources import deap, eegmat
from de3dgan.data.synthetic import write_deap

#: Seconds of processor time that a file may take, and of waiting on a busy machine.
CPU_SECONDS, SECONDS = 3, 60
#: The file that hostile ones try to make.
CANARY = "canary"
RNG = np.random.Generator
#: What makes a file of each source and kind from a random generator.
KINDS: dict[tuple[str, str], Callable[[RNG], Case]] = {}
T = TypeVar("T")


@dataclass(frozen=True)
class Config:
    """How many files, and which."""

    n: int = 1000  # files, half of them .dat and half EDF
    seed: int = 0  # of all that is random in them


@dataclass(frozen=True)
class Case:
    """A file of a stranger, and what has to come of it."""

    content: bytes  # what it starts with
    expected: list[np.ndarray] | None = None  # what reading gives; None: it has to be refused
    must_read: bool = False  # whether it is a good file, which must not be refused
    size: int | None = None  # bytes to which it is stretched; they take no room on disk
    recording: int = 2  # which file of an EEGMAT subject it is; the other is the first subject's


def kind(source: str, name: str) -> Callable[[Any], Any]:
    """Register a function of a random generator that returns a `Case`."""
    return lambda function: KINDS.setdefault((source, name), function)


def main(config: Config) -> None:
    """Try all files, and print the table."""
    bounded.CPU_SECONDS = CPU_SECONDS
    rows: dict[str, list[dict[str, Any]]] = {}
    turns = {s: itertools.cycle([k for k in KINDS if k[0] == s]) for s in ("deap", "eegmat")}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for number, source in zip(range(config.n), itertools.cycle(turns), strict=False):
            name = next(turns[source])
            case = KINDS[name](np.random.default_rng([config.seed, number]))
            rows.setdefault(": ".join(name), []).append(tried(Path(folder), source, case))
    total = [row for of_kind in rows.values() for row in of_kind]
    heads = ("kind", "tried", "refused", "correct", "failed", "slowest (s)", "most memory (MiB)")
    lines = []
    for name, of_kind in [*sorted(rows.items()), ("all", total)]:
        hows = [row["how"] for row in of_kind]
        slowest, peak = (max(row[key] for row in of_kind) for key in ("seconds", "peak_mib"))
        counts = [hows.count(how) for how in heads[2:5]]
        lines.append((name, len(of_kind), *counts, f"{slowest:.1f}", f"{peak:.0f}"))
    print(*table(heads, lines), sep="\n")
    failed = [f"\n{name}: {row['why']}" for name in rows for row in rows[name] if row["why"]]
    print(*failed, sep="\n")
    sys.exit(bool(failed))


def tried(folder: Path, source: str, case: Case) -> dict[str, Any]:
    """Read a subject, and return how it went: `how`, `why` it failed, `seconds` and `peak_mib`."""
    if source == "deap":
        module, bad, files = deap, 0, [folder / "s01.dat"]
    else:
        module, bad = eegmat, case.recording - 1
        files = [folder / f"Subject00_{number}.edf" for number in (1, 2)]
        files[1 - bad].write_bytes(bundled(0, 2 - bad))
    files[bad].write_bytes(case.content)
    if case.size is not None:
        os.truncate(files[bad], case.size)
    start, printed, data, message, why = time.perf_counter(), io.StringIO(), None, "", ""
    memory("clear")
    with (
        warnings.catch_warnings(record=True) as warned,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        warnings.simplefilter("always")
        try:
            subject = sources.read_checked(module, "s01", files)
            ratings = np.array([list(trial.ratings.values()) for trial in subject.trials])
            data = [*subject.recordings, ratings]
        except UserError as error:
            message = str(error)
        except Exception as error:
            why = repr(error)
    seconds = time.perf_counter() - start
    if (folder / CANARY).exists():
        (folder / CANARY).unlink()
        why = "code of the file ran"
    elif warned or printed.getvalue():
        why = f"printed {[str(w.message) for w in warned]} {printed.getvalue()!r}"
    elif seconds > SECONDS:
        why = f"took {seconds:.0f} s"
    elif not why and data is None:
        named = any(path.name in message for path in files)
        if case.must_read:
            why = f"a good file is refused: {message}"
        elif not (named and message.endswith(".") and message.isprintable() and len(message) < 999):
            why = f"no sentence about the file: {message!r}"
    elif not why and not same(data, case.expected):
        why = "read, but not what is in it"
    how = "failed" if why else "refused" if data is None else "correct"
    return {"how": how, "why": why, "seconds": seconds, "peak_mib": memory("peak")}


def same(data: list[np.ndarray], expected: list[np.ndarray] | None) -> bool:
    """Return whether arrays are as expected, but for the last digits that EDF readers round."""
    return (expected is not None and len(data) == len(expected)) and all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-9, atol=1e-8)
        for a, b in zip(data, expected, strict=True)
    )


def memory(what: str) -> float:
    """Return the most that the reading process took since this was told to "clear", in MiB.

    0 if it has ended, as it does if it takes too long. Its bound is set by the system.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        process = Path("/proc", str(bounded._child.process.pid))
        if what == "clear":
            (process / "clear_refs").write_text("5")
        else:
            return int(re.search(r"VmHWM:\s+(\d+)", (process / "status").read_text())[1]) / 2**10
    return 0.0


# --- damage of both formats


def one_of(rng: RNG, items: Sequence[T]) -> T:
    """Return a random one of any things."""
    return items[rng.integers(len(items))]


def flipped(content: bytes, places: np.ndarray, rng: RNG) -> bytes:
    """Return `content` with a bit flipped at each place."""
    changed = bytearray(content)
    for place in places:
        changed[place] ^= 1 << rng.integers(8)
    return bytes(changed)


def shifted(content: bytes, head: int, rng: RNG) -> bytes:
    """Return `content` with some bytes taken out or put in, as often within `head` as anywhere."""
    place = int(rng.choice([rng.integers(head), rng.integers(len(content)), len(content)]))
    length = int(rng.choice([1, 2, 8, 256]))
    if rng.random() < 0.5 and place < len(content):
        return content[:place] + content[place + length :]
    return content[:place] + rng.bytes(length) + content[place:]


def truncated(content: bytes, head: int, rng: RNG) -> bytes:
    """Return `content` cut off, as often within `head` as anywhere."""
    return content[: rng.integers(rng.choice([head, len(content)]))]


# --- .dat files


@cache
def good_dat(n_trials: int = 1) -> tuple[bytes, np.ndarray, np.ndarray, list[int]]:
    """Return a simulated file, its data and labels, and where labels and data begin in it."""
    data, labels = simulate_subject(1, Signal(n_trials=n_trials))
    with tempfile.TemporaryDirectory() as folder:
        content = write_deap(folder, 1, Signal(n_trials=n_trials))[0].read_bytes()
    return content, data, labels, [content.index(labels.tobytes()), len(content) - 4 - data.nbytes]


def expected(data: np.ndarray, labels: np.ndarray) -> list[np.ndarray] | None:
    """Return what reading gives: a recording per trial, and the ratings; None if they are none."""
    if not (np.isfinite(data[:, :32]).all() and ((labels >= 1) & (labels <= 9)).all()):
        return None
    return [*data[:, :32].astype(np.float64), labels.astype(np.float64)]


def read_dat_plainly(content: bytes) -> list[np.ndarray] | None:
    """Return what a file holds that differs from a good one in bytes, but not in where they lie."""
    _, data, labels, places = good_dat()
    arrays = []
    for place, array in zip(places, (labels, data), strict=True):
        head = content.rfind(b"numpy\ndtype\n", 0, place) + len(b"numpy\ndtype\n")
        layout = "F" if content[place - 6] == 0x88 else "C"
        try:
            code = content[head + 24 : head + 25] + content[head + 2 : head + 4]
            dtype = np.dtype(code.decode())
            numbers = np.frombuffer(content, dtype, array.size, place)
        except (TypeError, ValueError):
            return None
        arrays.append(numbers.reshape(array.shape, order=layout))
    return expected(arrays[1], arrays[0])


kind("deap", "truncated")(lambda rng: Case(truncated(good_dat()[0], 600, rng)))
kind("deap", "bytes taken out or put in")(lambda rng: Case(shifted(good_dat()[0], 600, rng)))


@kind("deap", "bits flipped")
def dat_bits(rng: RNG) -> Case:
    """Flip up to three bits of what is not an array's numbers, or up to 1,000 of those."""
    content, _, labels, (first, second) = good_dat()
    places = [*range(first), *range(first + labels.nbytes, second)]
    if rng.random() < 0.5:
        flips = rng.choice(places, rng.integers(1, 4))
    else:
        flips = rng.integers(second, len(content) - 4, 10 ** rng.integers(4))
    content = flipped(content, flips, rng)
    return Case(content, read_dat_plainly(content))


@kind("deap", "something else")
def dat_other(rng: RNG) -> Case:
    """Write random bytes, opcodes, an archive, an array or an EDF file in its place."""
    opcodes = bytes(rng.choice(list(b"(cipqtRb}]u.0123456789\n"), 3000).tolist())
    archives = [b"PK\x03\x04" + rng.bytes(500), b"\x1f\x8b\x08" + rng.bytes(500)]
    array = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n"
    others = [b"", rng.bytes(rng.integers(1, 5000)), opcodes, *archives, array, bundled(0, 1)]
    return Case(one_of(rng, others))


@kind("deap", "good, of other programs")
def dat_good(rng: RNG) -> Case:
    """Save a good file in another protocol, number type or layout, or in full size."""
    content, data, labels, _ = good_dat(40 if rng.random() < 0.1 else 1)
    if rng.random() < 0.2:
        return Case(content, expected(data, labels), must_read=True)
    data = data.astype(str(rng.choice(["<f8", ">f8", "<f4", ">f4", "<i4", ">i2", "<i8"])))
    data = np.asfortranarray(data) if rng.random() < 0.3 else data
    protocol = int(rng.integers(pickle.HIGHEST_PROTOCOL + 1))
    raw = pickle.dumps({"labels": labels, "data": data}, protocol)
    if protocol < 4 and rng.random() < 0.3:  # NumPy 1
        raw = raw.replace(b"numpy._core.", b"numpy.core.")
    return Case(raw, expected(data, labels), must_read=True)


@kind("deap", "wrong types, shapes and values")
def dat_wrong(rng: RNG) -> Case:
    """Pickle arrays of wrong types and shapes, objects, values that are none, and no arrays."""
    _, data, labels, _ = good_dat()
    bad_data, bad_labels = data.copy(), labels.copy()
    bad_data[0, rng.integers(32), rng.integers(8064)] = rng.choice([np.nan, np.inf, -np.inf])
    bad_labels[0, rng.integers(4)] = rng.choice([np.nan, np.inf, 0, 0.99, 9.01, -5, 1e300])
    shapes = [(40, 1, 8064), (1, 8064, 40), (-1,), (1, 1, 40, 8064), (2, 20, 8064)]
    types = ["?", "S8", "U2", "c16", "M8[s]", "m8[s]", "V8", "g", "O", [("a", "f8")], [("a", "O")]]
    wrong: list[Any] = [bad_data, data[:0], np.zeros(()), data.tolist()[0][0], data.tobytes()]
    wrong += [np.ma.masked_array(data), np.array([data, None], dtype=object)]
    wrong += [data.reshape(shape) for shape in shapes] + [np.zeros(data.shape, t) for t in types]
    bad: list[Any] = [{"labels": labels, "data": value} for value in wrong]
    for value in (bad_labels, labels.T, np.repeat(labels, 2, 0), labels.astype(object)):
        bad.append({"labels": value, "data": data})
    bad += [{"data": data}, [labels, data], (data,), data, "data", None, 1.5]
    return Case(pickle.dumps(one_of(rng, bad), int(rng.integers(6))))


#: What published tricks import, with arguments by which it would make the canary.
TOUCH, OPEN = f"touch {CANARY}", f"open({CANARY!r}, 'w')"
TRICKS: list[tuple[str, str, tuple[str, ...]]] = [
    *((module, "system", (TOUCH,)) for module in ("os", "posix", "sys.modules.os")),
    *(("subprocess", name, (TOUCH, "1")) for name in ("Popen", "run", "getoutput")),
    *((m, n, (OPEN,)) for m in ("builtins", "__builtin__") for n in ("exec", "eval", "apply")),
    ("builtins", "getattr", ("os", "system")), ("importlib", "import_module", ("antigravity",)),
    ("operator", "methodcaller", ("system", TOUCH)), ("runpy", "_run_code", (OPEN, "1")),
    ("shutil", "copyfile", ("s01.dat", CANARY)), ("io", "open", (CANARY, "w")),
    ("pickle", "loads", (CANARY,)), ("copyreg", "add_extension", ("os", "system", "1")),
    ("_codecs", "decode", (CANARY, "rot13")), ("_codecs", "encode", (CANARY, "zip")),
    ("numpy", "load", (CANARY,)), ("numpy", "dtype.newbyteorder", ("S",)),
    ("numpy.core.multiarray", "scalar", (CANARY,)), ("numpy._core.numeric", "sys.modules", ()),
    ("numpy._core.multiarray", "fromfile", (CANARY,)), ("torch", "load", (CANARY,)),
    ("de3dgan.data.sources.deap", "write", (CANARY,)), ("__main__", "__builtins__", ()),
]  # fmt: skip
#: All that a `.dat` may name.
NAMES = [("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")]
NAMES += [(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")]
NAMES += [(f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")]


def text(value: str) -> bytes:
    """Return the opcode for a string."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def named(module: str, name: str) -> bytes:
    """Return the opcode for a global."""
    return f"c{module}\n{name}\n".encode()


def packed(values: tuple[str, ...]) -> bytes:
    """Return the opcodes for a tuple of strings."""
    return b"(" + b"".join(map(text, values)) + b"t"


DTYPE, ENCODE = named("numpy", "dtype"), named("_codecs", "encode")


def calls(module: str, name: str, values: tuple[str, ...]) -> list[bytes]:
    """Return all ways to call a name with strings, each as opcodes."""
    function, dotted = named(module, name), f"{module}.{name}"
    args, strings = packed(values), b"".join(map(text, values))
    rebuild = named("numpy.core.multiarray", "_reconstruct")
    return [
        function + args + b"R",
        text(module) + text(name) + b"\x93" + args + b"R",  # STACK_GLOBAL
        b"(" + strings + f"i{module}\n{name}\n".encode(),  # INST
        b"(" + function + strings + b"o",  # OBJ
        function + args + b"\x81",  # NEWOBJ
        function + args + b"}\x92",  # NEWOBJ_EX
        DTYPE + text("f8") + b"\x85R}" + text("__setstate__") + function + b"sb" + args + b"b",
        named("numpy", "ndarray") + b"N}" + text("__call__") + function + b"s\x86b" + args + b"R",
        rebuild + function + b")" + text("b") + b"\x87R",
        DTYPE + function + b"\x85R",
        ENCODE + function + text("latin1") + b"\x86R",
        b"\x82\x01" + args + b"R",  # EXT1
        b"\x84\x01\x00\x00\x00" + args + b"R",  # EXT4
        f"P{dotted}\n".encode() + args + b"R",  # PERSID
        text(dotted) + b"Q" + args + b"R",  # BINPERSID
        text(dotted) + args + b"R",
        b"\x97\x98" + function + args + b"R",  # NEXT_BUFFER
    ]


PLACES = ("whole", "before", "value", "key", "list", "after")


def hostile(opcodes: bytes, where: str) -> Case:
    """Return a pickle with `opcodes`, which put one thing on the stack, somewhere in it."""
    good, data, labels, _ = good_dat()
    more = text("more")
    content = {
        "whole": b"\x80\x04" + opcodes + b".",
        "before": good[:4] + more + opcodes + good[4:],
        "value": good[:-2] + more + opcodes + b"u.",
        "key": good[:-2] + opcodes + b"Nu.",
        "list": good[:-2] + more + b"]" + opcodes + b"au.",
        "after": good + opcodes + b".",
    }[where]
    return Case(content, None if where == "whole" else expected(data, labels))


@kind("deap", "tricks that reach code")
def dat_tricks(rng: RNG) -> Case:
    """Call what would make the canary, by any opcode, anywhere in an otherwise good file."""
    ways = calls(*one_of(rng, TRICKS))
    return hostile(one_of(rng, ways), str(rng.choice(PLACES)))


@kind("deap", "arrays that lie about their memory")
def dat_lies(rng: RNG) -> Case:
    """Change the type of a good file's numbers to pointers, or its shape to what is not there."""
    good = good_dat()[0]
    if rng.random() < 0.5:
        code = str(rng.choice(["O8", "V8", "S8", "U2", "M8", "|O"])).encode()
        return Case(good.replace(b"f8", code))
    shape = b"(J" + struct.pack("<iBiBi", 1, 74, 40, 74, 8064) + b"t"
    assert good.count(shape) == 1
    others = [
        [2**31 - 1] * 3, [2**16, 2**16, 2**32 + 1], [-1, 40, 8064], [-1, -40, 8064],
        [0, 0, 0], [1] * 100, [2**62, 2**62, 4], [800, 40, 8064], [10**9, 40, 8064],
    ]  # fmt: skip
    numbers = one_of(rng, others)
    new = b"".join(b"\x8a\x09" + n.to_bytes(9, "little", signed=True) for n in numbers)
    return Case(good.replace(shape, b"(" + new + b"t"))


@kind("deap", "huge declared sizes")
def dat_huge(rng: RNG) -> Case:
    """Declare lengths, places in the memo and numbers beyond all files."""
    huge = struct.pack("<I", rng.choice([2**31 - 1, 2**31, 2**32 - 1, 2**24]))
    huge_8 = struct.pack("<Q", rng.choice([2**63 - 1, 2**40, 2**62, 2**34]))
    parts = [bytes([code]) + huge for code in b"TXBrj\x8b"]
    parts += [bytes([code]) + huge_8 for code in b"\x8d\x8e\x96\x95"]
    parts += [b"Np999999999999\n", b"Nr" + b"\xff" * 4, b"I" + b"9" * 10**6 + b"\n", b"F1e999999\n"]
    parts += [b"\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6, b"\x8a\xff" + b"\x7f" * 255]
    case = hostile(one_of(rng, parts), "whole" if rng.random() < 0.5 else "value")
    return replace(case, size=10**12) if rng.random() < 0.2 else case


@kind("deap", "huge sizes on disk")
def dat_stretched(rng: RNG) -> Case:
    """Declare sizes that the file has: it is stretched with zeros, which take no room on disk."""
    good, *_, places = good_dat()
    head, length = good[: places[1] - 5], struct.pack("<Q", 2**27)
    kinds = [(head + b"\x8e" + length, 2**28), (b"\x80\x04\x8d" + length, 2**28), (good, 2**40)]
    kinds += [(start, 2**27) for start in (head + b"S'", head + b"V", b"I", b"cos\n", b"")]
    content, size = one_of(rng, kinds)
    return Case(content, size=size)


@kind("deap", "deep nesting")
def dat_nested(rng: RNG) -> Case:
    """Nest lists, tuples, dictionaries, marks and calls, up to a million deep."""
    n = int(10 ** rng.uniform(1, 6))
    kinds = [
        b"]" * n + b"a" * (n - 1), b"(" * n + b"t" * n, b"(" * n + b"l" * n, b"N" + b"\x85" * n,
        b"(" * n, b"K\x00" + b"}" * n + b"NNs" * n, (b"}" + text("a")) * n + b"N" + b"s" * n,
        b"N" + b"\x85" * n + b"q\x02}h\x02Ns", DTYPE * n + text("f8") + b"\x85R" * n,
        b"\x80\x04" * n + b"N", b"\x95\0\0\0\0\0\0\0\0" * n + b"N",
    ]  # fmt: skip
    return hostile(one_of(rng, kinds), "value")


@kind("deap", "zip bombs of opcodes")
def dat_bombs(rng: RNG) -> Case:
    """Copy and share things so that they double, or are many times as large as the file."""
    n, payload = int(10 ** rng.uniform(1, 6)), rng.bytes(10**5)
    string = b"X" + struct.pack("<I", 10**7) + b"\xc3\xa9" * 5_000_000
    again = ENCODE + b"h\x01" + text("latin1") + b"\x86R"
    array = named("numpy._core.numeric", "_frombuffer") + b"(B" + struct.pack("<I", 10**5) + payload
    kinds = [
        b"]" + b"2a" * n,  # a list in itself
        b"N" + b"2\x86" * n,  # a tuple of itself twice, and so on
        b"N" + b"q\x01h\x01\x86" * 400 + b"q\x02}h\x02Ns",  # which takes for ever to hash
        b"N" + b"\x94" * n,
        b"(" + b"N" * n + b"l",
        b"](" + (b"N" * 100 + b"e(") * (n // 100) + b"e",
        string + b"q\x010](" + again * n + b"e",
        b"]q\x01(" + b"h\x01" * n + b"e",
        b"}(" + b"".join(text(str(i)) + b"N" for i in range(min(n, 10**5))) + b"u",
        array + b"q\x05" + b"h\x05" * n + b"t",
        b"(1" * n + b"N",
        DTYPE + text("f8") + b"\x85R" + (b"(K\x03" + text(">") + b"tb") * n,
    ]
    return hostile(one_of(rng, kinds), "value" if rng.random() < 0.7 else "whole")


@kind("deap", "random opcodes")
def dat_random(rng: RNG) -> Case:
    """Put random opcodes one after the other, by themselves or within an otherwise good file."""
    parts = [bytes([code]) for code in range(256)] * 2 + [named(*name) for name in NAMES] * 10
    parts += [*map(text, ("f8", "<", "data", "labels", "latin1", "C"))] * 10
    parts += [b"K\x01", b"M\x80\x1f", b"q\x01", b"h\x01", b"I00\n", b"S'a\\x00'\n", b"Va\n"] * 5
    parts += [b"(", b"t", b"R", b"b", b"\x85", b"\x86", b"\x87", b"}", b"s", b"u", b"]", b"a"] * 20
    chosen = rng.integers(len(parts), size=int(10 ** rng.uniform(0, 3)))
    return hostile(b"".join(parts[i] for i in chosen), str(rng.choice(PLACES)))


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
N_SIGNALS, HEAD = 19, 256 * 20


def with_field(content: bytes, field: str, value: str, signal: int = 0) -> bytes:
    """Return a bundled EDF file with another value in a field of its header."""
    place, width = FIELDS.get(field) or SIGNAL_FIELDS[field]
    if field in SIGNAL_FIELDS:
        place = 256 + N_SIGNALS * place + width * signal
    return content[:place] + value.encode("latin1").ljust(width)[:width] + content[place + width :]


@cache
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
                values = resample_poly(values, ratio.numerator, ratio.denominator, padtype="edge")
            name = label.upper().removeprefix("EEG ")  # of which T3 and T7 are one electrode
            names.append({"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}.get(name, name))
            eeg.append(values * 1e6)
        return names, np.stack(eeg)[:, :-256]
    except (ValueError, KeyError, ZeroDivisionError, UnicodeError, IndexError):
        return None


def edf_case(content: bytes, recording: int = 2, must_read: bool = False) -> Case:
    """Return a case of which an independent reading says what is in it and the other recording."""
    pair = [read_edf_plainly(bundled(0, 1)), read_edf_plainly(bundled(0, 2))]
    pair[recording - 1] = read_edf_plainly(content)
    rest, task = pair
    arrays = None
    if content[192:197] != b"EDF+D" and rest and task and sorted(rest[0]) == sorted(task[0]):
        order = [task[0].index(name) for name in rest[0]]
        arrays = [rest[1], task[1][order], np.array([[0.0], [1.0]])]
    return Case(content, arrays, must_read, recording=recording)


def any_bundled(rng: RNG) -> tuple[bytes, int]:
    """Return a bundled file, and which recording it is."""
    recording = int(rng.integers(1, 3))
    return bundled(int(rng.integers(12)), recording), recording


def edf_kind(name: str) -> Callable[[Any], Any]:
    """Register a function of a bundled file's content and a random generator, which damages it."""

    def register(function: Callable[[bytes, RNG], bytes]) -> Any:
        def case(rng: RNG) -> Case:
            content, recording = any_bundled(rng)
            return edf_case(function(content, rng), recording)

        return kind("eegmat", name)(case)

    return register


edf_kind("truncated")(lambda content, rng: truncated(content, HEAD, rng))
edf_kind("bytes taken out or put in")(lambda content, rng: shifted(content, HEAD, rng))


@edf_kind("bits of the header flipped")
def edf_header_bits(content: bytes, rng: RNG) -> bytes:
    """Flip up to three bits of the header."""
    return flipped(content, rng.integers(HEAD, size=rng.integers(1, 4)), rng)


@edf_kind("bits of the numbers flipped")
def edf_bits(content: bytes, rng: RNG) -> bytes:
    """Flip up to 1,000 bits of the EEG."""
    return flipped(content, rng.integers(HEAD, len(content), 10 ** rng.integers(4)), rng)


@edf_kind("something else")
def edf_other(content: bytes, rng: RNG) -> bytes:
    """Write random bytes, text, or another file in its place; or zeros into a block of it."""
    start = int(rng.integers(5000))
    others = [b"", rng.bytes(rng.integers(1, 9000)), b"0".ljust(8) + rng.bytes(9000)]
    others += [c * 10_000 for c in (b" ", b"\0", b"0", b"9")] + [good_dat()[0][:100_000]]
    others += [content[:start] + bytes(256) + content[start + 256 :]]
    return one_of(rng, others)


NASTY = (
    "", "-1", "0", "-0", "nan", "inf", "-inf", "1e9", "1e99", "1E-9", "1e-300", "99999999",
    "-9999999", "\xff" * 8, "\xbd", "1_0", "0x10", "1,5", "1.5", "+", ".", "\0", "\n", "1\n2",
    "\x1b[31m", "32768", "-32769", "2147483", "0.000001", "1000000", "NaN(1)", "1 2", "\x85",
)  # fmt: skip
#: Changes of fields together: counts that do not fit the file, ranges, units, labels and gaps.
ABSURD: list[dict[str, str]] = [
    *({"signals": value} for value in ("18", "20", "256", "9999", "-999")),
    *({"records": value} for value in ("1", "183", "999999")),
    *({"header bytes": value} for value in ("256", "5118", "-5120", "5376")),
    *({"samples": value} for value in ("-128", "127", "129", "99999999")),
    *({"unit": value} for value in ("nV", "", "V", "\xff\xfe")),
    {"digital min": "0", "digital max": "0"}, {"digital min": "32767", "digital max": "-32768"},
    {"digital min": "-99999", "digital max": "99999"}, {"physical min": "0", "physical max": "0"},
    {"physical min": "-1e30", "physical max": "1e30"}, {"physical max": "nan"},
    *({"label": value} for value in ("EEG T7", "EEG Fz", "EEG", "EEG \0", "EEG F3\nF4", "EEG Q7")),
    *({"label": value} for value in ("EEG \x1b[31mF3", "EEG A2-A1", "EDF Annotations", "eeg fp1")),
    {"reserved": "EDF+D"},
]  # fmt: skip


@edf_kind("nasty values in a field")
def edf_nasty(content: bytes, rng: RNG) -> bytes:
    """Put numbers that are none, huge, tiny or negative, and odd characters, into a field."""
    field = str(rng.choice([*FIELDS, *SIGNAL_FIELDS]))
    return with_field(content, field, str(rng.choice(NASTY)), int(rng.integers(N_SIGNALS)))


@edf_kind("counts, ranges, units and labels")
def edf_absurd(content: bytes, rng: RNG) -> bytes:
    """Say what an EDF file may say, but not this one, or none of EEG."""
    signal = int(rng.integers(N_SIGNALS))
    for field, value in one_of(rng, ABSURD).items():
        content = with_field(content, field, value, signal)
    return content


@edf_kind("sampling rates and durations")
def edf_rates(content: bytes, rng: RNG) -> bytes:
    """Sample absurdly fast or slowly, for no time or for ages, or channels at different rates."""
    durations = "1e-9 0.000001 99999999 1e9 0 -1 nan inf 0.999999 1e-300".split()
    rates = [("1", 1), ("1", 99), ("1", 30_000), ("0.0001", 1), ("2", 1), ("3", 31)]
    duration, n = str(rng.choice(durations)), 128
    if rng.random() < 0.5:
        duration, n = one_of(rng, rates)
    lengths = [n] * N_SIGNALS
    if rng.random() < 0.2:
        lengths[1], duration = int(rng.choice([1, 64, 9999])), "1"
    for i, length in enumerate(lengths):
        content = with_field(content, "samples", str(length), i)
    content = with_field(with_field(content, "duration", duration), "records", "70")
    return content[:HEAD] + rng.bytes(2 * 70 * sum(lengths))


@kind("eegmat", "good, of other programs")
def edf_good(rng: RNG) -> Case:
    """Save EEG as edfio does: rates, records, other channels, annotations; or for hours."""
    rates = [(500, 1), (256, 1), (128, 0.5), (128, 10), (1000, 1), (500, 0.1)]
    sfreq, duration = one_of(rng, rates)
    seconds = 800 if rng.random() < 0.1 else 70
    header = bundled(0, 1)[256:]
    labels = [header[16 * i :][:16].decode().strip() for i in range(N_SIGNALS)]
    eeg = rng.normal(0, 30, (N_SIGNALS, seconds * sfreq))
    signals = [
        edfio.EdfSignal(x, sfreq, label=label, physical_dimension="uV", physical_range=(-400, 400))
        for label, x in zip(labels, np.clip(eeg, -400, 400), strict=True)
    ]
    ecg = edfio.EdfSignal(
        rng.normal(0, 1, 10 * seconds), 10, label="ECG ECG", physical_dimension="mV"
    )
    notes = [edfio.EdfAnnotation(second, None, "rest") for second in range(int(rng.integers(70)))]
    file = edfio.Edf(
        signals + [ecg] * int(rng.integers(2)),
        data_record_duration=duration,
        annotations=notes if rng.random() < 0.7 else None,
    )
    content = file.to_bytes()
    if rng.random() < 0.3:
        content = with_field(content, "patient", "M\xfcller, J\xf6rg \xb5")
    return edf_case(content, must_read=True)


@kind("eegmat", "annotations")
def edf_annotations(rng: RNG) -> Case:
    """Annotate with what are no annotations, in which MNE searches for ever."""
    content, recording = any_bundled(rng)
    n, n_records = int(rng.choice([64, 3000])), int(content[236:244])
    notes = [b"+1\x14x" * n, b"+" + b"1" * 2 * n, b"\xff" * 2 * n, rng.bytes(2 * n)]
    note = one_of(rng, [*notes, b"+9e99\x14x\x14\0" * n])[: 2 * n]
    numbers = np.frombuffer(content[HEAD:], "<i2").reshape(n_records, -1)
    numbers = np.hstack([numbers[:, 128:], np.tile(np.frombuffer(note, "<i2"), (n_records, 1))])
    content = content[:HEAD] + numbers.astype("<i2").tobytes()
    # The first signal's column of each field goes to the end, as that of the annotations.
    for place, width in SIGNAL_FIELDS.values():
        start, stop = 256 + N_SIGNALS * place, 256 + N_SIGNALS * (place + width)
        column, rest = content[start : start + width], content[start + width : stop]
        content = content[:start] + rest + column + content[stop:]
    content = with_field(content, "label", "EDF Annotations", N_SIGNALS - 1)
    return Case(with_field(content, "samples", str(n), N_SIGNALS - 1), recording=recording)


@kind("eegmat", "huge sizes on disk")
def edf_stretched(rng: RNG) -> Case:
    """Declare a recording of days, and stretch the file to it with zeros."""
    content, recording = any_bundled(rng)
    n_records = int(rng.choice([99_999_999, 10**6, 20_000]))
    long = with_field(content, "records", str(n_records))
    size = HEAD + 2 * 128 * N_SIGNALS * n_records if rng.random() < 0.7 else 2**40
    return Case(long, size=size, recording=recording)


if __name__ == "__main__":
    command_line(main, Config)
