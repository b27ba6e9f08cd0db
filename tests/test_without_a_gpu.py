"""What makes a GPU wait is in no training step, as can be shown without one.

Steps of all stages are taken on PyTorch's *meta* device, whose tensors have a shape and no values:
what would read a value there, or have a size that depends on values, is an error of PyTorch's.
"""

from __future__ import annotations

import contextlib
import json
import operator
from dataclasses import replace
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from de3dgan.data.frames import DeviceArray
from de3dgan.models import Discriminator, Generator, SASTNet, SpectralGenerator, SpectralSASTNet
from de3dgan.stages import classifier
from de3dgan.training import loop
from tests.conftest import METHODS, STAGES, run_stage

pytestmark = pytest.mark.usefixtures("no_figures", "no_baselines")
META = torch.device("meta")


class Crossings(TorchDispatchMode):
    """Notes operations, and refuses those that take tensors from the processor to the device.

    That is waited for, unless it is a copy that says otherwise. A single number is no tensor here:
    PyTorch hands it over with the operation.
    """

    def __init__(self):
        super().__init__()
        self.seen: list[tuple[str, list[torch.Size]]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Note the operation, and the shapes of what it returns."""
        kwargs = kwargs or {}
        found = function(*args, **kwargs)
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        made = [x for x in tree_leaves(found) if isinstance(x, Tensor)]
        from_processor = any(x.device != META and x.ndim for x in given)
        if from_processor and any(x.device == META for x in given + made):
            waits_for_nothing = kwargs.get("non_blocking", False)
            assert waits_for_nothing, f"{function} takes a tensor from the processor"
        if any(x.device == META for x in made):
            self.seen.append((str(function), [x.shape for x in made]))
        return found


def on_meta(thing: Any, seen: dict[int, tuple[Any, Any]]) -> Any:
    """Return `thing`, changed in place where it can be, with what it holds on the meta device.

    Whole numbers without dimension are counts of steps, which stay with the processor.
    """
    if id(thing) in seen:
        return seen[id(thing)][1]
    moved = partial(on_meta, seen=seen)
    seen[id(thing)] = thing, thing  # while its parts are looked at
    new = thing
    if isinstance(thing, torch.device):
        new = META
    elif isinstance(thing, nn.Parameter):
        new = nn.Parameter(thing.detach().to(META))
    elif isinstance(thing, Tensor):
        new = thing.to(META) if thing.ndim or thing.is_floating_point() else thing
    elif isinstance(thing, FunctionType):
        for cell in thing.__closure__ or ():
            cell.cell_contents = moved(cell.cell_contents)
    elif isinstance(thing, dict):
        thing.update({key: moved(value) for key, value in thing.items()})
    elif isinstance(thing, list):
        thing[:] = map(moved, thing)
    elif isinstance(thing, tuple):
        parts = list(map(moved, thing))
        new = type(thing)(*parts) if hasattr(thing, "_fields") else tuple(parts)
    elif isinstance(thing, (nn.Module, Optimizer)) or type(thing).__module__.startswith("de3dgan"):
        for name, value in getattr(thing, "__dict__", {}).items():
            object.__setattr__(thing, name, moved(value))
    seen[id(thing)] = thing, new
    return new


class Enough(Exception):
    """Ends a stage once its steps have been looked at."""


def steps_seen(run, nets, step, items, epoch: int) -> list[list]:
    """Return the operations of some steps, which draw the same random numbers."""
    found, rng = [], np.random.default_rng(0)
    for _ in range(3):
        torch.manual_seed(0)
        with Crossings() as crossings, run.ledger.reading_for(*nets):
            losses = step(epoch, rng.permutation(items)[:8])
        assert {loss.device for loss in losses.values()} == {META}  # fetched once per epoch
        found.append(crossings.seen)
    return found


@pytest.mark.parametrize("method", METHODS)
def test_steps_read_no_values_and_have_shapes_that_do_not_change(
    method, little_store, tmp_path, monkeypatch
):
    """Steps are put in line on a GPU one after the other, if none has to wait for what it holds.

    The first one makes the optimisers' averages; all after it do the same, on other batches.
    """
    seen = {}

    def fit(run, nets, optimisers, items, purpose, train_step, *_, **__):
        for net in nets.values():
            net.train()
        moved = {}
        on_meta([train_step, *optimisers.values()], moved)
        arrays = [thing for thing, _ in moved.values() if isinstance(thing, DeviceArray)]
        assert arrays
        for optimiser in optimisers.values():
            for group in optimiser.param_groups:
                group["fused"] = False  # which has no meta device; it is one operation on a GPU
        for epoch, resident in ((0, True), (1, False)):
            for array in arrays:  # as if there were room for data on the device, or none
                array._resident = torch.empty(array._shape, device=META) if resident else None
            with monkeypatch.context() as patched:  # autocast has no meta device, either
                patched.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
                # The published critic steps in the first epoch only.
                _, second, third = steps_seen(run, nets, train_step, items, epoch)
            assert second == third
        seen[run.stage] = {name for name, _ in third}
        raise Enough

    start = classifier.start
    monkeypatch.setattr(classifier, "start", lambda *args: replace(start(*args), with_paired=True))
    for stage in STAGES:
        with monkeypatch.context() as patched, pytest.raises(Enough):
            patched.setattr(loop, "fit", fit)
            run_stage(stage, little_store, tmp_path, method, precision="fp32")
        assert "aten.convolution_backward.default" in seen[stage]
        if stage != "finetune":  # what the next stages read
            run_stage(stage, little_store, tmp_path, method, epochs=1, restart=True)


def test_what_is_waited_for_would_be_seen():
    x, numbers = torch.empty(3, 4, device=META), torch.tensor([0, 2])
    for waits in (
        lambda: float(x.sum()),
        lambda: bool((x > 0).any()),
        lambda: x[x > 0],
        lambda: x.nonzero(),
        lambda: x.cpu(),
        lambda: x.numpy(),
    ):
        with pytest.raises((RuntimeError, NotImplementedError, TypeError)), Crossings():
            waits()
    for crosses in (lambda: x[numbers], lambda: numbers.to(META)):
        with pytest.raises(AssertionError, match="takes a tensor from the processor"), Crossings():
            crosses()
    with Crossings() as crossings:
        x[numbers.to(META, non_blocking=True)] * 2.0
    assert [shape for _, (shape,) in crossings.seen] == [(2,), (2, 4), (2, 4)]


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


# --- compilation


def tiny(module: type[nn.Module], *part: str, **arguments: Any) -> nn.Module:
    """Return a small network, or a part of it."""
    torch.manual_seed(0)
    return operator.attrgetter(*part)(module(**arguments)) if part else module(**arguments)


OF_TRUNK = {"widths": (8, 8, 8, 8, 8)}
#: What can be compiled, how, and shapes of what it is given. `--compile on` compiles the first
#: three; the others are all that trains.
COMPILED = {
    "U-Net": (lambda: tiny(SpectralGenerator, "unet", widths=(8,) * 4), (2, 16, 24, 8, 9)),
    "U-Net, published": (lambda: tiny(Generator, "unet", widths=(4,) * 4), (2, 4, 24, 8, 9)),
    "trunk": (lambda: tiny(SASTNet, "trunk", **OF_TRUNK), (5, 32, 128)),
    "likelihood": (
        lambda: tiny(SpectralGenerator, "log_likelihood", widths=(8,) * 4),
        (2, 4, 24, 32),
        (2, 32, 24 * 64),
    ),
    "generator, published": (lambda: tiny(Generator, "generate", widths=(4,) * 4), (2, 4, 24, 32)),
    "critic": (lambda: tiny(Discriminator, n_hidden=8, **OF_TRUNK), (5, 32, 128)),
    "classifier": (
        lambda: tiny(SpectralSASTNet, "residual", n_features=8, dropout=0, noise=0, **OF_TRUNK),
        (5, 32, 16),
        (5, 32, 16),
    ),
    "classifier, published": (
        lambda: tiny(SASTNet, n_features=8, dropout=0, **OF_TRUNK),
        (5, 32, 128),
    ),
}


@pytest.mark.parametrize("name", COMPILED)
def test_networks_are_compiled_whole_and_once(name):
    """Without breaks of the graph, and for another batch not again."""
    make, *shapes = COMPILED[name]
    written = make()
    torch.compiler.reset()
    compiled = torch.compile(written, fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(2):
            batch = [torch.randn(shape) for shape in shapes]
            found, wanted = (flat(function(*batch)) for function in (compiled, written))
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
            found.sum().backward()
    torch.compiler.reset()


def flat(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Return all that a network returns in one row."""
    return torch.cat([x.flatten() for x in tree_leaves(outputs)])
