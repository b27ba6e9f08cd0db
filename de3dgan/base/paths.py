"""Where the repository's folders and scripts are, whatever folder one is started from."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Environment variable of the folder that a user is in, where that is not the working directory: a
#: study runs its stages elsewhere.
USERS_FOLDER = "DE3DGAN_USERS_FOLDER"
#: Folder of the settings of BIDS data sets that come with the repository.
SHIPPED = ROOT / "eeg_dataset" / "settings"


def from_root(path: str | Path) -> Path:
    """Return `path`, hung off the repository root when it is a relative default.

    A relative path that exists below the working directory is the user's and is kept.
    """
    path = Path(path).expanduser()
    return path if path.is_absolute() or path.exists() else ROOT / path


def display_path(path: str | Path) -> str:
    """Return `path` as a user would type it: relative to the folder that the user is in."""
    path = Path(os.path.abspath(path))
    try:
        return str(path.relative_to(os.environ.get(USERS_FOLDER) or Path.cwd()))
    except ValueError:
        return str(path)
