"""Writer of one person of FACED as it is published."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
from scipy.io import savemat

SHAPE = (28, 32, 7500)
RATINGS = (
    "joy tenderness inspiration amusement anger disgust fear sadness arousal valence familiarity"
    " liking"
).split()


def write_remarks(path: Path, order: np.ndarray, scores: np.ndarray, name: str = "After_remark"):
    """Write a struct array (28, 1) of what was felt, film by film in the order of presentation."""
    fields = ("score", "trial", "vid", "Accuracy", "ResponseTime")
    entries = np.empty((len(order), 1), dtype=[(field, object) for field in fields])
    for trial, (number, score) in enumerate(zip(order, scores, strict=True)):
        values = (score[None], [[trial + 1]], [[number]], np.ones((1, 20)), np.ones((1, 20)))
        entries[trial, 0] = tuple(np.asarray(value, dtype=float) for value in values)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {name: entries})


def write_faced(folder: Path, subject: str = "sub007", remarks: str = "Data", seed: int = 0):
    """Write one person's EEG and ratings; return EEG, films in presented order, and scores."""
    rng = np.random.default_rng(seed)
    eeg = rng.normal(0, 10, SHAPE).astype(np.float32)
    order = rng.permutation(28) + 1
    scores = rng.uniform(0, 7, (28, 12)).round(2)
    (folder / "Processed_data").mkdir(parents=True, exist_ok=True)
    with open(folder / "Processed_data" / f"{subject}.pkl", "wb") as file:
        pickle.dump(eeg, file)
    write_remarks(folder / remarks / subject / "After_remarks.mat", order, scores)
    return eeg, order, scores
