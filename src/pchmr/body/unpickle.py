"""Reads arrays out of foreign pickles without running anything that they name.

Licensed body files come as pickles of NumPy arrays, SciPy matrices and chumpy objects. Here no
global of a pickle resolves to foreign code: each allowed name maps to a small inert object of this
module that only keeps what it was given; arrays are made afterwards, for the asked keys only, with
sizes checked first. The opcodes are walked once before loading, so that no length, memo index or
extension code can take memory that the file does not hold.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from scipy.sparse import csr_matrix

from pchmr.body.archive import BodyFileError

LARGEST_FILE_BYTES = 512 << 20
LARGEST_ARRAY_BYTES = 1 << 30
MOST_OPCODES = 1_000_000
DEEPEST_CHAIN = 16
PLAIN_KINDS = "fiub"
REFUSED_OPCODES = {
    "INST", "OBJ", "PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER",
}  # fmt: skip
NUMPY_CORES = ("numpy.core.", "numpy._core.")


class Bag:
    """An object of a class that is never imported: it only keeps its state."""

    state: Any = None

    def __new__(cls, *_: Any) -> Any:
        """Ignores constructor arguments."""
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def part(self, name: str) -> Any:
        """An entry of the state; None where it is missing."""
        return self.state.get(name) if type(self.state) is dict else None


class RawType(Bag):
    """Stands for `numpy.dtype`."""

    spec: Any

    def __new__(cls, spec: Any = None, *_: Any) -> Any:
        """Keeps the type string; nothing is parsed yet."""
        found = object.__new__(cls)
        found.spec = spec
        return found

    def real(self) -> np.dtype:
        """The NumPy type; only plain numbers up to eight bytes."""
        if type(self.spec) is not str or len(self.spec) > 4:
            raise ValueError("array of an unknown type")
        order = self.state[1] if type(self.state) is tuple and len(self.state) > 1 else "="
        kind = np.dtype(self.spec)
        if kind.hasobject or kind.kind not in PLAIN_KINDS or kind.itemsize > 8:
            raise ValueError(f"array of type {self.spec}: only plain numbers are read")
        return kind.newbyteorder(order) if order in ("<", ">") else kind


class RawArray(Bag):
    """Stands for `numpy.ndarray`: shape, type and bytes as the pickle gave them."""

    def real(self) -> ndarray:
        """The array, once its bytes agree with its shape."""
        if type(self.state) is not tuple or len(self.state) < 4:
            raise ValueError("array without content")
        shape, kind, fortran_order, raw = self.state[-4:]
        if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("array of unknown shape")
        if not isinstance(kind, RawType):
            raise ValueError("array of an unknown type")
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        dtype = kind.real()
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        if not isinstance(data, (bytes, bytearray)) or len(data) != size:
            raise ValueError("array whose bytes do not fit its shape")
        flat = np.frombuffer(bytes(data), dtype=dtype)
        return flat.reshape(shape[::-1]).T if fortran_order else flat.reshape(shape)


class ObjectArray(Bag):
    """Marks `numpy.ndarray` itself, which a pickle may name but never call."""

    def __new__(cls, *_: Any) -> Any:
        """Refuses: `numpy.ndarray((n,))` would take memory for n entries."""
        raise pickle.UnpicklingError("direct construction of numpy.ndarray")


class Matrix(Bag):
    """Stands for a SciPy sparse matrix."""

    by_column = False

    def real(self) -> csr_matrix:
        """The matrix, once its indices agree with its shape."""
        shape = self.part("_shape") or self.part("shape")
        names = ("data", "indices", "indptr")
        data, indices, starts = (as_array(self.part(name)) for name in names)
        if type(shape) is not tuple or len(shape) != 2:
            raise ValueError("sparse matrix of unknown shape")
        rows, columns = (int(n) for n in shape)
        lengths = np.diff(starts.astype(np.int64))
        major = columns if self.by_column else rows
        fits = len(lengths) == major and starts[0] == 0 and starts[-1] == len(data) == len(indices)
        if not fits or (lengths < 0).any():
            raise ValueError("sparse matrix whose parts contradict each other")
        outer = np.repeat(np.arange(major), lengths)
        pair = (indices, outer) if self.by_column else (outer, indices)
        return csr_matrix((data.astype(np.float64), pair), shape=(rows, columns))


class ColumnMatrix(Matrix):
    """Stands for `csc_matrix`."""

    by_column = True


class PlainDict(dict):
    """Stands for `collections.OrderedDict`."""

    def __init__(self, *_: Any) -> None:
        """Starts empty; old pickles that fill it by argument lose that content."""
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        """Ignores attributes."""


class Call:
    """A function that a pickle may call but cannot change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns."""
        return self._function(*arguments)

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError("change of a function")


class RestrictedUnpickler(pickle.Unpickler):
    """An unpickler whose every global is one of the inert stand-ins of this module."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._bytes_left = len(data)

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for an allowed global; the error names a refused one."""
        found = self._plain(module, name)
        if found is None and module.startswith(NUMPY_CORES):
            found = self._numpy(module.split(".", 2)[2], name)
        if found is None and module.split(".")[0] == "chumpy":
            found = Bag
        if found is None and module.startswith("scipy.sparse"):
            found = {"csc_matrix": ColumnMatrix, "csr_matrix": Matrix}.get(name)
        if found is None:
            raise pickle.UnpicklingError(f"global {module}.{name} is not allowed")
        return found

    def _plain(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy", "ndarray"): ObjectArray,
            ("numpy", "dtype"): RawType,
            ("_codecs", "encode"): Call(self._encode),
            ("copyreg", "_reconstructor"): Call(_bare),
            ("builtins", "object"): Bag,
            ("builtins", "set"): Bag,
            ("collections", "OrderedDict"): PlainDict,
        }
        module = {"copy_reg": "copyreg", "__builtin__": "builtins"}.get(module, module)
        return allowed.get((module, name))

    def _numpy(self, module: str, name: str) -> Any:
        allowed = {
            ("multiarray", "_reconstruct"): Call(_empty_array),
            ("multiarray", "scalar"): Call(_scalar),
            ("numeric", "_frombuffer"): Call(_array_of_buffer),
        }
        return allowed.get((module, name))

    def _encode(self, text: Any, encoding: Any = None) -> bytes:
        """Bytes that protocol 2 wrote as text; together no longer than the file."""
        if type(text) is not str or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("_codecs.encode of anything but latin1 text")
        self._bytes_left -= len(text)
        if self._bytes_left < 0:
            raise pickle.UnpicklingError("more encoded text than the file holds")
        return text.encode("latin1")


def read_pickle(path: Path, names: tuple[str, ...]) -> dict[str, ndarray]:
    """The named arrays of a pickled dictionary, dense; entries that it lacks are left out.

    Raises:
        BodyFileError: If the pickle names a global that is not allowed, or is damaged or too large.
    """
    if path.stat().st_size > LARGEST_FILE_BYTES:
        raise BodyFileError(f"{path}: larger than 512 MB, not a body file")
    found = _guarded(path, path.read_bytes())
    if not isinstance(found, dict):
        raise BodyFileError(f"{path}: holds no dictionary of arrays")
    arrays = {}
    for name in names:
        if name in found:
            try:
                arrays[name] = as_array(found[name])
            except Exception as error:  # hostile content may fail in any way
                raise BodyFileError(f"{path}: {name}: {error}") from None
    return arrays


def read_object_npy(path: Path, data: bytes) -> list[csr_matrix]:
    """The sparse matrices of an object array in .npy form (`mesh_downsampling.npz`)."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        wide = version != (1, 0)
        length = int.from_bytes(stream.read(4 if wide else 2), "little")
        stream.seek(length, io.SEEK_CUR)
    except ValueError as error:
        raise BodyFileError(f"{path}: {error}") from None
    found = _guarded(path, data[stream.tell() :])
    state = found.state if isinstance(found, RawArray) else None
    entries = state[-1] if type(state) is tuple else None
    if type(entries) is not list or not all(isinstance(entry, Matrix) for entry in entries):
        raise BodyFileError(f"{path}: holds no list of sparse matrices")
    try:
        return [entry.real() for entry in entries]
    except Exception as error:  # hostile content may fail in any way
        raise BodyFileError(f"{path}: {error}") from None


def as_array(value: Any) -> ndarray:
    """The dense array of an inert object.

    chumpy: `x` is a plain leaf, `a` with `idxs` a selection, `a` with `newshape` a reshape.
    """
    steps = []
    for _ in range(DEEPEST_CHAIN):
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
    if 8 * rows * columns > LARGEST_ARRAY_BYTES:
        raise ValueError(f"sparse matrix of {rows} x {columns} is too large")
    return sparse.toarray()


def _guarded(path: Path, data: bytes) -> Any:
    try:
        _walk(data)
        return RestrictedUnpickler(data).load()
    except Exception as error:  # hostile content may fail in any way
        raise BodyFileError(f"{path}: pickle refused: {error}") from None


def _walk(data: bytes) -> None:
    """Checks opcodes before loading: kinds, number, memo indices; lengths by decoding them."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data), start=1):
        if count > MOST_OPCODES:
            raise pickle.UnpicklingError("too many opcodes")
        if opcode.name in REFUSED_OPCODES:
            raise pickle.UnpicklingError(f"opcode {opcode.name} is not allowed")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count:
            raise pickle.UnpicklingError("memo index beyond the file")


def _empty_array(kind: Any, shape: Any, *_: Any) -> RawArray:
    """Stands for `_reconstruct`: an array without entries, filled by its state later."""
    if kind is not ObjectArray or shape != (0,):
        raise pickle.UnpicklingError("_reconstruct of anything but an empty numpy.ndarray")
    return RawArray()


def _array_of_buffer(buffer: Any, kind: Any, shape: Any, order: Any = "C") -> RawArray:
    """Stands for `_frombuffer`, which protocol 5 uses."""
    array = RawArray()
    array.state = (shape, kind, order == "F", buffer)
    return array


def _scalar(kind: Any, data: Any = b"") -> RawArray:
    """Stands for `scalar`."""
    array = RawArray()
    array.state = ((), kind, False, data)
    return array


def _bare(kind: Any, *_: Any) -> Any:
    """Stands for `copyreg._reconstructor`: an empty object of a stand-in class."""
    if not (isinstance(kind, type) and issubclass(kind, Bag)) or kind is ObjectArray:
        raise pickle.UnpicklingError("_reconstructor of a class that is not allowed")
    return kind()
