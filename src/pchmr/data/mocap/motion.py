"""A recording of motion as rotations of the body's 24 joints, y up, whatever file it came from."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

FRAMES_PER_SECOND = 10
"""Of a stored motion: that of rendered clips."""


@dataclass(frozen=True, kw_only=True)
class Motion:
    """One recording.

    Attributes:
        name: Of its file within the set.
        rotvec: Local rotations, root first, at `FRAMES_PER_SECOND`; the first frame faces +z.
    """

    name: str
    rotvec: Float[ndarray, "frames 24 3"]


def thinned(count: int, rate: float) -> Int[ndarray, " frames"]:
    """Frames of a recording at `rate` a second that are kept."""
    step = max(rate / FRAMES_PER_SECOND, 1.0)
    return np.arange(0, count, step).astype(np.int64)


def facing_front(root: Float[ndarray, "frames 3 3"]) -> Float[ndarray, "frames 3 3"]:
    """Root rotations turned about y so that the body looks along +z in the first frame."""
    if not len(root):
        return root
    forward = root[0, :, 2]
    heading = np.arctan2(forward[0], forward[2])
    cos, sin = np.cos(-heading), np.sin(-heading)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]) @ root
