"""SA-ST-Net: which class a frame of EEG belongs to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from de3dgan.base import draws
from de3dgan.eeg.montage import DEAP_CHANNELS, Grid
from de3dgan.models.blocks import Dropout, SpatioTemporalTrunk, float32
from de3dgan.models.views import Measured, Reference, Views


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


class SpectralSASTNet(nn.Module):
    """A linear head on `Views`, and the paper's network on maps of power beside it.

    With samples as input maps, a 2-D convolution cannot compute a power, which does not depend on
    phase. So both are given what does not.

    The head has a closed form (`de3dgan.stages.closed_form`), and the paper's network, which is
    trained, adds to its scores. Its last layer starts at zero: it is a residual.

    Parameters
    ----------
    ch_names : sequence of str, length n_chans
        Electrodes of the EEG.
    n_classes : int
        Number of classes.
    n_filters : int
        Bands of `de3dgan.models.spectra.LogPower`.
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
        widths: Sequence[int] = (16, 16, 16, 16, 16),
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
            "widths": list(widths),
            "n_features": n_features,
            "dropout": dropout,
            "noise": noise,
            "grid": grid.content(),
        }
        self.noise = noise
        self.views = Views(len(ch_names), grid.pairs(), n_filters)
        n_seen, n_maps = sum(self.views.sizes), self.views.maps.n_maps
        for name, shape in (("mean", n_seen), ("weight", (n_seen, n_classes)), ("bias", n_classes)):
            self.register_buffer(f"head_{name}", torch.zeros(shape))
        #: Of each map over the frames and electrodes that the head is fitted to: fixed, where batch
        #: norm would follow the people of a batch.
        self.register_buffer("map_mean", torch.zeros(n_maps))
        self.register_buffer("map_std", torch.ones(n_maps))
        self.net = SASTNet(ch_names, n_classes, n_maps, widths, n_features, dropout, grid)
        nn.init.zeros_(self.net.head.weight)
        nn.init.zeros_(self.net.head.bias)

    def measure(self, eeg: Tensor) -> Measured:
        """Return `Views.measure` of EEG in µV."""
        return self.views.measure(eeg)

    def forward(
        self, measured: Measured, reference: Reference, jitter: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Return class scores and the trunk's feature.

        Parameters
        ----------
        measured : Measured
            `measure` of frames.
        reference : Reference
            `Views.reference` of the baseline that belongs to each.
        jitter : float
            Standard deviation of noise that is added to maps, in training, beside the network's.

        Returns
        -------
        logits : Tensor, (N, n_classes)
        feature : Tensor, (N, n_features)
        """
        residual, feature = self.residual(measured.level, reference.level, jitter)
        return self.head(self.views(measured, reference)) + residual, feature

    @float32
    def head(self, seen: Tensor) -> Tensor:
        """Return the scores of the head, given the features of all views, (N, n_features)."""
        return (seen - self.head_mean) @ self.head_weight + self.head_bias

    def residual(
        self, level: Tensor, baseline: Tensor, jitter: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Return what the paper's network adds to the scores, and its feature.

        Parameters
        ----------
        level, baseline : Tensor, (N, n_chans, n_filters)
            `Measured.level` of frames, and of the baseline that belongs to each.
        jitter : float
            See `forward`.
        """
        return self.net(self._normalised(self.views.maps(level, baseline), jitter))

    @float32
    def _normalised(self, maps: Tensor, jitter: float) -> Tensor:
        """Return maps z-scored and, in training, with noise."""
        maps = (maps - self.map_mean) / self.map_std
        if self.training:
            # Two independent noises are one, with the sum of their variances.
            maps = maps + math.hypot(self.noise, jitter) * draws.normal_like(maps)
        return maps
