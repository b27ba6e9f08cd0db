"""How networks compute: on which device, in which precision, compiled or not."""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from de3dgan.base.errors import UserError
from de3dgan.data.frames import to_device
from de3dgan.training import distributed

#: What each precision is called in files.
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}
#: bfloat16 is chosen where it takes at most this share of float32's time. Results in bfloat16 have
#: fewer digits, which a few percent are not worth; and what is close would be chosen by chance.
_CLEARLY_FASTER = 0.8
#: Frames that are convolved to measure this, as many as keep the device busy.
_N_FRAMES = {"cpu": 8, "cuda": 512}
#: Times that each precision is measured, the best of which counts; and how much slower bfloat16 is
#: where it is emulated, and not measured again.
_REPEATS, _EMULATED = 6, 4.0


@dataclass(frozen=True)
class Compute:
    """How networks compute.

    Attributes
    ----------
    device : torch.device
        Where they are.
    precision : str
        "fp32"; or "bf16", in which convolutions and matrix products are in bfloat16, weights and
        all else in float32.
    compile : str
        "on", "off" or "auto": with `torch.compile` or without. It is off unless asked for: on
        processors it takes longer to compile than it saves, and on a GPU it was not measured.
    """

    device: torch.device
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: str = "auto"

    @property
    def description(self) -> dict[str, Any]:
        """What a result depends on: the device, precision, threads and processes."""
        gpu = self.device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(self.device) if gpu else platform.machine(),
            "precision": PRECISIONS[self.precision],
            "compile": self.compile == "on",
            "threads": torch.get_num_threads(),
            "processes": distributed.world_size(),
        }

    def autocast(self) -> torch.autocast:
        """Return a context in which networks compute in the precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def to_device(self, array: np.ndarray) -> Tensor:
        """Return an array as a tensor on the device, without waiting for the device."""
        return to_device(torch.from_numpy(array), self.device)

    def compiled(self, module: nn.Module, example: Tensor, log: Callable[[str], None]) -> None:
        """Have `module` run compiled from now on, if that is asked for and works here.

        A copy is compiled first and tried, forwards and backwards, so that whatever is missing (a C
        compiler, Triton) is met before training, which then goes on without.

        Parameters
        ----------
        module : Module
            Takes one tensor and returns one.
        example : Tensor
            Something it may be given.
        log : callable
            Is told if it does not work, and why.
        """
        if self.compile != "on":
            return
        trial = deepcopy(module)
        try:
            with torch.random.fork_rng(), self.autocast():
                torch.compile(trial)(example).float().sum().backward()
        except Exception as error:  # PyTorch's compilers raise whatever they like
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            log(f"torch.compile does not work here ({reason}): training goes on without.")
            return
        module.compile()


def in_precision(compute: Compute, asked: str, begun_in: str | None) -> tuple[Compute, str]:
    """Return `compute` in the precision of ``--precision``.

    Of processes that train together, the first one chooses what "auto" is, for all.

    Parameters
    ----------
    compute : Compute
        Device and compilation.
    asked : str
        "fp32", "bf16" or "auto": bf16 where it is clearly faster.
    begun_in : str, optional
        "float32" or "bfloat16", in which the run was begun, maybe on another machine: "auto" keeps
        it, so that no run is in both.

    Returns
    -------
    compute : Compute
    reason : str
        Why "auto" is what it is, if that was found now; else empty.
    """
    if compute.device.type == "cuda":
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # else it is TF32's 10 bits
    if asked != "auto":
        return replace(compute, precision=asked), ""
    if begun_in is not None:
        kept = {name: precision for precision, name in PRECISIONS.items()}[begun_in]
        return replace(compute, precision=kept), ""
    is_main = distributed.is_main_process()
    ratio = distributed.broadcast(bfloat16_ratio(compute.device) if is_main else 0.0)
    precision = "bf16" if ratio <= _CLEARLY_FASTER else "fp32"
    found = f"takes {ratio:.2g} times as long as float32" if ratio < np.inf else "does not work"
    return replace(compute, precision=precision), (
        f"Computing in {PRECISIONS[precision]}: bfloat16 {found} here."
    )


@functools.cache
def bfloat16_ratio(device: torch.device) -> float:
    """Return how long networks take in bfloat16 over how long they take in float32.

    A convolution and a matrix product of the classifier, forwards and backwards, are timed in both
    precisions in turns, within a fifth of a second. On processors that is the time of one thread,
    without that in which it had to wait, so that neither the number of threads nor what else the
    machine does changes the choice. It is infinite where bfloat16 does not work.
    """
    n_frames = _N_FRAMES[device.type]
    clock = time.perf_counter if device.type == "cuda" else time.thread_time
    rng = torch.Generator().manual_seed(0)  # the run's own random numbers are left alone

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng).to(device)

    frames = normal(n_frames, 128, 8, 9).to(memory_format=torch.channels_last)
    kernels = normal(256, 128, 3, 3).to(memory_format=torch.channels_last)
    features, weights = normal(4 * n_frames, 1152), normal(512, 1152)
    for tensor in (frames, kernels, features, weights):
        tensor.requires_grad_()

    def seconds(precision: str) -> float:
        start = clock()
        with Compute(device, precision).autocast():
            outputs = F.conv2d(frames, kernels, padding=1), F.linear(features, weights)
            sum(output.float().sum() for output in outputs).backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - start

    best = dict.fromkeys(PRECISIONS, float("inf"))
    with _one_thread():
        for _ in range(_REPEATS):  # the first one warms up
            best["fp32"] = min(best["fp32"], seconds("fp32"))
            try:
                best["bf16"] = min(best["bf16"], seconds("bf16"))
            except RuntimeError:  # PyTorch's, of a library that cannot do it here
                return float("inf")
            if best["bf16"] > _EMULATED * best["fp32"]:
                break
    return best["bf16"] / best["fp32"]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have PyTorch compute with one thread."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def device_of(name: str) -> torch.device:
    """Return the device called `name`; "auto" is a GPU if there is one.

    Raises
    ------
    UserError
        If there is no such device, or fewer GPUs than processes on this machine.
    """
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and not n_gpus:
        raise UserError("There is no GPU that PyTorch can use: leave out --device cuda.")
    if name == "cpu" or not n_gpus:
        return torch.device("cpu")
    if distributed.launched_world_size() == 1:
        return torch.device("cuda")
    if distributed.local_world_size() > n_gpus:
        raise UserError(
            f"torchrun starts {distributed.local_world_size()} processes here, and there are "
            f"{n_gpus} GPUs: give --nproc-per-node {n_gpus}, or --device cpu."
        )
    return torch.device("cuda", distributed.local_rank())
