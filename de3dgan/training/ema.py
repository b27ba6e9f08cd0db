"""The average of a network's weights over the steps of training."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn


class EMA(nn.Module):
    """A copy of a network whose weights follow the network's slowly.

    They are an exponential moving average, over the last 1 / (1 - `decay`) steps or so, and over
    fewer in the beginning. It is steadier than the weights of any one step. PyTorch's
    `AveragedModel` does the same, and waits for the device in every step.

    Parameters
    ----------
    net : Module
        The network.
    decay : float
        What is kept of the average in a step; at 0, it is the network itself.

    Attributes
    ----------
    module : Module
        The copy.
    """

    def __init__(self, net: nn.Module, decay: float):
        super().__init__()
        self.module = deepcopy(net) if decay else net
        self.decay = decay
        self.register_buffer("n_averaged", torch.tensor(0))  # stays with the processor

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Take a step towards the weights of `net`."""
        n_steps = int(self.n_averaged)
        self.n_averaged += 1
        if not self.decay:
            return
        kept = min(self.decay, (1 + n_steps) / (10 + n_steps)) if n_steps else 0
        ours, theirs = self.module.state_dict(), net.state_dict()
        moving = [name for name, value in ours.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [ours.pop(name) for name in moving], [theirs.pop(name) for name in moving], 1 - kept
        )
        for name, count in ours.items():
            count.copy_(theirs[name])
