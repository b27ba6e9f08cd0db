"""Means of losses over the steps of an epoch, and over processes."""

from __future__ import annotations

import torch
from torch import Tensor

from de3dgan.training import distributed


class Means:
    """Running means of losses that stay on the device until they are asked for."""

    def __init__(self):
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, n: int = 1, **values: Tensor) -> None:
        """Add values that are means over `n` samples."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach() * n
            self.counts[name] = self.counts.get(name, 0) + n

    def all_reduced(self) -> Means:
        """Return the means over the samples of all processes."""
        if distributed.world_size() == 1:
            return self
        means = Means()
        for sums, counts in distributed.all_gather((self._sums_as_floats(), self.counts)):
            for name, total in sums.items():
                means.sums[name] = means.sums.get(name, 0) + torch.tensor(total)
                means.counts[name] = means.counts.get(name, 0) + counts[name]
        return means

    def get(self) -> dict[str, float]:
        """Return the means, for which the device is waited for."""
        sums = self._sums_as_floats()
        return {name: total / self.counts[name] for name, total in sums.items()}

    def _sums_as_floats(self) -> dict[str, float]:
        return {name: float(total) for name, total in self.sums.items()}
