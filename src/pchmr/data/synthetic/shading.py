"""Draws pictures of posed people: a person, boxes and a room under one light that casts shadows.

The person and the boxes are triangles through the rasterizer; ground and walls are planes met by
each pixel's ray. Light is Lambert plus hemisphere ambient plus a hard shadow that falls on the
person, the boxes, the ground and the walls alike. What the sensor adds (noise, blur, gamma, JPEG)
is not done here: colors are reflectances and the result is reflected light, clipped to [0, 1].
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pchmr.data.synthetic.lighting import Mesh, lit
from pchmr.data.synthetic.normals import incidence, normalize, planar_normals
from pchmr.data.synthetic.patterns import pattern_weight
from pchmr.data.synthetic.picture import RenderedBatch, SceneBatch, box_corners, to_camera
from pchmr.data.synthetic.rasterizer import EMPTY, Hits, project, resolve, z_buffer
from pchmr.data.synthetic.rays import Rays, pixel_rays
from pchmr.data.synthetic.room import Surface, room_surface, sky, turn
from pchmr.data.synthetic.shadow import cast_shadow, light_reach

__all__ = ["RenderedBatch", "SceneBatch", "box_corners", "render_scene", "to_camera"]

NEAR = 0.05
"""Metres; a triangle with a corner nearer than this is not drawn."""

_SHADOW_TEXELS = 256
_SHADOW_BIAS = 0.006
# Rays worked on at once: few enough for a processor's caches, enough to keep a GPU busy. What is
# drawn does not depend on them.
_CPU_RAYS, _GPU_RAYS = 2**19, 2**23


def render_scene(scene: SceneBatch) -> RenderedBatch:
    """Pictures, depth and the person's mask; the same scene gives the same pixels in any batch."""
    model = _model(scene)
    step = _step(scene)
    parts = [
        _render(scene.items(slice(start, start + step)), model)
        for start in range(0, len(scene), step)
    ]
    return RenderedBatch(
        images=torch.cat([part.images for part in parts]),
        depth=torch.cat([part.depth for part in parts]),
        person_mask=torch.cat([part.person_mask for part in parts]),
        visible_fraction=torch.cat([part.visible_fraction for part in parts]),
    )


def _step(scene: SceneBatch) -> int:
    """Pictures drawn at once: the batch in equal parts, each within the limit of rays."""
    rays = scene.height * scene.width * scene.supersample**2
    limit = max(1, (_GPU_RAYS if scene.vertices.is_cuda else _CPU_RAYS) // rays)
    parts = max(1, -(-len(scene) // limit))
    return -(-len(scene) // parts)


@dataclass(frozen=True)
class _Model:
    """Triangles that all pictures of a batch share: the person's, then two a side of each box."""

    person: Int[Tensor, "person 3"]
    boxes: Int[Tensor, "boxes 3"]
    faces: Int[Tensor, "faces 3"]
    around: tuple[Int[Tensor, " corners"], Int[Tensor, " vertices"]]


def _model(scene: SceneBatch) -> _Model:
    num_vertices, num_boxes = scene.vertices.shape[1], scene.boxes.shape[1]
    side = torch.tensor([[0, 1, 2], [0, 2, 3]], device=scene.faces.device)
    first = num_vertices + 4 * torch.arange(6 * num_boxes, device=scene.faces.device)
    boxes = (first[:, None, None] + side).reshape(-1, 3)
    faces = torch.cat([scene.faces, boxes])
    return _Model(scene.faces, boxes, faces, incidence(faces, num_vertices + 24 * num_boxes))


def _box_sides() -> list[list[int]]:
    """Corners of the six sides of a box, each counter-clockwise from outside."""
    step = (4, 2, 1)
    sides = []
    for axis in range(3):
        b, c = step[(axis + 1) % 3], step[(axis + 2) % 3]
        low = [0, c, b + c, b]
        sides += [low, [step[axis] + corner for corner in reversed(low)]]
    return sides


def _box_points(scene: SceneBatch) -> tuple[Tensor, Tensor]:
    """Corners of the box sides in the camera frame (NaN if inactive) and on the side, metres."""
    batch = len(scene)
    corner = torch.tensor(_box_sides(), device=scene.boxes.device)
    missing = ~scene.box_active[..., None, None]
    points = scene.boxes.masked_fill(missing, torch.nan)[:, :, corner.flatten()]
    edges = scene.boxes[:, :, [4, 2, 1]] - scene.boxes[:, :, :1]
    local = torch.stack([corner >> 2 & 1, corner >> 1 & 1, corner & 1], dim=-1)
    local = local * edges.norm(dim=-1)[:, :, None, None]
    flat = torch.zeros_like(local[:, :, :2, ..., :1])
    local = torch.cat(
        [
            torch.cat([local[:, :, 0:2, ..., [2, 1]], flat], dim=-1),
            torch.cat([local[:, :, 2:4, ..., [0, 2]], flat], dim=-1),
            torch.cat([local[:, :, 4:6, ..., [0, 1]], flat], dim=-1),
        ],
        dim=2,
    )
    return points.reshape(batch, -1, 3), local.reshape(batch, -1, 3)


def _render(scene: SceneBatch, model: _Model) -> RenderedBatch:
    factor = scene.supersample
    height, width = scene.height * factor, scene.width * factor
    zoom = scene.intrinsics.new_tensor([[factor], [factor], [1.0]])
    scene = replace(scene, intrinsics=scene.intrinsics * zoom)
    box_points, box_local = _box_points(scene)
    vertices = torch.cat([scene.vertices, box_points], dim=1).permute(2, 1, 0).contiguous()
    mesh = project(vertices, scene.intrinsics, NEAR)
    alone = z_buffer(mesh, model.person, height, width, facing=1)
    keys = alone
    if len(model.boxes):
        boxes = z_buffer(mesh, model.boxes, height, width, facing=1)
        keys = alone.minimum(torch.where(boxes == EMPTY, EMPTY, boxes + len(model.person)))
    hits = resolve(keys, mesh, model.faces, height, width)
    rays = pixel_rays(scene.intrinsics, height, width)
    surface = room_surface(scene, rays, hits.pixel)
    normals = planar_normals(vertices, model.faces, model.around)
    if scene.surroundings is None:
        images = _plainly_lit(scene, model, vertices, normals, hits, surface, box_local, rays)
    else:
        shape = Mesh(vertices, normals, model.faces, len(model.person))
        images = lit(scene, shape, hits, surface, box_local, rays)
    mask = torch.zeros_like(keys, dtype=torch.bool)
    mask[hits.pixel] = hits.face < len(model.person)
    mask = mask.view_as(surface.depth)
    count = (alone.view_as(surface.depth) != EMPTY).sum(dim=(1, 2))
    visible = mask.sum(dim=(1, 2)) / count.clamp_min(1)
    return _pooled(
        RenderedBatch(
            images=images, depth=surface.depth, person_mask=mask, visible_fraction=visible
        ),
        factor,
    )


def _plainly_lit(
    scene: SceneBatch,
    model: _Model,
    vertices: Tensor,
    normals: Tensor,
    hits: Hits,
    surface: Surface,
    box_local: Tensor,
    rays: Rays,
) -> Float[Tensor, "batch 3 height width"]:
    """World 1: Lambert, hemisphere ambient and a hard shadow, in display colors."""
    toward = turn(scene.rotation, scene.light_direction)
    _cover(surface, scene, hits, normals, box_local)
    shadow = cast_shadow(vertices, model.faces, toward, _SHADOW_TEXELS)
    reach = light_reach(shadow, rays, surface.depth, _SHADOW_BIAS)
    return _light(scene, surface, reach, sky(scene, rays))


def _cover(
    surface: Surface, scene: SceneBatch, hits: Hits, normals: Tensor, box_local: Tensor
) -> None:
    """Writes what the triangles show over the room, in place."""
    batch = len(scene)
    sides = 24
    colors = torch.cat([scene.colors, scene.box_color.repeat_interleave(sides, dim=1)], dim=1)
    second = torch.cat(
        [scene.pattern_color, scene.box_pattern_color.repeat_interleave(sides, dim=1)], dim=1
    )
    coords = torch.cat([scene.pattern_coords.expand(batch, -1, -1), box_local], dim=1)
    kind = torch.cat([scene.pattern_kind, scene.box_kind.repeat_interleave(sides, dim=1)], dim=1)
    scale = torch.cat([scene.pattern_scale, scene.box_scale.repeat_interleave(sides, dim=1)], dim=1)
    rows = hits.item * colors.shape[1] + hits.corners
    nearest = _dominant(rows, hits.weights)
    period = scale.flatten().index_select(0, nearest)
    points = _spread(coords, rows, hits.weights) / period
    focal = scene.intrinsics[:, 0, 0].index_select(0, hits.item)
    weight = pattern_weight(
        kind.flatten().index_select(0, nearest), points, hits.depth / (focal * period)
    )
    first, other = (value.flatten(0, 1).index_select(0, nearest).T for value in (colors, second))
    albedo = first + (other - first) * weight
    normal = normals.flatten(1)
    corner = hits.corners * batch + hits.item
    a, b, c = (
        normal.index_select(1, at) * weight for at, weight in zip(corner, hits.weights, strict=True)
    )
    normal = normalize(a + b + c)
    toward = turn(scene.rotation, scene.light_direction).index_select(0, hits.item)
    above = scene.rotation[:, :, 1].contiguous().index_select(0, hits.item)
    lambert = _dot(normal, toward).clamp_min(0)
    up = 0.5 + 0.5 * _dot(normal, above)
    for target, values in zip(
        (surface.depth, surface.lambert, surface.up, *surface.albedo),
        (hits.depth, lambert, up, *albedo),
        strict=True,
    ):
        target.view(-1).scatter_(0, hits.pixel, values)
    surface.haze.view(-1).scatter_(0, hits.pixel, 0.0)


def _dot(vectors: Tensor, other: Tensor) -> Tensor:
    x, y, z = vectors
    return x * other[:, 0] + y * other[:, 1] + z * other[:, 2]


def _dominant(rows: Tensor, weights: Tensor) -> Int[Tensor, " hits"]:
    """The corner with the largest weight; the first of equals."""
    a, b, c = weights
    later = torch.where(c > b, rows[2], rows[1])
    return torch.where((a >= b) & (a >= c), rows[0], later)


def _spread(values: Tensor, rows: Tensor, weights: Tensor) -> Float[Tensor, "channels hits"]:
    """Values (batch, vertices, channels) interpolated at the hits."""
    table = values.flatten(0, 1)
    parts = [
        table.index_select(0, row).T * weight for row, weight in zip(rows, weights, strict=True)
    ]
    return parts[0] + parts[1] + parts[2]


def _light(
    scene: SceneBatch, surface: Surface, reach: Tensor, background: Tensor
) -> Float[Tensor, "batch 3 height width"]:
    direct = surface.lambert * reach
    images = torch.empty_like(surface.albedo.transpose(0, 1).contiguous())
    for channel in range(3):
        below, above, strength = (
            value[:, channel, None, None]
            for value in (scene.ambient_below, scene.ambient_above, scene.light_color)
        )
        received = below + (above - below) * surface.up + strength * direct
        lit = surface.albedo[channel] * received
        images[:, channel] = torch.lerp(lit, background[channel], surface.haze)
    return images.clamp_(0, 1)


def _pooled(fine: RenderedBatch, factor: int) -> RenderedBatch:
    """Averages color over `factor` by `factor` rays; depth is the nearest, the mask a majority."""
    if factor == 1:
        return fine
    depth = torch.where(fine.depth > 0, fine.depth, torch.inf)
    depth = -F.max_pool2d(-depth[:, None], factor)[:, 0]
    share = F.avg_pool2d(fine.person_mask[:, None].float(), factor)[:, 0]
    return RenderedBatch(
        images=F.avg_pool2d(fine.images, factor),
        depth=torch.where(depth.isinf(), 0.0, depth),
        person_mask=share >= 0.5,
        visible_fraction=fine.visible_fraction,
    )
