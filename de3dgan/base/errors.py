"""The one exception that is a user's to mend."""


class UserError(Exception):
    """A mistake the user can mend: the message is one sentence that says what, where and how.

    The command line prints it without a traceback and exits with code 2.
    """
