"""EEG where the network is, gathered in batches by index."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from de3dgan.base.seeds import derived_rng
from de3dgan.data.ledger import Ledger
from de3dgan.data.memory_maps import reopened
from de3dgan.data.store import Store
from de3dgan.eeg.sampling import FRAME

#: Share of a GPU's free memory that data may take; beyond it, data stays in files.
_GPU_SHARE = 0.5
#: Rows that are read through one map: what surrounds each takes memory as long as the map is there.
_ROWS = 64


class Frames:
    """The one-second frames of a store, or of other EEG in its shape.

    Parameters
    ----------
    store : Store
        The data.
    device : torch.device
        Where batches are wanted. On a GPU with room for it, all EEG is put there once; otherwise
        batches are gathered from the store's files.
    waveform_baseline : bool
        Subtract from each frame the mean of the baseline's frames, as published. It marks all
        frames of a trial with one waveform, and belongs to the ``random-frame`` protocol only.
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
        eeg = store.eeg if eeg is None else eeg
        n_chans = eeg.shape[1]
        by_frame = (store.n_trials, n_chans, self.n_frames, FRAME)
        self._eeg = DeviceArray(eeg, device, by_frame)
        self.shape = (store.n_trials * self.n_frames, n_chans, FRAME)
        self._baseline_frame = None
        if waveform_baseline:
            n_baselines, _, n_times = store.baseline.shape
            frames = store.baseline[..., : n_times // FRAME * FRAME]
            means = frames.reshape(n_baselines, n_chans, -1, FRAME).mean(2)
            self._baseline_frame = DeviceArray(means[store.baseline_index], device)

    def __getitem__(self, frames: np.ndarray) -> Tensor:
        """Return frames by number, float32 (len(frames), n_chans, n_times), in µV on the device."""
        self.ledger.note(frames)
        trial, frame = np.divmod(frames, self.n_frames)
        x = self._eeg[trial, :, frame]
        return x if self._baseline_frame is None else x - self._baseline_frame[trial]

    def numbers(self, trials: np.ndarray) -> np.ndarray:
        """Return the numbers of all frames of `trials`, int (len(trials) · n_frames,)."""
        return (trials[:, None] * self.n_frames + np.arange(self.n_frames)).ravel()

    def absolute_de(self, trials: np.ndarray) -> np.ndarray:
        """Return `Store.absolute_de` of `trials`, noting that all their frames are read."""
        self.ledger.note(self.numbers(trials))
        return self.store.absolute_de(trials)

    def trials(self, trials: np.ndarray) -> Tensor:
        """Return the EEG of whole trials, (len(trials), n_chans, n_times) in µV on the device."""
        self.ledger.note(self.numbers(trials))
        x = self._eeg[trials]
        if self._baseline_frame is not None:
            x = x - self._baseline_frame[trials][:, :, None]
        return x.flatten(2)

    def continuous(self, trials: np.ndarray) -> np.ndarray:
        """Return `trials` as an array."""
        return self.trials(trials).cpu().numpy()

    def cpu(self, frames: np.ndarray) -> np.ndarray:
        """Return frames by number as an array."""
        return self[frames].cpu().numpy()


class DeviceArray:
    """An array that batches are gathered from: on a GPU with room for it, else where it is.

    Parameters
    ----------
    array : array
        In memory, or of `de3dgan.data.memory_maps.open_array`.
    device : torch.device
        Where batches are wanted.
    shape : tuple of int, optional
        Its shape for indexing, if not its own.
    """

    def __init__(
        self, array: np.ndarray, device: torch.device, shape: tuple[int, ...] | None = None
    ):
        self._array, self._device, self._shape = array, device, shape or array.shape
        self._resident = None
        if device.type == "cuda" and _fits(array, device):
            self._resident = torch.from_numpy(array).to(device).reshape(self._shape)

    def __getitem__(self, index: np.ndarray | tuple[np.ndarray | slice, ...]) -> Tensor:
        """Return what NumPy's indexing with arrays gives, on the device."""
        parts = index if isinstance(index, tuple) else (index,)
        if self._resident is None:
            read = [
                reopened(self._array).reshape(self._shape)[
                    tuple(part if isinstance(part, slice) else part[some] for part in parts)
                ]
                for some in _slices(len(parts[0]))
            ]
            batch = read[0] if len(read) == 1 else np.concatenate(read)
            return to_device(torch.from_numpy(np.ascontiguousarray(batch)), self._device)
        return self._resident[
            tuple(
                part if isinstance(part, slice) else to_device(torch.from_numpy(part), self._device)
                for part in parts
            )
        ]


def _slices(n: int) -> list[slice]:
    """Return the parts of `n` rows that are read through one map."""
    return [slice(start, start + _ROWS) for start in range(0, max(n, 1), _ROWS)]


def _fits(array: np.ndarray, device: torch.device) -> bool:
    return array.nbytes < _GPU_SHARE * torch.cuda.mem_get_info(device)[0]


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return `x` on `device`; of a GPU's work in progress nothing is waited for."""
    if device.type == "cuda" and not x.is_cuda:
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


def batches(
    items: np.ndarray, batch_size: int, seed: int, epoch: int, purpose: str, n_batches: int = 0
) -> Iterator[np.ndarray]:
    """Yield `items` in random batches, in the same order whenever (seed, epoch, purpose) are.

    They are gone through once, or as often as it takes to yield `n_batches`.
    """
    rng, n_wanted = derived_rng(seed, epoch, purpose), n_batches * batch_size or len(items)
    rounds = [rng.permutation(items) for _ in range(-(-n_wanted // len(items)))]
    yield from chunks(np.concatenate(rounds)[:n_wanted], batch_size)


def chunks(items: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield `items` in order, `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
