"""Classifiers with what else they are given of a frame, and what stage 3 minimises."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks import classifier as benchmark
from de3dgan.base.paths import ROOT
from de3dgan.base.recipe import load_script
from de3dgan.data.frames import Frames, batches
from de3dgan.data.labels import class_labels
from de3dgan.data.ledger import Ledger
from de3dgan.data.opening import open_store
from de3dgan.data.scalers import fit_eeg_scaler
from de3dgan.data.splits import labels_and_split, make_split
from de3dgan.models import SASTNet, SpectralSASTNet
from de3dgan.stages import classifier
from de3dgan.stages.augmentation import PairedEEG
from de3dgan.stages.classifier import Start, paired_loss
from de3dgan.stages.frame_classifiers import FrameClassifier, SpectralClassifier
from de3dgan.stages.frame_classifiers import classifier_of as of_network
from de3dgan.training import checkpoints
from de3dgan.training.device import Compute
from tests.conftest import METHODS, TINY_CONFIG, write_store
from tests.helpers import fake_store, split_by_trial

CPU = torch.device("cpu")
SMALL = {"widths": (8, 8, 8, 8, 8), "n_features": 8}
#: Of a network without a head.
NOTHING = Start(torch.zeros(24, 2))
#: Trials 0 to 5, of three recordings: each has its own baseline, or one with others.
BASELINES = [2, 0, 1, 1, 2, 0]


@pytest.fixture
def store():
    return fake_store(n_trials=6, n_frames=4, baseline=BASELINES)


def classifier_of(method: str, store) -> FrameClassifier:
    torch.manual_seed(0)
    frames = Frames(store, CPU, waveform_baseline=False)
    if method == "spectral":
        net, scaler = SpectralSASTNet(store.ch_names, **SMALL), None
    else:
        net, scaler = (
            SASTNet(store.ch_names, **SMALL),
            fit_eeg_scaler(frames, split_by_trial(store, val=1, test=4)),
        )
    net.eval()
    own = of_network(net, store, Compute(CPU), scaler)
    if method == "spectral":  # as if it had been trained: head and residual both say something
        with torch.no_grad():
            net.head_weight.normal_(0, 0.05)
            net.net.head.weight.normal_(0, 0.5)
    return own


def test_each_frame_is_seen_against_the_baseline_of_its_own_trial(store):
    frames = Frames(store, CPU, waveform_baseline=False)
    ours = classifier_of("spectral", store)
    numbers = np.array([0, 7, 9, 14, 19, 23])  # a frame of each trial
    logits, features = ours(frames[numbers], numbers)
    for row, number in enumerate(numbers):
        recording = torch.from_numpy(store.baseline[BASELINES[number // 4]])[None]
        reference = ours.net.views.reference(ours.net.measure(recording))
        alone = ours.net(ours.net.measure(frames[numbers[row : row + 1]]), reference)
        torch.testing.assert_close(logits[row], alone[0][0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(features[row], alone[1][0], atol=1e-5, rtol=1e-4)
    other, _ = ours(frames[numbers], numbers[::-1].copy())
    assert not torch.allclose(other, logits)


def test_the_published_classifier_sees_normalised_frames_alone(store):
    frames = Frames(store, CPU, waveform_baseline=False)
    theirs = classifier_of("published", store)
    numbers = np.array([0, 7, 9])
    logits, _ = theirs(frames[numbers], numbers)
    wanted, _ = theirs.net(theirs.scaler.normalise(frames[numbers]))
    assert torch.equal(logits, wanted)
    assert torch.equal(theirs(frames[numbers], numbers[::-1].copy())[0], logits)


@pytest.mark.parametrize("method", METHODS)
def test_a_classifier_survives_being_a_checkpoints_content(method, store):
    frames = Frames(store, CPU, waveform_baseline=False)
    own, numbers = classifier_of(method, store), np.arange(24)
    content = {**own.content(), "settings": {"method": method}}
    assert ("eeg_scaler" in content) == (method == "published")
    again = FrameClassifier.from_content(content, store, Compute(CPU))
    again.net.eval()
    assert torch.equal(again(frames[numbers], numbers)[0], own(frames[numbers], numbers)[0])
    probabilities = classifier.predict(again, frames, numbers)
    assert probabilities.shape == (24, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)


def test_the_same_with_another_network_leaves_the_first_alone(store):
    first, other_net = classifier_of("spectral", store), classifier_of("spectral", store)
    other = first.with_net(other_net.net)
    assert other.net is other_net.net
    assert first.net is not other_net.net
    assert other.reference is first.reference


class Linear:
    """Stands in for a classifier: scores and features that are known, and whose numbers it got."""

    def __init__(self):
        self.numbers, self.jitters = [], []

    net = torch.nn.BatchNorm1d(3)
    compute = Compute(CPU)

    def trained_part(self, eeg, numbers, jitter=0.0):
        return self(eeg, numbers, jitter)

    def of_store(self, store):
        return self

    def __call__(self, eeg, numbers, jitter=0.0):
        self.numbers.append(numbers)
        self.jitters.append(jitter)
        self.net(eeg.mean(-1))
        feature = eeg.mean(-1)
        return feature @ torch.tensor([[1.0, -1.0], [0.5, 0.2], [-0.3, 1.0]]), feature


@pytest.mark.parametrize("weights", [(0.0, 0.5), (1.0, 0.0), (0.5, 2.0), (0.0, 0.0)])
def test_stage_3_minimises_what_its_weights_say(weights, store):
    real = Frames(store, CPU, waveform_baseline=False)
    generated = fake_store(n_trials=6, n_frames=4, seed=1)
    paired = Frames(generated, CPU, waveform_baseline=False)
    numbers, labels = np.array([3, 20, 8]), torch.tensor([0, 1, 1])
    net, partners = Linear(), np.array([7, 16, 9])
    pairs = PairedEEG(paired, lambda epoch, given: partners if epoch == 2 else given, jitter=0.5)
    terms = paired_loss(None, real, pairs, net, *weights, NOTHING)(2, numbers, labels)
    assert [n.tolist() for n in net.numbers] == [[3, 20, 8], [7, 16, 9]]
    assert net.jitters == [0, 0.5]  # real frames are left alone

    (logits, features), (paired_logits, other) = (
        Linear()(f[given], None) for f, given in ((real, numbers), (paired, partners))
    )
    entropies = F.cross_entropy(logits, labels), F.cross_entropy(paired_logits, labels)
    distance = (features - other).square().mean()
    label_weight, consistency_weight = weights
    mean = (entropies[0] + label_weight * entropies[1]) / (1 + label_weight)
    assert next(iter(terms)) == "loss"  # which is minimised
    torch.testing.assert_close(terms["loss"], mean + consistency_weight * distance)
    torch.testing.assert_close(terms["cross_entropy"], entropies[0])
    torch.testing.assert_close(terms["feature_distance"], distance)


@pytest.mark.parametrize("epochs", [1, 8])
def test_what_the_head_says_of_paired_frames_is_found_once_or_each_time(epochs, store, monkeypatch):
    frames, own = Frames(store, CPU, waveform_baseline=False), classifier_of("spectral", store)
    for part in (own.net.head_weight, own.net.head_bias, own.net.net.head.weight):
        part.data.normal_()
    pairs = PairedEEG(Frames(store, CPU, False, eeg=store.eeg[::-1].copy()))
    split = split_by_trial(store, val=1, test=4)
    config = SimpleNamespace(epochs=epochs, epoch_steps=0, batch_size=4, n_classes=2)
    run = SimpleNamespace(config=config, split=split, device=CPU, compute=Compute(CPU))
    found = []
    call = SpectralClassifier.head_scores
    monkeypatch.setattr(
        SpectralClassifier, "head_scores", lambda *args: found.append(args[2]) or call(*args)
    )
    own.net.eval()
    loss = paired_loss(run, frames, pairs, own, 1.0, 0.5, NOTHING)
    assert [numbers.tolist() for numbers in found] == ([] if epochs == 1 else [[*split.train]])
    numbers, labels = split.train[[3, 0, 5]], torch.tensor([0, 1, 1])
    expected = F.cross_entropy(own(pairs.frames[numbers], numbers)[0], labels)
    torch.testing.assert_close(loss(0, numbers, labels)["paired_cross_entropy"], expected)


def test_paired_eeg_does_not_change_what_real_frames_are_normalised_by(store):
    """However unlike real EEG it is, a network with batch norms keeps statistics of real frames."""
    frames = Frames(store, CPU, waveform_baseline=False)
    other = Frames(store, CPU, False, eeg=100 * store.eeg[::-1].copy())
    numbers, labels = np.array([3, 20, 8]), torch.tensor([0, 1, 1])
    statistics = []
    for pairs in (None, PairedEEG(other)):
        own = Linear()
        own.net = torch.nn.BatchNorm1d(3)
        paired_loss(None, frames, pairs, own, 1.0, 0.0, NOTHING)(0, numbers, labels)
        statistics.append(own.net.running_mean)
        assert own.net.momentum == 0.1
    torch.testing.assert_close(*statistics, rtol=0, atol=0)
    assert statistics[0].abs().max() > 0


def test_real_frames_are_learnt_from_beside_what_a_head_says_that_has_not_seen_them(store):
    frames, own = Frames(store, CPU, waveform_baseline=False), classifier_of("spectral", store)
    numbers, labels = np.array([3, 20, 8]), torch.tensor([0, 1, 1])
    begun = Start(torch.randn(24, 2), torch.tensor([0.5, 2.0]))
    (loss,) = classifier.cross_entropy(frames, own, begun)(0, numbers, labels).values()
    measured, reference = own._seen(frames[numbers], numbers)
    added, _ = own.net.residual(measured.level, reference.level)
    entropies = F.cross_entropy(begun.held_out[numbers] + added, labels, reduction="none")
    wanted = (entropies * begun.class_weight[labels]).mean()
    torch.testing.assert_close(loss, wanted)


@pytest.mark.parametrize("method", METHODS)
def test_jitter_is_noise_on_the_normalised_input_in_training(method, store, monkeypatch):
    frames = Frames(store, CPU, waveform_baseline=False)
    own, numbers, given = classifier_of(method, store), np.arange(24), []
    forward = own.published_net.forward
    monkeypatch.setattr(own.published_net, "forward", lambda x: given.append(x) or forward(x))

    def difference(jitter: float, training: bool) -> torch.Tensor:
        own.net.train(training)
        for amount in (jitter, 0.0):
            torch.manual_seed(0)
            own(frames[numbers], numbers, amount)
        return given[-2] - given[-1]

    assert not difference(2.0, False).any()  # none in predicting
    # Beside the noise of 1 that our network has already, with which it adds up to √(1 + 4).
    wanted = 5**0.5 - 1 if method == "spectral" else 2
    assert difference(2.0, True).std().item() == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize("with_paired", [True, False])
def test_without_paired_eeg_stage_3_goes_on_as_stage_2(with_paired):
    """Also where held-out groups have done worse with it."""
    store = fake_store()
    real = Frames(store, CPU, waveform_baseline=False)
    paired = None if with_paired else PairedEEG(real)
    begun = replace(NOTHING, with_paired=with_paired)
    numbers, labels = np.array([3, 20, 8]), torch.tensor([0, 1, 1])
    terms = paired_loss(None, real, paired, Linear(), 1.0, 0.5, begun)(0, numbers, labels)
    assert set(terms) == {"loss"}
    wanted = F.cross_entropy(Linear()(real[numbers], None)[0], labels)
    torch.testing.assert_close(terms["loss"], wanted)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_validation_and_what_is_handed_over_are_of_the_averaged_weights(decay, store, monkeypatch):
    """What validation looks at is not what is being trained, unless nothing is averaged."""
    frames = Frames(store, CPU, waveform_baseline=False)
    own = classifier_of("spectral", store)
    run = SimpleNamespace(
        config=SimpleNamespace(ema_decay=decay, batch_size=8, seed=0),
        split=split_by_trial(store, val=1, test=4),
        labels=np.array([0, 1, 0, 1, 0, 1]),
        device=CPU,
        compute=Compute(CPU),
        log=print,
        ledger=Ledger(24),
    )
    seen = {}

    def fit(run, nets, optimisers, items, purpose, train_step, validate, **options):
        seen.update(nets, options=options)
        for batch in batches(items, 8, 0, 0, purpose):
            train_step(0, batch)
        return [validate()], 0

    monkeypatch.setattr(classifier.loop, "fit", fit)
    optimiser = torch.optim.SGD(own.net.parameters(), 1.0)
    nothing = Start(torch.zeros(24, 2))
    loss = classifier.cross_entropy(frames, own, nothing)
    begun = own.net.net.head.weight.clone()
    trained, history, _ = classifier.train(run, frames, own, optimiser, loss, "val_loss", nothing)
    averages, weights = trained.net.state_dict(), own.net.state_dict()
    assert seen[seen["options"]["handed_over"]].module is trained.net
    same = {k: torch.equal(averages[k], weights[k]) for k in weights if "feature" in k}
    assert all(same.values()) == (decay == 0)
    assert not torch.equal(own.net.net.head.weight, begun)
    # What is handed over has as much of the residual as validation says, and no head here.
    val = run.split.val
    added, _ = trained.trained_part(frames[val], val)
    classes = torch.from_numpy(np.repeat(run.labels, 4)[val])
    assert history[0]["val_loss"] == pytest.approx(F.cross_entropy(added, classes).item(), abs=1e-5)


def test_the_head_knows_validation_trials_and_no_test_trials(tmp_path):
    """Stage 2's certificate says so of a run, and its scores do not change with test labels."""
    store = open_store(write_store(tmp_path / "eegmat", 10, ("rest", "arithmetic"), ["arithmetic"]))
    frames = Frames(store, CPU, waveform_baseline=False)
    labels = class_labels(store, ("arithmetic",), "middle")
    split = make_split(store, labels, "subject", 0, 520)
    heads = []
    for test_labels in (labels[split.trials("test")], 1 - labels[split.trials("test")]):
        labels[split.trials("test")] = test_labels
        own = classifier_of("spectral", store)
        ledger = Ledger(store.n_trials * store.n_frames)
        frames = Frames(store, CPU, waveform_baseline=False, ledger=ledger)
        run = SimpleNamespace(
            config=SimpleNamespace(n_classes=2), split=split, store=store, labels=labels,
            device=CPU, compute=Compute(CPU), log=print, stage="classifier", ledger=ledger,
        )  # fmt: skip
        begun = classifier.start(run, frames, own)
        heads.append(own.net.head_weight.clone())
        seen = np.flatnonzero(ledger.content()["classifier"])
        assert set(seen) == set(split.train) | set(split.val)
        assert not begun.held_out[split.test].any()
        assert begun.held_out[split.train].any()
        torch.testing.assert_close(own.net.map_std.min() > 0, torch.tensor(True))
    assert torch.equal(*heads)


def test_the_benchmark_has_every_part_of_the_classifier(tmp_path, monkeypatch):
    """Of a store in which there is nothing to be found; its head without views is the script's."""
    store = write_store(tmp_path / "eegmat", 10, ("rest", "arithmetic"), ["arithmetic"])
    document = tmp_path / "CLASSIFIER.md"
    document.write_text("<!-- table: benchmarks/classifier.py -->\n<!-- end of table -->\n")
    script = load_script(ROOT / "Workload-main" / "SA-ST_Net_Classifier_Workload.py")
    tiny = partial(script.Config, **TINY_CONFIG["spectral"]["classifier"])
    small = SimpleNamespace(Config=tiny, main=script.main)
    monkeypatch.setattr(benchmark, "load_script", lambda _: small)
    heads_of, given = benchmark.heads, []

    def heads(recipe, path, like):
        given.append((recipe, path, heads_of(recipe, path, like)))
        return given[-1][-1]

    monkeypatch.setattr(benchmark, "heads", heads)
    benchmark.main(
        benchmark.Config(
            store, tmp_path / "work", folds=(0,), sizes=(0,), strengths=(), out=document
        )
    )
    rows = [line.split(" | ")[0] for line in document.read_text().splitlines() if line[:2] == "| "]
    assert {"| SA-ST-Net: head and trunk", "| trunk alone", "| power alone"} <= set(rows)
    assert sum("head without" in row for row in rows) == 6
    [(recipe, path, found)] = given
    content = checkpoints.load(path, "")
    trained = FrameClassifier.from_content(content, open_store(store), Compute(CPU))
    with torch.no_grad():
        for parameter in trained.net.net.head.parameters():
            parameter.zero_()
    _, split = labels_and_split(recipe, trained.store)
    alone = classifier.predict(trained, Frames(trained.store, CPU, False), split.test)
    np.testing.assert_allclose(found["head, all views"].probabilities, alone, atol=1e-3)
