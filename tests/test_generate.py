"""generate.py and the Python interface: EEG from a trained generator, for other programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mne
import numpy as np
import pytest

from de3dgan.data.opening import open_store
from de3dgan.data.store import Store
from de3dgan.data.synthetic import write_store
from de3dgan.eeg.de import trial_de
from de3dgan.eeg.montage import DEAP_CHANNELS
from de3dgan.figures import stages as figures_of_stages
from de3dgan.stages.generation import TrainedGenerator, load_generator
from tests.conftest import METHODS, ROOT, contents, run_here, run_stage

TRIALS = (1, 10, 4)
RATINGS = ("valence", "arousal", "dominance", "liking")


@pytest.fixture(scope="module")
def store_dir(tmp_path_factory) -> Path:
    """Return a store of 12 trials, each as DEAP's are."""
    folder = tmp_path_factory.mktemp("features") / "deap"
    return write_store(folder, 3, ratings=RATINGS, ch_names=DEAP_CHANNELS, n_frames=60)


@pytest.fixture(scope="module")
def store(store_dir) -> Store:
    return open_store(store_dir)


@pytest.fixture(scope="module")
def runs_by_method(store_dir, tmp_path_factory) -> dict[str, Path]:
    """Return runs folders with a generator of the valence task, trained for an epoch, by method."""
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures_of_stages, "plotting", lambda run: False)
        for method in METHODS:
            folders[method] = tmp_path_factory.mktemp("generate") / "runs"
            run_stage("gan", store_dir, folders[method], method, epochs=1)
    return folders


@pytest.fixture(scope="module")
def runs(runs_by_method) -> Path:
    return runs_by_method["spectral"]


@pytest.fixture(scope="module")
def generators(runs_by_method) -> dict[str, TrainedGenerator]:
    model = "valence/trial/fold0/gan/model.pt"
    return {method: load_generator(folder / model) for method, folder in runs_by_method.items()}


@pytest.fixture(scope="module")
def generator(generators) -> TrainedGenerator:
    return generators["spectral"]


@pytest.fixture(scope="module")
def expected(generator, store) -> np.ndarray:
    """Return the EEG of `TRIALS` by the Python interface, (3, 32, 7680) in µV."""
    return generated(generator, store, *TRIALS)


def generated(generator: TrainedGenerator, store: Store, *trials: int, draw: int = 0) -> np.ndarray:
    """Return the EEG generated from the DE of trials of a store."""
    return generator(store.absolute_de(list(trials)), np.array(trials), draw)


@pytest.fixture
def generate(runs, store_dir):
    """Return a function that runs generate.py."""

    def run(out: Path, *more: object, data_dir: Path = store_dir):
        args = ["--task", "valence", "--out", out, "--runs-dir", runs, "--data-dir", data_dir]
        return run_here(ROOT / "generate.py", *args, *(more or ("--trials", *TRIALS)))

    return run


# --- the Python interface


@pytest.mark.parametrize("method", METHODS)
def test_de_in_and_eeg_in_microvolts_out(method, generators, store):
    generator = generators[method]
    de = store.absolute_de([0])
    assert (de.shape, de.dtype) == ((1, 4, 120, 32), np.float32)
    eeg = generator(de, np.array([0]))
    assert (eeg.shape, eeg.dtype) == ((1, 32, 7680), np.float32)
    assert np.isfinite(eeg).all()
    assert generator.ch_names == store.ch_names
    # µV, as the real EEG is: neither volts nor z-scores of a scaler that was not undone
    quietest, loudest = (0.8, 1.25) if method == "spectral" else (0.05, 2)
    assert quietest < eeg.std() / store.eeg[0].std() < loudest
    np.testing.assert_array_equal(eeg, generator(de, np.array([0])))
    assert set(generator.scalers) == (
        set() if method == "spectral" else {"de_scaler", "eeg_scaler"}
    )


@pytest.mark.parametrize("method", METHODS)
def test_generated_eeg_is_of_its_trial_and_not_of_its_neighbours(method, generators, store):
    several = generated(generators[method], store, *TRIALS)
    (one,) = generated(generators[method], store, TRIALS[1])
    np.testing.assert_allclose(one, several[1], atol=0.05 * several.std())
    assert np.abs(several[0] - several[1]).max() > several.std()


def test_generated_eeg_has_the_de_of_its_trial(expected, store):
    de = store.absolute_de(list(TRIALS))
    assert np.abs(trial_de(expected) - de).mean() < 0.05


def test_trials_are_drawn_each_on_its_own(generator, store):
    """Noise belongs to the trial, so that two trials of the same DE have other EEG."""
    de = store.absolute_de([5, 5, 5])
    same, other, again = generator(de, np.array([5, 6, 5]))
    # But for rounding, which differs between places in a batch.
    np.testing.assert_allclose(same, again, atol=0.05 * same.std())
    assert abs(np.corrcoef(same.ravel(), other.ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("method", METHODS)
def test_a_generator_knows_what_it_was_trained_on(method, generators, runs_by_method, store):
    generator = generators[method]
    result = json.loads(
        (runs_by_method[method] / "valence/trial/fold0/gan/result.json").read_text()
    )
    assert generator.origin["split_fingerprint"] == result["split_fingerprint"]
    assert generator.origin["store_hash"] == store.hash
    parts = [generator.part_of(trial) for trial in range(12)]
    assert [parts.count(part) for part in ("train", "val", "test")] == [
        result[f"n_{part}_trials"] for part in ("train", "val", "test")
    ]


# --- files


@pytest.mark.parametrize("kind", ["fif", "edf"])
def test_a_file_is_read_back_by_mne(kind, generate, expected, generator, tmp_path):
    out = tmp_path / f"generated.{kind}"
    done = generate(out)
    assert done.returncode == 0, done.stderr
    assert "3 trials, 32 channels" in done.stdout
    reader = mne.io.read_raw_fif if kind == "fif" else mne.io.read_raw_edf
    raw = reader(out, preload=True, verbose="error")
    assert [name.removeprefix("EEG ").upper() for name in raw.ch_names] == generator.ch_names
    volts = 1e-6 * expected.swapaxes(0, 1).reshape(32, -1)
    step = 1e-6 * np.ptp(expected) / 2**15 if kind == "edf" else 1e-12
    np.testing.assert_allclose(raw.get_data(), volts, atol=step, rtol=1e-6)
    names = [text for text in raw.annotations.description if "trial" in text]
    assert len(names) == 3
    for trial, text in zip(TRIALS, names, strict=True):
        assert f"trial {trial} " in text
        assert generator.part_of(trial) in text
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name]


def test_a_dat_is_read_back_by_preprocessing(generate, expected, store, tmp_path):
    done = generate(tmp_path / "deap" / "s01.dat")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "store"
    args = ("--source", "deap", "--data-dir", tmp_path / "deap", "--out-dir", out, "--jobs", 1)
    done = run_here(ROOT / "preprocess_de.py", *args)
    assert done.returncode == 0, done.stderr
    found = open_store(out)
    np.testing.assert_array_equal(found.eeg, expected)
    np.testing.assert_array_equal(found.baseline, store.baseline[list(TRIALS)])
    for name in RATINGS:
        np.testing.assert_allclose(found.rating(name), store.rating(name)[list(TRIALS)])
    # Filtered with the baseline before the trial, or without: windows at its ends differ.
    absolute, alone = found.absolute_de([1])[:, :, 4:-4], trial_de(expected[[1]])[:, :, 4:-4]
    np.testing.assert_allclose(absolute, alone, atol=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_another_draw_is_other_eeg_with_the_same_de(method, runs_by_method, store_dir, tmp_path):
    """But for the published generator, which knows one only."""
    drawn = []
    for name, draw in (("default", []), ("zero", ["--draw", 0]), ("one", ["--draw", 1])):
        args = ["--task", "valence", "--runs-dir", runs_by_method[method], "--data-dir", store_dir]
        done = run_here(ROOT / "generate.py", *args, "--out", tmp_path / f"{name}.fif", *draw)
        assert done.returncode == 0, done.stderr
        raw = mne.io.read_raw_fif(tmp_path / f"{name}.fif", verbose="error")
        drawn.append(1e6 * raw.get_data())
    default, zero, one = drawn
    assert default.shape == (32, 7680)  # of one trial
    np.testing.assert_array_equal(default, zero)
    if method == "published":
        np.testing.assert_array_equal(zero, one)
        return
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(zero, one, strict=True)]
    assert np.abs(correlations).max() < 0.2
    a, b = trial_de(np.stack([zero, one]).astype(np.float32))
    assert np.abs(a - b).mean() < 0.05
    assert np.percentile(np.abs(a - b), 99) < 0.2


# --- mistakes


def refused(done, folder: Path, before: dict) -> str:
    assert done.returncode == 2, (done.stdout, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert contents(folder) == before
    return lines[0]


@pytest.mark.parametrize("flags", [["--protocol", "within"], ["--person", "s01"]])
def test_a_person_and_protocol_within_go_together(flags, generate, tmp_path):
    done = generate(tmp_path / "x.fif", "--trials", 0, *flags)
    assert "give --person with it" in refused(done, tmp_path, {})


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--trials 12", "12"),
        ("--trials 0 -1", "-1"),
        ("--trials", "trial"),
        ("--fold 3", "fold3"),
        ("--task joy", "joy"),
        ("--protocol video", "video"),
        ("--trials one", "one"),
        ("--draw one", "one"),
        ("--data-dir nowhere", "nowhere"),
        ("--draw -1", "draw"),
        ("--protocol window", "random-frame"),
    ],
)
def test_a_trial_or_generator_that_is_not_there(flags, said, generate, tmp_path):
    done = generate(tmp_path / "x.fif", *flags.split())
    assert said in refused(done, tmp_path, {})


@pytest.mark.parametrize("name", ["x.csv", "x", "file/below.fif", "file/s01.dat", "file/x.edf"])
def test_a_file_that_cannot_be_written(name, generate, tmp_path):
    (tmp_path / "file").write_text("")
    before = contents(tmp_path)
    refused(generate(tmp_path / name), tmp_path, before)


def test_a_store_that_the_generator_was_not_trained_on(generate, tmp_path):
    other = write_store(tmp_path / "other")
    before = contents(tmp_path)
    done = generate(tmp_path / "x.fif", data_dir=other)
    message = refused(done, tmp_path, before)
    assert str(other) in message
    assert "--data-dir" in message


def test_a_checkpoint_that_is_no_generator(runs, store_dir, tmp_path):
    folder = tmp_path / "valence" / "trial" / "fold0" / "gan"
    folder.mkdir(parents=True)
    shutil.copy(runs / "valence/trial/fold0/gan/state.pt", folder / "model.pt")
    before = contents(tmp_path)
    args = ["--task", "valence", "--out", tmp_path / "x.fif", "--runs-dir", tmp_path]
    done = run_here(ROOT / "generate.py", *args, "--data-dir", store_dir)
    assert "model.pt" in refused(done, tmp_path, before)
