"""SA-ST-Net: which class a frame of EEG belongs to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from de3dgan.base import draws
from de3dgan.eeg.montage import DEAP_CHANNELS
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
    """

    def __init__(
        self,
        ch_names: Sequence[str] = DEAP_CHANNELS,
        n_classes: int = 2,
        frame: int = 128,
        widths: Sequence[int] = (256, 128, 64, 32, 16),
        n_features: int = 1024,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.arguments = {
            "ch_names": list(ch_names),
            "n_classes": n_classes,
            "frame": frame,
            "widths": list(widths),
            "n_features": n_features,
            "dropout": dropout,
        }
        self.trunk = SpatioTemporalTrunk(ch_names, frame, widths)
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
    """The paper's network on log power relative to the baseline instead of on samples.

    With samples as input maps, a 2-D convolution cannot compute a power, which does not depend on
    phase. Here there are three input maps per narrow band:

    - the change: the log power of a frame minus that of the trial's baseline,
    - its absolute value, since away from the baseline some people's power rises and others' falls,
    - the absolute value of the change minus its mean over electrodes.

    Parameters
    ----------
    ch_names : sequence of str, length n_chans
        Electrodes of the EEG.
    n_classes : int
        Number of classes.
    n_filters : int
        Bands of `models.spectra.LogPower`.
    widths : sequence of int, length 5
        Feature maps of the trunk.
    n_features : int
        Length of the feature that fine-tuning compares.
    dropout : float
        Probability of dropping a value of the trunk's output, in training.
    noise : float
        Standard deviation of the noise that is added to normalised maps in training.
    """

    def __init__(
        self,
        ch_names: Sequence[str] = DEAP_CHANNELS,
        n_classes: int = 2,
        n_filters: int = 16,
        widths: Sequence[int] = (32, 32, 32, 32, 16),
        n_features: int = 128,
        dropout: float = 0.7,
        noise: float = 1.0,
    ):
        super().__init__()
        self.arguments = {
            "ch_names": list(ch_names),
            "n_classes": n_classes,
            "n_filters": n_filters,
            "widths": list(widths),
            "n_features": n_features,
            "dropout": dropout,
            "noise": noise,
        }
        self.noise = noise
        self.log_power = LogPower(n_filters)
        self.norm = nn.BatchNorm1d(3 * n_filters, affine=False, momentum=0.05)
        self.net = SASTNet(ch_names, n_classes, 3 * n_filters, widths, n_features, dropout)

    def level(self, eeg: Tensor) -> Tensor:
        """Return the mean log power of EEG, (..., n_chans, n_times) to (..., n_chans, n_filters).

        `forward` takes that of the baseline.
        """
        return self.log_power(eeg).mean(-2)

    def forward(self, x: Tensor, baseline: Tensor, jitter: float = 0.0) -> tuple[Tensor, Tensor]:
        """Return class scores and the feature they are computed from.

        Parameters
        ----------
        x : Tensor, (N, n_chans, n_times)
            EEG in µV, of one second or more.
        baseline : Tensor, (N, n_chans, n_filters)
            `level` of the baseline that belongs to each frame.
        jitter : float
            Standard deviation of noise that is added, in training, beside the network's own.

        Returns
        -------
        logits : Tensor, (N, n_classes)
        feature : Tensor, (N, n_features)
        """
        return self.net(self._maps(self.level(x), baseline, jitter))

    @float32
    def _maps(self, level: Tensor, baseline: Tensor, jitter: float = 0.0) -> Tensor:
        change = level - baseline
        local = change - change.mean(1, keepdim=True)
        maps = torch.cat([change, change.abs(), local.abs()], dim=-1)
        maps = self.norm(maps.flatten(0, 1)).view_as(maps)
        if self.training:
            # Two independent noises are one, with the sum of their variances.
            maps = maps + math.hypot(self.noise, jitter) * draws.normal_like(maps)
        return maps
