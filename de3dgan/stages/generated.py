"""Generated EEG, trial by trial, with what each trial is: for MNE, and for files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from de3dgan.data.epochs import to_epochs
from de3dgan.data.export import write_eeg
from de3dgan.data.store import Store
from de3dgan.stages import virtual
from de3dgan.stages.generation import TrainedGenerator
from de3dgan.stages.virtual import Person, Population

if TYPE_CHECKING:
    import mne


@dataclass(frozen=True)
class Generated:
    """Trials of generated EEG.

    Attributes
    ----------
    eeg : array, float32 (n_trials, n_chans, n_times)
        In µV at 128 Hz.
    baseline : array, float32 (n_trials, n_chans, n_baseline_times)
        What belongs before each trial, in µV: that of the trial whose DE it is generated from, or
        a virtual person's.
    ch_names : list of str, length n_chans
        Channel names of the montage.
    montage : str
        MNE's name of it.
    names : list of str, length n_trials
        What each trial is, in words.
    classes, people : list of str, length n_trials
        The class of each trial, and whom it is of.
    ratings : dict of str to array (n_trials,)
        Ratings, or numbers of classes.
    """

    eeg: np.ndarray
    baseline: np.ndarray
    ch_names: list[str]
    montage: str
    names: list[str]
    classes: list[str]
    people: list[str]
    ratings: Mapping[str, np.ndarray]

    @property
    def events(self) -> list[str]:
        """Class and person of each trial, such as "arithmetic/virtual0001", length n_trials."""
        return [f"{name}/{one}" for name, one in zip(self.classes, self.people, strict=True)]

    def to_epochs(self) -> mne.EpochsArray:
        """Return them as MNE's `Epochs`: in volts, with electrode positions, events, annotations.

        Events are of class and person, and each can be asked for: ``epochs["arithmetic"]``. Where
        pandas is installed, the metadata has both, and the ratings.
        """
        return to_epochs(
            self.eeg,
            self.ch_names,
            self.events,
            names=self.names,
            montage=self.montage,
            columns={"class": self.classes, "person": self.people, **self.ratings},
        )

    def write(self, path: str | Path) -> Path:
        """Write them in the format of the file's extension, see `de3dgan.data.export.write_eeg`."""
        return write_eeg(
            path,
            self.eeg,
            self.ch_names,
            names=self.names,
            events=self.events,
            ratings=self.ratings,
            baseline=self.baseline,
            montage=self.montage,
        )


def of_trials(
    generator: TrainedGenerator, store: Store, trials: Iterable[int] = (0,), draw: int = 0
) -> Generated:
    """Generate EEG from the DE of trials.

    Parameters
    ----------
    generator : TrainedGenerator
        See `de3dgan.stages.generation.load_generator`.
    store : Store
        What it was trained on, see `de3dgan.stages.generation.store_of`.
    trials : iterable of int
        Rows of the store's ``trials.csv``. Those of the generator's training split are EEG that it
        has learnt from; names say which.
    draw : int
        Another number gives other EEG with the same DE.

    Raises
    ------
    UserError
        If there is no such trial.
    """
    trials = np.array(store.checked_trials(trials))
    classes = np.array(generator.origin["settings"]["class_names"])
    classes = classes[virtual.labels_of(generator.origin, store)[trials]].tolist()
    people = [store.columns["subject"][trial] for trial in trials]
    return Generated(
        eeg=generator(store.absolute_de(trials), trials, draw),
        baseline=store.baseline[store.baseline_index[trials]],
        ch_names=store.ch_names,
        montage=store.manifest["montage"],
        names=[
            f"generated from trial {trial} ({generator.part_of(trial)} split): {person}, "
            f"{store.columns['stimulus'][trial]}, {name}"
            for trial, person, name in zip(trials, people, classes, strict=True)
        ],
        classes=classes,
        people=people,
        ratings={name: store.rating(name)[trials] for name in store.ratings},
    )


def of_people(population: Population, people: Iterable[Person]) -> Generated:
    """Return the EEG of virtual people.

    Parameters
    ----------
    population : Population
        Whom they are drawn from.
    people : iterable of Person
        See `de3dgan.stages.virtual.draw_people`.

    Examples
    --------
    >>> from de3dgan.stages import generated, pretrained, virtual
    >>> generator, population = pretrained.load("eegmat")
    >>> people = virtual.draw_people(generator, population, 2, "arithmetic", n_frames=12)
    >>> epochs = generated.of_people(population, people).to_epochs()
    >>> epochs.event_id
    {'arithmetic/virtual0001': 1, 'arithmetic/virtual0002': 2}
    >>> epochs["virtual0002"].get_data(units="uV").shape
    (1, 19, 1536)
    """
    everyone = list(people)
    labels = np.concatenate([person.labels for person in everyone]).tolist()
    whose = [
        virtual.NAME.format(number)
        for number, person in enumerate(everyone, 1)
        for _ in person.labels
    ]
    in_words = [name for person in everyone for name in virtual.names_of(population, person)]
    ratings = [population.ratings_of(label) for label in labels]
    return Generated(
        eeg=np.concatenate([person.eeg for person in everyone]),
        baseline=np.concatenate([person.baseline[person.baselines] for person in everyone]),
        ch_names=population.about["ch_names"],
        montage=population.about["montage"],
        names=[f"generated: {name}, {who}" for name, who in zip(in_words, whose, strict=True)],
        classes=[population.about["class_names"][label] for label in labels],
        people=whose,
        ratings={name: np.array([one[name] for one in ratings]) for name in ratings[0]},
    )
