"""Truth planted in real EEG: trials cut from real recordings, with a class effect of known size.

    python -m de3dgan.data.planted --source eegmat --out-dir eeg_dataset/planted
    python preprocess_de.py --source planted

Everything about the EEG stays real but for what is planted, which is known: the band, electrodes,
size and sign of each person's effect, and the class of each trial. So it tells what a method finds
in real EEG, which neither simulated recordings nor emotion sets do.

A recording is a baseline and trials with gaps between them. Trials get labels by chance, and the
EEG of those of high valence is changed in one direction, that of low valence in the other, by half
the difference each: the mean of a recording stays, and the size of the change does not tell the
class. The difference in DE, as this repository measures it, is solved for. Arousal is a control: it
is drawn in the same way, and nothing is planted for it. See `de3dgan.eeg.planting` for how EEG is
changed, and `de3dgan.data.effects` for what is drawn.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from de3dgan.base.cli import command_line
from de3dgan.base.errors import UserError
from de3dgan.base.files import sha256, write_csv, write_errors, write_json
from de3dgan.base.locks import (
    recover_folder,
    refuse_to_replace,
    refuse_to_replace_inputs,
    replaced_folder,
)
from de3dgan.base.paths import display_path, from_root
from de3dgan.data import sources
from de3dgan.data.effects import (
    CLASSES,
    SCALES,
    Effect,
    Person,
    check_effect,
    draw_person,
    trial_segments,
)
from de3dgan.data.opening import open_store
from de3dgan.data.sources.planted import FORMAT, is_planted
from de3dgan.data.store import manifest_hash
from de3dgan.eeg.de import SILENCE
from de3dgan.eeg.planting import trial_means, with_correlation, with_drift, with_power
from de3dgan.eeg.sampling import SFREQ


@dataclass(frozen=True, kw_only=True)
class Config(Effect):
    """Plant a class effect in real recordings."""

    # Source of the recordings: a module of de3dgan/data/sources.
    source: Literal[sources.names()] | None = None
    # Folder of its recordings; default: its place in eeg_dataset/.
    data_dir: Path | None = None
    # File that says how to read a data set; for source bids.
    settings: Path | None = None
    # Store whose trials are the recordings, in the place of a source.
    store: Path | None = None
    # Which of a person's recordings (of a store: trials), from 0. EEGMAT's 0 is 180 s of rest.
    recording: tuple[int, ...] = (0,)
    # The first people only; default: all.
    n_people: int | None = None
    # Folder to write, which is replaced if it holds planted recordings, and must hold nothing else.
    out_dir: Path = Path("eeg_dataset/planted")


class Recorded(NamedTuple):
    """Recordings of one person, in which an effect is to be planted.

    Attributes
    ----------
    subject : str
    ch_names : tuple of str
        As `canonical` gives them.
    montage : str
        MNE's standard montage that knows them.
    recordings : list of array, each (n_chans, n_times)
        In µV at 128 Hz.
    inputs : dict of str to str
        The SHA-256 of the files that they were read from, by name.
    """

    subject: str
    ch_names: tuple[str, ...]
    montage: str
    recordings: list[np.ndarray]
    inputs: dict[str, str]


def main(config: Config) -> None:
    """Write what `config` describes, and say so."""
    if (config.source is None) == (config.store is None):
        raise UserError("Give the recordings as --source, or as --store, and not as both.")
    if config.store and (config.data_dir or config.settings):
        raise UserError("--data-dir and --settings are of a source: leave them out with --store.")
    if config.n_people is not None and config.n_people < 1:
        raise UserError(f"--n-people must be 1 or more, not {config.n_people}.")
    where = from_root(config.store or config.data_dir or sources.load(config.source).DEFAULT_DIR)
    refuse_to_replace_inputs(config.out_dir, where)
    if config.store:
        people, origin = from_store(where, config.recording)
    else:
        people, origin = from_source(config.source, where, config.settings, config.recording)
    effect = Effect(**{f.name: getattr(config, f.name) for f in dataclasses.fields(Effect)})
    people = islice(people, config.n_people)
    rows = write_planted(config.out_dir, people, effect, {**origin, "recording": config.recording})
    print(
        f"{display_path(config.out_dir)}: {len({row['subject'] for row in rows})} people, "
        f"{len(rows)} trials, {sum(row['valence'] > 5 for row in rows)} of high valence."
    )


def write_planted(
    out_dir: Path,
    people: Iterable[Recorded],
    effect: Effect | None = None,
    origin: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Plant an effect in recordings and write them, in one go at the end.

    Parameters
    ----------
    out_dir : Path
        Replaced if it holds planted recordings.
    people : iterable of Recorded
        One is in memory at a time.
    effect : Effect, optional
        What is planted; by default, `Effect()`.
    origin : dict, optional
        Where the recordings come from, for the manifest.

    Returns
    -------
    list of dict
        The rows of ``trials.csv``.

    Raises
    ------
    UserError
        On a folder with other files, switches that cannot be, recordings that are too short, and
        electrodes that are flat or where no gain makes the change.
    """
    effect = effect or Effect()
    check_effect(effect)
    holds_others = out_dir.is_dir() and any(out_dir.iterdir()) and not is_planted(out_dir)
    refuse_to_replace(out_dir, "planted recordings", holds_others)
    recover_folder(out_dir)
    rows: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    with replaced_folder(out_dir) as folder:
        for recorded in people:
            person, segments = _drawn(recorded, effect)
            drawn, files = iter(person.trials), {}
            for number, (eeg, cut) in enumerate(zip(recorded.recordings, segments, strict=True)):
                trials = list(islice(drawn, len(cut)))
                path = folder / f"{recorded.subject}_{number + 1}.npy"
                eeg = planted(recorded, eeg, cut, [t["planted"] for t in trials], person, effect)
                with write_errors(path, eeg.nbytes):
                    np.save(path, eeg)
                files[path.name] = sha256(path)
                for (start, stop), trial in zip(cut, trials, strict=True):
                    place = {"subject": recorded.subject, "recording": number}
                    place |= {"start": start, "stop": stop}
                    rows.append({"trial": len(rows), **place, **trial})
            about[recorded.subject] = {
                "ch_names": list(recorded.ch_names),
                "montage": recorded.montage,
                "files": files,
                "strength": person.strength,
                "sign": 1 if person.strength >= 0 else -1,
                "bands": list(person.bands),
                "sites": [list(site) for site in person.sites],
                "inputs": recorded.inputs,
            }
        if not rows:
            raise UserError("There are no recordings to plant an effect in.")
        write_csv(folder / "trials.csv", rows)
        manifest = {
            "format": FORMAT,
            "kind": "planted recordings",
            "sfreq": SFREQ,
            "settings": dataclasses.asdict(effect),
            "origin": origin or {},
            "scales": SCALES,
            "classes": CLASSES,
            "people": about,
            "trials": sha256(folder / "trials.csv"),
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in ("numpy", "scipy")},
        }
        write_json(folder / "manifest.json", {**manifest, "hash": manifest_hash(manifest)})
    return rows


def planted(
    recorded: Recorded,
    eeg: np.ndarray,
    segments: list[tuple[int, int]],
    classes: list[int],
    person: Person,
    effect: Effect,
) -> np.ndarray:
    """Plant a person's effect in a recording.

    Parameters
    ----------
    recorded : Recorded
        Whose it is.
    eeg : array, (n_chans, n_times)
        One of its recordings.
    segments : list of (int, int), length n_trials
        Start and stop of the trials.
    classes : list of int, length n_trials
        0 for low, 1 for high.
    person : Person
        What was drawn.
    effect : Effect

    Returns
    -------
    array, float32 (n_chans, n_times)
        Without effect and drift, the recording bit for bit.

    Raises
    ------
    UserError
        If an electrode is flat, or no gain makes the change.
    """
    if effect.drift:
        eeg = with_drift(eeg, effect.drift_bands, effect.drift)
    if person.strength:
        sites = [[recorded.ch_names.index(name) for name in site] for site in person.sites]
        half = person.strength * (np.array(classes) - 0.5)
        channels = np.transpose(sites).ravel()  # all left ones, then all right ones
        _refuse_flat(recorded, eeg[channels], segments, person)
        try:
            if effect.effect == "correlation":
                change = np.broadcast_to(half, (len(person.bands), len(sites), len(half)))
                eeg = with_correlation(eeg, segments, person.bands, sites, change, effect.conducted)
            else:
                side = np.repeat([1, -1][: len(person.sites[0])], len(sites))
                change = np.broadcast_to(
                    side[:, None] * half, (len(person.bands), len(side), len(half))
                )
                eeg = with_power(eeg, segments, person.bands, channels, change, effect.conducted)
        except ValueError:
            raise UserError(
                f"No gain makes {recorded.subject}'s classes differ by {person.strength:.3g}, so "
                "little of the EEG is in the band: give a smaller --strength or --spread, other "
                "--channels, or leave that subject out."
            ) from None
    return eeg.astype(np.float32)


def _drawn(recorded: Recorded, effect: Effect) -> tuple[Person, list[list[tuple[int, int]]]]:
    """Return what is drawn for a person, and where trials lie in each recording."""
    segments = [trial_segments(eeg.shape[1], effect) for eeg in recorded.recordings]
    for eeg, cut in zip(recorded.recordings, segments, strict=True):
        if not cut:
            raise UserError(
                f"A recording of {recorded.subject} has {eeg.shape[1] / SFREQ:g} s, which is less "
                f"than a baseline of {effect.baseline_seconds} s, a gap of {effect.gap_seconds:g} "
                f"s and a trial of {effect.trial_seconds} s: give smaller ones, or another "
                "--recording."
            )
    n_trials = sum(map(len, segments))
    return draw_person(
        recorded.subject, recorded.ch_names, n_trials, effect, recorded.montage
    ), segments


def _refuse_flat(
    recorded: Recorded, chosen: np.ndarray, segments: list[tuple[int, int]], person: Person
) -> None:
    if not (trial_means(chosen, segments, person.bands) > SILENCE).all():
        raise UserError(
            f"An electrode of {recorded.subject} is flat in a trial, so that there is nothing to "
            "make larger: leave that subject out, or give other --channels."
        )


def from_source(
    name: str, data_dir: Path, settings: Path | None, numbers: tuple[int, ...]
) -> tuple[Iterator[Recorded], dict[str, Any]]:
    """Return the people of a source, one at a time, and what to call their origin.

    Of a person with several sessions, it is the first.
    """
    source = sources.load(name)

    def people() -> Iterator[Recorded]:
        seen = set()
        for unit, files in sources.find(source, data_dir, settings).items():
            data = sources.read_checked(source, unit, files)
            if data.subject in seen:
                continue
            seen.add(data.subject)
            _refuse_missing(data.subject, numbers, len(data.recordings))
            recordings = [np.asarray(data.recordings[i], dtype=np.float64) for i in numbers]
            inputs = {path.name: sha256(path) for path in files}
            yield Recorded(data.subject, data.ch_names, data.montage, recordings, inputs)

    return people(), {"source": name}


def from_store(path: Path, numbers: tuple[int, ...]) -> tuple[Iterator[Recorded], dict[str, Any]]:
    """Return the people of a store, whose trials are the recordings, and their origin."""
    store = open_store(path)
    subjects = np.array(store.columns["subject"])
    montage = store.manifest["montage"]

    def people() -> Iterator[Recorded]:
        for subject in dict.fromkeys(store.columns["subject"]):
            trials = np.flatnonzero(subjects == subject)
            _refuse_missing(subject, numbers, len(trials))
            chosen = [int(trials[i]) for i in numbers]
            store.refuse_non_finite("eeg", chosen)
            recordings = [np.array(store.eeg[trial], dtype=np.float64) for trial in chosen]
            yield Recorded(subject, tuple(store.ch_names), montage, recordings, {})

    return people(), {"store": store.hash}


def _refuse_missing(subject: str, numbers: tuple[int, ...], n: int) -> None:
    if not numbers or len(set(numbers)) < len(numbers) or not all(0 <= i < n for i in numbers):
        raise UserError(
            f"--recording takes numbers from 0 to {n - 1}, each once, for {subject} has {n}: not "
            f"{' '.join(map(str, numbers)) or 'none'}."
        )


if __name__ == "__main__":
    command_line(main, Config)
