"""How well EEG of the generator passes for real EEG, and what each of its parts is worth.

    .venv/bin/python benchmarks/generator.py --data-dir DE_feature/eegmat

A generator is trained per fold, by the stage's own script, and all judges are asked about EEG that
it makes for test people (`de3dgan.evaluation.judges`); so they are where a part is left out. Prints
the tables, which benchmarks/GENERATOR.md holds for several materials.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.documents import table
from de3dgan.base.cli import command_line
from de3dgan.base.recipe import load_script
from de3dgan.data.splits import group_names
from de3dgan.data.store import Store
from de3dgan.eeg.de import trial_de
from de3dgan.evaluation import judges
from de3dgan.evaluation.copying import figures, likeness, sought
from de3dgan.evaluation.measures import Found, across_halves
from de3dgan.evaluation.membership import by_group, left_out, nearness
from de3dgan.evaluation.names import JUDGES
from de3dgan.evaluation.quality import N_SEGMENTS, N_TRIALS, Part
from de3dgan.evaluation.segments import LENGTHS, describe
from de3dgan.models import SpectralGenerator
from de3dgan.models.constraint import DEConstraint, SharedConstraint
from de3dgan.stages.generation import TrainedGenerator
from de3dgan.stages.generators import fit_of
from de3dgan.training.run import Run

SCRIPT = ROOT / "Workload-main" / "3D-UNet_GAN_Workload.py"
UNITS = (*LENGTHS, "trial")
_RECIPE = "the recipe"


@dataclass(frozen=True)
class Config:
    """On what to train and test."""

    data_dir: Path = Path("DE_feature/eegmat")  # store that preprocess_de.py made
    ratings: tuple[str, ...] = ("arithmetic",)  # a column of its trials.csv that has two classes
    folds: tuple[int, ...] = (0, 1)  # which fifths are tested on
    seed: int = 520  # draws the folds, the initial weights and the batches
    epochs: int | None = None  # of training; default: as in the recipe
    parts: bool = False  # leave parts out, in the first fold


class Measured(Exception):
    """A generator is measured: the rest of its script is not wanted."""


def main(config: Config) -> None:
    """Train, measure, and print the tables."""
    started = time.monotonic()
    found: dict[str, list[dict[str, Any]]] = {}
    for fold in config.folds:
        for name, result in of_fold(config, fold, fold == config.folds[0] and config.parts).items():
            found.setdefault(name, []).append(result)
    columns = (f"{config.data_dir.name}, seed {config.seed}", "folds", "DE: error (nats)")
    columns += (*(f"strongest judge, AUC: {unit}" for unit in UNITS), "correlation error")
    rows = [
        [
            name,
            str(len(results)),
            f"{np.mean([result['de'] for result in results]):.3f}",
            *(strongest_cell([result["said"] for result in results], unit) for unit in UNITS),
            f"{np.mean([result['correlation'] for result in results]):.3f}",
        ]
        for name, results in found.items()
    ]
    print(*table(columns, rows), "", sep="\n")
    recipe = found[_RECIPE]
    cells = [
        [
            name,
            *(f"{np.mean([r['said'][u][name]['auc'] for r in recipe]):.3f}" for u in UNITS),
        ]
        for name in JUDGES
    ]
    print(*table(("judge, AUC, the recipe", *UNITS), cells), "", sep="\n")
    print(private(recipe))
    print(f"{(time.monotonic() - started) / 60:.0f} minutes.")


def strongest_cell(said: list[dict], unit: str) -> str:
    """Return the mean AUC of the strongest judge of folds, and which judges these are."""
    best = [judges.strongest(found)[unit] for found in said]
    names = ", ".join(dict.fromkeys(verdict["judge"] for verdict in best))
    return f"{np.mean([verdict['auc'] for verdict in best]):.3f} ({names})"


def private(results: list[dict[str, Any]]) -> str:
    """Return in words whether it can be told who was trained on, and whether EEG is copied.

    Scores of each fold are scaled on their own; a person is asked about by what others of all folds
    have taught.
    """
    names, x, members = [], [], []
    for result in results:
        name, scores, is_member = result["members"]
        names.append(name)
        x.append((scores - scores.mean(0)) / scores.std(0))
        members.append(is_member)
    is_member = np.concatenate(members)
    probability = left_out(np.concatenate(x), is_member, np.concatenate(names))
    told = roc_auc_score(is_member, probability)
    right = np.mean([((probability > 0.5) == is_member)[is_member == k].mean() for k in (0, 1)])
    copied = {way: [r["copying"][way] for r in results] for way in ("generated", "real")}
    text = [
        f"{kind}: "
        + ", ".join(f"{way} {np.mean([v[way] for v in values]):.3f}" for way in values[0])
        for kind, values in copied.items()
    ]
    return (
        f"Membership inference over {len(results)} folds: AUC {told:.3f}, balanced accuracy "
        f"{right:.3f}. Likeness to training EEG, {'; '.join(text)}."
    )


def of_fold(config: Config, fold: int, parts: bool) -> dict[str, dict[str, Any]]:
    """Train generators of a fold and measure each, with and without parts."""
    found: dict[str, dict[str, Any]] = {}

    def measured(run: Run, trained: TrainedGenerator, without: dict[str, Any]) -> None:
        fold_of = Fold(run)
        if _RECIPE in without:
            found["real EEG, other seconds"] = fold_of.measure(None)
        for name, left_out_of in without.items():
            with left_out_of:
                found[name] = fold_of.measure(trained)

    generation = {_RECIPE: contextlib.nullcontext()}
    if parts:
        generation |= {
            "gains of single electrodes": patch.object(SharedConstraint, "forward", _single),
        }
    train(config, fold, {}, lambda *args: measured(*args, generation))
    if parts:
        for name, settings, context in (
            ("nothing learnt", {"epochs": 1, "lr": 0.0}, contextlib.nullcontext()),
            ("no U-Net", {}, patch.object(SpectralGenerator, "_amplitudes_from", _without_maps)),
        ):
            with context:
                here = {name: contextlib.nullcontext()}
                train(config, fold, settings, lambda *args, here=here: measured(*args, here))
    return found


def _single(self: SharedConstraint, eeg: Any, de: Any, spectra: Any, n_passes: int = 5) -> Any:
    return DEConstraint.forward(self, eeg, de)


_amplitudes_from = SpectralGenerator._amplitudes_from


def _without_maps(self: SpectralGenerator, maps: Any, x: Any) -> Any:
    return _amplitudes_from(self, 0 * maps, x)


def train(
    config: Config,
    fold: int,
    settings: dict[str, Any],
    measured: Callable[[Run, TrainedGenerator], None],
) -> None:
    """Train a generator by the stage's script, and have it measured in the script's place."""
    script = load_script(SCRIPT)

    def evaluate(run: Run, _: Any, trained: TrainedGenerator, __: int) -> None:
        measured(run, trained)
        raise Measured

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Measured):
        where = {"data_dir": config.data_dir, "runs_dir": Path(folder), "protocol": "subject"}
        task = {"ratings": config.ratings, "class_names": ("low", "high")}
        with patch("de3dgan.stages.generators.evaluate", evaluate):
            how = {**({"epochs": config.epochs} if config.epochs else {}), **settings}
            script.main(script.Config(**where, **task, fold=fold, seed=config.seed, **how))


class Fold:
    """The EEG of a fold, which generated EEG is compared with."""

    def __init__(self, run: Run):
        self.store: Store = run.store
        self.seed = run.split.seed
        self.parts = {name: Part.of(run.split, name, n) for name, n in N_TRIALS.items()}
        self.everyone = Part.of(run.split, "train")
        self.groups = group_names(self.store, run.split.protocol)[1]
        self.real = {name: self._eeg(part.trials) for name, part in self.parts.items()}
        self.segments = {name: self._described(name, eeg, False) for name, eeg in self.real.items()}

    def measure(self, trained: TrainedGenerator | None) -> dict[str, Any]:
        """Return what is found of a generator's EEG; without one, of real EEG in its place."""
        eeg = dict(self.real)
        if trained:
            for name, part in self.parts.items():
                eeg[name] = trained(self.store.absolute_de(part.trials), part.trials, 0)
        pairs = [
            (self.segments[name], self._described(name, eeg[name], True)) for name in self.parts
        ]
        test = self.parts["test"]
        wanted = self.store.absolute_de(test.trials)
        there = Found.of(eeg["test"]).correlations
        errors = across_halves(there, Found.of(self.real["test"]).correlations)
        out = {
            "said": judges.ask(*pairs, self.groups, self.seed),
            "de": np.abs(trial_de(eeg["test"]) - wanted).mean((0, 2, 3)).max(),
            "correlation": errors[..., ~np.eye(errors.shape[-1], dtype=bool)].mean(),
        }
        if trained:
            out |= {"members": self._members(eeg, trained), "copying": self._copying(eeg["test"])}
        return out

    def _eeg(self, trials: np.ndarray) -> np.ndarray:
        return np.asarray(self.store.eeg[trials])

    def _described(self, name: str, eeg: np.ndarray, odd: bool) -> dict:
        part = self.parts[name]
        return describe(eeg, part.trials, part.wanted, odd, N_SEGMENTS[name], self.seed)

    def _members(self, eeg: dict[str, np.ndarray], trained: TrainedGenerator) -> tuple:
        """Return people, how near EEG generated for them is to theirs, and who was trained on."""
        scores, fit = [], fit_of(trained, self.store)
        for name in ("train", "test"):
            trials = self.parts[name].trials
            found = Found.of(self.real[name]), Found.of(eeg[name])
            near = nearness(*found, self.store.absolute_de(trials))
            scores.append(near | dict(fit(trials)))
        both = {key: np.concatenate([near[key] for near in scores]) for key in scores[0]}
        trials = np.concatenate([self.parts[name].trials for name in ("train", "test")])
        members = np.arange(len(trials)) < len(self.parts["train"].trials)
        return by_group(both, self.groups[trials], members)

    def _copying(self, eeg: np.ndarray) -> dict[str, dict[str, float]]:
        """Return how like EEG generated for test people is to training EEG, and theirs is."""
        test = self.parts["test"]
        kinds = {
            name: sought(each, test.trials, test.wanted, self.seed)
            for name, each in (("generated", eeg), ("real", self.real["test"]))
        }

        def training() -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
            for trial, wanted in zip(self.everyone.trials, self.everyone.wanted, strict=True):
                yield int(trial), self._eeg(np.array([trial]))[0], wanted

        found = likeness({name: s for name, s in kinds.items() if s is not None}, training())
        return {name: figures(values, found["real"]) for name, values in found.items()}


if __name__ == "__main__":
    command_line(main, Config)
