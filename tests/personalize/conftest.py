"""A small rendered root, and few people of the source domain."""

from pathlib import Path

import pytest

from pchmr import worlds
from pchmr.config import DataConfig, DataOptions
from pchmr.personalize import rehearsal


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training images of each of four people of the headset domain."""
    folder = tmp_path_factory.mktemp("root")
    data = DataOptions(domain="V", num_samples=24, num_test_samples=16, image_size=64, world=1)
    worlds.run(DataConfig(task="synth", output=folder, data_options=data))
    return folder


@pytest.fixture
def few_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rendered people of the source domain."""
    monkeypatch.setattr(rehearsal, "NUM_REHEARSED", 6)
    monkeypatch.setattr(rehearsal, "NUM_SCORED", 4)
    monkeypatch.setattr(rehearsal, "NUM_OTHERS", 6)
