"""The egress schema: one legal reply, and everything else refused on both ends."""

import numpy as np
import pytest

from pchmr.federated.flower.api import Array, ConfigRecord, SharedArray, wire_array
from pchmr.federated.flower.egress import pack, unpack, vector_of
from pchmr.federated.update import METRICS, SCHEMA, Rejected, Update, UpdateSchema

RULES = UpdateSchema(sizes={"delta": 6, "buffers": 2}, fingerprint="f" * 64, run=99)
ECHO = RULES.echo(3, 8)


def update_of(**changes) -> Update:
    arrays = {"delta": np.arange(6, dtype=np.float32), "buffers": np.ones(2, np.float32)}
    update = Update(arrays=arrays, num_samples=5, num_steps=1, loss_sum=0.5)
    update.__dict__.update(changes)  # past the type checks that tests run with
    return update


@pytest.mark.parametrize("carry", [SharedArray, wire_array])
def test_what_is_built_passes_and_is_the_same(carry):
    content = pack(RULES, update_of(), ECHO, carry)
    found = unpack(RULES, content, ECHO)
    np.testing.assert_array_equal(found.arrays["delta"], np.arange(6, dtype=np.float32))
    assert found.metrics == update_of().metrics
    assert set(found.metrics) == set(METRICS)


@pytest.mark.parametrize(
    "changes",
    [
        {"arrays": {"delta": np.zeros(6, np.float32)}},
        {"arrays": {"delta": np.zeros(6, np.float32), "buffers": np.zeros(3, np.float32)}},
        {"arrays": {"delta": np.zeros(6), "buffers": np.zeros(2, np.float32)}},
        {"arrays": update_of().arrays | {"image": np.zeros(2, np.float32)}},
        {"num_samples": 5.0},
        {"num_samples": True},
        {"loss_sum": 1},
        {"loss_sum": [0.5]},
        {"loss_sum": "0.5"},
    ],
)
def test_the_client_refuses_to_send_anything_else(changes):
    with pytest.raises(Rejected, match="schema"):
        pack(RULES, update_of(**changes), ECHO, SharedArray)


@pytest.mark.parametrize(
    "field", [{"round": 4}, {"client_id": 9}, {"run": 98}, {"round": 3.0}, {"note": "x"}]
)
def test_the_server_wants_its_own_words_back(field):
    content = pack(RULES, update_of(), ECHO | field, SharedArray)
    with pytest.raises(Rejected, match="schema"):
        unpack(RULES, content, ECHO)


def test_the_only_texts_are_the_schema_and_the_fingerprint():
    content = pack(RULES, update_of(), ECHO, SharedArray)
    texts = [v for v in content["protocol"].values() if isinstance(v, str)]
    assert sorted(texts) == sorted([SCHEMA, "f" * 64])
    assert not any(isinstance(v, bytes) for v in content["protocol"].values())


def test_payload_length_is_the_same_for_every_client_and_round():
    lengths = set()
    for round_number, client_id, count in [(1, 0, 1), (200, 999, 4000)]:
        echo = RULES.echo(round_number, client_id)
        content = pack(RULES, update_of(num_samples=count), echo, wire_array)
        lengths.add(sum(len(a.data) for a in content["update"].values()))
    assert len(lengths) == 1


def test_nothing_larger_than_expected_is_unpacked(monkeypatch):
    bomb = Array("float32", (6,), "numpy.ndarray", wire_array(np.zeros(10**6, np.float32)).data)
    monkeypatch.setattr(Array, "numpy", lambda self: pytest.fail("was unpacked"))
    with pytest.raises(Rejected, match="schema"):
        vector_of(bomb, 6)


def test_pickles_are_not_read():
    held = np.array([{"a": 1}], dtype=object)
    import io

    buffer = io.BytesIO()
    np.save(buffer, held, allow_pickle=True)
    with pytest.raises(Rejected, match="schema"):
        vector_of(Array("float32", (1,), "numpy.ndarray", buffer.getvalue()), 1)


def test_a_config_in_place_of_numbers_is_refused():
    content = pack(RULES, update_of(), ECHO, SharedArray)
    del content["metrics"]
    content["metrics"] = ConfigRecord({"num_samples": 5})
    with pytest.raises(Rejected, match="schema"):
        unpack(RULES, content, ECHO)


def test_a_legal_reply_survives_the_wire():
    """Serialized and read back as a deployment does it."""
    utils = pytest.importorskip("flwr.supercore.inflatable.inflatable_utils")
    nested = pytest.importorskip("flwr.supercore.inflatable.inflatable_object")
    content = pack(RULES, update_of(), ECHO, wire_array)
    contents = {k: o.deflate() for k, o in nested.get_all_nested_objects(content).items()}
    received = utils.inflate_object_from_contents(content.object_id, contents)
    found = unpack(RULES, received, ECHO)
    np.testing.assert_array_equal(found.arrays["delta"], np.arange(6, dtype=np.float32))
    assert found.metrics == update_of().metrics
