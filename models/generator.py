"""The 3D U-Nets that turn differential entropy into EEG: the published one, and ours."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from de3dgan.base.errors import UserError
from de3dgan.eeg.montage import DEAP_CHANNELS
from models.blocks import ElectrodeGrid, UNet3d
from models.spectral import (
    STFT,
    Coherence,
    DEConstraint,
    correlation_root,
    float32,
    half_log,
    interpolation,
)

#: Hz between which log amplitudes are interpolated: dense where EEG has its alpha peak, and where
#: power lines and low-pass filters leave their marks.
_AMPLITUDE_KNOTS = (*range(1, 15), 16, 18, 20, 23, 26, 30, 35, 40, 44, 46, 48, 50, 52, 56, 60)
#: Hz between which correlations of electrodes are interpolated.
_COHERENCE_KNOTS = (2, 5, 7, 9, 10, 11, 13, 16, 20, 26, 32, 38, 44, 50)
#: Deviation, of DE in nats and of Fisher's z, below which there is but rounding, not to be scaled.
_CONSTANT = 1e-3
#: Windows over which DE is smoothed, 4.5 s.
_SMOOTH = 9
#: Trials whose spectra are looked at a time before training.
_START_BATCH = 8


class Generator(nn.Module):
    """The published generator: a U-Net over (time, row, column) from DE features to EEG.

    Parameters
    ----------
    ch_names : sequence of str, length n_chans
        Electrodes of the DE and of the EEG.
    n_bands : int
        Frequency bands of the DE.
    frame : int
        Samples per one-second frame.
    widths : sequence of int, length 4
        Feature maps at each depth; published: 32, 64, 128, 256.

    Notes
    -----
    There are two DE windows to a one-second frame. The paper's network applies its head to all 120
    half-seconds and then halves time by linear interpolation, which here is the mean of pairs. A
    1x1x1 head commutes with that mean, so the mean is taken first, at half the cost, and the head
    is applied to cells that hold an electrode only.
    """

    def __init__(
        self,
        ch_names: Sequence[str] = DEAP_CHANNELS,
        n_bands: int = 4,
        frame: int = 128,
        widths: Sequence[int] = (32, 64, 128, 256),
    ):
        super().__init__()
        self.arguments = {
            "ch_names": list(ch_names),
            "n_bands": n_bands,
            "frame": frame,
            "widths": list(widths),
        }
        self.grid = ElectrodeGrid(ch_names)
        self.unet = UNet3d(n_bands, widths)
        self.head = nn.Conv3d(widths[0], frame, 1)
        self.gain = nn.Parameter(torch.ones(()))
        self.to(memory_format=torch.channels_last_3d)

    def generate(self, de: Tensor) -> Tensor:
        """Return EEG as channels.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            Normalised DE; n_windows a multiple of 8, the U-Net's three halvings.

        Returns
        -------
        Tensor, (B, n_chans, n_windows / 2 · frame)
            Normalised EEG.
        """
        x = self.grid.gather(self.unet(self.grid.scatter(de)))
        x = x.unflatten(2, (-1, 2)).mean(3)
        x = self.head(x[..., None])[..., 0] * self.gain  # (B, frame, n_frames, n_chans)
        return x.permute(0, 3, 2, 1).flatten(2)

    def forward(self, de: Tensor) -> Tensor:
        """Return EEG as frames on the grid, exactly zero in empty cells.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans) or (B, n_bands, n_windows, 8, 9)
            Normalised DE.

        Returns
        -------
        Tensor, (B, n_windows / 2, frame, 8, 9)
            Normalised EEG.
        """
        de = self.grid.gather(de) if de.ndim == 5 else de
        eeg = self.generate(de).unflatten(2, (-1, self.head.out_channels))
        return self.grid.scatter(eeg.permute(0, 2, 3, 1))


class SpectralGenerator(nn.Module):
    """A generator that draws EEG from a Gaussian process which depends on DE.

    What DE says is a constraint here (`models.spectral.DEConstraint`), so that learning is left with what
    it does not say. In each half-second the short-time spectrum of the electrodes is modelled as
    ``x(f) = g(f) · R(f) n``, n complex white noise: amplitudes g per electrode and window, linear
    in DE but for what the U-Net adds, and coherency R Rᴴ between electrodes, one matrix for a
    trial: its real part from how their DE rises and falls together (`models.spectral.Coherence`),
    its imaginary part, which electrode leads and which follows, as it usually is.

    Parameters
    ----------
    ch_names : sequence of str, length n_chans
        Electrodes of the DE and of the EEG.
    n_bands : int
        Frequency bands of the DE.
    widths : sequence of int, length 4
        Feature maps of the U-Net at each depth.
    n_positions : int
        Maps that the U-Net is given beside DE, learnt per electrode: where it is.

    Raises
    ------
    UserError
        If there is a single electrode, which goes together with no other.
    """

    def __init__(
        self,
        ch_names: Sequence[str] = DEAP_CHANNELS,
        n_bands: int = 4,
        widths: Sequence[int] = (16, 32, 64, 128),
        n_positions: int = 4,
    ):
        super().__init__()
        self.arguments = {
            "ch_names": list(ch_names),
            "n_bands": n_bands,
            "widths": list(widths),
            "n_positions": n_positions,
        }
        n_chans, n_knots = len(ch_names), len(_AMPLITUDE_KNOTS)
        if n_chans < 2:
            raise UserError(
                f"The generator learns how electrodes go together, and there is only "
                f"{', '.join(ch_names)}: give recordings of two or more, or --method published."
            )
        self.grid = ElectrodeGrid(ch_names)
        self.stft = STFT()
        self.constraint = DEConstraint()
        freqs = self.stft.freqs
        for name, knots in (("amplitude", _AMPLITUDE_KNOTS), ("coherence", _COHERENCE_KNOTS)):
            matrix = interpolation(torch.tensor(knots, dtype=torch.float32), freqs)
            self.register_buffer(f"from_{name}_knots", matrix, persistent=False)
        # Batches are few trials of few people: their own statistics would be those of the people.
        self.n_maps = 3 * n_bands + n_positions
        self.unet = UNet3d(self.n_maps, widths, lambda n: nn.GroupNorm(math.gcd(8, n), n))
        self.position = nn.Parameter(0.5 * torch.randn(n_positions, n_chans))
        self.residual = nn.Linear(widths[0], n_knots)
        self.linear = nn.Linear(3 * n_bands, n_knots, bias=False)
        self.intercept = nn.Parameter(torch.zeros(n_chans, n_knots))
        self.coherence = Coherence(n_chans, n_bands, len(_COHERENCE_KNOTS))
        self.register_buffer("lags", torch.zeros(len(_COHERENCE_KNOTS), n_chans, n_chans))
        self.register_buffer("mean", torch.zeros(n_bands))
        self.register_buffer("std", torch.ones(n_bands))
        for start_at_zero in (self.residual.weight, self.residual.bias, self.linear.weight):
            nn.init.zeros_(start_at_zero)
        self.to(memory_format=torch.channels_last_3d)

    def log_amplitudes(self, de: Tensor) -> Tensor:
        """Return the log amplitudes that are drawn from.

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
        """Return normalised DE apart by time scale: windows, seconds, and the trial's mean.

        A window's DE is a noisy measure of power; that of the trial is a good one. Kept apart, each
        is trusted as much as it deserves.

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
        """Return R of each frequency without lags, (B, n_freqs, n_chans, n_chans)."""
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
        """Return the shape of the noise that EEG of `n_windows` half-seconds is drawn from."""
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
            Passes of the lock.

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
        wanted = 0.99 * (roots @ roots.mT)[..., row, column]
        found = self.correlations(eeg)[..., row, column]
        loss = (1 - wanted**2).log() + 2 * (1 - wanted * found) / (1 - wanted**2) - 2
        # Only where DE has bands does it tell of correlations.
        lowest = self.stft.lowest
        return -loss[:, 4 - lowest : 46 - lowest + 1].mean()

    def correlations(self, eeg: Tensor) -> Tensor:
        """Return how electrodes are correlated at each frequency, over the windows of a trial.

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
        """Set all that has a closed form from trials: what is usual, and what is linear in DE.

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
        co_fluctuation = self.coherence.features(de)
        self.coherence.mean.copy_(co_fluctuation.mean((0, 1)))
        std = co_fluctuation.std((0, 1))
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
        """Return the power spectra of windows, (B, n_chans, n_windows, n_freqs), in no case 0."""
        power = self.stft.power(eeg)
        return 0.99 * power + 0.01 * power.mean(2, keepdim=True) + 1e-12
