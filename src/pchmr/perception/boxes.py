"""Boxes as users write them: one parser for every verb."""

import math

from pchmr.config import SettingError
from pchmr.perception.interfaces import Box, Image


def parse_box(text: str | None) -> Box | None:
    """A box from `x,y,w,h`.

    Raises:
        SettingError: It is no box.
    """
    if text is None:
        return None
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError:
        raise _no_box(text) from None
    if not all(map(math.isfinite, (x, y, width, height))) or min(width, height) <= 0:
        raise _no_box(text)
    return Box(x=x, y=y, width=width, height=height)


def _no_box(text: str) -> SettingError:
    return SettingError(f"--bbox {text}: give four numbers x,y,w,h in pixels with positive w and h")


def written(box: Box) -> str:
    """The box as `parse_box` reads it, in whole pixels."""
    return ",".join(f"{value:.0f}" for value in (box.x, box.y, box.width, box.height))


def whole(image: Image) -> Box:
    """The box of the whole picture."""
    height, width = image.shape[:2]
    return Box(x=0.0, y=0.0, width=float(width), height=float(height))
