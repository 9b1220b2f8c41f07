"""Places of world 2: panoramas that people stand in and are lit by.

A panorama is seen as a dome with a flat floor, so that the ground below a person is the ground of
the place in perspective. Light is nine spherical-harmonic coefficients a channel and one direction
that casts shadows; `workshop.environments` makes the asset.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from pchmr.data.synthetic.sensor import decode

ASSET = Path(__file__).parent / "assets" / "environments_v2.npz"
WHITE = 4.0  # radiance that a stored picture shows as white
NUM_BASIS = 9


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A place.

    Attributes:
        picture: Radiance, top row up; column 0 looks along -z and columns turn toward +x.
        light_direction: Unit vector toward the light that casts shadows.
        light_color: Irradiance of that light on a surface that faces it.
        irradiance: What a white surface reflects of all other light, see `basis`.
    """

    picture: Float[np.ndarray, "height width 3"]
    light_direction: Float[np.ndarray, "3"]
    light_color: Float[np.ndarray, "3"]
    irradiance: Float[np.ndarray, "9 3"]


@lru_cache(maxsize=1)
def environments() -> dict[str, Environment]:
    """All shipped places by name."""
    with np.load(ASSET, allow_pickle=False) as arrays:
        return {
            str(name): Environment(
                picture=WHITE * (decode(arrays[f"picture_{name}"].tobytes()) / 255.0) ** 2.2,
                light_direction=arrays["light_direction"][row].astype(float),
                light_color=arrays["light_color"][row].astype(float),
                irradiance=arrays["irradiance"][row].astype(float),
            )
            for row, name in enumerate(arrays["names"])
        }


def directions(height: int, width: int) -> Float[np.ndarray, "height width 3"]:
    """Unit vector that each pixel of a panorama looks along."""
    polar = (np.arange(height) + 0.5)[:, None] * np.pi / height
    turn = (np.arange(width) + 0.5)[None] * 2 * np.pi / width
    level = np.sin(polar)
    up = np.cos(polar) * np.ones_like(turn)
    return np.stack([level * np.sin(turn), up, -level * np.cos(turn)], axis=-1)


Axis = TypeVar("Axis", np.ndarray, Tensor)


def harmonics(x: Axis, y: Axis, z: Axis) -> tuple[Axis, ...]:
    """Real spherical harmonics of bands 0 to 2 of unit vectors, as `NUM_BASIS` values."""
    return (
        0.282095 + 0 * x,
        0.488603 * y,
        0.488603 * z,
        0.488603 * x,
        1.092548 * x * y,
        1.092548 * y * z,
        0.315392 * (3 * z * z - 1),
        1.092548 * x * z,
        0.546274 * (x * x - y * y),
    )


def basis(toward: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 9"]:
    """`harmonics` of unit vectors, one row each."""
    x, y, z = np.moveaxis(np.asarray(toward)[..., None], -2, 0)
    return np.concatenate(harmonics(x, y, z), axis=-1)


def turned_irradiance(
    coefficients: Float[np.ndarray, "9 3"], rotation: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "9 3"]:
    """Coefficients of the same light turned by a rotation, fitted on a spread of directions."""
    toward = directions(8, 16).reshape(-1, 3)
    shown = basis(toward) @ coefficients
    return np.linalg.lstsq(basis(toward @ rotation.T), shown, rcond=None)[0]
