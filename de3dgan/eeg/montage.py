"""Electrodes: their names, and the grid on which neighbours on the head are neighbours.

Rows run from front to back, columns from left to right. The paper's 8x9 grid has a place for the 32
electrodes of DEAP, named as in the 10-20 system; electrodes that are all among them are placed on
it. Others get a grid of their own from their positions, see `de3dgan.data.montages`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

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

#: Scalp regions, for figures and tables, by the letters of names in the 10-05 system.
_REGIONS = {
    "frontal": "N FP AFP AF AFF F",
    "central": "FFC FC FCC C CCP",
    "temporal": "FFT FT FTT T TTP TP TPP",
    "parietal": "CP CPP P",
    "occipital": "PPO PO POO O OI I CB",
}
_REGION_OF = {letters: region for region, some in _REGIONS.items() for letters in some.split()}

#: What is written before and after an electrode's name: "EEG Fp1-Ref", "EEG FP1 - LE".
_PREFIX = re.compile(r"^EEG[ _:.-]*(?=[A-Z])")
_SUFFIX = re.compile(r"[ ]*[-_:][ ]*(REF|LE|RE|AR|AVG|AVE|CAR|A1|A2|M1|M2|A1A2|0)$")
#: The 10-20 system's old names of four temporal electrodes.
_RENAMED = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}


def canonical(name: str) -> str:
    """Return an electrode's name as it is used here.

    In upper case, without what says that it is EEG and what it is referenced to, and by the 10-20
    system's new names: "EEG T3-Ref" is T7.
    """
    name = _SUFFIX.sub("", _PREFIX.sub("", name.strip().upper().rstrip(".")))
    return _RENAMED.get(name, name)


@dataclass(frozen=True)
class Grid:
    """Where electrodes are on a grid.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns.
    cells : tuple of int, length n_chans
        Flat cell (row · columns + column) of each electrode.
    """

    shape: tuple[int, int]
    cells: tuple[int, ...]

    @classmethod
    def paper(cls, ch_names: Iterable[str]) -> Grid:
        """Return the paper's 8x9 grid for electrodes that it has a place for.

        Raises
        ------
        UserError
            If a name is not on the grid or comes twice.
        """
        return cls(GRID_SHAPE, tuple(grid_cells(ch_names)))

    @classmethod
    def of(cls, content: Grid | Mapping[str, Any] | None, ch_names: Iterable[str]) -> Grid:
        """Return a grid from what `content` has written; the paper's one for None.

        Raises
        ------
        ValueError
            If it has not a cell of its own for each electrode.
        """
        if content is None:
            return cls.paper(ch_names)
        grid = content
        if not isinstance(content, Grid):
            grid = cls(tuple(content["shape"]), tuple(content["cells"]))
        n_different = len({cell for cell in grid.cells if 0 <= cell < grid.n_cells})
        if not n_different == len(grid.cells) == len(list(ch_names)):
            raise ValueError(f"a grid of {grid.n_cells} cells has {n_different} electrodes")
        return grid

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.shape[0] * self.shape[1]

    def content(self) -> dict[str, list[int]]:
        """Return it as JSON holds it."""
        return {"shape": list(self.shape), "cells": list(self.cells)}

    def pairs(self) -> list[tuple[int, int]]:
        """Return the electrodes on the left that have a counterpart on the right, each with it."""
        of_cell, n_columns = {cell: i for i, cell in enumerate(self.cells)}, self.shape[1]
        found = []
        for i, cell in enumerate(self.cells):
            column = cell % n_columns
            other = of_cell.get(cell + n_columns - 1 - 2 * column)
            if other is not None and 2 * column < n_columns - 1:
                found.append((i, other))
        return found

    def mirrored(self) -> list[int]:
        """Return, per electrode, the index of the one at the mirrored place on the grid.

        If one has no counterpart, electrodes cannot be mirrored, and each one's index is its own.
        """
        of_cell = {cell: i for i, cell in enumerate(self.cells)}
        n_columns = self.shape[1]
        others = [cell + n_columns - 1 - 2 * (cell % n_columns) for cell in self.cells]
        if not set(others) <= set(of_cell):
            return list(range(len(self.cells)))
        return [of_cell[other] for other in others]


def grid_cells(ch_names: Iterable[str]) -> list[int]:
    """Return the flat cell (row * 9 + column) of each channel on the paper's grid.

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
    refuse_twice(names)
    return [CELLS[name] for name in names]


def regions(ch_names: Iterable[str]) -> dict[str, list[str]]:
    """Return the electrodes of each region of the scalp that has any, from front to back.

    Names that are not of the 10-05 system say nothing of places: then all are of the "scalp".
    """
    names = list(ch_names)
    found: dict[str, list[str]] = {region: [] for region in _REGIONS}
    for name in names:
        letters = re.match("[A-Y]*", name).group()  # z is the midline
        if letters not in _REGION_OF:
            return {"scalp": names}
        found[_REGION_OF[letters]].append(name)
    return {region: members for region, members in found.items() if members}


def refuse_twice(names: Iterable[str]) -> None:
    """Raise `UserError` if a channel's name comes twice."""
    names = list(names)
    twice = sorted(name for name, n in Counter(names).items() if n > 1)
    if twice:
        raise UserError(f"Channel {', '.join(twice)} comes twice in {' '.join(names)}.")


def grid_from_positions(places: np.ndarray, pairs: Iterable[int] | None) -> Grid:
    """Return a grid of about 2.25 cells per electrode, as the paper's has, that keeps neighbours.

    Electrodes are assigned to cells of their own such that the sum of squared distances to them is
    least. Where each electrode has a counterpart on the other side, so has its cell.

    Parameters
    ----------
    places : array, (n_chans, 2)
        Of each electrode on the head as seen from above, to the right and to the front of its
        centre.
    pairs : iterable of int, length n_chans, optional
        Index of each electrode's counterpart on the other side, its own on the midline.

    Returns
    -------
    Grid
        Of 8x9 cells or more, with an odd number of columns: the midline is the middle one.
    """
    from scipy.optimize import linear_sum_assignment

    shape = _shape_for(len(places))
    middle = shape[1] // 2
    right, front = places.T
    column = middle * (1 + right / max(np.abs(right).max(), 1e-9))
    low, high = front.min(), front.max()
    row = (shape[0] - 1) * (high - front) / max(high - low, 1e-9)
    rows, columns = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
    cost = (row[:, None] - rows) ** 2 + (column[:, None] - columns) ** 2
    if pairs is None:
        return Grid(shape, tuple(int(cell) for cell in linear_sum_assignment(cost)[1]))
    pairs = np.array(list(pairs))
    own = pairs == np.arange(len(pairs))
    # Those on the left and on the midline choose; the others follow.
    chosen = np.flatnonzero(own | (right < right[pairs]))
    allowed = np.where(own[chosen, None], columns == middle, columns < middle)
    _, taken = linear_sum_assignment(np.where(allowed, cost[chosen], 1e6))
    if not allowed[np.arange(len(chosen)), taken].all():  # more on the midline than rows
        return grid_from_positions(places, None)
    cells = np.empty(len(pairs), int)
    cells[chosen] = taken
    cells[pairs[chosen]] = taken + shape[1] - 1 - 2 * (taken % shape[1])
    return Grid(shape, tuple(cells.tolist()))


def _shape_for(n_chans: int) -> tuple[int, int]:
    """Return the smallest shape, from 8x9 on, with 2.25 cells or more per electrode."""
    rows = GRID_SHAPE[0]
    while rows * (rows + 1 + rows % 2) < n_chans * np.prod(GRID_SHAPE) / len(CELLS):
        rows += 1
    return rows, rows + 1 + rows % 2
