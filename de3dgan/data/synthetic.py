"""Simulated EEG in DEAP's file format, with a class effect of known place and size.

    python -m de3dgan.data.synthetic --out-dir eeg_dataset/simulated

It answers two questions that real data cannot. Does the method find an effect that is there, and
does the evaluation tell an effect from a leak? For the second there is the *fingerprint*: a
waveform of each trial's own that carries no class. With `--effect-strength 0 --fingerprint`, a
protocol that reports more than chance is leaking.

What is simulated is described in `de3dgan.data.simulation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from de3dgan.base.cli import command_line
from de3dgan.base.errors import UserError
from de3dgan.base.files import make_folder, sha256, write_csv, write_json, write_text
from de3dgan.base.paths import display_path
from de3dgan.data.montages import HEAD
from de3dgan.data.simulation import Signal, check_signal, simulate_subject
from de3dgan.data.sources import deap
from de3dgan.data.store import SETTINGS, manifest_hash
from de3dgan.eeg.de import differential_entropy
from de3dgan.eeg.montage import Grid
from de3dgan.eeg.sampling import SFREQ


@dataclass(frozen=True, kw_only=True)
class Config(Signal):
    """Write simulated subjects as DEAP's `sNN.dat`."""

    # Folder to write s01.dat, s02.dat, ... into; each of 40 trials takes 103 MB.
    out_dir: Path
    # Subjects, one file each; DEAP has 32.
    n_subjects: int = 4


def main(config: Config) -> None:
    """Write the files that `config` describes, and say so."""
    paths = write_deap(config.out_dir, config.n_subjects, config)
    print(f"{paths[0]} ... {paths[-1].name}: {len(paths)} subjects, {config.n_trials} trials each.")


def write_deap(
    out_dir: str | Path, n_subjects: int = 4, signal: Signal | None = None
) -> list[Path]:
    """Write simulated subjects as DEAP's `s01.dat`, `s02.dat`, ..., each atomically.

    Parameters
    ----------
    out_dir : path
        Made if need be.
    n_subjects : int
        1 to 99. A subject is the same whatever their number.
    signal : Signal, optional
        What to simulate; by default, `Signal()`.

    Returns
    -------
    list of Path, length n_subjects
    """
    marker = Path(out_dir, deap.SIMULATED)
    if any(Path(out_dir).glob("s[0-9][0-9].dat")) and not marker.is_file():
        raise UserError(
            f"{display_path(out_dir)} holds recordings that are not simulated: choose another "
            "--out-dir."
        )
    if not 1 <= n_subjects <= 99:
        raise UserError(f"The number of subjects must be from 1 to 99, not {n_subjects}.")
    check_signal(signal or Signal())
    make_folder(marker.parent)
    write_text(marker, f"Simulated EEG, not DEAP: {signal or Signal()}, {n_subjects} subjects\n")
    paths = [Path(out_dir) / f"s{subject:02d}.dat" for subject in range(1, n_subjects + 1)]
    for subject, path in enumerate(paths, 1):
        data, labels = simulate_subject(subject, signal)
        deap.write(path, data, labels)
    return paths


def write_store(
    folder: Path,
    n_subjects: int = 7,
    stimuli: Sequence[str] = ("video01", "video02", "video03", "video04"),
    ratings: Sequence[str] = ("valence", "arousal"),
    ch_names: Sequence[str] = ("F3", "FZ", "F4", "C3", "PZ", "O2"),
    n_frames: int = 12,
) -> Path:
    """Write a store of noise with short trials, on which every stage runs within seconds.

    It is for trying programs, not methods: there is nothing to find in it.

    Parameters
    ----------
    folder : Path
        Made, and must not be there yet.
    n_subjects : int
        Each has a trial of every stimulus.
    stimuli, ratings, ch_names : sequence of str
        Columns and channels. Of two stimuli, the ratings are 0 and 1; of others, 3 and 7.
    n_frames : int
        Seconds of a trial.

    Returns
    -------
    Path
        `folder`.
    """
    rng = np.random.default_rng(0)
    n_trials, n_chans = n_subjects * len(stimuli), len(ch_names)
    eeg = rng.normal(0, 10, (n_trials, n_chans, n_frames * SFREQ))
    baseline = rng.normal(0, 10, (n_trials, n_chans, 3 * SFREQ))
    baseline_de = np.stack([differential_entropy(x).mean(1) for x in baseline])
    de = np.stack([differential_entropy(x) for x in eeg]) - baseline_de[:, :, None]
    arrays = {"eeg": eeg, "baseline": baseline, "de": de, "baseline_de": baseline_de}
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.astype(np.float32))
    rows = []
    for trial in range(n_trials):
        subject, stimulus = divmod(trial, len(stimuli))
        high = {name: (trial + subject) >> bit & 1 for bit, name in enumerate(ratings)}
        if len(stimuli) == 2:
            high = {name: stimulus for name in ratings}
        rows.append(
            {
                "trial": trial,
                "subject": f"s{subject + 1:02d}",
                "session": 1,
                "stimulus": stimuli[stimulus],
                "piece": 0,
                "baseline": trial,
                **{n: h if len(stimuli) == 2 else 3.0 + 4.0 * h for n, h in high.items()},
            }
        )
    write_csv(folder / "trials.csv", rows)
    manifest = {
        **SETTINGS,
        "source": "deap",
        "inputs": {},
        "ch_names": list(ch_names),
        "montage": HEAD,
        "grid": Grid.paper(ch_names).content(),
        "reference": "baseline",
        "scales": dict.fromkeys(ratings, [0, 1] if len(stimuli) == 2 else [1, 9]),
        "classes": {},
        "trials": sha256(folder / "trials.csv"),
        "shapes": {name: list(array.shape) for name, array in arrays.items()},
        "versions": {},
    }
    write_json(folder / "manifest.json", {**manifest, "hash": manifest_hash(manifest)})
    return folder


if __name__ == "__main__":
    command_line(main, Config)
