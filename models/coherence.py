"""Correlations between electrodes: predicted from DE, and as matrices with a square root."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Coherence(nn.Module):
    """Predicts the correlations between electrodes from the correlations of their DE over time.

    DE does not hold the correlation of two electrodes' signals. But electrodes that pick up the
    same source get louder at the same moments, so that their DE is correlated over time.
    Correlation matrices are exponentials of symmetric matrices, scaled to a diagonal of one: hence
    they are positive definite whatever the network predicts.

    Parameters
    ----------
    n_chans, n_bands : int
        Electrodes and bands of the DE.
    n_out : int
        Correlation matrices per trial, one per knot of frequency.
    n_hidden : int
        Units of the hidden layer.
    n_embedding : int
        Length of the vector that is learnt for each pair of electrodes.
    """

    def __init__(
        self, n_chans: int, n_bands: int, n_out: int, n_hidden: int = 64, n_embedding: int = 6
    ):
        super().__init__()
        self.register_buffer("pairs", torch.triu_indices(n_chans, n_chans, 1), persistent=False)
        n_pairs, n_features = self.pairs.shape[1], 4 * n_bands
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("std", torch.ones(n_features))
        self.intercept = nn.Parameter(torch.zeros(n_out, n_chans, n_chans))
        self.embedding = nn.Parameter(0.3 * torch.randn(n_pairs, n_embedding))
        self.linear = nn.Linear(n_features, n_out, bias=False)
        self.hidden = nn.Linear(n_features + n_embedding, n_hidden)
        self.out = nn.Linear(n_hidden, n_out)
        self.strength = nn.Parameter(torch.ones(n_out))
        for parameter in (self.linear.weight, self.out.weight, self.out.bias):
            nn.init.zeros_(parameter)

    def features(self, de: Tensor) -> Tensor:
        """Return the features of each pair of electrodes.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            DE in nats.

        Returns
        -------
        Tensor, (B, n_pairs, 4 · n_bands)
            Fisher's z of the correlation over windows of DE, and of its steps, per band; and the
            means of these over all pairs.
        """
        z = [self._correlations(x)[..., *self.pairs] for x in (de, de.diff(dim=2))]
        z = torch.cat(z, dim=1).clamp(-0.99, 0.99).atanh()
        return torch.cat([z, z.mean(-1, keepdim=True).expand_as(z)], dim=1).transpose(1, 2)

    def forward(self, de: Tensor) -> Tensor:
        """Return the symmetric matrices whose exponentials are the correlations.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            DE in nats.

        Returns
        -------
        Tensor, (B, n_out, n_chans, n_chans)
        """
        x = (self.features(de) - self.mean) / self.std
        pair = torch.cat([x, self.embedding.expand(len(x), -1, -1)], dim=-1)
        values = (self.linear(x) + self.out(F.gelu(self.hidden(pair)))).transpose(1, 2)
        upper = torch.zeros(*values.shape[:2], *self.intercept.shape[1:], device=de.device)
        upper[..., *self.pairs] = values
        intercept = (self.intercept + self.intercept.mT) / 2
        return (intercept + upper + upper.mT) * self.strength[:, None, None]

    @staticmethod
    def _correlations(x: Tensor) -> Tensor:
        """Correlate electrodes over windows: (B, bands, windows, chans) to (..., chans, chans)."""
        x = F.normalize(x - x.mean(2, keepdim=True), dim=2)
        return x.mT @ x


def correlation_root(exponent: Tensor) -> Tensor:
    """Return R with R Rᴴ = exp(2S) scaled to a diagonal of one, for Hermitian S (..., n, n)."""
    return F.normalize(matrix_exponential(exponent), dim=-1)


def matrix_exponential(x: Tensor) -> Tensor:
    """Return exp(x) of matrices (..., n, n) with a norm of up to 4, to 1e-6.

    It is the Taylor series of degree 6 at x / 16, squared four times. `torch.matrix_exp` is slower:
    it chooses a degree by the norm, for which it would wait for a GPU.
    """
    x = x / 16
    x2 = x @ x
    x3 = x2 @ x
    one = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    y = one + x + x2 / 2 + x3 @ (one / 6 + x / 24 + x2 / 120 + x3 / 720)
    for _ in range(4):
        y = y @ y
    return y


def half_log(correlation: Tensor) -> Tensor:
    """Return S with exp(2S) = `correlation`, Hermitian (..., n, n).

    Cleaned EEG has fewer sources than electrodes: eigenvalues are taken to be 0.02 at least.
    """
    values, vectors = torch.linalg.eigh(correlation)
    logarithms = 0.5 * values.clamp_min(0.02).log()
    return (vectors * logarithms[..., None, :].to(vectors.dtype)) @ vectors.mH
