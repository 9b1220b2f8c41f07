"""A square window of a picture that stands upright with the person in it.

Coordinates count from the picture's corner, as everywhere in this room: the middle of the first
pixel is (0.5, 0.5).
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image as Pictures

MOST_SHRUNK = 64


@dataclass(frozen=True)
class TurnedCrop:
    """A square about a point, turned.

    Attributes:
        x: Of its middle, pixels of the picture.
        y: Of its middle.
        side: Pixels of the picture.
        angle: Radians from the picture's upright to the crop's, clockwise as one looks at it.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0

    @property
    def axes(self) -> Float[ndarray, "2 2"]:
        """Rows: the crop's rightward and downward unit vectors in the picture."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return np.array([[cos, sin], [-sin, cos]])

    @property
    def middle(self) -> Float[ndarray, "2"]:
        """Where it lies."""
        return np.array([self.x, self.y])

    def locate(self, shares: Float[ndarray, "*batch 2"]) -> Float[ndarray, "*batch 2"]:
        """Pixels of the picture of points given as shares of the crop, (0, 0) its corner."""
        return self.middle + (shares - 0.5) * self.side @ self.axes

    def share(self, pixels: Float[ndarray, "*batch 2"]) -> Float[ndarray, "*batch 2"]:
        """Shares of the crop of points given in pixels of the picture."""
        return (pixels - self.middle) @ self.axes.T / self.side + 0.5

    def cut(
        self, image: UInt8[ndarray, "height width 3"], size: int
    ) -> Float[ndarray, "size size 3"]:
        """The window in [0, 255], `size` samples a side, black outside the picture.

        A picture that shrinks is averaged over whole blocks of pixels first, so none is skipped.
        """
        corners = self.locate(np.array([[0, 0], [1, 0], [0, 1], [1, 1.0]]))
        shrink = min(max(1, int(self.side / size)), MOST_SHRUNK)
        limit = np.array([image.shape[1], image.shape[0]])
        low = (np.floor(corners.min(axis=0)) - 2).clip(0, limit).astype(int) // shrink * shrink
        high = (np.ceil(corners.max(axis=0)) + 2 + shrink).clip(0, limit).astype(int)
        if (high <= low).any():
            return np.zeros((size, size, 3), np.float32)
        part = Pictures.fromarray(np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]]))
        part = part if shrink == 1 else part.reduce(shrink)
        right, down = self.axes * self.side / size / shrink
        start = (corners[0] - low) / shrink
        affine = (right[0], down[0], start[0], right[1], down[1], start[1])
        found = part.transform(
            (size, size), Pictures.Transform.AFFINE, affine, Pictures.Resampling.BILINEAR
        )
        return np.asarray(found, np.float32)


def upright_crop(
    middle: Float[ndarray, "2"], top: Float[ndarray, "2"], padding: float
) -> TurnedCrop:
    """The square about `middle` that `top` turns and sizes: it lies on the inscribed circle."""
    toward = top - middle
    length = float(np.hypot(*toward))
    angle = math.atan2(float(toward[0]), -float(toward[1]))
    return TurnedCrop(float(middle[0]), float(middle[1]), 2 * length * padding, angle)
