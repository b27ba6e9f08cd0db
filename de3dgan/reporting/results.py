"""What runs have left behind, read back: predictions, certificates, quality, settings.

A *fold* is the folder of one fold's stages, runs/<task>/<protocol>/fold<k>. A *study* is all folds
of one task and protocol below a folder, of one seed or of several; the predictions of its folds are
pooled, since each group is tested in one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.files import differences, read_csv, read_json, sha256
from de3dgan.base.paths import display_path
from de3dgan.base.recipe import N_FOLDS
from de3dgan.base.schema import (
    LIST,
    OBJECT,
    TEXT,
    TRUTH,
    FieldType,
    check,
    check_finite,
    column,
    list_of,
    number,
    one_of,
    or_null,
    whole,
)
from de3dgan.data.splits import PROTOCOLS
from de3dgan.evaluation import baselines
from de3dgan.evaluation.metrics import by_trial, frame_and_trial
from de3dgan.evaluation.statistics import Clusters, Comparison, Estimate, compare, estimate, holm

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
PRIMARY = ("balanced_accuracy", "frame")
UNITS = {"frame": "frame", "trial": "trial"}

#: Every field that is read of a stage's JSON files, see `validation`.
_FIELDS = {
    "result.json": {
        "task": TEXT,
        "stage": one_of("gan", "classifier", "finetune"),
        "protocol": one_of(*PROTOCOLS),
        "leaky": TRUTH,
        "fold": whole(0, N_FOLDS - 1),
        "seed": whole(0),
        "n_train_trials": whole(1),
        "n_val_trials": whole(1),
        "n_test_trials": whole(1),
        "best_epoch": whole(0),
        "seconds?": number(0),
        "peak_rss_mib?": number(0),
        "test?": OBJECT,
        "test?.*": OBJECT,
        "test?.*.*": or_null(number(-1, 1)),
        "quality?": OBJECT,
    },
    "config.json": {
        "stage": TEXT,
        "settings": OBJECT,
        "settings.ratings": list_of(TEXT),
        "store_hash": TEXT,
        "upstream": OBJECT,
        "upstream.*": TEXT,
        "environment": OBJECT,
    },
    "leakage.json": {
        "leaky": TRUTH,
        "group": TEXT,
        "test_groups": OBJECT,
        "test_groups.*": list_of(whole(0)),
        "artefacts": LIST,
        "artefacts.*": OBJECT,
        "artefacts.*.stage": one_of("gan", *MODELS),
        "artefacts.*.artefact": TEXT,
        "artefacts.*.groups": LIST,
        "artefacts.*.groups.*": TEXT,
        "artefacts.*.overlap": LIST,
        "artefacts.*.overlap.*": TEXT,
        "artefacts.*.recomputed?": TRUTH,
        "probe": OBJECT,
        **{f"probe.{name}": number(0, 1) for name in ("balanced_accuracy", "chance")},
        **{f"probe.{name}": number() for name in ("low", "high")},
        "probe.covers_chance": TRUTH,
        "reasons": LIST,
        "reasons.*": TEXT,
    },
}
#: What the generator's result.json has as well.
_QUALITY = {
    "quality": OBJECT,
    **{f"quality.{maker}": OBJECT for maker in ("real", "generated")},
    **{f"quality.{maker}.amplitude_uv": number(0) for maker in ("real", "generated")},
    "quality.generated.de_round_trip": OBJECT,
    "quality.generated.de_round_trip.*": OBJECT,
    **{
        f"quality.generated.de_round_trip.*.{name}": number()
        for name in ("correlation", "mae", "bias")
    },
}
_METHOD = {"settings.method": one_of("spectral", "published")}
#: How far the probabilities of a row of a table, which are rounded, may be from adding up to 1.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Predictions:
    """Test predictions of one model.

    Attributes
    ----------
    trials, frames, labels : array of int, (n,)
        Trial of each frame, its second in the trial, and its true class.
    probabilities : array, (n, n_classes)
        Predicted probabilities.
    groups : array of str, (n,)
        Group of each frame.
    """

    trials: np.ndarray
    frames: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    groups: np.ndarray

    def tested(self) -> np.ndarray:
        """Return trial, frame and label of each row, (n, 3), in an order that is always the same.

        Models can be compared if it is equal.
        """
        rows = np.stack([self.trials, self.frames, self.labels], axis=1)
        return rows[np.lexsort(rows.T[::-1])]

    def scores(self) -> dict[str, dict[str, float | None]]:
        """Return `metrics.frame_and_trial`."""
        return frame_and_trial(self.trials, self.labels, self.probabilities)

    def in_unit(self, unit: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return groups, labels and probabilities per frame ("frame") or per "trial"."""
        if unit == "frame":
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
                f"{display_path(folds[of['fold']].dir)} and {display_path(fold.dir)} are of the "
                "same task, protocol, fold and seed: give the folder of one of them with "
                "--runs-dir."
            )
        folds[of["fold"]] = fold
    if not found:
        raise UserError(
            f"There is no finished classifier below {display_path(runs_dir)}: run a "
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
            _read(folder / name) for name in _FIELDS
        )
        there = {
            name: _hash_of(fold_dir / name / "model.pt") for name in configs[stage]["upstream"]
        }
        changed = differences(configs[stage]["upstream"], there, "upstream.")
        if changed:
            raise UserError(
                f"{display_path(folder)} was made from another generator or classifier than those "
                f"beside it, {', '.join(changed)}: rerun that stage with --restart."
            )
        config_path, result_path = folder / "config.json", folder / "result.json"
        if stage == "gan":
            check(configs[stage], _METHOD, config_path, _rerun(config_path))
            check(results[stage], _QUALITY, result_path, _rerun(result_path))
            continue
        n_classes = 2 ** len(configs[stage]["settings"]["ratings"])
        named = {"settings.class_names": list_of(TEXT, n_classes)}
        check(configs[stage], named, config_path, _rerun(config_path))
        of_stage = certificates[stage]["test_groups"], n_classes
        (predictions[stage],) = _read_predictions(folder / "predictions.csv", *of_stage).values()
        if stage == "classifier":
            simple = _read_predictions(folder / "baselines.csv", *of_stage)
    if "classifier" in results:
        predictions = {**simple, **predictions}
    first = next(iter(predictions), None)
    for model in predictions:
        if not np.array_equal(predictions[model].tested(), predictions[first].tested()):
            raise UserError(
                f"In {display_path(fold_dir)} the predictions of {model} and {first} are not of "
                "the same frames and labels: rerun the stages of this fold with --restart."
            )
    return Fold(fold_dir, results, configs, certificates, predictions)


def _study(folds: dict[int, list[Fold]]) -> Study:
    """Pool the predictions of folds that belong together."""
    # Seeds draw different folds: until all are there, two seeds do not test the same groups.
    complete = {seed: of_seed for seed, of_seed in folds.items() if len(of_seed) == N_FOLDS}
    notes = [
        f"Seed {seed} has {len(of_seed)} of {N_FOLDS} folds: "
        + ("it is left out." if complete else "the other groups are not tested.")
        for seed, of_seed in folds.items()
        if seed not in complete
    ]
    if not complete and len(folds) > 1:
        kept = next(iter(folds))
        notes.append(f"Of seeds that lack folds only the first is shown, {kept}.")
        folds = {kept: folds[kept]}
    folds = complete or folds
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
    for model, of_seeds in predictions.items():
        tested = [pooled.tested() for pooled in of_seeds]
        if _contradiction(of_seeds[0]) or not all(np.array_equal(tested[0], t) for t in tested):
            raise UserError(
                f"The folds below {display_path(first.dir.parent)} do not test each frame once, in "
                f"predictions of {model}: rerun them with --restart, or give the folder of one "
                "study with --runs-dir."
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
                f"{display_path(a.dir / stage)} and {display_path(b.dir / stage)} differ in "
                f"{', '.join(differing)}, so that they are no folds of one study: rerun one of "
                "them with --restart, or give one's folder with --runs-dir."
            )


def _read(path: Path) -> dict[str, Any]:
    """Return one of a stage's JSON files, checked."""
    if not path.is_file():
        raise UserError(f"{display_path(path)} is missing: {_rerun(path)}")
    content = read_json(path)
    check(content, _FIELDS[path.name], path, _rerun(path))
    check_finite(content, path, _rerun(path))
    return content


def _read_predictions(
    path: Path, groups: Mapping[str, list[int]], n_classes: int
) -> dict[str, Predictions]:
    """Return the predictions in a table of `classifier.finish`, by model ("" if it has one).

    Parameters
    ----------
    path : Path
        ``predictions.csv`` or ``baselines.csv``.
    groups : dict of str to list of int
        The trials of each group that ``leakage.json`` says was tested.
    n_classes : int
        Number of classes.

    Raises
    ------
    UserError
        If the table is damaged: naming the column and the line, or what it lacks.
    """
    remedy = _rerun(path)
    group_of = {trial: group for group, trials in groups.items() for trial in trials}
    table = read_csv(path, remedy)
    tested = FieldType("a trial that leakage.json says was tested", group_of.__contains__, int)
    kinds = {"trial": tested, "frame": whole(0), "label": whole(0, n_classes - 1)}
    kinds |= {f"p_{c}": number(0, 1) for c in range(n_classes)}
    trials, frames, labels, *of_class = (
        np.array(column(table, name, kind, path, remedy)) for name, kind in kinds.items()
    )
    p = np.stack(of_class, axis=1)
    of_group = np.array([group_of[trial] for trial in trials.tolist()])
    wanted = list(baselines.NAMES) if path.name == "baselines.csv" else [""]
    models = np.array(table.get("model", [""] * len(p)))
    found = {
        model: Predictions(trials[rows], frames[rows], labels[rows], p[rows], of_group[rows])
        for model in dict.fromkeys(models.tolist())
        for rows in [np.flatnonzero(models == model)]
    }
    not_one = np.flatnonzero(np.abs(p.sum(1) - 1) > _ROUNDING)
    problem = None
    if len(not_one):
        problem = f"the probabilities in line {not_one[0] + 2} do not add up to 1"
    elif sorted(found) != sorted(wanted):
        problem = f"column model has {', '.join(found)}, and must have {', '.join(wanted)}"
    elif set(trials.tolist()) != set(group_of):
        missing = min(set(group_of) - set(trials.tolist()))
        problem = f"trial {missing} is missing, which leakage.json says was tested"
    else:
        problems = map(_contradiction, found.values())
        problem = next((one for one in problems if one), None)
    if problem:
        raise UserError(f"{display_path(path)} is damaged: {problem}: {remedy}")
    return found


def _contradiction(predictions: Predictions) -> str | None:
    """Return in what predictions of one model contradict each other, if they do."""
    tested = predictions.tested()
    same_trial, same_frame, same_label = (np.diff(tested, axis=0) == 0).T
    twice = np.flatnonzero(same_trial & same_frame)
    if len(twice):
        trial, frame, _ = tested[twice[0]]
        return f"frame {frame} of trial {trial} comes twice"
    unlike = np.flatnonzero(same_trial & ~same_label)
    if len(unlike):
        return f"label is not the same in all frames of trial {tested[unlike[0], 0]}"
    return None


def _hash_of(path: Path) -> str:
    return sha256(path)[:16] if path.is_file() else ""


def _rerun(path: Path) -> str:
    return f"rerun the {path.parent.name} stage of this fold with --restart."
