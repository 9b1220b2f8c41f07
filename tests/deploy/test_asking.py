"""What was lost is asked again, nobody else is, and answers stand under the first message's id."""

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
        self.is_there: Callable[[int], bool] = lambda node: True
        self.out: dict[str, tuple[Message, int]] = {}
        self.asked: list[int] = []

    def get_node_ids(self) -> list[int]:
        return [node for node in super().get_node_ids() if self.is_there(node)]

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


def is_first(message: Message) -> bool:
    return message.metadata.dst_node_id == 2


def test_who_answers_is_asked_once_however_slow(clock: Clock) -> None:
    grid = LossyGrid(clock, lambda message, times, now: answer(message) if now > 590 else None)
    assert ask(grid) == ["answered", "answered"]
    assert grid.asked == [2, 3]


def test_who_never_answers_is_asked_once_and_left_out(clock: Clock) -> None:
    silent = LossyGrid(clock, lambda message, *_: answer(message) if is_first(message) else None)
    assert ask(silent) == ["answered", "no_reply"]
    assert silent.asked == [2, 3] and 600 <= clock.now < 610


def test_what_the_server_lost_is_asked_again_at_once(clock: Clock) -> None:
    def act(message: Message, times: int, now: float) -> Message:
        return answer(message) if is_first(message) or times == 2 else gone(message)

    grid = LossyGrid(clock, act)
    assert ask(grid) == ["answered", "answered"]
    assert grid.asked == [2, 3, 3] and clock.now < 10


def test_a_device_whose_program_began_again_is_asked_again(clock: Clock) -> None:
    def act(message: Message, times: int, now: float) -> Message | None:
        if is_first(message) or times == 2:
            return answer(message)
        return gone(message) if now >= 3 else None

    grid = LossyGrid(clock, act)
    grid.is_there = lambda node: node == 2 or not 3 <= clock.now < 45
    assert ask(grid) == ["answered", "answered"]
    assert grid.asked == [2, 3, 3] and 45 <= clock.now < 60


@pytest.mark.parametrize(("timeout", "most"), [(600.0, 75.0), (30.0, 35.0)])
def test_a_device_that_does_not_come_back_is_told_as_gone(
    clock: Clock, timeout: float, most: float
) -> None:
    def act(message: Message, times: int, now: float) -> Message:
        grid.is_there = is_second_away
        return answer(message) if is_first(message) else gone(message)

    def is_second_away(node: int) -> bool:
        return node == 2

    grid = LossyGrid(clock, act)
    assert ask(grid, timeout) == ["answered", "gone"]
    assert grid.asked == [2, 3] and min(timeout, 60) <= clock.now < most
    before = clock.now
    assert ask(grid, timeout) == ["answered", "gone"]  # away from the first: nobody waits
    assert clock.now == before


def test_a_device_that_is_lost_again_and_again_is_left_out(clock: Clock) -> None:
    grid = LossyGrid(
        clock, lambda message, *_: answer(message) if is_first(message) else gone(message)
    )
    assert ask(grid) == ["answered", "gone"]
    assert grid.asked == [2, 3, 3, 3]
