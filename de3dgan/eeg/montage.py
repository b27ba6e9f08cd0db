"""The 8x9 electrode grid: the cell of each electrode.

Rows run from front to back, columns from left to right. Sources can have any subset of these 32
electrodes, named as in the 10-20 system and in DEAP.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from de3dgan.base.errors import UserError

_ROWS = """
-   -   AF3 FP1 -   FP2 AF4 -   -
F7  -   F3  -   FZ  -   F4  -   F8
-   FC5 -   FC1 -   FC2 -   FC6 -
T7  -   C3  -   CZ  -   C4  -   T8
-   CP5 -   CP1 -   CP2 -   CP6 -
P7  -   P3  -   PZ  -   P4  -   P8
-   -   -   PO3 -   PO4 -   -   -
-   -   -   O1  OZ  O2  -   -   -
"""
GRID = tuple(tuple(row.split()) for row in _ROWS.strip().splitlines())
GRID_SHAPE = (len(GRID), len(GRID[0]))
CELLS = {
    name: row * GRID_SHAPE[1] + column
    for row, names in enumerate(GRID)
    for column, name in enumerate(names)
    if name != "-"
}

#: The 32 EEG channels of DEAP, in the order of its files.
DEAP_CHANNELS = tuple(
    "FP1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 OZ PZ "
    "FP2 AF4 FZ F4 F8 FC6 FC2 CZ C4 T8 CP6 CP2 P4 P8 PO4 O2".split()
)

#: Scalp regions, for figures and tables.
REGIONS = {
    "frontal": ("FP1", "FP2", "AF3", "AF4", "F7", "F3", "FZ", "F4", "F8"),
    "central": ("FC5", "FC1", "FC2", "FC6", "C3", "CZ", "C4"),
    "temporal": ("T7", "T8"),
    "parietal": ("CP5", "CP1", "CP2", "CP6", "P7", "P3", "PZ", "P4", "P8"),
    "occipital": ("PO3", "PO4", "O1", "OZ", "O2"),
}


def mirrored(ch_names: Iterable[str]) -> list[int]:
    """Return, per channel, the index of the one at the mirrored place on the head.

    Electrodes with odd numbers are on the left, those with even numbers on the right. If one has no
    counterpart in `ch_names`, the montage cannot be mirrored, and each channel's index is its own.
    """
    names = [name.upper() for name in ch_names]
    others = []
    for name in names:
        side = name[-1]
        other = str(int(side) + (1 if int(side) % 2 else -1)) if side.isdigit() else side
        others.append(name[:-1] + other)
    if not set(others) <= set(names):
        return list(range(len(names)))
    return [names.index(other) for other in others]


def grid_cells(ch_names: Iterable[str]) -> list[int]:
    """Return the flat grid cell (row * 9 + column) of each channel.

    Parameters
    ----------
    ch_names : iterable of str, length n_chans
        Channel names, in any case.

    Returns
    -------
    list of int, length n_chans

    Raises
    ------
    UserError
        If a name is not on the grid or comes twice.
    """
    names = [name.upper() for name in ch_names]
    unknown = [name for name in names if name not in CELLS]
    if unknown:
        raise UserError(
            f"Channel {', '.join(unknown)} is not on the 8x9 grid, whose electrodes are "
            f"{' '.join(CELLS)}: rename or drop it in the source's `read`."
        )
    twice = sorted(name for name, n in Counter(names).items() if n > 1)
    if twice:
        raise UserError(f"Channel {', '.join(twice)} comes twice in {' '.join(names)}.")
    return [CELLS[name] for name in names]
