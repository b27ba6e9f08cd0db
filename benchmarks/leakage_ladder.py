"""Which protocols tell an effect from a leak, on data of which the answer is known.

    .venv/bin/python benchmarks/leakage_ladder.py

Two sets of recordings are simulated in DEAP's format. One has no effect of the class, and a
fingerprint in every trial; the other has an effect and no fingerprint. Two models, a linear one on
DE and SA-ST-Net, are tested on both under all four protocols, with the published baseline removal
and with this project's. Writes benchmarks/LEAKAGE_LADDER.md, .csv and .png.

What has to come out is asserted, see `expectation`: a cell of the table that does not comply is
named at the end, and the exit code is then 1.
"""

from __future__ import annotations

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
from torch.nn import functional as F

from de3dgan.base.cli import command_line
from de3dgan.base.files import atomic_write, make_folder, write_csv, write_text
from de3dgan.base.recipe import N_FOLDS
from de3dgan.base.seeds import derived_rng, seed_torch
from de3dgan.data.frames import Frames, batches
from de3dgan.data.preprocessing import build_store
from de3dgan.data.scalers import fit_eeg_scaler
from de3dgan.data.splits import Split, class_labels, group_names, make_split
from de3dgan.data.store import Store
from de3dgan.data.synthetic import Signal, write_deap
from de3dgan.eeg.de import differential_entropy
from de3dgan.evaluation import baselines
from de3dgan.evaluation.statistics import Clusters, estimate
from de3dgan.stages import classifier
from de3dgan.training import loop
from de3dgan.training.device import Compute
from models import SASTNet

NO_EFFECT, EFFECT = "no effect", "effect"
PUBLISHED, DE = "published", "DE"
LINEAR, NETWORK = "linear", "SA-ST-Net"
#: From the leakiest to the strictest.
PROTOCOLS = ("random-frame", "trial", "video", "subject")
CHANCE = 0.5
#: Accuracy that the leak alone gives to the published protocol and baseline, at least.
LEAK = 0.9
PLURAL = {"trial": "trials", "stimulus": "stimuli", "subject": "subjects"}
CPU = torch.device("cpu")
COMPUTE = Compute(CPU)


@dataclass(frozen=True)
class Config:
    """What is simulated, how long SA-ST-Net is trained, and where results go."""

    n_subjects: int = 20  # simulated people
    n_trials: int = 16  # trials (videos) of each
    effect_strength: float = 1.5  # of the data with an effect, in nats; see LEAKAGE_LADDER.md
    every: int = 3  # of each trial's seconds, every which one is used
    epochs: int = 3  # of SA-ST-Net: passes over the training frames
    seed: int = 0  # of the simulation, the folds, the initial weights and the batches
    out_dir: Path = ROOT / "benchmarks"  # folder of the table and the figure


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
    make_folder(config.out_dir)
    write_csv(config.out_dir / "leakage_ladder.csv", map(asdict, cells))
    write_text(config.out_dir / "LEAKAGE_LADDER.md", report(config, cells))
    draw(config.out_dir / "leakage_ladder.png", config, cells)
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
    """Return `store` with the DE of its EEG after the published baseline removal.

    The waveform is subtracted before anything else, and nothing from DE.
    """
    frames = Frames(store, CPU, waveform_baseline=True)
    de = [
        differential_entropy(frames.continuous(np.array([trial]))[0])
        for trial in range(store.n_trials)
    ]
    return replace(store, de=np.stack(de).astype(np.float32))


def classes_per_fold(store: Store, data: str, seed: int) -> list[np.ndarray]:
    """Return the class of each trial, for each fold: int (n_trials,).

    Where there is an effect, valence. Where there is none, any classes do, and a coin is tossed for
    every trial, anew in each fold. Valence would not do, for two reasons, neither of them a leak:
    it is balanced within each subject, so that a model that knows the subject and its majority
    in training falls below chance; and folds that share their classes test what they train each
    other on, so that their sum varies more than groups drawn at random say.
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
    """Predict by logistic regression on the store's DE, which knows which baseline it is of."""
    return baselines.linear_probabilities(store, split, labels, split.test)


def network(
    store: Store, published: bool, split: Split, labels: np.ndarray, config: Config
) -> np.ndarray:
    """Train SA-ST-Net of the published size for a fixed number of epochs, and predict."""
    frames = Frames(store, CPU, waveform_baseline=published)
    scaler = fit_eeg_scaler(frames, split)
    seed_torch(config.seed, split.fold, f"leakage ladder: {split.protocol}")
    net = SASTNet(store.ch_names)
    trained = classifier.FrameClassifier(net, store, COMPUTE, scaler)
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
    """Yield the cells of one set of data.

    Parameters
    ----------
    store : Store
        The data.
    data : str
        `NO_EFFECT` or `EFFECT`.
    config : Config
        Settings.
    models : mapping of str to Model
        What is trained and tested.
    """
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
        truth = [of_fold[tested] for of_fold, tested in zip(labels, trials, strict=True)]
        for baseline, of_baseline in stores.items():
            for name, model in models.items():
                probabilities = [
                    model(of_baseline, baseline == PUBLISHED, split, of_fold, config)
                    for split, of_fold in zip(splits, labels, strict=True)
                ]
                clusters = Clusters.of(
                    names[np.concatenate(trials)],
                    np.concatenate(truth),
                    np.concatenate(probabilities),
                )
                accuracy = estimate([clusters])["accuracy"]
                yield Cell(
                    data,
                    protocol,
                    baseline,
                    name,
                    group,
                    len(clusters.groups),
                    accuracy.value,
                    accuracy.low,
                    accuracy.high,
                )


def thinned(split: Split, every: int) -> Split:
    """Return a split with every `every`-th second of each trial only."""
    parts = {
        name: part[part % split.n_frames % every == 0]
        for name, part in {"train": split.train, "val": split.val, "test": split.test}.items()
    }
    return replace(split, **parts)


# --- what has to come out


def expectation(cell: Cell, n_honest: int) -> tuple[str, bool]:
    """Return what a cell has to show, and whether it does.

    Parameters
    ----------
    cell : Cell
        A cell.
    n_honest : int
        Cells of the table that have to cover chance.
    """
    if cell.data == EFFECT:
        return "above chance", cell.low > CHANCE
    if cell.protocol != "random-frame":
        low, high = joint_interval(cell, n_honest)
        return "covers chance", low <= CHANCE <= high
    if cell.baseline == PUBLISHED and cell.model == NETWORK:
        return f"{NETWORK} with the published baseline: {percent(LEAK)} or more", (
            cell.accuracy >= LEAK
        )
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
    """Return a sentence for each cell that is not as it has to be."""
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


# --- the report


def report(config: Config, cells: Sequence[Cell]) -> str:
    """Return LEAKAGE_LADDER.md."""
    n, wrong = n_honest(cells), unexpected(cells)
    found = {(c.data, c.protocol, c.baseline, c.model): c for c in cells}
    columns = [(baseline, model) for baseline in (PUBLISHED, DE) for model in MODELS]
    table = [
        "| data | protocol | " + " | ".join(f"{m}, {b} baseline" for b, m in columns) + " | |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for data in (NO_EFFECT, EFFECT):
        for protocol in PROTOCOLS:
            row = [found[data, protocol, *column] for column in columns]
            outcomes = [expectation(cell, n) for cell in row]
            figures = [
                f"{c.accuracy:.3f} ({c.low:.3f} to {c.high:.3f}){'' if holds else ' **NOT SO**'}"
                for c, (_, holds) in zip(row, outcomes, strict=True)
            ]
            asserted = "; ".join(dict.fromkeys(text for text, _ in outcomes))
            groups = f"{row[0].n_groups} {PLURAL[row[0].group]}"
            table.append(
                f"| {data} | `{protocol}`, {groups} | {' | '.join(figures)} | {asserted} |"
            )
    leaks, news = (
        [percent(found[data, protocol, b, NETWORK].accuracy) for b in (PUBLISHED, DE)]
        for data, protocol in ((NO_EFFECT, "random-frame"), (EFFECT, "subject"))
    )
    honest = [c for c in cells if c.data == NO_EFFECT and c.protocol != "random-frame"]
    missed = sum(not c.low <= CHANCE <= c.high for c in honest)
    strength, n_trials = config.effect_strength, config.n_subjects * config.n_trials
    seconds = f"every {ordinal(config.every)} second"
    outcome = " ".join(
        ["**Not all of it came out.**", *wrong] if wrong else ["All of it came out."]
    )
    return f"""# The leakage ladder: which protocols tell an effect from a leak?

Made by `.venv/bin/python benchmarks/leakage_ladder.py`, which takes 36 minutes on one core (less
on two) and 1.5 GB of disk: {config.n_subjects} subjects of {config.n_trials} trials, {seconds}
of a trial, seed {config.seed}. Figures of SA-ST-Net differ a little from machine to machine.

Two sets of recordings were simulated in DEAP's format, so that the right answer is known:

- **no effect**: classes are coin tosses. Each trial has a fingerprint, a waveform of its own that
  repeats every second and has nothing to do with the class. *Chance is the right answer.*
- **effect**: in trials of high valence, the amplitude of alpha is {np.exp(strength):.1f} times as
  large ({strength:g} nats) at eight electrodes at the back of the head. There is no fingerprint.
  *More than chance is the right answer.*

Accuracy per one-second frame; chance is {CHANCE}. In brackets, the 95 % interval by a bootstrap of
the groups that the protocol keeps together (of trials, for `window`). The last column is what the
program asserts; it exits with 1 and names the cell if one does not comply. {outcome}

{chr(10).join(table)}

![Accuracy of all cells, with intervals](leakage_ladder.png)

## What it shows

- **`window` reports success where there is nothing to find**: SA-ST-Net {leaks[0]} with the
  published baseline removal and {leaks[1]} without it. The linear model leaks less, as it has 129
  weights to learn {n_trials} trials by heart.
- **`trial`, `video` and `subject` report chance** on the same recordings.
- **They are not blind**: where there is an effect, all of them find it.
- **The published baseline removal costs SA-ST-Net accuracy where the protocol is honest**: in
  new subjects, {news[0]} with it and {news[1]} without. The waveform that is subtracted from all
  seconds of a trial makes training trials easy to learn by heart, and what is learnt by heart is
  of no use in others.

## How it was done

- *Published baseline*: from every second of a trial, the mean of the three seconds before the trial
  is subtracted; DE is that of the EEG so made. *DE baseline*, this project's: the EEG stays as it
  is, and the mean DE of the three seconds is subtracted from DE.
- *linear* is the logistic regression on DE in `de3dgan.evaluation.baselines`. *SA-ST-Net* has the published
  size, learning rate and batches; it sees the EEG, and is trained for {config.epochs} epochs, with
  no choice of the epoch. Both are trained on the training and validation parts, {seconds}
  of a trial. All five folds are predicted, and counted together.
- An effect of {strength:g} nats is a strong one, chosen for SA-ST-Net's sake: it has no feature of
  band power that does not depend on phase. An effect of 1 nat it hardly found in new subjects
  with the published baseline removal, 53.7 % (51.4 to 56.0), but well without it, 83.9 %
  (80.9 to 86.5): `--effect-strength 1`.
- The coins are tossed anew for each fold. Valence itself would mislead in two ways, neither a
  leak. It is balanced within each subject, so that a class that is frequent in a subject's training
  trials is rare in its test trials, and a model that knows the subject is *below* chance. And folds
  that share their classes test what they train each other on, so that their sum varies more than
  a bootstrap of groups knows: of its 95 % intervals for the linear model, four fifths covered
  chance in 40 repetitions with common coins; with new ones for each fold, 94 % in 60 repetitions.
- Of {n} intervals of 95 %, one often misses by luck. "Covers chance" is therefore asserted
  jointly, of intervals widened to {percent(1 - 0.05 / n)} each (Bonferroni). In the table,
  {missed} of them miss.
"""


def percent(share: float) -> str:
    """Return 0.968 as "96.8 %", and 0.9 as "90 %"."""
    return f"{100 * share:.3g} %"


def ordinal(n: int) -> str:
    """Return "third" for 3, and so on."""
    return {1: "single", 2: "second", 3: "third"}.get(n, f"{n}th")


def draw(path: Path, config: Config, cells: Sequence[Cell]) -> None:
    """Draw accuracies with intervals, one panel per set of data."""
    import matplotlib.style
    from matplotlib.figure import Figure

    titles = {
        NO_EFFECT: "Nothing to find: chance is right",
        EFFECT: f"An effect of {config.effect_strength:g} nats: more than chance is right",
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
            for column, (baseline, colour) in enumerate(colours.items()):
                for place, (model, marker) in enumerate(markers.items()):
                    row = [
                        cell
                        for protocol in PROTOCOLS
                        for cell in cells
                        if (cell.data, cell.protocol, cell.baseline, cell.model)
                        == (data, protocol, baseline, model)
                    ]
                    values = np.array([cell.accuracy for cell in row])
                    ends = np.array([[cell.low, cell.high] for cell in row]).T
                    ax.errorbar(
                        np.arange(len(row)) + 0.2 * (2 * column + place - 1.5),
                        values,
                        np.abs(ends - values),
                        color=colour,
                        marker=marker,
                        markersize=8,
                        markerfacecolor="white" if baseline == PUBLISHED else colour,
                        markeredgewidth=1.8,
                        linestyle="none",
                        capsize=4,
                        label=f"{model}, {baseline} baseline",
                    )
            ax.set_title(title, loc="left", size=14)
            ax.set_xticks(range(len(PROTOCOLS)), ["window\n(leaky)", *PROTOCOLS[1:]])
            ax.set_xlim(-0.5, 3.5)
            ax.set_xlabel("Protocol")
        axes[0].set_ylim(min(0.4, *(cell.low - 0.02 for cell in cells)), 1.02)
        axes[0].set_ylabel("Accuracy per frame, 95 % interval")
        figure.legend(
            *axes[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=4,
            frameon=False,
            columnspacing=1.2,
            handletextpad=0.3,
        )
        with atomic_write(path) as file:
            figure.savefig(file, format="png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    command_line(main, Config)
