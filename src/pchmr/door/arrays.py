"""NumPy files (.npy, .npz) of plain numbers and text: headers checked before memory is taken.

No object arrays, no records, no pickles; headers are matched, never evaluated. Arrays come out in
the machine's own byte order.
"""

import math
import re
from collections.abc import Iterable
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from numpy import ndarray

from pchmr.door.archives import opened_archive
from pchmr.door.files import opened
from pchmr.door.limits import (
    ARRAY_AXES,
    ARRAY_HEADER_BYTES,
    ARRAYS_BYTES,
    MIB,
    TEXT_ITEM_BYTES,
)

MAGIC = b"\x93NUMPY"
HEADER = re.compile(
    r"\{'descr': '([<>|=]?)([biufUS])(\d{1,9})', 'fortran_order': (True|False), "
    r"'shape': \(([\dL, ]*)\), *\} *\n?"
)
WIDTHS = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8)}
LAST_LETTER, SURROGATES = 0x10FFFF, (0xD800, 0xDFFF)


def read_arrays(
    path: Path,
    names: Iterable[str] | None = None,
    *,
    most_bytes: int = ARRAYS_BYTES,
    sha256: str | None = None,
) -> dict[str, ndarray]:
    """Arrays of an .npz by name; members that are not asked for stay unread, absent ones missing.

    Args:
        path: Of the archive.
        names: Members wanted; all of them without.
        most_bytes: All members together.
        sha256: Hash that the file must have.

    Raises:
        FileError: It is no archive of plain arrays, or a larger one.
    """
    wanted = None if names is None else set(names)
    found = {}
    with opened_archive(path, most_bytes, sha256) as members:
        for member, content in members.items():
            name = member.removesuffix(".npy")
            if wanted is not None and name not in wanted:
                continue
            if name == member:
                raise ValueError(f"member {member} is no array")
            with content.opened() as file:
                found[name] = _read(file, content.num_bytes, name)
    return found


def read_array(path: Path, *, most_bytes: int = ARRAYS_BYTES) -> ndarray:
    """The plain array of an .npy file; `FileError` where it is none."""
    with opened(path, most_bytes) as file:
        size = file.seek(0, 2)
        file.seek(0)
        return _read(file, size, path.name)


def _read(file: BufferedIOBase, num_bytes: int, name: str) -> ndarray:
    """An array whose header agrees with the bytes that follow it."""
    try:
        shape, in_columns, kind, start = read_header(file)
        size = kind.itemsize * math.prod(shape)
        if size != num_bytes - start:
            raise ValueError("header does not agree with the bytes that follow")
        array = np.empty(size, dtype=np.uint8)
        _fill(file, array)
        array = array.view(kind).astype(kind.newbyteorder("="), copy=False)
        check_letters(array)
    except ValueError as error:
        raise ValueError(f"array {name}: {error}") from None
    return array.reshape(shape[::-1]).T if in_columns else array.reshape(shape)


def read_header(file: BufferedIOBase) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether columns come first, type, and the number of bytes before the values."""
    text, start = header_text(file)
    match = HEADER.fullmatch(text)
    if match is None:
        what = "of Python objects" if "|O" in text else "of another kind than plain numbers"
        raise ValueError(f"array {what}")
    order, letter, width, in_columns, axes = match.groups()
    kind = _kind(order, letter, int(width))
    shape = tuple(int(n) for n in axes.replace("L", "").split(",") if n.strip())
    if len(shape) > ARRAY_AXES or math.prod(max(n, 1) for n in shape) > ARRAYS_BYTES:
        raise ValueError(f"array of a shape larger than {ARRAYS_BYTES // MIB} million numbers")
    return shape, in_columns == "True", kind, start


def header_text(file: BufferedIOBase) -> tuple[str, int]:
    """The header of an array file, and the number of bytes up to its end."""
    start = file.read(8)
    if start[:6] != MAGIC or start[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("no array file")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > ARRAY_HEADER_BYTES:
        raise ValueError("header too long")
    raw = file.read(length)
    if len(raw) != length:
        raise ValueError("array is cut off")
    return raw.decode("latin1"), 8 + width + length


def _kind(order: str, letter: str, width: int) -> np.dtype:
    if letter in WIDTHS:
        if width not in WIDTHS[letter]:
            raise ValueError(f"numbers of {width} bytes")
    elif not 1 <= width <= TEXT_ITEM_BYTES:
        raise ValueError(f"text of {width} letters")
    return np.dtype(f"{order}{letter}{width}")


def _fill(file: BufferedIOBase, array: ndarray) -> None:
    """Reads the bytes of an array piece by piece, and nothing may follow."""
    for start in range(0, len(array), MIB):
        piece = file.read(min(MIB, len(array) - start))
        if len(piece) != min(MIB, len(array) - start):
            raise ValueError("array is cut off")
        array[start : start + len(piece)] = np.frombuffer(piece, dtype=np.uint8)


def check_letters(array: ndarray) -> None:
    """Refuses numbers that stand for no letter: taking them as text would fail later."""
    if array.dtype.kind != "U" or not array.size:
        return
    codes = array.view(np.uint32)
    low, high = SURROGATES
    if codes.max() > LAST_LETTER or ((codes >= low) & (codes <= high)).any():
        raise ValueError("text with letters that do not exist")
