"""Stage 1, the paper's method: a U-Net that learns samples, with a critic (WGAN-GP)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from de3dgan.base import draws
from de3dgan.eeg.de import BANDS, trial_de
from de3dgan.eeg.sampling import FRAME, WINDOW
from de3dgan.models import Discriminator, Generator
from de3dgan.stages.generation import PublishedSampler
from de3dgan.stages.trials import BATCHES, N_VAL_TRIALS, Trials, spread
from de3dgan.training import loop
from de3dgan.training.losses import critic_loss
from de3dgan.training.run import Run


def train(
    run: Run,
    data: Trials,
    generator: Generator,
    critic: Discriminator,
    optimisers: dict[str, Optimizer],
    *,
    critic_every: int,
    penalty_weight: float,
    reconstruction_weight: float,
) -> tuple[PublishedSampler, list[dict[str, float]], int]:
    """Train the published generator: 0.5 · MSE to real EEG and, when the critic steps, its score.

    The critic steps on every `critic_every`-th epoch, the first included. On the epochs between it
    is not computed: the generator then learns from the reconstruction alone.

    Validation is the DE round trip: the mean absolute difference, in nats, between the DE of
    generated EEG and the DE it was generated from.

    Returns
    -------
    generator : PublishedSampler
        With the weights of the chosen epoch.
    history : list of dict
    best_epoch : int
    """
    split = run.split
    data.normalise()
    trained = PublishedSampler(generator, run.compute, data.scalers)
    example = torch.zeros(1, len(BANDS), split.n_frames * FRAME // WINDOW, *run.store.grid.shape)
    run.compute.compiled(generator.unet, example.to(run.device), run.log)
    train_trials, val_trials = split.trials("train"), spread(split.trials("val"), N_VAL_TRIALS)

    def train_step(epoch: int, trials: np.ndarray) -> dict[str, Tensor]:
        de, real, kept = data.batch(trials)
        with run.compute.autocast():
            generated = to_frames(generator.generate(de).float())[kept]
        reconstruction = F.mse_loss(generated, real)
        loss = reconstruction_weight * reconstruction
        losses = {}
        if epoch % critic_every == 0:
            n_frames = len(trials) * split.n_frames
            ratio = draws.rows(lambda n: torch.rand(n, device=run.device), n_frames)[kept]
            with run.compute.autocast():
                critic_term, gap = critic_loss(
                    critic, real, generated.detach(), penalty_weight, ratio
                )
            loop.step(optimisers["critic"], critic_term, len(real))
            with run.compute.autocast():
                score = critic(generated).float().mean()
            loss = loss - score
            losses = {"critic_gap": gap, "generated_score": score}
        loop.step(optimisers["generator"], loss, len(real))
        return {**losses, "reconstruction": reconstruction}

    def validate() -> dict[str, float]:
        de = data.frames.absolute_de(val_trials)
        return {"val_de_mae": float(np.abs(trial_de(trained(de, val_trials)) - de).mean())}

    history, best_epoch = loop.fit(
        run,
        {"generator": generator, "critic": critic},
        optimisers,
        train_trials,
        BATCHES,
        train_step,
        validate,
        handed_over="generator",
        artefacts=["generator", "critic"],
        monitor="val_de_mae",
        higher_is_better=False,
    )
    return trained, history, best_epoch


def to_frames(eeg: Tensor) -> Tensor:
    """Cut EEG (B, n_chans, n_times) into frames (B · n_frames, n_chans, FRAME)."""
    return eeg.unflatten(2, (-1, FRAME)).transpose(1, 2).flatten(0, 1)
