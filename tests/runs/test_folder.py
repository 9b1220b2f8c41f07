import errno
import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pchmr.config import SettingError, TrainConfig
from pchmr.runs import METRICS, RunFolder, file_sha256, replacing, state_sha256, write_bytes


def test_folder_holds_config_and_environment(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "r", TrainConfig(seed=4))
    assert run.read_json("config.json")["seed"] == 4
    assert run.read_json("environment.json")["packages"]["torch"]


def test_rows_survive_a_torn_last_line(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.append_row({"round": 1, "mpjpe_mm": 3.5})
    run.append_row({"round": 2, "mpjpe_mm": math.nan})
    with open(tmp_path / METRICS, "a") as file:
        file.write('{"round": 3, "mpj')
    assert [row["round"] for row in run.read_rows()] == [1, 2]
    assert run.read_rows()[1]["mpjpe_mm"] is None


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(SettingError, match=r"No space left on device.*free some space") as error,
        replacing(tmp_path / "model") as temporary,
    ):
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []


def test_a_new_run_forgets_the_old_rows(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, TrainConfig())
    run.append_row({"round": 1})
    run.write_json("summary.json", {})
    again = RunFolder.create(tmp_path, TrainConfig())
    assert again.read_rows() == [] and again.read_json("summary.json") is None


def test_resume_refuses_other_settings(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, TrainConfig(num_epochs=2)).append_row({"round": 1})
    same = RunFolder.create(tmp_path, TrainConfig(num_epochs=2, resume=True), resume=True)
    assert len(same.read_rows()) == 1
    more = TrainConfig(num_epochs=3, evaluate_every=0, resume=True)
    RunFolder.create(tmp_path, more, resume=True)
    with pytest.raises(SettingError, match="another seed"):
        RunFolder.create(tmp_path, TrainConfig(seed=3, resume=True), resume=True)
    cosine = TrainConfig(num_epochs=3, schedule="cosine")
    RunFolder.create(tmp_path, cosine)
    with pytest.raises(SettingError, match="another num_epochs"):
        RunFolder.create(tmp_path, replace(cosine, num_epochs=4), resume=True)


def test_state_hash_is_over_sorted_raw_tensors() -> None:
    a, b = torch.arange(3.0), torch.tensor([[1, 2]])
    expected = hashlib.sha256(
        np.arange(3, dtype="<f4").tobytes() + np.array([[1, 2]], dtype="<i8").tobytes()
    ).hexdigest()
    assert state_sha256({"b": b, "a": a}) == state_sha256({"a": a, "b": b}) == expected
    assert state_sha256({"a": a + 1, "b": b}) != expected


def test_file_hash_and_strict_json(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_json("x.json", {"a": math.inf, "path": Path("p")})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "path": "p"}
    content = (tmp_path / "x.json").read_bytes()
    assert file_sha256(tmp_path / "x.json") == hashlib.sha256(content).hexdigest()
