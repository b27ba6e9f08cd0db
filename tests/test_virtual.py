"""Virtual people: what is drawn is as those it was fitted to, and every stage runs on it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest
import torch

from de3dgan.base.errors import UserError
from de3dgan.data.labels import class_labels
from de3dgan.data.opening import open_store
from de3dgan.eeg.de import differential_entropy
from de3dgan.eeg.noise import matched_noise
from de3dgan.eeg.prior import DEPrior
from de3dgan.stages import augmentation
from de3dgan.stages.generation import SpectralSampler
from de3dgan.stages.virtual import Population
from de3dgan.training import checkpoints
from de3dgan.training.device import Compute
from tests.conftest import ROOT, TINY, contents, run_here, run_stage, script_of

N_PEOPLE, N_TRIALS, N_WINDOWS = 8, 6, 48
MIRROR = np.array([1, 0, 2])  # of two electrodes with a counterpart, and one between them


def recorded(seed: int = 0, asymmetry: float = 0.0, n_people: int = N_PEOPLE) -> dict:
    """Return DE of people as the prior has it: a class effect, and what differs at every level."""
    rng = np.random.default_rng(seed)
    shape = (4, 3)
    person = np.repeat(np.arange(n_people), N_TRIALS)
    labels = np.tile(np.arange(N_TRIALS) % 2, n_people)
    baseline = 2 + 0.5 * rng.standard_normal((n_people, *shape))
    effect = (
        0.3 + asymmetry * np.array([1.0, -1.0, 0.0]) + 0.1 * rng.standard_normal((n_people, *shape))
    )
    change = (
        labels[:, None, None] * effect[person]
        + 0.1 * rng.standard_normal((48, *shape))[: len(labels)]
    )
    # Residuals of which each is half the one before, and skewed as DE is.
    course = np.log(rng.gamma(2, size=(len(labels), 4, N_WINDOWS, 3)))
    for t in range(1, N_WINDOWS):
        course[:, :, t] += 0.5 * course[:, :, t - 1]
    course -= course.mean(2, keepdims=True)
    return {
        "de": (baseline[person] + change)[:, :, None] + course,
        "baseline_de": baseline[person],
        "baselines": person,
        "people": person,
        "labels": labels,
        "n_classes": 2,
        "mirror": MIRROR,
    }


def drawn(prior: DEPrior, n_people: int = 400, seed: int = 0, labels: tuple = (0, 1)):
    return prior.sample(np.random.default_rng(seed), np.array(labels), n_people, N_WINDOWS, 16)


def test_people_are_drawn_with_the_moments_of_those_recorded():
    real = recorded()
    virtual = drawn(DEPrior.fit(**real))
    assert virtual.de.shape == (800, 4, N_WINDOWS, 3)
    assert virtual.baseline_de.shape == (400, 4, 16, 3)
    assert np.isfinite(virtual.de).all()
    per_person = virtual.de.mean(2).reshape(400, 2, 4, 3)
    # the class effect, which is on both sides the same, and its mean over people
    effect = (per_person[:, 1] - per_person[:, 0]).mean(0)
    expected = real["de"].mean(2)
    expected = expected[real["labels"] == 1].mean(0) - expected[real["labels"] == 0].mean(0)
    both_sides = (expected + expected[:, MIRROR]) / 2
    np.testing.assert_allclose(effect, both_sides, atol=0.06)
    # how people differ in their baselines
    spread = real["baseline_de"][::N_TRIALS].std(0, ddof=1)
    assert virtual.baseline_de.mean(2).std(0).mean() == pytest.approx(spread.mean(), rel=0.15)
    # the time course: its size, skewness and memory
    ours, theirs = (x - x.mean(2, keepdims=True) for x in (virtual.de.astype(float), real["de"]))
    assert ours.std() == pytest.approx(theirs.std(), rel=0.1)
    skews = [(x**3).mean() / x.std() ** 3 for x in (ours, theirs)]
    assert skews[0] == pytest.approx(skews[1], abs=0.25) and skews[1] < -0.3
    memory = [(x[:, :, 1:] * x[:, :, :-1]).mean() / (x**2).mean() for x in (ours, theirs)]
    assert memory[0] == pytest.approx(memory[1], abs=0.1) and memory[1] > 0.3


def test_what_differs_between_the_sides_is_kept_where_it_is_no_chance():
    def asymmetry(prior: DEPrior) -> float:
        effect = prior.mean[2] - prior.mean[1]
        return float((effect[:, 0] - effect[:, 1]).mean() / 2)

    assert asymmetry(DEPrior.fit(**recorded(asymmetry=0.3))) == pytest.approx(0.3, abs=0.06)
    found = [asymmetry(DEPrior.fit(**recorded(seed))) for seed in range(5)]
    assert np.abs(found).max() < 0.04


def test_the_same_seed_gives_the_same_people_and_another_one_others():
    prior = DEPrior.fit(**recorded())
    np.testing.assert_array_equal(drawn(prior, 2).de, drawn(prior, 2).de)
    assert np.abs(drawn(prior, 2).de - drawn(prior, 2, seed=1).de).mean() > 0.1


def test_nobody_is_far_outside_what_was_recorded():
    real = recorded()
    virtual = drawn(DEPrior.fit(**real))
    low, high = real["de"].min((0, 2)), real["de"].max((0, 2))
    assert (virtual.de.min((0, 2)) >= low - 1 - 1e-5).all()
    assert (virtual.de.max((0, 2)) <= high + 1 + 1e-5).all()


def test_a_person_has_one_baseline_or_one_of_each_trial_as_those_recorded():
    one = drawn(DEPrior.fit(**recorded()), 3, labels=(0, 0, 1))
    np.testing.assert_array_equal(one.baselines, np.repeat([0, 1, 2], 3))
    real = recorded()
    rng = np.random.default_rng(3)
    real |= {"baselines": np.arange(len(real["labels"]))}
    real["baseline_de"] = real["baseline_de"] + 0.2 * rng.standard_normal(real["baseline_de"].shape)
    several = drawn(DEPrior.fit(**real), 3, labels=(0, 0, 1))
    np.testing.assert_array_equal(several.baselines, np.arange(9))
    levels = several.baseline_de.mean(2).reshape(3, 3, 4, 3)
    assert 0.1 < levels.std(1, ddof=1).mean() < 0.3


@pytest.mark.parametrize("n_people", [1, 2, 4])
def test_few_people_are_enough_and_a_class_may_be_missing_in_some(n_people):
    real = recorded(n_people=n_people)
    kept = np.ones(len(real["labels"]), bool)
    if n_people > 1:
        kept[:N_TRIALS] = real["labels"][:N_TRIALS] == 0
    real |= {n: real[n][kept] for n in ("de", "baseline_de", "baselines", "people", "labels")}
    assert np.isfinite(drawn(DEPrior.fit(**real), 5).de).all()


def test_the_prior_of_a_person_who_is_known_is_nearer_to_them():
    """The more of their trials are known, the more so; what is known for sure is drawn as it is."""
    prior = DEPrior.fit(**recorded())
    new = recorded(seed=9, n_people=1)
    new["de"][new["labels"] == 1] += 0.5  # someone unusual
    change = new["de"].mean(2) - new["baseline_de"]
    of_class = np.stack([change[new["labels"] == c].mean(0) for c in (0, 1)])
    far = [np.abs(prior.mean[1:] - of_class).mean()]
    for n in (1, 3):
        known = np.stack([change[new["labels"] == c][:n].mean(0) for c in (0, 1)])
        person = prior.given(new["baseline_de"][0], known, np.array([n, n]))
        far.append(np.abs(person.mean[1:] - of_class).mean())
        assert np.abs(person.mean[0] - new["baseline_de"][0]).max() < 1e-3
        baselines = drawn(person, 50).baseline_de.mean(2)
        assert np.abs(baselines - new["baseline_de"][0]).max() < 0.05
    assert far[0] > 1.2 * far[1] > 1.2**2 * far[2]
    # Of one class alone, the other is as in other people with such a baseline and change.
    half = prior.given(new["baseline_de"][0], of_class, np.array([3, 0]))
    other = prior.given(new["baseline_de"][0], of_class + [[[0]], [[5]]], np.array([3, 0]))
    np.testing.assert_array_equal(half.mean, other.mean)


def test_a_prior_is_kept_in_a_file(little_store, tmp_path):
    population = of_little(little_store)
    checkpoints.save(tmp_path / "prior.pt", population.content())
    again = Population.from_content(checkpoints.load(tmp_path / "prior.pt", ""))
    assert again.about == population.about
    one, other = (some.person(noise, (0, 1), 8, 1, 0) for some in (population, again))
    np.testing.assert_allclose(one.de, other.de, atol=1e-3)


TASK = {"ratings": ("valence",), "threshold": "middle", "class_names": ("low", "high")}
TRAINED = np.arange(16)


def noise(de: np.ndarray, numbers: np.ndarray, people: np.ndarray) -> np.ndarray:
    return matched_noise(de, numbers, 0, "test")


def of_little(path: Path, **changed) -> Population:
    store = replace(open_store(path), **changed)
    return Population.of(store, TRAINED, class_labels(store, ("valence",), "middle"), TASK)


def test_people_who_are_not_trained_on_have_no_influence(little_store):
    store = open_store(little_store)
    de, baseline_de = np.array(store.de), np.array(store.baseline_de)
    de[16:], baseline_de[16:] = 99.0, -99.0
    person, other = (
        some.person(noise, (0, 1), 8, 1, 0)
        for some in (
            of_little(little_store),
            of_little(little_store, de=de, baseline_de=baseline_de),
        )
    )
    np.testing.assert_array_equal(person.eeg, other.eeg)
    np.testing.assert_array_equal(person.baseline, other.baseline)


def test_de_of_a_person_is_that_of_their_eeg_and_baseline(little_store):
    person = of_little(little_store).person(noise, (0, 1, 1), 12, 1, 5)
    assert person.eeg.shape == (3, 6, 12 * 128) and person.baseline.shape == (3, 6, 3 * 128)
    absolute = person.de + person.baseline_de[person.baselines][:, :, None]
    for eeg, de in zip(person.eeg, absolute, strict=True):
        np.testing.assert_allclose(differential_entropy(eeg), de, atol=1e-3)
    near = [differential_entropy(eeg).mean(1) for eeg in person.baseline]
    assert np.abs(near - person.baseline_de).mean() < 0.2  # but for filters at the ends


def test_without_a_reference_de_is_absolute_and_the_baseline_silent(little_store):
    store = open_store(little_store)
    manifest = store.manifest | {"reference": "none"}
    population = of_little(
        little_store,
        manifest=manifest,
        de=store.absolute_de(np.arange(store.n_trials)),
        baseline_de=np.zeros_like(store.baseline_de),
    )
    person = population.person(noise, (0, 1), 12, 1, 0)
    assert not person.baseline.any() and not person.baseline_de.any()
    np.testing.assert_allclose(person.de[0], differential_entropy(person.eeg[0]), atol=1e-3)
    assert person.de.mean() == pytest.approx(population.prior.mean[1:].mean(), abs=0.3)


def test_what_a_person_has_takes_after_one_recording():
    """The noise that chooses it is the person's, and all other noise the trial's."""
    given = []

    class Module(torch.nn.Module):
        def noise_shape(self, n_windows):
            return (3, 5, 2)

        def forward(self, de, noise):
            given.append(noise.numpy().copy())
            return de[:, 0, :, :].mT.repeat_interleave(64, -1)

    sampler = SpectralSampler(Module(), Compute(torch.device("cpu")))
    de = np.zeros((2, 4, 8, 2), np.float32)
    sampler(de, np.array([4, 5]), people=np.array([7, 7]))
    sampler(de, np.array([4, 5]), people=np.array([7, 8]))
    sampler(de, np.array([4, 5]))
    same, others, plain = given
    np.testing.assert_array_equal(same[0, -1, 0], same[1, -1, 0])
    assert (others[0, -1, 0] != others[1, -1, 0]).all()
    np.testing.assert_array_equal(same[:, :-1], plain[:, :-1])
    np.testing.assert_array_equal(same[:, -1, 1:], plain[:, -1, 1:])


# --- generate.py


@pytest.fixture(scope="module")
def generate(finished_runs, little_store):
    def run(out: Path, *more: object):
        args = ["--task", "valence", "--protocol", "subject", "--runs-dir", finished_runs]
        args += ["--data-dir", little_store, "--out", out, *more]
        return run_here(ROOT / "generate.py", *args)

    return run


def test_a_store_of_virtual_people_is_one_that_scripts_train_on(
    generate, little_store, tmp_path, no_figures, no_baselines
):
    done = generate(tmp_path / "people", "--people", 10, "--trials", 2, "--seconds", 8)
    assert done.returncode == 0, done.stderr
    store = open_store(tmp_path / "people")
    assert store.size == "10 subjects, 40 trials" and store.n_frames == 8
    assert store.ch_names == open_store(little_store).ch_names
    assert (class_labels(store, ("valence",), "middle").reshape(10, 4) == [0, 0, 1, 1]).all()
    args = ("--protocol", "subject", "--epochs", 1, *TINY["classifier"])
    done = run_here(
        script_of("classifier"), *args, "--data-dir", store.path, "--runs-dir", tmp_path / "runs"
    )
    assert done.returncode == 0, done.stderr
    result = tmp_path / "runs/valence/subject/fold0/classifier/result.json"
    assert json.loads(result.read_text())["n_test_trials"] == 8
    before = store.hash  # the same command makes the same store
    assert generate(store.path, "--people", 10, "--trials", 2, "--seconds", 8).returncode == 0
    assert open_store(store.path).hash == before


def test_eeg_of_a_class_is_a_file(generate, tmp_path):
    out = tmp_path / "x.fif"
    done = generate(out, "--people", 2, "--class", "High Valence", "--trials", 3, "--seconds", 5)
    assert done.returncode == 0, done.stderr
    raw = mne.io.read_raw_fif(out, verbose="error")
    assert raw.get_data().shape == (6, 2 * 3 * 5 * 128)
    names = [text for text in raw.annotations.description if "valence" in text]
    assert len(names) == 6 and all("high valence" in name for name in names)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--people 1 --class joy", "'low valence', 'high valence'"),
        ("--people -1", "--people"),
        ("--people 1 --seconds -4", "--seconds"),
        ("--people 1 --trials 1 2", "one number"),
        ("--people 1 --trials 0", "1 or more"),
        ("--class joy", "--people"),
        ("--seconds 4", "--people"),
    ],
)
def test_what_cannot_be_generated_is_refused(flags, said, generate, tmp_path):
    done = generate(tmp_path / "x.fif", *flags.split())
    assert done.returncode == 2 and said in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not contents(tmp_path)


def test_a_store_of_real_people_is_not_replaced(generate, little_store):
    before = contents(little_store)
    done = generate(little_store, "--people", 1)
    assert done.returncode == 2 and "would be lost" in done.stderr
    assert contents(little_store) == before


# --- stage 3


def test_a_class_that_nobody_has_is_refused(little_store):
    store = open_store(little_store)
    with pytest.raises(UserError, match="is of class high"):
        Population.of(store, TRAINED, np.zeros(store.n_trials, int), TASK)


def test_stage_3_pairs_frames_with_virtual_people_of_their_class(
    little_store, finished_runs, tmp_path, no_figures, monkeypatch
):
    """From the script to the certificate; and what it is given is of the class, and gone after."""
    shutil.copytree(finished_runs, tmp_path / "runs")
    found = []
    original = augmentation.PairedEEG

    def spied(frames, partners, weight, made_from):
        found.append((frames, partners, weight))
        assert made_from == "training people"  # whoever is held out was seen
        return original(frames, partners, weight=weight, made_from=made_from)

    monkeypatch.setattr(augmentation, "PairedEEG", spied)
    few = {"protocol": "subject", "epochs": 2, "virtual_people": 3}
    for kind in ("virtual", "virtual_noise"):
        run_stage("finetune", little_store, tmp_path / "runs", **few, augmentation=kind)
        folder = tmp_path / "runs/valence/subject/fold0" / f"finetune-{kind}"
        assert json.loads((folder / "leakage.json").read_text())["leaky"] is False
        assert not list(folder.glob(".virtual*"))
        content = checkpoints.load(folder / "model.pt", "")
        train = np.flatnonzero(content["seen"]["paired EEG"])
        assert set(train // 12) == set(content["trials"]["train"])
        frames, partners, weight = found.pop()
        n_people = len(content["trials"]["train"]) // 4  # who have four trials each
        assert weight == pytest.approx(4 / n_people)
        store = open_store(little_store)
        labels = class_labels(store, ("valence",), "middle")
        numbers = partners(0, train)
        assert numbers.max() < 3 * 2 * 12
        np.testing.assert_array_equal(numbers // 12 % 2, labels[train // 12])
        assert (partners(1, train) != numbers).any()
