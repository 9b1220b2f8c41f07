"""The error that says what is wrong with a file somebody gave us."""

from pchmr.config import UserError


class InputError(UserError):
    """A file that cannot be used: the message is one line that names it and the cure."""
