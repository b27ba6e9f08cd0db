"""What a gain is worth: how many more people to train on would give the same.

The learning curve of a classifier, its accuracy a + b·ln n with n people to train on, says what
people are worth. Over the sizes at hand such curves are close to straight in the logarithm; a power
law's third parameter cannot be told from few points (Viering and Loog 2022, The Shape of Learning
Curves: a Review, IEEE Transactions on Pattern Analysis and Machine Intelligence 45). A gain g at n
people is that of n' people where b·ln(n' / n) = g, and worth n' - n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from de3dgan.evaluation.statistics import POOLED_FOLDS, interval_tail


@dataclass(frozen=True)
class Worth:
    """A gain in people, and its 95 % interval.

    Attributes
    ----------
    value, low, high : float
        More people than there are; negative if the gain is. Infinite where that is beyond the sizes
        of the curve, or where people gain nothing, and so give no gain of any size.
    most, least : float
        The largest and the smallest finite worth that the curve can tell.
    """

    value: float
    low: float
    high: float
    most: float
    least: float


def slopes(sizes: Sequence[float], accuracies: np.ndarray) -> np.ndarray:
    """Return b of the least-squares curve a + b·ln n.

    Parameters
    ----------
    sizes : sequence of float, length n_sizes
        People trained on, at least two different numbers.
    accuracies : array, (n_draws, n_sizes)
        Of each draw of the people tested on.

    Returns
    -------
    array, (n_draws,)
        Gain of e times as many people.
    """
    centred = np.log(sizes) - np.log(sizes).mean()
    return accuracies @ centred / (centred @ centred)


def people_worth(
    gains: np.ndarray, sizes: Sequence[float], accuracies: np.ndarray, n: float
) -> np.ndarray:
    """Return how many more than `n` people would give each gain.

    Parameters
    ----------
    gains : array, (n_draws,)
        Differences of accuracy at `n` people.
    sizes, accuracies
        The learning curve of each draw, see `slopes`.
    n : float
        People trained on, within `sizes`.

    Returns
    -------
    array, (n_draws,)
        Plus or minus infinity where the gain is more or less than that of any of `sizes`, and where
        a curve does not rise.
    """
    b = slopes(sizes, accuracies)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        wanted = n * np.exp(np.where(b > 0, gains / b, np.sign(gains) * np.inf))
    wanted[gains == 0] = n
    # A little beyond the ends is rounding.
    within = (wanted >= min(sizes) * (1 - 1e-9)) & (wanted <= max(sizes) * (1 + 1e-9))
    return np.where(within, wanted - n, np.where(wanted > n, np.inf, -np.inf))


def worth(
    gains: np.ndarray,
    sizes: Sequence[float],
    accuracies: np.ndarray,
    n: float,
    n_groups: int,
    pooled_folds: bool,
) -> Worth:
    """Return what a gain is worth in people, with its interval.

    Parameters
    ----------
    gains : array, (1 + n_draws,)
        Difference of accuracy at `n` people, of the people tested on and then of bootstrap draws of
        them.
    sizes : sequence of float, length n_sizes
        People trained on.
    accuracies : array, (1 + n_draws, n_sizes)
        The learning curve on the same draws: it is fitted anew in each.
    n : float
        People trained on, within `sizes`.
    n_groups : int
        People tested on.
    pooled_folds : bool
        They were tested in several folds of a cross-validation.

    Notes
    -----
    Ends of the interval are percentiles of the draws, as far out as those of
    `de3dgan.evaluation.statistics.estimate`. As they are of an order, draws beyond the curve count.
    """
    every = people_worth(gains, sizes, accuracies, n)
    tail = interval_tail(n_groups, POOLED_FOLDS if pooled_folds else 1)
    draws = every[1:][~np.isnan(every[1:])]
    low, high = (
        (
            float(np.quantile(draws, tail, method="lower")),
            float(np.quantile(draws, 1 - tail, method="higher")),
        )
        if n_groups > 1 and len(draws)
        else (math.nan, math.nan)
    )
    return Worth(float(every[0]), low, high, max(sizes) - n, min(sizes) - n)
