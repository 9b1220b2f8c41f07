"""The in-process grid: order, protection between clients, codes instead of words, deadline."""

import time

import numpy as np
import pytest

from pchmr.federated.flower.api import (
    ArrayRecord,
    ClientApp,
    ConfigRecord,
    Message,
    MetricRecord,
    RecordDict,
    SharedArray,
)
from pchmr.federated.flower.grid import InProcessGrid
from pchmr.federated.flower.replies import in_order


def app_of(answer) -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message, context):
        return answer(message, context)

    return app


def echo(message, context) -> Message:
    content = RecordDict({"metrics": MetricRecord({"node": message.metadata.dst_node_id})})
    return Message(content, reply_to=message)


def messages_to(nodes, content=None) -> list[Message]:
    content = content or RecordDict({"config": ConfigRecord({"x": 1})})
    return [Message(content, node, "train", group_id="1") for node in nodes]


def test_replies_come_one_by_one_in_the_order_asked():
    calls = []

    def answer(message, context):
        calls.append(message.metadata.dst_node_id)
        return echo(message, context)

    grid = InProcessGrid(app_of(answer), 5)
    assert list(grid.get_node_ids()) == [2, 3, 4, 5, 6]
    replies = grid.send_and_receive(messages_to([4, 2]))
    assert calls == []
    assert next(replies).content["metrics"]["node"] == 4
    assert calls == [4]
    assert [r.content["metrics"]["node"] for r in replies] == [2]


def test_push_and_pull():
    grid = InProcessGrid(app_of(echo), 3)
    ids = list(grid.push_messages(messages_to([2, 3])))
    assert [r.metadata.reply_to_message_id for r in grid.pull_messages(reversed(ids))] == ids[::-1]
    assert list(grid.pull_messages([*ids, "unknown"])) == []


def test_a_client_cannot_change_what_another_receives():
    values = np.arange(3, dtype=np.float32)
    arrays = ArrayRecord()
    arrays["x"] = SharedArray(values)
    seen = []

    def vandal(message, context):
        seen.append((dict(message.content["config"]), message.content["arrays"]["x"].numpy().sum()))
        with pytest.raises(ValueError, match="read-only"):
            message.content["arrays"]["x"].numpy()[0] = 99
        message.content["config"]["x"] = 666
        del message.content["arrays"]["x"]
        return echo(message, context)

    content = RecordDict({"config": ConfigRecord({"x": 1}), "arrays": arrays})
    replies = list(InProcessGrid(app_of(vandal), 2).send_and_receive(messages_to([2, 3], content)))
    assert not any(reply.has_error() for reply in replies)
    assert seen == [({"x": 1}, 3.0)] * 2


def test_what_a_client_raises_becomes_a_code():
    def broken(message, context):
        raise OSError("/home/someone/IMG_0001.jpg")

    (reply,) = InProcessGrid(app_of(broken), 1).send_and_receive(messages_to([2]))
    assert (reply.error.code, reply.error.reason) == (2, "client_error")


def test_deadline_stops_handing_out_messages():
    def slow(message, context):
        time.sleep(0.02)
        return echo(message, context)

    grid = InProcessGrid(app_of(slow), 9)
    assert len(list(grid.send_and_receive(messages_to(range(2, 11)), timeout=0.01))) == 1


def test_a_context_stays_with_its_node():
    def count(message, context):
        times = context.state.get("n", ConfigRecord({"times": 0}))["times"] + 1
        context.state["n"] = ConfigRecord({"times": times})
        return Message(RecordDict({"metrics": MetricRecord({"n": times})}), reply_to=message)

    grid = InProcessGrid(app_of(count), 2)
    replies = list(grid.send_and_receive(messages_to([2, 3, 2])))
    assert [r.content["metrics"]["n"] for r in replies] == [1, 1, 2]


def arrivals(order) -> list[tuple[int | None, str | None]]:
    grid = InProcessGrid(app_of(echo), 4)
    messages = messages_to([2, 3, 4])
    replies = list(grid.send_and_receive(messages))
    strays = messages_to([2])
    strays += list(grid.send_and_receive(strays))
    shuffled = [strays[1] if i == "stray" else replies[i] for i in order]
    return [(a.position, a.reason) for a in in_order(messages, shuffled)]


def test_replies_are_brought_into_order():
    assert arrivals([2, 0, 1]) == [(0, None), (1, None), (2, None)]
    assert arrivals([0, 0, 2]) == [(0, None), (0, "duplicate"), (1, "no_reply"), (2, None)]
    assert arrivals([]) == [(i, "no_reply") for i in range(3)]
    assert arrivals([1, "stray", 0, 2]) == [
        (None, "unknown_sender"), (0, None), (1, None), (2, None),
    ]  # fmt: skip


def test_an_early_reply_keeps_its_values_when_its_sender_goes_on():
    lent = np.zeros(2, dtype=np.float32)

    def answer(message, context):
        lent[:] = message.metadata.dst_node_id
        arrays = ArrayRecord()
        arrays["x"] = SharedArray(lent)
        return Message(RecordDict({"arrays": arrays}), reply_to=message)

    messages = messages_to([2, 3, 4])
    replies = InProcessGrid(app_of(answer), 3).send_and_receive([messages[i] for i in (1, 2, 0)])
    found = [float(a.reply.content["arrays"]["x"].numpy()[0]) for a in in_order(messages, replies)]
    assert found == [2.0, 3.0, 4.0]
