"""What a user can get wrong: one sentence, exit code 2, and nothing half-written."""

from __future__ import annotations

import json
import pickle
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from de3dgan.store import manifest_hash
from tests.conftest import (
    ROOT,
    STAGES,
    TINY,
    contents,
    run_here,
    run_script,
    run_stage,
    script_of,
    write_store,
)

PREPROCESS = ROOT / "preprocess_de.py"


def sentence(done) -> str:
    """Return the error, after checking that it is all there is on stderr but a progress bar."""
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    lines = [line.split("\r")[-1] for line in done.stderr.split("\n")]
    bars = ("subject/s", "step/s", "s/subject", "s/step")
    lines = [line for line in lines if line.strip() and not any(bar in line for bar in bars)]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("Error: ")
    assert len(lines[0]) > len("Error: ") + 10
    return lines[0]


def refuse(folder: Path, script: Path, *args: object, cwd: Path | None = None) -> str:
    """Run a script that must fail and leave `folder` as it was; return the error."""
    before = contents(folder)
    message = sentence(run_here(script, *args, cwd=cwd))
    after = contents(folder)
    assert after == before, set(after) ^ set(before)
    return message


@pytest.fixture(scope="module")
def finished(little_store, tmp_path_factory) -> Path:
    """Return a runs folder with generators of two folds and a classifier."""
    runs = tmp_path_factory.mktemp("finished") / "runs"
    run_stage("gan", little_store, runs, epochs=1)
    run_stage("gan", little_store, runs, epochs=1, fold=1)
    run_stage("classifier", little_store, runs, epochs=1)
    return runs


@pytest.fixture
def runs(finished, tmp_path) -> Path:
    """Return a copy of those runs."""
    return Path(shutil.copytree(finished, tmp_path / "runs"))


@pytest.fixture
def store(little_store, tmp_path) -> Path:
    """Return a copy of the little store."""
    return Path(shutil.copytree(little_store, tmp_path / "deap"))


# --- the command line


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--fold 5", "0 to 4"),
        ("--fold -1", "0 to 4"),
        ("--protocol leave-one-out", "trial"),
        ("--wdths 4", "--wdths"),
        ("--epochs 1.5", "1.5"),
        ("--epochs 0", "--epochs"),
        ("--batch-size 0", "--batch-size"),
        ("--seed -1", "--seed"),
        ("--device tpu", "tpu"),
        ("--lr -1", "lr"),
        ("--weight-decay -1", "weight"),
        ("--ratings joy", "joy"),
        ("--ratings", "rating"),
    ],
)
def test_flags_that_cannot_be_meant(stage, flags, said, little_store, runs):
    args = ["--data-dir", little_store, "--runs-dir", runs, *TINY[stage], "--epochs", 1]
    fold = ["--fold", 2] if stage != "finetune" and "--fold" not in flags else []
    message = refuse(runs, script_of(stage), *args, *fold, *flags.split())
    assert said in message


@pytest.mark.parametrize(
    ("stage", "flags"),
    [
        ("gan", "--critic-every 0"),
        ("gan", "--critic-lr -1"),
        ("gan", "--widths 0 4 4 4"),
        ("classifier", "--dropout 1.5"),
        ("classifier", "--n-features 0"),
        ("classifier", "--class-names one"),
        ("classifier", "--threshold 100"),
    ],
)
def test_values_of_a_network_that_cannot_be_meant(stage, flags, little_store, tmp_path):
    args = ["--data-dir", little_store, "--runs-dir", tmp_path, "--epochs", 1]
    flags = [*TINY[stage], *flags.split()]
    refuse(tmp_path, script_of(stage), *args, *flags)


def test_a_fold_that_is_not_there_in_a_real_process(little_store, tmp_path):
    args = ["--data-dir", little_store, "--runs-dir", tmp_path / "runs", "--fold", 5]
    script = script_of("classifier", "Arousal")
    assert "0 to 4" in sentence(run_script(script.name, *args, cwd=script.parent))
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(little_store, tmp_path):
    args = ("--data-dir", little_store, "--runs-dir", tmp_path, "--device", "cuda")
    assert "GPU" in refuse(tmp_path, script_of("gan"), *args)


@pytest.mark.parametrize("flags", ["", "--source seed", "--source eegmat --jobs two"])
def test_preprocessing_flags_that_cannot_be_meant(flags, tmp_path):
    refuse(tmp_path, PREPROCESS, "--out-dir", tmp_path / "out", *flags.split())


# --- recordings


def preprocess(source: str, data_dir: Path) -> str:
    out = data_dir.parent / "out" / source
    out.parent.mkdir(exist_ok=True)
    args = ("--source", source, "--data-dir", data_dir, "--out-dir", out, "--jobs", 1)
    return refuse(data_dir.parent, PREPROCESS, *args)


def test_deap_that_is_not_there_says_where_it_goes(tmp_path):
    for folder in (tmp_path / "missing", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        message = preprocess("deap", folder)
        assert folder.name in message
        assert "s01.dat" in message
        assert "eecs.qmul.ac.uk" in message


def test_eegmat_that_is_not_there_says_where_it_is(tmp_path):
    message = preprocess("eegmat", tmp_path / "missing")
    assert "eeg_dataset/EEGMAT" in message


def dat(folder: Path, data: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    labels = np.full((len(data), 4), 6.0)
    content = pickle.dumps({"labels": labels, "data": data}, protocol=2)
    (folder / "s01.dat").write_bytes(content)
    return folder / "s01.dat"


def test_a_truncated_dat(tmp_path):
    path = dat(tmp_path / "deap", np.zeros((1, 40, 8064)))
    path.write_bytes(path.read_bytes()[:100_000])
    assert "s01.dat" in preprocess("deap", path.parent)


def test_a_dat_that_is_something_else_in_a_real_process(tmp_path):
    path = dat(tmp_path / "deap", np.zeros((1, 40, 10)))
    path.write_bytes(b"this is no pickle" * 100)
    (tmp_path / "deap" / "s02.dat").write_bytes(b"")
    out = tmp_path / "out"
    args = ("--source", "deap", "--data-dir", path.parent, "--out-dir", out, "--jobs", 2)
    assert ".dat" in sentence(run_script(PREPROCESS, *args))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deap"]


def test_a_dat_that_would_run_code_does_not(tmp_path):
    folder = tmp_path / "deap"
    folder.mkdir()
    (folder / "s01.dat").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    assert "s01.dat" in preprocess("deap", folder)
    assert not (ROOT / "pwned").exists()


def test_a_recording_with_a_nan(tmp_path):
    data = np.random.default_rng(0).normal(size=(1, 40, 8064))
    data[0, 3, 5000] = np.nan
    message = preprocess("deap", dat(tmp_path / "deap", data).parent)
    assert "s01.dat" in message
    assert "NaN" in message


def test_a_flat_electrode_is_named(tmp_path):
    data = np.random.default_rng(0).normal(size=(1, 40, 8064))
    data[0, 2] = 0
    assert "F3" in preprocess("deap", dat(tmp_path / "deap", data).parent)


@pytest.mark.parametrize("how", ["truncated", "garbage"])
def test_an_edf_that_is_damaged(how, tmp_path):
    folder = tmp_path / "eegmat"
    folder.mkdir()
    for name in ("Subject00_1.edf", "Subject00_2.edf"):
        shutil.copy(ROOT / "eeg_dataset" / "EEGMAT" / name, folder)
    path = folder / "Subject00_2.edf"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if how == "truncated" else b"\0garbage" * 999)
    assert "Subject00_2.edf" in preprocess("eegmat", folder)


def test_an_edf_with_a_channel_that_is_not_on_the_grid(tmp_path):
    import mne

    folder = tmp_path / "eegmat"
    folder.mkdir()
    names = ["EEG Fz", "EEG Cz", "EEG Xyz"]
    for name, seconds in (("Subject00_1.edf", 64), ("Subject00_2.edf", 62)):
        eeg = np.random.default_rng(0).normal(0, 1e-5, (3, 128 * seconds))
        raw = mne.io.RawArray(eeg, mne.create_info(names, 128, "eeg"), verbose="error")
        mne.export.export_raw(folder / name, raw, verbose="error")
    message = preprocess("eegmat", folder)
    assert "XYZ" in message
    assert "FP1" in message  # it lists the electrodes that there are


def test_a_failed_preprocessing_leaves_the_old_store_as_it_was(tmp_path):
    folder = tmp_path / "deap"
    dat(folder, np.random.default_rng(0).normal(size=(2, 40, 8064)))
    out = tmp_path / "out" / "deap"
    args = ("--source", "deap", "--data-dir", folder, "--out-dir", out, "--jobs", 1)
    assert run_here(PREPROCESS, *args).returncode == 0
    (folder / "s02.dat").write_bytes(b"garbage")
    assert "s02.dat" in preprocess("deap", folder)


# --- stores


def test_a_store_that_is_missing_says_how_to_make_it(tmp_path):
    args = ("--data-dir", tmp_path / "deap", "--runs-dir", tmp_path / "runs")
    message = refuse(tmp_path, script_of("classifier"), *args)
    assert "python preprocess_de.py --source deap" in message


def test_a_store_of_other_settings_is_refused_naming_them(store, tmp_path):
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["bands"]["theta"] = [3, 8]
    manifest["hash"] = manifest_hash(manifest)
    (store / "manifest.json").write_text(json.dumps(manifest))
    args = ("--data-dir", store, "--runs-dir", tmp_path / "runs")
    message = refuse(tmp_path, script_of("gan"), *args)
    assert "bands.theta" in message
    assert "preprocess_de.py" in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.json", b"{}"),
        ("manifest.json", b"garbage"),
        ("manifest.json", b"[]"),
        ("eeg.npy", b"garbage"),
        ("eeg.npy", None),
        ("trials.csv", b""),
        ("trials.csv", b"trial,subject\n0,s01\n"),
        ("baseline.npy", "truncated"),
    ],
)
def test_a_damaged_store(name, content, store, tmp_path):
    path = store / name
    if content is None:
        path.unlink()
    elif content == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    else:
        path.write_bytes(content)
    args = ("--data-dir", store, "--runs-dir", tmp_path / "runs")
    message = refuse(tmp_path, script_of("gan"), *args)
    assert store.name in message


def test_too_few_stimuli_for_the_video_protocol(tmp_path):
    store = write_store(
        tmp_path / "eegmat", stimuli=("rest", "arithmetic"), ratings=("arithmetic",)
    )
    args = ("--data-dir", store, "--runs-dir", tmp_path / "runs", "--protocol", "video")
    message = refuse(tmp_path, script_of("classifier", "Workload"), *args)
    assert "video" in message
    assert "another protocol" in message


def test_a_task_whose_rating_the_source_lacks(little_store, tmp_path):
    args = ("--data-dir", little_store, "--runs-dir", tmp_path / "runs")
    message = refuse(tmp_path, script_of("classifier", "Workload"), *args)
    assert "arithmetic" in message
    assert "valence" in message  # those it has


# --- run directories


def test_a_run_directory_of_other_settings_names_the_differing_field(little_store, runs):
    args = ["--data-dir", little_store, "--runs-dir", runs, "--epochs", 7]
    message = refuse(runs, script_of("gan"), *args, *TINY["gan"])
    assert "epochs (1 there, 7 now)" in message
    assert "lr" not in message.split(":", 2)[1]
    assert "--restart" in message


@pytest.mark.parametrize("what", ["config.json", "state.pt"])
def test_a_damaged_file_of_a_stopped_run(what, little_store, runs):
    folder = runs / "valence" / "trial" / "fold0" / "classifier"
    settings = json.loads((folder / "config.json").read_text())["settings"]
    (folder / "result.json").unlink()
    (folder / what).write_bytes(b"garbage")
    args = ["--data-dir", little_store, "--runs-dir", runs, *TINY["classifier"]]
    args += ["--epochs", 1, "--lr", settings["lr"], "--batch-size", settings["batch_size"]]
    done = run_here(script_of("classifier"), *args)
    assert what in sentence(done)
    assert not (folder / "result.json").exists()


@pytest.mark.parametrize("stage", STAGES)
def test_an_output_folder_that_cannot_be_made(stage, little_store, tmp_path):
    (tmp_path / "file").write_text("")
    args = ("--data-dir", little_store, "--runs-dir", tmp_path / "file" / "runs")
    refuse(tmp_path, script_of(stage), *args)


def test_a_store_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    path = dat(tmp_path / "deap", np.random.default_rng(0).normal(size=(1, 40, 8064)))
    out = tmp_path / "file" / "deap"
    args = ("--source", "deap", "--data-dir", path.parent, "--out-dir", out, "--jobs", 1)
    assert "file" in refuse(tmp_path, PREPROCESS, *args)


# --- what earlier stages left


def command_in(message: str) -> list[str]:
    """Return the command that a message ends with, split as a shell does."""
    return shlex.split(message[message.index("python ") :])


@pytest.mark.parametrize("missing", ["gan", "classifier"])
def test_a_missing_checkpoint_says_the_command_that_makes_it(missing, little_store, runs):
    shutil.rmtree(runs / "valence" / "trial" / "fold0" / missing)
    args = ("--data-dir", little_store, "--runs-dir", runs)
    message = refuse(runs, script_of("finetune"), *args, cwd=ROOT / "tests")
    python, script, *flags = command_in(message)
    assert python == "python"
    assert (ROOT / "tests" / script).resolve() == script_of(missing)
    made = [*flags, *TINY[missing], "--epochs", 1]
    done = run_here(script_of(missing), *made, cwd=ROOT / "tests")
    assert done.returncode == 0, done.stderr
    assert (runs / "valence" / "trial" / "fold0" / missing / "model.pt").exists()


def test_the_command_survives_a_folder_with_a_space(little_store, tmp_path):
    args = ("--data-dir", little_store, "--runs-dir", tmp_path / "my runs", "--fold", 3)
    message = refuse(tmp_path, script_of("finetune"), *args)
    flags = command_in(message)[2:]
    assert flags[flags.index("--runs-dir") + 1] == str(tmp_path / "my runs")
    assert flags[flags.index("--fold") + 1] == "3"


def test_the_command_makes_the_right_split_when_the_labels_were_changed(little_store, tmp_path):
    args = ("--data-dir", little_store, "--runs-dir", tmp_path, "--threshold", 4.0)
    flags = command_in(refuse(tmp_path, script_of("finetune"), *args))
    assert flags[flags.index("--threshold") + 1] == "4.0"


def test_a_generator_of_another_fold_is_refused(little_store, runs):
    fold0, fold1 = (runs / "valence" / "trial" / f"fold{k}" / "gan" for k in (0, 1))
    prints = [
        json.loads((folder / "result.json").read_text())["split_fingerprint"]
        for folder in (fold0, fold1)
    ]
    assert prints[0] != prints[1]
    shutil.copy(fold1 / "model.pt", fold0 / "model.pt")
    args = ("--data-dir", little_store, "--runs-dir", runs)
    message = refuse(runs, script_of("finetune"), *args)
    assert prints[0] in message
    assert prints[1] in message
    command = command_in(message)
    assert Path(command[1]).name == script_of("gan").name
    assert "--restart" in command


def test_a_checkpoint_of_another_stage_is_refused(little_store, runs):
    fold = runs / "valence" / "trial" / "fold0"
    shutil.copy(fold / "classifier" / "model.pt", fold / "gan" / "model.pt")
    args = ("--data-dir", little_store, "--runs-dir", runs)
    assert "gan" in refuse(runs, script_of("finetune"), *args)


@pytest.mark.parametrize("content", [b"garbage", b"", "truncated", "pickle", "list"])
def test_a_checkpoint_that_is_none(content, little_store, runs, tmp_path):
    path = runs / "valence" / "trial" / "fold0" / "gan" / "model.pt"
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:-5000])
    elif content == "pickle":
        torch.save({"format": 1, "code": Path}, path)
    elif content == "list":
        torch.save([1, 2], path)
    else:
        path.write_bytes(content)
    args = ("--data-dir", little_store, "--runs-dir", runs)
    message = refuse(runs, script_of("finetune"), *args)
    assert "model.pt" in message
    assert "3D-UNet_GAN_Valence.py" in message
