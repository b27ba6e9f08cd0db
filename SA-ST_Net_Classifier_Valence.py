"""Stage 2, valence: train SA-ST-Net on real EEG to tell low from high valence.

Reads   DE_feature/deap/                                the store that preprocess_de.py makes

Writes  runs/valence/<protocol>/fold<k>/classifier/     model.pt, result.json, predictions, figures

What to expect is not known: no real emotion data was classified here yet. log.txt has the best
simple model beside the network, and the strongest that knows no emotion, as chosen on validation.
Accuracies near 1 belong to the leaky random-frame protocol.

Other networks: --network EEGNet, or any other of braindecode's (make braindecode). They are given
samples and learn more slowly: --lr 1e-3 --epochs 20 suit the small ones. Values of the network
below are SA-ST-Net's. Give each network its own --runs-dir.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[0]))

from de3dgan.base.cli import command_line
from de3dgan.base.recipe import Recipe, Threshold


@dataclass(frozen=True)
class Config(Recipe):
    """Every value of this stage; each is a flag."""

    # --- the task
    task: str = "valence"  # name of the task: the folder below runs/
    ratings: tuple[str, ...] = ("valence",)  # columns of trials.csv; n make 2^n classes
    threshold: Threshold = "middle"  # above the middle of its scale a rating is high
    class_names: tuple[str, ...] = ("low valence", "high valence")  # as figures call them

    # --- where from
    data_dir: Path = Path("DE_feature/deap")  # store that preprocess_de.py made

    # --- the network
    network: str = "SASTNet"  # or one of braindecode's by name, given normalised samples
    widths: tuple[int, int, int, int, int] = (16, 16, 16, 16, 16)  # feature maps of the trunk
    n_features: int = 128  # length of the feature before the classes
    dropout: float = 0.7  # share of the trunk's output dropped in training
    noise: float = 1.0  # standard deviation of noise on normalised log powers in training

    # --- the training
    epochs: int = 8  # parts of `epoch_steps` steps, after each of which it is validated
    epoch_steps: int = 64  # steps of an epoch, however many frames there are
    batch_size: int = 64  # one-second frames per step; published
    lr: float = 3e-4  # AdamW's learning rate
    weight_decay: float = 0.05  # of AdamW
    ema_decay: float = 0.99  # weights handed over are an EMA of those of about 1 / (1 - this) steps
    choose_by: Literal["val_loss", "val_balanced_accuracy"] = "val_loss"  # what chooses the epoch


@dataclass(frozen=True)
class Published(Config):
    """The values of ``--method published``: as in the paper."""

    method: Literal["spectral", "published"] = "published"
    widths: tuple[int, int, int, int, int] = (256, 128, 64, 32, 16)  # feature maps of the trunk
    n_features: int = 1024  # length of the feature before the classes
    dropout: float = 0.5  # share of the trunk's output dropped in training
    epochs: int = 300  # passes over the training frames
    epoch_steps: int = 0  # steps of an epoch: one pass over the training frames
    lr: float = 1e-4  # Adam's
    weight_decay: float = 5e-4  # L2 penalty in Adam
    ema_decay: float = 0.0  # the weights of the last step
    choose_by: Literal["val_loss", "val_balanced_accuracy"] = "val_balanced_accuracy"  # our choice


def main(config: Config) -> None:
    """Train on the training split, choose the epoch on validation, predict the test split once."""
    from torch.optim import Adam, AdamW

    from de3dgan.data.scalers import fit_eeg_scaler
    from de3dgan.figures.stages import draw_classifier
    from de3dgan.models import BraindecodeNet, SASTNet, SpectralSASTNet
    from de3dgan.stages import classifier
    from de3dgan.stages.frame_classifiers import classifier_of
    from de3dgan.training.run import Run

    if config.network != "SASTNet":  # is there such a network? Known before anything is written
        BraindecodeNet(config.network, n_classes=config.n_classes)
    with Run.open(config, "classifier") as run:
        if run.finished:
            return
        frames = run.frames()
        electrodes_and_classes = run.store.ch_names, config.n_classes
        shape = {
            "widths": config.widths,
            "n_features": config.n_features,
            "dropout": config.dropout,
            "grid": run.store.grid,
        }
        if config.network != "SASTNet":
            net = BraindecodeNet(config.network, *electrodes_and_classes)
        elif config.method == "spectral":
            net = SpectralSASTNet(*electrodes_and_classes, noise=config.noise, **shape)
        else:
            net = SASTNet(*electrodes_and_classes, **shape)
        ours = isinstance(net, SpectralSASTNet)  # which is given µV
        scaler = None if ours else fit_eeg_scaler(frames, run.split)
        optimiser_class = AdamW if config.method == "spectral" else Adam
        optimiser = optimiser_class(
            net.parameters(), config.lr, weight_decay=config.weight_decay, fused=True
        )
        trained = classifier_of(net.to(run.device), run.store, run.compute, scaler)
        begun = classifier.start(run, frames, trained)
        loss = classifier.cross_entropy(frames, trained, begun)
        trained, history, best_epoch = classifier.train(
            run, frames, trained, optimiser, loss, config.choose_by, begun
        )
        tested = classifier.evaluate(run, frames, trained, best_epoch, begun.sharpness)
        result, probabilities = tested
        draw_classifier(run, probabilities, history, best_epoch, begun.sharpness)
        run.write_result(**result)


if __name__ == "__main__":
    command_line(main, Config, Published)
