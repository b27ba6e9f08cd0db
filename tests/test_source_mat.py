"""Sources of MATLAB files (DREAMER, SEED, SEED-IV): the right samples and labels, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal
from scipy.io import loadmat, savemat

from de3dgan.base.errors import UserError
from de3dgan.data import matlab
from de3dgan.data.preprocessing import How, build_store
from de3dgan.data.sources import Segment, dreamer, seed, seed_iv
from tests.helpers import one_line
from tests.writers.dreamer import cells, dreamer_person, write_dreamer
from tests.writers.seed import LABELS, write_labels, write_session

# --- DREAMER -----------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [True, False])
def test_dreamer_reads_each_person_of_the_one_file(tmp_path, compress):
    """The last 60 s of each film and its baseline, less their means, and the ratings."""
    rng = np.random.default_rng(0)
    people = [dreamer_person(rng, [61, 60]), dreamer_person(rng, [63, 60])]
    path = write_dreamer(tmp_path, people, compress)
    found = dreamer.find(tmp_path)
    assert found == {"s01": [path], "s02": [path]}
    for (name, files), person in zip(found.items(), people, strict=True):
        subject = dreamer.read(name, files)
        assert (subject.subject, len(subject.ch_names), subject.ch_names[3]) == (name, 14, "FC5")
        assert subject.scales == dict.fromkeys(("valence", "arousal", "dominance"), (1, 5))
        assert len(subject.trials) == len(subject.baselines) == 2
        for film, trial in enumerate(subject.trials):
            assert (trial.stimulus, trial.session) == (f"film{film + 1:02d}", "1")
            assert trial.ratings == {
                key.lower(): person[f"Score{key}"][film, 0]
                for key in ("Valence", "Arousal", "Dominance")
            }
            segments = {"stimuli": trial.segment, "baseline": subject.baselines[trial.baseline]}
            for part, segment in segments.items():
                eeg = person["EEG"][part][film, 0].T
                eeg = eeg - eeg.mean(axis=1, keepdims=True)
                recording = subject.recordings[segment.recording]
                np.testing.assert_allclose(recording, eeg, atol=1e-9)
                assert segment.stop == recording.shape[1]
                n_seconds = 60 if part == "stimuli" else 3
                assert segment.stop - segment.start == n_seconds * 128


def test_a_variable_in_parts_is_what_scipy_reads_as_a_whole(tmp_path):
    """Also of cells that are empty, and in any order of asking."""
    content = {"b": cells([np.arange(6).reshape(2, 3), np.empty((0, 0)), "text"]), "a": 1.5}
    path = tmp_path / "some.mat"
    savemat(path, {"other": 1, "name": content}, do_compression=True)
    whole = loadmat(path)["name"][0, 0]
    with matlab.opened(path, "name") as variable:
        assert variable.shape == (1, 1)
        for name, field in variable.fields():
            if name == "a":
                assert field.read() == whole["a"] == 1.5
                continue
            assert (name, field.shape) == ("b", (3, 1))
            for place, cell in enumerate(field.cells()):
                if place != 1:
                    np.testing.assert_array_equal(cell.read(), whole["b"][place, 0])


def with_clip(clip: np.ndarray, part: str = "stimuli") -> dict:
    """Return a person one of whose recordings is another."""
    person = dreamer_person(np.random.default_rng(0), [60])
    person["EEG"][part] = cells([clip])
    return person


def test_dreamer_reads_people_in_any_order(tmp_path):
    """One pass through the file is gone on with, and begun anew for who lies before."""
    rng = np.random.default_rng(0)
    path = write_dreamer(tmp_path, [dreamer_person(rng, [61]) for _ in range(4)])
    alone = {}
    for number in range(1, 5):
        dreamer._passing = None
        alone[number] = dreamer._person(path, number)
    for number in (2, 4, 1, 1, 3):
        for found, wanted in zip(dreamer._person(path, number), alone[number], strict=True):
            np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ValueError, match="no person 5"):
        dreamer._person(path, 5)
    assert len(dreamer._person(path, 3)) == 3


@pytest.mark.parametrize(
    ("person", "said"),
    [
        (with_clip(np.ones((7680, 13))), "stimuli 1 has the shape .*13"),
        (with_clip(np.full((7680, 14), np.nan)), "stimuli 1 holds .* no finite numbers"),
        (with_clip(np.ones((7679, 14))), "stimuli 1 lasts 59.9.* 60 s are needed"),
        (with_clip(np.ones((255, 14)), "baseline"), "baseline 1 lasts 1.9"),
        (dreamer_person(np.random.default_rng(0), [60], ScoreArousal=np.ones((2, 1))), "as many"),
        (dreamer_person(np.random.default_rng(0), [60], ScoreArousal=[[6.0]]), "from 1 to 5"),
        (dreamer_person(np.random.default_rng(0), [60], ScoreArousal=[[np.nan]]), "from 1 to 5"),
        (dreamer_person(np.random.default_rng(0), [60], EEG={"baseline": 1}), "no stimuli"),
        ({"Age": 22}, "no ScoreArousal and no ScoreDominance"),
        (7.0, "no structure"),
    ],
)
def test_dreamer_refuses_a_person_who_is_not_as_published(tmp_path, person, said):
    """Shapes, values and lengths each are one sentence that names the file."""
    path = write_dreamer(tmp_path, [person])
    with pytest.raises(UserError, match=said) as error:
        dreamer.read("s01", [path])
    assert "DREAMER.mat" in one_line(error)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"EEG": 1}, "no variable DREAMER"),
        ({"DREAMER": {"EEG_SamplingRate": 128}}, "no field Data"),
        ({"DREAMER": {"Data": np.empty((0, 0))}}, "shape"),
        ({"DREAMER": 3.0}, "no structure"),
    ],
)
def test_dreamer_refuses_a_file_of_something_else(tmp_path, content, said):
    """A MAT-file without that structure."""
    savemat(tmp_path / "DREAMER.mat", content)
    with pytest.raises(UserError, match=said) as error:
        dreamer.find(tmp_path)
    assert "DREAMER.mat" in one_line(error)


@pytest.mark.parametrize("compress", [True, False])
def test_a_file_that_was_cut_off_is_a_sentence(tmp_path, compress):
    """Wherever it ends."""
    path = write_dreamer(tmp_path, [dreamer_person(np.random.default_rng(0), [60])], compress)
    content = path.read_bytes()
    for length in (0, 60, 128, 130, 300, 700, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(UserError) as error:
            dreamer.read("s01", [path])
        assert "DREAMER.mat" in one_line(error)


def test_version_73_is_refused_with_the_way_out(tmp_path):
    """HDF5 is not read."""
    text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM"
    for path in (tmp_path / "DREAMER.mat", tmp_path / "1_20131027.mat"):
        path.write_bytes(text + bytes(384) + b"\x89HDF\r\n\x1a\n")
    write_labels(tmp_path)
    with pytest.raises(UserError, match=r"DREAMER.mat is of MATLAB's version 7.3.*'-v7'"):
        dreamer.find(tmp_path)
    (tmp_path / "DREAMER.mat").unlink()
    for unit, files in seed.find(tmp_path).items():
        with pytest.raises(UserError, match=r"1_20131027.mat is of .*'-v7'"):
            seed.read(unit, files)


# --- SEED and SEED-IV --------------------------------------------------------------------------


def check_films(subject, content: dict[str, np.ndarray]) -> None:
    """Check each film's recording against SciPy's filter, and that its trial is all of it."""
    assert len(subject.recordings) == len(subject.trials) == len(content)
    for film, (eeg, trial) in enumerate(zip(content.values(), subject.trials, strict=True)):
        expected = signal.resample_poly(eeg, 16, 25, axis=1, padtype="edge")
        recording = subject.recordings[film]
        assert recording.shape == expected.shape
        inner = slice(30, -30)
        np.testing.assert_allclose(recording[:, inner], expected[:, inner], atol=1e-9)
        assert trial.segment == Segment(film, 0, recording.shape[1])
        assert trial.baseline is None


def test_seed_reads_sessions_in_the_order_of_their_dates(tmp_path):
    """Each session is a unit, and the films of all sessions are the same."""
    write_labels(tmp_path)
    contents = {
        name: write_session(tmp_path, f"{name}.mat", seed=place)
        for place, name in enumerate(["2_20140404", "10_20131130", "2_20131230"])
    }
    (tmp_path / "readme.txt").write_text("labels: label.mat")
    found = seed.find(tmp_path)
    units = {"s02-1": "2_20131230", "s02-2": "2_20140404", "s10-1": "10_20131130"}
    assert {unit: files[0].stem for unit, files in found.items()} == units
    for unit, files in found.items():
        subject = seed.read(unit, files)
        assert subject.subject == unit[:3]
        assert {trial.session for trial in subject.trials} == {unit[-1]}
        assert [trial.stimulus for trial in subject.trials][::14] == ["film01", "film15"]
        assert subject.classes == {"emotion": ("negative", "neutral", "positive")}
        assert [trial.ratings for trial in subject.trials] == [
            {"emotion": label + 1} for label in LABELS
        ]
        assert (subject.baselines, subject.trial_seconds) == ([], 60)
        assert len(set(subject.ch_names)) == 62
    check_films(subject, contents["10_20131130"])


def test_seed_iv_has_other_films_in_each_session(tmp_path):
    """Labels are the ReadMe's, and films are numbered through."""
    for session in (1, 3):
        content = write_session(tmp_path / str(session), f"4_2015070{session}.mat", n_films=24)
    found = seed_iv.find(tmp_path)
    assert list(found) == ["s04-1", "s04-3"]
    first, third = (seed_iv.read(unit, files) for unit, files in found.items())
    assert third.classes == {"emotion": ("neutral", "sad", "fear", "happy")}
    assert [t.stimulus for t in first.trials][::23] == ["film01", "film24"]
    assert [t.stimulus for t in third.trials][::23] == ["film49", "film72"]
    assert [t.ratings["emotion"] for t in first.trials[:5]] == [1, 2, 3, 0, 2]
    assert [t.ratings["emotion"] for t in third.trials[-4:]] == [2, 0, 1, 0]
    assert {t.session for t in third.trials} == {"3"}
    assert third.trial_seconds == 40
    check_films(third, content)


def test_each_session_of_seed_iv_has_six_films_of_each_emotion():
    """As the set was designed."""
    for labels in seed_iv.LABELS.values():
        assert np.bincount(labels).tolist() == [6, 6, 6, 6]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"djc_eeg3": None}, "of 15 films, it lacks _eeg3"),
        ({"djc_eeg16": np.ones((62, 9))}, "djc_eeg16 besides 15 films"),
        ({"jl_eeg2": np.ones((62, 9))}, "jl_eeg2 besides 15 films"),
        ({"djc_eeg2": np.ones((61, 9))}, "djc_eeg2 has the shape .*61"),
        ({"djc_eeg2": np.ones((62, 9, 2))}, "djc_eeg2 has the shape"),
        ({"djc_eeg1": np.full((62, 9), np.inf)}, "djc_eeg1 holds .* no finite numbers"),
        ({"djc_eeg1": np.ones((62, 9)) * 1j}, "djc_eeg1 holds .* no finite numbers"),
        ({"djc_eeg1": np.empty((62, 0))}, "djc_eeg1"),
    ],
)
def test_seed_refuses_a_session_that_is_not_as_published(tmp_path, changes, said):
    """A missing or superfluous film, and one that is no EEG of 62 electrodes."""
    write_labels(tmp_path)
    write_session(tmp_path, "1_20131027.mat", n_times=20, **changes)
    ((unit, files),) = seed.find(tmp_path).items()
    with pytest.raises(UserError, match=said) as error:
        _ = seed.read(unit, files).recordings[0]
    assert "1_20131027.mat" in one_line(error)


def test_seed_takes_no_notice_of_other_variables(tmp_path):
    """Nor of the initials, which differ between people."""
    write_labels(tmp_path)
    write_session(tmp_path, "1_20131027.mat", n_times=20, note=np.ones(3), djc_eegx=np.ones(3))
    ((unit, files),) = seed.find(tmp_path).items()
    assert len(seed.read(unit, files).trials) == 15


@pytest.mark.parametrize("labels", [[1, 2, 0], [0.5, 0, 1], [np.nan], []])
def test_seed_refuses_other_labels(tmp_path, labels):
    """They are -1, 0 and 1."""
    write_labels(tmp_path, labels)
    write_session(tmp_path, "1_20131027.mat", n_times=20)
    ((unit, files),) = seed.find(tmp_path).items()
    with pytest.raises(UserError, match=r"label.mat .* -1, 0 and 1"):
        seed.read(unit, files)


def test_seed_refuses_folders_that_are_not_as_published(tmp_path):
    """Labels that are missing, a name that is none, two files of a session."""
    write_session(tmp_path / "1", "1_20131027.mat", n_times=20)
    with pytest.raises(UserError, match=r"label.mat is missing"):
        seed.find(tmp_path / "1")
    write_session(tmp_path / "1", "1_20131030.mat", n_times=20)
    with pytest.raises(UserError, match=r"1_20131027.mat and 1_20131030.mat") as error:
        seed_iv.find(tmp_path)
    one_line(error)
    for name in ("djc_20131027.mat", "1_2013.mat"):
        (tmp_path / "1" / name).write_bytes(b"")
        for find, folder in ((seed.find, tmp_path / "1"), (seed_iv.find, tmp_path)):
            with pytest.raises(UserError, match=rf"{name} is not named like") as error:
                find(folder)
            one_line(error)
        (tmp_path / "1" / name).unlink()


@pytest.mark.parametrize("source", [dreamer, seed, seed_iv])
def test_an_empty_or_missing_folder_says_where_data_come_from(tmp_path, source):
    """The message names the folder and the way to the data."""
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="ask for access at") as error:
            source.find(folder)
        assert folder.name in one_line(error)


# --- from files to stores ----------------------------------------------------------------------


def test_dreamer_becomes_a_store(tmp_path):
    """A row per person and film, DE relative to the baseline before the film."""
    rng = np.random.default_rng(0)
    people = [dreamer_person(rng, [60, 61]) for _ in range(2)]
    for person in people:  # the second film is louder than its baseline, the first is not
        person["EEG"]["stimuli"][1, 0] = 4200 + 2 * (person["EEG"]["stimuli"][1, 0] - 4200)
    (tmp_path / "files").mkdir()
    write_dreamer(tmp_path / "files", people)
    store = build_store("dreamer", tmp_path / "files", tmp_path / "store", n_jobs=1)
    assert store.columns["subject"] == ["s01", "s01", "s02", "s02"]
    assert store.columns["stimulus"] == ["film01", "film02"] * 2
    expected = np.concatenate([person["ScoreValence"][:, 0] for person in people])
    np.testing.assert_array_equal(store.rating("valence"), expected)
    assert store.manifest["reference"] == "baseline"
    assert store.manifest["scales"]["arousal"] == [1, 5]
    assert store.manifest["grid"]["shape"] == [8, 9]
    eeg = people[1]["EEG"]["stimuli"][1, 0].T
    eeg = (eeg - eeg.mean(axis=1, keepdims=True))[:, -7680:]
    np.testing.assert_allclose(store.eeg[3], eeg, rtol=1e-5, atol=1e-4)
    # DE of Gaussian noise grows by ln 2 if it is twice as loud.
    np.testing.assert_allclose(
        np.mean(store.de, axis=(1, 2, 3)), [0, np.log(2), 0, np.log(2)], atol=0.05
    )


@pytest.mark.parametrize("source", ["seed", "seed_iv"])
def test_seed_becomes_a_store(tmp_path, source):
    """A row per piece of a film, with sessions and classes, and DE that is absolute."""
    n_films, n_pieces, folders = (3, 2, ["", ""]) if source == "seed" else (24, 1, ["1", "2"])
    folder = tmp_path / "files"
    write_session(folder / folders[0], "1_20131027.mat", n_films, n_pieces * 2400)
    content = write_session(folder / folders[1], "1_20131103.mat", n_films, 2400, seed=1)
    if source == "seed":
        write_labels(folder, LABELS[:3])
    how = How(trial_seconds=12)
    store = build_store(source, folder, tmp_path / "store", n_jobs=1, how=how)
    assert store.columns["session"] == ["1"] * n_pieces * n_films + ["2"] * n_films
    pieces = [*range(n_pieces)] * n_films + [0] * n_films
    assert list(map(int, store.columns["piece"])) == pieces
    assert set(store.columns["subject"]) == {"s01"}
    assert (store.manifest["reference"], store.manifest["scales"]) == ("none", {})
    classes = {"seed": seed, "seed_iv": seed_iv}[source].EMOTIONS
    assert store.manifest["classes"] == {"emotion": list(classes)}
    expected = [2, 1, 0] if source == "seed" else list(seed_iv.LABELS[2])
    assert list(store.rating("emotion"))[-n_films:] == expected
    n_stimuli = 3 if source == "seed" else 48
    assert len(set(store.columns["stimulus"])) == n_stimuli
    eeg = signal.resample_poly(content[f"djc_eeg{n_films}"], 16, 25, axis=1, padtype="edge")
    np.testing.assert_allclose(store.eeg[-1][:, 30:-30], eeg[:, -1536:][:, 30:-30], atol=1e-3)
