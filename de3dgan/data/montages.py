"""Where electrodes are on the head, by MNE's standard montages, and the grid that follows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.eeg.montage import CELLS, Grid, canonical, grid_from_positions
from de3dgan.eeg.sampling import SFREQ

if TYPE_CHECKING:
    import mne

#: The 10-05 system's electrodes where they are on a head, and on a sphere: left mirrors right.
HEAD, _SPHERE = "colin27_1005", "spherical_1005"
#: Electrodes that MNE's 10-05 system does not know, and those of it that are in their place: the
#: cerebellar ones of NeuroScan's caps, beside O1 and O2 (SEED has them).
_IN_PLACE_OF = {"CB1": "PO9", "CB2": "PO10"}
#: Metres from an electrode's mirrored place to its counterpart, at most; heads are not symmetric.
_NEAR = 0.015


def find_montage(ch_names: Sequence[str], wanted: str | None = None) -> str:
    """Return the name of the MNE standard montage that knows all electrodes.

    Parameters
    ----------
    ch_names : sequence of str
        As `canonical` gives them.
    wanted : str, optional
        The montage that a source names; by default, the 10-05 system, or else the montage with the
        fewest electrodes that knows all of them.

    Raises
    ------
    UserError
        If none does, naming the electrodes that the nearest one does not know.
    """
    if wanted is None and set(ch_names) <= set(CELLS):
        return HEAD
    import mne  # it takes a second, and the paper's electrodes do without

    builtin = mne.channels.get_builtin_montages()
    if wanted is not None and wanted not in builtin:
        raise UserError(f"MNE has no montage {wanted!r}: choose one of {', '.join(builtin)}.")
    unknown = {}
    for kind in [wanted] if wanted else [HEAD, *builtin]:
        known = _positions(kind)
        unknown[kind] = [name for name in ch_names if name not in known]
        if kind == HEAD and not unknown[kind]:
            return HEAD
    fitting = [kind for kind, names in unknown.items() if not names]
    if fitting:
        return min(fitting, key=lambda kind: len(_positions(kind)))
    nearest = min(unknown, key=lambda kind: len(unknown[kind]))
    raise UserError(
        f"No electrode of MNE's {nearest} montage is called {', '.join(unknown[nearest])}: give "
        "the channels that are EEG with --channels, or rename them."
    )


def grid_of(ch_names: Sequence[str], montage: str) -> Grid:
    """Return the grid for electrodes: the paper's if it has a place for all, else a finer one.

    Parameters
    ----------
    ch_names : sequence of str, length n_chans
        As `canonical` gives them.
    montage : str
        See `find_montage`.

    Notes
    -----
    Places are those seen from above, in azimuthal equidistant projection around the vertex.
    """
    if set(ch_names) <= set(CELLS):
        return Grid.paper(ch_names)
    on_sphere = _positions(_SPHERE)
    known = on_sphere if set(ch_names) <= set(on_sphere) else _positions(montage)
    xyz = np.array([known[name] for name in ch_names])
    every = np.array(list(known.values()))
    # Around the centre of the cap: left to right in the middle, and so far below its top as it is
    # wide.
    centre = np.array([0, every[:, 1].mean(), every[:, 2].max() - np.ptp(every[:, 0]) / 2])
    x, y, z = (xyz - centre).T
    across = np.hypot(x, y)
    angle = np.arctan2(across, z)
    places = np.stack([x, y], axis=1) * (angle / np.maximum(across, 1e-9))[:, None]
    return grid_from_positions(places, _pairs(xyz))


def mne_info(ch_names: Sequence[str], montage: str = HEAD) -> mne.Info:
    """Return MNE's `Info` of EEG channels at 128 Hz: its spelling of names (Fp1, Cz), positions."""
    import mne

    positions = mne.channels.make_standard_montage(montage)
    # Of names that mean the same (T3 and T7), that which is canonical comes last, and stays.
    spelling = {canonical(name): name for name in sorted(positions.ch_names, key=_is_canonical)}
    names = [canonical(name) for name in ch_names]
    theirs = [spelling[_IN_PLACE_OF.get(name, name)] for name in names]
    info = mne.create_info(theirs, SFREQ, "eeg").set_montage(positions)
    mne.rename_channels(
        info,
        {other: name for other, name in zip(theirs, names, strict=True) if name in _IN_PLACE_OF},
    )
    return info


@cache
def _positions(montage: str) -> dict[str, np.ndarray]:
    """Return the place of each electrode of a montage, in metres, by its canonical name."""
    import mne

    found = mne.channels.make_standard_montage(montage).get_positions()["ch_pos"]
    positions = {canonical(name): found[name] for name in sorted(found, key=_is_canonical)}
    for name, other in _IN_PLACE_OF.items():
        if other in positions:
            positions.setdefault(name, positions[other])
    return positions


def _is_canonical(name: str) -> bool:
    return canonical(name) == name.upper()


def _pairs(xyz: np.ndarray) -> list[int] | None:
    """Return the index of each electrode's counterpart on the other side; None if one has none."""
    distances = np.linalg.norm(xyz[:, None] * [-1, 1, 1] - xyz[None], axis=-1)
    nearest = distances.argmin(1)
    mutual = nearest[nearest] == np.arange(len(xyz))
    if mutual.all() and distances.min(1).max() < _NEAR:
        return nearest.tolist()
    return None
