"""Stage 3, arousal: fine-tune the classifier on real EEG and EEG generated from the same DE.

Reads   DE_feature/deap/                                the store that preprocess_de.py makes

Reads   runs/arousal/<protocol>/fold<k>/gan/            the generator of stage 1

Reads   runs/arousal/<protocol>/fold<k>/classifier/     the classifier of stage 2

Writes  runs/arousal/<protocol>/fold<k>/finetune/       model.pt, result.json, predictions, figures

Expect little change from stage 2 with the published objective; compare the two result.json.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from de3dgan.cli import command_line


@dataclass(frozen=True)
class Config:
    """Every value of this stage; each is a flag."""

    # --- the task
    task: str = "arousal"  # name of the task: the folder below runs/
    ratings: tuple[str, ...] = ("arousal",)  # columns of trials.csv; n make 2^n classes
    threshold: float = 5.0  # a rating above this is "high"; 5 is the middle of DEAP's 1-9
    class_names: tuple[str, ...] = ("low arousal", "high arousal")  # as figures call them

    # --- where and on whom
    data_dir: Path = Path("DE_feature/deap")  # store that preprocess_de.py made
    runs_dir: Path = Path("runs")  # where results go, and where stages 1 and 2 left theirs
    protocol: Literal["trial", "video", "subject", "window"] = "trial"  # see README
    fold: int = 0  # which fifth is tested on, 0 to 4
    seed: int = 520  # draws the folds and the batches; published: 520
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: a GPU if there is one
    restart: bool = False  # begin anew instead of going on

    # --- the training
    epochs: int = 300  # passes over the training frames; published
    batch_size: int = 64  # one-second frames per step, real, and as many generated; published
    lr: float = 1e-5  # Adam's learning rate; published
    weight_decay: float = 5e-4  # L2 penalty in Adam; published
    # what is set beside real EEG; all but "generated" are controls, see README
    augmentation: Literal["generated", "none", "noise", "surrogate", "shuffled"] = "generated"
    consistency_weight: float = 0.5  # weight of the features' distance; published


def main(config: Config) -> None:
    """Go on from stage 2's classifier with stage 1's EEG, on the same split."""
    from torch.optim import Adam

    from de3dgan import augmentation, checkpoints, classifier
    from de3dgan.generation import TrainedGenerator
    from de3dgan.normalisation import RobustScaler
    from de3dgan.run import Run

    control = None if config.augmentation == "generated" else config.augmentation
    run = Run.open(config, "finetune", needs=("gan", "classifier"), variant=control)
    if run.finished:
        return
    generator = TrainedGenerator.from_content(run.upstream["gan"], run.device)
    net = checkpoints.rebuild(run.upstream["classifier"], run.device)
    scaler = RobustScaler(**run.upstream["classifier"]["eeg_scaler"])
    optimiser = Adam(net.parameters(), config.lr, weight_decay=config.weight_decay)
    frames = run.frames()
    with augmentation.augmented_frames(run, frames, generator, config.augmentation) as second:
        loss = classifier.with_second(frames, second, scaler, net, config.consistency_weight)
        history, best_epoch = classifier.train(run, frames, scaler, net, optimiser, loss)
    classifier.finish(run, frames, scaler, net, history, best_epoch)


if __name__ == "__main__":
    command_line(main, Config)
