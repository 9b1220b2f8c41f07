"""A place around the picture: what is seen of its dome, and the light it gives, in torch.

The dome has a flat floor at height 0: a ray that meets the floor within the radius shows what the
panorama's camera saw at that spot, any other ray shows the dome. Frames are those of `picture.py`.
"""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pchmr.data.synthetic.environments import harmonics
from pchmr.data.synthetic.rays import Rays


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """The places of a batch.

    Attributes:
        pictures: Radiance of every place, see `Environment`; shared by the batch.
        which: Place of each item.
        shown: Whether the dome is seen; elsewhere planes and sky are.
        turn: From stage to panorama, about the vertical.
        center: Where the panorama's camera stood on the stage, metres; y is its height.
        radius: Of the dome, metres.
        gain: Brightness of the dome.
        irradiance: Coefficients of the light without shadows, on the stage; see `basis`.
        softness: Width of shadow edges in texels.
    """

    pictures: Float[Tensor, "places 3 rows columns"]
    which: Int[Tensor, " batch"]
    shown: Bool[Tensor, " batch"]
    turn: Float[Tensor, "batch 3 3"]
    center: Float[Tensor, "batch 3"]
    radius: Float[Tensor, " batch"]
    gain: Float[Tensor, " batch"]
    irradiance: Float[Tensor, "batch 9 3"]
    softness: Float[Tensor, " batch"]

    def items(self, rows: slice) -> "Surroundings":
        """Some items of the batch."""
        names = [field.name for field in fields(self) if field.name != "pictures"]
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def to(self, device: torch.device | str) -> "Surroundings":
        """The same on a device."""
        names = [field.name for field in fields(self)]
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def reflected(
    surroundings: Surroundings, normal: Float[Tensor, "3 batch height width"]
) -> Float[Tensor, "3 batch height width"]:
    """Light that a white surface reflects of all but the key light, by its stage normal."""
    total = torch.zeros_like(normal)
    for number, value in enumerate(harmonics(*normal)):
        for channel in range(3):
            total[channel] += surroundings.irradiance[:, number, channel, None, None] * value
    return total.clamp_min_(0)


def dome(
    surroundings: Surroundings,
    rotation: Float[Tensor, "batch 3 3"],
    position: Float[Tensor, "batch 3"],
    rays: Rays,
) -> tuple[Float[Tensor, "3 batch height width"], Float[Tensor, "batch height width"]]:
    """What the dome shows along each ray, and the depth of its floor there (0: no floor)."""
    across, down = torch.broadcast_tensors(rays.across, rays.down)
    directions = torch.stack([across, down, torch.ones_like(across)])
    world = torch.einsum("bji,jbhw->ibhw", rotation, directions)
    start = position.T[..., None, None]
    floor = torch.where(world[1] < -1e-4, -start[1] / world[1], torch.inf)
    center = surroundings.center.T[..., None, None]
    radius = surroundings.radius[:, None, None]
    offset = start - center
    a = (world * world).sum(dim=0)
    b = (world * offset).sum(dim=0)
    c = (offset * offset).sum(dim=0) - radius * radius
    sphere = (-b + (b * b - a * c).clamp_min(0).sqrt()) / a
    on_floor = floor < sphere
    depth = torch.where(on_floor, floor, sphere)
    seen = start + depth * world - center
    toward = torch.einsum("bij,jbhw->ibhw", surroundings.turn, seen)
    picture = _lookup(surroundings, toward / toward.norm(dim=0).clamp_min(1e-6))
    return picture * surroundings.gain[:, None, None], torch.where(on_floor, floor, 0.0)


def _lookup(surroundings: Surroundings, toward: Tensor) -> Float[Tensor, "3 batch height width"]:
    """Bilinear samples of the panoramas along unit vectors."""
    _, _, rows, columns = surroundings.pictures.shape
    x, y, z = toward
    u = (torch.atan2(x, -z) / (2 * torch.pi)) % 1.0 * columns - 0.5
    v = torch.acos(y.clamp(-1, 1)) / torch.pi * rows - 0.5
    left, top = u.floor(), v.floor().clamp(0, rows - 2)
    across, below = u - left, (v - top).clamp(0, 1)
    left = left.long() % columns
    right, top = (left + 1) % columns, top.long()
    flat = surroundings.pictures.permute(1, 0, 2, 3).flatten(1)
    first = surroundings.which[:, None, None] * rows * columns

    def take(row: Tensor, column: Tensor) -> Tensor:
        index = (first + row * columns + column).flatten()
        return flat.index_select(1, index).view(3, *x.shape)

    upper = torch.lerp(take(top, left), take(top, right), across)
    lower = torch.lerp(take(top + 1, left), take(top + 1, right), across)
    return torch.lerp(upper, lower, below)
