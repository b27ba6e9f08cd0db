"""Cross-spectra of electrodes as products of a few matrices, which are not multiplied out."""

from __future__ import annotations

import torch
from torch import Tensor

#: Frequencies that are multiplied by a matrix at a time: the more, the more of them are padding.
_BLOCK = 32


class CrossSpectra:
    """Cross-spectra S(f) = M(f) M(f)ᴴ of electrodes, where M(f) = W A(f) R.

    A(f) is diagonal, the amplitude of each electrode. R is a root of the electrodes' coherency and
    W makes directions between them weak; frequencies are in a few groups, which share both. A
    matrix for each frequency would take a hundred times as much memory, and time to read it.

    Parameters
    ----------
    amplitude : Tensor, (B, n_freqs, n_chans)
        The diagonal of A.
    roots : Tensor, complex (B, n_groups, n_chans, n_chans)
        R of each group.
    weakening : Tensor, (B, n_groups, n_chans, n_chans)
        W of each group, symmetric.
    group : Tensor of int, (B, n_freqs)
        The group of each frequency.
    """

    def __init__(self, amplitude: Tensor, roots: Tensor, weakening: Tensor, group: Tensor):
        (n_trials, n_freqs), n_groups = group.shape, roots.shape[1]
        self._amplitude, self._roots, self._group = amplitude, roots, group
        self._weakening = weakening.to(roots.dtype)
        # Frequencies of a group are set side by side, in blocks of which the last is padded.
        n_blocks = -(-n_freqs // _BLOCK) + n_groups
        trials = torch.arange(n_trials, device=group.device)[:, None]
        counts = (group[..., None] == torch.arange(n_groups, device=group.device)).sum(1)
        n_filled = (counts + _BLOCK - 1) // _BLOCK
        order = group.argsort(dim=1, stable=True)
        rank = torch.arange(n_freqs, device=group.device).expand_as(order)
        rank = torch.empty_like(order).scatter_(1, order, rank)
        before, blocks_before = counts.cumsum(1) - counts, n_filled.cumsum(1) - n_filled
        place = rank + (_BLOCK * blocks_before - before).gather(1, group)
        freqs = torch.zeros(n_trials, n_blocks * _BLOCK, dtype=torch.long, device=group.device)
        freqs.scatter_(1, place, torch.arange(n_freqs, device=group.device).expand_as(place))
        self._to_blocks = (freqs + n_freqs * trials).flatten()
        self._from_blocks = (place + n_blocks * _BLOCK * trials).flatten()
        blocks = torch.arange(n_blocks, device=group.device).expand(n_trials, -1).contiguous()
        of_block = torch.searchsorted(n_filled.cumsum(1), blocks, right=True)
        of_block = of_block.clamp_max(n_groups - 1)
        self._gains = self._blocks(amplitude).to(roots.dtype)
        self._weakens, self._mixes, self._couples = (
            matrices[trials, of_block]
            for matrices in (self._weakening, roots.mT, (roots @ roots.mH).mT)
        )

    def coloured(self, noise: Tensor) -> Tensor:
        """Return M(f) n(f) of white noise, complex (B, n_chans, n_freqs)."""
        return self._freqs((self._blocks(noise.mT) @ self._mixes * self._gains) @ self._weakens)

    def __matmul__(self, spectra: Tensor) -> Tensor:
        """Return S(f) x(f) of spectra x, complex (B, n_chans, n_freqs)."""
        x = (self._blocks(spectra.mT) @ self._weakens) * self._gains
        return self._freqs((x @ self._couples * self._gains) @ self._weakens)

    def every(self, step: int) -> Tensor:
        """Return S at every so many frequencies, complex (B, n, n_chans, n_chans)."""
        group = self._group[:, ::step]
        trials = torch.arange(len(group), device=group.device)[:, None]
        mixing = self._amplitude[:, ::step, :, None] * self._roots[trials, group]
        mixing = self._weakening[trials, group] @ mixing
        return mixing @ mixing.mH

    def _blocks(self, x: Tensor) -> Tensor:
        """Return (B, n_freqs, n_chans) in blocks, (B, n_blocks, _BLOCK, n_chans)."""
        rows = x.reshape(-1, x.shape[-1]).index_select(0, self._to_blocks)
        return rows.view(len(x), -1, _BLOCK, x.shape[-1])

    def _freqs(self, blocks: Tensor) -> Tensor:
        """Return blocks by frequency, (B, n_chans, n_freqs)."""
        rows = blocks.flatten(0, 2).index_select(0, self._from_blocks)
        return rows.view(len(blocks), -1, blocks.shape[-1]).mT
