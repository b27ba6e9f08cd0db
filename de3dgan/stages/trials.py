"""DE and EEG of whole trials, as generators are trained on them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path
from de3dgan.data.frames import DeviceArray, to_device
from de3dgan.data.scalers import fit_de_scaler, fit_eeg_scaler
from de3dgan.eeg.de import add_baseline
from de3dgan.eeg.scaling import RobustScaler
from de3dgan.training.run import Run

#: What the order of the batches of trials is drawn for.
BATCHES = "gan batches"
#: Trials that validation looks at, at most: enough to tell epochs apart.
N_VAL_TRIALS = 32


class Trials:
    """DE and EEG of whole trials.

    The generator is given and judged by *absolute* DE (the baseline's added back), because the
    amplitude of an EEG signal is not in its baseline-removed DE.

    Attributes
    ----------
    frames : Frames
        The EEG.
    scalers : dict of str to RobustScaler
        The published normalisation, of the training split; see `normalise`.
    """

    def __init__(self, run: Run):
        store, self.split = run.store, run.split
        # Three halvings of the DE windows; and PyTorch's bfloat16 convolutions read memory that
        # is not theirs when a volume is 2 x 1 x 1, the bottom of the U-Net for trials of 8 s.
        if store.n_frames % 4 or store.n_frames < 12:
            raise UserError(
                f"Trials of {display_path(store.path)} last {store.n_frames} s, and the generator "
                "needs a multiple of 4 s, 12 s or more: give preprocess_de.py --trial-seconds."
            )
        self.frames = run.frames()
        self.scalers: dict[str, RobustScaler] = {}
        self._de = DeviceArray(store.de, run.device)
        self._baseline_de = DeviceArray(store.baseline_de, run.device)
        self.trained_on = np.zeros(self.frames.shape[0], bool)
        self.trained_on[self.split.train] = True

    def normalise(self) -> None:
        """Fit the normalisation that `batch` applies."""
        self.scalers["de_scaler"] = fit_de_scaler(self.frames, self.split)
        self.scalers["eeg_scaler"] = fit_eeg_scaler(self.frames, self.split)

    def de(self, trials: np.ndarray) -> Tensor:
        """Return `Store.absolute_de` of `trials` on the device, noting that they are read."""
        self.frames.ledger.note(self.frames.numbers(trials))
        baselines = self.frames.store.baseline_index[trials]
        return add_baseline(self._de[trials], self._baseline_de[baselines])

    def whole(self, trials: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return DE in nats and EEG in µV of `trials`.

        Returns
        -------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            Absolute.
        eeg : Tensor, (B, n_chans, n_times)
        """
        return self.de(trials), self.frames.trials(trials)

    def batch(self, trials: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Return what a step of the published training needs of `trials`.

        Returns
        -------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            Normalised absolute DE.
        real : Tensor, (N, n_chans, FRAME)
            Normalised EEG of those frames of the trials that are trained on: all of them, but in
            the leaky protocol.
        kept : Tensor of int, (N,)
            Which of the trials' frames these are.
        """
        numbers = self.frames.numbers(trials)
        kept = np.flatnonzero(self.trained_on[numbers])
        real = self.scalers["eeg_scaler"].normalise(self.frames[numbers[kept]])
        de = self.scalers["de_scaler"].normalise(self.de(trials))
        return de, real, to_device(torch.from_numpy(kept), self.frames.device)


def spread(items: np.ndarray, n: int) -> np.ndarray:
    """Return at most `n` of `items`, evenly spread."""
    return items[np.linspace(0, len(items) - 1, min(n, len(items))).round().astype(int)]
