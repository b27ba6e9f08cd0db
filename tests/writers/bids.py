"""Writers of tiny data sets in BIDS: as FACED, DENS and EEGMAT are, and of one's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import edfio
import numpy as np
import scipy.io

FACED_CHANNELS = (
    "Fp1 Fp2 Fz F3 F4 F7 F8 FC1 FC2 FC5 FC6 Cz C3 C4 T3 T4 A1 A2 CP1 CP2 CP5 CP6 Pz P3 P4 T5 T6 "
    "PO3 PO4 Oz O1 O2"
).split()
DENS_CHANNELS = [*(f"E{i}" for i in range(1, 130)), "ECG", "EMG", "EMG_2"]

_RATINGS = (
    "Joy Tenderness Inspiration Amusement Anger Disgust Fear Sadness Arousal Valence Familiarity "
    "Liking"
).split()


def waves(n_chans: int, seconds: float, sfreq: float) -> np.ndarray:
    """Return EEG that is known at every time, (n_chans, n_times) in µV: 10 Hz, and 40 Hz."""
    times = np.arange(round(seconds * sfreq)) / sfreq
    phases = np.arange(n_chans)[:, None]
    return 50 * np.sin(2 * np.pi * 10 * times + phases) + 20 * np.cos(2 * np.pi * 40 * times)


def write_table(path: Path, columns: Mapping[str, Sequence[object]], head: bytes = b"") -> None:
    """Write columns as a table of BIDS."""
    rows = [columns, *zip(*columns.values(), strict=True)]
    text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + text.encode())


def write_channels(path: Path, names: Sequence[str], types: Mapping[str, str], sfreq: float):
    """Write a table of channels."""
    kinds = [types.get(name, "EEG") for name in names]
    columns = {"name": names, "type": kinds, "units": ["µV"] * len(names)}
    write_table(path, {**columns, "sampling_frequency": [sfreq] * len(names)})


def write_edf(path: Path, names: Sequence[str], eeg: np.ndarray, sfreq: int, unit: str = "uV"):
    """Write (n_chans, n_times) in µV as BDF or EDF, by the file's name."""
    kind, signal = (
        (edfio.Bdf, edfio.BdfSignal) if path.suffix == ".bdf" else (edfio.Edf, edfio.EdfSignal)
    )
    signals = [
        signal(channel, sfreq, label=name, physical_dimension="uV", physical_range=(-400, 400))
        for name, channel in zip(names, eeg, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    kind(signals, data_record_duration=1).write(path)
    content = bytearray(path.read_bytes())
    at = 256 + len(names) * (16 + 80)
    content[at : at + 8 * len(names)] = unit.ljust(8).encode("latin1") * len(names)
    path.write_bytes(content)


def write_set(path: Path, names: Sequence[str], eeg: np.ndarray, sfreq: float) -> None:
    """Write (n_chans, n_times) in µV as EEGLAB does: a header, and the EEG in an ``.fdt``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    eeg.T.astype("<f4").tofile(path.with_suffix(".fdt"))
    empty = np.array([])
    header = {
        "nbchan": float(len(eeg)),
        "pnts": float(eeg.shape[1]),
        "trials": 1.0,
        "srate": float(sfreq),
        "xmin": 0.0,
        "xmax": (eeg.shape[1] - 1) / sfreq,
        "data": path.with_suffix(".fdt").name,
        "chanlocs": np.array([(name,) for name in names], dtype=[("labels", "O")]),
    }
    header |= dict.fromkeys(("event", "epoch", "icaweights", "icawinv", "icasphere"), empty)
    scipy.io.savemat(path, {"EEG": header}, appendmat=False)


def write_vhdr(path: Path, names: Sequence[str], eeg: np.ndarray, sfreq: float) -> None:
    """Write (n_chans, n_times) in µV as BrainVision does, in three files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    eeg.T.astype("<f4").tofile(path.with_suffix(".eeg"))
    channels = "".join(f"Ch{i}={name},,1,µV\n" for i, name in enumerate(names, start=1))
    common = f"[Common Infos]\nCodepage=UTF-8\nDataFile={path.stem}.eeg\n"
    path.write_text(
        f"Brain Vision Data Exchange Header File Version 1.0\n{common}"
        f"MarkerFile={path.stem}.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        f"NumberOfChannels={len(names)}\nSamplingInterval={1e6 / sfreq:g}\n"
        f"[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\n{channels}",
        encoding="utf-8",
    )
    path.with_suffix(".vmrk").write_text(
        f"Brain Vision Data Exchange Marker File Version 1.0\n{common}[Marker Infos]\n",
        encoding="utf-8",
    )


def write_description(root: Path) -> None:
    """Write what every BIDS data set has at its top."""
    root.mkdir(parents=True, exist_ok=True)
    about = {"Name": "a test", "BIDSVersion": "1.7.0", "DatasetType": "raw"}
    (root / "dataset_description.json").write_text(json.dumps(about))


def write_faced(
    root: Path,
    subject: str,
    sfreq: int,
    unit: str,
    head: bytes = b"",
    eeg: np.ndarray | None = None,
    channels: Sequence[str] = (),
) -> np.ndarray:
    """Write one person of FACED in BIDS, with two clips; return what was recorded, in µV.

    That is `eeg`, (32, 102 * sfreq), or waves.
    """
    write_description(root)
    stem = root / f"sub-{subject}" / "eeg" / f"sub-{subject}_task-watchingVideoClips"
    eeg = waves(len(FACED_CHANNELS), 102, sfreq) if eeg is None else eeg
    channels = channels or FACED_CHANNELS
    write_edf(Path(f"{stem}_eeg.bdf"), channels, eeg, sfreq, unit)
    write_channels(Path(f"{stem}_channels.tsv"), channels, {}, sfreq)
    none = "n/a"
    rows = [
        (3.0, 0.0, "Experiment start", 5, none, none, none, *[none] * 12),
        (9.5, 34.25, "My Neighbor Totoro", 16, "Joy", "positive", 23, *np.linspace(0, 7, 12)),
        (60.0, 38.914, "Blue", 1, "\\", "neutral", 15, *np.linspace(7, 0, 12)),
    ]
    names = "onset duration trial_type value emotion_label binary_label video_index".split()
    columns = dict(zip([*names, *_RATINGS], zip(*rows, strict=True), strict=True))
    samples = [round(onset * sfreq) for onset in columns["onset"]]
    head_columns = {name: columns[name] for name in names[:4]} | {"sample": samples}
    write_table(Path(f"{stem}_events.tsv"), {**head_columns, **columns}, head)
    people = sorted(path.name for path in root.glob("sub-*"))
    write_table(root / "participants.tsv", {"participant_id": people, "age": [23] * len(people)})
    return eeg


def write_dens(root: Path, subject: str = "mit003") -> np.ndarray:
    """Write one person of DENS, with two clips; return what was recorded, in µV.

    Names of events begin with another letter than those of EEG, and onsets are samples.
    """
    write_description(root)
    folder = root / f"sub-{subject}"
    eeg = waves(len(DENS_CHANNELS), 140, 250)
    write_set(folder / "eeg" / f"sub-{subject}_task-Emotion_eeg.set", DENS_CHANNELS, eeg, 250)
    events = {
        "onset": [250, 1000, 5000, 17500, 21000],
        "duration": [0, 0, 0, 0, 0],
        "trial_type": ["bsl", "stm", "clk", "stm", "clk"],
        "label": ["bsl_1", "neutral1_1", "neutral1_1", "12_2", "12_2"],
    }
    write_table(folder / "eeg" / f"sub-{subject}_task-emotion_events.tsv", events)
    rated = {
        "": [0, 1],
        "stimuliName": ["neutral_1.mp4", "12.m4v"],
        "valence": [8.97, 9.0],
        "arousal": [7.95, 1.0],
        "dominance": [7.04, 8.07],
        "liking": [5.0, 1.0],
        "familiarity": [4.0, 5.0],
        "relevance": [3.98, 4.98],
        "emotionCateg": ["{}", "{'0': [u'Joyous', u'', '']}"],
        "Quadrant": ["n/a", "HVHA"],
    }
    write_table(folder / "beh" / f"sub-{subject}_task-Emotion_beh.tsv", rated)
    return eeg


def write_eegmat(root: Path, subject: str, files: Sequence[Path]) -> None:
    """Write one person of EEGMAT in BIDS: rest and arithmetic, from files as PhysioNet has them."""
    write_description(root)
    for task, path in zip(("rest", "mentalArithmetic"), files, strict=True):
        signals = list(edfio.read_edf(path).signals)
        for signal in signals:
            signal.label = signal.label.removeprefix("EEG ")
        sfreq = signals[0].sampling_frequency
        other = np.zeros(len(signals[0].data))
        others = [
            edfio.EdfSignal(
                other, sfreq, label=name, physical_dimension="uV", physical_range=(-1, 1)
            )
            for name in ("A2", "ECG")
        ]
        stem = root / f"sub-{subject}" / "eeg" / f"sub-{subject}_task-{task}"
        stem.parent.mkdir(parents=True, exist_ok=True)
        edfio.Edf([*signals, *others], data_record_duration=1).write(Path(f"{stem}_eeg.edf"))
        names = [signal.label for signal in signals + others]
        write_channels(Path(f"{stem}_channels.tsv"), names, {"ECG": "ECG"}, sfreq)
