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
from de3dgan.evaluation.names import NAMES as BASELINES
from de3dgan.reporting.results import MODELS, read_fold
from de3dgan.reporting.study import read_studies
from tests.helpers import one_line
from tests.planted import DONE, edit, edit_settings, plant


def fold_dir(runs: Path, fold: int = 0) -> Path:
    return runs / "valence" / "subject" / f"fold{fold}"


@pytest.fixture
def copied(finished_runs, tmp_path) -> Path:
    """Return a copy of a real fold, to be damaged."""
    shutil.copytree(fold_dir(finished_runs), fold_dir(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def two(finished_runs, tmp_path) -> Path:
    """Return two folds, of the second of which only the classifier is finished."""
    runs = plant(tmp_path / "runs", finished_runs, folds=[0])
    return plant(runs, finished_runs, folds=[1], stages=["classifier"])


def test_a_fold_has_its_stages_and_its_baselines(finished_runs, little_store):
    fold = read_fold(fold_dir(finished_runs))
    assert list(fold.predictions) == [*BASELINES, *DONE]
    subjects = np.array(open_store(little_store).columns["subject"])
    for predictions in fold.predictions.values():
        assert (predictions.groups == subjects[predictions.trials]).all()
        assert (predictions.persons == subjects[predictions.trials]).all()


@pytest.mark.parametrize("model", DONE)
def test_scores_of_a_table_are_those_of_the_result(model, finished_runs):
    """But for probabilities that are nearly alike, which may tie in the nine digits of a table.

    Two frames that tie count half in the AUC; where the classes of a frame tie, either is
    predicted; and one beside a border of the bins of confidence may be counted beyond it.
    """
    fold = read_fold(fold_dir(finished_runs))
    for unit, scores in fold.predictions[model].scores().items():
        _, labels, p, _ = fold.predictions[model].in_unit(unit)
        ties = np.abs(p[labels == 1, 1][:, None] - p[labels == 0, 1]) < 2e-9
        borders = np.abs(10 * p.max(1) - np.round(10 * p.max(1))) < 2e-8
        for metric, value in scores.items():
            slack = 0.5 * ties.mean() if "auc" in metric else 4 * borders.mean()
            assert value == pytest.approx(
                fold.results[model]["test"][unit][metric], abs=1e-4 + slack
            )
    majority = fold.predictions["majority"].scores()["frame"]
    assert majority == pytest.approx(fold.results["classifier"]["majority"]["frame"], abs=1e-4)


def test_folds_are_pooled_and_what_is_missing_is_said(two):
    (study,) = read_studies(two)
    assert (study.task, study.protocol, study.group) == ("valence", "subject", "subject")
    assert set(study.folds) == {(520, 520)}
    assert "finetune" not in study.predictions
    parts = [fold.predictions["linear"] for fold in study.folds[520, 520]]
    trials, labels, p, persons = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("trials", "labels", "probabilities", "persons")
    )
    (pooled,) = study.predictions["linear"]
    assert pooled.scores() == frame_and_trial(trials, labels, p, persons)
    assert any("2 of 5 folds" in note for note in study.notes)
    for model in ("finetune", "finetune-none"):
        assert any(MODELS[model] in note and "1 of 2" in note for note in study.notes)


def test_seeds_are_only_shown_together_when_they_have_all_folds(finished_runs, tmp_path):
    for seed in (522, 523):
        plant(tmp_path / str(seed), finished_runs, seed=seed, folds=[0], stages=["classifier"])
    (study,) = read_studies(tmp_path)
    assert list(study.folds) == [(520, 522)]
    assert any("only the first is shown" in note for note in study.notes)
    for seed, folds in ((522, range(1, 5)), (523, range(1, 4))):
        plant(tmp_path / str(seed), finished_runs, seed=seed, folds=folds, stages=["classifier"])
    (study,) = read_studies(tmp_path)
    assert list(study.folds) == [(520, 522)]
    assert study.notes == ["Seeds 520 and 523 have 4 of 5 folds: it is left out."]
    plant(tmp_path / "523", finished_runs, seed=523, folds=[4], stages=["classifier"])
    (study,) = read_studies(tmp_path)
    assert list(study.folds) == [(520, 522), (520, 523)]
    assert study.notes == []
    sets = study.clusters("classifier", "trial")
    assert list(sets) == [(520, 522), (520, 523)]
    a, b = (clusters.groups.tolist() for clusters in sets.values())
    assert a == b


def test_people_are_the_unit_of_what_was_trained_within_each(finished_runs, tmp_path):
    """Their folds are pooled, and one interval is drawn over people, however many trials."""
    rates = {"s1": 0.9, "s2": 0.5, "s3": 0.7}
    for person, rate in rates.items():
        plant(tmp_path, finished_runs, {"classifier": rate}, person=person, seed=520)
    (study,) = read_studies(tmp_path)
    assert (study.protocol, study.group, study.notes) == ("within", "subject", [])
    assert len(study.every_fold()) == 15
    assert study.fold_name(study.every_fold()[5]) == "Fold 0, s2"
    (clusters,) = study.clusters("classifier", "frame").values()
    assert clusters.groups.tolist() == list(rates)
    assert clusters.confusion.sum(axis=(1, 2)).tolist() == [80 * 12] * 3
    right = np.trace(clusters.confusion, axis1=1, axis2=2) / (80 * 12)
    np.testing.assert_allclose(right, list(rates.values()), atol=0.05)
    found = study.estimates("frame")["classifier"]["accuracy"]
    assert found.value == pytest.approx(right.mean())
    # Of people as the unit: those of frames would be 0.03 wide.
    assert found.high - found.low > 0.2


def test_people_who_lack_folds_are_left_out_and_named(finished_runs, tmp_path):
    plant(tmp_path, finished_runs, person="s1")
    plant(tmp_path, finished_runs, person="s2", folds=range(4))
    plant(tmp_path, finished_runs, person="s3")
    plant(tmp_path, finished_runs, person="s4", folds=[2])
    (study,) = read_studies(tmp_path)
    assert study.notes == ["Left out, since not all of their folds are there: s2, s4."]
    assert {fold.place[0] for fold in study.every_fold()} == {"s1", "s3"}
    assert set(study.predictions["finetune"][0].persons) == {"s1", "s3"}


def test_of_people_who_all_lack_folds_nobody_is_left_out(finished_runs, tmp_path):
    for person in ("s1", "s2"):
        plant(tmp_path, finished_runs, person=person, folds=[0, 1])
    (study,) = read_studies(tmp_path)
    assert {fold.place for fold in study.every_fold()} == {
        (person, fold) for person in ("s1", "s2") for fold in (0, 1)
    }
    (note,) = study.notes
    assert "the other groups are not tested" in note


def test_trials_are_counted_in_the_group_they_belong_to(finished_runs):
    (study,) = read_studies(finished_runs)
    pooled = study.predictions["svm"][0]
    groups, labels, p, _ = pooled.in_unit("trial")
    assert len(groups) == len(np.unique(pooled.trials))
    for group, trial in zip(groups, np.unique(pooled.trials), strict=True):
        assert set(pooled.groups[pooled.trials == trial]) == {group}
    (clusters,) = study.clusters("svm", "trial").values()
    assert clusters.confusion.sum() == len(labels)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def rewrite(path: Path, change: Callable[[list[dict[str, str]]], list[dict[str, str]]]) -> None:
    """Change the rows of a table."""
    with open(path, newline="") as file:
        write_csv(path, change(list(csv.DictReader(file))))


def other_generator(runs: Path) -> None:
    with open(fold_dir(runs) / "gan" / "model.pt", "ab") as file:
        file.write(b"changed")


def same_frames(runs: Path) -> None:
    """Put the predictions and groups of fold 0 into fold 1."""
    ours, theirs = (fold_dir(runs, fold) / "classifier" for fold in (0, 1))
    for name in ("predictions.csv", "baselines.csv"):
        shutil.copy(ours / name, theirs)
    groups = read_json(ours / "leakage.json")["test_groups"]
    edit(theirs / "leakage.json", test_groups=groups)


#: What is done to runs of two folds, and what is then said.
BROKEN = {
    "another learning rate": (
        lambda runs: edit_settings(fold_dir(runs, 1) / "classifier", lr=1.0),
        "differ in lr",
    ),
    "another store": (
        lambda runs: edit(
            fold_dir(runs, 1) / "classifier" / "config.json", store_hash="of another"
        ),
        "differ in store",
    ),
    "another generator": (other_generator, "another generator"),
    "the same fold twice": (
        lambda runs: shutil.copytree(fold_dir(runs), runs / "again" / "fold0"),
        "same task, protocol, fold and seed",
    ),
    "trials of no group": (
        lambda runs: edit(fold_dir(runs) / "classifier" / "leakage.json", test_groups={}),
        "must be a trial that leakage.json says was tested",
    ),
    "no certificate": (
        lambda runs: (fold_dir(runs) / "classifier" / "leakage.json").unlink(),
        "leakage.json is missing",
    ),
    "another model's frames": (
        lambda runs: rewrite(
            fold_dir(runs) / "finetune" / "predictions.csv", lambda rows: rows[:-1]
        ),
        "of the same frames and labels",
    ),
    "folds that test the same": (same_frames, "do not test each frame once"),
    "no baselines": (
        lambda runs: (fold_dir(runs) / "classifier" / "baselines.csv").unlink(),
        "baselines.csv is damaged or missing",
    ),
    "half a table": (
        lambda runs: halve(fold_dir(runs) / "finetune" / "predictions.csv"),
        "predictions.csv is damaged",
    ),
    "half a result": (
        lambda runs: halve(fold_dir(runs) / "finetune" / "result.json"),
        "not valid JSON",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_belong_together_is_refused(name, two):
    change, message = BROKEN[name]
    change(two)
    with pytest.raises(UserError) as error:
        read_studies(two)
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
    ("gan/result.json", "quality", {"real": {}}, "quality.real.amplitude_uv is missing"),
    ("finetune/config.json", "settings", 3, "settings is 3"),
    ("finetune/config.json", "environment", ["torch"], "environment is"),
    ("finetune/config.json", "upstream", {"gan": 1}, "upstream.gan is 1"),
    ("finetune/leakage.json", "copies", [{"tested": 1}], "copies.0.recording is missing"),
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
    unread = (
        "split_fingerprint seconds peak_rss_mib test majority best artefact environment versions "
        "judges membership"
    )
    for field in whole:
        write_json(path, {key: value for key, value in whole.items() if key != field})
        try:
            read_studies(copied)
        except UserError as error:
            assert f"{field} is missing" in str(error)
        else:
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

    def change(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        if value is None:
            return [{name: cell for name, cell in row.items() if name != column} for row in rows]
        rows[0][column] = str(1 - int(rows[0]["label"])) if value == "other" else value
        if column == "p_0":
            rows[0]["p_1"] = "0.5"
        return rows

    rewrite(path, change)
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
