"""Recipes: how scripts are found, and the commands that repeat what they did."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from de3dgan.base.cli import _run_each, parse
from de3dgan.base.errors import UserError
from de3dgan.base.recipe import SCRIPTS, choices, find_scripts, flag_words, load_recipe
from tests.conftest import FOLDERS, METHODS, ROOT, script_of
from tests.helpers import one_line

SETTINGS = {
    "fold": st.integers(0, 4),
    "seed": st.integers(0, 2**32 - 1),
    "epochs": st.integers(1, 1000),
    "lr": st.floats(1e-9, 1, allow_nan=False),
    "threshold": st.floats(-10, 10, allow_nan=False),
    "ratings": st.lists(st.sampled_from(["valence", "arousal", "a b"]), min_size=1).map(tuple),
    "data_dir": st.sampled_from([Path("DE_feature/deap"), Path("/x/ä b"), Path("elsewhere")]),
    "protocol": st.sampled_from(["trial", "video", "subject", "random-frame"]),
    "precision": st.sampled_from(["auto", "fp32", "bf16"]),
}


@given(
    stage=st.sampled_from(list(SCRIPTS)),
    task=st.sampled_from(list(FOLDERS)),
    method=st.sampled_from(METHODS),
    changed=st.fixed_dictionaries({}, optional=SETTINGS),
)
def test_a_command_says_what_the_recipe_says(stage, task, method, changed):
    recipes = [load_recipe(script_of(stage, task), m) for m in METHODS]
    config = recipes[METHODS.index(method)](**changed)
    python, script, *flags = shlex.split(config.command())
    assert python == "python"
    assert (Path.cwd() / script).resolve() == script_of(stage, task)
    again = parse(recipes, flags, "")
    paths = {name: ROOT / getattr(config, name) for name in ("data_dir", "runs_dir")}
    assert {name: ROOT / getattr(again, name) for name in paths} == paths
    assert dataclasses.replace(again, **paths) == dataclasses.replace(config, **paths)
    assert type(again) is type(config)


@pytest.mark.parametrize("task", FOLDERS)
def test_a_command_of_another_stage_is_of_the_same_fold_and_method(task):
    recipe = load_recipe(script_of("finetune", task), "published")
    config = recipe(fold=3, seed=7, protocol="video", epochs=9, runs_dir=Path("elsewhere"))
    _, script, *flags = shlex.split(config.command("gan"))
    assert (Path.cwd() / script).resolve() == script_of("gan", task)
    other = parse([load_recipe(script_of("gan", task), m) for m in METHODS], flags, "")
    assert (other.fold, other.seed, other.protocol) == (3, 7, "video")
    assert (other.method, other.epochs, other.task) == ("published", 300, config.task)
    assert other.runs_dir == Path("elsewhere")


def test_a_script_that_is_not_there_is_told_everything():
    assert flag_words({"fold": 1, "task": "x y"}, None) == ["--fold 1", "--task 'x y'"]


@pytest.mark.parametrize("stage", SCRIPTS)
def test_scripts_are_found_by_the_name_of_their_task(stage):
    expected = {task.lower(): script_of(stage, task) for task in FOLDERS}
    assert find_scripts(stage) == expected


def test_choices_are_those_of_the_command_line():
    recipe = load_recipe(script_of("finetune"))
    assert choices(recipe, "method") == METHODS
    assert choices(recipe, "augmentation")[0] == "generated"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"fold": 5}, "no fold 5: choose one from 0 to 4"),
        ({"ratings": ()}, "--ratings needs at least one column"),
        ({"ratings": ("a", "b")}, "--class-names needs a name for each of the 4 classes"),
        ({"task": "../x"}, "--task names a folder"),
        ({"seed": 2**32}, "--seed must be below 2^32"),
        ({"seed": -1}, "--seed must be at least 0"),
        ({"epochs": 0}, "--epochs must be at least 1"),
        ({"widths": (8, 0, 8, 8, 8)}, "--widths must be at least 1"),
        ({"lr": float("nan")}, "--lr must be at least 0, and nan is not"),
        ({"dropout": 1.0}, "--dropout must be below 1"),
        ({"ema_decay": 1.0}, "--ema-decay must be below 1"),
        ({"person": "s01"}, "--person is for --protocol within"),
        ({"protocol": "within", "split_file": Path("x.json")}, "protocol within is of one"),
        ({"threshold": "classes", "ratings": ("a", "b")}, "takes one column of class numbers"),
        ({"threshold": "classes", "class_names": ("a",)}, "--class-names two names or more"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(changed, sentence):
    with pytest.raises(UserError) as error:
        load_recipe(script_of("classifier"))(**changed).check()
    assert sentence in one_line(error)


def test_additional_people_need_people_who_are_not_trained_on():
    recipe = load_recipe(script_of("finetune"))
    with pytest.raises(UserError, match="there are none without --train-groups") as error:
        recipe(augmentation="people").check()
    assert one_line(error)
    recipe(augmentation="people", train_groups=4).check()


def test_a_threshold_may_be_negative():
    load_recipe(script_of("classifier"))(threshold=-1.0).check()


@pytest.mark.parametrize("threshold", ["middle", "median", "classes", 4.5])
def test_a_threshold_is_a_word_or_a_number(threshold):
    recipes = [load_recipe(script_of("classifier"), m) for m in METHODS]
    assert parse(recipes, ["--threshold", str(threshold)], "").threshold == threshold
    with pytest.raises(UserError, match="threshold"):
        parse(recipes, ["--threshold", "upper"], "")


def test_as_many_classes_as_a_column_has_numbers():
    config = load_recipe(script_of("classifier"))(
        ratings=("emotion",), threshold="classes", class_names=("sad", "calm", "glad")
    )
    config.check()
    assert config.n_classes == 3


def test_protocol_within_stands_for_a_run_of_each_person(little_store):
    """In the order of the store; of one who is named, and of other protocols, it is one run."""
    recipe = load_recipe(script_of("classifier"))
    config = recipe(data_dir=little_store, protocol="within", seed=7)
    people = [f"s{number:02d}" for number in range(1, 8)]
    assert config.each() == [dataclasses.replace(config, person=person) for person in people]
    for alone in (dataclasses.replace(config, person="s03"), recipe(data_dir=little_store)):
        assert alone.each() == [alone]
    assert "--protocol within --person s03" in config.each()[2].command()


def test_a_store_that_is_not_there_is_left_to_who_opens_it(tmp_path):
    config = load_recipe(script_of("classifier"))(data_dir=tmp_path, protocol="within")
    assert config.each() == [config]


def test_who_is_refused_does_not_keep_others_from_being_trained(capsys):
    """All are tried, and what the first was refused for is said at the end."""
    tried = []

    def main(person: str) -> None:
        tried.append(person)
        if person != "s2":
            raise UserError(f"{person} has too few trials.")

    with pytest.raises(UserError, match="2 of 3 were left out, the first since: s1 has") as error:
        _run_each(main, ["s1", "s2", "s3"])
    assert tried == ["s1", "s2", "s3"] and one_line(error)
    assert capsys.readouterr().err.splitlines() == [
        "Left out: s1 has too few trials.",
        "Left out: s3 has too few trials.",
    ]
    with pytest.raises(UserError, match="^s3 has too few trials.$"):
        _run_each(main, ["s3"])
