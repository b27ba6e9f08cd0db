"""Judges of generated EEG: what each says of generated EEG, of noise, and of real EEG.

    .venv/bin/python benchmarks/judges.py --data-dir DE_feature/study-eegmat --runs-dir runs/study

Reads the generators of every fold of stage 1 that is there, and fills in benchmarks/JUDGES.md.
Trains nothing but judges. The figures of folds are means; their intervals are over the people of
all folds, each of whom is tested once.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.documents import fill, table
from de3dgan.base.cli import command_line
from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path, from_root
from de3dgan.base.seeds import derived_rng
from de3dgan.data.splits import Split, group_names
from de3dgan.data.store import Store
from de3dgan.eeg.de import trial_de
from de3dgan.evaluation import judges
from de3dgan.evaluation.copying import figures, likeness, sought
from de3dgan.evaluation.membership import by_group, left_out, nearness
from de3dgan.evaluation.metrics import Clusters
from de3dgan.evaluation.names import JUDGES
from de3dgan.evaluation.quality import N_SEGMENTS, N_TRIALS, Part, matched_noise
from de3dgan.evaluation.segments import LENGTHS, describe
from de3dgan.evaluation.statistics import estimate
from de3dgan.stages.generation import load_generator, store_of
from de3dgan.stages.generators import fit_of

METHODS = {"spectral": "our generator", "published": "the published generator"}
#: What judges are asked to tell from real EEG.
HALVES, PEOPLE, NOISE = "real EEG, other seconds", "real EEG, other people", "noise of the same DE"
UNITS = (*LENGTHS, "trial")


@dataclass(frozen=True)
class Config:
    """Which generators, and where the tables go."""

    data_dir: Path  # store that the generators were trained on
    runs_dir: Path  # folder of runs: <task>/<protocol>/fold<k>/gan
    task: str = "workload"  # folder below runs_dir
    protocol: str = "subject"  # folder below that
    published_runs_dir: Path | None = None  # runs of the published method, if there are any
    jobs: int = 2  # folds at a time
    out: Path = ROOT / "benchmarks" / "JUDGES.md"  # document that holds the tables


def main(config: Config) -> None:
    """Ask all judges about all folds, and write the tables."""
    started = time.monotonic()
    said: dict[str, list[dict]] = {}
    copies: dict[str, list[dict]] = {}
    members: dict[str, list[tuple]] = {}
    tasks = [delayed(found_of)(path, first, config) for path, first in generators(config)]
    for path, *found in Parallel(config.jobs, return_as="generator")(tasks):
        for kept, of_fold in zip((said, copies, members), found, strict=True):
            for kind, measured in of_fold.items():
                kept.setdefault(kind, []).append(measured)
        print(f"{path} done after {time.monotonic() - started:.0f} s", flush=True)
    if not said:
        raise UserError(
            f"There is no generator in {display_path(from_root(config.runs_dir))}: train one per "
            "fold with the 3D-UNet_GAN script of the task."
        )
    n_folds = max(map(len, said.values()))
    lines = [f"{n_folds} of 5 folds, protocol {config.protocol}, task {config.task}.", ""]
    lines += strongest_table(said)
    for kind, found in said.items():
        lines += ["", f"Told from real EEG: **{kind}**.", "", *judges_table(found)]
    lines += ["", "Copying, by what the EEG was generated from.", "", *copying_table(copies)]
    lines += ["", "Membership.", "", *membership_table(members)]
    fill(config.out, "judges.py", lines)


def found_of(path: Path, first: bool, config: Config) -> tuple[str, dict, dict, dict]:
    """Return what the judges say of a fold, what is copied, and who is near, by kind of EEG.

    Parameters
    ----------
    path : Path
        The generator.
    first : bool
        Whether noise and real EEG of this fold, which do not depend on it, are asked about too.
    config : Config
        Where the data are.
    """
    generator = load_generator(path)
    store = store_of(generator, config.data_dir)
    method = METHODS[generator.origin["settings"]["method"]]
    fold = Fold(store, generator.origin, config.protocol)
    generated = fold.parts_of(
        lambda trials, draw: generator(store.absolute_de(trials), trials, draw)
    )
    said, copies = {method: fold.ask(generated)}, {method: fold.copying(generated)}
    members = {method: fold.members(generated, fit_of(generator, store))}
    if first:
        noise = fold.parts_of(matched_noise(store, fold.split.seed))
        said |= {NOISE: fold.ask(noise), HALVES: fold.ask(fold.real)}
        said[PEOPLE] = fold.ask_other_people()
        copies |= {NOISE: fold.copying(noise), "real EEG": fold.copying(fold.real, itself=True)}
    return display_path(path), said, copies, members


def generators(config: Config) -> Iterator[tuple[Path, bool]]:
    """Yield the generators there are, and whether each is the first of its fold."""
    seen: Counter[str] = Counter()
    for runs in (config.runs_dir, config.published_runs_dir):
        if runs is None:
            continue
        folder = from_root(runs) / config.task / config.protocol
        for path in sorted(folder.glob("fold*/gan/model.pt")):
            fold = path.parts[-3]
            yield path, not seen[fold]
            seen[fold] += 1


class Fold:
    """A fold's real EEG, described, and what is asked about other EEG of the same trials."""

    def __init__(self, store: Store, origin: Mapping[str, Any], protocol: str):
        self.store = store
        settings = origin["settings"]
        n_frames = store.n_frames

        def frames(part: str) -> np.ndarray:
            trials = np.sort(np.array(origin["trials"][part]))
            return (trials[:, None] * n_frames + np.arange(n_frames)).ravel()

        seed = settings.get("fold_seed", settings["seed"])
        parts = [frames(part) for part in ("train", "val", "test")]
        self.split = Split(protocol, settings["fold"], seed, n_frames, *parts)
        self.parts = {name: Part.of(self.split, name, n) for name, n in N_TRIALS.items()}
        self.groups = group_names(store, protocol)[1]
        self.real = {name: np.asarray(store.eeg[part.trials]) for name, part in self.parts.items()}
        self.even = self.described(self.real, odd=False)

    def parts_of(self, sample: Any) -> dict[str, np.ndarray]:
        """Return the EEG of a sampler for every part, and a second draw of training trials."""
        eeg = {name: sample(part.trials, 0) for name, part in self.parts.items()}
        return {**eeg, "again": sample(self.parts["train"].trials[:16], 1)}

    def described(self, eeg: Mapping[str, np.ndarray], odd: bool) -> dict[str, dict]:
        """Return the segments of every part, see `segments.describe`."""
        return {
            name: describe(eeg[name], p.trials, p.wanted, odd, N_SEGMENTS[name], self.split.seed)
            for name, p in self.parts.items()
        }

    def ask(self, eeg: Mapping[str, np.ndarray]) -> dict:
        """Return what the judges say of EEG against real EEG."""
        odd = self.described(eeg, odd=True)
        pairs = [(self.even[name], odd[name]) for name in self.parts]
        return judges.ask(*pairs, self.groups, self.split.seed)

    def ask_other_people(self) -> dict:
        """Return what judges say who have learnt to tell two random halves of the people apart."""
        pairs = []
        for name, part in self.parts.items():
            rng = derived_rng(self.split.seed, self.split.fold, f"two kinds of {name} people")
            people = rng.permutation(np.unique(self.groups[part.trials]))
            second = np.isin(self.groups[part.trials], people[: len(people) // 2])
            sides = []
            for rows in (~second, second):
                eeg, trials, wanted = self.real[name][rows], part.trials[rows], part.wanted[rows]
                n = N_SEGMENTS[name]
                sides.append(describe(eeg, trials, wanted, False, n, self.split.seed))
            pairs.append(tuple(sides))
        return judges.ask(*pairs, self.groups, self.split.seed)

    def copying(self, eeg: Mapping[str, np.ndarray], itself: bool = False) -> dict:
        """Return `copying.figures` of EEG from training DE, from new draws, and from test DE."""
        train, test = self.parts["train"], self.parts["test"]
        few = train.few(16)

        def chosen(kind: np.ndarray, part: Part, own: bool = False) -> Any:
            return sought(kind, part.trials, part.wanted, self.split.seed, own)

        kinds = {
            "training DE": chosen(eeg["train"][:16], few, itself),
            "test DE": chosen(eeg["test"], test),
            "real training": chosen(self.real["train"][:16], few, True),
            "real test": chosen(self.real["test"], test),
        }
        if "again" in eeg:
            kinds["new draws"] = chosen(eeg["again"], few)
        every = Part.of(self.split, "train")
        recordings = (
            (int(trial), np.asarray(self.store.eeg[trial]), wanted)
            for trial, wanted in zip(every.trials, every.wanted, strict=True)
        )
        found = likeness(kinds, recordings)
        return {
            kind: figures(values, found["real test" if kind == "test DE" else "real training"])
            for kind, values in found.items()
            if not kind.startswith("real")
        }

    def members(self, eeg: Mapping[str, np.ndarray], fit: Any) -> tuple:
        """Return the people, their nearness to the generator, and who trained it."""
        trials = np.concatenate([self.parts[name].trials for name in ("train", "test")])
        pair = [np.concatenate([e["train"], e["test"]]) for e in (self.real, eeg)]
        near = nearness(*pair, self.store.absolute_de(trials), trial_de(pair[1]))
        near |= fit(trials)
        is_member = np.arange(len(trials)) < len(self.parts["train"].trials)
        return by_group(near, self.groups[trials], is_member)


def mean(values: list[float]) -> float:
    """Return the mean of some values."""
    return sum(values) / len(values)


def auc_cell(verdicts: list[Mapping[str, Any]]) -> str:
    """Return the mean AUC of folds, and a 95 % interval.

    Folds test other people. The error of their mean is that of a mean of independent ones, made
    wider by the square root of two, as everywhere for folds that train on what others test.
    """
    value = mean([verdict["auc"] for verdict in verdicts])
    ends = [(v["low"], v["high"]) for v in verdicts]
    if any(low is None for low, _ in ends):
        return f"{value:.3f}"
    n = len(verdicts)
    widen = math.sqrt(2) if n > 1 else 1
    below, above = (
        widen * math.sqrt(sum((v["auc"] - v[end]) ** 2 for v in verdicts)) / n
        for end in ("low", "high")
    )
    return f"{value:.3f} ({max(value - below, 0):.2f} to {min(value + above, 1):.2f})"


def strongest_table(said: Mapping[str, list[dict]]) -> list[str]:
    """Return the table of the strongest judge of each unit, by what is told from real EEG."""
    rows = []
    for kind, folds in said.items():
        row = [kind]
        for unit in UNITS:
            best = [judges.strongest(found)[unit] for found in folds if unit in found]
            names = Counter(verdict["judge"] for verdict in best)
            row.append(f"{auc_cell(best)} {', '.join(names)}" if best else "-")
        rows.append(row)
    return table(("strongest judge, AUC", *UNITS), rows)


def judges_table(folds: list[dict]) -> list[str]:
    """Return the table of all judges of one kind of EEG."""
    rows = []
    for name in JUDGES:
        by_unit = ([found[unit][name] for found in folds if unit in found] for unit in UNITS)
        rows.append([name, *(auc_cell(verdicts) if verdicts else "-" for verdicts in by_unit)])
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
            found = estimate([Clusters.of(names, is_member.astype(int), predicted)])
            cells = []
            for metric in ("balanced_accuracy", "auc"):
                e = found[metric]
                cells.append(f"{e.value:.3f} ({e.low:.3f} to {e.high:.3f})")
            counts = f"{int(is_member.sum())} / {int((~is_member).sum())}"
            rows.append([method, attack, *cells, counts])
    return table(("generator", "by", "balanced accuracy", "AUC", "members / others"), rows)


if __name__ == "__main__":
    command_line(main, Config)
