"""Measures of EEG: arrays in, numbers out. What they are for is said in `quality`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from de3dgan.base.seeds import derived_seed
from de3dgan.data.frames import batches
from de3dgan.eeg.de import BANDS, FILTER_ORDER, band_signals
from de3dgan.eeg.sampling import FRAME, SFREQ
from de3dgan.evaluation.metrics import balanced_accuracy

#: Band in Hz that frames are filtered to before their waveforms are compared: DE's bands together.
#: DE does not tell what real EEG holds below and above, so that no generator could know it.
_PASSBAND = (4.0, 45.0)
#: Samples of the segments that correlations between electrodes are taken over: 5 s.
_SEGMENT = 5 * SFREQ
#: Standard deviation in nats below which DE does not vary but by rounding.
_CONSTANT = 1e-6
#: Training of the network that tells generated from real EEG; with more epochs it overfits.
_EPOCHS, _BATCH, _LR = 10, 64, 1e-3


def de_round_trip(generated: np.ndarray, wanted: np.ndarray) -> dict[str, dict[str, float]]:
    """Compare the DE of generated EEG with the DE it was generated from.

    Parameters
    ----------
    generated, wanted : array, (n_trials, n_bands, n_windows, n_chans)
        Absolute DE in nats.

    Returns
    -------
    dict
        Per band: ``correlation`` over all windows, electrodes and trials (0 where the generated EEG
        does not vary); ``mae``, the mean absolute error in nats; ``bias``, the mean error in nats,
        below 0 where the amplitude of the generated EEG is too low.
    """
    out = {}
    for index, band in enumerate(BANDS):
        a, b = generated[:, index].ravel(), wanted[:, index].ravel().astype(np.float64)
        varies = min(a.std(), b.std()) > _CONSTANT
        out[band] = {
            "correlation": float(np.corrcoef(a, b)[0, 1]) if varies else 0.0,
            "mae": float(np.abs(a - b).mean()),
            "bias": float((a - b).mean()),
        }
    return out


def seam_ratio(eeg: np.ndarray) -> float:
    """Return the mean absolute step between samples across borders of frames over that inside them.

    It is 1 for EEG without seams at the borders, and for silence.

    Parameters
    ----------
    eeg : array, (..., n_times)
        EEG in µV.
    """
    steps = np.abs(np.diff(eeg, axis=-1))
    across = np.arange(FRAME - 1, steps.shape[-1], FRAME)
    inside = np.delete(steps, across, axis=-1).mean()
    return float(steps[..., across].mean() / inside) if inside > 0 else 1.0


def halves(eeg: np.ndarray) -> np.ndarray:
    """Cut EEG (..., n_chans, n_times) into its first and second half, (..., 2, n_chans, half)."""
    half = eeg.shape[-1] // 2
    return np.stack([eeg[..., :half], eeg[..., -half:]], axis=-3)


def log_spectra(eeg: np.ndarray) -> np.ndarray:
    """Return the log power spectra of the halves of trials, 4-46 Hz.

    By Welch's method, with Hann windows of 2 s.

    Parameters
    ----------
    eeg : array, (n_trials, n_chans, n_times)
        In µV.

    Returns
    -------
    array, (n_trials, 2, n_chans, n_freqs)
        In nats.
    """
    from scipy import signal  # imported here, as it takes 1 s and training does without

    freqs = np.fft.rfftfreq(2 * SFREQ, 1 / SFREQ)
    inside = (freqs >= 4) & (freqs <= 46)
    floor = 1e-12  # µV²/Hz, so that silence has a logarithm
    # Trial by trial: overlapping windows take several times the memory of the EEG.
    power = [signal.welch(halves(trial), SFREQ, nperseg=2 * SFREQ)[1][..., inside] for trial in eeg]
    return np.log(np.stack(power) + floor)


def channel_correlations(eeg: np.ndarray) -> np.ndarray:
    """Return the correlations between electrodes in the halves of trials, per band.

    They are taken over segments of 5 s and averaged, so that a few loud moments do not determine
    the result.

    Parameters
    ----------
    eeg : array, (n_trials, n_chans, n_times)
        In µV.

    Returns
    -------
    array, (n_trials, 2, n_bands, n_chans, n_chans)
        0 where an electrode is silent.
    """
    out = []
    for trial in eeg:
        both = halves(np.stack(list(band_signals(trial)))).swapaxes(0, 1)
        n_segments = both.shape[-1] // _SEGMENT
        segments = both[..., : n_segments * _SEGMENT]
        segments = segments.reshape(*both.shape[:-1], n_segments, _SEGMENT).swapaxes(-3, -2)
        segments = unit_length(segments)
        out.append((segments @ segments.swapaxes(-2, -1)).mean(-3))
    return np.stack(out)


def passed_frames(eeg: np.ndarray) -> np.ndarray:
    """Filter trials to 4-45 Hz with zero phase and cut them into frames.

    Parameters
    ----------
    eeg : array, (n_trials, n_chans, n_times)
        In µV.

    Returns
    -------
    array, float32 (n_trials, n_frames, n_chans, FRAME)
        In µV.
    """
    from scipy import signal  # see `log_spectra`

    sos = signal.butter(FILTER_ORDER, _PASSBAND, "bandpass", fs=SFREQ, output="sos")
    n_trials, n_chans, n_times = eeg.shape
    out = np.empty((n_trials, n_times // FRAME, n_chans, FRAME), np.float32)
    for frames, trial in zip(out, eeg, strict=True):
        passed = signal.sosfiltfilt(sos, trial)
        frames[:] = passed.reshape(n_chans, -1, FRAME).swapaxes(0, 1)
    return out


def discriminative_score(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], seed: int
) -> float:
    """Return how well a small convolutional network tells generated from real frames.

    Parameters
    ----------
    train, test : (frames, is_generated)
        What the network is trained on, and tested on: frames (n, n_chans, FRAME) in µV, and whether
        each is generated, bool (n,).
    seed : int
        For its initial weights and the order of frames. PyTorch's generator stays as it is.

    Returns
    -------
    float
        Balanced accuracy: 0.5 where generated EEG cannot be told from real EEG, or only by what a
        small network does not learn from so few frames.
    """
    frames, is_generated = train
    scale = float(frames[~is_generated].std()) or 1.0  # the same for both: amplitude may differ
    x, y = torch.from_numpy(frames), torch.from_numpy(is_generated).float()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed(seed, 0, "judge: initial weights"))
        judge = _Judge(x.shape[1], scale)
    optimiser = torch.optim.Adam(judge.parameters(), _LR)
    for epoch in range(_EPOCHS):
        for batch in batches(np.arange(len(x)), _BATCH, seed, epoch, "judge: batches"):
            loss = F.binary_cross_entropy_with_logits(judge(x[batch]), y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    judge.eval()
    with torch.inference_mode():
        scores = torch.cat([judge(batch) for batch in torch.from_numpy(test[0]).split(8 * _BATCH)])
    return balanced_accuracy(test[1], scores.numpy() > 0)


class _Judge(nn.Module):
    """Scores frames, (n, n_chans, FRAME) in µV to (n,): above 0 for those judged to be generated.

    Its last layer gets the mean and the mean square of each filter's output over time. The mean
    square is a power: it tells amplitudes apart, and does not depend on the sign of a wave.
    """

    def __init__(self, n_chans: int, scale: float):
        super().__init__()
        self.scale = scale
        width, kernel = 24, 9
        self.first = nn.Conv1d(n_chans, width, kernel, stride=2, padding=kernel // 2)
        self.second = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(2))
        self.last = nn.Linear(2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.elu(self.norms[0](self.first(x / self.scale)))
        x = F.elu(self.norms[1](self.second(F.avg_pool1d(x, 2))))
        return self.last(torch.cat([x.mean(-1), x.square().mean(-1)], dim=1))[:, 0]


def mean_by_band(error: np.ndarray) -> dict[str, float | None]:
    """Return the mean per band of errors of `channel_correlations`, off the diagonal.

    None for a single electrode, for which there is nothing off the diagonal.
    """
    others = ~np.eye(error.shape[-1], dtype=bool)
    if not others.any():
        return dict.fromkeys(BANDS)
    return dict(zip(BANDS, error[..., others].mean((0, 1, 3)).tolist(), strict=True))


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the correlations along the last axis, 0 with silence."""
    return (unit_length(a) * unit_length(b)).sum(-1)


def unit_length(x: np.ndarray) -> np.ndarray:
    """Centre along the last axis and scale to length 1, or to 0 if there is only rounding error."""
    mean = x.mean(-1, keepdims=True)
    x = x - mean
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    rounding = 1e-6 * np.abs(mean) * np.sqrt(x.shape[-1])  # of 32-bit numbers
    varies = length > np.maximum(rounding, 1e-9)
    return np.divide(x, length, out=np.zeros_like(x), where=varies)
