"""Which frames each artefact of a run was fitted on, noted where frames are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

#: What is called the EEG that fine-tuning makes in the place of training trials.
PAIRED = "paired EEG"


class Ledger:
    """The frames that each artefact of a run was fitted on.

    An artefact is anything that is estimated or made from data: the statistics of a scaler, the
    weights of a network, the chosen epoch, the EEG paired with real EEG. Frames are noted when
    they, or the DE or the baseline of their trial, are read inside `reading_for`. What is read
    outside, to test or to plot, fits nothing and is not noted.

    A baseline counts as the frames that it is read for: trials may share it, see the protocols.

    Parameters
    ----------
    n_frames : int
        Frames of the whole store.

    Attributes
    ----------
    seen : dict of str to array of bool, (n_frames,)
        Per artefact, which frames it was fitted on.
    """

    def __init__(self, n_frames: int):
        self.n_frames = n_frames
        self.seen: dict[str, np.ndarray] = {}
        self._artefacts: tuple[str, ...] = ()

    @contextmanager
    def reading_for(self, *artefacts: str) -> Iterator[None]:
        """Note the frames that are read in the block as those that `artefacts` are fitted on."""
        outer, self._artefacts = self._artefacts, artefacts
        try:
            yield
        finally:
            self._artefacts = outer

    def note(self, frames: np.ndarray) -> None:
        """Note that frames, by number, are being read."""
        for artefact in self._artefacts:
            self.seen.setdefault(artefact, np.zeros(self.n_frames, bool))[frames] = True

    def content(self) -> dict[str, Tensor]:
        """Return `seen` as a checkpoint holds it."""
        return {artefact: torch.from_numpy(seen.copy()) for artefact, seen in self.seen.items()}

    def add(self, content: Mapping[str, Tensor]) -> None:
        """Add what a checkpoint holds: frames noted by other processes, or before resuming."""
        for artefact, seen in content.items():
            with self.reading_for(artefact):
                self.note(seen.numpy())
