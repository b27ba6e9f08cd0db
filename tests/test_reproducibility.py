"""The same settings give the same bytes, and files say what shaped them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from de3dgan.data.preprocessing import build_store
from de3dgan.data.simulation import Signal
from de3dgan.data.synthetic import write_deap
from de3dgan.figures import stages as figures_of_stages
from de3dgan.training import curves, environment
from de3dgan.training.device import Compute
from tests.conftest import METHODS, ROOT, STAGES, contents, read_lines, run_stage

#: What benchmarks/stress_threads.py allows as well.
TOLERANCE = 0.01


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(figures_of_stages, "plotting", lambda run: None)


def test_any_number_of_jobs_makes_the_same_store(tmp_path):
    write_deap(tmp_path / "recordings", 3, Signal(n_trials=2))
    stores = []
    for n_jobs in (1, 2, 3):
        out = tmp_path / str(n_jobs)
        build_store("deap", tmp_path / "recordings", out, n_jobs)
        stores.append({name: digest.split()[0] for name, digest in contents(out).items()})
    assert len(stores[0]) == 6
    assert stores[0] == stores[1] == stores[2]


@pytest.mark.parametrize("method", METHODS)
def test_threads_change_the_last_digits_only(method, little_store, tmp_path):
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        try:
            for stage in STAGES:
                run_stage(stage, little_store, tmp_path / str(n_threads), method)
        finally:
            torch.set_num_threads(1)
    for stage in STAGES:
        folders = [tmp_path / n / "valence" / "trial" / "fold0" / stage for n in ("1", "2")]
        results = [json.loads((folder / "result.json").read_text()) for folder in folders]
        assert [result["environment"]["threads"] for result in results] == [1, 2]
        assert results[0]["split_fingerprint"] == results[1]["split_fingerprint"]
        for a, b in zip(*(read_lines(folder / "metrics.jsonl") for folder in folders), strict=True):
            for name in set(a) - {"val_balanced_accuracy"}:  # which moves in steps, of a frame
                # Which our method does not minimise, and which is a square.
                rel = 3 * TOLERANCE if name == "feature_distance" else TOLERANCE
                assert a[name] == pytest.approx(b[name], rel=rel, abs=TOLERANCE / 10), name


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
