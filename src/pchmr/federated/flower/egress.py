"""The one thing that may leave a client: a reply of schema `pchmr/update/v1`.

Both ends hold a reply against the same schema and fail closed: exact record names, exact array
names, shapes and float32, an allow-list of summed numbers, and protocol fields that only echo what
the server sent. There is no other text, no bytes, no per-sample value. Errors are reason codes;
the words of an exception may carry file names and stay where they were raised.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pchmr.federated.flower.api import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

SCHEMA = "pchmr/update/v1"
TASK_SCHEMA = "pchmr/task/v1"
METRICS: dict[str, type] = {"num_samples": int, "num_steps": int, "loss_sum": float}
# A serialized array is its values and a header; numpy's is 128 bytes for these shapes.
HEADER_BYTES = 1024
ERROR_CODE = 2
REASONS = (
    "client_error",
    "schema",
    "task_schema",
    "non_finite",
    "norm",
    "num_samples",
    "buffers",
    "duplicate",
    "unknown_sender",
    "no_reply",
)


class Rejected(ValueError):
    """A message that may not pass; `reason` is one of `REASONS`."""

    def __init__(self, reason: str) -> None:
        assert reason in REASONS
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Update:
    """What a client computed, on either end of the wire.

    Attributes:
        arrays: `delta`, `buffers` (if statistics travel) and `control` (if SCAFFOLD), float32.
        num_samples: Images the client holds.
        num_steps: Optimizer steps it took.
        loss_sum: Its mean loss times `num_samples`.
    """

    arrays: dict[str, np.ndarray]
    num_samples: int
    num_steps: int
    loss_sum: float

    @property
    def metrics(self) -> dict[str, int | float]:
        """The numbers that travel."""
        return {name: getattr(self, name) for name in METRICS}


@dataclass(frozen=True, kw_only=True)
class UpdateSchema:
    """The shape of a legal reply in one run.

    Attributes:
        sizes: Length of each array that travels, by name.
        fingerprint: Of the layout of the model.
        run: Number that marks replies of this run.
    """

    sizes: dict[str, int]
    fingerprint: str
    run: int

    def echo(self, round_number: int, client_id: int) -> dict[str, str | int]:
        """The protocol fields of a legal reply: all known to the server beforehand."""
        return {
            "schema": SCHEMA,
            "fingerprint": self.fingerprint,
            "run": self.run,
            "round": round_number,
            "client_id": client_id,
        }

    def build(self, update: Update, echo: dict[str, str | int], carry: Any) -> RecordDict:
        """The reply that carries an update; the client's end of the gate.

        Args:
            update: What to send.
            echo: Protocol fields from `echo`.
            carry: Makes a Flower array of a NumPy array.

        Raises:
            Rejected: The update does not fit the schema.
        """
        if {name: array.shape for name, array in update.arrays.items()} != self._shapes:
            raise Rejected("schema")
        if any(array.dtype != np.float32 for array in update.arrays.values()):
            raise Rejected("schema")
        _check_numbers(update.metrics)
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

    def check(self, content: RecordDict, echo: dict[str, str | int]) -> Update:
        """The update that a legal reply carries; the server's end of the gate.

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
        numbers: dict[str, Any] = dict(metrics)
        _check_numbers(numbers)
        return Update(self._unpack(arrays), **numbers)

    def _unpack(self, record: ArrayRecord) -> dict[str, np.ndarray]:
        if set(record) != set(self.sizes):
            raise Rejected("schema")
        return {name: unpack(record[name], size) for name, size in self.sizes.items()}

    @cached_property
    def _shapes(self) -> dict[str, tuple[int]]:
        return {name: (size,) for name, size in self.sizes.items()}

    def num_bytes(self) -> int:
        """Payload of one reply: arrays at 4 bytes a value, numbers at 8, texts at their length."""
        echo = self.echo(0, 0)
        texts = sum(len(value) if isinstance(value, str) else 8 for value in echo.values())
        return 4 * sum(self.sizes.values()) + 8 * len(METRICS) + texts

    def summary(self) -> dict[str, Any]:
        """What leaves a client in every round, for a run's records."""
        return {
            "schema": SCHEMA,
            "arrays": {name: f"float32[{size}]" for name, size in self.sizes.items()},
            "numbers": list(METRICS),
            "echoes": list(self.echo(0, 0)),
        }


def unpack(array: Array, size: int) -> np.ndarray:
    """The values of a Flower array that must be a float32 vector of that length.

    Raises:
        Rejected: It says or holds something else; nothing larger than expected is unpacked.
    """
    if (array.dtype, tuple(array.shape), array.stype) != ("float32", (size,), "numpy.ndarray"):
        raise Rejected("schema")
    if "data" in array.__dict__ and len(array.data) > 4 * size + HEADER_BYTES:
        raise Rejected("schema")
    try:
        values = array.numpy()
    except (ValueError, TypeError, OSError, EOFError):
        raise Rejected("schema") from None
    if type(values) is not np.ndarray or values.dtype != np.float32 or values.shape != (size,):
        raise Rejected("schema")
    return values


def _same(found: dict[str, Any], expected: dict[str, str | int]) -> bool:
    """Equal keys, values and types: 1, 1.0 and True are three different things here."""
    return found == expected and all(type(found[k]) is type(expected[k]) for k in expected)


def _check_numbers(numbers: dict[str, Any]) -> None:
    if set(numbers) != set(METRICS):
        raise Rejected("schema")
    if any(type(numbers[name]) is not kind for name, kind in METRICS.items()):
        raise Rejected("schema")
    if not math.isfinite(numbers["loss_sum"]):
        raise Rejected("non_finite")
    if numbers["num_samples"] < 1 or numbers["num_steps"] < 1:
        raise Rejected("num_samples")
