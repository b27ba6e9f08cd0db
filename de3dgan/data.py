"""EEG and DE where the network is, gathered in batches by index."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from de3dgan.compute import moved
from de3dgan.features import FRAME
from de3dgan.ledger import Ledger
from de3dgan.seeds import derived_rng
from de3dgan.store import Store, give_back

#: Share of a GPU's free memory that data may take; beyond it, data stays memory-mapped.
_GPU_SHARE = 0.5
#: Frames that are gathered at a time where very many are asked for.
_AT_ONCE = 64


class Frames:
    """The one-second frames of a store, or of other EEG in its shape.

    Parameters
    ----------
    store : Store
        The data.
    device : torch.device
        Where batches are wanted. On a GPU with room, all data is put there once; otherwise it is
        gathered from the memory map.
    waveform_baseline : bool
        Subtract from every second the mean of the baseline's seconds, as published. It marks all
        frames of a trial with one waveform, and belongs to the ``window`` protocol only.
    eeg : array, (n_trials, n_chans, n_times), optional
        EEG in µV to use in the place of the store's.
    ledger : Ledger, optional
        Where reading is noted; by default, in one of its own.

    Attributes
    ----------
    shape : tuple
        (n_trials · n_frames, n_chans, n_times of a frame).
    """

    def __init__(
        self,
        store: Store,
        device: torch.device,
        waveform_baseline: bool,
        eeg: np.ndarray | None = None,
        ledger: Ledger | None = None,
    ):
        self.store = store
        self.ledger = ledger or Ledger(store.n_trials * store.n_frames)
        self.device = device
        self.n_frames = store.n_frames
        self._array = store.eeg if eeg is None else eeg
        eeg = resident(torch.from_numpy(self._array), device)
        self.eeg = eeg.unflatten(2, (self.n_frames, FRAME))
        self.shape = (store.n_trials * self.n_frames, eeg.shape[1], FRAME)
        self.template = None
        if waveform_baseline:
            n_baselines, n_chans, n_times = store.baseline.shape
            seconds = store.baseline[..., : n_times // FRAME * FRAME]
            seconds = seconds.reshape(n_baselines, n_chans, -1, FRAME)
            of_trial = seconds.mean(2)[store.baseline_index]
            self.template = torch.from_numpy(of_trial).to(self.eeg.device)

    def __getitem__(self, frames: np.ndarray) -> Tensor:
        """Return frames by number, float32 (len(frames), n_chans, n_times), in µV on the device."""
        self.ledger.note(frames)
        places = np.stack(np.divmod(frames, self.n_frames))
        trial, second = moved(torch.from_numpy(places), self.eeg.device)
        x = self.eeg[trial, :, second]
        if self.template is not None:
            x = x - self.template[trial]
        give_back(self._array)
        return moved(x, self.device)

    def numbers(self, trials: np.ndarray) -> np.ndarray:
        """Return the numbers of all frames of `trials`, int (len(trials) · n_frames,)."""
        return (trials[:, None] * self.n_frames + np.arange(self.n_frames)).ravel()

    def absolute_de(self, trials: np.ndarray) -> np.ndarray:
        """Return `Store.absolute_de` of `trials`, noting that all their frames are read."""
        self.ledger.note(self.numbers(trials))
        return self.store.absolute_de(trials)

    def trials(self, trials: np.ndarray) -> Tensor:
        """Return the EEG of whole trials, (len(trials), n_chans, n_times) in µV on the device."""
        frames = self[self.numbers(trials)].unflatten(0, (len(trials), self.n_frames))
        give_back(self._array, share=0.5)
        return frames.transpose(1, 2).flatten(2)

    def continuous(self, trials: np.ndarray) -> np.ndarray:
        """Return `trials` as an array."""
        return self.trials(trials).cpu().numpy()

    def cpu(self, frames: np.ndarray) -> np.ndarray:
        """Return frames by number as an array."""
        # Some at a time: each touches a page of the file per channel, and its neighbours.
        some = chunks(frames, _AT_ONCE)
        return np.concatenate([self[numbers].cpu().numpy() for numbers in some])


def resident(x: Tensor, device: torch.device) -> Tensor:
    """Return `x` on `device` if that is a GPU with room for it, else where it is."""
    if device.type == "cuda" and x.nbytes < _GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
        return x.to(device)
    return x


def batches(
    items: np.ndarray, batch_size: int, seed: int, epoch: int, purpose: str
) -> Iterator[np.ndarray]:
    """Yield `items` in random batches, in the same order whenever (seed, epoch, purpose) are."""
    yield from chunks(derived_rng(seed, epoch, purpose).permutation(items), batch_size)


def chunks(items: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield `items` in order, `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
