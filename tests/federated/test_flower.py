"""Flower is imported quietly, writes nothing, and a version that does not fit says so."""

import os
import subprocess
import sys

import numpy as np
import pytest

from pchmr.federated import flower

SCRIPT = """
import socket, sys
def refuse(*a, **k): raise RuntimeError("a connection was tried")
socket.socket.connect = refuse
import pchmr.federated
from flwr.supercore import telemetry
assert telemetry.FLWR_TELEMETRY_ENABLED == "0"
assert "ray" not in sys.modules
"""


def test_import_writes_nothing_at_home_and_connects_nowhere(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith("FLWR")} | {"HOME": str(home)}
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, env=env, timeout=120)
    assert list(home.rglob("*")) == []


def test_telemetry_is_off_whatever_the_user_has_set():
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
