"""The Hub: what is saved comes back, has a card, and says what it needs."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from de3dgan.base.errors import UserError
from de3dgan.parts import hub
from de3dgan.parts.generators import PretrainedGenerator
from de3dgan.parts.networks import PublishedSASTDecoder, SASTDecoder
from de3dgan.stages.pretrained import PRETRAINED
from tests.helpers import one_line
from tests.test_networks import SMALL, alpha, blocks, chs_info, network, train

IS_THERE = all(importlib.util.find_spec(name) for name in ("huggingface_hub", "safetensors"))
there = pytest.mark.skipif(
    not IS_THERE, reason="huggingface_hub: pip install -r requirements-hub.txt"
)


@pytest.fixture
def pushed(monkeypatch) -> dict:
    """Have the Hub be a dict, in which files of what is pushed are by name."""
    kept = {}

    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, **_):
            return type("Url", (), {"repo_id": repo_id})

        def upload_folder(self, folder_path, **_):
            kept.update({path.name: path.read_bytes() for path in Path(folder_path).iterdir()})
            return "sent"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    return kept


def front_matter(card: str) -> list[str]:
    assert card.startswith("---\n")
    return card.split("---\n")[1].splitlines()


@pytest.mark.parametrize("absent", ["huggingface_hub", "safetensors"])
def test_without_it_one_sentence_says_what_to_install(absent, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, absent, None)
    mixin = hub._mixin()
    for ask in (mixin().save_pretrained, mixin().push_to_hub, mixin.from_pretrained):
        with pytest.raises(UserError) as error:
            ask(tmp_path / "net")
        assert "pip install huggingface_hub safetensors" in one_line(error)
    assert not (tmp_path / "net").exists()


# --- networks


@there
@pytest.mark.parametrize("cls", [SASTDecoder, PublishedSASTDecoder])
def test_a_network_comes_back_as_it_was(cls, tmp_path):
    net = train(network(cls, sfreq=250), *alpha(64, 0, 250), 1)
    net.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("README.md", "config.json", "model.safetensors")
    }
    again = cls.from_pretrained(tmp_path)
    x = torch.from_numpy(alpha(8, 1, 250)[0])
    assert not again.training and torch.equal(again(x), net(x))
    assert again.arguments == net.arguments == json.loads((tmp_path / "config.json").read_text())


@there
def test_channels_of_mne_are_saved_by_their_names(tmp_path):
    """They hold positions, which JSON cannot, and which nothing is made of."""
    channels = [{**channel, "loc": np.zeros(12)} for channel in chs_info()]
    SASTDecoder(8, 2, 500, 250.0, channels, **SMALL).save_pretrained(tmp_path)
    assert SASTDecoder.from_pretrained(tmp_path).ch_names[:2] == ["F3", "F4"]


@there
@pytest.mark.parametrize("cls", [SASTDecoder, PublishedSASTDecoder])
def test_its_card_says_what_it_takes_and_what_its_author_says(cls, pushed):
    net = network(cls, sfreq=250)
    net.push_to_hub("me/net", model_card_kwargs={"said": "Trained on noise.", "license": "mit"})
    card = pushed["README.md"].decode()
    assert {"library_name: de3dgan", "license: mit", "- eeg"} <= set(front_matter(card))
    for said in (
        *("Trained on noise.", "250 Hz", "F3, F4, C3", "2 classes", "Not for diagnosis"),
        *(f"{cls.__name__}.from_pretrained", "MIT licence"),
    ):
        assert said in card
    assert "not said here" in net.card() and "not said here" not in card


@there
def test_weights_that_are_not_the_networks_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    network(SASTDecoder).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("linear.weight")
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError, match="linear.weight"):
        SASTDecoder.from_pretrained(tmp_path)


# --- generators


@pytest.fixture(scope="module")
def eegmat() -> PretrainedGenerator:
    return PretrainedGenerator.from_checkpoint(PRETRAINED / "eegmat")


def generated(made: PretrainedGenerator) -> np.ndarray:
    drawn = made.population.prior.sample(np.random.default_rng(0), np.array([1]), 1, 24, 24)
    return made.generator(drawn.de, np.array([0]))


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@there
def test_a_generator_comes_back_and_generates_the_same(eegmat, tmp_path):
    eegmat.save_pretrained(tmp_path, model_card_kwargs={"license": "odc-by"})
    again = PretrainedGenerator.from_pretrained(tmp_path)
    assert same(again.content, eegmat.content)
    np.testing.assert_array_equal(generated(again), generated(eegmat))
    text = (PRETRAINED / "eegmat" / "CARD.md").read_text()
    readme = (tmp_path / "README.md").read_text()
    assert again.text == text and text in readme
    assert "license: odc-by" in front_matter(readme) and "from_pretrained" in readme


@there
def test_a_generator_is_pushed_whole(eegmat, pushed, tmp_path):
    eegmat.push_to_hub("me/eegmat")
    for name, content in pushed.items():
        (tmp_path / name).write_bytes(content)
    assert same(PretrainedGenerator.from_pretrained(tmp_path).content, eegmat.content)


@there
@pytest.mark.parametrize("damage", ["tensor", "shape", "stage", "gone", "people"])
def test_a_damaged_generator_is_refused_in_a_sentence(damage, eegmat, tmp_path):
    from safetensors.torch import load_file, save_file

    eegmat.save_pretrained(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    tensors, rest = load_file(weights), json.loads(config.read_text())
    if damage == "tensor":
        tensors.pop("/weights/linear.weight")
    if damage == "shape":
        tensors["/weights/linear.weight"] = torch.zeros(2, 2)
    if damage == "stage":
        rest["stage"] = "classifier"
    if damage == "people":
        rest["population"]["prior"].pop("mean")
    save_file(tensors, weights)
    config.write_text(json.dumps(rest))
    if damage == "gone":
        weights.unlink()
    with pytest.raises(UserError) as error:
        PretrainedGenerator.from_pretrained(tmp_path)
    assert "get it anew" in one_line(error)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError) as error:
        PretrainedGenerator.from_checkpoint(tmp_path)
    assert "There is no" in one_line(error)
    shutil.copy(PRETRAINED / "eegmat" / "model.pt", tmp_path)
    with pytest.raises(UserError) as error:
        PretrainedGenerator.from_checkpoint(tmp_path)
    assert "CARD.md" in one_line(error)


@there
def test_the_guides_hub_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    net = network(SASTDecoder)
    names = {"network": net, "SASTDecoder": SASTDecoder}
    for block in blocks("The Hub"):
        exec(block, names)
    assert names["person"].eeg.shape == (2, 19, 12 * 128)
    assert names["again"].arguments == net.arguments
