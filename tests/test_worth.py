"""What a gain is worth in people: on learning curves that are planted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from de3dgan.evaluation.worth import people_worth, slopes, worth

SIZES = (4, 8, 12, 16, 23)


def curve(n, slope: float = 0.05):
    return 0.6 + slope * np.log(n)


def test_the_slope_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    accuracies = rng.uniform(0.5, 0.9, (7, len(SIZES)))
    wanted = [np.polyfit(np.log(SIZES), row, 1)[0] for row in accuracies]
    np.testing.assert_allclose(slopes(SIZES, accuracies), wanted, atol=1e-12)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("other", [4, 5, 10, 23])
def test_a_gain_as_that_of_more_people_is_worth_them(n, other):
    gain = curve(other) - curve(n)
    found = people_worth(np.array([gain]), SIZES, curve(np.array([SIZES])), n)
    assert found[0] == pytest.approx(other - n)


@pytest.mark.parametrize(
    ("gain", "slope", "wanted"),
    [
        (0.0, 0.05, 0.0),
        (0.0, -0.05, 0.0),  # no gain is worth nobody, whatever the curve
        (curve(40) - curve(8), 0.05, math.inf),  # more people than the curve knows
        (curve(3) - curve(8), 0.05, -math.inf),
        (0.01, 0.0, math.inf),  # what no number of people gives
        (-0.01, -0.02, -math.inf),
    ],
)
def test_what_the_curve_cannot_tell_is_said_not_clipped(gain, slope, wanted):
    found = people_worth(np.array([gain]), SIZES, curve(np.array([SIZES]), slope), 8)
    assert found[0] == wanted


def study(rng: np.random.Generator, gain: float, n_groups: int, n_draws: int = 400):
    """Return what an assay at 8 people finds: each group has its own level, slope and gain."""
    level = rng.normal(0, 0.05, (n_groups, 1))
    noise = rng.normal(0, 0.02, (n_groups, len(SIZES)))
    accuracies = curve(np.array(SIZES), rng.normal(0.05, 0.02, (n_groups, 1))) + level + noise
    gains = rng.normal(gain, 0.02, n_groups)
    drawn = rng.integers(n_groups, size=(n_draws, n_groups))
    every = [np.concatenate([x.mean(0)[None], x[drawn].mean(1)]) for x in (gains, accuracies)]
    return worth(every[0], SIZES, every[1], 8, n_groups, pooled_folds=False)


@pytest.mark.parametrize("other", [6, 8, 12])
def test_intervals_hold_the_planted_worth(other):
    rng = np.random.default_rng(1)
    found = [study(rng, curve(other) - curve(8), 20) for _ in range(300)]
    covered = [one.low <= other - 8 <= one.high for one in found]
    assert 0.91 < np.mean(covered) < 0.99
    values = [one.value for one in found]
    assert np.median(values) == pytest.approx(other - 8, abs=0.3)


def test_a_gain_beyond_the_curve_has_an_open_interval():
    found = study(np.random.default_rng(2), curve(200) - curve(8), 20)
    assert found.value == found.high == math.inf
    assert (found.most, found.least) == (15, -4)


def test_pooled_folds_are_less_certain():
    rng = np.random.default_rng(3)
    gains = rng.normal(0.01, 0.01, 401)
    accuracies = np.broadcast_to(curve(np.array(SIZES)), (401, len(SIZES)))
    one, pooled = (worth(gains, SIZES, accuracies, 8, 20, several) for several in (False, True))
    assert pooled.low < one.low < one.value < one.high < pooled.high
