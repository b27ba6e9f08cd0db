"""Which protocols tell an effect from a leak, on data of which the answer is known.

    .venv/bin/python benchmarks/leakage_ladder.py

Two sets of recordings are simulated in DEAP's format. One has no effect of the class, and a
fingerprint in every trial; the other has an effect and no fingerprint. Two models, a linear one on
DE and SA-ST-Net, are tested on both under all four protocols, with the published baseline removal
and with this project's. Writes leakage_ladder.csv and .png, and fills in the table of
LEAKAGE_LADDER.md.

A cell of the table that is not as it has to be (`expectation`) is named at the end, and the exit
code is then 1.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional as F

from benchmarks.documents import fill_table
from de3dgan.base.cli import command_line
from de3dgan.base.files import atomic_write, write_csv
from de3dgan.base.recipe import N_FOLDS
from de3dgan.base.seeds import derived_rng, seed_torch
from de3dgan.data.frames import Frames, batches
from de3dgan.data.labels import class_labels
from de3dgan.data.preprocessing import build_store
from de3dgan.data.scalers import fit_eeg_scaler
from de3dgan.data.simulation import Signal
from de3dgan.data.splits import Split, group_names, make_split
from de3dgan.data.store import Store
from de3dgan.data.synthetic import write_deap
from de3dgan.eeg.de import differential_entropy
from de3dgan.evaluation.features import frame_de
from de3dgan.evaluation.statistics import Clusters, estimate
from de3dgan.models import SASTNet
from de3dgan.stages import classifier
from de3dgan.stages.frame_classifiers import PublishedClassifier
from de3dgan.training import loop
from de3dgan.training.device import Compute

NO_EFFECT, EFFECT = "no effect", "effect"
PUBLISHED, DE = "published", "DE"
LINEAR, NETWORK = "linear", "SA-ST-Net"
#: From the leakiest to the strictest.
PROTOCOLS = ("random-frame", "trial", "video", "subject")
CHANCE = 0.5
#: Accuracy that the leak alone gives to the published protocol and baseline, at least.
LEAK = 0.9
PLURAL = {"trial": "trials", "stimulus": "stimuli", "subject": "subjects"}
#: What a model is tested with, in the order of the table's columns.
TESTED = [(baseline, model) for baseline in (PUBLISHED, DE) for model in (LINEAR, NETWORK)]
COLUMNS = ["data", "protocol", *(f"{model}, {b} baseline" for b, model in TESTED), "expected"]
CPU = torch.device("cpu")
COMPUTE = Compute(CPU)


@dataclass(frozen=True)
class Config:
    """What is simulated, how long SA-ST-Net is trained, and where results go."""

    n_subjects: int = 20  # simulated people
    n_trials: int = 16  # trials (videos) of each
    effect_strength: float = 1.5  # of the data with an effect, in nats; see LEAKAGE_LADDER.md
    every: int = 3  # of each trial's frames, every which one is used
    epochs: int = 3  # of SA-ST-Net: passes over the training frames
    seed: int = 0  # of the simulation, the folds, the initial weights and the batches
    out_dir: Path = ROOT / "benchmarks"  # folder of LEAKAGE_LADDER.md, and of the CSV and PNG


@dataclass(frozen=True)
class Cell:
    """A cell of the table: accuracy per frame, all folds together, with its 95 % interval.

    The interval is a bootstrap over the `n_groups` groups that the protocol keeps together, or over
    trials where it keeps nothing together.
    """

    data: str
    protocol: str
    baseline: str
    model: str
    group: str
    n_groups: int
    accuracy: float
    low: float
    high: float


def main(config: Config) -> None:
    """Fill the table, write it, and exit with 1 if a cell is not as it has to be."""
    start = time.monotonic()
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        for data, signal in signals(config).items():
            store = simulated_store(Path(folder, data), config.n_subjects, signal)
            for cell in ladder(store, data, config):
                print(f"{described(cell)} ({time.monotonic() - start:.0f} s)", flush=True)
                cells.append(cell)
    write_csv(config.out_dir / "leakage_ladder.csv", map(asdict, cells))
    fill_table(config.out_dir / "LEAKAGE_LADDER.md", "leakage_ladder.py", COLUMNS, rows(cells))
    draw(config.out_dir / "leakage_ladder.png", cells)
    wrong = unexpected(cells)
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"All {len(cells)} cells are as expected.")


# --- data


def signals(config: Config) -> dict[str, Signal]:
    """Return what is simulated for each set of data."""
    common = Signal(n_trials=config.n_trials, seed=config.seed)
    return {
        NO_EFFECT: replace(common, effect_strength=0, fingerprint=True),
        EFFECT: replace(common, effect_strength=config.effect_strength),
    }


def simulated_store(folder: Path, n_subjects: int, signal: Signal) -> Store:
    """Make a store of simulated recordings in `folder`."""
    with tempfile.TemporaryDirectory() as recordings:
        write_deap(recordings, n_subjects, signal)
        return build_store("deap", Path(recordings), folder, n_jobs=1)


def with_published_de(store: Store) -> Store:
    """Return `store` with DE after the published baseline removal: of the waveform, not of DE."""
    frames = Frames(store, CPU, waveform_baseline=True)
    eeg = (frames.continuous(np.array([trial]))[0] for trial in range(store.n_trials))
    return replace(store, de=np.stack(list(map(differential_entropy, eeg))).astype(np.float32))


def classes_per_fold(store: Store, data: str, seed: int) -> list[np.ndarray]:
    """Return the class of each trial, for each fold: int (n_trials,).

    Where there is an effect, valence. Where there is none, a coin is tossed for every trial, anew
    in each fold; LEAKAGE_LADDER.md says why valence would mislead.
    """
    valence = class_labels(store, ("valence",), 5.0)
    if data == EFFECT:
        return [valence] * N_FOLDS
    rng = derived_rng(seed, 0, "leakage ladder: classes")
    return [rng.integers(0, 2, len(valence)) for _ in range(N_FOLDS)]


# --- models: each returns class probabilities of the split's test frames

Model = Callable[[Store, bool, Split, np.ndarray, Config], np.ndarray]


def linear(
    store: Store, published: bool, split: Split, labels: np.ndarray, config: Config
) -> np.ndarray:
    """Predict by logistic regression on the store's DE, whichever baseline removal it is of."""
    known = np.concatenate([split.train, split.val])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    model.fit(frame_de(store, known), labels[known // split.n_frames])
    return model.predict_proba(frame_de(store, split.test))


def network(
    store: Store, published: bool, split: Split, labels: np.ndarray, config: Config
) -> np.ndarray:
    """Train SA-ST-Net of the published size for a fixed number of epochs, and predict."""
    frames = Frames(store, CPU, waveform_baseline=published)
    scaler = fit_eeg_scaler(frames, split)
    seed_torch(config.seed, split.fold, f"leakage ladder: {split.protocol}")
    net = SASTNet(store.ch_names)
    trained = PublishedClassifier(net, store, COMPUTE, scaler)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-4, weight_decay=5e-4)
    # With no epoch to choose, the validation part is there to be trained on.
    known = np.concatenate([split.train, split.val])
    label_of = torch.from_numpy(labels)
    for epoch in range(config.epochs):
        net.train()
        for numbers in batches(known, 64, config.seed, epoch, "leakage ladder: batches"):
            with COMPUTE.autocast():
                logits, _ = trained(frames[numbers], numbers)
            loss = F.cross_entropy(logits.float(), label_of[numbers // split.n_frames])
            loop.step(optimiser, loss, len(numbers))
    return classifier.predict(trained, frames, split.test)


MODELS: dict[str, Model] = {LINEAR: linear, NETWORK: network}


# --- the ladder


def ladder(
    store: Store, data: str, config: Config, models: Mapping[str, Model] = MODELS
) -> Iterator[Cell]:
    """Yield the cells of one set of data, `NO_EFFECT` or `EFFECT`."""
    stores = {PUBLISHED: with_published_de(store), DE: store}
    labels = classes_per_fold(store, data, config.seed)
    valence = class_labels(store, ("valence",), 5.0)
    for protocol in PROTOCOLS:
        splits = [
            thinned(make_split(store, valence, protocol, fold, config.seed), config.every)
            for fold in range(N_FOLDS)
        ]
        trials = [split.test // split.n_frames for split in splits]
        group, names = group_names(store, protocol)
        truth = [classes[tested] for classes, tested in zip(labels, trials, strict=True)]
        groups = names[np.concatenate(trials)]
        for baseline, name in itertools.product(stores, models):
            probabilities = [
                models[name](stores[baseline], baseline == PUBLISHED, split, classes, config)
                for split, classes in zip(splits, labels, strict=True)
            ]
            clusters = Clusters.of(groups, np.concatenate(truth), np.concatenate(probabilities))
            found = estimate([clusters])["accuracy"]
            yield Cell(data, protocol, baseline, name, group, len(clusters.groups),
                       found.value, found.low, found.high)  # fmt: skip


def thinned(split: Split, every: int) -> Split:
    """Return a split with every `every`-th frame of each trial only."""
    parts = ((name, getattr(split, name)) for name in ("train", "val", "test"))
    thin = {name: part[part % split.n_frames % every == 0] for name, part in parts}
    return replace(split, **thin)


# --- what has to come out


def expectation(cell: Cell, n_honest: int) -> tuple[str, bool]:
    """Return what a cell has to show, and whether it does, if `n_honest` have to cover chance."""
    if cell.data == EFFECT:
        return "above chance", cell.low > CHANCE
    if cell.protocol != "random-frame":
        low, high = joint_interval(cell, n_honest)
        return "covers chance", low <= CHANCE <= high
    if (cell.baseline, cell.model) == (PUBLISHED, NETWORK):
        text = f"{NETWORK} with the published baseline: {100 * LEAK:.0f} % or more"
        return text, cell.accuracy >= LEAK
    return "leaks: above chance", cell.low > CHANCE


def joint_interval(cell: Cell, n: int) -> tuple[float, float]:
    """Return a cell's interval widened so that `n` of them all hold in 95 % of studies.

    Of a dozen 95 % intervals one often misses, and nothing would be wrong. By Bonferroni, each
    is made one of 1 - 0.05 / n; its ends move as do the quantiles of Student's t.
    """
    alone, jointly = stats.t.isf([0.025, 0.025 / n], cell.n_groups - 1)
    wider = jointly / alone
    return (
        cell.accuracy - wider * (cell.accuracy - cell.low),
        cell.accuracy + wider * (cell.high - cell.accuracy),
    )


def n_honest(cells: Sequence[Cell]) -> int:
    """Return how many cells have to cover chance."""
    return sum(cell.data == NO_EFFECT and cell.protocol != "random-frame" for cell in cells)


def unexpected(cells: Sequence[Cell]) -> list[str]:
    """Return a sentence for each cell that is not as expected."""
    outcomes = [(cell, *expectation(cell, n_honest(cells))) for cell in cells]
    return [
        f"Not as expected ({expected}): {described(cell)}."
        for cell, expected, holds in outcomes
        if not holds
    ]


def described(cell: Cell) -> str:
    """Return a cell in words."""
    return (
        f"{cell.data}, protocol {cell.protocol}, {cell.baseline} baseline, {cell.model}: accuracy "
        f"{cell.accuracy:.3f}, 95 % interval {cell.low:.3f} to {cell.high:.3f}"
    )


# --- the table and the figure


def rows(cells: Sequence[Cell]) -> Iterator[list[str]]:
    """Yield the rows of the table."""
    found = {(c.data, c.protocol, c.baseline, c.model): c for c in cells}
    for data, protocol in itertools.product((NO_EFFECT, EFFECT), PROTOCOLS):
        row = [found[data, protocol, *tested] for tested in TESTED]
        outcomes = [expectation(cell, n_honest(cells)) for cell in row]
        figures = [
            f"{c.accuracy:.3f} ({c.low:.3f} to {c.high:.3f}){'' if holds else ' **NOT SO**'}"
            for c, (_, holds) in zip(row, outcomes, strict=True)
        ]
        groups = f"{row[0].n_groups} {PLURAL[row[0].group]}"
        expected = "; ".join(dict.fromkeys(text for text, _ in outcomes))
        yield [data, f"`{protocol}`, {groups}", *figures, expected]


def draw(path: Path, cells: Sequence[Cell]) -> None:
    """Draw accuracies with intervals, one panel per set of data."""
    import matplotlib.style
    from matplotlib.figure import Figure

    titles = {
        NO_EFFECT: "Nothing to find: chance is right",
        EFFECT: "An effect: more than chance is right",
    }
    colours = {PUBLISHED: "#D55E00", DE: "#0072B2"}  # Okabe-Ito
    markers = {LINEAR: "o", NETWORK: "s"}
    style = {"font.size": 13, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.style.context(["default", style]):
        figure = Figure(figsize=(12, 5.6), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for ax, (data, title) in zip(axes, titles.items(), strict=True):
            ax.axvspan(-0.5, 0.5, color="0.93", zorder=0)
            ax.axhline(CHANCE, color="black", linestyle="--", linewidth=1.2)
            ax.text(-0.45, CHANCE - 0.01, "chance", va="top")
            for place, (baseline, model) in enumerate(TESTED):
                row = [c for c in cells if (c.data, c.baseline, c.model) == (data, baseline, model)]
                row.sort(key=lambda cell: PROTOCOLS.index(cell.protocol))
                values = np.array([cell.accuracy for cell in row])
                ends = np.array([[cell.low, cell.high] for cell in row]).T
                face = "white" if baseline == PUBLISHED else colours[baseline]
                look = {"color": colours[baseline], "mfc": face, "marker": markers[model]}
                look |= {"markersize": 8, "mew": 1.8, "linestyle": "none", "capsize": 4}
                x, label = (
                    np.arange(len(row)) + 0.2 * (place - 1.5),
                    f"{model}, {baseline} baseline",
                )
                ax.errorbar(x, values, np.abs(ends - values), label=label, **look)
            ax.set_title(title, loc="left", size=14)
            ax.set_xticks(range(len(PROTOCOLS)), ["random-frame\n(leaky)", *PROTOCOLS[1:]])
            ax.set_xlim(-0.5, 3.5)
            ax.set_xlabel("Protocol")
        axes[0].set_ylim(min(0.4, *(cell.low - 0.02 for cell in cells)), 1.02)
        axes[0].set_ylabel("Accuracy per frame, 95 % interval")
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=4, frameon=False)
        with atomic_write(path) as file:
            figure.savefig(file, format="png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    command_line(main, Config)
