import json
from dataclasses import replace
from pathlib import Path

import pytest

from pchmr.config import DataConfig, DataOptions, PartitionOptions, SettingError, UserError
from pchmr.data import load_people
from pchmr.worlds import run

OPTIONS = DataOptions(domain="B", num_samples=12, num_test_samples=6, image_size=64)


def test_a_written_folder_is_read_again(tmp_path: Path, body) -> None:
    run(DataConfig(task="synth", output=tmp_path, data_options=OPTIONS))
    wanted = DataOptions(data=tmp_path, num_samples=5, num_test_samples=6)
    people = load_people(wanted, "train", body=body, seed=0, image_size=64)
    assert len(people) == 5 and people.batch([4]).images.shape == (1, 3, 64, 64)
    with pytest.raises(SettingError, match="give --image-size 64"):
        load_people(wanted, "train", body=body, seed=0, image_size=112)
    (tmp_path / "test" / "images.bin").write_bytes(b"cut")
    with pytest.raises(UserError, match="holds no whole rendering"):
        load_people(wanted, "test", body=body, seed=0, image_size=64)


def test_check_writes_one_page_with_figures(tmp_path: Path) -> None:
    options = DataOptions(domain="V", num_samples=8, image_size=64, cache=tmp_path / "cache")
    page = run(DataConfig(task="check", output=tmp_path, data_options=options))
    assert page.read_text().count("data:image/png;base64") >= 3
    assert json.loads((tmp_path / "check.json").read_text())


def test_partition_shows_every_client(tmp_path: Path) -> None:
    config = DataConfig(
        task="partition", output=tmp_path, num_clients=7,
        partition_options=PartitionOptions(alpha=0.1), data_options=OPTIONS,
    )  # fmt: skip
    run(config)
    measured = json.loads((tmp_path / "partition.json").read_text())
    assert measured["num_clients"] == 7 and measured["num_samples"] == 12
    assert measured["smallest"] >= 1 and 0 <= measured["mean_skew"] <= 1
    assert "data:image/png;base64" in (tmp_path / "partition.html").read_text()


def test_partition_without_its_picture(tmp_path: Path) -> None:
    config = DataConfig(
        task="partition", output=tmp_path, num_clients=3, show=False, data_options=OPTIONS
    )
    assert run(config) == tmp_path / "partition.json"
    assert not (tmp_path / "partition.html").exists()


def test_partition_by_pose(tmp_path: Path) -> None:
    config = DataConfig(
        task="partition", output=tmp_path, num_clients=2, show=False,
        data_options=replace(OPTIONS, cache=tmp_path / "cache"),
        partition_options=PartitionOptions(partition_label="pose", alpha=0.1),
    )  # fmt: skip
    run(config)
    measured = json.loads((tmp_path / "partition.json").read_text())
    assert measured["label"] == "pose" and measured["num_samples"] == 12
