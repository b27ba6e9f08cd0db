"""From signals to spectra and back, differentiably: the DE lock, half-second spectra, coherence."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from de3dgan.eeg.de import EDGE, edge_maps, fft_length, power_responses
from de3dgan.eeg.sampling import FRAME, SFREQ, WINDOW

#: Power (µV²) that stands for silence, which has no logarithm.
_SILENCE = 1e-12
#: Power (µV²) below which EEG counts as silent: far below the noise of an amplifier.
_QUIET = 1e-3
#: Samples over which correlations in a band are taken: 5 s.
_SEGMENT = 10 * WINDOW


def float32(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Have a module's method compute in float32, within `torch.autocast` as well.

    Spectra, logarithms and matrix exponentials need the digits that bfloat16 does not have.
    """

    @wraps(method)
    def outside_autocast(self: nn.Module, x: Tensor, *args: Any) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return method(self, x, *args)

    return outside_autocast


class DEConstraint(nn.Module):
    """Gives EEG a wanted differential entropy by making its bands louder and softer in time.

    EEG is split into the bands by the same zero-phase filters as in `de3dgan.eeg.de`. Each band
    is multiplied by a gain that runs smoothly from the centre of one half-second to the next, so
    that there are no seams; what is in no band stays as it is. As bands overlap and gains change
    within windows, a pass only comes closer, and passes are repeated. All of it is differentiable.
    """

    def bands(self, eeg: Tensor) -> Tensor:
        """Split EEG (..., n_chans, n_times) into bands, (..., n_bands, n_chans, n_times).

        The same as `de3dgan.eeg.de.band_signals`, in the precision of `eeg`.
        """
        eeg = eeg - eeg.mean(-1, keepdim=True)
        n_times = eeg.shape[-1]
        n_fft, filters = _filters(n_times, eeg.dtype, eeg.device)
        spectrum = torch.fft.rfft(eeg, n=n_fft)
        out = []
        for response, *edges in filters:
            signal = torch.fft.irfft(spectrum * response, n=n_fft)[..., :n_times]
            start = eeg[..., :EDGE] @ edges[0] @ edges[1]
            stop = eeg[..., -EDGE:] @ edges[2] @ edges[3]
            rest = n_times - EDGE
            out.append(signal + F.pad(start, (0, rest)) + F.pad(stop, (rest, 0)))
        return torch.stack(out, dim=-3)

    def forward(self, eeg: Tensor, de: Tensor, n_passes: int = 5) -> Tensor:
        """Return `eeg` with the DE `de`.

        Parameters
        ----------
        eeg : Tensor, (B, n_chans, n_windows · WINDOW)
            In µV; 10 s or more.
        de : Tensor, (B, n_bands, n_windows, n_chans)
            Absolute DE in nats.
        n_passes : int
            Corrections of the gains.

        Returns
        -------
        Tensor, (B, n_chans, n_times)
            In µV.
        """
        bands = self.bands(eeg)
        rest = eeg - bands.sum(-3)
        log_gain = torch.zeros_like(de)
        for n_done in range(n_passes):
            split = self.bands(eeg) if n_done else bands
            log_gain = log_gain + de - windowed_de(split)
            gain = between_windows(log_gain.transpose(-1, -2)).exp()
            eeg = rest + (bands * gain).sum(-3)
        return eeg


@lru_cache(maxsize=8)
def _filters(
    n_times: int, dtype: torch.dtype, device: torch.device
) -> tuple[int, list[list[Tensor]]]:
    """Return the length of the Fourier transform, and what filters into each band.

    That is the power response, and two factors each of what the ends of a recording need beyond it.
    """
    n_fft = fft_length(n_times + EDGE)
    with torch.inference_mode(False):
        return n_fft, [
            [torch.from_numpy(x).to(device, dtype) for x in (response, *start, *stop)]
            for response, (start, stop) in zip(power_responses(n_fft), edge_maps(), strict=True)
        ]


def windowed_de(bands: Tensor) -> Tensor:
    """Return the DE of half-seconds, (..., n_chans, n_times) to (..., n_windows, n_chans), in nats.

    See `de3dgan.eeg.de.windowed_de`; silence has the DE of a millionth of a µV.
    """
    variance = bands.unflatten(-1, (-1, WINDOW)).var(-1).clamp_min(_SILENCE)
    return (0.5 * torch.log(2 * math.pi * math.e * variance)).transpose(-1, -2)


def band_correlations(bands: Tensor) -> Tensor:
    """Return how electrodes are correlated in each band, 5 s at a time, in the mean.

    (..., n_chans, n_times) to (..., n_chans, n_chans).
    """
    n_segments = bands.shape[-1] // _SEGMENT
    segments = bands[..., : n_segments * _SEGMENT].unflatten(-1, (n_segments, _SEGMENT))
    segments = segments - segments.mean(-1, keepdim=True)
    segments = F.normalize(segments, dim=-1).transpose(-3, -2)
    return (segments @ segments.mT).mean(-3)


def between_windows(values: Tensor) -> Tensor:
    """Interpolate from the centres of half-seconds to samples, constant beyond the outermost.

    (..., n_windows) to (..., n_windows · WINDOW).
    """
    flat = F.interpolate(
        values.flatten(0, -2)[:, None], scale_factor=WINDOW, mode="linear", align_corners=False
    )
    return flat[:, 0].unflatten(0, values.shape[:-1])


class STFT(nn.Module):
    """Short-time spectra, one per half-second DE window, and EEG from them by overlap-add.

    A one-second window, the square root of a Hann window, lies centred on each half-second; its
    squares add up to one, so that overlap-add after analysis gives the signal back.

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
        self.register_buffer("leakage", self._leakage(), persistent=False)

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
        return torch.view_as_real(self.analyse(eeg)).square().sum(-1)

    def synthesise(self, spectra: Tensor) -> Tensor:
        """Return EEG: complex (B, n_chans, n_windows + 2, n_freqs) to (B, n_chans, n_times).

        The spectra are those of windows centred on each half-second, and of one more before the
        first and after the last, without which the outermost samples would fade out.
        """
        full = F.pad(spectra, (self.lowest, self.length // 2 - self.highest))
        windows = torch.fft.irfft(full, n=self.length) * self.window
        n_batch, n_chans, n_windows, _ = windows.shape
        n_times = (n_windows - 1) * WINDOW + self.length
        summed = F.fold(
            windows.flatten(0, 1).transpose(1, 2),
            (1, n_times),
            (1, self.length),
            stride=(1, WINDOW),
        ).view(n_batch, n_chans, n_times)
        margin = WINDOW + (self.length - WINDOW) // 2
        return summed[..., margin:-margin]

    def _leakage(self) -> Tensor:
        """Return how power at each frequency spreads when what is synthesised is analysed again.

        The spectra of windows are drawn independently of each other. Overlap-add then multiplies
        the autocovariance at lag τ by the window's own autocorrelation at τ, and so does analysis.

        Returns
        -------
        Tensor, (n_freqs, n_freqs)
            From the power that is drawn (columns) to that which is analysed; rows sum to one.
        """
        n = self.length
        lags = torch.arange(1 - n, n)
        own = F.conv1d(self.window[None, None], self.window[None, None], padding=n - 1)[0, 0]
        phase = 2 * math.pi * self.freqs[:, None] * lags / n
        spread = (torch.cos(phase) * (own / own.max()) ** 2) @ torch.cos(phase).T
        spread = spread.clamp_min(0)
        return spread / spread.sum(1, keepdim=True)


class LogPower(nn.Module):
    """Log power of seconds of EEG in overlapping bands, which says nothing of phase.

    Like differential entropy it is ½ ln of a power, but of one second alone, where DE's filters
    remember the seconds before and after. Powers are the mean over orthogonal sine tapers (Riedel &
    Sidorenko, IEEE Transactions on Signal Processing 43, 1995): as steady as all of the second's
    samples allow, where a single window throws some away, and nearly free of what lies outside a
    band; there is much above the bands of EEG that is none.

    Parameters
    ----------
    n_filters : int
        Bands, Gaussian, their centres spaced evenly in log frequency.
    lowest, highest : float
        Hz of the first and the last centre.
    width : float
        Standard deviation of a band in Hz.
    n_tapers : int
        Each more makes powers steadier, and spreads them over ½ Hz more to both sides.
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
        order = torch.arange(1, n_tapers + 1)[:, None]
        time = torch.arange(1, FRAME + 1)
        tapers = (2 / (FRAME + 1)) ** 0.5 * torch.sin(math.pi * order * time / (FRAME + 1))
        # Scaled such that the sum over frequencies of the mean over tapers is the variance, in µV².
        tapers = tapers * (2 / (FRAME * n_tapers)) ** 0.5
        freqs = torch.fft.rfftfreq(FRAME, 1 / SFREQ)
        centres = torch.linspace(math.log(lowest), math.log(highest), n_filters).exp()
        bands = -0.5 * ((freqs - centres[:, None]) / width) ** 2
        bands[:, (freqs < 3) | (freqs > 46)] = -torch.inf
        self.register_buffer("tapers", tapers, persistent=False)
        self.register_buffer("bands", bands.softmax(1), persistent=False)

    @float32
    def forward(self, eeg: Tensor) -> Tensor:
        """Map EEG in µV, (..., n_times), to nats, (..., n_seconds, n_filters).

        Of EEG longer than a second, seconds are taken every half-second.
        """
        seconds = eeg.unfold(-1, FRAME, WINDOW)
        power = torch.fft.rfft(seconds[..., None, :] * self.tapers).abs().square().sum(-2)
        return 0.5 * (power @ self.bands.T + _QUIET).log()


class Coherence(nn.Module):
    """Predicts how electrodes are correlated, from how their DE rises and falls together.

    Two electrodes that see the same source get louder at the same moments, so that the correlation
    over time of their DE tells of the correlation of their signals, which DE itself does not hold.
    Correlation matrices are exponentials of symmetric matrices, scaled to a diagonal of one, hence
    positive definite whatever the network says.

    Parameters
    ----------
    n_chans, n_bands : int
        Electrodes and bands of the DE.
    n_out : int
        Correlation matrices per trial, one per knot of frequency.
    n_hidden : int
        Units between co-fluctuation and matrix.
    n_embedding : int
        What is learnt of each pair of electrodes, whatever the trial.
    """

    def __init__(
        self, n_chans: int, n_bands: int, n_out: int, n_hidden: int = 64, n_embedding: int = 6
    ):
        super().__init__()
        self.register_buffer("pairs", torch.triu_indices(n_chans, n_chans, 1), persistent=False)
        n_pairs, n_features = self.pairs.shape[1], 4 * n_bands
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("std", torch.ones(n_features))
        self.intercept = nn.Parameter(torch.zeros(n_out, n_chans, n_chans))
        self.embedding = nn.Parameter(0.3 * torch.randn(n_pairs, n_embedding))
        self.linear = nn.Linear(n_features, n_out, bias=False)
        self.hidden = nn.Linear(n_features + n_embedding, n_hidden)
        self.out = nn.Linear(n_hidden, n_out)
        self.strength = nn.Parameter(torch.ones(n_out))
        for start_at_zero in (self.linear.weight, self.out.weight, self.out.bias):
            nn.init.zeros_(start_at_zero)

    def features(self, de: Tensor) -> Tensor:
        """Return what is known of each pair of electrodes.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            DE in nats.

        Returns
        -------
        Tensor, (B, n_pairs, 4 · n_bands)
            Fisher's z of the correlation over windows of DE, and of its steps, per band; and the
            means of these over all pairs.
        """
        z = [self._co_fluctuation(x)[..., *self.pairs] for x in (de, de.diff(dim=2))]
        z = torch.cat(z, dim=1).clamp(-0.99, 0.99).atanh()
        return torch.cat([z, z.mean(-1, keepdim=True).expand_as(z)], dim=1).transpose(1, 2)

    def forward(self, de: Tensor) -> Tensor:
        """Return symmetric matrices whose exponential is meant.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            DE in nats.

        Returns
        -------
        Tensor, (B, n_out, n_chans, n_chans)
        """
        x = (self.features(de) - self.mean) / self.std
        pair = torch.cat([x, self.embedding.expand(len(x), -1, -1)], dim=-1)
        values = (self.linear(x) + self.out(F.gelu(self.hidden(pair)))).transpose(1, 2)
        upper = torch.zeros(*values.shape[:2], *self.intercept.shape[1:], device=de.device)
        upper[..., *self.pairs] = values
        usual = (self.intercept + self.intercept.mT) / 2
        return (usual + upper + upper.mT) * self.strength[:, None, None]

    @staticmethod
    def _co_fluctuation(x: Tensor) -> Tensor:
        """Correlate electrodes over windows: (B, bands, windows, chans) to (..., chans, chans)."""
        x = F.normalize(x - x.mean(2, keepdim=True), dim=2)
        return x.mT @ x


def correlation_root(exponent: Tensor) -> Tensor:
    """Return R with R Rᴴ = exp(2S) scaled to a diagonal of one, for Hermitian S (..., n, n)."""
    return F.normalize(matrix_exponential(exponent), dim=-1)


def matrix_exponential(x: Tensor) -> Tensor:
    """Return exp(x) of matrices (..., n, n) with a norm of up to 4, to 1e-6.

    By its Taylor series of degree 6 at x / 16, squared four times. `torch.matrix_exp` looks at the
    norm to choose a degree, for which it would wait for a GPU, and is slower.
    """
    x = x / 16
    x2 = x @ x
    x3 = x2 @ x
    one = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    y = one + x + x2 / 2 + x3 @ (one / 6 + x / 24 + x2 / 120 + x3 / 720)
    for _ in range(4):
        y = y @ y
    return y


def half_log(correlation: Tensor) -> Tensor:
    """Return S with exp(2S) = `correlation`, Hermitian (..., n, n).

    Cleaned EEG has fewer sources than electrodes: eigenvalues are taken to be 0.02 at least.
    """
    values, vectors = torch.linalg.eigh(correlation)
    logarithms = 0.5 * values.clamp_min(0.02).log()
    return (vectors * logarithms[..., None, :].to(vectors.dtype)) @ vectors.mH


def interpolation(knots: Tensor, freqs: Tensor) -> Tensor:
    """Return the matrix (n_freqs, n_knots) of linear interpolation, constant beyond the knots."""
    after = torch.searchsorted(knots, freqs).clamp(1, len(knots) - 1)
    share = ((freqs - knots[after - 1]) / (knots[after] - knots[after - 1])).clamp(0, 1)
    rows = torch.arange(len(freqs))
    matrix = torch.zeros(len(freqs), len(knots))
    matrix[rows, after - 1] = 1 - share
    matrix[rows, after] = share
    return matrix
