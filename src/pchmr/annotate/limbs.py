"""Depth of a person in a depth map: under the keypoints, and along narrow strips of the limbs."""

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from pchmr.annotate.observations import SEEN
from pchmr.perception.interfaces import DepthMap
from pchmr.perception.names import canonical_name

NUM_POINTS = 300
LIMB_WIDTH = 0.035  # of the keypoints' extent: half the width of the strip around a limb
REACH = 0.6  # metres from the median limb depth beyond which a point is background
LIMBS = (
    ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"), ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"), ("left_hip", "left_knee"),
    ("left_knee", "left_ankle"), ("right_hip", "right_knee"), ("right_knee", "right_ankle"),
)  # fmt: skip


def read_depth(
    found: DepthMap, keypoints: Float[ndarray, "keypoints 3"]
) -> Float[ndarray, " keypoints"]:
    """Depth at the pixel of each keypoint; NaN outside the picture."""
    height, width = found.depth.shape
    x, y = (np.floor(np.nan_to_num(keypoints[:, axis], nan=-1.0)).astype(int) for axis in (0, 1))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    value = found.depth[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return np.where(inside, value, np.nan)


def limb_mask(
    keypoints: Float[ndarray, "keypoints 3"], names: tuple[str, ...], shape: tuple[int, int]
) -> Bool[ndarray, "height width"]:
    """Pixels in narrow strips around the limbs that were seen: surely the person."""
    own = {canonical_name(name): row for row, name in enumerate(names)}
    seen = keypoints[np.nan_to_num(keypoints[:, 2]) > SEEN, :2]
    mask = np.zeros(shape, dtype=bool)
    if not len(seen):
        return mask
    radius = LIMB_WIDTH * float(np.ptp(seen, axis=0).max())
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    for first, second in LIMBS:
        if first not in own or second not in own:
            continue
        a, b = keypoints[own[first]], keypoints[own[second]]
        if min(np.nan_to_num(a[2]), np.nan_to_num(b[2])) <= SEEN:
            continue
        along = b[:2] - a[:2]
        t = ((x - a[0]) * along[0] + (y - a[1]) * along[1]) / max(float(along @ along), 1e-9)
        t = np.clip(t, 0, 1)
        mask |= np.hypot(x - a[0] - t * along[0], y - a[1] - t * along[1]) < radius
    return mask


def limb_points(
    found: DepthMap,
    keypoints: Float[ndarray, "keypoints 3"],
    names: tuple[str, ...],
    camera: Float[ndarray, "3 3"],
) -> Float[ndarray, "points 3"]:
    """Points of the visible surface along the limbs, metres, padded with NaN."""
    out = np.full((NUM_POINTS, 3), np.nan)
    mask = limb_mask(keypoints, names, found.depth.shape) & np.isfinite(found.depth)
    y, x = np.nonzero(mask)
    z = found.depth[y, x]
    near = np.abs(z - np.median(z)) < REACH if len(z) else np.zeros(0, dtype=bool)
    y, x, z = y[near], x[near], z[near]
    if not len(z):
        return out
    pick = np.linspace(0, len(z) - 1, min(NUM_POINTS, len(z))).astype(int)
    pixel = np.stack([x[pick], y[pick]], axis=-1) + 0.5
    plane = (pixel - camera[:2, 2]) / camera[[0, 1], [0, 1]]
    out[: len(pick)] = np.concatenate([plane, np.ones((len(pick), 1))], axis=-1) * z[pick, None]
    return out
