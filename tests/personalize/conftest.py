"""A small rendered root."""

from pathlib import Path

import pytest

from pchmr import worlds
from pchmr.config import DataConfig, DataOptions


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training images of each of four people of the headset domain."""
    folder = tmp_path_factory.mktemp("root")
    data = DataOptions(domain="V", num_samples=24, num_test_samples=16, image_size=64, world=1)
    worlds.run(DataConfig(task="synth", output=folder, data_options=data))
    return folder
