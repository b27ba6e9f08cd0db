"""EEG where the network is, gathered in batches by index."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path
from de3dgan.base.seeds import derived_rng
from de3dgan.data.ledger import Ledger
from de3dgan.data.store import Store
from de3dgan.eeg.sampling import FRAME

#: Share of a GPU's free memory that data may take; beyond it, data stays in files.
_GPU_SHARE = 0.5
#: Bytes of EEG that are gathered from a memory map; of more, batches are read from the file. A map
#: is faster, until what has been looked at fills the memory that a process may have: the system
#: counts all of it, and more around it.
_MAPPED = 128 * 2**20


class Frames:
    """The one-second frames of a store, or of other EEG in its shape.

    Parameters
    ----------
    store : Store
        The data.
    device : torch.device
        Where batches are wanted. On a GPU with room, all data is put there once; otherwise it is
        gathered from the memory map, or read from the file if there is much of it.
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
        array = store.eeg if eeg is None else eeg
        self.eeg = resident(torch.from_numpy(array), device).unflatten(2, (self.n_frames, FRAME))
        self.shape = (store.n_trials * self.n_frames, array.shape[1], FRAME)
        self._file = None
        if array.nbytes > _MAPPED and isinstance(array, np.memmap) and not self.eeg.is_cuda:
            opened = store.opened("eeg") if eeg is None else os.open(array.filename, os.O_RDONLY)
            self._file = _File(opened, array, self.n_frames)
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
        trial, second = to_device(torch.from_numpy(places), self.eeg.device)
        if self._file is None:
            x = self.eeg[trial, :, second]
        else:
            x = torch.from_numpy(self._file[frames])
        if self.template is not None:
            x = x - self.template[trial]
        return to_device(x, self.device)

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
        return frames.transpose(1, 2).flatten(2)

    def continuous(self, trials: np.ndarray) -> np.ndarray:
        """Return `trials` as an array."""
        return self.trials(trials).cpu().numpy()

    def cpu(self, frames: np.ndarray) -> np.ndarray:
        """Return frames by number as an array."""
        return self[frames].cpu().numpy()


class _File:
    """The frames in an array's file.

    Parameters
    ----------
    descriptor : int
        The open file's; it is closed with this.
    array : memmap, (n_trials, n_chans, n_times)
        What is in the file.
    n_frames : int
        Frames per trial.
    """

    def __init__(self, descriptor: int, array: np.memmap, n_frames: int):
        weakref.finalize(self, os.close, descriptor)
        self.descriptor, self.n_frames = descriptor, n_frames
        self.path, self.start, self.n_chans = array.filename, array.offset, array.shape[1]

    def __getitem__(self, frames: np.ndarray) -> np.ndarray:
        """Read frames by number, (len(frames), n_chans, FRAME); of those in a row, all at once.

        Raises
        ------
        UserError
            If the file has become shorter.
        """
        out = np.empty((len(frames), self.n_chans, FRAME), np.float32)
        starts_row = (np.diff(frames, prepend=-2) != 1) | (frames % self.n_frames == 0)
        borders = [*np.flatnonzero(starts_row).tolist(), len(frames)]
        for begin, end in itertools.pairwise(borders):
            row = np.empty((self.n_chans, end - begin, FRAME), np.float32)
            in_bytes = memoryview(row).cast("B")
            size, step = (n * FRAME * row.itemsize for n in (end - begin, self.n_frames))
            trial, second = divmod(int(frames[begin]), self.n_frames)
            place = self.start + trial * self.n_chans * step + second * FRAME * row.itemsize
            n_read = 0
            for channel in range(0, row.nbytes, size):
                n_read += os.preadv(self.descriptor, [in_bytes[channel : channel + size]], place)
                place += step
            if n_read != row.nbytes:
                raise UserError(
                    f"{display_path(self.path)} ends before trial {trial} does: make the features "
                    "anew with preprocess_de.py."
                )
            out[begin:end] = row.swapaxes(0, 1)
        return out


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return `x` on `device`; of a GPU's work in progress nothing is waited for."""
    if device.type == "cuda" and not x.is_cuda:
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


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
