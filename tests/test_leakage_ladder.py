"""The leakage ladder: its short form comes out, and what does not come out is reported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import leakage_ladder
from benchmarks.documents import fill_table
from benchmarks.leakage_ladder import (
    DE,
    EFFECT,
    LINEAR,
    NETWORK,
    NO_EFFECT,
    PROTOCOLS,
    PUBLISHED,
    Cell,
    Config,
    joint_interval,
    ladder,
    main,
    n_honest,
    signals,
    simulated_store,
    thinned,
    unexpected,
)
from de3dgan.base.errors import UserError
from de3dgan.base.paths import ROOT
from de3dgan.data.labels import class_labels
from de3dgan.data.splits import make_split
from de3dgan.eeg.de import differential_entropy

MARK, END = "<!-- table: benchmarks/leakage_ladder.py -->", "<!-- end of table -->"
SHORT = Config(n_subjects=10, n_trials=8, effect_strength=0.5, every=4)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Return a small store without and one with an effect."""
    folder = tmp_path_factory.mktemp("ladder")
    return {
        data: simulated_store(folder / data, SHORT.n_subjects, signal)
        for data, signal in signals(SHORT).items()
    }


def good_cells() -> list[Cell]:
    """Return a full table in which everything is as it has to be."""
    cells = []
    for data in (NO_EFFECT, EFFECT):
        for protocol in PROTOCOLS:
            accuracy = 0.5 if data == NO_EFFECT and protocol != "random-frame" else 0.95
            for baseline in (PUBLISHED, DE):
                for model in (LINEAR, NETWORK):
                    ends = accuracy - 0.03, accuracy + 0.03
                    cells.append(
                        Cell(data, protocol, baseline, model, "subject", 20, accuracy, *ends)
                    )
    return cells


def planted(accuracy: float, *place: str) -> list[Cell]:
    """Return the full table with another accuracy in the cell at `place`."""
    return [
        replace(c, accuracy=accuracy, low=accuracy - 0.03, high=accuracy + 0.03)
        if (c.data, c.protocol, c.baseline, c.model) == place
        else c
        for c in good_cells()
    ]


def test_the_short_ladder_comes_out(stores):
    """Of the linear model: `random-frame` leaks, the others do not, and all find the effect."""
    cells = [
        cell
        for data, store in stores.items()
        for cell in ladder(store, data, SHORT, {LINEAR: leakage_ladder.linear})
    ]
    assert unexpected(cells) == []
    assert len(cells) == 16
    assert n_honest(cells) == 6
    groups = {cell.protocol: (cell.group, cell.n_groups) for cell in cells}
    assert groups == {
        "random-frame": ("trial", 80),
        "trial": ("trial", 80),
        "video": ("stimulus", 8),
        "subject": ("subject", 10),
    }
    for cell in cells:
        assert cell.low <= cell.accuracy <= cell.high
        if (cell.data, cell.protocol) == (NO_EFFECT, "random-frame"):
            assert cell.accuracy > 0.7  # with so few trials, a line tells most of them apart


def test_the_network_predicts_its_test_frames(stores):
    """SA-ST-Net of the published size, on as little as possible."""
    store = stores[NO_EFFECT]
    labels = class_labels(store, ("valence",), 5.0)
    split = thinned(make_split(store, labels, "trial", 0, 0), 20)
    assert (split.test % store.n_frames % 20 == 0).all()
    for baseline in (True, False):
        config = replace(SHORT, epochs=1)
        probabilities = leakage_ladder.network(store, baseline, split, labels, config)
        assert probabilities.shape == (len(split.test), 2)
        np.testing.assert_allclose(probabilities.sum(1), 1)


def test_the_published_baseline_is_subtracted_before_de(stores):
    store = stores[NO_EFFECT]
    trial = 3
    template = store.baseline[store.baseline_index[trial]].reshape(32, 3, 128).mean(1)
    expected = differential_entropy(store.eeg[trial] - np.tile(template, 60))
    found = leakage_ladder.with_published_de(store).de[trial]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_without_an_effect_coins_are_tossed_anew_for_each_fold(stores):
    """And with one, the classes are those of the recordings."""
    without, with_effect = (
        leakage_ladder.classes_per_fold(stores[data], data, seed=0) for data in stores
    )
    assert len({tuple(labels) for labels in without}) == 5
    assert all(set(labels) == {0, 1} for labels in without)
    valence = class_labels(stores[EFFECT], ("valence",), 5.0)
    assert all((labels == valence).all() for labels in with_effect)


@pytest.mark.parametrize(
    ("accuracy", "place"),
    [
        (0.85, (NO_EFFECT, "random-frame", PUBLISHED, NETWORK)),  # the leak is not seen in full
        (0.51, (NO_EFFECT, "random-frame", DE, LINEAR)),  # the leak is not seen at all
        (0.60, (NO_EFFECT, "subject", DE, NETWORK)),  # an honest protocol leaks
        (0.40, (NO_EFFECT, "trial", PUBLISHED, LINEAR)),  # or is below chance
        (0.52, (EFFECT, "video", PUBLISHED, NETWORK)),  # an effect is not found
        (float("nan"), (NO_EFFECT, "video", DE, LINEAR)),
    ],
)
def test_a_cell_that_does_not_comply_is_named(accuracy, place):
    (sentence,) = unexpected(planted(accuracy, *place))
    for word in place:
        assert word in sentence


def test_a_good_table_is_not_complained_about():
    """Not even if one of twelve intervals of 95 % misses chance by little."""
    assert unexpected(good_cells()) == []
    cells = planted(0.535, NO_EFFECT, "subject", DE, LINEAR)
    assert min(abs(cell.low - 0.505) for cell in cells) < 1e-9
    assert unexpected(cells) == []


def test_the_joint_interval_is_that_of_bonferroni():
    """One of one is the cell's own; twelve are each of 99.6 %, by Student's t."""
    cell = good_cells()[0]
    assert joint_interval(cell, 1) == pytest.approx((cell.low, cell.high))
    low, high = joint_interval(cell, 12)
    assert (high - low) / (cell.high - cell.low) == pytest.approx(3.247 / 2.093, abs=0.01)
    assert (low + high) / 2 == pytest.approx(cell.accuracy)


@pytest.mark.parametrize("bad", [False, True])
def test_main_writes_everything_and_fails_on_a_bad_cell(tmp_path, monkeypatch, capsys, bad):
    """Exit code 1, and the sentence, after the table has been written; prose stays as it is."""
    document = (ROOT / "benchmarks" / "LEAKAGE_LADDER.md").read_text()
    (tmp_path / "LEAKAGE_LADDER.md").write_text(document)
    cells = planted(0.7, NO_EFFECT, "trial", DE, NETWORK) if bad else good_cells()
    monkeypatch.setattr(leakage_ladder, "simulated_store", lambda *_: None)
    monkeypatch.setattr(
        leakage_ladder, "ladder", lambda _, data, __: [c for c in cells if c.data == data]
    )
    if bad:
        with pytest.raises(SystemExit, match="Not as expected .*protocol trial, DE baseline"):
            main(Config(out_dir=tmp_path))
    else:
        main(Config(out_dir=tmp_path))
        assert "All 32 cells are as expected." in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "LEAKAGE_LADDER.md",
        "leakage_ladder.csv",
        "leakage_ladder.png",
    ]
    text = (tmp_path / "LEAKAGE_LADDER.md").read_text()
    assert text.count("| no effect | `") == text.count("| effect | `") == 4
    before, after = (t.partition(MARK)[0::2] for t in (document, text))
    assert before[0] == after[0] and MARK in text
    assert before[1].partition(END)[2] == after[1].partition(END)[2] != ""
    assert (text.count("NOT SO") - text.count("**NOT SO** in")) == bad
    assert (tmp_path / "leakage_ladder.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("text", ["", "prose", f"{END} {MARK}"])
def test_a_document_without_a_place_for_the_table_is_refused(tmp_path, text):
    path = tmp_path / "DOCUMENT.md"
    path.write_text(text)
    with pytest.raises(UserError, match="put the lines"):
        fill_table(path, "leakage_ladder.py", ["a"], [["1"]])
    assert path.read_text() == text
