"""Checkpoints: whole or passed over, three kept, never of another run."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from pchmr.config import SettingError
from pchmr.federated.client_state import ClientStates, fitting
from pchmr.federated.secure import Refusal
from pchmr.runs.checkpoints import KEPT, Checkpoint, Checkpoints, write_vectors

IDENTITY = {"settings": "a", "data": "b"}


def checkpoint_of(number: int) -> Checkpoint:
    vectors = {"parameters": np.full(50, number, np.float32), "buffers": np.empty(0, np.float32)}
    memory = {"gate": [[0.1 * number, 3, 0.0]]}
    rows = [{"round": r, "losses": {"total": 1 / 3}} for r in range(1, number + 1)]
    return Checkpoint(number, vectors, memory, rows, IDENTITY)


@pytest.fixture
def saved(tmp_path) -> Checkpoints:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for number in range(1, 6):
        checkpoints.save(checkpoint_of(number))
    return checkpoints


def test_the_latest_comes_back_exactly(saved):
    found = saved.latest(IDENTITY)
    assert found is not None
    assert (found.round, found.rows, found.memory) == (
        5, checkpoint_of(5).rows, checkpoint_of(5).memory,
    )  # fmt: skip
    for name, vector in checkpoint_of(5).vectors.items():
        np.testing.assert_array_equal(found.vectors[name], vector)


def test_three_are_kept_and_no_temporary_file(saved):
    names = sorted(path.name for path in saved.folder.iterdir())
    assert len(names) == 2 * KEPT
    assert names[0].startswith("round_000003")


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "delete"])
def test_a_damaged_one_is_passed_over(saved, suffix, damage):
    path = saved.folder / f"round_000005.{suffix}"
    content = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        cut = {"flip": len(content), "truncate": len(content) // 2, "empty": 0}[damage]
        path.write_bytes(content[:cut])
    found = saved.latest(IDENTITY)
    assert found is not None
    assert found.round == 4


def write_sealed(path: Path, manifest: dict) -> None:
    text = json.dumps(manifest)
    path.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n")


@pytest.mark.parametrize(
    "change", [{"format": None}, {"round": "5"}, {"memory": []}, {"rows": {}}, {"identity": []}]
)
def test_one_that_is_sealed_and_not_a_checkpoint_is_passed_over(saved, change):
    path = saved.folder / "round_000005.json"
    manifest = json.loads(path.read_text().split("\n", 1)[1]) | change
    write_sealed(path, {name: value for name, value in manifest.items() if value is not None})
    found = saved.latest(IDENTITY)
    assert found is not None
    assert found.round == 4


def test_one_of_another_version_is_refused(saved, monkeypatch):
    monkeypatch.setattr("pchmr.runs.checkpoints.FORMAT", "pchmr/checkpoint/v9")
    with pytest.raises(SettingError, match="another version of pchmr; start anew"):
        saved.latest(IDENTITY)


def test_one_of_another_version_is_refused_whatever_it_holds(saved):
    write_sealed(saved.folder / "round_000005.json", {"format": "pchmr/checkpoint/v0"})
    with pytest.raises(SettingError, match="another version of pchmr; start anew"):
        saved.latest(IDENTITY)


def test_vectors_without_manifest_do_not_count(saved):
    write_vectors(saved.folder / "round_000006.safetensors", checkpoint_of(6).vectors)
    found = saved.latest(IDENTITY)
    assert found is not None
    assert found.round == 5


def test_another_run_is_refused(saved):
    with pytest.raises(SettingError, match="another data"):
        saved.latest(IDENTITY | {"data": "c"})


def test_all_damaged_is_an_error_and_none_is_a_fresh_start(saved, tmp_path):
    for path in saved.folder.glob("*.json"):
        path.write_text("{}")
    with pytest.raises(SettingError, match="start anew"):
        saved.latest(IDENTITY)
    saved.clear()
    assert saved.latest(IDENTITY) is None
    assert Checkpoints(tmp_path / "nowhere").latest(IDENTITY) is None


def test_client_state_is_that_before_the_round(tmp_path):
    states = ClientStates(tmp_path)
    assert states.load(3, 1) == {}
    for number in (1, 2, 5, 6, 7, 9):
        states.save(3, number, {"control": np.full(4, number, np.float32)})
    states.save(4, 9, {"control": np.zeros(4, np.float32)})
    for number, expected in ((10, 9), (9, 7), (7, 6), (6, 5)):
        assert states.load(3, number)["control"][0] == expected
    assert len(list(tmp_path.glob("client_000003_*"))) == KEPT + 1


def test_client_state_of_a_device_is_sealed_and_ends_with_its_run(tmp_path):
    mine, key = {"control": np.arange(4, dtype=np.float32)}, bytes(range(32))
    states = ClientStates.of_run(tmp_path, 7, key)
    states.save(3, 1, mine)
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert mine["control"].tobytes() not in path.read_bytes() and path.stat().st_mode & 0o077 == 0
    found = ClientStates.of_run(tmp_path, 7, key).load(3, 2)["control"]
    found += 1  # it is the caller's own
    np.testing.assert_array_equal(states.load(3, 2)["control"], mine["control"])
    path.rename(path.with_name(path.name.replace("000003", "000004")))
    with pytest.raises(Refusal):
        states.load(4, 2)
    assert ClientStates.of_run(tmp_path, 8, key).load(3, 2) == {}
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_vectors_of_another_layout_are_not_used():
    kept = {"a": np.zeros(3), "b": np.zeros(4), "c": np.zeros((3, 1))}
    assert list(fitting(kept, {"a": 3, "b": 3, "c": 3})) == ["a"]
