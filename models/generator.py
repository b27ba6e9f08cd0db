"""The 3D U-Net that turns differential entropy into EEG."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from de3dgan.montage import DEAP_CHANNELS, GRID_SHAPE
from models.blocks import ElectrodeGrid, ResidualBlock3d


class Generator(nn.Module):
    """A U-Net over (time, row, column) from DE features to EEG.

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

    Notes
    -----
    There are two DE windows to a one-second frame. The paper's network applies its head to all 120
    half-seconds and then halves time by linear interpolation, which here is the mean of pairs. A
    1x1x1 head commutes with that mean, so the mean is taken first, at half the cost, and the head
    is applied to cells that hold an electrode only.
    """

    def __init__(
        self,
        ch_names: Sequence[str] = DEAP_CHANNELS,
        n_bands: int = 4,
        frame: int = 128,
        widths: Sequence[int] = (32, 64, 128, 256),
    ):
        super().__init__()
        self.arguments = {
            "ch_names": list(ch_names),
            "n_bands": n_bands,
            "frame": frame,
            "widths": list(widths),
        }
        self.grid = ElectrodeGrid(ch_names)
        self.down = nn.ModuleList(
            ResidualBlock3d(n_in, n_out)
            for n_in, n_out in zip((n_bands, *widths), widths, strict=False)
        )
        self.pool = nn.MaxPool3d(2)
        # Pooling rounds the grid down, 8x9 to 4x4; the last step up gives the odd column back.
        self.grow = nn.ModuleList(
            nn.ConvTranspose3d(
                widths[depth + 1],
                widths[depth],
                2,
                stride=2,
                output_padding=(0, *(size // 2**depth % 2 for size in GRID_SHAPE)),
            )
            for depth in reversed(range(len(widths) - 1))
        )
        self.up = nn.ModuleList(
            ResidualBlock3d(2 * widths[depth], widths[depth])
            for depth in reversed(range(len(widths) - 1))
        )
        self.head = nn.Conv3d(widths[0], frame, 1)
        self.gain = nn.Parameter(torch.ones(()))
        self.to(memory_format=torch.channels_last_3d)

    def features(self, de: Tensor) -> Tensor:
        """Return the U-Net's output before the head.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans) or (B, n_bands, n_windows, 8, 9)
            Normalised DE; n_windows a multiple of 8, the U-Net's three halvings.

        Returns
        -------
        Tensor, (B, widths[0], n_windows, 8, 9)
        """
        x = self.grid.scatter(self.grid.gather(de) if de.ndim == 5 else de)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        skips = []
        for depth, block in enumerate(self.down):
            x = block(self.pool(x) if depth else x)
            skips.append(x)
        skips.pop()
        for grow, block in zip(self.grow, self.up, strict=True):
            x = block(torch.cat([grow(x), skips.pop()], dim=1))
        return x

    def generate(self, de: Tensor) -> Tensor:
        """Return EEG as channels.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            Normalised DE.

        Returns
        -------
        Tensor, (B, n_chans, n_windows / 2 · frame)
            Normalised EEG.
        """
        x = self.grid.gather(self.features(de))
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
        eeg = self.generate(de).unflatten(2, (-1, self.head.out_channels))
        return self.grid.scatter(eeg.permute(0, 2, 3, 1))
