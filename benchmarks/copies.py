"""How far apart copies of a recording and unrelated recordings are, for the certificate.

    .venv/bin/python benchmarks/copies.py --data-dirs DE_feature/study-eegmat DE_feature/synthetic

Compares all pairs of a store's recordings, which are unrelated, and then each trial with what a
copy may have become. Fills in the table of benchmarks/COPIES.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
from scipy.signal import butter, sosfiltfilt

from benchmarks.documents import fill_table
from de3dgan.base.cli import command_line
from de3dgan.base.paths import from_root
from de3dgan.data.frames import chunks
from de3dgan.data.memory_maps import open_array
from de3dgan.data.opening import open_store
from de3dgan.data.store import Store
from de3dgan.eeg.sampling import SFREQ
from de3dgan.evaluation import copies, fingerprints

#: Of unrelated pairs, so many are compared closely: the most similar.
_N_CLOSE = 50
#: Signs that fingerprints have where 8,000 recordings of a minute are tested.
_N_SIGNS = 23
#: Unrelated people: of each, 2 recordings of 12 s. A fifth are tested.
_MANY_PEOPLE = (1000, 4000)


@dataclass(frozen=True)
class Config:
    """Which recordings to compare, and where the table goes."""

    data_dirs: tuple[Path, ...] = (Path("DE_feature/eegmat"),)  # stores that preprocess_de.py made
    every: int = 1  # alter every so manieth trial
    out: Path = ROOT / "benchmarks" / "COPIES.md"  # document that holds the table


def filtered(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return `x` in a band of frequencies, in Hz."""
    return sosfiltfilt(butter(3, [low, high], "bandpass", fs=SFREQ, output="sos"), x)


def delayed(x: np.ndarray, samples: float) -> np.ndarray:
    """Return `x` later by a number of samples, around the circle, that need not be whole."""
    n_times = x.shape[-1]
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(n_times) * samples)
    return np.fft.irfft(np.fft.rfft(x) * turn, n_times)


def cut(x: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Return what a later cut of `x` would hold: its last part, and then something else."""
    n_shared = round(share * x.shape[-1])
    return np.concatenate([x[:, -n_shared:], other[:, n_shared:]], -1)


def noisy(x: np.ndarray, level: float) -> np.ndarray:
    """Return `x` with white noise that has `level` times each electrode's standard deviation."""
    noise = np.random.default_rng(5).normal(size=x.shape)
    return x + level * x.std(-1, keepdims=True) * noise


def mixed(x: np.ndarray, other: np.ndarray, level: float) -> np.ndarray:
    """Return `x` with other EEG that has `level` times its standard deviation."""
    return x + level * x.std() / other.std() * other


#: What may become of a recording (n_chans, n_times), given another one.
ALTERED: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "nothing": lambda x, _: x,
    "other sign, three times as loud": lambda x, _: -3 * x,
    "each electrode to unit variance": lambda x, _: x / (x.std(-1, keepdims=True) + 1e-9),
    "average reference": lambda x, _: x - x.mean(0),
    "reference at an electrode": lambda x, _: x - x[len(x) // 2],
    "filtered, 1 to 13 Hz": lambda x, _: filtered(x, 1, 13),
    "filtered, 8 to 30 Hz": lambda x, _: filtered(x, 8, 30),
    "half a sample later": lambda x, _: delayed(x, 0.5),
    "white noise, 0.3 of its standard deviation": lambda x, _: noisy(x, 0.3),
    "white noise as loud as it": lambda x, _: noisy(x, 1.0),
    "other EEG, 0.3 of its standard deviation": lambda x, y: mixed(x, y, 0.3),
    "other EEG as loud as it": lambda x, y: mixed(x, y, 1.0),
    "a cut with half in common": lambda x, y: cut(x, y, 0.5),
    "a cut with half in common, 0.3 of white noise": lambda x, y: noisy(cut(x, y, 0.5), 0.3),
    "a cut with a quarter in common": lambda x, y: cut(x, y, 0.25),
    "a cut with a tenth in common": lambda x, y: cut(x, y, 0.1),
}


def main(config: Config) -> None:
    """Compare, and fill in the table."""
    found = {}
    for path in config.data_dirs:
        store = open_store(from_root(path))
        n_people = len(set(store.columns["subject"]))
        heading = f"{store.manifest['source']}, {store.n_trials} trials of {n_people} people"
        found[heading] = dict(rows(store, config.every))
    kinds = dict.fromkeys(kind for of_store in found.values() for kind in of_store)
    table = [[kind, *(of_store.get(kind, "") for of_store in found.values())] for kind in kinds]
    more = [""] * (len(found) - 1)
    table.append(
        ["seconds for noise of DEAP's size, 256 against 1,024 trials", deap_seconds(), *more]
    )
    for n_people in _MANY_PEOPLE:
        kind = f"seconds for noise of {n_people:,} people, 2 trials of 12 s each, by fingerprints"
        table.append([kind, many_seconds(n_people), *more])
    fill_table(config.out, "copies.py", ("", *found), table)


def deap_seconds() -> str:
    """Return the processor's seconds for a fold of as much EEG as DEAP has."""
    return noise_seconds(1280, 32, 60)


def many_seconds(n_people: int) -> str:
    """Return the processor's seconds for a fold of many people, by fingerprints."""
    with patch.object(copies, "_MOST_COMPARED", 0):
        return noise_seconds(2 * n_people, 8, 12)


def noise_seconds(n_trials: int, n_chans: int, duration: int) -> str:
    """Return the processor's seconds for noise."""
    rng = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        path = Path(folder, "eeg.npy")
        shape = n_trials, n_chans, duration * SFREQ
        for trial in np.lib.format.open_memmap(path, "w+", np.float32, shape):
            trial[:] = rng.standard_normal(trial.shape, np.float32)
        return seconds(open_array(path))


def seconds(eeg: np.ndarray) -> str:
    """Return the processor's seconds for comparing a fifth of recordings with the others."""
    every = np.arange(len(eeg))
    start = time.process_time()
    copies.find_copies(eeg, every[::5], np.setdiff1d(every, every[::5]))
    return f"{time.process_time() - start:.1f}"


def rows(store: Store, every: int) -> Iterator[tuple[str, str]]:
    """Yield what was compared, and what came out."""
    subjects = np.array(store.columns["subject"])
    for name in ("eeg", "baseline"):
        eeg = getattr(store, name)
        whose = subjects
        if name == "baseline":
            whose = subjects[np.unique(store.baseline_index, return_index=True)[1]]
        for same, kind in ((True, "one person"), (False, "two people")):
            every_pair = combinations(range(len(eeg)), 2)
            pairs = [(a, b) for a, b in every_pair if same == (whose[a] == whose[b])]
            if pairs:
                what = {"eeg": "trials", "baseline": "baselines"}[name]
                yield f"**unrelated** {what} of {kind}", unrelated(eeg, pairs)
    for kind, alter in ALTERED.items():
        yield kind, altered(store.eeg, every, alter)
    yield "seconds for a fifth of them against the others", seconds(store.eeg)


def unrelated(eeg: np.ndarray, pairs: list[tuple[int, int]]) -> str:
    """Return how similar the most similar of pairs are."""
    every = np.unique(pairs)
    spectra = dict(
        zip(
            every.tolist(),
            np.concatenate([copies._spectra(eeg, some) for some in chunks(every, 32)]),
            strict=True,
        )
    )
    n_times = eeg.shape[-1] // copies._DECIMATION
    found = np.array([copies._likeness(spectra[a], spectra[b], n_times) for a, b in pairs])
    closest = np.argsort(found)[::-1][:_N_CLOSE]
    closely = [abs(copies._compared(eeg, *pairs[k]).correlation) for k in closest]
    return f"at most {found.max():.3f}, closely {max(closely):.3f} ({len(pairs):,} pairs)"


def altered(eeg: np.ndarray, every: int, alter: Callable) -> str:
    """Return how similar trials are to what they became, and how many are told to be copies."""
    first, closely, n_found, n_looked_up = [], [], 0, 0
    n_times = eeg.shape[-1] // copies._DECIMATION
    for trial in range(0, len(eeg), every):
        real, other = (np.array(eeg[row], float) for row in (trial, (trial + 7) % len(eeg)))
        pair = np.stack([alter(real, other), real]).astype(np.float32)
        one, original = (copies._spectra(pair, np.array([row]))[0] for row in (0, 1))
        first.append(float(copies._likeness(one, original, n_times)))
        closely.append(abs(copies._compared(pair, 0, 1).correlation))
        n_found += bool(copies.find_copies(pair, np.array([0]), np.array([1])))
        with (
            patch.object(copies, "_MOST_COMPARED", 0),
            patch.object(fingerprints, "_N_SIGNS", (_N_SIGNS, _N_SIGNS)),
        ):
            n_looked_up += bool(copies.find_copies(pair, np.array([0]), np.array([1])))
    return (
        f"at least {min(first):.2f}, closely {min(closely):.2f}; {n_found} of {len(first)} found, "
        f"{n_looked_up} by fingerprints"
    )


if __name__ == "__main__":
    command_line(main, Config)
