"""Precision, compilation and where work waits: flags do what they say, and results stay."""

from __future__ import annotations

import json
import math

import pytest
import torch

from de3dgan.base.errors import UserError
from de3dgan.training import device, loop
from de3dgan.training.device import Compute
from tests.conftest import METHODS, STAGES, read_lines, run_script, run_stage

pytestmark = pytest.mark.usefixtures("no_figures", "no_baselines")
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_a_precision_is_that_of_convolutions_and_products(precision, dtype):
    compute = Compute(CPU, precision)
    with compute.autocast():
        assert torch.nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtype
        assert torch.nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2)).dtype == dtype
    assert compute.description["precision"] == str(dtype).removeprefix("torch.")


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


@pytest.mark.parametrize(
    ("ratio", "precision", "said"),
    [
        (0.6, "bfloat16", "bfloat16 takes 0.6 times as long as float32 here."),
        (0.81, "float32", "bfloat16 takes 0.81 times as long as float32 here."),
        (1.4, "float32", "bfloat16 takes 1.4 times as long as float32 here."),
        (math.inf, "float32", "bfloat16 does not work here."),
    ],
)
def test_auto_is_bfloat16_where_that_is_clearly_faster(
    ratio, precision, said, little_store, tmp_path, monkeypatch
):
    monkeypatch.setattr(device, "bfloat16_ratio", lambda device: ratio)
    folder = run_stage("classifier", little_store, tmp_path, epochs=1)
    assert f"  Computing in {precision}: {said}\n" in (folder / "log.txt").read_text()
    for name in ("config.json", "result.json"):
        assert json.loads((folder / name).read_text())["environment"]["precision"] == precision


def measure_nothing(device):
    raise AssertionError("a precision that is known is not measured")


@pytest.mark.parametrize(
    ("method", "stages", "begun_in", "ratio"),
    [
        ("spectral", STAGES, "bfloat16", 0.5),
        ("published", STAGES[:1], "float32", 2.0),
        pytest.param("published", STAGES, "float32", 2.0, marks=pytest.mark.slow),
    ],
)
def test_a_run_keeps_the_precision_it_was_begun_in(
    method, stages, begun_in, ratio, little_store, tmp_path, monkeypatch
):
    """Stopped after an epoch and gone on with where another one is faster."""

    def validated(run, nets, optimisers, items, purpose, train_step, validate, **options):
        def stop():
            if (run.dir / "state.pt").is_file():
                raise KeyboardInterrupt
            return validate()

        return fit(run, nets, optimisers, items, purpose, train_step, stop, **options)

    fit = loop.fit
    for stage in stages:
        folders = [tmp_path / name for name in ("at once", "stopped")]
        monkeypatch.setattr(device, "bfloat16_ratio", lambda device: ratio)
        whole = run_stage(stage, little_store, folders[0], method, epochs=2)
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(loop, "fit", validated)
            run_stage(stage, little_store, folders[1], method, epochs=2)
        monkeypatch.setattr(device, "bfloat16_ratio", measure_nothing)
        stopped = run_stage(stage, little_store, folders[1], method, epochs=2)
        environment = json.loads((stopped / "result.json").read_text())["environment"]
        assert environment["precision"] == begun_in
        assert read_lines(stopped / "metrics.jsonl") == read_lines(whole / "metrics.jsonl")
        run_stage(stage, little_store, folders[1], method, epochs=2)  # finished: not measured


def test_what_is_said_with_a_flag_is_not_measured(monkeypatch):
    monkeypatch.setattr(device, "bfloat16_ratio", measure_nothing)
    for asked, begun_in in (("fp32", None), ("bf16", None), ("fp32", "bfloat16")):
        compute, reason = device.in_precision(Compute(CPU), asked, begun_in)
        assert (compute.precision, reason) == (asked, "")


def test_a_run_in_an_unknown_precision_is_refused(little_store, tmp_path):
    folder = run_stage("classifier", little_store, tmp_path, epochs=1)
    config = json.loads((folder / "config.json").read_text())
    config["environment"]["precision"] = "float8"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"environment\.precision is \"float8\".*--restart"):
        run_stage("classifier", little_store, tmp_path, epochs=1)
    run_stage("classifier", little_store, tmp_path, epochs=1, restart=True)


def test_precisions_are_measured_and_nothing_else_is_changed():
    n_threads, state = torch.get_num_threads(), torch.get_rng_state()
    ratio = device.measured_bfloat16_ratio(CPU)
    assert ratio > 0.05
    assert device.measured_bfloat16_ratio(CPU) == ratio  # once per process
    assert torch.get_num_threads() == n_threads
    assert torch.equal(torch.get_rng_state(), state)


def test_bfloat16_that_fails_is_not_chosen(monkeypatch):
    def fails(self):
        if self.precision == "bf16":
            raise RuntimeError("could not create a primitive")
        return autocast(self)

    autocast = Compute.autocast
    monkeypatch.setattr(Compute, "autocast", fails)
    assert device.measured_bfloat16_ratio.__wrapped__(CPU) == math.inf


@pytest.mark.parametrize("variable", ["ATEN_CPU_CAPABILITY=default", "ONEDNN_MAX_CPU_ISA=AVX2"])
def test_every_instruction_set_can_be_measured(variable):
    code = (
        "import math, torch; from de3dgan.training import device; "
        "ratio = device.measured_bfloat16_ratio(torch.device('cpu')); "
        "assert 0.05 < ratio < math.inf, ratio; "
        "bf16 = device.Compute(torch.device('cpu'), 'bf16'); "
        "context = bf16.autocast(); context.__enter__(); "
        "assert torch.nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2)).dtype == torch.bfloat16"
    )
    done = run_script("-c", code, env=dict([variable.split("=")]))
    assert done.returncode == 0, done.stderr


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


@pytest.mark.slow
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
