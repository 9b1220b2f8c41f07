"""Which dense points tell of the person: those on it, evenly spread, and whether they see its back.

A cloud of another tool may hold walls, furniture and other people, lie densely on one limb, or come
from all sides. Only pixels, limbs and the cloud itself are asked here, no mesh.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.spatial import KDTree

from pchmr.annotate.limbs import LIMBS
from pchmr.annotate.observed import Observations

MOST_POINTS = 150
BESIDE = 0.17  # of the keypoints' extent: a point farther from every limb shows something else
SURELY = 0.04  # likewise: a point nearer than this lies on the limb
REACH = 0.9  # metres from the median depth of the person's points, likewise
CELL = 0.07  # metres, a side of the cells that count as often as each other
BEHIND = 0.08  # metres in depth from which two neighbors in the picture lie on two layers
ALL_SIDES = 0.22  # share of such points from which a cloud is taken to come from all sides
COMPANY, LONELY, LEAST_LONELY = 3, 3.0, 0.15  # neighbors; their usual distances; metres
LEAST_POINTS = 20
AROUND, NEAR = 3, 0.04  # points around a keypoint, and how near: of the keypoints' extent


class Cloud(NamedTuple):
    """What points say of every frame.

    Attributes:
        points: At most `MOST_POINTS` of the person, evenly spread; NaN where there are fewer.
        on_all_sides: Whether they also lie where the camera cannot see.
        keypoint_depth: Of the surface near each keypoint that is used; NaN where none was seen.
    """

    points: Float[ndarray, "frames points 3"]
    on_all_sides: Bool[ndarray, " frames"]
    keypoint_depth: Float[ndarray, "frames keypoints"]


def sift(observations: Observations) -> Cloud:
    """At most `MOST_POINTS` points of the person in every frame."""
    points = observations.points
    assert points is not None
    out = np.full((len(points), min(MOST_POINTS, points.shape[1]), 3), np.nan)
    all_sides = np.zeros(len(points), dtype=bool)
    depth = np.full(observations.confidence.shape, np.nan)
    for row, frame in enumerate(points):
        xyz = frame[np.isfinite(frame).all(axis=-1) & (np.nan_to_num(frame[:, 2]) > 0)]
        own = xyz[_on_person(observations, row, xyz)]
        own = own[in_company(own)]
        xyz = own if len(own) >= LEAST_POINTS else xyz
        if len(xyz):
            all_sides[row] = layered_share(xyz) > ALL_SIDES
            kept = spread_evenly(xyz, out.shape[1])
            out[row, : len(kept)] = xyz[kept]
            depth[row] = _depth_near(observations, row, xyz, nearest=bool(all_sides[row]))
    return Cloud(out, all_sides, depth)


def _depth_near(
    observations: Observations, row: int, xyz: Float[ndarray, "points 3"], *, nearest: bool
) -> Float[ndarray, " keypoints"]:
    """Depth of the points around each keypoint: their median, or of the one before the others."""
    xy, sure = observations.table[row, :, :2], observations.confidence[row] > 0
    out = np.full(len(xy), np.nan)
    if observations.intrinsics is None or len(xyz) < AROUND or not sure.any():
        return out
    away, rows = KDTree(_pixels(observations, row, xyz)).query(xy[sure], k=AROUND)
    z = np.where(away < NEAR * float(np.ptp(xy[sure], axis=0).max()), xyz[rows, 2], np.nan)
    known = np.isfinite(z).any(axis=-1)
    middle = np.nanmin if nearest else np.nanmedian
    out[np.flatnonzero(sure)[known]] = middle(z[known], axis=-1)
    return out


def _pixels(
    observations: Observations, row: int, xyz: Float[ndarray, "points 3"]
) -> Float[ndarray, "points 2"]:
    """Where points appear in a frame's picture."""
    assert observations.intrinsics is not None
    camera = observations.intrinsics[row]
    return xyz[:, :2] / xyz[:, 2:] * camera[[0, 1], [0, 1]] + camera[:2, 2]


def _on_person(
    observations: Observations, row: int, xyz: Float[ndarray, "points 3"]
) -> Bool[ndarray, " points"]:
    """Points near a limb in the picture, and near the others in depth."""
    away = np.zeros(len(xyz))
    if observations.intrinsics is not None:
        away = _from_limbs(observations, row, _pixels(observations, row, xyz))
    sure = away < SURELY
    if sure.sum() < LEAST_POINTS:
        sure = away < BESIDE
    middle = np.median(xyz[sure, 2]) if sure.any() else 0.0
    return (away < BESIDE) & (np.abs(xyz[:, 2] - middle) < REACH)


def _from_limbs(
    observations: Observations, row: int, pixels: Float[ndarray, "points 2"]
) -> Float[ndarray, " points"]:
    """Distance of pixels from the nearest limb, in extents of the keypoints."""
    names, sure = observations.reading.names, observations.confidence[row] > 0
    xy = observations.table[row, :, :2]
    if not sure.any():
        return np.zeros(len(pixels))
    ends = [(names.index(a), names.index(b)) for a, b in LIMBS if a in names and b in names]
    ends = [(a, b) for a, b in ends if sure[a] and sure[b]]
    ends += [(joint, joint) for joint in np.flatnonzero(sure).tolist()]
    first, last = (xy[[end[side] for end in ends]] for side in (0, 1))
    along = last - first
    length = np.maximum((along**2).sum(axis=-1), 1e-9)
    offset = pixels[:, None] - first
    share = np.clip((offset * along).sum(axis=-1) / length, 0, 1)
    away = np.linalg.norm(offset - share[..., None] * along, axis=-1).min(axis=1)
    return away / max(float(np.ptp(xy[sure], axis=0).max()), 1.0)


def layered_share(xyz: Float[ndarray, "points 3"]) -> float:
    """Share of the points whose neighbor in the picture lies on another layer of the cloud.

    A depth camera sees one point a ray, so neighbors in the picture are neighbors in space; where
    points of the back lie behind those of the front, every other neighbor is far.
    """
    if len(xyz) < 2:
        return 0.0
    plane = xyz[:, :2] / xyz[:, 2:] * np.median(xyz[:, 2])
    nearest = np.asarray(KDTree(plane).query(plane, k=2)[1])
    return float((np.abs(xyz[nearest[:, 1], 2] - xyz[nearest[:, 0], 2]) > BEHIND).mean())


def in_company(xyz: Float[ndarray, "points 3"]) -> Bool[ndarray, " points"]:
    """Points that others are near to in space."""
    if len(xyz) <= COMPANY:
        return np.ones(len(xyz), dtype=bool)
    away = KDTree(xyz).query(xyz, k=COMPANY + 1)[0][:, -1]
    return np.asarray(away <= max(LONELY * float(np.median(away)), LEAST_LONELY))


def spread_evenly(xyz: Float[ndarray, "points 3"], count: int) -> ndarray:
    """Rows of so many points at most, from every occupied cell in turn."""
    if len(xyz) <= count // 2:
        return np.arange(len(xyz))
    cells = np.floor(xyz / CELL).astype(np.int64)
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    order = np.argsort(cell.reshape(-1), kind="stable")
    first = np.r_[0, np.flatnonzero(np.diff(cell.reshape(-1)[order])) + 1]
    turn = np.arange(len(xyz)) - np.repeat(first, np.diff(np.r_[first, len(xyz)]))
    return np.sort(order[np.argsort(turn, kind="stable")[:count]])
