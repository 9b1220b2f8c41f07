"""The one place that writes: whole or not at all, and as private as the folder it writes into.

A file is written beside its name and renamed, so a reader sees the old file or the new one. In a
folder that only its owner can open, files have mode 0600 and new folders 0700 from the moment they
are made. What a killed process was writing is swept by the next one; that of a living process is
not. Nothing here reads a pickle.
"""

import io
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from pchmr.config import SettingError

FOLDER_MODE, FILE_MODE = 0o700, 0o600
OPEN_FOLDER_MODE, OPEN_FILE_MODE = 0o777, 0o666  # what the user's umask leaves of them
TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")


def is_private(path: Path) -> bool:
    """Whether nobody but the owner may read the file or folder."""
    return not stat.S_IMODE(path.stat().st_mode) & 0o077


def make_folder(folder: Path, *, private: bool | None = None) -> None:
    """Makes a folder, and those above it.

    Args:
        folder: Of which some part may be there.
        private: Whether it has mode 0700; None is as private as the folder that it lies in.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        inherits = private is not False and is_private(path.parent)
        closed = inherits or (private is True and path == folder)
        path.mkdir(mode=FOLDER_MODE if closed else OPEN_FOLDER_MODE, exist_ok=True)


def make_private(folder: Path, wanted: str, *, marks: tuple[str, ...] = ()) -> None:
    """Makes a folder that its owner alone can open, with all that it already holds.

    Args:
        folder: New, empty, private already, or holding one of the `marks`.
        wanted: Option that named it, for the message.
        marks: Names of files that show that this package wrote the folder.

    Raises:
        SettingError: The folder holds something else, or cannot be made private.
    """
    try:
        make_folder(folder, private=True)
        if is_private(folder):
            return
        names = sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
        if names and not set(names) & set(marks):
            raise SettingError(
                f"{wanted} {folder} already holds {names[0]} and others can read it: give a new "
                "or an empty folder, it becomes readable by you alone"
            )
        folder.chmod(FOLDER_MODE)
        for path in folder.rglob("*"):
            if not path.is_symlink():
                path.chmod(FOLDER_MODE if path.is_dir() else FILE_MODE)
    except OSError as error:
        raise SettingError(f"cannot make {wanted} {folder} private: {error.strerror}") from error


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yields a temporary sibling of `path`; on success it takes the path's place, durably.

    On an error the temporary file is removed and the old file, if any, stays.

    Args:
        path: File to write.
        private: Mode 0600 in an open folder, too.

    Raises:
        SettingError: The disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        make_folder(path.parent)
        temporary.unlink(missing_ok=True)
        _create(temporary, private or is_private(path.parent))
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, SafetensorError) as error:
        raise SettingError(cannot_write(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _create(path: Path, private: bool) -> None:
    mode = FILE_MODE if private else OPEN_FILE_MODE
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))


def _sync_folder(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def cannot_write(path: Path, error: Exception) -> str:
    """One line on a file that could not be written, and the cure."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return (
        f"cannot write {path}: {reason or type(error).__name__}; free some space or choose another "
        "--output"
    )


def write_bytes(path: Path, content: bytes, *, private: bool = False) -> None:
    """Writes a whole file or nothing; see `replacing`."""
    with replacing(path, private=private) as temporary:
        temporary.write_bytes(content)


def append_line(path: Path, line: str) -> None:
    """Appends a line, the whole of it or nothing, and syncs it to disk.

    Raises:
        SettingError: The disk is full or the file cannot be written.
    """
    try:
        mode = FILE_MODE if is_private(path.parent) else OPEN_FILE_MODE
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, mode)
        with open(handle, "ab", buffering=0) as file:
            end = os.fstat(handle).st_size
            try:
                _write_all(file, line.encode() + b"\n")
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, end)
                raise
    except OSError as error:
        raise SettingError(cannot_write(path, error)) from error


def _write_all(file: io.FileIO, content: bytes) -> None:
    """A full disk takes a part first and says so at the next call."""
    while content:
        content = content[file.write(content) :]


def sweep(folder: Path) -> None:
    """Removes what killed processes were writing into a folder and into those just below it.

    Only for the one process that works in the folder: a temporary file under its own number is one
    of a killed process that had the same.
    """
    for pattern in (".*.tmp", "*/.*.tmp"):
        for path in folder.glob(pattern):
            sweep_one(path)


def sweep_one(path: Path) -> None:
    """Removes a temporary file or folder whose process is gone; nothing else."""
    found = TEMPORARY.fullmatch(path.name)
    if found and not _lives(int(found[1])):
        _remove(path)


def _lives(process: int) -> bool:
    """Whether another process has this number."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
