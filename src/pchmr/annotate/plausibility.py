"""What no person and no camera gives: numbers that are certainly in other units or of another kind.

These are told before anything is fitted, frame by frame, with the cure. What is only unlikely is
weighed after the fit, in `doubts`.
"""

import warnings
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from pchmr.annotate.observed import LEAST_SEEN, Observations
from pchmr.data.errors import InputError

SMALLEST_PX = 6.0  # longer side of a person in the picture
FOCALS = (0.2, 60.0)  # of the longer side of the picture; telephoto lenses and crops are long
FARTHEST_CENTER = 1.0  # sides beside the picture where a principal point may still lie
LARGEST_STRETCH = 1.6  # of one focal length over the other
PERSON = (0.25, 3.6)  # metres across what is seen of a person
GUESSED = 2.0  # by which the camera may be off where it was guessed
DEEPEST = 2.5  # metres between the nearest and the farthest part of a person
LISTED = 6
REFUSED_SHARE = 0.5  # of the frames with a person from which a file is refused as a whole

Reasons = Iterator[tuple[Bool[ndarray, " frames"], str]]


def why_implausible(observations: Observations) -> list[str]:
    """For every frame what is certainly wrong with its numbers, and the cure; empty if nothing."""
    found = [""] * len(observations)
    has_person = observations.num_seen >= LEAST_SEEN
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # frames without a number give NaN
        checks = [*_picture(observations), *_camera(observations), *_depth(observations)]
    for wrong, reason in checks:
        for row in np.flatnonzero(wrong & has_person):
            found[row] = found[row] or reason
    return found


def require_plausible(observations: Observations) -> None:
    """Refuses observations most of whose frames are certainly nonsense; the others are judged.

    Raises:
        InputError: Names the frames and the cure.
    """
    reasons = why_implausible(observations)
    has_person = observations.num_seen >= LEAST_SEEN
    bad = [row for row, reason in enumerate(reasons) if reason]
    if bad and len(bad) >= REFUSED_SHARE * has_person.sum():
        raise InputError(f"{frames_text(bad, len(reasons))}: {reasons[bad[0]]}")


def frames_text(rows: list[int], count: int) -> str:
    """Frames in words, the first few by number."""
    if len(rows) == count:
        return "every frame"
    more = " ..." if len(rows) > LISTED else ""
    return f"frames {', '.join(str(row) for row in rows[:LISTED])}{more}"


def extent_px(observations: Observations) -> Float[ndarray, " frames"]:
    """Longer side of the box around the keypoints that were seen, pixels; NaN without any."""
    xy = np.where(observations.confidence[..., None] > 0, observations.table[..., :2], np.nan)
    return (np.nanmax(xy, axis=1) - np.nanmin(xy, axis=1)).max(axis=-1)


def inside_share(observations: Observations) -> Float[ndarray, " frames"]:
    """Share of the keypoints that were seen within the picture; NaN without any."""
    xy, seen = observations.table[..., :2], observations.confidence > 0
    inside = ((xy >= 0) & (xy <= observations.image_size[:, None])).all(axis=-1) & seen
    return inside.sum(axis=1) / seen.sum(axis=1)


def _picture(observations: Observations) -> Reasons:
    extent = extent_px(observations)
    yield (
        extent < SMALLEST_PX,
        f"the keypoints span less than {SMALLEST_PX:.0f} pixels: write pixels of the picture, not "
        "shares of it, and every keypoint in its own place",
    )
    yield (
        inside_share(observations) == 0,
        "no keypoint lies in the picture: write pixels of the picture that image_size tells",
    )


def _camera(observations: Observations) -> Reasons:
    if observations.intrinsics is None:
        return
    camera, size = observations.intrinsics, observations.image_size
    focal = camera[:, [0, 1], [0, 1]]
    side = size.max(axis=1, keepdims=True)
    low, high = FOCALS
    yield (
        ((focal < low * side) | (focal > high * side)).any(axis=1),
        f"intrinsics hold a focal length that is not {low} to {high:.0f} sides of the picture: "
        "write pixels of the picture, or leave intrinsics out",
    )
    beside = np.maximum(-camera[:, :2, 2], camera[:, :2, 2] - size)
    yield (
        np.asarray((beside > FARTHEST_CENTER * size).any(axis=1)),
        "intrinsics hold a principal point far outside the picture: write pixels of the picture, "
        "or leave intrinsics out",
    )
    stretch = focal.max(axis=1) / focal.min(axis=1)
    yield (
        stretch > LARGEST_STRETCH,
        "intrinsics hold two focal lengths that differ too much: write both in pixels, or leave "
        "intrinsics out",
    )


def _depth(observations: Observations) -> Reasons:
    depth, points = observations.keypoint_depth, observations.points
    kind = observations.depth_kind
    if depth is not None:
        z = depth[:, list(observations.reading.columns)]
        z = np.where(observations.confidence > 0, z, np.nan)
        if kind == "metric":
            yield from _distance(observations, np.nanmedian(z, axis=1), "keypoint_depth")
        if kind in ("metric", "relative"):
            low, high = np.nanquantile(z, [0.2, 0.8], axis=1)
            yield (
                high - low > DEEPEST,
                f"keypoint_depth differs by more than {DEEPEST} m on one person: write metres, or "
                "another depth_kind",
            )
    if points is not None and kind == "metric":
        z = np.where(np.isfinite(points).all(axis=-1), points[..., 2], np.nan)
        yield from _distance(observations, np.nanmedian(z, axis=1), "points")


def _distance(observations: Observations, z: Float[ndarray, " frames"], name: str) -> Reasons:
    yield (
        z <= 0,
        f"{name} lie behind the camera: write metres before it, larger is farther, or another "
        "depth_kind",
    )
    slack, focal = GUESSED, 1.2 * observations.image_size.max(axis=1)
    if observations.intrinsics is not None:
        slack, focal = 1.0, observations.intrinsics[:, 0, 0]
    metres = z * extent_px(observations) / focal
    low, high = PERSON
    yield (
        (z > 0) & ((metres < low / slack) | (metres > high * slack)),
        f"{name} and intrinsics make a person that is no {low} to {high} m large: write metres and "
        "pixels of one picture, or another depth_kind",
    )
