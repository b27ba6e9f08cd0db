"""Generate EEG with a trained generator and write it for other programs.

Reads   runs/<task>/<protocol>/fold<k>/gan/     the generator of stage 1

Reads   DE_feature/<source>/                    the store it was trained on

Reads   pretrained/<name>/                      or, with --pretrained, neither of these

Writes  --out                                   MNE FIF (recording, or -epo.fif: epochs), EDF or
                                                DEAP's .dat, by extension; or a folder: a store, on
                                                which all stages run

There are two ways. Without `--people`, EEG is generated from the DE of the store's `--trials`.
Trials of the generator's own training split are EEG it has learnt from; what it does for new EEG is
seen on test trials. The file says which is which.

With `--people`, it is EEG of people who were never recorded, from nothing but a class. Their DE,
baselines included, is drawn from a prior that is fitted to the people of the generator's training
split. Such people look like those, and tell nothing that was not in them. With `--pretrained
eegmat`, which comes with the repository, this needs no training and no recordings; its model card,
pretrained/eegmat/CARD.md, says what such EEG is worth.

Networks compute in float32 here, whatever they were trained in: the file is the same everywhere but
for its last digits.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from de3dgan.base.cli import command_line
from de3dgan.base.recipe import Protocol

if TYPE_CHECKING:
    from de3dgan.data.store import Store
    from de3dgan.stages.generation import TrainedGenerator
    from de3dgan.stages.virtual import Population


@dataclass(frozen=True)
class Config:
    """Which generator, for which trials or people, and where to."""

    # file to write: .fif, -epo.fif, .edf or, with DEAP's 32 electrodes, .dat (named sNN.dat); of
    # people a folder, too
    out: Path
    # task of the generator: valence, arousal, four_class, workload or your own
    task: str | None = None
    pretrained: str | None = None  # or one that comes with the repository, eegmat, or its folder
    # rows of the store's trials.csv (default: 0); of people, one number: trials of each class
    # (default: 1)
    trials: tuple[int, ...] | None = None
    people: int = 0  # so many virtual people; 0: EEG from the DE of the store's trials
    # of people: name of a class, such as "high valence"; default: all
    class_: Annotated[str | None, tyro.conf.arg(name="class")] = None
    seconds: int = 0  # of people: length of a trial; 0: as those that were trained on
    draw: int = 0  # another number gives other EEG with the same DE, and other people
    fold: int = 0  # fold of the generator
    protocol: Protocol = "trial"  # protocol of the generator
    person: str | None = None  # of protocol within: whose generator
    data_dir: Path | None = None  # store of the trials; default: the one it was trained on
    runs_dir: Path = Path("runs")  # where the stage scripts put their results
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: a GPU if there is one


def main(config: Config) -> None:
    """Load the generator, generate, write."""
    from de3dgan.base.errors import UserError
    from de3dgan.stages import pretrained, virtual
    from de3dgan.stages.generation import store_of
    from de3dgan.training.device import device_of

    if (config.task is None) == (config.pretrained is None):
        raise UserError(
            "Say whose generator it is: give --task, of one you have trained, or --pretrained, of "
            "one that comes with the repository."
        )
    for name in ("draw", "people", "seconds"):
        value = getattr(config, name)
        if value < 0:
            raise UserError(f"--{name} must be at least 0, and {value} is not.")
    if not config.people and (config.class_ is not None or config.seconds):
        raise UserError("--class and --seconds are of virtual people: say how many with --people.")
    several = (1,) if config.trials is None else config.trials
    if config.people and (len(several) != 1 or several[0] < 1):
        raise UserError(
            "With --people, --trials is one number, of the trials that each of them has of each "
            "class: give 1 or more."
        )
    if config.pretrained is not None:
        if not config.people:
            raise UserError(
                "A pretrained generator has no recordings beside it to take DE from: say with "
                "--people how many people are to be made."
            )
        _refuse_flags_of_runs(config)
        device = device_of(config.device)
        of_people(config, *pretrained.load(config.pretrained, device=device))
        return
    generator = trained_generator(config)
    store = store_of(generator, config.data_dir)
    if config.people:
        of_people(config, generator, virtual.population_of(generator.origin, store))
    else:
        of_trials(config, generator, store)


def _refuse_flags_of_runs(config: Config) -> None:
    """Refuse flags that say which run a generator is of, beside a pretrained one."""
    from de3dgan.base.errors import UserError

    given = [
        field.name
        for field in fields(Config)
        if field.name in ("protocol", "fold", "person", "data_dir")
        and getattr(config, field.name) != field.default
    ]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UserError(f"{flags} is of a generator you have trained: leave it out.")


def trained_generator(config: Config) -> TrainedGenerator:
    """Return the generator of a run."""
    from de3dgan.base.errors import UserError
    from de3dgan.base.files import differences
    from de3dgan.base.paths import display_path, from_root
    from de3dgan.stages.generation import load_generator
    from de3dgan.training.device import device_of

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
    return generator


def of_trials(config: Config, generator: TrainedGenerator, store: Store) -> None:
    """Write EEG that is generated from the DE of trials."""
    from de3dgan.base.paths import display_path
    from de3dgan.stages import generated

    trials = (0,) if config.trials is None else config.trials
    eeg = generated.of_trials(generator, store, trials, config.draw)
    eeg.write(config.out)
    print(
        f"{display_path(config.out)}: {len(eeg.names)} trials, {len(eeg.ch_names)} channels, µV, "
        "128 Hz."
    )


def of_people(config: Config, generator: TrainedGenerator, population: Population) -> None:
    """Write EEG of virtual people."""
    from de3dgan.base.paths import display_path
    from de3dgan.stages import generated, virtual

    about = population.about
    (n_trials,) = (1,) if config.trials is None else config.trials
    n_frames = config.seconds or about["n_frames"]
    people = virtual.draw_people(
        generator,
        population,
        config.people,
        config.class_,
        n_trials=n_trials,
        n_frames=n_frames,
        draw=config.draw,
    )
    if config.out.suffix:
        generated.of_people(population, people).write(config.out)
    else:
        made_by = {
            "generator": generator.origin["split_fingerprint"],
            "trained_on": generator.origin["store_hash"],
            "draw": config.draw,
        }
        virtual.write_store(config.out, population, people, made_by)
    n_trials *= config.people * (1 if config.class_ else len(about["class_names"]))
    print(
        f"{display_path(config.out)}: {config.people} people, {n_trials} trials of {n_frames} s, "
        f"{len(about['ch_names'])} channels, µV, 128 Hz; people who do not exist."
    )


if __name__ == "__main__":
    command_line(main, Config)
