"""The readers: the right samples and labels from good files, one sentence about bad ones."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from de3dgan.base.errors import UserError
from de3dgan.base.paths import ROOT
from de3dgan.data import sources
from de3dgan.data.simulation import Signal, simulate_subject
from de3dgan.data.sources import Segment, deap, eegmat
from de3dgan.data.synthetic import write_deap
from de3dgan.eeg.montage import DEAP_CHANNELS
from de3dgan.eeg.sampling import SFREQ
from tests.helpers import one_line
from tests.writers.eegmat import EDF_NAMES, write_edf, write_pair

BUNDLED = ROOT / eegmat.DEFAULT_DIR
NEW_NAMES = "FP1 FP2 F3 F4 F7 F8 T7 T8 C3 C4 P7 P8 P3 P4 O1 O2 FZ CZ PZ"
CH_NAMES = tuple(NEW_NAMES.split())


# --- EEGMAT ------------------------------------------------------------------------------------


def test_eegmat_finds_the_bundled_subjects():
    """Twelve pairs come with the repository."""
    found = eegmat.find(BUNDLED)
    assert list(found) == [f"Subject{number:02d}" for number in range(12)]
    assert [path.name for path in found["Subject03"]] == ["Subject03_1.edf", "Subject03_2.edf"]


def test_eegmat_reads_what_mne_reads(capfd):
    """Values are MNE's to the last bit, in µV, and the reader prints nothing."""
    import mne

    files = eegmat.find(BUNDLED)["Subject04"]
    data = sources.read_checked(eegmat, "Subject04", files)
    assert "".join(capfd.readouterr()) == ""
    assert data.ch_names == CH_NAMES
    for path, recording in zip(files, data.recordings, strict=True):
        raw = mne.io.read_raw_edf(path, verbose="error")
        assert raw.ch_names == EDF_NAMES
        np.testing.assert_array_equal(recording, raw.get_data(units="uV")[:, :-256])
        assert 1 < recording.std() < 100
    rest = data.recordings[0].shape[1]
    assert data.baselines == [Segment(0, 0, 7680)]
    assert [trial.segment for trial in data.trials] == [
        Segment(0, rest - 7680, rest),
        Segment(1, 0, 7680),
    ]
    assert [trial.stimulus for trial in data.trials] == ["rest", "arithmetic"]
    assert [trial.ratings for trial in data.trials] == [{"arithmetic": 0}, {"arithmetic": 1}]
    assert [trial.baseline for trial in data.trials] == [0, 0]


def test_eegmat_trials_hold_no_filler():
    """No trial of a bundled subject has a second in which an electrode does not move."""
    for subject, files in eegmat.find(BUNDLED).items():
        data = sources.read_checked(eegmat, subject, files)
        for trial in data.trials:
            eeg = data.recordings[trial.segment.recording]
            steps = np.diff(eeg[:, trial.segment.start : trial.segment.stop])
            quarters = np.abs(steps[:, : 239 * 32]).reshape(19, -1, 32).max(-1)
            assert quarters.min() > 0.5, f"{subject}, {trial.stimulus}"


def test_eegmat_resamples_originals(tmp_path):
    """A 500-Hz file with reference and ECG gives what was recorded, at 128 Hz."""
    times = np.arange(64 * 500) / 500
    phases = np.arange(19)[:, None]

    def wave(times: np.ndarray) -> np.ndarray:
        return 50 * np.sin(2 * np.pi * 10 * times + phases) + 20 * np.cos(2 * np.pi * 40 * times)

    files = [tmp_path / "Subject00_1.edf", tmp_path / "Subject00_2.edf"]
    others = np.full((2, len(times)), 300.0)
    names = [*EDF_NAMES, "EEG A2-A1", "ECG ECG"]
    # The second file has its channels in another order.
    write_edf(files[0], names, np.vstack([wave(times), others]), 500)
    write_edf(files[1], names[::-1], np.vstack([wave(times), others])[::-1], 500)
    data = sources.read_checked(eegmat, "Subject00", files)
    assert data.ch_names == CH_NAMES
    for recording in data.recordings:
        assert recording.shape == (19, 62 * 128)
        inner = slice(128, None)  # away from the edge, where the filter sees zeros
        expected = wave(np.arange(62 * 128) / 128)
        np.testing.assert_allclose(recording[:, inner], expected[:, inner], atol=0.1)


@pytest.mark.parametrize(("seconds", "baseline"), [(64, 2), (82, 20), (122, 60), (192, 60)])
def test_eegmat_baseline_and_rest_trial_share_no_sample(tmp_path, seconds, baseline):
    """A short rest recording shortens the baseline, down to 2 s."""
    files, _ = write_pair(tmp_path, seconds)
    data = sources.read_checked(eegmat, "Subject00", files)
    assert data.baselines == [Segment(0, 0, baseline * SFREQ)]
    assert data.baselines[0].stop <= data.trials[0].segment.start
    assert data.trials[0].segment.stop == (seconds - 2) * SFREQ
    assert data.n_baseline_times == 60 * SFREQ


@pytest.mark.parametrize(("rest", "task", "bad"), [(63, 62, "_1"), (64, 61, "_2")])
def test_eegmat_refuses_short_recordings(tmp_path, rest, task, bad):
    """Less than 62 s of rest or 60 s of arithmetic, filler aside, is refused, naming the file."""
    files, _ = write_pair(tmp_path, rest, task)
    with pytest.raises(UserError) as error:
        eegmat.read("Subject00", files)
    assert f"Subject00{bad}.edf" in one_line(error)


def test_eegmat_names_an_unknown_electrode(tmp_path):
    """An electrode that no montage has is named."""
    files, eegs = write_pair(tmp_path, 64)
    for path, eeg in zip(files, eegs, strict=True):
        write_edf(path, [*EDF_NAMES[:-1], "EEG Q7"], eeg, SFREQ)
    with pytest.raises(UserError, match="Subject00_1.edf.* montage is called Q7: give"):
        sources.read_checked(eegmat, "Subject00", files)


def test_eegmat_refuses_recordings_with_different_channels(tmp_path):
    """Both recordings of a subject have the same electrodes."""
    files, eegs = write_pair(tmp_path, 62)
    write_edf(files[1], EDF_NAMES[1:], eegs[1][1:], SFREQ)
    with pytest.raises(UserError, match="Subject00_1.edf and Subject00_2.edf"):
        eegmat.read("Subject00", files)


@pytest.mark.parametrize("missing", ["Subject00_1.edf", "Subject00_2.edf"])
def test_eegmat_names_the_missing_half(tmp_path, missing):
    """A pair of which one file is there is an error, not a subject less."""
    files, _ = write_pair(tmp_path, 62)
    (tmp_path / missing).unlink()
    with pytest.raises(UserError) as error:
        eegmat.find(tmp_path)
    assert missing in one_line(error)


@pytest.mark.parametrize("source", [eegmat, deap])
def test_an_empty_or_missing_folder_says_where_data_come_from(tmp_path, source):
    """The message names the folder and the way to the data."""
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError) as error:
            source.find(folder)
        message = one_line(error)
        assert folder.name in message
        assert ("de3dgan.data.fetch" if source is eegmat else "de3dgan.data.synthetic") in message


# --- DEAP --------------------------------------------------------------------------------------

SHAPE = (1, 40, 8064)


def read_dat(folder: Path, content: bytes) -> sources.Subject:
    """Write `content` as s01.dat and read it the way preprocessing does."""
    path = folder / "s01.dat"
    path.write_bytes(content)
    return sources.read_checked(deap, "s01", [path])


def deap_dict(n_trials: int = 1, **changes: object) -> dict[str, object]:
    """Return the content of a good file, with `changes`."""
    data = np.random.default_rng(0).normal(0, 10, (n_trials, 40, 8064))
    return {"labels": np.full((n_trials, 4), 3.5), "data": data} | changes


def test_deap_reads_what_the_writer_wrote(tmp_path):
    """Channels, segments, stimuli and ratings of a file as the writer makes it."""
    signal = Signal(n_trials=3)
    write_deap(tmp_path, 2, signal)
    found = deap.find(tmp_path)
    assert {name: [p.name for p in files] for name, files in found.items()} == {
        "s01": ["s01.dat"],
        "s02": ["s02.dat"],
    }
    data, labels = simulate_subject(2, signal)
    subject = sources.read_checked(deap, "s02", found["s02"])
    assert subject.ch_names == DEAP_CHANNELS
    np.testing.assert_array_equal(np.stack(subject.recordings), data[:, :32])
    assert subject.baselines == [Segment(trial, 0, 384) for trial in range(3)]
    assert [t.segment for t in subject.trials] == [Segment(trial, 384, 8064) for trial in range(3)]
    assert [t.baseline for t in subject.trials] == [0, 1, 2]
    assert [t.stimulus for t in subject.trials] == ["video01", "video02", "video03"]
    ratings = [list(t.ratings.values()) for t in subject.trials]
    np.testing.assert_array_equal(ratings, labels)
    assert list(subject.trials[0].ratings) == ["valence", "arousal", "dominance", "liking"]


def test_deap_reads_the_pickles_of_python_2(tmp_path):
    """As Python 2.7 writes them: strings of bytes, short integers, and a memo."""
    content = deap_dict()

    def integers(*numbers: int) -> bytes:
        return b"".join(
            b"K" + bytes([n]) if 0 <= n < 256 else b"J" + struct.pack("<i", n) for n in numbers
        )

    def array(values: np.ndarray, memo: int) -> bytes:
        raw = values.tobytes()
        shape = b"(" + integers(*values.shape) + b"tq" + bytes([memo])
        dtype = b"cnumpy\ndtype\nq\x05U\x02f8K\x00K\x01\x87Rq\x06(K\x03U\x01<NNN"
        dtype += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        head = b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03"
        head += b"K\x00\x85U\x01b\x87R"
        data = b"U" + bytes([len(raw)]) if len(raw) < 256 else b"T" + struct.pack("<i", len(raw))
        return head + b"(K\x01" + shape + dtype + b"\x89" + data + raw + b"tb"

    file = b"\x80\x02}q\x00(U\x06labelsq\x01" + array(content["labels"], 4)
    file += b"U\x04dataq\x07" + array(content["data"], 8) + b"u."
    assert max(content["data"].tobytes()) == 255  # bytes that only Latin-1 keeps apart
    subject = read_dat(tmp_path, file)
    np.testing.assert_array_equal(subject.recordings[0], content["data"][0, :32])
    assert set(subject.trials[0].ratings.values()) == {3.5}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["<f8", ">f4"])
def test_deap_reads_arrays_of_every_protocol(tmp_path, protocol, dtype):
    """A file that was saved again by Python 3 is as good, in any byte order and memory layout."""
    data = np.asfortranarray(deap_dict()["data"].astype(dtype))
    subject = read_dat(tmp_path, pickle.dumps(deap_dict(data=data), protocol))
    np.testing.assert_array_equal(subject.recordings[0], data[0, :32])
    assert subject.recordings[0].dtype == np.float64


@pytest.mark.parametrize(
    "content",
    [
        deap_dict(data=np.zeros((1, 32, 8064))),
        deap_dict(data=np.zeros((1, 40, 8063))),
        deap_dict(data=np.zeros((0, 40, 8064)), labels=np.zeros((0, 4))),
        deap_dict(data=np.zeros(5)),
        deap_dict(data=np.array([None])),
        deap_dict(data=np.zeros(SHAPE, dtype="S1")),
        deap_dict(data=np.zeros(SHAPE, dtype=bool)),
        deap_dict(data=[1, 2, 3]),
        deap_dict(data=np.full(SHAPE, np.nan)),
        deap_dict(data=np.full(SHAPE, np.inf)),
        deap_dict(labels=np.ones((2, 4))),
        deap_dict(labels=np.ones((1, 3))),
        deap_dict(labels=np.full((1, 4), 0.5)),
        deap_dict(labels=np.full((1, 4), 9.5)),
        deap_dict(labels=np.full((1, 4), np.nan)),
        {"data": np.zeros(SHAPE)},
        [1, 2],
        "text",
    ],
)
def test_deap_refuses_what_is_not_deap(tmp_path, content):
    """Wrong shapes, types and values each are one sentence that names the file."""
    with pytest.raises(UserError) as error:
        read_dat(tmp_path, pickle.dumps(content, 2))
    assert "s01.dat" in one_line(error)
