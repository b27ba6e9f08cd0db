"""What stage 3 sets beside real EEG: that each control differs from generated EEG as it says."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from de3dgan.base.errors import UserError
from de3dgan.base.recipe import load_recipe
from de3dgan.data.frames import Frames
from de3dgan.data.labels import class_labels
from de3dgan.data.ledger import Ledger
from de3dgan.data.opening import open_store
from de3dgan.data.splits import (
    Split,
    group_names,
    make_split,
    split_of,
    with_few_groups,
)
from de3dgan.eeg.de import differential_entropy
from de3dgan.eeg.noise import de_matched_noise
from de3dgan.stages import augmentation, closed_form
from de3dgan.stages.augmentation import other_of_same_class, paired_eeg
from de3dgan.training import checkpoints
from tests.conftest import read_lines, run_stage, script_of
from tests.helpers import FOLD, fake_store, one_line


@pytest.fixture
def run(little_store, tmp_path, monkeypatch):
    """What the controls need of a run, on a store whose trials alternate between classes."""
    store = open_store(little_store)
    generator = SimpleNamespace(from_content=lambda content, compute: echo)
    monkeypatch.setattr(augmentation, "TrainedGenerator", generator)
    last = 4 * store.n_frames  # frames that are not trained on
    frames = np.arange(store.n_trials * store.n_frames)
    return SimpleNamespace(
        store=store,
        dir=tmp_path,
        device=torch.device("cpu"),
        compute=None,
        upstream={"gan": {}},
        labels=np.arange(store.n_trials) % 2,
        config=SimpleNamespace(seed=1, augmentation=None, jitter=0.5),
        ledger=Ledger(store.n_trials * store.n_frames),
        split=Split("trial", 0, 1, store.n_frames, frames[:-last], frames[-last:], frames[:0]),
        log=lambda message: None,
    )


def echo(de: np.ndarray, trials: np.ndarray, draw: int = 0) -> np.ndarray:
    """Stand in for a generator: EEG that holds the DE of its trial, and so shows which it is.

    But for the first sample of each electrode, which says whose noise was drawn.
    """
    n_trials, _, n_windows, n_chans = de.shape
    flat = de.transpose(0, 3, 1, 2).reshape(n_trials, n_chans, -1)
    eeg = flat[..., np.arange(n_windows * 64) % flat.shape[-1]].astype(np.float32)
    eeg[..., 0] = trials[:, None]
    assert draw == 0
    return eeg


def paired(run, kind: str) -> np.ndarray:
    """Return the EEG that `kind` pairs with the training trials."""
    run.config.augmentation = kind
    frames = Frames(run.store, run.device, waveform_baseline=False)
    trials = run.split.trials("train")
    with paired_eeg(run, frames) as found:
        numbers = found.partners(0, frames.numbers(trials))
        eeg = found.frames[numbers].unflatten(0, (len(trials), -1)).movedim(1, 2).flatten(2)
    assert list(run.dir.iterdir()) == []  # the file that held it is gone
    return eeg.numpy()


def test_generated_eeg_is_that_of_the_same_trial(run):
    trials = run.split.trials("train")
    for eeg, trial in zip(paired(run, "generated"), trials, strict=True):
        alone = echo(run.store.absolute_de([trial]), np.array([trial]))
        np.testing.assert_array_equal(eeg, alone[0])


def test_shuffled_eeg_is_that_of_another_training_trial_of_the_class(run):
    trials = run.split.trials("train")
    every = np.arange(run.store.n_trials)
    known = echo(run.store.absolute_de(every), every)
    found = [int((known == eeg).all((1, 2)).argmax()) for eeg in paired(run, "shuffled")]
    assert set(found) == set(trials.tolist())  # each training trial once, and no other
    for trial, source in zip(trials, found, strict=True):
        assert source != trial
        assert run.labels[source] == run.labels[trial]


def test_shuffled_eeg_keeps_the_baseline_of_its_own_trial(run):
    """The numbers that the classifier is told are of the trial that the EEG came from."""
    run.config.augmentation = "shuffled"
    frames = Frames(run.store, run.device, waveform_baseline=False)
    numbers = frames.numbers(run.split.trials("train"))
    with paired_eeg(run, frames) as found:
        partners = found.partners(3, numbers)
        eeg = found.frames[partners].numpy()
    trials = partners // run.store.n_frames
    first = partners % run.store.n_frames == 0
    np.testing.assert_array_equal(eeg[first, 0, 0], trials[first])  # as `echo` marks it
    assert (trials != numbers // run.store.n_frames).all()
    np.testing.assert_array_equal(partners % run.store.n_frames, numbers % run.store.n_frames)


@pytest.mark.parametrize(("kind", "jitter"), [("real", 0.0), ("jitter", 0.5)])
def test_equal_samples_are_the_same_real_frames(kind, jitter, run):
    np.testing.assert_array_equal(paired(run, kind), run.store.eeg[run.split.trials("train")])
    with paired_eeg(run, frames := Frames(run.store, run.device, False)) as found:
        assert found.frames is frames
        assert found.jitter == jitter


@dataclass(frozen=True)
class SomeRecipe:
    """The values that additional people depend on."""

    train_groups: int
    more_groups: int
    protocol: str = "subject"
    fold: int = 1
    fold_seed: int = 5
    split_file: None = None
    person: None = None
    seed: int = 3
    ratings: tuple[str, ...] = ("valence",)
    threshold: str = "middle"
    n_classes: int = 2


def few_people(n_kept: int, n_more: int) -> SimpleNamespace:
    """Return what additional people need of a run: 20 people of two trials, one of each class."""
    subjects = [f"s{trial // 2:02d}" for trial in range(40)]
    labels = np.arange(40) % 2
    store = fake_store(n_trials=40, n_frames=3, subject=subjects, valence=2 + 6 * labels)
    config = SomeRecipe(n_kept, n_more)
    split = with_few_groups(make_split(store, labels, "subject", 1, 5), store, labels, n_kept)
    return SimpleNamespace(store=store, labels=labels, config=config, split=split)


def test_additional_people_are_spare_ones_paired_by_class_and_drawn_anew_each_epoch():
    run = few_people(4, 0)
    split, n_frames = run.split, run.store.n_frames
    partners = augmentation.additional_frames(run)
    found = [partners(epoch, split.train) for epoch in (0, 1, 0)]
    for some in found:
        assert np.isin(some, split.spare).all()
        np.testing.assert_array_equal(
            run.labels[some // n_frames], run.labels[split.train // n_frames]
        )
    assert (found[0] != found[1]).any()
    np.testing.assert_array_equal(found[0], found[2])
    batch = split.train[[5, 0, 7]]
    np.testing.assert_array_equal(partners(1, batch), found[1][[5, 0, 7]])


def test_each_additional_frame_is_drawn_as_often_as_any_other_but_for_once():
    run = few_people(6, 4)
    names = group_names(run.store, "subject")[1]
    full = make_split(run.store, run.labels, "subject", 1, 5)
    more = with_few_groups(full, run.store, run.labels, 10)
    added = set(names[more.trials("train")]) - set(names[run.split.trials("train")])
    some = augmentation.additional_frames(run)(2, run.split.train)
    # Those whom training on four more would add.
    assert set(names[some // run.store.n_frames]) == added and len(added) == 4
    _, counts = np.unique(some, return_counts=True)
    assert len(counts) == 4 * 2 * run.store.n_frames and set(counts) == {1, 2}


def test_more_people_than_there_are_is_refused():
    with pytest.raises(UserError, match="--train-groups 4 leaves 8: give it a smaller") as error:
        augmentation.additional_frames(few_people(4, 10))
    assert "takes 10 groups" in one_line(error)
    with pytest.raises(UserError, match="--train-groups 12 leaves 0"):
        augmentation.additional_frames(few_people(12, 0))


def test_only_what_is_generated_goes_on_from_a_generator():
    kinds = ("generated", "none", "real", "jitter", "noise", "surrogate", "shuffled", "people")
    assert [kind for kind in kinds if "gan" in augmentation.upstream(kind)] == [
        "generated",
        "shuffled",
    ]


def test_noise_has_the_mean_and_variance_of_its_trial_and_nothing_else(run):
    trials = run.split.trials("train")
    real = run.store.eeg[trials]
    eeg = paired(run, "noise")
    np.testing.assert_allclose(eeg.std(-1), real.std(-1), rtol=0.1)
    np.testing.assert_allclose(eeg.mean(-1), real.mean(-1), atol=0.2 * real.std())
    power = np.abs(np.fft.rfft(eeg - eeg.mean(-1, keepdims=True))) ** 2
    halves = np.array_split(power.mean((0, 1))[1:], 2)
    assert halves[0].mean() == pytest.approx(halves[1].mean(), rel=0.1)  # white


def test_surrogates_have_the_de_of_their_trial(run):
    trials = run.split.trials("train")
    wanted = run.store.absolute_de(trials)
    got = np.stack([differential_entropy(eeg) for eeg in paired(run, "surrogate")])
    assert np.abs(got - wanted).mean() < 0.06
    assert np.abs((got - wanted).mean()) < 0.03


def test_de_matched_noise_follows_a_change_of_loudness():
    eeg = np.random.default_rng(2).normal(size=(3, 30 * 128))
    eeg[:, 15 * 128 :] *= 5
    de = differential_entropy(eeg)
    twins = [de_matched_noise(np.random.default_rng(seed), de) for seed in (0, 1)]
    for twin in twins:
        assert np.abs(differential_entropy(twin) - de).mean() < 0.06
        assert twin[:, 16 * 128 :].std() / twin[:, : 14 * 128].std() == pytest.approx(5, rel=0.2)
    assert abs(np.corrcoef(twins[0].ravel(), twins[1].ravel())[0, 1]) < 0.1  # not the same noise


@pytest.mark.parametrize("kind", ["noise", "surrogate", "shuffled"])
def test_controls_are_the_same_every_time(run, kind):
    np.testing.assert_array_equal(paired(run, kind), paired(run, kind))


def test_no_augmentation_is_no_frames(run):
    run.config.augmentation = "none"
    with paired_eeg(run, None) as found:
        assert found is None


def test_a_class_of_one_trial_is_its_own_other():
    rng = np.random.default_rng(0)
    assert other_of_same_class(np.array([4, 7]), np.array([0] * 7 + [1]), rng) == {4: 4, 7: 7}


def test_additional_people_are_seen_by_the_classifier_and_need_no_generator(
    little_store, tmp_path, no_figures
):
    """From the scripts to the certificate, in whose record they stand."""
    few = {"train_groups": 8, "epochs": 1}
    run_stage("classifier", little_store, tmp_path, **few)
    fold = tmp_path / FOLD
    seen = {}
    for kind in ("none", "people"):
        run_stage("finetune", little_store, tmp_path, **few, augmentation=kind)
        folder = fold / f"finetune-{kind}"
        assert json.loads((folder / "leakage.json").read_text())["leaky"] is False
        content = checkpoints.load(folder / "model.pt", "")
        seen[kind] = set(np.flatnonzero(content["seen"]["classifier"]).tolist())
    assert list(content["upstream"]) == ["classifier"]
    store = open_store(little_store)
    recipe = load_recipe(script_of("finetune"))(**few)
    labels = class_labels(store, recipe.ratings, recipe.threshold)
    split = split_of(recipe, store, labels)
    assert seen["none"] == set(split.train.tolist()) | set(split.val.tolist())  # the head's
    # There may be more spare frames than training frames to pair them with, in one epoch.
    assert seen["none"] < seen["people"] <= seen["none"] | set(split.spare.tolist())
    assert len(seen["people"] - seen["none"]) >= min(len(split.train), len(split.spare)) - 64


def test_people_are_not_taken_from_those_who_are_trained_on(little_store, tmp_path, no_figures):
    with pytest.raises(UserError, match="none without --train-groups"):
        run_stage("finetune", little_store, tmp_path, augmentation="people")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("fold_seed", range(5))
def test_additional_people_are_never_those_validated_or_tested_on(fold_seed):
    """With medians as well, whose labels are not those that the folds were drawn by."""
    rng = np.random.default_rng(fold_seed)
    store = fake_store(
        n_trials=80,
        n_frames=3,
        subject=[f"s{trial // 4:02d}" for trial in range(80)],
        valence=rng.uniform(1, 9, 80).round(1),
    )
    config = SomeRecipe(6, 3, fold_seed=fold_seed, threshold="median")
    labels, split = augmentation.labels_and_split(config, store)
    assert (labels != class_labels(store, ("valence",), "middle")).any()
    run = SimpleNamespace(store=store, labels=labels, config=config, split=split)
    partners = augmentation.additional_frames(run)
    assert np.isin(partners(0, split.train), split.spare).all()


def test_generated_eeg_that_helps_is_learnt_from_to_the_end(
    finished_runs, little_store, tmp_path, no_figures, monkeypatch
):
    """Chance decides whether EEG of noise helps: here the head says that it does not, or does."""
    shutil.copytree(finished_runs, tmp_path / "runs")
    fit, predictions = closed_form.fit, []
    chosen = {"protocol": "subject", "epochs": 2, "restart": True}
    for helps in (False, True):
        monkeypatch.setattr(
            closed_form, "fit", lambda *args, helps=helps: replace(fit(*args), with_further=helps)
        )
        run = run_stage("finetune", little_store, tmp_path / "runs", **chosen)
        predictions.append((run / "predictions.csv").read_bytes())
    assert predictions[0] != predictions[1]
    assert "The paired EEG is learnt from." in (run / "log.txt").read_text()
    history = read_lines(run / "metrics.jsonl")
    assert [line["epoch"] for line in history] == [0, 1]
    for line in history:
        assert line["paired_cross_entropy"] > 0 and line["feature_distance"] > 0
        entropies = line["cross_entropy"], line["paired_cross_entropy"]
        assert min(entropies) <= line["loss"] <= max(entropies)
