"""A small person with a closed mesh, as the arrays of an SMPL-format file."""

from pathlib import Path

import numpy as np
import pytest

from pchmr.body import BodyModel
from pchmr.body.joints import SMPL_PARENTS


@pytest.fixture
def coarse_arrays(body: BodyModel) -> dict[str, np.ndarray]:
    """The embedded body's coarsest level: 431 vertices, watertight."""
    kept = body.hierarchy.kept[0][body.hierarchy.kept[1]]
    up = body.hierarchy.upsample[0] @ body.hierarchy.upsample[1]
    return {
        "v_template": body.v_template.numpy()[kept],
        "shapedirs": body.shapedirs.numpy()[kept],
        "posedirs": np.zeros((len(kept), 3, 207), dtype=np.float32),
        "J_regressor": body.J_regressor.numpy() @ up,
        "weights": body.weights.numpy()[kept],
        "kintree_table": np.array([[2**32 - 1, *SMPL_PARENTS[1:]], range(24)]),
        "f": body.hierarchy.faces[2],
    }


@pytest.fixture(scope="session")
def level_cache(tmp_path_factory) -> Path:
    """Cache of mesh levels, shared by the tests of this room."""
    return tmp_path_factory.mktemp("levels")


@pytest.fixture(autouse=True)
def own_cache(level_cache, monkeypatch) -> None:
    """Levels computed in a test never reach the user's cache."""
    monkeypatch.setenv("PCHMR_CACHE", str(level_cache))
