"""What a gain is worth in people: on learning curves that are planted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks import worth_in_people
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


def test_the_benchmark_reads_gains_and_worth_off_predictions(tmp_path, monkeypatch):
    """Of 20 people with ten trials of each class, some of which are recognised."""
    monkeypatch.setattr(worth_in_people, "people", lambda *_: 16)
    config = worth_in_people.Config(
        runs_dir=tmp_path, sizes=(4, 8, 0), measured=(8,), more=(4,), folds=(0, 1)
    )

    def write(size: int, stage: str, right: int, k: int = 0) -> None:
        for fold in config.folds:
            where = worth_in_people.place(config, size, 520, k)
            folder = worth_in_people.fold_dir(where, fold) / stage
            folder.mkdir(parents=True)
            groups = np.repeat([f"s{fold}{person}" for person in range(10)], 20)
            labels = np.tile(np.arange(20) % 2, 10)
            wrong = np.tile(np.arange(20) // 2 >= right, 10)
            np.savez(
                folder / "predictions.npz",
                trials=np.arange(200) + 200 * fold,
                groups=groups,
                labels=labels,
                probabilities=np.eye(2)[labels ^ wrong],
            )

    for size, right in ((4, 5), (8, 6), (0, 7)):  # a tenth more for twice as many people
        for stage in ("classifier", "finetune-none"):
            write(size, stage, right)
    write(8, "finetune", 7)
    write(8, "finetune-real", 5)
    write(8, "finetune-people", 8, k=4)
    drawn = {unit: worth_in_people.Drawn(config, unit) for unit in worth_in_people.UNITS}
    assert drawn["frame"].sizes == [4, 8, 16]
    curve_text = "\n".join(worth_in_people.curve_lines(config, drawn))
    assert "per frame +10.0 points for twice as many people (at most 0.0" in curve_text
    rows = [
        line.split(" | ") for line in worth_in_people.arm_lines(config, 8, drawn) if "|" in line
    ]
    cells = {row[0].strip("| "): row[1:] for row in rows}
    assert cells["generated EEG"][0] == "+10.0 (+10.0 to +10.0)"
    assert cells["generated EEG"][2] == "+8.0 (+8.0 to +8.0)"
    assert cells["the same real EEG again"][2] == "-4.0 (-4.0 to -4.0)"
    assert cells["4 additional people"][2] == "more than +8 (more than +8 to more than +8)"
    assert cells["4 additional people"][3] == "+5.8"  # log2(12 / 8) tenths
    said = worth_in_people.arm_lines(config, 8, drawn)[-1]
    assert "4 more people gain +20.0 (+20.0 to +20.0) points per frame: the assay detects" in said
