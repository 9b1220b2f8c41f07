"""Pictures of several rendered people who overlap, with exact keypoints of each.

Every person is rendered alone, cut out along the mask and laid over a picture of the same world
whose own person is painted over; who is larger stands in front. Shadows of one on another and a
common light are missing: what is asked of a crowd here is only who is where.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from PIL import Image
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter

from pchmr.data.synthetic.render import Rendered

LEAST_VISIBLE = 0.9  # of a person as rendered, to be cut out
HEIGHTS = (0.5, 0.85)  # of the picture's height
APART = (0.45, 1.1)  # between the middles of neighbors, in heights of the mean person over two
FEATHER = 0.6  # pixels
HALO = 4  # pixels around a person that the blur of the sensor has colored


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """A picture of several people, the farthest first.

    Attributes:
        image: 8-bit RGB.
        keypoints: Evaluation joints in pixels; the last column is 1 inside the picture.
        visible: Share of each person that nobody in front hides.
    """

    image: UInt8[ndarray, "height width 3"]
    keypoints: Float[ndarray, "people 14 3"]
    visible: Float[ndarray, " people"]


@dataclass(frozen=True)
class _CutOut:
    """A person without surroundings, at the size in which they are laid down."""

    image: UInt8[ndarray, "rows columns 3"]
    mask: Float[ndarray, "rows columns"]
    keypoints: Float[ndarray, "14 2"]


def whole_rows(shown: Rendered) -> ndarray:
    """Rows whose person is whole: inside the picture, and hidden by no box."""
    inside = (shown.labels["keypoints_2d"][..., 2] > 0).all(axis=1)
    mask = shown.person_mask
    border = mask[:, [0, -1]].any(axis=(1, 2)) | mask[:, :, [0, -1]].any(axis=(1, 2))
    return np.flatnonzero(inside & ~border & (shown.labels["visible"] >= LEAST_VISIBLE))


def compose(
    shown: Rendered, rows: ndarray, rng: np.random.Generator, height: int, width: int
) -> Crowd:
    """The people of some rows in one picture.

    Args:
        shown: Rendered people, see `whole_rows`.
        rows: Who comes.
        rng: Draws sizes and places.
        height: Of the picture.
        width: Of the picture.
    """
    image = _background(shown, int(rng.choice(rows)), height, width)
    tall = np.sort(rng.uniform(*HEIGHTS, len(rows))) * height
    pairs = zip(rows.tolist(), tall.tolist(), strict=True)
    people = [_cut_out(shown, row, size) for row, size in pairs]
    middles = np.cumsum(rng.uniform(*APART, len(rows))) * tall.mean() / 2
    middles = rng.permutation(middles - middles.mean() + width / 2)
    owner = np.full((height, width), -1)
    areas, keypoints = [], []
    for number, (person, middle) in enumerate(zip(people, middles, strict=True)):
        corner = np.round([middle - person.mask.shape[1] / 2, 0]).astype(int)
        corner[1] = round(height * 0.97) - person.mask.shape[0]
        areas.append(_lay(image, owner, number, person, corner))
        keypoints.append(person.keypoints + corner)
    joints = np.stack(keypoints)
    inside = ((joints >= 0) & (joints <= [width, height])).all(axis=-1, keepdims=True)
    seen = np.array([(owner == number).sum() for number in range(len(rows))])
    return Crowd(
        image=(255 * image + 0.5).astype(np.uint8),
        keypoints=np.concatenate([joints, inside], axis=-1),
        visible=seen / np.maximum(areas, 1),
    )


def _background(shown: Rendered, row: int, height: int, width: int) -> Float[ndarray, "h w 3"]:
    """A row's surroundings, blurred as a far background is; the person is painted over."""
    person = binary_dilation(shown.person_mask[row], iterations=HALO)
    nearest = distance_transform_edt(person, return_distances=False, return_indices=True)
    assert nearest is not None
    empty = shown.images[row][tuple(nearest)] / 255.0
    smooth = gaussian_filter(empty, (0.03 * len(empty), 0.03 * len(empty), 0))
    picture = Image.fromarray((255 * smooth).astype(np.uint8))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)) / 255.0


def _cut_out(shown: Rendered, row: int, tall: float) -> _CutOut:
    mask = shown.person_mask[row].astype(bool)
    box = _box(mask)
    scale = tall / (box[0].stop - box[0].start)
    size = tuple(max(round(scale * (part.stop - part.start)), 1) for part in reversed(box))
    image = Image.fromarray(shown.images[row][box]).resize(size, Image.Resampling.BILINEAR)
    soft = Image.fromarray(gaussian_filter(mask[box].astype(np.float32), FEATHER))
    pixels = (shown.labels["keypoints_2d"][row, :, :2] + 1) / 2 * len(mask)
    return _CutOut(
        np.asarray(image),
        np.asarray(soft.resize(size, Image.Resampling.BILINEAR)).astype(np.float64),
        (pixels - [box[1].start, box[0].start]) * scale,
    )


def _box(mask: Bool[ndarray, "rows columns"]) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _lay(image: ndarray, owner: ndarray, number: int, person: _CutOut, corner: ndarray) -> int:
    """Lays a person over a picture, in place; returns how many pixels the person has."""
    height, width = owner.shape
    low = np.maximum(-corner, 0)
    high = np.minimum([width, height] - corner, person.mask.shape[::-1])
    if (high <= low).any():
        return int((person.mask > 0.5).sum())
    part = (slice(low[1], high[1]), slice(low[0], high[0]))
    place = tuple(slice(s.start + c, s.stop + c) for s, c in zip(part, corner[::-1], strict=True))
    weight = person.mask[part][..., None]
    image[place] = weight * person.image[part] / 255 + (1 - weight) * image[place]
    owner[place][person.mask[part] > 0.5] = number
    return int((person.mask > 0.5).sum())
