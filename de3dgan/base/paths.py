"""Where folders and scripts are, in a checkout of the repository and where it is installed."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
#: Whether this is an installed package, which has the scripts in it, and not a checkout.
INSTALLED = (_PACKAGE / "scripts").is_dir()
#: Folder of the scripts, and of what comes with them.
CODE = _PACKAGE / "scripts" if INSTALLED else _PACKAGE.parent
#: What relative default paths hang off: the repository root of a checkout; where the package is
#: installed, the working directory.
ROOT = Path() if INSTALLED else CODE
#: Environment variable of the folder that a user is in, where that is not the working directory: a
#: study runs its stages elsewhere.
USERS_FOLDER = "DE3DGAN_USERS_FOLDER"
#: Folder of the settings of BIDS data sets that come with the repository.
SHIPPED = CODE / "eeg_dataset" / "settings"


def from_root(path: str | Path) -> Path:
    """Return `path`, hung off `ROOT` when it is a relative default.

    A relative path that exists below the working directory is the user's and is kept.
    """
    path = Path(path).expanduser()
    return path if path.is_absolute() or path.exists() else ROOT / path


def display_path(path: str | Path, folder: str | Path | None = None) -> str:
    """Return `path` as a user would type it: relative to the folder that the user is in.

    Parameters
    ----------
    path : path
        Of a file or folder.
    folder : path, optional
        That folder; by default, see `USERS_FOLDER`.
    """
    folder = folder or os.environ.get(USERS_FOLDER) or Path.cwd()
    path = Path(os.path.abspath(path))
    try:
        return str(path.relative_to(os.path.abspath(folder)))
    except ValueError:
        return str(path)
