"""From one unit's recordings to EEG and DE as the store holds them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.data.pieces import (
    N_REFERENCE_TIMES,
    Piece,
    kept_seconds,
    outside,
    settled,
)
from de3dgan.data.sources import Segment, Subject
from de3dgan.eeg.de import BANDS, band_signals, windowed_de
from de3dgan.eeg.sampling import FRAME, SFREQ, WINDOW

#: Variance below exp(2 · this) µV² is an electrode that recorded nothing.
_FLAT_DE = -15.0


def subject_features(
    data: Subject, pieces: Sequence[Piece], reference: str
) -> tuple[dict[str, np.ndarray], np.ndarray, str]:
    """Compute what the store holds of one unit, one recording after the other.

    Parameters
    ----------
    data : Subject
        The recordings.
    pieces : sequence of Piece
        Its trials, see `de3dgan.data.pieces.in_pieces`.
    reference : str
        What DE is relative to, see `de3dgan.data.pieces.reference_of`.

    Returns
    -------
    arrays : dict of array, float32
        ``eeg`` (n_trials, n_chans, n_times) and ``baseline`` (n_baselines, n_chans,
        n_baseline_times) in µV; ``de`` (n_trials, n_bands, n_windows, n_chans), that of its
        reference subtracted, and ``baseline_de`` (n_baselines, n_bands, n_chans) in nats.
    baseline_index : array of int, (n_trials,)
        Which baseline each trial has.
    reference : str
        What DE is relative to; as given, unless that is "auto".

    Notes
    -----
    Baselines of one source have one length on disk. A shorter one is repeated to fill it; its DE
    is of the samples that were recorded. A reference of other time than baselines is one baseline
    of seconds that are evenly spread over it; and no reference is silence, and a DE of 0.
    """
    segments = [*(data.baselines if reference == "baseline" else ())]
    n_baselines = len(segments)
    segments += [piece.segment for piece in pieces]
    eegs: list[np.ndarray] = [np.empty(0)] * len(segments)
    des: list[np.ndarray] = [np.empty(0)] * len(segments)
    seconds, seconds_de = [], []
    for index, recording in enumerate(data.recordings):
        starts = np.empty(0, int)
        if reference in ("auto", "unlabelled", "person"):
            n_times = recording.shape[1]
            every = np.arange(0, n_times - FRAME + 1, FRAME)
            starts = every if reference == "person" else outside(data, index, n_times)
        inside = [i for i, segment in enumerate(segments) if segment.recording == index]
        found, of_seconds = _of_recording(recording, [segments[i] for i in inside], starts)
        for i, de in zip(inside, found, strict=True):
            des[i], eegs[i] = de, _cut(recording, segments[i])
        live = (of_seconds > _FLAT_DE).all((1, 2, 3))
        seconds_de.append(of_seconds[live].mean(2))
        kept = starts[live][kept_seconds(live.sum())] if live.any() else ()
        seconds += [_cut(recording, Segment(index, start, start + FRAME)) for start in kept]

    _refuse_flat(des, data, segments)
    reference = settled(data, reference, sum(map(len, seconds_de)))
    if reference == "baseline":
        baseline_de = np.stack([de.mean(axis=1) for de in des[:n_baselines]])
        n_times = data.n_baseline_times or max(eeg.shape[1] for eeg in eegs[:n_baselines])
        baseline = np.stack([_repeated(eeg, n_times) for eeg in eegs[:n_baselines]])
        index = np.array([piece.trial.baseline for piece in pieces])
    elif reference == "none":
        n_chans, n_bands = eegs[0].shape[0], des[0].shape[0]
        baseline, baseline_de = np.zeros((1, n_chans, FRAME)), np.zeros((1, n_bands, n_chans))
        index = np.zeros(len(pieces), int)
    else:
        chosen = np.concatenate([seconds[i] for i in kept_seconds(len(seconds))], axis=1)
        baseline = _repeated(chosen, N_REFERENCE_TIMES)[None]
        baseline_de = np.concatenate(seconds_de).mean(0)[None]
        index = np.zeros(len(pieces), int)
    features = {
        "eeg": np.stack(eegs[n_baselines:]),
        "baseline": baseline.astype(np.float32),
        "de": (np.stack(des[n_baselines:]) - baseline_de[index][:, :, None]).astype(np.float32),
        "baseline_de": baseline_de.astype(np.float32),
    }
    for name, array in features.items():
        if not np.isfinite(array).all():
            raise UserError(
                f"Subject {data.subject}: {name} has values beyond what 32-bit numbers hold; "
                "recordings must be in µV."
            )
    return features, index, reference


def _of_recording(
    recording: np.ndarray, segments: Sequence[Segment], seconds: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the DE of parts of a recording.

    Parameters
    ----------
    recording : array, (n_chans, n_times)
    segments : sequence of Segment
    seconds : array of int
        Where single seconds start.

    Returns
    -------
    of_segments : list of array, each (n_bands, n_windows, n_chans)
    of_seconds : array, (n_seconds, n_bands, 2, n_chans)
    """
    bands: list[list[np.ndarray]] = [[] for _ in segments]
    of_seconds = []
    if segments or len(seconds):
        samples = seconds[:, None] + np.arange(FRAME)
        for band in band_signals(recording):
            for de, segment in zip(bands, segments, strict=True):
                de.append(windowed_de(band[:, segment.start : segment.stop]))
            windows = windowed_de(band[:, samples.ravel()])
            of_seconds.append(windows.reshape(len(seconds), FRAME // WINDOW, len(recording)))
    shape = (0, len(BANDS), FRAME // WINDOW, len(recording))
    joined = np.stack(of_seconds, axis=1) if of_seconds else np.empty(shape)
    return [np.stack(de) for de in bands], joined


def _cut(recording: np.ndarray, segment: Segment) -> np.ndarray:
    with np.errstate(over="ignore"):
        return recording[:, segment.start : segment.stop].astype(np.float32)


def _repeated(eeg: np.ndarray, n_times: int) -> np.ndarray:
    return np.take(eeg, np.arange(n_times) % eeg.shape[-1], axis=-1)


def _refuse_flat(des: Sequence[np.ndarray], data: Subject, segments: Sequence[Segment]) -> None:
    """Refuse silence, naming every electrode that has any and where the first one has it."""
    flat = [np.argwhere(de < _FLAT_DE) for de in des]
    silent = {channel for found in flat for channel in found[:, 2].tolist()}
    if silent:
        segment, found = next(pair for pair in zip(segments, flat, strict=True) if len(pair[1]))
        seconds = (segment.start + found[0, 1] * WINDOW) / SFREQ
        names = [data.ch_names[channel] for channel in sorted(silent)]
        raise UserError(
            f"Subject {data.subject}: {'electrode' if len(names) == 1 else 'electrodes'} "
            f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} flat, first at {seconds:g} s "
            f"of recording {segment.recording + 1}, where DE is not defined: leave the electrode "
            "out (--channels) or the subject (--leave-out), or interpolate it."
        )
