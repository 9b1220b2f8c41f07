"""Triangles to pixels in plain batched torch: a z-buffer, interpolation, mesh overlays.

No loop over faces: all triangles list the runs of pixel centers that they cover, row by row, and
the smallest packed (depth, face) of each pixel is kept with a scatter-min. The same code runs on
CPU and CUDA and gives the same picture for the same inputs, alone or in a batch.

It does not clip: a triangle with a corner nearer than `near` is left out whole. It knows no lights
and no scenes; see `shading`.

Frames: camera x right, y down, z forward, metres; pixel centers at +0.5. A face is seen from the
front when its corners turn counter-clockwise about the outward normal (right-hand rule).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

EMPTY = torch.iinfo(torch.int64).max
"""Value of a z-buffer where no triangle is."""

_FACE_BITS = 32
_INFINITY = 0x7F800000 << _FACE_BITS  # the bits of a float32 infinity


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
        corners: Vertices of the face's three corners.
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
    spans = _spans(_on_screen(mesh, faces, height, width, facing), height, width)
    span, step = _expand(spans.length)
    q = spans.q.index_select(0, span) + step * spans.slope.index_select(0, span)
    depth = q.reciprocal() if mesh.perspective else q
    pixel = spans.pixel.index_select(0, span) + step
    face = spans.face.index_select(0, span)
    packed = (depth.view(torch.int32).long() << _FACE_BITS) + face
    keys = torch.full((mesh.x.shape[1] * height * width,), EMPTY, device=mesh.x.device)
    return keys.scatter_reduce_(0, pixel, packed, "amin")


def depth_of(keys: Int[Tensor, " pixels"]) -> Float[Tensor, " pixels"]:
    """The depths that a z-buffer holds; infinity where no triangle is."""
    return (keys.clamp(max=_INFINITY) >> _FACE_BITS).int().view(torch.float32)


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
    depth = depth_of(key)
    face = key & ((1 << _FACE_BITS) - 1)
    row, column = _split(pixel, width)
    item, row = _split(row, height)
    vertices = torch.stack([faces[:, corner].index_select(0, face) for corner in range(3)])
    corners = vertices * batch + item
    xs, ys, qs = (
        [values.flatten().index_select(0, corner) for corner in corners]
        for values in (mesh.x, mesh.y, mesh.q)
    )
    weights = _edge_weights(xs, ys, column + 0.5, row + 0.5)
    if mesh.perspective:
        weights = [weight * q for weight, q in zip(weights, qs, strict=True)]
        total = weights[0] + weights[1] + weights[2]
        weights = [weight / total for weight in weights]
    return Hits(pixel, item, face, depth, vertices, torch.stack(weights))


@dataclass(frozen=True)
class _Triangles:
    """Triangles that may cover a pixel center; corners go down the screen.

    `face` and `item` say which; `xs`, `ys`, `qs` hold the highest, middle and lowest corner.
    """

    face: Tensor
    item: Tensor
    xs: list[Tensor]
    ys: list[Tensor]
    qs: list[Tensor]


@dataclass(frozen=True)
class _Spans:
    """Runs of pixels: first flat pixel, length, face, q there and its change per pixel."""

    pixel: Tensor
    length: Tensor
    face: Tensor
    q: Tensor
    slope: Tensor


def _on_screen(mesh: ScreenMesh, faces: Tensor, height: int, width: int, facing: int) -> _Triangles:
    """The triangles that face the right way and whose box holds a pixel center."""
    xs, ys, qs = (
        [values.index_select(0, faces[:, corner]) for corner in range(3)]
        for values in (mesh.x, mesh.y, mesh.q)
    )
    turn = (xs[1] - xs[0]) * (ys[2] - ys[0]) - (ys[1] - ys[0]) * (xs[2] - xs[0])
    keep = turn * facing < 0 if facing else turn.abs() > 0
    for values, size in ((xs, width), (ys, height)):
        low = values[0].minimum(values[1]).minimum(values[2])
        high = values[0].maximum(values[1]).maximum(values[2])
        first, end = _centers(low, high, size)
        keep &= first < end
    kept = keep.flatten().nonzero()[:, 0]
    face, item = _split(kept, mesh.x.shape[1])
    corners = [
        [values.flatten().index_select(0, kept) for values in triple]
        for triple in zip(ys, xs, qs, strict=True)
    ]
    for upper, lower in ((0, 1), (1, 2), (0, 1)):
        swap = (corners[upper][0] > corners[lower][0]).to(mesh.x.dtype)
        pairs = list(zip(corners[upper], corners[lower], strict=True))
        corners[upper] = [torch.lerp(first, second, swap) for first, second in pairs]
        corners[lower] = [torch.lerp(second, first, swap) for first, second in pairs]
    ys, xs, qs = (list(values) for values in zip(*corners, strict=True))
    return _Triangles(face, item, xs, ys, qs)


def _centers(low: Tensor, high: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """First pixel whose center is at or beyond `low`, and the first at or beyond `high`."""
    return (low - 0.5).ceil_().clamp_(min=0), (high - 0.5).ceil_().clamp_(max=size)


def _spans(triangles: _Triangles, height: int, width: int) -> _Spans:
    """What each triangle covers of each row.

    An edge meets a row at a number that depends on the edge alone (its corners are sorted), and a
    run takes the centers from its left end up to but not including its right end: of triangles
    that share an edge exactly one covers each pixel.
    """
    (x0, x1, x2), (y0, y1, y2), (q0, q1, q2) = triangles.xs, triangles.ys, triangles.qs
    top, end = _centers(y0, y2, height)
    which, local = _expand(end - top)
    turn = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    turn = turn + (turn == 0)  # sorted corners may round to no area at all
    across = ((q1 - q0) * (y2 - y0) - (y1 - y0) * (q2 - q0)) / turn
    down = ((x1 - x0) * (q2 - q0) - (q1 - q0) * (x2 - x0)) / turn
    slopes = (x2 - x0) / (y2 - y0), (x1 - x0) / (y1 - y0), (x2 - x1) / (y2 - y1)
    low, high = q0.minimum(q1).minimum(q2), q0.maximum(q1).maximum(q2)

    def take(values: Tensor) -> Tensor:
        return values.index_select(0, which)

    row = take(top) + local
    center = row + 0.5
    x0, x1, y1, below = take(x0), take(x1), take(y1), center - take(y0)
    long = x0 + below * take(slopes[0])
    upper, lower = x0 + below * take(slopes[1]), x1 + (center - y1) * take(slopes[2])
    short = torch.where(center < y1, upper, lower)
    first, stop = _centers(long.minimum(short), long.maximum(short), width)
    # A triangle seen on edge has huge slopes: rounding must not carry q beyond its corners.
    low, high, across, q = take(low), take(high), take(across), take(q0) + take(down) * below
    begin = (q + across * (first + 0.5 - x0)).maximum(low).minimum(high)
    last = (q + across * (stop - 0.5 - x0)).maximum(low).minimum(high)
    length = (stop - first).clamp_min(0)
    slope = (last - begin) / (length - 1).clamp_min(1)
    pixel = (take(triangles.item) * height + row.long()) * width + first.long()
    return _Spans(pixel, length, take(triangles.face), begin, slope)


def _expand(counts: Float[Tensor, " rows"]) -> tuple[Int[Tensor, " all"], Int[Tensor, " all"]]:
    """Each row as often as its count says, and the running number within the row."""
    number = counts.int()
    owner = torch.repeat_interleave(number)
    begin = number.cumsum(0, dtype=torch.int32) - number
    place = torch.arange(len(owner), device=owner.device, dtype=torch.int32)
    return owner, place - begin.index_select(0, owner)


def _split(index: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Quotient and remainder of a flat index."""
    quotient = index.div(size, rounding_mode="floor")
    return quotient, index - quotient * size


def _edge_weights(xs: list[Tensor], ys: list[Tensor], x: Tensor, y: Tensor) -> list[Tensor]:
    """Barycentric weights of (x, y) on the screen, not negative; thirds where there is no area."""
    ax, bx, cx = (corner - x for corner in xs)
    ay, by, cy = (corner - y for corner in ys)
    areas = [bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx]
    sign = (areas[0] + areas[1] + areas[2]).sign()
    areas = [(area * sign).clamp_min(0) + 1e-20 for area in areas]
    total = areas[0] + areas[1] + areas[2]
    return [area / total for area in areas]
