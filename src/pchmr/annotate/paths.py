"""Paths of joints over a clip: smoothed by time, feet that stand held in one place.

What was hardly seen hardly counts. Nothing is joined across a pause, and nothing here fits a body.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pchmr.annotate.keypoints import FOOT_PARTS, LABEL_POINTS
from pchmr.annotate.observed import USUAL_FPS
from pchmr.perception.names import SIDES

PAUSE = 5.0  # usual intervals between frames from which a clip is cut
PAUSE_SECONDS = 0.2  # shorter ones are frames that were dropped
KERNEL_REACH = 4.0  # standard deviations
LEAST_SMOOTH_FRAMES = 0.5  # standard deviation of the smoothing kernel, at least
STANDS_BELOW, MOVES_ABOVE = 0.5, 0.8  # metres a second of a foot, as the camera sees it
LIGHT_SECONDS = 0.05  # standard deviation of the kernel for that speed: steps are short
LEAST_HOLD = 0.5  # of standing, from which a frame tells where a foot stands
EASE_SECONDS = 0.15  # over which the body follows its feet
NEAREST = 0.1  # metres before the camera
LEAST_TRUST = 1e-6
KNOWN_SHARE = 0.1  # of a point's best trust from which a frame tells where it was
CONTACT_SD = 0.002  # metres
FEET = tuple(
    [LABEL_POINTS.index(f"coco:{side}_{part}") for part in (*FOOT_PARTS, "ankle")] for side in SIDES
)
"""Columns of each foot among the labeled points; it is held as a whole."""


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
    holds = np.stack([standing(raw[:, foot], trust[:, foot], times) for foot in FEET], axis=1)
    shifts = np.stack(
        [
            _to_rest(raw[:, foot], smooth[:, foot], hold)
            for foot, hold in zip(FEET, holds.T, strict=True)
        ],
        axis=1,
    )
    body = _carried(holds, shifts.mean(axis=2), times)
    smooth += body[:, None]
    for foot, hold, shift in zip(FEET, holds.T, shifts.swapaxes(0, 1), strict=True):
        smooth[:, foot] += hold[:, None, None] * (shift - body[:, None])
        weight[:, foot] += (hold * (1 / CONTACT_SD - 1 / pull.path_sd))[:, None]
    return smooth, weight


def standing(
    foot: Float[np.ndarray, "frames points 3"],
    trust: Float[np.ndarray, "frames points"],
    times: Float[np.ndarray, " frames"],
) -> Float[np.ndarray, " frames"]:
    """How much a foot stands, from 0 to 1: by how slow its points are as the camera sees them.

    Where they are in the picture is seen far better than how far away they are.
    """
    if len(foot) < 3:
        return np.zeros(len(foot))
    z = foot[..., 2:]
    ahead = z > NEAREST
    usual = np.median(z[ahead]) if ahead.any() else 1.0
    flat = foot[..., :2] * np.where(ahead, usual / np.where(ahead, z, 1.0), 1.0)
    sure = trust.mean(axis=1)
    middle = _smoothed(flat.mean(axis=1), sure, times, LIGHT_SECONDS)
    speed = np.linalg.norm(np.gradient(middle, times, axis=0), axis=-1)
    share = np.clip((speed - STANDS_BELOW) / (MOVES_ABOVE - STANDS_BELOW), 0, 1)
    return np.where(sure > LEAST_TRUST, 1 - share * share * (3 - 2 * share), 0.0)


def _to_rest(
    raw: Float[np.ndarray, "frames points 3"],
    smooth: Float[np.ndarray, "frames points 3"],
    hold: Float[np.ndarray, " frames"],
) -> Float[np.ndarray, "frames points 3"]:
    """From the path of a foot's points to where they stand, in the frames in which they do."""
    shift = np.zeros_like(smooth)
    for begin, end in spans(hold > 0):
        still = hold[begin:end] >= LEAST_HOLD
        if still.any():
            shift[begin:end] = np.median(raw[begin:end][still], axis=0) - smooth[begin:end]
    return shift


def _carried(
    holds: Float[np.ndarray, "frames feet"],
    shifts: Float[np.ndarray, "frames feet 3"],
    times: Float[np.ndarray, " frames"],
) -> Float[np.ndarray, "frames 3"]:
    """What the feet that stand ask of the whole body: its distance is seen worst of all."""
    count = holds.sum(axis=1)
    known = np.flatnonzero(count >= LEAST_HOLD)
    if not len(known):
        return np.zeros((len(times), 3))
    mean = (holds[..., None] * shifts).sum(axis=1)[known] / count[known, None]
    between = np.stack([np.interp(times, times[known], mean[:, k]) for k in range(3)], axis=-1)
    smooth = _smoothed(between, np.ones(len(times)), times, EASE_SECONDS)
    first, last = times[known[[0, -1]]]
    outside = np.maximum(first - times, 0) + np.maximum(times - last, 0)
    return smooth * np.exp(-np.square(outside / EASE_SECONDS))[:, None]


def _smoothed(
    raw: Float[np.ndarray, "frames axes"],
    trust: Float[np.ndarray, " frames"],
    times: Float[np.ndarray, " frames"],
    seconds: float,
) -> Float[np.ndarray, "frames axes"]:
    """A weighted mean over neighbors in time; a line between them where a frame tells nothing."""
    sigma = max(seconds, LEAST_SMOOTH_FRAMES * usual_interval(times))
    if not (trust > LEAST_TRUST).any():
        trust = np.ones_like(trust)
    known = np.flatnonzero(trust >= KNOWN_SHARE * trust.max())
    near = np.empty((len(known), raw.shape[1]))
    first = np.searchsorted(times, times[known] - KERNEL_REACH * sigma)
    last = np.searchsorted(times, times[known] + KERNEL_REACH * sigma, side="right")
    for row, (frame, a, b) in enumerate(zip(known, first, last, strict=True)):
        share = trust[a:b] * np.exp(-0.5 * np.square((times[a:b] - times[frame]) / sigma))
        near[row] = share @ raw[a:b] / share.sum()
    return np.stack([np.interp(times, times[known], column) for column in near.T], axis=-1)


def spans(mask: Bool[np.ndarray, " frames"]) -> list[tuple[int, int]]:
    """Runs of true frames, at least two long, as (first, last + 1)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [(int(a), int(b)) for a, b in pairs if b - a >= 2]
