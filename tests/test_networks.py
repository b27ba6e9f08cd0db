"""SA-ST-Net in others' loops: braindecode's contract, learning, and the Hub."""

from __future__ import annotations

import inspect
import pickle
import re
from copy import deepcopy

import mne
import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.nn.functional import cross_entropy

from de3dgan.data.montages import grid_of
from de3dgan.eeg.montage import DEAP_CHANNELS
from de3dgan.eeg.sampling import resampled
from de3dgan.models import SASTNet
from de3dgan.parts.networks import PublishedSASTDecoder, Resampled, SASTDecoder
from tests.conftest import ROOT
from tests.test_decoders import installed

DECODERS = (SASTDecoder, PublishedSASTDecoder)
#: Of a data set that is much used, with electrodes that the paper's grid has no place for.
MOTOR = "Fz FC3 FC1 FCz FC2 FC4 C5 C3 C1 Cz C2 C4 C6 CP3 CP1 CPz CP2 CP4 P1 Pz P2 POz".split()
FEW = ("F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2")
SMALL = {"widths": (8, 8, 8, 8, 8), "n_features": 16}


def chs_info(names=FEW) -> list[dict]:
    return [{"ch_name": name} for name in names]


def network(cls, names=FEW, sfreq=128, **more):
    torch.manual_seed(0)
    return cls(n_outputs=2, sfreq=sfreq, chs_info=chs_info(names), **{**SMALL, **more})


def pink(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return noise of about 10 µV whose power falls with frequency, as that of EEG does."""
    spectrum = np.fft.rfft(rng.standard_normal(shape))
    spectrum /= np.sqrt(np.maximum(np.arange(spectrum.shape[-1]), 1))
    x = np.fft.irfft(spectrum, n=shape[-1])
    return 10 * x / x.std()


def alpha(n: int, seed: int, sfreq: int = 128, seconds: int = 2, locked: bool = False):
    """Return EEG in V in which one class has 10 Hz over the back of the head, and the classes.

    Its phase is random, unless it is `locked`.
    """
    rng = np.random.default_rng(seed)
    eeg, y = pink(rng, n, len(FEW), seconds * sfreq), rng.integers(0, 2, n)
    phase = np.zeros((n, 1)) if locked else rng.uniform(0, 2 * np.pi, (n, 1))
    wave = 8 * np.sin(2 * np.pi * 10 * np.arange(eeg.shape[-1]) / sfreq + phase)
    eeg[:, 4:] += (y[:, None] * wave)[:, None]
    return (1e-6 * eeg).astype(np.float32), y


def train(net, x, y, epochs=6):
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3)
    net.train()
    for _ in range(epochs):
        for some in torch.arange(len(x)).split(32):
            optimiser.zero_grad()
            cross_entropy(net(torch.from_numpy(x[some])), torch.from_numpy(y[some])).backward()
            optimiser.step()
    return net.eval()


@torch.no_grad()
def accuracy(net, x, y) -> float:
    return float((net(torch.from_numpy(x)).argmax(1).numpy() == y).mean())


# --- the contract


@pytest.mark.parametrize("cls", DECODERS)
def test_it_is_made_as_networks_of_braindecode_are(cls):
    order = list(inspect.signature(cls).parameters)[:5]
    assert order == ["n_chans", "n_outputs", "n_times", "sfreq", "chs_info"]


@pytest.mark.parametrize("cls", DECODERS)
@pytest.mark.parametrize(
    ("names", "sfreq", "n_times", "n_outputs"),
    [
        (DEAP_CHANNELS, 128, 128, 4),
        (MOTOR, 250, 1001, 2),
        (["Cz"], 512, 600, 3),
        (FEW, 100, 199, 2),
    ],
)
def test_eeg_of_any_montage_rate_and_length_becomes_scores(cls, names, sfreq, n_times, n_outputs):
    net = cls(len(names), n_outputs, n_times, float(sfreq), chs_info(names), **SMALL)
    x = 1e-5 * torch.randn(3, len(names), n_times)
    scores = net(x)
    assert scores.shape == (3, n_outputs) and scores.isfinite().all()
    scores.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize("cls", DECODERS)
def test_channels_of_mne_are_understood(cls):
    info = mne.create_info(["EEG Fp1-Ref", "T3", "Cz"], 128, "eeg")
    assert cls(None, 2, 128, 128, info["chs"], **SMALL).ch_names == ["FP1", "T7", "CZ"]


@pytest.mark.parametrize("cls", DECODERS)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"chs_info": None, "n_chans": 32}, "give chs_info"),
        ({"n_chans": 32}, "There are 32 channels .n_chans., and chs_info has 8"),
        ({"n_outputs": None}, "give n_outputs and sfreq"),
        ({"sfreq": None}, "give n_outputs and sfreq"),
        ({"n_times": 200, "sfreq": 250}, "200 samples at 250 Hz are less"),
        ({"sfreq": 127.9999}, "no simple ratio"),
        ({"chs_info": chs_info(["Cz", "EOG left"])}, "EOG LEFT"),
        ({"chs_info": chs_info(["Cz", "cz"])}, "comes twice"),
    ],
)
def test_what_is_missing_or_wrong_is_said_in_a_sentence(cls, given, said):
    with pytest.raises(ValueError, match=said):
        cls(**{"n_outputs": 2, "sfreq": 128, "chs_info": chs_info(), **given})


@pytest.mark.parametrize("cls", DECODERS)
def test_volts_and_microvolts_are_the_same(cls):
    x, y = alpha(64, 0)
    volts, microvolts = (train(network(cls), scale * x, y, 2) for scale in (1, 1e6))
    with torch.no_grad():
        scores = volts(torch.from_numpy(x))
        torch.testing.assert_close(
            microvolts(torch.from_numpy(1e6 * x)), scores, rtol=1e-2, atol=1e-2
        )
    assert scores.std() > 0.05


@pytest.mark.parametrize("cls", DECODERS)
def test_scores_are_the_mean_over_whole_seconds_and_of_each_window_alone(cls):
    x, y = alpha(64, 0)
    net, x = train(network(cls), x, y, 2), torch.from_numpy(x)
    with torch.no_grad():
        seconds = [net(x[..., start : start + 128]) for start in (0, 128)]
        torch.testing.assert_close(net(x), sum(seconds) / 2, rtol=1e-4, atol=1e-5)
        more = torch.cat([x, 9 * x[..., :100]], dim=2)  # of which no second is whole
        torch.testing.assert_close(net(more), net(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(net(x[:1]), net(x)[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sfreq", [100, 160, 200, 250, 256, 500, 1000])
def test_eeg_is_resampled_as_recordings_are(sfreq):
    x = pink(np.random.default_rng(0), 2, 3, 3 * sfreq + 7)
    found = Resampled(sfreq)(torch.from_numpy(x).float())
    wanted = np.stack([resampled(one, sfreq) for one in x])
    np.testing.assert_allclose(found, wanted, atol=2e-4)
    assert Resampled(128)(found) is found


def test_the_published_network_is_given_clipped_z_scores():
    x, y = alpha(64, 0)
    net = train(network(PublishedSASTDecoder), x, y, 1)
    twin = SASTNet(FEW, 2, grid=grid_of(FEW, "colin27_1005"), **SMALL).eval()
    twin.load_state_dict(net.net.state_dict())
    mean, std = x.mean((0, 2), keepdims=True), x.std((0, 2), keepdims=True)
    z = torch.from_numpy(((x - mean) / std).clip(-2.326, 2.326))
    with torch.no_grad():
        wanted = (twin(z[..., :128])[0] + twin(z[..., 128:])[0]) / 2
        torch.testing.assert_close(net(torch.from_numpy(x)), wanted, rtol=0, atol=0.02)


def test_our_network_sees_z_scored_views():
    x = torch.from_numpy(alpha(64, 0)[0])
    net = network(SASTDecoder).train()
    net(x)
    z = (x - x.mean((0, 2), keepdim=True)) / x.std((0, 2), keepdim=True)
    level = net.views.maps.level(torch.cat(z.split(128, dim=2)))  # of which nothing is subtracted
    seen = net.norm.running_mean[: net.views.sizes[0]].reshape(len(FEW), -1)
    n_filters = level.shape[2]
    torch.testing.assert_close(seen[:, :n_filters], level.mean(0), rtol=1e-3, atol=1e-3)
    wanted = level.abs().mean(0)
    torch.testing.assert_close(seen[:, n_filters : 2 * n_filters], wanted, rtol=1e-3, atol=1e-3)


# --- learning


def test_ours_learns_power_whatever_its_phase():
    net = train(network(SASTDecoder), *alpha(256, 0))
    assert accuracy(net, *alpha(256, 1)) > 0.9


def test_the_published_network_learns_a_wave_of_one_phase():
    net = train(network(PublishedSASTDecoder), *alpha(256, 0, locked=True))
    assert accuracy(net, *alpha(256, 1, locked=True)) > 0.9


@pytest.mark.parametrize("cls", DECODERS)
def test_it_learns_nothing_where_there_is_nothing(cls):
    (x, _), (_, y) = alpha(128, 0), alpha(128, 2)
    net = train(network(cls), x, y, 4)
    x, _ = alpha(256, 1)
    assert 0.4 < accuracy(net, x, alpha(256, 3)[1]) < 0.6


@pytest.mark.parametrize("cls", DECODERS)
def test_it_can_be_copied_and_pickled(cls):
    net = train(network(cls), *alpha(64, 0), 1)
    x = torch.from_numpy(alpha(8, 1)[0])
    for other in (deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x), net(x))


def epochs(n: int, seed: int, sfreq: int = 250) -> tuple[mne.EpochsArray, np.ndarray]:
    eeg, y = alpha(n, seed, sfreq, locked=True)
    info = mne.create_info(list(FEW), sfreq, "eeg")
    return mne.EpochsArray(eeg.astype(float), info, verbose="error"), y


@installed
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cls", DECODERS)
def test_it_learns_in_the_classifier_of_braindecode(cls):
    """From Epochs, which say all that it is made with; and from arrays."""
    from braindecode import EEGClassifier

    settings = {
        "max_epochs": 6,
        "batch_size": 32,
        "lr": 2e-3,
        "optimizer": torch.optim.AdamW,
        "train_split": None,
        "verbose": 0,
        **{f"module__{name}": value for name, value in SMALL.items()},
    }
    torch.manual_seed(0)
    (x, y), (other, wanted) = epochs(256, 0), epochs(256, 1)
    fitted = EEGClassifier(cls, **settings).fit(x, y)
    assert fitted.module_.sfreq == 250 and fitted.module_.n_times == 500
    assert (fitted.predict(other) == wanted).mean() > 0.9
    assert np.allclose(fitted.predict_proba(other).sum(1), 1, atol=1e-5)

    named = {"module__sfreq": 250, "module__chs_info": chs_info()}
    fitted = clone(EEGClassifier(cls, **{**settings, **named, "max_epochs": 3}))
    fitted.fit(x.get_data(), y)
    assert (fitted.predict(other.get_data()) == wanted).mean() > 0.8


# --- the guide


def blocks(heading: str) -> list[str]:
    """Return the Python of a section of docs/parts.md."""
    section = (ROOT / "docs" / "parts.md").read_text().partition(f"## {heading}\n")[2]
    return re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], re.S)


@installed
@pytest.mark.filterwarnings("ignore")
def test_the_guides_networks_run():
    x, labels = epochs(64, 0)
    names = {"torch": torch, "epochs": x, "labels": labels}
    for block in blocks("Networks in braindecode and MOABB"):
        exec(block, names)
    assert names["scores"].shape == (8, 2)
    assert names["classifier"].predict(x).shape == (64,)
