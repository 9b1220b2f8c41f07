"""How a stored picture is mirrored and turned to stand upright: photos' EXIF, videos' matrices."""

import struct
from dataclasses import dataclass

from jaxtyping import UInt8
from numpy import ndarray

Pixels = UInt8[ndarray, "height width 3"]
Turned = UInt8[ndarray, "turned_height turned_width 3"]


@dataclass(frozen=True)
class Orientation:
    """Rows and columns are exchanged first, then either axis may be mirrored.

    Attributes:
        swap: Whether rows become columns.
        flip_x: Whether left and right are exchanged after that.
        flip_y: Whether top and bottom are.
    """

    swap: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def upright(self, stored: Pixels) -> Turned:
        """The picture as it should be seen; a view."""
        turned = stored.transpose(1, 0, 2) if self.swap else stored
        return turned[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]

    def stored(self, upright: Pixels) -> Turned:
        """A view of an upright picture, row by row as the file stores it."""
        turned = upright[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
        return turned.transpose(1, 0, 2) if self.swap else turned


EXIF_ORIENTATIONS = {
    1: Orientation(),
    2: Orientation(flip_x=True),
    3: Orientation(flip_x=True, flip_y=True),
    4: Orientation(flip_y=True),
    5: Orientation(swap=True),
    6: Orientation(swap=True, flip_x=True),
    7: Orientation(swap=True, flip_x=True, flip_y=True),
    8: Orientation(swap=True, flip_y=True),
}
"""Values of the tag Orientation (CIPA DC-008, 4.6.5)."""


def of_matrix(matrix: bytes) -> Orientation:
    """Of a display matrix: nine 32-bit integers, point (x, y) to (a x + c y, b x + d y).

    Any angle counts as the nearest quarter turn; a determinant below zero is a mirror.
    """
    if len(matrix) < 36:
        return Orientation()
    a, b, _, c, d = struct.unpack("=9i", matrix[:36])[:5]
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(swap=True, flip_x=c < 0, flip_y=b < 0)
    return Orientation(flip_x=a < 0, flip_y=d < 0)
