"""SA-ST-Net: which class a frame of EEG belongs to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from de3dgan.base import draws
from de3dgan.eeg.montage import DEAP_CHANNELS, Grid
from models.blocks import Dropout, SpatioTemporalTrunk, float32
from models.spectra import LogPower


class SASTNet(nn.Module):
    """The paper's network: the samples of a frame are the input maps of its convolutions.

    Parameters
    ----------
    ch_names : sequence of str, length n_chans
        Electrodes of the EEG.
    n_classes : int
        Number of classes.
    frame : int
        Samples per frame.
    widths : sequence of int, length 5
        Feature maps of the trunk; published: 256, 128, 64, 32, 16.
    n_features : int
        Length of the feature that fine-tuning compares.
    dropout : float
        Probability of dropping a value of the trunk's output, in training.
    grid : Grid or dict, optional
        Where the electrodes are, see `de3dgan.eeg.montage`; by default, on the paper's 8x9 grid.
    """

    def __init__(
        self,
        ch_names: Sequence[str] = DEAP_CHANNELS,
        n_classes: int = 2,
        frame: int = 128,
        widths: Sequence[int] = (256, 128, 64, 32, 16),
        n_features: int = 1024,
        dropout: float = 0.5,
        grid: Grid | Mapping[str, Any] | None = None,
    ):
        super().__init__()
        grid = Grid.of(grid, ch_names)
        self.arguments = {
            "ch_names": list(ch_names),
            "n_classes": n_classes,
            "frame": frame,
            "widths": list(widths),
            "n_features": n_features,
            "dropout": dropout,
            "grid": grid.content(),
        }
        self.trunk = SpatioTemporalTrunk(grid, frame, widths)
        self.feature = nn.Sequential(
            Dropout(dropout), nn.Linear(self.trunk.n_features, n_features), nn.SELU()
        )
        self.head = nn.Linear(n_features, n_classes)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return class scores and the feature they are computed from.

        Parameters
        ----------
        x : Tensor, (N, n_chans, frame) or (N, frame, 8, 9)
            Normalised EEG.

        Returns
        -------
        logits : Tensor, (N, n_classes)
        feature : Tensor, (N, n_features)
        """
        feature = self.feature(self.trunk(x))
        return self.head(feature), feature


class PowerMaps(nn.Module):
    """Maps of log power relative to the baseline, each with a value per electrode.

    There are three of each narrow band:

    - the change: the log power of a frame minus that of the trial's baseline,
    - its magnitude, since away from the baseline some people's power rises and others' falls,
    - how far apart an electrode is from the others: the magnitude of the change minus its mean over
      electrodes.

    Parameters
    ----------
    n_filters : int
        Bands of `models.spectra.LogPower`.
    kinds : sequence of str
        Which of `KINDS` there are.
    highest : float
        Hz above which no band has its centre.
    relative : bool
        With the baseline subtracted; without, the change is the log power itself.
    """

    KINDS = ("change", "magnitude", "apart")

    def __init__(
        self,
        n_filters: int = 16,
        kinds: Sequence[str] = KINDS,
        highest: float = 45.0,
        relative: bool = True,
    ):
        super().__init__()
        self.log_power = LogPower(n_filters)
        self.kinds, self.relative = tuple(kinds), relative
        self.n_bands = sum(centre <= highest for centre in self.log_power.centres)
        self.n_maps = len(self.kinds) * self.n_bands

    def level(self, eeg: Tensor) -> Tensor:
        """Return the mean log power of EEG, (..., n_chans, n_times) to (..., n_chans, n_bands)."""
        return self.log_power(eeg).mean(-2)[..., : self.n_bands]

    @float32
    def forward(self, level: Tensor, baseline: Tensor) -> Tensor:
        """Return the maps of frames, given `level` of each and of its baseline.

        Parameters
        ----------
        level, baseline : Tensor, (N, n_chans, n_bands)
            In nats.

        Returns
        -------
        Tensor, (N, n_chans, n_maps)
        """
        change = level - baseline if self.relative else level
        apart = (change - change.mean(1, keepdim=True)).abs()
        maps = {"change": change, "magnitude": change.abs(), "apart": apart}
        return torch.cat([maps[kind] for kind in self.kinds], dim=-1)


class SpectralSASTNet(nn.Module):
    """The paper's network on `PowerMaps` instead of on samples.

    With samples as input maps, a 2-D convolution cannot compute a power, which does not depend on
    phase.

    Parameters
    ----------
    ch_names : sequence of str, length n_chans
        Electrodes of the EEG.
    n_classes : int
        Number of classes.
    n_filters : int
        Bands of `models.spectra.LogPower`.
    maps : dict, optional
        Further arguments of `PowerMaps`.
    widths : sequence of int, length 5
        Feature maps of the trunk.
    n_features : int
        Length of the feature that fine-tuning compares.
    dropout : float
        Probability of dropping a value of the trunk's output, in training.
    noise : float
        Standard deviation of the noise that is added to normalised maps in training.
    grid : Grid or dict, optional
        Where the electrodes are, see `de3dgan.eeg.montage`; by default, on the paper's 8x9 grid.
    """

    def __init__(
        self,
        ch_names: Sequence[str] = DEAP_CHANNELS,
        n_classes: int = 2,
        n_filters: int = 16,
        maps: Mapping[str, Any] | None = None,
        widths: Sequence[int] = (32, 32, 32, 32, 16),
        n_features: int = 128,
        dropout: float = 0.7,
        noise: float = 1.0,
        grid: Grid | Mapping[str, Any] | None = None,
    ):
        super().__init__()
        grid = Grid.of(grid, ch_names)
        self.arguments = {
            "ch_names": list(ch_names),
            "n_classes": n_classes,
            "n_filters": n_filters,
            "maps": dict(maps or {}),
            "widths": list(widths),
            "n_features": n_features,
            "dropout": dropout,
            "noise": noise,
            "grid": grid.content(),
        }
        self.noise = noise
        self.maps = PowerMaps(n_filters, **self.arguments["maps"])
        self.norm = nn.BatchNorm1d(self.maps.n_maps, affine=False, momentum=0.05)
        self.net = SASTNet(ch_names, n_classes, self.maps.n_maps, widths, n_features, dropout, grid)

    def level(self, eeg: Tensor) -> Tensor:
        """Return `PowerMaps.level` of EEG; `forward` takes that of the baseline."""
        return self.maps.level(eeg)

    def forward(self, x: Tensor, baseline: Tensor, jitter: float = 0.0) -> tuple[Tensor, Tensor]:
        """Return class scores and the feature they are computed from.

        Parameters
        ----------
        x : Tensor, (N, n_chans, n_times)
            EEG in µV, of one second or more.
        baseline : Tensor, (N, n_chans, n_bands)
            `level` of the baseline that belongs to each frame.
        jitter : float
            Standard deviation of noise that is added, in training, beside the network's own.

        Returns
        -------
        logits : Tensor, (N, n_classes)
        feature : Tensor, (N, n_features)
        """
        return self.net(self._normalised(self.maps(self.level(x), baseline), jitter))

    @float32
    def _normalised(self, maps: Tensor, jitter: float) -> Tensor:
        """Return maps normalised by batch norm and, in training, with noise."""
        maps = self.norm(maps.flatten(0, 1)).view_as(maps)
        if self.training:
            # Two independent noises are one, with the sum of their variances.
            maps = maps + math.hypot(self.noise, jitter) * draws.normal_like(maps)
        return maps
