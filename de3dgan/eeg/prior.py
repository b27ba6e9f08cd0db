"""A prior over DE: what people who were never recorded might have, class by class.

The DE of a trial, in nats, is taken for the sum of

- the person's baseline, and what a class changes in that person: one vector per person,
- what the trial and its baseline have of their own, where people have several trials of a class,
- a time course over the trial's half-second windows.

Each is a Gaussian whose moments are those of training people, in closed form. Few people say little
about how people differ: their covariance is of a rank below their number. So it is shrunk towards
one that has full rank with few parameters, the product of a covariance of bands and one of
electrodes (a matrix-normal distribution; of changes, times one of classes). And heads are much the
same on both sides: whoever was recorded might have been their mirror image. Of the mean over
people, the part that differs between the sides is therefore kept as far only as it is more than
chance (James and Stein's estimator).

The time course has the covariance between bands and electrodes, the autocorrelation of each
principal component, and the marginal distribution of each band, which is skewed, of the residuals
of training trials (a Gaussian copula).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

#: How many people's worth of evidence the covariance that people are shrunk to has.
_SHRINKAGE = 4.0
#: Directions of variation that are kept of people and of trials, at most.
_MAX_FACTORS = 64
#: Windows over which a time course remembers, at most (15 s).
_MAX_LAG = 30
#: Normal scores at which the marginal distribution of residuals is tabulated.
_SCORES = np.linspace(-3.2, 3.2, 65)
#: Standard deviations beyond which nobody and no trial lies from the mean, in any direction.
_FARTHEST = 2.5
#: Nats that virtual people's DE may be outside the range that was seen.
_MARGIN = 1.0


class Virtual(NamedTuple):
    """DE of virtual people.

    Attributes
    ----------
    de : array, float32 (n_trials, n_bands, n_windows, n_chans)
        Absolute, in nats.
    baseline_de : array, float32 (n_baselines, n_bands, n_baseline_windows, n_chans)
        Absolute, in nats, over time.
    people, labels, baselines : array of int, (n_trials,)
        Who each trial is of, its class, and its row in `baseline_de`.
    """

    de: np.ndarray
    baseline_de: np.ndarray
    people: np.ndarray
    labels: np.ndarray
    baselines: np.ndarray


@dataclass(frozen=True)
class DEPrior:
    """A fitted prior, see the module.

    Attributes
    ----------
    mean : array, (1 + n_classes, n_bands, n_chans)
        Of people: the DE of the baseline, and the change that each class makes, in nats.
    people : array, (n_factors, 1 + n_classes, n_bands, n_chans)
        Factors of how people differ: a person is the mean and a standard normal combination.
    baseline_modes, change_modes : tuple of array
        Square roots of the covariances that people are shrunk to, one for each axis: of bands and
        electrodes; of classes, bands and electrodes. Weights are in there.
    trials : array, (n_factors, 2, n_bands, n_chans)
        Factors of how trials of a person and class differ: in their baseline, and in the change.
    own_baselines : bool
        Each trial has a baseline of its own.
    courses : array, (n_components, n_bands, n_chans)
        Principal components of the time course, in normal scores, times their standard deviations.
    memory : array, (n_components, n_lags)
        Autocorrelation of each over windows.
    marginals : array, (n_bands, n_scores)
        Residuals at normal scores `_SCORES`, in standard deviations.
    spread : array, (n_bands, n_chans)
        Standard deviation of residuals in nats.
    range : array, (2, n_bands, n_chans)
        Lowest and highest DE that was seen.
    """

    mean: np.ndarray
    people: np.ndarray
    baseline_modes: tuple[np.ndarray, ...]
    change_modes: tuple[np.ndarray, ...]
    trials: np.ndarray
    own_baselines: bool
    courses: np.ndarray
    memory: np.ndarray
    marginals: np.ndarray
    spread: np.ndarray
    range: np.ndarray

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.mean) - 1

    @classmethod
    def fit(
        cls,
        de: np.ndarray,
        baseline_de: np.ndarray,
        baselines: np.ndarray,
        people: np.ndarray,
        labels: np.ndarray,
        n_classes: int,
        mirror: np.ndarray,
    ) -> DEPrior:
        """Fit a prior to training people, in closed form.

        Parameters
        ----------
        de : array, (n_trials, n_bands, n_windows, n_chans)
            Absolute DE in nats.
        baseline_de : array, (n_trials, n_bands, n_chans)
            That of each trial's baseline; 0 if DE is relative to nothing.
        baselines, people : array of int or str, (n_trials,)
            Which baseline each trial has, and whose it is.
        labels : array of int, (n_trials,)
            Its class; each class is someone's.
        n_classes : int
            Number of classes.
        mirror : array of int, (n_chans,)
            Each electrode's counterpart on the other side, see `de3dgan.eeg.montage`.
        """
        de = np.asarray(de, np.float64)
        change = de.mean(2) - baseline_de
        names, person = np.unique(people, return_inverse=True)
        baseline_of, changes = _person_means(baseline_de, change, person, labels, n_classes)
        persons = np.concatenate([baseline_of[:, None], changes], axis=1)
        away = _both_sides(persons - persons.mean(0), mirror)
        dof = 2 * (len(names) - 1)
        share = _SHRINKAGE / (_SHRINKAGE + len(names)) if len(names) > 1 else 0.0

        own = np.stack([baseline_de - baseline_of[person], change - changes[person, labels]], 1)
        n_cells = len(set(zip(person.tolist(), labels.tolist(), strict=True)))
        residuals = de - de.mean(2, keepdims=True)
        spread = residuals.std((0, 2)) + 1e-6
        standardised = residuals / spread[:, None]
        marginals = np.quantile(standardised, _normal_cdf(_SCORES), axis=(0, 2, 3)).T
        marginals = marginals + 1e-9 * np.arange(len(_SCORES))  # rises even where values are equal
        courses, memory = _time_courses(_to_scores(standardised, marginals))
        return cls(
            mean=_mean_of(persons, mirror),
            people=np.sqrt(1 - share) * _factors(away, dof),
            baseline_modes=_modes(away[:, 0], dof, share),
            change_modes=_modes(away[:, 1:], dof, share),
            trials=_factors(_both_sides(own, mirror), 2 * (len(own) - n_cells)),
            own_baselines=len(set(baselines.tolist())) > len(names),
            courses=courses,
            memory=memory,
            marginals=marginals,
            spread=spread,
            range=np.stack([de.min((0, 2)), de.max((0, 2))]),
        )

    def given(self, baseline_de: np.ndarray, changes: np.ndarray, n_trials: np.ndarray) -> DEPrior:
        """Return the prior of one person, of whom some trials are known: the posterior.

        Parameters
        ----------
        baseline_de : array, (n_bands, n_chans)
            The DE of the person's baseline, in nats.
        changes : array, (n_classes, n_bands, n_chans)
            The mean change in trials of each class; not read where there is none.
        n_trials : array of int, (n_classes,)
            How many trials of each class are known.
        """
        shape, size = self.mean.shape, self.mean[0].size
        covariance = self._covariance()
        of_trials = self.trials[:, 1].reshape(len(self.trials), -1)
        of_trials = of_trials.T @ of_trials
        # What is known, and how well: single trials differ from what is usual in the person.
        blocks = [0, *(1 + np.flatnonzero(n_trials))]
        known = np.concatenate([np.arange(size) + size * block for block in blocks])
        noise = 1e-6 * np.eye(len(known))
        for i, block in enumerate(blocks[1:], 1):
            rows = slice(i * size, (i + 1) * size)
            noise[rows, rows] += of_trials / n_trials[block - 1]
        found = np.concatenate([baseline_de[None], changes])[blocks].ravel()
        gain = np.linalg.solve(covariance[np.ix_(known, known)] + noise, covariance[known]).T
        mean = self.mean.ravel() + gain @ (found - self.mean.ravel()[known])
        left = covariance - gain @ covariance[known]
        values, vectors = np.linalg.eigh((left + left.T) / 2)
        order = np.argsort(values)[::-1][:_MAX_FACTORS]
        factors = np.sqrt(values[order].clip(0))[:, None] * vectors[:, order].T
        return replace(
            self,
            mean=mean.reshape(shape),
            people=factors.reshape(-1, *shape),
            baseline_modes=tuple(0 * mode for mode in self.baseline_modes),
            change_modes=tuple(0 * mode for mode in self.change_modes),
        )

    def _covariance(self) -> np.ndarray:
        """Return the covariance of people, over classes, bands and electrodes as in `mean`."""
        factors = self.people.reshape(len(self.people), -1)
        covariance = factors.T @ factors
        size = self.mean[0].size
        start = 0
        for modes, n in ((self.baseline_modes, size), (self.change_modes, self.mean[1:].size)):
            product = np.ones((1, 1))
            for mode in modes:
                product = np.kron(product, mode @ mode)
            covariance[start : start + n, start : start + n] += product
            start += n
        return covariance

    def sample(
        self,
        rng: np.random.Generator,
        labels: np.ndarray,
        n_people: int,
        n_windows: int,
        n_baseline_windows: int,
    ) -> Virtual:
        """Draw people who do not exist, each with trials of the same classes.

        Parameters
        ----------
        rng : Generator
            Source of what is drawn.
        labels : array of int, (n_trials of a person,)
            The class of each trial.
        n_people, n_windows, n_baseline_windows : int
            How many people, and how many half-second windows a trial and a baseline last.
        """
        n_own = len(labels)
        shape = self.mean.shape[1:]
        persons = np.stack([self._person(rng) for _ in range(n_people)])
        persons = np.repeat(persons, n_own, axis=0)
        classes = np.tile(labels, n_people)
        z = _normal(rng, (len(classes), len(self.trials)))
        own = np.einsum("nf,fabc->nabc", z, self.trials)
        baseline = persons[:, 0] + own[:, 0]
        change = persons[np.arange(len(classes)), 1 + classes] + own[:, 1]
        index = np.arange(len(classes))
        if not self.own_baselines:
            index, baseline = index // n_own, persons[::n_own, 0]
        low, high = self.range[:, :, None] + np.array([-_MARGIN, _MARGIN])[:, None, None, None]

        def over_time(level: np.ndarray, n: int) -> np.ndarray:
            out = np.empty((len(level), shape[0], n, shape[1]), np.float32)
            for row, one in zip(out, level, strict=True):
                row[:] = (one[:, None] + self._time_course(rng, n)).clip(low, high)
            return out

        return Virtual(
            de=over_time(baseline[index] + change, n_windows),
            baseline_de=over_time(baseline, n_baseline_windows),
            people=np.repeat(np.arange(n_people), n_own),
            labels=classes,
            baselines=index,
        )

    def _person(self, rng: np.random.Generator) -> np.ndarray:
        """Return a person, (1 + n_classes, n_bands, n_chans)."""
        z = _normal(rng, len(self.people))
        drawn = self.mean + np.einsum("f,fkbc->kbc", z, self.people)
        bands, chans = self.baseline_modes
        drawn[0] += bands @ _normal(rng, drawn.shape[1:]) @ chans
        classes, bands, chans = self.change_modes
        z = np.einsum("kl,lbc->kbc", classes, _normal(rng, drawn[1:].shape))
        drawn[1:] += bands @ z @ chans
        return drawn

    def _time_course(self, rng: np.random.Generator, n_windows: int) -> np.ndarray:
        """Return a time course of mean 0, (n_bands, n_windows, n_chans) in nats."""
        n_components, n_lags = self.memory.shape
        n_fft = n_windows + 2 * n_lags
        # The circle that has this autocovariance, of which a part as long as the trial is cut.
        circle = np.zeros((n_components, n_fft))
        circle[:, :n_lags] = self.memory
        circle[:, -1:-n_lags:-1] = self.memory[:, 1:]
        amplitude = np.sqrt(np.fft.rfft(circle).real.clip(0))
        white = np.fft.rfft(rng.standard_normal((n_components, n_fft)))
        drawn = np.fft.irfft(white * amplitude, n_fft)[:, :n_windows]
        scores = np.einsum("kt,kbc->btc", drawn, self.courses)
        residuals = np.stack(
            [np.interp(one, _SCORES, row) for one, row in zip(scores, self.marginals, strict=True)]
        )
        return (residuals - residuals.mean(1, keepdims=True)) * self.spread[:, None]

    def content(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it, tensors and plain data; see `from_content`."""

        def plain(value: Any) -> Any:
            if isinstance(value, tuple):
                return [plain(one) for one in value]
            return torch.from_numpy(value.astype(np.float32)) if hasattr(value, "dtype") else value

        return {name: plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> DEPrior:
        """Rebuild it from what `content` returned."""

        def array(value: Any) -> Any:
            if isinstance(value, list):
                return tuple(array(one) for one in value)
            return value.double().numpy() if isinstance(value, torch.Tensor) else value

        return cls(**{name: array(value) for name, value in content.items()})


def _person_means(
    baseline_de: np.ndarray,
    change: np.ndarray,
    person: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the baseline of each person, and the change in each class.

    Where someone has no trial of a class, the change is as far from that of the class as theirs are
    from those of other classes.
    """
    n_people = person.max() + 1
    baseline = np.stack([baseline_de[person == p].mean(0) for p in range(n_people)])
    found = np.full((n_people, n_classes, *change.shape[1:]), np.nan)
    for p in range(n_people):
        for c in set(labels[person == p].tolist()):
            found[p, c] = change[(person == p) & (labels == c)].mean(0)
    of_class = np.nanmean(found, axis=0)
    away = np.nanmean(found - of_class, axis=1, keepdims=True)
    return baseline, np.where(np.isnan(found), of_class + away, found)


def _mean_of(persons: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Return the mean over people, shrunk towards what is the same on both sides of the head.

    Parameters
    ----------
    persons : array, (n_people, 1 + n_classes, n_bands, n_chans)
        The baseline, and the change in each class.
    mirror : array of int, (n_chans,)

    Notes
    -----
    The baseline, the mean change and what sets classes apart are shrunk each on its own, as what is
    known of one side of the head says nothing of the other two.
    """
    n_people = len(persons)
    overall = persons[:, 1:].mean(1, keepdims=True)
    mean = persons.mean(0)
    shrunk = []
    for part in (persons[:, :1], overall, persons[:, 1:] - overall):
        sides = (part - part[..., mirror]) / 2
        signal = (sides.mean(0) ** 2).sum()
        chance = sides.var(0, ddof=1).sum() / n_people if n_people > 1 else np.inf
        kept = max(0.0, 1 - chance / signal) if signal > 0 else 0.0
        shrunk.append((1 - kept) * sides.mean(0))
    return mean - np.concatenate([shrunk[0], shrunk[1] + shrunk[2]])


def _both_sides(values: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Return values, (n, ..., n_chans), and their mirror images."""
    return np.concatenate([values, values[..., mirror]])


def _factors(away: np.ndarray, dof: int) -> np.ndarray:
    """Return factors whose squares add up to the covariance of deviations, largest first."""
    if dof < 1:
        return np.zeros((0, *away.shape[1:]))
    _, weights, rows = np.linalg.svd(away.reshape(len(away), -1), full_matrices=False)
    kept = np.flatnonzero(weights > 1e-9 * max(weights.max(), 1e-9))[:_MAX_FACTORS]
    factors = weights[kept, None] * rows[kept] / np.sqrt(dof)
    return factors.reshape(-1, *away.shape[1:])


def _modes(away: np.ndarray, dof: int, share: float) -> tuple[np.ndarray, ...]:
    """Return square roots of the covariance of each axis of deviations but the first.

    Their Kronecker product has `share` of the variance of the deviations.
    """
    n_axes = away.ndim - 1
    variance = (away**2).sum() / max(dof, 1)  # the trace of the covariance
    roots = []
    for axis in range(1, away.ndim):
        rows = np.moveaxis(away, axis, 0).reshape(away.shape[axis], -1)
        values, vectors = np.linalg.eigh(rows @ rows.T)
        values = values.clip(0) / max(values.sum(), 1e-12)  # a trace of 1
        roots.append((vectors * np.sqrt(values)) @ vectors.T)
    return tuple(root * (share * variance) ** (0.5 / n_axes) for root in roots)


def _time_courses(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the principal components of time courses, and the autocorrelation of each.

    Parameters
    ----------
    scores : array, (n_trials, n_bands, n_windows, n_chans)
        Residuals, as normal scores.

    Returns
    -------
    courses : array, (n_components, n_bands, n_chans)
    memory : array, (n_components, n_lags)
    """
    n_trials, n_bands, n_windows, n_chans = scores.shape
    x = scores.swapaxes(1, 2).reshape(n_trials, n_windows, n_bands * n_chans)
    values, vectors = np.linalg.eigh(np.tensordot(x, x, ((0, 1), (0, 1))) / (n_trials * n_windows))
    order = np.argsort(values)[::-1]
    order = order[values[order] > 1e-6 * values.max()]
    components = x @ vectors[:, order]
    n_lags = min(_MAX_LAG, max(n_windows // 2, 1))
    n_fft = n_windows + n_lags
    power = (np.abs(np.fft.rfft(components, n_fft, axis=1)) ** 2).sum(0)
    covariance = np.fft.irfft(power, n_fft, axis=0)[:n_lags]
    # Fewer pairs of windows are far apart: what they say is weighted down, to nothing in the end.
    taper = 0.5 + 0.5 * np.cos(np.pi * np.arange(n_lags) / n_lags)
    memory = (covariance / covariance[:1] * taper[:, None]).T
    courses = (vectors[:, order] * np.sqrt(values[order])).T.reshape(-1, n_bands, n_chans)
    return courses, memory


def _to_scores(standardised: np.ndarray, marginals: np.ndarray) -> np.ndarray:
    """Return the normal scores of residuals, (n_trials, n_bands, n_windows, n_chans)."""
    bands = zip(standardised.swapaxes(0, 1), marginals, strict=True)
    return np.stack([np.interp(band, row, _SCORES) for band, row in bands], axis=1)


def _normal(rng: np.random.Generator, shape: Any) -> np.ndarray:
    """Return normal numbers, none of them far out."""
    return rng.standard_normal(shape).clip(-_FARTHEST, _FARTHEST)


def _normal_cdf(z: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr  # it takes a while to import, and training does without

    return ndtr(z)
