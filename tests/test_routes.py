"""A mistake is told in the same sentence, whichever way one comes to it.

The routes are a script, a study by the workflow, `make study`, and a script's `main` as a notebook
calls it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from de3dgan.base.errors import UserError
from de3dgan.base.recipe import load_script
from tests.conftest import ROOT, run_script, script_of
from tests.helpers import one_line
from tests.test_workflow import FOLD, SMALL, default_config, snakemake, study, with_store


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the sentence that a mistake has ended with."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


def in_a_notebook(call: Callable[[], None]) -> str:
    with pytest.raises(UserError) as error:
        call()
    return one_line(error)


def by_workflow(folder: Path, *targets: str, **settings: object) -> str:
    return last_line(snakemake(folder, *targets, **{**SMALL, **settings}))


def test_there_are_no_recordings(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    script = ROOT / "preprocess_de.py"
    preprocess, empty = load_script(script), Path("empty")
    sentence = in_a_notebook(
        lambda: preprocess.main(
            preprocess.Config(source="deap", data_dir=empty, out_dir=tmp_path / "store")
        )
    )
    told = ("--source", "deap", "--data-dir", empty, "--out-dir", tmp_path / "store")
    assert sentence == last_line(run_script(script, *told, cwd=tmp_path))
    assert sentence == by_workflow(tmp_path, data_dir=tmp_path / "empty")


@pytest.fixture
def with_a_store(tmp_path, monkeypatch) -> Path:
    """Return a folder with a store, which a study in it takes for finished; the user is in it."""
    monkeypatch.chdir(with_store(tmp_path))
    return tmp_path


def damaged(folder: Path) -> None:
    """Cut a file of the store."""
    path = folder / "features" / "study-deap" / "de.npy"
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(("mistake", "rating"), [(damaged, ""), (None, "anger")])
def test_a_stage_cannot_use_its_store(mistake, rating, with_a_store):
    """It is damaged, or it lacks the rating that the task is about."""
    if mistake:
        mistake(with_a_store)
    store, path = Path("features", "study-deap"), script_of("classifier")
    script = load_script(path)
    ratings = {"ratings": (rating,)} if rating else {}
    sentence = in_a_notebook(
        lambda: script.main(script.Config(data_dir=store, runs_dir=Path("own"), **ratings))
    )
    told = ["--ratings", rating] if rating else []
    where = ("--data-dir", store, "--runs-dir", "own")
    assert sentence == last_line(run_script(path, *where, *told, cwd=with_a_store))
    flags = " ".join([SMALL["classifier_flags"], *told])
    target = f"{FOLD}/classifier/model.cksum"
    none = with_a_store / "none"
    assert sentence == by_workflow(with_a_store, target, data_dir=none, classifier_flags=flags)


def test_a_setting_of_a_study_cannot_be_meant():
    sentence = in_a_notebook(lambda: study.Study({**default_config(), "protocol": "person"}))
    by_make = ["make", "-o", ".venv/installed", "study", f"RUN='{sys.executable}'"]
    for told in (
        [sys.executable, "workflow/run.py", "--config", "protocol=person"],
        [*by_make, "PROTOCOL=person"],
    ):
        done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2
        # make has a full stop of its own, and a word in the user's language.
        assert f"Error: {sentence.rstrip('.')}" in done.stderr.splitlines()[-1]


def test_an_earlier_stage_is_missing(with_a_store):
    store, path = Path("features", "study-deap"), script_of("finetune")
    script = load_script(path)
    sentence = in_a_notebook(
        lambda: script.main(script.Config(data_dir=store, runs_dir=Path("own")))
    )
    where = ("--data-dir", store, "--runs-dir", "own")
    assert sentence == last_line(run_script(path, *where, cwd=with_a_store))
