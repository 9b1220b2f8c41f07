"""One process an output folder: a lock that ends with the process that holds it, however it ends.

The lock is the system's own on an open file, so a file that a killed process left behind locks
nothing. Where the system has no such locks (Windows) nobody is kept out.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from pchmr.config import SettingError
from pchmr.runs.files import FILE_MODE, cannot_write, make_folder, sweep

if sys.platform != "win32":
    import fcntl

LOCK = ".lock"
Config = TypeVar("Config")
Result = TypeVar("Result")
_held: set[Path] = set()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.clear)


def alone(run: Callable[[Config], Result]) -> Callable[[Config], Result]:
    """A verb that lets no second process into its folder: `labels` or `output` of its config.

    Benchmarks of different names may share one, as each writes a file of its own. Of the processes
    that torchrun starts, the first one holds the folder for all.
    """

    @wraps(run)
    def held(config: Any) -> Result:
        if os.environ.get("RANK", "0") != "0":
            return run(config)
        name = f".{config.name}.lock" if hasattr(config, "name") else LOCK
        with locked(getattr(config, "labels", None) or config.output, name):
            return run(config)

    return held


@contextmanager
def locked(folder: Path, name: str = LOCK) -> Iterator[None]:
    """Holds a folder as long as it is entered; sweeps what killed processes were writing there.

    A process that holds the folder already may enter again.

    Raises:
        SettingError: Another process works in the folder, it is a file, or it cannot be written.
    """
    if folder.is_file():
        raise SettingError(f"{folder} is a file; give a folder")
    path = folder.resolve() / name
    if path in _held or sys.platform == "win32":
        yield
        return
    made = [place for place in (path.parent, *path.parent.parents) if not place.exists()]
    handle = _take(path)
    _held.add(path)
    try:
        sweep(folder)
        yield
    finally:
        _held.discard(path)
        with suppress(OSError):
            path.unlink()
        os.close(handle)
        with suppress(OSError):
            for place in made:
                place.rmdir()  # only where nothing was written


def _take(path: Path) -> int:
    """The open, locked file at `path`; the one that is there still once it is locked."""
    try:
        make_folder(path.parent, private=False)
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(handle, path):
                    return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)
    except (BlockingIOError, PermissionError) as error:
        if isinstance(error, PermissionError) and error.filename is not None:
            raise SettingError(cannot_write(path.parent, error)) from error
        raise SettingError(
            f"another process works in {path.parent}: wait for its end, or give another folder"
        ) from None
    except OSError as error:
        raise SettingError(cannot_write(path.parent, error)) from error


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file still has its name: the last holder removes it."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
