"""Numbers that go wrong: an error that says what to do, or a fallback that is written down.

=========================================  =====================================================
what                                       what happens
=========================================  =====================================================
DE in a store is NaN or infinite           refused by `Store.open`: array, trial, electrode
EEG in a store is NaN or infinite          refused where it is used: array, trial, electrode
generated EEG is NaN or infinite           refused by `quality`: the sampler, the trial
a figure of quality overflows              refused by `quality`: the figure
a probability is no number from 0 to 1     refused by `metrics.scores`
NaN in a result file, however it got there refused by `results.read_fold`: file, field or line
labels are all the same                    refused by `Run.open`
a part of a split lacks a class            refused by `make_split`
one electrode                              works, but for the generator of --method spectral,
                                           which is refused; `channel_correlation_error` is None
-----------------------------------------  -----------------------------------------------------
EEG or a band of DE does not vary          scalers shift it to 0 and do not divide, a warning;
                                           in linear models, and in our generator, it becomes 0
EEG to be normalised is infinite           clipped like all that is beyond the quantiles; that
(published method, outside of training)    of NaN stays NaN, and is refused as above
silence                                    has a DE of -20 nats in `quality`, correlates with
                                           nothing (0), and has no seams (1)
a baseline knows a single class, or the    it predicts how frequent classes are, a warning
SVM fewer than five frames of a class
trials looked at by `quality` lack one     `tstr` is that of predicting the other, a warning
a class is not among the test labels       AUC is None; balanced accuracy is over those there;
                                           MCC and kappa are 0 with a single one
a group has a single class                 nothing: metrics are over all groups
a single group, or AUC not defined for     no interval and no p: NaN in Python, a dash in tables
most draws of groups
=========================================  =====================================================
"""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from de3dgan.base.errors import UserError
from de3dgan.base.schema import non_finite
from de3dgan.data.frames import Frames
from de3dgan.data.opening import open_store
from de3dgan.data.splits import Split, make_split
from de3dgan.data.store import Store
from de3dgan.eeg.de import trial_de
from de3dgan.eeg.scaling import RobustScaler
from de3dgan.evaluation import metrics, quality
from de3dgan.evaluation.baselines import predictions
from de3dgan.evaluation.measures import de_round_trip
from de3dgan.evaluation.names import NAMES
from de3dgan.evaluation.quality import matched_noise
from de3dgan.evaluation.statistics import Clusters, compare, estimate, verdict, verdict_text
from de3dgan.figures import style
from de3dgan.models import SpectralGenerator
from de3dgan.reporting.results import MODELS, Predictions
from tests.conftest import STAGES, run_here, run_stage, write_store
from tests.helpers import fake_store, one_line, smallest_png, split_by_trial
from tests.test_store import reseal, reseal_trials

N_FRAMES = 12


def refused(call, *args, **kwargs) -> str:
    with pytest.raises(UserError) as error:
        call(*args, **kwargs)
    return one_line(error)


# --- Metrics and statistics ---------------------------------------------------------------------


@settings(max_examples=200)
@given(
    labels=st.lists(st.integers(0, 2), min_size=1, max_size=12),
    groups=st.lists(st.integers(0, 2), min_size=12, max_size=12),
    kind=st.sampled_from(["certain", "constant", "equal", "random"]),
    seed=st.integers(0, 2**31),
)
def test_any_predictions_have_scores_that_are_numbers_or_none(labels, groups, kind, seed):
    """One class, one group, two frames; probabilities of exactly 0 and 1, or all the same."""
    labels = np.array(labels)
    rng = np.random.default_rng(seed)
    p = {
        "certain": np.eye(3)[rng.integers(0, 3, len(labels))],
        "constant": np.tile([0.0, 0.0, 1.0], (len(labels), 1)),
        "equal": np.full((len(labels), 3), 1 / 3),
        "random": rng.dirichlet([0.1] * 3, len(labels)),
    }[kind]
    groups = np.array(groups[: len(labels)])
    trials = 10 * groups + labels  # a trial has one label and one group
    scores = metrics.frame_and_trial(trials, labels, p, groups)
    assert not list(non_finite(scores))
    undefined = {name for unit in scores.values() for name, value in unit.items() if value is None}
    assert undefined <= {"auc", "within_auc"}
    json.dumps(scores, allow_nan=False)
    clusters = Clusters.of(groups, labels, p, groups)
    for name, found in estimate([clusters], n_draws=50).items():
        if len(np.unique(groups)) > 1 and name in ("accuracy", "ece"):
            assert math.isfinite(found.low) and math.isfinite(found.high)
        assert math.isnan(found.low) == math.isnan(found.high)
        if "auc" not in name:
            assert found.value == pytest.approx(scores["frame"][name])
    found = compare([clusters], [clusters], "balanced_accuracy", n_draws=50)
    several = len(np.unique(groups)) > 1
    assert verdict(found, found.p) in ("equivalent" if several else "", "no evidence")
    assert "nan" not in verdict_text(found, found.p)


@pytest.mark.parametrize("row", [[math.nan, 1], [math.inf, 0], [-0.1, 1.1], [1.5, 0]])
def test_what_is_no_probability_has_no_scores(row):
    p = np.array([[0.5, 0.5], row])
    message = refused(metrics.scores, np.array([0, 1]), p)
    assert "prediction 1" in message and "--restart" in message


def test_a_p_value_that_is_not_defined_is_said_so():
    """One group has all of class 1: without it there is no AUC, and with it there is."""
    groups, labels = np.repeat(np.arange(4), 6), np.tile([0, 0, 0, 1, 1, 1], 4)
    labels[6:] = 0
    rng = np.random.default_rng(0)
    clusters = [Clusters.of(groups, labels, rng.dirichlet([1, 1], 24)) for _ in range(2)]
    found = compare([clusters[0]], [clusters[1]], "auc")
    assert math.isnan(found.p) and math.isnan(found.difference.low)
    assert verdict(found, found.p) == "no evidence"
    text = verdict_text(found, found.p)
    assert "too few for an interval" in text and "nan" not in text


def test_a_report_of_one_fold_with_one_group_has_dashes_for_what_is_not_defined(tmp_path):
    from de3dgan.evaluation.statistics import holm
    from de3dgan.reporting.formats import markdown_text
    from de3dgan.reporting.study import Study
    from de3dgan.reporting.tables import comparisons_table, scores_table

    rng = np.random.default_rng(0)
    trials = np.repeat(np.arange(2), 6)
    of = {
        model: [Predictions(trials, np.tile(np.arange(6), 2), trials % 2,
                            rng.dirichlet([1, 1], 12), *np.full((2, 12), "s01"), np.ones(12))]
        for model in ("best", "classifier")
    }  # fmt: skip
    study = Study("valence", "subject", "subject", {(520, 520): []}, of, [])
    estimates = study.estimates("frame")
    comparisons = study.comparisons()
    assert np.isnan(holm([comparison.p for comparison, _ in comparisons.values()])).all()
    tables = (scores_table(study, "frame", estimates), comparisons_table(study, comparisons))
    for text in map(markdown_text, tables):
        assert "nan" not in text.lower() and "–" in text
    assert MODELS["classifier"] in markdown_text(tables[0])


def test_what_is_infinite_is_clipped_and_what_is_nan_is_not_hidden():
    scaler = RobustScaler.fit(np.random.default_rng(0).normal(size=500))
    found = scaler.normalise(torch.tensor([math.inf, -math.inf, 1e30, math.nan]))
    torch.testing.assert_close(
        scaler.denormalise(found[:3]), torch.tensor([scaler.high, scaler.low, scaler.high])
    )
    assert found[3].isnan()


# --- Baselines -----------------------------------------------------------------------------------


def predicted(store: Store, split: Split, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the baselines' predictions of the test part, which are probabilities."""
    frames = Frames(store, torch.device("cpu"), waveform_baseline=False)
    found, _ = predictions(frames, split, labels, split.test)
    for p in found.values():
        assert p.shape == (len(split.test), labels.max() + 1)
        assert ((p >= 0) & (p <= 1)).all()
        np.testing.assert_allclose(p.sum(1), 1, atol=1e-9)
    return found


def test_baselines_that_know_one_class_predict_it_and_say_so():
    store = fake_store(6)
    labels = np.array([0, 1, 0, 0, 1, 0])
    split = split_by_trial(store, val=0, test=1)
    split = replace(split, train=split.train[~np.isin(split.train // store.n_frames, [4])])
    with pytest.warns(UserWarning, match="trained on 12 of class 0, which is too little"):
        found = predicted(store, split, labels)
    for name in set(NAMES) - {"random"}:
        np.testing.assert_array_equal(found[name], np.tile([1.0, 0.0], (4, 1)))


@pytest.mark.parametrize("n_trials", [1, 2])
def test_a_baseline_that_knows_a_class_of_one_trial_predicts_frequencies(n_trials):
    """It has to be tuned on some trials of each class and asked about others."""
    store = fake_store(8, n_frames=10)
    labels = np.array([1, 1, 0, 0, 0, 0, 0, 1])
    labels[n_trials:2] = 0
    split = split_by_trial(store, val=2, test=7)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = predicted(store, split, labels)
    said = [str(warning.message) for warning in caught if "too little" in str(warning.message)]
    if n_trials == 1:
        for name in ("linear", "svm_maps", "tangent"):
            np.testing.assert_allclose(found[name], np.tile([6 / 7, 1 / 7], (10, 1)))
        assert "50 of class 0, 10 of class 1" in said[0]
    else:
        assert not said and len(np.unique(found["svm"])) > 2


@pytest.mark.parametrize("constant", ["one feature", "all"])
def test_baselines_take_features_that_do_not_vary(constant):
    store, labels = fake_store(20), np.arange(20) % 2
    store.de[..., slice(None) if constant == "all" else 1] = 0.1
    store.baseline_de[:] = 1.1
    split = make_split(store, labels, "trial", 0, 520)
    predicted(store, split, labels)


# --- Quality -------------------------------------------------------------------------------------


def world(ch_names: tuple[str, ...] = ("F3", "FZ", "F4"), n_trials: int = 6) -> Store:
    """Return a store of noise with the DE that it has."""
    store = fake_store(n_trials, N_FRAMES, ch_names)
    store.de[:] = trial_de(store.eeg) - store.baseline_de[store.baseline_index][:, :, None]
    return store


def measured(store: Store, labels: np.ndarray, eeg: np.ndarray | None = None) -> dict:
    """Return the quality of `eeg`, (n_trials, n_chans, n_times), and of matched noise."""
    eeg = store.eeg if eeg is None else eeg
    samplers = {"generated": lambda trials, draw: eeg[trials], "noise": matched_noise(store, 0)}
    split = split_by_trial(store, val=0, test=1)
    arguments = (store, split, labels, lambda trials: store.eeg[trials], samplers)
    found = quality.quality(*arguments, log=lambda message: None)["quality"]
    assert not list(non_finite(found))
    json.dumps(found, allow_nan=False)
    return found


LABELS = np.array([0, 1, 0, 1, 0, 1])


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
@pytest.mark.parametrize("which", ["one electrode", "all"])
def test_flat_generated_eeg_is_measured(value, which):
    store = world()
    eeg = store.eeg.copy()
    eeg[:, slice(None) if which == "all" else 0] = value
    found = measured(store, LABELS, eeg)["generated"]
    if which == "all":
        assert found["seam_ratio"] == 1
        assert all(band["correlation"] == 0 for band in found["de_round_trip"].values())


def test_a_single_electrode_goes_together_with_no_other():
    found = measured(world(("CZ",)), LABELS)
    nothing = dict.fromkeys(("theta", "alpha", "beta", "gamma"))
    assert all(row["channel_correlation_error"] == nothing for row in found.values())
    message = refused(SpectralGenerator, ["CZ"])
    assert "only CZ" in message and "--method published" in message


def test_a_class_that_training_trials_lack_cannot_be_learnt_and_this_is_said():
    """As it is where more than 64 trials are there, one of them of a class, and 64 are drawn."""
    with pytest.warns(UserWarning, match="24 of class 0, which is too little"):
        found = measured(world(), np.array([0, 1, 0, 0, 0, 0]))
    assert found["real"]["tstr"] == {"tangent space": 0}  # the test trial is of the other class


def test_de_that_does_not_vary_but_by_rounding_correlates_with_nothing():
    constant = np.full((3, 4, 10, 7), 0.1)
    constant[0, 0, 0, 0] += 1e-12
    varying = np.random.default_rng(0).normal(size=constant.shape)
    for pair in ((constant, varying), (varying, constant), (constant, constant)):
        found = de_round_trip(*pair)
        assert all(band["correlation"] == 0 for band in found.values())
        assert not list(non_finite(found))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_eeg_that_is_not_finite_is_refused_with_who_made_it(value):
    store = world()
    eeg = store.eeg.copy()
    eeg[1, 2, 300] = value
    message = refused(measured, store, LABELS, eeg)
    assert "generated EEG of trial 1 has values that are not finite" in message
    assert message.endswith("lower learning rate and --restart.")
    store.eeg[3, 0, 9] = value  # a training trial
    message = refused(measured, store, LABELS)
    assert f"eeg.npy is damaged: trial 3 has {value} at electrode F3" in message


def test_eeg_that_is_louder_than_any_is_refused(monkeypatch):
    store = world()
    message = refused(measured, store, LABELS, 1e15 * store.eeg)
    assert "generated EEG of trial 2 has values that are not finite, or beyond 1e+12 µV" in message
    measured(store, LABELS, 1e8 * store.eeg)
    monkeypatch.setattr(quality, "seam_ratio", lambda eeg: math.nan)
    assert "cannot be measured: real.seam_ratio is nan" in refused(measured, store, LABELS)
    store.eeg[:] *= 1e15
    assert refused(measured, store, LABELS).endswith("preprocess_de.py, from recordings in µV.")


# --- Our generator -------------------------------------------------------------------------------


@pytest.mark.parametrize("flat", ["one electrode", "all"])
def test_the_generator_starts_and_learns_from_eeg_that_does_not_vary(flat):
    store = world(n_trials=4)
    which = slice(None) if flat == "all" else 0
    store.eeg[:, which], store.de[..., which], store.baseline_de[..., which] = 7, 0, 1.1
    torch.manual_seed(0)
    generator = SpectralGenerator(store.ch_names, widths=(8, 8, 8, 8))
    trials = np.arange(4)
    de, eeg = torch.from_numpy(store.absolute_de(trials)), torch.from_numpy(store.eeg)
    generator.init_closed_form(de, eeg)
    for gain in (0.0, 0.3):  # training makes trials louder and softer
        (-generator.log_likelihood(de + gain, eeg * math.exp(gain))).backward()
    generator.remember(zip(de.split(1), eeg.split(1), strict=True))
    values = [*generator.state_dict().values(), *(p.grad for p in generator.parameters())]
    assert all(value.isfinite().all() for value in values if value is not None)
    generated = generator(de, torch.randn(4, *generator.noise_shape(de.shape[2])))
    assert generated.isfinite().all()


def test_the_generator_does_not_start_from_eeg_that_is_not_finite():
    store = world(n_trials=4)
    generator = SpectralGenerator(store.ch_names, widths=(8, 8, 8, 8))
    de, eeg = torch.from_numpy(store.absolute_de(np.arange(4))), torch.from_numpy(store.eeg)
    eeg[2, 1, 5] = math.nan
    assert "not finite" in refused(generator.init_closed_form, de, eeg)


# --- Whole runs ----------------------------------------------------------------------------------


def change(folder, **changed) -> None:
    """Change arrays of a store."""
    for name, edit in changed.items():
        array = np.load(folder / f"{name}.npy")
        edit(array)
        np.save(folder / f"{name}.npy", array)
    reseal(folder)


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("a flat electrode", "spectral"),
        ("a flat electrode", "published"),
        ("two electrodes", "spectral"),
        pytest.param("two electrodes", "published", marks=pytest.mark.slow),
        pytest.param("subjects of one class", "spectral", marks=pytest.mark.slow),
        ("subjects of one class", "published"),
    ],
)
@pytest.mark.filterwarnings("ignore:Data to be normalised are constant")
def test_runs_on_odd_data_end_with_numbers(kind, method, tmp_path, monkeypatch, no_figures):
    names = ("CZ", "OZ") if kind == "two electrodes" else ("F3", "FZ", "F4", "C3", "PZ", "O2")
    folder, protocol = write_store(tmp_path / "deap", ch_names=names), "trial"
    if kind == "a flat electrode":

        def flatten(value: float, axis: int):
            return lambda array: np.moveaxis(array, axis, 0)[2].fill(value)

        change(folder, eeg=flatten(0.1, 1), baseline=flatten(0.1, 1), de=flatten(0, -1),
               baseline_de=flatten(-14, -1))  # fmt: skip
    elif kind == "subjects of one class":
        folder, protocol = write_store(tmp_path / "one" / "deap", 10, ("a", "b", "c")), "subject"
        columns = open_store(folder).columns
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        reseal_trials(folder, [r | {"valence": 3 + 4 * (int(r["subject"][1:]) % 2)} for r in rows])
    runs = tmp_path / "runs"
    for stage in STAGES:
        done = run_stage(stage, folder, runs, method, epochs=1, protocol=protocol)
        text = "".join(p.read_text() for p in done.glob("*.json*")) + "".join(
            p.read_text() for p in done.glob("*.csv")
        )
        assert not {"nan", "inf", "infinity", "-inf"} & set(
            text.lower().replace(",", " ").replace(":", " ").split()
        )
    if kind == "a flat electrode":  # which no figure of scores shows
        monkeypatch.setattr(style, "png", smallest_png)
    done = run_here("report.py", "--runs-dir", runs)
    assert done.returncode == 0, done.stderr
    assert "nan" not in (runs / "report" / "report.md").read_text().lower()


@pytest.mark.parametrize("method", ["spectral", "published"])
@pytest.mark.parametrize("name", ["eeg", "baseline"])
def test_a_run_on_eeg_that_is_not_finite_names_where_it_is(name, method, tmp_path, no_figures):
    folder = write_store(tmp_path / "deap")

    def damage(array: np.ndarray) -> None:
        array[:, 3, 50] = np.nan

    change(folder, **{name: damage})
    with pytest.raises(UserError, match="nan|not finite"):
        run_stage("classifier", folder, tmp_path / "runs", method, epochs=1)
    assert not list((tmp_path / "runs").rglob("result.json"))
