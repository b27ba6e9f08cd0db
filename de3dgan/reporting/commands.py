"""The commands that repeat a study."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from de3dgan.base.paths import CODE, ROOT, display_path
from de3dgan.base.programs import COMMANDS, SCRIPTS, program
from de3dgan.base.recipe import Recipe, find_scripts, flag_words, load_recipe
from de3dgan.reporting.results import STAGES
from de3dgan.reporting.study import Study

#: Characters of a line that fits on paper.
_WIDTH = 80


def study_commands(study: Study, runs_dir: Path) -> str:
    """Return the commands that repeat a study, one block per pair of seeds, and its report."""
    stores = {fold.configs["classifier"]["store_hash"][:16] for fold in study.every_fold()}
    lines = [
        f"# features: hash {', '.join(stores)}; where they are not in the script's default folder,",
        "# add --data-dir to all but the last command",
    ]
    for folds in study.folds.values():
        numbers = dict.fromkeys(str(fold.results["classifier"]["fold"]) for fold in folds)
        people = {fold.results["classifier"]["person"] for fold in folds}
        passed_over = {"fold", "person"} if len(people) > 1 else {"fold"}
        runs = folds[0].dir.parents[2 if people == {None} else 3]
        lines.append(f"for fold in {' '.join(numbers)}; do")
        for stage in STAGES:
            config = next((fold.configs[stage] for fold in folds if stage in fold.configs), None)
            if config is not None:
                settings = {k: v for k, v in config["settings"].items() if k not in passed_over}
                script, recipe = _script(config["stage"], study.task, settings["method"])
                flags = flag_words(settings, recipe)
                place = _flag_of_folder(runs)
                lines += wrapped([f"  {script} --fold $fold", place, *flags])
        lines.append("done")
    report = program(CODE / COMMANDS["report"], ROOT)
    lines.append(f"{report} {_flag_of_folder(runs_dir)}")
    return "\n".join(lines)


def _script(stage: str, task: str, method: str) -> tuple[str, type[Recipe] | None]:
    """Return a stage's script for a task, as a user types it, and its recipe for a method."""
    path = find_scripts(stage).get(task)
    if path is None:
        return program(Path(f"{SCRIPTS[stage]}_<your task>.py")), None
    return program(path, ROOT), load_recipe(path, method)


def _flag_of_folder(runs_dir: Path) -> str:
    return f"--runs-dir {shlex.quote(str(display_path(runs_dir)))}"


def wrapped(words: Sequence[str]) -> list[str]:
    """Return a command, given as its script and each flag with its values, in short lines."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) < _WIDTH:
            lines[-1] += f" {word}"
        else:
            lines[-1] += " \\"
            lines.append(f"    {word}")
    return lines
