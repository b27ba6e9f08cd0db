"""Networks of braindecode: the same stages, files and refusals as for our own."""

from __future__ import annotations

import json
import sys
import warnings
from copy import deepcopy

import numpy as np
import pytest
import torch

from benchmarks import yardstick
from de3dgan.base.errors import UserError
from de3dgan.base.recipe import Recipe
from de3dgan.eeg.montage import DEAP_CHANNELS
from de3dgan.models.decoders import BraindecodeNet, NotInstalled, networks
from de3dgan.reporting.results import Predictions
from de3dgan.training import checkpoints
from tests.conftest import read_lines, run_stage
from tests.helpers import one_line, stopped_after_one_step

NAMES = ("EEGNet", "ShallowFBCSPNet", "Deep4Net", "EEGConformer", "ATCNet", "TSception")


def is_installed() -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(networks())
    except NotInstalled:
        return False


installed = pytest.mark.skipif(not is_installed(), reason="braindecode: make braindecode")


def frames(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 32, 128, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def absent(monkeypatch):
    """Let braindecode not be installed."""
    networks.cache_clear()
    monkeypatch.setitem(sys.modules, "braindecode", None)
    yield
    networks.cache_clear()


def test_without_braindecode_one_sentence_says_how_to_install_it(absent, little_store, tmp_path):
    with pytest.raises(UserError) as error:
        run_stage("classifier", little_store, tmp_path / "runs", network="EEGNet")
    assert "make braindecode" in one_line(error)
    assert not (tmp_path / "runs").exists()
    assert "torchaudio" not in sys.modules or sys.modules["torchaudio"].__file__


def test_a_checkpoint_of_such_a_network_says_the_same(absent, tmp_path):
    path = tmp_path / "model.pt"
    content = {"stage": "classifier", "module": "BraindecodeNet", "weights": {}}
    checkpoints.save(path, content | {"arguments": {"name": "EEGNet"}})
    with pytest.raises(UserError) as error:
        checkpoints.load_model(path, "classifier", "rerun.")
    assert "make braindecode" in one_line(error)


def test_it_is_a_flag_that_only_stage_2_has():
    assert "network" not in Recipe.__dataclass_fields__


@installed
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_network_and_the_feature_is_what_its_last_layer_gets(name):
    torch.manual_seed(0)
    net = BraindecodeNet(name, DEAP_CHANNELS, 3).eval()
    x = frames()
    logits, feature = net(x)
    assert logits.shape == (4, 3)
    torch.testing.assert_close(logits, net.net(x), rtol=0, atol=0)
    layers = [net.net.get_submodule(path) for path in net.last_layers]
    parts = feature.chunk(len(layers), 1)
    again = [
        part @ layer.weight.flatten(1).T + layer.bias
        for part, layer in zip(parts, layers, strict=True)
    ]
    torch.testing.assert_close(torch.stack(again).mean(0), logits, rtol=1e-4, atol=1e-5)


@installed
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_it_is_rebuilt_from_its_checkpoint(name, tmp_path):
    torch.manual_seed(0)
    net = BraindecodeNet(name, DEAP_CHANNELS, 2).eval()
    content = {"stage": "classifier", **checkpoints.module_content(net)}
    checkpoints.save(tmp_path / "model.pt", content)
    torch.manual_seed(1)
    loaded = checkpoints.load_model(tmp_path / "model.pt", "classifier", "rerun.")
    again = checkpoints.rebuild(loaded, torch.device("cpu"))
    for ours, theirs in zip(net(frames()), again(frames()), strict=True):
        assert torch.equal(ours, theirs)


@installed
@pytest.mark.filterwarnings("ignore")
def test_a_copy_gives_its_own_features():
    net = BraindecodeNet("EEGNet").eval()
    copied = deepcopy(net)
    before = net(frames())[1]
    with torch.no_grad():
        for weight in net.parameters():
            weight.zero_()
    assert torch.equal(copied(frames())[1], before)
    assert not torch.equal(net(frames())[1], before)


@installed
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("EEGNt", "no network 'EEGNt': choose SASTNet, or of braindecode ATCNet,"),
        ("build_model_config", "no network 'build_model_config'"),
        ("CBraMod", "CBraMod does not take frames of 128 samples of 32 electrodes"),
        ("REVE", "no network 'REVE'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    name, sentence, little_store, tmp_path
):
    with pytest.raises(UserError) as error:
        run_stage("classifier", little_store, tmp_path / "runs", network=name)
    assert sentence in one_line(error)
    assert not (tmp_path / "runs").exists()


@installed
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["EEGNet", "ATCNet"])
def test_stages_2_and_3_train_it_stopped_or_not(name, little_store, tmp_path, no_figures):
    at_once, stopped = tmp_path / "at once", tmp_path / "stopped"
    common = {"protocol": "subject", "epochs": 2}
    whole = run_stage("classifier", little_store, at_once, network=name, **common)
    with stopped_after_one_step():
        run_stage("classifier", little_store, stopped, network=name, **common)
    again = run_stage("classifier", little_store, stopped, network=name, **common)
    for file in ("model.pt", "predictions.csv"):
        assert (again / file).read_bytes() == (whole / file).read_bytes(), file
    assert json.loads((whole / "config.json").read_text())["settings"]["network"] == name
    with pytest.raises(UserError) as error:
        run_stage("classifier", little_store, at_once, **common)
    assert "settings.network" in one_line(error)
    run_stage("gan", little_store, at_once, **common)
    tuned = run_stage("finetune", little_store, at_once, consistency_weight=0.5, **common)
    assert all(line["feature_distance"] > 0 for line in read_lines(tuned / "metrics.jsonl"))
    content = checkpoints.load_model(tuned / "model.pt", "finetune", "rerun.")
    assert (content["module"], content["arguments"]["name"]) == ("BraindecodeNet", name)


def test_a_prediction_of_the_yardstick_is_the_mean_of_five_seconds():
    """Of two trials of seven seconds, in any order; the last two of each are left out."""
    rng = np.random.default_rng(0)
    order = rng.permutation(14)
    trials, seconds = np.repeat([3, 8], 7), np.tile(np.arange(7), 2)
    p = rng.random((14, 2))
    groups = np.repeat(["a", "b"], 7)
    persons = np.repeat(["c", "d"], 7)
    parts = (trials, seconds, trials // 8, p, groups, persons, np.ones(14))
    of = Predictions(*(x[order] for x in parts))
    found_groups, labels, means = yardstick.windows(of)
    assert (found_groups.tolist(), labels.tolist()) == (["a", "b"], [0, 1])
    np.testing.assert_allclose(means, [p[:5].mean(0), p[7:12].mean(0)])


def test_a_cell_of_the_yardstick_has_the_range_of_seeds():
    def answered(rate: float) -> Predictions:
        trials, seconds = np.repeat(np.arange(8), 5), np.tile(np.arange(5), 8)
        labels = trials % 2
        p = np.where(trials < 8 * rate, labels, 1 - labels)
        groups = np.array([f"p{trial // 2}" for trial in trials])
        return Predictions(
            trials, seconds, labels, np.stack([1 - p, p], 1), groups, groups, np.ones(len(p))
        )

    assert yardstick.cell([answered(0.75), answered(1)]).endswith("; seeds 0.750 to 1.000")
    assert "seeds" not in yardstick.cell([answered(1)])


def test_the_yardsticks_people_are_in_one_part_each():
    parts = yardstick.SPLIT
    assert [len(parts[name]) for name in ("train", "val", "test")] == [28, 4, 4]
    assert len({person for part in parts.values() for person in part}) == 36
    assert parts["test"] == ["Subject32", "Subject33", "Subject34", "Subject35"]
