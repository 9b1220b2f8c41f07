"""Triangles to pixels in plain batched torch: a z-buffer, interpolation, normals, mesh overlays.

No loop over faces: every triangle lists the pixel centres that it may cover, tests them at once
and writes the smallest packed (depth, face) of each pixel with a scatter-min. The same code runs
on CPU and CUDA and gives the same picture for the same inputs, alone or in a batch.

It does not clip: a triangle with a corner nearer than `near` is left out whole. It knows no lights
and no scenes; see `shading`.

Frames: camera x right, y down, z forward, metres; pixel centres at +0.5. A face is seen from the
front when its corners turn counter-clockwise about the outward normal (right-hand rule).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

EMPTY = torch.iinfo(torch.int64).max
"""Value of a z-buffer where no triangle is."""

_FACE_BITS = 32
_SMALL = 16  # candidate pixels up to which a triangle's bounding box is listed whole


@dataclass(frozen=True)
class Fragments:
    """Which triangle each pixel shows, and where on it.

    Attributes:
        face: Row of `faces`; -1 where there is none.
        depth: z in metres; 0 where there is none.
        barycentric: Weights of the face's corners, correct in perspective; 0 where there is none.
    """

    face: Int[Tensor, "batch height width"]
    depth: Float[Tensor, "batch height width"]
    barycentric: Float[Tensor, "batch height width 3"]


@dataclass(frozen=True)
class ScreenMesh:
    """A batch of meshes on their image planes, vertex first so that a face gathers whole rows.

    Attributes:
        x: Pixels to the right; NaN leaves out every face of that vertex.
        y: Pixels down.
        q: What is linear on the screen: 1/z under perspective, depth itself in a parallel view.
        perspective: Whether `q` is 1/z.
    """

    x: Float[Tensor, "vertices batch"]
    y: Float[Tensor, "vertices batch"]
    q: Float[Tensor, "vertices batch"]
    perspective: bool


@dataclass(frozen=True)
class Hits:
    """The covered pixels of a z-buffer as a list; item-major, row-major.

    Attributes:
        pixel: Flat index into the (batch, height, width) buffer.
        item: Row of the batch.
        face: Row of `faces`.
        depth: Depth written there.
        corners: Flat indices into (vertices, batch) arrays of the face's three corners.
        weights: Barycentric weights of the three corners, correct in perspective.
    """

    pixel: Int[Tensor, " hits"]
    item: Int[Tensor, " hits"]
    face: Int[Tensor, " hits"]
    depth: Float[Tensor, " hits"]
    corners: Int[Tensor, "3 hits"]
    weights: Float[Tensor, "3 hits"]


def project(
    vertices: Float[Tensor, "3 vertices batch"],
    intrinsics: Float[Tensor, "batch 3 3"],
    near: float,
) -> ScreenMesh:
    """Pinhole projection; vertices nearer than `near` metres become NaN."""
    x, y, z = vertices
    q = torch.where(z > near, z, torch.nan).reciprocal()
    across, down = intrinsics[:, 0].T, intrinsics[:, 1].T
    return ScreenMesh(
        x=(across[0] * x + across[1] * y) * q + across[2],
        y=(down[0] * x + down[1] * y) * q + down[2],
        q=q,
        perspective=True,
    )


def z_buffer(
    mesh: ScreenMesh, faces: Int[Tensor, "faces 3"], height: int, width: int, *, facing: int
) -> Int[Tensor, " pixels"]:
    """Smallest packed (depth, face) per pixel of the flat (batch, height, width) buffer.

    Args:
        mesh: Projected vertices.
        faces: Corner indices.
        height: Rows.
        width: Columns.
        facing: 1 keeps faces seen from the front, -1 those seen from the back, 0 both.
    """
    batch = mesh.x.shape[1]
    keys = torch.full((batch * height * width,), EMPTY, device=mesh.x.device)
    triangles, box = _on_screen(mesh, faces, height, width, facing)
    triangle, px, py = _candidates(mesh, faces, triangles, box)
    corners = _corner_index(faces, triangles, batch)
    weights = _edge_weights(mesh, corners[:, triangle], px, py)
    low, high = weights[0].minimum(weights[1]), weights[0].maximum(weights[1])
    inside = (low.minimum(weights[2]) >= 0) | (high.maximum(weights[2]) <= 0)
    hit = inside.nonzero()[:, 0]
    triangle, px, py = (value.index_select(0, hit) for value in (triangle, px, py))
    depth, _ = _blend(mesh, corners[:, triangle], [w.index_select(0, hit) for w in weights])
    which = triangles.index_select(0, triangle)
    face = which.div(batch, rounding_mode="floor")
    pixel = ((which - face * batch) * height + py.long()) * width + px.long()
    packed = (depth.view(torch.int32).long() << _FACE_BITS) + face
    return keys.scatter_reduce_(0, pixel, packed, "amin")


def resolve(
    keys: Int[Tensor, " pixels"],
    mesh: ScreenMesh,
    faces: Int[Tensor, "faces 3"],
    height: int,
    width: int,
) -> Hits:
    """The covered pixels of a z-buffer, with the place on the face that each one shows."""
    batch = mesh.x.shape[1]
    pixel = (keys != EMPTY).nonzero()[:, 0]
    key = keys.index_select(0, pixel)
    depth = (key >> _FACE_BITS).int().view(torch.float32)
    face = key & ((1 << _FACE_BITS) - 1)
    row = pixel.div(width, rounding_mode="floor")
    item = row.div(height, rounding_mode="floor")
    corners = _corner_index(faces, face * batch + item, batch)
    px, py = (pixel - row * width).float(), (row - item * height).float()
    _, weights = _blend(mesh, corners, _edge_weights(mesh, corners, px, py))
    return Hits(pixel, item, face, depth, corners, torch.stack(weights))


def rasterize(
    vertices: Float[Tensor, "batch vertices 3"],
    faces: Int[Tensor, "faces 3"],
    intrinsics: Float[Tensor, "batch 3 3"],
    height: int,
    width: int,
    *,
    near: float = 0.05,
    cull: bool = True,
    chunk: int = 8,
) -> Fragments:
    """The nearest triangle of every pixel.

    Args:
        vertices: Camera frame, metres.
        faces: Corner indices, shared by the batch.
        intrinsics: Pinhole camera per item, pixels.
        height: Rows.
        width: Columns.
        near: Faces with a corner nearer than this many metres are left out.
        cull: Leave out faces seen from the back.
        chunk: Items worked on at once; bounds memory, changes no result.
    """
    parts = [
        _rasterize(part, faces, camera, height, width, near=near, cull=cull)
        for part, camera in zip(vertices.split(chunk), intrinsics.split(chunk), strict=True)
    ]
    return Fragments(
        torch.cat([part.face for part in parts]),
        torch.cat([part.depth for part in parts]),
        torch.cat([part.barycentric for part in parts]),
    )


def interpolate(
    fragments: Fragments,
    faces: Int[Tensor, "faces 3"],
    attributes: Float[Tensor, "#batch vertices channels"],
) -> Float[Tensor, "batch height width channels"]:
    """Vertex attributes at every pixel, correct in perspective; 0 where there is no face."""
    batch, height, width = fragments.face.shape
    item, row, column = (fragments.face >= 0).nonzero(as_tuple=True)
    corners = faces[fragments.face[item, row, column]]
    weights = fragments.barycentric[item, row, column]
    values = attributes.expand(batch, -1, -1)[item[:, None], corners]
    out = attributes.new_zeros(batch, height, width, attributes.shape[-1])
    out[item, row, column] = (values * weights[..., None]).sum(dim=1)
    return out


def vertex_normals(
    vertices: Float[Tensor, "batch vertices 3"], faces: Int[Tensor, "faces 3"]
) -> Float[Tensor, "batch vertices 3"]:
    """Unit normals, the area-weighted mean of the faces around a vertex; 0 for a lone vertex."""
    planar = vertices.permute(2, 1, 0).contiguous()
    return planar_normals(planar, faces, incidence(faces, vertices.shape[1])).permute(2, 1, 0)


def incidence(
    faces: Int[Tensor, "faces 3"], num_vertices: int
) -> tuple[Int[Tensor, " corners"], Int[Tensor, " vertices"]]:
    """Faces around each vertex as one list, and where each vertex's part of it begins."""
    corner, order = faces.flatten().sort(stable=True)
    begin = torch.searchsorted(corner, torch.arange(num_vertices, device=faces.device))
    return order.div(3, rounding_mode="floor"), begin


def planar_normals(
    vertices: Float[Tensor, "3 vertices batch"],
    faces: Int[Tensor, "faces 3"],
    around: tuple[Int[Tensor, " corners"], Int[Tensor, " vertices"]],
) -> Float[Tensor, "3 vertices batch"]:
    """`vertex_normals` in the vertex-first layout, given the faces' `incidence`."""
    a, b, c = (vertices.index_select(1, faces[:, corner]) for corner in range(3))
    cross = _cross(b - a, c - a)
    total = torch.stack([F.embedding_bag(around[0], part, around[1], mode="sum") for part in cross])
    return normalize(total)


def normalize(vectors: Float[Tensor, "3 *batch"]) -> Float[Tensor, "3 *batch"]:
    """Vectors of unit length, component first; the zero vector stays zero."""
    x, y, z = vectors
    return vectors / (x * x + y * y + z * z).sqrt().clamp_min(1e-12)


def shade_mesh(
    vertices: Float[Tensor, "batch vertices 3"],
    faces: Int[Tensor, "faces 3"],
    intrinsics: Float[Tensor, "batch 3 3"],
    height: int,
    width: int,
    color: tuple[float, float, float],
    *,
    supersample: int = 2,
) -> Float[Tensor, "batch 4 height width"]:
    """A mesh in one colour under a soft head light, as RGBA in [0, 1] to lay over a picture.

    Colour is not multiplied by alpha; alpha is the covered share of a pixel.
    """
    scale = intrinsics.new_tensor([[supersample], [supersample], [1.0]])
    size = (height * supersample, width * supersample)
    fragments = rasterize(vertices, faces, intrinsics * scale, *size)
    normals = interpolate(fragments, faces, vertex_normals(vertices, faces))
    toward = -normals[..., 2] / normals.norm(dim=-1).clamp_min(1e-12)
    mask = (fragments.face >= 0).to(vertices.dtype)
    tilt = 0.5 - 0.5 * normals[..., 1]
    light = (0.3 + 0.5 * toward.clamp_min(0) + 0.2 * tilt) * mask
    light, alpha = F.avg_pool2d(torch.stack([light, mask], dim=1), supersample).unbind(1)
    light = light / alpha.clamp_min(1e-6)
    return torch.stack([*((channel * light).clamp(0, 1) for channel in color), alpha], dim=1)


def _rasterize(vertices, faces, intrinsics, height, width, *, near, cull) -> Fragments:
    batch = len(vertices)
    mesh = project(vertices.permute(2, 1, 0).contiguous(), intrinsics, near)
    keys = z_buffer(mesh, faces, height, width, facing=int(cull))
    hits = resolve(keys, mesh, faces, height, width)
    face = torch.full_like(keys, -1)
    depth = mesh.x.new_zeros(keys.shape)
    barycentric = mesh.x.new_zeros(*keys.shape, 3)
    face[hits.pixel], depth[hits.pixel] = hits.face, hits.depth
    barycentric[hits.pixel] = hits.weights.T
    shape = (batch, height, width)
    return Fragments(face.view(shape), depth.view(shape), barycentric.view(*shape, 3))


def _cross(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


def _on_screen(
    mesh: ScreenMesh, faces: Tensor, height: int, width: int, facing: int
) -> tuple[Int[Tensor, " kept"], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Faces (flat index, batch fastest) that may cover a pixel centre, and their pixel boxes."""
    ax, bx, cx = (mesh.x.index_select(0, faces[:, corner]) for corner in range(3))
    ay, by, cy = (mesh.y.index_select(0, faces[:, corner]) for corner in range(3))
    turn = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    keep = turn * facing < 0 if facing else turn.abs() > 0
    left, right = _pixel_range(ax, bx, cx, width)
    top, bottom = _pixel_range(ay, by, cy, height)
    keep &= (right >= left) & (bottom >= top)
    kept = keep.flatten().nonzero()[:, 0]
    box = [side.flatten().index_select(0, kept) for side in (left, right, top, bottom)]
    return kept, (box[0], box[1], box[2], box[3])


def _pixel_range(a: Tensor, b: Tensor, c: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """First and last pixel whose centre lies between the smallest and the largest of three."""
    low = a.minimum(b).minimum(c).sub_(0.5).ceil_().clamp_(min=0)
    high = a.maximum(b).maximum(c).sub_(0.5).floor_().clamp_(max=size - 1)
    return low, high


def _candidates(
    mesh: ScreenMesh, faces: Tensor, triangles: Tensor, box: tuple[Tensor, Tensor, Tensor, Tensor]
) -> tuple[Int[Tensor, " tests"], Float[Tensor, " tests"], Float[Tensor, " tests"]]:
    """Pixels to test: (position in `triangles`, column, row); large triangles go row by row."""
    left, right, top, bottom = box
    columns, rows = right - left + 1, bottom - top + 1
    large = columns * rows > _SMALL
    small = (~large).nonzero()[:, 0]
    which, local = _expand((columns * rows).index_select(0, small))
    which = small.index_select(0, which)
    across = columns.index_select(0, which)
    row = ((local + 0.5) / across).floor_()
    px = left.index_select(0, which) + (local - row * across)
    py = top.index_select(0, which) + row
    big = large.nonzero()[:, 0]
    if len(big) == 0:
        return which, px, py
    spans = _spans(mesh, faces, triangles, box, big)
    return tuple(torch.cat(pair) for pair in zip((which, px, py), spans, strict=True))  # type: ignore


def _spans(mesh, faces, triangles, box, big) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels of large triangles, each row only between the two edges that it crosses."""
    left, right, top, bottom = (side.index_select(0, big) for side in box)
    owner, local = _expand(bottom - top + 1)
    row = top.index_select(0, owner) + local
    center = row + 0.5
    corners = _corner_index(faces, triangles.index_select(0, big), mesh.x.shape[1])[:, owner]
    xs, ys = mesh.x.flatten()[corners], mesh.y.flatten()[corners]
    low, high = torch.full_like(center, torch.inf), torch.full_like(center, -torch.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        crosses = (ys[i] <= center) != (ys[j] <= center)
        at = xs[i] + (center - ys[i]) * (xs[j] - xs[i]) / (ys[j] - ys[i])
        low = torch.where(crosses, low.minimum(at), low)
        high = torch.where(crosses, high.maximum(at), high)
    left, right = left.index_select(0, owner), right.index_select(0, owner)
    # One pixel of slack on each side: the exact test decides. A row that touches only a corner or
    # a level edge crosses nothing and is tested whole.
    first = torch.where(low <= high, ((low - 0.5).ceil() - 1).maximum(left), left)
    last = torch.where(low <= high, ((high - 0.5).floor() + 1).minimum(right), right)
    span, step = _expand((last - first + 1).clamp_min(0))
    which = big.index_select(0, owner.index_select(0, span))
    return which, first.index_select(0, span) + step, row.index_select(0, span)


def _expand(counts: Float[Tensor, " rows"]) -> tuple[Int[Tensor, " all"], Float[Tensor, " all"]]:
    """Each row as often as its count says, and the running number within the row."""
    number = counts.long()
    owner = torch.repeat_interleave(number)
    begin = number.cumsum(0) - number
    return owner, (torch.arange(len(owner), device=owner.device) - begin[owner]).float()


def _corner_index(faces: Tensor, triangles: Tensor, batch: int) -> Int[Tensor, "3 triangles"]:
    """Where the corners of (face, item) pairs lie in flat (vertices, batch) arrays."""
    face = triangles.div(batch, rounding_mode="floor")
    item = triangles - face * batch
    return torch.stack([faces[:, corner].index_select(0, face) for corner in range(3)]) * batch + item


def _edge_weights(mesh: ScreenMesh, corners: Tensor, px: Tensor, py: Tensor) -> list[Tensor]:
    """Twice the signed areas that a pixel centre spans with each edge.

    Corners are taken relative to the centre first, so that two triangles that share an edge get
    exactly opposite numbers and no pixel falls between them.
    """
    xs, ys = mesh.x.flatten(), mesh.y.flatten()
    ax, bx, cx = (xs.index_select(0, corner) - (px + 0.5) for corner in corners)
    ay, by, cy = (ys.index_select(0, corner) - (py + 0.5) for corner in corners)
    return [bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx]


def _blend(
    mesh: ScreenMesh, corners: Tensor, weights: list[Tensor]
) -> tuple[Float[Tensor, " tests"], list[Tensor]]:
    """Depth and barycentric weights from edge weights, correct in perspective."""
    total = weights[0] + weights[1] + weights[2]
    q = [mesh.q.flatten().index_select(0, corner) for corner in corners]
    shares = [weight / total for weight in weights]
    depth = shares[0] * q[0] + shares[1] * q[1] + shares[2] * q[2]
    if not mesh.perspective:
        return depth, shares
    depth = depth.reciprocal()
    return depth, [share * each * depth for share, each in zip(shares, q, strict=True)]
