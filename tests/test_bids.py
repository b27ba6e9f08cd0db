"""BIDS: data sets as they are published are read right, and what real ones get wrong is said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from de3dgan.base.errors import UserError
from de3dgan.base.paths import ROOT, SHIPPED
from de3dgan.data import sources
from de3dgan.data.bids.settings import _FIELDS, read_settings
from de3dgan.data.preprocessing import How, build_store
from de3dgan.data.sources import Segment, Subject, bids, eegmat
from de3dgan.eeg.sampling import SFREQ
from tests.helpers import one_line
from tests.writers.bids import (
    DENS_CHANNELS,
    FACED_CHANNELS,
    waves,
    write_channels,
    write_dens,
    write_description,
    write_edf,
    write_eegmat,
    write_faced,
    write_set,
    write_table,
    write_vhdr,
)

BOM = b"\xef\xbb\xbf"
NAMES = ["Fz", "Cz", "Pz", "EOG"]
SETTINGS = """
task = "films"
{top}

[trials]
column = "trial_type"
pattern = "film.*"
stimulus = "film"
{trials}
[ratings]
valence = {{ column = "valence", scale = [1, 9] }}
{ratings}
"""
EVENTS = {
    "onset": [1.0, 4.0, 20.5],
    "duration": ["n/a", 12.0, 16.25],
    "trial_type": ["start", "film one", "film two"],
    "film": ["n/a", "a", "b"],
    "valence": ["n/a", 2.5, 9],
    "mood": ["n/a", "sad", "glad"],
}


def settings_with(folder: Path, top: str = "", trials: str = "", ratings: str = "") -> Path:
    """Write the settings of `write_films`, with more lines."""
    path = folder / "my_set.toml"
    top += "" if "drop =" in top else '\ndrop = ["EOG"]'
    path.write_text(SETTINGS.format(top=top, trials=trials, ratings=ratings))
    return path


def write_films(
    root: Path,
    subject: str = "01",
    sfreq: int = 200,
    suffix: str = ".edf",
    session: str | None = None,
    events: dict | None = EVENTS,
    task: str = "films",
) -> Path:
    """Write a recording of 40 s with two films, and return the start of its files' names."""
    write_description(root)
    folder, name = root / f"sub-{subject}", f"sub-{subject}"
    if session:
        folder, name = folder / f"ses-{session}", f"{name}_ses-{session}"
    stem = folder / "eeg" / f"{name}_task-{task}"
    write = {".set": write_set, ".vhdr": write_vhdr}.get(suffix, write_edf)
    write(Path(f"{stem}_eeg{suffix}"), NAMES, waves(4, 40, sfreq), sfreq)
    if events is not None:
        write_table(Path(f"{stem}_events.tsv"), events)
    return stem


def read_only(root: Path, settings: Path | None) -> Subject:
    """Find and read the only subject there is."""
    ((unit, files),) = bids.find(root, settings).items()
    return bids.read(unit, files)


def refusal(root: Path, settings: Path | None) -> str:
    """Return the sentence that a data set is refused with."""
    with pytest.raises(UserError) as error:
        for recording in read_only(root, settings).recordings:
            assert recording.size
    return one_line(error)


# --- Data sets as they are published -----------------------------------------------------------


@pytest.mark.parametrize(("sfreq", "unit"), [(1000, "uV"), (250, "?V")])
def test_faced(tmp_path, sfreq, unit):
    """At both rates, with and without units, and with a byte-order mark at the head of events."""
    recorded = write_faced(tmp_path, "003", sfreq, unit, head=BOM)
    data = read_only(tmp_path, Path("faced_bids"))
    kept = [i for i, name in enumerate(FACED_CHANNELS) if name not in ("A1", "A2")]
    assert data.ch_names == tuple(FACED_CHANNELS[i] for i in kept)
    (eeg,) = data.recordings
    assert eeg.shape == (30, 102 * SFREQ)
    expected = waves(32, 102, SFREQ)[kept]
    np.testing.assert_allclose(eeg[:, 128:-128], expected[:, 128:-128], atol=0.1)
    assert recorded.shape[1] == 102 * sfreq
    # The last 30 s of each clip, and the 5 s before it.
    assert [t.segment.stop for t in data.trials] == [43.75 * SFREQ, round(98.914 * SFREQ)]
    assert {t.segment.stop - t.segment.start for t in data.trials} == {30 * SFREQ}
    assert data.baselines == [Segment(0, 576, 1216), Segment(0, 55 * SFREQ, 60 * SFREQ)]
    assert [t.baseline for t in data.trials] == [0, 1]
    assert [t.stimulus for t in data.trials] == ["23", "15"]
    joy, neutral = (trial.ratings for trial in data.trials)
    assert (joy["joy"], joy["liking"], joy["positive"]) == (0, 7, 2)
    assert (neutral["joy"], neutral["liking"], neutral["positive"]) == (7, 0, 1)
    names = data.classes["emotion"]
    assert [names[int(rating["emotion"])] for rating in (joy, neutral)] == ["joy", "neutral"]
    assert data.scales["valence"] == (0, 7)
    assert data.trial_seconds == 28


def test_dens(tmp_path):
    """Names of files that differ in case, onsets in samples, ratings in another table."""
    write_dens(tmp_path)
    found = bids.find(tmp_path, Path("dens"))
    assert [path.name for path in found["sub-mit003"]] == [
        "dens.toml",
        "sub-mit003_task-Emotion_eeg.set",
        "sub-mit003_task-Emotion_eeg.fdt",
        "sub-mit003_task-emotion_events.tsv",
        "sub-mit003_task-Emotion_beh.tsv",
    ]
    data = bids.read("sub-mit003", found["sub-mit003"])
    assert data.ch_names == tuple(DENS_CHANNELS[:128])
    assert data.montage == "GSN-HydroCel-128"
    assert [t.segment for t in data.trials] == [
        Segment(0, 4 * SFREQ, 64 * SFREQ),
        Segment(0, 70 * SFREQ, 130 * SFREQ),
    ]
    assert [t.stimulus for t in data.trials] == ["neutral1", "12"]
    assert [t.ratings["arousal"] for t in data.trials] == [7.95, 1]
    assert data.scales["valence"] == (1, 9)
    assert data.baselines == []
    (eeg,) = data.recordings
    expected = waves(132, 140, SFREQ)[:128]
    np.testing.assert_allclose(eeg[:, 128:-128], expected[:, 128:-128], atol=0.1)


def test_eegmat_in_bids_is_eegmat(tmp_path):
    """What is read is what the source `eegmat` reads from PhysioNet's files."""
    files = eegmat.find(ROOT / eegmat.DEFAULT_DIR)["Subject04"]
    write_eegmat(tmp_path, "04", files)
    copy = sources.read_checked(bids, *bids.find(tmp_path, Path("eegmat_bids")).popitem())
    original = sources.read_checked(eegmat, "Subject04", files)
    assert copy.ch_names == original.ch_names
    for ours, theirs in zip(copy.recordings, original.recordings, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)
    assert copy.baselines == original.baselines
    assert [trial.segment for trial in copy.trials] == [trial.segment for trial in original.trials]
    assert [trial.ratings for trial in copy.trials] == [trial.ratings for trial in original.trials]
    assert copy.n_baseline_times == original.n_baseline_times
    assert copy.cleaned_apart


def test_eegmat_in_bids_gives_the_same_store(tmp_path):
    """From file to store: EEG and DE of a person are those of PhysioNet's files."""
    files = eegmat.find(ROOT / eegmat.DEFAULT_DIR)["Subject04"]
    write_eegmat(tmp_path / "bids", "04", files)
    (tmp_path / "physionet").mkdir()
    for path in files:
        shutil.copy(path, tmp_path / "physionet")
    how = How(settings=Path("eegmat_bids"))
    ours = build_store("bids", tmp_path / "bids", tmp_path / "ours", 1, how)
    theirs = build_store("eegmat", tmp_path / "physionet", tmp_path / "theirs", 1)
    for name in ("eeg", "de", "baseline"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert ours.rating("arithmetic").tolist() == theirs.rating("arithmetic").tolist() == [0, 1]
    assert ours.columns["subject"] == ["sub-04"] * 2
    assert ours.scales == theirs.scales


def test_faced_becomes_a_store(tmp_path, capsys):
    """Clips are cut to 28 s, on the paper's grid; a change of the events makes it anew."""
    write_faced(tmp_path / "bids", "003", 250, "uV")
    how = How(settings=Path("faced_bids"))
    store = build_store("bids", tmp_path / "bids", tmp_path / "store", 1, how)
    assert store.eeg.shape == (2, 30, 28 * SFREQ)
    expected = waves(32, 102, SFREQ)[0, 2016:5600]  # Fp1, up to the end of the first clip
    np.testing.assert_allclose(store.eeg[0, list(store.ch_names).index("FP1")], expected, atol=0.1)
    assert store.reference == "baseline"
    assert store.columns["stimulus"] == ["23", "15"]
    assert store.classes["positive"] == ["negative", "neutral", "positive"]
    assert "T7" in store.ch_names
    capsys.readouterr()
    build_store("bids", tmp_path / "bids", tmp_path / "store", 1, how)
    assert "up to date" in capsys.readouterr().out
    events = next((tmp_path / "bids").rglob("*_events.tsv"))
    events.write_text(events.read_text().replace("positive", "negative"))
    store = build_store("bids", tmp_path / "bids", tmp_path / "store", 1, how)
    assert store.rating("positive").tolist() == [0, 1]


def test_people_of_faced_may_have_their_channels_in_another_order(tmp_path):
    """A second cohort's lie otherwise, and have eyes in the place of ears."""
    eeg = write_faced(tmp_path / "bids", "003", 250, "uV")
    names = [{"A1": "HEOR", "A2": "HEOL"}.get(name, name) for name in FACED_CHANNELS]
    write_faced(tmp_path / "bids", "090", 250, "uV", eeg=eeg[::-1], channels=names[::-1])
    how = How(settings=Path("faced_bids"))
    store = build_store("bids", tmp_path / "bids", tmp_path / "store", 1, how)
    assert store.columns["subject"] == ["sub-003"] * 2 + ["sub-090"] * 2
    np.testing.assert_array_equal(store.eeg[:2], store.eeg[2:])
    np.testing.assert_allclose(store.de[:2], store.de[2:], atol=1e-6)


def test_dens_becomes_a_store(tmp_path):
    """128 electrodes get a grid of their own, and DE is relative to the time between clips."""
    write_dens(tmp_path / "bids")
    how = How(settings=Path("dens"))
    store = build_store("bids", tmp_path / "bids", tmp_path / "store", 1, how)
    assert store.eeg.shape == (2, 128, 60 * SFREQ)
    assert len(set(store.grid.cells)) == 128
    assert store.reference == "unlabelled"
    assert store.rating("valence").tolist() == [8.97, 9.0]


def test_every_shipped_file_is_documented():
    """A user finds each of them in the documentation."""
    page = (ROOT / "docs" / "data" / "bids.md").read_text(encoding="utf-8")
    names = [path.stem for path in SHIPPED.glob("*.toml")]
    assert len(names) == 3
    assert all(f"--settings {name}" in page for name in names)


def test_every_key_is_documented():
    """And so is each key of a file of settings."""
    page = (ROOT / "docs" / "data" / "bids.md").read_text(encoding="utf-8")
    for field in _FIELDS:
        key = ".".join(part.rstrip("?") for part in field.split(".") if part != "*")
        assert f"`{key}`" in page, key


# --- Data sets of one's own --------------------------------------------------------------------


def test_what_mne_bids_writes_is_read(tmp_path):
    """Columns that MNE has as extras of annotations are columns of the events."""
    import mne
    import mne_bids

    write_edf(tmp_path / "recorded.edf", NAMES, waves(4, 40, 200), 200)
    raw = mne.io.read_raw(tmp_path / "recorded.edf", verbose="error")
    raw.set_channel_types({"EOG": "eog"}, verbose="error")
    rows = [{"film": film, "valence": rating} for film, rating in (("a", 2.5), ("b", 9))]
    raw.set_annotations(
        mne.Annotations([4, 20.5], [12, 16.25], ["film one", "film two"], extras=rows)
    )
    path = mne_bids.BIDSPath("01", task="films", root=tmp_path / "bids", datatype="eeg")
    mne_bids.write_raw_bids(raw, path, verbose="error")
    data = read_only(tmp_path / "bids", settings_with(tmp_path, 'drop = ["ECG"]'))
    assert data.ch_names == ("Fz", "Cz", "Pz")
    assert [t.segment for t in data.trials] == [Segment(0, 512, 2048), Segment(0, 2624, 4704)]
    assert [(t.stimulus, t.ratings["valence"]) for t in data.trials] == [("a", 2.5), ("b", 9)]


@pytest.mark.parametrize("suffix", [".edf", ".bdf", ".set", ".vhdr"])
def test_every_format_is_read(tmp_path, suffix):
    """EDF, BDF, EEGLAB and BrainVision hold the same EEG, and its parts are among the files."""
    stem = write_films(tmp_path, suffix=suffix)
    ((unit, files),) = bids.find(tmp_path, settings_with(tmp_path)).items()
    assert {path for path in stem.parent.glob("*")} <= set(files)
    data = bids.read(unit, files)
    (eeg,) = data.recordings
    np.testing.assert_allclose(eeg[:, 128:-128], waves(3, 40, SFREQ)[:, 128:-128], atol=0.1)
    assert [t.segment for t in data.trials] == [Segment(0, 512, 2048), Segment(0, 2624, 4704)]
    assert [t.ratings for t in data.trials] == [{"valence": 2.5}, {"valence": 9.0}]
    assert [t.baseline for t in data.trials] == [None, None]


def test_channel_types_and_names(tmp_path):
    """A channel is EEG if the table of channels says so, and gets the name it is given."""
    stem = write_films(tmp_path)
    write_channels(Path(f"{stem}_channels.tsv"), NAMES, {"Cz": "MISC"}, 200)
    data = read_only(tmp_path, settings_with(tmp_path, 'rename = { Fz = "AFz" }'))
    assert data.ch_names == ("AFz", "Pz")
    np.testing.assert_allclose(
        data.recordings[0][1, 128:-128], waves(3, 40, 128)[2, 128:-128], atol=0.1
    )


def test_sessions_are_recordings_of_one_person(tmp_path):
    """Sessions come in order, with their names; those that are not named are left out."""
    for session in ("b", "a", "c"):
        write_films(tmp_path, session=session)
    data = read_only(tmp_path, settings_with(tmp_path, 'sessions = ["a", "b"]'))
    assert [(t.session, t.segment.recording) for t in data.trials] == [
        ("a", 0),
        ("a", 0),
        ("b", 1),
        ("b", 1),
    ]
    assert len(data.recordings) == 2


def test_subjects_are_left_out_by_name(tmp_path):
    """With or without "sub-"; a name that is not there is a mistake."""
    for subject in ("01", "02", "03"):
        write_films(tmp_path, subject)
    found = bids.find(tmp_path, settings_with(tmp_path, 'subjects_left_out = ["sub-01", "03"]'))
    assert list(found) == ["sub-02"]
    wrong = settings_with(tmp_path, 'subjects_left_out = ["4"]')
    assert "sub-4" in refusal(tmp_path, wrong)


@pytest.mark.parametrize(
    ("trials", "segment"),
    [
        ("start = 1.5\nstop = 9.5", Segment(0, 704, 1728)),
        ("stop = 10\nlast = 4", Segment(0, 10 * SFREQ, 14 * SFREQ)),
        ("start = 2", Segment(0, 6 * SFREQ, 16 * SFREQ)),
    ],
)
def test_parts_of_trials(tmp_path, trials, segment):
    """From onset, to a time after it or the row's end, and the last of that."""
    write_films(tmp_path)
    data = read_only(tmp_path, settings_with(tmp_path, trials=trials))
    assert data.trials[0].segment == segment


def test_classes_by_name_and_number(tmp_path):
    """Classes are numbered in the order of the settings; 2.0 is as good as 2."""
    write_films(tmp_path, events={**EVENTS, "level": ["n/a", "2.0", "1"]})
    ratings = 'mood = { column = "mood", classes = ["glad", "sad"] }\n'
    ratings += "level = { column = 'level', classes = { 1 = 'low', 2 = 'high' } }"
    data = read_only(tmp_path, settings_with(tmp_path, ratings=ratings))
    assert data.classes == {"mood": ("glad", "sad"), "level": ("low", "high")}
    assert [(t.ratings["mood"], t.ratings["level"]) for t in data.trials] == [(1, 1), (0, 0)]


def test_ratings_by_stimulus(tmp_path):
    """A table in the settings says what each stimulus is worth."""
    write_films(tmp_path)
    ratings = "consensus = { values = { a = 3, b = 7.5 }, scale = [1, 9] }"
    data = read_only(tmp_path, settings_with(tmp_path, ratings=ratings))
    assert [t.ratings["consensus"] for t in data.trials] == [3, 7.5]


def test_ratings_from_the_behavioural_file_by_number(tmp_path):
    """Rows are found by the number of the trial, in whatever order they are."""
    stem = write_films(tmp_path)
    beh = tmp_path / "sub-01" / "beh" / "sub-01_task-films_beh.tsv"
    write_table(beh, {"nr": [2, 1, 3], "valence": [7, 3, 1]})
    top = 'ratings_from = "beh"\nbeh_trial_column = "nr"'
    data = read_only(tmp_path, settings_with(tmp_path, top))
    assert [t.ratings["valence"] for t in data.trials] == [3, 7]
    assert "3 rows" in refusal(tmp_path, settings_with(tmp_path, 'ratings_from = "beh"'))
    write_table(beh, {"nr": [2, 3], "valence": [7, 3]})
    assert "trial 1" in refusal(tmp_path, settings_with(tmp_path, top))
    beh.unlink()
    assert "no beh.tsv" in refusal(tmp_path, settings_with(tmp_path, top))
    assert stem.parent.is_dir()


def test_events_are_inherited(tmp_path):
    """A table at the top holds for all, as BIDS has it."""
    stem = write_films(tmp_path)
    shutil.move(f"{stem}_events.tsv", tmp_path / "task-films_events.tsv")
    assert len(read_only(tmp_path, settings_with(tmp_path)).trials) == 2


def test_a_missing_rating_is_refused_or_left_out(tmp_path, capsys):
    """The line that lacks it is named either way."""
    write_films(tmp_path, events={**EVENTS, "valence": ["n/a", "n/a", 9]})
    sentence = refusal(tmp_path, settings_with(tmp_path))
    assert "line 3" in sentence and 'missing = "leave out"' in sentence
    data = read_only(tmp_path, settings_with(tmp_path, 'missing = "leave out"'))
    assert [t.stimulus for t in data.trials] == ["b"]
    assert "line 3" in capsys.readouterr().err


def test_a_recording_is_never_in_memory_at_its_own_rate(tmp_path, monkeypatch):
    """Reading asks for a minute of it at a time, in a child process: here, in this one."""
    import mne

    stem = write_films(tmp_path, events=None)
    write_edf(Path(f"{stem}_eeg.edf"), NAMES, waves(4, 200, 500), 500)
    longest = []
    getitem = mne.io.BaseRaw.__getitem__

    def watched(raw, item):
        longest.append(item[1].stop - item[1].start)
        return getitem(raw, item)

    monkeypatch.setattr(mne.io.BaseRaw, "__getitem__", watched)
    (eeg,) = bids._read_eeg(Path(f"{stem}_eeg.edf"), ("Fz", "Pz"), 1e6)
    assert eeg.shape == (2, 200 * SFREQ)
    assert len(longest) == 4 and max(longest) < 61 * 500


# --- What real data sets get wrong -------------------------------------------------------------


def in_ms(stem: Path) -> None:
    """Onsets and durations in ms."""
    events = {**EVENTS, "onset": [1000, 4000, 20500], "duration": ["n/a", 12000, 16250]}
    write_table(Path(f"{stem}_events.tsv"), events)


def without_types(stem: Path) -> None:
    """No row says what it is, but in another column."""
    write_table(Path(f"{stem}_events.tsv"), {**EVENTS, "trial_type": ["n/a"] * 3})


def without_events(stem: Path) -> None:
    """There are none."""
    Path(f"{stem}_events.tsv").unlink()


def with_a_short_line(stem: Path) -> None:
    """A line has lost a cell."""
    path = Path(f"{stem}_events.tsv")
    path.write_text(path.read_text().replace("\tsad", ""))


def in_latin1(stem: Path) -> None:
    """The table is not in UTF-8."""
    write_table(Path(f"{stem}_events.tsv"), {**EVENTS, "film": ["n/a", "a", "b"]}, b"\xe9")


def beyond_the_scale(stem: Path) -> None:
    """A rating is 10 of 9."""
    write_table(Path(f"{stem}_events.tsv"), {**EVENTS, "valence": ["n/a", 10, 9]})


def with_a_word(stem: Path) -> None:
    """A rating is a word."""
    write_table(Path(f"{stem}_events.tsv"), {**EVENTS, "valence": ["n/a", "good", 9]})


def overlapping(stem: Path) -> None:
    """A film starts before another one ends."""
    write_table(Path(f"{stem}_events.tsv"), {**EVENTS, "onset": [1, 4, 12]})


def without_duration(stem: Path) -> None:
    """Films have no duration."""
    write_table(Path(f"{stem}_events.tsv"), {**EVENTS, "duration": [0, 0, 0]})


def beyond_the_end(stem: Path) -> None:
    """A film ends after the recording."""
    write_table(Path(f"{stem}_events.tsv"), {**EVENTS, "onset": [1, 4, 30]})


def without_stimulus(stem: Path) -> None:
    """It is not said what was shown."""
    write_table(Path(f"{stem}_events.tsv"), {**EVENTS, "film": ["n/a"] * 3})


def without_unit(stem: Path) -> None:
    """The file does not say what unit its EEG is in."""
    write_edf(Path(f"{stem}_eeg.edf"), NAMES, waves(4, 40, 200), 200, "?V")


def with_some_units(stem: Path) -> None:
    """The file says what unit some channels are in."""
    path = Path(f"{stem}_eeg.edf")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"uV      ", b"?V      ", 1))


def cut_off(stem: Path) -> None:
    """The file is half of what it was."""
    os.truncate(f"{stem}_eeg.edf", 30_000)


def slow(stem: Path) -> None:
    """The EEG has no gamma band."""
    write_edf(Path(f"{stem}_eeg.edf"), NAMES, waves(4, 40, 64), 64)


def a_pointer(stem: Path) -> None:
    """The table was not fetched: git-annex has its name in it."""
    Path(f"{stem}_events.tsv").write_text("/annex/objects/SHA256E-s107263--d41269ad.tsv\n")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (in_ms, ["line 4", "beyond the end", 'onset_unit = "ms"']),
        (without_types, ["matches nothing", "film, valence, mood"]),
        (without_events, ["no events.tsv", "leave trials.column"]),
        (with_a_short_line, ["6 columns, and 5 in line 3"]),
        (in_latin1, ["UTF-8"]),
        (beyond_the_scale, ["line 3", "10", "scale from 1 to 9"]),
        (with_a_word, ["line 3", "'good'"]),
        (overlapping, ["starts at 12 s", "16 s"]),
        (without_duration, ["line 3", "no duration", "write stop"]),
        (beyond_the_end, ["line 4", "46.25 s", "40 s"]),
        (without_stimulus, ["line 3", "film"]),
        (without_unit, ["unit", '"uV"']),
        (with_some_units, ["in what unit", "not of Fz"]),
        (cut_off, ["sub-01_task-films_eeg.edf", "damaged"]),
        (slow, ["64 Hz"]),
        (a_pointer, ["events.tsv", "not fetched"]),
    ],
)
def test_what_is_wrong_is_said(tmp_path, damage: Callable[[Path], None], words):
    """In one sentence, which says where and what mends it."""
    damage(write_films(tmp_path))
    sentence = refusal(tmp_path, settings_with(tmp_path))
    assert all(word in sentence for word in words), sentence


def test_onsets_in_ms_and_samples_are_read(tmp_path):
    """If the settings say so; durations are in the same unit."""
    stem = write_films(tmp_path)
    seconds = read_only(tmp_path, settings_with(tmp_path)).trials
    in_ms(stem)
    assert (
        read_only(tmp_path, settings_with(tmp_path, trials='onset_unit = "ms"')).trials == seconds
    )
    samples = {"onset": [200, 800, 4100], "duration": [0, 2400, 3250]}
    write_table(Path(f"{stem}_events.tsv"), {**EVENTS, **samples})
    settings = settings_with(tmp_path, trials='onset_unit = "samples"')
    assert read_only(tmp_path, settings).trials == seconds


def test_a_truncated_eeglab_file_is_refused(tmp_path):
    """Most of DENS is: the .fdt has fewer bytes than the .set says."""
    stem = write_films(tmp_path, suffix=".set")
    os.truncate(f"{stem}_eeg.fdt", 64_000)
    assert "128000 bytes, and sub-01_task-films_eeg.fdt has 64000" in refusal(
        tmp_path, settings_with(tmp_path)
    )


def test_a_recording_in_two_formats_is_one(tmp_path):
    """It would be two trials of the same EEG."""
    write_films(tmp_path)
    write_films(tmp_path, suffix=".bdf")
    assert "two formats" in refusal(tmp_path, settings_with(tmp_path))


def test_recordings_with_other_channels_are_refused(tmp_path):
    """The channels that only one has are named."""
    write_films(tmp_path, session="a")
    stem = write_films(tmp_path, session="b")
    write_edf(Path(f"{stem}_eeg.edf"), ["Fz", "Oz", "Pz", "EOG"], waves(4, 40, 200), 200)
    assert "(Cz Oz)" in refusal(tmp_path, settings_with(tmp_path))


def test_recordings_that_were_not_fetched_are_left_out(tmp_path, capsys):
    """A link that leads nowhere is no recording; if all are, that is what is wrong."""
    write_films(tmp_path, "01")
    stem = write_films(tmp_path, "02")
    Path(f"{stem}_eeg.edf").unlink()
    Path(f"{stem}_eeg.edf").symlink_to(tmp_path / "nowhere.edf")
    assert list(bids.find(tmp_path, settings_with(tmp_path))) == ["sub-01"]
    assert "1 recordings were not fetched" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "sub-01")
    assert "datalad get" in refusal(tmp_path, settings_with(tmp_path))


def test_a_recording_by_a_link_is_read(tmp_path):
    """As git-annex has it: names are those of the links, also of what a header refers to."""
    stem = write_films(tmp_path, suffix=".set")
    for number, suffix in enumerate((".set", ".fdt")):
        stored = tmp_path / ".git" / "annex" / f"MD5E-{number}{suffix}"
        stored.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(f"{stem}_eeg{suffix}", stored)
        Path(f"{stem}_eeg{suffix}").symlink_to(stored)
    (eeg,) = read_only(tmp_path, settings_with(tmp_path)).recordings
    assert eeg.shape == (3, 40 * SFREQ)


def test_where_there_is_nothing(tmp_path):
    """No folder, no BIDS, no such task: each is said with what is there."""
    settings = settings_with(tmp_path)
    assert "no folder" in refusal(tmp_path / "none", settings)
    assert "no EEG in BIDS" in refusal(tmp_path, settings)
    write_films(tmp_path, task="rest")
    assert "task rest" in refusal(tmp_path, settings)


# --- Settings ----------------------------------------------------------------------------------


def test_without_settings(tmp_path):
    """One sentence says what to give, and names those that there are."""
    sentence = refusal(tmp_path, None)
    assert "--settings" in sentence and "dens, eegmat_bids, faced_bids" in sentence
    assert "faced_bids" in refusal(tmp_path, Path("mine"))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('task = "films"', "", ["task is missing"]),
        ('task = "films"', "task = 3", ["task is 3"]),
        ('task = "films"', "task = 2020-01-01", ["no recording of the task"]),
        ('task = "films"', 'task = "films', ["no TOML"]),
        ('drop = ["EOG"]', 'dorp = ["EOG"]', ["the key dorp"]),
        ('pattern = "film.*"', 'patern = "film.*"', ["the key trials.patern"]),
        ('pattern = "film.*"', 'pattern = "film("', ["trials.pattern", "regular expression"]),
        ('pattern = "film.*"', "", ["trials.pattern"]),
        ("scale = [1, 9]", "scale = [9, 1]", ["ratings.valence.scale"]),
        ("scale = [1, 9]", "classes = ['low']", ["two or more"]),
        (", scale = [1, 9]", "", ["either scale or classes"]),
        ("valence = {", "stimulus = {", ["'stimulus'"]),
        ('column = "valence", ', "", ["either column or values"]),
        ('column = "valence"', 'column = "Valence"', ["no column Valence"]),
        ("drop =", "baseline = [-1, 0]\ndrop =", ["shorter than 2 s"]),
        ("drop =", "baseline = [-5, 0]\ndrop =", ["baseline goes from -1 s"]),
        ("drop =", "baseline = [-2, 1]\ndrop =", ["baseline starts at 4 s", "ends at 5 s"]),
        ("drop =", "baseline = { task = 'x' }\ndrop =", ["task, start and stop"]),
        ("drop =", "end_cut = 40\ndrop =", ["end_cut"]),
        ("stimulus =", "last = 20\nstimulus =", ["lasts 12 s"]),
        ("stimulus =", "stimulus_pattern = 'x'\nstimulus =", ["no group"]),
        ("stimulus =", "stimulus_pattern = '(x)'\nstimulus =", ["does not match 'a'"]),
    ],
)
def test_wrong_settings_are_refused(tmp_path, before, after, words):
    """Each with the key that is wrong."""
    write_films(tmp_path)
    path = settings_with(tmp_path)
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    sentence = refusal(tmp_path, path)
    assert all(word in sentence for word in words), sentence


def test_a_baseline_from_another_task(tmp_path):
    """Each session has its own, which ends where a trial of that recording starts."""
    for session in ("a", "b"):
        write_films(tmp_path, session=session)
        write_films(tmp_path, session=session, task="rest", events=None)
    path = tmp_path / "rest.toml"
    path.write_text(
        'task = ["rest", "films"]\nbaseline = { task = "rest", start = 2, stop = 30 }\n'
        "[trials]\nlast = 20\n[ratings]\n"
        "film = { values = { rest = 0, films = 1 }, classes = ['rest', 'film'] }\n"
    )
    settings = read_settings(path)
    assert settings.baseline_task == "rest"
    with pytest.raises(UserError) as error:
        read_only(tmp_path, path)
    assert "'0' is none of the classes" in one_line(error)
    path.write_text(path.read_text().replace("classes = ['rest', 'film']", "scale = [0, 1]"))
    data = read_only(tmp_path, path)
    assert data.baselines == [Segment(0, 256, 2560), Segment(2, 256, 2560)]
    assert [(t.stimulus, t.baseline) for t in data.trials] == [
        ("rest", 0),
        ("films", 0),
        ("rest", 1),
        ("films", 1),
    ]
