"""What the network lost on its way to a device is handed out again, by Flower's own state."""

from pathlib import Path

import pytest
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID, SubStatus
from flwr.server.superlink.linkstate import SqlLinkState
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.object_store.object_store_factory import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager

from pchmr.federated.flower import superlink
from pchmr.federated.flower.api import Message, RecordDict, set_identity, set_message_id
from pchmr.federated.flower.superlink import claim, hand_out


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqlLinkState:
    monkeypatch.setattr(superlink, "LOST_SECONDS", 0.0)
    path, manager = str(tmp_path / "state.db"), NoOpFederationManager()
    made = SqlLinkState(path, manager, ObjectStoreFactory(path).store())
    manager.linkstate = made
    made.initialize()
    return made


def sent(state: SqlLinkState) -> tuple[int, int, Message]:
    """A running run, a node that is there, and a message on its way."""
    node = state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, b"key", 30.0)
    state.activate_node(node, 30.0)
    run = state.create_run(
        None, None, "hash", {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
    )
    set_identity(run)
    message = Message(RecordDict(), node, "train")
    set_message_id(message, "m1")
    assert state.store_message_ins(message)
    return run, node, message


def begin(state: SqlLinkState, run: int) -> int:
    (info,) = state.get_run_info(run_ids=[run])
    task = info.primary_task_id
    assert task is not None and state.claim_task(task) and state.activate_task(task)
    return task


def test_who_asks_again_without_an_answer_is_handed_the_same(state: SqlLinkState) -> None:
    run, node, _ = sent(state)
    begin(state, run)
    handed = [[m.metadata.message_id for m in hand_out(state, node, 1)] for _ in range(2)]
    assert handed == [["m1"], ["m1"]]
    assert claim(state, node, 1) == []  # Flower alone counts it as delivered


def test_what_was_answered_or_is_of_an_ended_run_is_not(state: SqlLinkState) -> None:
    run, node, _ = sent(state)
    task = begin(state, run)
    (message,) = hand_out(state, node, 1)
    reply = Message(RecordDict(), reply_to=message)
    set_message_id(reply, "r1")
    reply.metadata.__dict__["_src_node_id"] = node
    assert state.store_message_res(reply)
    assert hand_out(state, node, 1) == []
    other = Message(RecordDict(), node, "train")
    set_message_id(other, "m2")
    assert state.store_message_ins(other)
    assert len(hand_out(state, node, 1)) == 1
    state.finish_task(task, SubStatus.COMPLETED, "")
    assert hand_out(state, node, 1) == []


def test_what_was_just_handed_out_is_left_alone(
    state: SqlLinkState, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, node, _ = sent(state)
    begin(state, run)
    monkeypatch.setattr(superlink, "LOST_SECONDS", 60.0)
    assert [len(hand_out(state, node, 1)) for _ in range(2)] == [1, 0]
