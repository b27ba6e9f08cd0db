"""What a user can get wrong: one sentence, exit code 2, and nothing half-written."""

from __future__ import annotations

import json
import os
import pickle
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from de3dgan.base.errors import UserError
from de3dgan.base.locks import replaced_folder
from de3dgan.data.simulation import Signal, simulate_subject
from de3dgan.data.sources import deap
from tests.conftest import (
    METHODS,
    ROOT,
    STAGES,
    TINY,
    TINY_OF,
    contents,
    run_here,
    run_script,
    run_stage,
    script_of,
    write_store,
)
from tests.helpers import FOLD

pytestmark = pytest.mark.usefixtures("no_figures", "no_baselines")

PREPROCESS = ROOT / "preprocess_de.py"


def sentence(done) -> str:
    """Return the error, after checking that it is all there is on stderr but a progress bar."""
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    lines = [line.split("\r")[-1] for line in done.stderr.split("\n")]
    bars = ("unit/s", "step/s", "s/unit", "s/step")
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


@pytest.fixture
def runs_of(finished_of, tmp_path) -> Callable[[str], Path]:
    """Return what copies a generator and a classifier of a method."""
    no_finetune = shutil.ignore_patterns("finetune")
    return lambda method: Path(
        shutil.copytree(finished_of(method), tmp_path / "runs", ignore=no_finetune)
    )


@pytest.fixture
def runs(runs_of) -> Path:
    """Return such copies of our method."""
    return runs_of("spectral")


# --- the command line

#: What is the same code for each stage is tried with one of them after each change.
each_stage_if_slow = pytest.mark.parametrize(
    "stage",
    [s if s == "classifier" else pytest.param(s, marks=pytest.mark.slow) for s in STAGES],
)


@each_stage_if_slow
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
        ("--seed 99999999999", "--seed"),
        ("--task ../../elsewhere", "--task"),
        ("--device tpu", "tpu"),
        ("--lr -1", "lr"),
        ("--weight-decay -1", "weight"),
        ("--ratings joy", "joy"),
        ("--ratings", "rating"),
        ("--method nonsense", "'spectral', 'published'"),
        ("--method", "--method"),
    ],
)
def test_flags_that_cannot_be_meant(stage, flags, said, little_store, runs):
    args = ["--data-dir", little_store, "--runs-dir", runs, *TINY[stage], "--epochs", 1]
    fold = ["--fold", 2] if stage != "finetune" and "--fold" not in flags else []
    message = refuse(runs, script_of(stage), *args, *fold, *flags.split())
    assert said in message


@pytest.mark.parametrize(
    ("method", "stage", "flags"),
    [
        ("published", "gan", "--critic-every 0"),
        ("published", "gan", "--critic-lr -1"),
        ("published", "gan", "--widths 0 4 4 4"),
        ("published", "gan", "--penalty-weight -1"),
        ("published", "classifier", "--dropout 1.5"),
        ("spectral", "gan", "--widths 0 8 8 8"),
        ("spectral", "gan", "--ema-decay 1"),
        ("spectral", "gan", "--ema-decay -0.1"),
        ("spectral", "gan", "--gain-sd -1"),
        ("spectral", "gan", "--critic-every 5"),  # which is of the other method
        ("spectral", "classifier", "--noise -1"),
        ("spectral", "classifier", "--dropout 1.5"),
        ("spectral", "classifier", "--ema-decay nan"),
        ("spectral", "classifier", "--choose-by val_auc"),
        ("spectral", "classifier", "--n-features 0"),
        ("spectral", "classifier", "--class-names one"),
        ("spectral", "classifier", "--threshold 100"),
        ("spectral", "finetune", "--ema-decay 1"),
        ("spectral", "finetune", "--label-weight -1"),
        ("published", "finetune", "--consistency-weight -1"),
    ],
)
def test_values_of_a_network_that_cannot_be_meant(method, stage, flags, little_store, tmp_path):
    args = ["--data-dir", little_store, "--runs-dir", tmp_path, "--epochs", 1]
    flags = [*TINY_OF[method][stage], *flags.split()]
    message = refuse(tmp_path, script_of(stage), *args, *flags)
    if stage == "finetune":  # not of the missing checkpoints
        assert flags[-2] in message


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


@pytest.mark.parametrize(
    ("source", "said"),
    [("deap", ("s01.dat", "eecs.qmul.ac.uk")), ("eegmat", ("eeg_dataset/EEGMAT",))],
)
def test_recordings_that_are_not_there_say_where_they_are(source, said, tmp_path):
    message = preprocess(source, tmp_path / "missing")
    assert all(word in message for word in ("missing", *said))


def dat(folder: Path, data: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    labels = np.full((len(data), 4), 6.0)
    content = pickle.dumps({"labels": labels, "data": data}, protocol=2)
    (folder / "s01.dat").write_bytes(content)
    return folder / "s01.dat"


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


# --- stores


def test_a_store_that_is_missing_says_how_to_make_it(tmp_path):
    args = ("--data-dir", tmp_path / "deap", "--runs-dir", tmp_path / "runs")
    message = refuse(tmp_path, script_of("classifier"), *args)
    assert "python preprocess_de.py --source deap" in message


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
    assert "epochs (3 there, 7 now)" in message
    assert "lr" not in message.split(":", 2)[1]
    assert "--restart" in message


@pytest.mark.parametrize(
    ("what", "content"),
    [("config.json", b"garbage"), ("config.json", b"[]"), ("state.pt", b"garbage")],
)
def test_a_damaged_file_of_a_stopped_run(what, content, little_store, runs):
    folder = runs / FOLD / "classifier"
    (folder / "result.json").unlink()
    (folder / what).write_bytes(content)
    args = ["--data-dir", little_store, "--runs-dir", runs, *TINY["classifier"]]
    args += ["--epochs", 3, "--lr", 1e-3, "--batch-size", 32]
    done = run_here(script_of("classifier"), *args)
    assert what in sentence(done)
    assert not (folder / "result.json").exists()


@each_stage_if_slow
def test_an_output_folder_that_cannot_be_made(stage, little_store, tmp_path):
    (tmp_path / "file").write_text("")
    args = ("--data-dir", little_store, "--runs-dir", tmp_path / "file" / "runs")
    refuse(tmp_path, script_of(stage), *args)


def test_a_store_folder_that_cannot_be_made(recordings, tmp_path):
    (tmp_path / "file").write_text("")
    args = ("--source", "eegmat", "--data-dir", recordings, "--jobs", 1)
    assert "file" in refuse(tmp_path, PREPROCESS, *args, "--out-dir", tmp_path / "file" / "store")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
def test_too_little_memory(error, little_store, tmp_path, monkeypatch):
    def step(*_, **__):
        raise error

    monkeypatch.setattr("de3dgan.training.loop.step", step)
    args = ("--data-dir", little_store, "--runs-dir", tmp_path, *TINY["classifier"])
    message = sentence(run_here(script_of("classifier"), *args))
    assert "memory" in message
    assert "--batch-size" in message


# --- what earlier stages left


def command_in(message: str) -> list[str]:
    """Return the command that a message ends with, split as a shell does."""
    return shlex.split(message[message.index("python ") :])


@pytest.mark.parametrize(
    ("missing", "method"),
    [
        ("gan", "published"),
        ("classifier", "spectral"),
        pytest.param("gan", "spectral", marks=pytest.mark.slow),
        pytest.param("classifier", "published", marks=pytest.mark.slow),
    ],
)
def test_a_missing_checkpoint_says_the_command_that_makes_it(
    missing, method, little_store, runs_of
):
    runs = runs_of(method)
    fold = runs / FOLD
    shutil.rmtree(fold / missing)
    args = ("--data-dir", little_store, "--runs-dir", runs, *TINY_OF[method]["finetune"])
    message = refuse(runs, script_of("finetune"), *args, cwd=ROOT / "tests")
    python, script, *flags = command_in(message)
    assert python == "python"
    assert (ROOT / "tests" / script).resolve() == script_of(missing)
    assert ("--method published" in message) == (method == "published")
    # The method is left to the command.
    tiny = TINY_OF[method][missing][0 if method == "spectral" else 2 :]
    done = run_here(script_of(missing), *flags, *tiny, "--epochs", 1, cwd=ROOT / "tests")
    assert done.returncode == 0, done.stderr
    assert (fold / missing / "model.pt").exists()
    assert json.loads((fold / missing / "config.json").read_text())["settings"]["method"] == method


@pytest.mark.parametrize(("ours", "theirs"), [METHODS, METHODS[::-1]])
@pytest.mark.parametrize("stage", ["gan", pytest.param("classifier", marks=pytest.mark.slow)])
def test_a_checkpoint_of_the_other_method_is_refused(stage, ours, theirs, little_store, runs_of):
    runs = runs_of(theirs)
    fold = runs / FOLD
    if stage == "classifier":  # the generator is looked at first
        shutil.rmtree(fold / "gan")
        args = ("--data-dir", little_store, "--runs-dir", runs, "--epochs", 1)
        assert run_here(script_of("gan"), *args, *TINY_OF[ours]["gan"]).returncode == 0
    args = ("--data-dir", little_store, "--runs-dir", runs, *TINY_OF[ours]["finetune"])
    message = refuse(runs, script_of("finetune"), *args)
    assert f"{stage}/model.pt is of another fold or task than this run" in message
    assert f'method ("{theirs}" there, "{ours}" now)' in message
    _, script, *flags = command_in(message[message.index("make the right one") :])
    assert Path(script).name == script_of(stage).name
    assert flags[-1] == "--restart"
    tiny = TINY_OF[ours][stage][0 if ours == "spectral" else 2 :]
    done = run_here(script_of(stage), *flags, *tiny, "--epochs", 1)
    assert done.returncode == 0, done.stderr
    assert torch.load(fold / stage / "model.pt")["settings"]["method"] == ours


@pytest.mark.parametrize(("ours", "theirs"), [METHODS, METHODS[::-1]])
@pytest.mark.parametrize("stage", ["gan", "classifier"])
def test_a_run_of_the_other_method_is_not_gone_on_with(stage, ours, theirs, little_store, runs_of):
    runs = runs_of(theirs)
    args = ("--data-dir", little_store, "--runs-dir", runs, "--epochs", 1, *TINY_OF[ours][stage])
    message = refuse(runs, script_of(stage), *args)
    assert f'method ("{theirs}" there, "{ours}" now)' in message
    assert "--restart" in message


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stage", [pytest.param("gan", marks=pytest.mark.slow), "classifier"])
def test_the_command_to_begin_anew_is_of_the_same_run(stage, method, little_store, runs_of):
    """With its method and all settings that are not the method's own."""
    runs = runs_of(method)
    folder = runs / FOLD / stage
    args = ["--data-dir", little_store, "--runs-dir", runs, *TINY_OF[method][stage], "--epochs", 2]
    assert run_here(script_of(stage), *args, "--restart").returncode == 0
    settings = json.loads((folder / "config.json").read_text())
    (folder / "result.json").unlink()
    (folder / "state.pt").write_bytes(b"garbage")
    message = sentence(run_here(script_of(stage), *args))
    _, script, *flags = command_in(message)
    assert ("--method published" in message) == (method == "published")
    assert flags[-1] == "--restart"
    done = run_here(script_of(stage), *flags)
    assert done.returncode == 0, done.stderr
    again = json.loads((folder / "config.json").read_text())
    assert again == settings


def test_the_command_has_each_setting_and_survives_a_blank(little_store, tmp_path):
    given = {"--runs-dir": str(tmp_path / "my runs"), "--fold": "3", "--threshold": "4.0"}
    flags = [word for pair in given.items() for word in pair]
    message = refuse(tmp_path, script_of("finetune"), "--data-dir", little_store, *flags)
    words = command_in(message)
    assert given == {flag: words[words.index(flag) + 1] for flag in given}


def test_a_checkpoint_that_is_none(little_store, runs):
    """Of which there are more in test_chains.py."""
    torch.save([1, 2], runs / FOLD / "gan" / "model.pt")
    args = ("--data-dir", little_store, "--runs-dir", runs)
    message = refuse(runs, script_of("finetune"), *args)
    assert "model.pt" in message and "3D-UNet_GAN_Valence.py" in message


@pytest.mark.parametrize("stage", ["gan", "finetune"])
def test_the_random_frame_protocol_is_refused_in_a_sentence(stage, little_store, tmp_path):
    args = ("--data-dir", little_store, "--runs-dir", tmp_path, "--protocol", "random-frame")
    message = sentence(run_here(script_of(stage), *args, *TINY[stage]))
    if stage == "gan":
        assert "another --protocol" in message
        assert "--method published" in message


# --- nothing of the user's is deleted, and nothing stale is taken for fresh


@pytest.fixture
def recordings(tmp_path) -> Path:
    """Return a folder with one subject's recordings."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name in ("Subject00_1.edf", "Subject00_2.edf"):
        shutil.copy(ROOT / "eeg_dataset" / "EEGMAT" / name, folder)
    return folder


def test_a_folder_with_other_files_is_not_replaced_by_a_store(recordings, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    args = ("--source", "eegmat", "--data-dir", recordings, "--out-dir")
    assert "other files" in refuse(tmp_path, PREPROCESS, *args, precious)
    assert "recordings" in refuse(tmp_path, PREPROCESS, *args, recordings)
    assert "recordings" in refuse(tmp_path, PREPROCESS, *args, tmp_path)
    assert "is a file" in refuse(tmp_path, PREPROCESS, *args, precious / "thesis.tex")


def test_a_data_dir_that_is_no_store_is_not_offered_for_replacement(recordings, tmp_path):
    args = ("--data-dir", recordings, "--runs-dir", tmp_path / "runs")
    message = refuse(tmp_path, script_of("classifier"), *args)
    assert "no store" in message
    assert "--out-dir" not in message


def test_two_processes_do_not_write_one_store(recordings, tmp_path):
    out = tmp_path / "store"
    with replaced_folder(out) as new:
        message = sentence(
            run_here(PREPROCESS, "--source", "eegmat", "--data-dir", recordings, "--out-dir", out)
        )
        assert f"{out} is in use by process {os.getpid()}" in message
        (new / "first").write_text("whole")
    assert [path.name for path in out.iterdir()] == ["first"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_value_beyond_32_bits_is_refused(tmp_path):
    data, labels = simulate_subject(1, Signal(n_trials=1))
    data[0, 3, 1000] = 1e200
    (tmp_path / "in").mkdir()
    deap.write(tmp_path / "in" / "s01.dat", data, labels)
    args = ("--source", "deap", "--data-dir", tmp_path / "in", "--out-dir", tmp_path / "out")
    assert "s01" in refuse(tmp_path, PREPROCESS, *args, "--jobs", 1)


@pytest.mark.parametrize("name", ["config.json", "model.pt"])
def test_a_run_that_lost_a_file_is_not_taken_for_another(name, little_store, runs):
    folder = runs / FOLD / "gan"
    (folder / name).unlink()
    args = ["--data-dir", little_store, "--runs-dir", runs, *TINY["gan"], "--epochs", 3]
    if name == "config.json":  # of which run it is can no longer be told
        assert "--restart" in refuse(runs, script_of("gan"), *args)
    else:  # what state.pt holds is enough
        before = json.loads((folder / "result.json").read_text())
        run_stage("gan", little_store, runs)
        assert (folder / "model.pt").is_file()
        assert json.loads((folder / "result.json").read_text())["quality"] == before["quality"]


def test_the_state_of_another_stage_is_refused(little_store, runs):
    fold = runs / FOLD
    shutil.copy(fold / "gan" / "state.pt", fold / "classifier" / "state.pt")
    (fold / "classifier" / "result.json").unlink()
    with pytest.raises(UserError, match="state.pt is of another run.*begin anew with: python"):
        run_stage("classifier", little_store, runs)


def test_the_summary_refuses_stages_that_do_not_belong_together(little_store, runs):
    assert run_stage("finetune", little_store, runs, epochs=1)
    fold = runs / FOLD
    args = (ROOT / "de3dgan" / "reporting" / "summary.py", "--fold-dir", fold)
    assert run_here(*args).returncode == 0
    run_stage("gan", little_store, runs, epochs=1, lr=1e-3, restart=True)
    assert "another generator" in sentence(run_here(*args))


def test_default_folders_hang_off_the_repository_wherever_one_is(tmp_path):
    (tmp_path / "DE_feature" / "deap").mkdir(parents=True)
    done = run_here(script_of("classifier"), cwd=tmp_path)
    if done.returncode:  # no DEAP here
        assert str(ROOT / "DE_feature" / "deap") in sentence(done)
    assert list(tmp_path.rglob("*")) == [tmp_path / "DE_feature", tmp_path / "DE_feature" / "deap"]
