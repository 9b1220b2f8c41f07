"""Files of body models: read through the door, written so that equal arrays give equal bytes."""

import io
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy import ndarray
from scipy.sparse import csr_matrix

from pchmr.config import UserError
from pchmr.door import FileError
from pchmr.door.archives import opened_archive
from pchmr.door.arrays import read_array, read_arrays
from pchmr.door.limits import ARRAYS_BYTES
from pchmr.door.numpy_pickles import matrices_of, read_pickled_arrays

FIXED_DATE = (1980, 1, 1, 0, 0, 0)


class BodyFileError(UserError):
    """A body file that cannot be used: the message names the file, the cause and the cure."""


def write_npz(path: Path, arrays: Mapping[str, ndarray]) -> None:
    """Writes arrays sorted by name, atomically; equal arrays give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            array = np.ascontiguousarray(arrays[name])
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=FIXED_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, member.getvalue(), compresslevel=9)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(buffer.getvalue())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_npz(path: Path, names: Iterable[str] | None = None) -> dict[str, ndarray]:
    """Arrays of an archive by name; members that are not asked for stay unread.

    Raises:
        BodyFileError: If the file is no archive of plain arrays, or too large.
    """
    with _as_body_file("cannot be read as .npz"):
        return read_arrays(path, names)


def read_npy(path: Path) -> ndarray:
    """The plain array of a .npy file; `BodyFileError` where it is none."""
    with _as_body_file("cannot be read as .npy"):
        return read_array(path)


def read_pickle(path: Path, names: tuple[str, ...]) -> dict[str, ndarray]:
    """The named arrays of a pickled dictionary; `BodyFileError` where it is none."""
    with _as_body_file("cannot be read as .pkl"):
        return read_pickled_arrays(path, names)


def read_matrices(path: Path, names: tuple[str, ...]) -> list[list[csr_matrix]]:
    """Lists of sparse matrices from an archive of object arrays, in the order of the names."""
    what = "cannot be read as an archive of sparse matrices"
    with _as_body_file(what), opened_archive(path, ARRAYS_BYTES) as members:
        missing = [name for name in names if f"{name}.npy" not in members]
        if missing:
            raise ValueError(f"lacks {', '.join(missing)}")
        return [matrices_of(path, members[f"{name}.npy"].read()) for name in names]


@contextmanager
def _as_body_file(what: str) -> Iterator[None]:
    try:
        yield
    except FileError as error:
        raise BodyFileError(f"{error.path}: {what} ({error.reason}); get the file again") from None
