import numpy as np
import pytest
import trimesh

from pchmr.body.simplify import border_vertices, simplify


@pytest.fixture(scope="module")
def sphere() -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=3)


@pytest.mark.parametrize("count", [400, 97, 12])
def test_exactly_so_many_vertices_and_still_a_sphere(sphere, count: int) -> None:
    found = simplify(sphere.vertices, sphere.faces, count)
    mesh = trimesh.Trimesh(sphere.vertices[found.kept], found.faces, process=False)
    assert len(found.kept) == count and len(found.faces) == 2 * count - 4
    assert mesh.is_watertight and mesh.euler_number == 2
    if count > 50:
        assert mesh.volume > 0.85 * sphere.volume


def test_owners_lie_nearby(sphere) -> None:
    found = simplify(sphere.vertices, sphere.faces, 162)
    owner = sphere.vertices[found.kept][found.owner]
    assert np.linalg.norm(owner - sphere.vertices, axis=1).max() < 0.6
    assert np.array_equal(found.owner[found.kept], np.arange(162))


def test_a_flat_border_stays(sphere) -> None:
    half = sphere.faces[sphere.vertices[sphere.faces].mean(axis=1)[:, 2] > 0]
    border = border_vertices(half, len(sphere.vertices))
    used = len(np.unique(half))
    found = simplify(sphere.vertices, half, used // 2)
    assert set(np.flatnonzero(border)) <= set(found.kept)
    mesh = trimesh.Trimesh(sphere.vertices[found.kept], found.faces, process=False)
    kept_border = border_vertices(found.faces, len(found.kept))
    assert kept_border.sum() == border.sum() and mesh.euler_number == 1


def test_locked_vertices_stay(sphere) -> None:
    locked = np.zeros(len(sphere.vertices), dtype=bool)
    locked[::10] = True
    found = simplify(sphere.vertices, sphere.faces, 120, locked)
    assert set(np.flatnonzero(locked)) <= set(found.kept)


def test_too_few_vertices_is_one_line(sphere) -> None:
    with pytest.raises(ValueError, match="cannot be simplified to 2"):
        simplify(sphere.vertices, sphere.faces, 2)
