"""Plain values out of foreign pickles: nested dictionaries, lists, text, numbers and arrays.

Data sets come as pickles, many of Python 2. Nothing of theirs is run (`pickles.py`); only the asked
keys are turned into values, within limits on their number, depth and size. What stands for an
object of another class comes out as None.
"""

from pathlib import Path
from typing import Any

import numpy as np

from pchmr.door.files import FileError, read_bytes, refusing
from pchmr.door.limits import ARRAYS_BYTES, MIB, PICKLE_BYTES, PICKLE_OPCODES
from pchmr.door.numpy_pickles import RawArray, load_pickle

DEEPEST = 16


def read_pickled(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """The named entries of a pickled dictionary; entries that it lacks are left out.

    Raises:
        FileError: The pickle names a global that is not allowed, or is damaged or too large.
    """
    found = load_pickle(path, read_bytes(path, PICKLE_BYTES))
    if not isinstance(found, dict):
        raise FileError(path, "holds no dictionary")
    reader = _Plain()
    with refusing(path):
        known = {_text(key): value for key, value in found.items()}
        return {name: reader.value(known[name], 0) for name in names if name in known}


def _text(value: Any) -> Any:
    """Keys of Python 3 pickles that were bytes, as text."""
    return value.decode("latin1") if isinstance(value, bytes) else value


class _Plain:
    """Turns stand-ins into values and counts what that costs."""

    def __init__(self) -> None:
        self._values, self._bytes = 0, 0

    def value(self, raw: Any, depth: int) -> Any:
        """The plain value of a stand-in."""
        self._values += 1
        if depth > DEEPEST or self._values > PICKLE_OPCODES:
            raise ValueError("pickle nested too deeply or in itself")
        if isinstance(raw, dict):
            return {_text(key): self.value(item, depth + 1) for key, item in raw.items()}
        if isinstance(raw, (list, tuple)):
            return [self.value(item, depth + 1) for item in raw]
        if type(raw) is RawArray:
            return self._array(raw)
        if isinstance(raw, bytes):
            return _text(raw)
        return raw if isinstance(raw, (str, int, float, bool)) else None

    def _array(self, raw: RawArray) -> Any:
        state = raw.state
        entries = state[-1] if type(state) is tuple and len(state) > 3 else None
        if type(entries) is list:  # an array of objects is a list of them
            return self.value(entries, 1)
        array = raw.real(is_text=raw.is_text)
        self._bytes += array.nbytes
        if self._bytes > ARRAYS_BYTES:
            raise ValueError(f"arrays of more than {ARRAYS_BYTES // MIB} MiB")
        return array.item() if array.shape == () else np.ascontiguousarray(array)
