"""The one thing that may leave a client, in Flower's records: a reply of schema `pchmr/update/v1`.

Both ends fail closed: exact record names, exact array names, shapes and bytes, an allow-list of
summed numbers, and protocol fields that only echo what the server sent. There is no other text, no
bytes, no per-sample value. Errors are reason codes; the words of an exception may carry file names
and stay where they were raised. What the fields are is in `federated/update.py`.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import cast

import numpy as np

from pchmr.federated.flower.api import (
    Array,
    ArrayRecord,
    ConfigRecord,
    MetricRecord,
    RecordDict,
    wire_array,
)
from pchmr.federated.update import Rejected, Update, UpdateSchema

Carry = Callable[[np.ndarray], Array]
Echo = dict[str, str | int]
TASK_SCHEMA = "pchmr/task/v1"
ERROR_CODE = 2


def pack(schema: UpdateSchema, update: Update, echo: Echo, carry: Carry) -> RecordDict:
    """The reply that carries an update; the client's end of the schema.

    Args:
        schema: Of the run.
        update: What to send.
        echo: Protocol fields from `UpdateSchema.echo`.
        carry: Makes a Flower array of a NumPy array.

    Raises:
        Rejected: The update does not fit the schema.
    """
    schema.check(update)
    arrays = ArrayRecord()
    for name in sorted(update.arrays):
        arrays[name] = carry(update.arrays[name])
    return RecordDict(
        {
            "update": arrays,
            "metrics": MetricRecord(dict(update.metrics)),
            "protocol": ConfigRecord(dict(echo)),
        }
    )


def once(carry: Carry) -> Carry:
    """Carries the same memory once: the messages of a cohort then share one array, not copies.

    Holds as long as nobody writes into the arrays.
    """
    made: dict[tuple[int, int], tuple[np.ndarray, Array]] = {}

    def carried(values: np.ndarray) -> Array:
        place = (values.ctypes.data, len(values))
        if place not in made:
            made[place] = values, carry(values)  # what is held cannot make room for another
        return made[place][1]

    return carried


def unpack(schema: UpdateSchema, content: RecordDict, echo: Echo) -> Update:
    """The update that a legal reply carries; the server's end of the schema.

    Raises:
        Rejected: Anything is missing, beside the schema, or of another type or shape.
    """
    if set(content) != {"update", "metrics", "protocol"}:
        raise Rejected("schema")
    arrays, metrics, protocol = content["update"], content["metrics"], content["protocol"]
    if type(arrays) is not ArrayRecord or type(metrics) is not MetricRecord:
        raise Rejected("schema")
    if type(protocol) is not ConfigRecord or not _same(dict(protocol), echo):
        raise Rejected("schema")
    if set(arrays) != set(schema.sizes):
        raise Rejected("schema")
    values = {name: vector_of(arrays[name], size) for name, size in schema.sizes.items()}
    return Update.of(values, cast(Mapping[str, object], dict(metrics)))


def vector_of(array: Array, size: int) -> np.ndarray:
    """The values of a Flower array that must be a float32 vector of that length.

    Serialized bytes must be those that this package writes: NumPy's header for such a vector, the
    values, and nothing after them.

    Raises:
        Rejected: It says or holds something else; nothing larger than expected is unpacked.
    """
    if (array.dtype, tuple(array.shape), array.stype) != ("float32", (size,), "numpy.ndarray"):
        raise Rejected("schema")
    if "data" in array.__dict__:
        header, data = _header(size), array.data
        if len(data) != len(header) + 4 * size or data[: len(header)] != header:
            raise Rejected("schema")
    try:
        values = array.numpy()
    except (ValueError, TypeError, OSError, EOFError):
        raise Rejected("schema") from None
    if type(values) is not np.ndarray or values.dtype != np.float32 or values.shape != (size,):
        raise Rejected("schema")
    return values


@lru_cache(maxsize=8)
def _header(size: int) -> bytes:
    """What comes before the values of a serialized float32 vector of that length."""
    values = np.broadcast_to(np.zeros(1, dtype=np.float32), (size,))
    data = wire_array(values).data
    return data[: len(data) - 4 * size]


def _same(found: Mapping[str, object], expected: Echo) -> bool:
    """Equal keys, values and types: 1, 1.0 and True are three different things here."""
    return found == expected and all(type(found[k]) is type(expected[k]) for k in expected)
