"""From one subject's recordings to EEG and DE as the store holds them."""

from __future__ import annotations

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.data.sources import Segment, Subject
from de3dgan.eeg.de import band_signals, windowed_de
from de3dgan.eeg.sampling import SFREQ, WINDOW

#: Variance below exp(2 · this) µV² is an electrode that recorded nothing.
_FLAT_DE = -15.0


def subject_features(data: Subject) -> dict[str, np.ndarray]:
    """Compute what the store holds of one subject.

    Returns
    -------
    dict of array, float32
        ``eeg`` (n_trials, n_chans, n_times) and ``baseline`` (n_baselines, n_chans,
        n_baseline_times) in µV; ``de`` (n_trials, n_bands, n_windows, n_chans), its baseline
        removed, and ``baseline_de`` (n_baselines, n_bands, n_chans) in nats.

    Notes
    -----
    Baselines of one source have one length on disk. A shorter one is repeated to fill it; its DE
    is of the samples that were recorded.
    """

    def cut(segment: Segment) -> np.ndarray:
        eeg = data.recordings[segment.recording][:, segment.start : segment.stop]
        with np.errstate(over="ignore"):
            return eeg.astype(np.float32)

    n_baseline_times = data.n_baseline_times or max(s.stop - s.start for s in data.baselines)
    de, baseline_de = subject_de(data)
    features = {
        "eeg": np.stack([cut(trial.segment) for trial in data.trials]),
        "baseline": np.stack(
            [_repeated(cut(segment), n_baseline_times) for segment in data.baselines]
        ),
        "de": de.astype(np.float32),
        "baseline_de": baseline_de.astype(np.float32),
    }
    for name, array in features.items():
        if not np.isfinite(array).all():
            raise UserError(
                f"Subject {data.subject}: {name} has values beyond what 32-bit numbers hold; "
                "recordings must be in µV."
            )
    return features


def subject_de(data: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Compute one subject's DE.

    Returns
    -------
    de : array, (n_trials, n_bands, n_windows, n_chans)
        In nats, the mean DE of the trial's baseline removed.
    baseline_de : array, (n_baselines, n_bands, n_chans)
        In nats.
    """
    segments = data.baselines + [trial.segment for trial in data.trials]
    bands: list[list[np.ndarray]] = [[] for _ in segments]
    for index, recording in enumerate(data.recordings):
        inside = [i for i, segment in enumerate(segments) if segment.recording == index]
        for band in band_signals(recording):
            for i in inside:
                bands[i].append(windowed_de(band[:, segments[i].start : segments[i].stop]))
    des = [np.stack(de) for de in bands]
    for de, segment in zip(des, segments, strict=True):
        _refuse_flat(de, data, segment)
    n_baselines = len(data.baselines)
    baseline_de = np.stack([de.mean(axis=1) for de in des[:n_baselines]])
    baseline_index = [trial.baseline for trial in data.trials]
    return np.stack(des[n_baselines:]) - baseline_de[baseline_index][:, :, None, :], baseline_de


def _repeated(eeg: np.ndarray, n_times: int) -> np.ndarray:
    return np.take(eeg, np.arange(n_times) % eeg.shape[-1], axis=-1)


def _refuse_flat(de: np.ndarray, data: Subject, segment: Segment) -> None:
    flat = np.argwhere(de < _FLAT_DE)
    if len(flat):
        _, window, channel = flat[0]
        seconds = (segment.start + window * WINDOW) / SFREQ
        raise UserError(
            f"Subject {data.subject}: electrode {data.ch_names[channel]} is flat at "
            f"{seconds:g} s of recording {segment.recording + 1}, where DE is not defined: "
            "interpolate it or leave that subject out."
        )
