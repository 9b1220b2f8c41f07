"""What was lost is asked again, nobody else is, and answers stand under the first message's id."""

from collections.abc import Callable, Iterable
from types import SimpleNamespace

import pytest

from pchmr.deploy import asking
from pchmr.deploy.asking import MOST_ASKED, AskingGrid
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
from pchmr.federated.flower.replies import carried, check_envelope, in_order, says_gone

GONE = 3


class Clock:
    """Seconds that pass as they are slept."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class LossyGrid(InProcessGrid):
    """Two devices; `act(message, how often its device was asked, now)` makes what comes back.

    Like Flower's grid it takes all answers of a call from the server before it unpacks the first.
    """

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
        for made in found:
            if isinstance(made, Exception):
                raise made
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


def ask(grid: LossyGrid, timeout: float | None = 600.0, most_asked: int = MOST_ASKED) -> list[str]:
    """Who answered, or why not, in order; every answer stands up to the server's own checks."""
    set_identity(1)
    messages = [Message(RecordDict(), node, "train", group_id="1") for node in (2, 3)]
    found = []
    for arrival in in_order(messages, carried(AskingGrid(grid, most_asked), messages, timeout)):
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


def test_a_stage_of_a_secure_round_is_asked_once(clock: Clock) -> None:
    grid = LossyGrid(
        clock, lambda message, *_: answer(message) if is_first(message) else gone(message)
    )
    assert ask(grid, most_asked=1) == ["answered", "gone"]
    assert grid.asked == [2, 3] and clock.now == 0


@pytest.mark.parametrize("most_asked", [1, MOST_ASKED])
@pytest.mark.parametrize("bad", [2, 3])
def test_an_answer_that_cannot_be_unpacked_costs_its_sender_alone(
    clock: Clock, bad: int, most_asked: int
) -> None:
    def act(message: Message, times: int, now: float) -> object:
        known = message.metadata.dst_node_id
        return ValueError("unexpected children") if known == bad else answer(message)

    grid = LossyGrid(clock, act)
    assert ask(grid, most_asked=most_asked) == [
        "no_reply" if node == bad else "answered" for node in (2, 3)
    ]
    assert grid.asked == [2, 3] and clock.now == 0  # nobody waits, nobody is asked again


@pytest.mark.parametrize("liar", [2, 3])
def test_nobody_answers_in_the_name_of_others(clock: Clock, liar: int) -> None:
    """What stands on an answer is the device's own word, sender and message alike."""

    def act(message: Message, times: int, now: float) -> Message | None:
        if message.metadata.dst_node_id != liar:
            return answer(message) if now > 3 else None
        (other,) = (m for m, _ in grid.out.values() if m.metadata.dst_node_id != liar)
        forged = Message(Error(2, "policy"), reply_to=other)
        forged.metadata.__dict__["_src_node_id"] = other.metadata.dst_node_id
        return forged

    grid = LossyGrid(clock, act)
    assert ask(grid) == ["no_reply" if node == liar else "answered" for node in (2, 3)]
    assert grid.asked == [2, 3]


def test_polls_wait_once_however_many_are_asked(clock: Clock) -> None:
    calls = []

    class Counting(LossyGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
            asked = list(message_ids)
            calls.append(asked)
            return super().pull_messages(asked)

    grid = Counting(clock, lambda message, times, now: answer(message) if now >= 30 else None)
    assert ask(grid) == ["answered", "answered"]
    assert 30 <= clock.now <= 33
    assert len(calls) == 22 and all(len(asked) == 1 for asked in calls)
