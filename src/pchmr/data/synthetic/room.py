"""Ground, walls and sky: planes of a convex room, met by each pixel's ray without triangles.

1/z of a plane is linear on the screen, so the nearest plane is the one with the largest 1/z.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pchmr.data.synthetic.patterns import PATTERNS, pattern_weight
from pchmr.data.synthetic.picture import SceneBatch
from pchmr.data.synthetic.rays import Rays, along_rays


@dataclass(frozen=True)
class Surface:
    """What each pixel shows before it is lit.

    Attributes:
        depth: z in metres; 0 is sky.
        lambert: Cosine between normal and light, at least 0.
        up: 1 where the surface faces up, 0 where it faces down.
        albedo: RGB reflectance.
        haze: 1 where the sky's color has replaced the surface's.
        plane: Flat (item, plane) row that each pixel shows, whatever covers it.
    """

    depth: Float[Tensor, "batch height width"]
    lambert: Float[Tensor, "batch height width"]
    up: Float[Tensor, "batch height width"]
    albedo: Float[Tensor, "3 batch height width"]
    haze: Float[Tensor, "batch height width"]
    plane: Int[Tensor, " pixels"]


def turn(
    rotation: Float[Tensor, "batch 3 3"], vectors: Float[Tensor, "batch *n 3"]
) -> Float[Tensor, "batch *n 3"]:
    """Vectors rotated, term by term so that the result does not depend on the batch."""
    rows = rotation.view(len(rotation), *(1,) * (vectors.ndim - 2), 3, 3)
    terms = rows * vectors[..., None, :]
    return terms[..., 0] + terms[..., 1] + terms[..., 2]


def room_surface(scene: SceneBatch, rays: Rays, covered: Int[Tensor, " hits"]) -> Surface:
    """The nearest plane of every pixel; a plane that the camera stands behind is not drawn.

    Patterns are left out at the flat pixels `covered`, which something else will hide.
    """
    normal = scene.planes[..., :3]
    height = (normal * scene.position[:, None]).sum(dim=-1) + scene.planes[..., 3]
    drawn = (scene.plane_active & (height > 1e-3))[..., None]
    facing = -turn(scene.rotation, normal) / height[..., None]
    nowhere = facing.new_tensor([0.0, 0.0, -1.0])
    best, plane = _nearest(torch.where(drawn, facing, nowhere), rays)
    far = scene.far[:, None, None]
    depth = torch.where(best * far > 1, best, torch.inf).reciprocal()
    rows = (plane.long() + _first_plane(scene)).flatten()
    light = (normal * scene.light_direction[:, None]).sum(dim=-1).clamp_min(0)
    lambert, up = (_pick(value, rows, depth) for value in (light, 0.5 + 0.5 * normal[..., 1]))
    weight = _weight(scene, rays, depth, rows, height, covered)
    albedo = torch.stack(
        [
            torch.lerp(
                _pick(scene.plane_color[..., channel], rows, depth),
                _pick(scene.plane_pattern_color[..., channel], rows, depth),
                weight,
            )
            for channel in range(3)
        ]
    )
    haze = (2 * depth / far - 1).clamp(0, 1).maximum((depth == 0).float())
    return Surface(depth, lambert, up, albedo, haze, rows)


def sky(scene: SceneBatch, rays: Rays) -> Float[Tensor, "3 batch height width"]:
    """The horizon's color, turning into the zenith's a third of the way up."""
    length = (rays.across * rays.across + (rays.down * rays.down + 1)).sqrt()
    rise = along_rays(rays, scene.rotation[:, :, 1]) / length
    rise = (2.5 * rise).clamp(0, 1)
    horizon, zenith = scene.sky_color.permute(1, 2, 0)[..., None, None]
    return horizon + (zenith - horizon) * rise


def _nearest(
    planes: Float[Tensor, "batch planes 3"], rays: Rays
) -> tuple[Float[Tensor, "batch height width"], Float[Tensor, "batch height width"]]:
    """Largest 1/z per pixel and the number of the plane that has it."""
    best = along_rays(rays, planes[:, 0])
    plane = torch.zeros_like(best)
    for number in range(1, planes.shape[1]):
        other = along_rays(rays, planes[:, number])
        nearer = (other - best).sign_().clamp_(min=0)
        plane = torch.lerp(plane, torch.full_like(plane, number), nearer)
        best = best.maximum(other)
    return best, plane


def _first_plane(scene: SceneBatch) -> Int[Tensor, "batch 1 1"]:
    batch, planes = scene.plane_active.shape
    return torch.arange(batch, device=scene.planes.device).view(-1, 1, 1) * planes


def _pick(values: Tensor, rows: Tensor, like: Tensor) -> Float[Tensor, "batch height width"]:
    """One number per (item, plane), spread over the pixels."""
    return values.flatten().index_select(0, rows).view_as(like)


def _weight(
    scene: SceneBatch, rays: Rays, depth: Tensor, rows: Tensor, height: Tensor, covered: Tensor
) -> Float[Tensor, "batch height width"]:
    """Pattern weights; world coordinates along each plane, in periods."""
    x, y, z = scene.planes[..., :3].unbind(-1)
    level = (y.abs() > 0.9).to(x.dtype)
    across = torch.stack([torch.lerp(z, level, level), 0 * x, -x * (1 - level)], dim=-1)
    across = across / across.norm(dim=-1, keepdim=True)
    other = torch.linalg.cross(scene.planes[..., :3], across)
    coordinates = []
    for axis in (across, other):
        axis = axis / scene.plane_scale[..., None]
        start = (axis * scene.position[:, None]).sum(dim=-1)
        a, b, c = turn(scene.rotation, axis).unbind(-1)
        coordinates.append(
            depth * (_pick(a, rows, depth) * rays.across + _pick(b, rows, depth) * rays.down)
            + (depth * _pick(c, rows, depth) + _pick(start, rows, depth))
        )
    length = rays.across * rays.across + (rays.down * rays.down + 1)
    grain = 1 / (scene.intrinsics[:, 0, 0, None] * height.clamp_min(1e-3) * scene.plane_scale)
    footprint = depth * depth * length * _pick(grain, rows, depth)
    kind = scene.plane_kind.flatten().index_select(0, rows)
    kind.scatter_(0, covered, PATTERNS["plain"])
    points = torch.stack([*coordinates, torch.zeros_like(depth)]).flatten(1)
    return pattern_weight(kind, points, footprint.flatten()).view_as(depth)
