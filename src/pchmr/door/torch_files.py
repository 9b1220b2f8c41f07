"""What `torch.save` wrote, read without `torch.load`: tensors and plain containers only.

Both layouts are known: the archive of today, and the chain of pickles of torch 1.5 and before. A
tensor may look at its storage in any order, but never at more numbers than the storage has.
"""

import io
import math
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pchmr.door.archives import Member, opened_archive
from pchmr.door.files import FileError, opened, read_bytes, refusing
from pchmr.door.limits import ARCHIVE_BYTES, ARRAY_AXES, MIB, PICKLE_BYTES
from pchmr.door.pickles import Bag, Call, Machine, PickleError, PlainDict

ZIP = b"PK\x03\x04"
OLD_MAGIC = 0x1950A86A20F9469CFC6C
EMPTY_EXTENT = 1 << 31
"""Numbers that a tensor without any could hold if its empty axes had one."""
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class UnsafeFileError(FileError):
    """A file that asks to run something; nothing of it was run."""


class StorageType(Bag):
    """Stands for a storage class of torch."""

    def __new__(cls, dtype: torch.dtype) -> Any:
        """Keeps the type of its numbers."""
        found = object.__new__(cls)
        found.state = dtype
        return found


class Storages:
    """Memory that tensors of one file look at, taken once a key and filled from the file.

    Attributes:
        found: Flat tensors by key.
    """

    def __init__(self, most_bytes: int) -> None:
        self._bytes_left = most_bytes
        self.found: dict[str, Tensor] = {}

    def __call__(self, identity: Any) -> Tensor:
        """The memory of a persistent id (kind, class, key, place, count)."""
        if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
            raise PickleError("persistent id that is no storage")
        kind, key, _, count = identity[1:5]
        plain = isinstance(kind, StorageType) and type(key) is str and type(count) is int
        if not plain or count < 0 or identity[5:] not in ((), (None,)):
            raise PickleError("storage that is not described")
        if key not in self.found:
            self._bytes_left -= count * kind.state.itemsize
            if self._bytes_left < 0:
                raise PickleError("storages larger than the file")
            self.found[key] = torch.zeros(count, dtype=kind.state)
        if len(self.found[key]) != count or self.found[key].dtype != kind.state:
            raise PickleError("storage that is described twice")
        return self.found[key]

    def fill(self, key: str, content: bytes) -> None:
        """Copies the bytes of the file into a storage."""
        target = self.found[key].view(torch.uint8)
        if len(content) != len(target):
            raise ValueError(f"storage {key} is cut off")
        if len(content):
            target.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))


def read_torch(path: Path) -> Any:
    """The value of a file that `torch.save` wrote.

    Raises:
        UnsafeFileError: It names anything but tensors and plain containers.
        FileError: It is missing, damaged, or no such file.
    """
    with opened(path, ARCHIVE_BYTES) as file:
        is_archive = file.read(4) == ZIP
    return _read_archive(path) if is_archive else _read_old(path)


def _read_archive(path: Path) -> Any:
    with opened_archive(path, ARCHIVE_BYTES) as members:
        main = next((name for name in members if name.endswith("/data.pkl")), None)
        if main is None:
            raise ValueError("no checkpoint")
        folder = main.removesuffix("data.pkl")
        order = members.get(f"{folder}byteorder")
        if order is not None and order.read() != b"little":
            raise ValueError("numbers of another byte order")
        storages = Storages(sum(m.num_bytes for m in members.values()))
        value = _run(path, storages, io.BytesIO(_small(members[main])))
        for key in storages.found:
            storages.fill(key, members[f"{folder}data/{key}"].read())
        return value


def _small(member: Member) -> bytes:
    if member.num_bytes > PICKLE_BYTES:
        raise ValueError(f"pickle larger than {PICKLE_BYTES // MIB} MiB")
    return member.read()


def _read_old(path: Path) -> Any:
    """Magic number, protocol, system, value, keys; then each storage as count and bytes."""
    content = read_bytes(path, ARCHIVE_BYTES)
    stream, storages = io.BytesIO(content), Storages(len(content))
    with refusing(path):
        if _run(path, storages, stream) != OLD_MAGIC:
            raise ValueError("no checkpoint")
        _protocol, _system, value, keys = (_run(path, storages, stream) for _ in range(4))
        if type(keys) is not list or sorted(keys) != sorted(storages.found):
            raise ValueError("storages that are missing")
        for key in keys:
            count = int.from_bytes(stream.read(8), "little")
            if count != len(storages.found[key]):
                raise ValueError(f"storage {key} is cut off")
            storages.fill(key, stream.read(count * storages.found[key].itemsize))
    return value


def _run(path: Path, storages: Storages, stream: BufferedIOBase) -> Any:
    try:
        return Machine(_find, storages).run(stream)
    except PickleError as error:
        if error.culprit:
            raise UnsafeFileError(path, error.culprit) from None
        raise


def _find(module: str, name: str) -> Any:
    """What a global of such a file stands for; the error names a refused one."""
    found = GLOBALS.get((module, name))
    if module == "torch" and name in STORAGES:
        found = StorageType(STORAGES[name])
    if found is None:
        raise PickleError.of_global(f"{module}.{name}")
    return found


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A view of a storage, once all that it looks at is there, and none of it twice."""
    shapes = (size, stride)
    plain = isinstance(storage, Tensor) and type(offset) is int and offset >= 0
    for numbers in shapes:
        plain = plain and type(numbers) is tuple and len(numbers) <= ARRAY_AXES
        plain = plain and all(type(n) is int and n >= 0 for n in numbers)
    if not plain or len(size) != len(stride):
        raise PickleError("tensor that is not described")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(max(n, 1) for n in size) > (EMPTY_EXTENT if 0 in size else len(storage)):
        raise PickleError("tensor that shows a number twice")
    if 0 in size:
        return storage.new_empty(size)
    if last >= len(storage):
        raise PickleError("tensor that looks beyond its storage")
    return torch.as_strided(storage, size, stride, offset)


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise PickleError("parameter that is no tensor")
    return data


def _text(*arguments: Any) -> str:
    return ":".join(str(part) for part in arguments if type(part) in (str, int))


GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): PlainDict,
    ("torch._utils", "_rebuild_tensor_v2"): Call(_tensor),
    ("torch._utils", "_rebuild_tensor"): Call(_tensor),
    ("torch._utils", "_rebuild_parameter"): Call(_parameter),
    ("torch", "Size"): Call(lambda size=(): size),
    ("torch", "device"): Call(_text),
}
