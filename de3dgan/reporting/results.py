"""What the stages of a fold have left behind, read back and checked.

A fold is the folder runs/<task>/<protocol>/fold<k> with the folders of its stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from de3dgan.data.store import REFERENCES
from de3dgan.evaluation.metrics import by_trial, frame_and_trial
from de3dgan.evaluation.names import CHOSEN, JUDGES, NAMES

#: What each model is called in tables, by the folder of its stage or its name in baselines.csv.
MODELS = {
    **NAMES,
    "classifier": "stage 2: SA-ST-Net on real EEG",
    "finetune": "stage 3: fine-tuned with generated EEG",
    "finetune-none": "control: fine-tuned with nothing",
    "finetune-real": "control: fine-tuned with the same real EEG again",
    "finetune-jitter": "control: fine-tuned with real EEG and noise on its maps",
    "finetune-noise": "control: fine-tuned with white noise",
    "finetune-surrogate": "control: fine-tuned with noise of the same DE",
    "finetune-shuffled": "control: fine-tuned with generated EEG of other trials",
    "finetune-virtual": "fine-tuned with EEG of virtual people",
    "finetune-virtual_noise": "control: fine-tuned with noise of virtual people's DE",
    "finetune-people": "control: fine-tuned with additional real people",
}
#: The stages of a fold, controls included, by their folders.
STAGES = ("gan", *(model for model in MODELS if model not in NAMES))
#: What predictions are counted in.
UNITS = ("frame", "trial")

#: Every field that is read of a stage's JSON files, see `de3dgan.base.schema`.
_FIELDS = {
    "result.json": {
        "task": TEXT,
        "stage": one_of("gan", "classifier", "finetune"),
        "protocol": one_of(*PROTOCOLS),
        "leaky": TRUTH,
        "fold": whole(0, N_FOLDS - 1),
        "person": or_null(TEXT),
        "fold_seed": whole(0),
        "seed": whole(0),
        "reference": one_of(*REFERENCES),
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
        "settings.class_names": list_of(TEXT),
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
        "artefacts.*.stage": one_of(*STAGES),
        "artefacts.*.artefact": TEXT,
        "artefacts.*.groups": LIST,
        "artefacts.*.groups.*": TEXT,
        "artefacts.*.overlap": LIST,
        "artefacts.*.overlap.*": TEXT,
        "artefacts.*.recomputed?": TRUTH,
        "copies": LIST,
        "copies.*": OBJECT,
        "copies.*.recording": TEXT,
        "copies.*.tested": whole(0),
        "notes": LIST,
        "notes.*": TEXT,
        "reasons": LIST,
        "reasons.*": TEXT,
    },
}


def _is_figure(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_figure(inner) for name, inner in value.items() if name != "judge")
    return or_null(number()).holds(value)


def _measured(eeg: str) -> dict[str, FieldType]:
    """Return the fields that are read by name of a row of `evaluation.quality`."""
    kept, verdict = f"quality.{eeg}.de_round_trip.*", f"quality.{eeg}.judged.*"
    return {
        f"quality.{eeg}": OBJECT,
        f"quality.{eeg}.amplitude_uv": number(0),
        f"quality.{eeg}.de_round_trip": OBJECT,
        kept: OBJECT,
        **{f"{kept}.{name}": number() for name in ("correlation", "mae", "bias")},
        f"quality.{eeg}.judged": OBJECT,
        verdict: OBJECT,
        **{f"{verdict}.{name}": number(0, 1) for name in ("auc", "balanced_accuracy")},
        **{f"{verdict}.{name}": or_null(number(0, 1)) for name in ("low", "high")},
        f"{verdict}.judge": one_of(*JUDGES),
    }


#: What the generator's files have as well.
_GENERATOR_FIELDS = {
    "config.json": {"settings.method": one_of("spectral", "published")},
    "result.json": {
        "quality": OBJECT,
        "quality.*": OBJECT,
        "quality.*.*": FieldType("a number, null or an object of such", _is_figure),
        **_measured("real"),
        **_measured("generated"),
        **_measured("noise"),
    },
}
#: What the classifiers' files have as well.
_CLASSIFIER_FIELDS = {
    "result.json": {
        "trial_sharpness": number(0),
        **{f"{name}_baseline": one_of(*few) for name, few in CHOSEN.items()},
    }
}
#: How far the probabilities of a row, which are rounded, may be from adding up to 1.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Predictions:
    """Test predictions of one model.

    Attributes
    ----------
    trials, frames, labels : array of int, (n,)
        Trial of each frame, its place in the trial, and its true class.
    probabilities : array, (n, n_classes)
        Predicted probabilities.
    groups, persons : array of str, (n,)
        Group and person of each frame.
    sharpness : array, (n,)
        Of the trial that each frame is of, see `metrics.by_trial`.
    """

    trials: np.ndarray
    frames: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    groups: np.ndarray
    persons: np.ndarray
    sharpness: np.ndarray

    @classmethod
    def pooled(cls, parts: list[Predictions]) -> Predictions:
        """Join the predictions of several folds."""
        names = cls.__dataclass_fields__
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def tested(self) -> np.ndarray:
        """Return trial, frame and label of each row, (n, 3), in an order that is always the same.

        Models can be compared if it is equal.
        """
        rows = np.stack([self.trials, self.frames, self.labels], axis=1)
        return rows[np.lexsort(rows.T[::-1])]

    def contradiction(self) -> str | None:
        """Return in what the rows contradict each other, if they do."""
        tested = self.tested()
        same_trial, same_frame, same_label = (np.diff(tested, axis=0) == 0).T
        twice = np.flatnonzero(same_trial & same_frame)
        if len(twice):
            trial, frame, _ = tested[twice[0]]
            return f"frame {frame} of trial {trial} comes twice"
        differing = np.flatnonzero(same_trial & ~same_label)
        if len(differing):
            return f"label is not the same in all frames of trial {tested[differing[0], 0]}"
        return None

    def scores(self) -> dict[str, dict[str, float | None]]:
        """Return `metrics.frame_and_trial`."""
        return frame_and_trial(
            self.trials, self.labels, self.probabilities, self.persons, self.sharpness
        )

    def in_unit(self, unit: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return groups, labels, probabilities and persons per "frame" or per "trial"."""
        if unit == "frame":
            return self.groups, self.labels, self.probabilities, self.persons
        _, first = np.unique(self.trials, return_index=True)
        of_trials = by_trial(self.trials, self.labels, self.probabilities, self.sharpness)
        return self.groups[first], *of_trials, self.persons[first]


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

    @property
    def place(self) -> tuple[str, int]:
        """The person whose trials they are of, of protocol within, and the fold."""
        result = self.results["classifier"]
        return result["person"] or "", result["fold"]

    def leaky(self, model: str) -> bool:
        """Return whether the figures of a model are leaky; baselines are judged as stage 2 is."""
        return self.certificates[model if model in self.results else "classifier"]["leaky"]


def read_fold(fold_dir: Path) -> Fold:
    """Return the finished stages of a fold.

    Raises
    ------
    UserError
        If a file is damaged, or if a stage rests on other checkpoints than are there.
    """
    results, configs, certificates, predictions = {}, {}, {}, {}
    for stage in STAGES:
        folder = fold_dir / stage
        if not (folder / "result.json").is_file():
            continue
        results[stage], configs[stage], certificates[stage] = (
            _read(folder / name) for name in _FIELDS
        )
        _refuse_other_upstream(folder, configs[stage]["upstream"])
        if stage == "gan":
            continue
        n_classes = len(configs[stage]["settings"]["class_names"])
        groups = certificates[stage]["test_groups"]
        if stage == "classifier":
            predictions |= _read_predictions(folder / "baselines.csv", groups, n_classes)
        table = _read_predictions(folder / "predictions.csv", groups, n_classes)
        sharpness = np.full(len(table[""].trials), results[stage]["trial_sharpness"])
        predictions[stage] = replace(table[""], sharpness=sharpness)
    first = next(iter(predictions), None)
    for model in predictions:
        if not np.array_equal(predictions[model].tested(), predictions[first].tested()):
            raise UserError(
                f"In {display_path(fold_dir)} the predictions of {model} and {first} are not of "
                "the same frames and labels: rerun the stages of this fold with --restart."
            )
    return Fold(fold_dir, results, configs, certificates, predictions)


def _read(path: Path) -> dict[str, Any]:
    """Return one of a stage's JSON files, checked."""
    remedy = _rerun(path.parent)
    if not path.is_file():
        raise UserError(f"{display_path(path)} is missing: {remedy}")
    content = read_json(path)
    check(content, _FIELDS[path.name], path, remedy)
    check_finite(content, path, remedy)
    own = _GENERATOR_FIELDS if path.parent.name == "gan" else _CLASSIFIER_FIELDS
    check(content, own.get(path.name, {}), path, remedy)
    return content


def _refuse_other_upstream(folder: Path, upstream: Mapping[str, str]) -> None:
    """Raise `UserError` if a stage rests on other checkpoints than those of its fold."""
    there = {}
    for stage in upstream:
        path = folder.parent / stage / "model.pt"
        there[stage] = sha256(path)[:16] if path.is_file() else ""
    changed = differences(upstream, there, "upstream.")
    if changed:
        raise UserError(
            f"{display_path(folder)} rests on another generator or classifier than those beside "
            f"it, {', '.join(changed)}: rerun that stage with --restart."
        )


def _read_predictions(
    path: Path, groups: Mapping[str, list[int]], n_classes: int
) -> dict[str, Predictions]:
    """Return the predictions in one of a classifier's tables, by model.

    Parameters
    ----------
    path : Path
        ``baselines.csv``, or ``predictions.csv``, whose one model is called "".
    groups : dict of str to list of int
        The trials of each group that ``leakage.json`` says was tested.
    n_classes : int
        Number of classes.

    Raises
    ------
    UserError
        If the table is damaged: naming the column and the line, or what it lacks.
    """
    remedy = _rerun(path.parent)
    group_of_trial = {trial: group for group, trials in groups.items() for trial in trials}
    table = read_csv(path, remedy)
    tested = FieldType(
        "a trial that leakage.json says was tested", group_of_trial.__contains__, int
    )
    kinds = {"trial": tested, "frame": whole(0), "label": whole(0, n_classes - 1)}
    kinds |= {"subject": TEXT, **{f"p_{c}": number(0, 1) for c in range(n_classes)}}
    trials, frames, labels, persons, *p = (
        np.array(column(table, name, kind, path, remedy)) for name, kind in kinds.items()
    )
    p = np.stack(p, axis=1)
    group = np.array([group_of_trial[trial] for trial in trials.tolist()])
    wanted = list(NAMES) if path.name == "baselines.csv" else [""]
    models = np.array(table.get("model", [""] * len(p)))
    found = {
        model: Predictions(
            *(of[rows] for of in (trials, frames, labels, p, group, persons, np.ones(len(p))))
        )
        for model in dict.fromkeys(models.tolist())
        for rows in [np.flatnonzero(models == model)]
    }
    not_one = np.flatnonzero(np.abs(p.sum(1) - 1) > _ROUNDING)
    untested = set(group_of_trial) - set(trials.tolist())
    if len(not_one):
        problem = f"the probabilities in line {not_one[0] + 2} do not add up to 1"
    elif sorted(found) != sorted(wanted):
        problem = f"column model has {', '.join(found)}, and must have {', '.join(wanted)}"
    elif untested:
        problem = f"trial {min(untested)} is missing, which leakage.json says was tested"
    else:
        problem = next(filter(None, (each.contradiction() for each in found.values())), None)
    if problem:
        raise UserError(f"{display_path(path)} is damaged: {problem}: {remedy}")
    return found


def _rerun(folder: Path) -> str:
    return f"rerun the {folder.name} stage of this fold with --restart."
