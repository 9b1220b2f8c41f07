"""Flower is imported quietly, arrays are shared, and a version that does not fit says so."""

import os

import numpy as np
import pytest

from pchmr.federated.flower import api as flower


def test_telemetry_is_off_whatever_the_user_has_set():
    assert flower.telemetry.FLWR_TELEMETRY_ENABLED == "0"
    for name, value in flower.QUIET.items():
        assert os.environ[name] == value


def test_a_version_that_does_not_fit_says_so_in_one_line(monkeypatch):
    monkeypatch.setattr(flower, "set_message_id", lambda message, message_id: None)
    with pytest.raises(ValueError, match="behaves differently"):
        flower._self_test()
    told = str(flower.FlowerVersionError(ValueError("a message behaves differently")))
    assert "constraints.txt" in told
    assert "\n" not in told


def test_shared_array_refers_and_protects():
    values = np.arange(4, dtype=np.float32)
    array = flower.SharedArray(values)
    assert np.shares_memory(array.numpy(), values)
    with pytest.raises(ValueError, match="read-only"):
        array.numpy()[0] = 1
    values[0] = 9  # the owner may still write
    assert array.numpy()[0] == 9
    np.testing.assert_array_equal(flower.wire_array(values).numpy(), values)
    assert array.data == flower.wire_array(values).data
