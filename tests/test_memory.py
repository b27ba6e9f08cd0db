"""Memory does not grow with the data: they are read as they are needed."""

from __future__ import annotations

import json
import os
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scaling import watched
from de3dgan.base.errors import UserError
from de3dgan.base.files import read_csv, read_json, sha256, write_csv, write_json
from de3dgan.data import memory_maps
from de3dgan.data.opening import open_store
from de3dgan.data.store import ARRAYS, manifest_hash
from de3dgan.data.synthetic import write_store
from de3dgan.eeg.montage import DEAP_CHANNELS
from tests.conftest import TINY, run_script, script_of

#: Runs a script with limits that are reached with little data: of memory, and of the frames of
#: baselines, which take more of it up to their own limits.
_LIMITED = """
import runpy, sys
from dataclasses import replace
from de3dgan.data import memory_maps
from de3dgan.evaluation import baselines
memory_maps._KEPT = 0
for name in ("LOGISTIC", "SVM"):
    setattr(baselines, name, replace(getattr(baselines, name), n_frames=500, n_tuning=300))
sys.argv[:1] = []
runpy.run_path(sys.argv[0], run_name="__main__")
"""
#: Reads a store's EEG in batches of frames, small and large, and of trials, and prints by how many
#: KiB memory grew at most.
_READING = """
import sys
from pathlib import Path
import numpy as np, torch
from de3dgan.data.frames import Frames
from de3dgan.data.opening import open_store

def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

opened = open_store(sys.argv[1])
frames = Frames(opened, torch.device("cpu"), waveform_baseline=False)
Path("/proc/self/clear_refs").write_text("5")  # forget the peak
before = most()
rng = np.random.default_rng(0)
for n_batches in (270, 34):
    for batch in np.array_split(rng.permutation(frames.shape[0]), n_batches)[: n_batches // 2]:
        frames[batch]
for trials in np.array_split(np.arange(opened.n_trials), 36):
    frames.trials(trials)
print(most() - before)
"""


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[int, Path]:
    """Return stores of 24 trials, and of twelve times as many, by their number of trials."""
    folder = tmp_path_factory.mktemp("stores")
    small = write_store(folder / "small", n_subjects=6, ch_names=DEAP_CHANNELS, n_frames=60)
    return {24: small, 288: repeated(small, folder / "large", 12)}


def repeated(store: Path, folder: Path, times: int) -> Path:
    """Write a store that has the trials of another one several times, of other subjects."""
    opened = open_store(store)
    folder.mkdir()
    for name in ARRAYS:
        array = getattr(opened, name)
        np.save(folder / f"{name}.npy", np.concatenate([array] * times))
    n_trials = opened.n_trials
    rows = [
        {name: values[trial] for name, values in opened.columns.items()}
        | {"trial": n_trials * n + trial, "baseline": n_trials * n + trial}
        | {"subject": f"{opened.columns['subject'][trial]}-{n}"}
        for n in range(times)
        for trial in range(n_trials)
    ]
    write_csv(folder / "trials.csv", rows)
    manifest = read_json(store / "manifest.json")
    shapes = {name: [times * n, *rest] for name, (n, *rest) in manifest["shapes"].items()}
    manifest |= {"shapes": shapes, "trials": sha256(folder / "trials.csv")}
    write_json(folder / "manifest.json", {**manifest, "hash": manifest_hash(manifest)})
    return folder


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not say")
def test_what_is_read_of_a_large_array_is_given_back(tmp_path, monkeypatch):
    path = tmp_path / "de.npy"
    np.save(path, np.arange(2**20, dtype=np.float32))
    array = memory_maps.open_array(path)
    assert memory_maps.reopened(array) is array  # a small one is kept
    monkeypatch.setattr(memory_maps, "_KEPT", 0)
    assert array[-1] == array.size - 1
    before = resident_kib(path)
    anew = memory_maps.reopened(array)
    anew.max()
    assert resident_kib(path) - before > array.nbytes / 1024 / 2
    del anew
    assert resident_kib(path) == before


def test_an_array_that_is_reopened_is_the_same_one(tmp_path, monkeypatch):
    """Though another file has taken its name; and one that has become shorter is refused."""
    monkeypatch.setattr(memory_maps, "_KEPT", 0)
    path = tmp_path / "de.npy"
    np.save(path, np.arange(6000.0))
    array = memory_maps.open_array(path)
    path.rename(tmp_path / "old.npy")
    np.save(path, np.zeros(6000))
    np.testing.assert_array_equal(memory_maps.reopened(array), np.arange(6000.0))
    in_memory = np.zeros(3)
    assert memory_maps.reopened(in_memory) is in_memory
    assert memory_maps.reopened(part := array[1:]) is part
    os.truncate(tmp_path / "old.npy", 1000)
    with pytest.raises(UserError, match="de.npy has become shorter"):
        memory_maps.reopened(array)


def resident_kib(path: Path) -> int:
    """Return how much of a mapped file is in memory, as this process's."""
    found, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line[0] in "0123456789abcdef":  # a map's head
            found = str(path) in line
        elif found and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


def seen_from_outside(*arguments: object) -> dict[str, float]:
    """Return what a process of Python took, started by one without NumPy and PyTorch.

    A process begins with the peak memory of the one that starts it, and that of tests is large.
    """
    look = (
        "import json, sys; from benchmarks.scaling import watched; "
        "print(json.dumps(watched([sys.executable, *sys.argv[1:]])))"
    )
    done = run_script("-c", look, *arguments, env={"DE3DGAN_TEST_MEASURES": "all"})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_memory_and_time_of_a_process_are_seen_from_outside():
    code = "import time; x = b'1' * (200 << 20); time.sleep(0.3)"
    found = seen_from_outside("-c", code)
    assert 200 < found["peak_mib"] < 260
    assert found["seconds"] > 0.3
    if sys.platform == "linux":
        assert 200 < found["peak_anonymous_mib"] < 260
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        watched([sys.executable, "-c", "1 / 0"])


def test_tables_of_predictions_take_little_memory(tmp_path):
    """They have a row for each second and model; written, they are not held at all."""
    n_rows = 20_000
    rows = ({"trial": n // 60, "p_0": f"{n / n_rows:.9f}", "subject": "s01"} for n in range(n_rows))
    path = tmp_path / "predictions.csv"
    peaks = []
    for work in (lambda: write_csv(path, rows), lambda: read_csv(path, "")):
        tracemalloc.start()
        try:
            table = work()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert table["trial"][-1] == str((n_rows - 1) // 60)
    assert len(table["p_0"]) == n_rows
    assert peaks[0] < 2**20, peaks
    assert peaks[1] / n_rows < 250, peaks  # held as rows and then as columns, 355


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_reading_eeg_takes_no_memory_for_long(stores):
    path = stores[288]
    done = run_script("-c", _READING, path)
    assert done.returncode == 0, done.stderr
    grown = int(done.stdout) / 2**10
    size = (path / "eeg.npy").stat().st_size / 2**20
    assert size > 200
    assert grown < 0.7 * size, (grown, size)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, what is mapped is not given back")
def test_a_stage_takes_far_less_memory_than_there_is_data(stores, tmp_path):
    """The classifier, on 24 trials and on 288: from reading to figures."""
    peaks, sizes = [], []
    for n_trials, path in stores.items():
        flags = ["--data-dir", path, "--runs-dir", tmp_path / str(n_trials), "--epochs", 1]
        flags += [*TINY["classifier"], "--batch-size", 32]
        found = seen_from_outside("-c", _LIMITED, script_of("classifier"), *flags)
        peaks.append(found["peak_mib"])
        sizes.append((path / "eeg.npy").stat().st_size / 2**20)
    assert peaks[1] - peaks[0] < 0.6 * (sizes[1] - sizes[0]), (peaks, sizes)
