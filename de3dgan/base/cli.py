"""The command line that all scripts share: flags from a dataclass, and errors in one sentence."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import io
import itertools
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from de3dgan.base.errors import UserError
from de3dgan.base.paths import ROOT
from de3dgan.base.signals import SIGNALS, raise_interrupts

Config = TypeVar("Config")

#: Environment variable that names a file for the sentence of an error, as a study asks for it.
REASON_FILE = "DE3DGAN_REASON_FILE"
#: Seconds that the first of several processes has to say what is the matter.
_PATIENCE = 10


def command_line(main: Callable[[Config], None], *config_classes: type[Config]) -> None:
    """Parse the command line into one of `config_classes` and run `main` on it.

    Exits with 2 and one sentence on a `UserError`, a file that cannot be read or written, or too
    little memory, and with 130 or 143 on Ctrl-C or SIGTERM.

    Parameters
    ----------
    main : callable
        The script's recipe, called with the configuration.
    *config_classes : dataclass
        Each field is a flag; the comment beside it is the flag's help. Of several, ``--method``
        says whose values are the defaults: those of the first, or of the one of that method.
    """
    raise_interrupts()
    warnings.showwarning = _warn
    try:
        description = inspect.getdoc(inspect.getmodule(main))
        config = _with_defaults_at_root(parse(config_classes, sys.argv[1:], description))
        _run_each(main, config.each() if hasattr(config, "each") else [config])
    except UserError as error:
        fail(str(error))
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        fail(f"Cannot use {os.fsdecode(error.filename or 'a file')}: {os.strerror(error.errno)}.")
    except (MemoryError, RuntimeError) as error:
        # PyTorch says it in words, and in other ones for a GPU.
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        fail(
            "The memory of this machine is too small for it, or taken: close other programs and "
            "run the same command again, or begin anew with a smaller --batch-size (or --jobs)."
        )
    except KeyboardInterrupt as interrupt:
        signal_number = interrupt.args[0] if interrupt.args else signal.SIGINT
        _leave_it_to_the_first_process()
        print(
            "\nStopped. Files are as they were after the last finished step; the same command "
            "goes on from there.",
            file=sys.stderr,
        )
        sys.exit(128 + signal_number)


def _run_each(main: Callable[[Config], None], configs: Sequence[Config]) -> None:
    """Run `main` on each of several configurations, and say at the end which were refused."""
    refused = []
    for config in configs:
        try:
            main(config)
        except UserError as error:
            if len(configs) == 1:
                raise
            refused.append(str(error))
            print(f"Left out: {error}", file=sys.stderr)
    if refused:
        raise UserError(
            f"{len(refused)} of {len(configs)} were left out, the first since: {refused[0]}"
        )


def parse(
    config_classes: Sequence[type[Config]], args: Sequence[str], description: str | None
) -> Config:
    """Return the configuration that a command line asks for.

    Parameters
    ----------
    config_classes : sequence of dataclass
        See `command_line`.
    args : sequence of str
        The flags.
    description : str
        The script's, for ``--help``.

    Raises
    ------
    UserError
        If a flag, or the value of one, is wrong.
    """
    import tyro

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--method", nargs="?")
    method = parser.parse_known_args(args)[0].method
    classes = {getattr(c, "method", None): c for c in config_classes}
    config_class = classes.get(method, config_classes[0])
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(config_class, args=args, description=description)
    except SystemExit as stop:
        if stop.code == 2:
            raise UserError(_sentence(complaint.getvalue())) from None
        raise


def _with_defaults_at_root(config: Config) -> Config:
    """Hang default paths off `ROOT`, whatever lies in the working directory."""
    changed = {
        field.name: ROOT / field.default
        for field in dataclasses.fields(config)
        if isinstance(field.default, Path) and getattr(config, field.name) == field.default
    }
    return dataclasses.replace(config, **changed)


def _sentence(box: str) -> str:
    """Return what tyro complains about, the first part of the box that it draws, as a sentence."""
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    first = itertools.takewhile(lambda line: not line.startswith(("─", "╰")), lines)
    return f"{' '.join(first).rstrip('.')}; see --help."


def _leave_it_to_the_first_process() -> None:
    """Of processes that torchrun has started, give the first one time to say what is the matter.

    They mostly meet the same, and torchrun ends the others as soon as one has ended.
    """
    if os.environ.get("RANK", "0") != "0":
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        time.sleep(_PATIENCE)


def _warn(message: Warning | str, *_: object) -> None:
    """Show a warning as a user can read it, without the line of code that it comes from."""
    print(f"Warning: {message}", file=sys.stderr)


def fail(message: str) -> NoReturn:
    """End the program with 2 and a user's mistake, one sentence."""
    _leave_it_to_the_first_process()
    print(f"Error: {message}", file=sys.stderr)
    if REASON_FILE in os.environ:
        with contextlib.suppress(OSError):  # the disk may be what is wrong
            Path(os.environ[REASON_FILE]).write_text(message, encoding="utf-8")
    sys.exit(2)
