"""The data set card: what is wrong with data is told, what is in order is not, and all is right."""

from __future__ import annotations

import itertools
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import matplotlib.text
import numpy as np
import pytest

from de3dgan.base.errors import UserError
from de3dgan.data.opening import open_store
from de3dgan.data.store import REFERENCES, Store
from de3dgan.evaluation import card as numbers
from de3dgan.evaluation.card import Channel, describe, within_auc
from de3dgan.figures import style
from de3dgan.figures.card import data_card
from de3dgan.figures.style import png
from de3dgan.reporting.card import aligned, card_text, findings
from tests.conftest import ROOT, run_here
from tests.helpers import fake_store

NAMES = ("F3", "FZ", "F4", "C3", "PZ", "O2")
N_PEOPLE, N_TRIALS = 3, 8
RATINGS = [2.0, 8.0, 8.0, 2.0, 8.0, 2.0, 2.0, 8.0]
OTHERS = [1.0, 2.0, 6.5, 5.5, 7.0, 9.0, 5.0, 4.0]


def store_of(
    n_people: int = N_PEOPLE, n_trials: int = N_TRIALS, n_frames: int = 8, **manifest: object
) -> Store:
    """Return a store of noise: each person has a trial of each video, half of them liked."""
    ratings = np.resize(RATINGS, n_trials)
    store = fake_store(
        n_people * n_trials,
        n_frames,
        NAMES,
        subject=[f"s{person + 1:02d}" for person in range(n_people) for _ in range(n_trials)],
        stimulus=[f"video{trial + 1:02d}" for trial in range(n_trials)] * n_people,
        valence=np.tile(ratings, n_people).tolist(),
        arousal=np.tile(np.resize(OTHERS, n_trials), n_people).tolist(),
    )
    return replace(store, manifest={**store.manifest, "source": "noise", **manifest})


def with_column(store: Store, **columns: list) -> Store:
    """Return `store` with other columns."""
    columns = {name: [str(value) for value in values] for name, values in columns.items()}
    return replace(store, columns={**store.columns, **columns})


@pytest.fixture(autouse=True)
def small_figures(monkeypatch):
    monkeypatch.setattr(style, "DPI", 40)


def whole(text: str) -> str:
    """Return text on one line."""
    return " ".join(text.split())


# --- what is told


def flat(store: Store) -> Store:
    store.eeg[8:16, 3] = 0.01 * store.eeg[8:16, 3]
    return store


def flat_now_and_then(store: Store) -> Store:
    store.eeg[[9, 12], 3] = -3.5
    return store


def flat_in_all(store: Store) -> Store:
    store.eeg[:, 1] = 0
    return store


def loud(store: Store) -> Store:
    store.eeg[16:, 0] *= 20
    return store


def duplicated(store: Store) -> Store:
    store.eeg[:8, 5] = -2 * store.eeg[:8, 2]
    return store


def copied(store: Store) -> Store:
    store.eeg[21] = store.eeg[2]
    return store


def overlapping(store: Store) -> Store:
    store.eeg[21, :, 256:] = 3 * store.eeg[2, :, :-256]
    return store


def without_a_direction(store: Store) -> Store:
    direction = np.random.default_rng(1).normal(size=len(NAMES))
    direction /= np.linalg.norm(direction)
    store.eeg[4] -= np.outer(direction, direction @ store.eeg[4])
    return store


def muscles(store: Store) -> Store:
    seconds = np.arange(store.eeg.shape[-1]) / 128
    store.eeg[store.rating("valence") > 5] += 5 * np.sin(2 * np.pi * 55 * seconds)
    return store


def in_volts(store: Store) -> Store:
    store.eeg[:] *= 1e-6
    return store


def one_class(store: Store) -> Store:
    return with_column(store, arousal=OTHERS * 2 + [7.0] * N_TRIALS)


def rare(store: Store) -> Store:
    return with_column(store, arousal=[8.0] + [2.0] * 7 + [8.0] + [2.0] * 7 + [8.0] + [2.0] * 7)


def one_trial_of_a_class(store: Store) -> Store:
    columns = {name: values[:2] * N_PEOPLE for name, values in store.columns.items()}
    columns["subject"] = ["s01", "s01", "s02", "s02", "s03", "s03"]
    columns["arousal"] = ["1", "9"] * N_PEOPLE
    return replace(store, eeg=store.eeg[:6], columns=columns)


def few(store: Store) -> Store:
    rows = np.arange(19)
    columns = {name: [values[row] for row in rows] for name, values in store.columns.items()}
    return replace(store, eeg=store.eeg[rows], columns=columns)


def unlike(store: Store) -> Store:
    store.eeg[:8] *= 30
    return store


FAULTS: dict[Callable, list[str]] = {
    flat: ["Flat channel, without EEG: C3 of s02."],
    flat_now_and_then: ["Flat channel, without EEG: C3 of s02 (2 of 8 trials)."],
    flat_in_all: ["Flat channel, without EEG: FZ of all 3 people."],
    loud: ["Loud channel, far above the others of that person: F3 of s03."],
    duplicated: ["Duplicated channels, which hold the same: F4 and O2 of s01."],
    copied: ["Identical EEG: trial 2 (s01, video03) and trial 21 (s03, video06): a split that has"],
    overlapping: [
        "Nearly the same EEG: trial 2 (s01, video03) and trial 21 (s03, video06) (6 s, correlation"
    ],
    without_a_direction: ["1 of 24 trials, of s01, lacks directions between electrodes that other"],
    muscles: ["Power from 46 to 64 Hz tells valence within people (AUC 1.00): that is muscles"],
    in_volts: ["The EEG has a standard deviation of 1e-05 µV"],
    one_class: ["Only one class of arousal in all trials of s03: who it is tells the class."],
    rare: ["Rare in arousal: high (12 %)"],
    one_trial_of_a_class: [
        "Nobody has two trials of one class of valence:",
        "Nobody has two trials of one class of arousal:",
    ],
    few: ["Few trials: s03 (3), where others have 8."],
    unlike: ["The amplitude of s01 (3e+02 µV) is far from the others' (10 µV)."],
}


def test_clean_data_has_nothing_that_stands_out():
    card = describe(store_of())
    assert findings(card) == []
    assert card.channels == card.copies == []
    assert card_text(card).endswith("What to look at\n  Nothing stands out.\n")


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_what_is_wrong_is_told_and_nothing_else(plant):
    card = describe(plant(store_of()))
    found = findings(card)
    if plant is few:  # which leaves one class with a single trial
        found = [sentence for sentence in found if sentence.startswith("Few")]
    assert len(found) == len(FAULTS[plant]), found
    for sentence, start in zip(found, FAULTS[plant], strict=True):
        assert sentence.startswith(start), sentence
        assert sentence.endswith(".") and sentence in whole(card_text(card))


def test_a_suspicious_channel_is_told_with_the_trials_that_have_it():
    store = flat_now_and_then(duplicated(store_of()))
    assert describe(store).channels == [
        Channel("s01", "F4 and O2", "duplicated", 8),
        Channel("s02", "C3", "flat", 2),
    ]


def test_what_all_trials_lack_tells_nothing_apart():
    """Nor does a direction that is weak in all of them."""
    store = store_of()
    for trial in store.eeg:
        trial -= trial.mean(0)  # an average reference
        trial[:] = trial - 0.9 * (trial[3] - trial[4]) * np.array([[0, 0, 0, 0.5, -0.5, 0]]).T
    card = describe(store)
    assert not card.lacks.any() and (card.rank == len(NAMES) - 2).all()
    assert findings(card) == []


def test_recordings_of_one_rank_may_lack_different_directions():
    store = store_of(n_people=1)
    for trial, one in zip(store.eeg, [0, 0, 0, 0, 1, 1, 1, 1], strict=True):
        trial[one : one + 3] -= trial[one : one + 3].mean(0)
    card = describe(store)
    assert card.lacks.all() and (card.rank == len(NAMES) - 1).all()


# --- the numbers


def test_the_numbers_are_those_of_the_eeg():
    store = store_of()
    store.eeg[5, 2] *= 3
    card = describe(store)
    np.testing.assert_allclose(card.amplitude, store.eeg.std(-1), rtol=1e-5)
    expected = np.median(store.eeg[8:16].std(-1), 0)
    np.testing.assert_allclose(card.amplitudes()[1], expected, rtol=1e-5)
    assert card.people == ["s01", "s02", "s03"]
    assert card.rank.tolist() == [len(np.linalg.svd(np.cov(x))[1]) for x in store.eeg]


def test_a_sine_has_its_amplitude_above_46_hz_and_its_place_in_the_spectrum():
    store = store_of()
    seconds = np.arange(store.eeg.shape[-1]) / 128
    store.eeg[:] = 0.01 * store.eeg + 2 * np.sin(2 * np.pi * 50 * seconds)
    card = describe(store)
    np.testing.assert_allclose(card.above, np.sqrt(2), rtol=0.01)  # a sine's root mean square
    assert card.freqs[card.spectra["s02"].argmax()] == 50
    store.eeg[:] = 2 * np.sin(2 * np.pi * 20 * seconds)
    assert (describe(store).above < 1e-3).all()


def test_columns_become_classes_by_what_the_source_says_of_them():
    store = with_column(
        store_of(classes={"emotion": ["negative", "neutral", "positive"]}),
        emotion=[0, 1, 2, 2, 1, 0, 1, 1] * N_PEOPLE,
        right=[0, 1] * 12,
        strange=np.arange(24) / 7,
    )
    labels = {label.name: label for label in describe(store).labels}
    assert labels["arousal"].classes == ("low", "high")
    assert labels["arousal"].values[:8].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]  # 5 is not above 5
    assert labels["emotion"].classes == ("negative", "neutral", "positive")
    assert labels["emotion"].values[:3].tolist() == [0, 1, 2]
    assert labels["right"].classes == ("0", "1")
    assert labels["strange"].classes == () and np.isnan(labels["strange"].told_above)
    text = card_text(describe(store))
    assert "negative 6, neutral 12, positive 6" in text
    assert "above 5 of 1 to 9" in text and "no scale known" in text


def test_of_several_classes_the_one_told_best_counts():
    store = with_column(store_of(classes={"emotion": list("abc")}), emotion=[0, 1, 1, 2] * 6)
    store.eeg[np.array(store.columns["emotion"]) == "1"] *= 1.5
    label = next(label for label in describe(store).labels if label.name == "emotion")
    assert label.told_above == 1 and label.z == pytest.approx(4)


def test_an_auc_within_people_is_the_share_of_their_pairs():
    rng = np.random.default_rng(0)
    score, positive = rng.integers(0, 5, 30).astype(float), rng.random(30) < 0.4
    people = np.repeat(["a", "b", "c"], 10)
    positive[20:] = True  # no pair
    score[:10] += 100
    won = [
        (score[i] > score[j]) + (score[i] == score[j]) / 2
        for i, j in itertools.product(range(30), range(30))
        if people[i] == people[j] and positive[i] and not positive[j]
    ]
    assert within_auc(score, positive, people)[0] == pytest.approx(np.mean(won))
    assert np.isnan(within_auc(score, np.ones(30, bool), people)[0])
    # Drawn anew, the deviation is one of 1.
    z = [within_auc(rng.normal(size=30), rng.random(30) < 0.4, people)[1] for _ in range(400)]
    assert np.std(z) == pytest.approx(1, abs=0.12)


def test_damaged_eeg_is_refused():
    store = store_of()
    store.eeg[3, 2, 1] = np.nan
    with pytest.raises(UserError, match="trial 3 has nan at electrode F4"):
        describe(store)


def test_silence_is_described():
    store = store_of()
    store.eeg[:] = 0
    card = describe(store)
    assert len(card.channels) == N_PEOPLE * len(NAMES)
    assert "Flat channel" in card_text(card)
    assert len(png(data_card(card, "silence"))) > 5_000


def test_memory_does_not_grow_with_people(monkeypatch):
    """Copies are searched in blocks of a fixed size, which are larger than this test's data."""
    monkeypatch.setattr(numbers, "copies_within", lambda eeg, rows: [])
    peaks = []
    for n_people in (2, 2, 8):  # the first one imports what is needed
        store = store_of(n_people, 4, 30)
        tracemalloc.start()
        describe(store)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.1 * peaks[1] < 0.5 * store.eeg.nbytes


# --- the text and the figure


@pytest.fixture
def no_copies(monkeypatch):
    monkeypatch.setattr(numbers, "copies_within", lambda eeg, rows: [])


def test_a_deap_fits_on_one_page(no_copies):
    card = describe(store_of(32, 40, 1))
    lines = card_text(card).splitlines()
    assert len(lines) <= 65 and max(map(len, lines)) <= 100
    assert sum(line.startswith("  s") for line in lines) == 32 + 3  # source, stimuli, stimulus
    assert "40" in next(line for line in lines if line.startswith("  trials"))


def test_of_many_people_the_range_is_told(no_copies):
    card = describe(store_of(50, 2, 1))
    lines = card_text(card).splitlines()
    assert len(lines) < 40
    row = next(line for line in lines if line.startswith("  lowest of 50"))
    assert row.split()[3] == "2"  # trials
    assert len(png(data_card(card, "many"))) > 5_000


def test_sessions_pieces_reference_and_montage_are_told():
    store = with_column(
        store_of(reference="none", montage="biosemi64"),
        session=["1", "2"] * 12,
        piece=[0, 1, 2, 3] * 6,
    )
    text = whole(card_text(describe(store)))
    for part in (
        *("3, 2 sessions each", "24 pieces of 6 trials, each counted as a trial, of 8 s, 8 per"),
        *("DE is relative to nothing: it is absolute electrodes", "montage biosemi64: F3 FZ"),
        "grid of 8 by 9",
    ):
        assert part in text
    for reference in ("baseline", "unlabelled", "person"):
        text = whole(card_text(describe(store_of(reference=reference))))
        assert "(24 of 3 s)" in text and REFERENCES[reference] in text


def test_pieces_of_one_trial_are_no_evidence_of_their_own():
    """One trial of each class per person: the classes are told, by as few trials as there are."""
    store = with_column(
        muscles(store_of()), piece=[0, 1, 2, 3] * 6, valence=[1, 1, 1, 1, 9, 9, 9, 9] * 3
    )
    store.eeg[store.rating("valence") > 5] *= 2
    card = describe(store)
    label = card.labels[0]
    assert label.told_above == 1 and label.z == pytest.approx(1.5 / np.sqrt(3 / 4))
    assert any(sentence.startswith("Nobody has two trials") for sentence in findings(card))


def test_a_table_is_aligned():
    assert aligned([["name", "n"], ["a", "7"], ["bcdef", "100"]]) == (
        "name     n\na        7\nbcdef  100"
    )


def test_the_figure_says_what_it_shows():
    figure = data_card(describe(duplicated(flat(store_of()))), "Store there")
    figure.set_layout_engine("none")
    figure.draw_without_rendering()
    texts = whole(" ".join(t.get_text() for t in figure.findobj(matplotlib.text.Text)))
    for part in (
        *("3 people, 24 trials of 8 s", "Store there", "Classes per person (8 trials each)"),
        *("valence: high", "video03", "standard deviation (µV)", "Frequency (Hz)", "β", "AUC"),
        *("Rank of each trial (6 electrodes)", "flat", "duplicated", "Look for"),
    ):
        assert part in texts, part


def test_data_without_labels_is_drawn():
    store = store_of()
    columns = {k: v for k, v in store.columns.items() if k not in ("valence", "arousal")}
    card = describe(replace(store, columns=columns))
    assert "Labels\n  none\n" in card_text(card)
    assert len(png(data_card(card, "no labels"))) > 5_000


# --- as a user runs it


def test_describe_prints_and_draws_the_bundled_data(tmp_path):
    for path in sorted((ROOT / "eeg_dataset" / "EEGMAT").glob("Subject0[01]_*.edf")):
        (tmp_path / path.name).symlink_to(path)
    out = tmp_path / "features" / "eegmat"
    args = ("--source", "eegmat", "--data-dir", tmp_path, "--out-dir", out, "--jobs", 1)
    done = run_here(ROOT / "preprocess_de.py", *args, "--describe")
    assert done.returncode == 0, done.stderr
    for part in ("4 trials of 60 s", "Subject01", "What to look at", "Nobody has two trials"):
        assert part in done.stdout
    assert (out / "card.txt").read_text().strip() in done.stdout
    assert (out / "card.png").read_bytes().startswith(b"\x89PNG")
    assert open_store(out).n_trials == 4  # which the card does not disturb


def test_describe_of_a_store_that_is_up_to_date_leaves_it_as_it_is(deap_dir, deap_store, tmp_path):
    store = shutil.copytree(deap_store, tmp_path / "deap")
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    args = ("--source", "deap", "--data-dir", deap_dir, "--out-dir", store, "--jobs", 1)
    done = run_here(ROOT / "preprocess_de.py", *args, "--describe")
    assert done.returncode == 0, done.stderr
    assert "is up to date" in done.stdout and "What to look at" in done.stdout
    assert {name: (store / name).read_bytes() for name in before} == before
    assert {path.name for path in store.iterdir()} - set(before) == {"card.png", "card.txt"}
