"""Decodes the detector: heads with four points each, of which two size and turn a body's crop.

Source: the single-shot detector of BlazePose (Bazarevsky et al., 2020): anchors without sizes on
grids of stride 8, 16 and 32, and suppression that averages what overlaps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from pchmr.perception.turned import TurnedCrop, upright_crop

Runner = Callable[[ndarray], list[ndarray]]
SIZE = 224
GRIDS = ((28, 2), (14, 2), (7, 6))  # cells a side, anchors a cell
PADDING = 1.25
LEAST_SCORE = 0.5
SAME_HEAD = 0.3  # intersection over union
CLIPPED = 100.0


@dataclass(frozen=True)
class Detection:
    """Somebody, as the detector sees them.

    Attributes:
        score: Chance in [0, 1].
        crop: Where the landmark network is to look.
    """

    score: float
    crop: TurnedCrop


def anchors() -> Float[ndarray, "2254 2"]:
    """Middles of the anchors, shares of the input; grid by grid, row by row."""
    found = []
    for cells, number in GRIDS:
        middle = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(middle, middle), axis=-1).reshape(-1, 2)
        found.append(np.repeat(grid, number, axis=0))
    return np.concatenate(found)


ANCHORS = anchors()


def detect(
    runner: Runner,
    image: UInt8[ndarray, "height width 3"],
    window: TurnedCrop,
    least: float = LEAST_SCORE,
) -> list[Detection]:
    """People in a window of a picture, the surest first."""
    pixels = window.cut(image, SIZE)[None] / 127.5 - 1
    boxes, logits = runner(pixels)
    scores = 1 / (1 + np.exp(-logits[0, :, 0].astype(np.float64).clip(-CLIPPED, CLIPPED)))
    likely = scores >= least
    rows = boxes[0, likely].reshape(-1, 6, 2).astype(np.float64) / SIZE
    rows[:, [0, 2, 3, 4, 5]] += ANCHORS[likely, None]
    found = []
    for score, row in merged(scores[likely], rows):
        middle, top = window.locate(row[2:4])
        crop = upright_crop(middle, top, PADDING)
        if np.isfinite(crop.side) and crop.side >= 1:
            found.append(Detection(score, crop))
    return found


def merged(
    scores: Float[ndarray, " boxes"], rows: Float[ndarray, "boxes points 2"]
) -> list[tuple[float, Float[ndarray, "points 2"]]]:
    """Boxes that overlap as their mean, weighed by score; the surest first.

    Rows are the middle and the size of a head, then points.
    """
    order = np.argsort(-scores, kind="stable")
    found = []
    while len(order):
        same = overlaps(rows[order[0]], rows[order]) > SAME_HEAD
        same[0] = True
        members = order[same]
        mean = np.average(rows[members], axis=0, weights=scores[members])
        found.append((float(scores[order[0]]), mean))
        order = order[~same]
    return found


def overlaps(
    row: Float[ndarray, "points 2"], rows: Float[ndarray, "boxes points 2"]
) -> Float[ndarray, " boxes"]:
    """Intersection over union of a head with others."""
    half, halves = np.abs(row[1]) / 2, np.abs(rows[:, 1]) / 2
    high = np.minimum(row[0] + half, rows[:, 0] + halves)
    low = np.maximum(row[0] - half, rows[:, 0] - halves)
    shared = (high - low).clip(0).prod(axis=-1)
    union = 4 * (half.prod() + halves.prod(axis=-1)) - shared
    return shared / np.maximum(union, 1e-12)
