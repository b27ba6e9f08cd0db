"""Who saw what: frames are noted where they are read, so that the record is not a promise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


class Ledger:
    """The frames that each artefact of a run has seen.

    An artefact is whatever data shapes: the statistics of a scaler, the weights of a network, the
    choice of an epoch. Reading is noted for those that `by` says are being shaped; what is read
    outside of it, to test or to draw, shapes nothing.

    Parameters
    ----------
    n_frames : int
        Frames of the whole store.

    Attributes
    ----------
    seen : dict of str to array of bool, (n_frames,)
        Per artefact, which frames it has seen.
    """

    def __init__(self, n_frames: int):
        self.n_frames = n_frames
        self.seen: dict[str, np.ndarray] = {}
        self._shaped: tuple[str, ...] = ()

    @contextmanager
    def by(self, *artefacts: str) -> Iterator[None]:
        """Note what is read meanwhile as seen by `artefacts`."""
        outer, self._shaped = self._shaped, artefacts
        try:
            yield
        finally:
            self._shaped = outer

    def note(self, frames: np.ndarray) -> None:
        """Note that frames, by number, are being read."""
        for artefact in self._shaped:
            self.seen.setdefault(artefact, np.zeros(self.n_frames, bool))[frames] = True

    def content(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds of it."""
        return {artefact: torch.from_numpy(seen.copy()) for artefact, seen in self.seen.items()}

    def add(self, content: Mapping[str, Tensor]) -> None:
        """Add what an earlier process of the run noted, from its checkpoint."""
        for artefact, seen in content.items():
            with self.by(artefact):
                self.note(seen.numpy())
