"""Several processes train what one does: same losses, same files, stopped and resumed together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from de3dgan.base import draws
from de3dgan.base.errors import UserError
from de3dgan.figures import stages as figures_of_stages
from de3dgan.training import distributed
from de3dgan.training.device import device_of
from models.blocks import DoubleSize3d, Dropout
from tests.conftest import METHODS, ROOT, STAGES, TINY_OF, read_lines, run_stage, script_of
from tests.helpers import one_line

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
#: Batches do not divide evenly, and the last is of one item; float32, in which sums over parts are
#: those over all to the last digits.
UNEVEN = {
    "gan": {"batch_size": 8, "precision": "fp32", "epochs": 2},
    "classifier": {"batch_size": 63, "precision": "fp32", "epochs": 2},
    "finetune": {"batch_size": 63, "precision": "fp32", "epochs": 2},
}
#: Files that the first process alone writes, of one that has been stopped or not.
FILES = {"config.json", "log.txt", "metrics.jsonl", "state.pt", "model.pt", "result.json"}


def together(jobs: list[dict]) -> str:
    """Run stages under torchrun, and return what the processes print."""
    command = [*TORCHRUN, "-m", "tests.stages_together", json.dumps(jobs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def job(stage: str, method: str, store: Path, runs: Path, **more: object) -> dict:
    """Return what tests.stages_together is told."""
    places = {"store": str(store), "runs": str(runs)}
    return {"stage": stage, "method": method, **places, **UNEVEN[stage], **more}


def assert_same_losses(one: Path, other: Path) -> None:
    ours, theirs = (read_lines(folder / "metrics.jsonl") for folder in (one, other))
    assert len(ours) == len(theirs) == 2
    for our, their in zip(ours, theirs, strict=True):
        assert our == pytest.approx(their, rel=1e-4, abs=1e-4)


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(figures_of_stages, "plotting", lambda run: None)


@pytest.fixture(scope="module")
def both(little_store, tmp_path_factory):
    """Return the folders of two methods' folds, trained by one process and by two.

    Stage 3 goes on from the same networks in both.
    """
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    fold = Path("valence", "trial", "fold0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures_of_stages, "plotting", lambda run: None)
        for method in METHODS:
            for stage in STAGES:
                run_stage(stage, little_store, folders[0] / method, method, **UNEVEN[stage])
            for stage in ("gan", "classifier"):
                shutil.copytree(
                    folders[0] / method / fold / stage, folders[1] / method / "3" / fold / stage
                )
    where = {
        (s, m): folders[1] / m / ("3" if s == "finetune" else "") for m in METHODS for s in STAGES
    }
    together([job(s, m, little_store, where[s, m]) for s, m in where])
    one = {(s, m): folders[0] / m / fold / s for m in METHODS for s in STAGES}
    return one, {(s, m): folder / fold / s for (s, m), folder in where.items()}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_have_the_losses_of_one(both, stage, method):
    one, two = (folders[stage, method] for folders in both)
    assert_same_losses(one, two)
    states = [torch.load(folder / "state.pt") for folder in (one, two)]
    for name, weights in states[0]["best"]["weights"].items():
        assert torch.allclose(weights, states[1]["best"]["weights"][name], atol=1e-3), name


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stage", STAGES)
def test_the_first_process_writes_what_one_does(both, stage, method):
    one, two = (folders[stage, method] for folders in both)
    names = [{path.name for path in folder.iterdir()} for folder in (one, two)]
    assert names[0] == names[1] >= FILES
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, two)]
    assert results[0].keys() == results[1].keys()
    assert [result["environment"]["processes"] for result in results] == [1, 2]
    # Each process has read half of the frames; the certificate knows of all of them.
    certificates = [json.loads((folder / "leakage.json").read_text()) for folder in (one, two)]
    assert certificates[0]["artefacts"] == certificates[1]["artefacts"]
    # Every line once.
    log = (two / "log.txt").read_text()
    assert log.count("  epoch 0:") == log.count("Chose epoch") == 1


def test_all_stop_when_one_gets_a_signal_and_another_number_goes_on(
    both, little_store, tmp_path, monkeypatch
):
    """One process takes a step, two take the second, and one the rest."""
    place = ("gan", "published", little_store, tmp_path)
    folder = tmp_path / "valence" / "trial" / "fold0" / "gan"

    def interrupt() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(distributed, "interrupt_together", interrupt)
        run_stage("gan", little_store, tmp_path, "published", **UNEVEN["gan"])
    assert torch.load(folder / "state.pt")["n_steps"] == 1
    printed = together([job(*place, stop_at=1)])
    assert all(f"process {n} stopped by {signal.SIGTERM:d}" in printed for n in (0, 1))
    assert torch.load(folder / "state.pt")["n_steps"] == 2
    run_stage("gan", little_store, tmp_path, "published", **UNEVEN["gan"])
    assert (folder / "log.txt").read_text().count("begun elsewhere") == 1
    assert_same_losses(both[0]["gan", "published"], folder)


def test_torchrun_is_stopped_as_one_process_is(little_store, tmp_path):
    flags = ("--data-dir", little_store, "--runs-dir", tmp_path, "--device", "cpu")
    flags = (*map(str, flags), *TINY_OF["spectral"]["classifier"])
    command = [*TORCHRUN, str(script_of("classifier")), *flags, "--epochs", "5000"]
    folder = tmp_path / "valence" / "trial" / "fold0" / "classifier"
    started = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (folder / "metrics.jsonl").is_file() and started.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    started.send_signal(signal.SIGTERM)
    out, err = started.communicate(timeout=60)
    assert started.returncode != 0
    assert out.count("Go on with: python SA-ST_Net_Classifier_Valence.py") == 1, err
    assert (folder / "state.pt").is_file() and not (folder / "result.json").exists()
    assert not list(folder.glob(".*.tmp"))


def test_a_users_mistake_is_one_sentence_under_torchrun(tmp_path):
    command = [*TORCHRUN, str(script_of("classifier")), "--data-dir", str(tmp_path / "none")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert done.stderr.count("Error: There is no store in") == 1


def test_a_part_of_a_batch_gets_the_random_numbers_of_the_whole():
    def draw(n: int) -> torch.Tensor:
        return torch.randn(n, 3)

    torch.manual_seed(0)
    whole, after = draws.rows(draw, 14), torch.rand(())
    for start, stop in ((0, 3), (3, 5), (5, 7)):  # two rows an item
        torch.manual_seed(0)
        with draws.part(start, stop, 7):
            assert draws.is_part()
            rows = draws.rows(draw, 2 * (stop - start))
        assert torch.equal(rows, whole[2 * start : 2 * stop])
        assert torch.equal(torch.rand(()), after)
    assert not draws.is_part()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_of_a_part_is_that_of_the_whole(dtype):
    x, dropout = torch.ones(6, 1000, dtype=dtype), Dropout(0.3)
    torch.manual_seed(0)
    whole = dropout(x)
    torch.manual_seed(0)
    with draws.part(1, 3, 3):
        assert torch.equal(dropout(x[2:]), whole[2:])
    assert 0.65 < (whole > 0).float().mean() < 0.75
    assert torch.equal(dropout.eval()(x), x)


@pytest.mark.parametrize("n_processes", [2, 3, 8])
def test_shares_are_all_of_a_batch_once(monkeypatch, n_processes):
    monkeypatch.setattr(distributed, "world_size", lambda: n_processes)
    for n_items in (8, 13, 64):
        batch, shares = np.arange(n_items), []
        for number in range(n_processes):
            monkeypatch.setattr(distributed, "rank", lambda number=number: number)
            with distributed.shard(batch) as share:
                assert draws.is_part() and len(share)
                shares.append(share)
        assert np.array_equal(np.concatenate(shares), batch)
    with distributed.shard(np.arange(n_processes - 1)) as share:  # too few to share
        assert len(share) == n_processes - 1 and not draws.is_part()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in (("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "4"), ("LOCAL_RANK", "3")):
        monkeypatch.setitem(os.environ, name, value)
    with pytest.raises(UserError) as error:
        device_of("auto")
    assert "--nproc-per-node 2" in one_line(error)
    monkeypatch.setitem(os.environ, "LOCAL_WORLD_SIZE", "2")
    monkeypatch.setitem(os.environ, "LOCAL_RANK", "1")
    assert device_of("auto") == torch.device("cuda", 1)


@pytest.mark.parametrize("padding", [(0, 0, 0), (0, 0, 1), (1, 0, 1)])
def test_doubling_is_pytorchs_transposed_convolution(padding):
    ours = DoubleSize3d(6, 5, padding)
    plain = torch.nn.ConvTranspose3d(6, 5, 2, stride=2, output_padding=padding)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, 4, 3, 2)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [net(x) for net, x in zip((ours, plain), inputs, strict=True)]
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(outputs[0])
    for output in outputs:
        (output * weights).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=1e-5, rtol=1e-5)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-4)
