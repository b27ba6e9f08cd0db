"""Labels of DEAP, compared with participant_ratings: what is right passes, each kind is named."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from de3dgan.base.errors import UserError
from de3dgan.data.preprocessing import build_store
from de3dgan.data.simulation import Signal
from de3dgan.data.sources import deap
from de3dgan.data.synthetic import write_deap
from tests.helpers import one_line
from tests.writers.deap import HEADER, rows, write_csv, write_dats

N_TRIALS = 5


def true_ratings(n_people: int = 2, n_videos: int = 40) -> np.ndarray:
    """Return ratings in hundredths, (people, videos, 4), each from 1 to 9."""
    return np.random.default_rng(1).integers(100, 901, (n_people, n_videos, 4)) / 100


def write_xls(path: Path, table: list[list[float]]) -> None:
    """Write a worksheet of Excel 2.0: the smallest of the formats that are called .xls."""

    def record(kind: int, content: bytes) -> bytes:
        return struct.pack("<HH", kind, len(content)) + content

    cells = [record(0x0009, struct.pack("<HH", 2, 0x10))]
    for y, row in enumerate([HEADER, *table]):
        for x, value in enumerate(row):
            place = struct.pack("<HH", y, x) + b"\0\0\0"
            if isinstance(value, str):
                text = bytes([len(value)]) + value.encode()
                cells.append(record(0x0004, place + text))
            else:
                cells.append(record(0x0003, place + struct.pack("<d", value)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join([*cells, record(0x000A, b"")]))


def read_second(folder: Path):
    return deap.read("s02", deap.find(folder)["s02"])


def refused(tmp_path: Path, change) -> str:
    """Return the sentence about labels that `change` has made wrong."""
    ratings = true_ratings()
    labels = ratings[:, :N_TRIALS].copy()
    labels[1] = change(labels[1])
    write_dats(tmp_path, labels)
    write_csv(tmp_path / "participant_ratings.csv", rows(ratings))
    deap.read("s01", deap.find(tmp_path)["s01"])  # whose labels are right
    with pytest.raises(UserError) as error:
        read_second(tmp_path)
    message = one_line(error)
    assert "s02.dat: the labels of " in message
    assert "download data_preprocessed_python.zip anew" in message
    return message


@pytest.mark.parametrize(
    ("place", "write"),
    [
        ("DEAP/participant_ratings.csv", write_csv),
        ("DEAP/participant_ratings.xls", write_xls),
        ("metadata_csv/participant_ratings.csv", write_csv),
        ("metadata_xls/participant_ratings.xls", write_xls),
    ],
)
def test_right_labels_pass(tmp_path, capsys, place, write):
    """By person and video, whatever the order of presentation; the table is one of the inputs."""
    ratings = true_ratings()
    write_dats(tmp_path / "DEAP", ratings[:, :2])
    write(tmp_path / place, rows(ratings))
    found = deap.find(tmp_path / "DEAP")
    assert [path.name for path in found["s02"]] == ["s02.dat", Path(place).name]
    trials = deap.read("s02", found["s02"]).trials
    assert [list(trial.ratings.values()) for trial in trials] == ratings[1, :2].tolist()
    assert capsys.readouterr().out == ""


def with_rows(labels: np.ndarray, numbers: list[int], values: np.ndarray) -> np.ndarray:
    labels = labels.copy()
    labels[numbers] = values
    return labels


@pytest.mark.parametrize("top", [9, 10])
def test_mirrored_labels_are_named(tmp_path, top):
    """Even where 9 - x is below 1."""

    def change(labels: np.ndarray) -> np.ndarray:
        return with_rows(
            labels, [1, 3], [[top - v, top - a, d, q] for v, a, d, q in labels[[1, 3]]]
        )

    message = refused(tmp_path, change)
    assert f"2 of {N_TRIALS} trials, of which trial 2 is the first" in message
    assert f"mirrored ({top} - x) in valence and arousal:" in message


def test_permuted_labels_are_named(tmp_path):
    message = refused(tmp_path, lambda labels: labels[[0, 1, 3, 4, 2]])
    assert f"3 of {N_TRIALS} trials, of which trial 3 is the first" in message
    assert "but those of other trials (permuted)" in message


def test_exchanged_labels_are_named(tmp_path):
    message = refused(tmp_path, lambda labels: labels[:, [1, 0, 2, 3]])
    assert f"{N_TRIALS} of {N_TRIALS} trials, of which trial 1 is the first" in message
    assert "valence and arousal exchanged" in message


@pytest.mark.parametrize("value", [0.3, np.nan])
def test_other_labels_are_refused(tmp_path, value):
    message = refused(tmp_path, lambda labels: with_rows(labels, [4], labels[4] * value))
    assert "trial 5 is the first" in message
    assert "nor these mirrored, permuted or exchanged" in message


def test_rounding_is_no_difference(tmp_path):
    ratings = true_ratings()
    write_dats(tmp_path, ratings[:, :2] + 0.004)
    write_csv(tmp_path / "participant_ratings.csv", rows(ratings))
    read_second(tmp_path)


@pytest.mark.parametrize(
    ("table", "header", "reason"),
    [
        (rows(true_ratings(1)), HEADER, "no ratings of person 2 for Experiment_id 1"),
        (rows(true_ratings(2, 1)), HEADER, "no ratings of person 2 for Experiment_id 2"),
        (rows(true_ratings()), [*HEADER[:4], "Pleasure", *HEADER[5:]], "lacks the column Valence"),
        ([[1, 1, 1, 0, "", 2, 3, 4, 5]], HEADER, "could not convert string"),
        ([[1, 1, 1, 0, "nan", 2, 3, 4, 5]], HEADER, "a value that is no number"),
        ([[1, 1]], HEADER, "damaged or no table of DEAP's ratings"),
    ],
)
def test_a_wrong_table_is_a_sentence(tmp_path, table, header, reason):
    write_dats(tmp_path, true_ratings()[:, :2])
    write_csv(tmp_path / "participant_ratings.csv", table, header)
    with pytest.raises(UserError, match=reason) as error:
        read_second(tmp_path)
    assert "participant_ratings.csv" in one_line(error)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no .xls", b"\xd0\xcf\x11\xe0" * 200])
def test_what_is_no_xls_is_a_sentence(tmp_path, content):
    write_dats(tmp_path, true_ratings()[:, :1])
    (tmp_path / "participant_ratings.xls").write_bytes(content)
    with pytest.raises(UserError, match="damaged or no table of DEAP's ratings") as error:
        read_second(tmp_path)
    one_line(error)


def test_what_was_not_checked_is_said_once(tmp_path, capsys):
    """Of real recordings; simulated ones have no table."""
    write_dats(tmp_path / "real", true_ratings()[:, :1])
    assert list(deap.find(tmp_path / "real")) == ["s01", "s02"]
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert "was not checked" in printed
    write_deap(tmp_path / "simulated", 1, Signal(n_trials=1))
    deap.find(tmp_path / "simulated")
    assert capsys.readouterr().out == ""


def test_the_table_is_an_input_of_the_store(tmp_path):
    """Another table is another store."""
    ratings = true_ratings(1)
    write_dats(tmp_path / "DEAP", ratings[:, :2])
    table = tmp_path / "DEAP" / "participant_ratings.csv"
    write_csv(table, rows(ratings))
    store = build_store("deap", tmp_path / "DEAP", tmp_path / "store", 1)
    assert sorted(store.manifest["inputs"]) == ["s01/participant_ratings.csv", "s01/s01.dat"]
    write_csv(table, rows(10 - ratings))
    with pytest.raises(UserError, match="mirrored"):
        build_store("deap", tmp_path / "DEAP", tmp_path / "store", 1)
