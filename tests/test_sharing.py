"""One generator per fold: taken by the other tasks, and by nothing that it is not the same for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from de3dgan.base.locks import file_lock
from de3dgan.data.synthetic import write_store
from de3dgan.reporting.report import write_report
from de3dgan.stages import generators
from de3dgan.training import checkpoints
from tests.conftest import ROOT, TINY, contents, nothing_is_drawn, read_lines, run_here, script_of
from tests.helpers import smallest_png

TASKS = ("Valence", "Arousal", "Four_Class")
#: Other settings that a generator is not the same for.
OTHERS = [
    *(["--seed", "1"], ["--fold-seed", "1"], ["--epochs", "1"], ["--widths", "8", "8", "8", "16"]),
    ["--protocol", "subject"],
]


def folder(runs: Path, task: str, stage: str = "gan") -> Path:
    return runs / task.lower() / "trial" / "fold0" / stage


def run_task(stage: str, task: str, store: Path, runs: Path, *flags: object):
    """Run a stage of a task as a user does, and return what it said."""
    flags = ["--data-dir", store, "--runs-dir", runs, "--epochs", 2, *TINY[stage], *flags]
    done = run_here(script_of(stage, task), *flags)
    assert done.returncode == 0, done.stderr
    return done.stdout


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoints.load(folder / "model.pt", "train it.")["weights"]


def same(one: dict, other: dict) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def shared(little_store, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """Return the runs of a generator for three tasks, and what each script said; not to change."""
    runs = tmp_path_factory.mktemp("shared") / "runs"
    measured = generators.quality

    def with_classes(*args, **kwargs):
        found = measured(*args, **kwargs)
        rows = {eeg: {**row, "tstr": {"network": 0.5}} for eeg, row in found["quality"].items()}
        return {**found, "quality": rows}

    with nothing_is_drawn(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(generators, "quality", with_classes)
        said = {"Valence": run_task("gan", "Valence", little_store, runs)}
    (folder(runs, "Valence") / "traces.png").write_bytes(smallest_png())
    return runs, said | {task: run_task("gan", task, little_store, runs) for task in TASKS[1:]}


@pytest.fixture
def again(shared, tmp_path) -> Path:
    """Return a copy of the valence task's runs, which may be changed."""
    shutil.copytree(shared[0] / "valence", tmp_path / "runs" / "valence")
    return tmp_path / "runs"


def test_three_tasks_share_one_generator(shared):
    runs, said = shared
    first, *others = (folder(runs, task) for task in TASKS)
    assert "Took" not in said["Valence"] and len(read_lines(first / "metrics.jsonl")) == 2
    result = json.loads((first / "result.json").read_text())
    for task, taken in zip(TASKS[1:], others, strict=True):
        assert said[task].startswith("Took the generator in ")
        assert "step/s" not in said[task]
        assert same(weights(taken), weights(first))
        names = {path.name for path in first.iterdir()} - {"state.pt", "tensorboard"}
        assert {path.name for path in taken.iterdir()} == names
        for name in names - {"config.json", "model.pt", "result.json", "log.txt", "CARD.md"}:
            assert (taken / name).read_bytes() == (first / name).read_bytes()
        own = json.loads((taken / "result.json").read_text())
        assert own["task"] == task.lower() and own["taken_from"]["task"] == "valence"
        assert own["seconds"] < result["seconds"]
        for key in ("best_epoch", "split_fingerprint", "judges", "membership", "environment"):
            assert own[key] == result[key]
        # What was measured for the classes of valence is not said of another task.
        for eeg, row in own["quality"].items():
            assert result["quality"][eeg] == {**row, "tstr": {"network": 0.5}} != row


def test_what_was_taken_is_a_finished_run_of_its_task(shared, little_store):
    runs, _ = shared
    before = (folder(runs, "Arousal") / "model.pt").read_bytes()
    said = run_task("gan", "Arousal", little_store, runs)
    assert "is finished" in said and "Took" not in said
    assert (folder(runs, "Arousal") / "model.pt").read_bytes() == before


def test_later_stages_and_the_report_go_on_from_it(
    shared, little_store, tmp_path, no_baselines, no_figures
):
    runs = tmp_path / "runs"
    shutil.copytree(shared[0] / "arousal", runs / "arousal")  # the donor need not be there
    for stage in ("classifier", "finetune"):
        run_task(stage, "Arousal", little_store, runs)
    certificate = json.loads((folder(runs, "Arousal", "finetune") / "leakage.json").read_text())
    assert not certificate["leaky"]
    assert {"generator"} <= {entry["artefact"] for entry in certificate["artefacts"]}
    write_report(runs, tmp_path / "report")
    generated = tmp_path / "generated.fif"
    flags = ["--task", "arousal", "--runs-dir", runs, "--data-dir", little_store]
    done = run_here(ROOT / "generate.py", *flags, "--out", generated)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("flags", OTHERS, ids=lambda flags: flags[0])
def test_a_generator_of_other_settings_is_not_taken(flags, again, little_store, no_figures):
    assert "Took" not in run_task("gan", "Arousal", little_store, again, *flags)


def test_a_generator_of_another_store_is_not_taken(again, tmp_path, no_figures):
    other = write_store(tmp_path / "other", n_subjects=5)
    assert "Took" not in run_task("gan", "Arousal", other, again)


def test_restart_trains_the_same_generator_anew(again, little_store, no_figures):
    run_task("gan", "Arousal", little_store, again)
    said = run_task("gan", "Arousal", little_store, again, "--restart")
    taken = folder(again, "Arousal")
    assert "Took" not in said and (taken / "state.pt").is_file()
    assert "taken_from" not in json.loads((taken / "result.json").read_text())
    assert same(weights(taken), weights(folder(again, "Valence")))


def test_other_thresholds_share_a_generator(again, little_store):
    said = run_task("gan", "Arousal", little_store, again, "--threshold", "median")
    assert said.startswith("Took")


def test_one_that_is_not_finished_is_not_waited_for(again, little_store, no_figures):
    donor = folder(again, "Valence")
    (donor / "result.json").unlink()
    with file_lock(donor):
        said = run_task("gan", "Arousal", little_store, again)
    assert "would be the same generator, and is not finished: this run trains its own." in said
    assert same(weights(folder(again, "Arousal")), weights(donor))


@pytest.mark.parametrize("name", ["model.pt", "result.json"])
def test_one_that_is_damaged_is_not_taken(name, again, little_store, no_figures):
    path = folder(again, "Valence") / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if name == "model.pt" else b"{}")
    said = run_task("gan", "Arousal", little_store, again)
    assert "and is damaged: this run trains its own." in said


def test_a_taking_that_was_cut_short_is_done_again(shared, again, little_store):
    taken = shutil.copytree(folder(shared[0], "Arousal"), folder(again, "Arousal"))
    (taken / "result.json").unlink()
    assert run_task("gan", "Arousal", little_store, again).startswith("Took")
    assert json.loads((taken / "result.json").read_text())["taken_from"]["task"] == "valence"


def test_stage_3_still_refuses_the_generator_of_another_split(
    shared, little_store, tmp_path, no_figures, no_baselines
):
    runs = tmp_path / "runs"
    run_task("classifier", "Arousal", little_store, runs, "--fold-seed", 1)
    before = contents(folder(runs, "Arousal", "classifier"))
    shutil.copytree(folder(shared[0], "Arousal"), folder(runs, "Arousal"))
    flags = ["--data-dir", little_store, "--runs-dir", runs, "--fold-seed", 1, *TINY["finetune"]]
    done = run_here(script_of("finetune", "Arousal"), *flags)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    ours, theirs = (
        json.loads((folder(runs, "Arousal", stage) / "result.json").read_text())[
            "split_fingerprint"
        ]
        for stage in ("classifier", "gan")
    )
    assert f'split_fingerprint ("{theirs}" there, "{ours}" now)' in done.stderr
    assert "3D-UNet_GAN_Arousal.py" in done.stderr and "--restart" in done.stderr
    assert contents(folder(runs, "Arousal", "classifier")) == before
