"""The error that says what is wrong with a file somebody gave us."""

import tokenize
import zipfile
import zlib

from pchmr.config import UserError

UNREADABLE = (
    OSError, ValueError, TypeError, EOFError, AttributeError, MemoryError, zipfile.BadZipFile,
    zlib.error, SyntaxError, tokenize.TokenError,
)  # fmt: skip
"""What numpy raises on a file that is no archive of plain arrays."""


class InputError(UserError):
    """A file that cannot be used: the message is one line that names it and the cure."""
