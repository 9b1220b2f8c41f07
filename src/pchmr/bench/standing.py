"""Feet that truly stand: legs are bent so that a foot on the ground is held in one pose.

Two bones a leg: the knee gives the length from hip to ankle, the hip turns the ankle to its place,
the ankle turns the foot. Nothing but the legs is moved.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.spatial.transform import Rotation

from pchmr.annotate.paths import spans
from pchmr.body.joints import SMPL_24
from pchmr.data.synthetic.kinematics import forward_kinematics

SIDES = ("left", "right")
EASE_SECONDS = 0.12  # over which a leg comes to the held foot and leaves it
LOW = 0.02  # metres that the ankle may be above its lowest while the foot is flat
STRETCHED = 0.999  # of a leg's length that hip and ankle are apart at most


@dataclass(frozen=True, kw_only=True)
class Gait:
    """A motion before the ground; metres and rotations, axes with y up.

    Attributes:
        rotmat: Local rotations.
        rest: Joints of the rest pose.
        parents: Of the joints.
        turns: From the body's own frame to the ground's.
        shifts: Likewise.
        times: Of the frames, seconds.
    """

    rotmat: Float[ndarray, "frames joints 3 3"]
    rest: Float[ndarray, "frames joints 3"]
    parents: tuple[int, ...]
    turns: Float[ndarray, "frames 3 3"]
    shifts: Float[ndarray, "frames 3"]
    times: Float[ndarray, " frames"]

    def posed(
        self,
    ) -> tuple[Float[ndarray, "frames joints 3 3"], Float[ndarray, "frames joints 3"]]:
        """Rotations and places of the joints on the ground."""
        world, places = forward_kinematics(self.rotmat, self.rest, self.parents)
        turned = np.einsum("nxy,njy->njx", self.turns, places)
        return self.turns[:, None] @ world, turned + self.shifts[:, None]


def standing(
    gait: Gait, contact: Bool[ndarray, "frames 2"]
) -> tuple[Float[ndarray, "frames joints 3 3"], Bool[ndarray, "frames 2"]]:
    """Local rotations with feet that stand, and when each does: not while its heel rises."""
    world, places = gait.posed()
    rotmat, held = gait.rotmat.copy(), np.zeros_like(contact)
    for column, side in enumerate(SIDES):
        rows = [SMPL_24.index(f"{side}_{part}") for part in ("hip", "knee", "ankle")]
        ankle, foot = places[:, rows[2]], world[:, rows[2]]
        goal, turned = ankle.copy(), foot.copy()
        parts = flat_spans(contact[:, column], ankle[:, 1])
        for begin, end in parts:
            held[begin:end, column] = True
        for begin, end in parts:
            weight = _ease(gait.times, begin, end)
            weight[held[:, column] & (weight < 1)] = 0.0  # another stand of the foot goes first
            middle = (begin + end) // 2
            goal += weight[:, None] * (ankle[begin:end].mean(axis=0) - ankle)
            turned = _toward(turned, foot[middle], weight)
        _bend(rotmat, world, places, rows, goal, turned, gait.parents)
    return rotmat, held


def flat_spans(
    contact: Bool[ndarray, " frames"], height: Float[ndarray, " frames"]
) -> list[tuple[int, int]]:
    """Parts of contacts in which the ankle is low, at least two frames long."""
    found = []
    for begin, end in spans(contact):
        low = np.zeros_like(contact)
        low[begin:end] = height[begin:end] <= height[begin:end].min() + LOW
        found += spans(low)
    return found


def _ease(times: Float[ndarray, " frames"], begin: int, end: int) -> Float[ndarray, " frames"]:
    """1 in a span, dying away before and after it."""
    before = np.clip(times[begin] - times, 0, None)
    after = np.clip(times - times[end - 1], 0, None)
    return np.exp(-np.square((before + after) / EASE_SECONDS))


def _toward(
    turned: Float[ndarray, "frames 3 3"], goal: Float[ndarray, "3 3"], weight: ndarray
) -> Float[ndarray, "frames 3 3"]:
    """Rotations, a share of the way to another."""
    way = Rotation.from_matrix(goal @ turned.swapaxes(-1, -2)).as_rotvec()
    return Rotation.from_rotvec(weight[:, None] * way).as_matrix() @ turned


def _bend(
    rotmat: ndarray,
    world: ndarray,
    places: ndarray,
    rows: list[int],
    goal: Float[ndarray, "frames 3"],
    turned: Float[ndarray, "frames 3 3"],
    parents: tuple[int, ...],
) -> None:
    """Local rotations of a leg, in place, so that its ankle is at `goal` and its foot `turned`."""
    hip, knee, ankle = (places[:, row] for row in rows)
    upper, lower = knee - hip, ankle - knee
    longest = np.linalg.norm(upper, axis=-1), np.linalg.norm(lower, axis=-1)
    apart = np.minimum(np.linalg.norm(goal - hip, axis=-1), STRETCHED * (longest[0] + longest[1]))
    axis = np.cross(upper, lower)
    axis /= np.maximum(np.linalg.norm(axis, axis=-1, keepdims=True), 1e-9)
    cosine = (apart**2 - longest[0] ** 2 - longest[1] ** 2) / (2 * longest[0] * longest[1])
    now = np.arccos(np.clip((upper * lower).sum(axis=-1) / (longest[0] * longest[1]), -1, 1))
    bend = Rotation.from_rotvec((np.arccos(np.clip(cosine, -1, 1)) - now)[:, None] * axis)
    swing = _between(upper + bend.apply(lower), goal - hip)
    thigh = swing.as_matrix() @ world[:, rows[0]]
    shin = (swing * bend).as_matrix() @ world[:, rows[1]]
    above = world[:, parents[rows[0]]]
    for row, (outer, inner) in zip(
        rows, ((above, thigh), (thigh, shin), (shin, turned)), strict=True
    ):
        rotmat[:, row] = outer.swapaxes(-1, -2) @ inner


def _between(a: Float[ndarray, "frames 3"], b: Float[ndarray, "frames 3"]) -> Rotation:
    """The shortest rotations from directions to others."""
    a, b = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.arctan2(sine[:, 0], (a * b).sum(axis=-1))
    return Rotation.from_rotvec(angle[:, None] * axis / np.maximum(sine, 1e-12))
