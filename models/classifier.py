"""SA-ST-Net: which class a frame of EEG belongs to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from de3dgan.montage import DEAP_CHANNELS
from models.blocks import SpatioTemporalTrunk


class SASTNet(nn.Module):
    """The spatial-attention spatio-temporal network of the paper.

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
            nn.Dropout(dropout), nn.Linear(self.trunk.n_features, n_features), nn.SELU()
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
