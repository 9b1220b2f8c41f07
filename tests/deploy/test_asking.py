"""What a network lost is asked again, once, and answers stand under the first message's id."""

from collections.abc import Callable, Iterable
from types import SimpleNamespace

import pytest

from pchmr.deploy import asking
from pchmr.deploy.asking import AskingGrid
from pchmr.federated.flower.api import (
    SERVER_NODE,
    ClientApp,
    Error,
    Message,
    RecordDict,
    set_identity,
    set_message_id,
)
from pchmr.federated.flower.grid import InProcessGrid
from pchmr.federated.flower.replies import check_envelope, in_order, says_gone

GONE = 3


class Clock:
    """Seconds that pass as they are slept."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class LossyGrid(InProcessGrid):
    """Two devices; `act(message, how often its device was asked, now)` makes what comes back."""

    def __init__(self, clock: Clock, act: Callable[[Message, int, float], object]) -> None:
        super().__init__(ClientApp(), num_nodes=2)
        self.clock, self.act = clock, act
        self.began: Callable[[int], str] = lambda node: "morning"
        self.out: dict[str, tuple[Message, int]] = {}
        self.asked: list[int] = []

    def get_nodes(self):
        return [
            SimpleNamespace(node_id=node, last_activated_at=began)
            for node in self.get_node_ids()
            if (began := self.began(node))
        ]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        names = []
        for message in messages:
            node = message.metadata.dst_node_id
            self.asked.append(node)
            names.append(f"m{len(self.asked)}")
            set_message_id(message, names[-1])
            self.out[names[-1]] = (message, self.asked.count(node))
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        found = []
        for name in list(message_ids):
            message, times = self.out[name]
            made = self.act(message, times, self.clock.now)
            if made is not None:
                del self.out[name]
                found.append(made)
        return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    stub = SimpleNamespace(monotonic=lambda: made.now, sleep=made.sleep, time=asking.time.time)
    monkeypatch.setattr(asking, "time", stub)
    return made


def answer(message: Message) -> Message:
    reply = Message(RecordDict(), reply_to=message)
    reply.metadata.__dict__["_src_node_id"] = message.metadata.dst_node_id
    return reply


def gone(message: Message) -> Message:
    reply = Message(Error(GONE), reply_to=message)
    reply.metadata.__dict__["_src_node_id"] = SERVER_NODE
    assert says_gone(reply)
    return reply


def ask(grid: LossyGrid, timeout: float | None = 600.0) -> list[str]:
    """Who answered, or why not, in order; every answer stands up to the server's own checks."""
    set_identity(1)
    messages = [Message(RecordDict(), node, "train", group_id="1") for node in (2, 3)]
    found = []
    carried = AskingGrid(grid).send_and_receive(messages, timeout=timeout)
    for arrival in in_order(messages, carried):
        if arrival.reply is None or arrival.position is None:
            found.append(str(arrival.reason))
        elif says_gone(arrival.reply):
            found.append("gone")
        else:
            check_envelope(messages[arrival.position], arrival.reply)
            found.append("answered")
    return found


def test_who_answers_is_asked_once(clock: Clock) -> None:
    grid = LossyGrid(clock, lambda message, times, now: answer(message) if now > 30 else None)
    assert ask(grid) == ["answered", "answered"]
    assert grid.asked == [2, 3]


def test_a_lost_task_is_asked_again_at_half_of_the_deadline(clock: Clock) -> None:
    def act(message: Message, times: int, now: float) -> Message | None:
        is_lost = message.metadata.dst_node_id == 3 and times == 1
        return None if is_lost else answer(message)

    grid = LossyGrid(clock, act)
    assert ask(grid) == ["answered", "answered"]
    assert grid.asked == [2, 3, 3] and 300 <= clock.now < 310


def test_who_never_answers_is_asked_twice_and_left_out(clock: Clock) -> None:
    silent = LossyGrid(
        clock, lambda message, *_: answer(message) if message.metadata.dst_node_id == 2 else None
    )
    assert ask(silent) == ["answered", "no_reply"]
    assert silent.asked == [2, 3, 3] and 600 <= clock.now < 610


def test_a_device_whose_program_began_again_is_asked_again_at_once(clock: Clock) -> None:
    def act(message: Message, times: int, now: float) -> Message | None:
        if message.metadata.dst_node_id == 2 or times == 2:
            return answer(message)
        return gone(message) if now >= 3 else None

    def began(node: int) -> str:
        if node == 2 or clock.now < 3:
            return "morning"
        return "" if clock.now < 9 else "noon"

    grid = LossyGrid(clock, act)
    grid.began = began
    assert ask(grid) == ["answered", "answered"]
    assert grid.asked == [2, 3, 3] and clock.now < 30


def test_a_device_that_does_not_come_back_is_told_as_gone(clock: Clock) -> None:
    def act(message: Message, times: int, now: float) -> Message:
        if message.metadata.dst_node_id == 2:
            return answer(message)
        grid.began = lambda node: "morning" if node == 2 else ""
        return gone(message)

    grid = LossyGrid(clock, act)
    assert ask(grid) == ["answered", "gone"]
    assert grid.asked == [2, 3] and 30 < clock.now < 40
    assert ask(grid) == ["answered", "gone"]  # it was away from the first: nobody waits
    assert clock.now < 40


def test_both_answers_to_a_task_asked_twice_count_once(clock: Clock) -> None:
    def act(message: Message, times: int, now: float) -> Message | None:
        is_slow = message.metadata.dst_node_id == 3
        return None if is_slow and now < 400 else answer(message)

    grid = LossyGrid(clock, act)
    assert ask(grid) == ["answered", "answered"]
    assert grid.asked == [2, 3, 3]
