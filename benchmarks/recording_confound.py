"""Can rest be told from arithmetic above the bands of EEG? If so, recordings are being told apart.

    .venv/bin/python benchmarks/recording_confound.py --data-dir DE_feature/study-eegmat

In EEGMAT, rest and arithmetic are two files, and the baseline is of the file of rest: whatever
differs between files can pass for workload. Above 45 Hz, which the method leaves out, the scalp
gives muscles, power line and amplifier more than brain. A support vector machine is trained on
log power relative to the baseline, one band at a time, on people apart from those that it is
tested on. Fills in the table of benchmarks/RECORDING_CONFOUND.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
from scipy import signal
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks.documents import fill_table, interval
from de3dgan.base.cli import command_line
from de3dgan.base.paths import from_root
from de3dgan.base.recipe import N_FOLDS
from de3dgan.data.opening import open_store
from de3dgan.data.splits import class_labels, make_split
from de3dgan.data.store import Store
from de3dgan.eeg.de import BANDS
from de3dgan.eeg.sampling import SFREQ, WINDOW
from de3dgan.evaluation.metrics import by_trial
from de3dgan.evaluation.statistics import Clusters, estimate

#: Hz above those that DE is taken of.
ABOVE = {"46-54 Hz": (46.0, 54.0), "56-64 Hz": (56.0, 64.0)}


@dataclass(frozen=True)
class Config:
    """Where the recordings are, and where the table goes."""

    data_dir: Path = Path("DE_feature/eegmat")  # store that preprocess_de.py made of EEGMAT
    seed: int = 520  # of the folds
    out: Path = ROOT / "benchmarks" / "RECORDING_CONFOUND.md"  # document that holds the table


def main(config: Config) -> None:
    """Measure, and fill in the table."""
    store = open_store(from_root(config.data_dir))
    labels = class_labels(store, ("arithmetic",), 0.5)
    bands = {f"{name}, {low:.0f}-{high:.0f} Hz": (low, high) for name, (low, high) in BANDS.items()}
    rows = [row(store, labels, *band, config.seed) for band in (bands | ABOVE).items()]
    n_people = len(set(store.columns["subject"]))
    columns = (f"band ({n_people} people, seed {config.seed})", "per frame", "per trial")
    fill_table(config.out, "recording_confound.py", columns, rows)


def row(
    store: Store, labels: np.ndarray, name: str, edges: tuple[float, float], seed: int
) -> list[str]:
    """Print and return the table's row of one band."""
    features = relative_log_power(store, edges)
    trials, probabilities = zip(*folds(store, labels, features, seed), strict=True)
    trials, probabilities = np.concatenate(trials), np.concatenate(probabilities)
    truth, people = labels[trials], np.array(store.columns["subject"])
    per_frame = Clusters.of(people[trials], truth, probabilities)
    per_trial = Clusters.of(people[np.unique(trials)], *by_trial(trials, truth, probabilities))
    cells = [name]
    for clusters in (per_frame, per_trial):
        cells.append(interval(estimate([clusters], pooled_folds=True)["balanced_accuracy"]))
    print(*cells, sep=" | ", flush=True)
    return cells


def folds(
    store: Store, labels: np.ndarray, features: np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the trials of each fold's test frames, and their probabilities (0 or 1)."""
    for fold in range(N_FOLDS):
        split = make_split(store, labels, "subject", fold, seed)
        known = np.concatenate([split.train, split.val])
        model = make_pipeline(StandardScaler(), SVC())
        model.fit(features[known], labels[known // store.n_frames])
        yield split.test // store.n_frames, np.eye(2)[model.predict(features[split.test])]


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
