"""Preprocessing: what is in the store, and that it is there whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import io, signal

from de3dgan.base.errors import UserError
from de3dgan.base.files import write_csv
from de3dgan.base.paths import ROOT
from de3dgan.data import opening, preprocessing, writing
from de3dgan.data.features import subject_features
from de3dgan.data.mat_export import export_mat
from de3dgan.data.montages import HEAD
from de3dgan.data.opening import open_store
from de3dgan.data.pieces import in_pieces
from de3dgan.data.preprocessing import build_store
from de3dgan.data.simulation import Signal, simulate_subject
from de3dgan.data.sources import Segment, Subject, Trial
from de3dgan.data.store import ARRAYS, Store, manifest_hash
from de3dgan.data.synthetic import write_deap
from de3dgan.eeg.de import differential_entropy
from de3dgan.eeg.montage import CELLS, DEAP_CHANNELS
from tests.helpers import make_store, one_line

N_SUBJECTS, N_TRIALS = 2, 2
FILES = {"manifest.json", "trials.csv", "eeg.npy", "baseline.npy", "de.npy", "baseline_de.npy"}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Return a folder with recordings in DEAP/ and their store in store/, to read only."""
    folder = tmp_path_factory.mktemp("built")
    make_store(folder, N_SUBJECTS, N_TRIALS)
    return folder


@pytest.fixture
def mine(built, tmp_path) -> Path:
    """Return a copy of `built` to damage."""
    return shutil.copytree(built, tmp_path / "mine")


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]}


def trial_rows(store: Path) -> list[dict[str, str]]:
    with open(store / "trials.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rebuild(folder: Path, n_jobs: int = 1) -> Store:
    return build_store("deap", folder / "DEAP", folder / "store", n_jobs)


def reseal(folder: Path, **changes: object) -> None:
    """Change a store's manifest and give it a valid hash."""
    path = folder / "manifest.json"
    manifest = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({**manifest, "hash": manifest_hash(manifest)}))


# --- What is in it -----------------------------------------------------------------------------


def test_a_store_holds_the_recordings_in_microvolts(built):
    store = open_store(built / "store")
    n = N_SUBJECTS * N_TRIALS
    assert set(content(built / "store")) == FILES
    assert store.eeg.shape == (n, 32, 7680)
    assert store.baseline.shape == (n, 32, 384)
    assert store.de.shape == (n, 4, 120, 32)
    assert store.baseline_de.shape == (n, 4, 32)
    for name in ARRAYS:
        assert getattr(store, name).dtype == np.float32
        assert isinstance(getattr(store, name), np.memmap)
    assert store.ch_names == list(DEAP_CHANNELS)
    assert (store.n_trials, store.n_frames) == (n, 60)
    for subject in range(N_SUBJECTS):
        data, _ = simulate_subject(subject + 1, Signal(n_trials=N_TRIALS))
        for trial in range(N_TRIALS):
            row = subject * N_TRIALS + trial
            recording = data[trial, :32].astype(np.float32)
            np.testing.assert_array_equal(store.baseline[row], recording[:, :384])
            np.testing.assert_array_equal(store.eeg[row], recording[:, 384:])


def test_de_is_that_of_the_whole_recording_less_its_baseline(built):
    store = open_store(built / "store")
    data, _ = simulate_subject(2, Signal(n_trials=N_TRIALS))
    row, channel = N_TRIALS + 1, 5  # subject 2, trial 1
    for band, edges in enumerate([(4, 8), (8, 14), (14, 31), (31, 45)]):
        sos = signal.butter(3, edges, "bandpass", fs=128, output="sos")
        windows = signal.sosfiltfilt(sos, data[1, channel]).reshape(126, 64)
        de = 0.5 * np.log(2 * np.pi * np.e * windows.var(axis=1, ddof=1))
        np.testing.assert_allclose(store.baseline_de[row, band, channel], de[:6].mean(), atol=1e-5)
        np.testing.assert_allclose(
            store.de[row, band, :, channel], de[6:] - de[:6].mean(), atol=1e-5
        )
        np.testing.assert_allclose(
            store.absolute_de(np.array([row]))[0, band, :, channel], de[6:], atol=1e-5
        )


def test_trials_csv_has_a_row_per_trial(built):
    rows = trial_rows(built / "store")
    assert list(rows[0]) == [
        *("trial", "subject", "session", "stimulus", "piece", "baseline"),
        *("valence", "arousal", "dominance", "liking"),
    ]
    assert [row["trial"] for row in rows] == [row["baseline"] for row in rows] == list("0123")
    assert [row["subject"] for row in rows] == ["s01", "s01", "s02", "s02"]
    assert [row["stimulus"] for row in rows] == ["video01", "video02"] * 2
    labels = [simulate_subject(s, Signal(n_trials=N_TRIALS))[1] for s in (1, 2)]
    store = open_store(built / "store")
    assert store.ratings == ["valence", "arousal", "dominance", "liking"]
    for column, name in enumerate(store.ratings):
        np.testing.assert_array_equal(store.rating(name), np.concatenate(labels)[:, column])


def test_the_manifest_says_what_the_store_was_made_from(built):
    manifest = json.loads((built / "store" / "manifest.json").read_text())
    assert manifest["source"] == "deap"
    assert manifest["sfreq"] == 128
    assert manifest["bands"] == {
        "theta": [4, 8],
        "alpha": [8, 14],
        "beta": [14, 31],
        "gamma": [31, 45],
    }
    assert list(manifest["inputs"]) == ["s01/s01.dat", "s02/s02.dat"]
    recording = (built / "DEAP" / "s01.dat").read_bytes()
    assert manifest["inputs"]["s01/s01.dat"] == hashlib.sha256(recording).hexdigest()
    assert {"python", "numpy", "scipy", "mne"} <= set(manifest["versions"])
    assert manifest["hash"] == manifest_hash(manifest) == open_store(built / "store").hash


def recordings(*, seed: int = 0) -> Subject:
    """Return a subject of two recordings with one baseline, in the first, of 5 s."""
    rng = np.random.default_rng(seed)
    return Subject(
        subject="x",
        ch_names=("CZ", "OZ"),
        recordings=[10 * rng.normal(size=(2, n)) for n in (3000, 2000)],
        baselines=[Segment(0, 128, 768)],
        trials=[
            Trial(Segment(1, 64, 1344), 0, "b", {"y": 1.0}),
            Trial(Segment(0, 1024, 2304), 0, "a", {"y": 0.0}),
        ],
        n_baseline_times=1000,
    )


def test_trials_and_baselines_may_lie_anywhere():
    data = recordings()
    features, index, reference = subject_features(data, in_pieces(data, None), "baseline")
    assert (index.tolist(), reference) == ([0, 0], "baseline")
    first, second = (differential_entropy(recording) for recording in data.recordings)
    baseline = first[:, 2:12].mean(1)
    np.testing.assert_allclose(features["baseline_de"], [baseline], atol=1e-5)
    np.testing.assert_allclose(features["de"][0], second[:, 1:21] - baseline[:, None], atol=1e-5)
    np.testing.assert_allclose(features["de"][1], first[:, 16:36] - baseline[:, None], atol=1e-5)
    # A baseline that is shorter than on disk is repeated.
    recorded = data.recordings[0][:, 128:768].astype(np.float32)
    np.testing.assert_array_equal(features["baseline"][0, :, :640], recorded)
    np.testing.assert_array_equal(features["baseline"][0, :, 640:], recorded[:, :360])


def test_a_flat_electrode_is_named():
    data = recordings()
    data.recordings[1][1] = 3.0
    with pytest.raises(UserError, match="electrode OZ is flat") as error:
        subject_features(data, in_pieces(data, None), "baseline")
    one_line(error)


# --- Whole, or not at all ----------------------------------------------------------------------


def test_a_second_call_recomputes_nothing(mine, capsys, monkeypatch):
    before = times(mine / "store")
    monkeypatch.setattr(preprocessing, "_process", None)  # would fail if anything were computed
    store = rebuild(mine)
    assert "nothing to compute" in capsys.readouterr().out
    assert times(mine / "store") == before
    assert store.n_trials == 4


def test_changed_recordings_are_recomputed_and_said(mine, capsys):
    old = open_store(mine / "store").hash
    write_deap(mine / "DEAP", 3, Signal(n_trials=N_TRIALS))  # a subject more
    write_deap(mine / "DEAP", 1, Signal(n_trials=N_TRIALS, seed=9))
    store = rebuild(mine)
    said = capsys.readouterr().out
    assert "changed: inputs.s01/s01.dat" in said and "s02.dat" not in said
    assert "inputs.s03/s03.dat" in said
    assert store.hash != old and store.n_trials == 6
    data, _ = simulate_subject(1, Signal(n_trials=N_TRIALS, seed=9))
    np.testing.assert_array_equal(store.eeg[0], data[0, :32, 384:].astype(np.float32))
    assert sorted(path.name for path in mine.iterdir()) == ["DEAP", "store"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"sfreq": 200}, "sfreq (200 there, 128 now)"), ({"format": 99}, "format (99 there, 2 now)")],
)
def test_a_store_of_other_settings_or_format_is_made_anew(changes, said, mine, capsys):
    good = content(mine / "store")
    reseal(mine / "store", **changes)
    rebuild(mine)
    assert said in capsys.readouterr().out
    assert content(mine / "store") == good


def damage(path: Path, how: str) -> None:
    """Damage a file, by what is missing of it or is something else."""
    whole = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {
                "half": whole[: len(whole) // 2],
                "empty": b"",
                "garbage": np.random.default_rng(0).bytes(5000),
                "last bytes": whole[:-4] + b"\0\0\0\0",
            }[how]
        )


@pytest.mark.parametrize("name", sorted(FILES - {"trials.csv"}))
@pytest.mark.parametrize("how", ["half", "empty", "missing", "last bytes"])
def test_a_damaged_store_is_made_anew(mine, name, how, monkeypatch):
    damage(mine / "store" / name, how)

    def stop(*_):
        raise UserError("recomputing")

    # What is recomputed is tested elsewhere: here, that it is.
    monkeypatch.setattr(preprocessing, "subject_features", stop)
    with pytest.raises(UserError, match="recomputing"):
        rebuild(mine)


@pytest.mark.parametrize("there", [True, False])
def test_a_bad_subject_leaves_the_old_store_or_none_as_it_was(mine, there):
    if not there:
        shutil.rmtree(mine / "store")
    (mine / "DEAP" / "s02.dat").write_bytes(b"nonsense")
    before = content(mine)
    with pytest.raises(UserError, match="s02.dat") as error:
        rebuild(mine)
    one_line(error)
    assert content(mine) == before
    assert sorted(path.name for path in mine.iterdir()) == ["DEAP", *["store"] * there]


def test_subjects_that_do_not_fit_together_are_refused(mine, monkeypatch):
    def process(_source, subject, _files, _how):
        same = {"ch_names": ["CZ", "OZ"] if subject == "s01" else ["OZ", "PZ"]}
        row = {"subject": subject, "session": "1", "stimulus": "a", "piece": 0, "baseline": 0}
        data = recordings()
        arrays, _, _ = subject_features(data, in_pieces(data, None), "baseline")
        return writing.Unit(same, arrays, [row, row], {})

    monkeypatch.setattr(preprocessing, "_process", process)
    shutil.rmtree(mine / "store")
    with pytest.raises(UserError, match="s02 has the channels OZ PZ") as error:
        rebuild(mine)
    one_line(error)


def test_channels_in_another_order_are_brought_into_that_of_the_first(mine, monkeypatch):
    original = preprocessing._process

    def process(source, subject, files, how):
        names = DEAP_CHANNELS[::-1] if subject == "s02" else DEAP_CHANNELS
        return original(source, subject, files, replace(how, channels=names))

    straight = rebuild(mine)
    monkeypatch.setattr(preprocessing, "_process", process)
    shutil.move(mine / "store", mine / "straight")
    turned = rebuild(mine)
    assert turned.ch_names == straight.ch_names
    for name in ARRAYS:
        a, b = (np.load(mine / folder / f"{name}.npy") for folder in ("straight", "store"))
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_number_of_jobs_changes_no_byte(built, tmp_path):
    build_store("deap", built / "DEAP", tmp_path / "store", n_jobs=2)
    assert content(tmp_path / "store") == content(built / "store")


# --- Reading it --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("how", ["half", "empty", "missing", "garbage"])
def test_a_damaged_store_is_refused_in_one_line(mine, name, how):
    damage(mine / "store" / name, how)
    with pytest.raises(UserError) as error:
        open_store(mine / "store")
    assert "preprocess_de.py" in one_line(error) or name == "manifest.json"


@pytest.mark.parametrize("path", ["", "nowhere"])
def test_a_missing_store_says_how_to_make_one(tmp_path, path):
    with pytest.raises(UserError, match="preprocess_de.py --source") as error:
        open_store(tmp_path / path)
    one_line(error)
    with pytest.raises(UserError, match="--source eegmat --out-dir .*eegmat$"):
        open_store(tmp_path / "eegmat")
    with pytest.raises(UserError, match="--source {.*deap,.*eegmat,.*} --out-dir .*mine$"):
        open_store(tmp_path / "mine")


def test_a_tampered_manifest_is_refused(mine):
    path = mine / "store" / "manifest.json"
    path.write_text(path.read_text().replace('"deap"', '"seed"'))
    with pytest.raises(UserError, match="damaged") as error:
        open_store(mine / "store")
    one_line(error)
    path.write_text("[]")
    with pytest.raises(UserError, match="damaged"):
        open_store(mine / "store")


def test_reading_cannot_change_the_store(mine):
    before = content(mine / "store")
    store = open_store(mine / "store")
    store.eeg[:] = 0
    store.de[:] = 0
    del store
    assert content(mine / "store") == before


@pytest.mark.parametrize("trials", [[4], [-1], [0, 99], []])
def test_a_trial_that_is_not_there_is_refused(built, trials):
    store = open_store(built / "store")
    assert store.checked_trials([3, 0]) == [3, 0]
    with pytest.raises(UserError, match="0 to 3") as error:
        store.checked_trials(trials)
    one_line(error)


# --- .mat --------------------------------------------------------------------------------------


def test_mat_export_has_the_fields_layout(built, tmp_path):
    store = open_store(built / "store")
    export_mat(store, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s01.mat", "s02.mat"]
    for subject in range(N_SUBJECTS):
        mat = io.loadmat(tmp_path / f"s{subject + 1:02d}.mat")
        data = mat["data"]
        assert data.shape == (N_TRIALS * 120, 4, 8, 9)
        filled = set()
        for channel, name in enumerate(DEAP_CHANNELS):
            row, column = divmod(CELLS[name], 9)
            filled.add((row, column))
            for trial in range(N_TRIALS):
                de = store.de[subject * N_TRIALS + trial, :, :, channel]
                written = data[trial * 120 : (trial + 1) * 120, :, row, column]
                np.testing.assert_array_equal(written, de.T)
        empty = [(r, c) for r in range(8) for c in range(9) if (r, c) not in filled]
        assert len(empty) == 40
        assert all((data[:, :, r, c] == 0).all() for r, c in empty)
        _, labels = simulate_subject(subject + 1, Signal(n_trials=N_TRIALS))
        for column, name in enumerate(("valence", "arousal", "dominance", "liking")):
            written = mat[f"{name}_labels"]
            assert written.shape == (1, N_TRIALS * 120)
            np.testing.assert_array_equal(written[0], np.repeat(labels[:, column] > 5, 120))


# --- Memory ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_subjects(tmp_path):
    """A subject of ten trials is 26 MB as it is read; four more of them must not add up."""
    (first,) = write_deap(tmp_path / "6", 1, Signal(n_trials=10))
    (tmp_path / "2").mkdir()
    for n_subjects in (2, 6):
        for subject in range(1, n_subjects + 1):
            path = tmp_path / str(n_subjects) / f"s{subject:02d}.dat"
            if not path.exists():
                os.link(first, path)
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from de3dgan.data.preprocessing import build_store\n"
        "for n in ('2', '6'):\n"
        "    folder = Path(sys.argv[1], n)\n"
        "    store = build_store('deap', folder, folder / 'store', 1)\n"
        "    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "    print('peak', store.n_trials, peak)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("peak")]
    (few, peak_of_few), (many, peak_of_many) = lines
    assert (few, many) == ("20", "60")
    assert float(peak_of_many) - float(peak_of_few) < 25


# --- Fields, formats, numbers -------------------------------------------------------------------


def reseal_trials(folder: Path, rows: list[dict[str, object]]) -> None:
    """Write other trials, and make the manifest's hashes right again."""
    write_csv(folder / "trials.csv", rows)
    reseal(folder, trials=hashlib.sha256((folder / "trials.csv").read_bytes()).hexdigest())


def refused(folder: Path) -> str:
    """Return the sentence with which a store is refused, which says how to make it."""
    with pytest.raises(UserError) as error:
        open_store(folder)
    message = one_line(error)
    assert "python preprocess_de.py --source deap" in message
    return message


@pytest.fixture
def store(little_store, tmp_path) -> Path:
    """Return a copy of the little store: 28 trials, 6 electrodes."""
    return Path(shutil.copytree(little_store, tmp_path / "deap"))


@pytest.mark.parametrize(
    ("format_", "says"),
    [
        (3, "has format 3, and this version reads format 2: update the repository (git pull), or"),
        (1, "has format 1, and this version reads format 2: make it anew with: python"),
        ("1", 'format is "1", and must be a whole number'),
        (None, "format is null"),
    ],
)
@pytest.mark.parametrize("resealed", [True, False])  # another format may be hashed in another way
def test_a_store_of_another_format_says_what_to_do(format_, says, resealed, store):
    path = store / "manifest.json"
    if resealed:
        reseal(store, format=format_)
    else:
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": format_}))
    assert says in refused(store)


SHAPES = {
    "eeg": [28, 6, 1536],
    "baseline": [28, 6, 384],
    "de": [28, 4, 24, 6],
    "baseline_de": [28, 4, 6],
}
NAMES = ["F3", "FZ", "F4", "C3", "PZ", "O2"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ch_names": "F3 FZ"}, 'ch_names is "F3 FZ", and must be a list'),
        ({"ch_names": []}, "ch_names is []"),
        ({"ch_names": [*NAMES[:5], 7]}, "ch_names is "),
        ({"ch_names": [*NAMES[:5], "F3"]}, "6 channels have 5 different names and 6 different"),
        ({"ch_names": NAMES[:5]}, "5 channels have 5 different names and 6 different cells"),
        ({"grid": {"shape": [8, 9], "cells": [0, 1, 2, 3, 4, 4]}}, "and 5 different cells"),
        ({"grid": {"shape": [1, 5], "cells": [0, 1, 2, 3, 4, 5]}}, "grid has no cell 5"),
        ({"grid": {"shape": [8], "cells": [0, 1, 2, 3, 4, 5]}}, "grid.shape is [8]"),
        ({"reference": "mean"}, 'reference is "mean", and must be one of baseline'),
        ({"scales": {"valence": [1]}}, "scales.valence is [1]"),
        ({"classes": {"valence": 3}}, "classes.valence is 3"),
        ({"shapes": 3}, "shapes is 3, and must be an object"),
        ({"shapes": {}}, "shapes.eeg is missing"),
        ({"shapes": {**SHAPES, "de": [28, 4, 24]}}, "shapes.de is [28, 4, 24], and must be"),
        ({"shapes": {**SHAPES, "eeg": [28, 6, 1535]}}, "both must be [28, 6, 1535]"),
        ({"shapes": {**SHAPES, "baseline_de": [-1, 4, 6]}}, "shapes.baseline_de is [-1, 4, 6]"),
        ({"trials": None}, "trials is null"),
        ({"trials": "0" * 64}, "trials.csv has been edited"),
        ({"source": ["deap"]}, 'source is ["deap"]'),
        ({"inputs": []}, "inputs is []"),
        ({"inputs": {"s01/s01.dat": 3}}, "inputs.s01/s01.dat is 3"),
        ({"sfreq": "128"}, 'sfreq ("128" there, 128 now)'),
        ({"bands": None}, "bands (null there"),
        ({"bands": {"theta": [4.0, 7.0]}}, "bands.theta"),
    ],
)
def test_a_field_that_is_wrong_is_named_although_the_hash_is_right(changes, says, store):
    reseal(store, **changes)
    assert says in refused(store)


@pytest.mark.parametrize(
    ("column", "row", "value", "says"),
    [
        ("trial", 3, "4", "must count from 0 to 27"),
        ("trial", 3, "x", 'trial in line 5 is "x", and must be a whole number'),
        ("subject", 0, "", 'subject in line 2 is "", and must be a text'),
        ("stimulus", 27, "", 'stimulus in line 29 is ""'),
        ("baseline", 1, "28", '"28", and must be a whole number from 0 to 27'),
        ("baseline", 1, "-1", 'baseline in line 3 is "-1"'),
        ("valence", 9, "nan", 'valence in line 11 is "nan", and must be a finite number'),
        ("valence", 9, "", 'valence in line 11 is ""'),
        ("arousal", 9, "high", 'arousal in line 11 is "high"'),
    ],
)
def test_a_cell_that_is_wrong_is_named_although_the_hash_is_right(column, row, value, says, store):
    rows = trial_rows(store)
    rows[row][column] = value
    reseal_trials(store, rows)
    message = refused(store)
    assert f"trials.csv is damaged: {column}" in message and says in message


@pytest.mark.parametrize("column", ["trial", "subject", "stimulus", "baseline"])
def test_a_column_that_is_missing_is_named(column, store):
    rows = trial_rows(store)
    for row in rows:
        del row[column]
    reseal_trials(store, rows)
    assert f"column {column} is missing" in refused(store)


@pytest.mark.parametrize("dtype", ["f8", "i4", ">f4", "O"])
def test_an_array_of_another_type_is_refused(dtype, store):
    np.save(store / "de.npy", np.load(store / "de.npy").astype(dtype))
    refused(store)


@pytest.mark.parametrize(
    ("n_times", "n_baseline_times", "says"),
    [(1500, 384, "last 11.7188 s, and must last whole seconds"), (1536, 100, "must last 1 s")],
)
def test_trials_and_baselines_that_no_stage_can_use_are_refused(
    n_times, n_baseline_times, says, store
):
    lengths = {"eeg": n_times, "baseline": n_baseline_times}
    shapes = {name: [*SHAPES[name][:2], n] for name, n in lengths.items()}
    shapes["de"] = [28, 4, n_times // 64, 6]
    for name, shape in shapes.items():
        np.save(store / f"{name}.npy", np.ones(shape, np.float32))
    reseal(store, shapes={**SHAPES, **shapes})
    assert says in refused(store)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "place", "says"),
    [
        ("de", (5, 3, 2, 1), "de.npy is damaged: trial 5 has {} at electrode FZ"),
        ("baseline_de", (7, 3, 5), "baseline_de.npy is damaged: baseline 7 has {} at electrode O2"),
    ],
)
def test_de_that_is_not_finite_is_refused_at_once(name, place, says, value, store):
    array = np.load(store / f"{name}.npy")
    array[place] = value
    np.save(store / f"{name}.npy", array)
    assert says.format(value) in refused(store)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_eeg_that_is_not_finite_is_found_among_the_trials_asked_for(value, store):
    for name, place in (("eeg", (5, 3, 100)), ("baseline", (8, 0, 7))):
        array = np.load(store / f"{name}.npy")
        array[place] = value
        np.save(store / f"{name}.npy", array)
    opened = open_store(store)  # EEG is not looked at
    opened.refuse_non_finite_eeg([0, 1, 4, 27])
    with pytest.raises(UserError, match=f"eeg.npy is damaged: trial 5 has {value} at electrode C3"):
        opened.refuse_non_finite_eeg(np.arange(28))
    with pytest.raises(UserError, match=f"baseline 8 has {value} at electrode F3: .*--source deap"):
        opened.refuse_non_finite_eeg([8])


# --- While it is replaced -----------------------------------------------------------------------


def test_a_store_whose_replacement_was_killed_between_its_renames_is_read(mine):
    wanted = open_store(mine / "store")
    (mine / "store").rename(mine / ".store.old")
    shutil.copytree(mine / ".store.old", mine / ".store.new")
    (mine / ".store.new" / "eeg.npy").unlink()
    before = content(mine)
    found = open_store(mine / "store")
    assert found.path == mine / "store" and found.hash == wanted.hash
    np.testing.assert_array_equal(found.eeg, wanted.eeg)
    assert content(mine) == before
    # What is in its place counts, even if it is damaged.
    (mine / "store").mkdir()
    with pytest.raises(UserError, match="There is no store"):
        open_store(mine / "store")


def test_that_is_where_a_killed_replacement_leaves_it(mine, monkeypatch):
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if Path(target).name == "store":
            raise KeyboardInterrupt
        replace(source, target)

    wanted = open_store(mine / "store").hash
    write_deap(mine / "DEAP", 1, Signal(n_trials=N_TRIALS, seed=9))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        rebuild(mine)
    assert not (mine / "store").exists()
    assert open_store(mine / "store").hash == wanted
    assert rebuild(mine).hash != wanted


@pytest.mark.parametrize("when", ["before the arrays", "between the arrays", "before the trials"])
@pytest.mark.parametrize("times", [1, 99])
def test_a_store_is_the_old_one_or_the_new_one_while_it_is_replaced(when, times, mine, monkeypatch):
    """What is read first is of the old store, and what is read later of the new one."""
    shutil.copytree(mine / "store", mine / "a")
    write_deap(mine / "DEAP", 1, Signal(n_trials=N_TRIALS, seed=9))
    rebuild(mine)
    shutil.copytree(mine / "store", mine / "b")
    shutil.rmtree(mine / "store")
    shutil.copytree(mine / "a", mine / "store")
    mapped, hashed = opening._mapped, opening.sha256
    swaps = []

    def swap() -> None:
        if len(swaps) < times:
            source = mine / ("b" if len(swaps) % 2 == 0 else "a")
            shutil.copytree(source, mine / "next")
            (mine / "store").rename(mine / f"gone{len(swaps)}")
            (mine / "next").rename(mine / "store")
            swaps.append(source)

    def swap_and_map(path: Path) -> np.ndarray:
        if path.name == {"before the arrays": "eeg.npy"}.get(when, "de.npy") and "tri" not in when:
            swap()
        return mapped(path)

    def swap_and_hash(path: Path) -> str:
        if when == "before the trials":
            swap()
        return hashed(path)

    monkeypatch.setattr(opening, "_mapped", swap_and_map)
    monkeypatch.setattr(opening, "sha256", swap_and_hash)
    if times > 1:
        with pytest.raises(UserError, match="is being replaced again and again"):
            open_store(mine / "store")
        return
    found = open_store(mine / "store")
    monkeypatch.undo()
    new = open_store(mine / "b")
    assert found.hash == new.hash and found.hash != open_store(mine / "a").hash
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(new, name))


# --- There and back -----------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    ch_names=st.lists(st.sampled_from(DEAP_CHANNELS), min_size=1, max_size=5, unique=True),
    n_trials=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    seconds=st.integers(1, 4),
    ratings=st.dictionaries(
        st.sampled_from(["valence", "arousal", "joy"]),
        st.floats(allow_nan=False, allow_infinity=False),
        max_size=3,
    ),
    one_baseline=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_a_store_gives_back_what_was_put_into_it(
    ch_names, n_trials, seconds, ratings, one_baseline, seed, tmp_path_factory
):
    """Any number of subjects with any number of trials; as one baseline, or one for each trial."""
    folder = tmp_path_factory.mktemp("there and back")
    (folder / "DEAP").mkdir()
    rng = np.random.default_rng(seed)
    results, n_chans = {}, len(ch_names)
    for number, n in enumerate(n_trials, start=1):
        name = f"s{number:02d}"
        (folder / "DEAP" / f"{name}.dat").write_bytes(rng.bytes(8))
        n_baselines = 1 if one_baseline else n
        shapes = {
            "eeg": (n, n_chans, 128 * seconds),
            "baseline": (n_baselines, n_chans, 128),
            "de": (n, 4, 2 * seconds, n_chans),
            "baseline_de": (n_baselines, 4, n_chans),
        }
        arrays = {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
        rows = [
            {
                **{"subject": name, "session": "1", "stimulus": f"v{t}", "piece": 0},
                **{"baseline": 0 if one_baseline else t, **ratings},
            }
            for t in range(n)
        ]
        same = {"ch_names": ch_names, "montage": HEAD, "reference": "baseline"}
        same |= {"scales": {}, "classes": {}}
        results[name] = writing.Unit(same, arrays, rows, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            preprocessing, "_process", lambda source, subject, files, how: results[subject]
        )
        build_store("deap", folder / "DEAP", folder / "store", 1)
    store = open_store(folder / "store")
    assert store.ch_names == ch_names and store.n_trials == sum(n_trials)
    for name in ARRAYS:
        wanted = np.concatenate([result.arrays[name] for result in results.values()])
        assert getattr(store, name).tobytes() == wanted.tobytes()
    rows = [row for result in results.values() for row in result.rows]
    assert store.columns["subject"] == [row["subject"] for row in rows]
    assert store.columns["stimulus"] == [row["stimulus"] for row in rows]
    assert store.ratings == list(ratings)
    for name, value in ratings.items():
        assert store.rating(name).tolist() == [value] * len(rows)
    trials = np.arange(store.n_trials)
    whose = np.repeat(np.arange(len(n_trials)), n_trials)
    np.testing.assert_array_equal(store.baseline_index, whose if one_baseline else trials)
    wanted = store.de + store.baseline_de[store.baseline_index][:, :, None]
    np.testing.assert_array_equal(store.absolute_de(trials), wanted)
