"""The networks: size, shapes, empty cells, and the way to disk and back."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from de3dgan.base.errors import UserError
from de3dgan.eeg.montage import CELLS, DEAP_CHANNELS, Grid
from de3dgan.models import Discriminator, Generator, SASTNet
from de3dgan.models.blocks import ElectrodeGrid
from de3dgan.training import checkpoints
from tests.conftest import run_script
from tests.helpers import EEGMAT_CHANNELS, one_line

MONTAGES = pytest.mark.parametrize("ch_names", [DEAP_CHANNELS, EEGMAT_CHANNELS], ids=["32", "19"])
SMALL = {"widths": (4, 8, 8, 8)}
NARROW = {"widths": (8, 8, 8, 8, 16)}


def small_nets(ch_names=DEAP_CHANNELS, seed=0) -> dict[str, torch.nn.Module]:
    torch.manual_seed(seed)
    return {
        "generator": Generator(ch_names, **SMALL),
        "critic": Discriminator(ch_names, **NARROW, n_hidden=16),
        "classifier": SASTNet(ch_names, **NARROW, n_features=16),
    }


def input_of(name: str, n_chans: int, n: int = 2, seed: int = 0) -> torch.Tensor:
    shape = (n, 4, 16, n_chans) if name == "generator" else (n, n_chans, 128)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def output(net, x) -> torch.Tensor:
    """Return all outputs of a network as one vector."""
    y = net(x)
    return torch.cat([part.flatten() for part in (y if isinstance(y, tuple) else (y,))])


def empty_cells(ch_names) -> torch.Tensor:
    """Return a mask (8, 9) of cells that hold no electrode."""
    mask = torch.ones(72, dtype=torch.bool)
    mask[[CELLS[name] for name in ch_names]] = False
    return mask.view(8, 9)


# --- Size and shape ----------------------------------------------------------------------------


@MONTAGES
@pytest.mark.parametrize(
    ("make", "n"),
    [
        (Generator, 5_694_049),
        (Discriminator, 2_523_015),
        (SASTNet, 2_524_040),
        (lambda names: SASTNet(names, n_classes=4), 2_526_090),
    ],
)
def test_networks_have_the_published_number_of_parameters(make, n, ch_names):
    assert sum(p.numel() for p in make(ch_names).parameters()) == n


@MONTAGES
def test_the_generator_makes_a_minute_from_either_input(ch_names):
    torch.manual_seed(0)
    net = Generator(ch_names).eval()
    cells = [CELLS[name] for name in ch_names]
    de = torch.randn(2, 4, 120, len(ch_names))
    grid = torch.zeros(2, 4, 120, 72)
    grid[..., cells] = de
    with torch.inference_mode():
        frames, frames_from_grid, eeg = net(de), net(grid.view(2, 4, 120, 8, 9)), net.generate(de)
    assert frames.shape == (2, 60, 128, 8, 9)
    torch.testing.assert_close(frames_from_grid, frames, rtol=0, atol=0)
    assert eeg.shape == (2, len(ch_names), 7680)
    # Sample t of an electrode is sample t % 128 of frame t // 128 in its cell.
    for channel, cell in enumerate(cells):
        expected = frames[:, :, :, cell // 9, cell % 9].reshape(2, 7680)
        torch.testing.assert_close(eeg[:, channel], expected, rtol=0, atol=0)


@MONTAGES
def test_the_critic_and_the_classifier_take_either_input(ch_names):
    cells = [CELLS[name] for name in ch_names]
    x = torch.randn(3, len(ch_names), 128, generator=torch.Generator().manual_seed(0))
    grid = torch.zeros(3, 128, 72)
    grid[..., cells] = x.transpose(1, 2)
    grid = grid.view(3, 128, 8, 9)
    critic = Discriminator(ch_names).eval()
    assert critic(x).shape == (3,)
    torch.testing.assert_close(critic(grid), critic(x))
    for n_classes in (2, 4):
        net = SASTNet(ch_names, n_classes).eval()
        logits, feature = net(x)
        assert (logits.shape, feature.shape) == ((3, n_classes), (3, 1024))
        torch.testing.assert_close(net.head(feature), logits)
        torch.testing.assert_close(net(grid)[0], logits)


# --- Gradients and empty cells -----------------------------------------------------------------


@MONTAGES
@pytest.mark.parametrize("name", ["generator", "critic", "classifier"])
def test_every_parameter_learns(name, ch_names):
    # Some weights start behind a ReLU that is off, but none behind one that never is on.
    stuck = []
    for seed in range(3):
        net = small_nets(ch_names, seed)[name].train()
        y = output(net, input_of(name, len(ch_names), n=4))
        weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
        (y * weights).sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in net.parameters())
        stuck.append({n for n, p in net.named_parameters() if not p.grad.abs().sum() > 0})
    assert set.intersection(*stuck) == set()


@MONTAGES
@pytest.mark.parametrize("train", [True, False])
def test_generated_frames_are_zero_in_empty_cells_and_only_there(ch_names, train):
    net = small_nets(ch_names)["generator"].train(train)
    torch.nn.init.ones_(net.head.bias)
    frames = net(input_of("generator", len(ch_names)))
    empty = empty_cells(ch_names)
    assert (frames[..., empty] == 0).all()
    assert (frames[..., ~empty] != 0).all()


@MONTAGES
@pytest.mark.parametrize("name", ["generator", "critic", "classifier"])
def test_what_lies_in_empty_cells_has_no_effect(name, ch_names):
    net = small_nets(ch_names)[name].eval()
    shape = (2, 4, 16, 8, 9) if name == "generator" else (2, 128, 8, 9)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    empty = empty_cells(ch_names)
    y = output(net, x)
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    assert (gradient[..., empty] == 0).all()
    assert (gradient[..., ~empty] != 0).any(0).any(0).all()
    garbage = torch.where(empty, torch.full_like(x, 1e6), x)
    torch.testing.assert_close(output(net, garbage), y, rtol=0, atol=0)


@MONTAGES
def test_the_pooled_head_is_the_papers_interpolation(ch_names):
    """The paper applies the head to all 120 half-seconds, then interpolates to 60 linearly."""
    net = small_nets(ch_names)["generator"].eval()
    net.gain.data.fill_(1.7)
    de = torch.randn(2, 4, 120, len(ch_names), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        stft = net.head(net.unet(net.grid.scatter(de)))  # (2, 128, 120, 8, 9)
        options = {"mode": "trilinear", "align_corners": False}
        seconds = F.interpolate(stft, size=(60, 8, 9), **options)
        expected = 1.7 * seconds.transpose(1, 2) * ~empty_cells(ch_names)
        torch.testing.assert_close(net(de), expected, rtol=0, atol=1e-5)


@settings(max_examples=50)
@given(st.permutations(DEAP_CHANNELS), st.integers(1, 32), st.booleans())
def test_electrodes_come_back_from_the_grid(names, n, lower):
    names = [name.lower() if lower else name for name in names[:n]]
    grid = ElectrodeGrid(Grid.paper(names))
    x = 1 + torch.rand(2, 3, n)
    placed = grid.scatter(x)
    assert placed.shape == (2, 3, 8, 9)
    torch.testing.assert_close(grid.gather(placed), x, rtol=0, atol=0)
    for channel, name in enumerate(names):
        row, column = divmod(CELLS[name.upper()], 9)
        assert torch.equal(placed[..., row, column], x[..., channel])
    assert (placed != 0).sum() == x.numel()


def test_the_order_of_channels_is_only_a_naming():
    """A network with the same weights and its channels in another order gives the same."""
    order = np.random.default_rng(0).permutation(32)
    shuffled = [DEAP_CHANNELS[i] for i in order]
    for (name, net), other in zip(small_nets().items(), small_nets(shuffled).values(), strict=True):
        x = input_of(name, 32)
        y = x[..., order] if name == "generator" else x[:, order]
        torch.testing.assert_close(
            output(other.eval(), y), output(net.eval(), x), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize("name", ["generator", "critic", "classifier"])
def test_in_eval_mode_a_trial_does_not_depend_on_chance_or_on_the_others(name):
    net = small_nets()[name].eval()
    x = input_of(name, 32, n=3)
    y = output(net, x)
    assert torch.equal(output(net, x), y)
    alone = torch.cat([output(net, one[None]).view(1, -1) for one in x])
    together = y.view(3, -1) if name != "classifier" else torch.cat(net(x), dim=1)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


def test_dropout_is_at_work_in_training_only():
    net = small_nets()["classifier"]
    x = input_of("classifier", 32)
    assert not torch.equal(net.train()(x)[0], net(x)[0])
    assert torch.equal(net.eval()(x)[0], net(x)[0])


# --- Checkpoints -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["generator", "critic", "classifier"])
@MONTAGES
def test_a_network_is_the_same_after_a_checkpoint(name, ch_names, tmp_path):
    net = small_nets(ch_names)[name].train()
    x = input_of(name, len(ch_names), n=4)
    output(net, x).sum().backward()  # moves the running statistics of batch normalisation
    checkpoints.save(tmp_path / "model.pt", {**checkpoints.module_content(net), "note": [1, "a"]})
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    content = checkpoints.load(tmp_path / "model.pt", "train it again")
    assert content["note"] == [1, "a"]
    again = checkpoints.rebuild(content, torch.device("cpu"))
    assert type(again) is type(net) and again.arguments == net.arguments
    assert not again.training
    assert again.state_dict().keys() == net.state_dict().keys()
    assert all(
        torch.equal(value, again.state_dict()[key]) for key, value in net.state_dict().items()
    )
    assert torch.equal(output(again, x), output(net.eval(), x))


def test_a_checkpoint_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"format": checkpoints.FORMAT, "weights": Evil()}, tmp_path / "zip.pt")
    with open(tmp_path / "plain.pt", "wb") as file:
        pickle.dump({"format": checkpoints.FORMAT, "weights": Evil()}, file)
    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(UserError, match="train it again"):
            checkpoints.load(tmp_path / name, "train it again")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", ["text", "empty", "truncated", "other format", "list"])
def test_what_is_no_checkpoint_is_refused_in_one_line(damage, tmp_path):
    path = tmp_path / "model.pt"
    if damage == "text":
        path.write_text("hello\n")
    elif damage == "list":
        torch.save([1, 2], path)
    else:
        checkpoints.save(path, {"x": torch.zeros(1000)})
        if damage == "other format":
            torch.save({"format": 99}, path)
        else:
            path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else 3000])
    with pytest.raises(UserError) as error:
        checkpoints.load(path, "train it again")
    message = one_line(error)
    assert "model.pt" in message and "train it again" in message


def test_weights_of_another_network_are_refused():
    nets = small_nets()
    content = checkpoints.module_content(nets["classifier"])
    content["arguments"] = {**content["arguments"], "n_classes": 4}
    with pytest.raises(RuntimeError, match="size mismatch"):
        checkpoints.rebuild(content, torch.device("cpu"))


def test_networks_import_nothing_beyond_the_training_core():
    code = (
        "import sys, de3dgan.models, de3dgan.training.checkpoints, de3dgan.training.losses, "
        "de3dgan.eeg.de\nheavy = {'mne', 'matplotlib', 'tyro', 'tensorboard', 'pandas'} & "
        "set(sys.modules)\nassert not heavy, heavy"
    )
    done = run_script("-c", code)
    assert done.returncode == 0, done.stderr
