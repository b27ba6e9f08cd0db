"""The benchmark of virtual people: its counts, its weights and its controls."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import virtual_people as benchmark
from benchmarks.virtual_people import Config, Data, Extra, Found, learnt
from tests.helpers import fake_store


@pytest.fixture
def data() -> Data:
    """Return 20 people with a trial of each class, told apart by the first map, and others."""
    rng = np.random.default_rng(0)
    subjects = [f"s{trial // 2:02d}" for trial in range(40)]
    store = fake_store(n_trials=40, n_frames=3, subject=subjects)
    labels = np.arange(40) % 2
    maps = rng.normal(size=(40, 3, 6)).astype(np.float32)
    maps[..., 0] += 6 * labels[:, None]
    return Data("EEGMAT", store, labels, maps, {})


def test_what_is_told_right_is_counted_per_person_and_class(data):
    tested = data.trials(np.array(["s03", "s05"]))

    def decide(maps):  # right of s03's first class in one of three frames, else always
        out = np.where(data.labels[tested][:, None], 1.0, -1.0) * np.ones((1, 3))
        out[0, :2] = 1.0
        return out

    counts = benchmark.right(data, tested, decide)
    assert counts.shape == (2, 20, 2)
    np.testing.assert_allclose(counts[0, 3], [1 / 3, 1])
    np.testing.assert_allclose(counts[1, 3], [0, 1])
    np.testing.assert_allclose(counts[:, 5], 1)
    assert benchmark.total(data, tested).sum() == 4


def test_a_draw_is_counted_once_and_its_figures_are_those_of_the_counts(
    data, tmp_path, monkeypatch
):
    monkeypatch.setattr(benchmark, "SIZES", (4, 6))
    arms = {"mixed": benchmark.of_mixed}
    monkeypatch.setattr(benchmark, "ARMS", dict.fromkeys(arms, ""))
    monkeypatch.setattr(benchmark, "EXTRA", arms)
    config = Config(work_dir=tmp_path, first_draw=3)
    for draw in (2, 3, 4, 4):  # 2 is below those that count
        benchmark.counted(config, data, draw, (4, 6), (4,))
    found = Found(config, "EEGMAT", (4, 6))
    assert found.n_draws == 2
    accuracy = found.accuracy("real 4", "trial")
    files = [np.load(benchmark.place(config, "EEGMAT", 6, draw)) for draw in (3, 4)]
    told = sum(file["real 4"][1].sum(0) for file in files)
    asked = sum(file["tested"].sum(0) for file in files)
    assert accuracy[0] == pytest.approx((told / asked).mean())
    assert accuracy[0] > 0.9 and accuracy.shape == (1 + benchmark.N_BOOTSTRAP,)
    assert files[0]["tested"].sum() == 2 * 14  # people outside of the largest number


def test_weights_make_up_for_how_many_there_are(data):
    """Ten times as many frames of the same weight change nothing; more weight does."""
    real = data.maps[:8], data.labels[:8]
    wrong = data.maps[8:16], 1 - data.labels[8:16]
    often = tuple(np.tile(x, (10, *[1] * (x.ndim - 1))) for x in wrong)
    asked = data.maps[16:]
    once, many = (learnt(*real, Extra(*some, 0.5))(asked) for some in (wrong, often))
    np.testing.assert_allclose(once, many, atol=0.05)
    heavy = learnt(*real, Extra(*wrong, 5.0))(asked).mean(1)
    labels = data.labels[16:]
    assert ((once.mean(1) > 0) == labels).mean() > 0.9 > 0.1 > ((heavy > 0) == labels).mean()


def test_mixed_trials_have_means_between_those_of_two_people(data):
    known = data.trials(np.array(["s00", "s01", "s02"]))
    maps, labels = benchmark.of_mixed(data, known, 0)
    assert maps.shape == (2 * benchmark.N_VIRTUAL, 3, 6)
    own = data.maps[known].mean(1)
    for label in (0, 1):
        of_class = own[data.labels[known] == label, 0]
        means = maps[labels == label].mean(1)[:, 0]
        assert (means >= of_class.min() - 1e-5).all() and (means <= of_class.max() + 1e-5).all()
