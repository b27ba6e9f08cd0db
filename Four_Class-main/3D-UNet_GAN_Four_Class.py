"""Stage 1, four-class: train a generator of EEG, with a 3D U-Net.

Reads   DE_feature/deap/                                the store that preprocess_de.py makes

Writes  runs/four_class/<protocol>/fold<k>/gan/            model.pt, result.json, figures

One generator per fold is the only way to keep the test trials unseen. It sees no class, and folds
do not depend on the task: where another task of --runs-dir has it already, it is taken from there.

It has no critic: only that of --method published has one. Expect EEG with the DE it is generated
from (to 0.03 nats) that the strongest of eight judges tells from real EEG with an AUC of 0.6 to 0.8
per second (benchmarks/GENERATOR.md); with --method published, EEG that was nearly silent after 30
epochs (benchmarks/RESULTS_PUBLISHED.md).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from de3dgan.base.cli import command_line
from de3dgan.base.recipe import Recipe, Threshold


@dataclass(frozen=True)
class Config(Recipe):
    """Every value of this stage; each is a flag."""

    # --- the task (the generator and the folds know nothing of it)
    task: str = "four_class"  # name of the task: the folder below runs/
    ratings: tuple[str, ...] = ("valence", "arousal")  # columns of trials.csv; n make 2^n classes
    threshold: Threshold = "middle"  # above the middle of its scale a rating is high
    class_names: tuple[str, ...] = (  # as figures call them
        "low valence, low arousal",
        "high valence, low arousal",
        "low valence, high arousal",
        "high valence, high arousal",
    )

    # --- where from
    data_dir: Path = Path("DE_feature/deap")  # store that preprocess_de.py made

    # --- the network
    widths: tuple[int, int, int, int] = (8, 16, 32, 64)  # U-Net maps: a quarter of the paper's

    # --- the training
    epochs: int = 30  # passes over the training trials; more only fits their people
    batch_size: int = 8  # 60-s trials per step; published
    lr: float = 1e-3  # AdamW's learning rate
    weight_decay: float = 1e-2  # of AdamW
    ema_decay: float = 0.99  # weights handed over are an EMA of those of about 1 / (1 - this) steps
    gain_sd: float = 0.25  # spread of random gains in training, nats


@dataclass(frozen=True)
class Published(Config):
    """The values of ``--method published``: as in the paper."""

    method: Literal["spectral", "published"] = "published"
    widths: tuple[int, int, int, int] = (32, 64, 128, 256)  # U-Net feature maps
    critic_widths: tuple[int, int, int, int, int] = (256, 128, 64, 32, 16)  # critic's feature maps
    critic_hidden: int = 1024  # units before the critic's score
    epochs: int = 300  # passes over the training trials
    lr: float = 1e-4  # Adam's learning rate for the generator
    critic_lr: float = 1e-5  # Adam's learning rate for the critic
    weight_decay: float = 5e-4  # L2 penalty in Adam, both networks
    critic_every: int = 5  # epochs from one in which the critic steps to the next
    penalty_weight: float = 1.0  # weight of the gradient penalty
    reconstruction_weight: float = 0.5  # weight of the mean squared error


def main(config: Config) -> None:
    """Train on the training split, choose the epoch on validation, measure on the test split."""
    from torch.optim import Adam, AdamW

    from de3dgan.figures.stages import draw_generator
    from de3dgan.models import Discriminator, Generator, SpectralGenerator
    from de3dgan.stages import generators, published_generator, spectral_generator
    from de3dgan.stages.trials import Trials
    from de3dgan.training.run import Run

    with Run.open(config, "gan") as run:
        if run.finished:
            return
        data = Trials(run)
        decay = {"weight_decay": config.weight_decay, "fused": True}
        if config.method == "spectral":
            generator = SpectralGenerator(
                run.store.ch_names, widths=config.widths, grid=run.store.grid
            ).to(run.device)
            optimiser = AdamW(generator.parameters(), config.lr, **decay)
            trained, history, best_epoch = spectral_generator.train(
                run,
                data,
                generator,
                optimiser,
                gain_sd=config.gain_sd,
            )
        else:
            generator = Generator(run.store.ch_names, widths=config.widths, grid=run.store.grid).to(
                run.device
            )
            critic = Discriminator(
                run.store.ch_names,
                widths=config.critic_widths,
                n_hidden=config.critic_hidden,
                grid=run.store.grid,
            ).to(run.device)
            optimisers = {
                "generator": Adam(generator.parameters(), config.lr, **decay),
                "critic": Adam(critic.parameters(), config.critic_lr, **decay),
            }
            trained, history, best_epoch = published_generator.train(
                run,
                data,
                generator,
                critic,
                optimisers,
                critic_every=config.critic_every,
                penalty_weight=config.penalty_weight,
                reconstruction_weight=config.reconstruction_weight,
            )
        result = generators.evaluate(run, data, trained, best_epoch)
        draw_generator(run, trained, data.frames, history, best_epoch)
        run.write_result(**result)


if __name__ == "__main__":
    command_line(main, Config, Published)
