"""What a network has to beat: what it is given, how it is tuned, and that it sees no test part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier

from de3dgan.base.files import read_json
from de3dgan.data.frames import Frames
from de3dgan.data.splits import Split, make_split
from de3dgan.data.store import Store
from de3dgan.eeg.subspace import lacking
from de3dgan.evaluation import artefacts, baselines, metrics, tangent, tuning
from de3dgan.evaluation.features import frame_de, frame_maps, of_baselines
from de3dgan.models import SpectralSASTNet
from de3dgan.models.views import PowerMaps
from de3dgan.stages.classifier import _verdict
from de3dgan.stages.frame_classifiers import SpectralClassifier
from de3dgan.training.device import Compute
from tests.helpers import fake_store

CPU = torch.device("cpu")


def frames_of(store: Store) -> Frames:
    return Frames(store, CPU, waveform_baseline=False)


def predicted(
    store: Store, split: Split, labels: np.ndarray, name: str, asked: np.ndarray | None = None
) -> np.ndarray:
    """Return what one baseline predicts, for the test part unless other frames are asked about."""
    asked = split.test if asked is None else asked
    found, _ = baselines.predictions(frames_of(store), split, labels, asked, names=[name])
    assert found[name].shape == (len(asked), labels.max() + 1)
    np.testing.assert_allclose(found[name].sum(1), 1)
    return found[name]


def accuracy(store: Store, split: Split, labels: np.ndarray, name: str) -> float:
    truth = labels[split.test // store.n_frames]
    return metrics.balanced_accuracy(truth, predicted(store, split, labels, name).argmax(1))


# --- what they are given


def test_frame_de_is_the_mean_of_the_two_half_seconds():
    store = fake_store(n_trials=3, n_frames=4)
    features = frame_de(store, np.array([0, 5, 11]))
    for row, (trial, frame) in zip(features, [(0, 0), (1, 1), (2, 3)], strict=True):
        halves = store.de[trial][:, [2 * frame, 2 * frame + 1]]
        np.testing.assert_allclose(row.reshape(4, 3), halves.mean(1), atol=1e-6)


def test_baselines_are_given_the_maps_that_the_network_normalises(monkeypatch):
    store = fake_store(n_trials=6, n_frames=4, baseline=[2, 0, 1, 1, 2, 0])
    frames, numbers = frames_of(store), np.array([0, 7, 9, 14, 19, 23])
    net = SpectralSASTNet(store.ch_names, widths=(8,) * 5, n_features=8).eval()
    given_ = []
    monkeypatch.setattr(net, "_normalised", lambda maps, _: given_.append(maps) or maps)
    SpectralClassifier(net, store, Compute(CPU))(frames[numbers], numbers)
    found = frame_maps(frames, numbers, PowerMaps())
    np.testing.assert_allclose(found.reshape(given_[0].shape), given_[0].numpy(), atol=1e-5)


def test_maps_are_a_change_and_its_magnitudes():
    level, baseline = torch.randn(5, 3, 16), torch.randn(5, 3, 16)
    change, magnitude, apart = PowerMaps()(level, baseline).chunk(3, dim=-1)
    torch.testing.assert_close(change, level - baseline)
    torch.testing.assert_close(magnitude, change.abs())
    torch.testing.assert_close(apart, (change - change.mean(1, keepdim=True)).abs())


def noise(rng: np.random.Generator, n_seconds: int, scale: np.ndarray, mixing: np.ndarray):
    """Return EEG of sources of white noise, float32 (n_chans, n_times)."""
    return (mixing @ (scale[:, None] * rng.normal(size=(len(scale), 128 * n_seconds)))).astype("f4")


def test_the_null_space_score_is_log_power_in_the_baselines_weakest_direction():
    """That of rounding alone, here the mean over electrodes, is left out."""
    rng = np.random.default_rng(0)
    store = fake_store(n_trials=2, n_frames=60, ch_names=("F3", "FZ", "F4", "CZ"), baseline=[0, 0])
    # Orthogonal; the last column is the mean over electrodes.
    mixing = np.linalg.qr(np.c_[np.ones(4), rng.normal(size=(4, 3))])[0][:, [1, 2, 3, 0]]
    weak = np.array([10.0, 5.0, 0.01, 0.0])
    store.eeg[0] = noise(rng, 60, weak, mixing)
    store.eeg[1] = noise(rng, 60, weak * [1, 1, 100, 1], mixing)
    store = replace(store, baseline=noise(rng, 60, weak, mixing)[None])
    score = artefacts.null_space(frames_of(store), np.arange(120)).reshape(2, 60)
    assert score[0].mean() == pytest.approx(0, abs=0.1)
    assert score[1].mean() == pytest.approx(np.log(100**2), abs=0.1)


def test_the_score_above_46_hz_follows_power_there_and_nowhere_else():
    rng = np.random.default_rng(0)
    store = fake_store(n_trials=3, n_frames=8, baseline=[0, 1, 2])
    t = np.arange(8 * 128) / 128
    store = replace(store, baseline=(10 * rng.normal(size=(3, 3, 8 * 128))).astype("f4"))
    store.eeg[:] = store.baseline
    store.eeg[1] *= 3
    store.eeg[2] += (100 * np.sin(2 * np.pi * 20 * t)).astype("f4")
    low_and_high = artefacts.above_46_hz(frames_of(store), np.arange(24)).reshape(3, 8, 6)
    mean = low_and_high.mean(1)
    np.testing.assert_allclose(mean[0], 0, atol=1e-6)
    np.testing.assert_allclose(mean[1], np.log(3), atol=1e-4)
    np.testing.assert_allclose(mean[2], 0, atol=0.05)


def test_frequencies_of_classes_by_hand():
    names = np.array(["a", "a", "b", "b", "c"])
    labels = np.array([0, 1, 1, 1, 0])
    known = np.array([0, 1, 1, 1, 2, 2])  # trials of frames
    found = artefacts.class_frequencies(names, labels, known, np.array([3, 0, 4]))
    np.testing.assert_allclose(found, [[0, 1], [1 / 4, 3 / 4], [1 / 6, 5 / 6]])
    # One stimulus per class is but the class's name.
    found = artefacts.class_frequencies(
        np.array(["x", "y"]), np.arange(2), np.array([0, 1, 1]), [1]
    )
    np.testing.assert_allclose(found, [[1 / 3, 2 / 3]])


def test_who_is_seen_again_is_known_by_their_classes_and_a_stranger_is_not():
    people = [f"s{t // 10}" for t in range(100)]
    store = fake_store(n_trials=100, n_frames=2, subject=people)
    labels = (np.arange(100) % 10 < np.where(np.arange(100) < 50, 8, 2)).astype(int)
    by_trial = make_split(store, labels, "trial", 0, 520)
    assert accuracy(store, by_trial, labels, "person") > 0.65
    by_subject = make_split(store, labels, "subject", 0, 520)
    p = predicted(store, by_subject, labels, "person")
    assert (p == p[0]).all()


def test_tangent_space_does_not_depend_on_how_sources_are_mixed(monkeypatch):
    """Norms there are distances from the baseline, which any mixing of electrodes leaves alone."""
    monkeypatch.setattr(tangent, "_WHITE", 0.0)
    rng = np.random.default_rng(1)
    store = fake_store(n_trials=4, n_frames=4)
    lengths = []
    for mixing in (np.eye(3), rng.normal(size=(3, 3))):
        mixed = replace(
            store,
            eeg=(mixing @ store.eeg).astype("f4"),
            baseline=(mixing @ store.baseline).astype("f4"),
        )
        frames = frames_of(mixed)
        monkeypatch.setattr(tangent, "common_basis", lambda *_: np.eye(3))
        coordinates = tangent.tangent_space(frames, np.arange(4))(np.arange(16))
        assert coordinates.shape == (16, 4 * 6)
        lengths.append(np.linalg.norm(coordinates.reshape(16, 4, 6), axis=-1))
    np.testing.assert_allclose(*lengths, rtol=1e-3)
    assert lengths[0].min() > 0.05


def test_tangent_space_has_the_rank_of_the_training_trial_that_lacks_most():
    rng = np.random.default_rng(2)
    store = fake_store(n_trials=3, n_frames=30, ch_names=("F3", "FZ", "F4", "CZ"))
    for trial, n_lacking in enumerate((0, 1, 2)):
        scale = np.where(np.arange(4) < n_lacking, 0.01, 10)
        store.eeg[trial] = noise(rng, 30, scale, np.linalg.qr(rng.normal(size=(4, 4)))[0])
        assert lacking(store.eeg[trial].astype(float)).shape[1] == n_lacking
    frames = frames_of(store)
    assert tangent.common_basis(frames, np.array([0, 1])).shape == (4, 3)
    basis = tangent.common_basis(frames, np.array([0, 1, 2]))
    assert basis.shape == (4, 2)
    np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-9)


def test_each_frame_belongs_with_the_mean_over_its_baselines_whole_seconds():
    store = fake_store(n_trials=3, n_frames=2, baseline=[2, 0, 2])
    means, row = of_baselines(store, np.array([0, 1, 3, 5]), lambda eeg: eeg.max(-1))
    for number, mean in zip([0, 1, 3, 5], means[row], strict=True):
        seconds = store.baseline[[2, 0, 2][number // 2]].reshape(3, 3, 128)
        np.testing.assert_allclose(mean, seconds.max(-1).mean(1))


# --- how they are tuned


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.integers(2, 12), st.sampled_from([2, 4]))
def test_inner_folds_keep_groups_together_and_train_on_every_class(seed, n_groups, n_classes):
    rng = np.random.default_rng(seed)
    groups, classes = rng.integers(n_groups, size=60), rng.integers(n_classes, size=60)
    folds = tuning.grouped_folds(classes, groups)
    for train, asked in folds:
        assert not set(groups[train]) & set(groups[asked])
        assert set(classes[train]) == set(classes)
    if n_groups == 12:
        assert len(folds) >= 2


def test_what_is_chosen_is_what_predicts_held_out_groups():
    """A group's own mark, which a weakly regularised model learns by heart, says nothing of others.

    Folds that cut groups would choose the weak regularisation.
    """
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(24), 20)
    classes = groups % 2
    marks = np.eye(24)[groups] * 3
    signal = 0.4 * (2 * classes - 1)[:, None] + rng.normal(size=(480, 5))
    features = np.c_[marks + 0.1 * rng.normal(size=marks.shape), signal]
    model = tuning.tuned(tuning.LOGISTIC, features, classes, groups)
    grouped = model.steps[-1][1].C
    ungrouped = tuning.tuned(tuning.LOGISTIC, features, classes, None).steps[-1][1].C
    assert grouped < ungrouped


def test_probabilities_of_a_support_vector_machine_are_calibrated_on_held_out_groups():
    """Where features hold groups' marks and no class, it has to be as unsure as it is ignorant."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(24), 20)
    classes = (groups % 2)[rng.permutation(24)[groups]]
    features = 10 * rng.normal(size=(24, 30))[groups] + rng.normal(size=(480, 30))
    sure = {}
    for name, known in (("grouped", groups), ("not", None)):
        model = tuning.tuned(tuning.SVM, features, classes, known)
        p = tuning.trained(model, features, classes, known).predict_proba(features)
        sure[name] = p.max(1).mean()
    assert sure["grouped"] < 0.85 < 0.98 < sure["not"]


# --- what they find


@pytest.mark.parametrize("effect", [0.0, 0.6])
def test_the_linear_baseline_finds_an_effect_where_there_is_one_only(effect):
    store = fake_store(n_trials=200, n_frames=2)
    labels = np.random.default_rng(3).permutation(np.arange(200) % 2)
    store.de[labels == 1, 1] += effect  # alpha, all electrodes
    accuracies = []
    for fold in range(5):
        split = make_split(store, labels, "trial", fold, 520)
        accuracies.append(accuracy(store, split, labels, "linear"))
    if effect:
        assert min(accuracies) > 0.7
    else:
        assert 0.4 < np.mean(accuracies) < 0.6  # 200 trials: chance is 0.5 ± 0.035


def test_the_svm_finds_what_no_line_can():
    """Both ends of a scale are one class, its middle the other."""
    store = fake_store(n_trials=200, n_frames=2)
    labels = np.arange(200) % 2
    shift = np.where(np.arange(200) % 4 < 2, -3.0, 3.0)
    store.de[labels == 1, 1] += shift[labels == 1, None, None]
    split = make_split(store, labels, "trial", 0, 520)
    assert accuracy(store, split, labels, "svm") > 0.9
    assert accuracy(store, split, labels, "linear") < 0.7


def test_baseline_removal_is_what_sets_the_two_linear_models_apart():
    """Subjects that differ by more than classes do hide the classes in absolute DE."""
    store = fake_store(n_trials=200, n_frames=2)
    labels = np.random.default_rng(3).permutation(np.arange(200) % 2)
    store.de[labels == 1, 1] += 0.6
    store.baseline_de[:] = np.random.default_rng(4).normal(scale=10, size=store.baseline_de.shape)
    split = make_split(store, labels, "trial", 0, 520)
    assert accuracy(store, split, labels, "linear") > 0.7
    assert accuracy(store, split, labels, "linear_absolute") < 0.65


def test_the_random_baseline_guesses_as_often_as_classes_occur():
    store = fake_store(n_trials=200, n_frames=10)
    labels = (np.arange(200) % 4 == 0).astype(int)
    split = make_split(store, labels, "trial", 0, 520)
    p = predicted(store, split, labels, "random")
    assert set(np.unique(p)) == {0.0, 1.0}
    assert p[:, 1].mean() == pytest.approx(0.25, abs=0.08)
    true = labels[split.test // store.n_frames]
    assert abs(np.corrcoef(p[:, 1], true)[0, 1]) < 0.15


def test_a_class_that_nobody_has_gets_a_column():
    """Four classes of which class 2 does not occur: column 3 must be that of class 3."""
    store = fake_store(n_trials=60, n_frames=1)
    labels = np.array([0, 1, 3])[np.arange(60) % 3]
    store.de[labels == 3] += 3
    store.de[labels == 1] -= 3
    split = make_split(store, labels, "trial", 0, 520)
    p = predicted(store, split, labels, "linear")
    np.testing.assert_array_equal(p.argmax(1), labels[split.test])


def test_baselines_never_see_the_test_part():
    store = fake_store(n_trials=40, n_frames=2)
    labels = np.arange(40) % 2
    split = make_split(store, labels, "trial", 0, 520)
    test, asked = split.trials("test"), split.train[:10]
    before, chosen = baselines.predictions(frames_of(store), split, labels, asked)
    assert list(before) == list(baselines.NAMES)
    store.de[test] = 1e6
    store.eeg[test] = 1e6
    labels = labels.copy()
    labels[test] = 1 - labels[test]
    after, same = baselines.predictions(frames_of(store), split, labels, asked)
    assert same == chosen
    for name, p in after.items():
        np.testing.assert_array_equal(p, before[name], err_msg=name)


# --- which is the best


@pytest.mark.parametrize("where", ["DE", "EEG"])
def test_the_best_is_what_does_best_on_validation(where):
    """The effect is in DE only, or in the EEG only, which a real store would not have apart."""
    store = fake_store(n_trials=100, n_frames=2)
    labels = np.arange(100) % 2
    if where == "DE":
        store.de[labels == 1, 1] += 1
    else:
        store.eeg[labels == 1] *= 3
    split = make_split(store, labels, "trial", 0, 520)
    names = ("linear", "svm", "linear_maps", "tangent", "best")
    found, chosen = baselines.predictions(frames_of(store), split, labels, split.test, names=names)
    assert list(found) == list(names) and set(chosen) == {"best"}
    others = ("linear_maps", "svm_maps", "tangent")
    assert chosen["best"] in (("linear", "svm") if where == "DE" else others)
    own, _ = baselines.predictions(
        frames_of(store), split, labels, split.test, names=[chosen["best"]]
    )
    np.testing.assert_array_equal(found["best"], own[chosen["best"]])
    # Classes of validation trials that are the wrong way round change the choice.
    wrong = labels.copy()
    wrong[split.trials("val")] = 1 - wrong[split.trials("val")]
    _, other = baselines.predictions(frames_of(store), split, wrong, split.test, names=["best"])
    assert other["best"] != chosen["best"]


def test_validation_asks_models_that_have_learnt_from_as_much_as_they_may(monkeypatch):
    """Not those that were tuned, on fewer frames."""
    learnt = []

    class Model(DummyClassifier):
        def fit(self, x, y):
            learnt.append(len(x))
            return super().fit(x, y)

    few = replace(tuning.SVM, estimator=Model(), grid={}, n_tuning=20, n_frames=90)
    monkeypatch.setattr(baselines, "SVM", few)
    store = fake_store(n_trials=100, n_frames=2)
    labels = np.arange(100) % 2
    split = make_split(store, labels, "trial", 0, 520)
    assert len(split.train) > 90
    baselines.predictions(frames_of(store), split, labels, split.test, names=["svm"])
    assert learnt == [20, 90, 90]


def test_stage_3_is_held_against_the_baselines_of_stage_2(finished_runs):
    folder = finished_runs / "valence" / "subject" / "fold0"
    stage_2, stage_3 = (read_json(folder / s / "result.json") for s in ("classifier", "finetune"))
    assert stage_2["best_baseline"] in baselines.CHOSEN["best"]
    for name in ("majority", "best", "best_baseline", "artefact", "artefact_baseline"):
        assert stage_3[name] == stage_2[name]
    assert stage_2["best_baseline"].removesuffix("_maps") in baselines.NAMES
    log = (folder / "finetune" / "log.txt").read_text()
    assert baselines.NAMES[stage_2["best_baseline"]] in log


@pytest.mark.parametrize(
    ("ours", "says"), [(0.9, ""), (0.75, "does not beat the best baseline"), (0.6, "no emotion")]
)
def test_a_network_is_said_not_to_beat_what_it_does_not_beat(ours, says):
    def scored(value: float) -> dict:
        return {"frame": {"balanced_accuracy": value}}

    said = _verdict(scored(ours), {"best": scored(0.8), "artefact": scored(0.7)})
    assert says in said and bool(said) == bool(says)
