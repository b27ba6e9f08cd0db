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
#: Samples over which correlations in a band are taken: 5 s.
_SEGMENT = 10 * WINDOW


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


def band_correlations(bands: Tensor) -> Tensor:
    """Return the correlations between electrodes: the mean over segments of 5 s.

    Parameters
    ----------
    bands : Tensor, (..., n_chans, n_times)
        EEG of 5 s or more; samples after the last whole segment are left out.

    Returns
    -------
    Tensor, (..., n_chans, n_chans)
    """
    n_segments = bands.shape[-1] // _SEGMENT
    segments = bands[..., : n_segments * _SEGMENT].unflatten(-1, (n_segments, _SEGMENT))
    segments = segments - segments.mean(-1, keepdim=True)
    segments = F.normalize(segments, dim=-1).transpose(-3, -2)
    return (segments @ segments.mT).mean(-3)


def between_windows(values: Tensor) -> Tensor:
    """Interpolate from the centres of windows to samples, constant beyond the outermost.

    (..., n_windows) to (..., n_windows · WINDOW).
    """
    flat = F.interpolate(
        values.flatten(0, -2)[:, None], scale_factor=WINDOW, mode="linear", align_corners=False
    )
    return flat[:, 0].unflatten(0, values.shape[:-1])
