"""The judge that is a network: it is given samples, and finds features by itself."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from de3dgan.base.seeds import derived_rng, derived_seed
from de3dgan.eeg.sampling import FRAME

#: Its training; with more steps it overfits. Each second is seen so many times at most.
_STEPS, _BATCH, _LR, _EPOCHS = 120, 32, 1e-3, 30
#: Standard deviations beyond which samples are not told apart, so that sums stay finite.
_LOUDEST = 1e3


class NetworkJudge:
    """A small convolutional network that tells two kinds of EEG apart, as scikit-learn's models do.

    Parameters
    ----------
    seed : int
        For its initial weights and the order of segments. PyTorch's generator stays as it is.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def fit(self, x: np.ndarray, y: np.ndarray) -> NetworkJudge:
        """Train on random seconds of segments.

        Parameters
        ----------
        x : array, float32 (n, n_chans, n_times)
            Segments of a second or more, in µV.
        y : array of bool, (n,)
            Whether each is of the second kind.
        """
        # One scale for both kinds, since amplitude may be what sets them apart.
        scale = float(x[~y].std()) or 1.0
        segments, classes = torch.from_numpy(x), torch.from_numpy(y).float()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(
                derived_seed(self.seed, 0, "judge: initial weights")
            )
            self.net = _Net(x.shape[1], scale)
        optimiser = torch.optim.Adam(self.net.parameters(), _LR)
        rng = derived_rng(self.seed, 0, "judge: batches")
        n_seconds = len(x) * x.shape[-1] // FRAME
        for _ in range(min(_STEPS, math.ceil(_EPOCHS * n_seconds / _BATCH))):
            batch = rng.integers(len(x), size=_BATCH)
            starts = rng.integers(x.shape[-1] - FRAME + 1, size=_BATCH)
            seconds = torch.stack(
                [segments[i, :, at : at + FRAME] for i, at in zip(batch, starts, strict=True)]
            )
            loss = F.binary_cross_entropy_with_logits(self.net(seconds), classes[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        self.net.eval()
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        """Return the log odds that segments are of the second kind, (n,)."""
        with torch.inference_mode():
            parts = [self.net(batch) for batch in torch.from_numpy(x).split(8 * _BATCH)]
        return torch.cat(parts).numpy()


class _Net(nn.Module):
    """Scores segments, (n, n_chans, n_times) in µV to (n,).

    Its last layer gets the mean and the mean square of each filter's output over time. The mean
    square is a power: it tells amplitudes apart, and does not depend on the sign of a wave.
    """

    def __init__(self, n_chans: int, scale: float):
        super().__init__()
        self.scale = scale
        width, kernel = 24, 9
        self.first = nn.Conv1d(n_chans, width, kernel, stride=2, padding=kernel // 2)
        self.second = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(2))
        self.last = nn.Linear(2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = (x / self.scale).clamp(-_LOUDEST, _LOUDEST)
        x = F.elu(self.norms[0](self.first(x)))
        x = F.elu(self.norms[1](self.second(F.avg_pool1d(x, 2))))
        return self.last(torch.cat([x.mean(-1), x.square().mean(-1)], dim=1))[:, 0]
