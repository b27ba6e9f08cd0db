"""Judges of generated EEG: what each says of generated EEG, of noise, and of real EEG.

    .venv/bin/python benchmarks/judges.py --data-dir DE_feature/study-eegmat --runs-dirs runs/study

Reads what stage 1 has measured of every generator that is there, asks the judges about other people
besides, pools membership over all generators, and fills in benchmarks/JUDGES.md. The figures of
folds are means; their intervals are over the people of all folds, each of whom is tested once per
seed of folds.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.documents import fill, interval, table
from de3dgan.base.cli import command_line
from de3dgan.base.errors import UserError
from de3dgan.base.files import read_json
from de3dgan.base.paths import display_path, from_root
from de3dgan.base.seeds import derived_rng
from de3dgan.data.splits import Split, group_names
from de3dgan.data.store import Store
from de3dgan.evaluation import judges
from de3dgan.evaluation.measures import Found as EEG
from de3dgan.evaluation.membership import by_group, left_out, nearness
from de3dgan.evaluation.metrics import Clusters
from de3dgan.evaluation.names import JUDGES
from de3dgan.evaluation.quality import N_SEGMENTS, N_TRIALS, Part
from de3dgan.evaluation.segments import LENGTHS, describe
from de3dgan.evaluation.statistics import estimate, over_folds
from de3dgan.stages.generation import TrainedGenerator, load_generator, store_of
from de3dgan.stages.generators import fit_of

METHODS = {"spectral": "our generator", "published": "the published generator"}
#: What judges are asked to tell from real EEG, beside generated EEG; by its name in a result.
OTHERS = {"noise": "noise of the same DE", "real": "real EEG, other seconds"}
PEOPLE = "real EEG, other people"
UNITS = (*LENGTHS, "trial")


@dataclass(frozen=True)
class Config:
    """Which generators, and where the tables go."""

    data_dir: Path  # store that the generators were trained on
    runs_dirs: tuple[Path, ...]  # folders of runs, or of studies with several seeds
    task: str = "workload"  # whose generators
    protocol: str = "subject"  # who is never on both sides
    jobs: int = 2  # generators at a time
    out: Path = ROOT / "benchmarks" / "JUDGES.md"  # document that holds the tables


@dataclass(frozen=True)
class Found:
    """What is found of one generator.

    Attributes
    ----------
    seed : int
        Of its folds.
    said : dict of str to dict
        What the judges say of each kind of EEG, see `judges.ask`.
    copies : dict of str to dict
        How like each kind of EEG is to training EEG, by what it was generated from.
    members : dict of str to tuple
        Names, nearness and who was trained on, by kind of generator; see `membership.by_group`.
    """

    seed: int
    said: dict[str, dict]
    copies: dict[str, dict]
    members: dict[str, tuple]


def main(config: Config) -> None:
    """Ask about all generators, and write the tables."""
    pattern = f"**/{config.task}/{config.protocol}/fold*/gan/model.pt"
    paths = [path for runs in config.runs_dirs for path in sorted(from_root(runs).glob(pattern))]
    if not paths:
        where = ", ".join(display_path(from_root(runs)) for runs in config.runs_dirs)
        raise UserError(
            f"There is no generator of {config.task} in {where}: train one per fold with the "
            "3D-UNet_GAN script of the task."
        )
    results = [read_json(path.parent / "result.json") for path in paths]
    first_seed = results[0]["fold_seed"]
    tasks = [
        delayed(found_of)(path, result, config, result["fold_seed"] == first_seed)
        for path, result in zip(paths, results, strict=True)
    ]
    found = list(tqdm(Parallel(config.jobs, return_as="generator")(tasks), total=len(paths)))
    said = by_kind([of.said for of in found])
    seeds = {kind: len({of.seed for of in found if kind in of.said}) for kind in said}
    most = max(seeds.values())
    seeds_are = "one seed" if most == 1 else f"{most} seeds"
    lines = [
        f"{len(found)} generators, folds drawn by {seeds_are}, protocol {config.protocol}, task "
        f"{config.task}.",
        "",
        *strongest_table(said, seeds),
    ]
    for kind, verdicts in said.items():
        lines += ["", f"Told from real EEG: **{kind}**.", "", *judges_table(verdicts, seeds[kind])]
    copies, members = by_kind([of.copies for of in found]), by_kind([of.members for of in found])
    lines += ["", "Copying, by what the EEG was generated from.", "", *copying_table(copies)]
    lines += ["", "Membership.", "", *membership_table(members)]
    fill(config.out, "judges.py", lines)


def by_kind(found: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return what was found in each fold, by kind of EEG."""
    kinds = dict.fromkeys(kind for fold in found for kind in fold)
    return {kind: [fold[kind] for fold in found if kind in fold] for kind in kinds}


def found_of(path: Path, result: Mapping[str, Any], config: Config, ask_people: bool) -> Found:
    """Return what stage 1 has measured of a generator, its result, and what is asked here.

    Other people, which takes long, are asked about if `ask_people`.
    """
    generator = load_generator(path)
    store = store_of(generator, config.data_dir)
    origin = generator.origin
    method = METHODS[origin["settings"]["method"]]
    kinds = {"generated": method, **OTHERS}
    fold = Fold(store, origin)
    said = {kinds[name]: said for name, said in result["judges"].items()}
    return Found(
        fold.seed,
        said | (fold.people() if ask_people else {}),
        {kinds[name]: row["copying"] for name, row in result["quality"].items()},
        {method: fold.members(generator)},
    )


class Fold:
    """The trials of a fold, and what is asked about them."""

    def __init__(self, store: Store, origin: Mapping[str, Any]):
        self.store = store
        self.seed = origin["settings"]["fold_seed"]
        fold, n_frames = origin["settings"]["fold"], store.n_frames

        def frames(part: str) -> np.ndarray:
            trials = np.sort(np.array(origin["trials"][part]))
            return (trials[:, None] * n_frames + np.arange(n_frames)).ravel()

        parts = [frames(part) for part in ("train", "val", "test")]
        protocol = origin["settings"]["protocol"]
        self.split = Split(protocol, fold, self.seed, n_frames, *parts)
        self.parts = {name: Part.of(self.split, name, n) for name, n in N_TRIALS.items()}
        self.groups = group_names(store, protocol)[1]

    def people(self) -> dict[str, dict]:
        """Return what judges say who have learnt to tell two random halves of the people apart.

        Nothing where a part of the split has one person only.
        """
        if any(len(set(self.groups[part.trials])) < 2 for part in self.parts.values()):
            return {}
        pairs = []
        for name, part in self.parts.items():
            rng = derived_rng(self.seed, self.split.fold, f"two kinds of {name} people")
            people = rng.permutation(np.unique(self.groups[part.trials]))
            second = np.isin(self.groups[part.trials], people[: len(people) // 2])
            eeg, n = np.asarray(self.store.eeg[part.trials]), N_SEGMENTS[name]
            sides = (
                describe(eeg[rows], part.trials[rows], part.wanted[rows], False, n, self.seed)
                for rows in (~second, second)
            )
            pairs.append(tuple(sides))
        return {PEOPLE: judges.ask(*pairs, self.groups, self.seed)}

    def members(self, generator: TrainedGenerator) -> tuple:
        """Return the people, how near EEG generated for them is to theirs, and who was trained on.

        See `membership.by_group`.
        """
        train, test = (self.parts[name].trials for name in ("train", "test"))
        scores = []
        for trials in (train, test):
            de = self.store.absolute_de(trials)
            real = EEG.of(np.asarray(self.store.eeg[trials]))
            near = nearness(real, EEG.of(generator(de, trials, 0)), de)
            scores.append(near | fit_of(generator, self.store)(trials))
        both = {name: np.concatenate([near[name] for near in scores]) for name in scores[0]}
        trials = np.concatenate([train, test])
        return by_group(both, self.groups[trials], np.arange(len(trials)) < len(train))


def mean(values: list[float]) -> float:
    """Return the mean of some values."""
    return sum(values) / len(values)


def auc_cell(verdicts: list[Mapping[str, Any]], n_seeds: int) -> str:
    """Return the mean AUC of folds, and a 95 % interval."""
    value, low, high = over_folds([(v["auc"], v["low"], v["high"]) for v in verdicts], n_seeds)
    return f"{value:.3f}" if math.isnan(low) else f"{value:.3f} ({low:.2f} to {high:.2f})"


def strongest_table(said: Mapping[str, list[dict]], seeds: Mapping[str, int]) -> list[str]:
    """Return the table of the strongest judge of each unit, by what is told from real EEG.

    `seeds` is the number of seeds of folds, likewise.
    """
    rows = []
    for kind, folds in said.items():
        row = [kind]
        for unit in UNITS:
            best = [judges.strongest(found)[unit] for found in folds if unit in found]
            names = Counter(verdict["judge"] for verdict in best).most_common()
            counts = ", ".join(f"{name} {n}" for name, n in names)
            row.append(f"{auc_cell(best, seeds[kind])} {counts}" if best else "-")
        rows.append(row)
    return table(("strongest judge, AUC; of how many generators", *UNITS), rows)


def judges_table(folds: list[dict], n_seeds: int) -> list[str]:
    """Return the table of all judges of one kind of EEG."""
    rows = []
    for name in JUDGES:
        by_unit = [[found[unit][name] for found in folds if unit in found] for unit in UNITS]
        cells = (auc_cell(verdicts, n_seeds) if verdicts else "-" for verdicts in by_unit)
        rows.append([name, *cells])
    return table(("judge, AUC", *UNITS), rows)


def copying_table(copies: Mapping[str, list[dict]]) -> list[str]:
    """Return the table of likeness to training EEG."""
    ways = ("waveform", "spectrum", "covariance", "copied")
    rows = []
    for kind, folds in copies.items():
        for source in folds[0]:
            values = [mean([fold[source][way] for fold in folds]) for way in ways]
            rows.append([kind, source, *(f"{value:.3f}" for value in values)])
    return table(("EEG", "from", *ways), rows)


def membership_table(members: Mapping[str, list[tuple]]) -> list[str]:
    """Return the table of membership inference, pooled over folds.

    The second attack compares each person with the same person under the other generators.
    """
    rows = []
    for method, folds in members.items():
        names, x, is_member = (np.concatenate(each) for each in zip(*folds, strict=True))
        fold = np.repeat(np.arange(len(folds)), [len(each[0]) for each in folds])
        scaled = np.empty_like(x)
        for k in set(fold.tolist()):
            rows_of_fold = x[fold == k]
            scaled[fold == k] = (rows_of_fold - rows_of_fold.mean(0)) / rows_of_fold.std(0)
        attacks = {"distances": scaled}
        if len(folds) > 1:
            relative = np.empty_like(scaled)
            for i, name in enumerate(names):
                others = (names == name) & (np.arange(len(names)) != i)
                relative[i] = scaled[i] - (scaled[others].mean(0) if others.any() else 0)
            attacks["distances, relative to other generators"] = relative
        for attack, scores in attacks.items():
            probability = left_out(scores, is_member, names)
            predicted = np.stack([1 - probability, probability], axis=1)
            found = estimate(
                [Clusters.of(names, is_member.astype(int), predicted)], pooled_folds=True
            )
            cells = [interval(found[metric]) for metric in ("balanced_accuracy", "auc")]
            counts = f"{int(is_member.sum())} / {int((~is_member).sum())}"
            rows.append([method, attack, *cells, counts])
    return table(("generator", "by", "balanced accuracy", "AUC", "members / others"), rows)


if __name__ == "__main__":
    command_line(main, Config)
