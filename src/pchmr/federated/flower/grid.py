"""A Flower Grid within one process: the very same apps, no daemon, no copies.

Messages of a round are handed to the client app one after the other, in the order given, and
replies are yielded as they come. A reply's arrays are the worker's memory and hold until the next
reply is asked for. Cost does not depend on the number of nodes.
"""

import time
from collections.abc import Iterable, Iterator
from typing import cast

from pchmr.federated.flower.api import (
    SERVER_NODE,
    ArrayRecord,
    ClientApp,
    ConfigRecord,
    Context,
    Grid,
    Message,
    RecordDict,
    Run,
    new_context,
    set_identity,
    set_message_id,
)
from pchmr.federated.flower.client_app import refusal


class InProcessGrid(Grid):
    """Carries messages to a client app by calling it.

    Args:
        client_app: The app that every node runs.
        num_nodes: Nodes to offer; their ids follow the server's.
        run_id: Number of the run.
    """

    def __init__(self, client_app: ClientApp, num_nodes: int, run_id: int = 1) -> None:
        self._app = client_app
        self._nodes = range(SERVER_NODE + 1, SERVER_NODE + 1 + num_nodes)
        self._run = Run.create_empty(run_id)
        self._contexts: dict[int, Context] = {}
        self._pushed: dict[str, Message] = {}
        self._count = 0
        set_identity(run_id)

    def set_run(self, run: Run) -> None:
        """Sets the run that messages belong to."""
        self._run = run
        set_identity(run.run_id)

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message from the server to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """The ids of all nodes, ascending."""
        return self._nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Takes messages in; they are carried out when their replies are pulled."""
        return [self._stamp(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Carries out the messages asked for and yields their replies."""
        found = [self._pushed.pop(message_id, None) for message_id in message_ids]
        return self._carry([message for message in found if message is not None], None)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Yields each reply as it comes; stops handing out messages after `timeout` seconds."""
        stamped = list(messages)
        for message in stamped:
            self._pushed.pop(self._stamp(message))
        return self._carry(stamped, timeout)

    def _carry(self, messages: list[Message], timeout: float | None) -> Iterator[Message]:
        end = None if timeout is None else time.monotonic() + timeout
        for message in messages:
            if end is not None and time.monotonic() >= end:
                return
            yield self._named(self._deliver(message))

    def _stamp(self, message: Message) -> str:
        self._count += 1
        message_id = f"m{self._count}"
        set_message_id(message, message_id)
        self._pushed[message_id] = message
        return message_id

    def _deliver(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        context = self._contexts.setdefault(node, new_context(self._run.run_id, node))
        shield = Message(_shielded(message.content), node, message.metadata.message_type)
        shield.metadata.__dict__.update(message.metadata.__dict__)
        try:
            reply = self._app(shield, context)
        except Exception:
            reply = refusal(message, "client_error")
        return reply

    def _named(self, reply: Message) -> Message:
        self._count += 1
        set_message_id(reply, f"m{self._count}")
        return reply


def _shielded(content: RecordDict) -> RecordDict:
    """The same arrays in records of their own, so that a client cannot change another's task."""
    copy = RecordDict()
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            arrays = ArrayRecord()
            for key, array in record.items():
                arrays[key] = array
            copy[name] = arrays
        else:
            copy[name] = ConfigRecord(dict(cast(ConfigRecord, record)))
    return copy
