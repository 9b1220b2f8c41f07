"""What was seen of a person, frame by frame; units and files are told in `observations`."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from pchmr.perception.interfaces import DepthKind
from pchmr.perception.names import Reading, read_names

IN_SPACE = ("keypoints_3d", "keypoints_3d_sigma")
DEPTHS = ("keypoint_depth", "keypoint_depth_sigma", "points")
ARRAYS = (
    "keypoints_2d",
    "image_size",
    "keypoint_sigma",
    "intrinsics",
    *DEPTHS,
    *IN_SPACE,
    "time_seconds",
)
SEEN = 0.05  # confidence above which a keypoint counts as observed
LEAST_SEEN = 4
USUAL_FPS = 30.0  # where nothing tells
MOST_ALIKE = 3  # keypoints in one place from which none of them was seen there


@dataclass(frozen=True, kw_only=True)
class Observations:
    """Observations of N frames of one person; see the module for shapes and units."""

    keypoints_2d: Float[ndarray, "frames keypoints 3"]
    keypoint_names: tuple[str, ...]
    image_size: Int[ndarray, "frames 2"]
    keypoint_sigma: Float[ndarray, "frames keypoints"] | None = None
    intrinsics: Float[ndarray, "frames 3 3"] | None = None
    focal_sd: float = 0.0
    keypoint_depth: Float[ndarray, "frames keypoints"] | None = None
    keypoint_depth_sigma: Float[ndarray, "frames keypoints"] | None = None
    points: Float[ndarray, "frames points 3"] | None = None
    depth_kind: DepthKind = "metric"
    depth_scale_sd: float = 0.0
    keypoints_3d: Float[ndarray, "frames keypoints 3"] | None = None
    keypoints_3d_sigma: Float[ndarray, "frames keypoints"] | None = None
    fps: float | None = None
    time_seconds: Float[ndarray, " frames"] | None = None

    def __len__(self) -> int:
        return len(self.keypoints_2d)

    @property
    def times(self) -> Float[ndarray, " frames"]:
        """When each frame was taken, seconds: its time stamp, or by the frame rate."""
        if self.time_seconds is not None:
            return self.time_seconds
        return np.arange(len(self)) / (self.fps or USUAL_FPS)

    @property
    def num_seen(self) -> Int[ndarray, " frames"]:
        """Keypoints of each frame that the body has and that were observed."""
        return (self.confidence > 0).sum(axis=1)

    @property
    def reading(self) -> Reading:
        """What the names mean, resolved when observations were made.

        Raises:
            InputError: A name stands twice, or hardly any name is known.
        """
        return read_names(self.keypoint_names)

    @property
    def table(self) -> Float[ndarray, "frames used 3"]:
        """Pixels and confidence of the keypoints that the body has."""
        return self.keypoints_2d[:, list(self.reading.columns)]

    @property
    def confidence(self) -> Float[ndarray, "frames used"]:
        """Confidence in [0, 1] of those keypoints; 0 where one is missing or stands for nothing."""
        confidence = np.clip(np.nan_to_num(self.table[..., 2], nan=0.0), 0, 1)
        known = np.isfinite(self.table[..., :2]).all(axis=-1) & (confidence > SEEN)
        return np.where(known & ~coinciding(self.table[..., :2], known), confidence, 0.0)

    def take(self, rows: ndarray | slice) -> "Observations":
        """Some frames."""
        values = {name: getattr(self, name) for name in ARRAYS}
        return replace(self, **{n: None if v is None else v[rows] for n, v in values.items()})


def coinciding(
    xy: Float[ndarray, "frames keypoints 2"], known: Bool[ndarray, "frames keypoints"]
) -> Bool[ndarray, "frames keypoints"]:
    """Keypoints that stand for nothing: at (0, 0), or exactly where others are.

    Two may meet by chance, so a place counts from `MOST_ALIKE` of them on, or where as many pairs
    of a frame meet.
    """
    x, y = (np.where(known, xy[..., axis], np.nan) for axis in (0, 1))
    alike = (x[:, :, None] == x[:, None]) & (y[:, :, None] == y[:, None])
    crowd = alike.sum(axis=-1)
    paired = crowd > 1
    many = paired.sum(axis=1, keepdims=True) >= 2 * MOST_ALIKE
    return (crowd >= MOST_ALIKE) | (paired & many) | (known & (x == 0) & (y == 0))
