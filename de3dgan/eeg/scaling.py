"""Robust scaling: clip to quantiles, then z-score."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from de3dgan.base.errors import UserError

_QUANTILES = (0.01, 0.99)


@dataclass(frozen=True)
class RobustScaler:
    """Clip to the 1 % and 99 % quantiles, then z-score: (clip(x) - mean) / std.

    Attributes
    ----------
    low, high, mean, std : float or list of float
        Statistics in the data's own unit; lists hold one per band, for DE.
    """

    low: Any
    high: Any
    mean: Any
    std: Any

    @classmethod
    def fit(cls, values: np.ndarray) -> RobustScaler:
        """Take statistics over the last axis of `values`, (n,) or (n_bands, n).

        Where all values are equal after clipping, their standard deviation is 0. It is then set to
        1, with a `UserWarning`: normalised values are 0.

        Raises
        ------
        UserError
            If a value is not finite.
        """
        if not np.isfinite(values).all():
            raise UserError(
                "Data to be normalised are not finite (NaN or infinity): make the features anew "
                "with preprocess_de.py."
            )
        low, high = np.quantile(values, _QUANTILES, axis=-1, keepdims=True)
        clipped = values.clip(low, high)
        std = clipped.std(-1)
        # In float32, in which networks compute, a smaller deviation would be 0 as well.
        constant = (low == high)[..., 0] | (std < np.finfo(np.float32).tiny)
        if constant.any():
            warnings.warn(
                "Data to be normalised are constant between their quantiles, so that they are "
                "shifted to 0 and not scaled: are the recordings flat?",
                stacklevel=2,
            )
        std = np.where(constant, 1.0, std)
        statistics = low[..., 0], high[..., 0], clipped.mean(-1), std
        return cls(*(np.asarray(s, dtype=np.float64).tolist() for s in statistics))

    def normalise(self, x: Tensor) -> Tensor:
        """Return normalised `x`; statistics per band apply along axis -3 (band, window, chan)."""
        low, high, mean, std = self._like(x)
        return (x.clamp(low, high) - mean) / std

    def denormalise(self, x: Tensor) -> Tensor:
        """Undo `normalise`; what was clipped stays clipped."""
        _, _, mean, std = self._like(x)
        return x * std + mean

    def _like(self, x: Tensor) -> list[Tensor | float]:
        statistics = (self.low, self.high, self.mean, self.std)
        return [_tensor(tuple(s), x.dtype, x.device) if np.ndim(s) else s for s in statistics]


@lru_cache(maxsize=64)
def _tensor(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return statistics per band as a tensor; a new one each time would wait for the GPU."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device).view(-1, 1, 1)
