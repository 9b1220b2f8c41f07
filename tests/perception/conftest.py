"""Fixture of this room: the fetched networks."""

from pathlib import Path

import pytest

from pchmr.perception.fetched import prior_folder, state


@pytest.fixture(scope="session")
def blazepose() -> Path:
    """Folder of the fetched networks."""
    if state("blazepose") != "ok":
        pytest.skip("networks of other people are not distributed: pchmr priors get blazepose")
    return prior_folder("blazepose")
