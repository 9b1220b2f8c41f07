"""The Flower ClientApp: unpacks a task, lets the worker train, packs the reply.

Whatever goes wrong, the reply is a reason code. What was raised is logged here, on the client,
once for each message.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np

from pchmr.config import UserError
from pchmr.federated.client import Task, Worker
from pchmr.federated.flower.api import (
    Array,
    ArrayRecord,
    ClientApp,
    ConfigRecord,
    Context,
    Error,
    Message,
    RecordDict,
)
from pchmr.federated.flower.egress import (
    ERROR_CODE,
    SCHEMA,
    TASK_SCHEMA,
    Rejected,
    UpdateSchema,
    unpack,
)

Carry = Callable[[np.ndarray], Array]
TASK_FIELDS = {"schema": str, "fingerprint": str, "run": int, "round": int, "client_id": int}
log = logging.getLogger("pchmr.federated.client")
_TOLD: set[str] = set()


def build_task(schema: UpdateSchema, task: Task, settings: str, carry: Carry) -> RecordDict:
    """The message content that asks a client to train.

    Args:
        schema: Of the replies of this run.
        task: What to do.
        settings: The run's config as one JSON string.
        carry: Makes a Flower array of a NumPy array.
    """
    arrays = ArrayRecord()
    for name, values in _task_arrays(task).items():
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
    return arrays


@dataclass(frozen=True)
class Order:
    """A task message before its arrays are unpacked."""

    arrays: ArrayRecord
    echo: dict[str, str | int]
    settings: str

    @classmethod
    def of(cls, content: RecordDict) -> "Order":
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
        return cls(arrays, cast(dict[str, str | int], fields), settings)

    def task(self, schema: UpdateSchema) -> Task:
        """The task, once it is known to be for this model.

        Raises:
            Rejected: It is for another model.
        """
        sizes = {"parameters" if name == "delta" else name: n for name, n in schema.sizes.items()}
        if self.echo["fingerprint"] != schema.fingerprint or set(self.arrays) != set(sizes):
            raise Rejected("task_schema")
        values = {name: unpack(self.arrays[name], size) for name, size in sizes.items()}
        return Task(
            round=int(self.echo["round"]),
            client_id=int(self.echo["client_id"]),
            parameters=values["parameters"],
            buffers=values.get("buffers", np.empty(0, dtype=np.float32)),
            control=values.get("control"),
        )


def make_client_app(worker_for: Callable[[str], Worker], carry: Carry) -> ClientApp:
    """The app that every engine runs; it can be pickled if its arguments can.

    Args:
        worker_for: Gives this process's resident worker for a config, which comes as JSON.
        carry: Makes a Flower array of a NumPy array.
    """
    app = ClientApp()
    app.train()(partial(_train, worker_for, carry))
    return app


def _train(
    worker_for: Callable[[str], Worker], carry: Carry, message: Message, context: Context
) -> Message:
    try:
        return Message(_answer(message, worker_for, carry), reply_to=message)
    except Rejected as rejected:
        return refusal(message, rejected.reason)
    except Exception as error:
        _tell_once(error)
        return refusal(message, "client_error")


def _tell_once(error: Exception) -> None:
    """Logs what was raised, on this machine, once for each text."""
    if str(error) not in _TOLD:
        _TOLD.add(str(error))
        bug = not isinstance(error, UserError)
        log.warning("a client could not train: %s", error, exc_info=bug)


def _answer(message: Message, worker_for: Callable[[str], Worker], carry: Carry) -> RecordDict:
    order = Order.of(message.content)
    worker = worker_for(order.settings)
    schema = worker.schema(int(order.echo["run"]))
    update = worker.run(order.task(schema))
    return schema.build(update, order.echo | {"schema": SCHEMA}, carry)


def refusal(message: Message, reason: str) -> Message:
    """A reply that carries nothing but a reason code."""
    return Message(Error(code=ERROR_CODE, reason=reason), reply_to=message)
