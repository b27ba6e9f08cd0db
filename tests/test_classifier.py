"""Classifiers with what else they are given of a frame, and what stage 3 minimises."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks import ablation
from de3dgan.data.frames import Frames, batches
from de3dgan.data.scalers import fit_eeg_scaler
from de3dgan.stages import classifier
from de3dgan.stages.augmentation import PairedEEG
from de3dgan.stages.classifier import FrameClassifier, paired_loss
from de3dgan.training.device import Compute
from models import SASTNet, SpectralSASTNet
from tests.conftest import METHODS, write_store
from tests.helpers import fake_store, split_by_trial

CPU = torch.device("cpu")
SMALL = {"widths": (8, 8, 8, 8, 8), "n_features": 8}
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
    return classifier.classifier_of(net, store, Compute(CPU), scaler)


def test_each_frame_is_seen_against_the_baseline_of_its_own_trial(store):
    frames = Frames(store, CPU, waveform_baseline=False)
    ours = classifier_of("spectral", store)
    numbers = np.array([0, 7, 9, 14, 19, 23])  # a frame of each trial
    logits, features = ours(frames[numbers], numbers)
    for row, number in enumerate(numbers):
        recording = store.baseline[BASELINES[number // 4]]
        level = ours.net.level(torch.from_numpy(recording))[None]
        alone = ours.net(frames[numbers[row : row + 1]], level)
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
    assert other.baseline is first.baseline


class Linear:
    """Stands in for a classifier: scores and features that are known, and whose numbers it got."""

    def __init__(self):
        self.numbers, self.jitters = [], []

    net = torch.nn.BatchNorm1d(3)

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
    terms = paired_loss(real, pairs, net, *weights)(2, numbers, labels)
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


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_paired_eeg_does_not_change_what_real_frames_are_normalised_by(scale, store):
    """However unlike real EEG it is, the network ends with the statistics of real frames."""
    frames = Frames(store, CPU, waveform_baseline=False)
    other = Frames(store, CPU, False, eeg=scale * store.eeg[::-1].copy())
    numbers, labels = np.array([3, 20, 8]), torch.tensor([0, 1, 1])
    statistics, entropies = [], []
    for pairs in (None, PairedEEG(other)):
        own = classifier_of("spectral", store)
        own.net.train()
        torch.manual_seed(0)
        terms = paired_loss(frames, pairs, own, 1.0, 0.0)(0, numbers, labels)
        entropies.append(terms["loss" if pairs is None else "cross_entropy"])
        statistics.append((own.net.norm.running_mean, own.net.norm.running_var))
        assert own.net.norm.momentum == 0.05
    torch.testing.assert_close(*statistics, rtol=0, atol=0)
    torch.testing.assert_close(*entropies, rtol=0, atol=0)
    assert statistics[0][0].abs().max() > 0


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


def test_without_paired_eeg_stage_3_goes_on_as_stage_2():
    store = fake_store()
    real = Frames(store, CPU, waveform_baseline=False)
    numbers, labels = np.array([3, 20, 8]), torch.tensor([0, 1, 1])
    terms = paired_loss(real, None, Linear(), 1.0, 0.5)(0, numbers, labels)
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
    )
    seen = {}

    def fit(run, nets, optimisers, items, purpose, train_step, validate, **options):
        seen.update(nets, options=options)
        for batch in batches(items, 8, 0, 0, purpose):
            train_step(0, batch)
        return [validate()], 0

    monkeypatch.setattr(classifier.loop, "fit", fit)
    optimiser = torch.optim.SGD(own.net.parameters(), 1.0)
    loss = classifier.cross_entropy(frames, own)
    trained, history, _ = classifier.train(run, frames, own, optimiser, loss, "val_loss")
    averages, weights = trained.net.state_dict(), own.net.state_dict()
    assert seen[seen["options"]["handed_over"]].module is trained.net
    assert all(torch.equal(averages[k], weights[k]) for k in weights) == (decay == 0)
    wanted = classifier.predict(trained, frames, run.split.val)[:, 1]
    assert history[0]["val_loss"] == pytest.approx(-np.log(wanted).mean(), abs=1e-6)


def test_the_ablation_trains_on_the_maps_that_it_names(tmp_path):
    for name, n_maps in {"below 28 Hz only": 39, "change only, no magnitudes": 16}.items():
        maps = ablation.VARIANTS[name]
        with mock.patch.object(SpectralSASTNet, "__init__", ablation.given(maps)):
            assert SpectralSASTNet(("F3", "FZ"), 2, **SMALL).maps.n_maps == n_maps
    store = write_store(tmp_path / "eegmat", 10, ("rest", "arithmetic"), ["arithmetic"])
    document = tmp_path / "ABLATION.md"
    document.write_text("<!-- table: benchmarks/ablation.py -->\n<!-- end of table -->\n")
    variants = ("below 28 Hz only",)
    ablation.main(ablation.Config(store, folds=(0,), variants=variants, out=document))
    rows = [line.split(" | ") for line in document.read_text().splitlines() if line[0] == "|"]
    assert [row[1] for row in rows[2:]] == list(ablation.MODELS.values())
