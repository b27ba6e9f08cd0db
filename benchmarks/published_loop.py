"""The training steps as the published code writes them, which ours are timed against.

They train this repository's own networks, with the same batch size and widths. What differs is how
it is done:

- feature maps contiguous rather than channels last, and PyTorch's own transposed convolution; in
  float32, as published, or in the precision of whatever `torch.autocast` it is called in;
- the generator's head at all 120 half-seconds and all 72 cells of the grid, halved in time after;
- EEG gathered in NumPy, and copied from there; in stage 1, it and DE are normalised by the
  statistics of each batch, in the other two EEG is given as it is;
- losses fetched from the device after each step;
- the critic's loss, gradient penalty included, computed in every step, and thrown away in the four
  of five epochs in which the critic rests; its score in the generator's loss in all of them.

In the last point the losses differ as well: ours leaves the score out where the critic rests. Where
the published code can be read in two ways otherwise, it is given the faster one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from de3dgan.data.store import Store
from de3dgan.eeg.montage import GRID_SHAPE, grid_cells
from de3dgan.eeg.sampling import FRAME
from de3dgan.eeg.scaling import RobustScaler
from de3dgan.models import Discriminator, Generator, SASTNet
from de3dgan.models.blocks import ElectrodeGrid, SpatioTemporalTrunk, UNet3d
from de3dgan.training.losses import consistency_loss

_N_CELLS = GRID_SHAPE[0] * GRID_SHAPE[1]

#: Takes a step in an epoch, counted from 0, on trials or frames by number; returns its losses.
Step = Callable[[int, np.ndarray], dict[str, float]]


class HostBatches:
    """Batches of a store on the grid, made by NumPy and normalised by their own statistics."""

    def __init__(self, store: Store, labels: np.ndarray, device: torch.device):
        self.store, self.labels, self.device = store, labels, device
        self.cells = np.array(grid_cells(store.ch_names))

    def trials(self, trials: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return DE, (B, n_bands, n_windows, 8, 9), and EEG frames, (B · n_frames, FRAME, 8, 9)."""
        eeg = self.store.eeg[trials].reshape(len(trials), len(self.cells), -1, FRAME)
        frames = eeg.transpose(0, 2, 3, 1).reshape(-1, FRAME, len(self.cells))
        return self._de(self.store.absolute_de(trials)), self._eeg(frames)

    def frames(self, numbers: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return EEG frames in µV, (N, FRAME, 8, 9), and their labels, (N,)."""
        trial, second = np.divmod(numbers, self.store.n_frames)
        seconds = self.store.eeg.reshape(self.store.n_trials, len(self.cells), -1, FRAME)
        frames = seconds[trial, :, second].transpose(0, 2, 1)
        return self._on_grid(frames), torch.from_numpy(self.labels[trial]).to(self.device)

    def _eeg(self, frames: np.ndarray) -> Tensor:
        frames = np.ascontiguousarray(frames)
        scaler = RobustScaler.fit(frames.ravel())
        return self._on_grid((frames.clip(scaler.low, scaler.high) - scaler.mean) / scaler.std)

    def _de(self, de: np.ndarray) -> Tensor:
        scaler = RobustScaler.fit(de.swapaxes(0, 1).reshape(de.shape[1], -1))
        low, high, mean, std = (
            np.array(values)[:, None, None]
            for values in (scaler.low, scaler.high, scaler.mean, scaler.std)
        )
        return self._on_grid((de.clip(low, high) - mean) / std)

    def _on_grid(self, x: np.ndarray) -> Tensor:
        grid = np.zeros((*x.shape[:-1], _N_CELLS), np.float32)
        grid[..., self.cells] = x
        return torch.from_numpy(grid.reshape(*x.shape[:-1], *GRID_SHAPE)).to(self.device)


def generate(generator: Generator, de: Tensor) -> Tensor:
    """Do what the generator's `forward` does, the head before the halving of time.

    Maps DE, (B, n_bands, n_windows, 8, 9), to frames, (B · n_windows / 2, FRAME, 8, 9).
    """
    eeg = generator.head(_unet(generator.unet, de))
    eeg = F.interpolate(eeg, size=(de.shape[2] // 2, *GRID_SHAPE), mode="trilinear")
    eeg = eeg * generator.gain * _mask(generator.grid)
    return eeg.transpose(1, 2).flatten(0, 1)


def score(critic: Discriminator, frames: Tensor) -> Tensor:
    """Return the critic's score, (N,), of frames (N, FRAME, 8, 9)."""
    return critic.score(_trunk(critic.trunk, frames))[:, 0]


def classify(net: SASTNet, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and features of frames (N, FRAME, 8, 9)."""
    feature = net.feature(_trunk(net.trunk, frames))
    return net.head(feature), feature


def critic_loss(
    critic: Discriminator, real: Tensor, generated: Tensor, penalty_weight: float
) -> Tensor:
    """Return the critic's WGAN-GP loss of frames (N, FRAME, 8, 9), `generated` detached."""
    gap = score(critic, real).mean() - score(critic, generated).mean()
    ratio = torch.rand(len(real), 1, 1, 1, device=real.device)
    mixed = (ratio * real + (1 - ratio) * generated).requires_grad_()
    (gradient,) = torch.autograd.grad(score(critic, mixed).sum(), mixed, create_graph=True)
    gradient = gradient * _mask(critic.trunk.grid)  # by electrodes; empty cells are never mixed
    penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty_weight * penalty - gap


def gan_step(
    batches: HostBatches, generator: Generator, critic: Discriminator, config: Any
) -> Step:
    """Return the step of stage 1 on trials, which trains networks in place by a script's recipe."""
    _as_published(generator, critic)
    of_generator = Adam(generator.parameters(), config.lr, weight_decay=config.weight_decay)
    of_critic = Adam(critic.parameters(), config.critic_lr, weight_decay=config.weight_decay)

    def step(epoch: int, trials: np.ndarray) -> dict[str, float]:
        critic_steps = epoch % config.critic_every == 0
        de, real = batches.trials(trials)
        generated = generate(generator, de)
        loss_of_critic = critic_loss(critic, real, generated.detach(), config.penalty_weight)
        if critic_steps:
            _step(of_critic, loss_of_critic)
        # Of electrodes only: empty cells are zero in both.
        reconstruction = F.mse_loss(generated, real) * _N_CELLS / len(batches.cells)
        # The score is in the generator's loss in every epoch; ours leaves it out where the critic
        # rests.
        adversarial = -score(critic, generated).mean()
        loss = config.reconstruction_weight * reconstruction + adversarial
        _step(of_generator, loss)
        return {"critic": loss_of_critic.item(), "generator": loss.item()}

    return step


def classifier_step(batches: HostBatches, net: SASTNet, config: Any) -> Step:
    """Return the step of stage 2 on frames."""
    _as_published(net)
    optimiser = Adam(net.parameters(), config.lr, weight_decay=config.weight_decay)

    def step(_: int, numbers: np.ndarray) -> dict[str, float]:
        real, labels = batches.frames(numbers)
        logits, _ = classify(net, real)
        loss = F.cross_entropy(logits, labels)
        _step(optimiser, loss)
        return {"loss": loss.item()}

    return step


def finetune_step(batches: HostBatches, net: SASTNet, generator: Generator, config: Any) -> Step:
    """Return the step of stage 3 on frames, whose generated EEG is made before, all at once."""
    _as_published(net, generator)
    generator.eval()
    optimiser = Adam(net.parameters(), config.lr, weight_decay=config.weight_decay)
    with torch.no_grad():
        made = [
            generate(generator, batches.trials(np.array([trial]))[0]).float().cpu()
            for trial in range(batches.store.n_trials)
        ]
    paired = torch.cat(made)

    def step(_: int, numbers: np.ndarray) -> dict[str, float]:
        real, labels = batches.frames(numbers)
        generated = paired[torch.from_numpy(numbers)].to(batches.device)
        of_real, of_generated = classify(net, real), classify(net, generated)
        logits, features = (torch.cat(pair) for pair in zip(of_real, of_generated, strict=True))
        entropy, distance = consistency_loss(logits, features, labels)
        loss = entropy + config.consistency_weight * distance
        _step(optimiser, loss)
        return {"cross_entropy": entropy.item(), "feature_distance": distance.item()}

    return step


def _as_published(*nets: nn.Module) -> None:
    for net in nets:
        net.to(torch.float32, memory_format=torch.contiguous_format).train()


def _step(optimiser: Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _mask(grid: ElectrodeGrid) -> Tensor:
    """Return 1 where there is an electrode, 0 elsewhere, (8, 9)."""
    return grid.scatter(torch.ones(len(grid.cells), device=grid.cells.device))


def _trunk(trunk: SpatioTemporalTrunk, frames: Tensor) -> Tensor:
    return trunk.attention(trunk.convs(frames)).flatten(1)


def _unet(unet: UNet3d, x: Tensor) -> Tensor:
    skips = []
    for depth, block in enumerate(unet.down):
        x = block(unet.pool(x) if depth else x)
        skips.append(x)
    skips.pop()
    for grow, block in zip(unet.grow, unet.up, strict=True):
        x = block(torch.cat([nn.ConvTranspose3d.forward(grow, x), skips.pop()], dim=1))
    return x
