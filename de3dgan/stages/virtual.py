"""Virtual people: EEG of people who were never recorded, from nothing but a class.

Their DE is drawn from a prior that is fitted to training people (`de3dgan.eeg.prior`), and their
EEG, trials and baselines, is generated from it. They are written as a store, so that every stage
runs on them as on people who were recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.files import read_json
from de3dgan.base.locks import recover_folder, replaced_folder
from de3dgan.base.paths import display_path
from de3dgan.base.seeds import derived_rng
from de3dgan.data.labels import class_labels, labels_by_median
from de3dgan.data.opening import open_store
from de3dgan.data.store import ARRAYS, SETTINGS, Store, holds_other_files
from de3dgan.data.writing import StoreWriter, Unit
from de3dgan.eeg.de import SILENCE, differential_entropy
from de3dgan.eeg.montage import Grid
from de3dgan.eeg.prior import DEPrior
from de3dgan.eeg.sampling import FRAME, WINDOW
from de3dgan.stages.generation import TrainedGenerator

#: DE windows that generators take come in multiples of this, and are twice a filter's edge or more.
_MULTIPLE, _FEWEST = 8, 24
#: What a virtual person is called, and the source in the manifest of a store of them.
NAME, SOURCE = "virtual{:04d}", "virtual"

#: Virtual people count as so many who were recorded, at most.
_WORTH = 4.0

#: From DE (n_trials, n_bands, n_windows, n_chans), numbers of trials and of their people to EEG in
#: µV.
Sampler = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Person:
    """A virtual person.

    Attributes
    ----------
    eeg : array, float32 (n_trials, n_chans, n_times)
        In µV.
    baseline : array, float32 (n_baselines, n_chans, n_baseline_times)
        In µV.
    de : array, float32 (n_trials, n_bands, n_windows, n_chans)
        In nats, that of the baseline subtracted, as measured in their EEG.
    baseline_de : array, float32 (n_baselines, n_bands, n_chans)
        In nats.
    labels, baselines : array of int, (n_trials,)
        Class of each trial, and its row in `baseline`.
    """

    eeg: np.ndarray
    baseline: np.ndarray
    de: np.ndarray
    baseline_de: np.ndarray
    labels: np.ndarray
    baselines: np.ndarray


@dataclass(frozen=True)
class Population:
    """Whom virtual people are drawn from.

    Attributes
    ----------
    prior : DEPrior
        Of their DE.
    about : dict
        What else they have in common with the people it was fitted to, plain data: ``ch_names``,
        ``montage``, ``grid``, ``reference``, ``scales``, ``classes`` as in a store's manifest;
        ``ratings``, ``threshold`` and ``class_names`` of the task; ``n_baseline_times`` and
        ``n_frames`` of a trial.
    """

    prior: DEPrior
    about: dict[str, Any]

    @classmethod
    def of(
        cls, store: Store, trials: np.ndarray, labels: np.ndarray, task: Mapping[str, Any]
    ) -> Population:
        """Fit a population to people of a store.

        Parameters
        ----------
        store : Store
            Their recordings.
        trials : array of int
            Those that are trained on; nothing else is read.
        labels : array of int, (n_trials of the store,)
            The class of each trial.
        task : dict
            ``ratings``, ``threshold`` and ``class_names`` of a recipe.

        Raises
        ------
        UserError
            If nobody has a trial of some class.
        """
        missing = set(range(len(task["class_names"]))) - set(labels[trials].tolist())
        if missing:
            raise UserError(
                f"No training trial is of class {task['class_names'][min(missing)]}: virtual "
                "people cannot be drawn from them."
            )
        index = store.baseline_index[trials]
        prior = DEPrior.fit(
            store.absolute_de(trials),
            store.baseline_de[index],
            index,
            np.array(store.columns["subject"])[trials],
            labels[trials],
            len(task["class_names"]),
            np.array(store.grid.mirrored()),
        )
        fields = ("ch_names", "montage", "grid", "reference", "scales", "classes")
        about = {name: store.manifest[name] for name in fields}
        about |= {name: task[name] for name in ("ratings", "threshold", "class_names")}
        lengths = {"n_baseline_times": store.baseline.shape[-1], "n_frames": store.n_frames}
        return cls(prior, {**about, **lengths})

    def content(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it; `from_content` is the way back."""
        return {"prior": self.prior.content(), "about": self.about}

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> Population:
        """Rebuild it from a checkpoint's content."""
        return cls(DEPrior.from_content(content["prior"]), dict(content["about"]))

    def class_of(self, name: str) -> int:
        """Return the number of a class by its name, or raise `UserError` if there is none."""
        names = [one.lower() for one in self.about["class_names"]]
        if name.lower() not in names:
            known = ", ".join(repr(one) for one in self.about["class_names"])
            raise UserError(f"There is no class {name!r}: give as --class one of {known}.")
        return names.index(name.lower())

    def person(
        self, sample: Sampler, labels: Sequence[int], n_frames: int, seed: int, number: int
    ) -> Person:
        """Return a virtual person, who is the same however many others there are.

        Parameters
        ----------
        sample : callable
            What makes EEG of DE.
        labels : sequence of int
            The class of each trial.
        n_frames : int
            Seconds of a trial.
        seed : int
            Another one gives other people.
        number : int
            Which of them it is.
        """
        n_times, n_windows = self.about["n_baseline_times"], n_frames * FRAME // WINDOW
        drawn = self.prior.sample(
            derived_rng(seed, number, "virtual person"),
            np.asarray(labels),
            1,
            _whole(n_windows),
            _whole(-(-n_times // WINDOW)),
        )
        # Of a person, even numbers are trials and odd ones baselines: each has noise of its own.
        first = 2 * len(labels) * number
        numbers = first + 2 * np.arange(len(labels))
        eeg, de = _made(sample, drawn.de, numbers, number, n_frames * FRAME)
        if self.about["reference"] == "none":
            n_bands, n_chans = drawn.de.shape[1], drawn.de.shape[3]
            baseline = np.zeros((1, n_chans, n_times), np.float32)
            baseline_de = np.zeros((1, n_bands, n_chans), np.float32)
            index = np.zeros(len(labels), int)
        else:
            numbers = first + 1 + 2 * np.arange(len(drawn.baseline_de))
            baseline, over_time = _made(sample, drawn.baseline_de, numbers, number, n_times)
            baseline_de, index = over_time.mean(2), drawn.baselines
        return Person(
            eeg, baseline, de - baseline_de[index][:, :, None], baseline_de, drawn.labels, index
        )

    def ratings_of(self, label: int) -> dict[str, float]:
        """Return ratings, or the number of a class, by which a trial is of a class."""
        names, threshold = self.about["ratings"], self.about["threshold"]
        if threshold == "classes":
            return {names[0]: float(label)}
        found = {}
        for bit, name in enumerate(names):
            low, high = self.about["scales"].get(name, (None, None))
            between = (low + high) / 2 if isinstance(threshold, str) and low is not None else 0.0
            parting = between if isinstance(threshold, str) else threshold
            low, high = (parting - 2, parting + 2) if low is None else (low, high)
            found[name] = (parting + (high if label >> bit & 1 else low)) / 2
        return found


def virtual_weight(n_people: int) -> float:
    """Return the weight of virtual people beside `n_people` who were recorded, who have 1.

    However many are drawn, they know no more than the prior does, which is worth a few people
    (`benchmarks/VIRTUAL_PEOPLE.md`): of many who were recorded, they must not drown the voice.
    """
    return min(1.0, _WORTH / n_people)


def sampler_of(generator: TrainedGenerator, draw: int = 0) -> Sampler:
    """Return what makes EEG of virtual people by a generator: each takes after one recording."""
    return lambda de, numbers, people: generator(de, numbers, draw, people)


def draw_people(
    generator: TrainedGenerator,
    population: Population,
    n_people: int,
    class_name: str | None = None,
    *,
    n_trials: int = 1,
    n_frames: int = 0,
    draw: int = 0,
) -> Iterator[Person]:
    """Yield virtual people, each the same however many others there are.

    Parameters
    ----------
    generator : TrainedGenerator
        What makes their EEG.
    population : Population
        Whom they are drawn from.
    n_people : int
        How many.
    class_name : str, optional
        Of their trials; by default, all classes.
    n_trials : int
        Trials that each has of each class.
    n_frames : int
        Seconds of a trial; 0 for as many as those have that were trained on.
    draw : int
        Another number gives other people.

    Raises
    ------
    UserError
        If there is no such class.
    """
    classes = range(len(population.about["class_names"]))
    if class_name is not None:
        classes = [population.class_of(class_name)]
    labels = [label for label in classes for _ in range(n_trials)]
    n_frames = n_frames or population.about["n_frames"]
    sampler = sampler_of(generator, draw)
    return (
        population.person(sampler, labels, n_frames, draw, number) for number in range(n_people)
    )


def population_of(origin: Mapping[str, Any], store: Store) -> Population:
    """Return the population that a generator's training split is of.

    Parameters
    ----------
    origin : dict
        Of the trained generator, see `de3dgan.stages.generation`.
    store : Store
        What it was trained on.
    """
    train = np.array(origin["trials"]["train"])
    return Population.of(store, train, labels_of(origin, store), origin["settings"])


def labels_of(origin: Mapping[str, Any], store: Store) -> np.ndarray:
    """Return the class of each trial in the task of a generator, int (n_trials,).

    Parameters
    ----------
    origin, store
        See `population_of`.
    """
    settings = origin["settings"]
    if settings["threshold"] == "median":
        return labels_by_median(store, settings["ratings"], np.array(origin["trials"]["train"]))
    n_classes = len(settings["class_names"])
    return class_labels(store, settings["ratings"], settings["threshold"], n_classes)


def write_store(
    path: Path, population: Population, people: Iterable[Person], made_by: Mapping[str, Any]
) -> Store:
    """Write virtual people as a store, in one go at the end; one is in memory at a time.

    Parameters
    ----------
    path : Path
        Its folder; replaced if it holds virtual people.
    population : Population
        Whom they are drawn from.
    people : iterable of Person
        Who is written.
    made_by : dict
        What tells them from others, plain data; goes into the manifest.

    Raises
    ------
    UserError
        If `path` is a file, or holds anything else.
    """
    refuse_other_folder(path)
    recover_folder(path)
    about = population.about
    ratings = list(population.ratings_of(0))
    same = {name: about[name] for name in ("ch_names", "montage", "reference")}
    for kind in ("scales", "classes"):
        same[kind] = {name: about[kind][name] for name in ratings if name in about[kind]}
    with replaced_folder(path) as folder:
        writer = StoreWriter(folder)
        for number, person in enumerate(people):
            names = zip(names_of(population, person), person.labels.tolist(), strict=True)
            rows = [
                {
                    "subject": NAME.format(number + 1),
                    "session": 1,
                    "stimulus": name,
                    "piece": 0,
                    "baseline": baseline,
                    **population.ratings_of(label),
                }
                for (name, label), baseline in zip(names, person.baselines.tolist(), strict=True)
            ]
            arrays = {name: getattr(person, name) for name in ARRAYS}
            writer.append(Unit({**same, "columns": ratings}, arrays, rows, {}))
        origin = {**SETTINGS, "source": SOURCE, "inputs": {}, "made_by": dict(made_by)}
        writer.close(origin, Grid.of(about["grid"], about["ch_names"]))
    return open_store(path)


def names_of(population: Population, person: Person) -> list[str]:
    """Return a name of each trial of a person: its class, and which of that class it is."""
    classes, seen, names = population.about["class_names"], Counter(), []
    for label in person.labels.tolist():
        seen[label] += 1
        names.append(f"{classes[label]} {seen[label]}")
    return names


def refuse_other_folder(path: Path) -> None:
    """Raise `UserError` if virtual people in `path` would replace anything else."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if path.is_dir() and not holds_other_files(path):
        with suppress(UserError):
            if read_json(path / "manifest.json").get("source") == SOURCE:
                return
    raise UserError(
        f"{display_path(path)} is there and holds no virtual people, and would be lost: choose "
        "another folder."
    )


def _whole(n_windows: int) -> int:
    """Return how many windows are generated so that there are `n_windows`."""
    return max(-(-n_windows // _MULTIPLE) * _MULTIPLE, _FEWEST)


def _made(
    sample: Sampler, de: np.ndarray, numbers: np.ndarray, person: int, n_times: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return EEG of a person's DE, (n, n_chans, n_times) in µV, and the DE that it has.

    Filters run over all that is generated, as over a recording, of which a part is kept.
    """
    eeg = sample(de, numbers, np.full(len(de), person))
    found = np.stack([differential_entropy(one) for one in eeg]).clip(SILENCE)
    n_windows = n_times // WINDOW
    return eeg[..., :n_times].astype(np.float32), found[:, :, :n_windows].astype(np.float32)
