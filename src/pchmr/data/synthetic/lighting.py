"""Light of world 2: a dome's light with occlusion, one soft-edged sun or lamp, linear radiance.

A person's layers, boxes and planes reflect what `surroundings.py` gives; a floor of the dome shows
its own picture, darkened by what stands on it. Occlusion is the mean of a few shadow maps from the
upper half, so that feet, armpits and the space below a chin are dark.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.data.synthetic.cloth import worn
from pchmr.data.synthetic.normals import normalize
from pchmr.data.synthetic.patterns import pattern_weight
from pchmr.data.synthetic.picture import SceneBatch
from pchmr.data.synthetic.rasterizer import Hits
from pchmr.data.synthetic.rays import Rays
from pchmr.data.synthetic.room import Surface, turn
from pchmr.data.synthetic.shadow import cast_shadow, light_reach, soft_reach
from pchmr.data.synthetic.surroundings import Surroundings, dome, reflected

SUN_TEXELS, DOME_TEXELS = 256, 96
SHADOW_BIAS, DOME_BIAS = 0.006, 0.02
DOME_LIGHTS = ((0.5, 0.3), (0.85, 2.4), (0.65, 4.5))
"""Sine of the elevation and azimuth of the lights that occlusion is taken from."""
DARKEST = 0.35
DOME_SHARP = 12.0
WHITEST = 8.0


@dataclass(frozen=True)
class Mesh:
    """What the triangles of a picture are: camera-frame vertices and their unit normals."""

    vertices: Float[Tensor, "3 vertices batch"]
    normals: Float[Tensor, "3 vertices batch"]
    faces: Tensor
    num_person_faces: int


def lit(
    scene: SceneBatch, mesh: Mesh, hits: Hits, surface: Surface, box_local: Tensor, rays: Rays
) -> Float[Tensor, "batch 3 height width"]:
    """Radiance of every pixel; writes the depth of hits and of the dome's floor in place."""
    assert scene.surroundings is not None
    picture, floor = _seen(scene, scene.surroundings, rays)
    shown = scene.surroundings.shown[:, None, None]
    surface.depth.copy_(torch.where(shown, floor, surface.depth))
    surface.depth.view(-1).scatter_(0, hits.pixel, hits.depth)
    normal = _plane_normals(scene, surface)
    albedo = surface.albedo.clone()
    _cover(scene, mesh, hits, normal, albedo, box_local)
    reach, open_share = _reaching(scene, scene.surroundings, mesh, rays, surface.depth)
    toward = scene.light_direction.T[..., None, None]
    direct = (normal * toward).sum(dim=0).clamp_min(0)
    soft = reflected(scene.surroundings, normal) * open_share
    key = scene.light_color.T[..., None, None] / math.pi
    radiance = albedo * (soft + key * direct * reach)
    covered = torch.zeros_like(surface.depth, dtype=torch.bool)
    covered.view(-1)[hits.pixel] = True
    up = torch.zeros_like(normal)
    up[1] = 1.0
    clear = reflected(scene.surroundings, up)
    sun = key * scene.light_direction[:, 1].clamp_min(0)[:, None, None]
    shade = (clear * open_share + sun * reach) / (clear + sun).clamp_min(1e-4)
    ground = picture * torch.where(floor > 0, shade, torch.ones_like(shade))
    radiance = torch.where(shown & ~covered, ground, radiance)
    sky = picture * (~shown) + ground * shown
    haze = surface.haze.view(-1).scatter(0, hits.pixel, 0.0).view_as(surface.haze)
    radiance = torch.where(shown, radiance, torch.lerp(radiance, sky, haze))
    return radiance.clamp(0, WHITEST).transpose(0, 1)


def _seen(
    scene: SceneBatch, surroundings: Surroundings, rays: Rays
) -> tuple[Float[Tensor, "3 batch height width"], Float[Tensor, "batch height width"]]:
    """The dome, sampled once a pixel of the picture: it is no sharper than that."""
    step = scene.supersample
    coarse = Rays(rays.across[..., step // 2 :: step], rays.down[:, step // 2 :: step])
    picture, floor = dome(surroundings, scene.rotation, scene.position, coarse)
    fine = [
        v.repeat_interleave(step, dim=-1).repeat_interleave(step, dim=-2) for v in (picture, floor)
    ]
    return fine[0], fine[1]


def _plane_normals(scene: SceneBatch, surface: Surface) -> Float[Tensor, "3 batch height width"]:
    table = scene.planes[..., :3].flatten(0, 1)
    return table.index_select(0, surface.plane).T.reshape(3, *surface.depth.shape).clone()


def _cover(
    scene: SceneBatch, mesh: Mesh, hits: Hits, normal: Tensor, albedo: Tensor, box_local: Tensor
) -> None:
    """Writes normals (stage frame) and reflectances of what the triangles show, in place."""
    batch = len(scene)
    corner = hits.corners * batch + hits.item
    flat = mesh.normals.flatten(1)
    parts = [
        flat.index_select(1, at) * weight for at, weight in zip(corner, hits.weights, strict=True)
    ]
    own = normalize(parts[0] + parts[1] + parts[2])
    color = torch.zeros_like(own)
    person = hits.face < mesh.num_person_faces
    rows, bend = _person(scene, hits, person)
    color[:, person] = rows
    own[:, person] = normalize(own[:, person] + bend)
    color[:, ~person] = _boxes(scene, hits, ~person, box_local)
    back = scene.rotation.index_select(0, hits.item)
    staged = torch.einsum("hji,jh->ih", back, own)
    for axis in range(3):
        normal[axis].view(-1).scatter_(0, hits.pixel, staged[axis])
        albedo[axis].view(-1).scatter_(0, hits.pixel, color[axis])


def _person(scene: SceneBatch, hits: Hits, which: Tensor) -> tuple[Tensor, Tensor]:
    assert scene.layers is not None
    item, corners, weights = hits.item[which], hits.corners[:, which], hits.weights[:, which]
    fields = _spread(scene.layers.fields, item, corners, weights)
    coords = scene.pattern_coords.expand(len(scene), -1, -1)
    points = _spread(coords, item, corners, weights)
    footprint = hits.depth[which] / scene.intrinsics[:, 0, 0].index_select(0, item)
    return worn(scene.layers, item, fields, points, footprint)


def _boxes(scene: SceneBatch, hits: Hits, which: Tensor, box_local: Tensor) -> Tensor:
    sides, num_vertices = 24, scene.vertices.shape[1]
    item, corners, weights = hits.item[which], hits.corners[:, which], hits.weights[:, which]
    corners = corners - num_vertices
    box = item * scene.box_active.shape[1] + corners[0].div(sides, rounding_mode="floor")
    scale = scene.box_scale.flatten().index_select(0, box)
    points = _spread(box_local, item, corners, weights) / scale
    footprint = hits.depth[which] / (scene.intrinsics[:, 0, 0].index_select(0, item) * scale)
    weight = pattern_weight(scene.box_kind.flatten().index_select(0, box), points, footprint)
    first, second = (
        value.flatten(0, 1).index_select(0, box).T
        for value in (scene.box_color, scene.box_pattern_color)
    )
    return first + (second - first) * weight


def _spread(values: Tensor, item: Tensor, corners: Tensor, weights: Tensor) -> Tensor:
    """Values (batch, vertices, channels) interpolated at hits, (channels, hits)."""
    table = values.flatten(0, 1)
    rows = item * values.shape[1] + corners
    parts = [table.index_select(0, row).T * w for row, w in zip(rows, weights, strict=True)]
    return parts[0] + parts[1] + parts[2]


def _reaching(
    scene: SceneBatch, surroundings: Surroundings, mesh: Mesh, rays: Rays, depth: Tensor
) -> tuple[Float[Tensor, "batch height width"], Float[Tensor, "batch height width"]]:
    """Share of the key light, and of the dome's, that reaches each pixel."""
    toward = turn(scene.rotation, scene.light_direction)
    sun = cast_shadow(mesh.vertices, mesh.faces, toward, SUN_TEXELS)
    reach = soft_reach(sun, rays, depth, SHADOW_BIAS, surroundings.softness)
    open_share = torch.zeros_like(depth)
    for rise, azimuth in DOME_LIGHTS:
        level = math.sqrt(1 - rise * rise)
        axis = depth.new_tensor([level * math.cos(azimuth), rise, level * math.sin(azimuth)])
        toward = turn(scene.rotation, axis.expand(len(scene), 3).contiguous())
        shadow = cast_shadow(mesh.vertices, mesh.faces, toward, DOME_TEXELS)
        open_share += light_reach(shadow, rays, depth, DOME_BIAS, DOME_SHARP)
    return reach, DARKEST + (1 - DARKEST) * open_share / len(DOME_LIGHTS)
