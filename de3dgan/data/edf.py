"""What an EDF file says of itself, checked before a reader trusts it.

MNE reads EDF, and believes its header: a sampling rate may have resampling ask for terabytes, an
absurd range of values passes for EEG, and annotations are searched in a time that grows with the
square of their length if they are damaged.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

#: Sampling rates in Hz: the gamma band ends at 45 Hz, and more is not sampled on the scalp.
_SLOWEST, _FASTEST = 100, 20_000
#: Largest file, 15 times those of EEGMAT at 500 Hz; most signals; and bytes of annotations.
_LARGEST_FILE = 2**26
_MOST_SIGNALS = 256
_MOST_ANNOTATIONS = 2**16
#: Units, in volts; the micro sign is written in three ways.
_VOLTS = {"uV": 1e-6, "\xb5V": 1e-6, "\x83\xcaV": 1e-6, "mV": 1e-3, "V": 1.0}


def check_edf(path: Path, is_eeg: re.Pattern[str]) -> None:
    """Refuse a file whose header does not fit the file, or not EEG.

    The layout is that of edfplus.info/specs/edf.html: numbers are text in fixed columns, those of
    the file, then each column for all signals.

    Parameters
    ----------
    path : Path
        The file.
    is_eeg : pattern
        Matches the labels of EEG channels, of which there must be some, with one sampling rate.

    Raises
    ------
    ValueError
        Saying what is wrong.
    OSError
        If the file cannot be read.
    """
    if not path.is_file() or path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"it is no file, or has more than {_LARGEST_FILE // 2**20} MiB")
    with open(path, "rb") as file:
        head = file.read(256).decode("latin1")
        if len(head) < 256 or head[:8].strip(" ") != "0":
            raise ValueError("it has no header of EDF")
        n_signals = _whole(head[252:256], "number of signals", 1, _MOST_SIGNALS)
        columns = file.read(256 * n_signals).decode("latin1")
    if head[192:197] == "EDF+D":
        raise ValueError("its recording has gaps (EDF+D)")
    n_bytes = 256 * (n_signals + 1)
    if {_whole(head[184:192], "length of the header"), 256 + len(columns)} != {n_bytes}:
        raise ValueError(f"its header is not {n_bytes} bytes long")
    n_records = _whole(head[236:244], "number of records")
    duration = _number(head[244:252], "duration of a record")
    if duration <= 0:
        raise ValueError("the duration of a record in its header is not positive")

    def column(start: int, width: int) -> list[str]:
        """Return a column, for all signals; `start` is its place if there were one signal."""
        first = start * n_signals
        return [columns[first + width * i :][:width].strip(" ") for i in range(n_signals)]

    labels = column(0, 16)
    lengths = [_whole(text, "samples per record") for text in column(216, 8)]
    size = n_bytes + 2 * n_records * sum(lengths)
    if size != path.stat().st_size:
        raise ValueError(f"its header speaks of {size} bytes, and it has {path.stat().st_size}")
    rates = set()
    for label, length, *field in zip(
        labels, lengths, *(column(start, 8) for start in (96, 104, 112, 120, 128)), strict=True
    ):
        if label == "EDF Annotations" and 2 * n_records * length > _MOST_ANNOTATIONS:
            raise ValueError(f"it has more than {_MOST_ANNOTATIONS // 2**10} KiB of annotations")
        if is_eeg.match(label):
            rates.add(length / duration)
            _check_signal(label, *field)
    if len(rates) != 1:
        raise ValueError("it has no EEG, or EEG channels of different sampling rates")
    sfreq = rates.pop()
    if not _SLOWEST <= sfreq <= _FASTEST:
        raise ValueError(f"it is sampled at {float(sfreq):g} Hz, not at {_SLOWEST} to {_FASTEST}")
    if max(sfreq.numerator, sfreq.denominator) > 2 * _FASTEST:
        raise ValueError(f"its sampling rate, {float(sfreq)} Hz, is no simple ratio")


def _check_signal(label: str, unit: str, *numbers: str) -> None:
    """Refuse an EEG signal by its unit, and its physical and digital minimum and maximum."""
    if not label.isprintable():
        raise ValueError(f"a channel is called {ascii(label)}")
    if unit not in _VOLTS:
        raise ValueError(f"{label} is in {ascii(unit)}, not in uV, mV or V")
    low, high, digital_low, digital_high = (_number(text, f"range of {label}") for text in numbers)
    if low == high or not -32768 <= digital_low < digital_high <= 32767:
        raise ValueError(f"{label} has no range of values")
    if max(abs(low), abs(high)) * Fraction(_VOLTS[unit]) > 1:
        raise ValueError(f"{label} ranges beyond 1 V, as no EEG does")


def _number(text: str, name: str) -> Fraction:
    """Return a number of a header, exactly as its decimals say."""
    match = re.fullmatch(r"[+-]?[0-9]*\.?[0-9]*([eE][+-]?[0-9])?", text.strip(" "))
    try:
        return Fraction(match[0])
    except (TypeError, ValueError):
        raise ValueError(f"its header has {ascii(text.strip())} for the {name}") from None


def _whole(text: str, name: str, least: int = 1, most: int = 10**8) -> int:
    """Return a whole number of a header."""
    number = _number(text, name)
    if number.denominator != 1 or not least <= number <= most:
        raise ValueError(f"its header has {float(number):g} for the {name}")
    return int(number)
