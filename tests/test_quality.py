"""The measures of generated EEG, on EEG of which the answer is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy import signal

from benchmarks import judges
from de3dgan.base.errors import UserError
from de3dgan.data.splits import Split
from de3dgan.data.store import Store
from de3dgan.eeg.de import BANDS, trial_de
from de3dgan.evaluation import network_judge
from de3dgan.evaluation import quality as module
from de3dgan.evaluation.copying import figures, likeness, sought
from de3dgan.evaluation.judges import ask, strongest, told_apart
from de3dgan.evaluation.measures import (
    Found,
    across_halves,
    halves,
    log_spectra,
    mean_by_band,
    seam_ratio,
)
from de3dgan.evaluation.membership import left_out, membership
from de3dgan.evaluation.names import JUDGES
from de3dgan.evaluation.quality import matched_noise, quality
from de3dgan.evaluation.segments import LENGTHS, describe
from de3dgan.evaluation.transfer import Lesson, tangent_space
from tests.helpers import fake_store

FIGURES = set(
    "judged de_round_trip log_spectrum_distance channel_correlation_error seam_ratio amplitude_uv "
    "tstr copying".split()
)
N_TRIALS, N_FRAMES = 24, 12
LABELS = np.arange(N_TRIALS) % 2


def noise(*shape: int, seed: int = 0, scale: float = 10.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=scale, size=shape)


def brownish(*shape: int, seed: int = 0) -> np.ndarray:
    """Return stationary noise that is louder at low frequencies, (..., n_times)."""
    return signal.lfilter([1], [1, -0.9], noise(*shape, seed=seed, scale=4), axis=-1)


def store_with(eeg: np.ndarray) -> Store:
    """Return a store of EEG with the DE that it has, and baselines of random DE."""
    n_trials, n_chans, n_times = eeg.shape
    store = fake_store(n_trials, n_times // 128, ("F3", "FZ", "F4", "PZ")[:n_chans])
    store.eeg[:] = eeg
    store.de[:] = trial_de(eeg) - store.baseline_de[store.baseline_index][:, :, None]
    return store


def split_by_hand(test: int = 8, n_trials: int = N_TRIALS) -> Split:
    """Return a split whose last trials are tested, those before validate, the rest train."""
    frames = np.arange(n_trials * N_FRAMES)
    parts = np.split(frames, [-(test + 2) * N_FRAMES, -test * N_FRAMES])
    return Split("trial", 0, 520, N_FRAMES, *parts)


def eeg_with_classes() -> np.ndarray:
    """Return EEG of four electrodes that share a half; the first is louder in trials of class 1.

    The electrodes' gains differ between trials.
    """
    eeg = brownish(N_TRIALS, 4, N_FRAMES * 128) + brownish(N_TRIALS, 1, N_FRAMES * 128, seed=1)
    eeg *= np.exp(0.2 * np.random.default_rng(2).normal(size=(N_TRIALS, 4, 1)))
    eeg[LABELS == 1, 0] *= 2
    return eeg.astype(np.float32)


def flat(row: dict, prefix: str = "") -> dict[str, float]:
    out = {}
    for key, value in row.items():
        nested = isinstance(value, dict)
        out.update(flat(value, f"{prefix}{key}.") if nested else {prefix + key: value})
    return out


@pytest.fixture(scope="module")
def world() -> Store:
    return store_with(eeg_with_classes())


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What `measured` logs."""
    return []


@pytest.fixture(scope="module")
def measured(world, said) -> dict:
    """What is found of samplers that are good or bad in a known way."""
    train = split_by_hand().trials("train")

    def shifted_copy(trials, draw):
        return 0.3 * np.roll(world.eeg[train[(trials + 3) % len(train)]], 37, axis=-1)

    samplers = {
        "itself": lambda trials, draw: world.eeg[trials],
        "copy": shifted_copy,
        "noise": matched_noise(world, 1),
        "silence": lambda trials, draw: np.zeros_like(world.eeg[trials]),
    }
    learners = {"constant": lambda known, asked: np.zeros(len(asked.classes), int)}
    fits = {"noise": lambda trials: {"nothing": np.zeros(len(trials))}}
    arguments = (world, split_by_hand(), LABELS, lambda trials: world.eeg[trials], samplers)
    return quality(*arguments, learners, fits, said.append)


@pytest.fixture(scope="module")
def rows(measured) -> dict:
    return measured["quality"]


def test_every_row_has_the_same_finite_figures(measured, rows):
    assert list(rows) == "real itself copy noise silence".split()
    for name, row in rows.items():
        assert set(row) == FIGURES
        assert set(row["de_round_trip"]) == set(row["channel_correlation_error"]) == set(BANDS)
        assert set(row["tstr"]) == {"tangent space", "constant"}
        assert row["tstr"]["constant"] == 0.5
        assert set(row["judged"]) == {"1 s", "trial"}
        values = flat(row)
        for unit in row["judged"]:
            assert values.pop(f"judged.{unit}.judge") in JUDGES
        assert all(type(value) is float and math.isfinite(value) for value in values.values())
        kinds = {"training DE", "test DE", "new draws"}
        assert set(row["copying"]) == (kinds - {"new draws"} if name == "real" else kinds)
        assert set(measured["judges"][name]) == {*LENGTHS, "trial"}
        assert all(set(found) == set(JUDGES) for found in measured["judges"][name].values())
    assert set(measured["membership"]) == {"noise"}
    assert json.loads(json.dumps(measured)) == measured


def test_real_eeg_in_the_place_of_generated_eeg_gets_what_the_row_of_real_eeg_says(rows, world):
    itself, real = rows["itself"], rows["real"]
    for kept in itself["de_round_trip"].values():
        assert kept == pytest.approx({"correlation": 1.0, "mae": 0.0, "bias": 0.0}, abs=1e-5)
    for same in FIGURES - {"copying"}:
        assert itself[same] == real[same], same
    assert real["log_spectrum_distance"] > 0.1
    amplitude = np.mean([world.eeg[trial].std() for trial in range(N_TRIALS - 8, N_TRIALS)])
    assert real["amplitude_uv"] == pytest.approx(amplitude, rel=1e-5)


def test_the_strongest_judge_tells_noise_and_no_real_eeg(measured, rows):
    for unit in ("1 s", "trial"):
        verdict = rows["noise"]["judged"][unit]
        assert verdict["auc"] > 0.9 and verdict["low"] > 0.8
        known = measured["judges"]["noise"][unit]
        best = max(known.values(), key=lambda judge: judge["validation_auc"])
        assert known[verdict["judge"]]["validation_auc"] == best["validation_auc"]
    real = rows["real"]["judged"]["1 s"]
    assert 0.35 < real["auc"] < 0.65
    assert real["low"] < 0.5 < real["high"]


def test_noise_has_the_de_and_little_else(rows):
    for kept in rows["noise"]["de_round_trip"].values():
        assert kept["correlation"] > 0.95
        assert kept["mae"] < 0.06
    for band, floor in rows["real"]["channel_correlation_error"].items():
        assert 0 < floor < 0.2
        # The electrodes share half their variance, those of the noise nothing.
        assert rows["noise"]["channel_correlation_error"][band] > 0.35


def test_copies_of_training_eeg_are_found_whatever_their_shift_and_gain(rows):
    for kind in ("training DE", "test DE", "new draws"):
        assert rows["copy"]["copying"][kind]["waveform"] > 0.9
        assert rows["copy"]["copying"][kind]["copied"] > 0.9
        assert rows["noise"]["copying"][kind]["copied"] == 0
        assert rows["silence"]["copying"][kind]["waveform"] == 0
    for kind in ("training DE", "test DE"):
        assert rows["real"]["copying"][kind]["copied"] == 0
        assert rows["real"]["copying"][kind]["waveform"] < 0.5
    assert rows["itself"]["copying"]["training DE"]["copied"] == 1
    assert rows["itself"]["copying"]["test DE"] == rows["real"]["copying"]["test DE"]


def test_draws_without_chance_are_warned_of(rows, said):
    text = " ".join(said)
    for name in ("itself", "copy"):
        assert f"two draws of {name} EEG from the same DE correlate at 1.00" in text
    assert len(said) == 2


def test_silence_is_silent(rows):
    silence = rows["silence"]
    for kept in silence["de_round_trip"].values():
        assert kept["correlation"] == 0.0
        assert kept["bias"] < -10
    assert silence["seam_ratio"] == 1.0
    assert silence["amplitude_uv"] == 0.0
    assert silence["judged"]["1 s"]["auc"] > 0.95


def test_silent_real_eeg_is_measured_too():
    store = store_with(np.zeros((N_TRIALS, 2, N_FRAMES * 128)))
    samplers = {"silence": lambda trials, draw: store.eeg[trials]}
    arguments = (store, split_by_hand(), LABELS, lambda trials: store.eeg[trials], samplers)
    found = quality(*arguments, log=lambda message: None)
    for row in found["quality"].values():
        assert row["judged"]["1 s"]["auc"] == 0.5
        assert row["log_spectrum_distance"] == 0
    json.dumps(found, allow_nan=False)


def test_the_same_seed_gives_the_same_figures_and_leaves_pytorchs_alone(world):
    def found() -> dict:
        arguments = (world, split_by_hand(), LABELS, lambda trials: world.eeg[trials], {})
        return quality(*arguments)

    torch.manual_seed(3)
    first, state = found(), torch.get_rng_state()
    torch.manual_seed(3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    assert found() == first


def test_only_so_many_trials_are_generated_and_only_of_their_part(world, monkeypatch):
    monkeypatch.setattr(module, "N_TRIALS", {"train": 6, "val": 1, "test": 5})
    monkeypatch.setattr(module, "_N_REDRAWN", 2)
    split, asked, read = split_by_hand(), [], []

    def sample(trials, draw):
        asked.append((trials.tolist(), draw))
        return world.eeg[trials]

    def real(trials):
        read.append(trials)
        return world.eeg[trials]

    arguments = (world, split, LABELS, real, {"generated": sample})
    quality(*arguments, log=lambda message: None)
    parts = {part: set(split.trials(part).tolist()) for part in ("train", "val", "test")}
    sizes = {(part, draw): len(t) for part in parts for t, draw in asked if set(t) <= parts[part]}
    assert sizes == {("train", 0): 6, ("val", 0): 1, ("test", 0): 5, ("train", 1): 2}
    assert len(asked) == 4
    assert max(map(len, read)) <= 8
    # Copies are sought in all training trials.
    assert set(np.concatenate(read)) >= parts["train"]


def test_in_the_leaky_protocol_whole_segments_of_a_part_are_asked_about(world):
    frames = np.random.default_rng(0).permutation(N_TRIALS * N_FRAMES)
    train, val, test = map(np.sort, np.split(frames, [200, 240]))
    split = Split("random-frame", 0, 520, N_FRAMES, train, val, test)
    arguments = (world, split, LABELS, lambda trials: world.eeg[trials], {})
    found = quality(*arguments)
    assert set(found["judges"]["real"]) == {"1 s", "trial"}
    assert found["quality"]["real"]["tstr"]["tangent space"] > 0.7


# --- Judges --------------------------------------------------------------------------------------

N_TIMES = 24 * 128


def mixed(*shape: int, seed: int) -> np.ndarray:
    """Return four electrodes' EEG of five sources, (n_trials, 4, N_TIMES)."""
    mixing = np.random.default_rng(99).normal(size=(4, 5)) + 2 * np.eye(4, 5)
    return mixing @ brownish(*shape, 5, N_TIMES, seed=seed)


def of_low_rank(eeg: np.ndarray, seed: int) -> np.ndarray:
    """Return EEG of three sources, mixed in another way for each person."""
    sources = eeg[:, :3] / eeg[:, :3].std(-1, keepdims=True)
    return 10 * np.random.default_rng(seed).normal(size=(len(eeg), 4, 3)) @ sources


def of_full_rank(eeg: np.ndarray, seed: int) -> np.ndarray:
    """Return the same with a little noise on each electrode."""
    return of_low_rank(eeg, seed) + noise(*eeg.shape, seed=seed, scale=2)


def with_bursts(eeg: np.ndarray, seed: int) -> np.ndarray:
    """Return EEG with moments of a fifth of a second that are five times as loud as others."""
    loud = noise(len(eeg), 1, N_TIMES // 25 + 1, seed=seed, scale=1) > 1.2
    return eeg * np.where(np.repeat(loud, 25, axis=-1)[..., :N_TIMES], 5, 1)


def with_waves(eeg: np.ndarray, seed: int, steady: bool) -> np.ndarray:
    """Return EEG with a wave of 10 Hz whose phase goes on, or jumps every quarter of a second."""
    t = np.arange(N_TIMES) / 128
    n_phases = 1 if steady else N_TIMES // 32
    phases = 2 * np.pi * np.random.default_rng(seed).uniform(size=(len(eeg), 4, n_phases))
    wave = np.sin(2 * np.pi * 10 * t + np.repeat(phases, N_TIMES // n_phases, axis=-1))
    return eeg + 25 * wave


def coupled(eeg: np.ndarray, seed: int, together: bool) -> np.ndarray:
    """Return EEG with waves of 5 Hz, and of 38 Hz whose amplitude follows their phase, or not."""
    t = np.arange(N_TIMES) / 128
    slow = np.sin(2 * np.pi * 5 * t)
    follows = slow if together else np.sin(2 * np.pi * 3.3 * t + seed)
    return eeg + 20 * slow + 10 * (1 + follows) * np.sin(2 * np.pi * 38 * t)


def in_another_order(eeg: np.ndarray, seed: int) -> np.ndarray:
    order = np.random.default_rng(seed).permutation(N_TIMES // 128)
    frames = eeg.reshape(*eeg.shape[:2], -1, 128)[:, :, order]
    return frames.reshape(eeg.shape)


#: What each judge is for: real EEG, and what it has to tell from it.
TOLD = {
    "network": (lambda e, s: e, lambda e, s: noise(*e.shape, seed=s)),
    "eigenvalues": (of_low_rank, of_full_rank),
    "tangent space": (lambda e, s: e, lambda e, s: e * np.array([1, -1, 1, 1])[:, None]),
    "marginals": (with_bursts, lambda e, s: e * 2.2),
    "phase memory": (
        lambda e, s: with_waves(e, s, True),
        lambda e, s: with_waves(e, s, False),
    ),
    "coupling": (lambda e, s: coupled(e, s, True), lambda e, s: coupled(e, s, False)),
    "steps": (lambda e, s: e, in_another_order),
    "spectra": (lambda e, s: e, lambda e, s: with_waves(e, s, True)),
}


def asked(real, other, names, n_people: int = 12, seed: int = 0) -> dict:
    """Return `ask` about EEG of people of one trial each; half of them are trained on."""
    base = [mixed(n_people, seed=seed + side) for side in (1, 2)]
    eeg = [real(base[0], seed), other(base[1], seed)]
    trials = np.arange(n_people)
    parts = []
    for rows in np.split(trials, [n_people // 2, 2 * n_people // 3]):
        wanted = np.ones((len(rows), N_TIMES // 128), bool)
        pair = [describe(e[rows], rows, wanted, side, 400, 0) for side, e in enumerate(eeg)]
        parts.append(tuple(pair))
    return ask(*parts, np.array([f"s{t:02d}" for t in trials]), 0, names)


@pytest.mark.parametrize("name", JUDGES)
def test_each_judge_tells_what_it_is_for(name, monkeypatch):
    monkeypatch.setattr(network_judge, "_STEPS", 120)
    found = asked(*TOLD[name], [name])
    longest = max(found[length][name]["auc"] for length in ("1 s", "4 s"))
    assert longest > 0.9, found
    assert found["trial"][name]["auc"] > 0.9
    assert set(found) == {*LENGTHS, "trial"}


def test_no_judge_tells_eeg_of_the_same_kind():
    found = asked(lambda e, s: e, lambda e, s: e, tuple(JUDGES), n_people=18, seed=7)
    for name, verdict in found["1 s"].items():
        assert 0.36 < verdict["auc"] < 0.64, name


def test_full_rank_is_told_where_a_small_network_does_not():
    """The finding that made this battery: a judge that tells little is no proof of likeness."""
    found = asked(*TOLD["eigenvalues"], ("network", "eigenvalues"))["1 s"]
    assert found["eigenvalues"]["auc"] > 0.95
    best = strongest({"1 s": found})["1 s"]
    assert best["judge"] == "eigenvalues" and best["auc"] == found["eigenvalues"]["auc"]


def test_two_eegs_of_people_are_told_apart_and_one_is_not():
    """For those who have arrays: the same as the stages are told, parts being theirs."""
    eeg = mixed(24, seed=11)
    people = np.repeat([f"p{n}" for n in range(12)], 2)
    parts = np.repeat(["train", "val", "test"], [12, 4, 8])
    names = ("eigenvalues", "spectra")
    floor = told_apart(eeg, eeg, people, parts, names=names)
    assert {length: verdict["judge"] in names for length, verdict in floor.items()} == {
        length: True for length in (*LENGTHS, "trial")
    }
    assert 0.3 < floor["1 s"]["auc"] < 0.7
    other = of_low_rank(eeg, seed=12)
    told = told_apart(eeg, other, people, parts, names=names)["1 s"]
    assert told["judge"] == "eigenvalues" and told["auc"] > 0.9
    assert told["low"] <= told["auc"] <= told["high"]


def test_the_strongest_judge_is_chosen_on_validation_people():
    def verdict(auc: float, validation_auc: float, **more: str) -> dict:
        return {"auc": auc, "validation_auc": validation_auc, **more}

    found = {
        "1 s": {"steps": verdict(0.99, 0.6), "spectra": verdict(0.7, 0.8)},
        "trial": {
            "steps": verdict(1.0, 1.0, of="1 s"),
            "spectra": verdict(0.8, 1.0, of="1 s"),  # a tie: it tells segments better
        },
    }
    best = strongest(found)
    assert (best["1 s"]["judge"], best["1 s"]["auc"]) == ("spectra", 0.7)
    assert (best["trial"]["judge"], best["trial"]["auc"]) == ("spectra", 0.8)


def test_no_second_of_a_trial_is_on_both_sides():
    eeg, trials = mixed(6, seed=3), np.arange(6)
    wanted = np.ones((6, N_TIMES // 128), bool)
    wanted[0, 3] = False
    even, odd = (describe(eeg, trials, wanted, side, 1000, 0) for side in (False, True))
    for length, n_times in LENGTHS.items():
        sides = [side[length].features["samples"] for side in (even, odd)]
        assert all(side.shape[1:] == (4, n_times) for side in sides)
        rows = {segment.tobytes() for side in sides for segment in side}
        n = 6 * (N_TIMES // n_times)
        assert len(rows) == sum(map(len, sides)) == n - 1  # one of them is not wanted
    first = [even["12 s"].trials.tolist(), odd["12 s"].trials.tolist()]
    assert sorted(sum(first, [])) == sorted([*trials.tolist(), *range(1, 6)])


def test_the_number_of_segments_is_capped():
    eeg, trials = mixed(6, seed=3), np.arange(6)
    found = describe(eeg, trials, np.ones((6, 24), bool), False, 30, 0)
    assert len(found["1 s"].trials) == 30
    assert np.bincount(found["1 s"].trials).tolist() == [5] * 6


# --- Copying, membership, lessons ----------------------------------------------------------------


def found_alike(eeg: np.ndarray, library: np.ndarray, itself: bool = False) -> dict:
    every = np.ones((len(eeg), N_TIMES // 128), bool)
    kinds = {"x": sought(eeg, np.arange(len(eeg)), every, 0, itself)}
    recordings = [(i, trial, every[0]) for i, trial in enumerate(library)]
    return likeness(kinds, recordings)["x"]


def test_waveforms_are_sought_at_any_shift_gain_and_sign():
    library = mixed(3, seed=5)
    real = found_alike(library, library, itself=True)
    assert real["waveform"].max() < 0.6
    for copy in (library, -3 * np.roll(library, 101, axis=-1)):
        found = found_alike(copy[:, :, :N_TIMES], library)
        assert np.median(found["waveform"]) > 0.99
        assert figures(found, real)["copied"] > 0.8
    other = found_alike(mixed(3, seed=6), library)
    assert figures(other, real)["copied"] < 0.2


def test_likeness_of_a_waveform_is_that_of_a_search_by_hand():
    library, eeg = mixed(1, seed=5), mixed(1, seed=6)
    kind = sought(eeg, np.arange(1), np.ones((1, 24), bool), 0)
    found = found_alike(eeg, library)["waveform"][0]
    from de3dgan.evaluation.segments import passed

    recording, segment = passed(library[0]), kind.waveforms[0]
    windows = np.lib.stride_tricks.sliding_window_view(recording, segment.shape[-1], axis=-1)
    by_hand = np.einsum("cst,ct->s", windows, segment)
    by_hand /= np.sqrt(np.square(windows).sum((0, 2)) * np.square(segment).sum())
    assert found == pytest.approx(np.abs(by_hand).max(), abs=1e-4)


def test_spectra_and_covariances_of_copies_are_alike_whatever_the_gain():
    library = mixed(3, seed=5) * np.array([1, 2, 3, 4])[:, None]
    copies = found_alike(7 * library, library)
    others = found_alike(mixed(3, seed=6), library)
    for way in ("spectrum", "covariance"):
        assert copies[way].min() > 0.999
        assert others[way].max() < copies[way].min()


def people(n_members: int, n_others: int) -> tuple[np.ndarray, np.ndarray]:
    """Return names of people with two trials each, and who is a member."""
    n = n_members + n_others
    return np.repeat([f"s{i:02d}" for i in range(n)], 2), np.repeat(np.arange(n) < n_members, 2)


def test_a_generator_that_remembers_its_people_gives_them_away():
    groups, members = people(14, 8)
    rng = np.random.default_rng(0)
    near = rng.normal(size=len(groups)) - 3 * members
    found = membership({"near": near, "nothing": rng.normal(size=len(groups))}, groups, members)
    assert found["auc"] > 0.95 and found["auc_low"] > 0.8
    assert found["balanced_accuracy_low"] > 0.6 and found["balanced_accuracy"] > 0.85
    assert (found["members"], found["others"]) == (14, 8)


def test_who_is_a_member_is_not_told_from_what_says_nothing():
    groups, members = people(20, 10)
    rng = np.random.default_rng(1)
    aucs = []
    for _ in range(12):
        scores = {name: rng.normal(size=len(groups)) for name in "abc"}
        aucs.append(membership(scores, groups, members)["auc"])
    assert 0.38 < np.mean(aucs) < 0.56
    x = np.arange(6.0)[:, None]
    assert left_out(x, x[:, 0] > 2, np.array(list("abcdef"))).argmax() == 5


def test_membership_of_too_few_or_of_both_is_not_asked():
    groups, members = people(5, 2)
    assert membership({"a": np.arange(14.0)}, groups, members) is None
    groups, members = people(5, 5)
    members[1] = False  # one trial of the first is trained on, the other tested
    assert membership({"a": np.arange(20.0)}, groups, members) is None


def test_membership_of_generated_eeg_is_that_of_training_trials(world):
    """A sampler that gives training trials their own EEG back, and others noise."""
    split = split_by_hand()
    train, sample = set(split.trials("train").tolist()), matched_noise(world, 1)

    def remembering(trials, draw):
        own = np.isin(trials, list(train))[:, None, None]
        return np.where(own, world.eeg[trials], sample(trials, draw))

    arguments = (world, split, LABELS, lambda t: world.eeg[t], {"generated": remembering})
    found = quality(*arguments, fits={"generated": lambda t: {}}, log=lambda message: None)
    told = found["membership"]["generated"]
    assert told["auc"] > 0.9 and (told["members"], told["others"]) == (14, 8)


def test_a_class_is_learnt_from_eeg_that_has_it(world):
    wanted = np.ones((12, N_FRAMES), bool)
    train, test = np.arange(12), np.arange(12, 24)
    asked = Lesson(world.eeg[test], test, wanted, LABELS[test])
    learn = tangent_space(world)
    known = Lesson(world.eeg[train], train, wanted, LABELS[train])
    assert (learn(known, asked) == asked.classes).mean() > 0.85
    shuffled = Lesson(world.eeg[train], train, wanted, LABELS[train] ^ (train // 2 % 2))
    assert 0.25 < (learn(shuffled, asked) == asked.classes).mean() < 0.75


def test_lessons_have_the_frames_that_are_wanted(world):
    wanted = np.zeros((2, N_FRAMES), bool)
    wanted[0, 3] = wanted[1, 0] = True
    lesson = Lesson(world.eeg[[5, 8]], np.array([5, 8]), wanted, np.array([1, 0]))
    assert lesson.numbers.tolist() == [5 * N_FRAMES + 3, 8 * N_FRAMES]
    assert lesson.classes.tolist() == [1, 0]
    np.testing.assert_array_equal(lesson.frames[0], world.eeg[5, :, 3 * 128 : 4 * 128])


# --- Single figures ------------------------------------------------------------------------------


def test_halves_take_turns():
    found = halves(np.arange(20.0 * 128))
    assert found.shape == (2, 2, 640)
    assert found[:, :, 0].tolist() == [[0, 1280], [640, 1920]]


def test_a_trial_that_changes_slowly_is_not_taken_for_two():
    """Its first half differs from its second by much; its interleaved halves do not."""
    eeg = brownish(4, 2, 60 * 128) * np.linspace(1, 4, 60 * 128)
    spectra = log_spectra(eeg)
    interleaved = across_halves(spectra, spectra).mean()
    first, second = log_spectra(eeg[..., : 30 * 128]), log_spectra(eeg[..., 30 * 128 :])
    assert np.abs(first - second).mean() > 1.5 * interleaved


def test_half_the_amplitude_is_a_bias_of_minus_ln_two(world):
    from de3dgan.evaluation.measures import de_round_trip

    trials = np.arange(8)
    found = de_round_trip(trial_de(world.eeg[trials] / 2), world.absolute_de(trials))
    for kept in found.values():
        assert kept["correlation"] == pytest.approx(1, abs=1e-5)
        assert kept["bias"] == pytest.approx(-math.log(2), abs=1e-5)
        assert kept["mae"] == pytest.approx(math.log(2), abs=1e-5)


def test_seams_show_where_frames_do_not_continue_each_other():
    assert seam_ratio(noise(8, 60 * 128)) == pytest.approx(1, abs=0.08)
    smooth = signal.sosfilt(signal.butter(4, 20, fs=128, output="sos"), noise(8, 64 * 128))
    assert seam_ratio(smooth[:, : 60 * 128]) == pytest.approx(1, abs=0.08)
    # Frames of one signal in another order, and frames that each start anew.
    order = np.random.default_rng(0).permutation(60)
    frames = smooth[:, : 60 * 128].reshape(8, 60, 128)[:, order]
    assert seam_ratio(frames.reshape(8, -1)) > 1.5
    t = np.arange(128) / 128
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, size=(8, 60, 1))
    assert seam_ratio(np.sin(2 * np.pi * 8 * t + phases).reshape(8, -1)) > 1.2
    # One step of 128 across the border, steps of 1 inside.
    assert seam_ratio(np.tile(np.arange(128.0), 10)) == pytest.approx(127)


def test_spectra_are_compared_between_4_and_46_hz():
    eeg = noise(1, 2, 40 * 128)
    t = np.arange(40 * 128) / 128

    def distance(frequency: float) -> float:
        generated = eeg + 5 * np.sin(2 * np.pi * frequency * t)
        return np.abs(log_spectra(generated) - log_spectra(eeg)).mean()

    assert distance(60) < 0.01
    assert distance(2) < 0.01
    assert distance(20) > 0.03


def test_correlations_between_electrodes_are_found_in_the_band_where_they_are():
    """Electrode 1 is electrode 0 in every other 5 s and its opposite in between; 2 is alone.

    Electrode 3 shares with electrode 0 what both have in alpha.
    """
    eeg = noise(1, 4, 60 * 128)
    sign = np.tile(np.repeat([1, -1], 5 * 128), 6)
    eeg[0, 1] = sign * eeg[0, 0]
    sos = signal.butter(8, (7, 15), "bandpass", fs=128, output="sos")
    eeg[0, 3] += signal.sosfiltfilt(sos, eeg[0, 0] - eeg[0, 3])
    (found,) = Found.of(eeg).correlations
    assert found.shape == (2, 4, 4, 4)
    np.testing.assert_allclose(found[0, :, 0, 1], 1, atol=0.05)
    np.testing.assert_allclose(found[1, :, 0, 1], -1, atol=0.05)
    assert np.abs(found[:, :, 0, 2]).max() < 0.25
    theta, alpha, beta, gamma = found[:, :, 0, 3].mean(0)
    assert alpha > 0.9
    assert max(map(abs, (theta, beta, gamma))) < 0.45


def test_a_loud_moment_does_not_decide_the_correlation():
    eeg = noise(1, 2, 60 * 128)
    eeg[..., 2 * 128 : 3 * 128] = noise(1, 1, 128, scale=1000)
    (found,) = Found.of(eeg).correlations
    np.testing.assert_allclose(found[0, :, 0, 1], 1 / 6, atol=0.2)  # of six times 5 s, one


def test_errors_of_correlations_are_means_off_the_diagonal():
    error = np.arange(4.0)[:, None, None] * (1 - np.eye(3)) + 100 * np.eye(3)
    error = np.broadcast_to(error, (5, 2, 4, 3, 3))
    assert mean_by_band(error) == {"theta": 0.0, "alpha": 1.0, "beta": 2.0, "gamma": 3.0}


def test_matched_noise_is_drawn_per_trial_and_draw(world):
    sample = matched_noise(world, 1)
    both, again = sample(np.array([3, 5]), 0), sample(np.array([5]), 0)
    np.testing.assert_array_equal(both[1], again[0])
    for unlike in (
        sample(np.array([5]), 1)[0],
        both[0],
        matched_noise(world, 2)(np.array([5]), 0)[0],
    ):
        assert abs(np.corrcoef(both[1].ravel(), unlike.ravel())[0, 1]) < 0.1
    assert np.abs(trial_de(again) - world.absolute_de(np.array([5]))).mean() < 0.06


def test_tables_of_judges_hold_what_stage_1_has_measured(finished_runs, little_store, tmp_path):
    (gan,) = finished_runs.glob("valence/subject/fold0/gan")
    document = tmp_path / "JUDGES.md"
    document.write_text("# Judges\n\n<!-- table: benchmarks/judges.py -->\n<!-- end of table -->\n")
    judges.main(judges.Config(little_store, (finished_runs,), task="valence", jobs=1, out=document))
    told = json.loads((gan / "result.json").read_text())["judges"]
    text = document.read_text()
    for name, kind in {"generated": "our generator", "noise": "noise of the same DE"}.items():
        table = text.split(f"Told from real EEG: **{kind}**.")[1].split("Told from")[0]
        for judge, verdict in told[name]["1 s"].items():
            assert f"| {judge} | {verdict['auc']:.3f}" in table
    assert "real EEG, other people" not in text  # a single person is validated on
    assert "| our generator | new draws |" in text
    assert "| our generator | distances |" in text.split("Membership.")[1]
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no generator of valence"):
        judges.main(judges.Config(little_store, (tmp_path / "none",), task="valence"))
