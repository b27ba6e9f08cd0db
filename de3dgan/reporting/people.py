"""What a report says of single people: who is read well, and what EEG is worth in people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from de3dgan.evaluation.metrics import Clusters, balanced_accuracy_of_each
from de3dgan.evaluation.statistics import N_DRAWS, bootstrap_weights
from de3dgan.evaluation.worth import Worth, worth
from de3dgan.reporting.results import MODELS
from de3dgan.reporting.study import PRIMARY, Study
from de3dgan.reporting.wording import number

#: The models that are shown person by person, of those that there are.
SHOWN = ("best", "classifier", "finetune")


@dataclass(frozen=True)
class Person:
    """A person who was tested.

    Attributes
    ----------
    name : str
        As in the store.
    n_trials : int
        Trials tested.
    n_classes : int
        Classes that these are of.
    accuracy : dict of str to float
        By model, balanced accuracy per frame, the mean over seeds.
    """

    name: str
    n_trials: int
    n_classes: int
    accuracy: Mapping[str, float]


def people(study: Study) -> list[Person]:
    """Return everyone who was tested, whom stage 2 reads best first."""
    shown = [model for model in SHOWN if model in study.predictions]
    accuracy = {}
    for model in shown:
        seeds = [
            balanced_accuracy_of_each(
                each.persons, each.labels, each.probabilities.argmax(1), each.probabilities.shape[1]
            )
            for each in study.predictions[model]
        ]
        accuracy[model] = np.mean(seeds, axis=0)
    first = study.predictions["classifier"][0]
    names, person = np.unique(first.persons, return_inverse=True)
    n_trials, n_classes = (
        np.bincount(np.unique(np.stack([person, of]), axis=1)[0])
        for of in (first.trials, first.labels)
    )
    return [
        Person(
            str(names[row]),
            int(n_trials[row]),
            int(n_classes[row]),
            {model: float(accuracy[model][row]) for model in shown},
        )
        for row in np.argsort(-accuracy["classifier"], kind="stable")
    ]


def about_people(everyone: list[Person], n_classes: int) -> list[str]:
    """Return what can be said of the people of a study, in sentences."""
    texts = []
    for model in everyone[0].accuracy:
        above = sum(person.accuracy[model] > 1 / n_classes for person in everyone)
        texts.append(f"{MODELS[model]}: above chance in {above} of {len(everyone):,} people.")
    n_trials = float(np.median([person.n_trials for person in everyone]))
    chance = 1 / n_classes
    spread = math.sqrt(chance * (1 - chance) / n_trials)
    texts.append(
        f"A person has {number(n_trials, 0)} trials (median). Whoever guesses that many is right "
        f"in {number(chance, 2)} of them, give or take {number(spread, 2)} (standard deviation), "
        "and the seconds of a trial are alike: a single person's figure says little."
    )
    few = [person.name for person in everyone if person.n_classes < n_classes]
    if few:
        some = ", ".join(few[:10]) + (" and others" if len(few) > 10 else "")
        texts.append(
            f"Not of all classes are the trials of {some}: the mean is over those they have."
        )
    return texts


def worth_in_people(study: Study) -> list[str]:
    """Return what EEG beside the real one is worth in people, in sentences.

    It is measured against real people: those whom ``--train-groups`` leaves out, as the control
    *additional real people* has them.
    """
    settings = [
        fold.configs["finetune-people"]["settings"] for fold in study.folds_with("finetune-people")
    ]
    needed = {"finetune-people", "finetune-none"} <= set(study.predictions)
    n_more = {each.get("more_groups", 0) for each in settings}
    n_known = {each.get("train_groups", 0) for each in settings}
    if not (needed and len(n_more) == len(n_known) == 1 and min(n_more | n_known) > 0):
        return [
            "What generated EEG is worth in people is not known from these runs, as it takes what "
            "more real people gain. Run all stages with --train-groups N, and stage 3 with "
            "--augmentation none and --augmentation people --more-groups M as well."
        ]
    known, more = n_known.pop(), n_more.pop()
    texts = []
    for model in ("finetune", "finetune-virtual"):
        if model in study.predictions:
            found = _worth(study, model, known, more)
            value, low, high = map(_people, (found.value, found.low, found.high))
            texts.append(
                f"{MODELS[model]}: worth {value} people ({low} to {high}), by what {more} more "
                f"real ones give a network that is trained on {known}."
            )
    return texts


def _worth(study: Study, model: str, known: int, more: int) -> Worth:
    """Return what a model gains over fine-tuning with nothing, in people."""
    metric, unit = PRIMARY
    names = (model, "finetune-none", "finetune-people")
    clusters = {name: study.clusters(name, unit) for name in names}
    n_groups = len(next(iter(clusters[model].values())).groups)
    once = np.ones((1, n_groups))
    weights = np.concatenate([once, bootstrap_weights(n_groups, N_DRAWS)])

    def accuracy(of: Mapping[tuple[int, int], Clusters]) -> np.ndarray:
        return np.mean([each.metrics(weights, [metric])[metric] for each in of.values()], axis=0)

    gained, without, with_more = (accuracy(clusters[name]) for name in names)
    curve = np.stack([without, with_more], axis=1)
    sizes = (known, known + more)
    return worth(gained - without, sizes, curve, known, n_groups, study.pooled_folds)


def _people(value: float) -> str:
    """Return a number of people; beyond what the control has, only that it is more, or less."""
    if math.isinf(value):
        return "more than these" if value > 0 else "less than none"
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}") if not math.isnan(value) else "–"
