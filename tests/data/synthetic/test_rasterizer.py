"""The rasterizer against answers known by hand and against a slow twin that loops over faces."""

from itertools import product

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from pchmr.data.synthetic.normals import vertex_normals
from pchmr.data.synthetic.overlays import Fragments, interpolate, rasterize, shade_mesh
from pchmr.data.synthetic.rasterizer import EMPTY, depth_of, project, z_buffer

SIZE = 48
FOCAL = 60.0
ONE_FACE = torch.tensor([[0, 1, 2]])


def camera(batch: int = 1, size: int = SIZE, focal: float = FOCAL) -> Tensor:
    matrix = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return matrix.expand(batch, 3, 3).contiguous()


def sphere(radius: float, center: tuple[float, float, float], level: int) -> tuple[Tensor, Tensor]:
    mesh = trimesh.creation.icosphere(subdivisions=level, radius=radius)
    vertices = torch.from_numpy(np.array(mesh.vertices)).float() + torch.tensor(center)
    return vertices[None], torch.from_numpy(np.array(mesh.faces))


def at_pixels(pixels: list[list[float]], depths: list[float]) -> Tensor:
    """Camera-frame points (1, N, 3) that project to given pixels."""
    xy, z = torch.tensor(pixels), torch.tensor(depths)[:, None]
    return torch.cat([(xy - SIZE / 2) / FOCAL * z, z], dim=1)[None]


def triangles(seed: int, count: int, spread: float) -> Tensor:
    """Random triangles (1, 3 count, 3) of about `spread` metres, two to four metres away."""
    generator = torch.Generator().manual_seed(seed)
    center = torch.rand(count, 1, 3, generator=generator) * 2 - 1 + torch.tensor([0, 0, 3.0])
    corners = center + spread * (torch.rand(count, 3, 3, generator=generator) - 0.5)
    return corners.reshape(1, -1, 3)


def slow_twin(
    vertices: Tensor, faces: Tensor, intrinsics: Tensor, size: int, cull: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Face, depth and certainty of each pixel in float64, one face and pixel at a time.

    A pixel is uncertain where its center lies within 1e-3 pixels of an edge, or where two faces
    are closer than 1e-5 m there.
    """
    points = vertices[0].double().numpy() @ intrinsics[0].double().numpy().T
    screen = points[:, :2] / points[:, 2:]
    face, depth = np.full((size, size), -1), np.full((size, size), np.inf)
    certain = np.ones((size, size), dtype=bool)
    for number, corners in enumerate(faces.tolist()):
        a, b, c = screen[corners]
        area = np.cross(b - a, c - a)
        if cull and area >= 0:
            continue
        for row, column in product(range(size), range(size)):
            p = np.array([column + 0.5, row + 0.5])
            edges = [(b, c), (c, a), (a, b)]
            spans = np.array([np.cross(u - p, v - p) for u, v in edges])
            lengths = [np.linalg.norm(v - u) for u, v in edges]
            weights = spans / area
            if weights.min() > -0.1 and np.min(np.abs(spans) / lengths) < 1e-3:
                certain[row, column] = False
            if weights.min() < 0:
                continue
            z = 1 / (weights / points[corners, 2]).sum()
            certain[row, column] &= abs(z - depth[row, column]) > 1e-5
            if z < depth[row, column]:
                face[row, column], depth[row, column] = number, z
    return face, np.where(face >= 0, depth, 0), certain


def same(first: Fragments, second: Fragments) -> bool:
    return all(
        torch.equal(getattr(first, name), getattr(second, name))
        for name in ("face", "depth", "barycentric")
    )


def test_level_triangle_covers_the_centers_inside_it() -> None:
    vertices = at_pixels([[10, 10], [10, 30], [30, 10]], [2, 2, 2])
    found = rasterize(vertices, ONE_FACE, camera(), SIZE, SIZE)
    row, column = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    inside = (column >= 10) & (row >= 10) & (column + row + 1 < 40)
    on_the_edge = column + row + 1 == 40
    assert torch.equal((found.face[0] >= 0) & ~on_the_edge, inside)
    torch.testing.assert_close(found.depth[0][inside], torch.full((int(inside.sum()),), 2.0))
    assert found.depth[0][~inside & ~on_the_edge].abs().max() == 0
    assert found.face[0][~inside & ~on_the_edge].eq(-1).all()


def test_depth_of_a_tilted_triangle_is_where_the_ray_meets_its_plane() -> None:
    vertices = at_pixels([[2, 3], [5, 44], [46, 20]], [1.0, 4.0, 2.5])
    found = rasterize(vertices, ONE_FACE, camera(), SIZE, SIZE)
    a, b, c = vertices[0].double()
    normal = torch.linalg.cross(b - a, c - a)
    _, row, column = (found.face >= 0).nonzero(as_tuple=True)
    x, y = ((p + 0.5 - SIZE / 2) / FOCAL for p in (column.double(), row.double()))
    wanted = (normal @ a) / (torch.stack([x, y, torch.ones_like(x)], dim=-1) @ normal)
    assert len(row) > 300
    torch.testing.assert_close(found.depth[0, row, column].double(), wanted, rtol=1e-5, atol=0)


def test_interpolation_is_correct_in_perspective() -> None:
    """The interpolated camera position lies on the pixel's own ray, at the pixel's depth."""
    vertices = at_pixels([[2, 3], [5, 44], [46, 20]], [1.0, 4.0, 2.5])
    found = rasterize(vertices, ONE_FACE, camera(), SIZE, SIZE)
    position = interpolate(found, ONE_FACE, vertices)
    covered = found.face[0] >= 0
    torch.testing.assert_close(position[0, ..., 2], found.depth[0], rtol=1e-5, atol=1e-6)
    column = torch.arange(SIZE)[None].expand(SIZE, -1)[covered] + 0.5
    x = FOCAL * position[0, ..., 0][covered] / position[0, ..., 2][covered] + SIZE / 2
    torch.testing.assert_close(x, column, rtol=0, atol=1e-3)
    assert position[0][~covered].abs().max() == 0
    total = found.barycentric.sum(dim=-1)[0]
    torch.testing.assert_close(total, covered.float())


@pytest.mark.parametrize("spread", [0.1, 1.0, 6.0])
@pytest.mark.parametrize("cull", [True, False])
def test_agrees_with_the_slow_twin(spread: float, cull: bool) -> None:
    count, size = 12, 24
    vertices, intrinsics = triangles(7, count, spread), camera(1, size, 20.0)
    vertices[..., 2].clamp_(min=0.3)
    faces = torch.arange(3 * count).reshape(count, 3)
    found = rasterize(vertices, faces, intrinsics, size, size, cull=cull)
    face, depth, certain = slow_twin(vertices, faces, intrinsics, size, cull)
    assert certain.mean() > 0.9
    np.testing.assert_array_equal(found.face[0].numpy()[certain], face[certain])
    np.testing.assert_allclose(found.depth[0].numpy()[certain], depth[certain], rtol=2e-5)


def test_triangles_that_share_edges_leave_no_gap_and_no_overlap() -> None:
    """A fan whose edges run through pixel centers covers its square exactly once."""
    rim = [[8, 8], [24, 8], [40, 8], [40, 24], [40, 40], [24, 40], [8, 40], [8, 24]]
    center = [20.5, 27.5]
    vertices = at_pixels([center, *rim], [2.0] * 9)
    mesh = project(vertices.permute(2, 1, 0).contiguous(), camera(), 0.05)
    count = torch.zeros(SIZE * SIZE, dtype=torch.int64)
    for i in range(8):
        face = torch.tensor([[0, i + 1, (i + 1) % 8 + 1]])
        count += z_buffer(mesh, face, SIZE, SIZE, facing=0) != EMPTY
    assert count.view(SIZE, SIZE)[8:40, 8:40].eq(1).all()
    assert count.sum() == 32 * 32


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_the_nearer_triangle_hides_the_farther_in_any_order(order: list[int]) -> None:
    pixels = [[4, 4], [4, 44], [44, 4]]
    near, far = at_pixels(pixels, [1.5] * 3), at_pixels(pixels, [3.0] * 3)
    vertices = torch.cat([near, far], dim=1)
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]])[order]
    found = rasterize(vertices, faces, camera(), SIZE, SIZE)
    assert found.face.max() == found.face[found.face >= 0].min() == order.index(0)
    assert found.depth.max() == 1.5


def test_of_equal_depths_the_first_face_wins() -> None:
    vertices = at_pixels([[4, 4], [4, 44], [44, 4]], [2.0] * 3)
    found = rasterize(vertices, ONE_FACE.expand(3, 3), camera(), SIZE, SIZE)
    assert found.face.max() == 0


def test_sphere_covers_the_area_of_its_outline() -> None:
    """The silhouette cone of a centered sphere cuts a circle of focal * r / sqrt(d^2 - r^2)."""
    size, radius, distance = 128, 0.7, 3.0
    vertices, faces = sphere(radius, (0, 0, distance), 5)
    found = rasterize(vertices, faces, camera(1, size, 150.0), size, size)
    outline = 150.0 * radius / (distance**2 - radius**2) ** 0.5
    assert (found.face >= 0).sum().item() == pytest.approx(np.pi * outline**2, rel=0.005)
    assert found.depth[0, size // 2, size // 2].item() == pytest.approx(distance - radius, abs=1e-3)


def test_a_closed_surface_has_no_holes() -> None:
    vertices, faces = sphere(0.7, (0.1, -0.2, 3.0), 6)
    covered = rasterize(vertices, faces, camera(), SIZE, SIZE).face[0] >= 0
    for lines in (covered, covered.T):
        changes = lines.int().diff(dim=1).abs().sum(dim=1)
        assert changes.max() <= 2


def test_culling_drops_back_faces_and_changes_nothing_on_a_closed_surface() -> None:
    turned = at_pixels([[10, 10], [30, 10], [10, 30]], [2, 2, 2])
    assert rasterize(turned, ONE_FACE, camera(), SIZE, SIZE).face.max() == -1
    assert rasterize(turned, ONE_FACE, camera(), SIZE, SIZE, cull=False).face.max() == 0
    vertices, faces = sphere(0.7, (0, 0, 3.0), 4)
    both = [rasterize(vertices, faces, camera(), SIZE, SIZE, cull=cull) for cull in (True, False)]
    agree = both[0].face == both[1].face
    assert agree.float().mean() > 0.995


def test_a_face_with_a_corner_behind_the_camera_is_left_out() -> None:
    vertices = torch.tensor([[[-1, -1, 2], [-1, 1, 2], [1, 0, -0.5], [1, 0.1, 2]]])
    faces = torch.tensor([[0, 1, 2], [0, 1, 3]])
    found = rasterize(vertices, faces, camera(), SIZE, SIZE)
    assert set(found.face.unique().tolist()) == {-1, 1}
    assert rasterize(vertices, faces, camera(), SIZE, SIZE, near=2.5).face.max() == -1


def test_nothing_in_view_is_empty() -> None:
    vertices = at_pixels([[-30, 4], [-30, 44], [-5, 4]], [2.0] * 3)
    found = rasterize(vertices, ONE_FACE, camera(), SIZE, SIZE)
    assert found.face.eq(-1).all() and found.depth.eq(0).all() and found.barycentric.eq(0).all()
    assert rasterize(vertices, ONE_FACE[:0], camera(), SIZE, SIZE).face.eq(-1).all()


def test_slivers_and_points_give_finite_depths_between_their_corners() -> None:
    generator = torch.Generator().manual_seed(2)
    start = torch.rand(4000, 2, generator=generator) * SIZE
    end = torch.rand(4000, 2, generator=generator) * SIZE
    third = start + (end - start) * torch.rand(4000, 1, generator=generator)
    thickness = 10 ** (-7 * torch.rand(4000, 1, generator=generator))
    third += thickness * torch.randn(4000, 2, generator=generator)
    pixels = torch.stack([start, end, third], dim=1).reshape(-1, 2)
    pixels[::30] = pixels[1::30]
    depths = 1 + 3 * torch.rand(12000, generator=generator)
    vertices = at_pixels(pixels.tolist(), depths.tolist())
    faces = torch.arange(12000).reshape(-1, 3)
    found = rasterize(vertices, faces, camera(), SIZE, SIZE, cull=False)
    covered = found.face >= 0
    assert covered.any() and found.barycentric.isfinite().all()
    limits = depths.view(-1, 3)[found.face[covered]]
    depth = found.depth[covered]
    assert (depth >= 0.999 * limits.amin(dim=1)).all()
    assert (depth <= 1.001 * limits.amax(dim=1)).all()


@pytest.mark.parametrize("chunk", [1, 2, 8])
def test_a_batch_equals_its_items_bit_for_bit(chunk: int) -> None:
    vertices, faces = sphere(0.7, (0, 0, 3.0), 4)
    turns = torch.tensor([0.0, 0.3, -0.2, 0.11, 0.05])[:, None, None]
    batch = vertices + turns * torch.tensor([1.0, 0.7, 0.4])
    intrinsics = camera(5) * torch.linspace(0.8, 1.2, 5)[:, None, None]
    intrinsics[:, 2, 2] = 1
    whole = rasterize(batch, faces, intrinsics, SIZE, SIZE, chunk=chunk)
    for i in range(5):
        alone = rasterize(batch[i : i + 1], faces, intrinsics[i : i + 1], SIZE, SIZE)
        part = Fragments(*(getattr(whole, n)[i : i + 1] for n in ("face", "depth", "barycentric")))
        assert same(alone, part)


def test_attributes_may_be_shared_by_the_batch() -> None:
    vertices, faces = sphere(0.7, (0, 0, 3.0), 3)
    found = rasterize(vertices.expand(2, -1, -1), faces, camera(2), SIZE, SIZE)
    shared = interpolate(found, faces, vertices)
    assert torch.equal(shared, interpolate(found, faces, vertices.expand(2, -1, -1)))


def test_empty_texels_read_as_infinitely_far() -> None:
    keys = torch.tensor([EMPTY, (torch.tensor(2.5).view(torch.int32).long().item() << 32) + 7])
    assert depth_of(keys).tolist() == [float("inf"), 2.5]


def test_normals_of_a_sphere_point_away_from_its_center() -> None:
    center = (0.3, -0.1, 2.0)
    vertices, faces = sphere(0.5, center, 4)
    wanted = (vertices - torch.tensor(center)) / 0.5
    found = vertex_normals(vertices, faces)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(found.shape[:2]))
    assert (found * wanted).sum(dim=-1).min() > 0.999


def test_shaded_mesh_is_an_overlay() -> None:
    vertices, faces = sphere(0.7, (0, 0, 3.0), 4)
    rgba = shade_mesh(vertices, faces, camera(), SIZE, SIZE, (0.2, 0.6, 1.0))
    covered = rasterize(vertices, faces, camera(), SIZE, SIZE).face[0] >= 0
    alpha = rgba[0, 3]
    assert rgba.shape == (1, 4, SIZE, SIZE) and rgba.min() >= 0 and rgba.max() <= 1
    assert (alpha[covered] > 0).all() and alpha.sum().item() == pytest.approx(
        covered.sum().item(), rel=0.02
    )
    assert ((alpha > 0) & (alpha < 1)).any(), "edges are smooth"
    opaque = rgba[0][:, alpha == 1]
    torch.testing.assert_close(opaque[1], 0.6 * opaque[2], rtol=1e-4, atol=1e-4)
    middle = rgba[0, 2, SIZE // 2, SIZE // 2]
    assert middle > 1.3 * opaque[2].min(), "the head light falls off towards the rim"


@pytest.mark.gpu
def test_cuda_draws_the_same_picture() -> None:
    vertices, faces = sphere(0.7, (0, 0, 3.0), 5)
    here = rasterize(vertices, faces, camera(), SIZE, SIZE)
    there = rasterize(vertices.cuda(), faces.cuda(), camera().cuda(), SIZE, SIZE)
    agree = here.face == there.face.cpu()
    assert agree.float().mean() > 0.995
    depth = there.depth.cpu()
    torch.testing.assert_close(depth[agree], here.depth[agree], rtol=1e-5, atol=1e-5)
