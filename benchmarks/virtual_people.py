"""What EEG of virtual people is worth in people who were recorded.

    .venv/bin/python benchmarks/virtual_people.py --data-dir <folder with all of EEGMAT>

Few people are trained on, drawn anew many times, and the rest are tested on. The learner is a
support vector machine on the network's maps of single seconds, the strongest simple model of
RESULTS.md, which takes a second; the stage scripts are run on a few draws (`--networks`). Virtual
people are drawn from a prior that is fitted to those who are trained on, and so is the generator:
for the support vector machine, it is the closed-form start of stage 1's.

What has been computed is kept, and goes on where it stopped. Fills in the tables of
benchmarks/VIRTUAL_PEOPLE.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.class_weight import compute_sample_weight

from benchmarks import planted
from benchmarks.documents import fill, table
from benchmarks.worth_in_people import in_people, stages_alone
from de3dgan.base.cli import command_line
from de3dgan.base.files import make_folder, write_json
from de3dgan.base.paths import from_root
from de3dgan.base.recipe import SCRIPTS, load_script
from de3dgan.base.seeds import derived_rng, seed_torch
from de3dgan.data.frames import Frames
from de3dgan.data.labels import class_labels
from de3dgan.data.opening import open_store
from de3dgan.data.preprocessing import build_store
from de3dgan.data.splits import persons
from de3dgan.data.store import Store
from de3dgan.eeg.noise import matched_noise
from de3dgan.evaluation.features import frame_maps
from de3dgan.evaluation.worth import Worth, people_worth
from de3dgan.models import SpectralGenerator
from de3dgan.models.views import PowerMaps
from de3dgan.stages.generation import SpectralSampler
from de3dgan.stages.spectral_generator import recordings
from de3dgan.stages.virtual import Person, Population, Sampler, sampler_of, virtual_weight
from de3dgan.training.device import Compute

#: What is trained and tested on: switches of `de3dgan.data.effects.Effect`, or nothing for EEGMAT.
MATERIALS: dict[str, dict[str, Any]] = {
    "EEGMAT": {},
    "planted, one sign": {"strength": 0.2, "other_sign": 0.0},
    "planted, other sign in 30 %": {"strength": 0.2, "other_sign": 0.3},
    "planted, asymmetry": {"strength": 0.2, "other_sign": 0.0, "effect": "asymmetry"},
    "planted, nothing": {"strength": 0.0, "other_sign": 0.0},
}
#: Where people have several trials of a class, the first of which may be known.
CALIBRATION = ("planted, one sign", "planted, other sign in 30 %")
#: People of the learning curve; the pool that people are drawn from has as many as the largest.
SIZES = (4, 6, 8, 12, 16)
#: What is set beside real EEG, and what tables call it.
ARMS = {
    "virtual": "EEG of virtual people",
    "noise": "noise of the same virtual DE",
    "mixed": "means of two people mixed, residuals of any trial",
    "mirrored": "the same real EEG, left and right exchanged",
    "both": "EEG of virtual people, and the same real EEG with left and right exchanged",
}
UNITS = ("frame", "trial")
#: Virtual people, each with a trial of every class and a baseline of so many seconds.
N_VIRTUAL, N_SECONDS = 20, 12
#: Frames of a trial that are learnt from and tested on, at most, evenly spread.
N_FRAMES = 20
#: Calibration: what is learnt from, and what tables call it.
CALIBRATED = {
    "alone": "other people alone",
    "known": "and the person's first trials",
    "weighted": "and these, with as much weight as all others",
    "more": "and these, with half as much again",
    "virtual": "and these, and half as much EEG that is generated of that person",
}
#: Other people, new people of a draw, and trials of each class that are generated of each.
N_OTHERS, N_NEW, N_OWN = 4, 6, 8
N_BOOTSTRAP = 2000


@dataclass(frozen=True)
class Config:
    """Where recordings are, and how much is computed."""

    data_dir: Path = Path("eeg_dataset/EEGMAT-36")  # folder of all of EEGMAT
    work_dir: Path = Path("runs/virtual_people")  # stores and what has been computed, kept
    materials: tuple[str, ...] = tuple(MATERIALS)  # what is trained and tested on
    measured: tuple[int, ...] = (4, 8)  # people of EEGMAT's curve where virtual ones are added
    n_draws: tuple[int, ...] = (32, 8)  # draws of people for each of these
    n_planted: int = 12  # draws of people of other materials, of which the fewest are measured
    first_draw: int = 800  # the number of the first; those below 800 were for choosing
    n_large: int = 8  # draws in which 28 people of EEGMAT are trained on
    n_calibrated: int = 8  # draws in which new people's first trials are known
    networks: int = 3  # draws in which the stage scripts are run
    seed: int = 0  # of what is planted
    out: Path = ROOT / "benchmarks" / "VIRTUAL_PEOPLE.md"  # document that holds the tables


def main(config: Config) -> None:
    """Compute what is missing, and fill in the tables."""
    lines: list[str] = []
    for material in config.materials:
        data = Data.of(config, material)
        wanted = dict(zip(config.measured, config.n_draws, strict=True))
        if material != "EEGMAT":
            wanted = {config.measured[0]: config.n_planted}
        for draw in range(max(wanted.values())):
            measured = tuple(n for n, n_draws in wanted.items() if draw < n_draws)
            counted(config, data, config.first_draw + draw, SIZES, measured)
        lines += [*curve_lines(Found(config, material, SIZES)), ""]
        for n in wanted:
            lines += [*arm_lines(Found(config, material, SIZES, needed=f"virtual {n}"), n), ""]
        if material == "EEGMAT" and config.n_large:
            for draw in range(config.first_draw, config.first_draw + config.n_large):
                counted(config, data, draw, (28,), (28,))
            lines += [*arm_lines(Found(config, material, (28,)), 28), ""]
        if material in CALIBRATION:
            for n_known in (1, 2) if config.n_calibrated else ():
                for draw in range(config.first_draw, config.first_draw + config.n_calibrated):
                    calibrated(config, data, draw, n_known)
                found = Found(config, material, kind=f"known{n_known}")
                lines += [*calibration_lines(found, n_known), ""]
        print(*lines, sep="\n", flush=True)
    if config.networks:
        lines += network_lines(config)
    fill(config.out, "virtual_people.py", lines)


# --- the data


@dataclass(frozen=True)
class Data:
    """A material: its store, and the maps of all frames that are used.

    Attributes
    ----------
    material : str
    store : Store
    labels : array of int, (n_trials,)
    maps : array, float32 (n_trials, n_frames, n_chans · n_maps)
    task : dict
        ``ratings``, ``threshold`` and ``class_names``.
    """

    material: str
    store: Store
    labels: np.ndarray
    maps: np.ndarray
    task: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, config: Config, material: str) -> Data:
        """Open the store of a material, made if need be, and compute its maps."""
        work_dir = from_root(config.work_dir)
        if material == "EEGMAT":
            path, suffix = work_dir / "stores" / "eegmat", "Workload"
            if not (path / "manifest.json").is_file():
                build_store("eegmat", from_root(config.data_dir), path, 1)
        else:
            how = planted.Config(data_dir=config.data_dir, work_dir=work_dir, seed=config.seed)
            path, suffix = planted.store_of(how, **MATERIALS[material]), "Valence"
        store = open_store(path)
        recipe = script_of("classifier", suffix).Config
        names = ("ratings", "threshold", "class_names")
        task = {name: recipe.__dataclass_fields__[name].default for name in names}
        labels = class_labels(store, task["ratings"], task["threshold"])
        return cls(material, store, labels, maps_of(store), task)

    @property
    def subjects(self) -> np.ndarray:
        """Whose each trial is."""
        return np.array(self.store.columns["subject"])

    def trials(self, people: np.ndarray) -> np.ndarray:
        """Return the trials of some people."""
        return np.flatnonzero(np.isin(self.subjects, people))


def script_of(stage: str, suffix: str = "Workload") -> Any:
    """Return a stage's script, of the valence or the workload task."""
    folder = ROOT if suffix == "Valence" else ROOT / f"{suffix}-main"
    return load_script(folder / f"{SCRIPTS[stage]}_{suffix}.py")


def maps_of(store: Store) -> np.ndarray:
    """Return the maps of up to `N_FRAMES` frames of each trial of a store."""
    frames = Frames(store, torch.device("cpu"), waveform_baseline=False)
    used = np.linspace(0, store.n_frames - 1, min(N_FRAMES, store.n_frames)).astype(int)
    numbers = (np.arange(store.n_trials)[:, None] * store.n_frames + used).ravel()
    found = frame_maps(frames, numbers, PowerMaps())
    return found.reshape(store.n_trials, len(used), -1)


@torch.inference_mode()
def maps_of_person(person: Person) -> np.ndarray:
    """Return the maps of a virtual person's frames, (n_trials, n_frames, n_chans · n_maps)."""
    maps = PowerMaps()
    level = maps.level(torch.from_numpy(person.baseline))[person.baselines]
    frames = torch.from_numpy(person.eeg).unflatten(2, (-1, 128)).movedim(2, 1)
    n_frames = frames.shape[1]
    found = maps(maps.level(frames.flatten(0, 1)), level.repeat_interleave(n_frames, 0))
    return found.flatten(1).unflatten(0, (-1, n_frames)).numpy()


# --- one draw of people


def counted(
    config: Config, data: Data, draw: int, sizes: tuple[int, ...], measured: tuple[int, ...]
) -> None:
    """Learn from each number of people of a draw, and count who is told right, unless that is done.

    People tested on are those outside of the largest number.
    """
    path = place(config, data.material, max(sizes), draw)
    if path.is_file():
        return
    order = derived_rng(draw, 0, "order of people").permutation(persons(data.store))
    tested = data.trials(order[max(sizes) :])
    counts = {}
    for n in sizes:
        known = data.trials(order[:n])
        real = (data.maps[known], data.labels[known])
        counts[f"real {n}"] = right(data, tested, learnt(*real))
        more: dict[str, Extra] = {}
        if n in measured:
            for arm in ARMS:
                if arm != "both":
                    more[arm] = Extra(*EXTRA[arm](data, known, draw), weight_of(arm, n))
                some = [more[one] for one in (("virtual", "mirrored") if arm == "both" else (arm,))]
                counts[f"{arm} {n}"] = right(data, tested, learnt(*real, *some))
    make_folder(path.parent)
    np.savez(path, tested=total(data, tested), **counts)
    print(f"{data.material}, {sizes}, draw {draw} is done.", flush=True)


def place(config: Config, material: str, kind: object, draw: int) -> Path:
    """Return the file that holds what a draw has found."""
    name = material.replace(", ", "-").replace(" ", "_")
    return from_root(config.work_dir) / "draws" / f"{name}-{kind}" / f"{draw}.npz"


def calibrated(config: Config, data: Data, draw: int, n_known: int) -> None:
    """Learn from 4 people and the first trials of a new one, and count what is told right of them.

    The first `n_known` trials of each class of the new person are known; the others are asked.
    """
    path = place(config, data.material, f"known{n_known}", draw)
    if path.is_file():
        return
    order = derived_rng(draw, 0, "order of people").permutation(persons(data.store))
    others = data.trials(order[:N_OTHERS])
    sampler = closed_form(data, others, draw)
    population = Population.of(data.store, others, data.labels, data.task)
    counts = {name: 0 for name in ("tested", *CALIBRATED)}
    for number, person in enumerate(order[max(SIZES) : max(SIZES) + N_NEW]):
        own = data.trials(np.array([person]))
        known = np.concatenate([own[data.labels[own] == c][:n_known] for c in (0, 1)])
        asked = np.setdiff1d(own, known)
        if len(known) < 2 * n_known or not len(asked):
            continue
        real = (data.maps[others], data.labels[others])
        both = np.concatenate([others, known])
        theirs = (data.maps[known], data.labels[known])
        learners = {
            "alone": learnt(*real),
            "known": learnt(data.maps[both], data.labels[both]),
            "weighted": learnt(*real, Extra(*theirs)),
            "more": learnt(*real, Extra(*theirs, 1.5)),
            "virtual": learnt(
                *real,
                Extra(*theirs),
                Extra(*of_person(data, population, known, sampler, draw, number), 0.5),
            ),
        }
        for name, decide in learners.items():
            counts[name] = counts[name] + right(data, asked, decide)
        counts["tested"] = counts["tested"] + total(data, asked)
    make_folder(path.parent)
    np.savez(path, **counts)
    print(f"{data.material}, {n_known} known, draw {draw} is done.", flush=True)


def of_person(
    data: Data, population: Population, known: np.ndarray, sampler: Sampler, draw: int, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return EEG generated of a person of whom some trials are known."""
    store = data.store
    baseline = store.baseline_de[store.baseline_index[known]]
    change = store.absolute_de(known).mean(2) - baseline
    n_trials = np.bincount(data.labels[known], minlength=2)
    mean = np.stack([change[data.labels[known] == c].mean(0) for c in (0, 1)])
    prior = population.prior.given(baseline.mean(0), mean, n_trials)
    about = {**population.about, "n_baseline_times": N_SECONDS * 128}
    person = Population(prior, about).person(sampler, (0, 1) * N_OWN, N_SECONDS, draw, number)
    return maps_of_person(person), person.labels


class Extra(NamedTuple):
    """What is set beside real EEG.

    Attributes
    ----------
    maps : array, (n_trials, n_frames, n_features)
    labels : array of int, (n_trials,)
    weight : float
        Of all of it together, where real EEG has 1.
    """

    maps: np.ndarray
    labels: np.ndarray
    weight: float = 1.0


def weight_of(arm: str, n: int) -> float:
    """Return the weight of an arm: virtual people count as few, as in stage 3."""
    return 1.0 if arm == "mirrored" else virtual_weight(n)


def learnt(
    maps: np.ndarray, labels: np.ndarray, *more: Extra
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the decision function of a support vector machine on real EEG, and some more.

    In each part, all classes weigh the same.
    """

    def rows(maps: np.ndarray) -> np.ndarray:
        return maps.reshape(-1, maps.shape[-1]).astype(np.float64)

    parts = [Extra(maps, labels), *more]
    x = np.concatenate([rows(part.maps) for part in parts])
    y = np.concatenate([np.repeat(part.labels, part.maps.shape[1]) for part in parts])
    sizes = [part.maps.shape[0] * part.maps.shape[1] for part in parts]
    of_parts = np.split(y, np.cumsum(sizes)[:-1])
    weights = np.concatenate(
        [
            part.weight * sizes[0] / len(labels) * compute_sample_weight("balanced", labels)
            for part, labels in zip(parts, of_parts, strict=True)
        ]
    )
    scaler = StandardScaler().fit(x, sample_weight=weights)
    model = SVC(kernel=lambda a, b: rbf_kernel(a, b, gamma=1 / a.shape[1]))
    model.fit(scaler.transform(x), y, sample_weight=weights)
    return lambda maps: model.decision_function(scaler.transform(rows(maps))).reshape(len(maps), -1)


def right(data: Data, tested: np.ndarray, decide: Callable) -> np.ndarray:
    """Return how many frames and trials are told right, (n_units, n_people, n_classes)."""
    scores = decide(data.maps[tested])
    labels = data.labels[tested]
    per_frame = ((scores > 0) == labels[:, None]).mean(1)
    per_trial = (scores.mean(1) > 0) == labels
    return np.stack([_per_person(data, tested, values) for values in (per_frame, per_trial)])


def total(data: Data, tested: np.ndarray) -> np.ndarray:
    """Return how many trials are tested on, (n_people, n_classes)."""
    return _per_person(data, tested, np.ones(len(tested)))


def _per_person(data: Data, tested: np.ndarray, values: np.ndarray) -> np.ndarray:
    people = persons(data.store)
    person = np.array([people.index(name) for name in data.subjects[tested]])
    out = np.zeros((len(people), 2))
    np.add.at(out, (person, data.labels[tested]), values)
    return out


# --- what is set beside real EEG: maps (n, n_frames, n_features), and classes (n,)


def of_virtual(data: Data, known: np.ndarray, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Return virtual people, whose generator is the closed-form start on the same trials."""
    return _people(data, known, draw, closed_form(data, known, draw))


def closed_form(data: Data, known: np.ndarray, draw: int) -> Sampler:
    """Return the generator that stage 1 starts from, on some trials."""
    seed_torch(draw, 0, "generator of a draw")
    generator = SpectralGenerator(data.store.ch_names, grid=data.store.grid)

    def whole(trials: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        arrays = data.store.absolute_de(trials), np.array(data.store.eeg[trials])
        return torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1])

    generator.init_closed_form(*whole(known))
    generator.remember(map(whole, recordings(data.store, known, len(generator.recordings))))
    return sampler_of(SpectralSampler(generator, Compute(torch.device("cpu"))), draw)


def of_noise(data: Data, known: np.ndarray, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noise of the same virtual DE."""
    return _people(data, known, draw, lambda de, n, _: matched_noise(de, n, draw, "virtual noise"))


def _people(
    data: Data, known: np.ndarray, draw: int, sample: Sampler
) -> tuple[np.ndarray, np.ndarray]:
    population = Population.of(data.store, known, data.labels, data.task)
    population.about["n_baseline_times"] = N_SECONDS * 128
    everyone = [population.person(sample, (0, 1), N_SECONDS, draw, i) for i in range(N_VIRTUAL)]
    maps = np.concatenate([maps_of_person(person) for person in everyone])
    return maps, np.concatenate([person.labels for person in everyone])


def of_mixed(data: Data, known: np.ndarray, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of two people's trials of a class, mixed, plus the residual of any trial."""
    rng = derived_rng(draw, len(known), "mixed people")
    maps, labels, subjects = data.maps[known], data.labels[known], data.subjects[known]
    levels = maps.mean(1)
    cell = {
        (who, label): levels[(subjects == who) & (labels == label)].mean(0)
        for who, label in set(zip(subjects, labels, strict=True))
    }
    out, classes = [], np.arange(2 * N_VIRTUAL) % 2
    for label in classes:
        those = [mean for (_, of), mean in sorted(cell.items(), key=str) if of == label]
        a, b = rng.choice(len(those), 2, replace=len(those) < 2)
        share, trial = rng.uniform(), rng.integers(len(known))
        mean = share * those[a] + (1 - share) * those[b]
        out.append(mean + maps[trial] - cell[subjects[trial], labels[trial]])
    return np.stack(out), classes


def of_mirrored(data: Data, known: np.ndarray, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the maps of real EEG whose electrodes have changed sides."""
    mirror = np.array(data.store.grid.mirrored())
    maps = data.maps[known]
    by_electrode = maps.reshape(*maps.shape[:2], len(mirror), -1)
    return by_electrode[:, :, mirror].reshape(maps.shape), data.labels[known]


EXTRA = {"virtual": of_virtual, "noise": of_noise, "mixed": of_mixed, "mirrored": of_mirrored}


# --- tables


class Found:
    """What all draws of a material have found, and its accuracy in bootstrap draws.

    Both what is trained on and who is tested on are drawn: draws of people, and people, each with
    replacement (the pigeonhole bootstrap of Owen 2007, The Annals of Applied Statistics 1).

    Attributes
    ----------
    n_draws : int
        Of these, those in which what is needed has been measured.
    sizes : tuple of int
    """

    def __init__(
        self,
        config: Config,
        material: str,
        sizes: tuple[int, ...] = (),
        kind: object = None,
        needed: str = "tested",
    ):
        self.material, self.sizes = material, sizes
        kind = kind or max(sizes)
        paths = sorted(place(config, material, kind, 0).parent.glob("*.npz"))
        paths = [path for path in paths if int(path.stem) >= config.first_draw]
        files = [file for file in map(np.load, paths) if needed in file]
        self.n_draws, n_people = len(files), len(files[0]["tested"])
        everywhere = set.intersection(*(set(file.files) for file in files))
        self._counts = {name: np.stack([file[name] for file in files]) for name in everywhere}
        rng = np.random.default_rng(0)
        draws, people = (
            np.concatenate([np.ones((1, n)), rng.multinomial(n, [1 / n] * n, N_BOOTSTRAP)])
            for n in (self.n_draws, n_people)
        )
        self._weights = draws, people

    def accuracy(self, name: str, unit: str) -> np.ndarray:
        """Return balanced accuracy, (1 + n_bootstrap,); the first is that of what was found."""
        draws, people = self._weights
        hits = self._counts[name][:, UNITS.index(unit)]
        told, asked = (
            np.einsum("bd,bp,dpc->bc", draws, people, counts, optimize=True)
            for counts in (hits, self._counts["tested"])
        )
        with np.errstate(invalid="ignore"):  # of few draws, one may have no trial of a class
            return (told / asked).mean(1)

    def gain(self, arm: str, n: int, unit: str) -> np.ndarray:
        """Return what an arm gains over real EEG alone."""
        return self.accuracy(f"{arm} {n}", unit) - self.accuracy(f"real {n}", unit)

    def worth(self, gains: np.ndarray, n: int, unit: str) -> Worth:
        """Return what a gain is worth in people."""
        curve = np.stack([self.accuracy(f"real {size}", unit) for size in self.sizes], axis=1)
        every = people_worth(gains, self.sizes, curve, n)
        low, high = np.nanquantile(every[1:], (0.025, 0.975), method="nearest")
        return Worth(every[0], low, high, max(self.sizes) - n, min(self.sizes) - n)


def curve_lines(found: Found) -> list[str]:
    """Return the table of a learning curve."""
    rows = [
        [n, *(with_interval(found.accuracy(f"real {n}", unit), ".3f") for unit in UNITS)]
        for n in found.sizes
    ]
    return [
        f"**{found.material}**, {found.n_draws} draws of people, real EEG alone, balanced "
        "accuracy:",
        "",
        *table(("people trained on", *(f"per {unit}" for unit in UNITS)), rows),
    ]


def arm_lines(found: Found, n: int) -> list[str]:
    """Return the table of what each arm gains at a number of people."""
    rows = []
    larger = [size for size in found.sizes if n < size <= n + 4]
    for name, arm, size in [
        *((text, arm, n) for arm, text in ARMS.items()),
        *((f"{size - n} more people", "real", size) for size in larger),
    ]:
        row: list[Any] = [name]
        for unit in UNITS:
            gains = found.accuracy(f"{arm} {size}", unit) - found.accuracy(f"real {n}", unit)
            row.append(with_interval(100 * gains, "+.1f"))
            if len(found.sizes) > 1:
                row.append(in_people(found.worth(gains, n, unit)))
        rows.append(row)
    columns = [
        f"{what}, per {unit}"
        for unit in UNITS
        for what in ("gain (points)", *(["worth in people"] if len(found.sizes) > 1 else []))
    ]
    accuracy = " and ".join(f"{found.accuracy(f'real {n}', u)[0]:.3f} per {u}" for u in UNITS)
    by_generator = [
        100 * (found.accuracy(f"virtual {n}", u) - found.accuracy(f"noise {n}", u)) for u in UNITS
    ]
    less_noise = " and ".join(
        f"{with_interval(gains, '+.1f')} points per {unit}"
        for gains, unit in zip(by_generator, UNITS, strict=True)
    )
    return [
        f"{found.material}, with {n} people to train on ({found.n_draws} draws; real EEG alone "
        f"has {accuracy}):",
        "",
        *table(("real EEG and", *columns), rows),
        "",
        f"EEG of virtual people less noise of the same DE, which is what the generator gains: "
        f"{less_noise}.",
    ]


def calibration_lines(found: Found, n_known: int) -> list[str]:
    """Return the table of what is told right of people of whom some trials are known."""
    rows = []
    for name, text in CALIBRATED.items():
        row = [text]
        for unit in UNITS:
            accuracy = found.accuracy(name, unit)
            row.append(with_interval(accuracy, ".3f"))
            gains = 100 * (accuracy - found.accuracy("more", unit))
            row.append(with_interval(gains, "+.1f") if name == "virtual" else "–")
        rows.append(row)
    columns = [
        f"{what}, per {unit}"
        for unit in UNITS
        for what in ("balanced accuracy", "less without generated EEG (points)")
    ]
    return [
        f"{found.material}, a new person's first {n_known} trials of each class are known, beside "
        f"{N_OTHERS} other people ({found.n_draws} draws, {N_NEW} new people in each):",
        "",
        *table(("learnt from", *columns), rows),
    ]


def with_interval(values: np.ndarray, form: str) -> str:
    """Return a figure and its 95 % interval, of what was found and of bootstrap draws."""
    low, high = np.nanquantile(values[1:], (0.025, 0.975))
    return f"{values[0]:{form}} ({low:{form}} to {high:{form}})"


# --- the stage scripts


def network_lines(config: Config) -> list[str]:
    """Return the table of what stage 3 of the scripts gains, on EEGMAT and 4 people."""
    data = Data.of(config, "EEGMAT")
    arms = {"classifier": None, "finetune-none": "none", "finetune-virtual": "virtual"}
    arms |= {"finetune-virtual_noise": "virtual_noise", "finetune": "generated"}
    accuracies = {stage: [] for stage in arms}
    for draw in range(config.first_draw, config.first_draw + config.networks):
        for stage, found in trained(config, data, draw, arms):
            accuracies[stage].append(found)
    names = {"classifier": "stage 2", "finetune-none": "stage 3 with nothing"}
    names |= {"finetune-virtual": "stage 3 with virtual people"}
    names |= {"finetune-virtual_noise": "stage 3 with noise of their DE"}
    names |= {"finetune": "stage 3 with generated EEG of the people trained on"}
    rows = [
        [names[stage], *(" ".join(f"{x:.3f}" for x in column) for column in np.transpose(found)),
         *(f"{x:.3f}" for x in np.mean(found, axis=0))]
        for stage, found in accuracies.items()
    ]  # fmt: skip
    columns = [f"{what} per {unit}" for what in ("each draw,", "mean,") for unit in UNITS]
    return [
        f"SA-ST-Net by the stage scripts, EEGMAT, 4 people (3 trained on, 1 validated on), "
        f"{config.networks} draws, balanced accuracy:",
        "",
        *table(("", *columns), rows),
    ]


def trained(
    config: Config, data: Data, draw: int, arms: dict[str, str | None]
) -> Iterator[tuple[str, list[float]]]:
    """Run the stages on a draw of 4 people, and yield the balanced accuracy of each."""
    order = derived_rng(draw, 0, "order of people").permutation(persons(data.store)).tolist()
    runs_dir = from_root(config.work_dir) / "runs" / str(draw)
    make_folder(runs_dir)
    split = {"train": order[:3], "val": order[3:4], "test": order[max(SIZES) :]}
    write_json(runs_dir / "split.json", split)
    common = {"data_dir": data.store.path, "protocol": "subject", "runs_dir": runs_dir}
    common["split_file"] = runs_dir / "split.json"

    def run(stage: str, **settings: Any) -> None:
        script = script_of(stage)
        script.main(script.Config(**common, **settings))

    with stages_alone():
        run("gan")
        run("classifier")
        for stage, augmentation in arms.items():
            if augmentation:
                run("finetune", augmentation=augmentation)
            yield stage, accuracies_of(runs_dir / "workload/subject/fold0" / stage)


def accuracies_of(folder: Path) -> list[float]:
    """Return the balanced accuracy of a run's test predictions, per frame and per trial."""
    with np.load(folder / "predictions.npz") as found:
        trials, labels, p = (found[name] for name in ("trials", "labels", "probabilities"))
    out = []
    for unit in UNITS:
        if unit == "trial":
            names, first = np.unique(trials, return_index=True)
            p = np.stack([p[trials == name].mean(0) for name in names])
            labels = labels[first]
        told = p.argmax(1) == labels
        out.append(float(np.mean([told[labels == c].mean() for c in np.unique(labels)])))
    return out


if __name__ == "__main__":
    command_line(main, Config)
