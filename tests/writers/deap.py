"""Writers of DEAP's files: sNN.dat as Python 2 pickled it, and the table of ratings."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from de3dgan.data.sources import deap

HEADER = (
    "Participant_id,Trial,Experiment_id,Start_time,Valence,Arousal,Dominance,Liking,Familiarity"
).split(",")


def rows(ratings: np.ndarray) -> list[list[float]]:
    """Return the table's rows: videos in the order in which each person saw them."""
    rng = np.random.default_rng(2)
    table = []
    for person, of_person in enumerate(ratings, 1):
        for trial, video in enumerate(rng.permutation(len(of_person)), 1):
            table.append([person, trial, video + 1, 1e6 * trial, *of_person[video], ""])
    return table


def write_csv(path: Path, table: list[list[float]], header: list[str] = HEADER) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([header, *table])


def write_dats(folder: Path, labels: np.ndarray) -> None:
    """Write an sNN.dat of noise for each person's labels, (people, videos, 4)."""
    folder.mkdir(parents=True, exist_ok=True)
    for person, of_person in enumerate(labels, 1):
        data = np.random.default_rng(person).normal(0, 10, (len(of_person), 40, 8064))
        deap.write(folder / f"s{person:02d}.dat", data.astype("<f4"), of_person)
