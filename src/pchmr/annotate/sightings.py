"""What a keypoint network sees of a person, as observations: whichever network it is.

Those that see people in space give joints about an unknown origin; those that know their own errors
give relative depth; the others pixels alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from pchmr.annotate.observations import without_far
from pchmr.annotate.observed import Observations
from pchmr.annotate.spatial import POINT_SD
from pchmr.data.exif import FocalLength
from pchmr.perception.detection import find_people
from pchmr.perception.interfaces import Box, Detector, Image, KeypointPrior, PersonPrior
from pchmr.perception.people import PeoplePrior, SeenPerson

LEAST_TRUST = 0.2  # of a point in the picture that a photo-trained network places, but calls hidden
HIDDEN = 0.5  # confidence below which a joint in space errs no more
MASK_SIDE = 192  # cells of the longer side of a stored mask
SHOWN = 0.5  # chance from which a pixel shows somebody


@dataclass(frozen=True)
class Found:
    """Somebody in a picture: a box, and what was seen, where the network that found them tells."""

    box: Box
    person: SeenPerson | None = None


def everybody(image: Image, prior: KeypointPrior, detector: Detector | None = None) -> list[Found]:
    """The people of a picture, the surest first."""
    if isinstance(prior, PeoplePrior):
        return [Found(person.box, person) for person in prior.people(image)]
    return [Found(box) for box in find_people(image, prior, detector)]


def observed(
    image: Image, prior: KeypointPrior, found: Found, focal: FocalLength | None = None
) -> Observations:
    """Observations of one person of a picture.

    Args:
        image: Picture.
        prior: Looks at the person, unless they were seen already.
        found: Who.
        focal: Of the picture, where it is known.
    """
    height, width = image.shape[:2]
    size = np.array([[width, height]])
    camera, sd = None, 0.0
    if focal is not None:
        camera, sd = intrinsics(focal.pixels, width, height)[None], focal.sd
    seen = _seen(image, prior, found)
    seen["keypoints_2d"] = without_far(seen["keypoints_2d"], size.astype(np.float64))
    return Observations(
        keypoint_names=prior.names, image_size=size, intrinsics=camera, focal_sd=sd, **seen
    )


def _seen(image: Image, prior: KeypointPrior, found: Found) -> dict:
    """What a network says of a person, by the names of `Observations`."""
    if isinstance(prior, PeoplePrior):
        return in_space(found.person or prior.see(image, found.box))
    if isinstance(prior, PersonPrior):
        view = prior.look(image, found.box)
        return {
            "keypoints_2d": view.keypoints[None],
            "keypoint_sigma": view.sigma[None],
            "keypoint_depth": view.depth[None],
            "keypoint_depth_sigma": view.depth_sigma[None],
            "depth_kind": "relative",
        }
    return {"keypoints_2d": prior.keypoints(image, found.box)[None]}


def in_space(person: SeenPerson) -> dict[str, Float[ndarray, "1 keypoints *width"]]:
    """Points of a person in the picture and in space, and how far to trust them."""
    sure = person.keypoints[:, 2]
    keypoints = person.keypoints.copy()
    keypoints[:, 2] = np.where(sure > 0, np.maximum(sure, LEAST_TRUST), 0.0)
    return {
        "keypoints_2d": keypoints[None],
        "keypoints_3d": person.world[None],
        "keypoints_3d_sigma": (POINT_SD / np.clip(sure, HIDDEN, 1.0))[None],
    }


def intrinsics(focal: float, width: int, height: int) -> Float[ndarray, "3 3"]:
    """Of a whole picture."""
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])


def bystanders(
    people: Sequence[Found], own: int, width: int, height: int
) -> Bool[ndarray, "rows columns"]:
    """Cells of a picture that show somebody else than the person meant, at most 192 a side.

    Without masks, the boxes of the others less the person's own.
    """
    scale = min(1.0, MASK_SIDE / max(width, height))
    rows, columns = max(round(height * scale), 1), max(round(width * scale), 1)
    shown = [_chance(found, height, width, rows, columns) for found in people]
    others = [chance for row, chance in enumerate(shown) if row != own]
    if not others:
        return np.zeros((rows, columns), dtype=bool)
    most = np.max(others, axis=0)
    return (most >= SHOWN) & (most > shown[own])


def _chance(
    found: Found, height: int, width: int, rows: int, columns: int
) -> Float[ndarray, "rows columns"]:
    """Chance that each cell shows a person."""
    y = (np.arange(rows) + 0.5) * height / rows
    x = (np.arange(columns) + 0.5) * width / columns
    if found.person is not None:
        return found.person.chance(np.stack(np.meshgrid(x, y), axis=-1))
    left, top, right, bottom = found.box.bbox_xyxy
    inside = ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))
    return inside.astype(np.float64)
