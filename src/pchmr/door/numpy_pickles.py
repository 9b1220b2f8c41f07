"""Arrays out of foreign pickles: body files as licensed ones come, and object arrays of matrices.

They hold NumPy arrays, SciPy matrices and chumpy objects. Each allowed global stands for a small
inert object of this module that only keeps what it was given (`pickles.py`); arrays are made
afterwards, for the asked keys only, with sizes and indices checked first.
"""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from scipy.sparse import csr_matrix

from pchmr.door.arrays import check_letters, header_text
from pchmr.door.files import FileError, read_bytes, refusing
from pchmr.door.limits import (
    ARRAYS_BYTES,
    CHAIN_DEPTH,
    DENSE_BYTES,
    MIB,
    PICKLE_BYTES,
    TEXT_ITEM_BYTES,
)
from pchmr.door.pickles import Bag, Call, Machine, PickleError, PlainDict

PLAIN_KINDS, TEXT_KINDS = "fiub", ("S", "U")
NUMPY_CORES = ("numpy.core.", "numpy._core.")
LONGEST_SIDE = 2**31 - 1


class RawType(Bag):
    """Stands for `numpy.dtype`."""

    spec: Any

    def __new__(cls, spec: Any = None, *_: Any) -> Any:
        """Keeps the type string; nothing is parsed yet."""
        found = object.__new__(cls)
        found.spec = spec
        return found

    def real(self, *, is_text: bool = False) -> np.dtype:
        """The NumPy type: plain numbers up to eight bytes, or short text where asked for."""
        if type(self.spec) is not str or len(self.spec) > 4:
            raise ValueError("array of an unknown type")
        order = self.state[1] if type(self.state) is tuple and len(self.state) > 1 else "="
        kind = np.dtype(self.spec)
        short = kind.kind in TEXT_KINDS and 0 < kind.itemsize <= TEXT_ITEM_BYTES
        plain = not kind.hasobject and kind.kind in PLAIN_KINDS and kind.itemsize <= 8
        if not (short if is_text else plain):
            raise ValueError(f"array of type {self.spec}: only plain numbers are read")
        return kind.newbyteorder(order) if order in ("<", ">") else kind


class RawArray(Bag):
    """Stands for `numpy.ndarray`: shape, type and bytes as the pickle gave them."""

    @property
    def is_text(self) -> bool:
        """Whether its type is of text."""
        kind = self.state[-3] if type(self.state) is tuple and len(self.state) > 3 else None
        spec = kind.spec if isinstance(kind, RawType) else None
        return type(spec) is str and spec.lstrip("<>|=")[:1] in TEXT_KINDS

    def real(self, *, is_text: bool = False) -> ndarray:
        """The array, once its bytes agree with its shape; of text only where that is asked for."""
        if type(self.state) is not tuple or len(self.state) < 4:
            raise ValueError("array without content")
        shape, kind, in_columns, raw = self.state[-4:]
        if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("array of unknown shape")
        if not isinstance(kind, RawType):
            raise ValueError("array of an unknown type")
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        dtype = kind.real(is_text=is_text)
        size = dtype.itemsize * math.prod(shape)
        if not isinstance(data, (bytes, bytearray)) or len(data) != size:
            raise ValueError("array whose bytes do not fit its shape")
        if math.prod(max(n, 1) for n in shape) > ARRAYS_BYTES:
            raise ValueError("array of a shape that is too large")
        flat = np.frombuffer(bytes(data), dtype=dtype).astype(dtype.newbyteorder("="))
        check_letters(flat)
        return flat.reshape(shape[::-1]).T if in_columns else flat.reshape(shape)


class ObjectArray(Bag):
    """Marks `numpy.ndarray` itself, which a pickle may name but never call."""

    def __new__(cls, *_: Any) -> Any:
        """Refuses: `numpy.ndarray((n,))` would take memory for n entries."""
        raise PickleError("direct construction of numpy.ndarray")


class Matrix(Bag):
    """Stands for a SciPy sparse matrix."""

    by_column = False

    def real(self) -> csr_matrix:
        """The matrix, once its indices agree with its shape.

        They are compared, never added or subtracted, so none can wrap around.
        """
        rows, columns = self._shape()
        data, indices, starts = (as_array(self.part(n)) for n in ("data", "indices", "indptr"))
        major, minor = (columns, rows) if self.by_column else (rows, columns)
        whole = all(a.ndim == 1 and a.dtype.kind in "iu" for a in (indices, starts))
        if not whole or data.ndim != 1 or len(starts) != major + 1:
            raise ValueError("sparse matrix whose parts contradict each other")
        fits = int(starts[0]) == 0 and int(starts[-1]) == len(data) == len(indices)
        if not fits or not (starts[1:] >= starts[:-1]).all():
            raise ValueError("sparse matrix whose parts contradict each other")
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < minor:
            raise ValueError("sparse matrix with an index outside of its shape")
        outer = np.repeat(np.arange(major), np.diff(starts.astype(np.int64)))
        pair = (indices.astype(np.int64), outer)
        values = data.astype(np.float64)
        return csr_matrix((values, pair if self.by_column else pair[::-1]), shape=(rows, columns))

    def _shape(self) -> tuple[int, int]:
        shape = self.part("_shape") or self.part("shape")
        if type(shape) is not tuple or len(shape) != 2:
            raise ValueError("sparse matrix of unknown shape")
        rows, columns = (_whole(n) for n in shape)
        if not (0 < rows <= LONGEST_SIDE and 0 < columns <= LONGEST_SIDE):
            raise ValueError("sparse matrix of unknown shape")
        return rows, columns


def _whole(value: Any) -> int:
    """An integer, which old pickles give as an array without axes."""
    if isinstance(value, RawArray):
        array = value.real()
        if array.shape == () and array.dtype.kind in "iu":
            return int(array)
    if type(value) is not int:
        raise ValueError("sparse matrix of unknown shape")
    return value


class ColumnMatrix(Matrix):
    """Stands for `csc_matrix`."""

    by_column = True


class Finder:
    """What the globals of such a pickle stand for."""

    def __init__(self, num_bytes: int) -> None:
        """Takes the size of the file, which all text in it together cannot exceed."""
        self._bytes_left = num_bytes

    def __call__(self, module: str, name: str) -> Any:
        """The stand-in for an allowed global; the error names a refused one."""
        found = self._plain(module, name)
        if found is None and module.startswith(NUMPY_CORES):
            found = NUMPY_FUNCTIONS.get((module.split(".", 2)[2], name))
        if found is None and module.split(".")[0] == "chumpy":
            found = Bag
        if found is None and module.startswith("scipy.sparse"):
            found = {"csc_matrix": ColumnMatrix, "csr_matrix": Matrix}.get(name)
        if found is None:
            raise PickleError.of_global(f"{module}.{name}")
        return found

    def _plain(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy", "ndarray"): ObjectArray,
            ("numpy", "dtype"): RawType,
            ("_codecs", "encode"): Call(self._encode),
            ("copyreg", "_reconstructor"): Call(_bare),
            ("builtins", "object"): Bag,
            ("builtins", "bytes"): Call(_no_bytes),
            ("builtins", "set"): Bag,
            ("collections", "OrderedDict"): PlainDict,
        }
        module = {"copy_reg": "copyreg", "__builtin__": "builtins"}.get(module, module)
        return allowed.get((module, name))

    def _encode(self, text: Any, encoding: Any = None) -> bytes:
        """Bytes that protocol 2 wrote as text; together no longer than the file."""
        if type(text) is not str or encoding not in ("latin1", "latin-1"):
            raise PickleError("_codecs.encode of anything but latin1 text")
        self._bytes_left -= len(text)
        if self._bytes_left < 0:
            raise PickleError("more encoded text than the file holds")
        return text.encode("latin1")


def read_pickled_arrays(path: Path, names: tuple[str, ...]) -> dict[str, ndarray]:
    """The named arrays of a pickled dictionary, dense; entries that it lacks are left out.

    Raises:
        FileError: If the pickle names a global that is not allowed, or is damaged or too large.
    """
    found = load_pickle(path, read_bytes(path, PICKLE_BYTES))
    if not isinstance(found, dict):
        raise FileError(path, "holds no dictionary of arrays")
    arrays, total = {}, 0
    for name in names:
        if name in found:
            try:
                arrays[name] = as_array(found[name])
            except Exception as error:  # hostile content may fail in any way
                raise FileError(path, f"{name}: {error}") from None
            total += arrays[name].nbytes
            if total > ARRAYS_BYTES:
                raise FileError(path, f"arrays of more than {ARRAYS_BYTES // MIB} MiB")
    return arrays


def matrices_of(path: Path, data: bytes) -> list[csr_matrix]:
    """The sparse matrices of an object array in .npy form (`mesh_downsampling.npz`)."""
    stream = io.BytesIO(data)
    with refusing(path):
        header_text(stream)
    found = load_pickle(path, data[stream.tell() :])
    state = found.state if isinstance(found, RawArray) else None
    entries = state[-1] if type(state) is tuple and state else None
    if type(entries) is not list or not all(isinstance(entry, Matrix) for entry in entries):
        raise FileError(path, "holds no list of sparse matrices")
    with refusing(path):
        return [entry.real() for entry in entries]


def as_array(value: Any) -> ndarray:
    """The dense array of an inert object.

    chumpy: `x` is a plain leaf, `a` with `idxs` a selection, `a` with `newshape` a reshape.
    """
    steps = []
    for _ in range(CHAIN_DEPTH):
        if isinstance(value, Matrix) or type(value) is RawArray:
            break
        if type(value) is not Bag:
            raise ValueError(f"expected an array, found {type(value).__name__}")
        steps.append(value)
        leaf = value.part("x")
        value = value.part("a") if leaf is None else leaf
    else:
        raise ValueError("array nested too deeply")
    array = _dense(value) if isinstance(value, Matrix) else value.real()
    for bag in reversed(steps):
        array = _apply(bag, array)
    return array


def _apply(bag: Bag, array: ndarray) -> ndarray:
    chosen = bag.part("idxs")
    if chosen is not None:
        array = array.ravel()[as_array(chosen).astype(np.int64)]
    for name in ("preferred_shape", "newshape"):
        shape = bag.part(name)
        if type(shape) is tuple:
            array = array.reshape(shape)
    return array


def _dense(matrix: Matrix) -> ndarray:
    sparse = matrix.real()
    rows, columns = sparse.indptr.size - 1, int(sparse.get_shape()[1])
    if 8 * rows * columns > DENSE_BYTES:
        raise ValueError(f"sparse matrix of {rows} x {columns} is too large")
    return sparse.toarray()


def load_pickle(path: Path, data: bytes) -> Any:
    """The value of a pickle, in stand-ins; `FileError` where it asks for what is not allowed."""
    try:
        return Machine(Finder(len(data))).run(io.BytesIO(data))
    except Exception as error:  # hostile content may fail in any way
        raise FileError(path, f"pickle refused: {error}") from None


def _empty_array(kind: Any, shape: Any, *_: Any) -> RawArray:
    """Stands for `_reconstruct`: an array without entries, filled by its state later."""
    if kind is not ObjectArray or type(shape) is not tuple or shape != (0,):
        raise PickleError("_reconstruct of anything but an empty numpy.ndarray")
    return RawArray()


def _array_of_buffer(buffer: Any, kind: Any, shape: Any, order: Any = "C") -> RawArray:
    """Stands for `_frombuffer`, which protocol 5 uses."""
    array = RawArray()
    array.state = (shape, kind, type(order) is str and order == "F", buffer)
    return array


def _scalar(kind: Any, data: Any = b"") -> RawArray:
    """Stands for `scalar`."""
    array = RawArray()
    array.state = ((), kind, False, data)
    return array


def _no_bytes(*arguments: Any) -> bytes:
    """Stands for `bytes` without arguments: how protocol 2 writes empty ones."""
    if arguments:
        raise PickleError("bytes of anything")
    return b""


def _bare(kind: Any, *_: Any) -> Any:
    """Stands for `copyreg._reconstructor`: an empty object of a stand-in class."""
    if not (isinstance(kind, type) and issubclass(kind, Bag)) or kind is ObjectArray:
        raise PickleError("_reconstructor of a class that is not allowed")
    return kind()


NUMPY_FUNCTIONS = {
    ("multiarray", "_reconstruct"): Call(_empty_array),
    ("multiarray", "scalar"): Call(_scalar),
    ("numeric", "_frombuffer"): Call(_array_of_buffer),
}
