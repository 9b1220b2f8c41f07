"""Replies off the wire: what Flower takes from a client unchecked costs that client's reply."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from toy import config_of, folder, world_of

from pchmr.bench.tampering import HALF_LETTER, UNSPEAKABLE
from pchmr.config import PrivacyOptions
from pchmr.federated import Engine, run_federated
from pchmr.federated.flower.api import (
    ArrayRecord,
    ClientApp,
    ConfigRecord,
    Message,
    RecordDict,
    content_bytes,
    new_context,
    wire_array,
)
from pchmr.federated.flower.client_app import make_client_app
from pchmr.federated.flower.engines import RUN_ID
from pchmr.federated.flower.grid import InProcessGrid
from pchmr.federated.flower.replies import carried, in_order
from pchmr.federated.flower.residence import Residence
from pchmr.federated.flower.server_app import make_server_app

LIAR, NUM_CLIENTS = 3, 6
utils = pytest.importorskip("flwr.supercore.inflatable.inflatable_utils")
nested = pytest.importorskip("flwr.supercore.inflatable.inflatable_object")
Break = Callable[[Message], Message]


def over_the_wire(message: Message) -> Message:
    """Taken apart as a client does it, looked at as a server does, and put together again."""
    contents = {}
    for name, part in nested.get_all_nested_objects(message).items():
        contents[name] = part.deflate()
        utils.validate_object_content(contents[name])
    made = utils.inflate_object_from_contents(message.object_id, contents)
    made.metadata.__dict__.update(message.metadata.__dict__)
    return made


def lying(change: Break, told: list[Message]) -> Engine:
    """An engine whose replies cross the wire, those of one client changed before they do."""

    class Wire(InProcessGrid):
        def _deliver(self, message: Message) -> Message:
            reply = super()._deliver(message)
            if message.content["protocol"]["client_id"] != LIAR:
                return over_the_wire(reply)
            told.append(over_the_wire(change(reply)))
            return told[-1]

    def run(server: Any, world: Any, states: Any) -> None:
        app = make_client_app(Residence(world, states), wire_array)
        make_server_app(server)(Wire(app, NUM_CLIENTS, RUN_ID), new_context(RUN_ID, 0))

    return Engine(wire_array, run)


def check_round(change: Break, path: Any, **options: Any) -> None:
    """One reply is set aside, and it is one that could not be sent on."""
    told: list[Message] = []
    config = config_of(clients_per_round=NUM_CLIENTS, num_rounds=1, **options)
    engine = lying(change, told)
    (row,) = run_federated(config, world_of(config), folder(path), engine=engine).rows
    assert row["changed"]
    assert row["quarantined"] == [{"client_id": LIAR, "reason": "schema"}]
    with pytest.raises(ValueError):
        content_bytes(told[0].content)


@pytest.mark.parametrize("name", sorted(UNSPEAKABLE))
def test_what_cannot_be_serialized_again_costs_one_reply(name: str, tmp_path: Any) -> None:
    check_round(lambda reply: UNSPEAKABLE[name](reply)[0], tmp_path)


def array_beside(name: str, **said: Any) -> Callable[[RecordDict], None]:
    """Adds an array that says such things of itself."""

    def change(content: RecordDict) -> None:
        array = wire_array(np.zeros(3, dtype=np.float32))
        array.__dict__.update(said)
        content["more"] = ArrayRecord({name: array})

    return change


SECURE_LIES: dict[str, Callable[[RecordDict], None]] = {
    "shape": array_beside("x", shape=(2**40,)),
    "dtype": array_beside("x", dtype=HALF_LETTER),
    "array": array_beside(HALF_LETTER),
    "record": lambda c: c.__setitem__(HALF_LETTER, ConfigRecord({"name": "x"})),
}


@pytest.mark.parametrize("name", sorted(SECURE_LIES))
def test_so_it_does_where_sums_alone_are_seen(name: str, tmp_path: Any) -> None:
    def change(reply: Message) -> Message:
        SECURE_LIES[name](reply.content)
        return reply

    check_round(change, tmp_path, privacy_options=PrivacyOptions(aggregation="secure"))


def test_a_grid_that_fails_is_asked_nothing_twice() -> None:
    sent: list[int] = []

    class Failing(InProcessGrid):
        def send_and_receive(
            self, messages: Iterable[Message], *, timeout: float | None = None
        ) -> Iterator[Message]:
            stamped = list(messages)
            sent.extend(message.metadata.dst_node_id for message in stamped)
            yield next(super().send_and_receive(stamped, timeout=timeout))
            raise OSError

    app = ClientApp()
    app.train()(lambda message, context: Message(RecordDict(), reply_to=message))
    grid = Failing(app, 3)
    messages = [Message(RecordDict(), node, "train", group_id="1") for node in (2, 3, 4)]
    found = [(a.position, a.reason) for a in in_order(messages, carried(grid, messages, None))]
    assert found == [(0, None), (1, "no_reply"), (2, "no_reply")]
    assert sent == [2, 3, 4]
