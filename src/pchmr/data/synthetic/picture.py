"""What a rendered picture shows and what comes out: plain tensors, and two helpers to fill them.

Frames: geometry is in the camera frame (x right, y down, z forward, metres), exactly as the labels
say it; planes and light are in the world frame (y up). x_camera = rotation (x_world - position).
"""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pchmr.data.synthetic.cloth import Layers
from pchmr.data.synthetic.surroundings import Surroundings

_SHARED = ("faces", "pattern_coords")


@dataclass(frozen=True, kw_only=True)
class SceneBatch:
    """What a batch of pictures shows; one image size, one person topology, N boxes, P >= 1 planes.

    Patterns mix a second color into the first; a kind is a value of `PATTERNS`. They are
    evaluated per pixel at coordinates in metres divided by the scale, so they stay sharp on a
    coarse mesh: template coordinates on the person; x and z on a box's top, along and height on
    its sides (the box's own axes, from a corner); world x and z on the ground, along and height on
    a wall.

    Attributes:
        vertices: The person in the camera frame, metres.
        faces: Its triangles, outward by the right-hand rule, closed surface.
        colors: RGB reflectance per vertex.
        pattern_coords: Where each vertex lies on the template, metres; shared by the batch.
        pattern_kind: Value of `PATTERNS` per vertex; 0 is plain.
        pattern_scale: Period of the pattern in metres.
        pattern_color: RGB that the pattern mixes in.
        boxes: Corners in the camera frame; corner 4 i + 2 j + k lies at the low (0) or high (1)
            end of the box's axes x, y, z (see `box_corners`).
        box_active: Boxes that exist.
        box_color: RGB reflectance.
        box_kind: Value of `PATTERNS`.
        box_scale: Period in metres.
        box_pattern_color: RGB that the pattern mixes in.
        planes: World planes (n, d) of a convex room: inside is n.x + d >= 0, n of unit length. The
            ground at height 0 is (0, 1, 0, 0).
        plane_active: Planes that exist; a ray that meets none sees the sky.
        plane_color: RGB reflectance.
        plane_kind: Value of `PATTERNS`.
        plane_scale: Period in metres.
        plane_pattern_color: RGB that the pattern mixes in.
        sky_color: RGB at the horizon and at the zenith; not lit.
        far: Distance in metres by which a plane has faded into the horizon's color.
        intrinsics: Pinhole camera of the crop, pixels, no skew; pixel centers lie at +0.5.
        rotation: World to camera.
        position: The camera in the world, metres.
        light_direction: World unit vector from the scene towards the light.
        light_color: RGB of the light with its strength.
        ambient_above: RGB that reaches a surface that faces up.
        ambient_below: RGB that reaches a surface that faces down.
        height: Image height in pixels.
        width: Image width in pixels.
        supersample: Rays per pixel and axis, 1 or 2; above 1 edges are smooth.
        surroundings: Places and light of world 2; with them colors are linear.
        layers: Clothes of world 2, in place of the colors of vertices.
    """

    vertices: Float[Tensor, "batch vertices 3"]
    faces: Int[Tensor, "faces 3"]
    colors: Float[Tensor, "batch vertices 3"]
    pattern_coords: Float[Tensor, "vertices 3"]
    pattern_kind: Int[Tensor, "batch vertices"]
    pattern_scale: Float[Tensor, "batch vertices"]
    pattern_color: Float[Tensor, "batch vertices 3"]
    boxes: Float[Tensor, "batch boxes 8 3"]
    box_active: Bool[Tensor, "batch boxes"]
    box_color: Float[Tensor, "batch boxes 3"]
    box_kind: Int[Tensor, "batch boxes"]
    box_scale: Float[Tensor, "batch boxes"]
    box_pattern_color: Float[Tensor, "batch boxes 3"]
    planes: Float[Tensor, "batch planes 4"]
    plane_active: Bool[Tensor, "batch planes"]
    plane_color: Float[Tensor, "batch planes 3"]
    plane_kind: Int[Tensor, "batch planes"]
    plane_scale: Float[Tensor, "batch planes"]
    plane_pattern_color: Float[Tensor, "batch planes 3"]
    sky_color: Float[Tensor, "batch 2 3"]
    far: Float[Tensor, " batch"]
    intrinsics: Float[Tensor, "batch 3 3"]
    rotation: Float[Tensor, "batch 3 3"]
    position: Float[Tensor, "batch 3"]
    light_direction: Float[Tensor, "batch 3"]
    light_color: Float[Tensor, "batch 3"]
    ambient_above: Float[Tensor, "batch 3"]
    ambient_below: Float[Tensor, "batch 3"]
    height: int
    width: int
    supersample: int = 1
    surroundings: Surroundings | None = None
    layers: Layers | None = None

    def __len__(self) -> int:
        return len(self.vertices)

    def items(self, rows: slice) -> "SceneBatch":
        """Some pictures of the batch."""
        names = [field.name for field in fields(self) if field.name not in _SHARED]
        values = {name: getattr(self, name) for name in names}
        parts = {name: v[rows] for name, v in values.items() if isinstance(v, Tensor)}
        for name in ("surroundings", "layers"):
            if values[name] is not None:
                parts[name] = values[name].items(rows)
        return replace(self, **parts)

    def to(self, device: torch.device | str) -> "SceneBatch":
        """The same pictures on a device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        kinds = (Tensor, Surroundings, Layers)
        moved = {name: v.to(device) for name, v in values.items() if isinstance(v, kinds)}
        return replace(self, **moved)


@dataclass(frozen=True, kw_only=True)
class RenderedBatch:
    """Pictures and what is known about each pixel.

    Attributes:
        images: RGB in [0, 1].
        depth: z in metres of what the pixel shows; 0 where it shows the sky.
        person_mask: Pixels that show the person.
        visible_fraction: Share of the person's pixels inside the image that no box hides; 0 where
            the person has none.
    """

    images: Float[Tensor, "batch 3 height width"]
    depth: Float[Tensor, "batch height width"]
    person_mask: Bool[Tensor, "batch height width"]
    visible_fraction: Float[Tensor, " batch"]


def box_corners(
    center: Float[Tensor, "*batch 3"],
    size: Float[Tensor, "*batch 3"],
    rotation: Float[Tensor, "*batch 3 3"],
) -> Float[Tensor, "*batch 8 3"]:
    """Corners of boxes in the order that `SceneBatch` asks for, in the frame of `center`.

    `size` is the full length along the box's own axes, the columns of `rotation`.
    """
    ends = torch.tensor([-0.5, 0.5], device=center.device, dtype=center.dtype)
    local = torch.cartesian_prod(ends, ends, ends) * size[..., None, :]
    return center[..., None, :] + local @ rotation.mT


def to_camera(
    points: Float[Tensor, "*batch points 3"],
    rotation: Float[Tensor, "*batch 3 3"],
    position: Float[Tensor, "*batch 3"],
) -> Float[Tensor, "*batch points 3"]:
    """World points in the camera frame."""
    return (points - position[..., None, :]) @ rotation.mT
