"""The classifier's head in closed form: ridge regression on each view, mixed by held-out groups.

A view (`de3dgan.models.views`) is a group of features. On each, classes are regressed on z-scored
features, every class weighing the same in total. What is held out tells two things: how strongly a
view is regularised, and by how much it counts in the sum. So views that tell nothing count for next
to nothing, and the sum is never much worse than its best part.

Held-out predictions of all frames remain, from the folds: they are what the trunk goes on from, as
the head knows the frames that it is fitted to too well.

Features are never held in memory, only their products: of each frame they are computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from de3dgan.data.frames import chunks
from de3dgan.evaluation import metrics
from de3dgan.evaluation.tuning import grouped_folds

#: Held-out folds, at most.
_N_FOLDS = 5
#: Strengths of regularisation that are tried, per feature of a view.
_STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)
#: Factors by which a view's scores are tried to be scaled when strengths are compared.
_SCALES = np.geomspace(0.5, 16, 11)
#: Weight that keeps the shares of views together where held-out frames do not part them.
_TOGETHER = 0.01
#: Share that each view has at least (of scores with a spread of 1): where nothing is found, the sum
#: would else be the same for all frames, and so would their class.
_LEAST = 0.02
#: Standard deviation of the logarithm of the sharpness, of trials in general: a Gaussian prior,
#: which few trials hardly move.
_SHARPNESS_SPREAD = 0.7
#: Frames whose features are computed at a time.
_BATCH = 256
#: Examples per strength of regularisation up to which a regression is solved in single precision,
#: in half the time: their number over the strength is more than its condition.
_SINGLE = 1e4
#: Standard deviation of a feature below which it is constant but for rounding.
_CONSTANT = 1e-4


@dataclass(frozen=True)
class Head:
    """A linear layer on all views, and what was found on the way.

    Attributes
    ----------
    mean, std : array, (n_features,)
        Of each feature.
    weight : array, (n_features, n_classes)
        Of features less their mean.
    bias : array, (n_classes,)
    shares : array, (n_views,)
        By how much each view's scores count.
    spread : array, (n_views,)
        Standard deviation of each view's held-out scores, before they are weighed by shares.
    strengths : array, (n_views,)
        Regularisation per feature.
    held_out : array, (n, n_classes)
        Scores of the frames that it is fitted to, by a head that has not seen their group.
    with_further : bool
        Whether it is fitted to further examples.
    """

    mean: np.ndarray
    std: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    shares: np.ndarray
    spread: np.ndarray
    strengths: np.ndarray
    held_out: np.ndarray
    with_further: bool = False


@dataclass(frozen=True)
class Further:
    """Examples that a head may be fitted to besides, if that is good for what is held out.

    Attributes
    ----------
    features : callable
        From their indices to their features.
    classes : array of int, (n_further,)
    weight : float
        What they weigh together, where the others weigh 1.
    groups : array, (n_further,), optional
        The group that each was made from, which is held out with it.
    unseen : array of bool, (n,), optional
        Of the others, those that nothing of these was made from. They alone say whether it is good,
        and held-out scores of all others are without. By default all.
    """

    features: Callable[[np.ndarray], Tensor]
    classes: np.ndarray
    weight: float
    groups: np.ndarray | None = None
    unseen: np.ndarray | None = None


def fit(
    features: Callable[[np.ndarray], Tensor],
    sizes: Sequence[int],
    classes: np.ndarray,
    groups: np.ndarray | None,
    n_classes: int,
    further: Further | None = None,
) -> Head:
    """Fit the head.

    Parameters
    ----------
    features : callable
        From indices of examples to their features, (len(indices), sum of `sizes`).
    sizes : sequence of int, length n_views
        Number of features of each view.
    classes : array of int, (n,)
        Class of each example; two occur at least.
    groups : array, (n,), optional
        What is held out together; without, each example by itself.
    n_classes : int
        Number of classes.
    further : Further, optional
        Further examples. They have no say in strengths and shares, and are left out if what is held
        out is predicted worse with them.

    Returns
    -------
    Head
        Where there are too few groups to hold any out, all views have the same share, and held-out
        scores are 0.
    """
    n = len(classes)
    # About which products are taken: a constant less itself is 0, without rounding.
    origin = features(np.arange(min(n, _BATCH))).mean(0)

    def centred(rows: np.ndarray) -> Tensor:
        return features(rows) - origin

    folds = [asked for _, asked in grouped_folds(classes, groups, _N_FOLDS)]
    target, weight = balanced(classes, n_classes)
    # What is in no fold, as the rest would lack a class, is learnt from all the same.
    rest = np.setdiff1d(np.arange(n), np.concatenate([*folds, []]).astype(int))
    parts = [_Products.of(centred, rows, target, weight, sizes) for rows in (*folds, rest)]
    whole = sum(parts[1:], parts[0])
    used = further is not None
    if not folds:
        strengths, shares = np.full(len(sizes), 30.0), np.full(len(sizes), 1 / len(sizes))
        held_out, bias, spread = np.zeros((n, n_classes)), np.zeros(n_classes), np.zeros(len(sizes))
    else:
        asked = np.sort(np.concatenate(folds))

        def held(known: Iterable[_Products], strengths: Sequence[Sequence[float]]) -> np.ndarray:
            """Return scores by view and strength, (n_views, n_strengths, n, n_classes)."""
            scores = np.zeros((len(sizes), len(strengths[0]), n, n_classes), np.float32)
            for rows, products in zip(folds, known, strict=True):
                solved = [products.solved(view, of) for view, of in enumerate(strengths)]
                for some in chunks(rows, _BATCH):
                    views = centred(some).split(list(sizes), dim=1)
                    for of_view, x, (mean, w) in zip(scores, views, solved, strict=True):
                        found = torch.einsum("np,spk->snk", x - mean.float(), w.float())
                        of_view[:, some] = found.cpu().numpy()
            return scores[:, :, asked]

        known = (whole - part for part in parts[: len(folds)])
        tried = held(known, [_STRENGTHS] * len(sizes))
        chosen = [_best(of_view, classes[asked], weight[asked]) for of_view in tried]
        strengths = np.array(_STRENGTHS)[chosen]
        scores = np.stack([of_view[i] for of_view, i in zip(tried, chosen, strict=True)])
        spread = scores.std((1, 2))
        shares, bias = mixed(scores, classes[asked], weight[asked])
        mixture = np.tensordot(shares, scores, 1) + bias
    if further is not None:
        more = _further_products(further, origin, n, n_classes, sizes, groups, folds)
        if folds:
            pairs = zip(parts[: len(folds)], more[: len(folds)], strict=True)
            known = (whole - part + of for part, of in pairs)
            with_it = held(known, [(strength,) for strength in strengths])
            other = np.tensordot(shares, with_it[:, 0], 1) + bias
            unseen = np.ones(n, bool) if further.unseen is None else further.unseen
            fair, rows = unseen[asked], asked[unseen[asked]]
            losses = [
                min(
                    cross_entropy(scale * of[fair], classes[rows], weight[rows])
                    for scale in _SCALES
                )
                for of in (mixture, other)
                if len(rows)
            ]
            used = len(rows) > 0 and losses[1] < losses[0]
            if used:
                mixture[fair] = other[fair]
        whole = whole + more[-1] if used else whole
    if folds:
        held_out = np.zeros((n, n_classes))
        held_out[asked] = mixture
    moments, weights = [], []
    for view, (strength, share) in enumerate(zip(strengths, shares, strict=True)):
        _, w = whole.solved(view, (strength,))
        moments.append(torch.stack(whole.moments(view)))
        weights.append(share * w[0])
    mean, std = torch.cat(moments, dim=1).cpu().numpy()
    mean = mean + origin.cpu().numpy()
    weight = torch.cat(weights).cpu().numpy()
    return Head(mean, std, weight, bias, shares, spread, strengths, held_out, used)


def _further_products(
    further: Further,
    origin: Tensor,
    n: int,
    n_classes: int,
    sizes: Sequence[int],
    groups: np.ndarray | None,
    folds: Sequence[np.ndarray],
) -> list[_Products]:
    """Return the products of further examples: those known to each fold, and those of all."""
    target, weight = balanced(further.classes, n_classes)
    weight = weight * np.float32(further.weight * n / len(further.classes))

    def products(rows: np.ndarray) -> _Products:
        return _Products.of(
            lambda some: further.features(some) - origin, rows, target, weight, sizes
        )

    everyone = np.arange(len(further.classes))
    if further.groups is None or groups is None:
        every = products(everyone)
        return [every] * (len(folds) + 1)
    out = [np.isin(further.groups, groups[rows]) for rows in folds]
    parts = [products(np.flatnonzero(rows)) for rows in out]
    rest = everyone[~np.any([*out, np.zeros(len(everyone), bool)], axis=0)]
    every = sum(parts, products(rest))
    return [*(every - part for part in parts), every]


@dataclass(frozen=True)
class _Products:
    """Weighted sums of products of features, with each other and with targets, per view.

    Attributes
    ----------
    sums : list of (Tensor, Tensor, Tensor), length n_views
        Σ w x xᵀ, Σ w x tᵀ and Σ w x of each view, float64.
    targets, total : Tensor
        Σ w t and Σ w.
    """

    sums: list[tuple[Tensor, Tensor, Tensor]]
    targets: Tensor
    total: Tensor

    @classmethod
    def of(
        cls,
        features: Callable[[np.ndarray], Tensor],
        rows: np.ndarray,
        target: np.ndarray,
        weight: np.ndarray,
        sizes: Sequence[int],
    ) -> _Products:
        """Sum over examples."""
        n_classes = target.shape[1]
        sums = None
        for some in chunks(rows, _BATCH):
            x = features(some)
            t, w = (torch.from_numpy(a[some]).to(x) for a in (target, weight))
            t = t * w[:, None]
            found = [
                (part.mT @ (part * w[:, None]), part.mT @ t, w @ part)
                for part in x.split(list(sizes), dim=1)
            ]
            if sums is None:
                sums = [tuple(a.double() for a in of_view) for of_view in found]
            else:
                for of_view, more in zip(sums, found, strict=True):
                    for a, b in zip(of_view, more, strict=True):
                        a += b
        if sums is None:
            sums = [
                tuple(
                    torch.zeros(shape, dtype=torch.float64) for shape in ((p, p), (p, n_classes), p)
                )
                for p in sizes
            ]
        w = torch.from_numpy(weight[rows].astype(np.float64))
        t = torch.from_numpy(target[rows].astype(np.float64))
        return cls(sums, w @ t, w.sum())

    def __add__(self, other: _Products) -> _Products:
        """Return the sums over the examples of both."""
        return self._with(other, 1)

    def __sub__(self, other: _Products) -> _Products:
        """Return the sums over those examples that are not in `other`."""
        return self._with(other, -1)

    def _with(self, other: _Products, sign: int) -> _Products:
        sums = [
            tuple(a + sign * b.to(a) for a, b in zip(ours, theirs, strict=True))
            for ours, theirs in zip(self.sums, other.sums, strict=True)
        ]
        return _Products(sums, self.targets + sign * other.targets, self.total + sign * other.total)

    def moments(self, view: int) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of a view's features."""
        products, _, sums = self.sums[view]
        mean = sums / self.total.to(sums)
        variance = products.diagonal() / self.total.to(sums) - mean.square()
        return mean, variance.clamp_min(0).sqrt()

    def solved(self, view: int, strengths: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Return the ridge regression of a view, for each strength.

        It has no intercept: classes weigh the same in all, so that where one of them is rarer in
        what is known, it is more frequent in what is held out, and an intercept would lean away
        from it.

        Returns
        -------
        mean : Tensor, (n_features,)
        weight : Tensor, (n_strengths, n_features, n_classes)
            Of features less their mean.
        """
        products, with_target, sums = self.sums[view]
        total, targets = self.total.to(sums), self.targets.to(sums)
        mean, std = self.moments(view)
        covariance = products - total * torch.outer(mean, mean)
        scale = torch.where(std > _CONSTANT, 1 / std.clamp_min(_CONSTANT), 0)
        covariance = covariance * scale[:, None] * scale
        with_target = (with_target - torch.outer(mean, targets)) * scale[:, None]
        weights = []
        for strength in strengths:
            exact = self.total > _SINGLE * strength
            regularised = covariance.to(torch.float64 if exact else torch.float32, copy=True)
            regularised.diagonal().add_(strength * max(len(mean), 1))
            root = torch.linalg.cholesky(regularised)
            solution = torch.cholesky_solve(with_target.to(root), root)
            weights.append(scale[:, None] * solution.to(scale))
        return mean, torch.stack(weights)


def balanced(classes: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one-hot targets less their mean, and weights by which all classes weigh the same.

    Returns
    -------
    targets : array, float32 (n, n_classes)
    weights : array, float32 (n,)
        With a mean of 1.
    """
    counts = np.bincount(classes, minlength=n_classes)
    n_present = (counts > 0).sum()
    targets = np.eye(n_classes, dtype=np.float32)[classes] - 1 / n_classes
    return targets, (len(classes) / (n_present * counts[classes])).astype(np.float32)


def cross_entropy(scores: np.ndarray, classes: np.ndarray, weight: np.ndarray) -> float:
    """Return the weighted mean cross entropy of scores (n, n_classes)."""
    shifted = scores - scores.max(1, keepdims=True)
    chosen = shifted[np.arange(len(classes)), classes]
    return float(np.average(np.log(np.exp(shifted).sum(1)) - chosen, weights=weight))


def _best(scores: np.ndarray, classes: np.ndarray, weight: np.ndarray) -> int:
    """Return which strength gives the best held-out scores, however they are scaled."""
    entropies = [
        min(cross_entropy(scale * of, classes, weight) for scale in _SCALES) for of in scores
    ]
    return int(np.argmin(entropies))


def mixed(
    scores: np.ndarray, classes: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much views count, and what is added to each class.

    Parameters
    ----------
    scores : array, (n_views, n, n_classes)
        Held out.
    """
    size = np.maximum(scores.std((1, 2)), 1e-9)
    scores = scores.astype(np.float64) / size[:, None, None]
    n_views, n, n_classes = scores.shape
    one_hot, weight = np.eye(n_classes)[classes], weight / weight.sum()

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        shares, bias = x[:n_views], x[n_views:]
        z = np.tensordot(shares, scores, 1) + bias
        z -= z.max(1, keepdims=True)
        p = np.exp(z)
        p /= p.sum(1, keepdims=True)
        off = (p - one_hot) * weight[:, None]
        apart = shares - shares.mean()
        value = -(weight * np.log((p * one_hot).sum(1).clip(1e-12))).sum()
        gradient = np.tensordot(scores, off, ([1, 2], [0, 1])) + 2 * _TOGETHER * apart
        return value + _TOGETHER * (apart**2).sum(), np.concatenate([gradient, off.sum(0)])

    start = np.concatenate([np.full(n_views, 1 / n_views), np.zeros(n_classes)])
    bounds = [(_LEAST, None)] * n_views + [(None, None)] * n_classes
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return found[:n_views] / size, found[n_views:] - found[n_views:].mean()


def sharpness(trials: np.ndarray, classes: np.ndarray, scores: np.ndarray) -> float:
    """Return the exponent by which mean probabilities of trials become what they mean.

    Frames of a trial err together, but not quite: of their mean one can be surer than of each.

    Parameters
    ----------
    trials, classes : array of int, (n,)
        Trial and class of each frame.
    scores : array, (n, n_classes)
        Held out.

    Returns
    -------
    float
        See `de3dgan.evaluation.metrics.by_trial`.
    """
    shifted = np.exp(scores - scores.max(1, keepdims=True))
    of_trials, means = metrics.by_trial(trials, classes, shifted / shifted.sum(1, keepdims=True))
    _, weight = balanced(of_trials, scores.shape[1])
    logs = np.log(means.clip(1e-9))
    tried = np.geomspace(0.5, 8, 33)
    prior = 0.5 * (np.log(tried) / _SHARPNESS_SPREAD) ** 2 / len(of_trials)
    losses = [cross_entropy(b * logs, of_trials, weight) for b in tried] + prior
    return float(tried[int(np.argmin(losses))])
