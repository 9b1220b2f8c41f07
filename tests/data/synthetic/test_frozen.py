"""Rows of every domain as they were when the world was frozen.

After a change that is meant to keep the world, put the hash that the last test prints into
`frozen.py`. Rows that differ mean another world: raise `RECIPE_VERSION`, name the worlds anew and
record the rows with `python tests/data/synthetic/test_frozen.py`.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from pchmr.body import BodyModel, load_body
from pchmr.data.synthetic.domains import WORLDS
from pchmr.data.synthetic.frozen import SOURCE_SHA256
from pchmr.data.synthetic.layout import layout
from pchmr.data.synthetic.recipe import VERSIONS, SyntheticRecipe, source_sha256
from pchmr.data.synthetic.render import render_rows
from pchmr.data.synthetic.world import World

RECORDS = {version: Path(__file__).with_name(f"frozen_v{version}.json") for version in VERSIONS}
ROWS, BLOCKS = 6, 4


def shown(domain: str, version: int, body: BodyModel) -> dict:
    recipe = SyntheticRecipe(domain=domain, version=version, num_samples=ROWS, image_size=64)
    rows = layout(recipe)
    rendered = render_rows(World(recipe, body), rows)
    side = recipe.image_size // BLOCKS
    blocks = rendered.images.reshape(ROWS, BLOCKS, side, BLOCKS, side, 3).mean(axis=(2, 4))
    return {
        "clip": rows.clip.tolist(),
        "frame": rows.frame.tolist(),
        "action": rows.action.tolist(),
        "joints_mm": np.round(1000 * rendered.labels["joints"][..., :3], 1).tolist(),
        "keypoints": np.round(rendered.labels["keypoints_2d"][..., :2], 4).tolist(),
        "transl_mm": np.round(1000 * rendered.labels["transl"], 1).tolist(),
        "colors": np.round(blocks, 1).tolist(),
    }


@pytest.mark.parametrize(
    ("domain", "version"), [(name, number) for number in VERSIONS for name in WORLDS[number]]
)
def test_rows_are_those_of_the_frozen_world(domain: str, version: int, body: BodyModel) -> None:
    record, now = json.loads(RECORDS[version].read_text())[domain], shown(domain, version, body)
    for name in ("clip", "frame", "action"):
        assert now[name] == record[name]
    for name, tolerance in {
        "joints_mm": 0.5,
        "keypoints": 2e-3,
        "transl_mm": 1,
        "colors": 3,
    }.items():
        np.testing.assert_allclose(now[name], record[name], atol=tolerance, err_msg=name)


def test_source_is_the_one_on_record() -> None:
    found = source_sha256()
    assert found == SOURCE_SHA256, f"rows unchanged? then set SOURCE_SHA256 = {found!r}"


if __name__ == "__main__":
    for version, record in RECORDS.items():
        found = {domain: shown(domain, version, load_body()) for domain in WORLDS[version]}
        record.write_text(json.dumps(found) + "\n")
