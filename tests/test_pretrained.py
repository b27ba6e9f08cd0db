"""Pretrained generators: they work without recordings, and are refused if they are damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import mne
import numpy as np
import pytest

from de3dgan.base.errors import UserError
from de3dgan.base.recipe import load_script
from de3dgan.data.opening import open_store
from de3dgan.data.splits import everyone
from de3dgan.eeg.de import differential_entropy
from de3dgan.stages import pretrained, virtual
from de3dgan.training import checkpoints
from tests.conftest import ROOT, contents, run_here
from tests.conftest import load_script as load_stage

NAMES = sorted(path.parent.name for path in pretrained.PRETRAINED.glob("*/model.pt"))


def generate(out: Path, *more: object):
    return run_here(ROOT / "generate.py", "--out", out, *more)


def test_there_is_one_of_eegmat_and_it_is_small():
    assert "eegmat" in NAMES
    assert sum(p.stat().st_size for p in pretrained.PRETRAINED.rglob("model.pt")) < 6e6


def test_the_command_of_the_readme_makes_people_of_a_class(tmp_path):
    command = "generate.py --pretrained eegmat --class arithmetic --people 3 --out x.fif"
    assert command in (ROOT / "README.md").read_text()
    out = tmp_path / "x.fif"
    done = generate(out, *command.split()[1:-2], "--seconds", 12)
    assert done.returncode == 0, done.stderr
    raw = mne.io.read_raw_fif(out, verbose="error")
    assert raw.get_data().shape == (19, 3 * 12 * 128)
    described = [text for text in raw.annotations.description if "generated" in text]
    assert len(described) == 3 and all("arithmetic" in text for text in described)
    assert 2 < 1e6 * raw.get_data().std() < 60  # µV


def test_a_store_of_pretrained_people_can_be_opened(tmp_path):
    args = ("--pretrained", "eegmat", "--people", 2, "--seconds", 12, "--draw", 4)
    assert generate(tmp_path / "people", *args).returncode == 0
    store = open_store(tmp_path / "people")
    assert store.size == "2 subjects, 4 trials" and store.ratings == ["arithmetic"]


def test_de_is_that_which_is_asked_for():
    generator, population = pretrained.load("eegmat")
    asked, sample = [], virtual.sampler_of(generator)

    def remembering(de: np.ndarray, *numbers: np.ndarray) -> np.ndarray:
        asked.append(de)
        return sample(de, *numbers)

    person = population.person(remembering, [0, 1], 12, 0, 0)
    found = np.stack([differential_entropy(eeg) for eeg in person.eeg])
    assert np.abs(found - asked[0][:, :, :24]).mean() < 0.08
    assert np.isfinite(person.baseline).all()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--pretrained deap --people 1", "no pretrained generator 'deap'"),
        ("--pretrained ../eegmat --people 1", "no pretrained generator"),
        ("--pretrained eegmat --people 1 --class joy", "'rest', 'arithmetic'"),
        ("--pretrained eegmat", "--people"),
        ("--pretrained eegmat --trials 0", "--people"),
        ("--pretrained eegmat --people 1 --fold 2", "--fold"),
        ("--pretrained eegmat --people 1 --task workload", "--task"),
        ("--people 1", "--pretrained"),
    ],
)
def test_mistakes_are_said_in_a_sentence(flags, said, tmp_path):
    done = generate(tmp_path / "x.fif", *flags.split())
    assert done.returncode == 2 and said in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not contents(tmp_path)


def damaged(folder: Path, content: dict) -> None:
    (folder / "eegmat").mkdir(parents=True)
    checkpoints.save(folder / "eegmat" / "model.pt", content)


def test_a_damaged_file_is_refused(tmp_path):
    path = pretrained.PRETRAINED / "eegmat" / "model.pt"
    (tmp_path / "one" / "eegmat").mkdir(parents=True)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "one" / "eegmat" / "model.pt").write_bytes(raw)
    with pytest.raises(UserError, match="damaged"):
        pretrained.load("eegmat", tmp_path / "one")
    content = checkpoints.load(path, "")
    damaged(tmp_path / "two", {**content, "population": {"prior": {}, "about": {}}})
    with pytest.raises(UserError, match="damaged"):
        pretrained.load("eegmat", tmp_path / "two")
    fewer = dict(content["population"]["prior"])
    fewer["mean"] = fewer["mean"][..., :5]
    population = {**content["population"], "prior": fewer}
    damaged(tmp_path / "three", {**content, "population": population})
    with pytest.raises(UserError, match="damaged"):
        pretrained.load("eegmat", tmp_path / "three")


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_who_what_not_and_whose(name):
    card = (pretrained.PRETRAINED / name / "CARD.md").read_text()
    for said in (
        *("Trained on all 36 people", "36 of rest, 36 of arithmetic", "Not for diagnosis"),
        *("JUDGES.md", "10.13026/C2JQ1P", "MIT licence", "Attribution", "nats", "## Privacy"),
        *("strongest judge, AUC", "Membership inference"),  # of the benchmark of its recipe
    ):
        assert said in card


# --- how they are made


def test_everyone_is_trained_on_and_nobody_tested(little_store):
    store = open_store(little_store)
    recipe = load_stage("gan").Config(data_dir=little_store)
    labels, split = everyone(recipe, store)
    assert split.trials("train").tolist() == list(range(store.n_trials)) and not len(split.test)
    assert len(labels) == store.n_trials


def test_only_recordings_that_may_be_passed_on_are_made_a_generator_of(little_store, tmp_path):
    args = ("--data-dir", little_store, "--task", "valence", "--epochs", 1)
    places = ("--out-dir", tmp_path / "out", "--runs-dir", tmp_path / "runs")
    done = run_here(ROOT / "pretrained" / "make.py", *args, *places)
    assert done.returncode == 2 and "licence" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture
def made(little_store, tmp_path, monkeypatch) -> Path:
    """Return the folder of a generator of a little store, which is said to be EEGMAT's."""
    maker = load_script(ROOT / "pretrained" / "make.py")
    copy = tmp_path / "store"
    shutil.copytree(little_store, copy)
    source = open_store(copy).manifest["source"]
    monkeypatch.setitem(maker.CREDITS, source, maker.CREDITS["eegmat"])
    recipe = load_stage("gan").Config
    monkeypatch.setattr(
        maker,
        "recipe_of",
        lambda config: recipe(
            data_dir=copy, runs_dir=config.runs_dir, widths=(8, 8, 8, 8), epochs=1
        ),
    )
    out = tmp_path / "out"
    maker.main(maker.Config(data_dir=copy, name="little", out_dir=out, runs_dir=tmp_path / "runs"))
    return out


def test_what_is_made_can_be_loaded_and_has_a_card(made):
    generator, population = pretrained.load("little", made)
    assert generator.origin["trials"]["test"] == []
    assert population.about["class_names"] == ["low valence", "high valence"]
    assert "Trained on all 7 people" in (made / "little" / "CARD.md").read_text()
    weights = checkpoints.load(made / "little" / "model.pt", "")["weights"]
    assert {str(weights[n].dtype) for n in weights if n.startswith("unet.")} == {"torch.float16"}
