"""Asks a device again for what the network lost.

Flower hands a task out once and counts it as delivered before it has arrived, and a device's
program that ends takes what it held with it: a connection torn at the wrong moment costs an answer
for good. A plain task may be answered twice, the same way (`pchmr.federated.ledger`), so it is
asked once more: of a device that had gone and is back, and of one that has said nothing for half
of the deadline. Stages of a secure round are asked once only: there, who is lost is left out.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pchmr.federated.flower.api import Grid, Message, RecordDict, Run, set_reply_to
from pchmr.federated.flower.replies import says_gone

POLL_SECONDS = 3.0
RETURN_SECONDS = 30.0
"""How long a device that answered at first may be away, as its program begins again."""


@dataclass
class _Asked:
    """A task that is out.

    Attributes:
        message: As it was first sent; its id is the one that answers are told under.
        node_began: When the device's program had begun, by the server; empty if it was not there.
        is_again: Whether it was asked twice.
        gone: What the server said in the device's place, and since when.
    """

    message: Message
    node_began: str
    is_again: bool = False
    gone: tuple[Message, float] | None = None


class AskingGrid(Grid):
    """A grid of devices that may be asked twice.

    Args:
        grid: Flower's own, to a server.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def set_run(self, run: Run) -> None:
        """Sets the run that messages belong to."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message from the server to a node."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """The ids of all nodes that are there."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Sends messages."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The answers that have come to messages."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Yields answers as they come, one to a message, until all are there or time is over."""
        sent = list(messages)
        names: dict[str, str] = {}
        out = self._begin(sent, names)
        began = time.monotonic()
        while out:
            asked = [other for other, name in names.items() if name in out]
            for reply in self._grid.pull_messages(asked) if asked else ():
                yield from self._settle(reply, out, names)
            yield from self._given_up(out)
            passed = time.monotonic() - began
            if not out or (timeout is not None and passed >= timeout):
                return
            is_late = timeout is not None and passed >= timeout / 2
            self._ask_again(out, names, is_late=is_late)
            time.sleep(POLL_SECONDS)

    def _begin(self, messages: Sequence[Message], names: dict[str, str]) -> dict[str, _Asked]:
        """Sends all, and takes down when whose program had begun."""
        there = self._programs()
        out = {}
        for message, name in zip(messages, self._grid.push_messages(messages), strict=False):
            if not name:  # Flower's server did not take it
                continue
            names[name] = name
            out[name] = _Asked(message, there.get(message.metadata.dst_node_id, ""))
        return out

    def _settle(
        self, reply: Message, out: dict[str, _Asked], names: dict[str, str]
    ) -> Iterator[Message]:
        """The answer under the first message's id; none where one was there or is yet to come."""
        name = names.pop(reply.metadata.reply_to_message_id, "")
        if name not in out:
            return
        set_reply_to(reply, name)
        asked = out[name]
        if says_gone(reply):
            if name in names.values():
                return
            if asked.node_began and not asked.is_again:
                asked.gone = (reply, time.monotonic())
                return
        del out[name]
        yield reply

    @staticmethod
    def _given_up(out: dict[str, _Asked]) -> Iterator[Message]:
        """What the server said of devices that did not come back."""
        for name, asked in list(out.items()):
            if asked.gone is not None and time.monotonic() - asked.gone[1] > RETURN_SECONDS:
                del out[name]
                yield asked.gone[0]

    def _ask_again(self, out: dict[str, _Asked], names: dict[str, str], *, is_late: bool) -> None:
        """Sends once more what a device has lost or seems to have lost."""
        there = self._programs()
        for name, asked in out.items():
            known = asked.message.metadata
            began = there.get(known.dst_node_id, "")
            is_back = bool(began) and began != asked.node_began
            if asked.is_again or not began or not (is_back or is_late):
                continue
            left = known.created_at + known.ttl - time.time()
            again = Message(
                asked.message.content,
                known.dst_node_id,
                known.message_type,
                ttl=left,
                group_id=known.group_id,
            )
            for other in self._grid.push_messages([again]):
                names[other] = name
                asked.is_again, asked.gone = True, None

    def _programs(self) -> dict[int, str]:
        """When the programs of the nodes that are there began."""
        return {node.node_id: node.last_activated_at for node in self._grid.get_nodes()}


__all__ = ["AskingGrid"]
