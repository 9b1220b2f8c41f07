"""Asks devices: takes each answer by itself, and asks again for one that was lost.

Flower's grid confirms and unpacks all answers of a call before it gives any of them out, so that
one which cannot be unpacked would take along those beside it. Each is therefore pulled by a call of
its own, under the message that it must answer, and costs nobody but its sender.

A device's program that ends takes what it held with it, and a connection torn at the wrong moment
costs an answer for good: Flower's server then says that there will be none. A plain task may be
answered twice, the same way (`pchmr.federated.ledger`), so it is asked again as soon as the device
is there. Only what the server gave up is: who is slow is never asked twice, since a copy would wait
behind the task. Stages of a secure round are asked once: there, who is lost is left out.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pchmr.federated.flower.api import Grid, Message, RecordDict, Run, set_reply_to
from pchmr.federated.flower.replies import says_gone

log = logging.getLogger("pchmr.federated.server")
POLL_SECONDS = 3.0
RETURN_SECONDS = 60.0
"""How long a device that was there at first may be away: its program begins again in half of it."""
MOST_ASKED = 3


@dataclass
class _Asked:
    """A task that is out.

    Attributes:
        message: As it was first sent.
        was_there: Whether its device was, when it was last asked.
        times: How often it was asked.
        gone: What the server said in the device's place, and since when.
    """

    message: Message
    was_there: bool
    times: int = 1
    gone: tuple[Message, float] | None = None


class AskingGrid(Grid):
    """A grid of devices, whose answers may be anything and may be lost.

    Args:
        grid: Flower's own, to a server.
        most_asked: How often a device is asked for one answer.
    """

    def __init__(self, grid: Grid, most_asked: int = MOST_ASKED) -> None:
        self._grid, self._most_asked = grid, most_asked

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
        names: dict[str, str] = {}
        out = self._begin(list(messages), names)
        began = time.monotonic()
        while out:
            for other in list(names):
                yield from self._settle(other, out, names)
            is_over = timeout is not None and time.monotonic() - began >= timeout
            yield from self._given_up(out, is_over=is_over)
            if is_over or not out:
                return
            self._ask_again(out, names)
            time.sleep(POLL_SECONDS)

    def _begin(self, messages: Sequence[Message], names: dict[str, str]) -> dict[str, _Asked]:
        """Sends all; each is told under the id that it now gets."""
        there, out = set(self._grid.get_node_ids()), {}
        for message, name in zip(messages, self._grid.push_messages(messages), strict=False):
            if name:  # else Flower's server did not take it
                names[name] = name
                out[name] = _Asked(message, message.metadata.dst_node_id in there)
        return out

    def _settle(
        self, other: str, out: dict[str, _Asked], names: dict[str, str]
    ) -> Iterator[Message]:
        """The answer to a message under the first one's id; none if it is lost or yet to come."""
        found = self._pull(other)
        if found is None:
            return
        name = names.pop(other)
        asked = out[name]
        if not found:  # the server gave it out and will not do so again
            log.warning(
                "node %d gave no answer that can be read", asked.message.metadata.dst_node_id
            )
            del out[name]
            return
        reply = found[0]
        set_reply_to(reply, name)
        if says_gone(reply) and asked.was_there and asked.times < self._most_asked:
            asked.gone = (reply, time.monotonic())
            return
        del out[name]
        yield reply

    def _pull(self, other: str) -> list[Message] | None:
        """The answer that came to a message, in a list; None if none did.

        The list is empty where Flower cannot unpack what came, or where that answers another
        message: nobody answers in the name of others.
        """
        try:
            came = list(self._grid.pull_messages([other]))
        except Exception as error:  # a device sends what it likes
            log.warning("an answer cannot be unpacked: %s", type(error).__name__)
            return []
        return [m for m in came if m.metadata.reply_to_message_id == other] if came else None

    @staticmethod
    def _given_up(out: dict[str, _Asked], *, is_over: bool) -> Iterator[Message]:
        """What the server said of devices that did not come back in time."""
        for name, asked in list(out.items()):
            if asked.gone is None:
                continue
            reply, since = asked.gone
            if is_over or time.monotonic() - since > RETURN_SECONDS:
                del out[name]
                yield reply

    def _ask_again(self, out: dict[str, _Asked], names: dict[str, str]) -> None:
        """Sends once more what was given up, to devices that are there."""
        lost = {name: asked for name, asked in out.items() if asked.gone is not None}
        there = set(self._grid.get_node_ids()) if lost else set()
        for name, asked in lost.items():
            known = asked.message.metadata
            if known.dst_node_id not in there:
                continue
            again = Message(
                asked.message.content,
                known.dst_node_id,
                known.message_type,
                ttl=known.created_at + known.ttl - time.time(),
                group_id=known.group_id,
            )
            for other in filter(None, self._grid.push_messages([again])):
                names[other] = name
                asked.times, asked.gone = asked.times + 1, None


__all__ = ["AskingGrid"]
