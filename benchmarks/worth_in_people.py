"""What generated EEG is worth in people, and whether this assay could show it.

    .venv/bin/python benchmarks/worth_in_people.py --data-dir DE_feature/study-eegmat

The learning curve is the accuracy of a classifier that has gone through stages 2 and 3 on real EEG
alone, against the number of people trained on. At some of these numbers, stage 3 is also run with
generated EEG, with its controls, and with additional real people, whom the classifier has not seen:
the positive control. People validated and tested on are those of the full fold. Classifiers take as
many steps as with all people, since else fewer people would also mean less training. (The generator
of few people is that of an early epoch anyway: more steps make it worse on validation.)

The stages are those of the scripts, without baselines, figures and judges. Runs are kept, and go on
where they stopped. Fills in the tables of benchmarks/WORTH_IN_PEOPLE.md.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

from benchmarks.documents import fill, interval, table
from de3dgan.base.cli import command_line
from de3dgan.base.paths import from_root
from de3dgan.base.recipe import SCRIPTS, load_script
from de3dgan.data.labels import class_labels
from de3dgan.data.opening import open_store
from de3dgan.data.splits import group_names, make_split
from de3dgan.evaluation.leakage import certify
from de3dgan.evaluation.metrics import Clusters, by_trial
from de3dgan.evaluation.statistics import (
    N_DRAWS,
    Comparison,
    Seeds,
    bootstrap_weights,
    compare,
    estimate,
    holm,
)
from de3dgan.evaluation.worth import Worth, slopes, worth
from de3dgan.training.run import Run

METRIC = "balanced_accuracy"
UNITS = ("frame", "trial")
#: What stage 3 is run with where a generator is trained, and what tables call it.
ARMS = {"generated": "generated EEG", "real": "the same real EEG again"}


@dataclass(frozen=True)
class Config:
    """What is trained, and where it goes."""

    data_dir: Path = Path("DE_feature/eegmat")  # store that preprocess_de.py made of EEGMAT
    runs_dir: Path = Path("runs/worth_in_people")  # where runs are kept
    sizes: tuple[int, ...] = (4, 8, 12, 16, 0)  # people trained on, of the learning curve; 0: all
    measured: tuple[int, ...] = (8,)  # those of them where EEG is generated
    more: tuple[int, ...] = (2, 4)  # additional people of the positive control
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)  # which fifths are tested on
    fold_seeds: tuple[int, ...] = (520,)  # each draws folds and people anew
    seed: int = 520  # of the initial weights and the batches
    out: Path = ROOT / "benchmarks" / "WORTH_IN_PEOPLE.md"  # document that holds the tables


def main(config: Config) -> None:
    """Train what is missing, and fill in the tables."""
    for fold_seed in config.fold_seeds:
        for fold in config.folds:
            for size in config.sizes:
                train(config, size, fold_seed, fold)
    drawn = {unit: Drawn(config, unit) for unit in UNITS}
    lines = [*curve_lines(config, drawn)]
    for size in config.measured:
        lines += ["", *arm_lines(config, size, drawn)]
    print(*lines, sep="\n")
    fill(config.out, "worth_in_people.py", lines)


def train(config: Config, size: int, fold_seed: int, fold: int) -> None:
    """Run the stages of a fold on `size` people, unless that is done."""
    n_all = people(config, fold_seed, fold)
    if size > n_all:
        raise SystemExit(f"There are {n_all} people to train on in fold {fold}, not {size}.")
    n = size or n_all
    common = {
        "data_dir": config.data_dir,
        "protocol": "subject",
        "fold": fold,
        "fold_seed": fold_seed,
        "seed": config.seed,
        "train_groups": size,
    }

    def run(stage: str, runs_dir: Path, **settings: Any) -> None:
        script = load_script(ROOT / "Workload-main" / f"{SCRIPTS[stage]}_Workload.py")
        if stage != "gan":
            settings["epochs"] = round(script.Config.epochs * n_all / n)
        script.main(script.Config(**common, runs_dir=runs_dir, **settings))

    with stages_alone():
        here = place(config, size, fold_seed)
        run("classifier", here)
        run("finetune", here, augmentation="none")
        if size not in config.measured:
            return
        run("gan", here)
        for arm in ARMS:
            run("finetune", here, augmentation=arm)
        for k in config.more if size else ():
            there = place(config, size, fold_seed, k)
            copy = fold_dir(there, fold) / "classifier"
            if not copy.exists():
                shutil.copytree(fold_dir(here, fold) / "classifier", copy)
            run("finetune", there, augmentation="people", more_groups=min(k, n_all - size))


def place(config: Config, size: int, fold_seed: int, k: int = 0) -> Path:
    """Return the runs folder of a number of people, and of additional ones."""
    name = f"{size or 'all'}{f'+{k}' if k else ''}-people"
    return from_root(config.runs_dir) / f"folds{fold_seed}" / name


def fold_dir(runs_dir: Path, fold: int) -> Path:
    """Return the folder of a fold's stages."""
    return runs_dir / "workload" / "subject" / f"fold{fold}"


@cache
def people(config: Config, fold_seed: int, fold: int) -> int:
    """Return how many people a fold has to train on."""
    recipe = load_script(ROOT / "Workload-main" / f"{SCRIPTS['classifier']}_Workload.py").Config
    store = open_store(from_root(config.data_dir))
    labels = class_labels(store, recipe.ratings, recipe.threshold)
    split = make_split(store, labels, "subject", fold, fold_seed)
    return len(set(group_names(store, "subject")[1][split.trials("train")]))


@contextmanager
def stages_alone() -> Iterator[None]:
    """Have stages train, be certified and predict, and do nothing beside."""

    def of_generator(run: Run, data: Any, trained: Any, best_epoch: int) -> dict[str, Any]:
        content = run.hand_over(best_epoch, trained.content())
        certify(run, content, data.frames, run.split.test)
        return {"best_epoch": best_epoch}

    def of_classifier(run: Run, frames: Any, trained: Any, best_epoch: int, _: float) -> tuple:
        content = run.hand_over(best_epoch, trained.content())
        tested = run.split.test
        certify(run, content, frames, tested)
        trials = tested // run.split.n_frames
        found = {
            "trials": trials,
            "groups": group_names(run.store, run.split.protocol)[1][trials],
            "labels": run.labels[trials],
            "probabilities": predict(trained, frames, tested),
        }
        np.savez(run.dir / "predictions.npz", **found)
        return {"best_epoch": best_epoch}, found["probabilities"]

    from de3dgan.stages.classifier import predict

    with ExitStack() as stack:
        for name, stand_in in {
            "de3dgan.stages.generators.evaluate": of_generator,
            "de3dgan.stages.classifier.evaluate": of_classifier,
            "de3dgan.figures.stages.draw_generator": lambda *_: None,
            "de3dgan.figures.stages.draw_classifier": lambda *_: None,
        }.items():
            stack.enter_context(patch(name, stand_in))
        yield


class Drawn:
    """The predictions of all runs per person tested, and their accuracy in bootstrap draws.

    Parameters
    ----------
    config : Config
        Which runs.
    unit : str
        "frame" or "trial".

    Attributes
    ----------
    sizes : list of float
        People trained on, of the learning curve; where it is all, in the mean over folds.
    accuracies : array, (1 + n_draws, n_sizes)
        The learning curve, of all people tested and of draws of them.
    n_groups : int
        People tested.
    """

    def __init__(self, config: Config, unit: str):
        self.config, self.unit = config, unit
        self.pooled_folds = len(config.folds) > 1
        everyone = [people(config, s, fold) for s in config.fold_seeds for fold in config.folds]
        self.sizes = [size or float(np.mean(everyone)) for size in config.sizes]
        curve = [self.clusters(size) for size in config.sizes]
        self.n_groups = len(next(iter(curve[0].values())).groups)
        once = np.ones((1, self.n_groups))
        self._weights = np.concatenate([once, bootstrap_weights(self.n_groups, N_DRAWS)])
        self.accuracies = np.stack([self._accuracy(seeds) for seeds in curve], axis=1)

    def clusters(
        self, size: int, stage: str = "finetune-none", k: int = 0
    ) -> dict[Seeds, Clusters]:
        """Return the predictions of a stage per person, by seeds of the folds and of training."""
        seeds = {}
        for seed in self.config.fold_seeds:
            where = place(self.config, size, seed, k)
            parts = []
            for fold in self.config.folds:
                with np.load(fold_dir(where, fold) / stage / "predictions.npz") as found:
                    p = [found[name] for name in ("trials", "labels", "probabilities")]
                    groups = found["groups"]
                if self.unit == "trial":
                    _, first = np.unique(p[0], return_index=True)
                    parts.append((groups[first], *by_trial(*p)))
                else:
                    parts.append((groups, *p[1:]))
            pooled = Clusters.of(*map(np.concatenate, zip(*parts, strict=True)))
            seeds[seed, self.config.seed] = pooled
        return seeds

    def _accuracy(self, seeds: Mapping[Seeds, Clusters]) -> np.ndarray:
        found = [each.metrics(self._weights, [METRIC])[METRIC] for each in seeds.values()]
        return np.mean(found, axis=0)

    def gain(self, size: int, stage: str, k: int = 0) -> tuple[Comparison, Worth]:
        """Return what a stage gains over real EEG alone, also in people."""
        with_it, without = self.clusters(size, stage, k), self.clusters(size)
        gains = self._accuracy(with_it) - self._accuracy(without)
        n = self.sizes[self.config.sizes.index(size)]
        return (
            compare(with_it, without, METRIC, pooled_folds=self.pooled_folds),
            worth(gains, self.sizes, self.accuracies, n, self.n_groups, self.pooled_folds),
        )

    def curve_gain(self, size: int, k: int) -> float:
        """Return what the learning curve says that `k` more people gain."""
        n = self.sizes[self.config.sizes.index(size)]
        return float(slopes(self.sizes, self.accuracies)[0] * math.log((n + k) / n))


def curve_lines(config: Config, drawn: dict[str, Drawn]) -> list[str]:
    """Return the table of the learning curve."""
    frame = drawn["frame"]
    rows = []
    for i, size in enumerate(config.sizes):
        cells = [f"{frame.sizes[i]:.3g}{'' if size else ' (all)'}"]
        for each in drawn.values():
            for stage in ("classifier", "finetune-none"):
                found = estimate(each.clusters(size, stage), pooled_folds=each.pooled_folds)
                cells.append(interval(found[METRIC]))
        rows.append(cells)
    columns = [f"{stage}, per {unit}" for unit in UNITS for stage in ("stage 2", "stage 3")]
    fitted = []
    for unit, each in drawn.items():
        twice = math.log(2) * slopes(each.sizes, each.accuracies)[0]
        x = np.log(each.sizes)
        fit = np.polyval(np.polyfit(x, each.accuracies[0], 1), x)
        far = np.abs(fit - each.accuracies[0]).max()
        fitted.append(
            f"per {unit} {points(twice)} points for twice as many people (at most "
            f"{100 * far:.1f} points from the figures)"
        )
    seeds = ", ".join(map(str, config.fold_seeds))
    return [
        f"Balanced accuracy with real EEG alone; {frame.n_groups} people tested, folds "
        f"{', '.join(map(str, config.folds))}, seeds of the folds {seeds}.",
        "",
        *table(("people trained on", *columns), rows),
        "",
        f"The curve fitted to stage 3: {'; '.join(fitted)}.",
    ]


def arm_lines(config: Config, size: int, drawn: dict[str, Drawn]) -> list[str]:
    """Return the table of a number of people: what each kind of EEG gains, also in people."""
    arms = [(name, "finetune" if arm == "generated" else f"finetune-{arm}", 0)
            for arm, name in ARMS.items()]  # fmt: skip
    if size:
        arms += [(f"{k} additional people", "finetune-people", k) for k in config.more]
    rows, sentences = [[name] for name, _, _ in arms], []
    for unit, each in drawn.items():
        found = [each.gain(size, stage, k) for _, stage, k in arms]
        adjusted = holm([gain.p for gain, _ in found])
        for row, (gain, people_), p, (_, _, k) in zip(rows, found, adjusted, arms, strict=True):
            row += [interval(gain.difference, "+.1f", 100), f"{p:.2g}", in_people(people_)]
            row.append(points(each.curve_gain(size, k)) if k else "–")
        if size and config.more:
            sentences.append(of_control(size, unit, config.more[-1], found[-1][0], adjusted[-1]))
    columns = [
        f"{name}, per {unit}"
        for unit in UNITS
        for name in ("gain (points)", "adjusted p", "worth in people", "gain as the curve says")
    ]
    n = f"{size} people" if size else "all people"
    lines = [f"With {n} to train on:", "", *table(("stage 3 with", *columns), rows)]
    return [*lines, "", " ".join(sentences)] if sentences else lines


def of_control(size: int, unit: str, k: int, gain: Comparison, p: float) -> str:
    """Say whether the positive control shows that an augmentation could be found to help."""
    found = f"{k} more people gain {interval(gain.difference, '+.1f', 100)} points per {unit}"
    if gain.difference.low > 0 and p < 0.05:
        return f"{found}: the assay detects them."
    return (
        f"{found}: the assay does not detect them, so that with {size} people no augmentation of "
        "that worth could be shown to help."
    )


def points(difference: float) -> str:
    """Return a difference of accuracy as text, without a sign if it rounds to zero."""
    return f"{100 * difference:+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0")


def in_people(found: Worth) -> str:
    """Return a worth with its interval as text; what is beyond the curve is said to be."""

    def end(x: float) -> str:
        if math.isinf(x):
            limit = found.most if x > 0 else found.least
            return f"{'more' if x > 0 else 'less'} than {limit:+.0f}"
        return f"{x:+.1f}"

    return f"{end(found.value)} ({end(found.low)} to {end(found.high)})"


if __name__ == "__main__":
    command_line(main, Config)
