"""The package as pip installs it: a small wheel, and a command that needs no repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from de3dgan.base import console
from de3dgan.base.programs import COMMANDS, SCRIPTS
from tests.conftest import FOLDERS, ROOT, TINY, run_here, script_of
from tests.test_repository import python_files

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Return the wheel that is built of the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Return the folder of programs of an environment with the wheel and the packages of ours."""
    folder = tmp_path_factory.mktemp("environment") / ".venv"
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    pip += ["--disable-pip-version-check", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True, timeout=60)
    (site,) = folder.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith("-packages")]
    (site / "others.pth").write_text("\n".join(others))
    return folder / "bin"


@pytest.fixture
def run(installed, tmp_path):
    """Return what runs a command of the environment in a folder that is empty at first."""

    def run_(*words: object) -> subprocess.CompletedProcess:
        program, *args = map(str, words)
        return subprocess.run(
            [installed / program, *args],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "at_start")},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run_


def test_the_wheel_is_small_and_has_networks_scripts_and_nothing_else(wheel):
    assert wheel.stat().st_size < 2e6
    names = set(zipfile.ZipFile(wheel).namelist())
    scripts = [script_of(stage, task) for stage in SCRIPTS for task in FOLDERS]
    scripts += [ROOT / name for name in COMMANDS.values()]
    scripts += (ROOT / "eeg_dataset" / "settings").glob("*.toml")
    expected = {f"de3dgan/scripts/{path.relative_to(ROOT)}" for path in scripts}
    expected |= {str(path.relative_to(ROOT)) for path in python_files("de3dgan")}
    expected |= {f"de3dgan/{path.relative_to(ROOT)}" for path in python_files("models")}
    expected |= {"de3dgan/reporting/report.html.jinja", "de3dgan/data/eegmat_sha256.txt"}
    assert {name for name in names if ".dist-info/" not in name} == expected


def test_all_but_tests_and_studies_is_in_an_extra_or_the_core():
    """Which names are needed, requirements.txt says, at a version that the ranges admit."""
    extras = PYPROJECT["optional-dependencies"]
    asked = [*PYPROJECT["dependencies"], *extras["commands"], *extras["mne"]]
    lowest = versions("\n".join(asked), ">=")
    pinned = versions((ROOT / "requirements.txt").read_text().partition("# Development")[0], "==")
    assert pinned.keys() - {"snakemake"} == lowest.keys()
    for extra in ("braindecode", "hub"):
        lowest |= versions("\n".join(extras[extra]), ">=")
        pinned |= versions((ROOT / f"requirements-{extra}.txt").read_text(), "==")
    assert not [name for name, version in lowest.items() if pinned[name] < version]


def versions(text: str, operator: str) -> dict[str, tuple[int, ...]]:
    """Return the version of each package of a list of requirements."""
    found = re.findall(rf"^([\w.-]+){operator}([\d.]+)", text, re.M)
    return {name: tuple(map(int, version.split("."))) for name, version in found}


def test_help_lists_what_there_is(run):
    done = run("de3dgan", "--help")
    assert done.returncode == 0, done.stderr
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert set(listed) == {*SCRIPTS, *COMMANDS, *console.MODULES}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train", "no command 'train': choose one of fetch, simulate, preprocess, gan"),
        ("gan --fold 0", "--task one of valence, arousal, four_class, seed, workload"),
        ("gan --task joy", "no task 'joy'"),
        ("generate --pretrained eegmat --people 1 --out x.fif", "copy pretrained/ of the repo"),
        ("classifier --task valence", "de3dgan preprocess --source deap"),
        ("finetune --task=workload --data-dir x", "de3dgan preprocess --source"),
        ("preprocess --source deap", "eeg_dataset/DEAP/data_preprocessed_python"),
    ],
)
def test_a_mistake_is_one_sentence_with_a_command_that_there_is(words, said, run, tmp_path):
    done = run("de3dgan", *words.split())
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_stages_run_from_an_empty_folder(run, tmp_path):
    """From recordings to a report; the commands that errors name are found, and mend them."""

    def succeed(*words: object) -> str:
        done = run("de3dgan", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    recordings = "eeg_dataset/DEAP/data_preprocessed_python"
    succeed("simulate", "--out-dir", recordings, "--n-subjects", 2, "--n-trials", 8)
    succeed("preprocess", "--source", "deap", "--jobs", 1, "--channels", "FZ", "CZ", "PZ")
    assert (tmp_path / "DE_feature/deap/manifest.json").is_file()
    for stage in SCRIPTS:
        if stage != "finetune":
            refused = run("de3dgan", "finetune", "--task", "valence")
            assert f"de3dgan {stage} --task valence --fold 0" in refused.stderr
        succeed(stage, "--task", "valence", "--epochs", 1, *TINY[stage])
    fold = "runs/valence/trial/fold0"
    assert "| stage 3: fine-tuned" in succeed("summary", "--fold-dir", fold)
    succeed("generate", "--task", "valence", "--trials", 0, "--out", "x.fif")
    succeed("report")
    page = (tmp_path / "runs/report/report.html").read_text()
    assert "de3dgan classifier --task valence --fold $fold" in page
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"eeg_dataset", "DE_feature", "runs", "x.fif"}
    done = run("python", "-c", "import de3dgan.models, models")
    assert "No module named 'models'" in done.stderr


def test_the_command_gives_what_the_script_gives(capsys, monkeypatch):
    """Of a checkout too, as ``pip install --editable`` has it."""
    script = run_here(script_of("gan", "Workload"), "--help")
    monkeypatch.setattr(sys, "argv", ["de3dgan", "gan", "--task", "workload", "--help"])
    with pytest.raises(SystemExit) as stop:
        console.main()
    assert stop.value.code in (0, None)
    own, expected = capsys.readouterr().out, script.stdout
    assert own.startswith("usage: de3dgan gan ")
    assert own.partition("\n")[2] == expected.partition("\n")[2]


@pytest.mark.parametrize("words", ["gan --task valence", "generate --people 1", "summary"])
def test_what_is_missing_in_a_bare_installation_is_said(words, run):
    program = (
        "import sys; sys.modules['tyro'] = None; from de3dgan.base.console import main; main()"
    )
    done = run("python", "-c", program, *words.split())
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert "tyro" in done.stderr and "'de3dgan[commands]'" in done.stderr


def test_estimators_need_no_more_than_the_core(run):
    extras = ["mne", "tyro", "matplotlib", "tensorboard", "pyriemann", "pooch", "jinja2", "pandas"]
    program = f"""if True:
        import sys
        sys.modules.update(dict.fromkeys({extras}))
        import numpy as np
        from de3dgan.parts.estimators import DifferentialEntropy, EEGGenerator
        eeg = 10 * np.random.default_rng(0).standard_normal((6, 2, 12 * 128))
        generator = EEGGenerator(n_epochs=1, ch_names=["Fz", "Cz"]).fit(eeg)
        print(generator.sample(de=DifferentialEntropy().fit_transform(eeg[:1])).shape)
    """
    done = run("python", "-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == "(1, 2, 1536)"
