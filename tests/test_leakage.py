"""The leakage certificate: every leak that is planted is found, and none where there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from de3dgan.base.errors import UserError
from de3dgan.data import scalers
from de3dgan.data.frames import Frames
from de3dgan.data.ledger import PAIRED, Ledger
from de3dgan.data.opening import open_store
from de3dgan.data.scalers import DE_SCALER, EEG_SCALER, fit_de_scaler, fit_eeg_scaler
from de3dgan.data.splits import Split, make_split
from de3dgan.data.store import ARRAYS, Store
from de3dgan.evaluation import copies
from de3dgan.evaluation.leakage import certificate
from de3dgan.reporting.summary import describe
from de3dgan.stages import (
    augmentation,
    classifier,
    published_generator,
    spectral_generator,
)
from de3dgan.stages import trials as trials_module
from de3dgan.stages.frame_classifiers import SpectralClassifier
from de3dgan.training import checkpoints, loop
from tests.conftest import METHODS, STAGES, run_stage, write_store
from tests.helpers import fake_store, split_by_trial

pytestmark = pytest.mark.usefixtures("no_figures", "no_baselines")
CPU = torch.device("cpu")
#: What has seen data in each stage, by method. Averages are kept of the weights in training, but
#: for the published generator; ours has no critic, and our networks have no scalers.
AVERAGED = {"classifier", "chosen epoch"}
OWN = {
    "spectral": {
        "gan": {"generator", "chosen epoch"},
        "classifier": AVERAGED,
        "finetune": AVERAGED | {PAIRED},
    },
    "published": {
        "gan": {DE_SCALER, EEG_SCALER, "generator", "critic", "chosen epoch"},
        "classifier": AVERAGED | {EEG_SCALER},
        "finetune": AVERAGED | {PAIRED},
    },
}
#: What is shown the same batches.
TOGETHER = {"generator", "critic", "classifier"}


def run_once(stage: str, store: Path, runs: Path, method: str = "spectral", **settings) -> Path:
    """Run a stage for one epoch."""
    return run_stage(stage, store, runs, method, epochs=1, **settings)


@pytest.fixture(scope="module")
def finished_of(little_store, tmp_path_factory) -> Callable[[str], Path]:
    """Return what runs all three stages of fold 0, of a method, for an epoch, once."""

    @cache
    def run(method: str) -> Path:
        runs = tmp_path_factory.mktemp("finished") / "runs"
        for stage in STAGES:
            run_once(stage, little_store, runs, method)
        return runs

    return run


@pytest.fixture(params=METHODS)
def method(request) -> str:
    """Return each method; or, with `indirect`, one."""
    return request.param


@pytest.fixture
def finished(method, finished_of) -> Path:
    """Return a runs folder in which all three stages of fold 0 ran as they should."""
    return finished_of(method)


def fold_of(runs: Path) -> Path:
    return runs / "valence" / "trial" / "fold0"


def read(folder: Path) -> tuple[dict, dict]:
    """Return the certificate and the result of a run."""
    found = json.loads((folder / "leakage.json").read_text())
    result = json.loads((folder / "result.json").read_text())
    assert result["leaky"] == found["leaky"]
    assert ("LEAKY" in (folder / "log.txt").read_text()) == found["leaky"]
    return found, result


def overlaps(found: dict) -> dict[tuple[str, str], list[str]]:
    """Return what each artefact of the chain has seen of the test groups, if anything."""
    return {
        (entry["stage"], entry["artefact"]): entry["overlap"]
        for entry in found["artefacts"]
        if entry["overlap"]
    }


@pytest.mark.parametrize("stage", STAGES)
def test_an_honest_chain_is_certified_with_all_its_artefacts(stage, method, finished):
    found, result = read(fold_of(finished) / stage)
    assert not found["leaky"]
    assert found["reasons"] == []
    chain = STAGES if stage == "finetune" else [stage]
    entries = {(e["stage"], e["artefact"]): e for e in found["artefacts"]}
    assert set(entries) == {(s, artefact) for s in chain for artefact in OWN[method][s]}
    assert all(e["overlap"] == [] for e in entries.values())
    for (_, artefact), e in entries.items():
        assert e.get("recomputed") == (True if artefact in (EEG_SCALER, DE_SCALER) else None)
        n = result["n_val_trials" if artefact == "chosen epoch" else "n_train_trials"]
        if (method, artefact) == ("spectral", "classifier"):  # whose head knows both
            n += result["n_val_trials"]
        assert len(e["groups"]) == n
        assert e["n_frames"] == 12 * n
    assert sum(map(len, found["test_groups"].values())) == result["n_test_trials"]


def test_the_groups_are_those_of_the_protocol(tmp_path):
    path = write_store(tmp_path / "store", 7, [f"video{k}" for k in range(6)])
    store = open_store(path)
    for protocol, column in {"subject": "subject", "video": "stimulus"}.items():
        folder = run_once("classifier", path, tmp_path, protocol=protocol)
        found, _ = read(folder)
        assert not found["leaky"]
        assert found["group"] == column
        for group, trials in found["test_groups"].items():
            assert {store.columns[column][t] for t in trials} == {group}
        seen = {g for e in found["artefacts"] for g in e["groups"]}
        assert seen | set(found["test_groups"]) == set(store.columns[column])


def test_the_random_frame_protocol_is_leaky_because_of_what_was_seen(little_store, tmp_path):
    for stage in STAGES:
        folder = run_once(stage, little_store, tmp_path, "published", protocol="random-frame")
        found, _ = read(folder)
        assert found["leaky"]
        chain = STAGES if stage == "finetune" else [stage]
        expected = {(s, a) for s in chain for a in OWN["published"][s]}
        assert set(overlaps(found)) == expected
    text = describe(tmp_path / "valence" / "random-frame" / "fold0")
    rows = text.split("| test split |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(rows) > 7 and all("**(leaky)**" in row for row in rows)  # a row for each model
    for reason in found["reasons"]:
        assert text.count(f"- {reason}") == 1


def test_the_random_frame_protocol_of_our_classifier_is_leaky_too(little_store, tmp_path):
    found, _ = read(run_once("classifier", little_store, tmp_path, protocol="random-frame"))
    assert {stage for stage, _ in overlaps(found)} == {"classifier"}
    assert {artefact for _, artefact in overlaps(found)} == OWN["spectral"]["classifier"]


# --- planted leaks, one of each kind


def also(items: np.ndarray, more: np.ndarray) -> np.ndarray:
    return np.union1d(items, more)


def leaky_fit(fit):
    def fitted(frames, split):
        first = frames.numbers(split.trials("test")[:1])
        return fit(frames, replace(split, train=also(split.train, first)))

    return fitted


def also_spread(n_wanted: int, more: np.ndarray):
    """Return a `spread` that adds trials to those of which at most `n_wanted` are wanted."""
    spread = trials_module.spread
    return lambda items, n: spread(also(items, more) if n == n_wanted else items, n)


def plant(patch: pytest.MonkeyPatch, stage: str, artefact: str, split) -> None:
    """Make `artefact` see the first test trial of `split`, however it is meant to be shaped.

    Of the spectral generator, there are three ways: in training, before it and after it.
    """
    trial = split.trials("test")[:1]
    frames = trial * split.n_frames
    if artefact in (DE_SCALER, EEG_SCALER):
        name = "fit_de_scaler" if artefact == DE_SCALER else "fit_eeg_scaler"
        owner = trials_module if stage == "gan" else scalers
        patch.setattr(owner, name, leaky_fit(getattr(scalers, name)))
    elif artefact in ("generator", "critic", "classifier"):
        extra, own = (trial if stage == "gan" else frames), loop.batches
        patch.setattr(loop, "batches", lambda items, *args: own(also(items, extra), *args))
    elif artefact == "generator's start":
        spread = also_spread(spectral_generator._N_START_TRIALS, trial)
        patch.setattr(spectral_generator, "spread", spread)
    elif artefact == "generator's recordings":
        recordings = spectral_generator.recordings
        patch.setattr(spectral_generator, "recordings", lambda *args: [*recordings(*args), trial])
    elif artefact == PAIRED:
        own_eeg = augmentation._made

        def of_test_de(run, frames):
            make, first = own_eeg(run, frames), run.split.trials("train")[0]
            return lambda trials: make(np.where(trials == first, trial, trials))

        patch.setattr(augmentation, "_made", of_test_de)
    elif stage == "gan":
        for module in (spectral_generator, published_generator):
            patch.setattr(module, "spread", also_spread(trials_module.N_VAL_TRIALS, trial))
    else:
        scores = classifier._scores

        def peek(scored, network, compute, all_frames, numbers):
            all_frames[frames]
            return scores(scored, network, compute, all_frames, numbers)

        patch.setattr(classifier, "_scores", peek)


#: A leak into a critic is one into its generator, too.
LEAKS = [
    (method, stage, artefact)
    for method in METHODS
    for stage in STAGES
    for artefact in sorted(OWN[method][stage] - {"critic"})
] + [("spectral", "gan", "generator's start"), ("spectral", "gan", "generator's recordings")]


@pytest.mark.parametrize(("method", "stage", "artefact"), LEAKS, indirect=["method"])
def test_a_planted_leak_is_found_and_marks_everything_made_from_it(
    stage, artefact, method, finished, little_store, tmp_path, monkeypatch
):
    runs = tmp_path / "runs"
    shutil.copytree(finished, runs)
    store = open_store(little_store)
    split = make_split(store, (store.rating("valence") > 5).astype(int), "trial", 0, 520)
    group = str(split.trials("test")[0])
    with monkeypatch.context() as patch:
        plant(patch, stage, artefact, split)
        found, _ = read(run_once(stage, little_store, runs, method, restart=True))
    assert found["leaky"]
    artefact, before_or_after, _ = artefact.partition("'")
    together = {artefact}
    if artefact in TOGETHER and not before_or_after:
        together = TOGETHER & OWN[method][stage]
    assert overlaps(found) == {(stage, name): [group] for name in together}
    assert any(artefact in reason and stage in reason for reason in found["reasons"])
    if stage != "finetune":
        later, _ = read(run_once("finetune", little_store, runs, method, restart=True))
        assert overlaps(later) == overlaps(found)


@pytest.mark.parametrize("kind", ["surrogate", "noise"])
def test_what_controls_are_made_from_is_found_too(
    kind, finished_of, little_store, tmp_path, monkeypatch
):
    runs = tmp_path / "runs"
    shutil.copytree(finished_of("spectral"), runs)
    store = open_store(little_store)
    split = make_split(store, (store.rating("valence") > 5).astype(int), "trial", 0, 520)
    plant(monkeypatch, "finetune", PAIRED, split)
    folder = run_once("finetune", little_store, runs, augmentation=kind)
    found, _ = read(folder.with_name(f"finetune-{kind}"))
    assert overlaps(found) == {("finetune", PAIRED): [str(split.trials("test")[0])]}


def test_paired_eeg_of_which_nothing_is_known_is_no_proof(finished_of, little_store):
    content = checkpoints.load(fold_of(finished_of("spectral")) / "finetune" / "model.pt", "")
    store = open_store(little_store)
    split = make_split(store, (store.rating("valence") > 5).astype(int), "trial", 0, 520)
    frames = Frames(store, CPU, waveform_baseline=False)
    del content["seen"][PAIRED]
    found = certificate(frames, split, split.test, {"finetune": content})
    assert found["reasons"] == [f"Nothing is known of what the {PAIRED} of the finetune stage saw."]


def test_a_baseline_that_is_read_of_a_test_trial_is_found(
    finished_of, little_store, tmp_path, monkeypatch
):
    """The EEG is of training trials, and only its baseline is not."""
    runs = tmp_path / "runs"
    shutil.copytree(finished_of("spectral"), runs)
    store = open_store(little_store)
    split = make_split(store, (store.rating("valence") > 5).astype(int), "trial", 0, 520)
    call = SpectralClassifier.trained_part

    def of_a_test_trial(self, eeg, numbers, *args):
        if self.net.training:
            numbers = np.append(numbers[:-1], split.test[0])
        return call(self, eeg, numbers, *args)

    monkeypatch.setattr(SpectralClassifier, "trained_part", of_a_test_trial)
    found, _ = read(run_once("finetune", little_store, runs, restart=True))
    assert overlaps(found) == {("finetune", "classifier"): [str(split.trials("test")[0])]}


def edit(path: Path, change) -> None:
    content = checkpoints.load(path, "")
    change(content)
    checkpoints.save(path, content)


EDITS = {
    "EEG scaler of other frames": (
        "published",
        "classifier",
        lambda c: c["eeg_scaler"].update(mean=c["eeg_scaler"]["mean"] + 0.01),
        "is not that of the frames",
    ),
    "DE statistics of other trials": (
        "published",
        "gan",
        lambda c: c["de_scaler"].update(std=[1.01 * std for std in c["de_scaler"]["std"]]),
        "is not that of the frames",
    ),
    **{
        f"no record of the {artefact}, {method}": (
            method,
            stage,
            lambda c, artefact=artefact: c["seen"].pop(artefact),
            f"Nothing is known of what the {artefact}",
        )
        for method, stage, artefact in (
            ("published", "gan", "critic"),
            ("published", "classifier", EEG_SCALER),
            ("spectral", "gan", "generator"),
            ("spectral", "classifier", "classifier"),
            ("spectral", "gan", "chosen epoch"),
        )
    },
}


@pytest.mark.parametrize(
    ("method", "name"), [(EDITS[name][0], name) for name in EDITS], indirect=["method"]
)
def test_a_checkpoint_is_not_believed_without_evidence(
    name, method, finished, little_store, tmp_path
):
    _, stage, change, reason = EDITS[name]
    shutil.copytree(finished, tmp_path / "runs")
    path = fold_of(tmp_path / "runs") / stage / "model.pt"
    edit(path, change)
    with pytest.raises(UserError, match=f"{stage}/model.pt is not of this run's split: "):
        run_once("finetune", little_store, tmp_path / "runs", method, restart=True)
    store = open_store(little_store)
    labels = (store.rating("valence") > 5).astype(int)
    split = make_split(store, labels, "trial", 0, 520)
    frames = Frames(store, torch.device("cpu"), waveform_baseline=False)
    found = certificate(frames, split, split.test, {stage: checkpoints.load(path, "")})
    assert found["leaky"]
    assert len(found["reasons"]) == 1
    assert reason in found["reasons"][0]


def test_figures_of_a_leaky_run_say_so_in_name_heading_and_metadata(
    little_store, tmp_path, monkeypatch
):
    monkeypatch.undo()  # draw
    folder = run_once("classifier", little_store, tmp_path, protocol="random-frame")
    pngs = list(folder.glob("*.png"))
    assert len(pngs) == 3
    for path in pngs:
        assert path.stem.endswith("-leaky")
        title = path.read_bytes().partition(b"Title\0")[2].partition(b"IDAT")[0]
        assert b"LEAKY" in title


# --- copies


def people(n: int, n_trials: int = 4, **columns: list) -> Store:
    """Return a store of `n` people with `n_trials` trials of 12 s, and a baseline each."""
    who, what = np.divmod(np.arange(n * n_trials), n_trials)
    own = {"subject": [f"s{k:02d}" for k in who], "stimulus": [f"v{k}" for k in what]}
    return fake_store(n * n_trials, 12, ("FP1", "CZ", "O2", "PZ"), **{**own, **columns})


def certified(store: Store, protocol: str) -> tuple[dict, Split]:
    """Return the certificate of a classifier that has seen what it may, and its split."""
    labels = np.arange(store.n_trials) % 2
    split = make_split(store, labels, protocol, 0, 520)
    frames = Frames(store, CPU, waveform_baseline=False)
    for artefact, numbers in (("classifier", split.train), ("chosen epoch", split.val)):
        with frames.ledger.reading_for(artefact):
            frames[numbers]
    content = {"stage": "classifier", "module": "", "seen": frames.ledger.content()}
    return certificate(frames, split, split.test, {"classifier": content}), split


def test_copies_of_people_under_new_names_are_found_and_named(tmp_path):
    path = write_store(tmp_path / "store", 10)
    n = 20  # the trials of five people, and again those of five
    for name in ARRAYS:
        array = np.load(path / f"{name}.npy")
        array[n:] = array[:n]
        np.save(path / f"{name}.npy", array)
    folder = run_once("classifier", path, tmp_path, protocol="subject")
    found, _ = read(folder)
    assert found["leaky"] and not overlaps(found)
    subjects = open_store(path).columns["subject"]
    trials = {trial for trials in found["test_groups"].values() for trial in trials}
    trials = {trial for trial in trials if (trial + n) % 40 not in trials}
    by_recording = {"trial": set(), "baseline": set()}
    for copy in found["copies"]:
        by_recording[copy["recording"]].add(copy["tested"])
        assert copy["seen"] == (copy["tested"] + n) % 40
        assert (copy["correlation"], copy["shift"]) == (1, 0)
        assert copy["tested_subject"] == subjects[copy["tested"]]
        assert copy["seen_subject"] == subjects[copy["seen"]]
    assert by_recording == {"trial": trials, "baseline": trials}
    assert len(found["reasons"]) == 2 * len(trials) // 4
    for trial in trials:
        tested, seen = subjects[trial], subjects[(trial + n) % 40]
        reason = f"Of {tested} 4 trials tested on are copies of what was seen of {seen}: "
        assert any(reason in text for text in found["reasons"])


@pytest.mark.parametrize("protocol", ["trial", "subject"])
def test_a_near_copy_in_another_trial_is_found(protocol):
    """It comes a second later, half as loud, and the other way round."""
    store = people(10)
    honest, split = certified(store, protocol)
    assert not honest["leaky"] and honest["copies"] == []
    tested, seen = split.trials("test")[1], split.trials("val")[0]
    store.eeg[tested, :, 128:] = -0.5 * store.eeg[seen, :, :-128]
    found, _ = certified(store, protocol)
    assert found["leaky"] and len(found["reasons"]) == 1
    (copy,) = found["copies"]
    assert (copy["tested"], copy["seen"], copy["recording"]) == (tested, seen, "trial")
    assert copy["correlation"] < -0.9
    assert (copy["shift"], copy["seconds"]) == (-1, 11)


def test_where_not_all_pairs_are_compared_the_certificate_says_so(monkeypatch):
    store = people(10)
    assert certified(store, "subject")[0]["notes"] == []
    monkeypatch.setattr(copies, "_MOST_COMPARED", 0)
    found, split = certified(store, "subject")
    assert not found["leaky"]
    assert [note.split(" to compare all pairs")[0] for note in found["notes"]] == [
        "There are too many trials",
        "There are too many baselines",
    ]
    assert len(certified(store, "trial")[0]["notes"]) == 1  # baselines may be shared
    tested, seen = split.trials("test")[0], split.trials("train")[0]
    store.eeg[tested] = 2 * store.eeg[seen]
    (copy,) = certified(store, "subject")[0]["copies"]
    assert (copy["tested"], copy["seen"]) == (tested, seen)


def test_new_people_have_new_baselines_and_the_same_people_may_share_theirs():
    shared = people(10, baseline=np.arange(40) // 4)
    shared.columns["stimulus"] = [f"v{k // 2 % 10}" for k in range(40)]
    for protocol in ("trial", "video", "subject"):
        assert not certified(shared, protocol)[0]["leaky"]
    _, split = certified(shared, "subject")
    ours, theirs = (shared.baseline_index[split.trials(part)[0]] for part in ("test", "train"))
    shared.baseline[ours] = 2 * shared.baseline[theirs]
    found, _ = certified(shared, "subject")
    assert [copy["recording"] for copy in found["copies"]] == ["baseline"]
    assert (found["copies"][0]["tested"], found["copies"][0]["seen"]) == (ours, theirs)
    assert f"baseline {ours} is baseline {theirs}" in found["reasons"][0]


def test_pieces_of_a_recording_that_share_a_rating_are_never_parted():
    pieces = people(10, 8, stimulus=[f"v{k % 8 // 2}" for k in range(80)])
    found, split = certified(pieces, "trial")
    assert not found["leaky"]
    assert all(len(trials) == 2 for trials in found["test_groups"].values())
    rated = list(zip(pieces.columns["subject"], pieces.columns["stimulus"], strict=True))
    parts = [{rated[trial] for trial in split.trials(part)} for part in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set(rated)) == 40


# --- the ledger


def test_the_certificate_looks_groups_up_in_the_store_not_in_the_split():
    store = fake_store(n_trials=6, subject=["a", "a", "b", "b", "c", "c"])
    split = split_by_trial(store, val=1, test=4)  # trials 4 and 5 are of one person
    split = replace(split, protocol="subject")
    frames = Frames(store, CPU, waveform_baseline=False)
    scalers = {
        "de_scaler": fit_de_scaler(frames, split),
        "eeg_scaler": fit_eeg_scaler(frames, split),
    }
    with frames.ledger.reading_for("generator", "critic", "chosen epoch"):
        frames[split.train]
    content = {"stage": "gan", "module": "Generator", "seen": frames.ledger.content()}
    content |= {name: vars(scaler) for name, scaler in scalers.items()}
    found = certificate(frames, split, split.test, {"gan": content})
    assert found["test_groups"] == {"c": [4]}
    assert [set(groups) for groups in overlaps(found).values()] == 5 * [{"c"}]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 9), max_size=4))))
@settings(max_examples=50)
def test_a_ledger_knows_what_was_read_and_for_what(reads):
    ledger, expected = Ledger(10), {}
    for name, frames in reads:
        with ledger.reading_for(name):
            ledger.note(np.array(frames, dtype=int))
        ledger.note(np.arange(10))  # for nothing
        expected.setdefault(name, set()).update(frames)
    again = Ledger(10)
    again.add(ledger.content())
    for one in (ledger, again):
        assert {k: set(np.flatnonzero(v).tolist()) for k, v in one.seen.items()} == expected


def test_reading_inside_another_artefacts_context_is_noted_for_the_inner_one_only():
    ledger = Ledger(4)
    with ledger.reading_for("outer"):
        with ledger.reading_for("inner"):
            ledger.note(np.array([0]))
        ledger.note(np.array([1]))
    assert np.flatnonzero(ledger.seen["outer"]).tolist() == [1]
    assert np.flatnonzero(ledger.seen["inner"]).tolist() == [0]
