"""Opening files: regular ones only, no larger than told, and never outside of a given folder."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

from pchmr.config.errors import UserError
from pchmr.door.limits import MIB, TEXT_BYTES

LONGEST_REASON = 300
NONBLOCK = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class FileError(UserError):
    """A file that cannot be read.

    Attributes:
        path: Of the file.
        reason: What is wrong with it, one line without the path.
    """

    def __init__(self, path: Path | str, reason: object) -> None:
        super().__init__(str(path), one_line(reason))
        self.path, self.reason = Path(path), self.args[1]

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def one_line(text: object) -> str:
    """Text without line breaks and control characters, cut where it gets long."""
    if isinstance(text, BaseException):
        text = str(text) or type(text).__name__
    words = " ".join(str(text)[: 4 * LONGEST_REASON].split())[:LONGEST_REASON]
    return "".join(letter if letter.isprintable() else "?" for letter in words)


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turns whatever hostile content makes a parser raise into one `FileError`."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise FileError(path, error.strerror or error) from None
    except Exception as error:  # damaged content may fail in any way
        raise FileError(path, error) from None


@contextmanager
def opened(path: Path, most_bytes: int, sha256: str | None = None) -> Iterator[BufferedIOBase]:
    """A regular file of at most so many bytes; with a hash, only the very file that has it.

    Raises:
        FileError: It is missing, a pipe, device or folder, too large, or not the file that was
            written; so does whatever fails while it is open.
    """
    with refusing(path):
        handle = os.open(path, os.O_RDONLY | NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            about = os.fstat(handle)
            if not stat.S_ISREG(about.st_mode):
                raise FileError(path, "is no regular file")
            if about.st_size > most_bytes:
                raise FileError(path, f"larger than {most_bytes // MIB} MiB")
            if sha256 is not None and hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise FileError(path, "has changed since it was written")
            file.seek(0)
            yield file


def require_file(path: Path, most_bytes: int) -> None:
    """Refuses what is no regular file or too large, for a library that opens it itself."""
    with opened(path, most_bytes):
        pass


def read_bytes(path: Path, most_bytes: int, sha256: str | None = None) -> bytes:
    """The content of a file; see `opened`."""
    with opened(path, most_bytes, sha256) as file:
        content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise FileError(path, f"larger than {most_bytes // MIB} MiB")
        return content


def read_text(path: Path, most_bytes: int = TEXT_BYTES) -> str:
    """The text of a UTF-8 file; see `opened`."""
    with refusing(path):
        return read_bytes(path, most_bytes).decode("utf-8")


def inside(folder: Path, name: object) -> Path:
    """The path of a file that a file of the folder names; links and dots may not lead out of it.

    Raises:
        FileError: The name is no text, or leads elsewhere.
    """
    if not isinstance(name, str) or not name or "\0" in name or not name.isprintable():
        raise FileError(folder, "names a file by what is no name")
    with refusing(folder):
        found = Path(os.path.realpath(folder / name))
        if not found.is_relative_to(os.path.realpath(folder)):
            raise FileError(folder, f"{name} lies outside of the folder")
    return folder / name
