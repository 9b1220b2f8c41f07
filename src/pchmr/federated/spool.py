"""Rows of float32 values on disk, for vectors that must wait and are too large for memory.

The file has no name: nobody else can open it, and it is gone with the process, however that ends.
Its blocks are written again in every round. Values are read through a buffer and not mapped, since
mapped pages would count as memory of the process.
"""

import tempfile
import weakref
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Float

Values = Float[np.ndarray, " size"]
BYTES, MOST = 4, 1 << 24  # of a value; values that one call moves


class Spool:
    """Rows of equal width.

    Args:
        folder: On whose disk they lie; None for the system's.
        width: Values in a row.
    """

    def __init__(self, folder: Path | None, width: int) -> None:
        self._folder, self._width = folder, width
        self._file: IO[bytes] | None = None

    def write(self, row: int, start: int, values: Values) -> None:
        """Sets values of a row, from place `start` on."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        self._file.seek(BYTES * (row * self._width + start))
        for place in range(0, len(values), MOST):
            piece = np.ascontiguousarray(values[place : place + MOST]).data.cast("B")
            while piece:
                piece = piece[self._file.write(piece) :]

    def read(self, row: int, start: int, out: Values) -> None:
        """Fills `out` with values of a row, from place `start` on; they must have been written."""
        assert self._file is not None
        self._file.seek(BYTES * (row * self._width + start))
        rest = out.data.cast("B")
        while rest:
            count = self._file.readinto(rest)  # pyright: ignore[reportAttributeAccessIssue]
            assert count, "a row was not written"
            rest = rest[count:]
