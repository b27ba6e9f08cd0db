"""Are intervals and p values right? Two equally good models, in thousands of simulated studies.

    .venv/bin/python benchmarks/null_simulation.py

Each study has people with 4 trials of 3 correlated frames. Its two models are ridge regressions on
two halves of the features that tell the classes equally well, so that there is no difference to be
found, tested in five folds that are pooled, of one seed or of three. Beside `compare` stands the
test that flips the signs of people's contributions, which knows nothing of training. For the power,
one half tells the classes less well, by the smallest difference that `compare` says it would
detect. Fills in the tables of benchmarks/NULL_SIMULATION.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

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
#: Ridge penalty, as a share of the features' mean variance.
RIDGE = 0.1
SIDES = np.tile([-1.0, 1.0], N_TRIALS // 2)
#: Levels of a test: alone, and the strictest that Holm's method asks of seven.
LEVELS = (0.05, 0.05 / 7)
METRICS = ("balanced_accuracy", "auc")
N_FLIPS = 1999
#: The strength whose power is measured.
STRENGTH = 1.0


@dataclass(frozen=True)
class Config:
    """What is simulated, and where the tables go."""

    groups: tuple[int, ...] = (36, 12)  # people per study
    strengths: tuple[float, ...] = (0.25, 1.0, 2.0)  # distance of the classes
    validated: tuple[bool, ...] = (True, False)  # a fifth of the training people is kept for it
    n_studies: int = 800  # simulated studies per row
    n_seeds: int = 3  # seeds of folds, of which the first is also taken alone
    seed: int = 0  # of the simulation
    out: Path = ROOT / "benchmarks" / "NULL_SIMULATION.md"  # document that holds the tables


def main(config: Config) -> None:
    """Simulate, and fill in the tables."""
    null, power = [], []
    for validated in config.validated:
        trained = "64 %" if validated else "80 %"
        for n_groups in config.groups:
            accuracies, smallest = [], {}
            for strength in config.strengths:
                studies = list(simulate(n_groups, (strength, strength), validated, config))
                for n_seeds in (1, config.n_seeds):
                    cells, found = null_row(studies, n_seeds)
                    null.append([trained, n_groups, n_seeds, *cells])
                    print(*null[-1], sep=" | ", flush=True)
                    if strength == STRENGTH:
                        smallest[n_seeds] = found
                accuracies.append(accuracy(studies))
            for n_seeds, difference in smallest.items():
                weaker = float(
                    np.interp(
                        np.interp(STRENGTH, config.strengths, accuracies) - difference,
                        accuracies,
                        config.strengths,
                    )
                )
                fewer = replace(config, n_studies=config.n_studies // 2)
                studies = list(simulate(n_groups, (STRENGTH, weaker), validated, fewer))
                power.append([trained, n_groups, n_seeds, *power_row(studies, n_seeds)])
                print("power", *power[-1], sep=" | ", flush=True)
    columns = ("trained on", "people", "seeds of folds", "balanced accuracy")
    columns += ("flips: 0.05", "0.05/7", "`compare`: 0.05", "0.05/7", "AUC: 0.05", "0.05/7")
    columns += ("coverage, balanced accuracy", "AUC")
    fill_table(config.out, "null_simulation.py, null", columns, null)
    columns = ("trained on", "people", "seeds of folds", "true difference (points)")
    columns += ("smallest detectable (points)", "found")
    fill_table(config.out, "null_simulation.py, power", columns, power)


#: Per seed of the folds, the predictions of the two models.
Study = list[tuple[Clusters, Clusters]]


def simulate(
    n_groups: int, strengths: tuple[float, float], validated: bool, config: Config
) -> Iterator[Study]:
    """Yield simulated studies.

    Parameters
    ----------
    n_groups : int
        People.
    strengths : (float, float)
        Distance of the classes in either model's features.
    validated : bool
        A fifth of the training people is kept for validation, as `make_split` does.
    config : Config
        Number of studies and of seeds of folds, and the seed.
    """
    rng = np.random.default_rng(config.seed)
    labels = np.broadcast_to((SIDES > 0)[:, None], (n_groups, N_TRIALS, N_FRAMES)).ravel()
    groups = np.repeat(np.arange(n_groups), N_TRIALS * N_FRAMES)
    for _ in range(config.n_studies):
        x = features(rng, n_groups, strengths)
        study = []
        for _ in range(config.n_seeds):
            p = probabilities(x, rng, validated)
            study.append(tuple(
                Clusters.of(groups, labels.astype(int), np.stack([1 - of, of], 1)) for of in p
            ))  # fmt: skip
        yield study


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


def probabilities(x: np.ndarray, rng: np.random.Generator, validated: bool) -> np.ndarray:
    """Return the probability of class 1 of each frame, (2, n_frames in all), over five folds."""
    n_groups = x.shape[1]
    out = np.empty(x.shape[:-1])
    order = rng.permutation(n_groups)
    for tested in (order[fold::N_FOLDS] for fold in range(N_FOLDS)):
        known = np.setdiff1d(order, tested)
        if validated:
            known = rng.permutation(known)[len(known) // N_FOLDS :]
        features = x[:, known].reshape(2, -1, N_FEATURES)
        mean = features.mean(1, keepdims=True)
        centred = features - mean
        products = centred.transpose(0, 2, 1) @ centred
        penalty = RIDGE * np.trace(products, axis1=1, axis2=2) / N_FEATURES
        products += penalty[:, None, None] * np.eye(N_FEATURES)
        sides = np.tile(np.repeat(SIDES, N_FRAMES), len(known))
        weights = np.linalg.solve(products, centred.transpose(0, 2, 1) @ sides[:, None])
        new = x[:, tested].reshape(2, -1, N_FEATURES) - mean
        out[:, tested] = (new @ weights).reshape(2, len(tested), N_TRIALS, N_FRAMES)
    return 1 / (1 + np.exp(-3 * out.reshape(2, -1)))


def compared(study: Study, n_seeds: int, metric: str) -> Comparison:
    """Return `compare` of a study's models, of its first seeds."""
    a, b = ({(fold, None): pair[of] for fold, pair in enumerate(study[:n_seeds])} for of in (0, 1))
    return compare(a, b, metric, pooled_folds=True)


def sign_flip_p(study: Study, metric: str) -> float:
    """Return the p that flips the signs of groups' contributions, of a study's first seed."""
    n_groups = len(study[0][0].groups)
    weights = np.concatenate([np.ones((1, n_groups)), 1 - np.eye(n_groups)])
    of_a, of_b = (model.metrics(weights, [metric])[metric] for model in study[0])
    contributions = n_groups * (of_a - of_b)[0] - (n_groups - 1) * (of_a - of_b)[1:]
    signs = np.random.default_rng(0).choice([-1, 1], size=(N_FLIPS, n_groups))
    flipped = np.abs(signs @ contributions) >= abs(contributions.sum()) - 1e-9
    return (1 + flipped.sum()) / (1 + N_FLIPS)


def accuracy(studies: list[Study]) -> float:
    """Return the mean balanced accuracy of the first model."""
    once = np.ones((1, len(studies[0][0][0].groups)))
    name = METRICS[0]
    return float(np.mean([study[0][0].metrics(once, [name])[name][0] for study in studies]))


def null_row(studies: list[Study], n_seeds: int) -> tuple[list[str], float]:
    """Return a row's figures, and the smallest detectable difference."""
    flips = np.array([sign_flip_p(study, METRICS[0]) for study in studies])
    found = {metric: [compared(s, n_seeds, metric) for s in studies] for metric in METRICS}
    ps = [flips, *(np.array([one.p for one in of_metric]) for of_metric in found.values())]
    estimates = [
        estimate({(fold, None): pair[0] for fold, pair in enumerate(study[:n_seeds])}, 2000, True)
        for study in studies[: len(studies) // 2]
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


def power_row(studies: list[Study], n_seeds: int) -> list[str]:
    """Return a row's figures."""
    found = [compared(study, n_seeds, METRICS[0]) for study in studies]
    difference = np.mean([one.difference.value for one in found])
    smallest = np.mean([one.smallest_detectable for one in found])
    shown = np.mean([one.p < LEVELS[0] for one in found])
    return [f"{100 * difference:.1f}", f"{100 * smallest:.1f}", f"{100 * shown:.0f} %"]


if __name__ == "__main__":
    command_line(main, Config)
