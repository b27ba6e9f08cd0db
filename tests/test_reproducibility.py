"""The same settings give the same bytes, and files say what shaped them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from de3dgan.data import frames
from de3dgan.data.preprocessing import build_store
from de3dgan.data.simulation import Signal
from de3dgan.data.synthetic import write_deap
from de3dgan.figures import stages as figures_of_stages
from de3dgan.stages import generators
from de3dgan.training import curves, environment, loop
from de3dgan.training.device import Compute
from tests.conftest import METHODS, ROOT, STAGES, contents, run_stage


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(figures_of_stages, "plotting", lambda run: None)


def test_any_number_of_jobs_makes_the_same_store(tmp_path):
    write_deap(tmp_path / "recordings", 3, Signal(n_trials=2))
    stores = []
    for n_jobs in (1, 3):
        out = tmp_path / str(n_jobs)
        build_store("deap", tmp_path / "recordings", out, n_jobs)
        stores.append({name: digest.split()[0] for name, digest in contents(out).items()})
    assert len(stores[0]) == 6
    assert stores[0] == stores[1]


class Stopped(BaseException):
    """A run has been stopped by a test."""


def first_step(
    stage: str, store: Path, runs: Path, method: str
) -> tuple[np.ndarray, float, Tensor]:
    """Return the batch, the loss and the gradient of a stage's first step, and stop there."""
    batch: list[np.ndarray] = []

    def step(optimiser: Optimizer, loss: Tensor, *_: object, **__: object) -> None:
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        gradient = torch.cat([g.flatten() for g in gradients if g is not None])
        raise Stopped(loss.item(), gradient)

    def batches(*arguments: object) -> Iterator[np.ndarray]:
        for items in frames.batches(*arguments):
            batch[:] = [items]
            yield items

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "step", step)
        patch.setattr(loop, "batches", batches)
        settings = {"calibration_steps": 0} if (stage, method) == ("gan", "spectral") else {}
        with pytest.raises(Stopped) as stopped:
            run_stage(stage, store, runs, method, **settings)
    return *batch, *stopped.value.args


@pytest.mark.parametrize("method", METHODS)
def test_threads_change_the_last_digits_of_a_step_only(method, little_store, tmp_path, monkeypatch):
    """Of its loss and gradient, and nothing of its batch.

    What a whole training ends with may differ by more: another rounding can choose another epoch.
    """
    monkeypatch.setattr(generators, "quality", lambda *_: {"generated": {"de_round_trip": {}}})
    for stage in ("gan", "classifier"):
        folder = run_stage(stage, little_store, tmp_path / "upstream", method, epochs=1)
    precision = json.loads((folder / "result.json").read_text())["environment"]["precision"]
    tolerance = {"float32": 1e-3, "bfloat16": 0.05}[precision]
    n_threads = torch.get_num_threads()
    for stage in STAGES:
        steps = []
        for n in (1, 2):
            runs = tmp_path / f"{stage}-{n}"
            if stage == "finetune":
                shutil.copytree(tmp_path / "upstream", runs)
            torch.set_num_threads(n)
            try:
                steps.append(first_step(stage, little_store, runs, method))
            finally:
                torch.set_num_threads(n_threads)
        (batch, loss, gradient), (other_batch, other_loss, other_gradient) = steps
        np.testing.assert_array_equal(other_batch, batch)
        assert other_loss == pytest.approx(loss, rel=tolerance)
        assert (other_gradient - gradient).norm() < tolerance * gradient.norm()


def git(*arguments: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout.strip()


def test_files_say_what_shaped_a_result(little_store, tmp_path):
    folder = run_stage("classifier", little_store, tmp_path, epochs=1)
    config, result = (
        json.loads((folder / name).read_text()) for name in ("config.json", "result.json")
    )
    for content in (config, result):
        environment = content["environment"]
        assert environment["torch"] == torch.__version__
        assert environment["threads"] == torch.get_num_threads()
        assert environment["precision"] in ("bfloat16", "float32")
        assert {"python", "numpy", "scipy", "scikit-learn", "platform", "device"} <= set(
            environment
        )
        assert environment["commit"] == git("rev-parse", "HEAD")
        assert isinstance(environment["modified"], bool)
    assert config["settings"]["seed"] == 520
    assert {"store_hash", "split_fingerprint", "upstream", "stage"} <= set(config)


def test_a_changed_file_makes_the_code_a_modified_one(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    cpu = Compute(torch.device("cpu"))
    found = environment.environment(cpu)
    assert (found["commit"], found["modified"]) == (None, None)
    git("init", "--quiet", cwd=tmp_path)
    (tmp_path / "code.py").write_text("1")
    git("add", "code.py", cwd=tmp_path)
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    git(*who, "commit", "--quiet", "-m", "first", cwd=tmp_path)
    assert environment.environment(cpu)["modified"] is False
    (tmp_path / "code.py").write_text("2")
    found = environment.environment(cpu)
    assert found["modified"] is True
    assert found["commit"] == git("rev-parse", "HEAD", cwd=tmp_path)


def test_going_on_elsewhere_is_noted(little_store, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(curves, "write_text", die)
        with pytest.raises(Killed):
            run_stage("classifier", little_store, tmp_path)
    folder = tmp_path / "valence" / "trial" / "fold0" / "classifier"
    config = json.loads((folder / "config.json").read_text())
    config["environment"]["torch"] = "1.0.0"
    (folder / "config.json").write_text(json.dumps(config))
    run_stage("classifier", little_store, tmp_path)
    log = (folder / "log.txt").read_text()
    assert "begun elsewhere" in log
    assert f'torch ("1.0.0" there, "{torch.__version__}" now)' in log
