"""What runs have left behind, read back: predictions, certificates, quality, settings.

A *fold* is the folder of one fold's stages, runs/<task>/<protocol>/fold<k>. A *study* is all folds
of one task and protocol below a folder, of one seed or of several; the predictions of its folds are
pooled, since each group is tested in one of them.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from de3dgan import baselines
from de3dgan.errors import UserError
from de3dgan.files import read_json, sha256
from de3dgan.metrics import by_trial, window_and_trial
from de3dgan.paths import shown
from de3dgan.splits import N_FOLDS
from de3dgan.statistics import Clusters, Comparison, Estimate, compare, estimate, holm

#: What each model is called in tables, by the folder of its stage or its name in baselines.csv.
MODELS = {
    **baselines.NAMES,
    "classifier": "stage 2: SA-ST-Net on real EEG",
    "finetune": "stage 3: fine-tuned with generated EEG",
    "finetune-none": "control: fine-tuned with nothing",
    "finetune-noise": "control: fine-tuned with white noise",
    "finetune-surrogate": "control: fine-tuned with noise of the same DE",
    "finetune-shuffled": "control: fine-tuned with generated EEG of other trials",
}
#: Which models are compared, the first against the second. The first pair is what the verdict on
#: generated EEG rests on.
COMPARISONS = (
    ("finetune", "finetune-none"),
    ("finetune", "finetune-noise"),
    ("finetune", "finetune-surrogate"),
    ("finetune", "finetune-shuffled"),
    ("finetune", "classifier"),
    ("classifier", "linear"),
    ("finetune", "linear"),
)
#: The metric of comparisons and the unit it is counted in, chosen before any result was seen: for
#: it chance is the same with any share of classes, and frames are what the networks are trained on.
PRIMARY = ("balanced_accuracy", "window")
UNITS = {"window": "frame", "trial": "trial"}


@dataclass(frozen=True)
class Predictions:
    """Test predictions of one model.

    Attributes
    ----------
    trials, labels : array of int, (n,)
        Trial of each frame, and its true class.
    probabilities : array, (n, n_classes)
        Predicted probabilities.
    groups : array of str, (n,)
        Group of each frame.
    """

    trials: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    groups: np.ndarray

    def scores(self) -> dict[str, dict[str, float | None]]:
        """Return `metrics.window_and_trial`."""
        return window_and_trial(self.trials, self.labels, self.probabilities)

    def in_unit(self, unit: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return groups, labels and probabilities per frame ("window") or per "trial"."""
        if unit == "window":
            return self.groups, self.labels, self.probabilities
        _, first = np.unique(self.trials, return_index=True)
        return self.groups[first], *by_trial(self.trials, self.labels, self.probabilities)


@dataclass(frozen=True)
class Fold:
    """One fold's finished stages.

    Attributes
    ----------
    dir : Path
        runs/<task>/<protocol>/fold<k>.
    results, configs, certificates : dict
        ``result.json``, ``config.json`` and ``leakage.json`` by the folder of the stage.
    predictions : dict of str to Predictions
        By model, in the order of `MODELS`.
    """

    dir: Path
    results: dict[str, dict[str, Any]]
    configs: dict[str, dict[str, Any]]
    certificates: dict[str, dict[str, Any]]
    predictions: dict[str, Predictions]

    def leaky(self, model: str) -> bool:
        """Return whether the figures of a model are leaky; baselines are judged as stage 2 is."""
        return self.certificates[model if model in self.results else "classifier"]["leaky"]


@dataclass(frozen=True)
class Study:
    """All folds of one task and protocol.

    Attributes
    ----------
    task, protocol, group
        What is studied; "subject", "stimulus" or "trial".
    folds : dict of int to list of Fold
        Per seed; of several seeds, those that have all folds.
    predictions : dict of str to list of Predictions
        Per model those of each seed, pooled over its folds; of models that all folds have.
    notes : list of str
        What is missing.
    """

    task: str
    protocol: str
    group: str
    folds: dict[int, list[Fold]]
    predictions: dict[str, list[Predictions]]
    notes: list[str]

    def every_fold(self) -> list[Fold]:
        """Return the folds of all seeds."""
        return [fold for folds in self.folds.values() for fold in folds]

    def leaky(self, model: str) -> bool:
        """Return whether any figure of a model is leaky."""
        return any(fold.leaky(model) for fold in self.every_fold())

    def clusters(self, model: str, unit: str) -> list[Clusters]:
        """Return a model's predictions per group, one set per seed."""
        return [Clusters.of(*pooled.in_unit(unit)) for pooled in self.predictions[model]]

    @property
    def pooled_folds(self) -> bool:
        """Whether predictions are of several folds."""
        return any(len(of_seed) > 1 for of_seed in self.folds.values())

    def estimates(self, unit: str) -> dict[str, dict[str, Estimate]]:
        """Return every metric of every model, with its interval."""
        return {
            model: estimate(self.clusters(model, unit), pooled_folds=self.pooled_folds)
            for model in self.predictions
        }

    def comparisons(self) -> dict[tuple[str, str], tuple[Comparison, float]]:
        """Return each of `COMPARISONS` that can be made, with its p adjusted for their number."""
        metric, unit = PRIMARY
        pairs = [pair for pair in COMPARISONS if set(pair) <= set(self.predictions)]
        clusters = {model: self.clusters(model, unit) for pair in pairs for model in pair}
        found = [
            compare(clusters[a], clusters[b], metric, pooled_folds=self.pooled_folds)
            for a, b in pairs
        ]
        adjusted = holm([comparison.p for comparison in found]).tolist()
        return dict(zip(pairs, zip(found, adjusted, strict=True), strict=True))


def read_studies(runs_dir: Path) -> list[Study]:
    """Return the studies below `runs_dir`.

    Raises
    ------
    UserError
        If there is none, or if folds that should belong together do not.
    """
    found: dict[tuple[str, str], dict[int, dict[int, Fold]]] = {}
    for path in sorted(runs_dir.glob("**/classifier/result.json")):
        fold = read_fold(path.parents[1])
        of = fold.results["classifier"]
        folds = found.setdefault((of["task"], of["protocol"]), {}).setdefault(of["seed"], {})
        if of["fold"] in folds:
            raise UserError(
                f"{shown(folds[of['fold']].dir)} and {shown(fold.dir)} are of the same task, "
                "protocol, fold and seed: give the folder of one of them with --runs-dir."
            )
        folds[of["fold"]] = fold
    if not found:
        raise UserError(
            f"There is no finished classifier below {shown(runs_dir)}: run a "
            "SA-ST_Net_Classifier script first, or give another --runs-dir."
        )
    return [
        _study({seed: [folds[k] for k in sorted(folds)] for seed, folds in of_seed.items()})
        for of_seed in found.values()
    ]


def read_fold(fold_dir: Path) -> Fold:
    """Return the finished stages of a fold.

    Raises
    ------
    UserError
        If a file is damaged, or if a stage was made from other checkpoints than are there.
    """
    results, configs, certificates, predictions = {}, {}, {}, {}
    for stage in ("gan", *MODELS):
        folder = fold_dir / stage
        if not (folder / "result.json").is_file():
            continue
        results[stage], configs[stage], certificates[stage] = (
            _read(folder / name, keys)
            for name, keys in (
                ("result.json", {"leaky", "fold", "seed", "task", "protocol"}),
                ("config.json", {"settings", "store_hash", "upstream", "versions"}),
                ("leakage.json", {"leaky", "group", "test_groups", "artefacts", "probe"}),
            )
        )
        there = {
            name: _hash_of(fold_dir / name / "model.pt") for name in configs[stage]["upstream"]
        }
        if configs[stage]["upstream"] != there:
            raise UserError(
                f"{shown(folder)} was made from another generator or classifier than those beside "
                "it: rerun that stage with --restart."
            )
        if stage != "gan":
            groups = certificates[stage]["test_groups"]
            (predictions[stage],) = _read_predictions(folder / "predictions.csv", groups).values()
    if "classifier" in results:
        groups = certificates["classifier"]["test_groups"]
        simple = _read_predictions(fold_dir / "classifier" / "baselines.csv", groups)
        predictions = {**simple, **predictions}
    return Fold(fold_dir, results, configs, certificates, predictions)


def _study(folds: dict[int, list[Fold]]) -> Study:
    """Pool the predictions of folds that belong together."""
    # Seeds draw different folds: until all are there, two seeds do not test the same groups.
    whole = {seed: of_seed for seed, of_seed in folds.items() if len(of_seed) == N_FOLDS}
    notes = [
        f"Seed {seed} has {len(of_seed)} of {N_FOLDS} folds: "
        + ("it is left out." if whole else "the other groups are not tested.")
        for seed, of_seed in folds.items()
        if seed not in whole
    ]
    if not whole and len(folds) > 1:
        kept = next(iter(folds))
        notes.append(f"Of seeds that lack folds only the first is shown, {kept}.")
        folds = {kept: folds[kept]}
    folds = whole or folds
    every = [fold for of_seed in folds.values() for fold in of_seed]
    first = every[0]
    of = first.results["classifier"]
    for fold in every[1:]:
        _refuse_other_settings(first, fold)
    predictions = {}
    for model, name in MODELS.items():
        having = [fold for fold in every if model in fold.predictions]
        if len(having) == len(every):
            predictions[model] = [
                _pooled([fold.predictions[model] for fold in of_seed]) for of_seed in folds.values()
            ]
        elif having:
            notes.append(
                f"Left out, since only {len(having)} of {len(every)} folds have it: {name}."
            )
    return Study(
        of["task"], of["protocol"], first.certificates["classifier"]["group"], folds, predictions,
        notes,
    )  # fmt: skip


def _pooled(parts: list[Predictions]) -> Predictions:
    return Predictions(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in Predictions.__dataclass_fields__
        )
    )


def differing_settings(
    a: Mapping[str, Any], b: Mapping[str, Any], may_differ: set[str]
) -> list[str]:
    """Return the names of settings in which two runs differ, less those that may."""
    return sorted(key for key in {*a, *b} - may_differ if a.get(key) != b.get(key))


def _refuse_other_settings(a: Fold, b: Fold) -> None:
    """Raise `UserError` if two folds differ in more than fold and seed."""
    for stage in set(a.configs) & set(b.configs):
        ours, theirs = (
            {**fold.configs[stage]["settings"], "store": fold.configs[stage]["store_hash"]}
            for fold in (a, b)
        )
        differing = differing_settings(ours, theirs, {"fold", "seed"})
        if differing:
            raise UserError(
                f"{shown(a.dir / stage)} and {shown(b.dir / stage)} differ in "
                f"{', '.join(differing)}, so that they are no folds of one study: rerun one of "
                "them with --restart, or give one's folder with --runs-dir."
            )


def _read(path: Path, keys: set[str]) -> dict[str, Any]:
    """Return a stage's JSON file."""
    content = read_json(path) if path.is_file() else None
    if not isinstance(content, dict) or not keys <= set(content):
        raise UserError(f"{shown(path)} is damaged or missing: {_rerun(path)}")
    return content


def _read_predictions(path: Path, groups: Mapping[str, list[int]]) -> dict[str, Predictions]:
    """Return the predictions in a table of `classifier.finish`, by model ("" if it has one)."""
    try:
        group_of = {trial: group for group, trials in groups.items() for trial in trials}
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        models = np.array([row.get("model", "") for row in rows])
        integers = {name: np.array([int(row[name]) for row in rows]) for name in ("trial", "label")}
        classes = [name for name in rows[0] if name.startswith("p_")]
        p = np.array([[float(row[name]) for name in classes] for row in rows])
        of_group = np.array([group_of[trial] for trial in integers["trial"].tolist()])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise UserError(f"{shown(path)} is damaged or missing: {_rerun(path)}") from None
    return {
        model: Predictions(
            integers["trial"][rows], integers["label"][rows], p[rows], of_group[rows]
        )
        for model in dict.fromkeys(models.tolist())
        for rows in [np.flatnonzero(models == model)]
    }


def _hash_of(path: Path) -> str:
    return sha256(path)[:16] if path.is_file() else ""


def _rerun(path: Path) -> str:
    return f"rerun the {path.parent.name} stage of this fold with --restart."
