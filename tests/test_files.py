"""Files: whole whatever happens, and one process at a time."""

from __future__ import annotations

import errno
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from de3dgan.base import files, locks
from de3dgan.base.errors import UserError
from de3dgan.data import writing
from de3dgan.training import loop
from tests.conftest import ROOT, TINY, contents, run_here, run_stage, script_of
from tests.helpers import FOLD, copy_upstream

pytestmark = pytest.mark.usefixtures("no_figures", "no_baselines")

PREPROCESS = ROOT / "preprocess_de.py"


@pytest.fixture
def finished(finished_of) -> Path:
    """Return a runs folder in which all three stages of our method are finished."""
    return finished_of("spectral")


# --- what the system says


@contextmanager
def largest_file(n_bytes: int):
    """Let no file grow beyond a size, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_file_and_says_what_is_needed(tmp_path):
    path = tmp_path / "model.pt"
    files.write_bytes(path, b"old")
    with largest_file(10_000), pytest.raises(UserError) as error:
        files.write_bytes(path, bytes(300_000))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    assert str(path) in str(error.value)
    assert "needs 300,000 bytes" in str(error.value)
    assert "make room" in str(error.value)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "needs 2.0 MiB and finds"),
        (errno.EDQUOT, "needs 2.0 MiB and finds"),
        (errno.EROFS, "allow writing there"),
        (errno.EACCES, "allow writing there"),
        (errno.ENOENT, "see that the folder"),
        (errno.EIO, "see that the folder"),
    ],
)
def test_each_reason_has_its_remedy(number, said, tmp_path):
    with pytest.raises(UserError) as error, files.write_errors(tmp_path / "x", 2**21):
        raise OSError(number, os.strerror(number), "some temporary name")
    message = str(error.value)
    assert said in message
    assert os.strerror(number) in message
    assert str(tmp_path / "x") in message
    assert "some temporary name" not in message


@pytest.mark.parametrize(
    "stage", [pytest.param("gan", marks=pytest.mark.slow), "classifier", "finetune"]
)
def test_a_stage_on_a_full_disk_says_so_and_goes_on_when_there_is_room(
    stage, finished, little_store, tmp_path
):
    folder = copy_upstream(stage, finished, tmp_path / "runs")
    with largest_file(100_000), pytest.raises(UserError, match="needs [0-9,.]+ (bytes|MiB)"):
        run_stage(stage, little_store, tmp_path / "runs")
    assert not list(folder.rglob("*.tmp"))
    assert not (folder / "state.pt").exists()
    run_stage(stage, little_store, tmp_path / "runs")
    for name in ("model.pt", "metrics.jsonl"):
        assert (folder / name).read_bytes() == (finished / FOLD / stage / name).read_bytes(), name


def test_preprocessing_looks_for_room_before_it_writes(tmp_path, monkeypatch):

    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for name in ("Subject00_1.edf", "Subject00_2.edf"):
        shutil.copy(ROOT / "eeg_dataset" / "EEGMAT" / name, recordings)
    out = tmp_path / "store"
    args = ("--source", "eegmat", "--data-dir", recordings, "--out-dir", out, "--jobs", 1)
    assert run_here(PREPROCESS, *args).returncode == 0
    before = contents(out)
    monkeypatch.setattr(files, "free_bytes", lambda path: 1_000_000)
    monkeypatch.setattr(writing.NpyWriter, "append", None)
    for name in ("Subject01_1.edf", "Subject01_2.edf"):
        shutil.copy(ROOT / "eeg_dataset" / "EEGMAT" / name, recordings)
    done = run_here(PREPROCESS, *args)
    assert done.returncode == 2
    size = sum(path.stat().st_size for path in out.glob("*.npy"))
    (needed,) = [
        float(word)
        for word in done.stderr.split()
        if word.replace(".", "").isdigit() and "." in word
    ]
    assert needed == pytest.approx(2 * size / 2**20, rel=0.02)
    assert "finds 1,000,000 bytes free" in done.stderr
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_run_directory_that_vanishes_is_not_made_anew(little_store, tmp_path, monkeypatch):
    original, calls = loop.step, []

    def step(*args, **kwargs):
        calls.append(None)
        if len(calls) == 10:
            shutil.rmtree(tmp_path / "runs")
        return original(*args, **kwargs)

    monkeypatch.setattr(loop, "step", step)
    with pytest.raises(
        UserError, match=r"classifier/state\.pt \(No such file.*see that the folder"
    ):
        run_stage("classifier", little_store, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_run_works_without_a_home_and_caches(little_store, tmp_path):
    nowhere = "/proc/nowhere"
    names = ("HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TMPDIR")
    done = subprocess.run(
        [sys.executable, script_of("classifier"), "--data-dir", little_store]
        + ["--runs-dir", tmp_path, "--epochs", "1", *TINY["classifier"]],
        env={**os.environ, **dict.fromkeys(names, nowhere)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / FOLD / "classifier" / "learning_curves.png").is_file()


# --- one process at a time


def test_who_holds_a_lock_is_told(tmp_path):
    with locks.file_lock(tmp_path / "run"):
        with pytest.raises(UserError) as error, locks.file_lock(tmp_path / "run"):
            pass
        message = str(error.value)
        assert f"process {os.getpid()} on {platform.node()} since 20" in message
        assert "wait" in message
        with locks.file_lock(tmp_path / "another"):
            pass
    assert list(tmp_path.iterdir()) == []
    with locks.file_lock(tmp_path / "run"):
        pass


def test_another_process_in_a_run_directory_is_turned_away(finished, little_store, tmp_path):
    folder = tmp_path / "runs" / FOLD / "classifier"
    args = ["--data-dir", little_store, "--runs-dir", tmp_path / "runs", "--epochs", 1]
    with locks.file_lock(folder):
        before = contents(tmp_path)
        done = run_here(script_of("classifier"), *args, *TINY["classifier"])
        assert contents(tmp_path) == before
    assert done.returncode == 2
    assert f"{folder} is in use by process {os.getpid()} on " in done.stderr
    # What is finished may be looked at by anyone.
    shutil.copytree(finished / FOLD / "classifier", folder)
    lock_path = folder.parent / ".classifier.lock"
    with locks.file_lock(folder):
        run_stage("classifier", little_store, tmp_path / "runs")
        assert lock_path.exists()
    # The lock of a process that was killed when all was done goes with the next look.
    lock_path.write_text("{}")
    run_stage("classifier", little_store, tmp_path / "runs")
    assert not lock_path.exists()


HOLD_LOCK = """
import sys, time
from pathlib import Path
from de3dgan.base.locks import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, tmp_path / "run"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "held\n"
    with (
        pytest.raises(UserError, match=f"process {other.pid} on"),
        locks.file_lock(tmp_path / "run"),
    ):
        pass
    other.kill()
    other.wait()
    assert (tmp_path / ".run.lock").exists()
    with locks.file_lock(tmp_path / "run"):
        assert json.loads((tmp_path / ".run.lock").read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_used_with_a_word_of_caution(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with locks.file_lock(tmp_path / "run"):
        pass
    assert "no locks" in capsys.readouterr().out


def test_what_a_killed_process_was_writing_goes_with_the_next_one(little_store, tmp_path):
    folder = tmp_path / FOLD / "classifier"
    folder.mkdir(parents=True)
    (folder / ".config.json.123.tmp").write_text("{")
    run_stage("classifier", little_store, tmp_path, epochs=1)
    assert not list(folder.glob("*.tmp")) + list(folder.glob(".*.tmp"))


# --- the stress commands, in short


def stress(name: str, *args: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"stress_{name}.py", *args],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert "| 0 |" in done.stdout


@pytest.mark.slow
def test_kill_anywhere():
    stress("kill", "--n", "1", "--seed", "1", "--jobs", "preprocessing", "classifier, spectral")


@pytest.mark.slow
def test_any_disk():
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("disks cannot be made here")
    stress("disk", "--n", "1", "--seed", "1", "--jobs", "preprocessing", "classifier, spectral")
