"""The command ``de3dgan`` of an installed package: the scripts, as ``de3dgan <command>``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from de3dgan.base.cli import command_line, fail
from de3dgan.base.errors import UserError
from de3dgan.base.paths import CODE
from de3dgan.base.programs import COMMANDS, SCRIPTS
from de3dgan.base.recipe import find_scripts, load_script

#: Commands that are modules of the package.
MODULES = {
    "summary": "de3dgan.reporting.summary",
    "fetch": "de3dgan.data.fetch",
    "simulate": "de3dgan.data.synthetic",
}
#: What each command does, in the order in which they are used.
_HELP = {
    "fetch": "download EEGMAT, a data set that may be passed on",
    "simulate": "write simulated EEG in DEAP's file format",
    "preprocess": "stage 0: turn recordings into differential-entropy features",
    "gan": "stage 1: train a generator of EEG (takes --task)",
    "classifier": "stage 2: train a classifier on real EEG (takes --task)",
    "finetune": "stage 3: fine-tune it on real and generated EEG (takes --task)",
    "summary": "what one fold gave, as a table",
    "generate": "generate EEG and write it for other programs",
    "report": "one page of what runs have given",
}


def main() -> None:
    """Run the command that the command line names; ``--help`` lists them."""
    name, *args = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print("usage: de3dgan COMMAND [flags]\n")
        print("\n".join(f"  {command:12}{text}" for command, text in _HELP.items()))
        print(
            "\nde3dgan COMMAND --help documents its flags. Paths are below the working directory."
        )
        return
    sys.argv = [f"de3dgan {name}", *args]
    try:
        module = _program(name, args)
        configs = [getattr(module, kind, None) for kind in ("Config", "Published")]
        command_line(module.main, *filter(None, configs))
    except UserError as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        fail(
            f"de3dgan {name} needs {error.name}, which is not installed: "
            "pip install 'de3dgan[commands]'."
        )


def _program(name: str, args: Sequence[str]) -> ModuleType:
    """Return the module of a command: a script or one of the package, with `main` and `Config`."""
    if name in MODULES:
        return importlib.import_module(MODULES[name])
    if name in COMMANDS:
        return load_script(CODE / COMMANDS[name])
    if name not in SCRIPTS:
        raise UserError(f"There is no command {name!r}: choose one of {', '.join(_HELP)}.")
    scripts = find_scripts(name)
    given = dict(zip(args, args[1:], strict=False))
    given |= dict(arg.split("=", 1) for arg in args if arg.startswith("--task="))
    # Help is the same for all tasks but for defaults.
    task = given.get("--task", next(iter(scripts)) if {"-h", "--help"} & {*args} else None)
    if task not in scripts:
        raise UserError(
            f"{f'There is no task {task!r}' if task else 'It is not said which task'}: give as "
            f"--task one of {', '.join(scripts)}."
        )
    return load_script(scripts[task])


if __name__ == "__main__":
    main()
