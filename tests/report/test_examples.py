from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from crowd import Crowd, Seer, people

from pchmr.body import BodyModel
from pchmr.evaluation import center_vertices
from pchmr.examples import choose, draw, read_examples, write_examples
from pchmr.runs import EXAMPLES


def test_choice_is_by_rank_and_skips_what_has_no_error() -> None:
    errors = np.array([5.0, np.nan, 1, 9, 3, 7, 2])
    assert choose(errors, 1) == [("best", 2), ("median", 4), ("worst", 3)]
    assert choose(errors, 2) == [
        ("best", 2), ("best", 6), ("median", 4), ("median", 0), ("worst", 5), ("worst", 3),
    ]  # fmt: skip
    assert choose(np.array([4.0, np.nan]), 2) == [("best", 0)]
    assert choose(np.array([np.nan]), 2) == [] == choose(np.zeros(0))


@pytest.fixture
def folder(tmp_path: Path, tiny_body: BodyModel) -> Path:
    sample, vertices = people(tiny_body)
    errors = SimpleNamespace(per_sample_mpjpe_mm=np.arange(7.0))
    model = Seer(sample.images, vertices).train()
    write_examples(tmp_path, model, tiny_body, Crowd(sample), errors)
    assert model.training
    return tmp_path


def test_examples_hold_truth_and_prediction(folder: Path, tiny_body: BodyModel) -> None:
    examples = read_examples(folder / EXAMPLES)
    assert examples is not None
    assert list(examples.index) == [0, 1, 2, 3, 5, 6]
    _, vertices = people(tiny_body)
    centred = center_vertices(tiny_body, vertices[examples.index])
    np.testing.assert_allclose(examples.predicted, centred, atol=1e-6)
    placed = vertices[examples.index].numpy() + np.array([0, 0, 3])
    np.testing.assert_allclose(examples.truth, placed, atol=1e-5)
    assert [path.name for path in folder.iterdir()] == [EXAMPLES]


def test_pictures_show_the_person_in_every_view(folder: Path) -> None:
    examples = read_examples(folder / EXAMPLES)
    assert examples is not None
    picture = next(iter(draw(examples)))
    tiles = [*picture.truth, *picture.prediction]
    assert len(tiles) == 5 and picture.rank == "best"
    shown, _, side, _, predicted_side = (tile.astype(int) for tile in tiles)
    for tile in tiles[1:]:
        assert np.abs(tile.astype(int) - tile[0, 0].astype(int)).max() > 20
    # Truth and prediction are one mesh here: the side views differ in color alone.
    covered = [np.abs(tile - tile[0, 0]).sum(axis=-1) > 10 for tile in (side, predicted_side)]
    assert (covered[0] == covered[1]).mean() > 0.98
    assert shown.shape == side.shape


def test_side_view_is_upright_and_turned(folder: Path) -> None:
    examples = read_examples(folder / EXAMPLES)
    assert examples is not None
    mesh = torch.from_numpy(examples.truth[0])
    depth = float(mesh[:, 2].max() - mesh[:, 2].min())
    height = float(mesh[:, 1].max() - mesh[:, 1].min())
    side = next(iter(draw(examples))).truth[2].astype(int)
    rows, columns = np.nonzero(np.abs(side - side[0, 0]).sum(axis=-1) > 10)
    shown = (columns.max() - columns.min()) / (rows.max() - rows.min())
    assert shown == pytest.approx(depth / height, abs=0.06)


def test_people_without_a_mesh_leave_no_file(tmp_path: Path, tiny_body: BodyModel) -> None:
    sample, vertices = people(tiny_body)
    blind = Crowd(sample)
    blind.sample = type(sample)(**{**vars(sample), "has_smpl": torch.zeros(7, dtype=torch.bool)})
    errors = SimpleNamespace(per_sample_mpjpe_mm=np.arange(7.0))
    write_examples(tmp_path, Seer(sample.images, vertices), tiny_body, blind, errors)
    assert list(tmp_path.iterdir()) == [] and read_examples(None) is None
