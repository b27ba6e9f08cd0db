"""The published 3D U-Net that turns differential entropy into EEG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from de3dgan.eeg.montage import DEAP_CHANNELS, Grid
from de3dgan.models.blocks import ElectrodeGrid, UNet3d


class Generator(nn.Module):
    """The published generator: a U-Net over (time, row, column) from DE features to EEG.

    Parameters
    ----------
    ch_names : sequence of str, length n_chans
        Electrodes of the DE and of the EEG.
    n_bands : int
        Frequency bands of the DE.
    frame : int
        Samples per one-second frame.
    widths : sequence of int, length 4
        Feature maps at each depth; published: 32, 64, 128, 256.
    grid : Grid or dict, optional
        Where the electrodes are, see `de3dgan.eeg.montage`; by default, on the paper's 8x9 grid.

    Notes
    -----
    There are two DE windows to a one-second frame. The paper's network applies its head to all 120
    windows and then halves time by linear interpolation, which here is the mean of pairs. A 1x1x1
    head commutes with that mean. So the mean is taken first, at half the cost, and the head is
    applied only to cells that hold an electrode.
    """

    def __init__(
        self,
        ch_names: Sequence[str] = DEAP_CHANNELS,
        n_bands: int = 4,
        frame: int = 128,
        widths: Sequence[int] = (32, 64, 128, 256),
        grid: Grid | Mapping[str, Any] | None = None,
    ):
        super().__init__()
        grid = Grid.of(grid, ch_names)
        self.arguments = {
            "ch_names": list(ch_names),
            "n_bands": n_bands,
            "frame": frame,
            "widths": list(widths),
            "grid": grid.content(),
        }
        self.grid = ElectrodeGrid(grid)
        self.unet = UNet3d(n_bands, widths, shape=grid.shape)
        self.head = nn.Conv3d(widths[0], frame, 1)
        self.gain = nn.Parameter(torch.ones(()))
        self.to(memory_format=torch.channels_last_3d)

    def generate(self, de: Tensor) -> Tensor:
        """Return EEG as channels.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            Normalised DE; n_windows a multiple of 8, the U-Net's three halvings.

        Returns
        -------
        Tensor, (B, n_chans, n_windows / 2 · frame)
            Normalised EEG.
        """
        x = self.grid.gather(self.unet(self.grid.scatter(de)))
        x = x.unflatten(2, (-1, 2)).mean(3)
        x = self.head(x[..., None])[..., 0] * self.gain  # (B, frame, n_frames, n_chans)
        return x.permute(0, 3, 2, 1).flatten(2)

    def forward(self, de: Tensor) -> Tensor:
        """Return EEG as frames on the grid, exactly zero in empty cells.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans) or (B, n_bands, n_windows, 8, 9)
            Normalised DE.

        Returns
        -------
        Tensor, (B, n_windows / 2, frame, 8, 9)
            Normalised EEG.
        """
        de = self.grid.gather(de) if de.ndim == 5 else de
        eeg = self.generate(de).unflatten(2, (-1, self.head.out_channels))
        return self.grid.scatter(eeg.permute(0, 2, 3, 1))
