"""What training recordings show that DE does not tell: a prior to draw recordings from.

Electrodes hear common sources, and how they do differs from recording to recording: a head's
anatomy, the reference, and what cleaning has taken out. The mean of many recordings is like none of
them: it has as many sources as electrodes, where each of them has fewer. So generated EEG takes
after one recording, drawn by chance, whoever's DE it is given.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from de3dgan.eeg.de import power_responses
from de3dgan.eeg.sampling import SFREQ

#: Samples of the windows that spectra are estimated with: 2 s, for steps of half a hertz.
_LENGTH = 2 * SFREQ
#: First and last of these steps that are kept: 1 and 60 Hz.
LOWEST, HIGHEST = 2, 120
#: By how much peaks are made sharper, as a share of what they rise by above 4.5 Hz around. Windows
#: of 2 s smear them, and so does giving EEG its DE: waves would not go on for as long as real ones.
_SHARPER, _AROUND = 0.4, 9
#: Hz at which coherency is kept; elsewhere it is that of a neighbour.
_KNOTS = (2, 4, 5.5, 7, 8.5, 10, 11.5, 13, 15, 18, 21, 25, 30, 35, 41, 47, 55)
#: Hz at which gains of the four bands are set; between them they change evenly in log frequency.
_CENTRES = (5.7, 10.6, 21.0, 37.5)
#: Share of the median variance below which a direction between electrodes has only rounding.
_LACKING = 1e-4
#: Share of a drawn recording's coherency that is another recording's.
_OTHER = 0.4
#: Times that gains are corrected for what their neighbours, and lacking directions, change.
_ROUNDS = 4
#: Power in µV² (or per Hz) that stands for silence.
_SILENCE = 1e-12


class Recordings(nn.Module):
    """Spectra, coherency and lacking directions of some recordings.

    No EEG is kept, nor anything of its course over time.

    Parameters
    ----------
    n_recordings : int
        How many are kept.
    n_chans : int
        Electrodes.

    Attributes
    ----------
    levels : Tensor, (n_recordings, n_chans, n_freqs)
        Log amplitudes, in nats, at 1, 1.5, …, 60 Hz. Of spectral densities in µV²/Hz they are half
        the logarithm.
    coherency : Tensor, (n_recordings, n_knots, n_chans, n_chans, 2)
        Of the electrodes at each knot of frequency; real and imaginary part.
    ranges : Tensor, (n_recordings, n_chans, n_chans)
        Orthogonal projections onto the directions between electrodes that a recording has.
    """

    def __init__(self, n_recordings: int, n_chans: int):
        super().__init__()
        one = torch.eye(n_chans)
        n_knots, n_freqs = len(_KNOTS), HIGHEST - LOWEST + 1
        coherency = torch.stack([one, 0 * one], dim=-1).expand(n_recordings, n_knots, -1, -1, -1)
        self.register_buffer("levels", torch.zeros(n_recordings, n_chans, n_freqs))
        self.register_buffer("coherency", coherency.clone())
        self.register_buffer("ranges", one.expand(n_recordings, -1, -1).clone())
        #: Frequencies of `levels` in Hz.
        self.freqs = [k * SFREQ / _LENGTH for k in range(LOWEST, HIGHEST + 1)]
        freqs = torch.tensor(self.freqs)
        responses = torch.from_numpy(power_responses(_LENGTH)[:, LOWEST : HIGHEST + 1])
        # Of a band-passed signal the power is that of EEG times the square of a power response.
        weights = responses.square() * SFREQ / _LENGTH
        self.register_buffer("band_weights", weights.float(), persistent=False)
        hats = interpolation(torch.tensor(_KNOTS), freqs)
        self.register_buffer("from_knots", hats, persistent=False)
        gains = interpolation(torch.tensor(_CENTRES).log(), freqs.log())
        self.register_buffer("from_bands", gains, persistent=False)

    def __len__(self) -> int:
        """Return how many recordings are kept."""
        return len(self.levels)

    @torch.no_grad()
    def keep(self, eeg: Tensor) -> None:
        """Keep what recordings show; some of them twice, if there are fewer than are kept.

        Parameters
        ----------
        eeg : Tensor, (n, n_chans, n_times)
            In µV; 10 s or more.
        """
        for row in range(len(self)):
            spectra = cross_spectra(eeg[row % len(eeg)])[LOWEST : HIGHEST + 1]
            density = spectra.diagonal(dim1=-2, dim2=-1).real.clamp_min(_SILENCE)
            levels = 0.5 * density.log().T
            margin = _AROUND // 2
            around = F.pad(levels[None], (margin, margin), mode="replicate")
            around = F.avg_pool1d(around, _AROUND, 1)[0]
            self.levels[row] = levels + _SHARPER * (levels - around)
            amplitude = density.sqrt()
            coherency = spectra / (amplitude[:, :, None] * amplitude[:, None])
            hats = self.from_knots / self.from_knots.sum(0)
            at_knots = torch.einsum("fk,fcd->kcd", hats.to(coherency), coherency)
            self.coherency[row] = torch.view_as_real(at_knots)
            self.ranges[row] = projection(eeg[row % len(eeg)])

    def draw(self, chance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw recordings like those that are kept, and yet like none of them.

        Each takes after one of them, and its coherency is in part another one's.

        Parameters
        ----------
        chance : Tensor, (B, 2)
            Standard normal.

        Returns
        -------
        levels : Tensor, (B, n_chans, n_freqs)
            As the attribute.
        coherency : Tensor, complex (B, n_knots, n_chans, n_chans)
        ranges : Tensor, (B, n_chans, n_chans)
            As the attribute.
        """
        which = (torch.special.ndtr(chance) * len(self)).long().clamp(0, len(self) - 1)
        one, other = (torch.complex(*self.coherency[rows].unbind(-1)) for rows in which.unbind(1))
        coherency = (1 - _OTHER) * one + _OTHER * other
        return self.levels[which[:, 0]], coherency, self.ranges[which[:, 0]]

    def fitted(self, levels: Tensor, coherency: Tensor, ranges: Tensor, power: Tensor) -> Tensor:
        """Return log amplitudes that give EEG the band power that is wanted.

        Parameters
        ----------
        levels, coherency, ranges
            See `draw`.
        power : Tensor, (B, n_bands, n_chans)
            Wanted mean power of band-passed EEG, in µV².

        Returns
        -------
        Tensor, (B, n_chans, n_freqs)
        """
        coherency = torch.einsum("fk,bkcd->bfcd", self.from_knots, coherency.real)
        ranges = ranges[:, None]
        for _ in range(_ROUNDS):
            amplitude = levels.exp().mT  # (B, n_freqs, n_chans)
            spectra = amplitude[..., None] * coherency * amplitude[:, :, None]
            density = ((ranges @ spectra) * ranges).sum(-1)
            found = self.band_weights @ density
            log_gain = 0.5 * (power.clamp_min(_SILENCE) / found.clamp_min(_SILENCE)).log()
            levels = levels + (self.from_bands @ log_gain).mT
        return levels

    def mixing(self, levels: Tensor, coherency: Tensor, ranges: Tensor, chance: Tensor) -> Tensor:
        """Return the matrices that give white noise the cross-spectra of a recording.

        Parameters
        ----------
        levels, coherency, ranges
            See `draw`.
        chance : Tensor, (B, n_times // 2 + 1)
            Standard normal: at each frequency, from which of the neighbouring knots coherency is
            taken. A mean of the two would have more sources than either.

        Returns
        -------
        Tensor, complex (B, n_times // 2 + 1, n_chans, n_chans)
            Whose squares are densities in µV²/Hz; 0 outside 1 to 60 Hz.
        """
        n = chance.shape[1]
        freqs = torch.linspace(0, SFREQ / 2, n, device=chance.device)
        inside = (freqs >= self.freqs[0]) & (freqs <= self.freqs[-1])
        position = (freqs * _LENGTH / SFREQ - LOWEST).clamp(0, levels.shape[-1] - 1.001)
        lower, share = position.long(), position.frac()
        amplitude = torch.lerp(levels[..., lower], levels[..., lower + 1], share).exp() * inside
        knots = torch.tensor(_KNOTS, device=chance.device)
        after = torch.searchsorted(knots, freqs).clamp(1, len(knots) - 1)
        share = (freqs - knots[after - 1]) / (knots[after] - knots[after - 1])
        knot = after - 1 + (torch.special.ndtr(chance) < share).long()
        values, vectors = torch.linalg.eigh(coherency)
        roots = vectors * values.clamp_min(0).sqrt()[..., None, :]
        roots = roots[torch.arange(len(roots))[:, None], knot]
        return ranges.to(roots.dtype)[:, None] @ (amplitude.mT[..., None] * roots)


def cross_spectra(eeg: Tensor) -> Tensor:
    """Return the cross-spectral densities of EEG, by Welch's method with Hann windows of 2 s.

    Parameters
    ----------
    eeg : Tensor, (n_chans, n_times)
        In µV.

    Returns
    -------
    Tensor, complex (129, n_chans, n_chans)
        In µV²/Hz, every half hertz.
    """
    window = torch.hann_window(_LENGTH, device=eeg.device)
    windows = eeg.unfold(-1, _LENGTH, _LENGTH // 2)
    windows = (windows - windows.mean(-1, keepdim=True)) * window
    spectra = torch.fft.rfft(windows).permute(2, 0, 1)
    return spectra @ spectra.mH * (2 / (SFREQ * window.square().sum() * spectra.shape[-1]))


def projection(eeg: Tensor) -> Tensor:
    """Return the projection onto directions that EEG (n_chans, n_times) has, (n_chans, n_chans)."""
    power, directions = torch.linalg.eigh(torch.cov(eeg.double()))
    there = power > 1e-9 * power[-1]
    if there.any():
        there = power > _LACKING * power[there].median()
    kept = directions[:, there]
    return (kept @ kept.T).to(eeg.dtype)


def interpolation(knots: Tensor, freqs: Tensor) -> Tensor:
    """Return the matrix (n_freqs, n_knots) of linear interpolation, constant beyond the knots."""
    knots = knots.to(freqs.dtype)
    after = torch.searchsorted(knots, freqs).clamp(1, len(knots) - 1)
    before = after - 1
    share = ((freqs - knots[before]) / (knots[after] - knots[before])).clamp(0, 1)
    rows = torch.arange(len(freqs))
    matrix = torch.zeros(len(freqs), len(knots))
    matrix[rows, before] += 1 - share
    matrix[rows, after] += share
    return matrix


def mean_power(de: Tensor) -> Tensor:
    """Return the mean power over windows, (..., n_windows, n_chans) nats to (..., n_chans) µV²."""
    n_windows = de.shape[-2]
    return (torch.logsumexp(2 * de, dim=-2) - math.log(2 * math.pi * math.e * n_windows)).exp()
