"""Recordings that strangers made: a sentence or the data, whatever is in the file.

The files are two of each kind of `benchmarks/stress_files.py`, which reads a thousand.
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.stress_files import (
    CANARY,
    DTYPE,
    KINDS,
    PLACES,
    TRICKS,
    Case,
    bundled,
    calls,
    expected,
    good_dat,
    hostile,
    text,
    tried,
    with_field,
)
from de3dgan.base.errors import UserError
from de3dgan.data import bounded, sources
from de3dgan.data.sources import deap, eegmat
from tests.helpers import one_line
from tests.misbehaving import misbehave


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Work where hostile files try to make the canary, and wait for 2 s only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bounded, "CPU_SECONDS", 2)


def refused(content: bytes) -> str:
    """Return the sentence by which a `.dat` is refused, having checked that nothing ran."""
    Path("s01.dat").write_bytes(content)
    with pytest.raises(UserError) as error:
        sources.read_checked(deap, "s01", [Path("s01.dat").resolve()])
    assert not Path(CANARY).exists()
    message = one_line(error)
    assert "s01.dat" in message
    assert "copy or download it anew" in message
    assert message.isprintable()
    return message


@pytest.mark.parametrize("name", KINDS, ids=": ".join)
def test_a_file_of_a_stranger_is_a_sentence_or_its_data(name, tmp_path):
    for seed in range(2):
        case = KINDS[name](np.random.default_rng([520, seed]))
        assert tried(tmp_path, name[0], case)["why"] == "", f"seed {seed}"


def test_a_wrong_number_is_noticed(tmp_path):
    content, data, labels, _ = good_dat()
    wrong = expected(data + 1e-6, labels)
    assert "not what is in it" in tried(tmp_path, "deap", Case(content, wrong))["why"]
    assert "not what is in it" in tried(tmp_path, "deap", Case(content))["why"]
    assert "good file" in tried(tmp_path, "deap", Case(b"", wrong, must_read=True))["why"]


# --- code in a .dat


@pytest.mark.parametrize("where", PLACES)
def test_no_trick_reaches_code(where):
    for trick in TRICKS if where == "whole" else TRICKS[:1]:
        for opcodes in calls(*trick):
            Path("s01.dat").write_bytes(hostile(opcodes, where).content)
            try:
                labels, *_ = deap._arrays(Path("s01.dat"))
            except Exception as error:
                assert bounded.reason(error).isprintable()
            else:  # what was called was a string, or nothing
                np.testing.assert_array_equal(labels, good_dat()[2])
            assert not Path(CANARY).exists(), (trick, opcodes)


@pytest.mark.parametrize("trick", [trick for trick in TRICKS if trick[:2] == ("os", "system")])
def test_those_tricks_work_on_others(trick):
    """Were they not dangerous, the test above would show nothing."""
    for opcodes in calls(*trick)[:4]:
        content = hostile(opcodes, "whole").content
        pickle.loads(content)
        assert Path(CANARY).exists()
        Path(CANARY).unlink()
        assert "tries to import os.system, which was not run" in refused(content)


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\x85b", "x" * 10**4, "é" * 50])
def test_an_import_is_named_in_one_line(name):
    content = b"\x80\x04" + text("os") + text(name) + b"\x93."
    assert len(refused(content)) < 1000


def test_a_file_changes_nothing_for_the_next_one(tmp_path):
    """What it gets hold of is made for it alone."""
    slots = b"N}" + text("__defaults__") + DTYPE + b"\x85s\x86b"
    for opcodes in (DTYPE + slots, b"c_codecs\nencode\n" + slots, DTYPE + text("f8") + b"\x85R"):
        tried(tmp_path, "deap", hostile(opcodes, "value"))
        content, data, labels, _ = good_dat()
        case = Case(content, expected(data, labels), must_read=True)
        assert tried(tmp_path, "deap", case)["why"] == ""


@pytest.mark.parametrize(
    ("opcodes", "reason"),
    [
        (DTYPE + text("O8") + b"\x85R", "'O8', which holds no plain numbers"),
        (DTYPE + text("f8") + b"\x85R(K\x03" + text("S") + b"tb", "the byte order 'S'"),
        (b"c_codecs\nencode\n" + text("a") + text("rot13") + b"\x86R", "the encoding 'rot13'"),
        (b"cnumpy\nndarray\n)R", "it lacks the arrays"),
        (b"K\x01)R", "no pickle of arrays"),
        (b"U\xff", "truncated"),
        (b"\x82\x01", "extension code"),
        (b"Pabc\n", "persistent"),
    ],
)
def test_the_sentence_says_what_is_wrong(opcodes, reason):
    assert reason in refused(b"\x80\x02" + opcodes + b".")


# --- EDF files


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: with_field(c, "reserved", "EDF+D"), "gaps"),
        (lambda c: with_field(c, "records", "999999"), "Number of records"),
        (lambda c: with_field(c, "signals", "18"), "could not convert"),
        (lambda c: with_field(c, "duration", "nan"), "nan Hz"),
        (lambda c: with_field(c, "duration", "0"), "record length"),
        (lambda c: with_field(c, "duration", "1e-6"), "1.28e\\+08 Hz"),
        (lambda c: with_field(c, "duration", "0.999999"), "no simple ratio"),
        (lambda c: with_field(c, "samples", "64", 2), "Number of records"),
        (lambda c: with_field(c, "digital max", "-32768", 2), "Scaling"),
        (lambda c: with_field(c, "digital max", "-32769", 2), "EEG F3 has no range"),
        (lambda c: with_field(c, "physical max", "1e9", 2), "EEG F3 ranges beyond 1 V"),
        (lambda c: with_field(c, "physical max", "nan", 2), "EEG F3 ranges beyond 1 V"),
        (lambda c: with_field(c, "unit", "nV", 2), "EEG F3 is in 'nV'"),
        (lambda c: with_field(c, "label", "EEG F\n3", 2), r"called 'EEG F\\n3'"),
        (lambda c: c + b"\0\0", "its header speaks of"),
    ],
)
def test_the_sentence_says_what_is_wrong_with_an_edf_file(change, reason):
    path = Path("Subject00_1.edf")
    path.write_bytes(change(bundled(0, 1)))
    with pytest.raises((ValueError, RuntimeWarning), match=reason):
        eegmat._read_edf(path)


def test_a_channel_that_comes_twice_is_named(tmp_path):
    files = [tmp_path / f"Subject00_{i}.edf" for i in (1, 2)]
    for i, path in enumerate(files, 1):
        path.write_bytes(with_field(bundled(0, i), "label", "EEG T7", 0))
    with pytest.raises(UserError, match=r"Subject00_1\.edf.* T7 comes twice"):
        sources.read_checked(eegmat, "Subject00", files)


# --- the bound of memory and time


def answer(wish: str) -> list[np.ndarray]:
    """Have `misbehave` read a file in the child process."""
    path = Path("wish").resolve()
    path.write_text(wish)
    return bounded.read_bounded(misbehave, path, "file of wishes", 100)


def assert_good(arrays: list[np.ndarray]) -> None:
    np.testing.assert_array_equal(arrays[0], [[0, 1, 2], [3, 4, 5]])
    assert arrays[1].tolist() == ["a", "bc"]


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ("hang", "reading it takes more than 2 s"),
        ("wait", "reading it takes more than 0.5 s"),
        ("die", "reading it ends the process that reads: 1"),
        ("fail", r"'data\\\\nof\\\\x1b\[31m it"),
        ("x" * 101, "the most of any file of wishes"),
        pytest.param(
            "eat",
            "takes more than 1024 MiB of memory",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds memory"),
        ),
    ],
)
def test_what_a_reader_does_is_bounded(wish, sentence, monkeypatch):
    assert_good(answer("nothing"))
    if wish == "wait":
        monkeypatch.setattr(bounded, "SECONDS", 0.5)
    with pytest.raises(UserError, match=sentence) as error:
        answer(wish)
    assert "wish" in one_line(error)
    assert "anew" in one_line(error)
    monkeypatch.setattr(bounded, "SECONDS", 60)
    assert_good(answer("nothing"))


def test_what_a_reader_prints_is_no_answer(capfd):
    assert_good(answer("print"))
    assert "".join(capfd.readouterr()) == ""


def test_an_interrupt_does_not_give_a_file_the_answer_to_another(monkeypatch):
    with monkeypatch.context() as patch:

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(bounded.select, "select", interrupted)
        with pytest.raises(KeyboardInterrupt):
            answer("fail")
    assert_good(answer("nothing"))


def test_a_fork_has_a_child_of_its_own(monkeypatch):
    answer("nothing")
    theirs = bounded._child
    monkeypatch.setattr(theirs, "owner", os.getpid() + 1)
    assert_good(answer("nothing"))
    assert bounded._child is not theirs
    theirs.end()


def test_reading_needs_no_limit_of_memory(monkeypatch):
    """As on systems that have none."""
    limits = []
    monkeypatch.setattr(bounded.sys, "platform", "darwin")
    monkeypatch.setattr(bounded.resource, "setrlimit", lambda limit, _: limits.append(limit))
    with bounded._limited(2**30, 1):
        assert bounded.resource.RLIMIT_CPU in limits
    assert bounded.resource.RLIMIT_AS not in limits


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "s01.dat")  # which reading would wait for
    with pytest.raises(UserError, match=r"s01\.dat is no file"):
        deap.read("s01", [tmp_path / "s01.dat"])


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "s01.dat")

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(PermissionError) as error:
        deap._arrays(tmp_path)
    assert bounded.reason(error.value) == "Permission denied"
