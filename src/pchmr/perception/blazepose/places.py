"""Where in a picture the landmark network is to look: the detector's finds, window by window.

First the whole picture, then tiles for people who are small in it. Where nobody was found, the
picture in the middle of a black window: whoever fills a picture looks small there, as the detector
likes it; and that window turned, for who lies or stands on their hands.
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from pchmr.perception.blazepose.detector import SIZE, Detection, Runner, detect
from pchmr.perception.turned import TurnedCrop

LEAST_FOUND = 0.5  # score of the detector from which the landmark network looks
TILES = (0.6, 0.35)  # sides of tiles, of the picture's longer side
STEP = 2 / 3  # of a tile's side, to the next tile at most
SMALL = 0.45  # of the longer side: crops below it call for finer tiles
LEAST_TILE = 160  # pixels
WIDE = 1.6  # of the longer side
TURNS = (0.0, math.pi / 2, -math.pi / 2, math.pi)
SAME_PLACE = 0.15  # of a crop's side, between the middles of two finds of one person
SAME_SIDE = 1.4  # ratio of the sides of two finds of one person


def places(detector: Runner, image: UInt8[ndarray, "height width 3"]) -> list[Detection]:
    """What to look at closer, the surest first, each person once; empty where nobody is."""
    height, width = image.shape[:2]
    longer = float(max(height, width))
    finds = detect(detector, image, TurnedCrop(width / 2, height / 2, longer), LEAST_FOUND)
    for share in TILES:
        if share * longer < LEAST_TILE or longer <= SIZE:
            break
        for tile in tiles(width, height, share * longer):
            finds += detect(detector, image, tile, LEAST_FOUND)
        if not any(find.crop.side < SMALL * longer for find in finds):
            break
    return once(finds)


def wide_places(detector: Runner, image: UInt8[ndarray, "height width 3"]) -> Iterator[Detection]:
    """Further finds, for who is not found in the picture as it is; upright ones first."""
    height, width = image.shape[:2]
    side = WIDE * max(height, width)
    for turn in TURNS:
        window = TurnedCrop(width / 2, height / 2, side, turn)
        yield from once(detect(detector, image, window, LEAST_FOUND))


def tiles(width: int, height: int, side: float) -> Iterator[TurnedCrop]:
    """Squares over a picture that overlap by a third or more."""
    for y in _middles(height, side):
        for x in _middles(width, side):
            yield TurnedCrop(x, y, side)


def _middles(length: int, side: float) -> list[float]:
    if side >= length:
        return [length / 2]
    count = int(np.ceil((length - side) / (STEP * side) - 1e-9)) + 1
    return np.linspace(side / 2, length - side / 2, count).tolist()


def once(finds: list[Detection]) -> list[Detection]:
    """The surest of the finds that lie in one place and are of one size."""
    found: list[Detection] = []
    for find in sorted(finds, key=lambda find: -find.score):
        if not any(_same(find.crop, other.crop) for other in found):
            found.append(find)
    return found


def _same(a: TurnedCrop, b: TurnedCrop) -> bool:
    low, high = sorted((a.side, b.side))
    apart = float(np.hypot(*(a.middle - b.middle)))
    return apart < SAME_PLACE * low and high < SAME_SIDE * low
