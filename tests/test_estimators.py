"""Estimators: as scikit-learn has them, and with the numbers that the stages have."""

from __future__ import annotations

import json
import pickle
import re

import mne
import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks as checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from de3dgan.base.files import read_csv, read_json
from de3dgan.base.recipe import load_script
from de3dgan.data.opening import open_store
from de3dgan.data.splits import without_test
from de3dgan.data.store import Store
from de3dgan.evaluation.metrics import by_trial
from de3dgan.parts import estimators
from de3dgan.parts.estimators import DifferentialEntropy, EEGGenerator, SASTClassifier
from tests.conftest import ROOT, script_of
from tests.helpers import make_store

NAMES = ("Fz", "C3", "Cz", "C4")


def trials(n_people: int = 6, n_each: int = 4, seconds: int = 4, seed: int = 0):
    """Return EEG of people, half of whose trials are louder at C3, their classes and people."""
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(n_people), n_each)
    classes = np.tile(["left", "right"], n_people * n_each // 2)
    eeg = 10 * rng.standard_normal((len(people), len(NAMES), 128 * seconds))
    eeg[classes == "right", 1] *= 2
    return eeg, classes, people


def all_three() -> list:
    return [
        DifferentialEntropy(),
        SASTClassifier(n_epochs=0, ch_names=NAMES),
        EEGGenerator(n_epochs=1, ch_names=NAMES),
    ]


# --- scikit-learn's contract


def test_scikit_learn_knows_that_they_take_trials_and_not_rows():
    for estimator in all_three():
        tags = estimator.__sklearn_tags__().input_tags
        assert tags.three_d_array and not tags.two_d_array


@pytest.mark.parametrize("estimator", all_three(), ids=lambda e: type(e).__name__)
@pytest.mark.parametrize(
    "check",
    [
        checks.check_estimator_cloneable,
        checks.check_estimator_repr,
        checks.check_estimator_tags_renamed,
        checks.check_valid_tag_types,
        checks.check_parameters_default_constructible,
        checks.check_no_attributes_set_in_init,
        checks.check_get_params_invariance,
        checks.check_set_params,
        checks.check_mixin_order,
    ],
    ids=lambda check: check.__name__,
)
def test_scikit_learns_own_checks_hold_that_need_no_data(estimator, check):
    check(type(estimator).__name__, estimator)


class Rows:
    """Takes rows in the place of trials, so that scikit-learn's checks can be asked."""

    def _trials(self, x, reset):
        x = estimators.validate_data(self, x, reset=reset)
        long = np.tile(x[:, None], (1, 2, -(-256 // x.shape[1])))[..., :256]
        return (10 * long).astype(np.float32)

    def _names(self, x):
        return ["C3", "C4"]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


class Transformer(Rows, DifferentialEntropy):
    pass


@parametrize_with_checks(
    [Transformer(flatten=True)],
    expected_failed_checks=lambda _: {
        "check_transformer_general": "it filters time, and a row is no time course",
        "check_transformer_data_not_an_array": "as above",
    },
)
def test_scikit_learns_own_checks_hold_for_rows_as_far_as_they_can(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", all_three(), ids=lambda e: type(e).__name__)
def test_what_is_fitted_leaves_the_data_alone_and_can_be_pickled_and_fitted_again(estimator):
    eeg, classes, _ = trials(seconds=12)
    before = eeg.copy()
    fitted = clone(estimator).fit(eeg, classes)
    np.testing.assert_array_equal(eeg, before)
    assert fitted.n_features_in_ == len(NAMES)
    again = clone(fitted).fit(eeg, classes)

    def found(of):
        if isinstance(of, EEGGenerator):
            return of.sample(y=["left"], n=2)
        return of.predict_proba(eeg) if isinstance(of, SASTClassifier) else of.transform(eeg)

    for other in (pickle.loads(pickle.dumps(fitted)), again):
        np.testing.assert_array_equal(found(other), found(fitted))


def test_they_are_cross_validated_alone_and_in_a_pipeline():
    eeg, classes, people = trials()
    split = {"groups": people, "cv": GroupKFold(3)}
    linear = make_pipeline(
        DifferentialEntropy(flatten=True), StandardScaler(), LogisticRegression()
    )
    for model in (linear, SASTClassifier(n_epochs=0, ch_names=NAMES)):
        assert cross_val_score(model, eeg, classes, **split).min() > 0.9


def test_the_guides_estimators_run_and_people_can_be_routed_to_them(capsys):
    eeg, classes, people = trials()
    names = {"eeg": eeg, "classes": classes, "people": people}
    guide = (ROOT / "docs" / "parts.md").read_text().partition("## Estimators of scikit-learn\n")[2]
    exec(re.search(r"```python\n(.*?)```", guide, re.S)[1], names)
    assert capsys.readouterr().out.count("[1. 1. 1.]") == 2

    told = []
    fit = SASTClassifier.fit
    with pytest.MonkeyPatch.context() as patch, config_context(enable_metadata_routing=True):
        patch.setattr(
            SASTClassifier, "fit", lambda self, x, y, groups=None: told.append(groups) or self
        )
        patch.setattr(SASTClassifier, "predict", lambda self, x: classes[: len(x)])
        patch.setattr(SASTClassifier, "__sklearn_is_fitted__", lambda self: True, raising=False)
        model = names["network"].set_fit_request(groups=True)
        cross_val_score(
            model, eeg, classes, cv=GroupKFold(3), params={"groups": people}, error_score="raise"
        )
    assert SASTClassifier.fit is fit
    assert [len(set(groups)) for groups in told] == [4, 4, 4]


def test_epochs_of_mne_are_trials_in_other_units():
    eeg, classes, _ = trials()
    info = mne.create_info([*NAMES, "EOG"], 128, ["eeg"] * 4 + ["eog"])
    others = 1e-4 * np.ones((len(eeg), 1, eeg.shape[2]))
    epochs = mne.EpochsArray(np.concatenate([1e-6 * eeg, others], axis=1), info, verbose="error")
    np.testing.assert_allclose(
        DifferentialEntropy().fit_transform(epochs),
        DifferentialEntropy().fit_transform(eeg),
        atol=1e-4,
    )
    from_epochs = SASTClassifier(n_epochs=0).fit(epochs, classes)
    from_arrays = SASTClassifier(n_epochs=0, ch_names=NAMES).fit(eeg, classes)
    np.testing.assert_allclose(
        from_epochs.predict_proba(epochs), from_arrays.predict_proba(eeg), atol=1e-3
    )


def test_other_sampling_rates_are_resampled():
    t = np.arange(6 * 256) / 256
    waves = 20 * np.sin(2 * np.pi * 10 * t)[None, None] * np.ones((2, 4, 1))
    for sfreq in (128, 256):
        found = DifferentialEntropy(sfreq=sfreq).fit_transform(waves[..., :: 256 // sfreq])
        alpha = found[:, 1, 2:-2]
        np.testing.assert_allclose(alpha, 0.5 * np.log(np.pi * np.e * 400), atol=0.05)


# --- the numbers of the stages


@pytest.fixture(scope="module")
def store(little_store) -> Store:
    return open_store(little_store)


def whole(store: Store, rows: np.ndarray) -> np.ndarray:
    """Return trials with their baseline before them."""
    return np.concatenate([store.baseline[store.baseline_index[rows]], store.eeg[rows]], axis=2)


def test_de_is_that_of_the_preprocessing(tmp_path):
    store, rows = make_store(tmp_path, n_subjects=1), np.arange(4)
    seconds = store.baseline.shape[2] / 128
    found = DifferentialEntropy(baseline=seconds).fit_transform(whole(store, rows))
    np.testing.assert_allclose(found, store.de[rows], atol=1e-4)
    absolute = DifferentialEntropy().fit_transform(whole(store, rows))[:, :, int(2 * seconds) :]
    np.testing.assert_allclose(absolute, store.absolute_de(rows), atol=1e-4)


def test_a_classifier_predicts_what_the_stages_script_does(store, little_store, tmp_path):
    script = load_script(script_of("classifier"))
    labels = (store.rating("valence") > 5).astype(int)
    rest, test = np.split(np.arange(store.n_trials), [-4])  # groups are held out by their names
    seconds = store.baseline.shape[2] / 128
    ours = SASTClassifier(n_epochs=1, baseline=seconds, ch_names=store.ch_names)
    ours.fit(whole(store, rest), labels[rest])

    known = estimators._store(
        store.baseline[store.baseline_index[rest]], store.eeg[rest], store.ch_names, labels[rest]
    )
    drawn = without_test(known, "trial", 520)
    parts = {part: rest[drawn.trials(part)] for part in ("train", "val")} | {"test": test}
    names = {part: [str(trial) for trial in some] for part, some in parts.items()}
    (tmp_path / "split.json").write_text(json.dumps(names))
    config = script.Config(
        data_dir=little_store,
        runs_dir=tmp_path,
        split_file=tmp_path / "split.json",
        epochs=1,
        device="cpu",
        precision="fp32",
    )
    script.main(config)
    run = tmp_path / "valence" / "trial" / "fold0" / "classifier"
    table = read_csv(run / "predictions.csv", "")
    frames = np.array([table["p_0"], table["p_1"]], float).T
    of_trials, truth = (np.array(table[name], int) for name in ("trial", "label"))
    sharpness = read_json(run / "result.json")["trial_sharpness"]
    expected = by_trial(of_trials, truth, frames, sharpness)[1]
    np.testing.assert_allclose(ours.predict_proba(whole(store, test)), expected, atol=1e-4)


def test_generated_eeg_has_the_de_and_people_have_their_class():
    eeg, classes, people = trials(n_people=6, n_each=4, seconds=12)
    generator = EEGGenerator(n_epochs=1, ch_names=NAMES).fit(eeg, classes, groups=people)
    de = DifferentialEntropy().fit_transform(eeg[:3])
    made = generator.sample(de=de, n=2)
    assert made.shape == (6, 4, 12 * 128)
    assert np.abs(made[:3] - made[3:]).mean() > 1  # two draws
    found = DifferentialEntropy().fit_transform(made)
    assert np.abs(found - np.concatenate([de, de])).mean() < 0.05
    np.testing.assert_array_equal(generator.sample(de=de, draw=1), made[3:])

    both = generator.sample(y=["left", "right"], n=8)
    level = DifferentialEntropy().fit_transform(both).mean((1, 2))[:, 1].reshape(8, 2)
    assert level.mean(0)[1] - level.mean(0)[0] > 0.4  # a factor of 2 is 0.69 nats


def test_people_have_baselines_of_their_own_where_there_are_any():
    eeg, classes, people = trials(n_people=6, n_each=4, seconds=12)
    generator = EEGGenerator(n_epochs=1, ch_names=NAMES)
    generator.fit(eeg, classes, baseline=eeg[..., : 3 * 128], groups=people)
    assert generator.population_["about"]["reference"] == "baseline"
    assert generator.sample(y="right", n=2).shape == (2, 4, 12 * 128)


# --- mistakes


@pytest.mark.parametrize(
    ("estimator", "change", "sentence"),
    [
        (SASTClassifier(ch_names=NAMES), lambda x, y: (x[0], y[:4]), "takes trials"),
        (SASTClassifier(ch_names=NAMES), lambda x, y: (x[..., :128], y), "last 1 s"),
        (SASTClassifier(ch_names=NAMES[:3]), lambda x, y: (x, y), "3 ch_names"),
        (SASTClassifier(ch_names=("Fz", *NAMES[:3])), lambda x, y: (x, y), "twice"),
        (SASTClassifier(ch_names=("A", *NAMES[:3])), lambda x, y: (x, y), "A"),
        (SASTClassifier(), lambda x, y: (x, y), "give ch_names"),
        (SASTClassifier(ch_names=NAMES), lambda x, y: (x, np.zeros(len(y))), "one class"),
        (SASTClassifier(ch_names=NAMES), lambda x, y: (x[:4], y[:4]), "too few"),
        (SASTClassifier(ch_names=NAMES, baseline=3.5), lambda x, y: (x, y), "baseline of 3.5 s"),
        (EEGGenerator(ch_names=NAMES), lambda x, y: (x, y), "12 s or more"),
        (EEGGenerator(ch_names=NAMES), lambda x, y: (np.nan * x, y), "NaN"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(estimator, change, sentence):
    eeg, classes, _ = trials()
    with pytest.raises(ValueError, match=sentence):
        clone(estimator).fit(*change(eeg, classes))


def test_what_is_asked_later_is_refused_too():
    eeg, classes, _ = trials(seconds=12)
    model = SASTClassifier(n_epochs=0, ch_names=NAMES).fit(eeg, classes)
    with pytest.raises(ValueError, match="X has 3 channels"):
        model.predict(eeg[:, :3])
    generator = EEGGenerator(n_epochs=1, ch_names=NAMES).fit(eeg)
    for asked in ({}, {"de": np.zeros((1, 4, 24, 4)), "y": 0}, {"y": 0}):
        with pytest.raises(ValueError, match="classes"):
            generator.sample(**asked)
