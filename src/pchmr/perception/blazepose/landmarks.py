"""Decodes the landmark network: 33 points in the picture and in space, a mask, a person or none.

Two further points of the network say where to look next: the second pass is closer than the first.
Source: BlazePose (Bazarevsky et al., 2020) and BlazePose GHUM Holistic (Grishchenko et al., 2022).
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from pchmr.body.joints import COCO_17
from pchmr.perception.blazepose.detector import PADDING, Runner
from pchmr.perception.turned import TurnedCrop, upright_crop

SIZE = 256
HANDS = ("pinky_finger1", "forefinger1", "thumb")
_FACE = (
    "nose",
    "left_eye_inner",
    "left_eye",
    "left_eye_outer",
    "right_eye_inner",
    "right_eye",
    "right_eye_outer",
    "left_ear",
    "right_ear",
    "left_mouth",
    "right_mouth",
)
_PARTS = (
    "shoulder",
    "elbow",
    "wrist",
    *HANDS,
    "hip",
    "knee",
    "ankle",
    "heel",
    "big_toe",
)
NAMES = (*_FACE, *(f"{side}_{part}" for part in _PARTS for side in ("left", "right")))
"""The 33 landmarks in the network's order, under the package's names."""

NEXT_MIDDLE, NEXT_TOP = len(NAMES), len(NAMES) + 1
NUM_POINTS = 39
REFINED = 7  # cells a side of the heat map that refine a point
LEAST_HEAT = 0.5
LIMBS = tuple(COCO_17.names[5:])


@dataclass(frozen=True)
class Landmarks:
    """What the network says of one crop.

    Attributes:
        crop: Where it looked.
        points: Pixels of the picture, and the chance to be visible and inside the crop.
        world: Metres about the middle of the hips, camera axes: x right, y down, z away.
        presence: Chance that the crop shows a person.
        mask: Chance of each cell of the crop to show the person.
        next_crop: Where the person is by the network's own word.
    """

    crop: TurnedCrop
    points: Float[ndarray, "33 3"]
    world: Float[ndarray, "33 3"]
    presence: float
    mask: Float[ndarray, "256 256"]
    next_crop: TurnedCrop

    @property
    def score(self) -> float:
        """How surely somebody is seen: the person flag times how visible the limbs are."""
        return self.presence * float(self.points[[NAMES.index(n) for n in LIMBS], 2].mean())


def look(runner: Runner, image: UInt8[ndarray, "height width 3"], crop: TurnedCrop) -> Landmarks:
    """One pass over one crop."""
    raw, flag, mask, heat, world = runner(crop.cut(image, SIZE)[None] / 255)
    points = raw.reshape(NUM_POINTS, 5).astype(np.float64)
    shares = refined(points[:, :2] / SIZE, heat[0])
    places = crop.locate(shares)
    chance = _chance(points[: len(NAMES), 3:]).prod(axis=-1)
    turned = world.reshape(NUM_POINTS, 3)[: len(NAMES)].astype(np.float64)
    return Landmarks(
        crop=crop,
        points=np.concatenate([places[: len(NAMES)], chance[:, None]], axis=-1),
        world=np.concatenate([turned[:, :2] @ crop.axes, turned[:, 2:]], axis=-1),
        presence=float(flag.reshape(())),
        mask=_chance(mask[0, :, :, 0]),
        next_crop=upright_crop(places[NEXT_MIDDLE], places[NEXT_TOP], PADDING),
    )


def look_twice(
    runner: Runner, image: UInt8[ndarray, "height width 3"], crop: TurnedCrop, least: float
) -> Landmarks:
    """The second pass where the first one saw somebody, else the first."""
    first = look(runner, image, crop)
    closer = first.next_crop
    again = first.presence >= least and sound(closer, image)
    return look(runner, image, closer) if again else first


def sound(crop: TurnedCrop, image: UInt8[ndarray, "height width 3"]) -> bool:
    """Whether a crop that the network asks for is one that can show a person of the picture."""
    return math.isfinite(crop.side) and 1 <= crop.side <= 8 * max(image.shape)


def refined(
    shares: Float[ndarray, "points 2"], heat: Float[ndarray, "rows columns points"]
) -> Float[ndarray, "points 2"]:
    """Points moved to the mean of their heat map close by, where it is hot enough.

    A cell stands for its upper left corner: the maps were taught so, and half a cell is a percent
    of a person.
    """
    rows, columns, _ = heat.shape
    found = shares.copy()
    reach = REFINED // 2
    for point, (x, y) in enumerate(shares):
        if not (0 <= x < 1 and 0 <= y < 1):
            continue
        row, column = int(y * rows), int(x * columns)
        top, left = max(row - reach, 0), max(column - reach, 0)
        near = _chance(heat[top : row + reach + 1, left : column + reach + 1, point])
        if near.max() >= LEAST_HEAT:
            down, across = np.indices(near.shape)
            found[point, 0] = (left + (near * across).sum() / near.sum()) / columns
            found[point, 1] = (top + (near * down).sum() / near.sum()) / rows
    return found


def _chance(logits: ndarray) -> Float[ndarray, "*batch"]:
    return 1 / (1 + np.exp(-logits.astype(np.float64).clip(-50, 50)))
