"""Spectra of EEG: short-time Fourier transform, and log power of frames."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from de3dgan.eeg.sampling import FRAME, SFREQ, WINDOW
from de3dgan.models.blocks import float32

#: Hz of the first frequency in the bands of log power, and of that after the last.
_BEGIN, _END = 3, 47
#: Power (µV²) below which EEG counts as silent: far below the noise of an amplifier.
_QUIET = 1e-3


class STFT(nn.Module):
    """Short-time Fourier transform, one spectrum per DE window.

    The window is the square root of a Hann window of one second, centred on each DE window.

    Parameters
    ----------
    lowest, highest : int
        Hz of the first and the last frequency that is kept; they are 1 Hz apart.
    """

    def __init__(self, lowest: int = 1, highest: int = 60):
        super().__init__()
        self.length = 2 * WINDOW
        self.lowest, self.highest = lowest, highest
        window = torch.hann_window(self.length, periodic=True).sqrt()
        self.register_buffer("window", window, persistent=False)

    @property
    def freqs(self) -> Tensor:
        """Frequencies in Hz, (n_freqs,)."""
        return torch.arange(self.lowest, self.highest + 1.0)

    def analyse(self, eeg: Tensor) -> Tensor:
        """Return spectra of EEG: (..., n_chans, n_times) to complex (..., n_chans, n_win, n_freqs).

        Of white noise with variance σ², their mean squares are 64 σ²: the sum of the window's.
        """
        margin = (self.length - WINDOW) // 2
        padded = F.pad(eeg, (margin, margin), mode="reflect")
        windows = padded.unfold(-1, self.length, WINDOW) * self.window
        return torch.fft.rfft(windows)[..., self.lowest : self.highest + 1]

    def power(self, eeg: Tensor) -> Tensor:
        """Return the squared magnitudes of `analyse`."""
        spectra = self.analyse(eeg)
        return torch.addcmul(spectra.real.square(), spectra.imag, spectra.imag)


class LogPower(nn.Module):
    """Log power of one-second frames of EEG in overlapping bands.

    Like differential entropy it is ½ ln of a power, but of one frame alone: the filters of DE
    reach into the frames before and after. It does not depend on phase. Powers are means over
    orthogonal sine tapers (Riedel & Sidorenko, IEEE Transactions on Signal Processing 43, 1995).
    They vary less than with a single window, which makes little use of the samples at its ends, and
    hardly anything leaks in from outside a band: above the bands of EEG there is much that is not
    EEG.

    Parameters
    ----------
    n_filters : int
        Gaussian bands, their centres spaced evenly in log frequency.
    lowest, highest : float
        Hz of the first and the last centre.
    width : float
        Standard deviation of a band in Hz.
    n_tapers : int
        With each more, powers vary less, and spread over ½ Hz more to both sides.
    """

    def __init__(
        self,
        n_filters: int = 16,
        lowest: float = 5.0,
        highest: float = 42.0,
        width: float = 2.5,
        n_tapers: int = 3,
    ):
        super().__init__()
        steps = [i / max(n_filters - 1, 1) for i in range(n_filters)]
        #: Centres of the bands in Hz.
        self.centres = [lowest * (highest / lowest) ** step for step in steps]
        order = torch.arange(1, n_tapers + 1)[:, None]
        time = torch.arange(1, FRAME + 1)
        tapers = (2 / (FRAME + 1)) ** 0.5 * torch.sin(math.pi * order * time / (FRAME + 1))
        # Scaled such that the sum over frequencies of the mean over tapers is the variance, in µV².
        tapers = tapers * (2 / (FRAME * n_tapers)) ** 0.5
        freqs = torch.arange(_END) * SFREQ / FRAME
        centres = torch.linspace(math.log(lowest), math.log(highest), n_filters).exp()
        bands = -0.5 * ((freqs - centres[:, None]) / width) ** 2
        bands[:, freqs < _BEGIN] = -torch.inf
        waves = torch.exp(-2j * math.pi * torch.outer(time - 1, freqs).double() / SFREQ)
        waves = torch.stack([waves.real, waves.imag])  # (2, FRAME, n_freqs)
        basis = (tapers.double()[:, None, :, None] * waves).flatten(0, 1).movedim(0, 1)
        self.register_buffer("tapers", tapers, persistent=False)
        self.register_buffer("bands", bands.softmax(1), persistent=False)
        self.register_buffer("basis", basis.float(), persistent=False)

    @float32
    def forward(self, eeg: Tensor) -> Tensor:
        """Map EEG in µV, (..., n_times), to nats, (..., n_frames, n_filters).

        EEG of more than one second is cut into frames that overlap by half.
        """
        return self.of(self.spectra(eeg.unfold(-1, FRAME, WINDOW)))

    def spectra(self, frames: Tensor) -> Tensor:
        """Return the spectra of frames at 0 to 46 Hz, 1 Hz apart.

        The sum of their squares is the power in µV². As one product it takes a fraction of the time
        of Fourier transforms, which are of more frequencies and short.

        Parameters
        ----------
        frames : Tensor, (..., FRAME)

        Returns
        -------
        Tensor, (..., 2 · n_tapers, n_freqs)
            Real and imaginary part with each taper.
        """
        # Flattened first: overlapping frames would be multiplied one by one.
        flat = frames.reshape(-1, FRAME) @ self.basis.flatten(1)
        return flat.view(*frames.shape[:-1], *self.basis.shape[1:])

    def of(self, spectra: Tensor) -> Tensor:
        """Return log power in nats, given `spectra`: (..., n_filters)."""
        return 0.5 * (spectra.square().sum(-2) @ self.bands.T + _QUIET).log()
