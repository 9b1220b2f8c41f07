"""Worker processes: messages cross unchanged, the weights at the end are the same bits."""

import os
import signal

import numpy as np
import pytest
import torch
from toy import config_of, folder, world_of

from pchmr.config import PrivacyOptions, SettingError
from pchmr.federated import run_federated
from pchmr.federated.flower.api import (
    ArrayRecord,
    ConfigRecord,
    Message,
    MetricRecord,
    RecordDict,
    SharedArray,
    set_identity,
    set_message_id,
)
from pchmr.federated.flower.client_app import refusal
from pchmr.federated.flower.workers import Parcel, WorkerGrid, _fill, _values
from pchmr.runs import state_sha256


def message_of() -> Message:
    set_identity(1)
    arrays = ArrayRecord()
    arrays["a"] = SharedArray(np.arange(3, dtype=np.float32))
    arrays["b"] = SharedArray(np.full(2, 7, dtype=np.float32))
    content = RecordDict({"x": arrays, "c": ConfigRecord({"k": "v"}), "m": MetricRecord({"n": 1})})
    message = Message(content, 5, "train", group_id="3")
    set_message_id(message, "m9")
    return message


def test_a_message_crosses_unchanged():
    message, block = message_of(), np.zeros(9, dtype=np.float32)
    _fill(block, _values(message))
    found = Parcel.of(message).message(block)
    assert found.metadata == message.metadata
    assert {k: type(v) for k, v in found.content.items()} == {
        "x": ArrayRecord, "c": ConfigRecord, "m": MetricRecord,
    }  # fmt: skip
    np.testing.assert_array_equal(found.content["x"]["b"].numpy(), [7, 7])
    assert np.shares_memory(found.content["x"]["a"].numpy(), block)
    assert dict(found.content["c"]) == {"k": "v"}


def test_a_refusal_crosses_as_its_code():
    asked = message_of()
    reply = refusal(asked, "task_schema")
    found = Parcel.of(reply).message(np.zeros(0, np.float32), reply_to=asked)
    assert found.error == reply.error
    assert found.metadata.reply_to_message_id == "m9"


def test_number_of_workers_is_checked():
    with pytest.raises(SettingError, match="--num-workers"):
        config_of(num_workers=0)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold"])
def test_workers_end_with_the_same_bits(algorithm, tmp_path):
    torch.set_num_threads(1)
    ends = []
    for num_workers in (1, 2):
        config = config_of(algorithm=algorithm, num_workers=num_workers)
        result = run_federated(config, world_of(config), folder(tmp_path / str(num_workers)))
        assert not any(row["quarantined"] for row in result.rows)
        ends.append(state_sha256(result.state_dict))
    assert ends[0] == ends[1]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["fedavg", "fedyogi"])
def test_workers_sum_under_masks_as_one_process_does(algorithm, tmp_path):
    """Up to the roundings, which come from the system; without AdamW, which magnifies them."""
    torch.set_num_threads(1)
    ends = []
    for num_workers in (1, 2):
        config = config_of(
            algorithm=algorithm,
            num_workers=num_workers,
            num_clients=6,
            clients_per_round=6,
            privacy_options=PrivacyOptions(aggregation="secure", secure_bits=32),
        )
        world = world_of(config, optimizer="sgd")
        result = run_federated(config, world, folder(tmp_path / str(num_workers)))
        assert [row["sum"]["survivors"] for row in result.rows] == [6, 6, 6]
        ends.append(torch.cat([v.flatten().float() for v in result.state_dict.values()]))
    assert torch.allclose(ends[0], ends[1], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_the_run_goes_on(tmp_path, monkeypatch):
    config = config_of(num_workers=2, num_rounds=3)
    begin, grids = WorkerGrid._carry, []

    def carry(grid, messages, timeout):
        if not grids:
            os.kill(grid._workers[0]._process.pid, signal.SIGKILL)
        grids.append(grid)
        return begin(grid, messages, timeout)

    monkeypatch.setattr(WorkerGrid, "_carry", carry)
    rows = run_federated(config, world_of(config), folder(tmp_path)).rows
    assert [len(row["quarantined"]) for row in rows] == [1, 0, 0]
    assert rows[0]["quarantined"][0]["reason"] == "client_error"
    assert all(row["changed"] for row in rows)


@pytest.mark.slow
def test_starting_a_worker_is_no_client_delay(tmp_path):
    config = config_of({"deadline_seconds": 2.0}, num_workers=2, num_rounds=2)
    rows = run_federated(config, world_of(config), folder(tmp_path)).rows
    assert [len(row["client_samples"]) for row in rows] == [3, 3]
    assert not any(row["quarantined"] for row in rows)
