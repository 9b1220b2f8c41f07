"""Everybody in a picture: what is known of each, who is meant, how doubles of one are told.

It keeps the surer of two poses that are one person's; it knows no network and no body.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from PIL import Image as Pictures

from pchmr.body.joints import COCO_17
from pchmr.data.errors import InputError
from pchmr.perception.interfaces import Box, Image, KeypointPrior
from pchmr.perception.turned import TurnedCrop

LIMBS = tuple(COCO_17.names[5:])
"""Shoulders to ankles: what two poses are compared by."""
SPREAD = 0.16  # of a person's size; twice the mean of COCO's sigmas of the limbs
SAME_PERSON = 0.35  # similarity from which two poses are one person's


@dataclass(frozen=True, kw_only=True)
class SeenPerson:
    """One person of a picture.

    Attributes:
        box: Around the keypoints that are seen.
        keypoints: Pixels of the picture and confidence in [0, 1].
        world: The same points in metres about the middle of the hips, camera axes: x right, y
            down, z away. They tell the pose, not shape, size or distance.
        presence: Chance that there is a person at all.
        score: How surely the person is seen, to rank people by.
        crop: Where the network looked.
        cells: Chance that each cell of the crop shows the person.
        next_crop: Where the network would look in the next frame of a clip; None where it says not.
        detected: Chance by the detector that somebody is there; 1 where it was not asked.
        mirror_world: `world` as the mirror image shows it, mirrored back; None where nobody looked.
    """

    box: Box
    keypoints: Float[ndarray, "keypoints 3"]
    world: Float[ndarray, "keypoints 3"]
    presence: float
    score: float
    crop: TurnedCrop
    cells: Float[ndarray, "rows columns"]
    next_crop: TurnedCrop | None = None
    detected: float = 1.0
    mirror_world: Float[ndarray, "keypoints 3"] | None = None

    def chance(self, pixels: Float[ndarray, "*batch 2"]) -> Float[ndarray, "*batch"]:
        """Chance that places of the picture show the person; 0 outside the crop."""
        size = len(self.cells)
        cell = np.floor(self.crop.share(pixels) * size).astype(int)
        inside = ((cell >= 0) & (cell < size)).all(axis=-1)
        column, row = np.moveaxis(cell.clip(0, size - 1), -1, 0)
        return np.where(inside, self.cells[row, column], 0.0)

    def mask(self, height: int, width: int) -> Float[ndarray, "height width"]:
        """Chance that each pixel of the picture shows the person; 0 outside the crop."""
        size = len(self.cells)
        right, down = self.crop.axes.T * size / self.crop.side
        start = self.crop.share(np.zeros(2)) * size
        affine = (right[0], down[0], start[0], right[1], down[1], start[1])
        return np.asarray(
            Pictures.fromarray(self.cells.astype(np.float32)).transform(
                (width, height), Pictures.Transform.AFFINE, affine, Pictures.Resampling.BILINEAR
            )
        )


@runtime_checkable
class PeoplePrior(KeypointPrior, Protocol):
    """Sees everybody in a picture, with points in space and masks."""

    def people(self, image: Image) -> list[SeenPerson]:
        """Who is in the picture, the surest first."""
        ...

    def see(self, image: Image, box: Box) -> SeenPerson:
        """The person in a box."""
        ...

    def mirrored(self, image: Image, person: SeenPerson) -> Float[ndarray, "keypoints 3"]:
        """Points in space as the mirror image shows them, mirrored back; see `SeenPerson.world`."""
        ...


ALL, LARGEST = "all", "largest"


def chosen(who: str, boxes: Sequence[Box]) -> list[int]:
    """Positions of the people who are meant; their numbers count from 1.

    Args:
        who: "all", "largest", or a number.
        boxes: Of everybody; none of them gives nobody.

    Raises:
        InputError: Nobody has the number.
    """
    if who == ALL or not boxes:
        return list(range(len(boxes)))
    if who == LARGEST:
        return [max(range(len(boxes)), key=lambda row: boxes[row].width * boxes[row].height)]
    number = int(who)
    if number > len(boxes):
        raise InputError(
            f"--person {number}: there are {len(boxes)} people in the picture, numbered from 1, "
            "the surest first"
        )
    return [number - 1]


def similarity(a: Float[ndarray, "limbs 2"], b: Float[ndarray, "limbs 2"], size: float) -> float:
    """Object keypoint similarity (COCO) of two poses of a size in pixels: 1 where they agree."""
    squared = ((a - b) ** 2).sum(axis=-1)
    return float(np.exp(-squared / (2 * (SPREAD * max(size, 1e-6)) ** 2)).mean())


def without_doubles(
    people: Sequence[SeenPerson], names: Sequence[str], least: float = SAME_PERSON
) -> list[SeenPerson]:
    """The surest of every group of poses that are one person's, the surest first."""
    rows = [list(names).index(name) for name in LIMBS]
    found: list[SeenPerson] = []
    for person in sorted(people, key=lambda person: -person.score):
        limbs = person.keypoints[rows, :2]
        sizes = [(_size(person) * _size(other)) ** 0.5 for other in found]
        pairs = zip(found, sizes, strict=True)
        if all(similarity(limbs, o.keypoints[rows, :2], size) < least for o, size in pairs):
            found.append(person)
    return found


def _size(person: SeenPerson) -> float:
    return (person.box.width * person.box.height) ** 0.5
