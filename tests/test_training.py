"""Training: it resumes exactly, sees no test trial, and stops in an orderly way."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from de3dgan.base.errors import UserError
from de3dgan.eeg.de import trial_de
from de3dgan.eeg.montage import Grid
from de3dgan.models import Discriminator, SpectralGenerator
from de3dgan.stages import classifier, published_generator
from de3dgan.stages.spectral_generator import augment, recordings
from de3dgan.training import checkpoints, curves, loop, losses
from de3dgan.training.ema import EMA
from de3dgan.training.run import Run
from de3dgan.training.state import TrainingState
from tests.conftest import (
    METHODS,
    STAGES,
    TINY,
    TINY_OF,
    read_lines,
    run_here,
    run_stage,
    script_of,
)
from tests.helpers import FOLD, copy_upstream

pytestmark = pytest.mark.usefixtures("no_figures", "no_baselines")


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """Shells have what they start in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=["spectral", pytest.param("published", marks=pytest.mark.slow)])
def method(request) -> str:
    """Return each method; or, with `indirect`, those of a test."""
    return request.param


both_methods = pytest.mark.parametrize("method", METHODS, indirect=True)


@pytest.fixture
def finished(method, finished_of) -> Path:
    """Return a runs folder in which all three stages of fold 0 ran without interruption."""
    return finished_of(method)


def same(a: object, b: object) -> bool:
    """Return whether two checkpoints agree in every bit, and in the order of their fields."""
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    return type(a) is type(b) and a == b


def load(path: Path) -> dict:
    """Read a checkpoint, less what it says of time and memory spent."""
    content = checkpoints.load(path, "")
    content.pop("spent", None)
    return content


def assert_same_run(a: Path, b: Path) -> None:
    """Fail unless two run directories hold the same results, bit by bit."""
    names = ("model.pt", "metrics.jsonl", "predictions.csv")
    for name in [name for name in names if (b / name).exists()]:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert same(load(a / "state.pt"), load(b / "state.pt"))
    for name in ("config.json", "result.json"):
        contents = [json.loads((folder / name).read_text()) for folder in (a, b)]
        for content in contents:
            for key in ("seconds", "peak_rss_mib", "environment"):  # somebody may commit meanwhile
                content.pop(key, None)
        assert contents[0] == contents[1]


# --- stopping and going on


class Killed(BaseException):
    """What nothing expects."""


def die() -> None:
    raise Killed


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def interrupt(monkeypatch, module: object, name: str, call: int, how: Callable = die) -> None:
    """Let `how` come in the `call`-th call (from 0) of a function, before it does anything."""
    original = getattr(module, name)
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(None)
        if len(calls) == call + 1:
            how()
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, interrupted)


POINTS = {
    "first step": (loop, "step", 0),
    "middle of the second epoch": (loop, "step", None),
    "before the second validation": (TrainingState, "refuse_blown_up", 1),
    "after the first epoch's state": (curves, "write_text", 0),
    "after the last epoch's state": (curves, "write_text", 2),
    "after model.pt": (Run, "write_result", 0),
}


def middle_of_the_second_epoch(stage: str, method: str) -> int:
    """Return a step there: of 3 or 7 batches an epoch, in the first the critic steps as well."""
    if stage != "gan":
        return 10
    return 4 if method == "spectral" else 7


#: The loop is the same for both methods: what differs is in the epochs and after them.
STOPS = [
    ("spectral", "first step", press_ctrl_c),
    ("spectral", "middle of the second epoch", die),
    ("published", "middle of the second epoch", die),
]
MORE_STOPS = [("spectral", point, die) for point in POINTS if point != STOPS[1][1]]
MORE_STOPS += [
    ("spectral", "before the second validation", press_ctrl_c),
    ("spectral", "after the last epoch's state", press_ctrl_c),
    ("published", "after model.pt", press_ctrl_c),
]
STOPS += [pytest.param(*stop, marks=pytest.mark.slow) for stop in MORE_STOPS]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("method", "point", "how"), STOPS, indirect=["method"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    how, stage, point, method, finished, little_store, tmp_path, monkeypatch
):
    folder = copy_upstream(stage, finished, tmp_path / "runs")
    with monkeypatch.context() as patch:
        module, name, call = POINTS[point]
        call = middle_of_the_second_epoch(stage, method) if call is None else call
        interrupt(patch, module, name, call, how)
        with pytest.raises(Killed if how is die else KeyboardInterrupt):
            run_stage(stage, little_store, tmp_path / "runs", method)
    assert not (folder / "result.json").exists()
    run_stage(stage, little_store, tmp_path / "runs", method)
    assert_same_run(folder, finished / FOLD / stage)
    assert not list(folder.glob("*.tmp")) + list(folder.glob(".*.tmp"))
    log = (folder / "log.txt").read_text()
    if point == "middle of the second epoch":
        assert "Going on after epoch 1 of 3" in log
    if how is press_ctrl_c and "step" in point:  # it has been finished, and is not taken again
        assert "Stopped after epoch 0 and step 1 of" in log
        assert "Going on after epoch 0 of 3, step 1 of the next" in log


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_every_step_can_be_the_last_of_a_process(
    stage, method, finished, little_store, tmp_path, monkeypatch
):
    """A run that is stopped after each single one ends as if it had not been."""
    folder = copy_upstream(stage, finished, tmp_path / "runs")
    n_steps = 3 * (3 if stage == "gan" else 7)
    for n in range(n_steps):
        with monkeypatch.context() as patch:
            interrupt(patch, loop, "step", 0, press_ctrl_c)
            with pytest.raises(KeyboardInterrupt):
                run_stage(stage, little_store, tmp_path / "runs", method)
        assert load(folder / "state.pt")["n_steps"] == n % (n_steps // 3) + 1
    run_stage(stage, little_store, tmp_path / "runs", method)
    assert_same_run(folder, finished / FOLD / stage)


def test_tensorboard_of_a_resumed_run_has_every_epoch_once(little_store, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with monkeypatch.context() as patch:
        interrupt(patch, loop, "step", 10, press_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            run_stage("classifier", little_store, tmp_path)
    folder = run_stage("classifier", little_store, tmp_path)
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert [scalar.step for scalar in events.Scalars("val_loss")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("number", "code"),
    [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)],
)
def test_a_signal_stops_with_its_code_and_says_how_to_go_on(number, code, little_store, tmp_path):
    args = ["--data-dir", little_store, "--epochs", 20, "--seed", 1, *TINY["classifier"]]
    args += ["--batch-size", 32]
    script = script_of("classifier", "Arousal")
    process = subprocess.Popen(
        [sys.executable, script.name, *map(str, args), "--runs-dir", tmp_path / "stopped"],
        cwd=script.parent,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    folder = tmp_path / "stopped" / "arousal" / "trial" / "fold0" / "classifier"
    metrics = folder / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and len(read_lines(metrics)) >= 3):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1].startswith("Stopped.")
    assert f"Go on with: python {script.name} --" in (folder / "log.txt").read_text()
    assert not list(folder.parent.glob(".*.lock"))
    assert not (folder / "result.json").exists()


@pytest.mark.parametrize("stage", STAGES)
def test_a_finished_run_is_left_alone_and_restart_repeats_it(
    stage, method, finished, little_store, tmp_path, capsys
):
    folder = copy_upstream(stage, finished, tmp_path / "runs")
    shutil.copytree(finished / FOLD / stage, folder)
    (folder / "metrics.jsonl").write_text("mine\n")
    run_stage(stage, little_store, tmp_path / "runs", method)
    assert "is finished" in capsys.readouterr().out
    assert (folder / "metrics.jsonl").read_text() == "mine\n"
    run_stage(stage, little_store, tmp_path / "runs", method, restart=True)
    assert_same_run(folder, finished / FOLD / stage)


# --- losses that are not finite


@pytest.mark.filterwarnings("default::RuntimeWarning")
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("batch_size", [4, 999], ids=["in mid-epoch", "in an epoch's last step"])
def test_a_huge_learning_rate_ends_in_one_sentence(
    batch_size, stage, method, finished, little_store, tmp_path
):
    folder = copy_upstream(stage, finished, tmp_path / "runs")
    args = ("--data-dir", little_store, "--runs-dir", tmp_path / "runs", *TINY_OF[method][stage])
    flags = ("--lr", 1e30, "--epochs", 4, "--batch-size", batch_size)
    done = run_here(script_of(stage), *args, *flags)
    lines = [line for line in done.stderr.split("\n") if line.strip() and "step/s" not in line]
    assert (done.returncode, len(lines)) == (2, 1), done.stderr
    assert lines[0].startswith("Error: ")
    assert "lower learning rate" in lines[0]
    assert not (folder / "model.pt").exists()
    assert not (folder / "result.json").exists()
    assert ("state.pt" in lines[0]) == (folder / "state.pt").exists()


@pytest.mark.parametrize("stage", STAGES)
def test_the_last_good_epoch_is_kept_when_a_loss_is_not_finite(
    stage, method, finished, little_store, tmp_path, monkeypatch
):
    folder = copy_upstream(stage, finished, tmp_path / "runs")
    with monkeypatch.context() as patch:
        module, name, bad = {
            # of three batches, and validation, in each epoch
            ("gan", "spectral"): (SpectralGenerator, "log_likelihood", 10),
            ("gan", "published"): (published_generator.F, "mse_loss", 8),
        }.get((stage, method), (losses.F, "cross_entropy", 16))  # of 7 batches in each epoch
        original, n_calls = getattr(module, name), itertools.count(1)

        def spoilt(*args, **options):
            loss, factor = original(*args, **options), float("nan") if next(n_calls) == bad else 1
            return [part * factor for part in loss] if isinstance(loss, tuple) else loss * factor

        patch.setattr(module, name, spoilt)
        with pytest.raises(UserError, match="became (nan|inf) in epoch 2") as error:
            run_stage(stage, little_store, tmp_path / "runs", method)
    assert str(folder / "state.pt") in str(error.value)
    state = load(folder / "state.pt")
    whole = load(finished / FOLD / stage / "state.pt")
    assert same(state["history"], whole["history"][:2])
    assert all(tensor.isfinite().all() for net in state["nets"].values() for tensor in net.values())
    run_stage(stage, little_store, tmp_path / "runs", method)
    assert_same_run(folder, finished / FOLD / stage)


# --- the critic


@pytest.fixture(scope="module")
def watched(little_store, tmp_path_factory) -> dict:
    """Return what a watcher of GAN training (critic every second epoch) saw."""
    seen = {"epochs": [], "calls": [], "states": [], "grads": []}
    trained = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("de3dgan.figures.stages.plotting", lambda run: None)
        original = {
            "batches": loop.batches,
            "step": loop.step,
            "save": checkpoints.save,
            "forward": Discriminator.forward,
            "train": published_generator.train,
        }

        def batches(items, size, seed, epoch, *more):
            seen["epochs"].append(epoch)
            return original["batches"](items, size, seed, epoch, *more)

        def forward(self, x):
            seen["calls"].append(seen["epochs"][-1])
            return original["forward"](self, x)

        def train(run, data, generator, critic, optimisers, **settings):
            trained.append((critic, optimisers))
            return original["train"](run, data, generator, critic, optimisers, **settings)

        def step(optimiser, loss, n_samples):
            critic, optimisers = trained[0]
            before = [None if p.grad is None else p.grad.clone() for p in critic.parameters()]
            original["step"](optimiser, loss, n_samples)
            if optimiser is optimisers["generator"]:
                pairs = zip(before, critic.parameters(), strict=True)
                seen["grads"].append(
                    all(p.grad is None if b is None else torch.equal(b, p.grad) for b, p in pairs)
                )

        def save(path, content):
            original["save"](path, content)
            if path.name == "state.pt":
                seen["states"].append(load(path))

        patch.setattr(loop, "batches", batches)
        patch.setattr(Discriminator, "forward", forward)
        patch.setattr(published_generator, "train", train)
        patch.setattr(loop, "step", step)
        patch.setattr(checkpoints, "save", save)
        runs = tmp_path_factory.mktemp("watched")
        seen["dir"] = run_stage("gan", little_store, runs, "published", epochs=5, critic_every=2)
    return seen


def test_the_critic_is_computed_in_the_epochs_in_which_it_steps_only(watched):
    assert watched["epochs"] == [0, 1, 2, 3, 4]
    assert set(watched["calls"]) == {0, 2, 4}
    with_critic = ["critic_gap" in line for line in read_lines(watched["dir"] / "metrics.jsonl")]
    assert with_critic == [True, False, True, False, True]


def test_the_critic_changes_in_those_epochs_only_and_the_generator_in_all(watched):
    critics = [state["nets"]["critic"] for state in watched["states"]]
    changed = [not same(a, b) for a, b in zip(critics, critics[1:], strict=False)]
    assert changed == [False, True, False, True]
    generators = [state["nets"]["generator"] for state in watched["states"]]
    assert all(not same(a, b) for a, b in zip(generators, generators[1:], strict=False))


def test_the_generators_step_leaves_no_gradient_in_the_critic(watched):
    assert len(watched["grads"]) == 5 * 3
    assert all(watched["grads"])


# --- which epoch


def test_the_generator_of_the_smallest_validation_error_is_handed_over(watched):
    errors = [line["val_de_mae"] for line in read_lines(watched["dir"] / "metrics.jsonl")]
    best = int(np.argmin(errors))
    model = load(watched["dir"] / "model.pt")
    result = json.loads((watched["dir"] / "result.json").read_text())
    assert model["best_epoch"] == result["best_epoch"] == best
    assert same(dict(model["weights"]), dict(watched["states"][best]["nets"]["generator"]))


@pytest.fixture
def states(monkeypatch) -> list[dict]:
    """Return a list to which the state of each epoch is added."""
    found, original = [], checkpoints.save

    def save(path, content):
        original(path, content)
        if path.name == "state.pt":
            found.append(load(path))

    monkeypatch.setattr(checkpoints, "save", save)
    return found


def averaged_weights(state: dict) -> dict:
    """Return the averaged weights in the state of an `EMA`."""
    assert int(state["n_averaged"]) > 0
    return {k.removeprefix("module."): v for k, v in state.items() if k != "n_averaged"}


def test_the_generator_of_the_highest_likelihood_is_handed_over(
    little_store, tmp_path, states, monkeypatch
):
    """As averaged over steps; after it is chosen, only recordings change it."""
    original, in_validation = SpectralGenerator.log_likelihood, iter([-3.0, -1.0, -2.0])

    def log_likelihood(*args):
        if torch.is_inference_mode_enabled():
            return torch.tensor(next(in_validation, 0.0))
        return original(*args)

    monkeypatch.setattr(SpectralGenerator, "log_likelihood", log_likelihood)
    folder = run_stage("gan", little_store, tmp_path)
    likelihoods = [line["val_log_likelihood"] for line in read_lines(folder / "metrics.jsonl")]
    assert likelihoods == [-3.0, -1.0, -2.0]
    model = load(folder / "model.pt")
    result = json.loads((folder / "result.json").read_text())
    assert model["best_epoch"] == result["best_epoch"] == 1
    wanted = averaged_weights(states[1]["nets"]["generator EMA"])
    assert list(model["weights"]) == list(wanted)
    changed = {k for k, v in wanted.items() if not torch.equal(v, model["weights"][k])}
    kept = ("levels", "exponents", "ranges", "skewness", "louder", "turn")
    assert changed == {f"recordings.{name}" for name in kept}
    assert not same(dict(states[1]["nets"]["generator"]), wanted)


@pytest.mark.parametrize(
    ("n_frames", "sizes"),
    [(60, [1] * 9), (240, [1] * 9), (24, [3, 2, 2, 2]), (12, [5, 4]), (100, [1] * 9)],
)
def test_recordings_are_a_minute_of_one_person(n_frames, sizes):
    subjects = ["a"] * 5 + ["b"] * 4 + ["c"] * 3  # of whom nobody trains
    store = SimpleNamespace(columns={"subject": subjects}, n_frames=n_frames)
    found = recordings(store, np.arange(9), 40)
    assert sorted(map(len, found), reverse=True) == sizes
    assert sorted(np.concatenate(found).tolist()) == list(range(9))
    assert all(len({subjects[trial] for trial in trials}) == 1 for trials in found)
    assert len(recordings(store, np.arange(9), 2)) == 2


@pytest.mark.parametrize(
    ("stage", "choose_by"),
    [
        ("classifier", "val_loss"),
        ("finetune", "val_balanced_accuracy"),
        pytest.param("classifier", "val_balanced_accuracy", marks=pytest.mark.slow),
        pytest.param("finetune", "val_loss", marks=pytest.mark.slow),
    ],
)
def test_the_classifier_of_the_best_validation_is_handed_over(
    stage, choose_by, method, finished, little_store, tmp_path, states, monkeypatch
):
    monkeypatch.setattr(classifier, "_RESIDUAL_SHARES", (1.0,))  # in noise, none would be the best
    copy_upstream(stage, finished, tmp_path)
    settings = {"epochs": 6, "choose_by": choose_by}
    folder = run_stage(stage, little_store, tmp_path, method, **settings)
    scores = [line[choose_by] for line in read_lines(folder / "metrics.jsonl")]
    assert len(set(scores)) > 1 or (stage, method) == ("finetune", "spectral")
    # the first of equal ones
    best = int(np.argmin(scores) if choose_by == "val_loss" else np.argmax(scores))
    assert json.loads((folder / "result.json").read_text())["best_epoch"] == best
    model, nets = load(folder / "model.pt"), states[best]["nets"]
    average = averaged_weights(nets["classifier EMA"])
    assert same(dict(model["weights"]), average)
    # The published weights are those of the last step, ours are not.
    assert same(average, dict(nets["classifier"])) == (method == "published")


@both_methods
@pytest.mark.parametrize("stage", STAGES)
def test_the_log_says_which_epoch_was_chosen_and_why(stage, finished):
    folder = finished / FOLD / stage
    best = json.loads((folder / "result.json").read_text())["best_epoch"]
    (said,) = re.findall(r"Chose epoch (\d+): (\w+) (\S+) on", (folder / "log.txt").read_text())
    assert int(said[0]) == best
    assert said[2] == f"{read_lines(folder / 'metrics.jsonl')[best][said[1]]:.4g}"


# --- who may say something


def spoil(store: Path, copy: Path, trials: list[int]) -> Path:
    """Copy a store and overwrite all recordings of `trials` with something else."""
    shutil.copytree(store, copy)
    for name in ("eeg", "baseline", "de", "baseline_de"):
        array = np.load(copy / f"{name}.npy", mmap_mode="r+")
        scale = 0.5 if name.endswith("de") else 5
        array[trials] = np.random.default_rng(1).normal(3, scale, array[trials].shape)
        array.flush()
    return copy


@pytest.fixture(scope="module")
def parts(finished_of) -> dict[str, list[int]]:
    """Return the trials of each part of the split."""
    return load(finished_of("spectral") / FOLD / "classifier" / "model.pt")["trials"]


@pytest.fixture(scope="module")
def spoilt(little_store, parts, tmp_path_factory) -> dict[str, Path]:
    """Return stores in which the recordings of one part of the split are spoilt."""
    folder = tmp_path_factory.mktemp("spoilt")
    return {part: spoil(little_store, folder / part, trials) for part, trials in parts.items()}


def quality_or_predictions(folder: Path) -> str:
    if (folder / "predictions.csv").exists():
        return (folder / "predictions.csv").read_text()
    return json.dumps(json.loads((folder / "result.json").read_text())["quality"])


@both_methods
@pytest.mark.parametrize("stage", STAGES)
def test_test_trials_have_no_say_in_anything_handed_over(stage, method, finished, spoilt, tmp_path):
    whole = finished / FOLD / stage
    folder = copy_upstream(stage, finished, tmp_path)
    run_stage(stage, spoilt["test"], tmp_path, method)
    assert same(load(folder / "model.pt"), load(whole / "model.pt"))
    assert same(load(folder / "state.pt"), load(whole / "state.pt"))
    assert (folder / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert quality_or_predictions(folder) != quality_or_predictions(whole)


@pytest.mark.parametrize("stage", STAGES)
def test_validation_trials_choose_the_epoch_and_nothing_else(
    stage, method, finished, spoilt, tmp_path
):
    whole = finished / FOLD / stage
    folder = copy_upstream(stage, finished, tmp_path)
    run_stage(stage, spoilt["val"], tmp_path, method)
    states = [load(path / "state.pt") for path in (folder, whole)]
    if method == "spectral" and stage != "gan":  # whose head learns from them, as baselines do
        assert not same(states[0]["nets"], states[1]["nets"])
        return
    for name in ("nets", "optimisers"):
        assert same(states[0][name], states[1][name])
    models = [load(path / "model.pt") for path in (folder, whole)]
    for name in {"eeg_scaler", "de_scaler"} & set(models[0]):
        assert models[0][name] == models[1][name]
    lines = [read_lines(path / "metrics.jsonl") for path in (folder, whole)]
    for a, b in zip(*lines, strict=True):
        assert [a[k] for k in a if "val" not in k] == [b[k] for k in b if "val" not in k]
    assert lines[0] != lines[1]


@pytest.mark.parametrize("stage", STAGES)
def test_training_trials_are_what_is_learnt_from(stage, method, finished, spoilt, tmp_path):
    whole = finished / FOLD / stage
    folder = copy_upstream(stage, finished, tmp_path)
    if (stage, method) == ("finetune", "published"):  # whose scalers are then of other data
        with pytest.raises(UserError, match="statistics is not that of the frames"):
            run_stage(stage, spoilt["train"], tmp_path, method)
        return
    run_stage(stage, spoilt["train"], tmp_path, method)
    assert not same(load(folder / "state.pt")["nets"], load(whole / "state.pt")["nets"])


def test_even_the_random_frame_protocol_trains_on_no_test_frame(method, little_store, tmp_path):
    first = run_stage(
        "classifier", little_store, tmp_path / "first", method, protocol="random-frame"
    )
    copy = tmp_path / "store"
    shutil.copytree(little_store, copy)
    rows = np.loadtxt(first / "predictions.csv", delimiter=",", skiprows=1, usecols=(0, 1))
    eeg = np.load(copy / "eeg.npy", mmap_mode="r+")
    for trial, frame in rows.astype(int):
        eeg[trial, :, frame * 128 : (frame + 1) * 128] = 99.0
    eeg.flush()
    second = run_stage("classifier", copy, tmp_path / "second", method, protocol="random-frame")
    assert same(load(first / "model.pt"), load(second / "model.pt"))
    assert quality_or_predictions(first) != quality_or_predictions(second)


# --- seeds


@pytest.mark.parametrize("stage", ["gan", "classifier"])
def test_another_seed_differs(stage, method, finished, little_store, tmp_path):
    other = run_stage(stage, little_store, tmp_path, method, seed=521)
    folders = (finished / FOLD / stage, other)
    weights = [load(folder / "model.pt")["weights"] for folder in folders]
    assert not same(*weights)


@both_methods
def test_settings_in_the_checkpoint_are_those_of_the_run(method, finished):
    for stage in STAGES:
        model = load(finished / FOLD / stage / "model.pt")
        config = json.loads((finished / FOLD / stage / "config.json").read_text())
        names = ("settings", "split_fingerprint", "store_hash", "stage")
        assert [model[name] for name in names] == [config[name] for name in names]
        assert (model["settings"]["epochs"], model["settings"]["method"]) == (3, method)
        scalers = {"gan": {"de_scaler", "eeg_scaler"}}.get(stage, {"eeg_scaler"})
        found = {name for name in model if name.endswith("_scaler")}
        assert found == (scalers if method == "published" else set())


def test_finetuning_starts_from_the_classifier_of_stage_2(method, finished, little_store, tmp_path):
    folder = copy_upstream("finetune", finished, tmp_path)
    run_stage("finetune", little_store, tmp_path, method, epochs=1, lr=0.0)
    tuned, before = (load(path / "model.pt") for path in (folder, folder.parent / "classifier"))
    weights = tuned["weights"], before["weights"]
    if method == "spectral":  # its head may be fitted to generated EEG as well; its trunk goes on
        alone = "paired EEG is left out" in (folder / "log.txt").read_text()
        assert torch.equal(*(of["head_weight"] for of in weights)) == alone
        weights = [{k: of[k] for k in of if "trunk" in k or "feature" in k} for of in weights]
        assert weights[0]
    assert same(*weights)
    assert tuned.get("eeg_scaler") == before.get("eeg_scaler")


# --- what our method adds to training


def test_averages_follow_slowly_and_faster_in_the_beginning():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    ema = EMA(net, 0.5)
    wanted = None
    for n_steps in range(30):
        with torch.no_grad():
            net[0].weight.fill_(float(n_steps))
            net[1].running_mean.fill_(-float(n_steps))
            net[1].num_batches_tracked.fill_(n_steps)
        ema.update(net)
        kept = min(0.5, (1 + n_steps) / (10 + n_steps))
        wanted = kept * wanted + (1 - kept) * n_steps if n_steps else 0.0
        assert ema.module[0].weight.mean().item() == pytest.approx(wanted, abs=1e-4)
        assert ema.module[1].running_mean.mean().item() == pytest.approx(-wanted, abs=1e-4)
        assert int(ema.module[1].num_batches_tracked) == n_steps
    assert 28 < wanted < 28.5  # with 0.5, about two steps behind
    assert torch.equal(net[0].weight, torch.full((2, 2), 29.0))


def test_a_step_is_cut_to_a_length():
    for max_norm, length in ((None, 5.0), (1.0, 1.0), (7.0, 5.0)):
        weight = torch.nn.Parameter(torch.zeros(2))
        optimiser = torch.optim.SGD([weight], 1.0)
        loop.step(optimiser, (weight * torch.tensor([3.0, 4.0])).sum(), 1, max_norm)
        assert weight.detach().norm().item() == pytest.approx(length, abs=1e-4)


def test_varied_trials_have_the_de_that_goes_with_them():
    """Mirrored or not, played backwards or not, and louder or softer."""
    mirror = torch.tensor(Grid.paper(["F3", "F4", "CZ"]).mirrored())
    eeg = torch.from_numpy(np.random.default_rng(0).normal(0, 10, (2, 3, 20 * 128)))
    de = torch.from_numpy(trial_de(eeg.numpy()))
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        varied_de, varied = augment(de, eeg, mirror, 0.5)
        difference = (varied_de - torch.from_numpy(trial_de(varied.numpy()))).abs()
        assert difference[:, :, 6:-6].max() < 0.01  # a filter starts at one end
        candidates = {
            (swapped, reversed_): wanted.flip(2) if reversed_ else wanted
            for swapped, wanted in ((False, eeg), (True, eeg[:, mirror]))
            for reversed_ in (False, True)
        }
        ratios = {kind: varied / wanted for kind, wanted in candidates.items()}
        (kind,) = (k for k, ratio in ratios.items() if ratio.std(2).max() < 1e-4)
        seen.add(kind)
        gains = ratios[kind].mean(2).log()
        assert gains.std() > 0.05  # another for each trial and electrode
    assert len(seen) == 4


def test_loudness_varies_as_much_as_told():
    eeg, de = torch.ones(500, 3, 4), torch.zeros(500, 4, 2, 3)
    torch.manual_seed(0)
    gains = augment(de, eeg, torch.arange(3), 0.25)[1][..., 0].log()
    assert gains.mean().abs() < 0.03
    assert gains.mean(1).var().item() == pytest.approx(0.25**2 * (1 + 1 / 3), rel=0.15)
    assert gains.var(1).mean().item() == pytest.approx(0.25**2, rel=0.15)
    assert torch.equal(augment(de, eeg, torch.arange(3), 0.0)[1], eeg)
