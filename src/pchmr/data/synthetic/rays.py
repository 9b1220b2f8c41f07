"""The ray of every pixel, kept as one row and one column because a pinhole ray is separable."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Rays:
    """Directions (x/z, y/z, 1) of the pixel centers in the camera frame.

    Attributes:
        across: x/z of each column.
        down: y/z of each row.
    """

    across: Float[Tensor, "batch 1 width"]
    down: Float[Tensor, "batch height 1"]


def pixel_rays(intrinsics: Float[Tensor, "batch 3 3"], height: int, width: int) -> Rays:
    """Rays through the pixel centers, at +0.5, of a pinhole camera without skew."""
    columns = torch.arange(width, device=intrinsics.device) + 0.5
    rows = torch.arange(height, device=intrinsics.device) + 0.5
    across = (columns - intrinsics[:, 0, 2, None]) / intrinsics[:, 0, 0, None]
    down = (rows - intrinsics[:, 1, 2, None]) / intrinsics[:, 1, 1, None]
    return Rays(across[:, None, :], down[:, :, None])


def along_rays(
    rays: Rays, direction: Float[Tensor, "batch 3"]
) -> Float[Tensor, "batch height width"]:
    """Dot product of each ray with one camera-frame direction per item."""
    x, y, z = direction.T[..., None, None]
    return x * rays.across + (y * rays.down + z)
