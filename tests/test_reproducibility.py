"""The same settings give the same bytes, and files say what shaped them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from de3dgan.training import checkpoints, environment
from de3dgan.training.device import Compute
from tests.conftest import ROOT, STAGES, run_stage
from tests.helpers import FOLD, assert_same_step, copy_upstream, stopped_after_one_step

pytestmark = pytest.mark.usefixtures("no_figures", "no_baselines")


@pytest.mark.parametrize(
    ("stage", "method"),
    [
        *((stage, "spectral") for stage in STAGES),
        ("gan", "published"),
        *(pytest.param(stage, "published", marks=pytest.mark.slow) for stage in STAGES[1:]),
    ],
)
def test_threads_change_the_last_digits_of_a_step_only(
    stage, method, finished_of, little_store, tmp_path
):
    """What a whole training ends with may differ by more: rounding can choose another epoch."""
    states, n_threads = [], torch.get_num_threads()
    for n in (1, 2):
        runs = tmp_path / str(n)
        folder = copy_upstream(stage, finished_of(method), runs)
        torch.set_num_threads(n)
        try:
            with stopped_after_one_step():
                run_stage(stage, little_store, runs, method, precision="fp32")
        finally:
            torch.set_num_threads(n_threads)
        states.append(checkpoints.load(folder / "state.pt", ""))
    assert_same_step(*states)


def git(*arguments: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout.strip()


def test_files_say_what_shaped_a_result(finished_of):
    folder = finished_of("spectral") / FOLD / "classifier"
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


def test_going_on_elsewhere_is_noted(little_store, tmp_path):
    with stopped_after_one_step():
        run_stage("classifier", little_store, tmp_path)
    folder = tmp_path / FOLD / "classifier"
    config = json.loads((folder / "config.json").read_text())
    config["environment"]["torch"] = "1.0.0"
    (folder / "config.json").write_text(json.dumps(config))
    run_stage("classifier", little_store, tmp_path)
    log = (folder / "log.txt").read_text()
    assert "begun elsewhere" in log
    assert f'torch ("1.0.0" there, "{torch.__version__}" now)' in log
