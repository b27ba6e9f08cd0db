"""Features in the field's usual ``.mat`` layout."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from tqdm import tqdm

from de3dgan.base.files import make_folder, write_bytes
from de3dgan.base.paths import display_path
from de3dgan.data.store import Store


def export_mat(store: Store, folder: Path) -> None:
    """Write features and labels, one ``.mat`` file per subject.

    Each holds ``data``, float32 (n_trials · n_windows, n_bands, 8, 9), baseline removed and zero in
    empty cells (of another grid than the paper's, its rows and columns), and for each of the
    source's ratings ``<rating>_labels`` (1, n_trials · n_windows): 1 above the middle of its scale
    and 0 below, or the number itself where it is that of a class.
    """
    from scipy.io import savemat

    n_trials, n_bands, n_windows, _ = store.de.shape
    subjects = np.array(store.columns["subject"])
    grid_of_electrodes = store.grid
    make_folder(folder)
    for subject in tqdm(dict.fromkeys(subjects.tolist()), unit="file", desc=".mat export"):
        trials = np.flatnonzero(subjects == subject)
        grid = np.zeros((len(trials), n_windows, n_bands, grid_of_electrodes.n_cells), "f4")
        grid[..., list(grid_of_electrodes.cells)] = store.de[trials].swapaxes(1, 2)
        content = {"data": grid.reshape(-1, n_bands, *grid_of_electrodes.shape)}
        for name in store.ratings:
            label = store.rating(name)
            if name in store.scales:
                label = label > store.middle(name)
            content[f"{name}_labels"] = np.repeat(label[trials], n_windows).astype(np.int64)
        mat = io.BytesIO()
        savemat(mat, content, do_compression=True)
        write_bytes(folder / f"{subject}.mat", mat.getbuffer())
    print(f"{display_path(folder)}: {len(set(subjects))} .mat files.")
