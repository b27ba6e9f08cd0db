"""The published normalisation, its statistics taken from training data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from de3dgan.data.frames import Frames
from de3dgan.data.splits import Split
from de3dgan.eeg.scaling import RobustScaler

#: Values that statistics are taken from, at most: their quantiles are then exact to about 0.1 %.
_N_VALUES = 4_000_000
#: What the ledger calls the statistics.
EEG_SCALER, DE_SCALER = "EEG scaler", "DE statistics"


def fit_eeg_scaler(frames: Frames, split: Split) -> RobustScaler:
    """Return the scaler of EEG, one for all electrodes, from frames of the training split.

    One scale for all electrodes keeps the differences of amplitude over the scalp. Frames are drawn
    at random if there are very many.
    """
    n = max(1, _N_VALUES // int(np.prod(frames.shape[1:])))
    with frames.ledger.reading_for(EEG_SCALER):
        return eeg_statistics(frames, _some(split.train, n))


def fit_de_scaler(frames: Frames, split: Split) -> RobustScaler:
    """Return the scaler of absolute DE, per band, from trials of the training split."""
    n = max(1, _N_VALUES // int(np.prod(frames.store.de.shape[1:])))
    with frames.ledger.reading_for(DE_SCALER):
        return de_statistics(frames, _some(split.trials("train"), n))


def eeg_statistics(frames: Frames, numbers: np.ndarray) -> RobustScaler:
    """Return the scaler of EEG with the statistics of frames `numbers`.

    Raises
    ------
    UserError
        If their EEG is not finite, naming the trial and the channel.
    """
    eeg = frames.cpu(numbers)
    if not np.isfinite(eeg).all():
        frames.store.refuse_non_finite_eeg(np.unique(numbers // frames.n_frames).tolist())
    return RobustScaler.fit(eeg.ravel())


def de_statistics(frames: Frames, trials: np.ndarray) -> RobustScaler:
    """Return the scaler of absolute DE with the statistics of `trials`."""
    de = frames.absolute_de(trials)
    return RobustScaler.fit(de.swapaxes(0, 1).reshape(de.shape[1], -1))


def _some(items: np.ndarray, n: int) -> np.ndarray:
    if len(items) <= n:
        return items
    return np.sort(np.random.default_rng(0).choice(items, n, replace=False))


def same_statistics(scaler: RobustScaler, stored: Mapping[str, Any]) -> bool:
    """Return whether statistics agree to what another machine's rounding may change."""
    recomputed = asdict(scaler)
    return stored.keys() == recomputed.keys() and all(
        np.shape(value) == np.shape(stored[key]) and np.allclose(value, stored[key], rtol=1e-6)
        for key, value in recomputed.items()
    )


def _de_statistics_of_frames(frames: Frames, numbers: np.ndarray) -> RobustScaler:
    return de_statistics(frames, np.unique(numbers // frames.n_frames))


#: Where a checkpoint has a scaler's statistics, and how they are computed.
STATISTICS = {
    EEG_SCALER: ("eeg_scaler", eeg_statistics),
    DE_SCALER: ("de_scaler", _de_statistics_of_frames),
}
