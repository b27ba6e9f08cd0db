"""A figure of where electrodes are on the head and on the grid that networks are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from de3dgan.data.montages import HEAD, mne_info
from de3dgan.data.store import Store
from de3dgan.eeg.montage import CELLS, regions
from de3dgan.figures.style import annotate, house_style, new_figure, save


@house_style
def electrode_grid(store: Store) -> Figure:
    """Draw electrodes on the head, seen from above, beside their cells of the grid."""
    info = mne_info(store.ch_names, store.manifest["montage"])
    places = np.array([channel["loc"][:3] for channel in info["chs"]])
    right, front, up = (places - places.mean(0) * [0, 0, 1]).T
    # From the vertex outwards by the angle, as on a map of the world around the pole.
    across = np.hypot(right, front)
    scale = np.arctan2(across, up) / np.maximum(across, 1e-9)
    grid = store.grid
    rows, columns = np.divmod(np.array(grid.cells), grid.shape[1])
    figure, axes = new_figure(11, 5.6, 1, 2)
    head, cells = axes[0]
    size = 9 if len(places) <= 40 else 6 if len(places) <= 80 else 5
    region_of = {
        name: i for i, some in enumerate(regions(store.ch_names).values()) for name in some
    }
    for i, name in enumerate(store.ch_names):
        colour = f"C{region_of[name]}"
        text = {"ha": "center", "va": "center", "size": size, "color": colour}
        head.text(right[i] * scale[i], front[i] * scale[i], name, **text)
        cells.text(columns[i], rows[i], name, **text)
    limit = 1.1 * max(np.abs(right * scale).max(), np.abs(front * scale).max())
    head.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", title="on the head")
    cells.set(
        xlim=(-0.5, grid.shape[1] - 0.5),
        ylim=(grid.shape[0] - 0.5, -0.5),
        aspect="equal",
        title="on the grid",
    )
    cells.set_xticks(np.arange(grid.shape[1] + 1) - 0.5, minor=True)
    cells.set_yticks(np.arange(grid.shape[0] + 1) - 0.5, minor=True)
    cells.grid(True, which="minor", color="0.85")
    head.set_axis_off()
    cells.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
    paper = set(store.ch_names) <= set(CELLS)
    shape = "{}x{}".format(*grid.shape)
    montage = "the 10-05 system" if store.manifest["montage"] == HEAD else store.manifest["montage"]
    annotate(
        figure,
        f"{len(places)} electrodes on the {shape} grid, nose up",
        "the paper's grid" if paper else f"a grid made from their places in {montage}",
        "Networks are given the grid: who are neighbours on the head should be neighbours there.",
    )
    return figure


def draw_grid(store: Store, path: Path) -> None:
    """Write the figure of a store's electrodes as PNG."""
    save(electrode_grid(store), path)
