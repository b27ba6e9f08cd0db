"""What our classifier is given of a frame: views of it, each relative to the trial's baseline.

============  =====================================================================================
view          features
============  =====================================================================================
power         log power per electrode and narrow band (`PowerMaps`), signed and as magnitudes
covariance    covariance between electrodes per band, whitened by the baseline's: what lies between
              electrodes, in any direction
magnitude     its magnitude: away from the baseline some people's covariance rises, others' falls
mirror        how strongly electrodes go with their counterpart on the other side of the head, on
              the whole and apart from what both share with all others
own           log power of an electrode that all the others do not explain, and its magnitude
asymmetry     log power on the left minus that on the right
============  =====================================================================================

Each is a group of features that has a strength of regularisation of its own
(`de3dgan.stages.closed_form`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from de3dgan.eeg.sampling import FRAME, WINDOW
from de3dgan.models.blocks import float32
from de3dgan.models.spectra import LogPower

#: Hz of the bands that covariances are taken in; the upper edge belongs to the next.
BANDS = ((4, 8), (8, 11), (11, 14), (14, 22), (22, 31), (31, 46))
#: Weight of the baseline's covariance in that of a frame, which is of few degrees of freedom.
_SHRINKAGE = {"covariance": 0.4, "partial": 0.6}
#: Weight of white noise in the baseline's covariance, and µV² that it has at least.
_WHITE, _QUIET = 0.01, 1e-6
#: Share of the mean power that is added to each electrode before covariances are inverted.
_ROUNDING = 1e-5
#: Correlations are kept this far from ±1, where Fisher's z has no end.
_SHORT_OF_ONE = 0.98
#: Directions between electrodes that covariances are taken of, at most: with more, features would
#: be more than they are worth in time.
MAX_RANK = 32


class PowerMaps(nn.Module):
    """Maps of log power relative to the baseline, each with a value per electrode.

    There are three of each narrow band:

    - the change: the log power of a frame minus that of the trial's baseline,
    - its magnitude, since away from the baseline some people's power rises and others' falls,
    - how far apart an electrode is from the others: the magnitude of the change minus its mean over
      electrodes.

    Parameters
    ----------
    n_filters : int
        Bands of `de3dgan.models.spectra.LogPower`.
    """

    def __init__(self, n_filters: int = 16):
        super().__init__()
        self.log_power = LogPower(n_filters)
        self.n_maps = 3 * n_filters

    def level(self, eeg: Tensor) -> Tensor:
        """Return the mean log power of EEG, (..., n_chans, n_times) to (..., n_chans, n_bands)."""
        return self.log_power(eeg).mean(-2)

    @float32
    def forward(self, level: Tensor, baseline: Tensor) -> Tensor:
        """Return the maps of frames, given `level` of each and of its baseline.

        Parameters
        ----------
        level, baseline : Tensor, (N, n_chans, n_bands)
            In nats.

        Returns
        -------
        Tensor, (N, n_chans, n_maps)
        """
        change = level - baseline
        apart = (change - change.mean(1, keepdim=True)).abs()
        return torch.cat([change, change.abs(), apart], dim=-1)


class Measured(NamedTuple):
    """What is measured of EEG, be it a frame or a baseline.

    Attributes
    ----------
    level : Tensor, (N, n_chans, n_filters)
        Mean log power, in nats.
    covariance : Tensor, (N, n_bands, n_chans, n_chans)
        Mean covariance of its seconds, per band, in µV².
    """

    level: Tensor
    covariance: Tensor

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.level.device


class Reference(NamedTuple):
    """What frames are relative to: what is measured of a baseline, and what follows from it.

    Attributes
    ----------
    level, covariance : Tensor
        See `Measured`; the covariance has some white noise added.
    whitening : Tensor, (N, n_bands, n_directions, n_directions)
        Inverse square root of the covariance, in the directions of `Views.basis`.
    mirror : Tensor, (N, n_bands, 2 · n_pairs)
        Fisher's z of the correlations of mirrored electrodes, and of their partial correlations.
    own : Tensor, (N, n_bands, n_chans)
        Log power that other electrodes do not explain, in nats.
    """

    level: Tensor
    covariance: Tensor
    whitening: Tensor
    mirror: Tensor
    own: Tensor

    def __getitem__(self, rows: Tensor) -> Reference:
        """Return the references of some rows."""
        return Reference(*(part[rows] for part in self))


class Views(nn.Module):
    """Views of frames; see the top of this module.

    Parameters
    ----------
    n_chans : int
        Electrodes.
    pairs : sequence of (int, int)
        Electrodes on the left and their counterparts on the right, as `Grid.pairs` returns them.
    n_filters : int
        Bands of log power.
    """

    NAMES = ("power", "covariance", "magnitude", "mirror", "own", "asymmetry")

    def __init__(self, n_chans: int, pairs: Sequence[tuple[int, int]], n_filters: int = 16):
        super().__init__()
        self.maps = PowerMaps(n_filters)
        sides = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T.clone()
        self.register_buffer("pairs", sides, persistent=False)
        rank = min(n_chans, MAX_RANK)
        #: Directions between electrodes, in columns; those that recordings lack are 0.
        self.register_buffer("basis", torch.eye(n_chans)[:, :rank].clone())
        self.register_buffer("upper", torch.triu_indices(rank, rank), persistent=False)

    @float32
    def measure(self, eeg: Tensor) -> Measured:
        """Measure EEG (N, n_chans, n_times) in µV, of one second or more."""
        log_power = self.maps.log_power
        frames = eeg.unfold(-1, FRAME, WINDOW)
        spectra = log_power.spectra(frames)  # (N, n_chans, n_frames, 2 · n_tapers, n_freqs)
        covariances = []
        for low, high in BANDS:
            inside = spectra[..., low:high].flatten(2)  # frequencies are 1 Hz apart
            covariances.append(inside @ inside.mT / frames.shape[2])
        return Measured(log_power.of(spectra).mean(2), torch.stack(covariances, dim=1))

    def reference(self, measured: Measured, none: bool = False) -> Reference:
        """Return what frames are relative to, given what is measured of their baselines.

        Parameters
        ----------
        measured : Measured
            Of baselines.
        none : bool
            Whether frames are relative to nothing: then to 1 µV² in all directions instead.
        """
        level, covariance = measured
        n_chans = covariance.shape[-1]
        one = torch.eye(n_chans, device=level.device)
        if none:
            level, covariance = torch.zeros_like(level), one.expand_as(covariance)
        else:
            mean = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
            covariance = covariance + _WHITE * mean.clamp_min(_QUIET / _WHITE) * one
        partial, own = self._partial(covariance)
        mirror = torch.cat([self._mirrored(covariance), partial], dim=-1)
        return Reference(level, covariance, self.whitening(covariance), mirror, own)

    def whitening(self, covariance: Tensor) -> Tensor:
        """Return `Reference.whitening`, given `Reference.covariance`."""
        inside = self.basis.mT @ covariance @ self.basis
        # Columns of 0 in the basis are directions that nothing has.
        inside = inside + torch.diag((self.basis.square().sum(0) == 0).float())
        values, vectors = torch.linalg.eigh(inside)
        return (vectors * values.clamp_min(_QUIET).rsqrt()[..., None, :]) @ vectors.mT

    @float32
    def forward(self, measured: Measured, reference: Reference) -> Tensor:
        """Return the features of all views, side by side in the order of `NAMES`.

        Parameters
        ----------
        measured : Measured
            Of frames.
        reference : Reference
            What each is relative to.

        Returns
        -------
        Tensor, (N, sum of `sizes`)
        """
        level, covariance = measured
        power = self.maps(level, reference.level)
        n_filters = level.shape[-1]
        whitened = self._whitened(covariance, reference.whitening)
        share = _SHRINKAGE["partial"]
        partial, own = self._partial((1 - share) * covariance + share * reference.covariance)
        mirror = torch.cat([self._mirrored(covariance), partial], dim=-1) - reference.mirror
        own = own - reference.own
        left, right = self.pairs
        change = power[..., :n_filters]
        views = {
            "power": power,
            "covariance": whitened,
            "magnitude": whitened.abs(),
            "mirror": mirror,
            "own": torch.cat([own, own.abs()], dim=-1),
            "asymmetry": change[:, left] - change[:, right],
        }
        return torch.cat([views[name].flatten(1) for name in self.NAMES], dim=1)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of features of each of `NAMES`."""
        n_chans, n_filters = len(self.basis), self.maps.n_maps // 3
        n_bands, n_upper, n_pairs = len(BANDS), self.upper.shape[1], self.pairs.shape[1]
        return (
            3 * n_chans * n_filters,
            n_bands * n_upper,
            n_bands * n_upper,
            2 * n_bands * n_pairs,
            2 * n_bands * n_chans,
            n_pairs * n_filters,
        )

    def _whitened(self, covariance: Tensor, whitening: Tensor) -> Tensor:
        """Return covariances relative to the baseline's, (N, n_bands, n_upper), 0 where equal.

        It is the Padé approximant 2 (M - 1) (M + 1)⁻¹ of the matrix logarithm that is usual
        (Barachant et al., IEEE Transactions on Biomedical Engineering 59, 2012): an inverse in the
        place of eigenvectors, and less moved by artefacts, as it does not exceed 2.
        """
        share = _SHRINKAGE["covariance"]
        one = torch.eye(whitening.shape[-1], device=covariance.device)
        m = whitening @ (self.basis.mT @ covariance @ self.basis) @ whitening
        m = (1 - share) * m + (share + 1) * one
        # The inverse is between 0 and 1; of what overflows float32, it is 0.
        inverse, _ = torch.linalg.inv_ex(m)
        found = 2 * one - 4 * inverse.nan_to_num(0, 0, 0).clamp(-1, 1)
        return found[..., self.upper[0], self.upper[1]]

    def _mirrored(self, covariance: Tensor) -> Tensor:
        """Return Fisher's z of the correlations of mirrored electrodes, (N, n_bands, n_pairs)."""
        power = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(1e-12)
        left, right = self.pairs
        found = covariance[..., left, right] * (power[..., left] * power[..., right]).rsqrt()
        return found.clamp(-_SHORT_OF_ONE, _SHORT_OF_ONE).atanh()

    def _partial(self, covariance: Tensor) -> tuple[Tensor, Tensor]:
        """Return what follows from the inverse of covariances of full rank.

        Returns
        -------
        partial : Tensor, (N, n_bands, n_pairs)
            Fisher's z of the correlation of mirrored electrodes that all the others do not explain.
        own : Tensor, (N, n_bands, n_chans)
            Half the logarithm of the variance that all the others do not explain.
        """
        mean = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        one = torch.eye(covariance.shape[-1], device=covariance.device)
        # Electrodes may be the same; and a frame may be so loud that its baseline is rounding.
        precision, _ = torch.linalg.inv_ex(covariance + _ROUNDING * mean * one)
        own = -0.5 * precision.diagonal(dim1=-2, dim2=-1).clamp_min(1e-12).log()
        return -self._mirrored(precision), own
