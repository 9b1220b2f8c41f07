"""Layers on a person, pixel by pixel: which one is seen, its color, its folds, and a face.

Works on flat lists of hits; coordinates are those of the template in metres, so what is drawn
moves with the body.
"""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pchmr.data.synthetic.patterns import pattern_weight, wave

EYE_AT, EYE_SIZE = (0.0315, 0.034), (0.0125, 0.0055)
IRIS = 0.006
BROW_AT, BROW_SIZE = (0.032, 0.053), (0.017, 0.0042)
LIPS_AT, LIPS_SIZE = -0.043, (0.024, 0.0085)


@dataclass(frozen=True, kw_only=True)
class Layers:
    """What the people of a batch wear; coat 0 is skin, coat k + 1 that of layer k.

    Attributes:
        fields: Positive where a layer is worn, metres.
        color: Linear reflectance.
        second: That of the pattern.
        kind: Value of `PATTERNS`.
        scale: Period of the pattern, metres.
        fold: How far folds tilt the normal.
        weave: Spread of the fine grain.
        features: Linear reflectance of brows, lips and irises.
        nose: Its tip on the template, metres; shared by the batch.
        size: Unit of the face's proportions, metres; shared by the batch.
    """

    fields: Float[Tensor, "batch vertices layers"]
    color: Float[Tensor, "batch coats 3"]
    second: Float[Tensor, "batch coats 3"]
    kind: Int[Tensor, "batch coats"]
    scale: Float[Tensor, "batch coats"]
    fold: Float[Tensor, "batch coats"]
    weave: Float[Tensor, "batch coats"]
    features: Float[Tensor, "batch 3 3"]
    nose: Float[Tensor, "3"]
    size: Float[Tensor, ""]

    def items(self, rows: slice) -> "Layers":
        """Some items of the batch."""
        names = [f.name for f in fields(self) if f.name not in ("nose", "size")]
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def to(self, device: torch.device | str) -> "Layers":
        """The same on a device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def worn(
    layers: Layers,
    item: Int[Tensor, " hits"],
    values: Float[Tensor, "layers hits"],
    points: Float[Tensor, "3 hits"],
    footprint: Float[Tensor, " hits"],
) -> tuple[Float[Tensor, "3 hits"], Float[Tensor, "3 hits"]]:
    """Reflectance at each hit, and what folds add to the normal.

    Args:
        layers: Of the batch.
        item: Row of the batch.
        values: Fields, interpolated.
        points: Template coordinates, metres.
        footprint: Size of a pixel there, metres.
    """
    coat = torch.zeros_like(item)
    for number, value in enumerate(values, start=1):
        coat = torch.where(value > 0, number, coat)
    row = item * layers.color.shape[1] + coat
    scale = layers.scale.flatten().index_select(0, row)
    kind = layers.kind.flatten().index_select(0, row)
    weight = pattern_weight(kind, points / scale, footprint / scale)
    first = layers.color.flatten(0, 1).index_select(0, row).T
    second = layers.second.flatten(0, 1).index_select(0, row).T
    albedo = first + (second - first) * weight
    albedo = _faced(layers, albedo, item, coat, points)
    grain = _grain(points) * layers.weave.flatten().index_select(0, row)
    albedo = (albedo * (1 + grain * (1.5 - 60 * footprint).clamp(0, 1))).clamp(0.01, 0.9)
    fold = layers.fold.flatten().index_select(0, row)
    return albedo, _folds(points) * fold


def _grain(points: Tensor) -> Float[Tensor, " hits"]:
    x, y, z = points
    coarse = wave(23 * x + 3 * wave(9 * y)) * wave(21 * y + 11 * z)
    fine = wave(95 * x + 41 * z) * wave(88 * y - 37 * x)
    return coarse + 0.7 * fine


def _folds(points: Tensor) -> Float[Tensor, "3 hits"]:
    """A smooth vector field with creases of five to fifteen centimetres."""
    x, y, z = points
    bend = 0.35 * (wave(2.1 * x + 1.3 * z) + wave(1.7 * y - 1.9 * x + 0.3))
    where = (0.5 + 0.5 * wave(1.9 * x + 2.7 * y + bend) + 0.3 * wave(3.7 * z - 2.9 * y)).clamp(0, 1)
    along = wave(4.3 * y + 2.1 * x + bend) + 0.5 * wave(9.7 * y - 5.9 * x + bend)
    across = wave(3.1 * x - 4.7 * y + bend) + 0.5 * wave(7.1 * z + 6.3 * x - bend)
    deep = wave(3.7 * z + 4.3 * y + bend) + 0.5 * wave(8.3 * y + 5.1 * z + bend)
    return torch.stack([across, along, deep]) * where


def _faced(
    layers: Layers, albedo: Tensor, item: Tensor, coat: Tensor, points: Tensor
) -> Float[Tensor, "3 hits"]:
    """Eyes, brows, lips and shaded sockets on the skin of a face."""
    x, y, z = (points - layers.nose[:, None]) / layers.size
    face = ((coat == 0) & (z > -0.075) & (y > -0.1) & (y < 0.12)).nonzero()[:, 0]
    if not len(face):
        return albedo
    x, y = x[face].abs(), y[face]
    brow, lips, iris = layers.features.index_select(0, item[face]).permute(1, 2, 0)
    skin = albedo[:, face]
    socket = _inside(x, y, (EYE_AT[0], EYE_AT[1] + 0.004), (0.026, 0.018), 0.6)
    shown = skin * (1 - 0.18 * socket)
    nostril = _inside(x, y, (0.011, -0.017), (0.007, 0.005), 0.5)
    shown = shown * (1 - 0.5 * nostril)
    white = _inside(x, y, EYE_AT, EYE_SIZE, 0.25)
    shown = torch.lerp(shown, 0.22 + 0.35 * skin, white)
    pupil = _inside(x, y, EYE_AT, (IRIS, IRIS), 0.25) * white
    shown = torch.lerp(shown, iris, pupil)
    lid = _inside(x, y, (EYE_AT[0], EYE_AT[1] + 0.0065), (0.015, 0.0022), 0.5)
    shown = shown * (1 - 0.7 * lid)
    shown = torch.lerp(shown, brow, _inside(x, y, BROW_AT, BROW_SIZE, 0.5))
    shown = torch.lerp(shown, lips, _inside(x, y, (0.0, LIPS_AT), LIPS_SIZE, 0.4))
    albedo = albedo.clone()
    albedo[:, face] = shown
    return albedo


def _inside(
    x: Tensor, y: Tensor, at: tuple[float, float], size: tuple[float, float], soft: float
) -> Float[Tensor, " points"]:
    """1 inside an ellipse, falling to 0 over a share of its radius."""
    distance = (((x - at[0]) / size[0]) ** 2 + ((y - at[1]) / size[1]) ** 2).sqrt()
    return ((1 - distance) / soft + 0.5).clamp(0, 1)
