"""The grid, cell by cell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from de3dgan.base.errors import UserError
from de3dgan.eeg.montage import DEAP_CHANNELS, GRID, GRID_SHAPE, REGIONS, grid_cells, mirrored
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
    assert sorted(name for names in REGIONS.values() for name in names) == sorted(PLACES)


@given(st.lists(st.sampled_from(sorted(PLACES)), unique=True), st.booleans())
def test_channels_in_any_order_and_case_are_found(names, lower):
    asked = [name.lower() if lower else name for name in names]
    assert [divmod(cell, 9) for cell in grid_cells(asked)] == [PLACES[name] for name in names]


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
