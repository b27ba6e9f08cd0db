"""EEGMAT: 36 people at rest and doing mental arithmetic (Zyma et al. 2019), as EDF files.

Two recordings per person, `SubjectNN_1.edf` (rest, about 180 s) and `SubjectNN_2.edf` (arithmetic,
62 s), of 19 electrodes. Each person gives one baseline and two 60-s trials::

    rest         |-- baseline --|  ...  |-- trial "rest" --|
    arithmetic   |-- trial "arithmetic" --| ...

The last two seconds of every file hold no EEG: the last value is held for a second, and zeros
follow. They are left out, which leaves the 180 s and 60 s that the paper tells of. A rest trial
that ran to the end of its file would hold silence that no arithmetic trial has: a label that no
brain wrote.

This is the source to copy for a data set of your own: change `find` and `read`.
"""

from __future__ import annotations

import re
import warnings
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path
from de3dgan.data.bounded import read_bounded
from de3dgan.data.sources import Segment, Subject, Trial
from de3dgan.eeg.sampling import SFREQ, resampled

if TYPE_CHECKING:
    import mne

DEFAULT_DIR = "eeg_dataset/EEGMAT"

#: Samples of a trial and of the longest baseline (60 s), and of the shortest baseline (2 s).
TRIAL = 60 * SFREQ
SHORTEST_BASELINE = 2 * SFREQ

#: Samples at the end of a file that are filler (2 s; 1.3 to 1.96 s in the 72 files).
FILLER = 2 * SFREQ

#: Bytes of the largest file, 15 times those of EEGMAT at 500 Hz.
LARGEST_FILE = 2**26
#: Sampling rates in Hz: the gamma band ends at 45 Hz, and more is not sampled on the scalp.
SLOWEST, FASTEST = 100, 20_000

#: Labels of electrodes; what else is in the files is none: the ear reference and the ECG.
_EEG = re.compile("EEG (?!A2-A1)")


def find(data_dir: Path) -> dict[str, list[Path]]:
    """Return each subject's two files, rest first; `UserError` if none are there or one lacks."""
    files = {path.stem: path for path in sorted(Path(data_dir).glob("Subject*_[12].edf"))}
    if not files:
        raise UserError(
            f"There is no SubjectNN_1.edf in {display_path(data_dir)}: 12 subjects come with the "
            f"repository under {DEFAULT_DIR}, and `python -m de3dgan.data.fetch eegmat` downloads "
            "all 36 to eeg_dataset/EEGMAT-36, for --data-dir."
        )
    pairs = {stem[:-2]: [f"{stem[:-2]}_1", f"{stem[:-2]}_2"] for stem in files}
    missing = [f"{stem}.edf" for pair in pairs.values() for stem in pair if stem not in files]
    if missing:
        raise UserError(
            f"{display_path(data_dir)} lacks {', '.join(missing)}: a subject needs both "
            "recordings, rest (_1) and arithmetic (_2)."
        )
    return {subject: [files[stem] for stem in pair] for subject, pair in pairs.items()}


def read(subject: str, files: list[Path]) -> Subject:
    """Read one subject's pair of EDF files, at 128 Hz or as published at 500 Hz."""
    (names, rest), (task_names, task) = (
        read_bounded(_read_edf, path, "EDF file of EEG", LARGEST_FILE) for path in files
    )
    ch_names, task_names = names.tolist(), task_names.tolist()
    if set(task_names) != set(ch_names):
        raise UserError(
            f"{files[0].name} and {files[1].name} have different EEG channels: leave that subject "
            "out."
        )
    task = task[[task_names.index(name) for name in ch_names]]
    _refuse_shorter(files[0], rest, SHORTEST_BASELINE + TRIAL)
    _refuse_shorter(files[1], task, TRIAL)

    # The baseline ends where the rest trial starts, even if that leaves less than 60 s of it (18 s
    # for Subject31). Shared samples would put the rest trial's own EEG into the baseline that is
    # subtracted from it, and not into the arithmetic trial's: the features would tell the label.
    rest_start = rest.shape[1] - TRIAL
    return Subject(
        subject=subject,
        ch_names=tuple(ch_names),
        recordings=[rest, task],
        baselines=[Segment(0, 0, min(TRIAL, rest_start))],
        scales={"arithmetic": (0, 1)},
        cleaned_apart=True,
        n_baseline_times=TRIAL,
        trials=[
            Trial(Segment(0, rest_start, rest_start + TRIAL), 0, "rest", {"arithmetic": 0.0}),
            Trial(Segment(1, 0, TRIAL), 0, "arithmetic", {"arithmetic": 1.0}),
        ],
    )


def _read_edf(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return channel names, (n_chans,), and EEG, (n_chans, n_times) in µV at `SFREQ`, of one file.

    Raises whatever it comes to: `read_bounded` makes a sentence of it.
    """
    import mne

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # If a header contradicts itself or the file, MNE goes on with a guess.
        warnings.filterwarnings("error", "Number of records|Header information|Scaling|Physical")
        try:
            raw = mne.io.read_raw_edf(path, verbose="warning")
        except AssertionError:
            raise ValueError("its header is not as long as it says") from None
        names = [name for name in raw.ch_names if _EEG.match(name)]
        _refuse_header(path, raw, names)
        raw.pick(names)
        raw.load_data(verbose="error")
    eeg = resampled(raw.get_data(units="uV"), raw.info["sfreq"])
    return np.array(names), eeg[:, :-FILLER]


def _refuse_header(path: Path, raw: mne.io.BaseRaw, names: list[str]) -> None:
    """Refuse what MNE would read, though it is no EEG or there is more or less of it in the file.

    Of a header, MNE keeps for itself more than `raw.info` has.
    """
    header = raw._raw_extras[0]
    with open(path, "rb") as file:
        file.seek(192)
        if file.read(5) == b"EDF+D":
            raise ValueError("its recording has gaps (EDF+D)")
    lengths = header["n_samps"]
    size = header["data_offset"] + 2 * header["n_records"] * lengths.sum()
    if size != path.stat().st_size or lengths.min() < 1:
        raise ValueError(f"its header speaks of {size} bytes, and it has {path.stat().st_size}")
    channels = [raw.ch_names.index(name) for name in names]
    sfreqs = np.unique(lengths[header["sel"]][channels] / header["record_length"][0])
    if len(sfreqs) != 1:
        raise ValueError("it has no EEG, or EEG channels of different sampling rates")
    (sfreq,) = sfreqs
    if not SLOWEST <= sfreq <= FASTEST:
        raise ValueError(f"it is sampled at {sfreq:g} Hz, not at {SLOWEST} to {FASTEST}")
    if abs(Fraction(sfreq).limit_denominator(100) / Fraction(sfreq) - 1) > 1e-12:
        raise ValueError(f"its sampling rate, {sfreq} Hz, is no simple ratio")
    for name, channel in zip(names, channels, strict=True):
        low, high, least, most = (
            header[key][channel]
            for key in ("physical_min", "physical_max", "digital_min", "digital_max")
        )
        unit, volts = raw._orig_units[name], header["units"][channel]
        if not name.isprintable():
            raise ValueError(f"a channel is called {name!r}")
        if unit not in ("µV", "mV", "V"):
            raise ValueError(f"{name} is in {unit!r}, not in uV, mV or V")
        if low == high or not -32768 <= least < most <= 32767 or least % 1 or most % 1:
            raise ValueError(f"{name} has no range of values")
        if not (abs(low) * volts <= 1 and abs(high) * volts <= 1):
            raise ValueError(f"{name} ranges beyond 1 V, as no EEG does")


def _refuse_shorter(path: Path, eeg: np.ndarray, n_times: int) -> None:
    if eeg.shape[1] < n_times:
        raise UserError(
            f"{display_path(path)} has {eeg.shape[1] / SFREQ:g} s of EEG before its last 2 s, "
            f"which are filler, and {n_times / SFREQ:g} s are needed: leave that subject out."
        )
