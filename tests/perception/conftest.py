"""The fits of the annotation room's tests, for what a prior's word does to a fit; fetched files."""

from pathlib import Path

import pytest
from tests.annotate.conftest import annotator, clean, noisy, people

from pchmr.perception.fetched import prior_folder, state

__all__ = ["annotator", "clean", "noisy", "people"]


@pytest.fixture(scope="session")
def blazepose() -> Path:
    """Folder of the fetched networks."""
    if state("blazepose") != "ok":
        pytest.skip("networks of other people are not distributed: pchmr priors get blazepose")
    return prior_folder("blazepose")
