"""Which pixels the light reaches: a second rasterizer pass from the light, looked up per pixel.

The map holds the sides that face away from the light. A lit surface then lies well in front of
what is written there, so it never shades itself by rounding.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pchmr.data.synthetic.normals import normalize
from pchmr.data.synthetic.rasterizer import ScreenMesh, depth_of, z_buffer
from pchmr.data.synthetic.rays import Rays, along_rays

_MARGIN = 2.5  # texels of empty rim, so that whatever lies outside reads as lit
_AROUND = ((0.9, 0.3), (-0.7, 0.7), (-0.2, -1.0))
_SHARP = 1e3  # per metre: full shadow starts this short a way behind its cause


@dataclass(frozen=True)
class ShadowMap:
    """Distances from a parallel light, fitted to what casts shadows.

    Attributes:
        axes: Rows take a camera-frame point to texels right, texels down and metres away.
        shift: Added after `axes`.
        depth: Metres away of the farthest side of the nearest thing; infinity where nothing
            is.
        size: Texels per side.
    """

    axes: Float[Tensor, "batch 3 3"]
    shift: Float[Tensor, "batch 3"]
    depth: Float[Tensor, " texels"]
    size: int


def cast_shadow(
    vertices: Float[Tensor, "3 vertices batch"],
    faces: Int[Tensor, "faces 3"],
    toward_light: Float[Tensor, "batch 3"],
    size: int,
) -> ShadowMap:
    """The shadow map of closed meshes in the camera frame; vertices of NaN cast none."""
    axes = _light_axes(toward_light)
    seen = torch.stack([_dot(axes[:, row], vertices) for row in range(3)])
    low = seen.nan_to_num(nan=torch.inf).amin(dim=1)
    high = seen.nan_to_num(nan=-torch.inf).amax(dim=1)
    scale = (size - 2 * _MARGIN) / (high - low).clamp_min(1e-3)
    scale[2] = 1
    shift = _MARGIN - low * scale
    right, down, away = seen * scale[:, None] + shift[:, None]
    mesh = ScreenMesh(right, down, away, perspective=False)
    keys = z_buffer(mesh, faces, size, size, facing=-1)
    return ShadowMap(axes * scale.T[..., None], shift.T, depth_of(keys), size)


def light_reach(
    shadow: ShadowMap,
    rays: Rays,
    depth: Float[Tensor, "batch height width"],
    bias: float,
    sharp: float = _SHARP,
) -> Float[Tensor, "batch height width"]:
    """Share of the light that reaches the point at `depth` on each ray, in [0, 1].

    Four texels are compared and blended, so an edge is one texel soft. `bias` is in metres,
    `sharp` per metre: full shadow starts its inverse behind the cause.
    """
    u, v, w = (
        depth * along_rays(rays, shadow.axes[:, row]) + shadow.shift[:, row, None, None]
        for row in range(3)
    )
    u, v = ((texel - 0.5).clamp_(0, shadow.size - 2) for texel in (u, v))
    left, top = u.floor(), v.floor()
    across, down = (u - left).flatten(), (v - top).flatten()
    first = torch.arange(len(depth), device=depth.device).view(-1, 1, 1) * shadow.size**2
    texel = (first + (top * shadow.size + left).long()).flatten()
    behind = (w - bias).flatten()
    hidden = [
        (behind - shadow.depth.index_select(0, texel + step)).mul_(sharp).clamp_(0, 1)
        for step in (0, 1, shadow.size, shadow.size + 1)
    ]
    upper = torch.lerp(hidden[0], hidden[1], across)
    lower = torch.lerp(hidden[2], hidden[3], across)
    return 1 - torch.lerp(upper, lower, down).view_as(depth)


def soft_reach(
    shadow: ShadowMap,
    rays: Rays,
    depth: Float[Tensor, "batch height width"],
    bias: float,
    softness: Float[Tensor, " batch"],
) -> Float[Tensor, "batch height width"]:
    """`light_reach` averaged over a few places about `softness` texels apart."""
    total = torch.zeros_like(depth)
    for right, down in _AROUND:
        step = torch.stack([right * softness, down * softness, 0 * softness], dim=-1)
        moved = ShadowMap(shadow.axes, shadow.shift + step, shadow.depth, shadow.size)
        total += light_reach(moved, rays, depth, bias)
    return total / len(_AROUND)


def _light_axes(toward: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 3 3"]:
    """Right, down and away as seen from the light; right-handed."""
    away = normalize(-toward.T)
    other = torch.zeros_like(away)
    other[0] = (away[0].abs() < 0.7).float()
    other[1] = 1 - other[0]
    right = normalize(torch.linalg.cross(other, away, dim=0))
    return torch.stack([right, torch.linalg.cross(away, right, dim=0), away]).permute(2, 0, 1)


def _dot(axis: Float[Tensor, "batch 3"], vertices: Tensor) -> Float[Tensor, "vertices batch"]:
    x, y, z = vertices
    return x * axis[:, 0] + y * axis[:, 1] + z * axis[:, 2]
