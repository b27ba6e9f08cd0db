"""What the networks are built from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from de3dgan.base import draws
from de3dgan.eeg.montage import GRID_SHAPE, Grid


def float32(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Have a module's method compute in float32, within `torch.autocast` as well.

    Spectra, logarithms and matrix exponentials need the digits that bfloat16 does not have.
    """

    @wraps(method)
    def outside_autocast(self: nn.Module, x: Tensor, *args: Any) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return method(self, x, *args)

    return outside_autocast


class ElectrodeGrid(nn.Module):
    """Places electrodes on their grid, and takes them off it.

    Empty cells are exactly zero, and no gradient passes through them.

    Parameters
    ----------
    grid : Grid
        Where electrodes are, see `de3dgan.eeg.montage`.
    """

    def __init__(self, grid: Grid):
        super().__init__()
        self.shape, self.n_cells = grid.shape, grid.n_cells
        cells = torch.tensor(grid.cells)
        # The electrode of each cell; for empty cells the index of a zero behind the last electrode.
        electrode = torch.full((self.n_cells,), len(cells))
        electrode[cells] = torch.arange(len(cells))
        self.register_buffer("cells", cells, persistent=False)
        self.register_buffer("electrode", electrode, persistent=False)

    def scatter(self, x: Tensor) -> Tensor:
        """Place electrodes on the grid: (..., n_chans) to (..., n_rows, n_columns)."""
        return F.pad(x, (0, 1))[..., self.electrode].unflatten(-1, self.shape)

    def gather(self, x: Tensor) -> Tensor:
        """Take electrodes off the grid: (..., n_rows, n_columns) to (..., n_chans)."""
        return x.flatten(-2)[..., self.cells]

    def scatter_maps(self, x: Tensor) -> Tensor:
        """Place maps of electrodes: (..., n_chans, n_maps) to (..., n_rows, n_columns, n_maps).

        What convolutions in the memory order "channels last" read as it is.
        """
        return F.pad(x, (0, 0, 0, 1)).index_select(-2, self.electrode).unflatten(-2, self.shape)

    def gather_maps(self, x: Tensor) -> Tensor:
        """Take maps off: (..., n_rows, n_columns, n_maps) to (..., n_chans, n_maps)."""
        return x.flatten(-3, -2).index_select(-2, self.cells)


class Pointwise3d(nn.Conv3d):
    """A 1x1x1 convolution without bias: (B, n_in, T, H, W) to (B, n_out, T, H, W).

    As a matrix product per cell, which is several times as fast as PyTorch's convolution.
    """

    def __init__(self, n_in: int, n_out: int):
        super().__init__(n_in, n_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return what `torch.nn.Conv3d` does."""
        return F.linear(x.movedim(1, -1), self.weight.flatten(1)).movedim(-1, 1)


class ResidualBlock3d(nn.Module):
    """Two 3x3x3 convolutions with normalisation around a 1x1x1 skip, then SELU.

    Maps (B, n_in, T, H, W) to (B, n_out, T, H, W).
    """

    def __init__(self, n_in: int, n_out: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(n_in, n_out, 3, padding=1, bias=False),
            norm(n_out),
            nn.SELU(),
            nn.Conv3d(n_out, n_out, 3, padding=1, bias=False),
            norm(n_out),
        )
        self.skip = Pointwise3d(n_in, n_out)

    def forward(self, x: Tensor) -> Tensor:
        """Return SELU(body(x) + skip(x))."""
        return F.selu(self.body(x) + self.skip(x))


class DoubleSize3d(nn.ConvTranspose3d):
    """A transposed 2x2x2 convolution with stride 2: (B, n_in, T, H, W) to (B, n_out, 2T, 2H, 2W).

    With a stride as long as the kernel, each output depends on one input cell. So it is a matrix
    product per cell, which is much faster than PyTorch's transposed convolution.

    Parameters
    ----------
    n_in, n_out : int
        Feature maps.
    output_padding : tuple of int, length 3
        Cells more at the end of each axis; they get the bias.
    """

    def __init__(self, n_in: int, n_out: int, output_padding: tuple[int, ...] = (0, 0, 0)):
        super().__init__(n_in, n_out, 2, stride=2, output_padding=output_padding)

    def forward(self, x: Tensor) -> Tensor:
        """Return what `torch.nn.ConvTranspose3d` does."""
        weight = self.weight.permute(0, 2, 3, 4, 1).flatten(1)
        y = (x.movedim(1, -1) @ weight).unflatten(-1, (2, 2, 2, -1))  # (B, T, H, W, 2, 2, 2, n_out)
        y = y.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(1, 2).flatten(2, 3).flatten(3, 4)
        margins = [n for padding in reversed(self.output_padding) for n in (0, padding)]
        return (F.pad(y, (0, 0, *margins)) + self.bias.to(y.dtype)).movedim(-1, 1)


class UNet3d(nn.Module):
    """A U-Net over (time, row, column): three halvings, and back, with skip connections.

    Parameters
    ----------
    n_in : int
        Maps of the input.
    widths : sequence of int, length 4
        Feature maps at each depth.
    norm : callable
        From a number of maps to a module that normalises them.
    shape : (int, int)
        Rows and columns of the grid.
    """

    def __init__(
        self,
        n_in: int,
        widths: Sequence[int],
        norm: Callable[[int], nn.Module] = nn.BatchNorm3d,
        shape: tuple[int, int] = GRID_SHAPE,
    ):
        super().__init__()
        self.down = nn.ModuleList(
            ResidualBlock3d(before, after, norm)
            for before, after in zip((n_in, *widths), widths, strict=False)
        )
        self.pool = nn.MaxPool3d(2)
        # Pooling rounds the grid down, 8x9 to 4x4; the last step up gives the odd column back.
        self.grow = nn.ModuleList(
            DoubleSize3d(
                widths[depth + 1],
                widths[depth],
                output_padding=(0, *(size // 2**depth % 2 for size in shape)),
            )
            for depth in reversed(range(len(widths) - 1))
        )
        self.up = nn.ModuleList(
            ResidualBlock3d(2 * widths[depth], widths[depth], norm)
            for depth in reversed(range(len(widths) - 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in, n_windows, height, width), n_windows a multiple of 8, to widths[0] maps."""
        x = x.contiguous(memory_format=torch.channels_last_3d)
        skips = []
        for depth, block in enumerate(self.down):
            x = block(self.pool(x) if depth else x)
            skips.append(x)
        skips.pop()
        for grow, block in zip(self.grow, self.up, strict=True):
            x = block(torch.cat([grow(x), skips.pop()], dim=1))
        return x


class MultiScaleConv2d(nn.Module):
    """Sum of a 5x5, a 3x3 and a 1x1 convolution: (N, n_in, H, W) to (N, n_out, H, W)."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.scales = nn.ModuleList(
            nn.Conv2d(n_in, n_out, size, padding=size // 2) for size in (5, 3, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum over scales: one convolution, by the sum of their kernels."""
        widest = self.scales[0].kernel_size[0]
        kernels = [
            F.pad(conv.weight, 4 * [(widest - conv.kernel_size[0]) // 2]) for conv in self.scales
        ]
        bias = sum(conv.bias for conv in self.scales)
        return F.conv2d(x, sum(kernels), bias, padding=widest // 2)


class Dropout(nn.Dropout):
    """PyTorch's dropout, with a mask that does not depend on how many processes share a batch."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, some of its values dropped in training."""
        if not (self.training and draws.is_part()):
            return super().forward(x)
        kept = draws.rows(
            lambda n: torch.empty(n, *x.shape[1:], dtype=x.dtype, device=x.device).bernoulli_(
                1 - self.p
            ),
            len(x),
        )
        return x * (kept / (1 - self.p))


class ChannelAttention(nn.Module):
    """Squeeze-and-excitation (Hu et al., CVPR 2018): a gate per feature map, in (0, 1)."""

    def __init__(self, n_features: int, reduction: int = 4):
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(n_features, n_features // reduction),
            nn.ReLU(),
            nn.Linear(n_features // reduction, n_features),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, (N, n_features, H, W), with each map weighted."""
        return x * self.gate(x.mean((2, 3)))[:, :, None, None]


class SpatialAttention(nn.Module):
    """Spatial half of CBAM (Woo et al., ECCV 2018): a gate per grid cell, in (0, 1)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, (N, n_features, H, W), with each cell weighted."""
        summary = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.conv(summary))


class SpatioTemporalTrunk(nn.Module):
    """The trunk that the critic and SA-ST-Net share, from one frame of EEG to a flat feature.

    The samples of the frame are the input maps of a 2-D convolution over the electrode grid:
    multi-scale convolutions, then channel and spatial attention.

    Parameters
    ----------
    grid : Grid
        Where the electrodes of the input are.
    n_times : int
        Samples per frame.
    widths : sequence of int, length 5
        Feature maps after each convolution.
    """

    def __init__(self, grid: Grid, n_times: int, widths: Sequence[int]):
        super().__init__()
        first, second, third, fourth, fifth = widths
        self.grid = ElectrodeGrid(grid)
        self.convs = nn.Sequential(
            nn.Conv2d(n_times, first, 3, padding=1),
            nn.SELU(),
            nn.Conv2d(first, second, 5, padding=2),
            nn.SELU(),
            nn.Conv2d(second, third, 5, padding=2),
            nn.SELU(),
            nn.Sequential(  # depthwise, then pointwise: a separable 5x5 convolution
                nn.Conv2d(third, third, 5, padding=2, groups=third),
                nn.Conv2d(third, fourth, 1),
            ),
            nn.SELU(),
            MultiScaleConv2d(fourth, fifth),
        )
        self.attention = nn.Sequential(ChannelAttention(fifth), SpatialAttention(), nn.SELU())
        self.n_features = fifth * self.grid.n_cells

    def forward(self, x: Tensor) -> Tensor:
        """Map EEG (N, n_chans, n_times), or a grid (N, n_times, H, W), to (N, n_features)."""
        if x.ndim == 4:
            x = self.grid.gather(x).movedim(1, 2)
        # Kept in the memory order (N, H, W, samples), which is how EEG lies in memory as well, and
        # what 2-D convolutions are fastest on.
        x = self.grid.scatter_maps(x).movedim(3, 1)
        return self.attention(self.convs(x)).flatten(1)
