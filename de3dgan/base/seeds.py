"""Random numbers derived per (seed, epoch, purpose), so that resuming needs no replay."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def derived_seed(seed: int, epoch: int, purpose: str) -> int:
    """Return a 63-bit seed that depends on all three, well mixed."""
    sequence = np.random.SeedSequence([seed, epoch, zlib.crc32(purpose.encode())])
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def derived_rng(seed: int, epoch: int, purpose: str) -> np.random.Generator:
    """Return a NumPy generator for (seed, epoch, purpose)."""
    return np.random.default_rng(derived_seed(seed, epoch, purpose))


def seed_torch(seed: int, epoch: int, purpose: str) -> None:
    """Seed PyTorch's generators, on all devices, for (seed, epoch, purpose)."""
    torch.manual_seed(derived_seed(seed, epoch, purpose))
