"""A picture with the people who were found painted over, so that others behind them are looked at.

What hides somebody draws the networks to itself; blurred surroundings do not.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8
from numpy import ndarray
from PIL import Image as Pictures
from scipy.ndimage import gaussian_filter, maximum_filter

from pchmr.perception.detection import LEAST_CONFIDENCE
from pchmr.perception.people import SeenPerson

SHOWN = 0.5  # chance from which a pixel shows a person
COARSE = 96  # cells of the longer side of the blurred surroundings
SPREAD = 6.0  # cells
BORDER = 3  # cells of the coarse picture around a person that tell nothing of the surroundings
MOST_PAINTED = 0.5  # of the points that are seen of somebody
RIM = 1 / 240  # of the height, painted beyond a person's own mask


def places_of(
    people: Sequence[SeenPerson], height: int, width: int
) -> Bool[ndarray, "height width"]:
    """Pixels of a picture that show some people, and a rim around them."""
    shown = np.max([one.mask(height, width) for one in people], axis=0) >= SHOWN
    return maximum_filter(shown, 2 * max(round(RIM * height), 1) + 1)


def is_ghost(person: SeenPerson, painted: Bool[ndarray, "height width"]) -> bool:
    """Whether most of what is seen of a person lies where others were painted over."""
    seen = person.keypoints[person.keypoints[:, 2] > LEAST_CONFIDENCE, :2]
    limit = np.array(painted.shape[::-1]) - 1
    column, row = seen.astype(int).clip(0, limit).T
    return bool(painted[row, column].mean() > MOST_PAINTED) if len(seen) else True


def painted_over(
    image: UInt8[ndarray, "height width 3"], shown: Bool[ndarray, "height width"]
) -> UInt8[ndarray, "height width 3"]:
    """The picture with some places filled with what lies around them."""
    height, width = shown.shape
    filled = Pictures.fromarray(_surroundings(image, shown)).resize(
        (width, height), Pictures.Resampling.BILINEAR
    )
    return np.where(shown[..., None], np.asarray(filled), image)


def _surroundings(image: ndarray, shown: ndarray) -> UInt8[ndarray, "rows columns 3"]:
    """A small picture of what nobody hides, blurred into the places of people."""
    height, width = shown.shape
    scale = COARSE / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = np.asarray(Pictures.fromarray(image).resize(size, Pictures.Resampling.BOX), float)
    mask = Pictures.fromarray(shown).convert("L").resize(size, Pictures.Resampling.BOX)
    free = (maximum_filter(np.asarray(mask), BORDER) == 0).astype(float)[..., None]
    blurred = gaussian_filter(np.concatenate([small * free, free], axis=-1), (SPREAD, SPREAD, 0))
    mean = (small * free).sum(axis=(0, 1)) / max(free.sum(), 1.0)
    known = blurred[..., 3:] > 1e-4
    return np.where(known, blurred[..., :3] / np.maximum(blurred[..., 3:], 1e-4), mean).astype(
        np.uint8
    )
