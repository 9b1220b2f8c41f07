import numpy as np
import pytest
import trimesh

from pchmr.body import BodyModel
from pchmr.body.coarsen import build_hierarchy, level_sizes, posed_bodies, round_rows
from pchmr.body.levels import upsampling_errors
from pchmr.body.skinning import Skinning


def test_sizes_are_quarters_rounded_up() -> None:
    assert level_sizes(6890) == (6890, 1723, 431)
    assert level_sizes(431) == (431, 108, 27)


def test_levels_of_another_vertex_count(coarse_arrays) -> None:
    body = Skinning(coarse_arrays)
    bodies = posed_bodies(body, 60, np.random.default_rng(0))
    hierarchy = build_hierarchy(coarse_arrays["v_template"], coarse_arrays["f"], bodies)
    assert hierarchy.num_vertices == (431, 108, 27)
    for matrix in hierarchy.upsample:
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    for rows, matrix in zip(hierarchy.kept, hierarchy.upsample, strict=True):
        assert np.allclose(matrix[rows].toarray(), np.eye(len(rows))), "kept vertices are exact"
    held_out = posed_bodies(body, 10, np.random.default_rng(1))
    errors = upsampling_errors(hierarchy, held_out)
    assert errors["upsample_108_mm"] < 15 and errors["upsample_27_mm"] < 60


def test_the_same_mesh_gives_the_same_levels(coarse_arrays) -> None:
    body = Skinning(coarse_arrays)
    bodies = posed_bodies(body, 5, np.random.default_rng(0))
    parts = coarse_arrays["v_template"], coarse_arrays["f"], bodies
    assert build_hierarchy(*parts).content_hash == build_hierarchy(*parts).content_hash


def test_fitting_beats_the_plain_surface() -> None:
    sphere = trimesh.creation.icosphere(subdivisions=2)
    generator = np.random.default_rng(0)
    bends = 1 + 0.3 * generator.standard_normal((40, 1, 3))
    bodies = sphere.vertices * bends
    hierarchy = build_hierarchy(sphere.vertices, sphere.faces, bodies[:30])
    errors = upsampling_errors(hierarchy, bodies[30:])
    assert errors["upsample_41_mm"] < 10, "barycentric weights alone miss a sphere by 60 mm"


def test_rounded_rows_sum_exactly() -> None:
    weights = np.random.default_rng(0).random((50, 9))
    weights /= weights.sum(axis=1, keepdims=True)
    rounded = round_rows(weights, 2.0**-12)
    assert (rounded.astype(np.float32).sum(axis=1) == 1).all()
    assert np.abs(rounded - weights).max() < 9 * 2.0**-12


@pytest.mark.slow
def test_levels_of_the_embedded_body_meet_the_target(body: BodyModel) -> None:
    bodies = posed_bodies(body, 150, np.random.default_rng(10))
    hierarchy = build_hierarchy(body.v_template.numpy(), body.faces.numpy(), bodies)
    errors = upsampling_errors(hierarchy, posed_bodies(body, 24, np.random.default_rng(11)))
    assert errors["upsample_1723_mm"] <= 1.3 and errors["upsample_431_mm"] <= 3.5
