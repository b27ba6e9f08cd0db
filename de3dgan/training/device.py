"""How networks compute: on which device, in which precision, compiled or not."""

from __future__ import annotations

import platform
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from de3dgan.base.errors import UserError
from de3dgan.data.frames import to_device
from de3dgan.training import distributed


@dataclass(frozen=True)
class Compute:
    """How networks compute.

    Attributes
    ----------
    device : torch.device
        Where they are.
    precision : str
        "fp32"; "bf16", in which convolutions and matrix products are in bfloat16, weights and all
        else in float32; or "auto", bf16 where the device gains from it.
    compile : str
        "on", "off" or "auto": with `torch.compile` or without. It is off unless asked for: on
        processors it takes longer to compile than it saves, and on a GPU it was not measured.
    """

    device: torch.device
    precision: str = "auto"
    compile: str = "auto"

    @property
    def bfloat16(self) -> bool:
        """Whether convolutions and matrix products are in bfloat16.

        GPUs gain from it, and processors that have instructions for it; others emulate it, and are
        slower.
        """
        if self.precision == "auto":
            return self.device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
        return self.precision == "bf16"

    @property
    def description(self) -> dict[str, Any]:
        """What a result depends on: the device, precision, threads and processes."""
        gpu = self.device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(self.device) if gpu else platform.machine(),
            "precision": "bfloat16" if self.bfloat16 else "float32",
            "compile": self.compile == "on",
            "threads": torch.get_num_threads(),
            "processes": distributed.world_size(),
        }

    def autocast(self) -> torch.autocast:
        """Return a context in which networks compute in the precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

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


def compute_of(config: Any) -> Compute:
    """Return what ``--device``, ``--precision`` and ``--compile`` ask for.

    Raises
    ------
    UserError
        If there is no such device, or fewer GPUs than processes on this machine.
    """
    compute = Compute(device_of(config.device), config.precision, config.compile)
    if compute.device.type == "cuda" and config.precision == "fp32":
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # else it is TF32's 10 bits
    return compute


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
