"""The one exception that is a user's to mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake the user can mend: the message is one sentence that says what, where and how.

    The command line prints it without a traceback and exits with code 2.
    """


@contextmanager
def as_value_errors() -> Iterator[None]:
    """Raise what a user can mend as a `ValueError`, for those whose contract it is."""
    try:
        yield
    except UserError as error:
        raise ValueError(str(error)) from None
