"""Preprocessing: what is in the store, and that it is there whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import io, signal

from de3dgan import preprocessing
from de3dgan.errors import UserError
from de3dgan.features import differential_entropy
from de3dgan.montage import CELLS, DEAP_CHANNELS
from de3dgan.paths import ROOT
from de3dgan.preprocessing import build_store, export_mat, subject_features
from de3dgan.sources import Segment, Subject, Trial
from de3dgan.store import ARRAYS, Store, manifest_hash
from de3dgan.synthetic import Signal, simulate_subject, write_deap
from tests.helpers import make_store, one_line

N_SUBJECTS, N_TRIALS = 2, 2
FILES = {"manifest.json", "trials.csv", "eeg.npy", "baseline.npy", "de.npy", "baseline_de.npy"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Return a folder with recordings in DEAP/ and their store in store/, to read only."""
    folder = tmp_path_factory.mktemp("made")
    make_store(folder, N_SUBJECTS, N_TRIALS)
    return folder


@pytest.fixture
def mine(made, tmp_path) -> Path:
    """Return a copy of `made` to damage."""
    return shutil.copytree(made, tmp_path / "mine")


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]}


def rebuild(folder: Path, n_jobs: int = 1) -> Store:
    return build_store("deap", folder / "DEAP", folder / "store", n_jobs)


def reseal(folder: Path, **changes: object) -> None:
    """Change a store's manifest and give it a valid hash."""
    path = folder / "manifest.json"
    manifest = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({**manifest, "hash": manifest_hash(manifest)}))


# --- What is in it -----------------------------------------------------------------------------


def test_a_store_holds_the_recordings_in_microvolts(made):
    store = Store.open(made / "store")
    n = N_SUBJECTS * N_TRIALS
    assert set(content(made / "store")) == FILES
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


def test_de_is_that_of_the_whole_recording_less_its_baseline(made):
    store = Store.open(made / "store")
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


def test_trials_csv_has_a_row_per_trial(made):
    with open(made / "store" / "trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "trial", "subject", "stimulus", "baseline", "valence", "arousal", "dominance", "liking",
    ]  # fmt: skip
    assert [row["trial"] for row in rows] == [row["baseline"] for row in rows] == list("0123")
    assert [row["subject"] for row in rows] == ["s01", "s01", "s02", "s02"]
    assert [row["stimulus"] for row in rows] == ["video01", "video02"] * 2
    labels = [simulate_subject(s, Signal(n_trials=N_TRIALS))[1] for s in (1, 2)]
    store = Store.open(made / "store")
    assert store.ratings == ["valence", "arousal", "dominance", "liking"]
    for column, name in enumerate(store.ratings):
        np.testing.assert_array_equal(store.rating(name), np.concatenate(labels)[:, column])


def test_the_manifest_says_what_the_store_was_made_from(made):
    manifest = json.loads((made / "store" / "manifest.json").read_text())
    assert manifest["source"] == "deap"
    assert manifest["sfreq"] == 128
    assert manifest["bands"] == {
        "theta": [4, 8],
        "alpha": [8, 14],
        "beta": [14, 31],
        "gamma": [31, 45],
    }
    assert list(manifest["inputs"]) == ["s01/s01.dat", "s02/s02.dat"]
    recording = (made / "DEAP" / "s01.dat").read_bytes()
    assert manifest["inputs"]["s01/s01.dat"] == hashlib.sha256(recording).hexdigest()
    assert {"python", "numpy", "scipy", "mne"} <= set(manifest["versions"])
    assert manifest["hash"] == manifest_hash(manifest) == Store.open(made / "store").hash


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
    features = subject_features(data)
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
        subject_features(data)
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
    old = Store.open(mine / "store").hash
    write_deap(mine / "DEAP", 1, Signal(n_trials=N_TRIALS, seed=9))
    store = rebuild(mine)
    said = capsys.readouterr().out
    assert "changed: inputs.s01/s01.dat" in said and "s02.dat" not in said
    assert store.hash != old
    data, _ = simulate_subject(1, Signal(n_trials=N_TRIALS, seed=9))
    np.testing.assert_array_equal(store.eeg[0], data[0, :32, 384:].astype(np.float32))
    assert sorted(path.name for path in mine.iterdir()) == ["DEAP", "store"]


def test_a_new_subject_is_added_and_said(mine, capsys):
    write_deap(mine / "DEAP", 3, Signal(n_trials=N_TRIALS))
    assert rebuild(mine).n_trials == 6
    assert "inputs.s03/s03.dat" in capsys.readouterr().out


def test_other_settings_are_recomputed_and_said(mine, capsys):
    good = content(mine / "store")
    reseal(mine / "store", sfreq=200)
    rebuild(mine)
    assert "sfreq (200 there, 128 now)" in capsys.readouterr().out
    assert content(mine / "store") == good


@pytest.mark.parametrize("name", sorted(FILES - {"trials.csv"}))
@pytest.mark.parametrize("damage", ["half", "empty", "missing"])
def test_a_damaged_store_is_made_anew(mine, name, damage, monkeypatch):
    path = mine / "store" / name
    damaged(path, damage)

    def stop(*_):
        raise UserError("recomputing")

    # What is recomputed is tested elsewhere: here, that it is.
    monkeypatch.setattr(preprocessing, "subject_features", stop)
    with pytest.raises(UserError, match="recomputing"):
        rebuild(mine)


def damaged(path: Path, damage: str) -> None:
    if damage == "missing":
        path.unlink()
    else:
        size = path.stat().st_size // 2 if damage == "half" else 0
        os.truncate(path, size)


@pytest.mark.parametrize("bad", ["s01.dat", "s02.dat"])
def test_a_bad_subject_leaves_the_old_store_byte_for_byte(mine, bad):
    before = content(mine / "store")
    (mine / "DEAP" / bad).write_bytes(b"nonsense")
    with pytest.raises(UserError, match=bad) as error:
        rebuild(mine)
    one_line(error)
    assert content(mine / "store") == before
    assert sorted(path.name for path in mine.iterdir()) == ["DEAP", "store"]
    assert Store.open(mine / "store").n_trials == 4


def test_a_bad_subject_leaves_nothing_where_there_was_nothing(mine):
    shutil.rmtree(mine / "store")
    (mine / "DEAP" / "s02.dat").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="s02.dat"):
        rebuild(mine)
    assert [path.name for path in mine.iterdir()] == ["DEAP"]


def test_a_replacement_killed_between_its_renames_is_undone(mine):
    before = content(mine / "store")
    (mine / "store").rename(mine / ".store.old")
    shutil.copytree(mine / ".store.old", mine / ".store.new")
    (mine / ".store.new" / "eeg.npy").unlink()
    rebuild(mine)
    assert content(mine / "store") == before
    rebuild(mine)
    assert ".store.old" not in {path.name for path in mine.iterdir()}


def test_subjects_that_do_not_fit_together_are_refused(mine, monkeypatch):
    def process(_source, subject, _files):
        names = ("CZ", "OZ") if subject == "s01" else ("OZ", "CZ")
        row = {"subject": subject, "stimulus": "a", "baseline": 0}
        return names, subject_features(recordings()), [row, row]

    monkeypatch.setattr(preprocessing, "_process", process)
    shutil.rmtree(mine / "store")
    with pytest.raises(UserError, match="s02 has the channels OZ CZ") as error:
        rebuild(mine)
    one_line(error)


def test_the_number_of_jobs_changes_no_byte(made, tmp_path):
    build_store("deap", made / "DEAP", tmp_path / "store", n_jobs=2)
    assert content(tmp_path / "store") == content(made / "store")


# --- Reading it --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("damage", ["half", "empty", "missing", "garbage"])
def test_a_damaged_store_is_refused_in_one_line(mine, name, damage):
    path = mine / "store" / name
    if damage == "garbage":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    else:
        damaged(path, damage)
    with pytest.raises(UserError) as error:
        Store.open(mine / "store")
    assert "preprocess_de.py" in one_line(error) or name == "manifest.json"


@pytest.mark.parametrize("path", ["", "nowhere"])
def test_a_missing_store_says_how_to_make_one(tmp_path, path):
    with pytest.raises(UserError, match="preprocess_de.py --source") as error:
        Store.open(tmp_path / path)
    one_line(error)
    with pytest.raises(UserError, match="--source eegmat --out-dir .*eegmat$"):
        Store.open(tmp_path / "eegmat")
    with pytest.raises(UserError, match="--source {deap,eegmat} --out-dir .*mine$"):
        Store.open(tmp_path / "mine")


def test_a_tampered_manifest_is_refused(mine):
    path = mine / "store" / "manifest.json"
    path.write_text(path.read_text().replace('"deap"', '"seed"'))
    with pytest.raises(UserError, match="damaged") as error:
        Store.open(mine / "store")
    one_line(error)
    path.write_text("[]")
    with pytest.raises(UserError, match="damaged"):
        Store.open(mine / "store")


def test_a_store_of_other_settings_is_refused_naming_them(mine):
    reseal(mine / "store", bands={"theta": [4.0, 7.0]})
    with pytest.raises(UserError, match="bands.theta") as error:
        Store.open(mine / "store")
    one_line(error)


def test_reading_cannot_change_the_store(mine):
    before = content(mine / "store")
    store = Store.open(mine / "store")
    store.eeg[:] = 0
    store.de[:] = 0
    del store
    assert content(mine / "store") == before


@pytest.mark.parametrize("trials", [[4], [-1], [0, 99], []])
def test_a_trial_that_is_not_there_is_refused(made, trials):
    store = Store.open(made / "store")
    assert store.checked_trials([3, 0]) == [3, 0]
    with pytest.raises(UserError, match="0 to 3") as error:
        store.checked_trials(trials)
    one_line(error)


# --- .mat --------------------------------------------------------------------------------------


def test_mat_export_has_the_fields_layout(made, tmp_path):
    store = Store.open(made / "store")
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
        "from de3dgan.preprocessing import build_store\n"
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
