"""A study: all folds of one task and protocol below a folder, of one seed or of several.

The predictions of its folds are pooled, since each group is tested in one of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path
from de3dgan.base.recipe import N_FOLDS
from de3dgan.evaluation.metrics import Clusters
from de3dgan.evaluation.names import CHOSEN
from de3dgan.evaluation.statistics import Comparison, Estimate, compare, estimate, holm
from de3dgan.reporting.results import MODELS, Fold, Predictions, read_fold

#: Which models are compared, the first against the second. The first pair is what the verdict on
#: generated EEG rests on. "artefact" is whatever of those that know no emotion is beaten least.
COMPARISONS = (
    ("finetune", "finetune-none"),
    ("finetune", "finetune-real"),
    ("finetune", "finetune-jitter"),
    ("finetune", "finetune-noise"),
    ("finetune", "finetune-surrogate"),
    ("finetune", "finetune-shuffled"),
    ("finetune-virtual", "finetune-none"),
    ("finetune-virtual", "finetune-virtual_noise"),
    ("finetune-people", "finetune-none"),
    ("finetune", "classifier"),
    ("classifier", "best"),
    ("finetune", "best"),
    ("classifier", "artefact"),
    ("finetune", "artefact"),
)
#: The metric of comparisons and the unit it is counted in, chosen before any result was seen: for
#: it chance is the same with any share of classes, and frames are what the networks are trained on.
PRIMARY = ("balanced_accuracy", "frame")

#: Protocols in which a person is tested in several groups, and stays the unit of what is inferred.
_BY_PERSON = ("session", "within")
#: Groups that intervals and tests are of, at most, see `Study.in_unit`: a DEAP has 1,280.
_MOST_GROUPS = 2048

#: The comparisons that can be made, each with its p adjusted for their number.
Comparisons = Mapping[tuple[str, str], tuple[Comparison, float]]


@dataclass(frozen=True)
class Study:
    """All folds of one task and protocol.

    Attributes
    ----------
    task, protocol, group
        What is studied; "subject", "stimulus" or "trial".
    folds : dict of (int, int) to list of Fold
        Per seed of the folds and seed of training; of several, those that have all folds.
    predictions : dict of str to list of Predictions
        Per model those of each seed, pooled over its folds; of models that all folds have.
    notes : list of str
        What is missing.
    reference : str
        What DE is relative to, see `de3dgan.data.pieces.reference_of`.
    """

    task: str
    protocol: str
    group: str
    folds: dict[tuple[int, int], list[Fold]]
    predictions: dict[str, list[Predictions]]
    notes: list[str]
    reference: str = "baseline"

    def every_fold(self) -> list[Fold]:
        """Return the folds of all seeds."""
        return sum(self.folds.values(), [])

    def folds_with(self, stage: str) -> list[Fold]:
        """Return the folds, of all seeds, that have finished a stage."""
        return [fold for fold in self.every_fold() if stage in fold.results]

    def fold_name(self, fold: Fold) -> str:
        """Return what a fold is called: "Fold 0", with its seed if there are several."""
        result = fold.results["classifier"]
        several = len(self.folds) > 1
        person = f", {result['person']}" if result["person"] else ""
        return (
            f"Fold {result['fold']}{person}{f', {seed_name(seed_of(result))}' if several else ''}"
        )

    def leaky(self, model: str) -> bool:
        """Return whether any figure of a model is leaky."""
        return any(fold.leaky(model) for fold in self.every_fold())

    def clusters(self, model: str, unit: str) -> dict[tuple[int, int], Clusters]:
        """Return a model's predictions per group, by pairs of seeds."""
        sets = zip(self.folds, self.predictions[model], strict=True)
        return {seeds: Clusters.of(*self.in_unit(pooled, unit)) for seeds, pooled in sets}

    def in_unit(self, predictions: Predictions, unit: str) -> tuple[np.ndarray, ...]:
        """Return `Predictions.in_unit`, with groups that are independent of each other.

        Of more than 2,048, random ones are counted as one (the delete-a-group jackknife: Kott 2001,
        Journal of Official Statistics 17), as AUCs take memory for each pair of groups.
        """
        groups, labels, probabilities, persons = predictions.in_unit(unit)
        groups = persons if self.protocol in _BY_PERSON else groups
        names, row = np.unique(groups, return_inverse=True)
        if len(names) > _MOST_GROUPS:
            rng = np.random.default_rng(0)  # the same for all models
            groups = (rng.permutation(len(names)) % _MOST_GROUPS)[row]
        return groups, labels, probabilities, persons

    @property
    def pooled_folds(self) -> bool:
        """Whether predictions are of several folds."""
        return any(len(folds) > 1 for folds in self.folds.values())

    def estimates(self, unit: str) -> dict[str, dict[str, Estimate]]:
        """Return every metric of every model, with its interval."""
        return {
            model: estimate(self.clusters(model, unit), pooled_folds=self.pooled_folds)
            for model in self.predictions
        }

    def comparisons(self, metric: str = PRIMARY[0]) -> Comparisons:
        """Return each of `pairs`, compared; verdicts rest on the primary metric."""
        unit = PRIMARY[1]
        clusters = {model: self.clusters(model, unit) for pair in self.pairs for model in pair}
        found = [
            compare(clusters[a], clusters[b], metric, pooled_folds=self.pooled_folds)
            for a, b in self.pairs
        ]
        adjusted = holm([comparison.p for comparison in found]).tolist()
        return dict(zip(self.pairs, zip(found, adjusted, strict=True), strict=True))

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Those of `COMPARISONS` that can be made, with the artefact that is beaten least."""
        return [
            (a, self.least_beaten(a) if b == "artefact" else b)
            for a, b in COMPARISONS
            if {a, b} <= set(self.predictions)
        ]

    def least_beaten(self, model: str) -> str:
        """Return the artefact that a model beats least, in standard errors of the primary metric.

        Who beats it has shown to beat all of them, at the same level (an intersection-union test:
        Berger, Technometrics 24, 1982).
        """
        metric, unit = PRIMARY
        ours = self.clusters(model, unit)

        def distance(name: str) -> float:
            found = compare(ours, self.clusters(name, unit), metric, pooled_folds=self.pooled_folds)
            return found.difference.value / (found.error if found.error > 0 else 1e-12)

        return min((name for name in CHOSEN["artefact"] if name in self.predictions), key=distance)


def read_studies(runs_dir: Path) -> list[Study]:
    """Return the studies below `runs_dir`.

    Raises
    ------
    UserError
        If there is none, or if folds that should belong together do not.
    """
    studies: dict[tuple[str, str], dict[tuple[int, int], dict[tuple[str, int], Fold]]] = {}
    for path in sorted(runs_dir.glob("**/classifier/result.json")):
        fold = read_fold(path.parents[1])
        result = fold.results["classifier"]
        seeds = studies.setdefault((result["task"], result["protocol"]), {})
        folds = seeds.setdefault(seed_of(result), {})
        same = folds.setdefault(fold.place, fold)
        if same is not fold:
            raise UserError(
                f"{display_path(same.dir)} and {display_path(fold.dir)} are of the same task, "
                "protocol, fold and seeds: give the folder of one of them with --runs-dir."
            )
    if not studies:
        raise UserError(
            f"There is no finished classifier below {display_path(runs_dir)}: run a "
            "SA-ST_Net_Classifier script first, or give another --runs-dir."
        )
    return [
        _study({seed: [folds[k] for k in sorted(folds)] for seed, folds in seeds.items()})
        for seeds in studies.values()
    ]


def seed_of(result: Mapping[str, Any]) -> tuple[int, int]:
    """Return the seed of the folds and the seed of training, of a ``result.json``."""
    return result["fold_seed"], result["seed"]


def seed_name(seed: tuple[int, int]) -> str:
    """Return what a pair of seeds is called, the folds' first."""
    return "seeds {} and {}".format(*seed)


def seeds_text(seeds: Iterable[tuple[int, int]]) -> str:
    """Return what several pairs of seeds are called together."""
    drawn, trained = (", ".join(map(str, dict.fromkeys(kind))) for kind in zip(*seeds, strict=True))
    return f"folds drawn by {drawn}, trained by {trained}"


def _study(folds: dict[tuple[int, int], list[Fold]]) -> Study:
    """Pool the predictions of folds that belong together, given per seed."""
    folds, notes = _comparable_seeds(folds)
    every = sum(folds.values(), [])
    first = every[0]
    for fold in every[1:]:
        _refuse_other_settings(first, fold)
    predictions = {}
    for model, name in MODELS.items():
        n = sum(model in fold.predictions for fold in every)
        if n == len(every):
            predictions[model] = [
                Predictions.pooled([fold.predictions[model] for fold in folds_of_seed])
                for folds_of_seed in folds.values()
            ]
        elif n:
            notes.append(f"Left out, since only {n} of {len(every)} folds have it: {name}.")
    for model, seeds in predictions.items():
        tested = [pooled.tested() for pooled in seeds]
        if seeds[0].contradiction() or not all(np.array_equal(tested[0], t) for t in tested):
            raise UserError(
                f"The folds below {display_path(first.dir.parent)} do not test each frame once, in "
                f"predictions of {model}: rerun them with --restart, or give the folder of one "
                "study with --runs-dir."
            )
    n_groups = len(np.unique(next(iter(predictions.values()))[0].groups))
    if n_groups > _MOST_GROUPS and first.results["classifier"]["protocol"] not in _BY_PERSON:
        notes.append(
            f"In intervals and tests, random ones of the {n_groups:,} groups are counted as one: "
            f"{_MOST_GROUPS:,} in all."
        )
    result, group = first.results["classifier"], first.certificates["classifier"]["group"]
    group = "subject" if result["protocol"] in _BY_PERSON else group
    return Study(
        result["task"], result["protocol"], group, folds, predictions, notes, result["reference"]
    )


def _comparable_seeds(
    folds: dict[tuple[int, int], list[Fold]],
) -> tuple[dict[tuple[int, int], list[Fold]], list[str]]:
    """Return the seeds that can be shown together, and notes on what is left out.

    Seeds draw different folds: until all are there, two seeds do not test the same groups.
    """
    folds, notes = _whole_persons(folds)
    complete = {
        seed: some
        for seed, some in folds.items()
        if len(some) == N_FOLDS * len({fold.place[0] for fold in some})
    }
    consequence = "it is left out." if complete else "the other groups are not tested."
    notes += [
        f"{seed_name(seed).capitalize()} have {len(some)} of {N_FOLDS} folds: {consequence}"
        for seed, some in folds.items()
        if seed not in complete
    ]
    if complete or len(folds) == 1:
        return complete or folds, notes
    seed = next(iter(folds))
    notes.append(f"Of seeds that lack folds only the first is shown, {seed_name(seed)}.")
    return {seed: folds[seed]}, notes


def _whole_persons(
    folds: dict[tuple[int, int], list[Fold]],
) -> tuple[dict[tuple[int, int], list[Fold]], list[str]]:
    """Return the folds of people who have all of them with all seeds, and a note on the others.

    Of protocols other than within, and where nobody has all, that is everyone.
    """
    counts = Counter(fold.place[0] for some in folds.values() for fold in some)
    whole = {person for person, n in counts.items() if n == N_FOLDS * len(folds)}
    lacking = sorted(set(counts) - whole)
    if not whole or not lacking:
        return folds, []
    kept = {seed: [fold for fold in some if fold.place[0] in whole] for seed, some in folds.items()}
    return kept, [f"Left out, since not all of their folds are there: {', '.join(lacking)}."]


def differing_settings(
    a: Mapping[str, Any], b: Mapping[str, Any], may_differ: set[str]
) -> list[str]:
    """Return the names of settings in which two runs differ, less those that may."""
    return sorted(key for key in {*a, *b} - may_differ if a.get(key) != b.get(key))


def _refuse_other_settings(a: Fold, b: Fold) -> None:
    """Raise `UserError` if two folds differ in more than fold and seeds."""
    for stage in set(a.configs) & set(b.configs):
        ours, theirs = (
            {**fold.configs[stage]["settings"], "store": fold.configs[stage]["store_hash"]}
            for fold in (a, b)
        )
        differing = differing_settings(ours, theirs, {"fold", "person", "fold_seed", "seed"})
        if differing:
            raise UserError(
                f"{display_path(a.dir / stage)} and {display_path(b.dir / stage)} differ in "
                f"{', '.join(differing)}, so that they are no folds of one study: rerun one of "
                "them with --restart, or give one's folder with --runs-dir."
            )
