"""Are intervals and p values right? Two equally good models, in thousands of simulated studies.

    .venv/bin/python benchmarks/null_simulation.py

Each study has people with 4 trials of 3 correlated frames. Its two models are ridge regressions on
two halves of the features that tell the classes equally well, so that there is no difference to be
found. They are tested in five folds that are pooled, of one seed or of three, and trained by one
seed or two: a seed of training takes other trials of the training people for each model. Beside
`compare` stands the test that flips the signs of people's contributions, which knows nothing of
training. For the power, one half tells the classes less well, by the smallest difference that
`compare` says it would detect. Fills in the tables of benchmarks/NULL_SIMULATION.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
from joblib import Parallel, delayed

from benchmarks.documents import fill_table
from de3dgan.base.cli import command_line
from de3dgan.base.recipe import N_FOLDS
from de3dgan.evaluation.statistics import Clusters, Comparison, compare, estimate

N_TRIALS, N_FRAMES = 4, 3
#: Features of either half, and how many of them tell the classes.
N_FEATURES, N_TELLING = 10, 4
#: Standard deviations of people's offsets, of how well a feature tells the classes in a person (as
#: a share of its mean), of trials and of frames.
PERSON, DIFFERING, TRIAL, FRAME = 0.5, 0.5, 1.0, 1.0
#: Share of the trials that a seed of training takes.
TAKEN = 0.8
#: Ridge penalty, as a share of the features' mean variance.
RIDGE = 0.1
SIDES = np.tile([-1.0, 1.0], N_TRIALS // 2)
#: Levels of a test: alone, and the strictest that Holm's method asks of seven.
LEVELS = (0.05, 0.05 / 7)
METRICS = ("balanced_accuracy", "auc")
N_FLIPS = 1999
#: Seeds of the folds, and of training, of which studies are looked at.
SEEDS = ((1, 1), (3, 1), (3, 2))
MOST_SEEDS = tuple(map(max, zip(*SEEDS, strict=True)))
#: The strength whose power is measured.
STRENGTH = 1.0


@dataclass(frozen=True)
class Config:
    """What is simulated, and where the tables go."""

    groups: tuple[int, ...] = (36, 24, 12)  # people per study
    strengths: tuple[float, ...] = (0.25, 1.0, 2.0)  # distance of the classes
    n_studies: int = 800  # simulated studies per row
    jobs: int = 2  # rows at a time
    seed: int = 0  # of the simulation
    out: Path = ROOT / "benchmarks" / "NULL_SIMULATION.md"  # document that holds the tables


def main(config: Config) -> None:
    """Simulate, and fill in the tables."""
    rows = Parallel(config.jobs)(delayed(of_people)(n, config) for n in config.groups)
    null, power = ([row for both in rows for row in both[kind]] for kind in (0, 1))
    columns = ("people", "seeds of folds", "of training", "balanced accuracy", "flips: 0.05")
    columns += ("0.05/7", "`compare`: 0.05", "0.05/7", "AUC: 0.05", "0.05/7")
    columns += ("coverage, balanced accuracy", "AUC")
    fill_table(config.out, "null_simulation.py, null", columns, null)
    columns = ("people", "seeds of folds", "of training", "true difference (points)")
    columns += ("smallest detectable (points)", "found")
    fill_table(config.out, "null_simulation.py, power", columns, power)


def of_people(n_groups: int, config: Config) -> tuple[list[list], list[list]]:
    """Return the rows of both tables for a number of people."""
    null, power, accuracies, smallest = [], [], [], {}
    for strength in config.strengths:
        studies = list(simulate(n_groups, (strength, strength), config.n_studies, config.seed))
        for seeds in SEEDS:
            cells, found = null_row(studies, seeds)
            null.append([n_groups, *seeds, *cells])
            if strength == STRENGTH:
                smallest[seeds] = found
        accuracies.append(accuracy(studies))
    for seeds, difference in smallest.items():
        wanted = np.interp(STRENGTH, config.strengths, accuracies) - difference
        weaker = float(np.interp(wanted, accuracies, config.strengths))
        studies = list(simulate(n_groups, (STRENGTH, weaker), config.n_studies // 2, config.seed))
        power.append([n_groups, *seeds, *power_row(studies, seeds)])
    return null, power


#: By the seed of the folds and that of training, the predictions of the two models.
Study = dict[tuple[int, int], tuple[Clusters, Clusters]]


def simulate(
    n_groups: int, strengths: tuple[float, float], n_studies: int, seed: int
) -> Iterator[Study]:
    """Yield simulated studies.

    Parameters
    ----------
    n_groups : int
        People.
    strengths : (float, float)
        Distance of the classes in either model's features.
    n_studies : int
        How many.
    seed : int
        Of the simulation.
    """
    rng = np.random.default_rng(seed)
    labels = np.broadcast_to((SIDES > 0)[:, None], (n_groups, N_TRIALS, N_FRAMES)).ravel()
    groups = np.repeat(np.arange(n_groups), N_TRIALS * N_FRAMES)
    for _ in range(n_studies):
        x = features(rng, n_groups, strengths)
        yield {
            (fold_seed, training_seed): tuple(
                Clusters.of(groups, labels.astype(int), np.stack([1 - of, of], 1)) for of in p
            )
            for fold_seed in range(MOST_SEEDS[0])
            for training_seed, p in enumerate(probabilities(x, rng, MOST_SEEDS[1]))
        }


def features(rng: np.random.Generator, n_groups: int, strengths: tuple[float, float]) -> np.ndarray:
    """Return features, (2, n_groups, N_TRIALS, N_FRAMES, N_FEATURES)."""
    telling = np.arange(N_FEATURES) < N_TELLING
    distance = np.reshape(strengths, (2, 1, 1, 1, 1)) * telling
    distance = distance * (1 + DIFFERING * rng.normal(size=(2, n_groups, 1, 1, N_FEATURES)))
    return (
        distance * SIDES[:, None, None] / 2
        + PERSON * rng.normal(size=(2, n_groups, 1, 1, N_FEATURES))
        + TRIAL * rng.normal(size=(2, n_groups, N_TRIALS, 1, N_FEATURES))
        + FRAME * rng.normal(size=(2, n_groups, N_TRIALS, N_FRAMES, N_FEATURES))
    )


def probabilities(x: np.ndarray, rng: np.random.Generator, n_trainings: int) -> np.ndarray:
    """Return the probability of class 1 of each frame over five folds of one seed.

    A fifth of the people that a fold does not test is kept for validation, as `make_split` does.

    Returns
    -------
    array, (n_trainings, 2, n_frames in all)
    """
    n_groups = x.shape[1]
    out = np.empty((n_trainings, *x.shape[:-1]))
    order = rng.permutation(n_groups)
    for tested in (order[fold::N_FOLDS] for fold in range(N_FOLDS)):
        known = rng.permutation(np.setdiff1d(order, tested))
        known = known[len(known) // N_FOLDS :]
        for training in range(n_trainings):
            taken = rng.random((2, len(known), N_TRIALS)) < TAKEN
            for model in range(2):
                features = x[model, known][taken[model]].reshape(-1, N_FEATURES)
                sides = np.broadcast_to(SIDES, taken[model].shape)[taken[model]]
                mean = features.mean(0)
                centred = features - mean
                products = centred.T @ centred
                products += RIDGE * np.trace(products) / N_FEATURES * np.eye(N_FEATURES)
                weights = np.linalg.solve(products, centred.T @ np.repeat(sides, N_FRAMES))
                out[training, model, tested] = (x[model, tested] - mean) @ weights
    return 1 / (1 + np.exp(-3 * out.reshape(n_trainings, 2, -1)))


def compared(study: Study, seeds: tuple[int, int], metric: str) -> Comparison:
    """Return `compare` of a study's models, of its first seeds."""
    return compare(*(of_model(study, seeds, model) for model in (0, 1)), metric, pooled_folds=True)


def of_model(study: Study, seeds: tuple[int, int], model: int) -> dict[tuple[int, int], Clusters]:
    """Return the predictions of one of a study's models, of its first seeds."""
    return {(f, t): pair[model] for (f, t), pair in study.items() if f < seeds[0] and t < seeds[1]}


def sign_flip_p(study: Study, metric: str) -> float:
    """Return the p that flips the signs of groups' contributions, of a study's first seed."""
    n_groups = len(study[0, 0][0].groups)
    weights = np.concatenate([np.ones((1, n_groups)), 1 - np.eye(n_groups)])
    of_a, of_b = (model.metrics(weights, [metric])[metric] for model in study[0, 0])
    contributions = n_groups * (of_a - of_b)[0] - (n_groups - 1) * (of_a - of_b)[1:]
    signs = np.random.default_rng(0).choice([-1, 1], size=(N_FLIPS, n_groups))
    flipped = np.abs(signs @ contributions) >= abs(contributions.sum()) - 1e-9
    return (1 + flipped.sum()) / (1 + N_FLIPS)


def accuracy(studies: list[Study]) -> float:
    """Return the mean balanced accuracy of the first model."""
    once = np.ones((1, len(studies[0][0, 0][0].groups)))
    name = METRICS[0]
    return float(np.mean([study[0, 0][0].metrics(once, [name])[name][0] for study in studies]))


def null_row(studies: list[Study], seeds: tuple[int, int]) -> tuple[list[str], float]:
    """Return a row's figures, and the smallest detectable difference."""
    flips = np.array([sign_flip_p(study, METRICS[0]) for study in studies])
    found = {metric: [compared(s, seeds, metric) for s in studies] for metric in METRICS}
    ps = [flips, *(np.array([one.p for one in of_metric]) for of_metric in found.values())]
    estimates = [
        estimate(of_model(study, seeds, 0), 2000, True) for study in studies[: len(studies) // 2]
    ]
    cells = [f"{accuracy(studies):.2f}"]
    cells += [f"{100 * (p < level).mean():.1f}" for p in ps for level in LEVELS]
    for metric in METRICS:
        values, low, high = np.transpose(
            [(of[metric].value, of[metric].low, of[metric].high) for of in estimates]
        )
        truth = values.mean()
        cells.append(f"{100 * ((low <= truth) & (truth <= high)).mean():.1f}")
    return cells, float(np.mean([one.smallest_detectable for one in found[METRICS[0]]]))


def power_row(studies: list[Study], seeds: tuple[int, int]) -> list[str]:
    """Return a row's figures."""
    found = [compared(study, seeds, METRICS[0]) for study in studies]
    difference = np.mean([one.difference.value for one in found])
    smallest = np.mean([one.smallest_detectable for one in found])
    shown = np.mean([one.p < LEVELS[0] for one in found])
    return [f"{100 * difference:.1f}", f"{100 * smallest:.1f}", f"{100 * shown:.0f} %"]


if __name__ == "__main__":
    command_line(main, Config)
