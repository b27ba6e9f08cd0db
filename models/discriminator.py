"""The published critic: how much a frame looks like real EEG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from de3dgan.eeg.montage import DEAP_CHANNELS, Grid
from de3dgan.models.blocks import SpatioTemporalTrunk


class Discriminator(nn.Module):
    """A Wasserstein critic of one-second frames.

    Parameters
    ----------
    ch_names : sequence of str, length n_chans
        Electrodes of the EEG.
    frame : int
        Samples per frame.
    widths : sequence of int, length 5
        Feature maps of the trunk; published: 256, 128, 64, 32, 16.
    n_hidden : int
        Units of the layer before the score.
    grid : Grid or dict, optional
        Where the electrodes are, see `de3dgan.eeg.montage`; by default, on the paper's 8x9 grid.
    """

    def __init__(
        self,
        ch_names: Sequence[str] = DEAP_CHANNELS,
        frame: int = 128,
        widths: Sequence[int] = (256, 128, 64, 32, 16),
        n_hidden: int = 1024,
        grid: Grid | Mapping[str, Any] | None = None,
    ):
        super().__init__()
        grid = Grid.of(grid, ch_names)
        self.arguments = {
            "ch_names": list(ch_names),
            "frame": frame,
            "widths": list(widths),
            "n_hidden": n_hidden,
            "grid": grid.content(),
        }
        self.trunk = SpatioTemporalTrunk(grid, frame, widths)
        self.score = nn.Sequential(
            nn.Linear(self.trunk.n_features, n_hidden), nn.SELU(), nn.Linear(n_hidden, 1)
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Return the score of each frame, unbounded, higher for real EEG.

        Parameters
        ----------
        x : Tensor, (N, n_chans, frame) or (N, frame, 8, 9)
            Normalised EEG.

        Returns
        -------
        Tensor, (N,)
        """
        return self.score(self.trunk(x))[:, 0]
