"""The DE constraint: EEG is given the differential entropy that is wanted, differentiably."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from de3dgan.eeg.de import EDGE, edge_maps, fft_length, power_responses
from de3dgan.eeg.sampling import WINDOW

#: Power (µV²) that stands for silence, which has no logarithm.
_SILENCE = 1e-12
#: What is added to the curvature before steps are taken: steps are the shorter for it, and safe.
_DAMPING = 1.0
#: Share of a step that the next one goes on with.
_MOMENTUM = 0.6
#: Nats that a step changes DE by, at most.
_LONGEST = 1.0


class DEConstraint(nn.Module):
    """Gives EEG a wanted differential entropy by changing the amplitude of its bands in time.

    EEG is split into bands by the zero-phase filters of `de3dgan.eeg.de`. Each band is multiplied
    by a gain, which is interpolated linearly between the centres of windows, so that there are no
    seams. What is in no band stays as it is. Bands overlap and gains change within windows, so that
    one pass does not reach the DE exactly: passes are repeated. All of it is differentiable.
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


class SharedConstraint(DEConstraint):
    """Gives EEG a wanted DE, and leaves what electrodes have in common as it is.

    Gains of single electrodes give power to directions between electrodes that a recording lacks,
    and pull apart what belongs together. So EEG is taken to be white noise with given cross-spectra
    S(f), and it is the *noise* that changes: as little as will do, by damped Gauss-Newton steps
    with momentum. In a step, EEG changes by ``S(f) Σ H_b(f) [u_b x_b](f)``: the band-passed EEG
    times what is wanted, u, of each window, made to look like such EEG again. Whatever S(f) lacks
    is never there.
    """

    def forward(self, eeg: Tensor, de: Tensor, spectra: Tensor, n_passes: int = 24) -> Tensor:
        """Return `eeg` with the DE `de`, nearly.

        Parameters
        ----------
        eeg : Tensor, (B, n_chans, n_windows · WINDOW)
            In µV; 10 s or more.
        de : Tensor, (B, n_bands, n_windows, n_chans)
            Absolute DE in nats.
        spectra : Tensor, complex (B, n_times // 2 + 1, n_chans, n_chans)
            Cross-spectra that EEG was drawn from; their scale does not matter.
        n_passes : int
            Steps.

        Returns
        -------
        Tensor, (B, n_chans, n_times)
            In µV.
        """
        n_times = eeg.shape[-1]
        response = _responses(n_times, eeg.dtype, eeg.device)
        inverse, weights = _curvature(spectra, response)
        step, rate = torch.zeros_like(eeg), eeg.new_ones(len(eeg), 1, 1)
        least = eeg.new_full((len(eeg), 1, 1), math.inf)
        for _ in range(n_passes):
            bands = self.bands(eeg)
            missing = de - windowed_de(bands)
            error = missing.detach().abs().mean((1, 2, 3))[:, None, None]
            rate = torch.where(error > least, 0.5 * rate, rate)  # it has gone too far
            least = torch.minimum(least, error)
            wanted = missing @ inverse.mT
            gain = between_windows(wanted.clamp(-_LONGEST, _LONGEST).mT)
            change = (weights * torch.fft.rfft(gain * bands).mT).sum(1)
            change = torch.fft.irfft((spectra @ change[..., None])[..., 0].mT, n=n_times)
            step = rate * (_MOMENTUM * step + change)
            eeg = eeg + step
        return eeg


def _curvature(spectra: Tensor, response: Tensor) -> tuple[Tensor, Tensor]:
    """Return what turns errors of DE into steps.

    Stationary EEG with cross-spectra S has ``Σ_f S_cc H²`` of power in a band. A step u at
    electrode d moves the DE of c by ``Σ_f |S_cd|² H⁴`` over it.

    Returns
    -------
    inverse : Tensor, (B, n_bands, n_chans, n_chans)
        Of these movements, damped.
    weights : Tensor, (B, n_bands, n_freqs, n_chans)
        By which band-passed EEG is multiplied, so that u on its own moves DE by u.
    """
    square = response.square()
    density = spectra.diagonal(dim1=-2, dim2=-1).real
    power = (square @ density).clamp_min(_SILENCE)
    moved = torch.einsum("kf,bfcd->bkcd", square.square(), spectra.abs().square())
    own = (moved.diagonal(dim1=-2, dim2=-1) / power).clamp_min(_SILENCE)
    matrix = moved / power[..., None] / own[..., None, :]
    one = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return torch.linalg.inv(matrix + _DAMPING * one), response[:, :, None] / own[..., None, :]


@lru_cache(maxsize=8)
def _responses(n_times: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the power response of each band, (n_bands, n_times // 2 + 1)."""
    with torch.inference_mode(False):
        return torch.from_numpy(power_responses(n_times)).to(device, dtype)


@lru_cache(maxsize=8)
def _filters(
    n_times: int, dtype: torch.dtype, device: torch.device
) -> tuple[int, list[list[Tensor]]]:
    """Return the length of the Fourier transform, and the filter of each band.

    A filter is its power response, then the two factors of `edge_maps` for the start of a recording
    and the two for its end.
    """
    n_fft = fft_length(n_times + EDGE)
    with torch.inference_mode(False):
        return n_fft, [
            [torch.from_numpy(x).to(device, dtype) for x in (response, *start, *stop)]
            for response, (start, stop) in zip(power_responses(n_fft), edge_maps(), strict=True)
        ]


def windowed_de(bands: Tensor) -> Tensor:
    """Return the DE of windows, (..., n_chans, n_times) to (..., n_windows, n_chans), in nats.

    See `de3dgan.eeg.de.windowed_de`; silence has the DE of a millionth of a µV.
    """
    variance = bands.unflatten(-1, (-1, WINDOW)).var(-1).clamp_min(_SILENCE)
    return (0.5 * torch.log(2 * math.pi * math.e * variance)).transpose(-1, -2)


def between_windows(values: Tensor) -> Tensor:
    """Interpolate from the centres of windows to samples, constant beyond the outermost.

    (..., n_windows) to (..., n_windows · WINDOW).
    """
    flat = F.interpolate(
        values.flatten(0, -2)[:, None], scale_factor=WINDOW, mode="linear", align_corners=False
    )
    return flat[:, 0].unflatten(0, values.shape[:-1])
