"""The scripts, and what a user types to start one: in a checkout, and where they are installed."""

from __future__ import annotations

import shlex
from pathlib import Path

from de3dgan.base.paths import CODE, INSTALLED, display_path

#: Name of each stage's script, before the task's suffix.
SCRIPTS = {
    "gan": "3D-UNet_GAN",
    "classifier": "SA-ST_Net_Classifier",
    "finetune": "Finetune_Classifier",
}
#: The other scripts, by the command that an installed package has for each.
COMMANDS = {"preprocess": "preprocess_de.py", "generate": "generate.py", "report": "report.py"}


def program(script: Path, folder: str | Path | None = None) -> str:
    """Return what a user types to start a script: of an installed package, its command.

    Parameters
    ----------
    script : Path
        One of `SCRIPTS`, for a task, or of `COMMANDS`.
    folder : path, optional
        Where the user is, see `de3dgan.base.paths.display_path`.
    """
    if not INSTALLED or CODE not in script.parents:
        return f"python {shlex.quote(display_path(script, folder))}"
    for stage, name in SCRIPTS.items():
        if script.stem.startswith(f"{name}_"):
            return f"de3dgan {stage} --task {script.stem.removeprefix(f'{name}_').lower()}"
    return f"de3dgan {next(name for name, file in COMMANDS.items() if file == script.name)}"
