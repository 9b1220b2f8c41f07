"""Array archives (.npz) that cannot surprise: no pickles, sizes checked before memory is taken.

Written with fixed timestamps, so equal arrays give equal bytes.
"""

import io
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy import ndarray

from pchmr.config import UserError

LARGEST_MEMBER_BYTES = 1 << 30
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
        BodyFileError: If the file is no archive of plain arrays, or a member is larger than 1 GiB.
    """
    wanted = None if names is None else set(names)
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if info.filename.endswith(".npy") and (wanted is None or name in wanted):
                    arrays[name] = _read_member(archive, info)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise BodyFileError(f"{path}: cannot be read as .npz ({error})") from None
    except (RuntimeError, zlib.error, SyntaxError) as error:
        raise BodyFileError(f"{path}: damaged .npz ({error})") from None
    return arrays


def read_npy(path: Path) -> ndarray:
    """The plain array of a .npy file; `BodyFileError` where it is none."""
    try:
        with path.open("rb") as file:
            return _read_array(file, path.stat().st_size)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise BodyFileError(f"{path}: cannot be read as .npy ({error})") from None


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> ndarray:
    if info.file_size > LARGEST_MEMBER_BYTES:
        raise ValueError(f"member {info.filename} is larger than 1 GiB")
    with archive.open(info) as file:
        return _read_array(file, info.file_size)


def _read_array(file, file_size: int) -> ndarray:
    """An array whose header agrees with the bytes that follow it."""
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"array format {version} is unknown")
    shape, fortran_order, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError("array of Python objects")
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    if size > min(file_size, LARGEST_MEMBER_BYTES):
        raise ValueError("array header promises more than the file holds")
    raw = file.read(size)
    if len(raw) != size:
        raise ValueError("array is cut off")
    array = np.frombuffer(bytearray(raw), dtype=dtype)
    return array.reshape(shape[::-1]).T if fortran_order else array.reshape(shape)
