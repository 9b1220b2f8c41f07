"""What a client may tell a server: fields, lengths and limits of an update; knows no framework.

Both ends hold an update against the same `UpdateSchema`. How it is carried is elsewhere (for
Flower, `flower/egress.py`), and whether its values are plausible is the gate's affair.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pchmr.federated.secure.refusal import Reason

SCHEMA, SECURE_SCHEMA = "pchmr/update/v1", "pchmr/secure/v1"
FIRST, SECOND, COUNT = "moments", "squares", "count"
"""Arrays of the averaged state of optimizers, see `moments.py`."""
METRICS: dict[str, type] = {"num_samples": int, "num_steps": int, "loss_sum": float}
WITHHELD = -1.0  # stands for a loss that depends on too few samples to leave its client
MOST_LOSS = 1e6  # of one sample
MOST_SAMPLES = 10**12
SECURE_REASONS = tuple(reason.value for reason in Reason)
# What a client may answer in place of an update, and what the server says of a reply besides.
CLIENT_REASONS = (
    "client_error",
    "schema",
    "task_schema",
    "policy",
    "non_finite",
    "num_samples",
    *SECURE_REASONS,
)
REASONS = (
    *CLIENT_REASONS,
    "norm",
    "buffers",
    "loss",
    "alike",
    "direction",
    "state",
    "replay",
    "duplicate",
    "unknown_sender",
    "no_reply",
    "unavailable",
    "crashed",
    "bundle",
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
        arrays: `delta`, `buffers` (if statistics travel), `control` (if SCAFFOLD), `moments` and
            `squares` (if the state of optimizers is averaged), float32.
        num_samples: Images the client holds.
        num_steps: Optimizer steps it took.
        loss_sum: Its mean loss times `num_samples`; None where the client withholds it.
    """

    arrays: dict[str, np.ndarray]
    num_samples: int
    num_steps: int
    loss_sum: float | None

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray], numbers: Mapping[str, object]) -> "Update":
        """An update from what traveled.

        Raises:
            Rejected: The numbers are not those of an update.
        """
        samples, steps, loss = (numbers.get(name) for name in METRICS)
        if set(numbers) != set(METRICS) or type(samples) is not int or type(steps) is not int:
            raise Rejected("schema")
        if type(loss) is not float:
            raise Rejected("schema")
        update = cls(arrays, samples, steps, None if loss == WITHHELD else loss)
        update.check_numbers()
        return update

    @property
    def metrics(self) -> dict[str, int | float]:
        """The numbers that travel."""
        loss = WITHHELD if self.loss_sum is None else self.loss_sum
        return {"num_samples": self.num_samples, "num_steps": self.num_steps, "loss_sum": loss}

    def check_numbers(self) -> None:
        """Looks at types and at sums that no training comes to.

        Raises:
            Rejected: With the reason code.
        """
        if any(type(self.metrics[name]) is not kind for name, kind in METRICS.items()):
            raise Rejected("schema")
        if not (1 <= self.num_samples <= MOST_SAMPLES and 1 <= self.num_steps <= MOST_SAMPLES):
            raise Rejected("num_samples")
        if self.loss_sum is None:
            return
        if not math.isfinite(self.loss_sum):
            raise Rejected("non_finite")
        if not 0 <= self.loss_sum <= MOST_LOSS * self.num_samples:
            raise Rejected("loss")


@dataclass(frozen=True, kw_only=True)
class SchemaSummary:
    """What leaves a client in every round, in words, for a run's records."""

    schema: str
    arrays: dict[str, str]
    numbers: list[str]
    echoes: list[str]


@dataclass(frozen=True, kw_only=True)
class UpdateSchema:
    """The shape of a legal update in one run.

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

    def check(self, update: Update) -> None:
        """Refuses to let anything but the schema leave.

        Raises:
            Rejected: An array or a number is missing, beside the schema, or of another kind.
        """
        if {name: array.shape for name, array in update.arrays.items()} != self._shapes:
            raise Rejected("schema")
        if any(array.dtype != np.float32 for array in update.arrays.values()):
            raise Rejected("schema")
        update.check_numbers()

    @cached_property
    def _shapes(self) -> dict[str, tuple[int]]:
        return {name: (size,) for name, size in self.sizes.items()}

    def summary(self) -> SchemaSummary:
        """What leaves a client in every round."""
        return SchemaSummary(
            schema=SCHEMA,
            arrays={name: f"float32[{size}]" for name, size in self.sizes.items()},
            numbers=list(METRICS),
            echoes=list(self.echo(0, 0)),
        )
