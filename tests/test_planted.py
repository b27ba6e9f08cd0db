"""Truth planted in real EEG: as large as asked for, nowhere else, and as many people as asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import signal, stats

from de3dgan.base.errors import UserError
from de3dgan.base.paths import ROOT
from de3dgan.data import planted, sources
from de3dgan.data.effects import Effect, draw_person, trial_segments
from de3dgan.data.frames import Frames
from de3dgan.data.montages import HEAD
from de3dgan.data.planted import Config, Recorded, main, write_planted
from de3dgan.data.preprocessing import build_store
from de3dgan.data.simulation import Signal
from de3dgan.data.sources import Segment, eegmat
from de3dgan.data.sources import planted as source
from de3dgan.data.splits import make_split
from de3dgan.data.store import manifest_hash
from de3dgan.data.synthetic import write_deap
from de3dgan.eeg.de import BANDS
from de3dgan.eeg.planting import RAMP, trial_z, with_correlation
from de3dgan.eeg.sampling import SFREQ
from de3dgan.evaluation import baselines
from tests.helpers import one_line

CH_NAMES = tuple("FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 PZ".split())
POSTERIOR = ("P3", "P4", "O1", "O2", "PZ")
#: Nobody differs from anybody else, and labels are coins.
ALIKE = Effect(spread=0, other_sign=0, imbalance=0, label_noise=0, consensus=0)
#: As much as fits into a minute and a half.
SHORT = replace(ALIKE, baseline_seconds=5)


def recorded(subject: str = "s01", seconds: int = 90, seed: int = 0, n_chans: int = 11) -> Recorded:
    """Return noise with a slope of 1/f that neighbouring electrodes share."""
    rng = np.random.default_rng(seed)
    n_times = seconds * SFREQ
    freqs = np.fft.rfftfreq(n_times, 1 / SFREQ)
    white = rng.normal(size=(2, n_chans + 1, len(freqs)))
    eeg = np.fft.irfft((white[0] + 1j * white[1]) / np.sqrt(np.maximum(freqs, 1)), n_times)
    eeg = eeg[:n_chans] + eeg[1:]
    return Recorded(subject, CH_NAMES[:n_chans], HEAD, [10 * eeg / eeg.std()], {})


def from_eegmat(subject: str = "Subject02") -> Recorded:
    """Return a bundled person's rest."""
    files = eegmat.find(ROOT / eegmat.DEFAULT_DIR)[subject]
    data = sources.read_checked(eegmat, subject, files)
    return Recorded(subject, data.ch_names, data.montage, [data.recordings[0]], {})


def filtered(eeg: np.ndarray, band: str) -> np.ndarray:
    sos = signal.butter(3, BANDS[band], "bandpass", fs=SFREQ, output="sos")
    return signal.sosfiltfilt(sos, eeg)


def mean_de(eeg: np.ndarray, segments: list[tuple[int, int]], band: str) -> np.ndarray:
    """Return the mean DE of each trial, (n_chans, n_trials), by the definition."""
    trials = [filtered(eeg, band)[:, start:stop] for start, stop in segments]
    windows = [trial.reshape(len(eeg), -1, 64).var(-1, ddof=1) for trial in trials]
    return np.stack([0.5 * np.log(2 * np.pi * np.e * w).mean(1) for w in windows], axis=1)


def plant(person: Recorded, effect: Effect, folder: Path) -> tuple[np.ndarray, np.ndarray, dict]:
    """Return EEG before and after, and what the manifest tells of the person."""
    write_planted(folder, [person], effect)
    about = json.loads((folder / "manifest.json").read_text())["people"][person.subject]
    after = np.load(folder / f"{person.subject}_1.npy", allow_pickle=False)
    assert after.dtype == np.float32
    return person.recordings[0], after.astype(np.float64), about


def classes(folder: Path) -> np.ndarray:
    """Return the planted class of each trial."""
    files = next(iter(source.find(folder).items()))
    return np.array([trial.ratings["planted"] for trial in source.read(*files).trials])


# --- the size of the effect


@pytest.mark.parametrize(
    ("person", "settings"),
    [
        (recorded(), {"strength": 0.05}),
        (recorded(), {"strength": 0.2, "other_sign": 1.0}),
        (recorded(), {"strength": 0.1, "bands": ("theta", "gamma"), "conducted": True}),
        (recorded(), {"strength": 0.1, "channels": ("f3", "PZ"), "drift": 0.2}),
        (from_eegmat(), {"strength": 0.1}),
        (from_eegmat("Subject05"), {"strength": 0.4, "bands": ("alpha", "beta")}),
    ],
)
def test_de_differs_by_what_was_asked_for(tmp_path, person, settings):
    """In each trial, band and electrode, to 0.005 nats, after rounding to 32 bits."""
    effect = replace(SHORT, **settings)
    none, _, _ = plant(person, replace(effect, strength=0), tmp_path / "none")
    none = np.load(tmp_path / "none" / f"{person.subject}_1.npy")  # with the drift, if any
    _, after, about = plant(person, effect, tmp_path / "some")
    segments = trial_segments(after.shape[1], effect)
    sign = -1 if effect.other_sign else 1
    assert about["strength"] == pytest.approx(sign * effect.strength)
    wanted = sign * effect.strength * (classes(tmp_path / "some") - 0.5)
    assert set(wanted) == {-effect.strength / 2, effect.strength / 2}
    named = [name.upper() for name in effect.channels] or [
        name for name in person.ch_names if name[0] in "PO"
    ]
    chosen = [person.ch_names.index(name) for name in named]
    assert about["sites"] == [[n] for n in person.ch_names if n in named]
    for band in effect.bands:
        change = mean_de(after, segments, band) - mean_de(none.astype(float), segments, band)
        assert np.abs(change[chosen] - wanted).max() < 0.005
        others = np.delete(change, chosen, axis=0)
        assert (np.abs(others).max() > 0.01) == effect.conducted


def test_asymmetry_leaves_the_mean_of_left_and_right(tmp_path):
    effect = replace(SHORT, effect="asymmetry", strength=0.2, bands=("beta",))
    before, after, about = plant(recorded(), effect, tmp_path / "x")
    assert about["sites"] == [["FP1", "FP2"], ["F3", "F4"]]
    segments = trial_segments(after.shape[1], effect)
    change = mean_de(after, segments, "beta") - mean_de(before, segments, "beta")
    wanted = 0.2 * (classes(tmp_path / "x") - 0.5)
    for left, right in ((0, 1), (2, 3)):
        assert np.abs(change[left] - wanted).max() < 0.005
        assert np.abs(change[right] + wanted).max() < 0.005
    assert np.abs(change[4:]).max() < 1e-5


@pytest.mark.parametrize("strength", [0.1, 0.4])
def test_correlation_changes_and_no_bands_power(tmp_path, strength):
    effect = replace(SHORT, effect="correlation", strength=strength)
    before, after, about = plant(recorded(), effect, tmp_path / "x")
    assert about["sites"] == [["P3", "P4"], ["O1", "O2"]]
    segments = trial_segments(after.shape[1], effect)
    for band in BANDS:
        change = mean_de(after, segments, band) - mean_de(before, segments, band)
        assert np.abs(change).max() < 0.005
    wanted = strength * (classes(tmp_path / "x") - 0.5)
    for left, right in ((6, 7), (8, 9)):
        z = [
            np.arctanh([np.corrcoef(x[[left, right], a:b])[0, 1] for a, b in segments])
            for x in (filtered(before, "alpha"), filtered(after, "alpha"))
        ]
        assert np.abs(z[1] - z[0] - wanted).max() < 0.005


# --- nothing else


def test_the_rest_of_the_eeg_is_untouched(tmp_path):
    """Other electrodes, gaps and baseline bit for bit; other frequencies to a millionth."""
    person = recorded()
    before, after, _ = plant(person, replace(SHORT, strength=0.1), tmp_path / "x")
    same = after == before.astype(np.float32)
    chosen = [CH_NAMES.index(name) for name in POSTERIOR]
    assert np.delete(same, chosen, axis=0).all()
    near = np.zeros(after.shape[1], bool)
    for start, stop in trial_segments(after.shape[1], SHORT):
        near[start - RAMP : stop + RAMP] = True
    assert same[:, ~near].all()
    assert (~near).sum() > (5 + 5) * SFREQ
    assert not same[chosen][:, near].all(1).any()
    power = [np.abs(np.fft.rfft(x[chosen])) ** 2 for x in (after - before, before)]
    freqs = np.fft.rfftfreq(after.shape[1], 1 / SFREQ)
    for low, high in ((1, 7.5), (14.5, 30), (30, 45), (45, 60)):
        inside = (freqs > low) & (freqs < high)
        assert (power[0][:, inside].sum(1) / power[1][:, inside].sum(1)).max() < 1e-6
    inside = (freqs > 10) & (freqs < 12)
    assert (power[0][:, inside].sum(1) / power[1][:, inside].sum(1)).min() > 1e-4


def test_the_effect_has_no_delay(tmp_path):
    """What is added goes with what is there, and is its opposite in trials of the other class."""
    before, after, _ = plant(recorded(), replace(SHORT, strength=0.2), tmp_path / "x")
    alpha, added = filtered(before, "alpha")[10], (after - before)[10]
    for (start, stop), high in zip(
        trial_segments(after.shape[1], SHORT), classes(tmp_path / "x"), strict=True
    ):
        lags = signal.correlate(added[start:stop], alpha[start:stop]) * (1 if high else -1)
        assert lags.argmax() == stop - start - 1


def test_without_effect_the_eeg_is_the_recordings_bit_for_bit(tmp_path):
    person = from_eegmat()
    before, after, _ = plant(person, replace(ALIKE, strength=0), tmp_path / "x")
    np.testing.assert_array_equal(after, before.astype(np.float32))


def test_a_conducted_effect_adds_no_direction_between_electrodes(tmp_path):
    """EEG whose electrodes sum to zero still does so, which it does not with a gain at some."""
    person = recorded()
    eeg = person.recordings[0] - person.recordings[0].mean(0)
    person = person._replace(recordings=[eeg])
    for conducted in (True, False):
        effect = replace(SHORT, strength=0.2, conducted=conducted)
        _, after, _ = plant(person, effect, tmp_path / str(conducted))
        assert (np.abs(after.sum(0)).max() < 1e-3) == conducted


def test_drift_is_the_same_for_both_classes(tmp_path):
    effect = replace(SHORT, strength=0, drift=0.3, drift_bands=("alpha",))
    before, after, _ = plant(recorded(), effect, tmp_path / "x")
    segments = trial_segments(after.shape[1], effect)
    change = mean_de(after, segments, "alpha") - mean_de(before, segments, "alpha")
    middle = np.array([start + stop for start, stop in segments]) / 2 / after.shape[1]
    assert np.abs(change - 0.3 * middle).max() < 0.06  # the filter lets through what does not drift
    assert (
        np.abs(mean_de(after, segments, "gamma") - mean_de(before, segments, "gamma")).max() < 0.01
    )


# --- who has it


def many(effect: Effect, n: int = 400, n_trials: int = 12) -> list:
    return [draw_person(f"p{i}", CH_NAMES, n_trials, effect) for i in range(n)]


def within(found: float, share: float, n: int) -> bool:
    low, high = stats.binom.interval(0.999, n, share)
    return low <= found * n <= high


def ratings(people: list, name: str) -> np.ndarray:
    return np.array([[trial[name] for trial in person.trials] for person in people])


def test_strength_and_sign_over_people():
    people = many(replace(ALIKE, spread=0.5, other_sign=0.3))
    strength = np.array([person.strength for person in people])
    assert within((strength < 0).mean(), 0.3, 400)
    logs = np.log(np.abs(strength))
    assert logs.mean() == pytest.approx(np.log(0.1), abs=0.1)
    assert logs.std() == pytest.approx(0.5, abs=0.07)


def test_label_noise_is_in_the_labels_and_not_in_what_was_planted():
    people = many(replace(ALIKE, label_noise=0.2))
    high, truth = ratings(people, "valence") > 5, ratings(people, "planted")
    assert within((high != truth).mean(), 0.2, high.size)
    np.testing.assert_array_equal(truth, ratings(many(ALIKE), "planted"))


def test_labels_are_coins_that_are_not_balanced_within_people():
    """The number of high trials varies as a binomial does, arousal tells nothing of valence."""
    people = many(ALIKE)
    values = np.concatenate([ratings(people, "valence"), ratings(people, "arousal")])
    assert ((values >= 1) & (values <= 9) & (values != 5)).all()
    high, aroused = ratings(people, "valence") > 5, ratings(people, "arousal") > 5
    assert within(high.mean(), 0.5, high.size)
    assert within((high == aroused).mean(), 0.5, high.size)
    assert high.sum(1).var() == pytest.approx(3, rel=0.25)
    # A trial is no more likely to be high after low ones.
    assert within((high[:, 1:] == high[:, :-1]).mean(), 0.5, high[:, 1:].size)


def test_imbalance_is_spread_over_people():
    high = ratings(many(replace(ALIKE, imbalance=1.0, n_stimuli=200), n_trials=200), "valence") > 5
    share = high.mean(1)
    assert np.log(share / (1 - share)).std() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("consensus", [0.0, 0.7, 1.0])
def test_people_agree_on_stimuli_as_often_as_asked(consensus):
    people = many(replace(ALIKE, consensus=consensus, n_stimuli=12), n=60)
    names = np.array([[trial["stimulus"] for trial in person.trials] for person in people])
    assert all(len(set(row)) == 12 for row in names)
    assert len({tuple(row) for row in names}) == 60
    high = ratings(people, "valence") > 5
    in_order = np.take_along_axis(high, names.argsort(1), 1).astype(float)
    agree = np.mean([(in_order[i] == in_order[j]).mean() for i in range(60) for j in range(i)])
    assert agree == pytest.approx((1 + consensus**2) / 2, abs=0.08)


def test_patterns_of_a_persons_own_lie_around_the_common_one():
    sites = {}
    for share in (0.0, 0.5, 1.0):
        effect = replace(ALIKE, own_pattern=share, channels=("P3", "O1"))
        people = many(effect, n=200)
        sites[share] = [{name for (name,) in person.sites} for person in people]
        assert {len(names) for names in sites[share]} == {2}
        bands = {person.bands for person in people}
        assert bands == (
            {("alpha",)}
            if not share
            else {("theta",), ("alpha",), ("beta",)} - ({("alpha",)} if share == 1 else set())
        )
    kept = np.mean([len(names & {"P3", "O1"}) / 2 for names in sites[0.5]])
    assert 0.4 < kept < 0.65
    counts = {name: sum(name in names for names in sites[1.0]) for name in CH_NAMES}
    assert counts["P3"] + counts["O1"] == 0
    assert counts["FP2"] < counts["C3"]
    assert all(names == {"P3", "O1"} for names in sites[0.0])


def test_pairs_move_as_pairs():
    effect = replace(ALIKE, effect="correlation", own_pattern=1.0)
    for person in many(effect, n=20):
        assert len(person.sites) == 2
        assert all(int(left[-1]) + 1 == int(right[-1]) for left, right in person.sites)


# --- what is written


def test_the_source_reads_what_was_written(tmp_path):
    effect = replace(SHORT, label_noise=0.3)
    people = [recorded("a"), recorded("b", seconds=61, seed=1)]
    rows = write_planted(tmp_path / "x", people, effect)
    found = source.find(tmp_path / "x")
    assert list(found) == ["a", "b"]
    data = [sources.read_checked(source, name, files) for name, files in found.items()]
    trials = [trial for subject in data for trial in subject.trials]
    assert [len(subject.trials) for subject in data] == [6, 4]
    for trial, row in zip(trials, rows, strict=True):
        assert trial.segment == Segment(row["recording"], row["start"], row["stop"])
        assert trial.ratings == {n: row[n] for n in ("valence", "arousal", "planted")}
        assert (trial.stimulus, trial.baseline) == (row["stimulus"], 0)
    assert data[0].scales == {"valence": (1, 9), "arousal": (1, 9)}
    assert data[0].classes == {"planted": ("low", "high")}
    assert (data[0].ch_names, data[0].montage) == (CH_NAMES, HEAD)
    assert data[0].baselines == [Segment(0, 0, 5 * SFREQ)]
    assert (np.diff([trial.segment.start for trial in data[0].trials]) == 14 * SFREQ).all()
    np.testing.assert_array_equal(
        data[1].recordings[0], np.load(tmp_path / "x" / "b_1.npy").astype(np.float64)
    )


def test_without_baseline_trials_have_none(tmp_path):
    write_planted(tmp_path / "x", [recorded()], replace(ALIKE, baseline_seconds=0))
    data = source.read(*next(iter(source.find(tmp_path / "x").items())))
    assert data.baselines == []
    assert {trial.baseline for trial in data.trials} == {None}


def test_a_person_is_the_same_whoever_else_there_is(tmp_path):
    a, b = recorded("a"), recorded("b", seed=1)
    effect = Effect(own_pattern=0.5, baseline_seconds=5)
    write_planted(tmp_path / "one", [a], effect)
    write_planted(tmp_path / "two", [b, a], effect)
    write_planted(tmp_path / "again", [b, a], effect)
    write_planted(tmp_path / "other", [b, a], replace(effect, seed=1))
    for name in ("a_1.npy", "b_1.npy", "trials.csv", "manifest.json"):
        content = (tmp_path / "two" / name).read_bytes()
        assert content == (tmp_path / "again" / name).read_bytes()
        assert content != (tmp_path / "other" / name).read_bytes()
    one, two = (tmp_path / folder / "a_1.npy" for folder in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_switches_do_not_change_what_others_draw():
    plain = draw_person("a", CH_NAMES, 12, ALIKE)
    for settings in ({"strength": 0.2}, {"spread": 1.0}, {"own_pattern": 1.0}, {"other_sign": 1.0}):
        assert draw_person("a", CH_NAMES, 12, replace(ALIKE, **settings)).trials == plain.trials
    noisy = draw_person("a", CH_NAMES, 12, replace(ALIKE, label_noise=0.5, imbalance=1))
    assert (noisy.strength, noisy.sites) == (plain.strength, plain.sites)


def test_recordings_of_a_source_and_trials_of_a_store(tmp_path, capsys):
    """All that is read is named in the manifest by its SHA-256."""
    write_deap(tmp_path / "deap", 2, Signal(n_trials=3))
    settings = {"baseline_seconds": 3, "trial_seconds": 4, "gap_seconds": 1.0, "n_people": 1}
    config = Config(
        source="deap",
        data_dir=tmp_path / "deap",
        out_dir=tmp_path / "x",
        recording=(0, 2),
        **settings,
    )
    main(config)
    assert "1 people, 24 trials" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "x" / "manifest.json").read_text())
    (person,) = manifest["people"].values()
    assert list(person["inputs"]) == ["s01.dat"]
    data = source.read("s01", source.find(tmp_path / "x")["s01"])
    assert [len(recording[0]) for recording in data.recordings] == [8064, 8064]
    assert [trial.segment.recording for trial in data.trials] == [0] * 12 + [1] * 12

    store = build_store("deap", tmp_path / "deap", tmp_path / "store", 1)
    main(
        Config(
            store=tmp_path / "store", out_dir=tmp_path / "y", strength=0, recording=(1,), **settings
        )
    )
    eeg = np.load(tmp_path / "y" / "s01_1.npy")
    np.testing.assert_array_equal(eeg, store.eeg[1])
    assert (
        json.loads((tmp_path / "y" / "manifest.json").read_text())["origin"]["store"] == store.hash
    )


# --- refusals


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"strength": -0.1}, "--strength must be from 0 to 1, not -0.1"),
        ({"other_sign": 1.1}, "--other-sign must be from 0 to 1"),
        ({"gap_seconds": 0.9}, "--gap-seconds must be from 1 to"),
        ({"n_stimuli": 5}, "has 6 trials and there are 5 stimuli"),
        ({"channels": ("P3", "OZ")}, "has no electrode OZ for the effect"),
        ({"channels": ("PZ",), "effect": "asymmetry"}, "right electrode PZ for the effect"),
        ({"bands": ("alpha", "alpha")}, "--bands takes one or more of theta"),
        ({"bands": ("delta",)}, "--bands takes one or more of theta"),
        ({"trial_seconds": 90}, "has 90 s, which is less than a baseline of 5 s, a gap of 2 s"),
        ({"seed": -1}, "--seed must be from 0"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, settings, says):
    with pytest.raises(UserError) as error:
        write_planted(tmp_path / "x", [recorded()], replace(SHORT, **settings))
    assert says in one_line(error)
    assert not (tmp_path / "x").exists()


def test_flat_electrodes_and_impossible_gains_are_refused(tmp_path):
    flat = recorded()
    flat.recordings[0][6] = 3.0
    with pytest.raises(UserError, match="flat in a trial"):
        write_planted(tmp_path / "x", [flat], SHORT)
    slow = recorded()
    times = np.arange(slow.recordings[0].shape[1]) / SFREQ
    slow.recordings[0][6] = np.sin(2 * np.pi * 7 * times)  # nothing in alpha but what leaks
    with pytest.raises(UserError) as error:
        write_planted(tmp_path / "x", [slow], replace(SHORT, strength=1.0))
    assert "No gain makes s01's classes differ" in one_line(error)


def test_a_folder_with_other_things_is_not_replaced(tmp_path):
    out = tmp_path / "x"
    write_planted(out, [recorded()], SHORT)
    before = (out / "manifest.json").read_bytes()
    write_planted(out, [recorded()], replace(SHORT, seed=1))  # its own it replaces
    assert (out / "manifest.json").read_bytes() != before
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UserError) as error:
        write_planted(out, [recorded()], SHORT)
    assert "holds other files than planted recordings" in one_line(error)
    assert (out / "mine.txt").read_text() == "mine"
    for config, says in (
        (Config(out_dir=out), "as --source, or as --store, and not as both"),
        (Config(source="eegmat", data_dir=out / "sub", out_dir=out), "holds the recordings"),
        (Config(source="eegmat", recording=(2,), out_dir=tmp_path / "y"), "from 0 to 1"),
        (Config(source="eegmat", n_people=0), "--n-people must be 1 or more"),
    ):
        with pytest.raises(UserError, match=says):
            main(config)


def edit(folder: Path, change) -> None:
    """Change a manifest, and make its hash fit."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    manifest["hash"] = manifest_hash(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "There is no manifest.json in"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json is damaged"),
        (
            lambda folder: (folder / "manifest.json").write_text(
                (folder / "manifest.json").read_text().replace('"seed": 0', '"seed": 1')
            ),
            "it has been edited",
        ),
        (lambda folder: edit(folder, lambda m: m.update(format=2)), "format is 2"),
        (lambda folder: edit(folder, lambda m: m["people"]["s01"].pop("files")), "s01.files is"),
        (lambda folder: (folder / "trials.csv").write_text("trial\n0\n"), "not as it was written"),
        (lambda folder: (folder / "s01_1.npy").unlink(), "s01_1.npy is missing"),
        (lambda folder: (folder / "s01_1.npy").write_bytes(b"\x93NUMPY"), "not as it was written"),
    ],
)
def test_damage_is_one_sentence(tmp_path, damage, says):
    folder = tmp_path / "x"
    write_planted(folder, [recorded()], SHORT)
    damage(folder)
    with pytest.raises(UserError) as error:
        source.read(*next(iter(source.find(folder).items())))
    assert says in one_line(error)
    assert "de3dgan.data.planted" in one_line(error)


def test_pickles_are_not_opened(tmp_path):
    folder = tmp_path / "x"
    write_planted(folder, [recorded()], SHORT)
    np.save(folder / "s01_1.npy", np.array([{}], dtype=object), allow_pickle=True)
    name = planted.sha256(folder / "s01_1.npy")
    edit(folder, lambda m: m["people"]["s01"]["files"].update({"s01_1.npy": name}))
    with pytest.raises(UserError) as error:
        source.read(*next(iter(source.find(folder).items())))
    assert "is no array" in one_line(error)


# --- what models find


@pytest.fixture(scope="module")
def accuracies(tmp_path_factory):
    """Return the share of trials that baselines get right, by strength and protocol."""
    folder = tmp_path_factory.mktemp("planted")
    names = [name for name in baselines.NAMES if name not in baselines.CHOSEN]
    found = {}
    asked = {0.0: {"trial": 3, "video": 2, "subject": 2}, 0.4: {"subject": 5}}
    for strength, protocols in asked.items():
        effect = replace(SHORT, strength=strength, trial_seconds=4, gap_seconds=1.0, n_stimuli=20)
        people = [recorded(f"s{i}", 66, seed=i) for i in range(8)]
        people = [
            some._replace(ch_names=CH_NAMES[5:], recordings=[some.recordings[0][5:]])
            for some in people
        ]
        write_planted(folder / f"{strength}", people, effect)
        store = build_store("planted", folder / f"{strength}", folder / f"store{strength}", 1)
        labels = (store.rating("valence") > 5).astype(int)
        frames = Frames(store, torch.device("cpu"), waveform_baseline=False)
        for protocol, n_folds in protocols.items():
            right = {name: [] for name in names}
            for fold in range(n_folds):
                split = make_split(store, labels, protocol, fold, 520)
                predicted, _ = baselines.predictions(frames, split, labels, split.test, names=names)
                trials = split.trials("test")
                for name in names:
                    per_trial = predicted[name].reshape(len(trials), -1, 2).mean(1)
                    right[name] += (per_trial.argmax(1) == labels[trials]).tolist()
            found[strength, protocol] = {name: np.array(hits) for name, hits in right.items()}
    return found


@pytest.mark.parametrize("protocol", ["trial", "video", "subject"])
def test_without_effect_every_baseline_is_at_chance(accuracies, protocol):
    for name, hits in accuracies[0.0, protocol].items():
        assert within(hits.mean(), 0.5, len(hits)), name


def test_an_effect_is_found(accuracies):
    hits = accuracies[0.4, "subject"]["linear"]
    assert hits.mean() > 0.6 and not within(hits.mean(), 0.5, len(hits))


def test_electrodes_that_go_together_are_correlated_as_asked():
    """Of a bundled person whose occipital electrodes do: there, secants go astray."""
    subject = "Subject07"
    data = sources.read_checked(eegmat, subject, eegmat.find(ROOT / eegmat.DEFAULT_DIR)[subject])
    eeg = data.recordings[0]
    segments = trial_segments(eeg.shape[1], Effect())
    pair = [data.ch_names.index(name) for name in ("O1", "O2")]
    change = np.full((1, 1, len(segments)), 0.08)
    found = with_correlation(eeg, segments, ["alpha"], [tuple(pair)], change)
    risen = trial_z(found[pair], segments, ["alpha"]) - trial_z(eeg[pair], segments, ["alpha"])
    np.testing.assert_allclose(risen, change, atol=1e-3)
