"""Focal lengths from what a camera wrote into a photo; nothing here opens a file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL.ExifTags import Base

DIAGONAL_35MM = 43.27  # mm, of the 36 x 24 mm frame that equivalent focal lengths refer to
UNITS_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}  # FocalPlaneResolutionUnit
KNOWN_SD, CUT_SD = 0.05, 0.3
LEAST, LARGEST = 0.1, 100.0  # picture diagonals that a focal length lies between
SAME_ASPECT = 0.02


@dataclass(frozen=True)
class FocalLength:
    """A focal length as far as EXIF tells.

    Attributes:
        pixels: Of the file.
        sd: Standard deviation of its logarithm.
    """

    pixels: float
    sd: float


def focal_length(tags: Mapping[int, Any], width: int, height: int) -> FocalLength | None:
    """The focal length in pixels of a file of this size; None where the tags do not tell.

    The tags speak of the picture that the camera took, whose size EXIF holds too. A file of the
    same aspect is that picture, scaled. A file that fits inside is a part cut out of it: surely at
    its scale where one side is as long, else probably. A file that is neither is anybody's guess.
    """
    own = (_number(tags, Base.ExifImageWidth), _number(tags, Base.ExifImageHeight))
    known = min(own) >= 1
    own = own if known else (float(width), float(height))
    taken = _taken(tags, math.hypot(*own))
    if taken is None or not LEAST < taken / math.hypot(*own) < LARGEST:
        return None
    scale = math.hypot(width, height) / math.hypot(*own)
    best = min((own, own[::-1]), key=lambda size: abs(math.log(width * size[1] / height / size[0])))
    if abs(math.log(width * best[1] / height / best[0])) < SAME_ASPECT:
        is_sure = known or _number(tags, Base.FocalLengthIn35mmFilm) > 0
        return FocalLength(taken * scale, KNOWN_SD if is_sure else CUT_SD)
    fits = [size for size in (own, own[::-1]) if width <= size[0] and height <= size[1]]
    if not fits:
        return FocalLength(taken * scale, CUT_SD)
    is_sure = any(width == size[0] or height == size[1] for size in fits)
    return FocalLength(taken, KNOWN_SD if is_sure else CUT_SD)


def _taken(tags: Mapping[int, Any], diagonal: float) -> float | None:
    """Focal length in pixels of the picture that the camera took."""
    equivalent_mm = _number(tags, Base.FocalLengthIn35mmFilm)
    if equivalent_mm > 0:
        return equivalent_mm / DIAGONAL_35MM * diagonal
    focal_mm = _number(tags, Base.FocalLength)
    resolution = _number(tags, Base.FocalPlaneXResolution)
    unit_mm = UNITS_MM.get(int(_number(tags, Base.FocalPlaneResolutionUnit)) or 2)
    if focal_mm <= 0 or resolution <= 0 or unit_mm is None:
        return None
    return focal_mm / unit_mm * resolution


def _number(tags: Mapping[int, Any], tag: int) -> float:
    """A tag's number; 0 where it is missing or none."""
    try:
        value = float(tags.get(tag, 0))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return 0.0
    return value if math.isfinite(value) else 0.0
