"""How steady a motion is: jitter, acceleration, sliding feet, bones that change; needs no truth.

All go by time stamps. Numbers of a result on its own say how smooth it is, not how right.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from pchmr.annotate.paths import between_pauses
from pchmr.predict.people import Clip

SIDES = ("left", "right")
BONES = tuple(
    (f"{side}_{a}", f"{side}_{b}")
    for side in SIDES
    for chain in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"))
    for a, b in pairwise(chain)
)
FOOT_JOINTS = tuple(f"{side}_{part}" for side in SIDES for part in ("ankle", "foot"))
STANDS = 0.15  # metres a second below which a foot is taken to stand
LEAST_STAND = 0.1  # seconds for which it does


@dataclass(frozen=True, kw_only=True)
class Steadiness:
    """Of one person, or the mean over people.

    Attributes:
        jitter: Mean third derivative of the joints, m/s^3.
        acceleration: Mean second derivative, m/s^2.
        sliding: Speed of feet that stand, cm/s; NaN where none does.
        bone_variation: Standard deviation of limb lengths over their mean, percent.
    """

    jitter: float
    acceleration: float
    sliding: float
    bone_variation: float

    @property
    def line(self) -> str:
        """In words."""
        slides = "no foot stands" if np.isnan(self.sliding) else f"{self.sliding:.1f} cm/s"
        return (
            f"jitter {self.jitter:.1f} m/s^3, acceleration {self.acceleration:.2f} m/s^2, "
            f"standing feet slide {slides}, bone lengths vary {self.bone_variation:.2f} %"
        )


def steadiness(clip: Clip) -> Steadiness | None:
    """Mean over the people of a clip; None where nobody is there for long enough."""
    found = []
    for person in range(len(clip.track_id)):
        there = clip.has_person[:, person]
        if there.sum() >= 4:
            joints, times = clip.joints[there, person], clip.time_seconds[there]
            found.append(steadiness_of(joints, clip.joint_names, times))
    if not found:
        return None
    names = ("jitter", "acceleration", "bone_variation")
    means = {name: float(np.mean([getattr(s, name) for s in found])) for name in names}
    slides = [s.sliding for s in found if not np.isnan(s.sliding)]
    return Steadiness(sliding=float(np.mean(slides)) if slides else np.nan, **means)


def steadiness_of(
    joints: Float[ndarray, "frames joints 3"],
    names: tuple[str, ...],
    times: Float[ndarray, " frames"],
) -> Steadiness:
    """Of one person who is there in all frames; nothing is differenced across a pause."""
    parts = [slice(a, b) for a, b in between_pauses(times)]
    feet = joints[:, [names.index(name) for name in FOOT_JOINTS if name in names]]
    ends = [[names.index(name) for name in bone] for bone in BONES]
    lengths = np.stack([np.linalg.norm(joints[:, a] - joints[:, b], axis=-1) for a, b in ends])
    return Steadiness(
        jitter=_mean_derivative(joints, times, parts, 3),
        acceleration=_mean_derivative(joints, times, parts, 2),
        sliding=100 * _mean([standing_speed(feet[p], times[p]) for p in parts]),
        bone_variation=100 * float((lengths.std(axis=1) / lengths.mean(axis=1)).mean()),
    )


def derivative(
    values: Float[ndarray, "frames points 3"], times: Float[ndarray, " frames"], order: int
) -> tuple[Float[ndarray, "fewer points 3"], Float[ndarray, " fewer"]]:
    """Divided differences of an order, and the times in their middles."""
    for _ in range(order):
        values = np.diff(values, axis=0) / np.diff(times)[:, None, None]
        times = (times[1:] + times[:-1]) / 2
    return values, times


def _mean_derivative(joints: ndarray, times: ndarray, parts: list[slice], order: int) -> float:
    long = [p for p in parts if p.stop - p.start > order]
    found = [derivative(joints[p], times[p], order)[0] for p in long]
    return float(np.linalg.norm(np.concatenate(found), axis=-1).mean()) if found else 0.0


def standing_speed(
    feet: Float[ndarray, "frames points 3"],
    times: Float[ndarray, " frames"],
    stands: Bool[ndarray, "frames points"] | None = None,
) -> float:
    """Mean speed, metres a second, of foot points from frame to frame while they stand; or NaN.

    Args:
        feet: Places of the points, metres.
        times: Of the frames, seconds.
        stands: When each point stands, where that is known; else where it is slow for a while.
    """
    if len(times) < 3:
        return float("nan")
    speed = np.linalg.norm(np.diff(feet, axis=0), axis=-1) / np.diff(times)[:, None]
    if stands is None:
        held = [_slow(speed[:, point], times) for point in range(speed.shape[1])]
        both = np.stack(held, axis=1)
    else:
        both = stands[1:] & stands[:-1]
    return float(speed[both].mean()) if both.any() else float("nan")


def _slow(speed: Float[ndarray, " steps"], times: ndarray) -> Bool[ndarray, " steps"]:
    """Steps of a point that is slow for `LEAST_STAND` seconds or longer."""
    slow = speed < STANDS
    edges = np.flatnonzero(np.diff(np.concatenate([[0], slow.astype(int), [0]])))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if times[end] - times[begin] < LEAST_STAND:
            slow[begin:end] = False
    return slow


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
