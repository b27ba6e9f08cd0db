"""Arrays in files, read by memory map without keeping what was read."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path

#: Bytes up to which an array's first map is kept: it is faster, and takes little memory.
_KEPT = 64 * 2**20


def open_array(path: Path) -> np.ndarray:
    """Map the array in a ``.npy`` file into memory; changes to it are not written to the file.

    The file stays open as long as the array exists, so that `reopened` finds it even when another
    file has taken its name.
    """
    array = np.load(path, mmap_mode="c")
    if isinstance(array, np.memmap):
        array.file = open(path, "rb")  # noqa: SIM115 - closed with the array
        weakref.finalize(array, array.file.close)
    return array


def reopened(array: np.ndarray) -> np.ndarray:
    """Return a large array of `open_array` mapped anew, and any other array as it is.

    What is read through a map counts as the process's memory until that map is gone. A map for
    each batch keeps this small, however large the file is.

    Raises
    ------
    UserError
        If the file has become shorter.
    """
    file = getattr(array, "file", None)
    if file is None or array.nbytes <= _KEPT:
        return array
    try:
        return np.memmap(file, array.dtype, "c", array.offset, array.shape)
    except ValueError:
        raise UserError(
            f"{display_path(array.filename)} has become shorter while it is read: make the "
            "features anew with preprocess_de.py."
        ) from None
