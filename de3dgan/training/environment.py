"""What a result depends on besides its settings and data: versions, machine, code."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import torch

from de3dgan.base.paths import INSTALLED, ROOT
from de3dgan.training.device import Compute


def peak_rss_mib() -> float:
    """Return the most memory that this process has had, in MiB."""
    unit = 1024**2 if sys.platform == "darwin" else 1024  # macOS counts in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def environment(compute: Compute) -> dict[str, Any]:
    """Return what a result depends on besides the settings and the data.

    Returns
    -------
    dict
        The versions of Python and of packages; the ``platform``; how networks ``compute``, see
        `Compute.description`; the git ``commit`` of the code and whether it was ``modified`` since,
        both None outside of a git checkout; of an installed package, its version, ``de3dgan``.
    """
    status = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # with the build, of which its package need not tell
        **{name: version(name) for name in ("numpy", "scipy", "scikit-learn")},
        "platform": platform.platform(),
        **({"de3dgan": version("de3dgan")} if INSTALLED else {}),
        **compute.description,
        "commit": _git("rev-parse", "HEAD"),
        "modified": None if status is None else bool(status),
    }


def _git(*arguments: str) -> str | None:
    """Return what a git command says of this repository, or None if it is not in git."""
    if INSTALLED:  # which may lie in someone else's
        return None
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout.strip()
