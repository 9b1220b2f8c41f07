"""Brings replies into the order of the messages sent, whatever order they arrive in."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pchmr.federated.flower.api import Message, SharedArray


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
    with memory of its own, since a sender may reuse what it lent. A second reply to a message and a
    reply to a message that was never sent are strays.
    """
    positions: dict[str, int] = {}
    waiting: dict[int, Message] = {}
    due = 0
    seen: set[int] = set()
    for reply in replies:
        answers = reply.metadata.reply_to_message_id
        if answers not in positions:  # ids are given when messages are sent
            positions = {m.metadata.message_id: i for i, m in enumerate(messages)}
        position = positions.get(answers)
        if position is None or not answers:
            yield Arrival(None, reply, "unknown_sender")
        elif position in seen:
            yield Arrival(position, reply, "duplicate")
        else:
            seen.add(position)
            waiting[position] = reply if position == due else _owned(reply)
        del reply
        while due in waiting:
            yield Arrival(due, waiting.pop(due))
            due += 1
    for position in range(due, len(messages)):
        late = waiting.pop(position, None)
        yield Arrival(position, late, None if late else "no_reply")


def _owned(reply: Message) -> Message:
    """The same reply, its arrays copied out of the sender's memory."""
    records = reply.content.array_records.values() if reply.has_content() else ()
    for record in records:
        for name, array in record.items():
            if isinstance(array, SharedArray):
                record[name] = SharedArray(array.numpy().copy())
    return reply
