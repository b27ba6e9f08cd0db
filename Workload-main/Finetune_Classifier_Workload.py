"""Stage 3, workload: fine-tune the classifier on real EEG and EEG generated from the same DE.

Reads   DE_feature/eegmat/                              the store that preprocess_de.py makes

Reads   runs/workload/<protocol>/fold<k>/gan/            the generator of stage 1

Reads   runs/workload/<protocol>/fold<k>/classifier/     the classifier of stage 2

Writes  runs/workload/<protocol>/fold<k>/finetune/       model.pt, result.json, predictions, figures

Expect little change from stage 2, as benchmarks/RESULTS.md has it: compare the two result.json, and
those of the controls (--augmentation).
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

    # --- the task
    task: str = "workload"  # name of the task: the folder below runs/
    ratings: tuple[str, ...] = ("arithmetic",)  # columns of trials.csv; n make 2^n classes
    threshold: Threshold = "middle"  # above the middle of its scale a rating is high
    class_names: tuple[str, ...] = ("rest", "arithmetic")  # as figures call them

    # --- where from
    data_dir: Path = Path("DE_feature/eegmat")  # store that preprocess_de.py made

    # --- the training
    epochs: int = 4  # parts of `epoch_steps` steps, after each of which it is validated
    epoch_steps: int = 64  # steps of an epoch, however many frames there are
    batch_size: int = 64  # one-second frames per step, real, and as many generated; published
    lr: float = 1e-4  # AdamW's learning rate
    weight_decay: float = 0.05  # of AdamW
    ema_decay: float = 0.99  # weights handed over are an EMA of those of about 1 / (1 - this) steps
    choose_by: Literal["val_loss", "val_balanced_accuracy"] = "val_loss"  # what chooses the epoch
    # what is paired with real EEG; all but "generated" are controls: docs/evaluation.md
    augmentation: Literal[
        *("generated", "none", "real", "jitter", "noise", "surrogate", "shuffled", "people"),
        *("virtual", "virtual_noise"),
    ] = "generated"
    jitter: float = 0.8  # of "jitter": noise on normalised input, as far as generated EEG is
    more_groups: int = 0  # of "people": how many that --train-groups leaves out; 0: all of them
    virtual_people: int = 20  # of "virtual": how many, each with a trial of every class
    label_weight: float = 1.0  # weight of its cross entropy, that of real EEG being 1
    consistency_weight: float = 0.0  # weight of the features' distance


@dataclass(frozen=True)
class Published(Config):
    """The values of ``--method published``: as in the paper."""

    method: Literal["spectral", "published"] = "published"
    epochs: int = 300  # passes over the training frames
    epoch_steps: int = 0  # steps of an epoch: one pass over the training frames
    lr: float = 1e-5  # Adam's
    weight_decay: float = 5e-4  # L2 penalty in Adam
    ema_decay: float = 0.0  # the weights of the last step
    choose_by: Literal["val_loss", "val_balanced_accuracy"] = "val_balanced_accuracy"  # our choice
    label_weight: float = 0.0  # only real EEG has labels
    consistency_weight: float = 0.5  # weight of the features' distance


def main(config: Config) -> None:
    """Go on from stage 2's classifier with stage 1's EEG, on the same split."""
    from torch.optim import Adam, AdamW

    from de3dgan.figures.stages import draw_classifier
    from de3dgan.stages import augmentation, classifier
    from de3dgan.stages.frame_classifiers import FrameClassifier
    from de3dgan.training.run import Run

    control = None if config.augmentation == "generated" else config.augmentation
    needs = augmentation.upstream(config.augmentation)
    with Run.open(config, "finetune", needs=needs, variant=control) as run:
        if run.finished:
            return
        trained = FrameClassifier.from_content(run.upstream["classifier"], run.store, run.compute)
        optimiser_class = AdamW if config.method == "spectral" else Adam
        optimiser = optimiser_class(
            trained.net.parameters(), config.lr, weight_decay=config.weight_decay, fused=True
        )
        frames = run.frames()
        with augmentation.paired_eeg(run, frames) as paired:
            begun = classifier.start(run, frames, trained, paired, config.label_weight)
            loss = classifier.paired_loss(
                run,
                frames,
                paired,
                trained,
                config.label_weight,
                config.consistency_weight,
                begun,
            )
            trained, history, best_epoch = classifier.train(
                run, frames, trained, optimiser, loss, config.choose_by, begun
            )
        tested = classifier.evaluate(run, frames, trained, best_epoch, begun.sharpness)
        result, probabilities = tested
        draw_classifier(run, probabilities, history, best_epoch, begun.sharpness)
        run.write_result(**result)


if __name__ == "__main__":
    command_line(main, Config, Published)
