"""FACED: the right samples, ratings and classes from its files, a sentence about wrong ones."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy import signal
from scipy.io import savemat

from de3dgan.base.errors import UserError
from de3dgan.data.preprocessing import build_store
from de3dgan.data.sources import faced
from tests.helpers import one_line
from tests.writers.faced import RATINGS, SHAPE, write_faced, write_remarks


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faced")
    return folder, *write_faced(folder)


def read(folder: Path, subject: str = "sub007"):
    return faced.read(subject, faced.find(folder)[subject])


def test_faced_reads_films_ratings_and_classes(written):
    folder, eeg, order, scores = written
    data = read(folder)
    assert data.subject == "sub007"
    assert len(data.ch_names) == 30
    assert data.ch_names[:3] + data.ch_names[-2:] == ("Fp1", "Fp2", "Fz", "O1", "O2")
    assert data.baselines == []
    assert len(data.recordings) == len(data.trials) == 28
    assert [trial.stimulus for trial in data.trials] == [f"film{n:02d}" for n in order]
    for trial, number, score in zip(data.trials, order, scores, strict=True):
        assert trial.baseline is None
        assert (trial.segment.start, trial.segment.stop) == (0, 30 * 128)
        recording = data.recordings[trial.segment.recording]
        expected = signal.resample_poly(eeg[number - 1, :30].astype(float), 64, 125, axis=-1)
        # Away from the ends, where values go on here and are zero there.
        np.testing.assert_allclose(recording[:, 50:-50], expected[:, 50:-50], atol=1e-4)
        assert list(trial.ratings) == [*RATINGS, "emotion", "positive"]
        np.testing.assert_allclose([trial.ratings[name] for name in RATINGS], score)
    assert data.scales == {name: (0, 7) for name in RATINGS}


def test_faced_classes_are_of_the_film(written):
    """Films 1 to 3 evoke anger, 13 to 16 nothing, 26 to 28 tenderness."""
    data = read(written[0])
    found = {}
    for trial in data.trials:
        emotion, positive = (
            data.classes[name][int(trial.ratings[name])] for name in ("emotion", "positive")
        )
        found[int(trial.stimulus.removeprefix("film"))] = f"{emotion} {positive}"
    assert [found[number] for number in range(1, 29)] == [
        *["anger negative"] * 3,
        *["disgust negative"] * 3,
        *["fear negative"] * 3,
        *["sadness negative"] * 3,
        *["neutral neutral"] * 4,
        *["amusement positive"] * 3,
        *["inspiration positive"] * 3,
        *["joy positive"] * 3,
        *["tenderness positive"] * 3,
    ]


def test_faced_store(written, tmp_path, capsys):
    """From files to a store: the last 28 s of each film, absolute DE, scales and classes."""
    folder, eeg, order, scores = written
    store = build_store("faced", folder, tmp_path / "store", 1)
    assert store.eeg.shape == (28, 30, 28 * 128)
    assert store.manifest["reference"] == "none"
    assert store.manifest["scales"]["valence"] == [0, 7]
    assert store.manifest["classes"]["positive"] == ["negative", "neutral", "positive"]
    assert len(store.manifest["classes"]["emotion"]) == 9
    assert store.manifest["ch_names"][:3] == ["FP1", "FP2", "FZ"]
    assert store.columns["stimulus"] == [f"film{number:02d}" for number in order]
    np.testing.assert_allclose(np.array(store.columns["valence"], float), scores[:, 9])
    data = read(folder)
    for row, trial in enumerate(data.trials):
        recording = data.recordings[trial.segment.recording]
        np.testing.assert_allclose(store.eeg[row], recording[:, 2 * 128 :], atol=1e-3)


def test_faced_finds_ratings_in_either_folder(tmp_path):
    for subject, folder in (("sub000", "Data"), ("sub122", "After_remarks")):
        write_remarks(tmp_path / folder / subject / "After_remarks.mat", np.arange(28) + 1, SCORES)
        (tmp_path / "Processed_data").mkdir(exist_ok=True)
        (tmp_path / "Processed_data" / f"{subject}.pkl").touch()
    found = faced.find(tmp_path)
    assert list(found) == ["sub000", "sub122"]
    assert all(path.is_file() for paths in found.values() for path in paths)


SCORES = np.full((28, 12), 3.5)


def test_faced_says_where_to_get_it(tmp_path):
    with pytest.raises(UserError) as error:
        faced.find(tmp_path)
    assert "syn50614194" in one_line(error)


def test_faced_needs_ratings(written, tmp_path):
    (tmp_path / "Processed_data").mkdir()
    for number in range(3):
        (tmp_path / "Processed_data" / f"sub{number:03d}.pkl").touch()
    with pytest.raises(UserError, match=r"sub000/After_remarks\.mat.* of 2 other") as error:
        faced.find(tmp_path)
    one_line(error)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (np.zeros((28, 32, 10)), r"\(28, 32, 10\)"),
        (np.zeros((28, 30, 7500), np.float16), r"\(28, 30, 7500\)"),
        ({"data": np.zeros(SHAPE, np.int8)}, "no array"),
        (np.array([None]), "holds no plain numbers"),
        ("text", "no array"),
        (Path("x"), "tries to import pathlib"),
    ],
)
def test_faced_refuses_other_pickles(written, tmp_path, content, reason):
    path = tmp_path / "sub007.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=reason) as error:
        faced.read("sub007", [path, faced.find(written[0])["sub007"][1]])
    assert "sub007.pkl" in one_line(error)


@pytest.mark.parametrize(
    ("order", "scores", "name", "reason"),
    [
        (np.arange(28), SCORES, "After_remark", "each film, 1 to 28, once"),
        (np.arange(27) + 1, SCORES[:27], "After_remark", "each film"),
        (np.ones(28), SCORES, "After_remark", "each film"),
        (np.arange(28) + 1, SCORES[:, :11], "After_remark", r"\(28, 11\)"),
        (np.arange(28) + 1, SCORES + 4, "After_remark", "from 0 to 7"),
        (np.arange(28) + 1, SCORES * np.nan, "After_remark", "from 0 to 7"),
        (np.arange(28) + 1, SCORES, "Remark", "lacks a struct array After_remark"),
    ],
)
def test_faced_refuses_other_ratings(tmp_path, order, scores, name, reason):
    path = tmp_path / "sub007" / "After_remarks.mat"
    write_remarks(path, order, scores, name)
    with pytest.raises(UserError, match=reason) as error:
        faced.read_bounded(faced._remarks, path, "file of FACED's ratings", 2**22)
    assert "After_remarks.mat" in one_line(error)


def test_faced_refuses_ratings_that_lack_some(tmp_path):
    """An entry without scores, and a file that is no .mat."""
    path = tmp_path / "After_remarks.mat"
    entries = np.empty((28, 1), dtype=[("score", object), ("vid", object)])
    for number in range(28):
        entries[number, 0] = (np.empty((0, 0)) if number == 5 else np.ones((1, 12)), number + 1.0)
    savemat(path, {"After_remark": entries})
    for content in (path.read_bytes(), b"no .mat"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged or no file of FACED's ratings") as error:
            faced.read_bounded(faced._remarks, path, "file of FACED's ratings", 2**22)
        one_line(error)
