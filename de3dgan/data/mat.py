"""Features in the field's usual ``.mat`` layout."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from tqdm import tqdm

from de3dgan.base.files import make_folder, write_bytes
from de3dgan.base.paths import display_path
from de3dgan.data.store import Store
from de3dgan.eeg.montage import GRID_SHAPE, grid_cells


def export_mat(store: Store, folder: Path) -> None:
    """Write features and labels, one ``.mat`` file per subject.

    Each holds ``data``, float32 (n_trials · n_windows, n_bands, 8, 9), baseline removed and zero in
    empty cells, and for each of the source's ratings ``<rating>_labels`` (1, n_trials · n_windows):
    1 above 5 (the middle of DEAP's scale) and 0 below for a rating from 1 to 9, or the label itself
    where the source has 0/1 labels.
    """
    from scipy.io import savemat

    n_trials, n_bands, n_windows, _ = store.de.shape
    subjects = np.array(store.columns["subject"])
    cells = grid_cells(store.ch_names)
    make_folder(folder)
    for subject in tqdm(dict.fromkeys(subjects.tolist()), unit="file", desc=".mat export"):
        trials = np.flatnonzero(subjects == subject)
        grid = np.zeros((len(trials), n_windows, n_bands, GRID_SHAPE[0] * GRID_SHAPE[1]), "f4")
        grid[..., cells] = store.de[trials].swapaxes(1, 2)
        content = {"data": grid.reshape(-1, n_bands, *GRID_SHAPE)}
        for name in store.ratings:
            rating = store.rating(name)
            high = rating if set(rating) <= {0.0, 1.0} else rating > 5
            content[f"{name}_labels"] = np.repeat(high[trials], n_windows).astype(np.int64)
        mat = io.BytesIO()
        savemat(mat, content, do_compression=True)
        write_bytes(folder / f"{subject}.mat", mat.getbuffer())
    print(f"{display_path(folder)}: {len(set(subjects))} .mat files.")
