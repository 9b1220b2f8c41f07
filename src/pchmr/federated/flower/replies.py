"""Brings replies into the order of the messages sent, whatever order they arrive in."""

import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pchmr.federated.flower.api import SERVER_NODE, Grid, Message, SharedArray
from pchmr.federated.flower.egress import ERROR_CODE
from pchmr.federated.update import CLIENT_REASONS, Rejected

log = logging.getLogger("pchmr.federated.server")
CLOCK_SKEW_SECONDS = 86_400.0  # clients' clocks may be off
EXPIRY_SECONDS = 1.0  # rounding, over the sum that a reply may not move
UNAVAILABLE = "unavailable"
FLOWER_REASONS = {
    1: "crashed",
    3: UNAVAILABLE,
    4: UNAVAILABLE,
    5: UNAVAILABLE,
    7: "bundle",
    8: "crashed",
}
"""What Flower itself says in a client's place: its app failed, is not there, or is not signed."""
STRAYS = ("unknown_sender", "duplicate")


@dataclass(frozen=True)
class Arrival:
    """A reply, or the lack of one.

    Attributes:
        position: Of the message it answers; None where it answers none of ours.
        reply: What came; None where nothing did.
        reason: Code why it must not count, None where it may.
    """

    position: int | None
    reply: Message | None
    reason: str | None = None


def in_order(messages: Sequence[Message], replies: Iterable[Message]) -> Iterator[Arrival]:
    """Yields one arrival for every message, by position, and strays as they come.

    A reply that comes in order is yielded at once. One that comes early waits for those before it,
    with memory of its own, since a sender may reuse what it lent. A second reply to a message, a
    reply to a message that was never sent and one from a node that was not asked are strays.
    """
    waiting: dict[int, Arrival] = {}
    due = 0
    for arrival in as_they_come(messages, replies):
        position, reply = arrival.position, arrival.reply
        if arrival.reason in STRAYS or position is None:
            yield arrival
            continue
        if reply is not None and position != due:
            arrival = Arrival(position, _owned(reply))
        waiting[position] = arrival
        del arrival, reply
        while due in waiting:
            yield waiting.pop(due)
            due += 1


def as_they_come(messages: Sequence[Message], replies: Iterable[Message]) -> Iterator[Arrival]:
    """Like `in_order` without an order, for what is added up exactly: no reply ever waits."""
    seen: set[int] = set()
    positions: dict[str, int] = {}
    for reply in replies:
        answers = reply.metadata.reply_to_message_id
        if answers not in positions:
            positions = {m.metadata.message_id: i for i, m in enumerate(messages)}
        position = positions.get(answers)
        asked = None if position is None else messages[position].metadata.dst_node_id
        reason = None
        if position is None or not answers or not (_is_from(reply, asked) or _by_server(reply)):
            position, reason = None, "unknown_sender"
        elif position in seen:
            reason = "duplicate"
        else:
            seen.add(position)
        arrivals = [Arrival(position, reply, reason)]
        del reply  # who takes the arrival may let it go
        yield arrivals.pop()
    for position in sorted(set(range(len(messages))) - seen):
        yield Arrival(position, None, "no_reply")


def _is_from(reply: Message, node: int | None) -> bool:
    return reply.metadata.src_node_id == node


def _by_server(reply: Message) -> bool:
    """Whether Flower's server says, in a node's place, that no answer will come."""
    from_server = reply.metadata.src_node_id == SERVER_NODE
    return from_server and reply.has_error() and reply.error.code in FLOWER_REASONS


def says_gone(reply: Message) -> bool:
    """Whether Flower's server says, in a node's place, that it is not there."""
    return _by_server(reply) and FLOWER_REASONS[reply.error.code] == UNAVAILABLE


def _owned(reply: Message) -> Message:
    """The same reply, its arrays copied out of the sender's memory."""
    records = reply.content.array_records.values() if reply.has_content() else ()
    for record in records:
        for name, array in record.items():
            if isinstance(array, SharedArray):
                record[name] = SharedArray(array.numpy().copy())
    return reply


def carried(grid: Grid, messages: Sequence[Message], timeout: float | None) -> Iterator[Message]:
    """The replies that a grid yields; of one that fails, those that came before it did.

    Nobody is asked a second time: the messages are out. A grid to devices, whose replies may be
    anything, sees to it that one reply does not cost the others (`pchmr.deploy.asking`).
    """
    try:
        yield from grid.send_and_receive(messages, timeout=timeout)
    except Exception as error:
        log.warning("the replies that are left cannot be carried: %s", type(error).__name__)


def check_envelope(asked: Message, reply: Message) -> None:
    """Refuses a reply whose metadata says more than that it answers a message in time.

    Raises:
        Rejected: With the reason code.
    """
    said, known = reply.metadata, asked.metadata
    if reply.has_error():
        code, reason = reply.error.code, reply.error.reason
        if code == ERROR_CODE and reason in CLIENT_REASONS:
            raise Rejected(str(reason))
        raise Rejected(FLOWER_REASONS.get(code, "client_error"))
    now = time.time()
    texts = (said.group_id, said.message_type) == (known.group_id, known.message_type)
    if not texts or said.run_id != known.run_id or said.dst_node_id != known.src_node_id:
        raise Rejected("schema")
    times = (said.created_at, said.ttl)
    if not all(type(value) is float and math.isfinite(value) for value in times):
        raise Rejected("schema")
    expires = known.created_at + known.ttl
    if said.ttl <= 0 or abs(said.created_at + said.ttl - expires) > EXPIRY_SECONDS:
        raise Rejected("schema")
    if abs(said.created_at - now) > CLOCK_SKEW_SECONDS:
        raise Rejected("schema")
