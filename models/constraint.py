"""The DE constraint: EEG is given the differential entropy that is wanted, differentiably."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from de3dgan.eeg.de import EDGE, edge_maps, fft_length, power_responses
from de3dgan.eeg.sampling import SFREQ, WINDOW
from de3dgan.models.cross_spectra import CrossSpectra

#: Power (µV²) that stands for silence, which has no logarithm.
_SILENCE = 1e-12
#: What is added to the curvature before steps are taken: steps are the shorter for it, and safe.
_DAMPING = 1.0
#: Of a step, the next one goes on with n / (n + 3) after n of them (Su, Boyd & Candès, Journal of
#: Machine Learning Research 17, 2016), and this at most.
_MOMENTUM = 0.7
#: Hz between frequencies at which cross-spectra are looked at, for how DE moves with steps.
_SPACING = 0.25
#: Nats that a step changes DE by, at most.
_LONGEST = 0.3


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
        n_fft, responses, edges = _filters(n_times, eeg.dtype, eeg.device)
        spectrum = torch.fft.rfft(eeg, n=n_fft)[..., None, :, :] * responses[:, None]
        bands = torch.fft.irfft(spectrum, n=n_fft)[..., :n_times]
        for band, (start, stop) in enumerate(edges):
            bands[..., band, :, :EDGE] += eeg[..., :EDGE] @ start[0] @ start[1]
            bands[..., band, :, -EDGE:] += eeg[..., -EDGE:] @ stop[0] @ stop[1]
        return bands

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
    with a momentum that grows, and starts anew where a step has gone too far (O'Donoghue & Candès,
    Foundations of Computational Mathematics 15, 2015). In a step, EEG changes by
    ``S(f) Σ H_b(f) [u_b x_b](f)``: the band-passed EEG times what is wanted, u, of each window,
    made to look like such EEG again. Whatever S(f) lacks is never there.
    """

    def forward(self, eeg: Tensor, de: Tensor, spectra: CrossSpectra, n_passes: int = 20) -> Tensor:
        """Return `eeg` with the DE `de`, nearly.

        Parameters
        ----------
        eeg : Tensor, (B, n_chans, n_windows · WINDOW)
            In µV; 10 s or more.
        de : Tensor, (B, n_bands, n_windows, n_chans)
            Absolute DE in nats.
        spectra : CrossSpectra
            That EEG was drawn from, at n_times // 2 + 1 frequencies; their scale does not matter.
        n_passes : int
            Steps.

        Returns
        -------
        Tensor, (B, n_chans, n_times)
            In µV.
        """
        n_times = eeg.shape[-1]
        responses = _responses(n_times, eeg.dtype, eeg.device)
        inverse, own = _curvature(spectra, responses)
        step, rate = torch.zeros_like(eeg), eeg.new_ones(len(eeg), 1, 1)
        n_steps, least = torch.zeros_like(rate), torch.full_like(rate, math.inf)
        for _ in range(n_passes):
            bands = self.bands(eeg)
            missing = de - windowed_de(bands)
            error = missing.detach().abs().mean((1, 2, 3))[:, None, None]
            too_far = error > least
            rate, n_steps = torch.where(too_far, 0.5 * rate, rate), n_steps.where(~too_far, 0)
            least = torch.minimum(least, error)
            wanted = (missing @ inverse.mT).clamp(-_LONGEST, _LONGEST) / own[..., None, :]
            change = torch.fft.rfft(between_windows(wanted.mT) * bands)
            change = (responses[:, None] * change).sum(1)
            momentum = (n_steps / (n_steps + 3)).clamp_max(_MOMENTUM)
            step = momentum * step + rate * torch.fft.irfft(spectra @ change, n=n_times)
            eeg, n_steps = eeg + step, n_steps + 1
        return eeg


def _curvature(spectra: CrossSpectra, responses: Tensor) -> tuple[Tensor, Tensor]:
    """Return what turns errors of DE into steps.

    Stationary EEG with cross-spectra S has ``Σ_f S_cc H²`` of power in a band. A step u at
    electrode d moves the DE of c by ``Σ_f |S_cd|² H⁴`` over it. Some frequencies tell enough.

    Returns
    -------
    inverse : Tensor, (B, n_bands, n_chans, n_chans)
        Of these movements, damped.
    own : Tensor, (B, n_bands, n_chans)
        By which steps are divided, so that u on its own moves DE by u.
    """
    stride = max(1, round(_SPACING * 2 * (responses.shape[-1] - 1) / SFREQ))
    square, some = responses[:, ::stride].square(), spectra.every(stride)
    density = some.diagonal(dim1=-2, dim2=-1).real
    power = (square @ density).clamp_min(_SILENCE)
    moved = torch.einsum("kf,bfcd->bkcd", square.square(), some.abs().square())
    own = (moved.diagonal(dim1=-2, dim2=-1) / power).clamp_min(_SILENCE)
    matrix = moved / power[..., None] / own[..., None, :]
    one = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return torch.linalg.inv(matrix + _DAMPING * one), own


@lru_cache(maxsize=8)
def _responses(n_times: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the power response of each band, (n_bands, n_times // 2 + 1)."""
    with torch.inference_mode(False):
        return torch.from_numpy(power_responses(n_times)).to(device, dtype)


@lru_cache(maxsize=8)
def _filters(
    n_times: int, dtype: torch.dtype, device: torch.device
) -> tuple[int, Tensor, list[list[list[Tensor]]]]:
    """Return the length of the Fourier transform, and the filter of each band.

    Their power responses, (n_bands, n_fft // 2 + 1), and of each the two factors of `edge_maps` for
    the start of a recording and the two for its end.
    """
    n_fft = fft_length(n_times + EDGE)
    with torch.inference_mode(False):
        edges = [
            [[torch.from_numpy(x).to(device, dtype) for x in factors] for factors in pair]
            for pair in edge_maps()
        ]
    return n_fft, _responses(n_fft, dtype, device), edges


def windowed_de(bands: Tensor) -> Tensor:
    """Return the DE of windows, (..., n_chans, n_times) to (..., n_windows, n_chans), in nats.

    See `de3dgan.eeg.de.windowed_de`; silence has the DE of a millionth of a µV.
    """
    windows = bands.unflatten(-1, (-1, WINDOW))
    # Several times as fast as PyTorch's `var`; no digits are lost, as bands have a mean near 0.
    squares = torch.linalg.vector_norm(windows, dim=-1).square()
    variance = (squares - windows.sum(-1).square() / WINDOW) / (WINDOW - 1)
    return (0.5 * torch.log(2 * math.pi * math.e * variance.clamp_min(_SILENCE))).mT


def between_windows(values: Tensor) -> Tensor:
    """Interpolate from the centres of windows to samples, constant beyond the outermost.

    (..., n_windows) to (..., n_windows · WINDOW).
    """
    ends = torch.cat([values[..., :1], values, values[..., -1:]], dim=-1)
    pairs = torch.stack([ends[..., :-1], ends[..., 1:]], dim=-1)
    share = (torch.arange(WINDOW, dtype=values.dtype, device=values.device) + 0.5) / WINDOW
    # As a product, which is four times as fast as PyTorch's interpolation.
    between = pairs.flatten(0, -2) @ torch.stack([1 - share, share])
    between = between.view(*values.shape[:-1], -1)
    return between[..., WINDOW // 2 : -(WINDOW // 2)]
