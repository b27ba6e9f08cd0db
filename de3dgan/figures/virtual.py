"""A virtual person's EEG beside that of a person whom the generator has not seen.

python -m de3dgan.figures.virtual --fold-dir runs/demo/workload/subject/fold0
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from de3dgan.base.cli import command_line
from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path, from_root
from de3dgan.figures.eeg import beside
from de3dgan.figures.style import save
from de3dgan.stages import virtual
from de3dgan.stages.generation import load_generator, store_of


@dataclass(frozen=True)
class Config:
    """Which fold, and which person."""

    fold_dir: Path  # runs/<task>/<protocol>/fold<k>
    data_dir: Path | None = None  # store of the generator; default: the one it was trained on
    draw: int = 0  # another number gives another person


def main(config: Config) -> None:
    """Draw it, into ``virtual.png`` of the fold."""
    fold_dir = from_root(config.fold_dir)
    generator = load_generator(fold_dir / "gan" / "model.pt")
    store = store_of(generator, config.data_dir)
    origin = generator.origin
    labels = virtual.labels_of(origin, store)
    classes = origin["settings"]["class_names"]
    tested = np.array(origin["trials"]["test"])
    subjects = np.array(store.columns["subject"])
    for name in dict.fromkeys(subjects[tested].tolist()):
        own = tested[subjects[tested] == name]
        if set(labels[own].tolist()) == set(range(len(classes))):
            break
    else:
        raise UserError(
            f"Nobody in the test split of {display_path(fold_dir)} has a trial of each class: "
            "choose another fold."
        )
    trials = [own[labels[own] == label][0] for label in range(len(classes))]
    population = virtual.population_of(origin, store)
    person = population.person(
        virtual.sampler_of(generator, config.draw),
        range(len(classes)),
        store.n_frames,
        config.draw,
        0,
    )
    settings = origin["settings"]
    figure = beside(
        store.eeg[trials],
        person.eeg,
        store.ch_names,
        classes,
        f"{settings['task']}, protocol {settings['protocol']}, fold {settings['fold']}. Real: "
        f"{name}, of the test split. Virtual: drawn from a prior fitted to the training split.",
    )
    path = save(figure, fold_dir / "virtual.png")
    print(f"A virtual person's EEG beside a real one's: {display_path(path)}")


if __name__ == "__main__":
    command_line(main, Config)
