"""What a server asks of a client, and who answers: no more than a message's handler must know.

Needs no torch, so that a process that answers one message of keys starts quickly.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from pchmr.config import FederateConfig
from pchmr.federated.policy import Errand, Guard
from pchmr.federated.update import Update, UpdateSchema


@dataclass(frozen=True)
class Task:
    """What the server asks of a client in a round.

    Attributes:
        round: From 1.
        client_id: Logical id; whose rows to train on.
        parameters: Global weights, read-only.
        buffers: Global running statistics, read-only; empty unless they are averaged.
        control: The server's control variate (SCAFFOLD), read-only.
        moments: The averaged state of the clients' optimizers, read-only; empty unless it travels.
    """

    round: int
    client_id: int
    parameters: np.ndarray
    buffers: np.ndarray
    control: np.ndarray | None = None
    moments: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def vectors(self) -> list[np.ndarray]:
        """Everything that the server tells of its model, in a fixed order."""
        control = [] if self.control is None else [self.control]
        return [self.parameters, self.buffers, *control, *self.moments.values()]


@runtime_checkable
class Answering(Protocol):
    """Who answers for the clients of a device: a `Worker`, or what makes one when it must train."""

    @property
    def config(self) -> FederateConfig:
        """Of the run."""
        ...

    @property
    def spec(self) -> Any:
        """Layout of the model, a `FlatSpec`."""
        ...

    def schema(self, run: int) -> UpdateSchema:
        """What may leave in a run."""
        ...

    def errand(self, run: int, round_number: int, client_id: int, node_id: int) -> Errand:
        """What is asked of the device, in the words of its policy."""
        ...

    def is_here(self, client_id: int) -> bool:
        """Whether a logical client is this device's."""
        ...

    def samples_of(self, client_id: int) -> int | None:
        """How many samples a logical client holds here; None for one that is not here."""
        ...

    def answer(self, task: Task, guard: Guard, *, run: int, node_id: int) -> Update:
        """Trains if the policy allows it."""
        ...
