"""Our generator: a Gaussian process in time and frequency, with the DE that is wanted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from de3dgan.base.errors import UserError
from de3dgan.eeg.montage import DEAP_CHANNELS, Grid
from de3dgan.eeg.sampling import SFREQ, WINDOW
from de3dgan.models.blocks import ElectrodeGrid, UNet3d, float32
from de3dgan.models.constraint import DEConstraint, SharedConstraint
from de3dgan.models.recordings import Recordings, interpolation, mean_power, skewed
from de3dgan.models.spectra import STFT

#: Hz between which log amplitudes are interpolated: dense around the alpha peak, and where power
#: lines and low-pass filters are.
_AMPLITUDE_KNOTS = (*range(1, 15), 16, 18, 20, 23, 26, 30, 35, 40, 44, 46, 48, 50, 52, 56, 60)
#: Deviation of DE in nats below which there is but rounding, not to be scaled.
_CONSTANT = 1e-3
#: DE windows over which DE is smoothed: 4.5 s.
_SMOOTH = 9
#: Trials whose spectra `init_closed_form` computes at a time.
_START_BATCH = 8


class SpectralGenerator(nn.Module):
    """A generator that draws EEG from a Gaussian process which depends on DE.

    Two things make the process:

    - A U-Net predicts the power spectra of the electrodes in each DE window, linear in DE plus a
      correction. It is trained by their likelihood.
    - What DE does not tell comes from a training recording, drawn by chance (`Recordings`): how its
      spectra differ from those predicted for it, the coherency of its electrodes, and the
      directions between them that it lacks.

    White noise is given these cross-spectra over the whole trial, so that waves go on for as long
    as theirs. Then it is changed until EEG has the DE that is wanted, and the cross-spectra still
    (`de3dgan.models.constraint.SharedConstraint`).

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
    n_recordings : int
        Training recordings that EEG takes after, one at a time.
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
        widths: Sequence[int] = (8, 16, 32, 64),
        n_positions: int = 4,
        n_recordings: int = 40,
        grid: Grid | Mapping[str, Any] | None = None,
    ):
        super().__init__()
        grid = Grid.of(grid, ch_names)
        self.arguments = {
            "ch_names": list(ch_names),
            "n_bands": n_bands,
            "widths": list(widths),
            "n_positions": n_positions,
            "n_recordings": n_recordings,
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
        self.constraint = SharedConstraint()
        self.gains = DEConstraint()
        self.recordings = Recordings(n_recordings, n_chans)
        knots = torch.tensor(_AMPLITUDE_KNOTS, dtype=torch.float32)
        matrix = interpolation(knots, self.stft.freqs)
        self.register_buffer("from_knots", matrix, persistent=False)
        matrix = interpolation(self.stft.freqs, torch.tensor(self.recordings.freqs))
        self.register_buffer("to_finer", matrix, persistent=False)
        # No batch normalisation: a batch is a few trials, and its statistics those of a few people.
        self.n_maps = 3 * n_bands + n_positions
        self.unet = UNet3d(
            self.n_maps, widths, lambda n: nn.GroupNorm(math.gcd(8, n), n), grid.shape
        )
        self.position = nn.Parameter(0.5 * torch.randn(n_positions, n_chans))
        self.residual = nn.Linear(widths[0], n_knots)
        self.linear = nn.Linear(3 * n_bands, n_knots, bias=False)
        self.intercept = nn.Parameter(torch.zeros(n_chans, n_knots))
        self.register_buffer("mean", torch.zeros(n_bands))
        self.register_buffer("std", torch.ones(n_bands))
        for parameter in (self.residual.weight, self.residual.bias, self.linear.weight):
            nn.init.zeros_(parameter)
        self.unet.to(memory_format=torch.channels_last_3d)

    def log_amplitudes(self, de: Tensor) -> Tensor:
        """Return the expected log amplitudes of short-time spectra, see `STFT.analyse`.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            Absolute DE in nats; n_windows a multiple of 8.

        Returns
        -------
        Tensor, (B, n_chans, n_windows, n_freqs)
        """
        x = self.time_scales(de).movedim(1, -1)  # (B, n_windows, n_chans, n_maps)
        maps = torch.cat([x, self.position.T.expand(*x.shape[:-1], -1)], dim=-1)
        maps = self.unet(self.grid.scatter_maps(maps).movedim(-1, 1))
        return self._amplitudes_from(self.grid.gather_maps(maps.movedim(1, -1)).float(), x)

    @float32
    def _amplitudes_from(self, maps: Tensor, x: Tensor) -> Tensor:
        knots = self.residual(maps) + self.linear(x) + self.intercept
        return (knots @ self.from_knots.T).transpose(1, 2)

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

    def noise_shape(self, n_windows: int) -> tuple[int, ...]:
        """Return the shape of the noise that EEG of `n_windows` DE windows is drawn from."""
        return (len(self.grid.cells) + 1, n_windows * WINDOW // 2 + 1, 2)

    def taking_after(self, rows: ArrayLike, noise: Tensor) -> Tensor:
        """Return noise (B, ...) with which EEG takes after given recordings, by their rows (B,)."""
        rows = torch.as_tensor(rows, device=noise.device)
        noise = noise.clone()
        noise[:, -1, 0, 0] = torch.special.ndtri((rows + 0.5) / len(self.recordings))
        return noise

    def forward(self, de: Tensor, noise: Tensor, n_passes: int = 20) -> Tensor:
        """Return EEG with the DE that is given.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            Absolute DE in nats; n_windows a multiple of 8.
        noise : Tensor, (B, ...)
            Standard normal, each as `noise_shape` says; another one gives other EEG with the same
            DE. The last row chooses the recording that EEG takes after.
        n_passes : int
            Steps towards the DE.

        Returns
        -------
        Tensor, (B, n_chans, n_windows · 64)
            In µV.
        """
        return self._draw(self._levels(self.log_amplitudes(de)), noise, de, n_passes)

    @float32
    def _levels(self, log_amplitudes: Tensor) -> Tensor:
        """Return the log amplitudes of trials at the frequencies of recordings."""
        n_windows = log_amplitudes.shape[2]
        levels = 0.5 * (torch.logsumexp(2 * log_amplitudes, dim=2) - math.log(n_windows))
        return levels @ self.to_finer.T

    @float32
    def _draw(self, levels: Tensor, noise: Tensor, de: Tensor, n_passes: int) -> Tensor:
        chance, noise = noise[:, -1], torch.view_as_complex(noise[:, :-1].contiguous())
        n_times = 2 * (noise.shape[-1] - 1)
        recording, roots, ranges, skewness = self.recordings.draw(chance[:, 0, 0])
        levels = self.recordings.fitted(levels + recording, roots, ranges, mean_power(de))
        spectra = self.recordings.spectra(levels, roots, ranges, chance[..., 1])
        # Of complex noise the power is the sum of those of its two parts.
        spectrum = (SFREQ / 4 * n_times) ** 0.5 * spectra.coloured(noise)
        eeg = torch.fft.irfft(spectrum, n=n_times)
        eeg = eeg + self._within(ranges, skewed(self.constraint.bands(eeg).sum(1), skewness))
        eeg = self.constraint(eeg, de, spectra, n_passes)
        # The rest is made up for by gains of electrodes, but for what they give weak directions.
        return eeg + self._within(ranges, self.gains(eeg, de, 2) - eeg)

    def _within(self, ranges: Tensor, eeg: Tensor) -> Tensor:
        """Return EEG (B, n_chans, n_times) with weak directions, see `Recordings.ranges`."""
        bands = self.constraint.bands(eeg)
        rest = eeg - bands.sum(1)
        return (ranges @ torch.cat([bands, rest[:, None]], dim=1)).sum(1)

    def log_likelihood(self, de: Tensor, eeg: Tensor) -> Tensor:
        """Return the Whittle likelihood of the spectra of EEG, given its DE.

        It takes the Fourier coefficients of short windows for independent and Gaussian. Electrodes
        are taken one by one (a composite likelihood; Varin, Reid & Firth, Statistica Sinica 2011):
        cleaned EEG has fewer sources than electrodes, and the likelihood of all electrodes at once
        is then decided by directions without signal.

        Parameters
        ----------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            Absolute DE in nats.
        eeg : Tensor, (B, n_chans, n_times)
            In µV.

        Returns
        -------
        Tensor, scalar
            Mean log likelihood of a coefficient.
        """
        return self._likelihood(self.log_amplitudes(de), eeg)

    @float32
    def _likelihood(self, log_amplitudes: Tensor, eeg: Tensor) -> Tensor:
        log_power = 2 * log_amplitudes
        return -(log_power + self._power(eeg) * (-log_power).exp()).mean()

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

        # The logarithm of the power of one window lies 0.577 below that of the expected power.
        to_knots = torch.linalg.pinv(self.from_knots)
        y = []
        for some in eeg.split(_START_BATCH):
            level = 0.5 * (self._power(some).log() + 0.5772)
            y.append((level @ to_knots.T).permute(1, 0, 2, 3).flatten(1, 2))
        y = torch.cat(y, dim=1)  # (n_chans, n, n_knots)
        x = self.time_scales(de).permute(3, 0, 2, 1).flatten(1, 2)  # (n_chans, n, n_features)
        x_mean, y_mean = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
        x, y = (x - x_mean).flatten(0, 1), (y - y_mean).flatten(0, 1)
        ridge = 1e-3 * len(x) * torch.eye(x.shape[1], device=x.device)
        weight = torch.linalg.solve(x.T @ x + ridge, x.T @ y)
        self.linear.weight.copy_(weight.T)
        self.intercept.copy_((y_mean - x_mean @ weight)[:, 0])

    @torch.no_grad()
    def remember(self, recordings: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Keep what recordings show beyond what is predicted for them, to be drawn from.

        To be called once the generator is trained.

        Parameters
        ----------
        recordings : iterable of (de, eeg)
            Of each, one or more pieces: absolute DE in nats, (n, n_bands, n_windows, n_chans), and
            EEG in µV, (n, n_chans, n_times).
        """
        predicted = []

        def described() -> Iterator[tuple[Tensor, Tensor]]:
            for de, eeg in recordings:
                predicted.append(self._levels(self.log_amplitudes(de)).mean(0))
                yield eeg, torch.cat([self.constraint.bands(piece) for piece in eeg.split(1)])

        self.recordings.keep(described())
        for row in range(len(self.recordings)):
            self.recordings.levels[row] -= predicted[row % len(predicted)]

    def _power(self, eeg: Tensor) -> Tensor:
        """Return the power spectra of windows, (B, n_chans, n_windows, n_freqs), never 0."""
        power = self.stft.power(eeg)
        return 0.99 * power + 0.01 * power.mean(2, keepdim=True) + 1e-12
