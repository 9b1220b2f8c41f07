"""Writes small TFLite files, table by table, for tests of the reader; no weights of others."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Vector:
    """Numbers, or tables."""

    items: Sequence
    dtype: str = "<i4"


@dataclass
class Fields:
    """A table: what stands in which field. Scalars are (letter, value)."""

    values: dict[int, object] = field(default_factory=dict)


def tflite(root: Fields) -> bytes:
    """The file: an offset, the magic word, then everything the root leads to."""
    data = bytearray(b"\0\0\0\0TFL3")
    place = _table(data, root)
    struct.pack_into("<I", data, 0, place)
    return bytes(data)


def _table(data: bytearray, table: Fields) -> int:
    """Writes a table and what it points to, in that order; returns where it lies."""
    fields = max(table.values, default=-1) + 1
    index = _align(data)
    data += struct.pack("<HH", 4 + 2 * fields, 4 + 8 * fields) + bytes(2 * fields)
    place = _align(data)
    data += bytes(4 + 8 * fields)
    struct.pack_into("<i", data, place, place - index)
    for number, value in table.values.items():
        offset = 4 + 8 * number
        struct.pack_into("<H", data, index + 4 + 2 * number, offset)
        if isinstance(value, tuple):
            struct.pack_into("<" + value[0], data, place + offset, value[1])
        else:
            target = _vector(data, value) if isinstance(value, Vector) else _table(data, value)
            struct.pack_into("<I", data, place + offset, target - place - offset)
    return place


def _vector(data: bytearray, vector: Vector) -> int:
    place = _align(data)
    data += struct.pack("<I", len(vector.items))
    if not any(isinstance(item, Fields) for item in vector.items):
        data += np.asarray(vector.items).astype(vector.dtype).tobytes()
        return place
    data += bytes(4 * len(vector.items))
    for number, item in enumerate(vector.items):
        own = place + 4 + 4 * number
        struct.pack_into("<I", data, own, _table(data, item) - own)
    return place


def _align(data: bytearray) -> int:
    data += bytes(-len(data) % 8)
    return len(data)


def tensor(shape: Sequence[int], buffer: int, kind: int = 0, **more: Fields) -> Fields:
    values: dict[int, object] = {0: Vector(shape), 1: ("b", kind), 2: ("I", buffer)}
    if "sparsity" in more:
        values[6] = more["sparsity"]
    return Fields(values)


def operation(code: int, inputs: Sequence[int], output: int, options: Fields) -> Fields:
    return Fields({0: ("I", code), 1: Vector(inputs), 2: Vector([output]), 4: options})


def model(
    codes: Sequence[int],
    tensors: Sequence[Fields],
    operations: Sequence[Fields],
    buffers: Sequence[bytes],
    outputs: Sequence[int],
) -> Fields:
    graph = Fields({0: Vector(tensors), 1: Vector([0]), 2: Vector(outputs), 3: Vector(operations)})
    return Fields(
        {
            0: ("I", 3),
            1: Vector([Fields({0: ("b", code), 3: ("i", code)}) for code in codes]),
            2: Vector([graph]),
            4: Vector(
                [Fields({0: Vector(np.frombuffer(b, "u1"), "<u1")} if b else {}) for b in buffers]
            ),
        }
    )
