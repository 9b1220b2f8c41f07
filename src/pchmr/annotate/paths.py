"""Paths of joints over a clip: smoothed by time, feet that stand held in one place.

What was hardly seen hardly counts. Nothing is joined across a pause, and nothing here fits a body.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pchmr.annotate.keypoints import FOOT_POINTS, LABEL_POINTS
from pchmr.annotate.observed import USUAL_FPS

PAUSE = 5.0  # usual intervals between frames from which a clip is cut
PAUSE_SECONDS = 0.2  # shorter ones are frames that were dropped
KERNEL_REACH = 4.0  # standard deviations
LEAST_SMOOTH_FRAMES = 0.5  # standard deviation of the smoothing kernel, at least
CONTACT_SPEED = 0.6  # metres a second that a foot point moves at most while it is in contact
DEPTH_SHARE = 0.15  # of the speed away from the camera that counts: depth is seen worst
EASE_SECONDS = 0.15  # over which a foot moves to the place where it is held
LEAST_TRUST = 1e-6
KNOWN_SHARE = 0.1  # of a point's best trust from which a frame tells where it was
CONTACT_SD = 0.008  # metres


@dataclass(frozen=True, kw_only=True)
class Pull:
    """How joints are pulled to their path.

    Attributes:
        smooth_seconds: Standard deviation of the kernel that smooths the path.
        path_sd: Metres that joints may lie beside it.
    """

    smooth_seconds: float = 0.05
    path_sd: float = 0.03


def smooth_path(
    path: Float[Tensor, "frames points 3"],
    trust: Float[np.ndarray, "frames points"],
    times: Float[np.ndarray, " frames"],
    pull: Pull | None = None,
) -> tuple[Float[Tensor, "frames points 3"], Float[Tensor, "frames points"]]:
    """The path that frames are pulled to and how hard (1 / metres); feet in contact stand still.

    Args:
        path: Of single frames, metres.
        trust: Weight of every point; see `path_trust`.
        times: Of the frames, seconds, rising.
        pull: How smooth, and how hard.
    """
    how = pull or Pull()
    raw = path.double().cpu().numpy()
    parts = [_smooth_part(raw[a:b], trust[a:b], times[a:b], how) for a, b in between_pauses(times)]
    smooth, weight = (np.concatenate(values) for values in zip(*parts, strict=True))
    return torch.from_numpy(smooth).to(path), torch.from_numpy(weight).to(path)


def between_pauses(times: Float[np.ndarray, " frames"]) -> list[tuple[int, int]]:
    """Parts of a clip without a pause, as (first, last + 1)."""
    if len(times) < 2:
        return [(0, len(times))]
    longest = max(PAUSE * usual_interval(times), PAUSE_SECONDS)
    edges = [0, *(np.flatnonzero(np.diff(times) > longest) + 1).tolist(), len(times)]
    return list(pairwise(edges))


def usual_interval(times: Float[np.ndarray, " frames"]) -> float:
    """Median seconds from one frame to the next."""
    return float(np.median(np.diff(times))) if len(times) > 1 else 1 / USUAL_FPS


def _smooth_part(
    raw: Float[np.ndarray, "frames points 3"],
    trust: Float[np.ndarray, "frames points"],
    times: Float[np.ndarray, " frames"],
    pull: Pull,
) -> tuple[Float[np.ndarray, "frames points 3"], Float[np.ndarray, "frames points"]]:
    """The wanted path of a part without pauses, and how hard it pulls."""
    points, seconds = range(raw.shape[1]), pull.smooth_seconds
    smooth = np.stack([_smoothed(raw[:, k], trust[:, k], times, seconds) for k in points], axis=1)
    weight = np.full(raw.shape[:2], 1 / pull.path_sd)
    columns = [LABEL_POINTS.index(point) for point in FOOT_POINTS]
    holds = [_hold(raw[:, k], smooth[:, k], trust[:, k], times) for k in columns]
    body = _carried(holds, times)
    smooth += body[:, None]
    for column, (shift, is_held) in zip(columns, holds, strict=True):
        own = np.where(is_held[:, None], shift - body, 0.0)
        smooth[:, column] += _eased(own, is_held, times)
        weight[is_held, column] = 1 / CONTACT_SD
    return smooth, weight


def _hold(
    raw: Float[np.ndarray, "frames 3"],
    smooth: Float[np.ndarray, "frames 3"],
    trust: Float[np.ndarray, " frames"],
    times: Float[np.ndarray, " frames"],
) -> tuple[Float[np.ndarray, "frames 3"], Bool[np.ndarray, " frames"]]:
    """From the path of a foot point to where it stands, and the frames in which it does."""
    shift, is_held = np.zeros_like(smooth), np.zeros(len(times), dtype=bool)
    for begin, end in spans(in_contact(smooth, times)):
        known = trust[begin:end] > LEAST_TRUST
        held = raw[begin:end][known] if known.any() else smooth[begin:end]
        shift[begin:end] = np.median(held, axis=0) - smooth[begin:end]
        is_held[begin:end] = True
    return shift, is_held


def _carried(
    holds: list[tuple[Float[np.ndarray, "frames 3"], Bool[np.ndarray, " frames"]]],
    times: Float[np.ndarray, " frames"],
) -> Float[np.ndarray, "frames 3"]:
    """What the feet that stand ask of the whole body: its distance is seen worst of all."""
    held = np.stack([is_held for _, is_held in holds], axis=-1).astype(float)
    count = held.sum(axis=-1)
    known = np.flatnonzero(count)
    if not len(known):
        return np.zeros((len(times), 3))
    total = np.einsum("nk,nkc->nc", held, np.stack([shift for shift, _ in holds], axis=1))
    mean = total[known] / count[known, None]
    between = np.stack([np.interp(times, times[known], mean[:, k]) for k in range(3)], axis=-1)
    smooth = _smoothed(between, np.ones(len(times)), times, EASE_SECONDS)
    first, last = times[known[[0, -1]]]
    outside = np.maximum(first - times, 0) + np.maximum(times - last, 0)
    return smooth * np.exp(-np.square(outside / EASE_SECONDS))[:, None]


def _eased(
    shift: Float[np.ndarray, "frames 3"],
    is_held: Bool[np.ndarray, " frames"],
    times: Float[np.ndarray, " frames"],
) -> Float[np.ndarray, "frames 3"]:
    """The shifts of held frames, dying away before and after them: no jump where a hold begins."""
    held, free = np.flatnonzero(is_held), np.flatnonzero(~is_held)
    out = shift.copy()
    after = np.searchsorted(held, free)
    for side, exists in ((after - 1, after > 0), (after, after < len(held))):
        near, frames = held[side[exists]], free[exists]
        share = np.exp(-np.square((times[frames] - times[near]) / EASE_SECONDS))
        out[frames] += share[:, None] * shift[near]
    return out


def _smoothed(
    raw: Float[np.ndarray, "frames 3"],
    trust: Float[np.ndarray, " frames"],
    times: Float[np.ndarray, " frames"],
    seconds: float,
) -> Float[np.ndarray, "frames 3"]:
    """A weighted mean over neighbors in time; a line between them where a frame tells nothing."""
    sigma = max(seconds, LEAST_SMOOTH_FRAMES * usual_interval(times))
    if not (trust > LEAST_TRUST).any():
        trust = np.ones_like(trust)
    known = np.flatnonzero(trust >= KNOWN_SHARE * trust.max())
    near = np.empty((len(known), 3))
    first = np.searchsorted(times, times[known] - KERNEL_REACH * sigma)
    last = np.searchsorted(times, times[known] + KERNEL_REACH * sigma, side="right")
    for row, (frame, a, b) in enumerate(zip(known, first, last, strict=True)):
        share = trust[a:b] * np.exp(-0.5 * np.square((times[a:b] - times[frame]) / sigma))
        near[row] = share @ raw[a:b] / share.sum()
    return np.stack([np.interp(times, times[known], near[:, k]) for k in range(3)], axis=-1)


def in_contact(
    path: Float[np.ndarray, "frames 3"], times: Float[np.ndarray, " frames"]
) -> Bool[np.ndarray, " frames"]:
    """Whether a foot point hardly moves, as the camera sees it, between its neighboring frames."""
    if len(path) < 3:
        return np.zeros(len(path), dtype=bool)
    velocity = np.gradient(path, times, axis=0) * [1, 1, DEPTH_SHARE]
    return np.linalg.norm(velocity, axis=-1) < CONTACT_SPEED


def spans(mask: Bool[np.ndarray, " frames"]) -> list[tuple[int, int]]:
    """Runs of true frames, at least two long, as (first, last + 1)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [(int(a), int(b)) for a, b in pairs if b - a >= 2]
