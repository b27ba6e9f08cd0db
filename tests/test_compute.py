"""Precision, compilation and where work waits: flags do what they say, and results stay."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from de3dgan.figures import stages as figures_of_stages
from de3dgan.training import loop
from de3dgan.training.device import Compute
from tests.conftest import METHODS, STAGES, read_lines, run_stage

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(figures_of_stages, "plotting", lambda run: None)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_a_precision_is_that_of_convolutions_and_products(precision, dtype):
    compute = Compute(CPU, precision)
    with compute.autocast():
        assert torch.nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtype
        assert torch.nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2)).dtype == dtype
    assert compute.description["precision"] == str(dtype).removeprefix("torch.")
    assert Compute(CPU).bfloat16 == torch.cpu._is_avx512_bf16_supported()  # what "auto" is


@pytest.mark.parametrize("method", METHODS)
def test_precision_is_a_flag_that_results_name(method, little_store, tmp_path):
    metrics = {}
    for precision in ("fp32", "bf16"):
        folder = run_stage(
            "classifier", little_store, tmp_path / precision, method, precision=precision, epochs=1
        )
        environment = json.loads((folder / "result.json").read_text())["environment"]
        assert environment["precision"] == {"fp32": "float32", "bf16": "bfloat16"}[precision]
        metrics[precision] = read_lines(folder / "metrics.jsonl")[0]
    assert metrics["fp32"] != metrics["bf16"]
    assert metrics["fp32"]["loss"] == pytest.approx(metrics["bf16"]["loss"], rel=0.01)


@pytest.mark.parametrize("stage", ["gan", "classifier"])
def test_without_a_compiler_training_says_why_and_goes_on(
    stage, little_store, tmp_path, monkeypatch
):
    def no_compiler(module):
        raise RuntimeError("there is no C++ compiler\nand more lines")

    monkeypatch.setattr(torch, "compile", no_compiler)
    folders = [
        run_stage(stage, little_store, tmp_path / compile, compile=compile, epochs=1)
        for compile in ("on", "off")
    ]
    said = "torch.compile does not work here (there is no C++ compiler): training goes on without."
    assert [said in (folder / "log.txt").read_text() for folder in folders] == [True, False]
    lines = [read_lines(folder / "metrics.jsonl") for folder in folders]
    assert lines[0] == lines[1]


def test_what_is_compiled_computes_the_same():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.SELU(), torch.nn.Flatten())
    x, said = torch.randn(2, 2, 5, 5), []
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    before, state = net(x), torch.get_rng_state()
    Compute(CPU, "fp32", "on").compiled(net, x, said.append)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(net(x), before)
    assert (net._compiled_call_impl is None) == bool(said)  # where there is no compiler
    assert net.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    Compute(CPU, "fp32").compiled(net := torch.nn.Linear(2, 2), torch.zeros(1, 2), said.append)
    assert net._compiled_call_impl is None  # "auto"


class Waits(TorchDispatchMode):
    """Notes operations for which the processor would have to wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Note what reads a value, or has a size that depends on values."""
        name = str(function)
        # Whole numbers that are read are counts of steps, which stay with the processor.
        if name == "aten._local_scalar_dense.default" and not args[0].is_floating_point():
            name = ""
        by_mask = name.startswith("aten.index") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if by_mask or "_local_scalar_dense" in name or "nonzero" in name:
            self.seen.add(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", METHODS)
def test_no_step_waits_for_the_device(method, little_store, tmp_path, monkeypatch):
    """Steps are put in line on a GPU one after the other, if none asks for a value."""
    seen, fit = {}, loop.fit

    def watched(run, nets, optimisers, items, purpose, train_step, *args, **options):
        def step(epoch, batch):
            with Waits() as waits:
                losses = train_step(epoch, batch)
            seen.setdefault(run.stage, set()).update(waits.seen)
            return losses

        return fit(run, nets, optimisers, items, purpose, step, *args, **options)

    monkeypatch.setattr(loop, "fit", watched)
    for stage in STAGES:
        run_stage(stage, little_store, tmp_path, method, epochs=1)
    assert seen == dict.fromkeys(STAGES, set())
    with Waits() as waits:
        assert torch.ones(3)[torch.ones(3) > 0].sum() > 0  # it would have been seen
        assert float(torch.ones(())) == 1
    assert len(waits.seen) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("method", METHODS)
def test_no_step_waits_for_a_gpu(method, little_store, tmp_path, monkeypatch):
    fit = loop.fit

    def watched(run, nets, optimisers, items, purpose, train_step, *args, **options):
        def step(epoch, batch):
            torch.cuda.set_sync_debug_mode("error")
            try:
                return train_step(epoch, batch)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        return fit(run, nets, optimisers, items, purpose, step, *args, **options)

    monkeypatch.setattr(loop, "fit", watched)
    for stage in STAGES:
        folder = run_stage(stage, little_store, tmp_path, method, epochs=1, device="cuda")
        environment = json.loads((folder / "result.json").read_text())["environment"]
        assert environment["device"] == torch.cuda.get_device_name()
