"""EEG trials as files for other programs: MNE's FIF, EDF and DEAP's ``.dat``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.files import make_folder, write_errors
from de3dgan.base.paths import display_path
from de3dgan.data.epochs import to_epochs
from de3dgan.data.montages import HEAD, find_montage, mne_info
from de3dgan.data.sources import deap
from de3dgan.data.sources.deap import BASELINE, MAX_TRIALS, N_CHANNELS, N_TIMES, RATINGS
from de3dgan.eeg.montage import DEAP_CHANNELS, canonical
from de3dgan.eeg.sampling import SFREQ

if TYPE_CHECKING:
    import mne

#: Most samples in a `.fif`: beyond 2 GiB, at 4 bytes each, MNE would start a second file.
MAX_FIF_SAMPLES = 500_000_000


def write_eeg(
    path: str | Path,
    eeg: np.ndarray,
    ch_names: Sequence[str],
    *,
    names: Sequence[str],
    events: Sequence[str] | None = None,
    ratings: Mapping[str, np.ndarray] | None = None,
    baseline: np.ndarray | None = None,
    montage: str | None = None,
) -> Path:
    """Write EEG trials in the format of the file's extension, atomically.

    ``.fif``
        One recording, trials one after the other, with electrode positions. Each trial is an
        annotation with its name; each join has MNE's own two, "BAD boundary" and "EDGE boundary",
        so that filters and epochs stop there. Single precision.
    ``-epo.fif``
        The trials as MNE's `Epochs`, with electrode positions, events, and each trial's name as an
        annotation, see `de3dgan.data.epochs.to_epochs`. Single precision.
    ``.edf``
        The same without positions (EDF has none), in 16 bits over each channel's range.
    ``.dat``
        DEAP's format: baseline and trial of all 32 electrodes, with ratings. The eight peripheral
        channels are 0, and names are left out. Named sNN.dat (s01.dat), it is a subject that
        ``preprocess_de.py --source deap`` reads.

    Parameters
    ----------
    path : path
        File to write; folders on the way to it are made.
    eeg : array, (n_trials, n_chans, n_times)
        In µV at 128 Hz.
    ch_names : sequence of str, length n_chans
        Channel names of a standard montage, in any order and case.
    names : sequence of str, length n_trials
        What each trial is, such as "valence trial 3 (subject s01, video04)". In files, commas stand
        for colons, which separate names in FIF.
    events : sequence of str, length n_trials, optional
        For ``-epo.fif``, what each trial is of, such as "high valence/s01"; by default, its name.
    ratings : mapping of str to array (n_trials,), optional
        For ``.dat``, which needs valence, arousal, dominance and liking, each from 1 to 9.
    baseline : array, (n_trials, n_chans, n_baseline_times), optional
        EEG before each trial, in µV at 128 Hz. For ``.dat``, which needs 3 s of it.
    montage : str, optional
        MNE's name of the montage that the channels are of; by default, one that knows them.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    UserError
        If the extension is another one, if no montage knows a channel, if values are not finite,
        or if the format cannot hold these trials.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".fif", ".edf", ".dat"):
        raise UserError(f"{display_path(path)} must end in .fif (MNE), .edf or .dat (DEAP).")
    montage = find_montage([canonical(name) for name in ch_names], montage)
    if kind == ".dat":
        _refuse_if_not_deap(path, eeg, ch_names, ratings or {}, baseline)
    if kind == ".fif" and eeg.size > MAX_FIF_SAMPLES:
        raise UserError(
            f"{display_path(path)} would exceed FIF's 2 GB: write fewer trials, or .edf."
        )
    if not np.isfinite(eeg).all():
        raise UserError(
            f"{display_path(path)} is not written: the EEG has values that are not finite."
        )

    make_folder(path.parent)
    if kind == ".dat":
        labels = np.stack([ratings[name] for name in RATINGS], axis=1)
        _write_dat(path, eeg, ch_names, labels, baseline)
    elif _is_of_epochs(path):
        events = names if events is None else events
        _write_with_mne(path, to_epochs(eeg, ch_names, events, names=names, montage=montage))
    else:
        _write_with_mne(path, to_raw(eeg, ch_names, names, montage))
    return path


def to_raw(
    eeg: np.ndarray, ch_names: Sequence[str], names: Sequence[str], montage: str = HEAD
) -> mne.io.RawArray:
    """Return trials, one after the other, as MNE's `Raw`.

    Parameters
    ----------
    eeg : array, (n_trials, n_chans, n_times)
        In µV at 128 Hz.
    ch_names : sequence of str, length n_chans
        Channel names of the montage.
    names : sequence of str, length n_trials
        What each trial is.
    montage : str
        MNE's name of the montage that the channels are of.

    Returns
    -------
    mne.io.RawArray
        In volts, with electrode positions, an annotation per trial and two per join.
    """
    import mne

    n_trials, n_chans, n_times = eeg.shape
    info = mne_info(ch_names, montage)
    info["description"] = "generated by DE-3DGAN"
    # EDF has no description; the device is what MNE passes on.
    info["device_info"] = {"type": "DE-3DGAN"}
    volts = 1e-6 * eeg.astype(np.float64).swapaxes(0, 1).reshape(n_chans, -1)
    raw = mne.io.RawArray(volts, info, verbose="error")

    seconds = n_times / SFREQ
    onsets = seconds * np.arange(n_trials)
    # FIF keeps all names in one text, separated by colons.
    trials = mne.Annotations(onsets, seconds, [name.replace(":", ",") for name in names])
    # What `mne.concatenate_raws` would add, without a Raw for each trial.
    joins = [mne.Annotations(onsets[1:], 0, f"{kind} boundary") for kind in ("BAD", "EDGE")]
    return raw.set_annotations(trials + joins[0] + joins[1], verbose="error")


def _write_with_mne(path: Path, eeg: mne.io.RawArray | mne.EpochsArray) -> None:
    """Write EEG as FIF or EDF, by the extension of `path`."""
    import mne

    # MNE wants a path, and one of its own kind of name: hence a folder, not a temporary file.
    with (
        write_errors(path),
        tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder,
    ):
        name = "whole-epo" if _is_of_epochs(path) else "raw"
        whole = Path(folder) / f"{name}{path.suffix.lower()}"
        if whole.suffix == ".fif":
            eeg.save(whole, fmt="single", verbose="error")
        else:
            # By channel, lest one electrode's artefact coarsen all others.
            mne.export.export_raw(whole, eeg, physical_range="channelwise", verbose="error")
        with open(whole, "rb") as file:
            os.fsync(file.fileno())
        os.replace(whole, path)


def _is_of_epochs(path: Path) -> bool:
    return path.name.lower().endswith("-epo.fif")


def _write_dat(
    path: Path, eeg: np.ndarray, ch_names: Sequence[str], labels: np.ndarray, baseline: np.ndarray
) -> None:
    """Write trials in DEAP's format, all requirements being met."""
    positions = {name.upper(): channel for channel, name in enumerate(ch_names)}
    order = [positions[name] for name in DEAP_CHANNELS]
    data = np.zeros((len(eeg), N_CHANNELS, N_TIMES))
    data[:, : len(order), :BASELINE] = baseline[:, order]
    data[:, : len(order), BASELINE:] = eeg[:, order]
    deap.write(path, data, labels)


def _refuse_if_not_deap(
    path: Path,
    eeg: np.ndarray,
    ch_names: Sequence[str],
    ratings: Mapping[str, np.ndarray],
    baseline: np.ndarray | None,
) -> None:
    """Raise `UserError`, naming all that is missing, if the trials do not fit DEAP's format."""
    present = {name.upper() for name in ch_names}
    electrodes = [name for name in DEAP_CHANNELS if name not in present]
    unrated = [name for name in RATINGS if name not in ratings]
    bad = [name for name in RATINGS if name in ratings and not _within(ratings[name], 1, 9)]
    n_times, n_baseline = eeg.shape[-1], 0 if baseline is None else baseline.shape[-1]
    reasons = []
    if electrodes:
        reasons.append(f"it lacks the electrodes {' '.join(electrodes)}")
    if n_times != N_TIMES - BASELINE:
        reasons.append(f"trials last {n_times / SFREQ:g} s, not 60 s")
    if unrated:
        reasons.append(f"it lacks the ratings {', '.join(unrated)}")
    if bad:
        reasons.append(f"not all ratings of {', '.join(bad)} are from 1 to 9")
    if n_baseline != BASELINE:
        reasons.append(f"the baseline lasts {n_baseline / SFREQ:g} s, not 3 s")
    elif not np.isfinite(baseline).all():
        reasons.append("the baseline has values that are not finite")
    if len(eeg) > MAX_TRIALS:
        reasons.append(f"there are {len(eeg)} trials, and it holds {MAX_TRIALS}")
    if reasons:
        raise UserError(
            f"This EEG does not fit DEAP's format ({'; '.join(reasons)}): write "
            f"{display_path(path.with_suffix('.fif'))} or {path.with_suffix('.edf').name} instead."
        )


def _within(values: np.ndarray, low: float, high: float) -> bool:
    values = np.asarray(values)
    return bool(((values >= low) & (values <= high)).all())
