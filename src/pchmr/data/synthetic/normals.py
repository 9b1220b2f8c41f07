"""Normals of triangle meshes in torch, batched, the same on CPU and CUDA."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


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


def normalize(vectors: Float[Tensor, "3 *batch"]) -> Float[Tensor, "3 *batch"]:  # noqa: F821
    """Vectors of unit length, component first; the zero vector stays zero."""
    x, y, z = vectors
    return vectors / (x * x + y * y + z * z).sqrt().clamp_min(1e-12)


def _cross(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )
