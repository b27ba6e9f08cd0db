"""Reading runs back: what belongs together is pooled, and what does not is refused."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from de3dgan.base.errors import UserError
from de3dgan.base.files import read_json, write_csv, write_json
from de3dgan.data.opening import open_store
from de3dgan.evaluation.metrics import frame_and_trial
from de3dgan.figures import stages as figures_of_stages
from de3dgan.reporting.results import MODELS, read_fold
from de3dgan.reporting.study import COMPARISONS, read_studies
from tests.conftest import run_stage
from tests.helpers import one_line

CONTROLS = ("generated", "none", "noise")


@pytest.fixture(scope="module")
def runs(little_store, tmp_path_factory) -> Path:
    """Return two seeds of two folds with a classifier, one fold also with its other stages."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures_of_stages, "plotting", lambda run: None)
        for seed in (520, 521):
            for fold in (0, 1):
                settings = {"fold": fold, "seed": seed, "protocol": "subject", "epochs": 1}
                run_stage("classifier", little_store, folder / f"seed{seed}", **settings)
        settings = {"protocol": "subject", "epochs": 1}
        run_stage("gan", little_store, folder / "seed520", **settings)
        for kind in CONTROLS:
            run_stage("finetune", little_store, folder / "seed520", augmentation=kind, **settings)
    return folder


def fold_dir(runs: Path, seed: int = 520, fold: int = 0) -> Path:
    return runs / f"seed{seed}" / "valence" / "subject" / f"fold{fold}"


@pytest.fixture
def copied(runs, tmp_path) -> Path:
    shutil.copytree(runs, tmp_path / "runs")
    return tmp_path / "runs"


def test_a_fold_has_its_stages_and_its_baselines(runs, little_store):
    fold = read_fold(fold_dir(runs))
    assert list(fold.predictions) == [
        "majority",
        "random",
        "linear",
        "linear_absolute",
        "svm",
        "classifier",
        "finetune",
        "finetune-none",
        "finetune-noise",
    ]
    subjects = np.array(open_store(little_store).columns["subject"])
    for model, predictions in fold.predictions.items():
        assert (predictions.groups == subjects[predictions.trials]).all()
        result = fold.results.get(model)
        if result:
            for unit, scores in predictions.scores().items():
                assert scores == pytest.approx(result["test"][unit], abs=1e-4)
    assert fold.predictions["majority"].scores()["frame"] == pytest.approx(
        fold.results["classifier"]["majority"]["frame"], abs=1e-4
    )


def test_folds_are_pooled_and_what_is_missing_is_said(runs):
    (study,) = read_studies(runs / "seed520")
    assert (study.task, study.protocol, study.group) == ("valence", "subject", "subject")
    assert set(study.folds) == {520}
    assert "finetune" not in study.predictions
    parts = [fold.predictions["linear"] for fold in study.folds[520]]
    trials = np.concatenate([part.trials for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    p = np.concatenate([part.probabilities for part in parts])
    (pooled,) = study.predictions["linear"]
    assert pooled.scores() == frame_and_trial(trials, labels, p)
    assert any("2 of 5 folds" in note for note in study.notes)
    for model in ("finetune", "finetune-none", "finetune-noise"):
        assert any(MODELS[model] in note and "1 of 2" in note for note in study.notes)


def test_seeds_are_only_shown_together_when_they_have_all_folds(runs, little_store, tmp_path):
    (study,) = read_studies(runs)
    assert list(study.folds) == [520]
    assert any("only the first is shown" in note for note in study.notes)
    for fold in range(5):
        settings = {"fold": fold, "seed": 522, "protocol": "trial", "epochs": 1}
        for seed in (522, 523) if fold else (522,):
            run_stage(
                "classifier", little_store, tmp_path / str(seed), **{**settings, "seed": seed}
            )
    (study,) = read_studies(tmp_path)
    assert list(study.folds) == [522]
    assert study.notes == ["Seed 523 has 4 of 5 folds: it is left out."]
    run_stage("classifier", little_store, tmp_path / "523", **{**settings, "seed": 523, "fold": 0})
    (study,) = read_studies(tmp_path)
    assert list(study.folds) == [522, 523]
    assert study.notes == []
    a, b = (clusters.groups.tolist() for clusters in study.clusters("classifier", "trial"))
    assert a == b


def test_only_comparisons_that_can_be_made_are_made_and_corrected_for_their_number(copied):
    (study,) = read_studies(fold_dir(copied))
    found = study.comparisons()
    expected = {pair for pair in COMPARISONS if set(pair) <= set(study.predictions)}
    assert set(found) == expected
    assert ("finetune", "finetune-surrogate") not in found
    for comparison, adjusted in found.values():
        assert comparison.metric == "balanced_accuracy"
        assert comparison.p <= adjusted <= 1


def test_trials_are_counted_in_the_group_they_belong_to(runs):
    (study,) = read_studies(fold_dir(runs))
    pooled = study.predictions["svm"][0]
    groups, labels, p = pooled.in_unit("trial")
    assert len(groups) == len(np.unique(pooled.trials))
    for group, trial in zip(groups, np.unique(pooled.trials), strict=True):
        assert set(pooled.groups[pooled.trials == trial]) == {group}
    (clusters,) = study.clusters("svm", "trial")
    assert clusters.confusion.sum() == len(labels)


def change(path: Path, **fields: object) -> None:
    write_json(path, {**read_json(path), **fields})


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def other_setting(runs: Path) -> None:
    path = fold_dir(runs, fold=1) / "classifier" / "config.json"
    change(path, settings={**read_json(path)["settings"], "lr": 1.0})


def other_store(runs: Path) -> None:
    change(fold_dir(runs, fold=1) / "classifier" / "config.json", store_hash="of another")


def other_generator(runs: Path) -> None:
    with open(fold_dir(runs) / "gan" / "model.pt", "ab") as file:
        file.write(b"changed")


def twice(runs: Path) -> None:
    shutil.copytree(fold_dir(runs), runs / "again" / "fold0")


def without_group(runs: Path) -> None:
    change(fold_dir(runs) / "classifier" / "leakage.json", test_groups={})


def rewrite(path: Path, change_: Callable[[list[dict[str, str]]], list[dict[str, str]]]) -> None:
    """Change the rows of a table."""
    with open(path, newline="") as file:
        write_csv(path, change_(list(csv.DictReader(file))))


def other_frames(runs: Path) -> None:
    rewrite(fold_dir(runs) / "finetune" / "predictions.csv", lambda rows: rows[:-1])


def same_frames(runs: Path) -> None:
    """Put the predictions and groups of fold 0 into fold 1."""
    ours, theirs = (fold_dir(runs, fold=fold) / "classifier" for fold in (0, 1))
    for name in ("predictions.csv", "baselines.csv"):
        shutil.copy(ours / name, theirs)
    groups = read_json(ours / "leakage.json")["test_groups"]
    change(theirs / "leakage.json", test_groups=groups)


BROKEN = {
    "another learning rate": (other_setting, "differ in lr"),
    "another store": (other_store, "differ in store"),
    "another generator": (other_generator, "another generator"),
    "the same fold twice": (twice, "same task, protocol, fold and seed"),
    "trials of no group": (without_group, "must be a trial that leakage.json says was tested"),
    "a certificate of an earlier version": (
        lambda runs: change(fold_dir(runs) / "classifier" / "leakage.json", test_groups=["s01"]),
        'leakage.json is damaged: test_groups is ["s01"], and must be an object',
    ),
    "no certificate": (
        lambda runs: (fold_dir(runs) / "classifier" / "leakage.json").unlink(),
        "leakage.json is missing",
    ),
    "another model's frames": (other_frames, "of the same frames and labels"),
    "folds that test the same": (same_frames, "do not test each frame once"),
    "no baselines": (
        lambda runs: (fold_dir(runs) / "classifier" / "baselines.csv").unlink(),
        "baselines.csv is damaged or missing",
    ),
    "half a table": (
        lambda runs: cut(fold_dir(runs) / "finetune" / "predictions.csv"),
        "predictions.csv is damaged",
    ),
    "half a result": (
        lambda runs: cut(fold_dir(runs) / "finetune" / "result.json"),
        "not valid JSON",
    ),
    "a result that is none": (
        lambda runs: (fold_dir(runs) / "finetune" / "result.json").write_text(json.dumps([1])),
        "result.json is damaged",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_belong_together_is_refused(name, copied):
    change_, message = BROKEN[name]
    change_(copied)
    with pytest.raises(UserError) as error:
        read_studies(copied)
    assert message in one_line(error)
    assert "rerun" in one_line(error) or "--runs-dir" in one_line(error)


#: A field of each kind in each file, what it becomes, and what is then said.
WRONG = [
    ("finetune/result.json", "fold", 5, "fold is 5, and must be a whole number from 0 to 4"),
    ("finetune/result.json", "task", None, "task is null, and must be a text"),
    ("finetune/result.json", "protocol", "x", 'protocol is "x", and must be one of trial, video'),
    ("finetune/result.json", "leaky", "no", 'leaky is "no", and must be true or false'),
    ("finetune/result.json", "best_epoch", -1, "best_epoch is -1"),
    ("finetune/result.json", "test", {"frame": {"auc": 2}}, "test.frame.auc is 2"),
    ("finetune/result.json", "test", {"frame": {"auc": math.nan}}, "test.frame.auc is NaN"),
    ("finetune/result.json", "anything", [{"b": math.inf}], "anything.0.b is Infinity"),
    ("gan/result.json", "quality", [], "quality is [], and must be an object"),
    ("gan/result.json", "quality", {"real": {}}, "quality.generated is missing"),
    ("finetune/config.json", "settings", 3, "settings is 3"),
    ("finetune/config.json", "environment", ["torch"], "environment is"),
    ("finetune/config.json", "upstream", {"gan": 1}, "upstream.gan is 1"),
    ("finetune/leakage.json", "probe", {}, "probe.balanced_accuracy is missing"),
    ("finetune/leakage.json", "artefacts", [{"stage": "x"}], 'artefacts.0.stage is "x"'),
    ("finetune/leakage.json", "test_groups", {"s01": ["0"]}, "test_groups.s01 is"),
    ("finetune/leakage.json", "reasons", [None], "reasons.0 is null"),
]


@pytest.mark.parametrize(("name", "field", "value", "says"), WRONG)
def test_a_field_that_is_wrong_is_named(name, field, value, says, copied):
    path = fold_dir(copied) / name
    path.write_text(json.dumps({**read_json(path), field: value}))
    with pytest.raises(UserError) as error:
        read_fold(fold_dir(copied))
    message = one_line(error)
    assert f"{name} is damaged: " in message and says in message
    assert f"rerun the {path.parent.name} stage of this fold with --restart" in message


@pytest.mark.parametrize("name", ["result.json", "config.json", "leakage.json"])
@pytest.mark.parametrize("stage", ["gan", "classifier", "finetune"])
def test_whatever_field_is_missing_there_is_a_sentence_or_it_is_not_needed(stage, name, copied):
    path = fold_dir(copied) / stage / name
    whole = read_json(path)
    for field in whole:
        write_json(path, {key: value for key, value in whole.items() if key != field})
        try:
            (study,) = read_studies(fold_dir(copied))
        except UserError as error:
            assert f"{field} is missing" in str(error)
        else:
            assert study.estimates("frame") and study.comparisons()
            unread = "split_fingerprint seconds peak_rss_mib test majority environment versions"
            assert field in unread.split() or (name, field) == ("leakage.json", "protocol")


@pytest.mark.parametrize("table", ["predictions", "baselines"])
@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("trial", "9999", "must be a trial that leakage.json says was tested"),
        ("trial", "", 'trial in line 2 is ""'),
        ("frame", "-1", "must be a whole number of 0 or more"),
        ("frame", "1", "frame 1 of trial"),
        ("label", "2", "must be a whole number from 0 to 1"),
        ("label", "other", "label is not the same in all frames of trial"),
        ("p_0", "nan", "must be a finite number from 0 to 1"),
        ("p_0", "1.1", "must be a finite number from 0 to 1"),
        ("p_0", "0.999", "the probabilities in line 2 do not add up to 1"),
        ("p_1", None, "column p_1 is missing"),
    ],
)
def test_a_cell_that_is_wrong_is_named(table, column, value, says, copied):
    path = fold_dir(copied) / "classifier" / f"{table}.csv"

    def change_(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        if value is None:
            return [{name: cell for name, cell in row.items() if name != column} for row in rows]
        rows[0][column] = str(1 - int(rows[0]["label"])) if value == "other" else value
        if column == "p_0":
            rows[0]["p_1"] = "0.5"
        return rows

    rewrite(path, change_)
    with pytest.raises(UserError) as error:
        read_fold(fold_dir(copied))
    assert f"{table}.csv is damaged: " in one_line(error) and says in one_line(error)


def test_trials_and_models_that_are_missing_are_named(copied):
    folder = fold_dir(copied) / "classifier"
    trial = read_fold(fold_dir(copied)).predictions["classifier"].trials[0]
    table = (folder / "predictions.csv").read_text()
    rewrite(folder / "predictions.csv", lambda rows: [r for r in rows if r["trial"] != str(trial)])
    with pytest.raises(UserError, match=f"trial {trial} is missing"):
        read_fold(fold_dir(copied))
    (folder / "predictions.csv").write_text(table)
    rewrite(folder / "baselines.csv", lambda rows: [r for r in rows if r["model"] != "linear"])
    with pytest.raises(UserError, match="column model has majority, random, linear_absolute, svm,"):
        read_fold(fold_dir(copied))


def test_a_folder_without_runs_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="no finished classifier"):
        read_studies(tmp_path)
