"""What training recordings show that DE does not tell: a prior to draw recordings from.

Electrodes hear common sources, and how they do differs from recording to recording: a head's
anatomy, the reference, and what cleaning has taken out. The mean of many recordings is like none of
them: it has as many sources as electrodes, where each of them has fewer. So generated EEG takes
after one recording, drawn by chance, whoever's DE it is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from de3dgan.eeg.de import BANDS, power_responses
from de3dgan.eeg.sampling import SFREQ
from de3dgan.models.cross_spectra import CrossSpectra

#: Samples of the windows that spectra are estimated with: 2 s, for steps of half a hertz.
_LENGTH = 2 * SFREQ
#: First and last of these steps that are kept: 1 and 60 Hz.
LOWEST, HIGHEST = 2, 120
#: Hz at which coherency is kept; elsewhere it is that of a neighbour.
_KNOTS = (2, 4, 5.5, 7, 8.5, 10, 11.5, 13, 15, 18, 21, 25, 30, 35, 41, 47, 55)
#: Hz at which gains of the four bands are set; between them they change evenly in log frequency.
_CENTRES = (5.7, 10.6, 21.0, 37.5)
#: Hz between which EEG has a band's directions; elsewhere it has those of the whole.
_EDGES = (*(low for low, _ in BANDS.values()), max(high for _, high in BANDS.values()))
#: Share of the median variance below which a direction between electrodes has only rounding, and
#: of a band below which it is weak.
_LACKING, _WEAK = 1e-4, 0.1
#: Least eigenvalue of a coherency whose logarithm is taken; and of correlations, to compare them.
_FLOOR, _FLOOR_OF_CORRELATIONS = 1e-3, 1e-2
#: Square of EEG, in standard deviations, by which EEG gets a skewness of one. On paper it is 1/6,
#: but half of the square lies below 4 Hz, and giving EEG its DE takes some; chosen by judges.
_WARP = 0.6
#: Times that gains are corrected for what their neighbours, and lacking directions, change.
_ROUNDS = 4
#: Power in µV² (or per Hz) that stands for silence.
_SILENCE = 1e-12


class Recordings(nn.Module):
    """Spectra, coherency and weak directions of some recordings.

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
    exponents : Tensor, (n_recordings, n_knots, n_chans, n_chans, 2)
        Logarithm of the coherency of electrodes at each knot of frequency, a Hermitian matrix; real
        and imaginary part.
    ranges : Tensor, (n_recordings, n_bands + 1, n_chans, n_chans)
        What makes directions between electrodes weak where a recording has them so, in each band
        and (the last) elsewhere: symmetric, with eigenvalues of 0 (lacking) to 1.
    skewness : Tensor, (n_recordings, n_chans)
        Of each electrode at 4 to 45 Hz: waves are not as high as they are deep.
    louder : Tensor, (n_freqs,)
        What is added to all levels, and
    turn : Tensor, (n_bands, n_chans, n_chans)
        to all exponents, so that generated EEG comes out as recordings are.
    """

    def __init__(self, n_recordings: int, n_chans: int):
        super().__init__()
        one = torch.eye(n_chans)
        n_knots, n_freqs = len(_KNOTS), HIGHEST - LOWEST + 1
        self.register_buffer("levels", torch.zeros(n_recordings, n_chans, n_freqs))
        exponents = torch.zeros(n_recordings, n_knots, n_chans, n_chans, 2)
        self.register_buffer("exponents", exponents)
        self.register_buffer("skewness", torch.zeros(n_recordings, n_chans))
        self.register_buffer("louder", torch.zeros(n_freqs))
        self.register_buffer("turn", torch.zeros(len(_CENTRES), n_chans, n_chans))
        ranges = one.expand(n_recordings, len(BANDS) + 1, -1, -1).clone()
        self.register_buffer("ranges", ranges)
        #: Frequencies of `levels` in Hz.
        self.freqs = [k * SFREQ / _LENGTH for k in range(LOWEST, HIGHEST + 1)]
        freqs = torch.tensor(self.freqs)
        responses = torch.from_numpy(power_responses(_LENGTH)[:, LOWEST : HIGHEST + 1])
        # Of a band-passed signal the power is that of EEG times the square of a power response.
        weights = responses.square() * SFREQ / _LENGTH
        self.register_buffer("band_weights", weights.float(), persistent=False)
        hats = interpolation(torch.tensor(_KNOTS), freqs)
        self.register_buffer("from_knots", hats, persistent=False)
        centres, knots = torch.tensor(_CENTRES).log(), torch.tensor(_KNOTS).log()
        for name, at in (("from_bands", freqs.log()), ("knots_from_bands", knots)):
            self.register_buffer(name, interpolation(centres, at), persistent=False)

    def __len__(self) -> int:
        """Return how many recordings are kept."""
        return len(self.levels)

    @torch.no_grad()
    def keep(self, recordings: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Keep what recordings show; some of them twice, if there are fewer than are kept.

        Parameters
        ----------
        recordings : iterable of (eeg, bands)
            Of each, one or more pieces, (n, n_chans, n_times) in µV, 10 s or more, and the same in
            bands, (n, n_bands, n_chans, n_times). Spectra are means over the pieces; directions are
            those of the first, as pieces may differ in what is weak.
        """
        halves, row = [], 0
        for row, (eeg, bands) in enumerate(islice(recordings, len(self))):
            spectra = torch.stack([cross_spectra(piece) for piece in eeg]).mean(0)
            spectra = spectra[LOWEST : HIGHEST + 1]
            density = spectra.diagonal(dim1=-2, dim2=-1).real.clamp_min(_SILENCE)
            self.levels[row] = 0.5 * density.log().T
            amplitude = density.sqrt()
            coherency = spectra / (amplitude[:, :, None] * amplitude[:, None])
            hats = self.from_knots / self.from_knots.sum(0)
            at_knots = torch.einsum("fk,fcd->kcd", hats.to(coherency), coherency)
            self.exponents[row] = torch.view_as_real(logarithm(at_knots, _FLOOR))
            self.ranges[row] = torch.stack([*map(weakening, bands[0]), projection(eeg[0])])
            parts = bands.sum(1).tensor_split(2, dim=-1)
            halves.append(torch.stack([skewness(part).mean(0) for part in parts]))
        # What one half does not say of the other is chance.
        both = torch.stack(halves, 1)
        deviations = both - both.mean((1, 2), keepdim=True)
        agreement = deviations.prod(0).mean() / deviations.square().mean().clamp_min(_SILENCE)
        n_kept = row + 1
        self.skewness[:n_kept] = both.mean(0) * (2 * agreement / (1 + agreement)).clamp_min(0)
        again = torch.arange(len(self)) % n_kept
        for kept in (self.levels, self.exponents, self.ranges, self.skewness):
            kept.copy_(kept[again])

    def draw(self, chance: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw recordings.

        Parameters
        ----------
        chance : Tensor, (B,)
            Standard normal.

        Returns
        -------
        levels : Tensor, (B, n_chans, n_freqs)
            As the attribute, corrected.
        roots : Tensor, complex (B, n_knots, n_chans, n_chans)
            R with R Rᴴ the coherency of the electrodes, corrected.
        ranges : Tensor, (B, n_bands + 1, n_chans, n_chans)
        skewness : Tensor, (B, n_chans)
            As the attributes.
        """
        which = (torch.special.ndtr(chance) * len(self)).long().clamp(0, len(self) - 1)
        exponents = torch.complex(*self.exponents[which].unbind(-1))
        exponents = exponents + torch.einsum("kb,bcd->kcd", self.knots_from_bands, self.turn)
        values, vectors = torch.linalg.eigh(exponents)
        roots = F.normalize(vectors * (0.5 * values).exp()[..., None, :], dim=-1)
        levels = self.levels[which] + self.louder
        return levels, roots, self.ranges[which], self.skewness[which]

    def fitted(self, levels: Tensor, roots: Tensor, ranges: Tensor, power: Tensor) -> Tensor:
        """Return log amplitudes that give EEG the band power that is wanted.

        Parameters
        ----------
        levels, roots, ranges
            See `draw`.
        power : Tensor, (B, n_bands, n_chans)
            Wanted mean power of band-passed EEG, in µV².

        Returns
        -------
        Tensor, (B, n_chans, n_freqs)
        """
        coherency = torch.einsum("fk,bkcd->bfcd", self.from_knots, (roots @ roots.mH).real)
        ranges = ranges[:, band_of(torch.tensor(self.freqs, device=ranges.device))]
        for _ in range(_ROUNDS):
            amplitude = levels.exp().mT  # (B, n_freqs, n_chans)
            spectra = amplitude[..., None] * coherency * amplitude[:, :, None]
            density = ((ranges @ spectra) * ranges).sum(-1)
            found = self.band_weights @ density
            log_gain = 0.5 * (power.clamp_min(_SILENCE) / found.clamp_min(_SILENCE)).log()
            levels = levels + (self.from_bands @ log_gain).mT
        return levels

    def spectra(
        self, levels: Tensor, roots: Tensor, ranges: Tensor, chance: Tensor
    ) -> CrossSpectra:
        """Return the cross-spectra of EEG that takes after recordings.

        Parameters
        ----------
        levels, roots, ranges
            See `draw`.
        chance : Tensor, (B, n_times // 2 + 1)
            Standard normal: at each frequency, from which of the neighbouring knots coherency is
            taken. A mean of the two would have more sources than either.

        Returns
        -------
        CrossSpectra
            Densities in µV²/Hz at n_times // 2 + 1 frequencies; 0 outside 1 to 60 Hz.
        """
        freqs = torch.linspace(0, SFREQ / 2, chance.shape[1], device=chance.device)
        inside = (freqs >= self.freqs[0]) & (freqs <= self.freqs[-1])
        position = (freqs * _LENGTH / SFREQ - LOWEST).clamp(0, levels.shape[-1] - 1.001)
        lower, share = position.long(), position.frac()
        amplitude = torch.lerp(levels[..., lower], levels[..., lower + 1], share).exp() * inside
        groups, share, of_knot, of_band = _groups(chance.shape[1], chance.device)
        group = torch.where(torch.special.ndtr(chance) < share, groups[1], groups[0])
        return CrossSpectra(amplitude.mT, roots[:, of_knot], ranges[:, of_band], group)


@lru_cache(maxsize=8)
def _groups(n_freqs: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return how frequencies are grouped by their knot of coherency and their band.

    Returns
    -------
    groups : Tensor of int, (2, n_freqs)
        The groups of a frequency if it takes after the knot before it, and the one after it.
    share : Tensor, (n_freqs,)
        How often it takes after the latter.
    of_knot, of_band : Tensor of int, (n_groups,)
        The knot and the band of each group.
    """
    with torch.inference_mode(False):
        freqs, knots = torch.linspace(0, SFREQ / 2, n_freqs), torch.tensor(_KNOTS)
        after = torch.searchsorted(knots, freqs).clamp(1, len(knots) - 1)
        share = (freqs - knots[after - 1]) / (knots[after] - knots[after - 1])
        numbers = torch.stack([after - 1, after]) * (len(BANDS) + 1) + band_of(freqs)
        present, groups = numbers.unique(return_inverse=True)
        found = groups, share, present // (len(BANDS) + 1), present % (len(BANDS) + 1)
        return tuple(part.to(device) for part in found)


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


def log_levels(eeg: Tensor) -> Tensor:
    """Return the mean log amplitudes of trials, (B, n_chans, n_times) to (n_freqs,)."""
    density = [cross_spectra(trial).diagonal(dim1=-2, dim2=-1).real for trial in eeg]
    levels = 0.5 * torch.stack(density).clamp_min(_SILENCE).log()
    return levels[:, LOWEST : HIGHEST + 1].mean((0, 2))


def log_correlations(bands: Tensor) -> Tensor:
    """Return the mean logarithm of correlation matrices of electrodes.

    Parameters
    ----------
    bands : Tensor, (B, n_bands, n_chans, n_times)
        Band-passed EEG. Correlations are means over its seconds, each of which counts the same.

    Returns
    -------
    Tensor, (n_bands, n_chans, n_chans)
    """
    seconds = bands.unflatten(-1, (-1, SFREQ)).transpose(2, 3)
    seconds = F.normalize(seconds - seconds.mean(-1, keepdim=True), dim=-1)
    return logarithm((seconds @ seconds.mT).mean(2), _FLOOR_OF_CORRELATIONS).mean(0)


def skewed(passed: Tensor, skewness: Tensor) -> Tensor:
    """Return what makes EEG as skewed as it is to be, when it is added.

    Parameters
    ----------
    passed : Tensor, (B, n_chans, n_times)
        EEG at 4 to 45 Hz, which is not skewed.
    skewness : Tensor, (B, n_chans)

    Returns
    -------
    Tensor, (B, n_chans, n_times)
        The square of EEG without its mean: its harmonics, in step with it.
    """
    deviation = passed.std(-1, keepdim=True).clamp_min(_SILENCE)
    return _WARP * skewness[..., None] * (passed.square() / deviation - deviation)


def skewness(eeg: Tensor) -> Tensor:
    """Return the skewness of EEG (..., n_times) over time; 0 of silence."""
    centred = eeg - eeg.mean(-1, keepdim=True)
    variance = centred.square().mean(-1).clamp_min(_SILENCE)
    return centred.pow(3).mean(-1) / variance**1.5


def logarithm(matrices: Tensor, floor: float) -> Tensor:
    """Return logarithms of Hermitian matrices (..., n, n), with eigenvalues of `floor` at least."""
    values, vectors = torch.linalg.eigh(matrices)
    return (vectors * values.clamp_min(floor).log()[..., None, :].to(vectors.dtype)) @ vectors.mH


def projection(eeg: Tensor) -> Tensor:
    """Return the projection onto directions that EEG (n_chans, n_times) has, (n_chans, n_chans)."""
    power, directions, median = _principal(eeg)
    kept = directions[:, power > _LACKING * median]
    return (kept @ kept.T).to(eeg.dtype)


def weakening(band: Tensor) -> Tensor:
    """Return what makes weak directions of a band weak in EEG that has its coherency.

    Those with less than a tenth of the median variance. Coherency has them as well, but it is known
    with errors, and levels of another person turn them: without this, EEG has there what both
    put there. So they are weakened twice, and come out somewhat weaker than they are.

    Parameters
    ----------
    band : Tensor, (n_chans, n_times)
        Band-passed EEG.

    Returns
    -------
    Tensor, (n_chans, n_chans)
        Symmetric, with eigenvalues of 0 to 1.
    """
    power, directions, median = _principal(band)
    factors = (power / (_WEAK * median)).clamp(0, 1).sqrt()
    return (directions * factors @ directions.T).to(band.dtype)


def _principal(eeg: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the variances of principal directions, these, and the median of what is not 0."""
    power, directions = torch.linalg.eigh(torch.cov(eeg.double()))
    there = power > 1e-9 * power[-1].clamp_min(_SILENCE)
    median = power[there].median() if there.any() else power.new_tensor(_SILENCE)
    return power, directions, median


def band_of(freqs: Tensor) -> Tensor:
    """Return the row of `Recordings.ranges` for each frequency in Hz."""
    edges = torch.tensor(_EDGES, dtype=freqs.dtype, device=freqs.device)
    band = torch.bucketize(freqs, edges, right=True) - 1
    return torch.where(band < 0, len(BANDS), band)


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
