"""Generate EEG with a trained generator and write it for other programs.

Reads   runs/<task>/<protocol>/fold<k>/gan/     the generator of stage 1

Reads   DE_feature/<source>/                    the store it was trained on, for the trials' DE

Writes  --out                                   MNE FIF, EDF or DEAP's .dat, by extension

Trials of the generator's own training split are EEG it has learnt from; what it does for new EEG is
seen on test trials. The file says which is which.

Networks compute in float32 here, whatever they were trained in: the file is the same everywhere but
for its last digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from de3dgan.base.cli import command_line
from de3dgan.base.recipe import Protocol


@dataclass(frozen=True)
class Config:
    """Which generator, for which trials, into which file."""

    task: str  # task of the generator: valence, arousal, four_class, workload or your own
    out: Path  # file to write: .fif, .edf or, with DEAP's 32 electrodes, .dat (named sNN.dat)
    trials: tuple[int, ...] = (0,)  # rows of the store's trials.csv
    draw: int = 0  # another number gives other EEG with the same DE
    fold: int = 0  # fold of the generator
    protocol: Protocol = "trial"  # protocol of the generator
    person: str | None = None  # of protocol within: whose generator
    data_dir: Path | None = None  # store of the trials; default: the one it was trained on
    runs_dir: Path = Path("runs")  # where the stage scripts put their results
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: a GPU if there is one


def main(config: Config) -> None:
    """Load the generator, generate, write."""
    import numpy as np

    from de3dgan.base.errors import UserError
    from de3dgan.base.files import differences
    from de3dgan.base.paths import display_path, from_root
    from de3dgan.data.export import write_eeg
    from de3dgan.stages.generation import load_generator, store_of
    from de3dgan.training.device import device_of

    if config.draw < 0:
        raise UserError(f"--draw must be at least 0, and {config.draw} is not.")
    if (config.protocol == "within") != bool(config.person):
        raise UserError(
            "Protocol within, and no other, has a generator for each person: give --person with it."
        )
    study_dir = from_root(config.runs_dir) / config.task / config.protocol / (config.person or "")
    path = study_dir / f"fold{config.fold}" / "gan" / "model.pt"
    generator = load_generator(path, device_of(config.device))
    wanted = {name: getattr(config, name) for name in ("task", "protocol", "person", "fold")}
    settings = generator.origin["settings"]
    changed = differences({name: settings[name] for name in wanted}, wanted)
    if changed:
        raise UserError(
            f"{display_path(path)} is of another fold or task than its folder: it differs in "
            f"{', '.join(changed)}: put it where it belongs, or train a generator there with "
            "the 3D-UNet_GAN script and --restart."
        )
    store = store_of(generator, config.data_dir)
    trials = np.array(store.checked_trials(config.trials))
    eeg = generator(store.absolute_de(trials), trials, config.draw)
    write_eeg(
        config.out,
        eeg,
        store.ch_names,
        names=[
            f"generated from trial {trial} ({generator.part_of(trial)} split): "
            f"{store.columns['subject'][trial]}, {store.columns['stimulus'][trial]}"
            for trial in trials
        ],
        ratings={name: store.rating(name)[trials] for name in store.ratings},
        baseline=store.baseline[store.baseline_index[trials]],
        montage=store.manifest["montage"],
    )
    print(
        f"{display_path(config.out)}: {len(trials)} trials, {len(store.ch_names)} channels, µV, "
        "128 Hz."
    )


if __name__ == "__main__":
    command_line(main, Config)
