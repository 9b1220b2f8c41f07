"""What is refused before people are rendered and a model is scored."""

from dataclasses import replace
from pathlib import Path

import pytest

from pchmr import experiment
from pchmr.config import DataOptions, FederateConfig, PartitionOptions, SettingError
from pchmr.runs import CONFIG, RunFolder


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_scene(_: object) -> None:
        raise AssertionError("people were rendered")

    monkeypatch.setattr(experiment, "open_scene", open_scene)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partition": "natural", "num_clients": 400}, "natural clients"),
        ({"partition": "dirichlet", "partition_options": PartitionOptions(partition_label="mood")},
         "no such column"),
    ],
)  # fmt: skip
def test_partitions(changes: dict, message: str, blind: None, tmp_path: Path) -> None:
    data = DataOptions(num_samples=400)
    with pytest.raises(SettingError, match=message):
        experiment.federate(FederateConfig(output=tmp_path, data_options=data, **changes))


def test_resuming_with_another_config(blind: None, tmp_path: Path) -> None:
    config = FederateConfig(output=tmp_path, resume=True)
    RunFolder.create(tmp_path, replace(config, seed=1))
    with pytest.raises(SettingError, match="another seed"):
        experiment.federate(config)
    (tmp_path / CONFIG).write_text("{torn")
    with pytest.raises(SettingError, match="is damaged; start anew"):
        experiment.federate(config)
