"""Our generator: a Gaussian process in time and frequency, with the DE that is wanted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from de3dgan.base.errors import UserError
from de3dgan.eeg.montage import DEAP_CHANNELS, Grid
from models.blocks import ElectrodeGrid, UNet3d, float32
from models.coherence import Coherence, correlation_root, half_log
from models.constraint import DEConstraint
from models.spectra import STFT

#: Hz between which log amplitudes are interpolated: dense around the alpha peak, and where power
#: lines and low-pass filters are.
_AMPLITUDE_KNOTS = (*range(1, 15), 16, 18, 20, 23, 26, 30, 35, 40, 44, 46, 48, 50, 52, 56, 60)
#: Hz between which correlations of electrodes are interpolated.
_COHERENCE_KNOTS = (2, 5, 7, 9, 10, 11, 13, 16, 20, 26, 32, 38, 44, 50)
#: Deviation, of DE in nats and of Fisher's z, below which there is but rounding, not to be scaled.
_CONSTANT = 1e-3
#: DE windows over which DE is smoothed: 4.5 s.
_SMOOTH = 9
#: Trials whose spectra `init_closed_form` computes at a time.
_START_BATCH = 8


class SpectralGenerator(nn.Module):
    """A generator that draws EEG from a Gaussian process which depends on DE.

    The DE itself is imposed at the end (`models.constraint.DEConstraint`), so that only what DE
    does not determine has to be learnt. In each DE window the short-time spectrum of the electrodes
    is modelled as ``x(f) = g(f) · R(f) n`` with complex white noise n:

    - g are amplitudes per electrode and window, linear in DE plus a correction by the U-Net.
    - R Rᴴ is the coherency between electrodes, one matrix per frequency and trial. Its real part is
      predicted from the correlations of DE over time (`models.coherence.Coherence`). Its imaginary
      part, which says which electrode leads, is that of the mean over training trials.

    Parameters
    ----------
    ch_names : sequence of str, length n_chans
        Electrodes of the DE and of the EEG.
    n_bands : int
        Frequency bands of the DE.
    widths : sequence of int, length 4
        Feature maps of the U-Net at each depth.
    n_positions : int
        Maps that the U-Net is given beside DE: a vector learnt for each electrode, so that the
        network knows where it is.
    grid : Grid or dict, optional
        Where the electrodes are, see `de3dgan.eeg.montage`; by default, on the paper's 8x9 grid.

    Raises
    ------
    UserError
        If there is a single electrode, which is correlated with no other.
    """

    def __init__(
        self,
        ch_names: Sequence[str] = DEAP_CHANNELS,
        n_bands: int = 4,
        widths: Sequence[int] = (16, 32, 64, 128),
        n_positions: int = 4,
        grid: Grid | Mapping[str, Any] | None = None,
    ):
        super().__init__()
        grid = Grid.of(grid, ch_names)
        self.arguments = {
            "ch_names": list(ch_names),
            "n_bands": n_bands,
            "widths": list(widths),
            "n_positions": n_positions,
            "grid": grid.content(),
        }
        n_chans, n_knots = len(ch_names), len(_AMPLITUDE_KNOTS)
        if n_chans < 2:
            raise UserError(
                f"The generator learns how electrodes go together, and there is only "
                f"{', '.join(ch_names)}: give recordings of two or more, or --method published."
            )
        self.grid = ElectrodeGrid(grid)
        self.stft = STFT()
        self.constraint = DEConstraint()
        freqs = self.stft.freqs
        for name, knots in (("amplitude", _AMPLITUDE_KNOTS), ("coherence", _COHERENCE_KNOTS)):
            matrix = interpolation(torch.tensor(knots, dtype=torch.float32), freqs)
            self.register_buffer(f"from_{name}_knots", matrix, persistent=False)
        # No batch normalisation: a batch is a few trials, and its statistics those of a few people.
        self.n_maps = 3 * n_bands + n_positions
        self.unet = UNet3d(
            self.n_maps, widths, lambda n: nn.GroupNorm(math.gcd(8, n), n), grid.shape
        )
        self.position = nn.Parameter(0.5 * torch.randn(n_positions, n_chans))
        self.residual = nn.Linear(widths[0], n_knots)
        self.linear = nn.Linear(3 * n_bands, n_knots, bias=False)
        self.intercept = nn.Parameter(torch.zeros(n_chans, n_knots))
        self.coherence = Coherence(n_chans, n_bands, len(_COHERENCE_KNOTS))
        self.register_buffer("lags", torch.zeros(len(_COHERENCE_KNOTS), n_chans, n_chans))
        self.register_buffer("mean", torch.zeros(n_bands))
        self.register_buffer("std", torch.ones(n_bands))
        for parameter in (self.residual.weight, self.residual.bias, self.linear.weight):
            nn.init.zeros_(parameter)
        self.to(memory_format=torch.channels_last_3d)

    def log_amplitudes(self, de: Tensor) -> Tensor:
        """Return the log amplitudes of the spectra that are drawn.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            Absolute DE in nats; n_windows a multiple of 8.

        Returns
        -------
        Tensor, (B, n_chans, n_windows, n_freqs)
        """
        x = self.time_scales(de)
        position = self.position[None, :, None].expand(len(x), -1, x.shape[2], -1)
        maps = self.unet(self.grid.scatter(torch.cat([x, position], dim=1)))
        return self._amplitudes_from(self.grid.gather(maps).float(), x)

    @float32
    def _amplitudes_from(self, maps: Tensor, x: Tensor) -> Tensor:
        learnt = self.residual(maps.permute(0, 3, 2, 1))
        knots = learnt + self.linear(x.permute(0, 3, 2, 1)) + self.intercept[:, None]
        return knots @ self.from_amplitude_knots.T

    def time_scales(self, de: Tensor) -> Tensor:
        """Split normalised DE by time scale: windows, seconds, and the trial's mean.

        A window's DE is a noisy measure of power, the trial's mean a good one. Kept apart, each
        gets a weight of its own.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans)

        Returns
        -------
        Tensor, (B, 3 · n_bands, n_windows, n_chans)
        """
        x = (de - self.mean[:, None, None]) / self.std[:, None, None]
        trial = x.mean(2, keepdim=True).expand_as(x)
        margin = _SMOOTH // 2
        smooth = F.pad(x, (0, 0, margin, margin), mode="replicate")
        smooth = F.avg_pool2d(smooth, (_SMOOTH, 1), 1)
        return torch.cat([x - smooth, smooth - trial, trial], dim=1)

    @float32
    def correlation_roots(self, de: Tensor) -> Tensor:
        """Return R of each frequency without the imaginary part, (B, n_freqs, n_chans, n_chans)."""
        return correlation_root(self._exponents(de))

    @float32
    def coherency_roots(self, de: Tensor) -> Tensor:
        """Return R of each frequency, complex (B, n_freqs, n_chans, n_chans)."""
        exponents = self._exponents(de)
        lags = torch.einsum("kcd,fk->fcd", self.lags, self.from_coherence_knots)
        return correlation_root(torch.complex(exponents, lags.expand_as(exponents)))

    def _exponents(self, de: Tensor) -> Tensor:
        return torch.einsum("bkcd,fk->bfcd", self.coherence(de), self.from_coherence_knots)

    def noise_shape(self, n_windows: int) -> tuple[int, ...]:
        """Return the shape of the noise that EEG of `n_windows` DE windows is drawn from."""
        return (len(self.grid.cells), n_windows + 2, len(self.stft.freqs), 2)

    def forward(self, de: Tensor, noise: Tensor, n_passes: int = 5) -> Tensor:
        """Return EEG with the DE that is given.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            Absolute DE in nats; n_windows a multiple of 8.
        noise : Tensor, (B, *noise_shape(n_windows))
            Standard normal; another one gives other EEG with the same DE.
        n_passes : int
            Passes of the DE constraint.

        Returns
        -------
        Tensor, (B, n_chans, n_windows · 64)
            In µV.
        """
        return self._draw(self.log_amplitudes(de), self.coherency_roots(de), noise, de, n_passes)

    @float32
    def _draw(
        self, log_amplitudes: Tensor, roots: Tensor, noise: Tensor, de: Tensor, n_passes: int
    ) -> Tensor:
        # Noise windows are independent of each other, so that half of their power is lost in
        # overlap-add; and the power of complex noise is the sum of those of its two parts.
        mixed = torch.einsum("bfcd,bdwf->bcwf", roots, torch.view_as_complex(noise))
        # One window more at each end, as loud as the outermost.
        amplitude = log_amplitudes.exp()
        amplitude = torch.cat([amplitude[:, :, :1], amplitude, amplitude[:, :, -1:]], dim=2)
        return self.constraint(self.stft.synthesise(mixed * amplitude), de, n_passes)

    def log_likelihood(self, de: Tensor, eeg: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two parts of the composite likelihood of EEG, given its DE.

        The Whittle likelihood takes the Fourier coefficients of short windows for independent and
        Gaussian. Cleaned EEG has fewer independent sources than electrodes, and the likelihood of
        all electrodes at once is then decided by directions without signal. The composite one
        (Varin, Reid & Firth, Statistica Sinica 2011) multiplies those of single electrodes and of
        pairs instead.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            Absolute DE in nats.
        eeg : Tensor, (B, n_chans, n_times)
            In µV.

        Returns
        -------
        amplitude : Tensor, scalar
            Mean log likelihood of a coefficient.
        coherence : Tensor, scalar
            Mean gain in log likelihood of a pair of coefficients by their correlation.
        """
        return (
            self._amplitude_likelihood(self.log_amplitudes(de), eeg),
            self._coherence_likelihood(self.correlation_roots(de), eeg),
        )

    @float32
    def _amplitude_likelihood(self, log_amplitudes: Tensor, eeg: Tensor) -> Tensor:
        power = self._power(eeg)
        expected = (2 * log_amplitudes).exp() @ self.stft.leakage.T
        return -(expected.log() + power / expected).mean()

    @float32
    def _coherence_likelihood(self, roots: Tensor, eeg: Tensor) -> Tensor:
        row, column = self.coherence.pairs
        # Short of ±1, where electrodes would have to be the same.
        predicted = 0.99 * (roots @ roots.mT)[..., row, column]
        found = self.correlations(eeg)[..., row, column]
        loss = (1 - predicted**2).log() + 2 * (1 - predicted * found) / (1 - predicted**2) - 2
        # Only where DE has bands does it tell of correlations.
        lowest = self.stft.lowest
        return -loss[:, 4 - lowest : 46 - lowest + 1].mean()

    def correlations(self, eeg: Tensor) -> Tensor:
        """Return the correlations between electrodes at each frequency, over a trial's windows.

        Parameters
        ----------
        eeg : Tensor, (B, n_chans, n_times)

        Returns
        -------
        Tensor, (B, n_freqs, n_chans, n_chans)
            Real parts of the coherency.
        """
        return self._coherency(eeg).real

    def _coherency(self, eeg: Tensor) -> Tensor:
        x = self.stft.analyse(eeg)
        power = torch.view_as_real(x).square().sum((2, 4))[:, :, None]
        x = (x * power.clamp_min(1e-24).rsqrt()).permute(0, 3, 1, 2)
        return x @ x.mH

    @torch.no_grad()
    def init_closed_form(self, de: Tensor, eeg: Tensor) -> None:
        """Set from trials all that has a closed form: intercepts, and what is linear in DE.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            Absolute DE in nats.
        eeg : Tensor, (B, n_chans, n_times)
            In µV.

        Raises
        ------
        UserError
            If they are not finite.
        """
        if not (de.isfinite().all() and eeg.isfinite().all()):
            raise UserError(
                "The EEG that the generator is to start from is not finite (NaN or infinity): make "
                "the features anew with preprocess_de.py."
            )
        self.mean.copy_(de.mean((0, 2, 3)))
        std = de.std((0, 2, 3))
        self.std.copy_(torch.where(std > _CONSTANT, std, 1))
        features = self.coherence.features(de)
        self.coherence.mean.copy_(features.mean((0, 1)))
        std = features.std((0, 1))
        self.coherence.std.copy_(torch.where(std > _CONSTANT, std + 1e-6, 1))

        # The logarithm of the power of one window lies 0.577 below that of the expected power.
        to_knots = torch.linalg.pinv(self.from_amplitude_knots)
        y, coherency = [], 0
        for some in eeg.split(_START_BATCH):
            level = 0.5 * (self._power(some).log() + 0.5772)
            y.append((level @ to_knots.T).permute(1, 0, 2, 3).flatten(1, 2))
            coherency = coherency + self._coherency(some).sum(0) / len(eeg)
        y = torch.cat(y, dim=1)  # (n_chans, n, n_knots)
        x = self.time_scales(de).permute(3, 0, 2, 1).flatten(1, 2)  # (n_chans, n, n_features)
        x_mean, y_mean = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
        x, y = (x - x_mean).flatten(0, 1), (y - y_mean).flatten(0, 1)
        ridge = 1e-3 * len(x) * torch.eye(x.shape[1], device=x.device)
        weight = torch.linalg.solve(x.T @ x + ridge, x.T @ y)
        self.linear.weight.copy_(weight.T)
        self.intercept.copy_((y_mean - x_mean @ weight)[:, 0])

        to_knots = torch.linalg.pinv(self.from_coherence_knots)
        self.coherence.intercept.copy_(
            torch.einsum("kf,fcd->kcd", to_knots, half_log(coherency.real))
        )
        lags = torch.einsum("kf,fcd->kcd", to_knots, half_log(coherency).imag)
        self.lags.copy_((lags - lags.mT) / 2)

    @torch.no_grad()
    def make_softer(self, by: Tensor) -> None:
        """Lower the log amplitudes by (n_freqs,) nats, the same for all electrodes."""
        self.intercept -= torch.linalg.pinv(self.from_amplitude_knots) @ by

    def _power(self, eeg: Tensor) -> Tensor:
        """Return the power spectra of windows, (B, n_chans, n_windows, n_freqs), never 0."""
        power = self.stft.power(eeg)
        return 0.99 * power + 0.01 * power.mean(2, keepdim=True) + 1e-12


def interpolation(knots: Tensor, freqs: Tensor) -> Tensor:
    """Return the matrix (n_freqs, n_knots) of linear interpolation, constant beyond the knots."""
    after = torch.searchsorted(knots, freqs).clamp(1, len(knots) - 1)
    share = ((freqs - knots[after - 1]) / (knots[after] - knots[after - 1])).clamp(0, 1)
    rows = torch.arange(len(freqs))
    matrix = torch.zeros(len(freqs), len(knots))
    matrix[rows, after - 1] = 1 - share
    matrix[rows, after] = share
    return matrix
