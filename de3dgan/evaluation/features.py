"""What baseline models are given of a frame of EEG: DE, the network's maps, spectra."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from de3dgan.data.memory_maps import reopened
from de3dgan.eeg.de import add_baseline
from de3dgan.eeg.sampling import FRAME
from de3dgan.models.spectra import LogPower
from de3dgan.models.views import PowerMaps

if TYPE_CHECKING:
    from de3dgan.data.frames import Frames
    from de3dgan.data.store import Store

#: Frames whose features are computed at a time.
_BATCH = 256


def frame_de(store: Store, frames: np.ndarray, absolute: bool = False) -> np.ndarray:
    """Return the DE of frames, the mean over their two windows.

    Parameters
    ----------
    store : Store
        The data.
    frames : array of int
        Frame numbers.
    absolute : bool
        Without baseline removal.

    Returns
    -------
    array, (len(frames), n_bands · n_chans)
        In nats.
    """
    trial, frame = np.divmod(frames, store.n_frames)
    de = (store.de[trial, :, 2 * frame] + store.de[trial, :, 2 * frame + 1]) / 2
    if absolute:
        de = add_baseline(de[:, :, None], store.baseline_de[store.baseline_index[trial]])
    return de.reshape(len(frames), -1)


@torch.inference_mode()
def frame_maps(frames: Frames, numbers: np.ndarray, maps: PowerMaps) -> np.ndarray:
    """Return the maps that our network is given of frames, without normalisation and noise.

    Parameters
    ----------
    frames : Frames
        The EEG.
    numbers : array of int
        Frame numbers.
    maps : PowerMaps
        Those of the network.

    Returns
    -------
    array, float32 (len(numbers), n_chans · n_maps)
    """
    maps = maps.to(frames.device)
    levels = baseline_levels(frames.store, numbers, maps.level, frames.device)
    parts = zip(_parts(numbers), levels.split(_BATCH), strict=True)
    out = [maps(maps.level(frames[some]), level) for some, level in parts]
    return torch.cat(out).flatten(1).cpu().numpy()


@torch.inference_mode()
def baseline_levels(
    store: Store, numbers: np.ndarray, level: Callable[[Tensor], Tensor], device: torch.device
) -> Tensor:
    """Return the log power of the baseline of each frame.

    Parameters
    ----------
    store : Store
        The data.
    numbers : array of int
        Frame numbers.
    level : callable
        From EEG (n, n_chans, n_times) in µV to its log power, (n, n_chans, n_filters).
    device : torch.device
        Where it is computed.

    Returns
    -------
    Tensor, (len(numbers), n_chans, n_filters)
    """
    needed, row = np.unique(store.baseline_index[numbers // store.n_frames], return_inverse=True)
    levels = levels_of(store, needed, level, device)
    return levels[torch.from_numpy(row).to(device)]


def levels_of(
    store: Store, baselines: np.ndarray, level: Callable[[Tensor], Tensor], device: torch.device
) -> Tensor:
    """Return the log power of baselines, or 0 where DE is relative to nothing.

    Parameters
    ----------
    store : Store
        The data.
    baselines : array of int
        Their rows.
    level, device
        See `baseline_levels`.

    Returns
    -------
    Tensor, (len(baselines), n_chans, n_filters)
    """
    eeg = (torch.from_numpy(reopened(store.baseline)[some]) for some in _parts(baselines, 64))
    levels = torch.cat([level(some.to(device)) for some in eeg])
    return torch.zeros_like(levels) if store.reference == "none" else levels


def spectra(frames: np.ndarray) -> np.ndarray:
    """Return the spectra of one-second frames with the tapers of `de3dgan.models.spectra.LogPower`.

    Parameters
    ----------
    frames : array, (..., n_chans, FRAME)
        In µV.

    Returns
    -------
    array, complex (..., n_chans, n_tapers, FRAME // 2 + 1)
        1 Hz apart; of white noise the sum over frequencies of the mean square over tapers is the
        variance.
    """
    tapers = LogPower().tapers.double().numpy()
    return np.fft.rfft(frames[..., None, :].astype(np.float64) * tapers)


def band_covariances(frames: np.ndarray, bands: list[tuple[float, float]]) -> np.ndarray:
    """Return the covariance of electrodes in bands of frequency, over one second.

    Parameters
    ----------
    frames : array, (n, n_chans, FRAME)
        In µV.
    bands : list of (float, float)
        Edges in Hz; the upper one belongs to the next band.

    Returns
    -------
    array, (n, n_bands, n_chans, n_chans)
        In µV².
    """
    spectrum, freqs = spectra(frames), np.fft.rfftfreq(FRAME, 1 / FRAME)
    out = []
    for low, high in bands:
        inside = spectrum[..., (freqs >= low) & (freqs < high)].reshape(*frames.shape[:2], -1)
        # The real part of the product with its conjugate, without the other.
        parts = np.concatenate([inside.real, inside.imag], axis=-1)
        out.append(parts @ parts.swapaxes(-1, -2))
    return np.stack(out, axis=1)


def of_baselines(
    store: Store, numbers: np.ndarray, measure: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of a measure over the one-second frames of each baseline that is needed.

    Parameters
    ----------
    store : Store
        The data.
    numbers : array of int
        Frames whose trials' baselines are needed.
    measure : callable
        Maps frames (n, n_chans, FRAME) in µV to numbers (n, ...).

    Returns
    -------
    means : array, (n_baselines, ...)
    row : array of int, (len(numbers),)
        Which of them belongs to each frame.
    """
    needed, row = np.unique(store.baseline_index[numbers // store.n_frames], return_inverse=True)
    n_seconds = store.baseline.shape[-1] // FRAME
    means = []
    for some in _parts(needed, max(_BATCH // n_seconds, 1)):
        eeg = reopened(store.baseline)[some][..., : n_seconds * FRAME]
        eeg = eeg.reshape(*eeg.shape[:2], n_seconds, FRAME).swapaxes(1, 2)
        measured = measure(eeg.reshape(-1, *eeg.shape[2:]))
        means.append(measured.reshape(len(some), n_seconds, *measured.shape[1:]).mean(1))
    return np.concatenate(means), row


def _parts(numbers: np.ndarray, size: int = _BATCH) -> list[np.ndarray]:
    """Return `numbers` in order, `size` at a time."""
    return np.split(numbers, range(size, len(numbers), size))
