"""Writer of DREAMER.mat as it is published, with fewer people and shorter films."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import savemat


def cells(items: list, axis: int = 0) -> np.ndarray:
    """Return a column of cells, or a row."""
    column = np.empty(len(items), dtype=object)
    column[:] = items
    return np.expand_dims(column, 1 - axis)


def dreamer_person(rng: np.random.Generator, seconds: list[int], **changes: object) -> dict:
    """Return a cell of ``Data``: films of so many seconds, each after a baseline of 3 s."""

    def clips(lengths: list[int], sfreq: int, n_chans: int) -> np.ndarray:
        return cells([4200 + rng.normal(0, 20, (s * sfreq, n_chans)) for s in lengths])

    baselines = [3] * len(seconds)
    scores = {
        f"Score{name}": rng.integers(1, 6, (len(seconds), 1)).astype(float)
        for name in ("Valence", "Arousal", "Dominance")
    }
    eeg = {"baseline": clips(baselines, 128, 14), "stimuli": clips(seconds, 128, 14)}
    ecg = {"baseline": clips(baselines, 256, 2), "stimuli": clips(seconds, 256, 2)}
    return {"Age": "22", "Gender": "male", "EEG": eeg, "ECG": ecg, **scores} | changes


def write_dreamer(folder: Path, people: list[dict], compress: bool = True) -> Path:
    """Write DREAMER.mat and return its path."""
    electrodes = cells("AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4".split(), axis=1)
    content = {
        "Data": cells(people, axis=1),
        "EEG_SamplingRate": 128,
        "ECG_SamplingRate": 256,
        "EEG_Electrodes": electrodes,
        "noOfSubjects": len(people),
        "noOfVideoSequences": 18,
        "Disclaimer": "While every care has been taken ...",
    }
    path = folder / "DREAMER.mat"
    savemat(path, {"extra": np.ones(9), "DREAMER": content}, do_compression=compress)
    return path
