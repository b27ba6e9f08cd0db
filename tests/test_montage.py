"""The grid, cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from de3dgan.base.errors import UserError
from de3dgan.data.montages import HEAD, find_montage, grid_of, mne_info
from de3dgan.eeg.montage import (
    DEAP_CHANNELS,
    GRID,
    GRID_SHAPE,
    Grid,
    canonical,
    grid_cells,
    regions,
)
from tests.helpers import one_line

# Row, column of each electrode, typed from DESIGN.
PLACES = {
    "AF3": (0, 2), "FP1": (0, 3), "FP2": (0, 5), "AF4": (0, 6),
    "F7": (1, 0), "F3": (1, 2), "FZ": (1, 4), "F4": (1, 6), "F8": (1, 8),
    "FC5": (2, 1), "FC1": (2, 3), "FC2": (2, 5), "FC6": (2, 7),
    "T7": (3, 0), "C3": (3, 2), "CZ": (3, 4), "C4": (3, 6), "T8": (3, 8),
    "CP5": (4, 1), "CP1": (4, 3), "CP2": (4, 5), "CP6": (4, 7),
    "P7": (5, 0), "P3": (5, 2), "PZ": (5, 4), "P4": (5, 6), "P8": (5, 8),
    "PO3": (6, 3), "PO4": (6, 5),
    "O1": (7, 3), "OZ": (7, 4), "O2": (7, 5),
}  # fmt: skip
NAMES = (
    "FP1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 OZ PZ FP2 AF4 FZ F4 F8 FC6 FC2 CZ C4 T8 CP6 "
    "CP2 P4 P8 PO4 O2"
)


def test_every_cell_is_the_designs():
    assert GRID_SHAPE == (8, 9)
    at = {place: name for name, place in PLACES.items()}
    for row in range(8):
        for column in range(9):
            assert GRID[row][column] == at.get((row, column), "-")


def test_deap_channels_are_in_the_order_of_its_files():
    assert " ".join(DEAP_CHANNELS) == NAMES
    assert sorted(PLACES) == sorted(DEAP_CHANNELS)


def test_regions_share_out_all_electrodes():
    found = regions(PLACES)
    assert sorted(name for names in found.values() for name in names) == sorted(PLACES)
    assert found["temporal"] == ["T7", "T8"]
    assert found["occipital"] == ["PO3", "PO4", "O1", "OZ", "O2"]
    assert regions(["E1", "E2"]) == {"scalp": ["E1", "E2"]}


@given(st.lists(st.sampled_from(sorted(PLACES)), unique=True), st.booleans())
def test_channels_in_any_order_and_case_are_found(names, lower):
    asked = [name.lower() if lower else name for name in names]
    assert [divmod(cell, 9) for cell in grid_cells(asked)] == [PLACES[name] for name in names]


def mirrored(names: list[str]) -> list[int]:
    return Grid.paper(names).mirrored()


MIRRORED = "FP2 AF4 F4 F8 FC6 FC2 C4 T8 CP6 CP2 P4 P8 PO4 O2 OZ PZ FP1 AF3 FZ F3 F7 FC5 FC1 CZ"
MIRRORED = (MIRRORED + " C3 T7 CP5 CP1 P3 P7 PO3 O1").split()


def test_mirrored_channels_are_those_on_the_other_side():
    other = mirrored(DEAP_CHANNELS)
    assert [DEAP_CHANNELS[i].upper() for i in other] == MIRRORED
    assert [other[i] for i in other] == list(range(32))  # twice is back
    # Counterparts are at the same height, as far from the midline.
    for name, counterpart in zip(DEAP_CHANNELS, MIRRORED, strict=True):
        (row, column), (other_row, other_column) = PLACES[name.upper()], PLACES[counterpart]
        assert (row, column) == (other_row, 8 - other_column)


def test_electrodes_in_any_order_and_case_have_their_counterparts():
    assert mirrored(["c3", "Oz", "C4", "FC6", "FC5"]) == [2, 1, 0, 4, 3]
    assert mirrored([]) == []


@pytest.mark.parametrize("names", ["F3 FZ", "F3 F4 O1", "CZ C4"])
def test_without_all_counterparts_there_is_no_mirror_image(names):
    names = names.split()
    assert mirrored(names) == list(range(len(names)))


@pytest.mark.parametrize("name", ["T3", "A1", "-", "", "FP1 "])
def test_an_unknown_name_is_refused_and_the_known_ones_listed(name):
    with pytest.raises(UserError) as error:
        grid_cells(["CZ", name])
    message = one_line(error)
    assert f"Channel {name} is not" in message
    assert all(known in message.split(":")[0].split() for known in PLACES)


@pytest.mark.parametrize("names", [("CZ", "OZ", "CZ"), ("OZ", "cz", "CZ")])
def test_a_name_that_comes_twice_is_refused(names):
    with pytest.raises(UserError, match="CZ comes twice") as error:
        grid_cells(names)
    one_line(error)


# --- other names and montages

SEED = (
    "FP1 FPZ FP2 AF3 AF4 F7 F5 F3 F1 FZ F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCZ FC2 FC4 FC6 FT8 T7 C5 C3 "
    "C1 CZ C2 C4 C6 T8 TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 P7 P5 P3 P1 PZ P2 P4 P6 P8 PO7 PO5 PO3 "
    "POZ PO4 PO6 PO8 CB1 O1 OZ O2 CB2"
).split()
EGI = [f"E{i}" for i in range(1, 129)]
BIOSEMI = [f"{letter}{i}" for letter in "ABCD" for i in range(1, 33)]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        *(("EEG Fp1-Ref", "FP1"), ("EEG T3", "T7"), ("T6-LE", "P8"), ("Fp1.", "FP1")),
        *(("EEG FP2 - A1", "FP2"), ("cz", "CZ"), ("E12", "E12"), (" Oz ", "OZ"), ("C3-M2", "C3")),
        *(("EEG_Pz", "PZ"), ("PO10", "PO10"), ("eeg:f7-AVG", "F7"), ("EEG001", "EEG001")),
    ],
)
def test_names_of_any_convention_are_understood(name, found):
    assert canonical(name) == found
    assert canonical(found) == found


@pytest.mark.parametrize("names", [SEED, EGI, BIOSEMI, EGI[::2], SEED[::3], ["CZ", "AFZ"]])
def test_neighbours_on_the_head_are_neighbours_on_the_grid(names):
    """Against MNE's positions in space: who is near is near on the grid, and who is far is far."""
    montage = find_montage(names)
    grid = grid_of(names, montage)
    rows, columns = np.divmod(np.array(grid.cells), grid.shape[1])
    assert len(set(grid.cells)) == len(names)
    assert rows.max() < grid.shape[0]
    assert grid.shape[1] % 2 == 1
    xyz = np.stack([ch["loc"][:3] for ch in mne_info(names, montage)["chs"]])
    on_head = np.linalg.norm(xyz[:, None] - xyz, axis=-1)
    on_grid = np.hypot(rows[:, None] - rows, columns[:, None] - columns)
    apart = np.triu_indices(len(names), 1)
    if len(names) > 2:
        assert spearmanr(on_head[apart], on_grid[apart]).statistic > 0.85
    nearest = (on_head + 9 * np.eye(len(names))).argmin(1)
    spacing = np.sqrt(np.prod(grid.shape) / len(names))
    assert on_grid[np.arange(len(names)), nearest].max() <= max(3 * spacing, 3)


@pytest.mark.parametrize(("names", "montage"), [(SEED, HEAD), (EGI, "GSN-HydroCel-128")])
def test_a_finer_grid_is_as_symmetric_as_the_head(names, montage):
    assert find_montage(names) == montage
    grid = grid_of(names, montage)
    assert grid.shape[0] * grid.shape[1] >= 2.25 * len(names)
    other = grid.mirrored()
    assert sorted(other) == list(range(len(names)))
    assert other != list(range(len(names)))
    if names is SEED:
        pairs = {("F3", "F4"), ("CB1", "CB2"), ("TP7", "TP8"), ("FCZ", "FCZ")}
        assert pairs <= {(name, names[i]) for name, i in zip(names, other, strict=True)}


@given(st.lists(st.sampled_from(sorted(PLACES)), unique=True, min_size=1))
def test_electrodes_of_the_paper_are_where_the_paper_has_them(names):
    assert grid_of(names, find_montage(names)) == Grid.paper(names)


def test_more_on_the_midline_than_there_are_rows():
    names = "FPZ AFZ AFFZ FZ FFCZ FCZ FCCZ CZ CCPZ CPZ PZ POZ OZ IZ".split()
    assert len(set(grid_of(names, HEAD).cells)) == len(names)


@pytest.mark.parametrize(
    "content",
    [
        {"shape": [8, 9], "cells": [0]},
        {"shape": [8, 9], "cells": [3, 3]},
        {"shape": [8, 9], "cells": [3, 72]},
        {"shape": [8, 9], "cells": [3, -1]},
    ],
)
def test_a_grid_has_a_cell_of_its_own_for_each_electrode(content):
    with pytest.raises(ValueError, match="a grid of 72 cells"):
        Grid.of(content, ["CZ", "OZ"])
    assert Grid.of({"shape": [8, 9], "cells": [3, 4]}, ["CZ", "OZ"]).cells == (3, 4)


def test_a_montage_that_a_source_names_is_taken():
    assert find_montage(["E1", "E9"]) == "GSN-HydroCel-32"
    assert find_montage(["E1", "E9"], "GSN-HydroCel-128") == "GSN-HydroCel-128"
    with pytest.raises(UserError, match="no montage 'mine'"):
        find_montage(["CZ"], "mine")


def test_an_electrode_that_no_montage_has_is_named():
    with pytest.raises(UserError, match="called Q7: give the channels") as error:
        find_montage(["CZ", "FZ", "Q7"])
    one_line(error)
