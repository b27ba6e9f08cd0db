"""Recordings that strangers made: a sentence or the data, whatever is in the file.

The files are those of `benchmarks/stress_files.py`, a few of each kind, read in this process; the
benchmark reads thousands, in one whose memory is limited.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import stress_files
from benchmarks.stress_files import (
    CALLS,
    CANARY,
    FIELDS,
    FULL_SIZED,
    KINDS,
    PLACES,
    SIGNAL_FIELDS,
    TRICKS,
    Case,
    answered,
    arrays_of,
    bundled,
    edf_case,
    good_dat,
    hostile,
    judged,
    named,
    packed,
    python_2,
    read_edf_plainly,
    run,
    some_eeg,
    table,
    text,
    with_field,
    write_edf,
    written,
)
from de3dgan.base.errors import UserError
from de3dgan.data import array_pickle, sources
from de3dgan.data.sources import deap, eegmat
from tests.helpers import one_line

SMALL = [(source, kind) for source in KINDS for kind in KINDS[source] if kind not in FULL_SIZED]
#: The same folder for all examples, as each writes it anew.
EXAMPLES = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Work where hostile files try to make the canary."""
    monkeypatch.chdir(tmp_path)


def outcome(source: str, case: Case, folder: Path, seed: int = 0) -> str:
    """Return what is wrong with how a file is read, or ""."""
    files, expected = written(folder, source, case, np.random.default_rng(seed))
    answer = answered(source, files)
    return answer["why"] or judged(case, files, expected, answer)


def refused(folder: Path, content: bytes) -> str:
    """Return the sentence by which a `.dat` is refused, having checked that nothing ran."""
    path = folder / "s01.dat"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        sources.read_checked(deap, "s01", [path])
    assert not (folder / CANARY).exists()
    message = one_line(error)
    assert "s01.dat" in message
    assert message.isprintable()
    return message


@pytest.mark.parametrize(("source", "kind"), SMALL, ids=[": ".join(kind) for kind in SMALL])
def test_a_file_of_a_stranger_is_a_sentence_or_its_data(source, kind, tmp_path):
    for seed in range(6):
        rng = np.random.default_rng([520, seed])
        start = time.perf_counter()
        assert outcome(source, KINDS[source][kind](rng), tmp_path, seed) == "", f"seed {seed}"
        assert time.perf_counter() - start < stress_files.SECONDS


# --- code in a .dat


@pytest.mark.parametrize("call", CALLS)
def test_no_trick_reaches_code(call, tmp_path):
    for module, name, args in TRICKS:
        refused(tmp_path, hostile(CALLS[call](module, name, args), "whole"))


@pytest.mark.parametrize("where", PLACES)
def test_no_trick_reaches_code_from_within_a_good_file(where, tmp_path):
    for call in CALLS.values():
        refused(tmp_path, hostile(call("os", "system", (f"touch {CANARY}",)), where))


@pytest.mark.parametrize(
    "trick",
    [
        (module, name, args)
        for module, name, args in TRICKS
        if module in ("os", "posix", "subprocess", "builtins")
        and name in ("system", "getoutput", "exec", "eval")
    ],
)
@pytest.mark.parametrize("call", ["GLOBAL, REDUCE", "STACK_GLOBAL, REDUCE", "INST", "OBJ"])
def test_those_tricks_work_on_others(trick, call, tmp_path):
    """Were they not dangerous, the tests above would show nothing."""
    content = hostile(CALLS[call](*trick), "whole")
    pickle.loads(content)
    assert (tmp_path / CANARY).exists()
    (tmp_path / CANARY).unlink()
    assert "import" in refused(tmp_path, content) or call in ("INST", "OBJ")


def test_an_import_is_named_in_one_line(tmp_path):
    for name in ("a\x1b[31m", "a\x85b", "x" * 10**4, "é" * 50):
        assert len(refused(tmp_path, b"\x80\x04" + text("os") + text(name) + b"\x93.")) < 400


@given(st.binary(max_size=300))
@EXAMPLES
def test_any_bytes_are_no_dat(tmp_path, content):
    refused(tmp_path, content)
    refused(tmp_path, b"\x80\x02}(" + content)


@given(st.integers(0, 40), st.lists(st.integers(0, 2**63), min_size=1, max_size=3), st.data())
@EXAMPLES
def test_any_change_of_a_pickles_parts_is_noticed_or_harmless(tmp_path, start, numbers, data):
    """Opcodes of the head of a file are left out, put in twice, or replaced."""
    good = good_dat()
    head = good.content[: good.places[0]]
    parts = list(pieces_of(head))
    place = start % len(parts)
    number = struct.pack("<Q", numbers[0])
    new = data.draw(st.sampled_from([b"", parts[place] * 2, *parts, b"\x8a\x08" + number, number]))
    content = b"".join([*parts[:place], new, *parts[place + 1 :]]) + good.content[len(head) :]
    assert outcome("deap", Case(content, arrays_of(good.data, good.labels)), tmp_path) == ""


def pieces_of(head: bytes) -> list[bytes]:
    """Return the opcodes of a pickle, as far as they are whole."""
    import pickletools

    places = []
    try:
        for _, _, place in pickletools.genops(io.BytesIO(head)):
            places.append(place)
    except ValueError:
        pass
    return [head[a:b] for a, b in zip(places, [*places[1:], len(head)], strict=True)]


# --- what a .dat may look like


def test_pickles_of_python_2_s_older_protocol(tmp_path):
    good = good_dat()
    case = Case(python_2(good), arrays_of(good.data, good.labels), must_read=True)
    assert pickle.loads(case.content, encoding="latin1").keys() == good.dictionary.keys()
    assert outcome("deap", case, tmp_path) == ""


@given(st.binary(max_size=40))
@EXAMPLES
def test_text_is_decoded_piece_by_piece(content):
    """As Python does it at once, wherever a piece ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(array_pickle, "_PIECE", 5)
        for coding in ("utf-8", "latin1"):
            file = io.BytesIO(content.decode("latin1").encode(coding))
            pieces = array_pickle._pieces(file, len(file.getvalue()), coding)
            assert b"".join(pieces) == content


def test_a_dat_is_read_once_and_not_copied(tmp_path):
    import tracemalloc

    (tmp_path / "s01.dat").write_bytes(good_dat(4).content)
    tracemalloc.start()
    subject = deap.read("s01", [tmp_path / "s01.dat"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < good_dat(4).data.nbytes + 2**20
    assert subject.recordings[0].flags.aligned


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "s01.dat")  # which reading would wait for
    with pytest.raises(UserError, match=r"s01\.dat is no file"):
        deap.read("s01", [tmp_path / "s01.dat"])
    folder = tmp_path / "Subject00_1.edf"
    folder.mkdir()
    with pytest.raises(UserError, match=r"Subject00_1\.edf .* no file"):
        eegmat.read("Subject00", [folder, folder])


def test_a_file_that_cannot_be_read_or_held_says_so(tmp_path, monkeypatch):
    path = tmp_path / "s01.dat"
    path.write_bytes(good_dat().content)
    for error, sentence in [
        (PermissionError(13, "Permission denied"), "cannot be read: Permission denied"),
        (MemoryError(), "does not fit into the memory"),
    ]:
        monkeypatch.setattr(np, "fromfile", raising(error))
        with pytest.raises(UserError, match=sentence) as caught:
            deap.read("s01", [path])
        assert "s01.dat" in one_line(caught)


def raising(error: Exception):
    def function(*_: object, **__: object) -> None:
        raise error

    return function


@pytest.mark.parametrize(
    ("opcodes", "reason"),
    [
        (b"N" * 2000, "more parts"),
        (b"(" * 10, "goes on"),
        (b"cnumpy\ndtype\n" + packed(("O8",)) + b"R", "holds no plain numbers"),
        (b"c_codecs\nencode\n" + packed(("a", "rot13")) + b"R", "encoding"),
        (b"T\xff\xff\xff\x7f", "ends too early"),
        (b"\x95" + b"\xff" * 8, "ends too early"),
        (b"\x8e" + b"\xff" * 8, "ends too early"),
        (b"I12x\n", "number"),
        (b"I" + b"1" * 300 + b"\n", "too long"),
        (b"\x82\x01", "a part"),
        (b"K\x01" * 2 + b"R", "no pickle of arrays"),
        (b"h\x05", "no pickle of arrays"),
        (named("numpy", "ndarray") + b")R", "no pickle does"),
    ],
)
def test_the_sentence_says_what_is_wrong(opcodes, reason, tmp_path):
    assert reason in refused(tmp_path, b"\x80\x02" + opcodes + b".")


def test_what_follows_the_end_of_a_pickle_is_noticed(tmp_path):
    assert "goes on" in refused(tmp_path, good_dat().content + b"\0")


# --- EDF files


@pytest.mark.parametrize("recording", [1, 2])
def test_the_independent_reading_agrees_with_edfio(recording, tmp_path):
    """So that the files of the benchmark are judged rightly."""
    import edfio

    content = bundled(5, recording)
    edf = edfio.read_edf(io.BytesIO(content))
    _, eeg = read_edf_plainly(content)
    expected = np.stack([signal.data for signal in edf.signals])[:, :-256]
    np.testing.assert_allclose(eeg, expected, rtol=1e-10, atol=1e-10)


@given(
    st.sampled_from([*FIELDS, *SIGNAL_FIELDS]),
    st.text(st.characters(max_codepoint=255), max_size=16)
    | st.text("0123456789.,eE+-", max_size=8),
    st.integers(0, 18),
)
@EXAMPLES
def test_any_value_of_a_header_is_a_sentence_or_right(tmp_path, field, value, signal):
    content = with_field(bundled(3, 2), field, value, signal)
    assert outcome("eegmat", edf_case(content), tmp_path) == ""


def test_annotations_are_searched_within_reason(tmp_path):
    """MNE's time grows with their square, and these are not even damaged by much."""
    path = tmp_path / "Subject00_1.edf"

    def read(n: int) -> np.ndarray:
        slow = np.tile(np.frombuffer(b"+1\x14x" * n, "<i2"), (70, 1))
        signals = [*some_eeg(np.random.default_rng(0), 70, 128), ("EDF Annotations", "", slow)]
        path.write_bytes(write_edf(signals, reserved="EDF+C"))
        return eegmat._read_edf(path)[1]

    start = time.perf_counter()
    assert read(100).shape == (4, 68 * 128)
    with pytest.raises(UserError, match="more than 64 KiB of annotations"):
        read(4000)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: with_field(c, "reserved", "EDF+D"), "gaps"),
        (lambda c: with_field(c, "records", "999999"), "its header speaks of"),
        (lambda c: with_field(c, "records", "-1"), "has -1 for the number of records"),
        (lambda c: with_field(c, "signals", "9999"), "has 9999 for the number of signals"),
        (lambda c: with_field(c, "duration", "nan"), "'nan' for the duration"),
        (lambda c: with_field(c, "duration", "0"), "not positive"),
        (lambda c: with_field(c, "duration", "1e-6"), "1.28e\\+08 Hz"),
        (lambda c: with_field(c, "duration", "9e9"), "1.42222e-08 Hz"),
        (lambda c: with_field(c, "duration", "0.999999"), "no simple ratio"),
        (lambda c: with_field(c, "digital max", "-32768", 2), "EEG F3 has no range"),
        (lambda c: with_field(c, "physical max", "inf", 2), "the range of EEG F3"),
        (lambda c: with_field(c, "physical max", "1e9", 2), "EEG F3 ranges beyond 1 V"),
        (lambda c: with_field(c, "unit", "nV", 2), "EEG F3 is in 'nV'"),
        (lambda c: with_field(c, "label", "EEG F\n3", 2), r"called 'EEG F\\n3'"),
        (lambda c: c + b"\0\0", "its header speaks of"),
    ],
)
def test_the_sentence_says_what_is_wrong_with_an_edf_file(change, reason, tmp_path):
    path = tmp_path / "Subject00_1.edf"
    path.write_bytes(change(bundled(0, 1)))
    with pytest.raises(UserError, match=reason) as error:
        eegmat._read_edf(path)
    assert "Subject00_1.edf" in one_line(error)


def test_a_channel_that_comes_twice_is_named(tmp_path):
    files = [tmp_path / f"Subject00_{i}.edf" for i in (1, 2)]
    for i, path in enumerate(files, 1):
        path.write_bytes(with_field(bundled(0, i), "label", "EEG T7", 0))
    with pytest.raises(UserError, match=r"Subject00_1\.edf.* T7 comes twice"):
        sources.read_checked(eegmat, "Subject00", files)


# --- the benchmark


def test_the_benchmark_counts_every_file():
    rows = run(6, seed=1)
    assert [row["kind"] for row in rows] == sorted(row["kind"] for row in rows)
    for row in rows:
        assert row["tried"] == row["refused"] + row["correct"] + row["failed"] == 1
        assert row["failed"] == 0, row["why"]
        assert row["slowest_s"] < stress_files.SECONDS
        assert row["peak_mib"] < stress_files.MEMORY / 2**20
    assert "| all | 6 |" in table(rows)[-1]


def read(_subject: str, files: list[Path]) -> sources.Subject:
    """Misbehave as a file says, as if this module were a source; for the next test."""
    wish = files[0].read_text()
    if wish == "hang":
        time.sleep(60)
    if wish == "die":
        os._exit(1)
    if wish == "warn":
        warnings.warn("of something", stacklevel=1)
    if wish == "print":
        print("something")
    if wish == "eat":
        np.ones(int(1.3 * 2**27))
    if wish == "run":
        Path(CANARY).write_text("")
    if wish == "fail":
        raise KeyError("data")
    raise UserError("s01.dat is bad." if wish != "babble" else "s01.dat\nis bad.")


def test_the_benchmark_notices_whatever_goes_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(stress_files, "SECONDS", 5)
    path = tmp_path / "s01.dat"
    found = {}
    with stress_files.Reader(tmp_path) as reader:
        for wish in "hang die warn print eat run fail babble nothing".split():
            path.write_text(wish)
            answer = reader.read("tests.test_strangers", [path])
            found[wish] = answer["why"] or judged(Case(b""), [path], None, answer)
    reasons = {
        "hang": "more than",
        "die": "died",
        "warn": "of something",
        "print": "something",
        "eat": "MemoryError",
        "run": "ran",
        "fail": "KeyError",
        "babble": "no sentence",
    }
    if sys.platform != "linux":  # which alone limits memory
        del reasons["eat"]
    for wish, reason in reasons.items():
        assert reason in found[wish], wish
    assert found["nothing"] == ""


def test_a_wrong_number_is_noticed(tmp_path):
    good = good_dat()
    wrong = arrays_of(good.data + 1e-12, good.labels)
    assert "not what is in it" in outcome("deap", Case(good.content, wrong), tmp_path)
    assert "should be refused" in outcome("deap", Case(good.content), tmp_path)
    assert "good file" in outcome("deap", Case(b"", wrong, must_read=True), tmp_path)
