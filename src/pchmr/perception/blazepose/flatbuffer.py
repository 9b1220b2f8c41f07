"""Reads FlatBuffers tables: numbers, text and vectors by field number; every offset is bounded.

Only what a TFLite file needs. It builds nothing, copies no vector, and follows no offset out of
the file. Source: the FlatBuffers internals page (offsets, vtables, little-endian scalars).
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from pchmr.config import UserError

MOST_TABLES = 4096


class NetworkFileError(UserError):
    """A network file that cannot be used: the message tells the cause."""


@dataclass(frozen=True)
class Table:
    """A table of a FlatBuffers file.

    Attributes:
        data: The whole file.
        start: Where the table lies in it.
    """

    data: bytes
    start: int

    @classmethod
    def root(cls, data: bytes) -> "Table":
        """The outermost table of a file."""
        return cls(data, _number(data, 0, "I"))

    def number(self, field: int, code: str, default: int = 0) -> int:
        """A scalar; `code` is its letter in `struct`."""
        place = self._place(field)
        return default if place is None else _number(self.data, place, code)

    def numbers(self, field: int, dtype: str) -> ndarray:
        """A vector of scalars, a view of the file; empty where the field is absent."""
        place = self._target(field)
        if place is None:
            return np.zeros(0, dtype)
        count = _number(self.data, place, "I")
        if place + 4 + count * np.dtype(dtype).itemsize > len(self.data):
            raise NetworkFileError("a vector reaches beyond the file's end")
        return np.frombuffer(self.data, np.dtype(dtype).newbyteorder("<"), count, place + 4)

    def table(self, field: int) -> "Table | None":
        """A table; None where the field is absent."""
        place = self._target(field)
        return None if place is None else Table(self.data, place)

    def tables(self, field: int) -> list["Table"]:
        """A vector of tables; empty where the field is absent."""
        offsets = self.numbers(field, "u4")
        if len(offsets) > MOST_TABLES:
            raise NetworkFileError(f"{len(offsets)} tables in a row, at most {MOST_TABLES} are")
        first = (self._target(field) or 0) + 4
        return [Table(self.data, first + 4 * i + int(o)) for i, o in enumerate(offsets)]

    def _target(self, field: int) -> int | None:
        """Where the offset in a field points."""
        place = self._place(field)
        return None if place is None else place + _number(self.data, place, "I")

    def _place(self, field: int) -> int | None:
        """Where a field lies; None where the table leaves it out."""
        index = self.start - _number(self.data, self.start, "i")
        entry = 4 + 2 * field
        if entry + 2 > _number(self.data, index, "H"):
            return None
        offset = _number(self.data, index + entry, "H")
        return self.start + offset if offset else None


def _number(data: bytes, place: int, code: str) -> int:
    if place < 0 or place + struct.calcsize(code) > len(data):
        raise NetworkFileError("an offset points out of the file")
    return struct.unpack_from("<" + code, data, place)[0]
