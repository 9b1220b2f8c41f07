"""What a server asks of a client, as a Flower message: the model, the settings, who is meant.

How a task is answered is in `client_app.py` and `secure_app.py`.
"""

from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import numpy as np

from pchmr.federated.flower.api import ArrayRecord, ConfigRecord, Message, RecordDict
from pchmr.federated.flower.egress import TASK_SCHEMA, Carry, Echo, vector_of
from pchmr.federated.policy import Guard
from pchmr.federated.task import Answering, Task
from pchmr.federated.update import COUNT, FIRST, SECOND, Rejected, UpdateSchema

TASK_FIELDS = {"schema": str, "fingerprint": str, "run": int, "round": int, "client_id": int}
LONGEST_GROUP = 9


def build_task(
    schema: UpdateSchema, task: Task, settings: str, carry: Carry, *, with_model: bool = True
) -> RecordDict:
    """The message content that asks a client to train.

    Args:
        schema: Of the replies of this run.
        task: What to do.
        settings: The run's config as one JSON string.
        carry: Makes a Flower array of a NumPy array.
        with_model: Whether the model goes along.
    """
    arrays = ArrayRecord()
    for name, values in _task_arrays(task).items() if with_model else ():
        arrays[name] = carry(values)
    protocol = schema.echo(task.round, task.client_id) | {"schema": TASK_SCHEMA}
    config = ConfigRecord({**protocol, "settings": settings})
    return RecordDict({"global": arrays, "protocol": config})


def _task_arrays(task: Task) -> dict[str, np.ndarray]:
    arrays = {"parameters": task.parameters}
    if len(task.buffers):
        arrays["buffers"] = task.buffers
    if task.control is not None:
        arrays["control"] = task.control
    return arrays | dict(task.moments)


def task_sizes(schema: UpdateSchema) -> dict[str, int]:
    """Length of each array of a task, given the schema of its answers."""
    sizes = {"parameters" if name == "delta" else name: n for name, n in schema.sizes.items()}
    return sizes | ({COUNT: 1} if FIRST in sizes else {})


@runtime_checkable
class Resident(Protocol):
    """Where a device's worker lives, and what guards it."""

    @property
    def guard(self) -> Guard:
        """Holds tasks against the device's policy."""
        ...

    def __call__(self, settings: str) -> Answering:
        """The resident worker for a config, which comes as JSON."""
        ...


@dataclass(frozen=True)
class TaskMessage:
    """A task message before its arrays are unpacked."""

    arrays: ArrayRecord
    echo: Echo
    settings: str

    @classmethod
    def of(cls, content: RecordDict) -> "TaskMessage":
        """Reads the protocol fields.

        Raises:
            Rejected: They are not those of a task.
        """
        arrays, protocol = content.get("global"), content.get("protocol")
        if not isinstance(arrays, ArrayRecord) or not isinstance(protocol, ConfigRecord):
            raise Rejected("task_schema")
        fields = dict(protocol)
        settings = fields.pop("settings", None)
        kinds = {name: type(value) for name, value in fields.items()}
        if type(settings) is not str or kinds != TASK_FIELDS or fields["schema"] != TASK_SCHEMA:
            raise Rejected("task_schema")
        return cls(arrays, cast(Echo, fields), settings)

    def task(self, schema: UpdateSchema) -> Task:
        """The task, once it is known to be for this model.

        Raises:
            Rejected: It is for another model.
        """
        sizes = task_sizes(schema)
        if self.echo["fingerprint"] != schema.fingerprint or set(self.arrays) != set(sizes):
            raise Rejected("task_schema")
        values = {name: vector_of(self.arrays[name], size) for name, size in sizes.items()}
        return Task(
            round=int(self.echo["round"]),
            client_id=int(self.echo["client_id"]),
            parameters=values["parameters"],
            buffers=values.get("buffers", np.empty(0, dtype=np.float32)),
            control=values.get("control"),
            moments={name: values[name] for name in (FIRST, SECOND, COUNT) if name in values},
        )


def is_plain(message: Message) -> bool:
    """Whether what a reply repeats of its task is no more than a round's number."""
    group = message.metadata.group_id
    return len(group) <= LONGEST_GROUP and group.isascii() and group.isdecimal()
