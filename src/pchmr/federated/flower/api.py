"""Flower, imported with telemetry off, and the only place that touches its private parts.

Import Flower's names from here. Before flwr is imported, telemetry, update checks and runtime
installation are switched off, and `FLWR_HOME` is pointed away from the user's home unless it is
set. Four private parts are used: the identity of a task (a public `Message` cannot be made
without it), the ids of a message (they have no setter), the fields of `Array` (its constructor
serializes), and the serialization of a message's content, for its size. `_self_test` tries each
once at import, so that a Flower version that breaks them says so in one line.
"""

import io
import os
import tempfile
from typing import Any, cast

import numpy as np

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
os.environ.update(QUIET)
USER = getattr(os, "getuid", lambda: "user")()
os.environ.setdefault("FLWR_HOME", os.path.join(tempfile.gettempdir(), f"pchmr-flwr-{USER}"))

from flwr.app import (  # noqa: E402
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp  # noqa: E402
from flwr.serverapp import Grid, ServerApp  # noqa: E402

__all__ = [
    "OPERATOR_HEADER",
    "Array",
    "ArrayRecord",
    "ClientApp",
    "ConfigRecord",
    "Context",
    "Error",
    "Grid",
    "Message",
    "MetricRecord",
    "RecordDict",
    "Run",
    "ServerApp",
    "SharedArray",
    "content_bytes",
    "new_context",
    "set_identity",
    "set_message_id",
    "set_reply_to",
    "wire_array",
]

TESTED_WITH = "1.41"
OPERATOR_HEADER = "x-pchmr-operator"
"""In which the operator's token is shown to a server."""
SERVER_NODE = 1


class FlowerVersionError(ImportError):
    """The installed Flower works differently from the versions this package was written for."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(
            f"the installed flwr does not fit (written for {TESTED_WITH}; "
            f"{type(cause).__name__}: {cause}); install the version that constraints.txt names"
        )


try:
    from flwr.common.serde import recorddict_to_proto
    from flwr.supercore import telemetry
    from flwr.supercore.run import Run
    from flwr.supercore.task_identity import TaskIdentity
except Exception as error:
    raise FlowerVersionError(error) from error


class SharedArray(Array):
    """A Flower array that refers to memory instead of holding serialized bytes.

    Within one process nothing is copied: `numpy()` is a read-only view of the array given. Bytes
    are made only when somebody asks for `data`. The memory belongs to the sender: a reply's array
    is valid until its sender is asked for the next one.
    """

    def __init__(self, values: np.ndarray) -> None:
        view = values.view()
        view.flags.writeable = False
        self.__dict__.update(
            _values=view, dtype=str(view.dtype), shape=tuple(view.shape), stype="numpy.ndarray"
        )

    def numpy(self) -> np.ndarray:
        """The memory referred to, read-only."""
        return self.__dict__["_values"]

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """Serialized bytes, made anew at each call."""
        return Array.from_numpy_ndarray(self.numpy()).data


def wire_array(values: np.ndarray) -> Array:
    """An array serialized at once, for engines whose messages leave the process."""
    return Array.from_numpy_ndarray(np.ascontiguousarray(values))


def content_bytes(content: RecordDict) -> int:
    """Bytes of a message's content as it is serialized, give or take some tens.

    Arrays are not serialized for it: their bytes are counted, NumPy's header included.

    Raises:
        ValueError: The content is a client's and says what cannot be serialized; other errors too.
    """
    light, beside = RecordDict(), 0
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            arrays = ArrayRecord()
            for key, array in record.items():
                arrays[key] = Array(array.dtype, array.shape, array.stype, b"")
                beside += _array_bytes(array)
            light[name] = arrays
        else:
            light[name] = record
    return recorddict_to_proto(light).ByteSize() + beside


def _array_bytes(array: Array) -> int:
    if not isinstance(array, SharedArray):
        return len(array.data)
    header = io.BytesIO()
    values = array.numpy()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(values))
    return header.tell() + values.nbytes


def set_identity(run_id: int, node_id: int = SERVER_NODE) -> None:
    """Names the run and node of this process; Flower refuses to make messages before."""
    identity = cast(Any, TaskIdentity)
    identity.task_id, identity.run_id, identity.node_id = 0, run_id, node_id


def set_message_id(message: Message, message_id: str) -> None:
    """Gives a message its id, which in a deployment the SuperLink does."""
    message.metadata.__dict__["_message_id"] = message_id


def set_reply_to(message: Message, message_id: str) -> None:
    """Makes a message answer the one with that id."""
    message.metadata.__dict__["_reply_to_message_id"] = message_id


def new_context(run_id: int, node_id: int) -> Context:
    """The context of a node that has seen nothing yet."""
    return Context(
        run_id=run_id, node_id=node_id, node_config={}, state=RecordDict(), run_config={}
    )


def _self_test() -> None:
    identity = cast(Any, TaskIdentity)
    before = dict(vars(TaskIdentity))
    values = np.arange(3, dtype=np.float32)
    set_identity(7)
    record = ArrayRecord()
    record["values"] = SharedArray(values)
    message = Message(RecordDict({"arrays": record}), 2, "train", group_id="1")
    set_message_id(message, "m1")
    reply = Message(RecordDict(), reply_to=message)
    seen = cast(ArrayRecord, message.content["arrays"])["values"].numpy()
    was = reply.metadata.reply_to_message_id
    set_reply_to(reply, "m2")
    ok = (
        (was, reply.metadata.reply_to_message_id) == ("m1", "m2")
        and message.metadata.run_id == 7
        and np.shares_memory(seen, values)
        and not seen.flags.writeable
        and len(record["values"].data) > values.nbytes
        and content_bytes(message.content) > values.nbytes
    )
    for name in ("_task_id", "_run_id", "_node_id"):
        setattr(identity, name, before[name])
    telemetry.FLWR_TELEMETRY_ENABLED = QUIET["FLWR_TELEMETRY_ENABLED"]
    if not ok:
        raise ValueError("a message or a shared array behaves differently")


try:
    _self_test()
except Exception as error:
    raise FlowerVersionError(error) from error
