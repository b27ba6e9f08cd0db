"""Writer of sessions of SEED and SEED-IV as they are published, with shorter films."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import savemat

#: Of SEED's films.
LABELS = [1, 0, -1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 0, 1, -1]


def write_labels(folder: Path, labels: object = LABELS) -> None:
    """Write label.mat."""
    savemat(folder / "label.mat", {"label": np.array([labels])})


def write_session(
    folder: Path,
    name: str,
    n_films: int = 15,
    n_times: int = 200,
    seed: int = 0,
    **changes: object,
) -> dict[str, np.ndarray]:
    """Write a session and return its variables; film i has i samples more than `n_times`."""
    rng = np.random.default_rng(seed)
    # A walk, as EEG has its power at low frequencies.
    content = {
        f"djc_eeg{film}": rng.normal(0, 3, (62, n_times + film)).cumsum(axis=1)
        for film in range(1, n_films + 1)
    }
    content = {key: value for key, value in (content | changes).items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / name, content, do_compression=n_films < 24)
    return content
