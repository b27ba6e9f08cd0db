"""Training over several processes, on one machine or many, as ``torchrun`` starts them.

Every process holds the networks and computes its share of each batch. Gradients are added up
before a step, so that all take the same one; batch norms take the statistics of the whole batch;
and random numbers are drawn for the whole batch (`draws`). The number of processes therefore
changes the last digits only, and may be another one when a run goes on. The first process alone
writes files.

PyTorch's `DistributedDataParallel` is not used: it watches one `forward` per step, and here
networks are called by several of their methods, the critic three times a step.

Started without ``torchrun`` there is one process, and nothing here does anything.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from de3dgan.base import draws, signals

T = TypeVar("T")

#: What one process does alone while the others wait, such as making EEG or looking at all of DE,
#: may take long.
_TIMEOUT = timedelta(hours=2)


def launched_world_size() -> int:
    """Return how many processes ``torchrun`` has started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))


def local_world_size() -> int:
    """Return how many of them are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def local_rank() -> int:
    """Return which one of these this process is, from 0."""
    return int(os.environ.get("LOCAL_RANK", 0))


def init(device: torch.device) -> None:
    """Work together with the other processes from now on."""
    if launched_world_size() == 1 or dist.is_initialized():
        return
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=_TIMEOUT)
    atexit.register(dist.destroy_process_group)


def world_size() -> int:
    """Return the number of processes that work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main_process() -> bool:
    """Return whether this process is the one that writes files."""
    return rank() == 0


def barrier() -> None:
    """Wait until all processes have come here."""
    all_reduce_sum(0)


def all_reduce_sum(value: int) -> int:
    """Return the sum of `value` over processes."""
    if world_size() == 1:
        return value
    tensor = torch.tensor(value)  # of the CPU: no process waits for its GPU
    dist.all_reduce(tensor)
    return int(tensor)


def broadcast(value: T) -> T:
    """Return the first process's `value`."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, device=torch.device("cpu"))
    return values[0]


def all_gather(value: T) -> list[T]:
    """Return the `value` of each process, in order."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


@contextmanager
def shard(batch: np.ndarray) -> Iterator[np.ndarray]:
    """Give the items of `batch` that are this process's, and draw random numbers accordingly.

    Where there are fewer items than processes, each computes them all.
    """
    if world_size() == 1 or len(batch) < world_size():
        yield batch
        return
    start, stop = (len(batch) * n // world_size() for n in (rank(), rank() + 1))
    with draws.part(start, stop, len(batch)):
        yield batch[start:stop]


def all_reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up the gradients of all processes."""
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, summed in zip(gradients, flat.split(sizes), strict=True):
        gradient.copy_(summed.view_as(gradient))


def broadcast_module(net: nn.Module) -> None:
    """Give `net` the first process's weights, and batch norms that see the whole batch."""
    if world_size() == 1:
        return
    for tensor in (*net.parameters(), *net.buffers()):
        dist.broadcast(tensor.detach(), 0)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.forward = partial(_sync_batch_norm, module)


def interrupt_together() -> None:
    """Raise `KeyboardInterrupt` in all processes if one has received a signal."""
    if world_size() > 1:
        received = torch.tensor(max(signals.pending(), default=0))
        dist.all_reduce(received, dist.ReduceOp.MAX)
        if received:
            raise KeyboardInterrupt(int(received))


def _sync_batch_norm(norm: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    """Do what `norm` does, with the statistics of all processes' shares of the batch.

    `torch.nn.SyncBatchNorm` does it on GPUs only.
    """
    if not (norm.training and draws.is_part()):
        return type(norm).forward(norm, x)
    axes = [axis for axis in range(x.ndim) if axis != 1]
    values = x.float()
    n = values.new_tensor(values[:, 0].numel())
    sums = all_reduce(torch.cat([values.sum(axes), n[None]]))
    n, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
    shape = (1, -1, *[1] * (x.ndim - 2))
    centred = values - mean.view(shape)
    variance = all_reduce(centred.square().sum(axes)) / n
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (n / (n - 1)), norm.momentum)
    y = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        y = y * norm.weight.view(shape) + norm.bias.view(shape)
    return y.to(x.dtype)
