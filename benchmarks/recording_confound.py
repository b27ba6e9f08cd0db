"""Can rest be told from arithmetic by what is no EEG? If so, recordings are being told apart.

    .venv/bin/python benchmarks/recording_confound.py --data-dirs <as published> <common subspace>

In EEGMAT, rest and arithmetic are two files, each cleaned by its own independent components, and
the baseline is of the file of rest: whatever differs between files can pass for workload. Two
things are asked: the power along the direction in which the baseline has least, one number; and
log power relative to the baseline, one band at a time, by a support vector machine. Above 45 Hz,
which the method leaves out, the scalp gives muscles, power line and amplifier more than brain.
People tested on are others than those trained on. Fills in the table of
benchmarks/RECORDING_CONFOUND.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from scipy import signal
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks.documents import fill_table, interval
from de3dgan.base.cli import command_line
from de3dgan.base.paths import from_root
from de3dgan.base.recipe import N_FOLDS
from de3dgan.data.frames import Frames
from de3dgan.data.labels import class_labels
from de3dgan.data.opening import open_store
from de3dgan.data.splits import make_split
from de3dgan.data.store import Store
from de3dgan.eeg.de import BANDS
from de3dgan.eeg.sampling import SFREQ, WINDOW
from de3dgan.evaluation import artefacts
from de3dgan.evaluation.metrics import by_trial
from de3dgan.evaluation.statistics import Clusters, estimate

WEAKEST = "4-30 Hz, in the baseline's weakest direction"
#: Hz above those that DE is taken of.
ABOVE = {"46-54 Hz": (46.0, 54.0), "56-64 Hz": (56.0, 64.0)}


@dataclass(frozen=True)
class Config:
    """Where the recordings are, and where the table goes."""

    data_dirs: tuple[Path, ...] = (Path("DE_feature/eegmat"),)  # stores made of EEGMAT
    seed: int = 520  # of the folds
    out: Path = ROOT / "benchmarks" / "RECORDING_CONFOUND.md"  # document that holds the table


def main(config: Config) -> None:
    """Measure, and fill in the table."""
    bands = {f"{name}, {low:.0f}-{high:.0f} Hz": (low, high) for name, (low, high) in BANDS.items()}
    bands |= ABOVE
    rows = {name: [name] for name in (WEAKEST, *bands)}
    columns = ["power relative to the baseline's"]
    for path in config.data_dirs:
        store = open_store(from_root(path))
        labels = class_labels(store, ("arithmetic",), 0.5)
        kind, n_people = store.manifest["subspace"], len(set(store.columns["subject"]))
        columns += [f"{kind} ({n_people} people): per frame", "per trial"]
        frames = Frames(store, torch.device("cpu"), waveform_baseline=False)
        score = artefacts.null_space(frames, np.arange(store.n_trials * store.n_frames))
        rows[WEAKEST] += cells(store, labels, score, LogisticRegression(), config.seed)
        for name, edges in bands.items():
            power = relative_log_power(store, edges)
            rows[name] += cells(store, labels, power, SVC(), config.seed)
            print(*rows[name], sep=" | ", flush=True)
    fill_table(config.out, "recording_confound.py", columns, [*rows.values()])


def cells(
    store: Store, labels: np.ndarray, features: np.ndarray, model: BaseEstimator, seed: int
) -> list[str]:
    """Return what a model makes of features, per frame and per trial."""
    trials, probabilities = zip(*folds(store, labels, features, model, seed), strict=True)
    trials, probabilities = np.concatenate(trials), np.concatenate(probabilities)
    truth, people = labels[trials], np.array(store.columns["subject"])
    per_frame = Clusters.of(people[trials], truth, probabilities)
    per_trial = Clusters.of(people[np.unique(trials)], *by_trial(trials, truth, probabilities))
    return [
        interval(estimate([clusters], pooled_folds=True)["balanced_accuracy"])
        for clusters in (per_frame, per_trial)
    ]


def folds(
    store: Store, labels: np.ndarray, features: np.ndarray, model: BaseEstimator, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the trials of each fold's test frames, and their probabilities (0 or 1)."""
    for fold in range(N_FOLDS):
        split = make_split(store, labels, "subject", fold, seed)
        known = np.concatenate([split.train, split.val])
        fitted = make_pipeline(StandardScaler(), clone(model))
        fitted.fit(features[known], labels[known // store.n_frames])
        yield split.test // store.n_frames, np.eye(2)[fitted.predict(features[split.test])]


def relative_log_power(store: Store, edges: tuple[float, float]) -> np.ndarray:
    """Return log power of frames minus that of the baseline, (n_frames in all, n_chans)."""

    def log_power(eeg: np.ndarray) -> np.ndarray:
        """Map (n_chans, n_times) to (n_windows, n_chans)."""
        windows = eeg[:, : eeg.shape[1] // WINDOW * WINDOW].reshape(len(eeg), -1, WINDOW)
        freqs, power = signal.periodogram(windows, SFREQ, "hann", detrend=False)
        inside = (freqs >= edges[0]) & (freqs <= edges[1])
        return 0.5 * np.log(power[..., inside].mean(-1) + 1e-12).T

    baselines = np.stack([log_power(eeg).mean(0) for eeg in store.baseline])
    trials = np.stack([log_power(eeg) for eeg in store.eeg])
    frames = trials.reshape(store.n_trials, store.n_frames, 2, -1).mean(2)
    change = frames - baselines[store.baseline_index][:, None]
    return change.reshape(-1, change.shape[-1])


if __name__ == "__main__":
    command_line(main, Config)
