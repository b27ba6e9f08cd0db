"""How trials are cut, and what their DE is relative to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.data.sources import Segment, Subject, Trial
from de3dgan.eeg.sampling import FRAME, SFREQ

#: What the DE of a trial is relative to, see `reference_of`.
Reference = Literal["auto", "baseline", "unlabelled", "person", "none"]
#: Seconds outside trials that a reference needs at least, and that the store keeps at most.
_LEAST, _MOST = 10, 60
#: Samples of a reference's EEG in the store.
N_REFERENCE_TIMES = _MOST * SFREQ


@dataclass(frozen=True)
class Piece:
    """A part of a trial, as the store holds it: a row.

    Attributes
    ----------
    segment : Segment
        Where it lies.
    trial : Trial
        What it is a part of.
    number : int
        Its place in the trial, from 0.
    """

    segment: Segment
    trial: Trial
    number: int


def in_pieces(data: Subject, seconds: int | None) -> list[Piece]:
    """Cut trials into pieces of one length.

    Parameters
    ----------
    data : Subject
        Whose trials.
    seconds : int, optional
        Length of a piece; by default, `Subject.trial_seconds`, or else trials are left whole.

    Returns
    -------
    list of Piece
        In the order of time. What is left over is the trial's beginning, where what it is to
        evoke has not set in yet. A trial that is shorter than a piece gives none.

    Raises
    ------
    UserError
        If trials of different lengths are to be left whole, if all are shorter than a piece, or if
        that is no length.
    """
    if seconds is not None and seconds < 1:
        raise UserError(f"--trial-seconds must be 1 or more, and {seconds} is not.")
    seconds = seconds or data.trial_seconds
    lengths = Counter(trial.segment.stop - trial.segment.start for trial in data.trials)
    if seconds is None:
        if len(lengths) > 1:
            raise UserError(
                f"Trials of {data.subject} last from {min(lengths) / SFREQ:g} to "
                f"{max(lengths) / SFREQ:g} s: give --trial-seconds with the length of the pieces "
                "that they are to be cut into, a multiple of 4 s and 12 s or more."
            )
        return [Piece(trial.segment, trial, 0) for trial in data.trials]
    n_times, pieces = seconds * SFREQ, []
    for trial in data.trials:
        segment = trial.segment
        n_pieces = (segment.stop - segment.start) // n_times
        start = segment.stop - n_pieces * n_times
        pieces += [
            Piece(
                Segment(segment.recording, start + n * n_times, start + (n + 1) * n_times), trial, n
            )
            for n in range(n_pieces)
        ]
    if not pieces:
        raise UserError(
            f"Trials of {data.subject} last {max(lengths) / SFREQ:g} s or less, and pieces of "
            f"{seconds} s are asked for: give fewer --trial-seconds."
        )
    return pieces


def reference_of(data: Subject, wanted: Reference) -> str:
    """Return what the DE of a subject's trials is relative to.

    ==========  ==============================================================================
    baseline    the rest that the source names for each trial
    unlabelled  the mean over the person's time outside all that was presented, of the same unit
    person      the mean over all of the unit's time; trials that are tested on are part of it
    none        nothing: DE is absolute
    ==========  ==============================================================================

    Parameters
    ----------
    data : Subject
    wanted : str
        One of these; or "auto": the first of baseline, unlabelled and none that there is.

    Returns
    -------
    str
        `wanted`; for "auto" "baseline" if trials have one, and else "auto" still: how much time
        there is outside trials is known once the recordings have been read.

    Raises
    ------
    UserError
        If baselines are wanted, and there are none.
    """
    has_baselines = all(trial.baseline is not None for trial in data.trials)
    if wanted == "baseline" and not has_baselines:
        raise UserError(
            f"Trials of {data.subject} have no baseline: give --reference unlabelled or none."
        )
    return "baseline" if wanted == "auto" and has_baselines else wanted


def outside(data: Subject, index: int, n_times: int) -> np.ndarray:
    """Return where the seconds of a recording start in which nothing of a trial was presented.

    Parameters
    ----------
    data : Subject
    index : int
        Number of the recording.
    n_times : int
        Samples that it has.

    Returns
    -------
    array of int
        Each second is whole; they do not overlap.
    """
    busy = np.zeros(n_times + 2, bool)
    busy[[0, -1]] = True
    for trial in data.trials:
        shown = trial.shown or trial.segment
        if shown.recording == index:
            busy[1 + shown.start : 1 + shown.stop] = True
    edges = np.flatnonzero(np.diff(busy.astype(np.int8)))
    starts, stops = edges[::2], edges[1::2]  # of stretches that no trial has
    whole = [
        np.arange(start, stop - FRAME + 1, FRAME) for start, stop in zip(starts, stops, strict=True)
    ]
    return np.concatenate([np.empty(0, int), *whole])


def kept_seconds(n: int) -> np.ndarray:
    """Return which of `n` seconds of a reference the store keeps the EEG of, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, _MOST)).round().astype(int))


def settled(data: Subject, reference: str, n_seconds: int) -> str:
    """Return the reference of recordings that have so many seconds for it.

    Raises
    ------
    UserError
        If they are too few, and "auto" does not leave the choice.
    """
    if reference not in ("auto", "unlabelled", "person"):
        return reference
    if n_seconds >= _LEAST:
        return "unlabelled" if reference == "auto" else reference
    if reference == "auto":
        return "none"
    raise UserError(
        f"Recordings of {data.subject} have {n_seconds} s outside trials, and a reference needs "
        f"{_LEAST} s or more: give --reference none."
    )
