"""The command line that all scripts share: flags from a dataclass, and errors in one sentence."""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, TypeVar

from de3dgan.errors import UserError

Config = TypeVar("Config")


def command_line(main: Callable[[Config], None], config_class: type[Config]) -> None:
    """Parse the command line into `config_class` and run `main` on it.

    Exits with 2 and one sentence on a `UserError` or a file that cannot be read or written, and
    with 130 or 143 on Ctrl-C or SIGTERM.

    Parameters
    ----------
    main : callable
        The script's recipe, called with the configuration.
    config_class : dataclass
        Each field is a flag; the comment beside it is the flag's help.
    """
    import tyro

    signal.signal(signal.SIGTERM, _terminate)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            config = tyro.cli(config_class, description=inspect.getdoc(sys.modules["__main__"]))
    except SystemExit as exit_:
        if exit_.code == 2:
            _fail(_sentence(complaint.getvalue()))
        raise
    try:
        main(config)
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        _fail(f"Cannot use {error.filename or 'a file'}: {os.strerror(error.errno)}.")
    except KeyboardInterrupt as interrupt:
        signal_number = interrupt.args[0] if interrupt.args else signal.SIGINT
        print(
            "\nStopped. Files are as they were after the last finished step; the same command "
            "goes on from there.",
            file=sys.stderr,
        )
        sys.exit(128 + signal_number)


def _terminate(signal_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(signal_number)


def _sentence(box: str) -> str:
    """Return what tyro complains about, the first part of the box that it draws, as a sentence."""
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    first = itertools.takewhile(lambda line: not line.startswith(("─", "╰")), lines)
    return f"{' '.join(first).rstrip('.')}; see --help."


def _fail(message: str) -> NoReturn:
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(2)
