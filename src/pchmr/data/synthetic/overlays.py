"""Meshes as pictures: the nearest triangle of every pixel, vertex values there, and an overlay.

Frames are those of `rasterizer.py`; what is drawn here knows no scene.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pchmr.data.synthetic.normals import vertex_normals
from pchmr.data.synthetic.rasterizer import project, resolve, z_buffer


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
    """A mesh in one color under a soft head light, as RGBA in [0, 1] to lay over a picture.

    Color is not multiplied by alpha; alpha is the covered share of a pixel.
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
