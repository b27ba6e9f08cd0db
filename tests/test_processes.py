"""Several processes train what one does: same losses, same files, stopped and resumed together."""

from __future__ import annotations

import itertools
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
from de3dgan.models.blocks import DoubleSize3d, Dropout
from de3dgan.training import checkpoints, distributed
from de3dgan.training.device import device_of
from tests.conftest import METHODS, ROOT, STAGES, TINY_OF, read_lines, run_stage, script_of
from tests.helpers import (
    FOLD,
    assert_same_step,
    copy_upstream,
    one_line,
    stopped_after_one_step,
)

pytestmark = pytest.mark.usefixtures("no_figures")

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
FILES |= {"CARD.md", "leakage.json"}


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


@pytest.fixture(scope="module")
def by_two(little_store, finished_of, tmp_path_factory) -> Path:
    """Return a folder of what two processes have trained, all in one start of torchrun.

    There are a step of each stage and method, in folders <method>-<stage>; all of our method's
    stages, of an epoch, in "whole"; and a second step of what one process has begun, in "stopped",
    where one of the two gets a signal.
    """
    at, jobs = tmp_path_factory.mktemp("two"), []
    for method, stage in itertools.product(METHODS, STAGES):
        runs = at / f"{method}-{stage}"
        copy_upstream(stage, finished_of(method), runs)
        jobs.append(job(stage, method, little_store, runs, one_step=True))
    jobs += [job(stage, "spectral", little_store, at / "whole", epochs=1) for stage in STAGES]
    jobs.append(job("gan", "spectral", little_store, at / "whole", epochs=1, task="another"))
    with stopped_after_one_step():
        run_stage("gan", little_store, at / "stopped", "published", **UNEVEN["gan"])
    jobs.append(job("gan", "published", little_store, at / "stopped", stop_at=1))
    (at / "printed").write_text(together(jobs))
    return at


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_step_of_two_processes_is_that_of_one(
    stage, method, by_two, finished_of, little_store, tmp_path
):
    copy_upstream(stage, finished_of(method), tmp_path)
    with stopped_after_one_step():
        run_stage(stage, little_store, tmp_path, method, **UNEVEN[stage])
    folders = (tmp_path, by_two / f"{method}-{stage}")
    states = [checkpoints.load(runs / FOLD / stage / "state.pt", "") for runs in folders]
    assert states[0]["identity"] == states[1]["identity"]
    assert_same_step(*states)
    # Each process has read half of the frames; the record is of all of them.
    assert states[0]["seen"].keys() == states[1]["seen"].keys()
    for name, seen in states[0]["seen"].items():
        assert torch.equal(seen, states[1]["seen"][name]), name


@pytest.mark.parametrize("stage", STAGES)
def test_the_first_process_writes_what_one_does(by_two, finished_of, stage):
    one, two = finished_of("spectral") / FOLD / stage, by_two / "whole" / FOLD / stage
    names = [{path.name for path in folder.iterdir()} for folder in (one, two)]
    assert names[0] == names[1] >= FILES
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, two)]
    assert results[0].keys() == results[1].keys()
    assert [result["environment"]["processes"] for result in results] == [1, 2]
    certificates = [json.loads((folder / "leakage.json").read_text()) for folder in (one, two)]
    assert certificates[0]["artefacts"] == certificates[1]["artefacts"]
    # Every line once.
    log = (two / "log.txt").read_text()
    assert log.count("  epoch 0:") == log.count("Chose epoch") == 1


def test_two_processes_take_the_generator_of_another_task(by_two):
    taken = by_two / "whole" / "another" / FOLD.relative_to("valence") / "gan"
    assert json.loads((taken / "result.json").read_text())["taken_from"]["task"] == "valence"
    assert (taken / "log.txt").read_text().count("Took the generator") == 1


def test_all_stop_when_one_gets_a_signal_and_another_number_goes_on(by_two, little_store, tmp_path):
    """One process takes a step, two take the second, and one the rest."""
    printed = (by_two / "printed").read_text()
    assert all(f"process {n} stopped by {signal.SIGTERM:d}" in printed for n in (0, 1))
    runs = Path(shutil.copytree(by_two / "stopped", tmp_path / "runs"))
    folder = runs / FOLD / "gan"
    state = checkpoints.load(folder / "state.pt", "")
    assert state["n_steps"] == 2
    assert state["losses"]["counts"]["reconstruction"] == 2 * UNEVEN["gan"]["batch_size"]
    run_stage("gan", little_store, runs, "published", **UNEVEN["gan"])
    log = (folder / "log.txt").read_text()
    assert log.count("begun elsewhere") == 1
    assert "Going on after epoch 0 of 2, step 2 of the next" in log
    assert [line["epoch"] for line in read_lines(folder / "metrics.jsonl")] == [0, 1]


@pytest.mark.slow
def test_torchrun_is_stopped_as_one_process_is(little_store, tmp_path):
    flags = ("--data-dir", little_store, "--runs-dir", tmp_path, "--device", "cpu")
    flags = (*map(str, flags), *TINY_OF["spectral"]["classifier"])
    command = [*TORCHRUN, str(script_of("classifier")), *flags, "--epochs", "5000"]
    folder = tmp_path / FOLD / "classifier"
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
